//! Private keys that a process prints line by line: journald makes an entry of each line, and only the first and the last
//! of them say that they belong to a key. From BEGIN to END nothing of it goes out.
//!
//! A block that never ends must not swallow what comes later: it is over with a line that cannot be of a key, and after
//! [`LINES`]. Facts: RFC 7468, RFC 1421.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use super::entry::Entry;
use super::hash::Hash;

/// So many blocks are open at a time; one more, and the oldest is over.
const MOST: usize = 16;
/// A block has at most so many lines: an RSA key of 16384 bits has about 200.
const LINES: u32 = 256;
/// What stands in the place of a line.
const REDACTED: &str = "[redacted] (of a private key)";

/// The blocks that are open, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Keys {
    open: Vec<Open>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    /// Whose: the unit and the process.
    of: u64,
    /// So many lines may follow.
    left: u32,
}

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The entry without what belongs to a key that began in an earlier entry of this process.
    pub(super) fn without<'a>(&mut self, entry: &'a Entry) -> Cow<'a, Entry> {
        let begins = begins(&entry.message);
        if self.open.is_empty() && !begins {
            return Cow::Borrowed(entry);
        }
        let of = whose(entry);
        let message = match self.open.iter().position(|open| open.of == of) {
            Some(at) => self.goes_on(at, &entry.message),
            None => None,
        };
        if begins {
            self.open.retain(|open| open.of != of);
            if self.open.len() >= MOST {
                self.open.remove(0);
            }
            self.open.push(Open { of, left: LINES });
        }
        match message {
            Some(message) => Cow::Owned(Entry {
                message,
                ..entry.clone()
            }),
            None => Cow::Borrowed(entry),
        }
    }

    /// What is left of the next line of this block; `None`: it does not belong to it.
    fn goes_on(&mut self, at: usize, text: &str) -> Option<String> {
        if let Some((_, rest)) = text.split_once("-----END ") {
            self.open.remove(at);
            let rest = rest.split_once("-----").map_or("", |(_, rest)| rest);
            return Some(format!("{REDACTED}{rest}"));
        }
        if !text.lines().all(is_of_a_key) {
            self.open.remove(at);
            return None;
        }
        self.open[at].left -= 1;
        if self.open[at].left == 0 {
            self.open.remove(at);
        }
        Some(REDACTED.to_owned())
    }
}

fn whose(entry: &Entry) -> u64 {
    let mut hash = Hash::new();
    hash.text(entry.name());
    hash.text(&entry.pid.unwrap_or_default().to_string());
    hash.value()
}

/// Whether the last block of the text is one of a private key, and does not end in it.
fn begins(text: &str) -> bool {
    let Some((_, block)) = text.rsplit_once("-----BEGIN ") else {
        return false;
    };
    let kind = block.split_once("PRIVATE KEY-----").map(|(kind, _)| kind);
    let is_kind = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    kind.is_some_and(|kind| kind.bytes().all(is_kind)) && !block.contains("-----END ")
}

/// Base64, or a header of an encrypted key.
fn is_of_a_key(line: &str) -> bool {
    let line = line.trim();
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    line.bytes().all(base64) || line.starts_with("Proc-Type:") || line.starts_with("DEK-Info:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(unit: &str, pid: u32, message: &str) -> Entry {
        Entry {
            unit: Some(unit.into()),
            pid: Some(pid),
            message: message.into(),
            ..Entry::default()
        }
    }

    fn told(keys: &mut Keys, unit: &str, pid: u32, message: &str) -> String {
        keys.without(&entry(unit, pid, message)).message.clone()
    }

    const BEGIN: &str = "-----BEGIN RSA PRIVATE KEY-----";
    const LINE: &str = "MIIEpAIBAAKCAQEA7bq2Ov7c1hJ0wW8n6m1Yf3v+O/9Vb0i5m0mJ1u2W3g4h5i6j";

    #[test]
    fn the_lines_of_a_key_are_taken_out_from_its_begin_to_its_end_and_those_of_other_processes_stay() {
        let keys = &mut Keys::default();
        assert_eq!(told(keys, "a.service", 1, "starting"), "starting");
        told(keys, "a.service", 1, &format!("the key is {BEGIN}"));
        for line in [
            LINE,
            "Proc-Type: 4,ENCRYPTED",
            "DEK-Info: AES-128-CBC,0A",
            "",
            "c2hvcnQ=",
        ] {
            assert_eq!(told(keys, "a.service", 1, line), REDACTED, "{line}");
        }
        for (unit, pid) in [("a.service", 2), ("b.service", 1)] {
            assert_eq!(told(keys, unit, pid, "word"), "word");
        }
        let end = "QUJD-----END RSA PRIVATE KEY----- was read";
        assert_eq!(told(keys, "a.service", 1, end), format!("{REDACTED} was read"));
        assert_eq!(told(keys, "a.service", 1, "word"), "word");
        assert!(keys.is_empty());
    }

    #[test]
    fn a_key_that_begins_where_another_ends_and_one_whose_lines_come_several_to_an_entry_are_taken_out_too() {
        let keys = &mut Keys::default();
        told(keys, "a.service", 1, &format!("{BEGIN}\n{LINE}"));
        let both = format!("{LINE}\n{LINE}");
        assert_eq!(told(keys, "a.service", 1, &both), REDACTED);
        told(keys, "a.service", 1, &format!("-----END RSA PRIVATE KEY-----\n{BEGIN}"));
        assert_eq!(told(keys, "a.service", 1, LINE), REDACTED);
    }

    #[test]
    fn what_is_whole_or_no_private_key_opens_nothing() {
        for text in [
            "-----BEGIN CERTIFICATE-----".to_owned(),
            format!("{BEGIN}\n{LINE}\n-----END RSA PRIVATE KEY-----"),
            "-----BEGIN nothing of a PRIVATE KEY-----".to_owned(),
        ] {
            let keys = &mut Keys::default();
            assert_eq!(told(keys, "a.service", 1, &text), text);
            assert!(keys.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_key_without_an_end_is_over_with_a_line_of_another_kind_after_many_lines_or_when_there_are_too_many() {
        let keys = &mut Keys::default();
        told(keys, "a.service", 1, BEGIN);
        assert_eq!(told(keys, "a.service", 1, "no answer from 17"), "no answer from 17");
        assert_eq!(told(keys, "a.service", 1, "word"), "word");
        told(keys, "a.service", 1, BEGIN);
        for _ in 0..LINES {
            assert_eq!(told(keys, "a.service", 1, LINE), REDACTED);
        }
        assert_eq!(told(keys, "a.service", 1, "word"), "word");
        for pid in 0..1000 {
            told(keys, "a.service", pid, BEGIN);
        }
        assert_eq!(keys.open.len(), MOST);
        assert_eq!(told(keys, "a.service", 999, LINE), REDACTED);
    }
}
