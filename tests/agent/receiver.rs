//! What is told of a place that was measured, once it is not measured any more, is written by others, or is refused.

use std::time::Duration;

use iotdm::agent::location::Settings as Tracking;
use iotdm::agent::{CommandId, Event, Settings};
use serde_json::json;

use crate::driver::{Driver, settings};
use crate::location::{fixed, measures, place, told, tracked};
use crate::model::{managed, read};

const WRONG: &str = r#"{"field":"location","value":{"latitude":9,"longitude":9}}"#;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A host with a receiver, as it is configured by default, or otherwise.
fn with(tracking: Tracking) -> Settings {
    Settings {
        tracking: Some(tracking),
        ..settings("boot-1")
    }
}

/// Ways for a fix to go.
fn losses() -> [fn(&mut Driver); 2] {
    [
        |driver| driver.event(Event::NoFix("a tunnel".into())),
        |driver| driver.pass(s(200)),
    ]
}

fn source(driver: &Driver) -> &'static str {
    driver.agent.whereabouts(driver.now.boottime).source
}

#[test]
fn a_place_that_is_not_measured_any_more_is_not_told_when_the_device_is_managed_again() {
    for lose in losses() {
        for before in [true, false] {
            let mut driver = managed(tracked());
            measures(&mut driver, 1.0);
            driver.answer_location(200);
            if before {
                lose(&mut driver);
            }
            driver.event(Event::Unmanage(CommandId(1)));
            lose(&mut driver);
            driver.event(Event::Manage(CommandId(2)));
            driver.answer_manage(200);
            driver.pass(s(3600));
            assert_eq!(told(&driver), [1.0], "lost before: {before}");
            measures(&mut driver, 1.005);
            assert_eq!(told(&driver), [1.0, 1.005]);
        }
    }
}

#[test]
fn a_gpsd_that_is_restarted_is_no_loss_of_the_fix_and_one_that_stays_away_is() {
    let mut driver = managed(with(Tracking::default()));
    measures(&mut driver, 1.0);
    driver.answer_location(200);
    let alive = |driver: &Driver| driver.agent.whereabouts(driver.now.boottime).fix_is_alive;
    driver.pass(s(50));
    driver.event(Event::NotAsked("gpsd is restarted".into()));
    assert_eq!(alive(&driver), Some(true));
    driver.pass(s(10));
    measures(&mut driver, 1.0);
    driver.event(Event::NotAsked("gpsd is away".into()));
    driver.pass(s(150));
    assert_eq!(alive(&driver), Some(true));
    driver.pass(s(1));
    assert_eq!(alive(&driver), Some(false));
    assert_eq!(told(&driver), [1.0]);
}

#[test]
fn a_service_that_has_it_wrong_is_not_set_right_with_a_place_of_before_the_tunnel() {
    let mut driver = managed(with(Tracking {
        min_interval: s(600),
        ..Tracking::default()
    }));
    measures(&mut driver, 1.0);
    driver.answer_location(200);
    driver.pass(s(10));
    driver.write("u1", WRONG);
    driver.event(Event::NoFix("a tunnel".into()));
    driver.pass(s(200));
    assert_eq!(told(&driver), [1.0]);
    measures(&mut driver, 1.05);
    driver.pass(s(60));
    assert_eq!(told(&driver), [1.0], "the interval is not over");
    driver.pass(s(300));
    measures(&mut driver, 1.05);
    driver.pass(s(60));
    assert_eq!(told(&driver), [1.0, 1.05]);
}

#[test]
fn upd_04_while_there_is_no_fix_the_service_says_where_the_device_is_and_the_next_fix_replaces_it() {
    let [lost, old] = losses();
    for (lose, answered) in [(lost, true), (lost, false), (old, true)] {
        let mut driver = managed(with(Tracking::default()));
        measures(&mut driver, 1.0);
        if answered {
            driver.answer_location(200);
        }
        lose(&mut driver);
        let whereabouts = driver.agent.whereabouts(driver.now.boottime);
        assert_eq!(
            (whereabouts.source, whereabouts.fix_is_alive),
            ("measured", Some(false))
        );
        driver.write("u1", WRONG);
        assert_eq!(driver.answers("u1"), [204]);
        assert_eq!(
            (source(&driver), read(&driver, "location.latitude")),
            ("service", json!(9.0))
        );
        assert!(driver.on_disk().written.location.is_some());
        if !answered {
            driver.answer_location(200);
        }
        driver.pass(s(3600));
        assert_eq!(told(&driver), [1.0], "never told back, and the old place neither");
        assert_eq!(source(&driver), "service");
        measures(&mut driver, 1.0);
        assert_eq!(told(&driver), [1.0, 1.0], "where it was before is news for the service");
        assert_eq!(
            (source(&driver), read(&driver, "location.latitude")),
            ("measured", json!(1.0))
        );
        assert_eq!(driver.on_disk().written.location, None);
        let whereabouts = driver.agent.whereabouts(driver.now.boottime);
        assert_eq!(whereabouts.fix_is_alive, Some(true));
    }
}

#[test]
fn a_fixed_location_that_comes_back_after_the_service_wrote_another_is_told_again() {
    let mut driver = managed(fixed());
    driver.write("u1", WRONG);
    driver.event(Event::Configured(Box::new(settings("boot-1"))));
    assert_eq!(source(&driver), "none", "neither counts any more");
    driver.event(Event::Configured(Box::new(fixed())));
    assert_eq!(told(&driver), [48.0], "the service still has its own");
    driver.answer_location(200);
    driver.pass(s(3600));
    assert_eq!(told(&driver), [48.0]);
}

#[test]
fn upd_04_the_place_of_the_configuration_from_the_service_is_not_told_back() {
    let mut driver = managed(fixed());
    driver.write("u1", WRONG);
    driver.write("u2", r#"{"field":"location","value":{"latitude":48,"longitude":11.5}}"#);
    assert_eq!((driver.answers("u2"), source(&driver)), (vec![204], "configuration"));
    driver.pass(s(3600));
    assert!(told(&driver).is_empty());
    // Nor when the service says it while it is told another.
    driver.event(Event::Configured(Box::new(Settings {
        location: Some(place(50.0)),
        ..fixed()
    })));
    assert_eq!(told(&driver), [50.0]);
    driver.write("u3", WRONG);
    driver.write("u4", r#"{"field":"location","value":{"latitude":50,"longitude":11.5}}"#);
    driver.answer_location(200);
    driver.pass(s(3600));
    assert_eq!(told(&driver), [50.0]);
}

#[test]
fn a_service_that_does_not_know_the_device_any_more_is_told_the_location_anew_once_it_does() {
    for settings in [fixed(), tracked()] {
        let measured = settings.tracking.is_some();
        let mut driver = managed(settings);
        if measured {
            measures(&mut driver, 48.0);
            driver.answer_location(200);
            driver.published.clear();
        }
        driver.event(Event::Manage(CommandId(1)));
        driver.answer_manage(404);
        assert!(!driver.agent.status().managed, "the service says so");
        measures(&mut driver, 48.0);
        driver.pass(s(60));
        assert!(told(&driver).is_empty(), "it would refuse it");
        driver.event(Event::Manage(CommandId(2)));
        driver.answer_manage(200);
        assert_eq!(told(&driver), [48.0]);
        driver.answer_location(200);
        driver.pass(s(60));
        assert_eq!(told(&driver), [48.0]);
    }
}

/// The session says that the broker does not take the last publish.
fn broker_refuses(driver: &mut Driver) {
    let id = driver.published.last().unwrap().0;
    driver.event(Event::PublishRefused {
        id,
        reason: "check its ACL".into(),
    });
}

#[test]
fn a_location_that_the_broker_ends_the_connection_for_is_followed_by_none_for_an_hour() {
    for settings in [tracked(), fixed()] {
        let mut driver = managed(settings.clone());
        let measured = settings.tracking.is_some();
        // It drives, and each minute would be told.
        let drive = |driver: &mut Driver, minutes: u32| {
            for _ in 0..minutes {
                driver.pass(s(60));
                let seconds = driver.now.boottime.as_secs_f64();
                measures(driver, 48.0 + seconds * 1e-4);
            }
        };
        if measured {
            drive(&mut driver, 1);
        } else {
            driver.event(Event::Configured(Box::new(Settings {
                location: Some(place(50.0)),
                ..settings.clone()
            })));
        }
        assert_eq!(told(&driver).len(), 1);
        broker_refuses(&mut driver);
        drive(&mut driver, 30);
        driver.event(Event::Disconnected);
        driver.connect(true);
        if measured {
            driver.write("u1", WRONG);
        }
        drive(&mut driver, 29);
        assert_eq!(told(&driver).len(), 1, "measured: {measured}");
        if measured {
            let whereabouts = driver.agent.whereabouts(driver.now.boottime);
            assert!(whereabouts.why.unwrap().contains("broker"));
            drive(&mut driver, 1);
            assert_eq!(told(&driver).len(), 2, "the newest");
            assert!(told(&driver)[1] > told(&driver)[0] + 0.3);
            broker_refuses(&mut driver);
            drive(&mut driver, 10);
            assert_eq!(told(&driver).len(), 2);
        } else {
            driver.pass(s(120));
            assert_eq!(told(&driver), [50.0, 50.0]);
        }
    }
}

#[test]
fn after_a_reload_a_location_that_the_broker_did_not_take_is_told_again() {
    for settings in [tracked(), fixed()] {
        let mut driver = Driver::with(settings.clone());
        driver.connect(false);
        driver.answer_manage(200);
        if settings.tracking.is_some() {
            measures(&mut driver, 48.0);
        }
        broker_refuses(&mut driver);
        driver.pass(s(60));
        assert_eq!(told(&driver), [48.0]);
        driver.event(Event::Configured(Box::new(settings)));
        assert_eq!(told(&driver), [48.0, 48.0]);
        driver.answer_location(200);
        driver.pass(s(60));
        assert_eq!(told(&driver), [48.0, 48.0]);
    }
}

#[test]
fn other_decimals_count_at_once_for_what_is_shown_and_with_the_next_report_for_the_service() {
    let exact = |decimals| {
        with(Tracking {
            decimals,
            ..Tracking::default()
        })
    };
    let mut driver = managed(exact(5));
    measures(&mut driver, 48.123_456_7);
    driver.answer_location(200);
    driver.request("observe", "o1", r#","d":{"fields":["location.latitude"]}"#);
    for (decimals, latitude) in [(2, 48.12), (7, 48.123_456_7)] {
        let before = told(&driver).len();
        driver.event(Event::Configured(Box::new(exact(decimals))));
        assert_eq!(read(&driver, "location.latitude"), json!(latitude));
        let shown = driver.agent.status().location.unwrap();
        assert_eq!(shown.value["latitude"], latitude);
        assert_eq!(driver.answer_notifies(200).last(), Some(&json!(latitude)));
        if told(&driver).len() == before {
            driver.pass(s(60));
        }
        assert_eq!(told(&driver)[before..], [latitude], "it has not moved");
        driver.answer_location(200);
        measures(&mut driver, 48.123_456_7);
        driver.pass(s(100));
        assert_eq!(told(&driver).len(), before + 1);
    }
    // A reload that changes nothing of it tells nothing.
    let before = told(&driver).len();
    measures(&mut driver, 48.123_456_7);
    driver.event(Event::Configured(Box::new(exact(7))));
    driver.pass(s(100));
    assert_eq!(told(&driver).len(), before);
}

#[test]
fn a_report_that_was_on_its_way_when_the_decimals_changed_is_followed_by_one() {
    let exact = |decimals| {
        with(Tracking {
            decimals,
            ..Tracking::default()
        })
    };
    let mut driver = managed(exact(5));
    measures(&mut driver, 48.123_456_7);
    driver.event(Event::Configured(Box::new(exact(2))));
    driver.answer_location(200);
    driver.pass(s(60));
    assert_eq!(told(&driver), [48.123_46, 48.12]);
}
