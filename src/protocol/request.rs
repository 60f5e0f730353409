//! What the service asks of a device: update, observe, cancel, reboot, factory reset, firmware, custom actions.

use serde_json::{Map, Value};

use super::json::{Malformed, envelope, payload};
use super::model::{FieldValue, field_names_to_value, parse_field_names};
use super::names::ReqId;
use super::topic::ToDevice;

/// A message of the service, other than a response.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Attributes get these values.
    Update(Vec<FieldValue>),
    /// Changes of these fields are to be notified.
    Observe(Vec<String>),
    /// No more notifies; of all fields when none can be read.
    Cancel(Vec<String>),
    /// Reboot the device.
    Reboot,
    /// Reset the device to its factory settings.
    FactoryReset,
    /// Fetch the firmware that `mgmt.firmware` describes.
    FirmwareDownload,
    /// Install the firmware that was fetched.
    FirmwareUpdate,
    /// An action of a device management extension package.
    Custom {
        /// The package.
        bundle: String,
        /// The action within it.
        action: String,
        /// Its parameters.
        parameters: Vec<FieldValue>,
    },
}

impl Request {
    /// The kind of topic it is published on.
    pub fn kind(&self) -> ToDevice {
        match self {
            Request::Update(_) => ToDevice::Update,
            Request::Observe(_) => ToDevice::Observe,
            Request::Cancel(_) => ToDevice::Cancel,
            Request::Reboot => ToDevice::Reboot,
            Request::FactoryReset => ToDevice::FactoryReset,
            Request::FirmwareDownload => ToDevice::FirmwareDownload,
            Request::FirmwareUpdate => ToDevice::FirmwareUpdate,
            Request::Custom { bundle, action, .. } => ToDevice::Custom {
                bundle: bundle.clone(),
                action: action.clone(),
            },
        }
    }

    /// As it goes out; without an id nobody answers.
    pub fn to_payload(&self, req_id: Option<&ReqId>) -> Vec<u8> {
        let fields = |fields: &[FieldValue]| {
            let fields: Vec<Value> = fields.iter().map(FieldValue::to_value).collect();
            serde_json::json!({"fields": fields})
        };
        let d = match self {
            Request::Update(values) => Some(fields(values)),
            Request::Observe(names) | Request::Cancel(names) => Some(field_names_to_value(names)),
            Request::Custom { parameters, .. } if !parameters.is_empty() => Some(fields(parameters)),
            _ => None,
        };
        let mut object = Map::new();
        if let Some(d) = d {
            object.insert("d".into(), d);
        }
        if let Some(req_id) = req_id {
            object.insert("reqId".into(), req_id.as_str().into());
        }
        payload(object)
    }

    /// Reads what the service published on a topic of this kind. A response is not a request: see
    /// [`super::Response::parse`].
    ///
    /// # Errors
    /// Names the member that is wrong.
    pub fn parse(kind: &ToDevice, bytes: &[u8]) -> Result<(Request, Option<ReqId>), Malformed> {
        let mut envelope = envelope(bytes)?;
        let req_id = envelope.req_id;
        let d = envelope.members.shift_remove("d").filter(|d| !d.is_null());
        let needed = |d: Option<Value>| d.ok_or_else(|| Malformed::new("d", "is missing"));
        let read = || -> Result<Request, Malformed> {
            Ok(match kind {
                ToDevice::Update => Request::Update(FieldValue::parse_all("d", needed(d)?)?),
                ToDevice::Observe => Request::Observe(parse_field_names("d", needed(d)?)?),
                // Whatever a cancel says, dropping every observation is safe.
                ToDevice::Cancel => Request::Cancel(d.and_then(|d| parse_field_names("d", d).ok()).unwrap_or_default()),
                ToDevice::Reboot => Request::Reboot,
                ToDevice::FactoryReset => Request::FactoryReset,
                ToDevice::FirmwareDownload => Request::FirmwareDownload,
                ToDevice::FirmwareUpdate => Request::FirmwareUpdate,
                ToDevice::Custom { bundle, action } => Request::Custom {
                    bundle: bundle.clone(),
                    action: action.clone(),
                    parameters: parameters(d)?,
                },
                ToDevice::Response => return Err(Malformed::new("payload", "a response is not a request")),
            })
        };
        let request = read().map_err(|malformed| malformed.with_req_id(req_id.as_ref()))?;
        Ok((request, req_id))
    }
}

fn parameters(d: Option<Value>) -> Result<Vec<FieldValue>, Malformed> {
    match d {
        Some(Value::Object(members)) if members.is_empty() => Ok(Vec::new()),
        Some(d) => FieldValue::parse_all("d", d),
        None => Ok(Vec::new()),
    }
}
