//! The batch that is being collected, and its bounds.

use super::cursor;
use super::{Batch, Entry, Gap, Options};

/// No reason is added to reasons that are longer together, in bytes.
const REASON: usize = 500;

/// What was read since the last batch went out.
#[derive(Debug, Default)]
pub(super) struct Collected {
    entries: Vec<Entry>,
    /// Of the texts.
    bytes: usize,
    gap: Option<Gap>,
    /// Everything up to here has been read, whatever of it counted. Stays when a batch goes.
    seen: Option<String>,
    /// There is a position that is worth a batch without entries.
    keep_position: bool,
}

impl Collected {
    /// Goes on after this one.
    pub(super) fn after(seen: Option<String>) -> Self {
        Self {
            seen,
            ..Self::default()
        }
    }

    pub(super) fn seen(&self) -> Option<&str> {
        self.seen.as_deref()
    }

    /// Everything up to `cursor` has been read, without an entry that counts.
    pub(super) fn move_to(&mut self, cursor: String) {
        self.keep_position |= self.seen.as_ref() != Some(&cursor);
        self.seen = Some(cursor);
    }

    /// What was read so far says nothing about where to go on.
    pub(super) fn forget_position(&mut self) {
        self.seen = None;
    }

    /// Takes an entry that journalctl gave, unless it was read before; leaves it out if it does not count.
    pub(super) fn take(&mut self, mut entry: Entry, options: &Options) {
        if self.seen().is_some_and(|seen| cursor::is_read(&entry.cursor, seen)) {
            return;
        }
        self.seen = Some(entry.cursor.clone());
        if counts(&entry, options) {
            self.bytes += size(&entry);
            entry.watched = is_watched(&entry, options);
            self.entries.push(entry);
        }
    }

    /// Something is missing here.
    pub(super) fn missing(&mut self, gap: Gap) {
        tracing::warn!(
            at_most = gap.at_most,
            "entries of the journal are missing: {}",
            gap.reason
        );
        self.gap = Some(match self.gap.take() {
            None => gap,
            Some(before) => Gap {
                reason: match before.reason.contains(&gap.reason) || before.reason.len() > REASON {
                    true => before.reason,
                    false => format!("{}; {}", before.reason, gap.reason),
                },
                at_most: before
                    .at_most
                    .zip(gap.at_most)
                    .map(|(one, other)| one.saturating_add(other)),
            },
        });
    }

    pub(super) fn is_full(&self, options: &Options) -> bool {
        self.entries.len() >= options.most_entries || self.bytes >= options.most_bytes
    }

    /// Whether there is anything to hand over. Something that is missing waits until there is a position to tell it at.
    pub(super) fn is_due(&self) -> bool {
        !self.entries.is_empty() || (self.gap.is_some() || self.keep_position) && self.seen.is_some()
    }

    /// The batch, if there is anything to hand over.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if !self.is_due() {
            return None;
        }
        self.bytes = 0;
        self.keep_position = false;
        Some(Batch {
            entries: std::mem::take(&mut self.entries),
            cursor: self.seen.clone()?,
            gap: self.gap.take(),
        })
    }
}

/// Whether an entry that came through journalctl's filter is one of those that are followed.
fn counts(entry: &Entry, options: &Options) -> bool {
    let among = |units: &[String], name: &Option<String>| name.as_ref().is_some_and(|name| units.contains(name));
    let wanted = options.units.is_empty() || among(&options.units, &entry.unit) || among(&options.units, &entry.about);
    wanted && !among(&options.exclude_units, &entry.unit)
}

/// Whether it would not be here but for the ids that are watched.
fn is_watched(entry: &Entry, options: &Options) -> bool {
    let among = |ids: &[String]| entry.message_id.as_ref().is_some_and(|id| ids.contains(id));
    entry.priority > options.priority && among(&options.watched_ids) && !among(&options.message_ids)
}

fn size(entry: &Entry) -> usize {
    let word = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let words = [&entry.unit, &entry.identifier, &entry.message_id, &entry.about];
    entry.message.len() + entry.cursor.len() + entry.boot_id.len() + words.into_iter().map(word).sum::<usize>()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            cursor: format!("s=1;i={number:x};b=0f0e0d0c0b0a09080706050403020100;m={number:x};t=1;x=1"),
            boot_id: String::new(),
            realtime_us: 0,
            priority: 3,
            unit: Some("modbus.service".into()),
            identifier: None,
            pid: None,
            message_id: None,
            message: "lost".into(),
            cut: 0,
            about: None,
            watched: false,
        }
    }

    fn options() -> Options {
        Options {
            most_entries: 3,
            most_bytes: 10_000,
            ..Options::new("0f0e0d0c0b0a09080706050403020100")
        }
    }

    #[test]
    fn a_batch_has_what_came_since_the_last_one_and_the_position_behind_it() {
        let mut collected = Collected::default();
        assert_eq!(collected.batch(), None);
        for number in [1, 2] {
            collected.take(entry(number), &options());
        }
        assert!(!collected.is_full(&options()));
        let batch = collected.batch().unwrap();
        assert_eq!((batch.entries.len(), &batch.cursor), (2, &entry(2).cursor));
        assert_eq!(collected.batch(), None);
    }

    #[test]
    fn a_batch_is_full_by_entries_and_by_bytes() {
        let mut collected = Collected::default();
        for number in 1..=3 {
            collected.take(entry(number), &options());
        }
        assert!(collected.is_full(&options()));
        let mut collected = Collected::default();
        let long = Entry {
            message: "x".repeat(10_000),
            ..entry(1)
        };
        collected.take(long, &options());
        assert!(collected.is_full(&options()));
    }

    #[test]
    fn an_entry_that_comes_again_is_left_out() {
        let mut collected = Collected::after(Some(entry(5).cursor));
        for number in [5, 4, 6, 6] {
            collected.take(entry(number), &options());
        }
        assert_eq!(collected.batch().unwrap().entries, [entry(6)]);
    }

    #[test]
    fn entries_of_left_out_units_move_the_position_and_make_no_batch_of_their_own() {
        let quiet = Options {
            exclude_units: vec!["modbus.service".into()],
            ..options()
        };
        let mut collected = Collected::default();
        collected.take(entry(1), &quiet);
        assert_eq!(collected.batch(), None);
        let other = Entry { unit: None, ..entry(2) };
        collected.take(other.clone(), &quiet);
        collected.take(entry(3), &quiet);
        let batch = collected.batch().unwrap();
        assert_eq!((batch.entries, batch.cursor), (vec![other], entry(3).cursor));
    }

    #[test]
    fn of_named_units_those_count_that_an_entry_is_from_or_about() {
        let only = Options {
            units: vec!["modbus.service".into()],
            ..options()
        };
        let of_manager = Entry {
            unit: Some("init.scope".into()),
            about: Some("modbus.service".into()),
            ..entry(2)
        };
        assert!(counts(&entry(1), &only) && counts(&of_manager, &only));
        let other = Entry {
            about: None,
            ..of_manager
        };
        assert!(!counts(&other, &only));
    }

    #[test]
    fn what_is_missing_is_told_once_there_is_a_position_and_two_reasons_are_both_told() {
        let gap = |reason: &str, at_most| Gap {
            reason: reason.into(),
            at_most,
        };
        let mut collected = Collected::default();
        collected.missing(gap("vacuumed", Some(7)));
        assert_eq!(collected.batch(), None, "there is nowhere to go on after");
        collected.missing(gap("vacuumed", Some(1)));
        collected.missing(gap("corrupted", Some(2)));
        collected.move_to("c".into());
        assert_eq!(
            collected.batch().unwrap().gap,
            Some(gap("vacuumed; corrupted", Some(10)))
        );
        collected.missing(gap("vacuumed", Some(1)));
        collected.missing(gap("corrupted", None));
        assert_eq!(collected.batch().unwrap().gap.unwrap().at_most, None);
    }
}
