//! The journal's entries on their way to the service: what is on the disk when, what is sent when, and what is not.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::agent::diagnostics::{self, DiagCommand, Entry, Gap, Rule};
use iotdm::agent::effect::Reply;
use iotdm::agent::{CommandId, Disk, Event, RebootOutcome, Settings};
use iotdm::protocol::diagnostics::Severity;
use serde_json::{Value, json};

use crate::driver::{Driver, FULL, settings};

const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const BOOT: &str = "boot-1";

pub(crate) fn with(diagnostics: diagnostics::Settings) -> Settings {
    Settings {
        diagnostics: Some(diagnostics),
        ..settings(BOOT)
    }
}

fn limit(max_per_minute: u32) -> Settings {
    with(diagnostics::Settings::new(max_per_minute, vec![], vec![]).unwrap())
}

/// Connected, subscribed, and managed.
pub(crate) fn managed(settings: Settings) -> Driver {
    let mut driver = Driver::with(settings);
    manage(&mut driver);
    driver
}

pub(crate) fn manage(driver: &mut Driver) {
    driver.connect(false);
    driver.broker_has_all();
    driver.answer_manage(200);
    driver.published.retain(|(_, topic, _)| !topic.ends_with("manage"));
}

/// A text of its own kind.
fn word(n: u64) -> String {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    [n / 676, n / 26, n].map(letter).iter().collect()
}

pub(crate) fn entry(n: u64, unit: &str, message: &str) -> Entry {
    Entry {
        cursor: format!("s=1;i={n:x}"),
        boot_id: BOOT.into(),
        realtime_us: 1_714_557_600_000_000,
        priority: 3,
        unit: Some(unit.into()),
        pid: Some(17),
        message: message.into(),
        ..Entry::default()
    }
}

/// `range`, each of its own kind.
pub(crate) fn kinds(range: std::ops::Range<u64>) -> Vec<Entry> {
    range
        .map(|n| entry(n, &format!("{}.service", n % 7), &word(n)))
        .collect()
}

impl Driver {
    /// True when the batch is taken.
    pub(crate) fn batch(&mut self, entries: Vec<Entry>) -> bool {
        let batch = self.batches_taken.last().unwrap_or(&0) + 1;
        let cursor = entries.last().map(|entry| entry.cursor.clone()).unwrap_or_default();
        self.event(Event::Journal {
            batch,
            entries,
            cursor,
            gap: None,
        });
        self.batches_taken.last() == Some(&batch)
    }

    /// The service answers what is on its way with this end of its topic, oldest first: so many.
    pub(crate) fn answer(&mut self, tail: &str, rc: u16, count: usize) {
        for _ in 0..count {
            let at = self.published.iter().position(|(_, topic, _)| topic.ends_with(tail));
            let Some(at) = at else {
                panic!("nothing to answer on {tail}")
            };
            let (id, _, payload) = self.published.remove(at);
            let req_id = payload["reqId"].as_str().unwrap();
            self.event(Event::Published(id));
            self.receive("iotdm-1/response", &format!(r#"{{"rc":{rc},"reqId":"{req_id}"}}"#));
        }
    }

    /// The service takes every log, until there is none; their `d`, in order.
    fn take_logs(&mut self) -> Vec<Value> {
        let mut logs = Vec::new();
        while let Some(log) = self.on("add/diag/log").first().map(|log| (*log).clone()) {
            logs.push(log["d"].clone());
            self.answer("add/diag/log", 200, 1);
        }
        logs
    }

    fn cursor_on_disk(&self) -> Option<String> {
        self.on_disk().diagnostics.journal.cursor
    }

    pub(crate) fn diag(&mut self, command: DiagCommand) -> Reply {
        let id = CommandId(self.replies.len() as u64 + 1);
        self.event(Event::Diag(id, command));
        let (of, reply) = self.replies.last().unwrap().clone();
        assert_eq!(of, id);
        reply
    }

    fn add_log(&mut self, text: &str) -> Reply {
        let (severity, data) = (Severity::Warning, None);
        let text = text.to_owned();
        self.diag(DiagCommand::AddLog { severity, text, data })
    }
}

pub(crate) fn data(log: &Value) -> Value {
    serde_json::from_slice(&STANDARD.decode(log["data"].as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn dia_02_a_log_has_a_text_a_severity_a_time_with_a_zone_and_data_in_base64() {
    let mut driver = managed(limit(30));
    driver.batch(vec![entry(1, "modbus.service", "no answer, password=x")]);
    let log = driver.on("add/diag/log")[0].clone();
    let (d, data) = (log["d"].clone(), data(&log["d"]));
    assert_eq!(
        (&d["message"], &d["severity"], &d["timestamp"]),
        (
            &json!("no answer, password=[redacted]"),
            &json!(2),
            &json!("2024-05-01T10:00:00Z")
        )
    );
    let told =
        json!({"unit": "modbus.service", "pid": 17, "boot_id": BOOT, "cursor": "s=1;i=1", "priority": 3, "count": 1});
    assert_eq!(data, told);
    assert!(log["reqId"].is_string());
}

#[test]
fn dia_02_without_a_clock_a_log_has_no_time() {
    let mut driver = managed(limit(30));
    driver.now.wall = None;
    driver.batch(vec![entry(1, "a.service", "x")]);
    driver.add_log("y");
    let logs = driver.take_logs();
    assert!(logs.iter().all(|log| log.get("timestamp").is_none()), "{logs:?}");
    assert_eq!(logs.len(), 2);
}

#[test]
fn the_cursor_is_committed_with_the_logs_of_its_batch_and_a_disk_that_refuses_takes_nothing() {
    let mut driver = managed(limit(30));
    assert!(driver.batch(kinds(0..3)));
    assert_eq!(driver.cursor_on_disk().as_deref(), Some("s=1;i=2"));
    assert_eq!(driver.outbox.len(), 3);
    driver.take_logs();
    driver.pass(SECOND);

    driver.disk_full = true;
    assert!(!driver.batch(kinds(3..6)));
    assert!(driver.on("log").is_empty(), "nothing of it has happened");
    driver.pass(5 * SECOND);
    assert!(!driver.batch(kinds(3..6)), "nor later");
    driver.disk_full = false;
    driver.pass(5 * SECOND);
    assert!(driver.batch(kinds(3..6)));
    assert_eq!(driver.take_logs().len(), 3, "each of them once");
    assert_eq!(driver.cursor_on_disk().as_deref(), Some("s=1;i=5"));
    assert_eq!(driver.agent.journal_cursor(), Some("s=1;i=5"));

    // Taken within the second after that: what was made of it waits for the disk.
    driver.disk_full = true;
    assert!(driver.batch(kinds(6..8)));
    driver.pass(MINUTE);
    assert!(!driver.batch(kinds(8..9)) && driver.on("log").is_empty());
    assert_eq!(driver.cursor_on_disk().as_deref(), Some("s=1;i=5"));
    driver.disk_full = false;
    driver.pass(5 * SECOND);
    assert_eq!(driver.take_logs().len(), 2);
    assert_eq!(driver.cursor_on_disk().as_deref(), Some("s=1;i=7"));
}

#[test]
fn a_batch_that_owes_nothing_is_written_after_ten_seconds_and_is_read_again_after_a_crash_before() {
    let mut driver = managed(limit(30));
    driver.batch(vec![entry(1, "a.service", "stuck 1")]);
    driver.take_logs();
    let commits = driver.commits;
    for n in 2..8 {
        assert!(driver.batch(vec![entry(n, "a.service", &format!("stuck {n}"))]));
        driver.pass(SECOND);
    }
    assert_eq!(driver.commits, commits, "flash wears out");
    assert_eq!(driver.agent.journal_cursor(), Some("s=1;i=7"));
    driver.restart();
    assert_eq!(
        driver.agent.journal_cursor(),
        Some("s=1;i=1"),
        "from here it is read again"
    );
    for n in 2..8 {
        driver.batch(vec![entry(n, "a.service", &format!("stuck {n}"))]);
    }
    driver.pass(10 * SECOND);
    assert_eq!(driver.cursor_on_disk().as_deref(), Some("s=1;i=7"));
    driver.restart();
    manage(&mut driver);
    driver.pass(6 * MINUTE);
    let logs = driver.take_logs();
    let text = logs[0]["message"].as_str().unwrap();
    assert!(text.starts_with("stuck 1 (6 more like this"), "{text}");
    assert_eq!(logs.len(), 1);
}

#[test]
fn in_a_storm_logs_are_written_down_once_a_second_and_a_kill_in_between_loses_and_doubles_none() {
    let mut driver = managed(limit(600));
    let (commits, mut n, mut logs) = (driver.commits, 0, Vec::new());
    let storm = |driver: &mut Driver, n: &mut u64, tenths: u64| {
        for _ in 0..tenths {
            assert!(driver.batch(kinds(*n..*n + 3)));
            *n += 3;
            driver.pass(SECOND / 10);
        }
    };
    for second in 1..=20 {
        storm(&mut driver, &mut n, 10);
        logs.extend(driver.take_logs());
        assert!(driver.commits - commits <= second + 1, "{second}: {}", driver.commits);
    }
    assert!(logs.len() > 500, "{}", logs.len());
    storm(&mut driver, &mut n, 5);
    // Something else is written down: what was made so far goes with it.
    assert_eq!(driver.diag(DiagCommand::AddError(7)), Reply::Later);
    let position = format!("s=1;i={:x}", n - 1);
    assert_eq!(driver.cursor_on_disk(), Some(position));
    storm(&mut driver, &mut n, 5);
    logs.extend(driver.take_logs());
    driver.restart();
    let cursor = driver.cursor_on_disk().unwrap();
    let next = u64::from_str_radix(cursor.strip_prefix("s=1;i=").unwrap(), 16).unwrap() + 1;
    assert!(next < n, "the kill came in between");
    manage(&mut driver);
    assert!(driver.batch(kinds(next..n)));
    for _ in 0..12 {
        driver.pass(MINUTE);
        logs.extend(driver.take_logs());
    }
    let counts = logs.iter().map(|log| data(log)["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), n);
}

#[test]
fn dia_04_a_storm_is_limited_to_the_configured_rate_and_one_summary_a_minute() {
    let mut driver = managed(limit(30));
    let (mut n, mut logs) = (0, Vec::new());
    for _ in 0..180 {
        let batch = (n..n + 100).map(|n| entry(n, &format!("{}.service", n % 3), &word(n)));
        assert!(driver.batch(batch.collect()));
        n += 100;
        let minute = driver.now.boottime.as_secs() / 60;
        logs.extend(driver.take_logs().into_iter().map(|log| (minute, log)));
        driver.pass(SECOND);
    }
    driver.pass(10 * MINUTE);
    logs.extend(driver.take_logs().into_iter().map(|log| (0, log)));
    for minute in 20..23 {
        let (summaries, entries): (Vec<_>, Vec<_>) = logs
            .iter()
            .filter(|(of, _)| *of == minute)
            .partition(|(_, log)| data(log)["held_back"].is_object());
        assert!(entries.len() <= 30, "{} in a minute", entries.len());
        assert!(summaries.len() <= 1);
    }
    let counts = logs.iter().map(|(_, log)| data(log)["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), n, "every entry is told or counted");
}

#[test]
fn dia_04_an_hour_offline_in_a_storm_is_bounded_and_what_was_dropped_is_told_once() {
    let mut driver = managed(limit(60));
    driver.event(Event::Disconnected);
    let mut n = 0;
    for _ in 0..720 {
        assert!(driver.batch(kinds(n..n + 50)));
        n += 50;
        driver.pass(5 * SECOND);
        assert!(driver.outbox.len() <= 1000, "{} records", driver.outbox.len());
        assert!(driver.disk.len() < 40_000, "the state has {} bytes", driver.disk.len());
    }
    let status = driver.agent.diagnostics(driver.now);
    assert_eq!(status.logs_waiting, 1000);
    assert!(status.dropped_logs > 2000, "{status:?}");
    driver.restart();
    assert_eq!(
        driver.agent.diagnostics(driver.now).dropped_entries,
        status.dropped_entries
    );
    manage(&mut driver);
    let mut logs = driver.take_logs();
    driver.pass(10 * MINUTE);
    logs.extend(driver.take_logs());
    let text = |log: &Value| log["message"].as_str().unwrap().to_owned();
    let told: Vec<_> = logs
        .iter()
        .map(text)
        .filter(|text| text.contains("were dropped"))
        .collect();
    let (logs_gone, entries_gone) = (status.dropped_logs, status.dropped_entries);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with(&format!(
            "{logs_gone} logs were dropped before the service had them, for {entries_gone} entries"
        )),
        "{told:?}"
    );
    let counts = logs.iter().map(|log| data(log)["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), n, "every entry is told, counted or dropped");
    let summary = logs.iter().find(|log| text(log) == told[0]).unwrap();
    let expected = json!({"dropped": logs_gone, "count": entries_gone, "cursor": "s=1;i=0"});
    assert_eq!(data(summary), expected, "the first that was dropped names it");
    assert_eq!(driver.agent.diagnostics(driver.now).dropped_logs, 0);
}

#[test]
fn dia_04_what_the_disk_drops_for_its_own_bound_is_counted_too() {
    let mut driver = managed(limit(30));
    driver.event(Event::Disconnected);
    driver.batch(kinds(0..10));
    let oldest: Vec<_> = driver.outbox.keys().take(4).copied().collect();
    driver.outbox.retain(|id, _| !oldest.contains(id));
    driver.event(Event::OutboxDropped(oldest));
    driver.restart();
    manage(&mut driver);
    let logs = driver.take_logs();
    let last = logs.last().unwrap()["message"].as_str().unwrap();
    assert!(
        last.starts_with("4 logs were dropped before the service had them, for 4 entries"),
        "{last}"
    );
    assert_eq!(logs.len(), 7);
    let summary = data(logs.last().unwrap());
    assert_eq!(summary, json!({"dropped": 4, "count": 4, "cursor": "s=1;i=0"}));
}

#[test]
fn a_large_log_by_hand_counts_by_its_size_and_pushes_out_nothing_but_logs() {
    let mut driver = Driver::with(limit(30));
    driver.connect(false);
    driver.receive("iotdm-1/mgmt/custom/x-y", r#"{"reqId":"a"}"#);
    driver.event(Event::Disconnected);
    let owed = driver.outbox.len();
    assert_eq!(owed, 1, "an answer");
    let data = Some(vec![7; diagnostics::LARGEST_DATA]);
    for n in 0..30 {
        let (severity, text) = (Severity::Error, n.to_string());
        let data = data.clone();
        assert_eq!(driver.diag(DiagCommand::AddLog { severity, text, data }), Reply::Later);
    }
    let status = driver.agent.diagnostics(driver.now);
    assert!(
        status.bytes_waiting <= 1 << 20 && status.logs_waiting == 15,
        "{status:?}"
    );
    assert_eq!(driver.outbox.len(), owed + 15);
    let data = Some(vec![7; diagnostics::LARGEST_DATA + 1]);
    let (severity, text) = (Severity::Error, "x".to_owned());
    assert!(matches!(
        driver.diag(DiagCommand::AddLog { severity, text, data }),
        Reply::Failed(_)
    ));
}

#[test]
fn a_log_that_the_service_refuses_is_dropped_and_told_here() {
    let mut driver = managed(limit(30));
    driver.batch(kinds(0..2));
    driver.answer("add/diag/log", 400, 1);
    assert!(
        driver
            .said
            .last()
            .unwrap()
            .1
            .contains("refused a log entry with rc 400")
    );
    assert_eq!(driver.take_logs().len(), 1);
    driver.pass(HOUR);
    assert!(driver.outbox.is_empty() && driver.on("log").is_empty());
}

#[test]
fn conflict_failure_and_silence_hold_all_logs_back_for_a_while_and_lose_none() {
    let mut driver = managed(limit(60));
    driver.batch(kinds(0..40));
    let owed = driver.outbox.len();
    assert_eq!((owed, driver.on("log").len()), (40, 5), "at most 5 without an answer");
    for rc in [409, 500] {
        let sent = driver.on("log").len();
        driver.answer("add/diag/log", rc, sent);
        assert!(driver.on("log").is_empty(), "{rc}: nothing goes out at once");
        driver.pass(30 * SECOND);
        assert_eq!(driver.on("log").len(), 5, "{rc}: and then the next attempt");
    }
    driver.broker_has_all();
    driver.published.clear();
    driver.pass(61 * SECOND);
    assert!(driver.on("log").len() <= 5);
    let mut sent = 0;
    for _ in 0..240 {
        driver.broker_has_all();
        sent += driver.on("log").len();
        driver.published.clear();
        driver.pass(15 * SECOND);
    }
    assert!(
        (5..=5 * 12).contains(&sent),
        "{sent} logs to a service that is silent for an hour"
    );
    driver.pass(20 * MINUTE);
    driver.published.clear();
    driver.event(Event::Disconnected);
    driver.restart();
    manage_and_take(&mut driver, owed);
}

fn manage_and_take(driver: &mut Driver, owed: usize) {
    driver.connect(false);
    driver.answer_manage(200);
    assert_eq!(driver.take_logs().len(), owed);
    assert!(driver.outbox.is_empty());
}

#[test]
fn responses_go_before_logs() {
    let mut driver = Driver::with(limit(60));
    driver.batch(kinds(0..40));
    driver.connect(true);
    driver.receive(
        "iotdm-1/observe",
        r#"{"reqId":"o","d":{"fields":[{"field":"location"}]}}"#,
    );
    driver.receive("iotdm-1/mgmt/custom/x-y", r#"{"reqId":"a"}"#);
    driver.answer_manage(200);
    driver.receive("iotdm-1/mgmt/custom/x-y", r#"{"reqId":"b"}"#);
    let order = driver.order();
    let first_log = order.iter().position(|tail| *tail == "log").unwrap();
    assert!(
        order[..first_log].iter().filter(|tail| **tail == "response").count() >= 2,
        "{order:?}"
    );
    driver.broker_has_all();
    assert_eq!(driver.answers("b").len(), 1, "and is not behind the rest of them");
}

#[test]
fn a_response_does_not_wait_for_the_acknowledgement_of_a_log() {
    let mut driver = managed(limit(60));
    driver.batch(kinds(0..40));
    let logs = driver.on("log").len();
    driver.receive("iotdm-1/mgmt/custom/x-y", r#"{"reqId":"a"}"#);
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    assert_eq!((driver.answers("a").len(), driver.answers("r1")), (1, vec![202]));
    assert_eq!(driver.on("log").len(), logs, "and the broker has acknowledged none");
}

#[test]
fn a_gap_is_told_and_its_batch_is_taken() {
    let mut driver = managed(limit(30));
    driver.batch(kinds(7..8));
    driver.take_logs();
    driver.pass(SECOND);
    let gap = Gap {
        reason: "the journal was vacuumed".into(),
        at_most: Some(12),
    };
    driver.event(Event::Journal {
        batch: 2,
        entries: Vec::new(),
        cursor: "s=2".into(),
        gap: Some(gap),
    });
    assert_eq!(driver.batches_taken, [1, 2]);
    let logs = driver.take_logs();
    assert_eq!(logs[0]["severity"], 1);
    assert!(
        logs[0]["message"]
            .as_str()
            .unwrap()
            .contains("at most 12 of any priority: the journal was vacuumed")
    );
    assert_eq!(data(&logs[0]), json!({"gap": 1, "at_most": 12, "cursor": "s=1;i=7"}));
    assert_eq!(driver.cursor_on_disk().as_deref(), Some("s=2"));
}

#[test]
fn dia_03_to_clear_the_logs_drops_those_that_wait_sends_no_d_and_comes_before_what_is_added_later() {
    let mut driver = managed(limit(30));
    driver.batch(kinds(0..20));
    let in_flight = driver.on("log").len();
    assert_eq!(driver.diag(DiagCommand::ClearLogs), Reply::Later);
    assert_eq!(
        driver.outbox.len(),
        in_flight + 1,
        "what is on its way cannot be taken back"
    );
    driver.add_log("later");
    driver.restart();
    driver.connect(false);
    driver.broker_has_all();
    driver.answer_manage(200);
    assert_eq!(
        driver.on("add/diag/log").len(),
        in_flight,
        "nobody knows whether the service has them"
    );
    driver.broker_has_all();
    let clear = driver.on("clear/diag/log")[0].as_object().unwrap().clone();
    assert_eq!(clear.keys().collect::<Vec<_>>(), ["reqId"]);
    driver.answer("add/diag/log", 500, in_flight);
    assert_eq!(driver.outbox.len(), 2, "not tried again: it would be cleared");
    driver.answer("clear/diag/log", 409, 1);
    assert!(driver.on("log").is_empty(), "the later one waits for it");
    driver.pass(10 * SECOND);
    driver.answer("clear/diag/log", 200, 1);
    driver.pass(10 * SECOND);
    let logs = driver.take_logs();
    assert_eq!((logs.len(), &logs[0]["message"]), (1, &json!("later")));
    assert!(driver.outbox.is_empty());
}

#[test]
fn a_clear_that_waits_holds_up_no_manage_and_nothing_that_must_precede_it() {
    let mut driver = Driver::with(limit(30));
    driver.diag(DiagCommand::ClearLogs);
    driver.add_log("x");
    driver.ask_reboot("r1");
    driver.connect(false);
    driver.reboot_ends(iotdm::agent::RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.event(Event::PreparingForShutdown(false));
    driver.broker_has_all();
    let order = driver.order();
    assert!(
        order.ends_with(&["log", "manage"]),
        "did not happen, then manage: {order:?}"
    );
    driver.answer_manage(200);
    assert_eq!(driver.on("clear/diag/log").len(), 1);
}

#[test]
fn a_command_is_answered_when_it_is_on_the_disk_and_not_at_all_done_when_the_disk_refuses() {
    let mut driver = managed(limit(30));
    driver.disk_full = true;
    for command in [
        DiagCommand::ClearLogs,
        DiagCommand::ClearErrors,
        DiagCommand::AddError(5),
        DiagCommand::AddLog {
            severity: Severity::Warning,
            text: "x".into(),
            data: None,
        },
    ] {
        assert_eq!(driver.diag(command), Reply::Failed(FULL.into()));
    }
    driver.disk_full = false;
    driver.pass(5 * SECOND);
    assert!(driver.published.is_empty() && driver.outbox.is_empty());
    assert_eq!(driver.add_log("token=abc, done"), Reply::Later);
    assert_eq!(driver.take_logs()[0]["message"], "token=[redacted] done");
    assert!(matches!(driver.add_log("  "), Reply::Failed(_)));
}

#[test]
fn without_settings_nothing_is_taken_and_a_command_says_so() {
    let mut driver = Driver::managed();
    assert!(!driver.batch(kinds(0..3)));
    assert!(matches!(driver.add_log("x"), Reply::Failed(reason) if reason.contains("switched off")));
    assert!(driver.outbox.is_empty());
}

#[test]
fn dia_04_a_storm_of_ten_batches_a_second_is_cheap_while_the_outbox_is_full() {
    let mut driver = Driver::with(limit(600));
    for n in 0..40 {
        driver.batch(kinds(n * 200..n * 200 + 200));
        driver.pass(MINUTE);
    }
    assert_eq!(driver.agent.diagnostics(driver.now).logs_waiting, 1000);
    let batch = Event::Journal {
        batch: 1,
        entries: kinds(0..1000),
        cursor: "c".into(),
        gap: None,
    };
    // Not a measure of speed (that is the benchmark's): what grows with the square of anything would show here.
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        driver.agent.handle(driver.now, &batch, Disk::Works);
    }
    let each = begun.elapsed() / 10;
    assert!(each < Duration::from_secs(5), "{each:?} for a batch");
}

#[test]
fn with_patterns_and_rules_of_the_configuration_that_are_wrong_there_is_an_error_to_show() {
    for (rule, words) in [
        (Rule::failed(9003, "a.service"), "the agent's own"),
        (Rule::failed(1 << 40, "a.service"), "32 bits"),
        (Rule::failed(1, "modbus"), "modbus.service"),
        (Rule::journal(1, Some("a("), None, None, HOUR), "no regular expression"),
        (Rule::journal(1, Some("a*"), None, None, HOUR), "empty text"),
        (Rule::journal(1, Some("a"), None, None, Duration::ZERO), "lasts"),
    ] {
        let error = rule.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert!(diagnostics::Settings::new(0, vec![], vec![]).is_err());
    assert!(diagnostics::Settings::new(601, vec![], vec![]).is_err());
}
