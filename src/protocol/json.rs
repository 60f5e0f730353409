//! Reading JSON that may be anything: bounded, without duplicate members, with the path of what is wrong.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

use super::MAX_PAYLOAD;
use super::names::ReqId;

/// A message that cannot be used, and the request id to answer it with, when one could be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Malformed {
    /// Path of the member that is wrong, for example `d.fields[0].field`; `payload` when it is the whole message.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
    /// The request id, if there is one in what could be read.
    pub req_id: Option<ReqId>,
}

impl Malformed {
    /// A complaint about one member.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Malformed {
            field: field.into(),
            reason: reason.into(),
            req_id: None,
        }
    }

    /// The same complaint, to be answered under this id.
    #[must_use]
    pub fn with_req_id(mut self, req_id: Option<&ReqId>) -> Self {
        self.req_id = req_id.cloned();
        self
    }
}

/// A message's members: `reqId` apart, everything else as it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Envelope {
    /// The request id; `None` when the sender wants no answer.
    pub req_id: Option<ReqId>,
    /// All other members.
    pub members: Map<String, Value>,
}

/// Reads a payload as the protocol's envelope: a JSON object in UTF-8 of at most [`MAX_PAYLOAD`] bytes, without
/// duplicate members, nested at most 128 levels deep, with `reqId` a string if it is there.
///
/// # Errors
/// Says what is wrong; carries the request id even when the rest of the payload is broken, as far as it can be read.
pub fn envelope(payload: &[u8]) -> Result<Envelope, Malformed> {
    let broken = |reason: String| Malformed {
        field: "payload".into(),
        reason,
        req_id: salvage_req_id(payload),
    };
    if payload.len() > MAX_PAYLOAD {
        return Err(broken(format!(
            "{} bytes; a message has at most {MAX_PAYLOAD}",
            payload.len()
        )));
    }
    let mut duplicate = None;
    let mut reader = serde_json::Deserializer::from_slice(payload);
    let value = Strict {
        duplicate: &mut duplicate,
        path: String::new(),
    }
    .deserialize(&mut reader)
    .and_then(|value| reader.end().map(|()| value))
    .map_err(|error| broken(format!("not valid JSON: {error}")))?;
    if let Some(path) = duplicate {
        let req_id = if path == "reqId" { None } else { salvage_req_id(payload) };
        return Err(Malformed {
            field: path,
            reason: "is given twice".into(),
            req_id,
        });
    }
    let Value::Object(mut members) = value else {
        return Err(broken(format!("is {}; a message is a JSON object", kind(&value))));
    };
    let req_id = match members.shift_remove("reqId") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => match ReqId::new(text) {
            Some(req_id) => Some(req_id),
            None => {
                return Err(Malformed::new("reqId", format!("must have 1 to {} bytes", ReqId::MAX)));
            }
        },
        Some(other) => {
            return Err(Malformed::new(
                "reqId",
                format!("is {}; it must be a string", kind(&other)),
            ));
        }
    };
    Ok(Envelope { req_id, members })
}

/// Writes an object as a payload.
pub fn payload(object: Map<String, Value>) -> Vec<u8> {
    Value::Object(object).to_string().into_bytes()
}

/// What a JSON value is, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// How many levels of objects and arrays a value has; a scalar has none.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Takes known members out of an object, one by one, and names the path of what is wrong. What is left is unknown.
#[derive(Debug)]
pub struct Members {
    path: String,
    members: Map<String, Value>,
}

impl Members {
    /// Of a value that must be an object.
    ///
    /// # Errors
    /// When it is not.
    pub fn of(path: impl Into<String>, value: Value) -> Result<Self, Malformed> {
        let path = path.into();
        match value {
            Value::Object(members) => Ok(Members { path, members }),
            other => Err(Malformed::new(
                path,
                format!("is {}; it must be an object", kind(&other)),
            )),
        }
    }

    /// Of an object; an empty path is the message itself.
    pub fn from_map(path: impl Into<String>, members: Map<String, Value>) -> Self {
        Members {
            path: path.into(),
            members,
        }
    }

    /// The path of a member of this object.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// A member as it is; `null` counts as absent.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.members.shift_remove(name).filter(|value| !value.is_null())
    }

    /// A member that must be there, and may be `null`.
    ///
    /// # Errors
    /// When it is not.
    pub fn given(&mut self, name: &str) -> Result<Value, Malformed> {
        let value = self.members.shift_remove(name);
        value.ok_or_else(|| Malformed::new(self.path(name), "is missing"))
    }

    /// A member that is a string.
    ///
    /// # Errors
    /// When it is something else.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, &other, "a string")),
        }
    }

    /// A member that is a finite number; numbers in strings are not taken.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.wrong(name, &value, "a number")),
            },
        }
    }

    /// A member that is an integer, also one written as a string (historic SDKs do).
    ///
    /// # Errors
    /// When it is something else.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, Malformed> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = match &value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_i64().or_else(|| {
                other
                    .as_f64()
                    .filter(|number| number.fract() == 0.0 && number.abs() < 9e15)
                    .map(|number| number as i64)
            }),
        };
        number.map(Some).ok_or_else(|| self.wrong(name, &value, "an integer"))
    }

    /// A member that is a boolean, also 0 or 1 (an SDK sends them).
    ///
    /// # Errors
    /// When it is something else.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(Value::Number(number)) if number.as_i64() == Some(0) => Ok(Some(false)),
            Some(Value::Number(number)) if number.as_i64() == Some(1) => Ok(Some(true)),
            Some(other) => Err(self.wrong(name, &other, "a boolean")),
        }
    }

    /// A member that is an array.
    ///
    /// # Errors
    /// When it is something else.
    pub fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong(name, &other, "an array")),
        }
    }

    /// A member that is an object.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(other) => Err(self.wrong(name, &other, "an object")),
        }
    }

    /// What nobody took.
    pub fn rest(self) -> Map<String, Value> {
        self.members
    }

    fn wrong(&self, name: &str, value: &Value, wanted: &str) -> Malformed {
        Malformed::new(self.path(name), format!("is {}; it must be {wanted}", kind(value)))
    }
}

/// The top-level `reqId` of a payload that is broken elsewhere: too large, too deep, cut off. Reads nothing else.
fn salvage_req_id(payload: &[u8]) -> Option<ReqId> {
    struct Salvage<'a>(&'a mut Vec<Option<ReqId>>);

    impl<'de> Visitor<'de> for Salvage<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<String>()? {
                if name == "reqId" {
                    let value = map.next_value::<Value>()?;
                    self.0.push(value.as_str().and_then(ReqId::new));
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }

    let mut found = Vec::new();
    // An error after the id was read does not matter: what was found stays.
    let _ = serde_json::Deserializer::from_slice(payload).deserialize_map(Salvage(&mut found));
    match found.as_mut_slice() {
        [one] => one.take(),
        _ => None,
    }
}

/// Reads any JSON value and remembers the path of the first member that stands twice in its object.
struct Strict<'a> {
    duplicate: &'a mut Option<String>,
    path: String,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match seq.next_element_seed(Strict {
                duplicate: &mut *self.duplicate,
                path,
            })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let path = if self.path.is_empty() {
                name.clone()
            } else {
                format!("{}.{name}", self.path)
            };
            let value = map.next_value_seed(Strict {
                duplicate: &mut *self.duplicate,
                path: path.clone(),
            })?;
            if members.insert(name, value).is_some() {
                self.duplicate.get_or_insert(path);
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(payload: &[u8]) -> Malformed {
        envelope(payload).unwrap_err()
    }

    #[test]
    fn env_01_the_request_id_is_kept_verbatim() {
        let read = envelope(br#"{"reqId":" A-\u00e9 ","d":{"x":1},"new":true}"#).unwrap();
        assert_eq!(read.req_id.unwrap().as_str(), " A-\u{e9} ");
        assert_eq!(
            Value::Object(read.members),
            serde_json::json!({"d": {"x": 1}, "new": true})
        );
    }

    #[test]
    fn env_04_what_is_no_json_object_is_refused_with_the_request_id_when_it_can_be_read() {
        for bytes in [&b""[..], b"nonsense", b"[]", b"3", b"{", b"\xff\xfe", br#"{"d":"#] {
            assert_eq!(refused(bytes).req_id, None, "{bytes:?}");
        }
        assert_eq!(
            refused(br#"{"reqId":"a","d":{"#).req_id.unwrap().as_str(),
            "a",
            "cut off after the id"
        );
        assert_eq!(
            refused(b"{\"reqId\":\"a\",\"d\":\"\xff\"}").req_id.unwrap().as_str(),
            "a",
            "invalid UTF-8"
        );
        assert_eq!(refused(br#"{"reqId":7}"#).field, "reqId");
        assert_eq!(refused(br#"{"reqId":""}"#).field, "reqId");
        assert_eq!(
            refused(br#"{"reqId":unquoted}"#).req_id,
            None,
            "as some SDKs really send it"
        );
    }

    #[test]
    fn env_04_nesting_10000_deep_and_128_kib_of_brackets_are_refused_without_harm() {
        let deep = format!(r#"{{"d":{}{},"reqId":"deep"}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(refused(deep.as_bytes()).req_id.unwrap().as_str(), "deep");
        assert_eq!(refused("[".repeat(131_072).as_bytes()).req_id, None);
        assert_eq!(refused("{\"a\":".repeat(26_000).as_bytes()).req_id, None);
    }

    #[test]
    fn env_04_a_message_over_128_kib_is_refused_and_can_be_answered() {
        let large = format!(r#"{{"reqId":"large","d":"{}"}}"#, "x".repeat(MAX_PAYLOAD));
        let malformed = refused(large.as_bytes());
        assert_eq!(malformed.req_id.unwrap().as_str(), "large");
        assert!(malformed.reason.contains("at most 131072"));
    }

    #[test]
    fn env_04_a_member_given_twice_is_refused_by_its_path() {
        let malformed = refused(br#"{"reqId":"a","d":{"fields":[{"field":"x","field":"y"}]}}"#);
        assert_eq!(malformed.field, "d.fields[0].field");
        assert_eq!(malformed.req_id.unwrap().as_str(), "a");
        let malformed = refused(br#"{"reqId":"a","reqId":"b"}"#);
        assert_eq!(
            (malformed.field.as_str(), malformed.req_id),
            ("reqId", None),
            "nobody knows which one to answer"
        );
    }

    #[test]
    fn members_say_the_path_of_what_is_wrong() {
        let mut members = Members::of("d", serde_json::json!({"a": 1, "b": "2", "c": null, "e": 1.5})).unwrap();
        assert_eq!(
            members.string("a").unwrap_err().to_string(),
            "d.a: is a number; it must be a string"
        );
        assert_eq!(members.integer("b"), Ok(Some(2)), "a numeric string");
        assert_eq!(members.string("c"), Ok(None), "null is absent");
        assert_eq!(members.integer("e").unwrap_err().field, "d.e");
        assert_eq!(members.given("z").unwrap_err().to_string(), "d.z: is missing");
        assert!(members.rest().is_empty());
    }
}
