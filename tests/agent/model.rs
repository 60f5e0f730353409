//! The device model: whose word counts, and what `device/update` may change.

use std::time::Duration;

use iotdm::agent::effect::Topic;
use iotdm::agent::{Disk, Event, Settings};
use iotdm::protocol::model::{DeviceInfo, Location};
use serde_json::{Map, Value, json};

use crate::driver::{Driver, FULL, settings};

pub(crate) const UPDATE: &str = "iotdm-1/device/update";

/// A host that knows its maker, with a configuration that says something, too.
pub(crate) fn equipped() -> Settings {
    let text = |text: &str| Some(text.to_owned());
    Settings {
        metadata: json!({"site": "south", "rack": 4}).as_object().cloned(),
        device_info: DeviceInfo {
            serial_number: text("S-1"),
            manufacturer: text("Acme"),
            fw_version: text("1.0"),
            ..DeviceInfo::default()
        },
        configured_info: DeviceInfo {
            manufacturer: text("Acme Ltd"),
            model: text("Box"),
            description: text("as delivered"),
            ..DeviceInfo::default()
        },
        ..settings("boot-1")
    }
}

pub(crate) fn managed(settings: Settings) -> Driver {
    let mut driver = Driver::with(settings);
    driver.connect(false);
    driver.answer_manage(200);
    if !driver.on("update/location").is_empty() {
        driver.answer_location(200);
    }
    driver.broker_has_all();
    driver.published.clear();
    driver
}

fn fixed(latitude: f64, longitude: f64) -> Option<Location> {
    Some(Location {
        latitude,
        longitude,
        elevation: None,
        accuracy: None,
        measured_date_time: None,
        extra: Map::new(),
    })
}

/// What the next manage says, after the process has died and the session with it.
fn next_manage(driver: &mut Driver) -> Value {
    driver.restart();
    driver.connect(false);
    let d = driver.on("manage").last().unwrap()["d"].clone();
    driver.answer_manage(200);
    driver.broker_has_all();
    driver.published.clear();
    d
}

/// The value that a fresh observation would be answered with, on a copy of the agent that nobody hears of.
pub(crate) fn read(driver: &Driver, field: &str) -> Value {
    let observe = format!(r#"{{"reqId":"look","d":{{"fields":["{field}"]}}}}"#);
    let message = iotdm::agent::event::Message {
        topic: "iotdm-1/observe".into(),
        payload: observe.into_bytes(),
        retained: false,
        dup: false,
        ack: iotdm::agent::AckId(u64::MAX),
    };
    let step = driver.agent.handle(driver.now, &Event::Message(message), Disk::Works);
    let record: Value = serde_json::from_slice(&step.owe[0].1).unwrap();
    let response: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
    assert_eq!(response["rc"], 200, "{field}");
    response["d"]["fields"][0]["value"].clone()
}

/// The value that observing a field is answered with.
pub(crate) fn value(driver: &mut Driver, field: &str) -> Value {
    driver.broker_has_all();
    let req_id = format!("look-{}", driver.acked.len());
    driver.request("observe", &req_id, &format!(r#","d":{{"fields":["{field}"]}}"#));
    assert_eq!(driver.answers(&req_id), [200], "{field}");
    let answer = driver.on("response").last().unwrap()["d"]["fields"][0]["value"].clone();
    driver.request(
        "cancel",
        &format!("{req_id}-c"),
        &format!(r#","d":{{"fields":["{field}"]}}"#),
    );
    answer
}

#[test]
fn upd_01_an_update_is_204_with_a_request_id_and_silent_without_one() {
    let mut driver = Driver::managed();
    driver.describe("u1", "2.0");
    assert_eq!(driver.answers("u1"), [204]);
    driver.published.clear();
    for fields in [
        r#"[{"field":"mgmt.firmware","value":{"version":"3.0","uri":"https://fw/3"}}]"#,
        r#"[{"field":"metadata","value":{"site":"north"}},{"field":"deviceInfo","value":{"description":"d"}}]"#,
        r#"[{"field":"location","value":{"latitude":1,"longitude":2}}]"#,
    ] {
        driver.receive(UPDATE, &format!(r#"{{"d":{{"fields":{fields}}}}}"#));
    }
    assert!(driver.published.is_empty());
    assert_eq!(driver.on_disk().firmware.version.as_deref(), Some("3.0"));
    assert_eq!(driver.on_disk().written.metadata["site"].value, Some(json!("north")));
    assert_eq!(
        driver.on_disk().written.device_info["description"].value,
        Some(json!("d"))
    );
    assert_eq!(
        driver.on_disk().written.location.unwrap().value,
        Some(json!({"longitude": 2.0, "latitude": 1.0}))
    );
}

#[test]
fn upd_02_what_the_service_writes_is_kept_and_told_with_every_manage() {
    let mut driver = managed(equipped());
    driver.write(
        "u1",
        r#"{"field":"metadata","value":{"site":"north","rack":4,"note":{"a":[1.5,null]}}}"#,
    );
    driver.write(
        "u2",
        r#"{"field":"deviceInfo","value":{"serialNumber":"S-1","manufacturer":"Acme Ltd","model":"Box 2",
        "fwVersion":"1.0","description":"","descriptiveLocation":"hall 2"}}"#,
    );
    assert_eq!((driver.answers("u1"), driver.answers("u2")), (vec![204], vec![204]));
    assert!(driver.on("manage").is_empty(), "the service knows");
    for _ in 0..2 {
        let d = next_manage(&mut driver);
        assert_eq!(
            d["metadata"],
            json!({"site": "north", "rack": 4, "note": {"a": [1.5, null]}})
        );
        assert_eq!(
            d["deviceInfo"],
            json!({"serialNumber": "S-1", "manufacturer": "Acme Ltd", "model": "Box 2", "fwVersion": "1.0",
                   "descriptiveLocation": "hall 2"})
        );
    }
}

#[test]
fn upd_02_a_renewal_in_the_same_run_carries_it_too_and_the_status_shows_it() {
    let mut driver = managed(equipped());
    driver.write(
        "u1",
        r#"{"field":"metadata","value":{"site":"north"}},{"field":"deviceInfo.description","value":"d"}"#,
    );
    driver.broker_has_all();
    driver.published.clear();
    driver.pass(Duration::from_secs(13 * 3600));
    assert_eq!(driver.on("manage")[0]["d"]["metadata"], json!({"site": "north"}));
    assert_eq!(
        serde_json::to_value(driver.agent.status()).unwrap()["written"],
        json!({"metadata.site": "north", "metadata.rack": null, "deviceInfo.description": "d"})
    );
}

#[test]
fn what_belongs_to_the_host_stays_as_it_is_and_one_manage_sets_the_service_right() {
    let mut driver = managed(equipped());
    let wrong = r#"{"field":"deviceInfo","value":{"serialNumber":"S-2","manufacturer":"Other","model":"Box",
        "hwVersion":"9","description":"as delivered"}}"#;
    driver.pass(Duration::from_secs(300));
    driver.write("u1", wrong);
    assert_eq!(driver.answers("u1"), [204]);
    assert!(driver.on_disk().written.device_info.is_empty());
    let told = json!({"serialNumber": "S-1", "manufacturer": "Acme Ltd", "model": "Box", "fwVersion": "1.0",
                      "description": "as delivered"});
    assert_eq!(driver.on("manage").len(), 1);
    assert_eq!(driver.on("manage")[0]["d"]["deviceInfo"], told);
    let said = driver.said.last().unwrap();
    assert!(
        said.1.contains("deviceInfo.serialNumber") && said.1.contains("deviceInfo.hwVersion"),
        "{}",
        said.1
    );
    driver.answer_manage(200);
    driver.broker_has_all();
    driver.pass(Duration::from_secs(600));
    assert_eq!(driver.on("manage").len(), 1, "one");
}

#[test]
fn a_service_that_does_not_let_itself_be_set_right_gets_one_manage_a_minute() {
    let mut driver = managed(equipped());
    driver.pass(Duration::from_secs(300));
    for n in 0..20 {
        // It writes before it answers, and again after it has.
        driver.write(&format!("a{n}"), r#"{"field":"deviceInfo.fwVersion","value":"9"}"#);
        driver.answer_manage(200);
        driver.write(&format!("b{n}"), r#"{"field":"deviceInfo.fwVersion","value":"9"}"#);
        driver.broker_has_all();
        driver.pass(Duration::from_secs(10));
    }
    assert!(
        (3..=5).contains(&driver.on("manage").len()),
        "{}",
        driver.on("manage").len()
    );
}

#[test]
fn upd_02_the_answer_names_what_the_service_has_written_and_the_device_keeps() {
    let mut driver = managed(equipped());
    driver.write("u1", r#"{"field":"deviceInfo.description","value":"d"}"#);
    driver.write(
        "u2",
        r#"{"field":"deviceInfo.fwVersion","value":"9"},{"field":"deviceInfo.description","value":"e"}"#,
    );
    // delivered again
    driver.write(
        "u2",
        r#"{"field":"deviceInfo.fwVersion","value":"9"},{"field":"deviceInfo.description","value":"e"}"#,
    );
    assert_eq!(
        (driver.answers("u1"), driver.answers("u2")),
        (vec![204], vec![204, 204])
    );
    assert_eq!(driver.reason("u1"), "");
    assert_eq!(driver.reason("u2"), "kept by the device: deviceInfo.fwVersion");
}

#[test]
fn the_whole_device_info_as_it_was_told_changes_nothing_and_pins_nothing() {
    let mut driver = managed(equipped());
    let commits = driver.commits;
    let told = driver.agent.settings().clone();
    driver.write("u1", r#"{"field":"deviceInfo","value":{"serialNumber":"S-1","manufacturer":"Acme Ltd","model":"Box",
        "fwVersion":"1.0","description":"as delivered","unheardOf":1}},{"field":"metadata","value":{"rack":4,"site":"south"}}"#);
    assert_eq!(driver.answers("u1"), [204]);
    assert_eq!((driver.commits, driver.on("manage").len()), (commits, 0));
    // Another firmware, and another description in the configuration.
    let mut changed = told;
    changed.device_info.fw_version = Some("2.0".into());
    changed.configured_info.description = Some("moved".into());
    driver.event(Event::Configured(Box::new(changed)));
    let info = driver.on("manage")[0]["d"]["deviceInfo"].clone();
    assert_eq!(
        (&info["fwVersion"], &info["description"]),
        (&json!("2.0"), &json!("moved"))
    );
}

#[test]
fn a_value_of_the_configuration_that_changes_wins_again_and_that_is_logged() {
    let mut driver = managed(Settings {
        location: fixed(1.5, 2.5),
        ..equipped()
    });
    driver.write("u1", r#"{"field":"metadata","value":{"site":"north","note":1}},{"field":"location","value":{"latitude":3,"longitude":4}},
        {"field":"deviceInfo.description","value":"d"},{"field":"deviceInfo.deviceClass","value":"c"}"#);
    assert_eq!(driver.answers("u1"), [204]);
    let d = next_manage(&mut driver);
    assert_eq!(
        d["metadata"],
        json!({"site": "north", "note": 1}),
        "the same configuration again"
    );
    let before = driver.agent.settings().clone();
    let mut changed = before.clone();
    changed.metadata = json!({"site": "west", "rack": 4}).as_object().cloned();
    changed.configured_info.description = None;
    changed.location = fixed(5.0, 6.0);
    driver.event(Event::Configured(Box::new(changed.clone())));
    let d = driver.on("manage")[0]["d"].clone();
    assert_eq!(
        d["metadata"],
        json!({"site": "west", "note": 1}),
        "rack was taken away, and nobody has said it anew"
    );
    assert_eq!(d["deviceInfo"].get("description"), None);
    assert_eq!(d["deviceInfo"]["deviceClass"], "c");
    assert_eq!(
        driver.on("update/location")[0]["d"],
        json!({"longitude": 6.0, "latitude": 5.0})
    );
    let (topic, text) = driver
        .said
        .iter()
        .rfind(|(topic, _)| *topic == Topic::Attributes)
        .unwrap();
    assert_eq!(*topic, Topic::Attributes);
    for name in ["metadata.site", "deviceInfo.description", "location"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("rack") && !text.contains("note"), "{text}");
    // The old configuration back does not bring the service's words back.
    driver.event(Event::Configured(Box::new(before)));
    driver.answer_manage(200);
    assert_eq!(driver.on("manage").last().unwrap()["d"]["metadata"]["site"], "south");
}

#[test]
fn a_changed_configuration_wins_after_a_restart_too_and_a_fact_that_the_host_comes_to_know() {
    let mut driver = managed(equipped());
    driver.write(
        "u1",
        r#"{"field":"metadata.site","value":"north"},{"field":"deviceInfo.model","value":"Box 2"}"#,
    );
    driver.host_reboots("boot-2");
    let mut changed = driver.agent.settings().clone();
    changed.metadata = json!({"site": "west"}).as_object().cloned();
    changed.device_info.model = Some("PX-30".into());
    changed.configured_info.model = None;
    driver.starts_with(changed);
    driver.connect(true);
    let d = driver.on("manage")[0]["d"].clone();
    assert_eq!(
        (&d["metadata"], &d["deviceInfo"]["model"]),
        (&json!({"site": "west"}), &json!("PX-30"))
    );
    assert!(driver.on_disk().written.is_empty());
}

#[test]
fn a_member_of_metadata_and_of_device_info_can_be_written_alone() {
    let mut driver = managed(equipped());
    driver.write(
        "u1",
        r#"{"field":"metadata.site","value":"north"},{"field":"metadata.new","value":[1]}"#,
    );
    driver.write(
        "u2",
        r#"{"field":"metadata.rack","value":null},{"field":"deviceInfo.description","value":"d"}"#,
    );
    assert_eq!((driver.answers("u1"), driver.answers("u2")), (vec![204], vec![204]));
    let d = next_manage(&mut driver);
    assert_eq!(d["metadata"], json!({"site": "north", "new": [1]}));
    assert_eq!(d["deviceInfo"]["description"], "d");
    assert_eq!(d["deviceInfo"]["model"], "Box", "nothing else is taken away");
}

#[test]
fn upd_03_unknown_fields_are_404_with_their_names_and_nothing_is_applied() {
    let mut driver = managed(equipped());
    for (unknown, more) in [
        (vec!["battery"], r#"{"field":"battery","value":1}"#),
        (
            vec!["deviceInfo.nothing", "mgmt"],
            r#"{"field":"deviceInfo.nothing","value":"x"},{"field":"mgmt","value":{}}"#,
        ),
        (vec!["metadata."], r#"{"field":"metadata.","value":1}"#),
        (
            vec!["mgmt.firmware.nothing"],
            r#"{"field":"mgmt.firmware.nothing","value":1}"#,
        ),
        (vec!["location.altitude"], r#"{"field":"location.altitude","value":1}"#),
        (vec![""], r#"{"field":"","value":1}"#),
    ] {
        let req_id = unknown.join("+");
        driver.write(
            &format!("u{req_id}"),
            &format!(r#"{{"field":"metadata","value":{{"site":"north"}}}},{more}"#),
        );
        let answer = driver.on("response").pop().unwrap().clone();
        assert_eq!((&answer["rc"], &answer["d"]["fields"]), (&json!(404), &json!(unknown)));
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
    let long = "x".repeat(1000);
    let many: Vec<_> = (0..64)
        .map(|n| format!(r#"{{"field":"{n}{long}","value":1}}"#))
        .collect();
    driver.write("many", &many.join(","));
    let answer = driver.on("response").pop().unwrap().clone();
    let names = answer["d"]["fields"].as_array().unwrap();
    assert_eq!((&answer["rc"], names.len()), (&json!(404), 32));
    let length = names.iter().map(|name| name.as_str().unwrap().len()).max();
    assert_eq!(length, Some(100), "not the whole request comes back");
    assert!(answer["message"].as_str().unwrap().len() < 1000);
    assert!(driver.on_disk().written.is_empty());
}

#[test]
fn an_update_has_at_most_64_fields_and_of_more_nothing_is_done() {
    let mut driver = managed(equipped());
    let fields = |count: usize| {
        let fields = (0..count).map(|n| format!(r#"{{"field":"metadata.m{n}","value":1}}"#));
        fields.collect::<Vec<_>>().join(",")
    };
    driver.write("u1", &fields(65));
    assert_eq!(driver.answers("u1"), [400]);
    assert!(driver.reason("u1").contains("at most 64"), "{}", driver.reason("u1"));
    assert!(driver.on_disk().written.is_empty());
    let unknown: Vec<_> = (0..10_000)
        .map(|n| format!(r#"{{"field":"x{n}","value":1}}"#))
        .collect();
    driver.write("u2", &unknown.join(","));
    assert_eq!(driver.answers("u2"), [400], "before any name is looked at");
    driver.write("u3", &fields(64));
    assert_eq!(driver.answers("u3"), [204]);
    assert_eq!(driver.on_disk().written.metadata.len(), 64);
}

#[test]
fn upd_05_both_historic_shapes_of_an_update_are_taken() {
    let mut driver = Driver::managed();
    for (req_id, field, value) in [
        ("u1", "mgmt.firmware", r#"{"version":"1.9"}"#),
        ("u2", "metadata", r#"{"site":"north"}"#),
        ("u3", "location", r#"{"latitude":1,"longitude":2}"#),
    ] {
        let d = format!(r#","d":{{"field":"{field}","value":{value}}}"#);
        driver.request("device/update", req_id, &d);
        assert_eq!(driver.answers(req_id), [204], "{field}");
    }
    assert_eq!(driver.on_disk().firmware.version.as_deref(), Some("1.9"));
    assert_eq!(driver.on_disk().written.metadata.len(), 1);
    assert!(driver.on_disk().written.location.is_some());
}

#[test]
fn a_value_that_cannot_be_is_400_with_the_reason_and_nothing_of_the_request_is_applied() {
    let mut driver = managed(equipped());
    let deep = format!(
        r#"{{"field":"metadata","value":{}1{}}}"#,
        r#"{"a":"#.repeat(9),
        "}".repeat(9)
    );
    let large = format!(r#"{{"field":"metadata","value":{{"a":"{}"}}}}"#, "x".repeat(64 * 1024));
    let long = format!(
        r#"{{"field":"deviceInfo","value":{{"description":"{}"}}}}"#,
        "x".repeat(257)
    );
    let location = |members: &str| format!(r#"{{"field":"location","value":{{{members}}}}}"#);
    let (a, b) = (
        location(r#""latitude":1,"longitude":2"#),
        r#"{"field":"deviceInfo","value":{}}"#,
    );
    let twice = format!("{a},{a}");
    let before = driver.commits;
    for (fields, reason) in [
        (location(r#""latitude":1"#).as_str(), "location.longitude: is missing"),
        (&location(r#""longitude":1"#), "location.latitude: is missing"),
        (&location(r#""latitude":91,"longitude":1"#), "location.latitude: is 91"),
        (
            &location(r#""latitude":1,"longitude":-180.1"#),
            "location.longitude: is -180.1",
        ),
        (
            &location(r#""latitude":"1","longitude":1"#),
            "location.latitude: is a string",
        ),
        (
            &location(r#""latitude":1,"longitude":null"#),
            "location.longitude: is missing",
        ),
        (
            &location(r#""latitude":1,"longitude":1,"accuracy":-1"#),
            "location.accuracy: is negative",
        ),
        (
            &location(r#""latitude":1,"longitude":1,"elevation":"high""#),
            "location.elevation",
        ),
        (
            &location(r#""latitude":1,"longitude":1,"measuredDateTime":"noon""#),
            "location.measuredDateTime",
        ),
        (r#"{"field":"location","value":7}"#, "location: is a number"),
        (r#"{"field":"location","value":null}"#, "location: is null"),
        (
            r#"{"field":"location.latitude","value":1}"#,
            "location.latitude: cannot be written alone",
        ),
        (
            r#"{"field":"mgmt.firmware.state","value":1}"#,
            "mgmt.firmware.state: cannot be written alone",
        ),
        (
            r#"{"field":"mgmt.firmware","value":{"state":"x"}}"#,
            "mgmt.firmware.state",
        ),
        (r#"{"field":"mgmt.firmware","value":[]}"#, "mgmt.firmware: is an array"),
        (r#"{"field":"metadata","value":[]}"#, "metadata: is an array"),
        (r#"{"field":"metadata","value":"site"}"#, "metadata: is a string"),
        (r#"{"field":"metadata.a.b","value":1}"#, "metadata: only a member"),
        (&deep, "levels deep; at most 8"),
        (&large, "at most 65536"),
        (
            r#"{"field":"deviceInfo","value":{"description":7}}"#,
            "deviceInfo.description: is a number",
        ),
        (
            r#"{"field":"deviceInfo.description","value":{}}"#,
            "deviceInfo.description: is an object",
        ),
        (&long, "deviceInfo.description: is longer than 256"),
        (&twice, "location: is given twice"),
        (
            &format!(r#"{b},{{"field":"deviceInfo.description","value":"x"}}"#),
            "deviceInfo.description: is given twice",
        ),
        (
            r#"{"field":"metadata.a","value":1},{"field":"metadata.a","value":2}"#,
            "metadata.a: is given twice",
        ),
        ("", "d.fields: is empty"),
    ] {
        let req_id = format!("u{reason}");
        let good = if fields.is_empty() || fields.contains("metadata") {
            ""
        } else {
            r#"{"field":"metadata","value":{"site":"north"}},"#
        };
        driver.write(&req_id, &format!("{good}{fields}"));
        driver.broker_has_all();
        assert_eq!(driver.answers(&req_id), [400], "{fields:.200}");
        assert!(
            driver.reason(&req_id).contains(reason),
            "{reason}: {}",
            driver.reason(&req_id)
        );
        driver.published.clear();
    }
    assert_eq!(driver.commits, before, "bad input never reaches the disk");
    assert!(driver.on_disk().written.is_empty());
}

#[test]
fn fwd_09_firmware_that_is_busy_is_409_and_nothing_else_of_the_request_is_applied() {
    let mut driver = Driver::downloaded();
    driver.update("i1");
    driver.surveyed(crate::firmware::slots("rootfs.0"));
    driver.broker_has_all();
    driver.write(
        "w1",
        r#"{"field":"metadata","value":{"site":"north"}},{"field":"mgmt.firmware","value":{"version":"9"}}"#,
    );
    assert_eq!(driver.answers("w1"), [409]);
    assert!(driver.on_disk().written.is_empty());
    driver.write("w2", r#"{"field":"metadata","value":{"site":"north"}}"#);
    assert_eq!(driver.answers("w2"), [204], "the rest of the model is not busy");
}

#[test]
fn what_the_disk_refuses_is_500_and_not_applied_and_what_changes_nothing_needs_no_disk() {
    let mut driver = managed(equipped());
    driver.disk_full = true;
    let fields = r#"{"field":"metadata.site","value":"north"}"#;
    driver.write("u1", fields);
    assert_eq!(driver.answers("u1"), [500]);
    assert!(driver.reason("u1").contains(FULL));
    driver.write("u2", r#"{"field":"metadata.site","value":"south"}"#);
    assert_eq!(driver.answers("u2"), [204]);
    assert_eq!(value_of_manage(&mut driver)["site"], "south");
    driver.disk_full = false;
    driver.write("u1", fields);
    assert_eq!(
        driver.answers("u1"),
        [500, 204],
        "what the disk refused may be tried again"
    );
}

fn value_of_manage(driver: &mut Driver) -> Value {
    driver.event(Event::Manage(iotdm::agent::CommandId(1)));
    driver.on("manage").last().unwrap()["d"]["metadata"].clone()
}

#[test]
fn a_manage_that_was_on_its_way_when_the_service_wrote_is_followed_by_another() {
    let mut driver = Driver::with(equipped());
    driver.connect(false);
    assert_eq!(driver.on("manage")[0]["d"]["metadata"]["site"], "south");
    driver.write("u1", r#"{"field":"metadata.site","value":"north"}"#);
    driver.answer_manage(200);
    assert_eq!(driver.on("manage").len(), 2);
    assert_eq!(driver.on("manage")[1]["d"]["metadata"]["site"], "north");
    driver.answer_manage(200);
    driver.write("u2", r#"{"field":"metadata.site","value":"north"}"#);
    driver.pass(Duration::from_secs(60));
    assert_eq!(driver.on("manage").len(), 2);
}

#[test]
fn where_configuration_and_service_together_say_too_much_the_configuration_wins() {
    let mut driver = managed(settings("boot-1"));
    let large = |name: &str| Value::from(Map::from_iter([(name.to_owned(), Value::from("x".repeat(40 * 1024)))]));
    let field = json!({"field": "metadata", "value": large("theirs")});
    driver.write("u1", &field.to_string());
    assert_eq!(driver.answers("u1"), [204]);
    driver.broker_has_all();
    let mut changed = driver.agent.settings().clone();
    changed.metadata = large("ours").as_object().cloned();
    driver.event(Event::Configured(Box::new(changed)));
    assert_eq!(driver.on("manage").last().unwrap()["d"]["metadata"], large("ours"));
    assert!(driver.on_disk().written.is_empty());
}

#[test]
fn every_attribute_and_its_members_can_be_read_and_what_is_unknown_is_null() {
    let mut driver = managed(Settings {
        location: fixed(48.13715, 11.57612),
        ..equipped()
    });
    for (field, expected) in [
        ("metadata", json!({"site": "south", "rack": 4})),
        ("metadata.rack", json!(4)),
        ("location", json!({"longitude": 11.57612, "latitude": 48.13715})),
        ("location.latitude", json!(48.13715)),
        ("location.elevation", json!(null)),
        (
            "deviceInfo",
            json!({"serialNumber": "S-1", "manufacturer": "Acme Ltd", "model": "Box", "description": "as delivered",
                              "fwVersion": "1.0"}),
        ),
        ("deviceInfo.fwVersion", json!("1.0")),
        ("deviceInfo.hwVersion", json!(null)),
        ("mgmt.firmware.state", json!(0)),
    ] {
        assert_eq!(value(&mut driver, field), expected, "{field}");
    }
    let mut bare = Driver::managed();
    assert_eq!(value(&mut bare, "location"), json!({}));
    assert_eq!(value(&mut bare, "metadata"), json!({}));
    bare.write(
        "u1",
        r#"{"field":"metadata","value":{"a.b":1,"a":{"b":2,"c":{"d":3}}}}"#,
    );
    assert_eq!(
        value(&mut bare, "metadata.a.b"),
        json!(1),
        "a name with a dot comes first"
    );
    assert_eq!(value(&mut bare, "metadata.a.c.d"), json!(3));
}

#[test]
fn a_device_that_is_not_managed_takes_no_updates_and_what_was_written_before_counts_again_after() {
    let mut driver = managed(equipped());
    driver.write("u1", r#"{"field":"metadata.site","value":"north"}"#);
    driver.event(Event::Unmanage(iotdm::agent::CommandId(1)));
    driver.write("u2", r#"{"field":"metadata.site","value":"east"}"#);
    assert_eq!(driver.answers("u2"), [400]);
    assert_eq!(value_of_manage(&mut driver)["site"], "north");
    driver.answer_manage(200);
    driver.write("u2", r#"{"field":"metadata.site","value":"east"}"#);
    assert_eq!(
        driver.answers("u2"),
        [400, 204],
        "a refusal because it is not managed is not remembered"
    );
}
