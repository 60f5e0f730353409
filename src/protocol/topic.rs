//! Topics, in the short form of a device session and the long form that names type and id.
//!
//! A device session says `iotdevice-1/mgmt/manage`; a gateway session, and every client of a plain broker, says
//! `iotdevice-1/type/T/id/D/mgmt/manage`. There is no leading or trailing slash, and case matters.

use std::fmt;

use super::names::{Device, check_name};

/// The first level of what devices publish.
pub const FROM_DEVICE: &str = "iotdevice-1";
/// The first level of what the service publishes.
pub const FROM_SERVICE: &str = "iotdm-1";

/// Whom a topic is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// The short form: the session's own device, known to the broker by its client id.
    Session,
    /// The long form: the device that type and id name.
    Device(Device),
}

/// What a device publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToService {
    /// `mgmt/manage`
    Manage,
    /// `mgmt/unmanage`
    Unmanage,
    /// `device/update/location`
    Location,
    /// `add/diag/errorCodes`
    AddErrorCode,
    /// `clear/diag/errorCodes`
    ClearErrorCodes,
    /// `add/diag/log`
    AddLog,
    /// `clear/diag/log`
    ClearLogs,
    /// `notify`
    Notify,
    /// `response`
    Response,
}

/// What the service publishes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ToDevice {
    /// `response`
    Response,
    /// `device/update`
    Update,
    /// `observe`
    Observe,
    /// `cancel`
    Cancel,
    /// `mgmt/initiate/device/reboot`
    Reboot,
    /// `mgmt/initiate/device/factory_reset`
    FactoryReset,
    /// `mgmt/initiate/firmware/download`
    FirmwareDownload,
    /// `mgmt/initiate/firmware/update`
    FirmwareUpdate,
    /// `mgmt/custom/<bundleId>/<actionId>`
    Custom {
        /// The device management extension package.
        bundle: String,
        /// The action within it.
        action: String,
    },
}

/// A topic that is not one of the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It has another first level, or no type and id where they belong.
    #[error("{0:?} is no topic of the device management protocol")]
    Foreign(String),
    /// It is addressed to a device, but what it asks for does not exist in the protocol.
    #[error("the device management protocol knows no operation {tail:?}")]
    UnknownOperation {
        /// Whom it is addressed to.
        address: Address,
        /// What follows the address.
        tail: String,
    },
}

impl ToService {
    /// Every kind.
    pub const ALL: [ToService; 9] = [
        ToService::Manage,
        ToService::Unmanage,
        ToService::Location,
        ToService::AddErrorCode,
        ToService::ClearErrorCodes,
        ToService::AddLog,
        ToService::ClearLogs,
        ToService::Notify,
        ToService::Response,
    ];

    /// What follows the address.
    pub fn tail(self) -> &'static str {
        match self {
            ToService::Manage => "mgmt/manage",
            ToService::Unmanage => "mgmt/unmanage",
            ToService::Location => "device/update/location",
            ToService::AddErrorCode => "add/diag/errorCodes",
            ToService::ClearErrorCodes => "clear/diag/errorCodes",
            ToService::AddLog => "add/diag/log",
            ToService::ClearLogs => "clear/diag/log",
            ToService::Notify => "notify",
            ToService::Response => "response",
        }
    }

    /// The whole topic.
    pub fn topic(self, address: &Address) -> String {
        join(FROM_DEVICE, address, self.tail())
    }

    /// Reads a topic that a device published.
    ///
    /// # Errors
    /// A foreign topic, or an operation that the protocol does not have.
    pub fn parse(topic: &str) -> Result<(Address, ToService), TopicError> {
        let (address, tail) = split(FROM_DEVICE, topic)?;
        match Self::ALL.into_iter().find(|kind| kind.tail() == tail) {
            Some(kind) => Ok((address, kind)),
            None => Err(TopicError::UnknownOperation {
                address,
                tail: tail.to_owned(),
            }),
        }
    }
}

impl ToDevice {
    /// Every kind that has no parameters in its topic.
    pub const FIXED: [ToDevice; 8] = [
        ToDevice::Response,
        ToDevice::Update,
        ToDevice::Observe,
        ToDevice::Cancel,
        ToDevice::Reboot,
        ToDevice::FactoryReset,
        ToDevice::FirmwareDownload,
        ToDevice::FirmwareUpdate,
    ];

    /// What follows the address.
    pub fn tail(&self) -> String {
        match self {
            ToDevice::Response => "response".to_owned(),
            ToDevice::Update => "device/update".to_owned(),
            ToDevice::Observe => "observe".to_owned(),
            ToDevice::Cancel => "cancel".to_owned(),
            ToDevice::Reboot => "mgmt/initiate/device/reboot".to_owned(),
            ToDevice::FactoryReset => "mgmt/initiate/device/factory_reset".to_owned(),
            ToDevice::FirmwareDownload => "mgmt/initiate/firmware/download".to_owned(),
            ToDevice::FirmwareUpdate => "mgmt/initiate/firmware/update".to_owned(),
            ToDevice::Custom { bundle, action } => format!("mgmt/custom/{bundle}/{action}"),
        }
    }

    /// The whole topic.
    pub fn topic(&self, address: &Address) -> String {
        join(FROM_SERVICE, address, &self.tail())
    }

    /// Reads a topic that the service published.
    ///
    /// # Errors
    /// A foreign topic, or an operation that the protocol does not have.
    pub fn parse(topic: &str) -> Result<(Address, ToDevice), TopicError> {
        let (address, tail) = split(FROM_SERVICE, topic)?;
        if let Some(kind) = Self::FIXED.into_iter().find(|kind| kind.tail() == tail) {
            return Ok((address, kind));
        }
        let custom = tail.strip_prefix("mgmt/custom/").and_then(|rest| rest.split_once('/'));
        match custom {
            Some((bundle, action)) if !bundle.is_empty() && !action.is_empty() && !action.contains('/') => Ok((
                address,
                ToDevice::Custom {
                    bundle: bundle.to_owned(),
                    action: action.to_owned(),
                },
            )),
            _ => Err(TopicError::UnknownOperation {
                address,
                tail: tail.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ToService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tail())
    }
}

impl fmt::Display for ToDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tail())
    }
}

/// The subscription of an agent: everything that the service says to this address (`iotdm-1/#` for a device session).
pub fn agent_filter(address: &Address) -> String {
    join(FROM_SERVICE, address, "#")
}

/// Where the platform's broker tells a gateway of what it refused (gateway MQTT reference, "notifications").
pub fn gateway_notification(device: &Device) -> String {
    format!("iot-2/type/{}/id/{}/notify", device.type_id(), device.device_id())
}

/// The subscription of the service: everything that any device says in the long form.
pub fn service_filter() -> String {
    format!("{FROM_DEVICE}/type/+/id/+/#")
}

fn join(first: &str, address: &Address, tail: &str) -> String {
    match address {
        Address::Session => format!("{first}/{tail}"),
        Address::Device(device) => format!("{first}/type/{}/id/{}/{tail}", device.type_id(), device.device_id()),
    }
}

fn split<'a>(first: &str, topic: &'a str) -> Result<(Address, &'a str), TopicError> {
    let foreign = || TopicError::Foreign(topic.chars().take(200).collect());
    let rest = topic
        .strip_prefix(first)
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(foreign)?;
    let Some(long) = rest.strip_prefix("type/") else {
        return Ok((Address::Session, rest));
    };
    let mut levels = long.splitn(4, '/');
    match (levels.next(), levels.next(), levels.next(), levels.next()) {
        (Some(type_id), Some("id"), Some(device_id), Some(tail))
            if check_name(type_id).is_ok() && check_name(device_id).is_ok() =>
        {
            let device = Device::new(type_id, device_id).map_err(|_| foreign())?;
            Ok((Address::Device(device), tail))
        }
        _ => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn gateway() -> Address {
        Address::Device("edge/gw-1".parse().unwrap())
    }

    #[test]
    fn top_01_every_topic_a_device_publishes_is_one_of_the_protocols_and_has_no_trailing_slash() {
        let expected = [
            "mgmt/manage",
            "mgmt/unmanage",
            "device/update/location",
            "add/diag/errorCodes",
            "clear/diag/errorCodes",
            "add/diag/log",
            "clear/diag/log",
            "notify",
            "response",
        ];
        for (kind, tail) in ToService::ALL.into_iter().zip(expected) {
            assert_eq!(kind.topic(&Address::Session), format!("iotdevice-1/{tail}"));
            assert_eq!(kind.topic(&gateway()), format!("iotdevice-1/type/edge/id/gw-1/{tail}"));
            for address in [Address::Session, gateway()] {
                let topic = kind.topic(&address);
                assert!(!topic.ends_with('/') && !topic.starts_with('/'));
                assert_eq!(ToService::parse(&topic), Ok((address, kind)));
            }
        }
    }

    #[test]
    fn every_topic_the_service_publishes_is_read_back() {
        let custom = ToDevice::Custom {
            bundle: "com.example.b-v1".into(),
            action: "install".into(),
        };
        for kind in ToDevice::FIXED.into_iter().chain([custom]) {
            for address in [Address::Session, gateway()] {
                assert_eq!(ToDevice::parse(&kind.topic(&address)), Ok((address, kind.clone())));
            }
        }
        assert_eq!(
            ToDevice::FactoryReset.topic(&Address::Session),
            "iotdm-1/mgmt/initiate/device/factory_reset",
            "snake case on the wire"
        );
    }

    #[test]
    fn top_03_an_unknown_operation_keeps_its_address_so_that_it_can_be_answered() {
        let unknown = ToDevice::parse("iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/dance");
        assert_eq!(
            unknown,
            Err(TopicError::UnknownOperation {
                address: gateway(),
                tail: "mgmt/initiate/device/dance".into()
            })
        );
        for topic in [
            "iotdm-1/response/",
            "iotdm-1/mgmt/custom/b",
            "iotdm-1/mgmt/custom/b/a/c",
            "iotdm-1/",
        ] {
            assert!(
                matches!(ToDevice::parse(topic), Err(TopicError::UnknownOperation { .. })),
                "{topic}"
            );
        }
    }

    #[test]
    fn foreign_topics_are_told_apart() {
        for topic in [
            "",
            "iotdm-1",
            "iotdm-10/response",
            "x/y",
            "iotdm-1/type/a/id/b",
            "iotdm-1/type/a b/id/c/response",
        ] {
            assert!(matches!(ToDevice::parse(topic), Err(TopicError::Foreign(_))), "{topic}");
        }
    }

    #[test]
    fn sub_01_a_device_subscribes_to_everything_the_service_says_to_it() {
        assert_eq!(agent_filter(&Address::Session), "iotdm-1/#");
        assert_eq!(agent_filter(&gateway()), "iotdm-1/type/edge/id/gw-1/#");
        assert_eq!(service_filter(), "iotdevice-1/type/+/id/+/#");
    }
}
