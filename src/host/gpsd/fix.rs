//! What counts as a fix, out of what gpsd says: pure.
//!
//! The mode decides, never `status`, which is optional and unreliable. What is out of range is absent.
//! Facts: gpsd_json(5), "TPV".

use std::time::Duration;

use super::super::clock::EARLIEST;
use super::message::Tpv;

/// GPS counts weeks with ten bits, so a receiver that lost count is wrong by a multiple of 1024 weeks. A time between
/// [`EARLIEST`] and that much later is the only one of its kind that can be true.
const ERA: i64 = 1024 * 7 * 24 * 3600;
/// In metres; more than any gateway has under or above it.
const LOWEST: f64 = -12_000.0;
const HIGHEST: f64 = 100_000.0;
/// In metres: an error estimate from here on says that nothing is known.
const WORST: f64 = 1_000_000.0;

/// Whether the altitude is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Mode 2: latitude and longitude.
    TwoD,
    /// Mode 3.
    ThreeD,
}

/// A position that gpsd calls one (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Decimal degrees, -90 to 90.
    pub latitude: f64,
    /// Decimal degrees, -180 to 180.
    pub longitude: f64,
    /// Metres, -12,000 to 100,000: above the sea, else above the ellipsoid, else above whatever gpsd means. Only in
    /// three dimensions; `None` when unknown.
    pub altitude: Option<f64>,
    /// The estimated horizontal error in metres, more than 0: `eph`, else the larger of `epx` and `epy` (as gpsd itself
    /// makes an `eph` of them). `None` when unknown. Receivers do not say how likely it is.
    pub accuracy: Option<f64>,
    /// Two dimensions or three.
    pub mode: Mode,
    /// When it was measured, in seconds since 1970, if that time can be true.
    pub time: Option<i64>,
    /// When it was heard, in time since boot.
    pub heard: Duration,
}

impl Fix {
    /// The fix in a report, if there is one.
    pub(super) fn of(tpv: &Tpv, heard: Duration) -> Option<Self> {
        let mode = match tpv.mode {
            Some(2) => Mode::TwoD,
            Some(3) => Mode::ThreeD,
            _ => return None,
        };
        let altitude = tpv.above_sea.or(tpv.above_ellipsoid).or(tpv.altitude);
        let error = |metres: &f64| *metres > 0.0 && *metres < WORST;
        let both = || Some(tpv.epx.filter(error)?.max(tpv.epy.filter(error)?));
        Some(Fix {
            latitude: tpv.latitude.filter(|degrees| degrees.abs() <= 90.0)?,
            longitude: tpv.longitude.filter(|degrees| degrees.abs() <= 180.0)?,
            altitude: altitude.filter(|metres| mode == Mode::ThreeD && (LOWEST..=HIGHEST).contains(metres)),
            accuracy: tpv.eph.filter(error).or_else(both),
            mode,
            time: tpv.time.filter(|at| (EARLIEST..EARLIEST + ERA).contains(at)),
            heard,
        })
    }

    /// Whether it tells all that a fix can tell, so that it is not worth to wait for another.
    pub(super) fn is_complete(&self) -> bool {
        self.mode == Mode::ThreeD && self.altitude.is_some() && self.accuracy.is_some()
    }

    /// Whether it is worth more than another one of the same moment.
    pub(super) fn beats(&self, other: &Fix) -> bool {
        let rank = |fix: &Fix| (fix.accuracy.is_some(), fix.mode, fix.altitude.is_some());
        let (mine, others) = (rank(self), rank(other));
        mine > others || mine == others && self.accuracy <= other.accuracy
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tpv() -> Tpv {
        Tpv {
            mode: Some(3),
            latitude: Some(48.1),
            longitude: Some(11.5),
            ..Tpv::default()
        }
    }

    fn of(tpv: Tpv) -> Option<Fix> {
        Fix::of(&tpv, Duration::from_secs(7))
    }

    #[test]
    fn only_mode_2_and_3_count() {
        for mode in [None, Some(-1), Some(0), Some(1), Some(4)] {
            assert_eq!(of(Tpv { mode, ..tpv() }), None, "{mode:?}");
        }
        let two = of(Tpv { mode: Some(2), ..tpv() }).unwrap();
        assert_eq!((two.mode, two.heard), (Mode::TwoD, Duration::from_secs(7)));
        assert_eq!(of(tpv()).unwrap().mode, Mode::ThreeD);
    }

    #[test]
    fn loc_01_a_position_out_of_range_or_half_of_one_is_no_fix() {
        for (latitude, longitude) in [
            (Some(91.0), Some(0.0)),
            (Some(-90.000_001), Some(0.0)),
            (Some(0.0), Some(180.5)),
            (Some(0.0), None),
            (None, Some(0.0)),
        ] {
            let wrong = Tpv {
                latitude,
                longitude,
                ..tpv()
            };
            assert_eq!(of(wrong), None, "{latitude:?} {longitude:?}");
        }
        let pole = Tpv {
            latitude: Some(-90.0),
            longitude: Some(180.0),
            ..tpv()
        };
        assert!(of(pole).is_some());
    }

    #[test]
    fn loc_02_the_altitude_is_the_first_that_is_known_and_0_is_one() {
        let altitude = |above_sea, above_ellipsoid, altitude| {
            let tpv = Tpv {
                above_sea,
                above_ellipsoid,
                altitude,
                ..tpv()
            };
            of(tpv).unwrap().altitude
        };
        assert_eq!(altitude(Some(0.0), Some(47.0), Some(3.0)), Some(0.0));
        assert_eq!(altitude(None, Some(47.0), Some(3.0)), Some(47.0));
        assert_eq!(altitude(None, None, Some(3.0)), Some(3.0));
        assert_eq!(altitude(None, None, None), None);
        assert_eq!(
            altitude(Some(1e9), Some(47.0), None),
            None,
            "nonsense is not replaced by a guess"
        );
        let flat = Tpv {
            mode: Some(2),
            above_sea: Some(520.0),
            ..tpv()
        };
        assert_eq!(of(flat).unwrap().altitude, None, "two dimensions have no third");
    }

    #[test]
    fn loc_02_the_accuracy_is_never_0_for_unknown() {
        let accuracy = |eph, epx, epy| of(Tpv { eph, epx, epy, ..tpv() }).unwrap().accuracy;
        assert_eq!(accuracy(Some(17.1), Some(3.0), Some(4.0)), Some(17.1));
        assert_eq!(accuracy(None, Some(3.0), Some(4.0)), Some(4.0));
        assert_eq!(accuracy(Some(0.0), Some(5.0), Some(4.0)), Some(5.0));
        assert_eq!(accuracy(None, Some(3.0), None), None, "half of it is not known");
        assert_eq!(accuracy(Some(0.0), None, None), None);
        assert_eq!(accuracy(Some(-1.0), None, None), None);
        assert_eq!(accuracy(Some(5e6), None, None), None);
    }

    #[test]
    fn a_time_that_cannot_be_true_is_left_out_and_the_position_stays() {
        let time = |text: &str| {
            let line = format!(r#"{{"class":"TPV","mode":2,"lat":1,"lon":2,"time":"{text}"}}"#);
            let super::super::message::Message::Tpv(tpv) = super::super::message::Message::parse(line.as_bytes())
            else {
                panic!("{line}");
            };
            of(tpv).unwrap().time
        };
        assert_eq!(time("2026-11-23T08:46:12.060Z"), Some(1_795_423_572));
        assert_eq!(time("1970-01-01T00:00:00.000Z"), None);
        assert_eq!(time("2007-04-09T08:46:12.000Z"), None, "1024 weeks too early");
        assert_eq!(time("2046-07-09T08:46:12.000Z"), None, "1024 weeks too late");
        assert_eq!(time("9999-12-31T23:59:59.999Z"), None);
    }

    #[test]
    fn of_two_fixes_the_one_that_says_more_is_taken_then_the_more_accurate_then_the_later() {
        let fix = |accuracy, mode| Fix {
            accuracy,
            mode,
            ..of(tpv()).unwrap()
        };
        assert!(fix(Some(9.0), Mode::TwoD).beats(&fix(None, Mode::ThreeD)));
        assert!(fix(None, Mode::ThreeD).beats(&fix(None, Mode::TwoD)));
        assert!(fix(Some(5.0), Mode::ThreeD).beats(&fix(Some(9.0), Mode::ThreeD)));
        assert!(!fix(Some(9.0), Mode::ThreeD).beats(&fix(Some(5.0), Mode::ThreeD)));
        assert!(fix(Some(5.0), Mode::ThreeD).beats(&fix(Some(5.0), Mode::ThreeD)));
    }

    proptest! {
        #[test]
        fn loc_01_whatever_gpsd_says_a_fix_is_in_range(
            mode in 0i64..5, numbers: [f64; 7], present: [bool; 7], time: Option<i64>,
        ) {
            let at = |nth: usize| present[nth].then_some(numbers[nth]).filter(|number| number.is_finite());
            let said = Tpv {
                mode: Some(mode),
                latitude: at(0).map(|n| n % 100.0),
                longitude: at(1).map(|n| n % 200.0),
                above_sea: at(2),
                above_ellipsoid: at(3),
                eph: at(4),
                epx: at(5),
                epy: at(6),
                altitude: None,
                time,
            };
            if let Some(fix) = of(said) {
                prop_assert!((-90.0..=90.0).contains(&fix.latitude) && (-180.0..=180.0).contains(&fix.longitude));
                prop_assert!(fix.altitude.is_none_or(|metres| (LOWEST..=HIGHEST).contains(&metres)));
                prop_assert!(fix.accuracy.is_none_or(|metres| metres > 0.0 && metres < WORST));
            }
        }
    }
}
