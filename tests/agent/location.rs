//! Telling the service where the device is, and never what it said itself.

use std::time::Duration;

use iotdm::agent::{CommandId, Event, Settings};
use iotdm::protocol::model::Location;
use serde_json::{Map, Value, json};

use crate::driver::{Driver, settings};
use crate::model::{managed, value};

fn place(latitude: f64) -> Location {
    Location {
        latitude,
        longitude: 11.5,
        elevation: None,
        accuracy: None,
        measured_date_time: None,
        extra: Map::new(),
    }
}

fn fixed() -> Settings {
    Settings {
        location: Some(place(48.0)),
        ..settings("boot-1")
    }
}

/// The latitudes that the service was told, in order.
fn told(driver: &Driver) -> Vec<f64> {
    let reports = driver.on("update/location");
    reports
        .iter()
        .map(|report| report["d"]["latitude"].as_f64().unwrap())
        .collect()
}

#[test]
fn loc_01_loc_02_loc_03_a_location_has_what_is_known_and_nothing_else() {
    let mut driver = Driver::managed();
    driver.event(Event::Located(Location {
        elevation: Some(0.0),
        accuracy: Some(2.5),
        measured_date_time: Some("2024-05-01T10:00:00Z".into()),
        extra: Map::from_iter([("updatedDateTime".to_owned(), Value::from("2024-05-01T10:00:00Z"))]),
        ..place(48.0)
    }));
    driver.answer_location(200);
    driver.event(Event::Located(place(49.0)));
    let reports = driver.on("update/location");
    assert_eq!(
        reports[0]["d"],
        json!({"longitude": 11.5, "latitude": 48.0, "elevation": 0.0, "accuracy": 2.5,
               "measuredDateTime": "2024-05-01T10:00:00Z"})
    );
    assert_eq!(reports[1]["d"], json!({"longitude": 11.5, "latitude": 49.0}));
    assert_ne!(reports[0]["reqId"], reports[1]["reqId"]);
}

#[test]
fn of_locations_that_cannot_be_told_yet_the_newest_is_told_and_none_is_stored() {
    let mut driver = Driver::new();
    for n in 0..5 {
        driver.event(Event::Located(place(f64::from(n))));
    }
    driver.connect(false);
    assert!(told(&driver).is_empty(), "the manage comes first");
    driver.answer_manage(200);
    assert_eq!(told(&driver), [4.0]);
    for n in 5..9 {
        driver.event(Event::Located(place(f64::from(n))));
    }
    assert_eq!(told(&driver), [4.0], "one at a time");
    driver.answer_location(200);
    assert_eq!(told(&driver), [4.0, 8.0]);
    assert!(driver.outbox.is_empty());
    assert_eq!(driver.on_disk().written.location, None);
}

#[test]
fn a_measured_location_that_was_lost_is_not_repeated_and_the_next_one_is_told() {
    for lose in [
        (|driver: &mut Driver| driver.answer_location(500)) as fn(&mut Driver),
        |driver| driver.answer_location(409),
        |driver| driver.answer_location(404),
        |driver| driver.pass(Duration::from_secs(61)),
        |driver| {
            let id = driver.published.last().unwrap().0;
            driver.event(Event::NotPublished(id));
        },
        |driver| {
            let id = driver.published.last().unwrap().0;
            driver.event(Event::PublishRefused(id));
        },
    ] {
        let mut driver = Driver::managed();
        driver.event(Event::Located(place(1.0)));
        lose(&mut driver);
        driver.pass(Duration::from_secs(3600));
        assert_eq!(told(&driver), [1.0]);
        driver.event(Event::Located(place(1.0)));
        assert_eq!(told(&driver), [1.0, 1.0], "whoever measures says when");
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
fn a_location_that_is_measured_stays_and_the_service_is_set_right_once_a_minute() {
    let mut driver = Driver::managed();
    driver.event(Event::Located(place(1.0)));
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
    driver.write("u3", wrong);
    assert_eq!(told(&driver), [1.0, 1.0, 1.0], "long enough after");
    assert_eq!(value(&mut driver, "location.latitude"), json!(1.0));
}

#[test]
fn the_first_measured_location_takes_the_place_of_the_one_from_the_service() {
    let mut driver = Driver::managed();
    driver.write("u1", r#"{"field":"location","value":{"latitude":9,"longitude":9}}"#);
    assert_eq!(driver.agent.status().location.unwrap().source, "service");
    driver.event(Event::Located(place(1.0)));
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
    let mut driver = Driver::managed();
    driver.request(
        "observe",
        "o1",
        r#","d":{"fields":["location","location.latitude","location.accuracy"]}"#,
    );
    driver.broker_has_all();
    driver.published.clear();
    driver.event(Event::Located(Location {
        accuracy: Some(5.0),
        ..place(1.0)
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
    driver.event(Event::Located(place(1.0)));
    assert_eq!(
        driver.on("notify")[0]["d"]["fields"],
        json!([{"field": "location", "value": {"longitude": 11.5, "latitude": 1.0}},
               {"field": "location.accuracy", "value": null}]),
        "what is unknown now is not left standing"
    );
}

#[test]
fn a_device_that_is_not_managed_tells_no_location_and_tells_it_when_it_is_again() {
    let mut driver = managed(fixed());
    driver.event(Event::Unmanage(CommandId(1)));
    driver.event(Event::Located(place(1.0)));
    driver.pass(Duration::from_secs(600));
    assert!(told(&driver).is_empty());
    driver.event(Event::Manage(CommandId(2)));
    driver.answer_manage(200);
    assert_eq!(told(&driver), [1.0]);
}
