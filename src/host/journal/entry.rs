//! One line of `journalctl --output=json` as an [`Entry`].
//!
//! A value is a string; an array of numbers where it holds what is no UTF-8 or cannot be printed; an array of values where
//! the field is there more than once; null where it was too long to be printed. Facts: systemd's JOURNAL_EXPORT_FORMATS,
//! systemd.journal-fields(7).

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::Entry;

/// The fields that are asked for; what journalctl adds by itself (the cursor, the times, the boot id) is not among them.
pub(super) const FIELDS: &str = "MESSAGE,MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID,UNIT,COREDUMP_UNIT";

/// The most of a text that is kept, in bytes.
const TEXT: usize = 4096;
/// The most of any other field. Names of units have at most 255.
const WORD: usize = 256;
/// What syslog takes a message for that has no priority.
const INFO: u8 = 6;

#[derive(Debug, Deserialize)]
struct Fields<'a> {
    #[serde(rename = "__CURSOR", borrow)]
    cursor: Cow<'a, str>,
    #[serde(rename = "__REALTIME_TIMESTAMP", borrow, default)]
    realtime: Value<'a>,
    #[serde(rename = "_BOOT_ID", borrow, default)]
    boot: Value<'a>,
    #[serde(rename = "MESSAGE", borrow, default)]
    message: Value<'a>,
    #[serde(rename = "MESSAGE_ID", borrow, default)]
    message_id: Value<'a>,
    #[serde(rename = "PRIORITY", borrow, default)]
    priority: Value<'a>,
    #[serde(rename = "SYSLOG_IDENTIFIER", borrow, default)]
    identifier: Value<'a>,
    #[serde(rename = "_SYSTEMD_UNIT", borrow, default)]
    unit: Value<'a>,
    #[serde(rename = "_PID", borrow, default)]
    pid: Value<'a>,
    #[serde(rename = "UNIT", borrow, default)]
    of_unit: Value<'a>,
    #[serde(rename = "COREDUMP_UNIT", borrow, default)]
    coredump_unit: Value<'a>,
}

/// What a field holds.
#[derive(Debug, Default)]
enum Value<'a> {
    /// It is not there, or too long.
    #[default]
    None,
    Text(Cow<'a, str>),
    Byte(u8),
    Bytes(Vec<u8>),
    /// More than one of them.
    Several(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    /// The text; the first where there are several.
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::None | Value::Byte(_) => None,
            Value::Text(text) => Some(text),
            Value::Bytes(bytes) => Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())),
            Value::Several(values) => values.into_iter().next()?.text(),
        }
    }

    /// At most [`TEXT`] bytes of the text, and how many bytes of the field are missing.
    fn message(self) -> (String, usize) {
        match self {
            Value::Bytes(bytes) => {
                // What replaces a byte is longer than it.
                let (mut text, mut read) = (String::new(), 0);
                for chunk in bytes.utf8_chunks() {
                    let valid = &chunk.valid()[..chunk.valid().floor_char_boundary(TEXT - text.len())];
                    text.push_str(valid);
                    read += valid.len();
                    if valid.len() < chunk.valid().len() {
                        break;
                    }
                    if !chunk.invalid().is_empty() {
                        if text.len() + char::REPLACEMENT_CHARACTER.len_utf8() > TEXT {
                            break;
                        }
                        text.push(char::REPLACEMENT_CHARACTER);
                        read += chunk.invalid().len();
                    }
                }
                (text, bytes.len() - read)
            }
            Value::Several(values) => values.into_iter().next().map(Value::message).unwrap_or_default(),
            value => {
                let text = value.text().unwrap_or_default();
                let kept = text.floor_char_boundary(TEXT);
                (text[..kept].to_owned(), text.len() - kept)
            }
        }
    }

    fn word(self) -> Option<String> {
        let text = self.text()?;
        (!text.is_empty()).then(|| text[..text.floor_char_boundary(WORD)].to_owned())
    }

    /// The least of the numbers: an entry of several priorities is as urgent as its most urgent one.
    fn priority(&self) -> Option<u8> {
        match self {
            Value::Text(text) => text.parse().ok().filter(|priority| *priority <= 7),
            Value::Several(values) => values.iter().filter_map(Value::priority).min(),
            Value::None | Value::Byte(_) | Value::Bytes(_) => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an array of bytes, an array of such, or null")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        u8::try_from(number).map(Value::Byte).map_err(E::custom)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while let Some(element) = seq.next_element()? {
            match element {
                Value::Byte(byte) => bytes.push(byte),
                value => values.push(value),
            }
        }
        Ok(match values.is_empty() {
            true => Value::Bytes(bytes),
            false => Value::Several(values),
        })
    }
}

/// The entry of a line of which `cut` bytes of the message are missing already; `None` when it is none.
pub(super) fn parse(line: &[u8], cut: u64) -> Option<Entry> {
    let fields: Fields<'_> = serde_json::from_slice(line).ok()?;
    let (message, more) = fields.message.message();
    let unit = fields.unit.word();
    let about = fields.coredump_unit.word().or_else(|| fields.of_unit.word());
    Some(Entry {
        cursor: fields.cursor.into_owned(),
        boot_id: fields.boot.word().unwrap_or_default(),
        realtime_us: fields.realtime.text().and_then(|text| text.parse().ok()).unwrap_or(0),
        priority: fields.priority.priority().unwrap_or(INFO),
        about: about.filter(|about| Some(about) != unit.as_ref()),
        unit,
        identifier: fields.identifier.word(),
        pid: fields.pid.text().and_then(|text| text.parse().ok()),
        message_id: fields.message_id.word(),
        cut: cut + more as u64,
        message,
        watched: false,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(fields: &str) -> Entry {
        let line = format!(r#"{{"__CURSOR":"c","_BOOT_ID":"b","__REALTIME_TIMESTAMP":"17"{fields}}}"#);
        parse(line.as_bytes(), 0).unwrap()
    }

    #[test]
    fn an_entry_is_read_with_all_that_is_asked_for() {
        let entry = of(
            r#","MESSAGE":"über \"10\" °C\n","PRIORITY":"2","_SYSTEMD_UNIT":"modbus.service",
            "SYSLOG_IDENTIFIER":"modbusd","_PID":"42","MESSAGE_ID":"id-of-a-core-dump","__SEQNUM":"1""#,
        );
        let expected = Entry {
            cursor: "c".into(),
            boot_id: "b".into(),
            realtime_us: 17,
            priority: 2,
            unit: Some("modbus.service".into()),
            identifier: Some("modbusd".into()),
            pid: Some(42),
            message_id: Some("id-of-a-core-dump".into()),
            message: "über \"10\" °C\n".into(),
            cut: 0,
            about: None,
            watched: false,
        };
        assert_eq!(entry, expected);
    }

    #[test]
    fn an_entry_without_message_or_anything_else_is_one() {
        let entry = of("");
        assert_eq!((entry.message.as_str(), entry.priority, entry.pid), ("", 6, None));
        assert_eq!((entry.unit, entry.identifier), (None, None));
        assert_eq!(of(r#","MESSAGE":null,"_PID":"no","PRIORITY":"urgent""#).message, "");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_of_several_messages_the_first_counts() {
        assert_eq!(of(r#","MESSAGE":[104,105,255,33]"#).message, "hi\u{fffd}!");
        assert_eq!(of(r#","MESSAGE":["first","second"]"#).message, "first");
        assert_eq!(of(r#","MESSAGE":[[104,105],"second"]"#).message, "hi");
        assert_eq!(of(r#","MESSAGE":[null,"second"]"#).message, "");
        assert_eq!(of(r#","MESSAGE":[]"#).message, "");
        assert_eq!(of(r#","PRIORITY":["6","3"]"#).priority, 3);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_and_the_missing_bytes_are_counted() {
        let entry = of(&format!(r#","MESSAGE":"x{}""#, "ü".repeat(4000)));
        assert_eq!((entry.message.len(), entry.cut), (4095, 8001 - 4095));
        let bytes = vec!["255"; 5000].join(",");
        let entry = of(&format!(r#","MESSAGE":[{bytes}]"#));
        assert!(entry.message.len() <= TEXT && entry.message.chars().all(|c| c == '\u{fffd}'));
        assert_eq!(entry.message.chars().count() as u64 + entry.cut, 5000);
        let line = br#"{"__CURSOR":"c","MESSAGE":"cut before"}"#;
        assert_eq!(parse(line, 100).unwrap().cut, 100);
    }

    #[test]
    fn a_core_dump_and_what_systemd_says_of_a_unit_name_the_unit() {
        let dump = of(r#","_SYSTEMD_UNIT":"systemd-coredump@1.service","COREDUMP_UNIT":"modbus.service""#);
        assert_eq!(dump.about.as_deref(), Some("modbus.service"));
        let killed = of(r#","_SYSTEMD_UNIT":"init.scope","UNIT":"modbus.service""#);
        assert_eq!(killed.about.as_deref(), Some("modbus.service"));
        assert_eq!(of(r#","_SYSTEMD_UNIT":"a.service","UNIT":"a.service""#).about, None);
    }

    #[test]
    fn a_line_that_is_no_entry_is_none() {
        for line in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"__CURSOR":1}"#,
            r#"{"__CURSOR":"c","MESSAGE":"#,
            "-- No entries --",
        ] {
            assert_eq!(parse(line.as_bytes(), 0), None, "{line}");
        }
        let deep = format!(r#"{{"__CURSOR":"c","MESSAGE":{}"#, "[".repeat(10_000));
        assert_eq!(parse(deep.as_bytes(), 0), None);
    }
}
