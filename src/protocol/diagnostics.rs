//! Diagnostic logs and error codes (device diagnostics operations).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::json::{Malformed, Members};
use super::timestamp;

/// How bad a log entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 0
    Information = 0,
    /// 1
    Warning = 1,
    /// 2
    Error = 2,
}

impl Severity {
    /// The severity of a number on the wire.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Information, Self::Warning, Self::Error]
            .into_iter()
            .find(|severity| *severity as i64 == number)
    }
}

/// A diagnostic log entry.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// The text.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
    /// RFC 3339 with a zone. Left out when the device has no clock; the service then takes the time of receipt.
    pub timestamp: Option<String>,
    /// Anything else, base64 on the wire.
    pub data: Option<Vec<u8>>,
    /// Members that this version does not know.
    pub extra: Map<String, Value>,
}

impl LogEntry {
    /// As on the wire.
    pub fn to_object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("message".into(), self.message.as_str().into());
        if let Some(timestamp) = &self.timestamp {
            object.insert("timestamp".into(), timestamp.as_str().into());
        }
        if let Some(data) = &self.data {
            object.insert("data".into(), STANDARD.encode(data).into());
        }
        object.insert("severity".into(), (self.severity as u8).into());
        object.extend(self.extra.clone());
        object
    }

    /// Reads the object at this path. `data` that is no base64 is taken as the text that it is (two SDKs send it so);
    /// a missing severity is information.
    ///
    /// # Errors
    /// No message, a severity other than 0 to 2, a time that is none.
    pub fn parse(path: &str, value: Value) -> Result<Self, Malformed> {
        let mut members = Members::of(path, value)?;
        let message = members
            .string("message")?
            .ok_or_else(|| Malformed::new(members.path("message"), "is missing"))?;
        let number = members.integer("severity")?.unwrap_or(0);
        let severity = Severity::from_number(number)
            .ok_or_else(|| Malformed::new(members.path("severity"), format!("is {number}; it must be 0, 1 or 2")))?;
        let timestamp = members.string("timestamp")?.filter(|text| !text.is_empty());
        if let Some(text) = &timestamp
            && timestamp::parse(text).is_none()
        {
            let reason = "is no time with a zone, such as 2024-05-01T10:00:00Z";
            return Err(Malformed::new(members.path("timestamp"), reason));
        }
        let data = members
            .string("data")?
            .map(|text| STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes()));
        Ok(LogEntry {
            message,
            severity,
            timestamp,
            data,
            extra: members.rest(),
        })
    }
}
