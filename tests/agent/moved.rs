//! The memory belongs to one device at one service: what follows when one of them is another one.

use std::time::Duration;

use iotdm::agent::diagnostics::DiagCommand;
use iotdm::agent::durable::{Durable, Wish};
use iotdm::agent::{CommandId, Event, RebootOutcome, Settings};
use serde_json::{Value, json};

use crate::codes::ruled;
use crate::driver::{Driver, settings};
use crate::location::{fixed, told};

const MINUTE: Duration = Duration::from_secs(60);
const ADD: &str = "add/diag/errorCodes";
const CLEAR: &str = "clear/diag/errorCodes";

fn at_another_service(settings: Settings) -> Settings {
    Settings {
        service: "mqtts://elsewhere.example.com:8883".into(),
        ..settings
    }
}

fn as_another_device(settings: Settings) -> Settings {
    Settings {
        identity: "d:acme:edge:gw-2".into(),
        ..settings
    }
}

/// By a reload, or by a restart, as the daemon does it: the session with the old service is left first.
fn moves(driver: &mut Driver, to: Settings, restart: bool) {
    driver.event(Event::Disconnected);
    if restart {
        driver.starts_with(to);
    } else {
        driver.event(Event::Configured(Box::new(to)));
    }
    driver.published.clear();
}

fn managed(settings: Settings) -> Driver {
    let mut driver = Driver::with(settings);
    driver.connect(false);
    driver.answer_manage(200);
    driver
}

/// What is ready to be owed becomes a record.
fn adds_log(driver: &mut Driver, text: &str) {
    driver.diag(DiagCommand::AddLog {
        severity: iotdm::protocol::diagnostics::Severity::Error,
        text: text.into(),
        data: None,
    });
}

#[test]
fn another_service_is_told_the_error_codes_that_hold_after_a_clear() {
    for restart in [false, true] {
        let mut driver = managed(ruled());
        driver.diag(DiagCommand::AddError(7));
        driver.answer(ADD, 200, 1);
        moves(&mut driver, at_another_service(ruled()), restart);
        driver.connect(false);
        assert_eq!(driver.order(), ["manage"], "restart: {restart}");
        driver.answer_manage(200);
        driver.answer(CLEAR, 200, 1);
        assert_eq!(driver.on(ADD)[0]["d"]["errorCode"], 7, "restart: {restart}");
        driver.answer(ADD, 200, 1);
        assert_eq!(driver.agent.status().error_codes, [7]);

        moves(&mut driver, at_another_service(ruled()), restart);
        driver.connect(false);
        driver.answer_manage(200);
        driver.pass(MINUTE);
        assert!(driver.on(ADD).is_empty(), "restart: {restart}: it is the same service");
    }
}

#[test]
fn another_service_is_told_where_the_device_is() {
    let mut driver = managed(fixed());
    driver.answer_location(200);
    moves(&mut driver, at_another_service(fixed()), false);
    driver.connect(false);
    assert!(told(&driver).is_empty(), "it does not manage the device yet");
    driver.answer_manage(200);
    assert_eq!(told(&driver), [48.0]);
}

#[test]
fn another_service_has_its_answer_to_manage_before_it_is_told_anything_and_observes_nothing() {
    for restart in [false, true] {
        let mut driver = managed(ruled());
        driver.request("observe", "o1", r#","d":{"fields":["deviceInfo"]}"#);
        driver.broker_has_all();
        driver.event(Event::Disconnected);
        adds_log(&mut driver, "out of paper");
        let mut to = at_another_service(ruled());
        to.device_info.fw_version = Some("2.0".into());
        moves(&mut driver, to, restart);
        assert!(!driver.agent.status().managed);
        assert!(driver.on_disk().observed.is_empty());
        driver.connect(true);
        assert_eq!(driver.order(), ["manage"], "restart: {restart}");
        driver.answer_manage(200);
        driver.pass(MINUTE);
        assert_eq!(driver.on("add/diag/log")[0]["d"]["message"], "out of paper");
        assert!(driver.on("notify").is_empty());
    }
}

#[test]
fn what_the_service_wrote_and_the_wish_move_with_the_device_to_another_service() {
    let mut driver = Driver::managed();
    driver.write("u1", r#"{"field":"deviceInfo.description","value":"hall 2"}"#);
    driver.broker_has_all();
    moves(&mut driver, at_another_service(settings("boot-1")), true);
    driver.connect(false);
    assert_eq!(driver.on("manage")[0]["d"]["deviceInfo"]["description"], "hall 2");
    driver.answer_manage(200);
    driver.event(Event::Unmanage(CommandId(1)));
    moves(&mut driver, settings("boot-1"), true);
    driver.connect(false);
    assert_eq!(driver.order(), ["unmanage"]);
}

/// A device that has answers, logs, requests and attributes of its own, and that nobody reaches any more.
fn lived() -> Driver {
    let mut driver = managed(ruled());
    driver.write("u1", r#"{"field":"deviceInfo.description","value":"hall 2"}"#);
    driver.diag(DiagCommand::AddError(7));
    driver.answer(ADD, 200, 1);
    driver.request("observe", "o1", r#","d":{"fields":["deviceInfo"]}"#);
    driver.broker_has_all();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Refused {
        rc: iotdm::protocol::Rc::INTERNAL,
        message: "blocked".into(),
    });
    driver.write("u2", r#"{"field":"deviceInfo.nothing","value":"x"}"#);
    let undelivered: Vec<_> = driver.published.iter().map(|(id, ..)| *id).collect();
    driver.event(Event::Disconnected);
    for id in undelivered {
        driver.event(Event::NotPublished(id));
    }
    adds_log(&mut driver, "out of paper");
    driver
}

#[test]
fn another_device_inherits_nothing_and_what_is_dropped_is_told() {
    for restart in [false, true] {
        let mut driver = lived();
        moves(&mut driver, as_another_device(ruled()), restart);
        let disk = driver.on_disk();
        assert!(disk.written.is_empty() && disk.observed.is_empty());
        assert!(disk.handled.is_empty() && disk.others.is_empty());
        assert!(driver.outbox.is_empty(), "restart: {restart}");
        let said = driver.said.iter().map(|(_, text)| text.as_str());
        let line: Vec<_> = said.filter(|text| text.contains("d:acme:edge:gw-2")).collect();
        assert_eq!(line.len(), 1, "{line:?}");
        for words in ["d:acme:edge:gw-1", "2 answers", "1 log", "deviceInfo.description"] {
            assert!(line[0].contains(words), "{words}: {line:?}");
        }
        driver.connect(false);
        assert_eq!(driver.order(), ["manage"], "restart: {restart}");
        assert!(driver.on("manage")[0]["d"]["deviceInfo"].get("description").is_none());
        driver.answer_manage(200);
        driver.answer(CLEAR, 200, 1);
        driver.answer(ADD, 200, 1);
        driver.pass(MINUTE * 2);
        assert!(driver.on("response").is_empty() && driver.on("add/diag/log").is_empty());
        driver.ask_reboot("r1");
        assert_eq!(driver.reboots.len(), 2, "nobody has asked this device before");
    }
}

#[test]
fn another_device_is_to_be_managed_whatever_the_one_before_was() {
    for restart in [false, true] {
        let mut driver = Driver::managed();
        driver.event(Event::Unmanage(CommandId(1)));
        driver.answer("unmanage", 200, 1);
        assert_eq!(driver.on_disk().wish, Wish::Unmanaged);
        moves(&mut driver, as_another_device(settings("boot-1")), restart);
        driver.connect(true);
        assert_eq!(driver.order(), ["manage"], "restart: {restart}");
        assert_eq!(driver.on_disk().wish, Wish::Managed);
    }
}

#[test]
fn a_reboot_that_another_device_was_asked_for_goes_on_and_is_answered_to_nobody() {
    for (accepted, restart) in [(false, false), (true, false), (true, true)] {
        let mut driver = Driver::managed();
        driver.ask_reboot("r1");
        if accepted {
            driver.reboot_ends(RebootOutcome::Accepted);
        }
        moves(&mut driver, as_another_device(settings("boot-1")), restart);
        if !accepted {
            driver.reboot_ends(RebootOutcome::Accepted);
        }
        assert!(driver.released > 0, "the host need not wait for an answer");
        driver.connect(false);
        assert!(driver.published.is_empty(), "a manage would look like the end of it");
        driver.host_reboots("boot-2");
        driver.connect(false);
        assert_eq!(driver.order(), ["manage"]);
    }
}

#[test]
fn a_record_that_comes_back_after_a_power_cut_is_not_sent_as_another_device() {
    let mut driver = lived();
    let records = driver.outbox.clone();
    moves(&mut driver, as_another_device(ruled()), true);
    // Their removal had not reached the disk.
    driver.outbox = records;
    driver.restart();
    assert!(driver.outbox.is_empty());
    driver.connect(false);
    driver.answer_manage(200);
    driver.answer(CLEAR, 200, 1);
    driver.answer(ADD, 200, 1);
    driver.pass(MINUTE);
    assert!(driver.on("add/diag/log").is_empty() && driver.on("response").is_empty());
}

#[test]
fn a_command_that_waits_for_the_old_service_is_replied_to() {
    let mut driver = Driver::managed();
    driver.event(Event::Manage(CommandId(1)));
    driver.event(Event::Configured(Box::new(at_another_service(settings("boot-1")))));
    assert_eq!(driver.replies.len(), 1);
}

#[test]
fn the_memory_of_a_version_that_did_not_know_whose_it_is_is_taken_over_whole() {
    let mut driver = lived();
    let mut older: Value = serde_json::from_slice(&driver.disk).unwrap();
    for member in ["identity", "service"] {
        older.as_object_mut().unwrap().remove(member).unwrap();
    }
    driver.disk = older.to_string().into_bytes();
    for record in driver.outbox.values_mut() {
        let mut older: Value = serde_json::from_slice(record).unwrap();
        older.as_object_mut().unwrap().remove("identity").unwrap();
        *record = older.to_string().into_bytes();
    }
    let records = driver.outbox.len();
    driver.starts_with(as_another_device(at_another_service(ruled())));
    assert_eq!(driver.outbox.len(), records);
    let kept: Value = serde_json::from_slice(&driver.disk).unwrap();
    for member in ["written", "handled", "others", "observed", "diagnostics"] {
        assert_eq!(kept[member], older[member], "{member}");
    }
    assert_eq!(
        (&kept["identity"], &kept["service"]),
        (&json!("d:acme:edge:gw-2"), &json!("mqtts://elsewhere.example.com:8883"))
    );
}

#[test]
fn a_move_that_the_disk_refuses_holds_and_is_made_again_after_a_restart() {
    let mut driver = lived();
    driver.disk_full = true;
    moves(&mut driver, as_another_device(ruled()), true);
    driver.connect(false);
    assert!(driver.on("manage")[0]["d"]["deviceInfo"].get("description").is_none());
    assert!(driver.on("response").is_empty());
    assert_eq!(
        Durable::from_json(&driver.disk).unwrap().identity.as_deref(),
        Some("d:acme:edge:gw-1")
    );
    driver.disk_full = false;
    driver.restart();
    assert!(driver.on_disk().written.is_empty());
}
