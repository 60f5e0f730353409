//! Telling the service where the device is, and never what it said itself.

use std::time::Duration;

use iotdm::agent::location::{Fix, Settings as Tracking};
use iotdm::agent::{CommandId, Event, Settings};
use iotdm::protocol::model::Location;
use serde_json::{Map, json};

use crate::driver::{Driver, settings};
use crate::model::{managed, value};

pub(crate) fn place(latitude: f64) -> Location {
    Location {
        latitude,
        longitude: 11.5,
        elevation: None,
        accuracy: None,
        measured_date_time: None,
        extra: Map::new(),
    }
}

/// A receiver says that it is here, and that is told as soon as it may be.
pub(crate) fn measures(driver: &mut Driver, latitude: f64) {
    driver.event(Event::Fix(fix(latitude)));
}

pub(crate) fn fix(latitude: f64) -> Fix {
    Fix {
        latitude,
        longitude: 11.5,
        elevation: None,
        accuracy: None,
        measured: None,
    }
}

/// A host with a receiver, of which every step is told.
pub(crate) fn tracked() -> Settings {
    Settings {
        tracking: Some(Tracking {
            min_interval: Duration::ZERO,
            min_distance: 0.0,
            ..Tracking::default()
        }),
        ..settings("boot-1")
    }
}

pub(crate) fn fixed() -> Settings {
    Settings {
        location: Some(place(48.0)),
        ..settings("boot-1")
    }
}

/// The latitudes that the service was told, in order.
pub(crate) fn told(driver: &Driver) -> Vec<f64> {
    let reports = driver.on("update/location");
    reports
        .iter()
        .map(|report| report["d"]["latitude"].as_f64().unwrap())
        .collect()
}

#[test]
fn loc_01_loc_02_loc_03_a_location_has_what_is_known_and_nothing_else() {
    let mut driver = managed(tracked());
    driver.event(Event::Fix(Fix {
        elevation: Some(0.0),
        accuracy: Some(2.0),
        measured: Some(1_714_557_600),
        ..fix(48.0)
    }));
    driver.answer_location(200);
    measures(&mut driver, 48.005);
    let reports = driver.on("update/location");
    assert_eq!(
        reports[0]["d"],
        json!({"longitude": 11.5, "latitude": 48.0, "elevation": 0.0, "accuracy": 2.8,
               "measuredDateTime": "2024-05-01T10:00:00Z"}),
        "the error that the rounding makes is added to the receiver's"
    );
    assert_eq!(reports[1]["d"], json!({"longitude": 11.5, "latitude": 48.005}));
    assert_ne!(reports[0]["reqId"], reports[1]["reqId"]);
}

#[test]
fn loc_01_a_place_that_is_none_is_not_told() {
    let mut driver = managed(tracked());
    for wrong in [91.0, -90.5, f64::NAN, f64::INFINITY] {
        measures(&mut driver, wrong);
        driver.event(Event::Fix(Fix {
            longitude: wrong * 2.0,
            ..fix(48.0)
        }));
    }
    assert!(told(&driver).is_empty());
    assert_eq!(driver.agent.status().location, None);
    measures(&mut driver, 48.0);
    assert_eq!(told(&driver), [48.0]);
}

#[test]
fn of_locations_that_cannot_be_told_yet_the_newest_is_told_and_none_is_stored() {
    let mut driver = Driver::with(tracked());
    for n in 0..5 {
        measures(&mut driver, 48.0 + 0.005 * f64::from(n));
    }
    driver.connect(false);
    assert!(told(&driver).is_empty(), "the manage comes first");
    driver.answer_manage(200);
    assert_eq!(told(&driver), [48.02]);
    for n in 5..9 {
        measures(&mut driver, 48.0 + 0.005 * f64::from(n));
    }
    assert_eq!(told(&driver), [48.02], "one at a time");
    driver.answer_location(200);
    assert_eq!(told(&driver), [48.02, 48.04]);
    assert!(driver.outbox.is_empty());
    assert_eq!(driver.on_disk().written.location, None);
}

#[test]
fn a_measured_location_that_was_lost_is_followed_by_the_newest_and_one_that_was_refused_by_none() {
    type Lose = fn(&mut Driver);
    let not_published: Lose = |driver| {
        let id = driver.published.last().unwrap().0;
        driver.event(Event::NotPublished(id));
    };
    let publish_refused: Lose = |driver| {
        let id = driver.published.last().unwrap().0;
        driver.event(Event::PublishRefused {
            id,
            reason: "check its ACL".into(),
        });
    };
    let lost: [Lose; 4] = [
        |driver| driver.answer_location(500),
        |driver| driver.answer_location(409),
        |driver| driver.pass(Duration::from_secs(61)),
        not_published,
    ];
    let refused: [Lose; 2] = [|driver| driver.answer_location(404), publish_refused];
    let ends = lost
        .map(|end| (end, true))
        .into_iter()
        .chain(refused.map(|end| (end, false)));
    for (end, again) in ends {
        let mut driver = managed(tracked());
        measures(&mut driver, 48.0);
        end(&mut driver);
        measures(&mut driver, 48.0);
        driver.pass(Duration::from_secs(61));
        assert_eq!(told(&driver).len() > 1, again);
        driver.answer_location(500);
        driver.pass(Duration::from_secs(3600));
        let before = told(&driver).len();
        driver.pass(Duration::from_secs(3600));
        assert_eq!(told(&driver).len(), before, "a fix that is old is told to nobody");
    }
}

#[test]
fn a_fixed_location_is_told_after_the_first_manage_until_the_service_has_answered() {
    let mut driver = Driver::with(fixed());
    driver.connect(false);
    driver.answer_manage(200);
    assert_eq!(driver.order(), ["manage", "location"]);
    driver.answer_location(500);
    driver.pass(Duration::from_secs(60));
    driver.event(Event::Disconnected);
    let id = driver.published.last().unwrap().0;
    driver.event(Event::NotPublished(id));
    driver.connect(true);
    assert_eq!(told(&driver), [48.0, 48.0, 48.0]);
    driver.answer_location(200);
    driver.pass(Duration::from_secs(13 * 3600));
    driver.answer_manage(200);
    assert_eq!(told(&driver).len(), 3);
    driver.event(Event::Configured(Box::new(Settings {
        location: Some(place(50.0)),
        ..fixed()
    })));
    assert_eq!(told(&driver).last(), Some(&50.0), "the configuration has changed");
}

#[test]
fn a_fixed_location_that_the_service_refuses_is_not_told_again() {
    let mut driver = Driver::with(fixed());
    driver.connect(false);
    driver.answer_manage(200);
    driver.answer_location(400);
    driver.pass(Duration::from_secs(3600));
    assert_eq!(told(&driver).len(), 1);
    assert!(driver.said.iter().any(|(_, text)| text.contains("rc 400")));
}

#[test]
fn upd_04_a_location_from_the_service_is_kept_and_never_told_back() {
    for settings in [settings("boot-1"), fixed()] {
        let mut driver = managed(settings);
        driver.request("observe", "o1", r#","d":{"fields":["location","location.latitude"]}"#);
        driver.write(
            "u1",
            r#"{"field":"location","value":{"latitude":1.25,"longitude":-2,"elevation":0,"accuracy":3,
                "measuredDateTime":"2024-05-01T12:00:00.1234+02:00","updatedDateTime":"x","unheard":{"of":1}}}"#,
        );
        assert_eq!(driver.answers("u1"), [204]);
        driver.broker_has_all();
        driver.published.clear();
        driver.pass(Duration::from_secs(3600));
        driver.restart();
        driver.connect(false);
        driver.answer_manage(200);
        driver.pass(Duration::from_secs(3600));
        assert_eq!(driver.order(), ["manage"], "neither as a location nor as a notify");
        assert_eq!(
            value(&mut driver, "location"),
            json!({"longitude": -2.0, "latitude": 1.25, "elevation": 0.0, "accuracy": 3.0,
                   "measuredDateTime": "2024-05-01T10:00:00.123Z"})
        );
    }
}

#[test]
fn upd_04_a_late_answer_to_a_notify_does_not_make_the_agent_tell_back_what_was_written_meanwhile() {
    let mut driver = managed(fixed());
    driver.request("observe", "o1", r#","d":{"fields":["location"]}"#);
    let elsewhere = Settings {
        location: Some(place(49.0)),
        ..fixed()
    };
    driver.event(Event::Configured(Box::new(elsewhere)));
    let notifies = driver.on("notify");
    assert_eq!(notifies.len(), 1);
    let req_id = notifies[0]["reqId"].clone();
    driver.write("u1", r#"{"field":"location","value":{"latitude":1.25,"longitude":-2}}"#);
    assert_eq!(driver.answers("u1"), [204]);
    driver.receive("iotdm-1/response", &json!({"rc": 200, "reqId": req_id}).to_string());
    driver.broker_has_all();
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.on("notify").len(), 1, "the service's own word is no news to it");
}

#[test]
fn a_location_that_is_measured_stays_and_the_service_is_set_right_once_a_minute() {
    let mut driver = managed(tracked());
    measures(&mut driver, 1.0);
    driver.answer_location(200);
    let wrong = r#"{"field":"location","value":{"latitude":9,"longitude":9}}"#;
    driver.write("u1", wrong);
    driver.write("u2", wrong);
    assert_eq!((driver.answers("u1"), driver.answers("u2")), (vec![204], vec![204]));
    assert_eq!(told(&driver), [1.0]);
    driver.pass(Duration::from_secs(61));
    assert_eq!(told(&driver), [1.0, 1.0]);
    driver.answer_location(200);
    driver.pass(Duration::from_secs(600));
    assert_eq!(told(&driver), [1.0, 1.0]);
    measures(&mut driver, 1.0);
    driver.write("u3", wrong);
    assert_eq!(told(&driver), [1.0, 1.0, 1.0], "long enough after");
    assert_eq!(value(&mut driver, "location.latitude"), json!(1.0));
}

#[test]
fn a_location_that_sets_the_service_right_is_told_until_the_service_has_answered() {
    type Lose = fn(&mut Driver);
    let not_published: Lose = |driver| {
        let id = driver.published.last().unwrap().0;
        driver.event(Event::NotPublished(id));
    };
    let lost: [Lose; 4] = [
        |driver| driver.answer_location(500),
        |driver| driver.answer_location(409),
        |driver| driver.pass(Duration::from_secs(61)),
        not_published,
    ];
    for (nth, lose) in lost.into_iter().enumerate() {
        // It stands still, and moves too little to be told for that.
        let tracking = Tracking::default();
        let mut driver = managed(Settings {
            tracking: Some(tracking),
            ..settings("boot-1")
        });
        measures(&mut driver, 1.0);
        driver.answer_location(200);
        driver.pass(Duration::from_secs(61));
        measures(&mut driver, 1.0);
        driver.write("u1", r#"{"field":"location","value":{"latitude":9,"longitude":9}}"#);
        assert_eq!(told(&driver), [1.0, 1.0], "{nth}");
        lose(&mut driver);
        driver.pass(Duration::from_secs(30));
        measures(&mut driver, 1.0);
        assert_eq!(told(&driver), [1.0, 1.0, 1.0], "{nth}");
        driver.answer_location(200);
        driver.pass(Duration::from_secs(30));
        measures(&mut driver, 1.0);
        driver.pass(Duration::from_secs(90));
        assert_eq!(told(&driver).len(), 3, "{nth}: it is right now");
    }
}

#[test]
fn the_first_measured_location_takes_the_place_of_the_one_from_the_service() {
    let mut driver = managed(tracked());
    driver.write("u1", r#"{"field":"location","value":{"latitude":9,"longitude":9}}"#);
    assert_eq!(driver.agent.status().location.unwrap().source, "service");
    measures(&mut driver, 1.0);
    assert_eq!(told(&driver), [1.0]);
    assert_eq!(driver.agent.status().location.unwrap().source, "measured");
    driver.restart();
    assert_eq!(
        driver.agent.status().location,
        None,
        "where it is now, nobody knows yet"
    );
}

#[test]
fn obs_06_a_location_is_notified_whole_with_its_members_in_one_message_beside_the_report() {
    let mut driver = managed(tracked());
    driver.request(
        "observe",
        "o1",
        r#","d":{"fields":["location","location.latitude","location.accuracy"]}"#,
    );
    driver.broker_has_all();
    driver.published.clear();
    driver.event(Event::Fix(Fix {
        accuracy: Some(4.2),
        ..fix(1.0)
    }));
    assert_eq!(driver.order(), ["notify", "location"]);
    assert_eq!(
        driver.on("notify")[0]["d"]["fields"],
        json!([{"field": "location", "value": {"longitude": 11.5, "latitude": 1.0, "accuracy": 5.0}},
               {"field": "location.latitude", "value": 1.0}, {"field": "location.accuracy", "value": 5.0}])
    );
    driver.answer_notifies(200);
    driver.answer_location(200);
    driver.published.clear();
    measures(&mut driver, 1.005);
    assert_eq!(
        driver.on("notify")[0]["d"]["fields"],
        json!([{"field": "location", "value": {"longitude": 11.5, "latitude": 1.005}},
               {"field": "location.latitude", "value": 1.005}, {"field": "location.accuracy", "value": null}]),
        "what is unknown now is not left standing"
    );
}

#[test]
fn a_device_that_is_not_managed_tells_no_location_and_tells_it_when_it_is_again() {
    let mut driver = managed(tracked());
    driver.event(Event::Unmanage(CommandId(1)));
    measures(&mut driver, 1.0);
    driver.pass(Duration::from_secs(60));
    assert!(told(&driver).is_empty());
    driver.event(Event::Manage(CommandId(2)));
    driver.answer_manage(200);
    assert_eq!(told(&driver), [1.0]);
}

#[test]
fn a_receiver_that_is_switched_off_is_followed_by_the_word_of_the_configuration() {
    let mut driver = managed(tracked());
    measures(&mut driver, 1.0);
    driver.answer_location(200);
    driver.event(Event::Configured(Box::new(fixed())));
    assert_eq!(told(&driver), [1.0, 48.0]);
    driver.answer_location(200);
    measures(&mut driver, 2.0);
    driver.pass(Duration::from_secs(3600));
    assert_eq!(told(&driver), [1.0, 48.0], "what comes late is nobody's");
    assert_eq!(driver.agent.status().location.unwrap().source, "configuration");
}

#[test]
fn whereabouts_says_what_is_known_what_was_told_and_why_not_more() {
    let mut driver = Driver::with(Settings {
        tracking: Some(Tracking::default()),
        ..settings("boot-1")
    });
    let asked = |driver: &Driver| driver.agent.whereabouts(driver.now.boottime);
    assert_eq!((asked(&driver).source, asked(&driver).fix), ("none", None));
    driver.event(Event::NoFix("gpsd has no receiver".into()));
    assert_eq!(asked(&driver).trouble.as_deref(), Some("gpsd has no receiver"));
    measures(&mut driver, 48.123456789);
    assert!(asked(&driver).why.unwrap().contains("does not manage"));
    driver.connect(false);
    driver.answer_manage(200);
    driver.answer_location(200);
    driver.pass(Duration::from_secs(61));
    measures(&mut driver, 48.1234);
    let now = asked(&driver);
    assert_eq!((now.source, now.trouble), ("measured", None));
    assert_eq!(
        now.fix.unwrap()["latitude"],
        48.1234,
        "not rounded: it stays on this host"
    );
    assert_eq!(now.reported.unwrap()["latitude"], 48.12346);
    assert!(now.reported_age_seconds.unwrap() >= 61 && now.fix_age_seconds == Some(0));
    assert!(now.why.unwrap().contains("50 m"));
}

#[test]
fn a_fix_that_is_too_old_to_be_told_does_not_keep_the_agent_awake() {
    let mut driver = managed(tracked());
    measures(&mut driver, 1.0);
    driver.answer_location(200);
    driver.event(Event::Disconnected);
    driver.pass(Duration::from_secs(3600));
    driver.connect(true);
    let next = driver.agent.next_deadline();
    assert!(
        next.is_none_or(|at| at > driver.now.boottime),
        "{next:?} at {:?}",
        driver.now
    );
}

#[test]
fn a_field_that_the_service_does_not_observe_takes_no_other_with_it() {
    let mut driver = managed(fixed());
    driver.request(
        "observe",
        "o1",
        r#","d":{"fields":["deviceInfo.description","location"]}"#,
    );
    let mut elsewhere = Settings {
        location: Some(place(49.0)),
        ..fixed()
    };
    elsewhere.configured_info.description = Some("new".to_owned());
    driver.event(Event::Configured(Box::new(elsewhere)));
    driver.answer_manage(200);
    let mut notified = Vec::new();
    for rc in [404, 404, 200] {
        driver.broker_has_all();
        driver.pass(Duration::from_secs(31));
        let notify = (*driver.on("notify").last().unwrap()).clone();
        notified.push(notify["d"]["fields"].as_array().unwrap().len());
        driver.receive(
            "iotdm-1/response",
            &json!({"rc": rc, "reqId": notify["reqId"]}).to_string(),
        );
    }
    assert_eq!(notified, [2, 1, 1], "what is refused together is told one by one");
    let observed: Vec<_> = driver
        .on_disk()
        .observed
        .iter()
        .map(|known| known.field.clone())
        .collect();
    assert_eq!(observed, ["location"]);
}
