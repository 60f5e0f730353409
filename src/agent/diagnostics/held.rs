//! What the buckets have refused is told by its number, once a minute: how many of which unit.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

use super::bucket::MINUTE;
use super::count::Count;
use super::entry::Entry;
use super::log::{Context, Made, of_count, span};

/// So many units are counted by their names.
const MOST: usize = 64;
/// So many are named in the text; `data` has them all.
const NAMED: usize = 8;

/// What was held back since the last summary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    since: Duration,
    kept: Kept,
}

/// The same on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Milliseconds until it is told.
    left_ms: u64,
    count: Count,
    /// By unit, or by what calls itself so.
    names: Vec<(String, u64)>,
    /// Of all other units.
    others: u64,
}

impl Held {
    fn begin(&mut self, now: Duration) {
        if self.is_empty() {
            self.since = now;
        }
    }

    fn name(&mut self, name: &str, entries: u64) {
        let names = &mut self.kept.names;
        if let Some((_, count)) = names.iter_mut().find(|(known, _)| known == name) {
            *count += entries;
        } else if names.len() < MOST {
            names.push((name.to_owned(), entries));
        } else {
            self.kept.others += entries;
        }
    }

    /// An entry for which there was no token.
    pub(super) fn add(&mut self, entry: &Entry, context: &Context<'_>) {
        self.begin(context.now.boottime);
        self.kept.count.add(entry, context);
        self.name(entry.name(), 1);
    }

    /// Entries of a kind whose number cannot be told by itself.
    pub(super) fn add_all(&mut self, name: &str, count: Count, now: Duration) {
        self.begin(now);
        self.name(name, count.entries);
        self.kept.count.add_all(count);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.count.entries == 0
    }

    /// When the summary is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| self.since.saturating_add(MINUTE))
    }

    /// The summary. What comes now is counted anew.
    pub(super) fn take(&mut self, context: &Context<'_>) -> Made {
        let mut kept = std::mem::take(&mut self.kept);
        kept.names.sort_by(|(_, a), (_, b)| b.cmp(a));
        let named = kept.names.iter().take(NAMED);
        let mut parts: Vec<_> = named.map(|(name, count)| format!("{count} of {name}")).collect();
        let others = kept.others + kept.names.iter().skip(NAMED).map(|(_, count)| count).sum::<u64>();
        if others > 0 {
            parts.push(format!("{others} of others"));
        }
        let text = format!(
            "held back{}: {}: more than {} logs in a minute, or more than half of them from one unit",
            span(&kept.count),
            parts.join(", "),
            context.settings.max_per_minute,
        );
        let names = kept.names.into_iter();
        let mut units: Map<String, Value> = names.map(|(name, count)| (name, count.into())).collect();
        if kept.others > 0 {
            units.insert("others".into(), kept.others.into());
        }
        let about = Map::from_iter([("held_back".to_owned(), Value::Object(units))]);
        of_count(&text, &kept.count, about)
    }

    /// How many, by name; others last.
    pub(super) fn by_name(&self) -> Map<String, Value> {
        let names = self.kept.names.iter();
        let mut map: Map<_, _> = names.map(|(name, count)| (name.clone(), (*count).into())).collect();
        if self.kept.others > 0 {
            map.insert("others".into(), self.kept.others.into());
        }
        map
    }

    /// How many in all.
    #[cfg(test)]
    pub(super) fn entries(&self) -> u64 {
        self.kept.count.entries
    }

    pub(super) fn to_record(&self, now: Duration) -> Option<Kept> {
        let due = self.deadline()?;
        Some(Kept {
            left_ms: super::millis(due.saturating_sub(now)),
            ..self.kept.clone()
        })
    }

    pub(super) fn restore(record: Option<&Kept>, now: Duration) -> Self {
        let Some(kept) = record else { return Held::default() };
        let left = Duration::from_millis(kept.left_ms).min(MINUTE);
        Held {
            // The time since boot may be less than a minute now: the summary comes up to a minute late then.
            since: now.saturating_add(left).saturating_sub(MINUTE),
            kept: kept.clone(),
        }
    }
}
