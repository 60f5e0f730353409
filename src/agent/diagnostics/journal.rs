//! What becomes of the journal's entries: told, counted with others of their kind, or held back.
//!
//! Every entry that is taken ends in exactly one of: a log of its own, the number of a fold, the number of a summary. Only
//! one that is there for the rules about error codes ([`Entry::watched`]) ends in none.
//! What is counted and not told yet is saved together with the cursor, so that a crash counts nothing twice: reading
//! goes on from the saved cursor with the saved numbers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

use super::bucket::{Bucket, MINUTE, Taken};
use super::entry::{Entry, Gap};
use super::fold::{self, Fold, Folds};
use super::held::{self, Held};
use super::keys::Keys;
use super::log::{Context, Made, of_agent, of_entry, text};
use super::settings::{Settings, When};

/// Changes that owe nothing are saved after so long: flash wears out.
pub(super) const SAVE: Duration = Duration::from_secs(10);
/// No more often than this is anything owed, and written down for that: in a storm each batch makes a log.
const PACE: Duration = Duration::from_secs(1);
/// So much of a text is compared with the patterns of rules, in bytes.
const MATCHED: usize = 8 * 1024;

/// What is remembered of the journal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Journal {
    cursor: Option<String>,
    folds: Folds,
    bucket: Bucket,
    held: Held,
    /// Private keys whose end was not read yet.
    keys: Keys,
    gap: Option<Lost>,
    /// Before this no gap is told again.
    gap_not_before: Duration,
    dropped: Dropped,
    /// Codes of rules that an entry has matched, and until when they hold.
    matches: Vec<(i64, Duration)>,
    /// What was made, and is not owed yet. It is not on the disk; nor is the position behind what it was made of.
    ready: Vec<Made>,
    /// When something was owed last.
    owed: Option<Duration>,
    /// Since when there is something that the disk does not have.
    pub(super) unsaved: Option<Duration>,
    /// Entries that this run has taken.
    pub(super) taken: u64,
}

/// Gaps in the journal that are still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lost {
    /// Of the last one, in words.
    reason: String,
    times: u64,
    /// Of all; `None`: not known of one of them.
    at_most: Option<u64>,
    /// Where reading stood before the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// What went before the service had it, because there was no room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Dropped {
    /// Logs.
    logs: u64,
    /// Entries of the journal that they stood for.
    entries: u64,
    /// The name of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<String>,
}

/// What is on the disk of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Up to here, this included, the journal was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    folds: Vec<fold::Kept>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<Taken>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<held::Kept>,
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    keys: Keys,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Lost>,
    #[serde(default, skip_serializing_if = "Dropped::is_none")]
    dropped: Dropped,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
    /// What this version does not know.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Match {
    code: i64,
    left_ms: u64,
}

impl Dropped {
    fn is_none(&self) -> bool {
        *self == Dropped::default()
    }
}

impl Journal {
    /// Takes entries, and says what is to be told of them now.
    pub(super) fn take(&mut self, context: &Context<'_>, entries: &[Entry], cursor: &str) -> Vec<Made> {
        let (now, limit) = (context.now.boottime, context.settings.max_per_minute);
        let mut made = Vec::new();
        for entry in entries {
            self.look_for_codes(entry, context);
            if entry.watched {
                continue;
            }
            let entry = &*self.keys.without(entry);
            let key = fold::key(entry);
            if self.folds.again(key, entry, context) {
                continue;
            }
            if !self.bucket.take(now, entry.name(), limit) {
                self.held.add(entry, context);
                continue;
            }
            let text = text(entry, context.settings);
            let oldest = self.folds.open(key, entry, &text, now);
            made.push(of_entry(entry, text, context));
            if let Some(oldest) = oldest {
                self.close_early(oldest, now, limit, &mut made);
            }
        }
        if !cursor.is_empty() {
            self.cursor = Some(cursor.to_owned());
        }
        self.taken += entries.len() as u64;
        self.changed(now);
        made
    }

    /// A kind has to make room.
    fn close_early(&mut self, fold: Fold, now: Duration, limit: u32, made: &mut Vec<Made>) {
        if self.bucket.take(now, fold.name(), limit) {
            made.push(fold.made());
        } else {
            let name = fold.name().to_owned();
            self.held.add_all(&name, fold.more(), now);
        }
    }

    fn look_for_codes(&mut self, entry: &Entry, context: &Context<'_>) {
        let now = context.now.boottime;
        for rule in &context.settings.codes {
            let When::Journal {
                pattern,
                message_id,
                unit,
                lasts,
            } = &rule.when
            else {
                continue;
            };
            // It holds from when that was logged, which may be days ago.
            let Some(left) = lasts.checked_sub(context.age(entry)).filter(|left| !left.is_zero()) else {
                continue;
            };
            let until = now.saturating_add(left);
            let known = self.matches.iter().position(|(code, _)| *code == rule.code);
            let fresh = known.is_some_and(|at| self.matches[at].1 >= until);
            let other = unit.as_deref().is_some_and(|unit| unit != entry.name());
            let text = &entry.message[..entry.message.floor_char_boundary(MATCHED)];
            let other_id = message_id.is_some() && *message_id != entry.message_id;
            if fresh || other || other_id || pattern.as_ref().is_some_and(|pattern| !pattern.is_in(text)) {
                continue;
            }
            match known {
                Some(at) => self.matches[at].1 = until,
                None => self.matches.push((rule.code, until)),
            }
        }
    }

    /// Entries are missing from what was read.
    pub(super) fn gap(&mut self, gap: &Gap, now: Duration) {
        let before = self.gap.take();
        let at_most = match &before {
            Some(before) => before.at_most.zip(gap.at_most).map(|(a, b)| a.saturating_add(b)),
            None => gap.at_most,
        };
        self.gap = Some(Lost {
            reason: gap.reason.chars().take(500).collect(),
            times: before.as_ref().map_or(0, |before| before.times) + 1,
            at_most,
            after: before.map_or_else(|| self.cursor.clone(), |before| before.after),
        });
        self.changed(now);
    }

    /// A log went before the service had it.
    pub(super) fn dropped(&mut self, covers: u64, name: &str, now: Duration) {
        self.dropped.first.get_or_insert_with(|| name.to_owned());
        self.dropped.logs += 1;
        self.dropped.entries = self.dropped.entries.saturating_add(covers);
        self.changed(now);
    }

    /// These are to be owed.
    pub(super) fn make_ready(&mut self, made: Vec<Made>) {
        self.ready.extend(made);
    }

    /// When what is ready is to be owed; `None`: there is nothing.
    pub(super) fn owe_at(&self) -> Option<Duration> {
        let at = self.owed.map_or(Duration::ZERO, |owed| owed.saturating_add(PACE));
        (!self.ready.is_empty()).then_some(at)
    }

    /// What is to be owed now, with what it was made of.
    pub(super) fn take_ready(&mut self, now: Duration) -> Vec<Made> {
        self.owed = Some(now);
        std::mem::take(&mut self.ready)
    }

    fn changed(&mut self, now: Duration) {
        self.unsaved.get_or_insert(now);
    }

    /// Whether [`Journal::tell`] has something to do. `room`: there is room in the outbox for what was dropped to be told.
    pub(super) fn is_due(&self, now: Duration, settings: &Settings, room: bool) -> bool {
        room && !self.dropped.is_none() || self.tell_at(settings).is_some_and(|at| at <= now)
    }

    /// What is to be told without another entry.
    pub(super) fn tell(&mut self, context: &Context<'_>, room: bool) -> Vec<Made> {
        let (now, limit) = (context.now.boottime, context.settings.max_per_minute);
        let mut made = Vec::new();
        self.matches.retain(|(_, until)| now < *until);
        let bucket = &mut self.bucket;
        self.folds.close(now, |fold| {
            let told = bucket.take(now, fold.name(), limit);
            if told {
                made.push(fold.made());
            }
            told
        });
        if self.held.deadline().is_some_and(|at| at <= now) {
            made.push(self.held.take(context));
        }
        if self.gap_not_before <= now
            && let Some(gap) = self.gap.take()
        {
            self.gap_not_before = now.saturating_add(MINUTE);
            made.push(of_agent(&gap.text(), 0, gap.data(), context));
        }
        if room && !self.dropped.is_none() {
            let dropped = std::mem::take(&mut self.dropped);
            made.push(of_agent(&dropped.text(), dropped.entries, dropped.data(), context));
        }
        self.changed(now);
        made
    }

    fn tell_at(&self, settings: &Settings) -> Option<Duration> {
        let ready = |name: &str| self.bucket.next(name, settings.max_per_minute);
        let gap = self.gap.as_ref().map(|_| self.gap_not_before);
        let matches = self.matches.iter().map(|(_, until)| *until).min();
        let at = [self.folds.deadline(ready), self.held.deadline(), gap, matches];
        at.into_iter().flatten().min()
    }

    /// When there is something to do without another event.
    pub(super) fn deadline(&self, settings: &Settings) -> Option<Duration> {
        let save = self.unsaved.map(|since| since.saturating_add(SAVE));
        let at = [self.tell_at(settings), self.owe_at(), save];
        at.into_iter().flatten().min()
    }

    /// Whether the code of this rule holds because of an entry.
    pub(super) fn matched(&self, code: i64, now: Duration) -> bool {
        self.matches.iter().any(|(known, until)| *known == code && now < *until)
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn folds(&self) -> &Folds {
        &self.folds
    }

    /// Logs that went, and the entries that they stood for.
    pub(super) fn lost(&self) -> (u64, u64) {
        (self.dropped.logs, self.dropped.entries)
    }

    pub(super) fn in_last_minute(&self, now: Duration) -> usize {
        self.bucket.taken(now)
    }

    /// For the disk. What a newer version had there stays.
    pub(super) fn to_snapshot(&self, before: &Snapshot, now: Duration) -> Snapshot {
        let matched = |(code, until): &(i64, Duration)| Match {
            code: *code,
            left_ms: super::millis(until.saturating_sub(now)),
        };
        Snapshot {
            cursor: self.cursor.clone(),
            folds: self.folds.to_record(now),
            tokens: self.bucket.to_record(now),
            held: self.held.to_record(now),
            keys: self.keys.clone(),
            gap: self.gap.clone(),
            dropped: self.dropped.clone(),
            matches: self.matches.iter().map(matched).collect(),
            extra: before.extra.clone(),
        }
    }

    /// After a start. While the agent did not run no time has passed: no token came back, no code ran out.
    pub(super) fn restore(snapshot: &Snapshot, now: Duration) -> Self {
        let matched = |known: &Match| (known.code, now.saturating_add(Duration::from_millis(known.left_ms)));
        Journal {
            cursor: snapshot.cursor.clone(),
            folds: Folds::restore(&snapshot.folds, now),
            bucket: Bucket::restore(&snapshot.tokens, now),
            held: Held::restore(snapshot.held.as_ref(), now),
            keys: snapshot.keys.clone(),
            gap: snapshot.gap.clone(),
            gap_not_before: Duration::ZERO,
            dropped: snapshot.dropped.clone(),
            matches: snapshot.matches.iter().map(matched).collect(),
            ready: Vec::new(),
            owed: None,
            unsaved: None,
            taken: 0,
        }
    }
}

impl Lost {
    fn data(&self) -> Map<String, Value> {
        let mut data = Map::from_iter([("gap".to_owned(), self.times.into())]);
        data.extend(
            self.after
                .as_ref()
                .map(|after| ("cursor".to_owned(), after.as_str().into())),
        );
        data.extend(self.at_most.map(|at_most| ("at_most".to_owned(), at_most.into())));
        data
    }

    fn text(&self) -> String {
        let many = match self.at_most {
            Some(1) => ", at most one".to_owned(),
            Some(at_most) => format!(", at most {at_most} of any priority"),
            None => String::new(),
        };
        let times = match self.times {
            1 => String::new(),
            times => format!("; {times} times, this is the last reason"),
        };
        format!(
            "the journal has lost entries before they were read{many}: {}{times}",
            self.reason
        )
    }
}

impl Dropped {
    fn data(&self) -> Map<String, Value> {
        let mut data = Map::from_iter([
            ("dropped".to_owned(), self.logs.into()),
            ("count".to_owned(), self.entries.into()),
        ]);
        data.extend(
            self.first
                .as_ref()
                .map(|first| ("cursor".to_owned(), first.as_str().into())),
        );
        data
    }

    fn text(&self) -> String {
        let plural = |count: u64, one: &str, more: &str| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {more}"),
        };
        let logs = plural(self.logs, "log was", "logs were");
        let entries = plural(self.entries, "entry", "entries");
        format!("{logs} dropped before the service had them, for {entries} of the journal: there was no room for more")
    }
}

#[cfg(test)]
mod tests;
