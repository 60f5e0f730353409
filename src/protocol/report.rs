//! What a device asks of the service: manage, unmanage, location, diagnostics, notify.

use serde_json::{Map, Value};

use super::diagnostics::LogEntry;
use super::json::{Malformed, envelope, payload};
use super::manage::Manage;
use super::model::{FieldValue, Location};
use super::names::ReqId;
use super::topic::ToService;

/// A message of a device, other than a response.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The device is, or stays, managed.
    Manage(Box<Manage>),
    /// The device is no longer managed.
    Unmanage,
    /// Where the device is.
    Location(Location),
    /// One more error code.
    AddErrorCode(i64),
    /// All error codes are gone.
    ClearErrorCodes,
    /// One more log entry.
    AddLog(LogEntry),
    /// All log entries are gone.
    ClearLogs,
    /// Observed fields have changed.
    Notify(Vec<FieldValue>),
}

impl Report {
    /// The kind of topic it is published on.
    pub fn kind(&self) -> ToService {
        match self {
            Report::Manage(_) => ToService::Manage,
            Report::Unmanage => ToService::Unmanage,
            Report::Location(_) => ToService::Location,
            Report::AddErrorCode(_) => ToService::AddErrorCode,
            Report::ClearErrorCodes => ToService::ClearErrorCodes,
            Report::AddLog(_) => ToService::AddLog,
            Report::ClearLogs => ToService::ClearLogs,
            Report::Notify(_) => ToService::Notify,
        }
    }

    /// As it goes out; without an id nobody answers.
    pub fn to_payload(&self, req_id: Option<&ReqId>) -> Vec<u8> {
        let d = match self {
            Report::Manage(manage) => Some(manage.to_object()),
            Report::Location(location) => Some(location.to_object()),
            Report::AddErrorCode(code) => Some(Map::from_iter([("errorCode".to_owned(), (*code).into())])),
            Report::AddLog(entry) => Some(entry.to_object()),
            Report::Notify(fields) => {
                let fields: Vec<Value> = fields.iter().map(FieldValue::to_value).collect();
                Some(Map::from_iter([("fields".to_owned(), fields.into())]))
            }
            Report::Unmanage | Report::ClearErrorCodes | Report::ClearLogs => None,
        };
        let mut object = Map::new();
        if let Some(d) = d.filter(|d| !d.is_empty()) {
            object.insert("d".into(), d.into());
        }
        if let Some(req_id) = req_id {
            object.insert("reqId".into(), req_id.as_str().into());
        }
        payload(object)
    }

    /// Reads what a device published on a topic of this kind. A response is not a report: see
    /// [`super::Response::parse`].
    ///
    /// # Errors
    /// Names the member that is wrong.
    pub fn parse(kind: ToService, bytes: &[u8]) -> Result<(Report, Option<ReqId>), Malformed> {
        let mut envelope = envelope(bytes)?;
        let req_id = envelope.req_id;
        let d = envelope.members.shift_remove("d").filter(|d| !d.is_null());
        let needed = |d: Option<Value>| d.ok_or_else(|| Malformed::new("d", "is missing"));
        let read = || -> Result<Report, Malformed> {
            Ok(match kind {
                ToService::Manage => Report::Manage(Box::new(Manage::parse(d)?)),
                ToService::Unmanage => Report::Unmanage,
                ToService::Location => Report::Location(Location::parse("d", needed(d)?)?),
                ToService::AddErrorCode => Report::AddErrorCode(error_code(needed(d)?)?),
                ToService::ClearErrorCodes => Report::ClearErrorCodes,
                ToService::AddLog => Report::AddLog(LogEntry::parse("d", needed(d)?)?),
                ToService::ClearLogs => Report::ClearLogs,
                ToService::Notify => Report::Notify(FieldValue::parse_all("d", needed(d)?)?),
                ToService::Response => return Err(Malformed::new("payload", "a response is not a report")),
            })
        };
        let report = read().map_err(|malformed| malformed.with_req_id(req_id.as_ref()))?;
        Ok((report, req_id))
    }
}

fn error_code(d: Value) -> Result<i64, Malformed> {
    let mut members = super::json::Members::of("d", d)?;
    members
        .integer("errorCode")?
        .ok_or_else(|| Malformed::new("d.errorCode", "is missing"))
}
