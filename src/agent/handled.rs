//! Requests that must not be executed twice, each with the answer it was given.
//!
//! A request is known by its operation and the SHA-256 of its `reqId`. The last [`KEPT`] that change the host are
//! remembered, by count and not by age: there may be no clock. Apart from them, so that they cannot push a reboot out,
//! the last [`KEPT_OTHERS`] that change what is remembered here: updates of attributes, observations and their ends.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

use crate::protocol::{Rc, ReqId};

/// How many requests that change the host are remembered.
pub const KEPT: usize = 128;

/// How many of the other requests are remembered.
pub const KEPT_OTHERS: usize = 256;

/// So much is kept of why one of them was refused, in characters.
const KEPT_MESSAGE: usize = 200;

/// What identifies a request across redeliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The operation, by the end of its topic.
    pub op: String,
    /// SHA-256 of the `reqId`, in hexadecimal digits.
    pub hash: String,
}

impl Key {
    /// Of a request.
    pub fn new(op: &str, req_id: &ReqId) -> Self {
        let digest = Sha256::digest(req_id.as_str());
        let mut hash = String::with_capacity(64);
        for byte in digest {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Key {
            op: op.to_owned(),
            hash,
        }
    }
}

/// The answer that was given, or is to be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The return code.
    pub rc: Rc,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Answer {
    /// A code with its reason.
    pub fn new(rc: Rc, message: impl Into<String>) -> Self {
        Answer {
            rc,
            message: Some(message.into()).filter(|message| !message.is_empty()),
            extra: Map::new(),
        }
    }
}

/// A remembered request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handled {
    /// What identifies it.
    pub key: Key,
    /// To answer it with.
    pub req_id: String,
    /// The latest answer; `None` while it is being worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Whether the broker has that answer.
    #[serde(default)]
    pub delivered: bool,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Handled {
    /// A request that is new.
    pub fn new(key: Key, req_id: &ReqId, answer: Option<Answer>) -> Self {
        Handled {
            key,
            req_id: req_id.as_str().to_owned(),
            answer,
            delivered: false,
            extra: Map::new(),
        }
    }
}

/// A remembered request that did not change the host. Its answer was owed to the outbox at once, so that nothing is to
/// be known of it but what to say when it comes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Other {
    /// What identifies it.
    pub key: Key,
    /// How it was answered.
    pub rc: Rc,
    /// Why, in words, cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Other {
    /// A request that is new.
    pub fn new(key: Key, rc: Rc, message: &str) -> Self {
        Other {
            key,
            rc,
            message: (!message.is_empty()).then(|| message.chars().take(KEPT_MESSAGE).collect()),
            extra: Map::new(),
        }
    }
}

pub(super) fn remember_other(list: &mut Vec<Other>, other: Other) {
    list.retain(|known| known.key != other.key);
    list.push(other);
    if list.len() > KEPT_OTHERS {
        list.remove(0);
    }
}

/// Finds a request.
pub fn find<'a>(list: &'a [Handled], key: &Key) -> Option<&'a Handled> {
    list.iter().find(|handled| handled.key == *key)
}

pub(super) fn remember(list: &mut Vec<Handled>, handled: Handled) {
    list.retain(|known| known.key != handled.key);
    list.push(handled);
    if list.len() > KEPT {
        // What still waits for its answer to be delivered stays as long as anything else can go.
        let oldest = list.iter().position(|known| known.delivered).unwrap_or(0);
        list.remove(oldest);
    }
}

pub(super) fn answer(list: &mut [Handled], key: &Key, answer: &Answer) {
    if let Some(handled) = list.iter_mut().find(|handled| handled.key == *key) {
        handled.answer = Some(answer.clone());
        handled.delivered = false;
    }
}

pub(super) fn delivered(list: &mut [Handled], key: &Key, rc: Rc) {
    if let Some(handled) = list.iter_mut().find(|handled| handled.key == *key)
        && handled.answer.as_ref().is_some_and(|answer| answer.rc == rc)
    {
        handled.delivered = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::new("reboot", &ReqId::new(n.to_string()).expect("short"))
    }

    #[test]
    fn env_07_the_last_128_are_remembered_and_what_is_undelivered_goes_last() {
        let mut list = Vec::new();
        for n in 0..KEPT + 10 {
            let mut handled = Handled::new(key(n), &ReqId::new(n.to_string()).expect("short"), None);
            handled.delivered = n != 3;
            remember(&mut list, handled);
        }
        assert_eq!(list.len(), KEPT);
        assert!(find(&list, &key(3)).is_some(), "its answer is still owed");
        assert!(find(&list, &key(0)).is_none());
        assert!(find(&list, &key(KEPT + 9)).is_some());
    }

    #[test]
    fn env_07_the_last_256_others_are_remembered_and_no_long_reasons() {
        let mut list = Vec::new();
        for n in 0..KEPT_OTHERS + 10 {
            remember_other(&mut list, Other::new(key(n), Rc::CHANGED, ""));
        }
        remember_other(&mut list, Other::new(key(20), Rc::CONFLICT, &"\u{e9}".repeat(1000)));
        assert_eq!(list.len(), KEPT_OTHERS, "the same again takes the place of the first");
        let known = |n: usize| list.iter().find(|other| other.key == key(n));
        assert_eq!((known(9), known(10).is_some()), (None, true));
        let message = known(20).and_then(|other| other.message.as_deref());
        assert_eq!(message.map(|message| message.chars().count()), Some(200));
    }

    #[test]
    fn a_late_acknowledgement_of_the_first_answer_does_not_count_for_the_second() {
        let mut list = vec![Handled::new(
            key(1),
            &ReqId::new("1").expect("short"),
            Some(Answer::new(Rc::ACCEPTED, "")),
        )];
        answer(&mut list, &key(1), &Answer::new(Rc::INTERNAL, "did not happen"));
        delivered(&mut list, &key(1), Rc::ACCEPTED);
        assert!(!list[0].delivered);
        delivered(&mut list, &key(1), Rc::INTERNAL);
        assert!(list[0].delivered);
    }

    #[test]
    fn the_same_id_for_another_operation_is_another_request() {
        let id = ReqId::new("a").expect("short");
        assert_ne!(Key::new("reboot", &id), Key::new("factory_reset", &id));
        assert_eq!(Key::new("reboot", &id).hash.len(), 64);
    }
}
