//! Responses, in both directions: `{"rc": 200, "message": "...", "d": {...}, "reqId": "..."}`.

use serde_json::{Map, Value};

use super::json::{Malformed, Members, envelope, payload};
use super::names::ReqId;
use super::rc::Rc;

/// An answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The return code; a JSON number on the wire.
    pub rc: Rc,
    /// Why, in words; meant for everything but success.
    pub message: Option<String>,
    /// Data, where the operation defines some.
    pub d: Option<Value>,
    /// The id of the request that this answers.
    pub req_id: ReqId,
    /// Members that this version does not know.
    pub extra: Map<String, Value>,
}

impl Response {
    /// The longest `message` that is sent, in characters.
    pub const MAX_MESSAGE: usize = 1000;

    /// A bare answer.
    pub fn new(req_id: ReqId, rc: Rc) -> Self {
        Response {
            rc,
            message: None,
            d: None,
            req_id,
            extra: Map::new(),
        }
    }

    /// With the reason in words, cut to [`Response::MAX_MESSAGE`] characters; an empty one is left out.
    #[must_use]
    pub fn message(mut self, message: impl AsRef<str>) -> Self {
        let message = message.as_ref();
        self.message = (!message.is_empty()).then(|| message.chars().take(Self::MAX_MESSAGE).collect());
        self
    }

    /// As it goes out.
    pub fn to_payload(&self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("rc".into(), self.rc.0.into());
        if let Some(message) = &self.message {
            object.insert("message".into(), message.as_str().into());
        }
        if let Some(d) = &self.d {
            object.insert("d".into(), d.clone());
        }
        object.insert("reqId".into(), self.req_id.as_str().into());
        object.extend(self.extra.clone());
        payload(object)
    }

    /// Reads an answer. `rc` may be a number or a string that holds one.
    ///
    /// # Errors
    /// No object, no `reqId`, or an `rc` that is no number of three digits.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let envelope = envelope(bytes)?;
        let req_id = envelope.req_id.ok_or_else(|| Malformed::new("reqId", "is missing"))?;
        let blame = |malformed: Malformed| malformed.with_req_id(Some(&req_id));
        let mut members = Members::from_map("", envelope.members);
        let rc = members
            .integer("rc")
            .map_err(blame)?
            .ok_or_else(|| blame(Malformed::new("rc", "is missing")))?;
        let rc = u16::try_from(rc)
            .ok()
            .filter(|rc| (100..1000).contains(rc))
            .ok_or_else(|| blame(Malformed::new("rc", format!("is {rc}; return codes have three digits"))))?;
        let message = members.string("message").map_err(blame)?;
        let d = members.value("d");
        Ok(Response {
            rc: Rc(rc),
            message,
            d,
            req_id,
            extra: members.rest(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn env_01_rc_is_a_number_and_the_request_id_a_string() {
        let response = Response::new(ReqId::new("17").unwrap(), Rc::INTERNAL).message("blocked by \"apt\"");
        let text = String::from_utf8(response.to_payload()).unwrap();
        assert_eq!(text, r#"{"rc":500,"message":"blocked by \"apt\"","reqId":"17"}"#);
        assert_eq!(Response::parse(text.as_bytes()), Ok(response));
    }

    #[test]
    fn env_06_rc_as_a_numeric_string_is_read() {
        let response = Response::parse(br#"{"rc":"202","reqId":"a","message":""}"#).unwrap();
        assert_eq!(response.rc, Rc::ACCEPTED);
        for bad in [
            r#"{"rc":"ok","reqId":"a"}"#,
            r#"{"rc":-1,"reqId":"a"}"#,
            r#"{"rc":70000,"reqId":"a"}"#,
            r#"{"reqId":"a"}"#,
        ] {
            let malformed = Response::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(
                (malformed.field.as_str(), malformed.req_id.unwrap().as_str()),
                ("rc", "a")
            );
        }
    }

    #[test]
    fn unknown_members_are_kept() {
        let text = r#"{"rc":200,"reqId":"a","trace":"x"}"#;
        assert_eq!(Response::parse(text.as_bytes()).unwrap().to_payload(), text.as_bytes());
    }
}
