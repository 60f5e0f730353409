//! The log entries that the service gets: their text, severity, time and data (protocol: "diagnostics", add log).
//!
//! `data` is a small JSON object. Of entries: `unit` (or `identifier`), `pid`, `boot_id`, `cursor`, `priority`, `message_id`,
//! `count` and, of what is told by its number, `first` and `last`. No two of them have the same `cursor`, unless they are
//! the same log, sent again.
//!
//! What the agent itself has to say of the journal has a stable `cursor`, too. Of a gap: `gap` (how many), `at_most` (the
//! entries that are missing, if that is known), `cursor` (where reading stood before it). Of logs that went: `dropped`
//! (how many), `count` (the entries that they stood for), `cursor` (of the first of them, or its request id).

use serde_json::{Map, Value};
use std::time::Duration;

use super::count::Count;
use super::entry::{CORE_DUMP, Entry, OUT_OF_MEMORY};
use super::redact::redact;
use super::settings::Settings;
use crate::agent::Now;
use crate::protocol::diagnostics::{LogEntry, Severity};
use crate::protocol::timestamp;

/// A text has at most so many bytes.
pub(super) const LONGEST_TEXT: usize = 2048;
/// So much of a text is looked at, in bytes: what is taken out makes it shorter.
const LOOKED_AT: usize = 4 * LONGEST_TEXT;
/// A time may be so much off, in seconds, before it cannot be true.
const SLACK: i64 = 60;

/// What is known where a log is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) now: Now,
    /// Of this boot.
    pub(super) boot_id: &'a str,
    pub(super) settings: &'a Settings,
}

/// A log for the service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    pub(super) log: LogEntry,
    /// How many entries of the journal it stands for.
    pub(super) covers: u64,
}

impl Context<'_> {
    /// The time of an entry, if it can be true: the clock is set now, and was when it was written.
    pub(super) fn plausible(&self, entry: &Entry) -> Option<u64> {
        let wall = self.now.wall?;
        let at = i64::try_from(entry.realtime_us / 1_000_000).ok()?;
        let booted = wall.saturating_sub(i64::try_from(self.now.boottime.as_secs()).ok()?);
        let too_late = at > wall.saturating_add(SLACK);
        let before_its_boot = entry.boot_id == self.boot_id && at < booted.saturating_sub(SLACK);
        (!too_late && !before_its_boot).then_some(entry.realtime_us)
    }

    /// How long ago an entry was logged; none at all where its time cannot be true.
    pub(super) fn age(&self, entry: &Entry) -> Duration {
        let wall = self.now.wall.and_then(|wall| u64::try_from(wall).ok());
        let at = self.plausible(entry).map(Duration::from_micros);
        let age = wall
            .zip(at)
            .map(|(wall, at)| Duration::from_secs(wall).saturating_sub(at));
        age.unwrap_or_default()
    }

    fn wall(&self) -> Option<String> {
        self.now.wall.and_then(timestamp::format)
    }
}

/// 0 to 3 (emerg to err) are errors, 4 is a warning; a process that dumped core or was killed is an error.
pub(super) fn severity(entry: &Entry) -> Severity {
    match entry.priority {
        _ if entry.is_end_of_a_process() => Severity::Error,
        0..=3 => Severity::Error,
        4 => Severity::Warning,
        _ => Severity::Information,
    }
}

/// What an entry says, without what is secret.
pub(super) fn text(entry: &Entry, settings: &Settings) -> String {
    let message = match entry.message.trim_end() {
        "" => "an entry without a message",
        message => message,
    };
    let name = entry.name();
    let (text, missing) = match entry.message_id.as_deref() {
        Some(CORE_DUMP) => redacted(&format!("{name} has dumped core: {message}"), entry.cut, settings),
        Some(OUT_OF_MEMORY) => redacted(&format!("{name} ran out of memory: {message}"), entry.cut, settings),
        _ => redacted(message, entry.cut, settings),
    };
    cut(&text, missing, LONGEST_TEXT)
}

/// What somebody on the host has to say, without what is secret.
pub(super) fn by_hand(text: &str, settings: &Settings) -> String {
    let (text, missing) = redacted(text.trim_end(), 0, settings);
    cut(&text, missing, LONGEST_TEXT)
}

/// So much of the text as is worth looking at, and how many bytes are missing behind it; so many were before.
fn redacted(text: &str, missing: u64, settings: &Settings) -> (String, u64) {
    if text.len() <= LOOKED_AT && missing == 0 {
        return (redact(text, &settings.redact), 0);
    }
    // A secret that is cut in two is not recognised: the cut is made between words.
    let looked_at = &text[..text.floor_char_boundary(LOOKED_AT)];
    let end = looked_at.rfind(char::is_whitespace).unwrap_or(looked_at.len());
    let rest = (text.len() - end) as u64;
    (redact(&text[..end], &settings.redact), missing + rest)
}

/// Room for the mark of a cut.
const MARK: usize = 40;

/// At most so many bytes, cut at a character's end, with a mark that says how much is missing; so much was before.
pub(super) fn cut(text: &str, missing: u64, longest: usize) -> String {
    if missing == 0 && text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest - MARK);
    let missing = missing + (text.len() - end) as u64;
    format!("{} […{missing} bytes more]", &text[..end])
}

/// Of one entry, as it is.
pub(super) fn of_entry(entry: &Entry, text: String, context: &Context<'_>) -> Made {
    let mut data = Map::new();
    match (entry.about().or(entry.unit.as_deref()), &entry.identifier) {
        (Some(_), _) => drop(data.insert("unit".into(), entry.name().into())),
        (None, Some(identifier)) => drop(data.insert("identifier".into(), identifier.as_str().into())),
        (None, None) => {}
    }
    if let Some(pid) = entry.pid {
        data.insert("pid".into(), pid.into());
    }
    data.insert("boot_id".into(), entry.boot_id.as_str().into());
    data.insert("cursor".into(), entry.cursor.as_str().into());
    data.insert("priority".into(), entry.priority.into());
    if let Some(id) = &entry.message_id {
        data.insert("message_id".into(), id.as_str().into());
    }
    data.insert("count".into(), 1.into());
    Made {
        log: LogEntry {
            message: text,
            severity: severity(entry),
            timestamp: context.plausible(entry).and_then(time),
            data: Some(bytes(data)),
            extra: Map::new(),
        },
        covers: 1,
    }
}

/// Of entries that are told of by their number. `about`: what else `data` says of them.
pub(super) fn of_count(text: &str, count: &Count, mut about: Map<String, Value>) -> Made {
    about.insert("boot_id".into(), count.boot_id.as_str().into());
    about.insert("cursor".into(), count.cursor.as_str().into());
    about.insert("count".into(), count.entries.into());
    for (name, at) in [("first", count.first_us), ("last", count.last_us)] {
        if let Some(at) = at.and_then(time) {
            about.insert(name.into(), at.into());
        }
    }
    Made {
        log: LogEntry {
            message: cut(text, 0, LONGEST_TEXT),
            severity: count.severity(),
            timestamp: count.last_us.and_then(time),
            data: Some(bytes(about)),
            extra: Map::new(),
        },
        covers: count.entries,
    }
}

/// Of something that the agent has to say about the journal or the outbox.
pub(super) fn of_agent(text: &str, covers: u64, data: Map<String, Value>, context: &Context<'_>) -> Made {
    Made {
        log: LogEntry {
            message: cut(&redact(text, &context.settings.redact), 0, LONGEST_TEXT),
            severity: Severity::Warning,
            timestamp: context.wall(),
            data: Some(bytes(data)),
            extra: Map::new(),
        },
        covers,
    }
}

/// ` between A and B`, ` at A`, or nothing when the times are not known.
pub(super) fn span(count: &Count) -> String {
    let second = |at: Option<u64>| timestamp::format(i64::try_from(at? / 1_000_000).ok()?);
    match (second(count.first_us), second(count.last_us)) {
        (Some(first), Some(last)) if first == last => format!(" at {first}"),
        (Some(first), Some(last)) => format!(" between {first} and {last}"),
        _ => String::new(),
    }
}

fn time(us: u64) -> Option<String> {
    timestamp::format_ms(i64::try_from(us / 1000).ok()?)
}

fn bytes(data: Map<String, Value>) -> Vec<u8> {
    Value::Object(data).to_string().into_bytes()
}
