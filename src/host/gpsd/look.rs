//! One look at gpsd: what was said while it was listened to, and what that comes to. Pure.

use std::time::Duration;

use super::Report;
use super::fix::Fix;
use super::message::{Message, Tpv};
use super::trouble::Trouble;

/// What was heard since a look began.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Whether gpsd answered at all.
    answered: bool,
    devices: Option<Vec<String>>,
    /// The best fix so far.
    best: Option<Fix>,
    reports: Reports,
    error: Option<String>,
}

/// What the receivers told, at best.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Reports {
    /// Nothing.
    #[default]
    None,
    /// That they have no fix.
    NoFix,
    /// A fix, but no position that can be one.
    Unusable,
}

impl Look {
    /// Takes what gpsd said; `heard` is the time since boot.
    pub(super) fn hear(&mut self, message: &Message, heard: Duration) {
        match message {
            Message::Devices(paths) => {
                self.answered = true;
                self.devices = Some(paths.clone());
            }
            Message::Watch => self.answered = true,
            Message::Error(text) => {
                self.answered = true;
                self.error = Some(text.clone());
            }
            Message::Tpv(tpv) => {
                self.answered = true;
                self.tpv(tpv, heard);
            }
            Message::Version { .. } | Message::Other | Message::Garbage => {}
        }
    }

    fn tpv(&mut self, tpv: &Tpv, heard: Duration) {
        let Some(fix) = Fix::of(tpv, heard) else {
            let said = match tpv.mode {
                Some(2 | 3) => Reports::Unusable,
                _ => Reports::NoFix,
            };
            self.reports = std::mem::take(&mut self.reports).max(said);
            return;
        };
        if self.best.as_ref().is_none_or(|best| fix.beats(best)) {
            self.best = Some(fix);
        }
    }

    /// Whether gpsd answered at all. A gpsd that is alive answers each `?WATCH`.
    pub(super) fn answered(&self) -> bool {
        self.answered
    }

    /// Whether a receiver has told anything, be it that it has no fix.
    pub(super) fn was_told(&self) -> bool {
        self.best.is_some() || self.reports != Reports::None
    }

    /// Whether listening on can bring nothing better.
    pub(super) fn is_over(&self) -> bool {
        self.best.as_ref().is_some_and(Fix::is_complete) || self.devices.as_ref().is_some_and(Vec::is_empty)
    }

    /// What it comes to.
    pub(super) fn report(self) -> Report {
        let trouble = match (self.best, self.reports, self.devices) {
            (Some(fix), ..) => return Report::Fix(fix),
            (_, Reports::Unusable, _) => Trouble::Unusable,
            (_, Reports::NoFix, _) => Trouble::NoFix,
            (_, Reports::None, Some(paths)) if paths.is_empty() => Trouble::NoReceiver,
            (_, Reports::None, paths) => match self.error {
                Some(text) => Trouble::refused(&text),
                None => Trouble::silent(&paths.unwrap_or_default()),
            },
        };
        Report::Trouble(trouble)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn look(lines: &[&str]) -> Look {
        let mut look = Look::default();
        for line in lines {
            look.hear(&Message::parse(line.as_bytes()), Duration::ZERO);
        }
        look
    }

    fn trouble(lines: &[&str]) -> Trouble {
        match look(lines).report() {
            Report::Trouble(trouble) => trouble,
            Report::Fix(fix) => panic!("{lines:?}: {fix:?}"),
        }
    }

    const ONE: &str = r#"{"class":"DEVICES","devices":[{"path":"/dev/gps0"}]}"#;
    const NO_FIX: &str = r#"{"class":"TPV","mode":1}"#;
    const AWAY: &str = r#"{"class":"TPV","mode":3,"lat":91,"lon":11.5}"#;
    const FLAT: &str = r#"{"class":"TPV","mode":2,"lat":48.1,"lon":11.5,"eph":9}"#;
    const WHOLE: &str = r#"{"class":"TPV","mode":3,"lat":48.2,"lon":11.5,"eph":9,"altMSL":520}"#;

    #[test]
    fn a_look_tells_what_is_wrong() {
        assert_eq!(trouble(&[r#"{"class":"DEVICES","devices":[]}"#]), Trouble::NoReceiver);
        assert!(matches!(trouble(&[ONE]), Trouble::Silent { receivers } if receivers == "/dev/gps0"));
        assert_eq!(trouble(&[ONE, NO_FIX]), Trouble::NoFix);
        assert_eq!(trouble(&[ONE, AWAY, NO_FIX]), Trouble::Unusable);
        assert!(matches!(
            trouble(&[ONE, r#"{"class":"ERROR","message":"Can't open /dev/gps0"}"#]),
            Trouble::Refused { text } if text.contains("/dev/gps0")
        ));
    }

    #[test]
    fn a_look_ends_early_with_a_complete_fix_or_without_a_receiver_only() {
        assert!(look(&[ONE, NO_FIX, WHOLE]).is_over());
        assert!(look(&[r#"{"class":"DEVICES","devices":[]}"#]).is_over());
        let flat = look(&[ONE, FLAT]);
        assert!(flat.was_told() && !flat.is_over());
        assert!(look(&[ONE, NO_FIX]).was_told());
        assert!(!look(&[ONE]).was_told() && !look(&[ONE]).is_over());
        assert!(!look(&[]).answered() && look(&[r#"{"class":"WATCH"}"#]).answered());
        assert!(!look(&["220 mail.example.com ESMTP"]).answered());
    }

    #[test]
    fn the_best_fix_of_a_look_counts_whatever_else_is_said() {
        let Report::Fix(fix) = look(&[ONE, FLAT, WHOLE, AWAY, FLAT, NO_FIX]).report() else {
            panic!("there was a fix");
        };
        assert_eq!((fix.latitude, fix.altitude), (48.2, Some(520.0)));
    }
}
