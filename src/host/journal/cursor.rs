//! A cursor's parts: which entry is meant, and which of two comes first.
//!
//! For seeking a cursor is opaque and handed to journalctl as it is. The parts are only compared, and what has none is
//! still a cursor. Facts: systemd's JOURNAL_FILE_FORMAT and `sd_journal_get_cursor(3)`:
//! `s=ID;i=HEX;b=ID;m=HEX;t=HEX;x=HEX`, the id and the number of the sequence, boot, monotonic time, wall clock, a
//! hash of the content.

/// No cursor is longer, in bytes. Today's have about 130.
const LONGEST: usize = 512;

/// The parts of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The sequence: one for each set of files that one journald writes.
    pub(super) sequence: &'a str,
    /// The number in it, counted from 1 over entries of every priority.
    pub(super) number: u64,
    pub(super) boot: &'a str,
    /// The rest, which together with the boot names an entry that journald has copied to another file.
    rest: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` for a cursor that looks otherwise.
    pub(super) fn of(cursor: &'a str) -> Option<Self> {
        let (sequence, cursor) = cursor.strip_prefix("s=")?.split_once(";i=")?;
        let (number, cursor) = cursor.split_once(";b=")?;
        let (boot, rest) = cursor.split_once(';')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        let whole = boot.len() == 32 && !sequence.is_empty() && rest.starts_with("m=");
        whole.then_some(Self {
            sequence,
            number,
            boot,
            rest,
        })
    }

    /// Whether both are the same entry, in the same file or in a copy.
    pub(super) fn is(&self, other: &Parts<'_>) -> bool {
        match self.sequence == other.sequence {
            true => self.number == other.number && self.boot == other.boot,
            false => self.boot == other.boot && self.rest == other.rest,
        }
    }

    /// Whether this one was written after the other; `None` when they cannot be compared.
    pub(super) fn is_after(&self, other: &Parts<'_>) -> Option<bool> {
        let comparable = self.sequence == other.sequence && self.boot == other.boot;
        comparable.then_some(self.number > other.number)
    }

    /// Whether this one was written before the other in the same boot, as far as the time since then says.
    fn is_earlier(&self, other: &Parts<'_>) -> bool {
        let times = self.monotonic().zip(other.monotonic());
        self.boot == other.boot && self.sequence != other.sequence && times.is_some_and(|(one, other)| one < other)
    }

    /// Microseconds since the boot.
    fn monotonic(&self) -> Option<u64> {
        let (monotonic, _) = self.rest.strip_prefix("m=")?.split_once(';')?;
        u64::from_str_radix(monotonic, 16).ok()
    }

    /// Microseconds since 1970, by the clock of that moment.
    pub(super) fn realtime(&self) -> Option<u64> {
        let (_, rest) = self.rest.split_once(";t=")?;
        u64::from_str_radix(rest.split(';').next()?, 16).ok()
    }

    /// How many entries there were between the other and this one; `None` when nobody knows.
    pub(super) fn between(&self, other: &Parts<'_>) -> Option<u64> {
        (self.sequence == other.sequence).then(|| self.number.saturating_sub(other.number).saturating_sub(1))
    }
}

/// Whether it can be handed to journalctl at all.
pub(super) fn is_plausible(cursor: &str) -> bool {
    !cursor.is_empty() && cursor.len() <= LONGEST && cursor.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether `one` and `other` name the same entry.
pub(super) fn same(one: &str, other: &str) -> bool {
    one == other
        || match (Parts::of(one), Parts::of(other)) {
            (Some(one), Some(other)) => one.is(&other),
            _ => false,
        }
}

/// Whether the entry at `cursor` has been read when everything up to `seen` has. Of two sequences in one boot the time
/// since the boot decides, whatever the clock did.
pub(super) fn is_read(cursor: &str, seen: &str) -> bool {
    cursor == seen
        || match (Parts::of(cursor), Parts::of(seen)) {
            (Some(one), Some(seen)) => one.is(&seen) || one.is_after(&seen) == Some(false) || one.is_earlier(&seen),
            _ => false,
        }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FIRST: &str = "s=c30437cf791b4fbd9fe9cbea00ef5240;i=1a;b=0f0e0d0c0b0a09080706050403020100;m=f4240;t=65f450ade8000;x=dd7c02a8f73af9dd";

    fn with(from: &str, to: &str) -> String {
        assert!(FIRST.contains(from));
        FIRST.replace(from, to)
    }

    #[test]
    fn the_distance_of_two_entries_is_counted_by_their_numbers_in_one_sequence_only() {
        let first = Parts::of(FIRST).unwrap();
        let (later, other) = (with("i=1a", "i=1f"), with("s=c", "s=d"));
        let (later, other) = (Parts::of(&later).unwrap(), Parts::of(&other).unwrap());
        assert_eq!(later.between(&first), Some(4));
        assert_eq!(
            (later.is_after(&first), first.is_after(&later)),
            (Some(true), Some(false))
        );
        assert_eq!(first.between(&first), Some(0));
        assert_eq!((other.between(&first), other.is_after(&first)), (None, None));
    }

    #[test]
    fn an_entry_that_journald_copied_to_another_file_is_the_same_one() {
        assert!(same(FIRST, &with("s=c3", "s=d3").replace("i=1a", "i=7")));
        assert!(!same(FIRST, &with("s=c3", "s=d3").replace("m=f4240", "m=f4241")));
        assert!(!same(FIRST, &with("i=1a", "i=1b")));
    }

    #[test]
    fn a_number_that_is_given_again_after_a_power_cut_is_another_entry() {
        let again = with("b=0f", "b=1f");
        assert!(!same(FIRST, &again));
        assert!(!is_read(&again, FIRST), "it would be lost");
        assert!(is_read(&with("i=1a", "i=19"), FIRST));
        assert!(!is_read(&with("i=1a", "i=1b"), FIRST));
    }

    #[test]
    fn of_two_sequences_in_one_boot_what_was_logged_earlier_was_read_though_the_clock_was_ahead() {
        let other = |m: &str, t: &str| with("s=c3", "s=d3").replace("m=f4240", m).replace("t=65f450ade8000", t);
        for clock in ["t=1", "t=65f450ade8000", "t=75f450ade8000"] {
            assert!(is_read(&other("m=f423f", clock), FIRST));
            assert!(!is_read(&other("m=f4241", clock), FIRST));
        }
        assert!(!is_read(&other("m=f4240", "t=1"), FIRST), "at the same time");
        assert!(
            !is_read(&other("m=1", "t=1").replace("b=0f", "b=1f"), FIRST),
            "of another boot"
        );
    }

    #[test]
    fn a_cursor_of_another_shape_is_only_equal_to_itself() {
        for odd in [
            "next;generation",
            "s=;i=1;b=2",
            "s=1;i=zz;b=0f0e0d0c0b0a09080706050403020100;m=1",
        ] {
            assert_eq!(Parts::of(odd), None, "{odd}");
            assert!(same(odd, odd) && is_read(odd, odd) && !same(odd, FIRST) && !is_read(FIRST, odd));
        }
    }

    #[test]
    fn what_cannot_be_an_argument_is_no_cursor() {
        assert!(is_plausible(FIRST));
        for wrong in ["", "a b", "a\0", "ä", &"x".repeat(LONGEST + 1)] {
            assert!(!is_plausible(wrong), "{wrong:?}");
        }
    }
}
