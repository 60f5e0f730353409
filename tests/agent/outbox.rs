use std::time::Duration;

use iotdm::agent::diagnostics::DiagCommand;
use iotdm::agent::{Event, RebootOutcome, Settings};
use iotdm::protocol::diagnostics::Severity;

use crate::codes::ruled;
use crate::driver::{Driver, settings};
use crate::model::managed;

/// An agent that owes one log entry, which is on its way.
fn owing() -> Driver {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.event(Event::PreparingForShutdown(false));
    driver.broker_has_all();
    driver.answer_manage(200);
    driver
}

fn answer_log(driver: &mut Driver, rc: u16) {
    let last = driver.on("log").len() - 1;
    answer_one(driver, last, rc);
}

/// The service answers the log entry that went out after so many others.
fn answer_one(driver: &mut Driver, after: usize, rc: u16) {
    let req_id = driver.on("log")[after]["reqId"].as_str().unwrap().to_owned();
    driver.receive("iotdm-1/response", &format!(r#"{{"rc":{rc},"reqId":"{req_id}"}}"#));
}

fn add_log(driver: &mut Driver, text: String) {
    driver.diag(DiagCommand::AddLog {
        severity: Severity::Error,
        text,
        data: None,
    });
}

#[test]
fn a_log_entry_leaves_the_outbox_when_the_service_has_answered_and_not_before() {
    let mut driver = owing();
    assert_eq!(
        driver.outbox.len(),
        1,
        "the broker has it, the service has not answered"
    );
    answer_log(&mut driver, 200);
    assert!(driver.outbox.is_empty());
}

#[test]
fn env_08_silence_conflict_and_failure_are_retried_and_a_refusal_is_dropped_and_told() {
    let mut driver = owing();
    driver.pass(Duration::from_secs(70));
    assert_eq!(driver.on("log").len(), 2, "silence");
    answer_log(&mut driver, 409);
    driver.pass(Duration::from_secs(20));
    assert_eq!(driver.on("log").len(), 3, "conflict");
    answer_log(&mut driver, 503);
    driver.pass(Duration::from_secs(40));
    assert_eq!(driver.on("log").len(), 4, "failure");
    answer_log(&mut driver, 400);
    assert!(driver.outbox.is_empty());
    assert!(driver.said.last().unwrap().1.contains("dropped"));
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.on("log").len(), 4);
}

#[test]
fn mng_04_a_service_that_does_not_know_the_device_any_more_is_told_of_it_at_once() {
    let mut driver = owing();
    driver.pass(Duration::from_secs(600));
    let before = driver.on("manage").len();
    answer_log(&mut driver, 404);
    assert_eq!(driver.on("manage").len(), before + 1);
    driver.broker_has_all();
    driver.answer_manage(200);
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.on("manage").len(), before + 1, "once");

    let mut driver = owing();
    driver.pass(Duration::from_secs(600));
    answer_log(&mut driver, 404);
    let before = driver.on("manage").len();
    driver.broker_has_all();
    driver.answer_manage(404);
    assert!(!driver.agent.status().managed);
    driver.pass(Duration::from_secs(3500));
    assert_eq!(driver.on("manage").len(), before, "not registered: slowly");
}

/// Two log entries are refused with 404, the second one while a manage is on its way, or after its answer.
#[test]
fn mng_04_what_is_refused_beside_a_manage_or_after_its_refusal_asks_for_no_other_one() {
    for (rc, beside, after_a_minute) in [(200, true, 1), (200, false, 2), (404, true, 1), (404, false, 1)] {
        let mut driver = managed(ruled());
        driver.pass(Duration::from_secs(600));
        add_log(&mut driver, "one".to_owned());
        add_log(&mut driver, "two".to_owned());
        driver.pass(Duration::from_secs(5));
        answer_one(&mut driver, 0, 404);
        assert_eq!(driver.on("manage").len(), 1);
        driver.broker_has_all();
        if beside {
            answer_one(&mut driver, 1, 404);
        }
        driver.answer_manage(rc);
        if !beside {
            answer_one(&mut driver, 1, 404);
        }
        driver.pass(Duration::from_secs(30));
        assert_eq!(driver.on("manage").len(), 1, "{rc}, beside: {beside}");
        assert!(driver.outbox.is_empty());
        driver.pass(Duration::from_secs(40));
        assert_eq!(driver.on("manage").len(), after_a_minute, "{rc}, beside: {beside}");
    }
}

#[test]
fn mng_04_a_service_that_manages_the_device_and_knows_none_of_it_gets_one_manage_a_minute() {
    for disk_full in [false, true] {
        let mut driver = managed(ruled());
        driver.pass(Duration::from_secs(600));
        for n in 0..20 {
            add_log(&mut driver, format!("text {n}"));
            driver.pass(Duration::from_secs(5));
            answer_log(&mut driver, 404);
            driver.disk_full = disk_full;
            driver.answer_manage(200);
            driver.disk_full = false;
            driver.broker_has_all();
            driver.pass(Duration::from_secs(5));
        }
        let manages = driver.on("manage").len();
        assert!((3..=5).contains(&manages), "{manages}");
    }
}

#[test]
fn a_log_that_is_sent_again_is_the_same_request_also_after_a_restart_and_a_late_answer_counts() {
    let mut driver = owing();
    let first = driver.on("log")[0]["reqId"].clone();
    driver.pass(Duration::from_secs(70));
    answer_log(&mut driver, 409);
    driver.pass(Duration::from_secs(20));
    let sent: Vec<_> = driver.on("log").iter().map(|log| log["reqId"].clone()).collect();
    assert_eq!(sent, [first.clone(), first.clone(), first.clone()]);
    driver.restart();
    driver.connect(false);
    driver.broker_has_all();
    driver.answer_manage(200);
    assert_eq!(driver.on("log")[0]["reqId"], first);
    driver.broker_has_all();
    driver.pass(Duration::from_secs(60));
    driver.published.clear();
    let answer = |rc: u16| format!(r#"{{"rc":{rc},"reqId":{first}}}"#);
    driver.receive("iotdm-1/response", &answer(500));
    assert_eq!(driver.outbox.len(), 1, "it is tried again anyway");
    driver.receive("iotdm-1/response", &answer(200));
    assert!(driver.outbox.is_empty());
    driver.pass(Duration::from_secs(3600));
    assert!(driver.on("log").is_empty());
}

#[test]
fn a_record_of_the_version_before_request_ids_were_kept_is_sent() {
    let mut driver = owing();
    let record: Vec<_> = driver.outbox.values().cloned().collect();
    let mut record: serde_json::Value = serde_json::from_slice(&record[0]).unwrap();
    let kept = record.as_object_mut().unwrap().remove("req_id").unwrap();
    driver
        .outbox
        .values_mut()
        .for_each(|bytes| *bytes = record.to_string().into_bytes());
    driver.restart();
    driver.connect(false);
    driver.broker_has_all();
    driver.answer_manage(200);
    assert_ne!(driver.on("log")[0]["reqId"], kept);
    answer_log(&mut driver, 200);
    assert!(driver.outbox.is_empty());
}

#[test]
fn con_10_what_was_owed_is_sent_after_a_restart_and_after_a_lost_session() {
    let mut driver = owing();
    driver.restart();
    driver.connect(false);
    driver.broker_has_all();
    driver.answer_manage(200);
    assert_eq!(driver.on("log").len(), 1);
    let (id, ..) = *driver
        .published
        .iter()
        .find(|(_, topic, _)| topic.ends_with("log"))
        .unwrap();
    driver.published.clear();
    driver.event(Event::Disconnected);
    driver.event(Event::NotPublished(id));
    assert!(driver.published.is_empty());
    driver.connect(true);
    // It had been acknowledged: the answer is what is missing now.
    driver.pass(Duration::from_secs(80));
    assert_eq!(driver.on("log").len(), 1);
}

#[test]
fn con_10_a_response_survives_until_the_broker_has_it() {
    let mut driver = Driver::managed();
    driver.receive("iotdm-1/mgmt/custom/bundle-v1/act", r#"{"reqId":"a"}"#);
    assert_eq!(driver.answers("a"), [501]);
    assert_eq!(driver.outbox.len(), 1);
    driver.restart();
    driver.connect(true);
    assert_eq!(driver.answers("a"), [501]);
    driver.broker_has_all();
    assert!(driver.outbox.is_empty());
}

#[test]
fn con_15_at_most_8_publishes_wait_for_their_acknowledgement() {
    let mut driver = Driver::managed();
    for n in 0..30 {
        driver.receive("iotdm-1/cancel", &format!(r#"{{"reqId":"c{n}"}}"#));
    }
    assert_eq!(driver.on("response").len(), 8);
    for _ in 0..4 {
        driver.broker_has_all();
    }
    assert_eq!(driver.on("response").len(), 30);
    let order: Vec<_> = driver
        .on("response")
        .iter()
        .map(|answer| answer["reqId"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<_> = (0..30).map(|n| format!("c{n}")).collect();
    assert_eq!(order, expected, "in order");
}

#[test]
fn records_that_the_full_outbox_dropped_are_forgotten_and_told() {
    let mut driver = owing();
    let ids: Vec<_> = driver.outbox.keys().copied().collect();
    driver.event(Event::OutboxDropped(ids));
    assert!(driver.said.last().unwrap().1.contains("dropped"));
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.on("log").len(), 1);
    assert_eq!(driver.agent.status().owed, 0);
}

#[test]
fn con_11_what_the_broker_never_takes_is_given_up_and_told() {
    let mut driver = Driver::managed();
    driver.receive("iotdm-1/cancel", r#"{"reqId":"a"}"#);
    let id = driver.published[0].0;
    driver.event(Event::PublishRefused {
        id,
        reason: "it has 200000 bytes".into(),
    });
    assert!(driver.outbox.is_empty());
    assert_eq!(
        driver.said.last().unwrap().1,
        "it has 200000 bytes; a record of the outbox was given up"
    );
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.on("response").len(), 1);
}

#[test]
fn reb_03_a_manage_does_not_overtake_the_answers_that_wait_for_their_turn() {
    let mut driver = Driver::managed();
    for number in 0..12 {
        let payload = format!(r#"{{"reqId":"r{number}"}}"#);
        driver.receive("iotdm-1/mgmt/custom/bundle-v1/act", &payload);
    }
    let mut settings: Settings = driver.agent.settings().clone();
    settings.device_info.fw_version = Some("2.0".into());
    driver.event(Event::Configured(Box::new(settings)));
    driver.pass(Duration::from_secs(60));
    assert_eq!(driver.order(), ["response"; 8], "the window is full");
    driver.broker_has_all();
    assert_eq!(driver.order()[..12], ["response"; 12]);
    assert_eq!(driver.order()[12..], ["manage"]);
}

#[test]
fn a_refusal_that_a_crash_left_behind_does_not_follow_the_202_of_the_same_request() {
    let mut driver = Driver::with(Settings {
        reboot_enabled: false,
        ..settings("boot-1")
    });
    driver.connect(false);
    driver.answer_manage(200);
    driver.event(Event::Disconnected);
    driver.ask_reboot("r1");
    assert_eq!(driver.outbox.len(), 1, "the 501 waits");
    // The agent is killed before the acknowledgement arrives, and started again with another configuration.
    driver.restart();
    driver.event(Event::Configured(Box::new(settings("boot-1"))));
    driver.event(Event::Connected { session_present: true });
    driver.ask_reboot("r1");
    assert!(driver.outbox.is_empty());
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.event(Event::Subscribed);
    assert_eq!(driver.answers("r1"), [202]);
}

#[test]
fn a_refusal_stays_on_the_disk_until_the_answer_in_its_place_is_there_too() {
    let mut driver = Driver::with(Settings {
        reboot_enabled: false,
        ..settings("boot-1")
    });
    driver.ask_reboot("r1");
    driver.disk = br#"{"exclusive":{"install":{}}}"#.to_vec();
    driver.restart();
    driver.event(Event::Configured(Box::new(settings("boot-1"))));
    driver.disk_full = true;
    driver.ask_reboot("r1");
    driver.connect(true);
    assert_eq!(driver.answers("r1"), [500], "busy; the 501 is not sent any more");
    driver.broker_has_all();
    driver.pass(Duration::from_secs(60));
    assert_eq!(driver.outbox.len(), 1, "a crash now would leave nothing else");
    driver.disk_full = false;
    driver.pass(Duration::from_secs(6));
    assert!(driver.outbox.is_empty());
    assert_eq!(driver.answers("r1"), [500]);
}
