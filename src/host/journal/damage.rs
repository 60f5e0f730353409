//! What journalctl says when it cannot read a file, or a part of one, and whether that concerns who has read up to here.
//!
//! journalctl goes on with the other files, ends well, and says so on its standard error only; in the middle of a file only
//! at the level `debug`. Facts: tried with systemd 252 and 257; the names of the files: systemd-journald.service(8).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::cursor::Parts;

/// How long journalctl must not have said it before it is news again.
const NEWS: Duration = Duration::from_secs(60);

/// What one journalctl complains of. It names each entry of a place that a power cut broke, a thousand in a row.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// When each was said last.
    said: HashMap<String, Instant>,
}

impl Complaints {
    /// `None` for a line that tells of no damage, or of one that was told.
    pub(super) fn news(&mut self, line: &str, now: Instant) -> Option<Damage> {
        let damage = Damage::of(line)?;
        self.said.retain(|_, at| now.saturating_duration_since(*at) < NEWS);
        let told = self.said.insert(damage.said.clone(), now).is_some();
        (!told).then_some(damage)
    }
}

/// A file that was left out, or entries of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// In journalctl's words.
    pub(super) said: String,
    /// The file, where it was left out as a whole.
    file: Option<String>,
}

impl Damage {
    /// `None` for a line that tells of no damage.
    fn of(line: &str) -> Option<Self> {
        let whole = line
            .strip_prefix("Journal file ")
            .filter(|rest| rest.ends_with("ignoring file."));
        let middle = line.starts_with("Can't iterate through ") || line.ends_with(" is bad, skipping over it.");
        if whole.is_none() && !middle {
            return None;
        }
        let file = whole.map(|rest| rest.split(' ').next().unwrap_or(rest).to_owned());
        // The number of the entry says nothing to anybody, and each would be another one.
        let said = match line.starts_with("Entry ") {
            true => "entries of a file are bad, skipping over them".to_owned(),
            false => line.to_owned(),
        };
        Some(Self { said, file })
    }

    /// Whether entries after `seen` may be lost by it. A file that is left out is named at every start, until journald
    /// removes it; its name says where it begins.
    pub(super) fn concerns(&self, seen: Option<&str>) -> bool {
        let (Some(file), Some(seen)) = (&self.file, seen.and_then(Parts::of)) else {
            return true;
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let name = file.rsplit('/').next().unwrap_or(file);
        let Some((_, name)) = name.split_once('@') else {
            return true;
        };
        if let Some(name) = name.strip_suffix(".journal~") {
            // put aside at that time
            let at = name.split('-').next().and_then(hex);
            return at.zip(seen.realtime()).is_none_or(|(at, seen)| at > seen);
        }
        let mut parts = name.trim_end_matches(".journal").split('-');
        let (sequence, first, at) = (parts.next(), parts.next().and_then(hex), parts.next().and_then(hex));
        match first {
            Some(first) if sequence == Some(seen.sequence) => first > seen.number,
            _ => at.zip(seen.realtime()).is_none_or(|(at, seen)| at > seen),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SEEN: &str = "s=c30437cf791b4fbd9fe9cbea00ef5240;i=1a;b=0f0e0d0c0b0a09080706050403020100;m=f4240;t=65f450ade8000;x=dd7c02a8f73af9dd";

    #[test]
    fn only_what_leaves_entries_out_is_damage() {
        for line in [
            "Journal file /var/log/journal/1/system.journal is truncated, ignoring file.",
            "Journal file /var/log/journal/1/system.journal corrupted, ignoring file.",
            "Can't iterate through /var/log/journal/1/system.journal, ignoring: Bad message",
            "Entry item 56624 is bad, skipping over it.",
        ] {
            assert!(Damage::of(line).is_some(), "{line}");
        }
        for line in [
            "",
            "Journal filter: none",
            "File /var/log/journal/1/system.journal added.",
            "Attempt to move to uninitialized object: 24829992",
        ] {
            assert_eq!(Damage::of(line), None, "{line}");
        }
        assert_eq!(
            Damage::of("Entry item 1 is bad, skipping over it."),
            Damage::of("Entry item 2 is bad, skipping over it.")
        );
    }

    #[test]
    fn a_thousand_bad_entries_are_one_piece_of_news_until_it_was_quiet_for_a_minute() {
        let (mut complaints, began) = (Complaints::default(), Instant::now());
        let mut news = |line: &str, second: u64| complaints.news(line, began + Duration::from_secs(second)).is_some();
        let told = (0..1000).filter(|nth| news(&format!("Entry item {nth} is bad, skipping over it."), nth / 100));
        assert_eq!(told.count(), 1);
        assert!(news("Journal file /a.journal corrupted, ignoring file.", 9));
        assert!(!news("File /a.journal added.", 9));
        for second in [60, 119, 178] {
            assert!(!news("Entry item 7 is bad, skipping over it.", second), "it goes on");
        }
        assert!(news("Entry item 7 is bad, skipping over it.", 238));
    }

    #[test]
    fn a_file_that_ended_before_what_was_read_concerns_nobody() {
        let concerns = |name: &str| {
            let line = format!("Journal file /var/log/journal/1/{name} corrupted, ignoring file.");
            Damage::of(&line).unwrap().concerns(Some(SEEN))
        };
        let sequence = "system@c30437cf791b4fbd9fe9cbea00ef5240";
        assert!(!concerns(&format!(
            "{sequence}-0000000000000001-00065f450ade7000.journal"
        )));
        assert!(concerns(&format!(
            "{sequence}-000000000000001b-00065f450ade9000.journal"
        )));
        let other = "system@00000000000000000000000000000001";
        assert!(!concerns(&format!("{other}-000000000000001b-00065f450ade7000.journal")));
        assert!(concerns(&format!("{other}-0000000000000001-00065f450ade9000.journal")));
        assert!(!concerns("system@00065f450ade7000-b3a5a34b0e6ae4c1.journal~"));
        assert!(concerns("system@00065f450ade9000-b3a5a34b0e6ae4c1.journal~"));
        assert!(concerns("system.journal"));
        assert!(concerns("system@odd.journal"));
    }
}
