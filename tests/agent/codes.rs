//! Error codes: in the end the service has what holds here, whatever is lost on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use iotdm::agent::diagnostics::{self, DiagCommand, Rule};
use iotdm::agent::effect::Reply;
use iotdm::agent::{DownloadEnd, Durable, Event, InstallEnd, Settings, Survey, Verdict};
use iotdm::protocol::firmware::UpdateStatus;
use serde_json::Value;

use crate::diagnostics::{MINUTE, entry, manage, managed, with};
use crate::driver::Driver;
use crate::firmware::{slots, written};

const SECOND: Duration = Duration::from_secs(1);
const ADD: &str = "add/diag/errorCodes";
const CLEAR: &str = "clear/diag/errorCodes";

pub(crate) fn ruled() -> Settings {
    let rules = vec![
        Rule::failed(42, "modbus.service").unwrap(),
        Rule::failed(43, "can.service").unwrap(),
        Rule::journal(
            50,
            Some(r"no answer from \d+"),
            None,
            Some("modbus.service"),
            60 * MINUTE,
        )
        .unwrap(),
    ];
    with(diagnostics::Settings::new(30, vec![], rules).unwrap())
}

/// The service's list of codes, made of what is published.
#[derive(Default)]
struct Service {
    codes: Vec<i64>,
    /// The request ids of those: the same again is the same message, sent again.
    req_ids: BTreeSet<String>,
    /// How many messages it has had.
    messages: usize,
}

impl Service {
    /// Takes the one message that is on its way, without answering it.
    fn take(&mut self, driver: &Driver) -> Option<&'static str> {
        let (_, topic, payload) = driver
            .published
            .iter()
            .find(|(_, topic, _)| topic.ends_with("errorCodes"))?;
        self.messages += 1;
        if topic.ends_with(CLEAR) {
            self.codes.clear();
            self.req_ids.clear();
            return Some(CLEAR);
        }
        if self.req_ids.insert(payload["reqId"].as_str().unwrap().to_owned()) {
            self.codes.push(payload["d"]["errorCode"].as_i64().unwrap());
        }
        Some(ADD)
    }

    /// Takes and answers everything.
    fn settle(&mut self, driver: &mut Driver) {
        while let Some(tail) = self.take(driver) {
            driver.answer(tail, 200, 1);
        }
    }
}

fn failed(driver: &mut Driver, units: &[&str]) {
    let units: BTreeSet<_> = units.iter().map(|unit| (*unit).to_owned()).collect();
    driver.event(Event::FailedUnits(units));
}

#[test]
fn dia_01_an_error_code_is_an_integer_one_to_a_message_and_told_once_while_it_lasts() {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    failed(&mut driver, &["modbus.service", "can.service"]);
    assert_eq!(driver.published.len(), 1, "one at a time");
    assert_eq!(driver.on(ADD)[0]["d"], serde_json::json!({"errorCode": 42}));
    service.settle(&mut driver);
    failed(&mut driver, &["modbus.service", "can.service"]);
    driver.pass(60 * MINUTE);
    driver.event(Event::Disconnected);
    driver.connect(true);
    service.settle(&mut driver);
    assert_eq!((service.codes, service.messages), (vec![42, 43], 2));
}

#[test]
fn dia_03_when_one_of_two_recovers_all_are_cleared_without_d_and_the_other_is_added_again() {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    failed(&mut driver, &["modbus.service", "can.service"]);
    service.settle(&mut driver);
    failed(&mut driver, &["can.service"]);
    let clear = driver.on(CLEAR)[0].as_object().unwrap().clone();
    assert_eq!(clear.keys().collect::<Vec<_>>(), ["reqId"]);
    service.settle(&mut driver);
    assert_eq!((&service.codes[..], service.messages), (&[43][..], 4));
    failed(&mut driver, &[]);
    service.settle(&mut driver);
    assert_eq!((service.codes, service.messages), (vec![], 5));
}

/// What happens on the host, and what has to hold at the service after all of it.
fn story(driver: &mut Driver, step: usize) -> bool {
    match step {
        0 => failed(driver, &["modbus.service"]),
        1 => failed(driver, &["modbus.service", "can.service"]),
        2 => assert_eq!(driver.diag(DiagCommand::AddError(7)), Reply::Later),
        3 => failed(driver, &["can.service"]),
        4 => drop(driver.batch(vec![entry(1, "modbus.service", "no answer from 17")])),
        5 => assert_eq!(driver.diag(DiagCommand::ClearErrors), Reply::Later),
        6 => failed(driver, &["can.service", "modbus.service"]),
        7 => failed(driver, &["modbus.service"]),
        _ => return false,
    }
    true
}

fn units_after(step: usize) -> &'static [&'static str] {
    match step {
        0 => &["modbus.service"],
        1 | 2 => &["modbus.service", "can.service"],
        3..=5 => &["can.service"],
        6 => &["can.service", "modbus.service"],
        _ => &["modbus.service"],
    }
}

#[test]
fn dia_01_with_a_crash_at_any_message_before_or_after_it_arrived_the_service_ends_with_what_holds() {
    for arrives in [false, true] {
        // Between the crash and the next start more of the story happens, or nothing.
        for blind in [false, true] {
            for crash_at in 0..16 {
                run(arrives, blind, crash_at);
            }
        }
    }
}

fn run(arrives: bool, blind: bool, crash_at: usize) {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    let mut step = 0;
    while story(&mut driver, step) {
        while driver
            .published
            .iter()
            .any(|(_, topic, _)| topic.ends_with("errorCodes"))
        {
            if service.messages == crash_at {
                if arrives {
                    service.take(&driver);
                }
                service.messages += 1;
                driver.restart();
                if blind {
                    step += 1;
                    story(&mut driver, step);
                }
                manage(&mut driver);
                failed(&mut driver, units_after(step));
                continue;
            }
            let tail = service.take(&driver).unwrap();
            driver.answer(tail, 200, 1);
        }
        step += 1;
    }
    driver.pass(30 * MINUTE);
    service.settle(&mut driver);
    service.codes.sort_unstable();
    assert_eq!(service.codes, [42, 50], "crash at {crash_at}, {arrives}, {blind}");
    let mut service = Service::default();
    for _ in 0..31 {
        driver.pass(MINUTE);
        service.settle(&mut driver);
    }
    assert_eq!(service.codes, [42], "the journal's code has run out");
}

#[test]
fn until_systemd_has_said_how_the_units_are_everything_stays_as_it_is() {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    failed(&mut driver, &["modbus.service"]);
    service.settle(&mut driver);
    driver.restart();
    manage(&mut driver);
    driver.pass(MINUTE);
    assert!(driver.published.is_empty());
    failed(&mut driver, &[]);
    service.settle(&mut driver);
    assert!(service.codes.is_empty());
}

#[test]
fn a_code_that_is_refused_is_told_here_and_waits_until_something_else_holds() {
    let mut driver = managed(ruled());
    failed(&mut driver, &["modbus.service", "can.service"]);
    driver.answer(ADD, 400, 1);
    assert!(
        driver
            .said
            .last()
            .unwrap()
            .1
            .contains("refused error code 42 with rc 400")
    );
    driver.answer(ADD, 200, 1);
    driver.pass(60 * MINUTE);
    assert!(driver.published.is_empty());
    driver.diag(DiagCommand::AddError(7));
    driver.answer(ADD, 200, 2);
    assert_eq!(driver.agent.status().error_codes, [7, 42, 43]);
    failed(&mut driver, &["modbus.service"]);
    driver.answer(CLEAR, 404, 1);
    driver.answer_manage(200);
    driver.published.clear();
    driver.pass(60 * MINUTE);
    assert!(driver.published.is_empty(), "{:?}", driver.published);
    let refused = "to clear the error codes with rc 404";
    assert!(driver.said.iter().any(|(_, line)| line.contains(refused)));
}

#[test]
fn conflict_failure_and_silence_are_tried_again_with_growing_pauses() {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    failed(&mut driver, &["modbus.service"]);
    for rc in [409, 500, 503] {
        driver.answer(ADD, rc, 1);
        assert!(driver.on(ADD).is_empty());
        driver.pass(20 * SECOND);
        assert_eq!(driver.on(ADD).len(), 1, "{rc}");
    }
    driver.broker_has_all();
    driver.pass(5 * MINUTE);
    let sent = driver.on(ADD).len();
    assert!((2..=4).contains(&sent), "{sent} in five minutes of silence");
    driver.published.drain(..sent - 1);
    service.settle(&mut driver);
    assert_eq!(service.codes, [42]);
}

#[test]
fn a_code_that_is_told_again_is_the_same_request_also_after_a_restart_and_a_late_answer_counts() {
    let mut driver = managed(ruled());
    failed(&mut driver, &["modbus.service"]);
    let first = driver.on(ADD)[0]["reqId"].clone();
    let tell_again = |driver: &mut Driver| {
        driver.broker_has_all();
        driver.published.clear();
        driver.pass(90 * SECOND);
        assert_eq!(driver.on(ADD)[0]["reqId"], first);
    };
    tell_again(&mut driver);
    driver.answer(ADD, 503, 1);
    driver.pass(MINUTE);
    assert_eq!(driver.on(ADD)[0]["reqId"], first);
    driver.restart();
    manage(&mut driver);
    failed(&mut driver, &["modbus.service"]);
    assert_eq!(driver.on(ADD)[0]["reqId"], first);
    // Nobody answers; then, while the agent waits, the answer to an earlier one comes.
    driver.broker_has_all();
    driver.published.clear();
    driver.pass(61 * SECOND);
    driver.published.clear();
    let response = serde_json::json!({"rc": 200, "reqId": first}).to_string();
    driver.receive("iotdm-1/response", &response);
    driver.pass(60 * MINUTE);
    assert!(driver.on(ADD).is_empty(), "{:?}", driver.published);
    // What ends and comes again later is another one.
    failed(&mut driver, &[]);
    driver.answer(CLEAR, 200, 1);
    failed(&mut driver, &["modbus.service"]);
    assert_ne!(driver.on(ADD)[0]["reqId"], first);
}

#[test]
fn a_publish_that_was_given_back_is_made_again_and_one_that_the_broker_does_not_take_is_given_up() {
    let mut driver = managed(ruled());
    failed(&mut driver, &["modbus.service"]);
    let (id, ..) = driver.published.remove(0);
    driver.event(Event::NotPublished(id));
    let (id, ..) = driver.published.remove(0);
    driver.event(Event::PublishRefused {
        id,
        reason: "check its ACL".into(),
    });
    driver.pass(60 * MINUTE);
    assert!(driver.on(ADD).is_empty());
    assert!(driver.said.last().unwrap().1.contains("error codes"));
}

#[test]
fn nothing_is_told_that_is_not_written_down_and_that_the_disk_refuses_has_a_code_while_it_lasts() {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    driver.disk_full = true;
    failed(&mut driver, &["modbus.service"]);
    assert!(
        driver.published.is_empty(),
        "a crash would leave it at the service for ever"
    );
    driver.pass(29 * SECOND);
    assert!(driver.published.is_empty());
    driver.pass(10 * SECOND);
    service.settle(&mut driver);
    assert_eq!(service.codes, [9003]);
    driver.disk_full = false;
    driver.pass(10 * SECOND);
    service.settle(&mut driver);
    assert_eq!(service.codes, [42]);
    driver.pass(10 * MINUTE);
    assert!(driver.published.is_empty());
}

#[test]
fn a_clock_that_is_not_set_ten_minutes_after_the_boot_has_a_code_until_it_is() {
    let mut driver = Driver::with(ruled());
    driver.now.boottime = 20 * SECOND;
    driver.now.wall = None;
    manage(&mut driver);
    let mut service = Service::default();
    driver.pass(9 * MINUTE);
    assert!(driver.published.is_empty());
    driver.pass(50 * SECOND);
    service.settle(&mut driver);
    assert_eq!(service.codes, [9004]);
    driver.now.wall = Some(1_714_557_600);
    driver.pass(2 * MINUTE);
    service.settle(&mut driver);
    assert!(service.codes.is_empty());
}

#[test]
fn an_update_that_was_rolled_back_has_a_code_until_the_next_one() {
    let mut driver = Driver::on_trial();
    driver.connect(true);
    driver.answer_manage(200);
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.pass(11 * SECOND);
    driver.host_reboots("boot-3");
    driver.surveyed(written("rootfs.0"));
    driver.marked(Ok(()));
    driver.starts_with(Settings {
        boot_id: "boot-3".into(),
        ..ruled()
    });
    manage(&mut driver);
    let mut service = Service::default();
    service.settle(&mut driver);
    assert_eq!(service.codes, [9002]);
    driver.diag(DiagCommand::ClearErrors);
    service.settle(&mut driver);
    assert_eq!(service.codes, [9002], "it still holds");
    driver.describe("u2", "3.0");
    driver.download("d2");
    driver.surveyed(Survey::default());
    driver.download_ends(DownloadEnd::Done);
    driver.broker_has_all();
    assert!(driver.on(CLEAR).is_empty(), "a download is none");
    driver.update("p2");
    driver.surveyed(slots("rootfs.0"));
    driver.broker_has_all();
    service.settle(&mut driver);
    assert!(service.codes.is_empty(), "the next one has begun");
}

#[test]
fn an_update_that_failed_in_the_old_slot_has_a_code_until_the_next_one() {
    let mut driver = Driver::downloaded();
    driver.starts_with(ruled());
    manage(&mut driver);
    let mut service = Service::default();
    let update = |driver: &mut Driver, req_id: &str| {
        driver.update(req_id);
        driver.surveyed(slots("rootfs.0"));
        driver.broker_has_all();
    };
    update(&mut driver, "p1");
    driver.install_ends(InstallEnd::Refused {
        status: UpdateStatus::OutOfMemory,
        message: "the slot was full".into(),
        again: true,
    });
    driver.broker_has_all();
    service.settle(&mut driver);
    assert_eq!(service.codes, [9001]);
    driver.restart();
    manage(&mut driver);
    driver.pass(10 * MINUTE);
    assert!(
        driver.on(ADD).is_empty() && driver.on(CLEAR).is_empty(),
        "it holds, and was told"
    );
    update(&mut driver, "p2");
    service.settle(&mut driver);
    assert!(service.codes.is_empty(), "the next one has begun");
}

#[test]
fn a_service_that_does_not_know_the_device_has_none_of_its_codes() {
    let (mut driver, mut service) = (managed(ruled()), Service::default());
    failed(&mut driver, &["modbus.service"]);
    service.settle(&mut driver);
    driver.event(Event::Disconnected);
    driver.connect(false);
    driver.answer_manage(404);
    driver.pass(61 * MINUTE);
    driver.answer_manage(200);
    assert_eq!(driver.on(ADD).len(), 1, "registered anew");
}

#[test]
fn codes_by_hand_are_bounded_and_the_agents_own_are_refused() {
    let mut driver = Driver::with(ruled());
    for code in 0..64 {
        assert_eq!(driver.diag(DiagCommand::AddError(code)), Reply::Later);
    }
    assert!(matches!(driver.diag(DiagCommand::AddError(64)), Reply::Failed(_)));
    assert_eq!(
        driver.diag(DiagCommand::AddError(3)),
        Reply::Later,
        "it is there already"
    );
    assert!(matches!(driver.diag(DiagCommand::AddError(9001)), Reply::Failed(_)));
}

#[test]
fn what_a_newer_version_added_to_diagnostics_is_kept() {
    let newer = serde_json::json!({"diagnostics": {
        "journal": {"cursor": "s=1", "quota": 1}, "codes": {"told": [42], "since": {"42": 1}}, "more": true,
    }});
    let mut driver = Driver::with(ruled());
    driver.disk = newer.to_string().into_bytes();
    driver.restart();
    driver.batch(vec![entry(1, "a.service", "x")]);
    driver.diag(DiagCommand::AddError(7));
    let kept: Value = serde_json::from_slice(&driver.disk).unwrap();
    let diagnostics = &kept["diagnostics"];
    assert_eq!(diagnostics["journal"]["quota"], 1);
    assert_eq!(
        (&diagnostics["codes"]["since"]["42"], &diagnostics["more"]),
        (&1.into(), &true.into())
    );
    assert_eq!(diagnostics["codes"]["by_hand"], serde_json::json!([7]));
    assert!(Durable::from_json(&driver.disk).unwrap().extra.is_empty());
}
