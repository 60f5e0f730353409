//! Entries of one kind become one log and, later, one with their number.
//!
//! A kind is a unit, a `MESSAGE_ID` and a text in which every number is the same as any other. The first of a kind goes
//! out as it is; what follows within [`WINDOW`] is counted, and told when that is over.

use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::time::Duration;

use super::count::Count;
use super::entry::Entry;
use super::hash::Hash;
use super::log::{Context, LONGEST_TEXT, Made, cut, of_count, span};

/// So long entries of a kind are counted, from its first.
pub(super) const WINDOW: Duration = Duration::from_secs(5 * 60);
/// So many kinds at a time; one more, and the oldest is told early.
const MOST: usize = 64;
/// So much of the text is said again with the number, in bytes.
const AGAIN: usize = 240;

/// A kind of entries whose first was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fold {
    key: u64,
    /// Until then further ones are counted.
    until: Duration,
    about: About,
    more: Count,
}

/// What is said again of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    text: String,
    /// The unit, or what calls itself so.
    name: String,
    is_unit: bool,
    priority: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

/// A kind on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    key: u64,
    left_ms: u64,
    about: About,
    #[serde(default, skip_serializing_if = "Count::is_none")]
    more: Count,
}

/// The kinds that are open, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Folds {
    open: Vec<Fold>,
}

/// What tells kinds apart. Looks at no more of the text than is sent.
pub(super) fn key(entry: &Entry) -> u64 {
    let mut hash = Hash::new();
    hash.text(entry.name());
    hash.text(entry.message_id.as_deref().unwrap_or_default());
    let text = entry.message.as_bytes();
    let text = &text[..text.len().min(LONGEST_TEXT)];
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if !byte.is_ascii_digit() {
            hash.byte(byte);
            at += 1;
            continue;
        }
        let hexadecimal = byte == b'0' && matches!(text.get(at + 1), Some(b'x' | b'X'));
        at += if hexadecimal { 2 } else { 1 };
        let digit = |byte: &u8| byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
        at += text[at..].iter().take_while(|byte| digit(byte)).count();
        hash.byte(b'0');
    }
    hash.value()
}

impl Fold {
    /// Whose entries these are.
    pub(super) fn name(&self) -> &str {
        &self.about.name
    }

    /// How many were counted, and are still to be told.
    pub(super) fn more(self) -> Count {
        self.more
    }

    /// The log that tells their number.
    pub(super) fn made(&self) -> Made {
        let text = format!(
            "{} ({} more like this{})",
            self.about.text,
            self.more.entries,
            span(&self.more)
        );
        let mut about = Map::new();
        let name = if self.about.is_unit { "unit" } else { "identifier" };
        about.insert(name.into(), self.about.name.as_str().into());
        about.insert("priority".into(), self.about.priority.into());
        if let Some(id) = &self.about.message_id {
            about.insert("message_id".into(), id.as_str().into());
        }
        of_count(&text, &self.more, about)
    }
}

impl Folds {
    /// Counts an entry whose kind is open.
    pub(super) fn again(&mut self, key: u64, entry: &Entry, context: &Context<'_>) -> bool {
        let found = self.open.iter_mut().find(|fold| fold.key == key);
        if let Some(fold) = found {
            fold.more.add(entry, context);
            return true;
        }
        false
    }

    /// The first of a kind, with the text that was sent. Returns what has to make room for it.
    pub(super) fn open(&mut self, key: u64, entry: &Entry, text: &str, now: Duration) -> Option<Fold> {
        let oldest = (self.open.len() >= MOST).then(|| self.open.remove(0));
        self.open.push(Fold {
            key,
            until: now.saturating_add(WINDOW),
            about: About {
                text: cut(text, 0, AGAIN),
                name: entry.name().to_owned(),
                is_unit: entry.about().is_some() || entry.unit.is_some(),
                priority: entry.priority,
                message_id: entry.message_id.clone(),
            },
            more: Count::default(),
        });
        oldest.filter(|fold| fold.more.entries > 0)
    }

    /// Those that are over. What has nothing to tell just goes; the rest, only if `told` says that it was.
    pub(super) fn close(&mut self, now: Duration, mut told: impl FnMut(&Fold) -> bool) {
        self.open
            .retain(|fold| now < fold.until || (fold.more.entries > 0 && !told(fold)));
    }

    /// When the next one is over; `ready` says when it can be told.
    pub(super) fn deadline(&self, ready: impl Fn(&str) -> Duration) -> Option<Duration> {
        let at = |fold: &Fold| match fold.more.entries {
            0 => fold.until,
            _ => fold.until.max(ready(&fold.about.name)),
        };
        self.open.iter().map(at).min()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many entries are counted and not told yet.
    pub(super) fn entries(&self) -> u64 {
        self.open.iter().map(|fold| fold.more.entries).sum()
    }

    pub(super) fn to_record(&self, now: Duration) -> Vec<Kept> {
        let kept = |fold: &Fold| Kept {
            key: fold.key,
            left_ms: super::millis(fold.until.saturating_sub(now)),
            about: fold.about.clone(),
            more: fold.more.clone(),
        };
        self.open.iter().map(kept).collect()
    }

    pub(super) fn restore(record: &[Kept], now: Duration) -> Self {
        let fold = |kept: &Kept| Fold {
            key: kept.key,
            until: now.saturating_add(Duration::from_millis(kept.left_ms).min(WINDOW)),
            about: kept.about.clone(),
            more: kept.more.clone(),
        };
        Folds {
            open: record.iter().map(fold).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(unit: &str, message: &str) -> Entry {
        Entry {
            unit: Some(unit.into()),
            message: message.into(),
            ..Entry::default()
        }
    }

    #[test]
    fn numbers_do_not_tell_kinds_apart_and_everything_else_does() {
        let same = [
            "timeout of 10.0.0.1:502 after 250 ms at 0x7ffe12ab",
            "timeout of 192.168.17.4:1502 after 3 ms at 0xAB",
        ];
        let [first, second] = same.map(|text| key(&entry("modbus.service", text)));
        assert_eq!(first, second);
        let mut other = vec![entry("other.service", same[0]), entry("modbus.service", "timeout")];
        other.push(entry("modbus.service", &same[0].replace("ms", "s")));
        other.push(Entry {
            message_id: Some("ab".into()),
            ..entry("modbus.service", same[0])
        });
        for entry in other {
            assert_ne!(key(&entry), first, "{entry:?}");
        }
    }

    #[test]
    fn a_text_that_ends_in_half_a_number_and_one_of_a_megabyte_have_a_key() {
        key(&entry("a", "0x"));
        key(&entry("a", "0"));
        let long = format!("{}ä{}", "x".repeat(2047), "1".repeat(1 << 20));
        assert_eq!(key(&entry("a", &long)), key(&entry("a", &format!("{long}z"))));
    }
}
