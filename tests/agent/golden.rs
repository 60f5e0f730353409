//! What released versions wrote, byte by byte: it is read for ever. A new version adds files here and changes none.

use std::time::Duration;

use iotdm::agent::durable::{Durable, RebootPhase, Wish};
use iotdm::agent::{Agent, Event, OweId, ResetReport, Settings, Verdict, reset};
use iotdm::protocol::model::Location;
use serde_json::{Value, json};

use crate::driver::{Driver, settings};
use crate::firmware::written;

#[test]
fn the_state_of_0_1_is_read_whole_and_written_back_as_it_was() {
    let golden = include_str!("golden/state-0.1.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    assert_eq!(durable.wish, Wish::Managed);
    let reboot = durable.reboot().unwrap();
    assert_eq!((reboot.phase, reboot.requests.len()), (RebootPhase::Accepted, 1));
    assert_eq!((durable.handled.len(), durable.short_boots), (2, 2));
    assert!(
        durable.extra.is_empty() && reboot.extra.is_empty(),
        "all of it is understood"
    );
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);
}

#[test]
fn a_factory_reset_of_0_1_is_read_whole_written_back_as_it_was_and_comes_to_its_end() {
    let golden = include_str!("golden/state-0.1-reset.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    let reset = durable.reset().unwrap();
    assert_eq!((reset.phase, reset.requests.len()), (reset::record::Phase::Starting, 1));
    assert!(
        durable.extra.is_empty() && reset.extra.is_empty(),
        "all of it is understood"
    );
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);

    let asked_in = reset.boot_id.clone();
    let mut driver = Driver::new();
    driver.disk = golden.into();
    driver.host_reboots("boot-2");
    driver.report_is(Ok(Some(ResetReport {
        id: "boot-2".into(),
        asked_in,
        failed: None,
        text: "/data/app wiped".into(),
    })));
    driver.connect(true);
    assert_eq!(driver.order(), ["log", "manage"]);
    assert_eq!(driver.on_disk().reset_told.as_deref(), Some("boot-2"));
}

#[test]
fn what_the_service_wrote_in_0_1_is_read_whole_written_back_as_it_was_and_still_counts() {
    let golden = include_str!("golden/state-0.1-model.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    assert_eq!((durable.others.len(), durable.written.metadata.len()), (2, 3));
    assert!(
        durable.extra.is_empty() && durable.written.extra.is_empty(),
        "all of it is understood"
    );
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);

    let mut driver = Driver::new();
    driver.disk = golden.into();
    let fixed = json!({"latitude": 48.0, "longitude": 11.5});
    driver.starts_with(Settings {
        metadata: json!({"site": "south", "zone": "b"}).as_object().cloned(),
        location: Some(Location::parse("", fixed).unwrap()),
        ..settings("boot-1")
    });
    driver.connect(true);
    let manage = driver.on("manage")[0]["d"].clone();
    assert_eq!(manage["metadata"], json!({"site": "north", "rack": 4}));
    assert_eq!(manage["deviceInfo"]["description"], "hall 2");
    driver.answer_manage(200);
    assert_eq!(driver.order(), ["manage"], "neither told back nor notified");
    let mut newer: Value = serde_json::from_slice(&driver.disk).unwrap();
    for path in [
        "/written",
        "/written/metadata/site",
        "/written/device_info/description",
        "/others/1",
    ] {
        add_a_member(newer.pointer_mut(path).unwrap());
    }
    driver.disk = newer.to_string().into_bytes();
    driver.restart();
    driver.write("m9", r#"{"field":"metadata.rack","value":5}"#);
    let kept: Value = serde_json::from_slice(&driver.disk).unwrap();
    assert_eq!(kept["written"]["metadata"]["rack"]["value"], 5);
    newer["written"]["metadata"]["rack"]["value"] = 5.into();
    assert_eq!(kept["written"], newer["written"]);
    assert_eq!(kept["others"][1], newer["others"][1]);
}

#[test]
fn the_outbox_of_0_1_is_sent() {
    let lines = include_str!("golden/outbox-0.1.jsonl").lines();
    let owed = lines
        .enumerate()
        .map(|(n, line)| (OweId(n as u64), line.as_bytes().to_vec()))
        .collect();
    let mut driver = Driver::new();
    driver.agent = Agent::new(settings("boot-1"), Durable::default(), owed, [0; 16]);
    driver.event(Event::Started);
    driver.connect(false);
    assert_eq!(driver.answers("o1"), [501]);
    assert_eq!(driver.answers("r9"), [500]);
    assert_eq!(driver.on("log")[0]["d"]["message"], "the reboot did not happen");
    assert_eq!(
        driver.agent.status().owed,
        3,
        "what a newer version wrote stays on the disk"
    );
}

#[test]
fn whose_memory_it_is_in_0_1_is_read_whole_written_back_as_it_was_and_compared() {
    let golden = include_str!("golden/state-0.1-identity.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    assert!(durable.extra.is_empty(), "all of it is understood");
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);

    let record = include_bytes!("golden/outbox-0.1-identity.jsonl").trim_ascii_end();
    for (identity, logs) in [("g:acme:edge:gw-1", 1), ("g:acme:edge:gw-2", 0)] {
        let mut driver = Driver::new();
        driver.disk = golden.into();
        driver.outbox = [(OweId(1), record.to_vec())].into();
        driver.starts_with(Settings {
            identity: identity.into(),
            service: "mqtts://broker.example.com:8883".into(),
            ..settings("boot-1")
        });
        driver.connect(true);
        driver.answer_manage(200);
        assert_eq!(driver.on("add/diag/log").len(), logs, "{identity}");
    }
}

fn add_a_member(object: &mut Value) {
    object["from_a_newer_version"] = json!({"since": 2});
}

/// A member that this version does not know, in every object of a document.
fn add_a_member_everywhere(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(add_a_member_everywhere);
            object.insert("from_a_newer_version".into(), json!({"since": 2}));
        }
        Value::Array(values) => values.iter_mut().for_each(add_a_member_everywhere),
        _ => {}
    }
}

#[test]
fn after_a_fall_back_the_old_agent_reads_what_the_newer_one_wrote_and_tells_the_outcome() {
    for phase in ["trial", "rolling-back"] {
        let mut driver = Driver::on_trial();
        driver.connect(true);
        driver.answer_manage(200);
        if phase == "rolling-back" {
            driver.health(Verdict::Bad("modbus.service has failed".into()));
            driver.pass(Duration::from_secs(11));
        }
        let mut newer: Value = serde_json::from_slice(&driver.disk).unwrap();
        assert_eq!(newer["exclusive"]["update"]["phase"], phase);
        add_a_member_everywhere(&mut newer);
        // Under "exclusive" stands what is under way, by its name: a name more would be something else.
        newer["exclusive"]
            .as_object_mut()
            .unwrap()
            .remove("from_a_newer_version");
        // What was observed is told as it was told: a member more is a change that the service is owed.
        let told = newer["observed"][0]["told"].as_object_mut().unwrap();
        told.remove("from_a_newer_version");
        driver.disk = newer.to_string().into_bytes();

        driver.host_reboots("boot-3");
        driver.surveyed(written("rootfs.0"));
        driver.marked(Ok(()));
        driver.connect(true);
        driver.answer_manage(200);
        assert_eq!(
            driver.answer_notifies(200).last().unwrap()["updateStatus"],
            5,
            "{phase}"
        );
        assert_eq!(driver.on("add/diag/log").len(), 1, "{phase}: the reason is told");
        let kept: Value = serde_json::from_slice(&driver.disk).unwrap();
        assert_eq!(kept["exclusive"], Value::Null, "{phase}: it is over");
        for path in ["", "/firmware", "/observed/0", "/handled/0"] {
            let object = kept.pointer(path).unwrap();
            assert_eq!(object["from_a_newer_version"]["since"], 2, "{phase}: {path}: {kept}");
        }
    }
}

#[test]
fn what_0_1_was_telling_is_told_on_under_the_same_request_ids() {
    let golden = include_str!("golden/state-0.1-telling.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    assert!(durable.extra.is_empty() && durable.diagnostics.extra.is_empty());
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);

    let record = include_bytes!("golden/outbox-0.1-telling.jsonl").trim_ascii_end();
    let mut driver = Driver::new();
    driver.disk = golden.into();
    driver.outbox = [(OweId(1), record.to_vec())].into();
    driver.starts_with(crate::codes::ruled());
    driver.connect(true);
    driver.answer_manage(200);
    let req_id = |tail: &str| driver.on(tail)[0]["reqId"].clone();
    assert_eq!(req_id("add/diag/errorCodes"), "7d9a0a2e-6c0d-4f0e-9a54-0d1a6f0b2c42");
    assert_eq!(req_id("add/diag/log"), "1b0e6f4c-2f7d-4b52-8f0e-5a3f9c1d7e01");
    driver.pass(Duration::from_secs(1));
    let summaries: Vec<_> = driver.on("add/diag/log")[1..]
        .iter()
        .map(|log| crate::diagnostics::data(&log["d"]))
        .collect();
    let gap = serde_json::json!({"gap": 1, "at_most": 8, "cursor": "s=1;i=4"});
    let dropped = serde_json::json!({"dropped": 2, "count": 3, "cursor": "s=1;i=1"});
    assert_eq!(summaries, [gap, dropped]);
}

#[test]
fn diagnostics_of_0_1_are_read_whole_written_back_as_they_were_and_go_on() {
    let golden = include_str!("golden/state-0.1-diagnostics.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    assert!(durable.extra.is_empty() && durable.diagnostics.extra.is_empty());
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);

    let lines = include_str!("golden/outbox-0.1-diagnostics.jsonl").lines();
    let records = lines
        .enumerate()
        .map(|(n, line)| (OweId(n as u64), line.as_bytes().to_vec()));
    let mut driver = Driver::new();
    driver.disk = golden.into();
    driver.outbox = records.collect();
    driver.starts_with(crate::codes::ruled());
    assert_eq!(driver.agent.journal_cursor(), Some("s=1;i=8"));
    driver.connect(true);
    driver.answer_manage(200);
    assert_eq!(driver.order(), ["manage", "errorCodes", "log", "log"]);
    assert_eq!(
        driver.on("clear/diag/errorCodes").len(),
        1,
        "was asked for before the restart"
    );
    driver.answer("clear/diag/errorCodes", 200, 1);
    assert_eq!(
        driver.on("add/diag/errorCodes")[0]["d"]["errorCode"],
        50,
        "an entry has matched"
    );
    driver.answer("add/diag/log", 200, 1);
    driver.answer("clear/diag/log", 200, 1);
    assert_eq!(driver.on("add/diag/log")[0]["d"]["message"], "after the clear");
    driver.pass(Duration::from_secs(301));
    let texts: Vec<_> = driver
        .on("add/diag/log")
        .iter()
        .map(|log| log["d"]["message"].clone())
        .collect();
    let told = |words: &str| texts.iter().any(|text| text.as_str().unwrap().contains(words));
    assert!(
        told("at most 8 of any priority") && told("held back") && told("(3 more like this"),
        "{texts:?}"
    );
}
