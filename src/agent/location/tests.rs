//! The policy as values: each rule by an example, then its bounds over random walks.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const MUNICH: (f64, f64) = (48.137_154, 11.576_124);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(place: (f64, f64)) -> Fix {
    Fix {
        latitude: place.0,
        longitude: place.1,
        elevation: Some(520.04),
        accuracy: Some(10.0),
        measured: Some(1_795_423_572),
    }
}

/// So many metres further to the north and to the east.
fn moved(place: (f64, f64), north: f64, east: f64) -> (f64, f64) {
    let degree = 111_195.08;
    let latitude = place.0 + north / degree;
    let longitude = place.1 + east / (degree * place.0.to_radians().cos());
    (latitude, (longitude + 540.0).rem_euclid(360.0) - 180.0)
}

/// A location of which the service was told `MUNICH` at 0 s.
fn told() -> Location {
    let mut location = Location::default();
    location.fix(s(0), at(MUNICH));
    assert!(location.due(&Settings::default(), s(0)).is_some());
    location.answered(Answer::Taken);
    location
}

fn why(location: &Location, now: u64) -> String {
    let view = location.view(&Settings::default(), s(now));
    view.why.map(|why| why.to_string()).unwrap_or_default()
}

#[test]
fn the_first_fix_is_told_at_once_and_then_nothing_while_it_stands_still() {
    let settings = Settings::default();
    let mut location = Location::default();
    assert_eq!(location.due(&settings, s(5)), None);
    assert_eq!(location.deadline(&settings, s(5)), None);
    assert_eq!(why(&location, 5), "there was no fix yet");
    location.fix(s(7), at(MUNICH));
    assert_eq!(location.deadline(&settings, s(7)), Some(s(7)));
    assert!(location.due(&settings, s(7)).is_some());
    location.answered(Answer::Taken);
    for minute in 1..60 {
        let now = s(7 + 60 * minute);
        location.fix(now, at(moved(MUNICH, 5.0, -5.0)));
        assert_eq!(location.due(&settings, now), None, "{minute}");
    }
    assert_eq!(
        why(&location, 7 + 60 * 59),
        "it is 7 m from where the service was told last; more than 50 m are reported"
    );
}

#[test]
fn loc_01_loc_02_loc_03_what_is_told_is_a_location_of_the_protocol() {
    let settings = Settings::default();
    let bytes = |fix: Fix| {
        let mut location = Location::default();
        location.fix(s(0), fix);
        let wire = location.due(&settings, s(0)).unwrap();
        serde_json::to_string(&wire.to_object()).unwrap()
    };
    assert_eq!(
        bytes(at(MUNICH)),
        r#"{"longitude":11.57612,"latitude":48.13715,"elevation":520.0,"accuracy":10.8,"measuredDateTime":"2026-11-23T08:46:12Z"}"#
    );
    let bare = Fix {
        latitude: -0.000_000_1,
        longitude: -180.0,
        elevation: None,
        accuracy: None,
        measured: None,
    };
    assert_eq!(bytes(bare), r#"{"longitude":-180.0,"latitude":0.0}"#);
    let sea = Fix {
        elevation: Some(0.0),
        ..bare
    };
    assert_eq!(bytes(sea), r#"{"longitude":-180.0,"latitude":0.0,"elevation":0.0}"#);
}

#[test]
fn loc_01_a_fix_that_is_out_of_range_is_ignored() {
    let mut location = told();
    let before = location.clone();
    for wrong in [
        at((91.0, 0.0)),
        at((0.0, -180.01)),
        at((f64::NAN, 0.0)),
        Fix {
            accuracy: Some(-1.0),
            ..at(MUNICH)
        },
        Fix {
            elevation: Some(f64::INFINITY),
            ..at(MUNICH)
        },
    ] {
        location.fix(s(60), wrong);
        assert_eq!(location, before, "{wrong:?}");
    }
}

#[test]
fn a_move_is_told_once_it_is_far_enough_and_the_interval_has_passed() {
    let settings = Settings::default();
    let mut location = told();
    location.fix(s(20), at(moved(MUNICH, 49.0, 0.0)));
    assert_eq!(location.due(&settings, s(20)), None, "49 m are not 50");
    location.fix(s(40), at(moved(MUNICH, 60.0, 0.0)));
    assert_eq!(location.due(&settings, s(40)), None, "only 40 s have passed");
    assert_eq!(
        why(&location, 40),
        "the last report is too recent; the next may go out in 20 s"
    );
    assert_eq!(location.deadline(&settings, s(40)), Some(s(60)));
    let told = location.due(&settings, s(60)).unwrap();
    assert_eq!(told.latitude, 48.137_69, "no new fix is needed for that");
}

#[test]
fn a_receiver_that_jitters_within_its_accuracy_stands_still() {
    let settings = Settings::default();
    let poor = |north| Fix {
        accuracy: Some(200.0),
        ..at(moved(MUNICH, north, 0.0))
    };
    let mut location = Location::default();
    location.fix(s(0), poor(-199.0));
    assert!(location.due(&settings, s(0)).is_some());
    location.answered(Answer::Taken);
    location.fix(s(60), poor(199.0));
    assert_eq!(location.due(&settings, s(60)), None);
    // the first good fix corrects the poor one
    let good = Fix {
        accuracy: Some(5.0),
        ..at(MUNICH)
    };
    location.fix(s(120), good);
    assert!(location.due(&settings, s(120)).is_some());
    location.answered(Answer::Taken);
    // and a poor one does not undo that
    location.fix(s(180), poor(150.0));
    assert_eq!(location.due(&settings, s(180)), None);
}

#[test]
fn while_there_is_a_fix_the_service_hears_of_it_once_in_the_longest_interval() {
    let settings = Settings {
        max_interval: s(3600),
        ..Settings::default()
    };
    let (mut location, mut sent) = (Location::default(), Vec::new());
    for minute in 0..=180 {
        location.fix(s(60 * minute), at(MUNICH));
        if location.due(&settings, s(60 * minute)).is_some() {
            location.answered(Answer::Taken);
            sent.push(minute);
        }
    }
    assert_eq!(sent, [0, 60, 120, 180]);
    // without a fix it does not
    assert_eq!(location.due(&settings, s(4 * 3600)), None);
    assert_eq!(location.deadline(&settings, s(180 * 60)), None);
}

#[test]
fn a_fix_counts_for_two_looks_and_half_a_minute_and_is_then_too_old() {
    let settings = Settings::default();
    assert_eq!(settings.lifetime(), s(150));
    let mut location = Location::default();
    location.fix(s(100), at(MUNICH));
    // the service could not be told before
    assert!(location.clone().due(&settings, s(250)).is_some());
    assert_eq!(location.due(&settings, s(251)), None);
    assert_eq!(
        why(&location, 251),
        "the last fix is 151 s old; after 150 s it does not count any more"
    );
    assert_eq!(location.deadline(&settings, s(251)), None);
}

#[test]
fn a_fix_that_was_lost_is_not_told_and_when_it_is_back_it_is_no_first_one() {
    let settings = Settings::default();
    let mut location = told();
    location.fix(s(30), at(moved(MUNICH, 500.0, 0.0)));
    location.lost(s(40));
    location.lost(s(45));
    assert_eq!(location.due(&settings, s(60)), None);
    assert_eq!(location.deadline(&settings, s(60)), None);
    assert_eq!(why(&location, 60), "the fix was lost 20 s ago");
    location.fix(s(600), at(moved(MUNICH, 10.0, 0.0)));
    assert_eq!(location.due(&settings, s(600)), None, "it is where it was told");
}

#[test]
fn unanswered_locations_are_not_queued_and_the_newest_wins() {
    let settings = Settings::default();
    let mut location = Location::default();
    location.fix(s(0), at(MUNICH));
    location.due(&settings, s(0)).unwrap();
    for minute in 1..=10 {
        location.fix(s(60 * minute), at(moved(MUNICH, 1000.0 * minute as f64, 0.0)));
        assert_eq!(location.due(&settings, s(60 * minute)), None, "one is in flight");
        assert_eq!(location.deadline(&settings, s(60 * minute)), None);
    }
    assert!(location.in_flight());
    location.answered(Answer::Lost);
    let next = location.due(&settings, s(600)).unwrap();
    assert_eq!(next.latitude, rounded(moved(MUNICH, 10_000.0, 0.0).0, 5));
}

#[test]
fn a_report_that_came_to_nothing_is_made_good_but_not_at_once_and_a_refused_one_is_not_repeated() {
    let settings = Settings {
        min_interval: s(10),
        ..Settings::default()
    };
    let mut location = Location::default();
    location.fix(s(0), at(MUNICH));
    location.due(&settings, s(0)).unwrap();
    location.answered(Answer::Lost);
    assert_eq!(location.due(&settings, s(30)), None);
    assert_eq!(location.deadline(&settings, s(30)), Some(s(60)));
    assert!(
        location.due(&settings, s(60)).is_some(),
        "it did not move, but nobody knows"
    );
    location.answered(Answer::Refused);
    location.fix(s(130), at(MUNICH));
    assert_eq!(location.due(&settings, s(130)), None);
    // an answer to nothing
    let before = location.clone();
    location.answered(Answer::Lost);
    assert_eq!(location, before);
    location.forget();
    assert!(location.due(&settings, s(130)).is_some());
}

#[test]
fn a_leap_to_nonsense_is_not_told_unless_the_next_fix_confirms_it() {
    let settings = Settings::default();
    let mut location = told();
    location.fix(s(60), at((0.0, 0.0)));
    assert_eq!(location.due(&settings, s(60)), None);
    assert!(why(&location, 60).contains("leapt"), "{}", why(&location, 60));
    location.fix(s(120), at(MUNICH));
    assert_eq!(location.due(&settings, s(120)), None);
    assert_eq!(location.view(&settings, s(120)).fix.unwrap().0, at(MUNICH));
    // somewhere else each time: still nothing
    for minute in 3..10u32 {
        location.fix(s(60 * u64::from(minute)), at((f64::from(minute), 0.0)));
        assert_eq!(location.due(&settings, s(60 * u64::from(minute))), None);
    }
    // a host that really is somewhere else
    location.fix(s(600), at((-33.9, 18.4)));
    assert_eq!(location.due(&settings, s(600)), None);
    location.fix(s(660), at((-33.91, 18.4)));
    assert!(location.due(&settings, s(660)).is_some());
}

#[test]
fn few_decimals_are_told_only_when_they_change_and_the_accuracy_says_what_they_hide() {
    let settings = Settings {
        decimals: 1,
        ..Settings::default()
    };
    let mut location = Location::default();
    location.fix(s(0), at(MUNICH));
    let wire = location.due(&settings, s(0)).unwrap();
    assert_eq!((wire.latitude, wire.longitude), (48.1, 11.6));
    assert!(metres(MUNICH, (48.1, 11.6)) < wire.accuracy.unwrap());
    location.answered(Answer::Taken);
    location.fix(s(60), at(moved(MUNICH, 1000.0, 0.0)));
    assert_eq!(location.due(&settings, s(60)), None);
    assert_eq!(location.view(&settings, s(60)).why, Some(Why::SameCell));
    location.fix(s(120), at(moved(MUNICH, 2000.0, 0.0)));
    assert!(location.due(&settings, s(120)).is_some(), "48.155 is 48.2");
}

#[test]
fn a_ship_that_crosses_the_antimeridian_moves_on_as_before() {
    let settings = Settings::default();
    let (mut location, mut sent) = (Location::default(), 0);
    let mut place = (-17.0, 179.99);
    for minute in 0..10 {
        location.fix(s(60 * minute), at(place));
        if location.due(&settings, s(60 * minute)).is_some() {
            location.answered(Answer::Taken);
            sent += 1;
        }
        place = moved(place, 0.0, 300.0);
    }
    assert!(place.1 < -179.9);
    assert_eq!(sent, 10, "300 m in each minute");
}

/// What happens next in a random walk.
#[derive(Debug, Clone)]
enum Happens {
    /// So many metres north and east, and a fix.
    Fix(f64, f64, Option<f64>),
    Lost,
    Answered(Answer),
    /// The service can be told, or cannot.
    Reachable(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    let answer = prop_oneof![Just(Answer::Taken), Just(Answer::Refused), Just(Answer::Lost)];
    prop_oneof![
        8 => (-3000.0..3000.0f64, -3000.0..3000.0f64, proptest::option::of(0.5..500.0f64))
            .prop_map(|(north, east, accuracy)| Happens::Fix(north, east, accuracy)),
        8 => (-30.0..30.0f64, -30.0..30.0f64, proptest::option::of(0.5..50.0f64))
            .prop_map(|(north, east, accuracy)| Happens::Fix(north, east, accuracy)),
        1 => Just(Happens::Lost),
        12 => answer.prop_map(Happens::Answered),
        2 => any::<bool>().prop_map(Happens::Reachable),
    ]
}

prop_compose! {
    fn settings()(
        min in 0u64..400, max in 400u64..5000, min_distance in 0.0..500.0f64, decimals in 0u8..=9, interval in 1u64..300,
    ) -> Settings {
        Settings { min_interval: s(min), max_interval: s(max), min_distance, decimals, interval: s(interval) }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_rate_the_distance_and_the_age_keep_their_bounds(
        settings in settings(),
        start in (-80.0..80.0f64, -180.0..180.0f64),
        walk in proptest::collection::vec((0u64..200, happens()), 1..120),
    ) {
        let (mut location, mut now, mut place) = (Location::default(), s(0), start);
        let (mut reachable, mut newest, mut lost) = (true, None::<(Fix, Duration)>, false);
        let (mut sent, mut told, mut flying) = (None::<Duration>, None::<(Fix, Duration)>, None::<(Fix, Duration)>);
        for (pause, event) in walk {
            // all deadlines on the way, then the event
            let arrives = now + s(pause);
            let mut event = Some(event);
            loop {
                let deadline = location.deadline(&settings, now).filter(|_| reachable);
                prop_assert!(deadline.is_none_or(|at| at >= now));
                match deadline.filter(|at| *at <= arrives) {
                    Some(at) => now = at,
                    None => {
                        now = arrives;
                        match event.take() {
                            None => break,
                            Some(Happens::Fix(north, east, accuracy)) => {
                                place = moved(place, north, east);
                                prop_assume!(place.0.abs() < 85.0);
                                let fix = Fix { accuracy, ..at(place) };
                                location.fix(now, fix);
                                newest = Some((fix, now));
                                lost = false;
                            }
                            Some(Happens::Lost) => { location.lost(now); lost = true; }
                            Some(Happens::Answered(answer)) => {
                                location.answered(answer);
                                if let Some(flown) = flying.take() && answer != Answer::Lost { told = Some(flown); }
                            }
                            Some(Happens::Reachable(now_reachable)) => reachable = now_reachable,
                        }
                    }
                }
                if !reachable { continue; }
                let Some(wire) = location.due(&settings, now) else {
                    prop_assert!(location.deadline(&settings, now).is_none_or(|at| at > now), "a loop without end");
                    continue;
                };
                prop_assert!(flying.is_none(), "two in flight");
                prop_assert!(sent.is_none_or(|sent| now - sent >= settings.min_interval), "too often");
                let (fix, heard) = newest.unwrap();
                prop_assert_eq!(&wire, &fix.to_wire(settings.decimals), "not the newest");
                prop_assert!(!lost && now - heard <= settings.lifetime(), "too old");
                if let Some((before, at)) = told && now - at < settings.max_interval {
                    let far = metres(before.place(), fix.place());
                    prop_assert!(far > settings.min_distance && far > fix.error(), "not far enough: {far}");
                }
                if let Some(accuracy) = wire.accuracy {
                    let shift = metres(fix.place(), (wire.latitude, wire.longitude));
                    prop_assert!(accuracy >= fix.error() + shift * 0.999 - 1e-3, "promises too much");
                }
                sent = Some(now);
                flying = Some((fix, now));
            }
        }
    }

    #[test]
    fn a_receiver_that_stands_still_is_told_once_however_it_jitters(
        settings in settings(),
        start in (-80.0..80.0f64, -180.0..180.0f64),
        accuracy in 0.5..2000.0f64,
        jitter in proptest::collection::vec((0.0..0.99f64, 0.0..std::f64::consts::TAU), 2..100),
    ) {
        let settings = Settings { max_interval: s(1_000_000), ..settings };
        let (mut location, mut sent) = (Location::default(), 0);
        for (nth, (radius, angle)) in jitter.into_iter().enumerate() {
            let now = s(600 * nth as u64);
            let off = radius * accuracy;
            location.fix(now, Fix { accuracy: Some(accuracy), ..at(moved(start, off * angle.sin(), off * angle.cos())) });
            if location.due(&settings, now).is_some() {
                sent += 1;
                location.answered(Answer::Taken);
            }
        }
        prop_assert_eq!(sent, 1);
    }

    #[test]
    fn a_steady_drive_is_told_as_often_as_distance_and_interval_allow_and_no_more(
        speed in 1.0..40.0f64, min_interval in 1u64..300, min_distance in 20.0..2000.0f64, start in (-80.0..80.0f64, -180.0..180.0f64),
    ) {
        let looks = 30u64;
        let settings = Settings { min_interval: s(min_interval), min_distance, interval: s(looks), ..Settings::default() };
        let (mut location, mut place, mut now, mut sent) = (Location::default(), start, s(0), Vec::new());
        for _ in 0..200 {
            location.fix(now, at(place));
            let next = now + s(looks);
            while let Some(due) = location.deadline(&settings, now).filter(|at| *at < next) {
                now = due;
                if location.due(&settings, now).is_some() {
                    location.answered(Answer::Taken);
                    sent.push(now);
                }
            }
            now = next;
            place = moved(place, 0.0, speed * looks as f64);
        }
        // Far enough after so many looks; the fix is known then, and the interval decides.
        let far = (min_distance.max(20.0) / (speed * looks as f64)).ceil() * looks as f64;
        let longest = far.max(min_interval as f64) + looks as f64;
        for pair in sent.windows(2) {
            let gap = (pair[1] - pair[0]).as_secs_f64();
            prop_assert!(gap >= min_interval as f64 && gap <= longest + 1.0, "{gap} {far} {longest}");
        }
        prop_assert!(sent.len() as f64 >= 200.0 * looks as f64 / (longest + 1.0) - 1.0, "{}", sent.len());
    }
}
