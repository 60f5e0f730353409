//! Names on the wire: organisation, device type, device id, and the request id that ties an answer to its question.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a name of the platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty or longer than 36 characters.
    #[error("a name has 1 to 36 characters, this one has {0}")]
    Length(usize),
    /// A character that no name may hold.
    #[error("a name has letters, digits, '-', '_' and '.', not {0:?}")]
    Character(char),
    /// `TYPE/ID` was expected.
    #[error("expected TYPE/ID, for example edge-gateway/gw-0001")]
    NotTypeAndId,
}

/// Checks a name: 1 to 36 characters of `A-Za-z0-9_.-` (connecting devices, "client id").
///
/// # Errors
/// Says the length or the first character that is wrong.
pub fn check_name(text: &str) -> Result<(), NameError> {
    let length = text.chars().count();
    if length == 0 || length > 36 {
        return Err(NameError::Length(length));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))
    {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// A device of an organisation: its type and its id, both valid names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    type_id: String,
    device_id: String,
}

impl Device {
    /// # Errors
    /// When one of the two is not a name.
    pub fn new(type_id: impl Into<String>, device_id: impl Into<String>) -> Result<Self, NameError> {
        let (type_id, device_id) = (type_id.into(), device_id.into());
        check_name(&type_id)?;
        check_name(&device_id)?;
        Ok(Device { type_id, device_id })
    }

    /// The device type.
    pub fn type_id(&self) -> &str {
        &self.type_id
    }

    /// The device id within its type.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.type_id, self.device_id)
    }
}

impl FromStr for Device {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (type_id, device_id) = text.split_once('/').ok_or(NameError::NotTypeAndId)?;
        Device::new(type_id, device_id)
    }
}

/// The id that a requester gives a request, and that its answer carries verbatim.
///
/// Everybody uses a UUID; the protocol only says "a string". Ours takes 1 to [`ReqId::MAX`] bytes, so that an answer
/// always has room for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReqId(String);

impl ReqId {
    /// The longest request id that is answered, in bytes.
    pub const MAX: usize = 1024;

    /// `None` when the text is empty or too long to be answered.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty() && text.len() <= Self::MAX).then_some(ReqId(text))
    }

    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_by_length_and_character() {
        assert_eq!(check_name("gw-0001_a.b"), Ok(()));
        assert_eq!(check_name(""), Err(NameError::Length(0)));
        assert_eq!(check_name(&"x".repeat(37)), Err(NameError::Length(37)));
        assert_eq!(check_name("a/b"), Err(NameError::Character('/')));
        assert_eq!(check_name("a+"), Err(NameError::Character('+')));
    }

    #[test]
    fn a_device_is_written_as_type_and_id() {
        let device: Device = "edge-gateway/gw-1".parse().expect("valid");
        assert_eq!(device.to_string(), "edge-gateway/gw-1");
        assert_eq!("gw-1".parse::<Device>(), Err(NameError::NotTypeAndId));
    }

    #[test]
    fn a_request_id_is_neither_empty_nor_endless() {
        assert_eq!(ReqId::new(""), None);
        assert_eq!(ReqId::new("x".repeat(ReqId::MAX + 1)), None);
        assert!(ReqId::new("x".repeat(ReqId::MAX)).is_some());
    }
}
