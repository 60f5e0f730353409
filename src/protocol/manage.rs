//! The manage request: how a device becomes, and stays, a managed device.

use serde_json::{Map, Value};

use super::json::{Malformed, Members};
use super::model::DeviceInfo;

/// The shortest lifetime other than 0, in seconds.
pub const MIN_LIFETIME: u64 = 3600;

/// Which actions the device takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supports {
    /// Reboot and factory reset.
    pub device_actions: bool,
    /// Firmware download and update.
    pub firmware_actions: bool,
    /// Device management extension packages by their id.
    pub bundles: Vec<(String, bool)>,
}

/// The content of a manage request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Manage {
    /// Replaces what the service has stored; `None` leaves it.
    pub metadata: Option<Map<String, Value>>,
    /// Seconds until the device counts as dormant unless it sends another manage. `None` and 0: never.
    pub lifetime: Option<u64>,
    /// Which actions the device takes; `None` on the wire means none.
    pub supports: Option<Supports>,
    /// Replaces what the service has stored; `None` leaves it.
    pub device_info: Option<DeviceInfo>,
    /// Members that this version does not know.
    pub extra: Map<String, Value>,
}

impl Manage {
    /// As on the wire. Empty objects are left out: a service was seen not to answer them.
    pub fn to_object(&self) -> Map<String, Value> {
        let mut d = Map::new();
        if let Some(metadata) = &self.metadata {
            d.insert("metadata".into(), metadata.clone().into());
        }
        if let Some(lifetime) = self.lifetime {
            d.insert("lifetime".into(), lifetime.into());
        }
        if let Some(supports) = &self.supports {
            let mut object = Map::new();
            object.insert("deviceActions".into(), supports.device_actions.into());
            object.insert("firmwareActions".into(), supports.firmware_actions.into());
            object.extend(
                supports
                    .bundles
                    .iter()
                    .map(|(bundle, yes)| (bundle.clone(), (*yes).into())),
            );
            d.insert("supports".into(), object.into());
        }
        if let Some(info) = self
            .device_info
            .as_ref()
            .map(DeviceInfo::to_object)
            .filter(|info| !info.is_empty())
        {
            d.insert("deviceInfo".into(), info.into());
        }
        d.extend(self.extra.clone());
        d
    }

    /// Reads `d`; an absent one is a manage that says nothing.
    ///
    /// # Errors
    /// A lifetime of 1 to 3599, a member of the wrong type.
    pub fn parse(d: Option<Value>) -> Result<Self, Malformed> {
        let Some(d) = d else { return Ok(Manage::default()) };
        let mut members = Members::of("d", d)?;
        let metadata = members.object("metadata")?;
        let lifetime = match members.integer("lifetime")? {
            None => None,
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds) if seconds == 0 || seconds >= MIN_LIFETIME => Some(seconds),
                _ => {
                    let reason =
                        format!("is {seconds}; it must be 0 (never dormant) or at least {MIN_LIFETIME} seconds");
                    return Err(Malformed::new("d.lifetime", reason));
                }
            },
        };
        let supports = match members.value("supports") {
            None => None,
            Some(value) => {
                let mut members = Members::of("d.supports", value)?;
                let device_actions = members.boolean("deviceActions")?.unwrap_or(false);
                let firmware_actions = members.boolean("firmwareActions")?.unwrap_or(false);
                let mut bundles = Vec::new();
                for (bundle, value) in members.rest() {
                    match value {
                        Value::Bool(yes) => bundles.push((bundle, yes)),
                        _ => return Err(Malformed::new(format!("d.supports.{bundle}"), "must be a boolean")),
                    }
                }
                Some(Supports {
                    device_actions,
                    firmware_actions,
                    bundles,
                })
            }
        };
        let device_info = members
            .value("deviceInfo")
            .map(|value| DeviceInfo::parse("d.deviceInfo", value))
            .transpose()?;
        Ok(Manage {
            metadata,
            lifetime,
            supports,
            device_info,
            extra: members.rest(),
        })
    }
}
