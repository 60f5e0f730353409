//! The host's journal becomes log entries at the service: real journal files, the real journalctl, and whatever is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{Host, failure};
use crate::bus::{Answer, PrivateBus, Scripted, login1};
use crate::journal::{BEGIN, Record, write};
use crate::scene::Scene;
use crate::service::Said;
use crate::small_disk::SmallDisk;
use crate::support::free_port;
use crate::support::mosquitto::Setup;

/// Some user that is not root.
const SOMEBODY: u32 = 4242;

/// A scene whose host has a journal.
struct Site {
    scene: Scene,
    file: PathBuf,
}

impl Site {
    async fn new(more: &str) -> Self {
        let mut scene = Scene::with(&Setup::default(), &format!("[diagnostics]\n{more}")).await;
        let folder = scene.host.path("journal");
        std::fs::create_dir(&folder).unwrap();
        let directory = folder.display().to_string();
        scene.host.environment.push(("IOTDM_JOURNAL_DIRECTORY", directory));
        Site {
            scene,
            file: folder.join("system.journal"),
        }
    }

    /// The `nth` error of this boot.
    fn error(&self, nth: u64, message: &str) -> Record {
        Record::of(&self.scene.host.boot_id(), BEGIN, nth, 3, message)
    }

    fn logged(&self, records: &[Record]) {
        write(&self.file, records);
    }

    /// Without those that came again because their answer was lost.
    fn logs(&self) -> Vec<Log> {
        let mut logs: Vec<Log> = self.scene.service.said().iter().filter_map(log).collect();
        let mut seen = BTreeSet::new();
        logs.retain(|log| seen.insert(log.data["cursor"].as_str().unwrap_or_default().to_owned()));
        logs
    }

    async fn until(&self, what: &str, wanted: impl Fn(&[Log]) -> bool) {
        let said = |said: &[Said]| wanted(&said.iter().filter_map(log).collect::<Vec<_>>());
        // The agent sends five messages in a second at most.
        let limit = Duration::from_secs(120);
        self.scene.service.until_within(limit, what, said).await;
    }

    /// `diag status` as soon as it is as wanted, and there is an agent that answers.
    async fn diag_with(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let ask = async {
            loop {
                let output = self.scene.host.run(&["diag", "status", "--json"]).await;
                let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                if output.status.success() && wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(120), ask).await;
        status.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// These errors of this boot: of seven units, nine in ten alike but for a number, the tenth of its own kind.
    fn storm(&self, range: std::ops::Range<u64>) {
        let record = |nth: u64| {
            let message = match nth % 10 {
                0 => format!("error {}", word(nth)),
                _ => format!("no answer from {nth}"),
            };
            self.error(nth, &message)
                .with("_SYSTEMD_UNIT", format!("{}.service", word(nth % 7)))
        };
        self.logged(&range.map(record).collect::<Vec<_>>());
    }

    /// When all of so many entries were taken and nothing waits for the service: how many it was told of, alone or by
    /// their number, and how many are counted and not told yet.
    async fn accounts(&self, entries: u64) -> (u64, u64) {
        loop {
            let done = |status: &Value| position(status) == entries && status["logs_waiting"] == 0;
            let status = self.diag_with("every entry to be taken", done).await;
            let told = told(&self.logs());
            let counted = |status: &Value| {
                let held = status["held_back"].as_object().unwrap();
                held.values()
                    .chain([&status["folded"]])
                    .filter_map(Value::as_u64)
                    .sum::<u64>()
            };
            // Nothing was told meanwhile.
            let after = self.diag_with("a status", |_| true).await;
            if done(&after) && counted(&after) == counted(&status) && told == self::told(&self.logs()) {
                return (told, counted(&status));
            }
        }
    }
}

/// How many entries of the journal's one file there are up to where it was taken.
fn position(status: &Value) -> u64 {
    status["cursor"].as_str().map_or(0, number)
}

/// The number in its sequence of the entry that a cursor names.
fn number(cursor: &str) -> u64 {
    let number = cursor.split(';').find_map(|part| part.strip_prefix("i="));
    u64::from_str_radix(number.unwrap(), 16).unwrap()
}

/// A log entry that the service was told.
#[derive(Debug, Clone)]
struct Log {
    message: String,
    severity: i64,
    data: Value,
}

fn log(said: &Said) -> Option<Log> {
    use base64::Engine;
    let d = (said.tail() == "add/diag/log").then(|| &said.json["d"])?;
    let data = d["data"].as_str().unwrap_or_default();
    let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    Some(Log {
        message: d["message"].as_str().unwrap().to_owned(),
        severity: d["severity"].as_i64().unwrap(),
        data: serde_json::from_slice(&data).unwrap_or(Value::Null),
    })
}

/// How many entries of the journal the service knows of: what comes twice counts once.
fn told(logs: &[Log]) -> u64 {
    let by_cursor: BTreeMap<String, u64> = logs
        .iter()
        .filter_map(|log| {
            let cursor = log.data["cursor"].as_str()?.to_owned();
            Some((cursor, log.data["count"].as_u64()?))
        })
        .collect();
    by_cursor.values().sum()
}

/// Words instead of numbers, so that no two are the same with their numbers aside.
fn word(number: u64) -> String {
    let letter = |digit: char| char::from(b'a' + digit.to_digit(10).unwrap() as u8);
    number.to_string().chars().map(letter).collect()
}

#[tokio::test]
async fn dia_02_errors_of_the_journal_are_told_once_each_whenever_the_agent_runs() {
    let site = Site::new("").await;
    site.logged(&[
        site.error(1, "before the agent; mqtt://me:hunter2@broker"),
        Record::of(&site.scene.host.boot_id(), BEGIN, 2, 6, "no error"),
        site.error(3, "of its own").with("_SYSTEMD_UNIT", "iotdm-agent.service"),
    ]);
    let agent = site.scene.agent().await;
    site.until("the first", |logs| told(logs) == 1).await;
    let first = &site.logs()[0];
    assert_eq!(first.message, "before the agent; mqtt://me:[redacted]@broker");
    assert_eq!(first.severity, 2);
    assert_eq!(
        (&first.data["unit"], &first.data["pid"], &first.data["count"]),
        (&json!("modbus.service"), &json!(42), &json!(1))
    );
    assert_eq!(first.data["boot_id"], site.scene.host.boot_id());

    site.logged(&[site.error(4, "while it runs")]);
    site.until("the second", |logs| told(logs) == 2).await;
    assert_eq!(agent.stop().await, 0);
    site.logged(&[site.error(5, "while it was away")]);
    let agent = site.scene.agent().await;
    site.until("the third", |logs| told(logs) == 3).await;

    // And of the boot before.
    assert_eq!(agent.stop().await, 0);
    site.logged(&[site.error(6, "the last words of this boot")]);
    site.scene.host.boot();
    site.logged(&[site.error(7, "the first of the next")]);
    let _agent = site.scene.agent().await;
    site.until("both", |logs| told(logs) == 5).await;
    let messages: Vec<_> = site.logs().into_iter().map(|log| log.message).collect();
    assert_eq!(
        messages[1..],
        [
            "while it runs",
            "while it was away",
            "the last words of this boot",
            "the first of the next"
        ]
    );
}

#[tokio::test]
async fn dia_04_of_a_flood_the_service_gets_no_more_than_the_rate_and_summaries_and_the_counts_add_up() {
    let site = Site::new("max_per_minute = 20").await;
    let began = std::time::Instant::now();
    site.storm(0..4000);
    let _agent = site.scene.agent().await;
    for written in [4000, 8000, 12_000] {
        let taken = |status: &Value| position(status) == written;
        site.diag_with("the flood to be taken", taken).await;
        site.storm(written..written + 4000);
    }
    let is_summary = |log: &Log| log.message.starts_with("held back");
    site.until("a summary", |logs| logs.iter().any(is_summary)).await;
    let (told, counted) = site.accounts(16_000).await;
    assert_eq!(told + counted, 16_000, "{told} were told, {counted} are counted");

    let logs = site.logs();
    let minutes = began.elapsed().as_secs() as usize / 60 + 1;
    let summaries: Vec<_> = logs.iter().filter(|log| is_summary(log)).collect();
    let single = logs.len() - summaries.len();
    assert!(
        (20..=20 * minutes).contains(&single),
        "{single} logs in {minutes} minutes"
    );
    assert!(summaries.len() <= minutes, "{summaries:?}");
    let by_unit = summaries[0].data["held_back"].as_object().unwrap();
    let held: u64 = by_unit.values().filter_map(Value::as_u64).sum();
    assert_eq!(summaries[0].data["count"], held);
    assert_eq!(by_unit.len(), 7, "{by_unit:?}");
}

#[tokio::test]
async fn every_error_is_told_or_counted_though_the_agent_is_killed_a_hundred_times() {
    let site = Site::new("max_per_minute = 200").await;
    let (mut written, mut stood, mut moved) = (0, 0, 0);
    for kills in 0..100 {
        // There is always more than an agent takes before it is killed.
        while written < stood + AHEAD {
            site.storm(written..written + AHEAD);
            written += AHEAD;
        }
        let agent = site.scene.host.start();
        // Not always at the same moment: at its start, or when it has taken a batch and reads or writes the next.
        let mut moment = kills * 37 % 200;
        if kills % 4 != 0 {
            let taken = |status: &Value| status["entries_taken"].as_u64() > Some(0) && position(status) > stood;
            let status = site.diag_with("a batch that is taken", taken).await;
            (stood, moved) = (position(&status), moved + 1);
            moment /= 4;
        }
        tokio::time::sleep(Duration::from_millis(moment)).await;
        agent.kill().await;
    }
    assert_eq!(moved, 75);
    let _agent = site.scene.agent().await;
    let (told, counted) = site.accounts(written).await;
    assert_eq!(told + counted, written, "{told} were told, {counted} are counted");
    let logs = site.logs();
    assert!(
        logs.len() > 60 && counted > 0,
        "{} logs, {counted} are counted",
        logs.len()
    );
    // Each is of one entry of the journal, and of another one.
    let entries: BTreeSet<u64> = logs
        .iter()
        .filter_map(|log| log.data["cursor"].as_str())
        .map(number)
        .collect();
    assert_eq!(entries.len(), logs.len());
    assert!(entries.iter().all(|entry| (1..=written).contains(entry)));
}

/// More entries than an agent takes before it is killed.
const AHEAD: u64 = 5000;

#[tokio::test]
async fn a_full_disk_stops_the_reading_and_nothing_is_lost() {
    let mut site = Site::new("").await;
    let disk = SmallDisk::mount("256k");
    site.scene.host.state = Some(disk.path.join("state"));
    let agent = site.scene.agent().await;
    disk.fill();
    site.logged(&[site.error(1, "on a full disk")]);
    let refused = |status: &Value| !status["disk_trouble"].is_null();
    site.scene.host.status_with("the trouble", refused).await;
    assert!(site.logs().is_empty(), "nothing is told that is not on the disk");
    site.logged(&[site.error(2, "and one more")]);
    disk.make_room();
    site.until("both", |logs| told(logs) == 2).await;
    assert_eq!(agent.stop().await, 0);
}

#[tokio::test]
async fn what_ends_a_process_and_what_a_rule_waits_for_count_whatever_is_read() {
    let id = "0123456789abcdef0123456789abcdef";
    let rule = format!("priority = \"alert\"\n[[diagnostics.error_code]]\ncode = 77\nmessage_id = \"{id}\"\n");
    let site = Site::new(&rule).await;
    let of = |nth, priority, message: &str| Record::of(&site.scene.host.boot_id(), BEGIN, nth, priority, message);
    site.logged(&[
        of(1, 3, "an error"),
        of(2, 2, "Process 42 (modbusd) of user 0 dumped core.")
            .with("MESSAGE_ID", "fc2e22bc6ee647b6b90729ab34a250b1")
            .with("_SYSTEMD_UNIT", "systemd-coredump@0-7-0.service")
            .with("COREDUMP_UNIT", "modbus.service"),
        of(3, 5, "A process of this unit has been killed by the OOM killer.")
            .with("MESSAGE_ID", "fe6faa94e7774663a0da52717891d8ef")
            .with("_SYSTEMD_UNIT", "init.scope")
            .with("UNIT", "camera.service"),
        of(4, 6, "what the rule waits for").with("MESSAGE_ID", id),
        of(5, 1, "the last"),
    ]);
    let _agent = site.scene.agent().await;
    site.until("the last", |logs| logs.iter().any(|log| log.message == "the last"))
        .await;
    let code = |said: &[Said]| {
        let of = |said: &Said| said.tail() == "add/diag/errorCodes" && said.json["d"]["errorCode"] == 77;
        said.iter().any(of)
    };
    site.scene.service.until("the rule's code", code).await;
    let logs: Vec<_> = site
        .logs()
        .into_iter()
        .map(|log| (log.message, log.severity, log.data["unit"].as_str().unwrap().to_owned()))
        .collect();
    let log = |message: &str, unit: &str| (message.to_owned(), 2, unit.to_owned());
    assert_eq!(
        logs,
        [
            log(
                "modbus.service has dumped core: Process 42 (modbusd) of user 0 dumped core.",
                "modbus.service"
            ),
            log(
                "camera.service ran out of memory: A process of this unit has been killed by the OOM killer.",
                "camera.service"
            ),
            log("the last", "modbus.service"),
        ]
    );
}

#[tokio::test]
async fn check_says_which_group_is_missing_to_read_the_journal() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new("").await;
    site.logged(&[site.error(1, "an error")]);
    let host = &site.scene.host;
    std::fs::set_permissions(host.path("etc/config.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
    crate::agent::give(&host.path("token"), SOMEBODY);
    let check = async || {
        let output = host.run_as(Some(SOMEBODY), &["check"]).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    crate::agent::give(&site.file, SOMEBODY);
    let text = check().await;
    assert!(text.contains("journal: the journal can be read"), "{text}");
    crate::agent::give(&site.file, 0);
    std::fs::set_permissions(&site.file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = check().await;
    assert!(text.contains("systemd-journal"), "{text}");
}

#[tokio::test]
async fn check_names_a_unit_of_the_configuration_that_systemd_does_not_have() {
    let bus = PrivateBus::start();
    let _login1 = login1(&bus).await;
    let systemd = Scripted::start(&bus, "org.freedesktop.systemd1").await;
    let unit = Answer::Path("/org/freedesktop/systemd1/unit/any".to_owned());
    systemd
        .answer("LoadUnit", unit)
        .answer("LoadState", Answer::Text("not-found".to_owned()))
        .answer("ActiveState", Answer::Text("inactive".to_owned()))
        .answer("UnitFileState", Answer::Text(String::new()))
        .answer("Type", Answer::Text("simple".to_owned()))
        .answer("RemainAfterExit", Answer::Truth(false));
    let host = Host::new("gw-1", bus.address());
    let more = "[diagnostics]\nunits = [\"modbuss.service\"]\n\
        [[diagnostics.error_code]]\ncode = 42\nunit = \"modbsu.service\"\n";
    host.configure_for(&format!("mqtt://127.0.0.1:{}", free_port()), more);
    let agent = host.start();
    agent.notes.line("STATUS=not connected").await;
    let check = async || {
        let output = host.run(&["check"]).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = check().await;
    assert!(
        text.contains("modbuss.service is not-found: no log entries of it will be told"),
        "{text}"
    );
    assert!(
        text.contains("modbsu.service is not-found: error code 42 will never be told"),
        "{text}"
    );
    systemd.answer("LoadState", Answer::Text("loaded".to_owned()));
    let text = check().await;
    assert!(!text.contains("diagnostics-units"), "{text}");
}

#[tokio::test]
async fn dia_01_dia_03_scripts_on_the_host_add_and_clear() {
    let site = Site::new("journal = false").await;
    let _agent = site.scene.agent().await;
    let host = &site.scene.host;
    let said = |tail: &'static str| move |said: &[Said]| said.iter().any(|said| said.tail() == tail);

    std::fs::write(host.path("more"), b"\x00binary").unwrap();
    let more = host.path("more").display().to_string();
    let told = host
        .told(&[
            "diag",
            "add-log",
            "--severity",
            "1",
            "--data",
            &more,
            "door open, password=hunter2",
        ])
        .await;
    assert!(told.contains("written down"), "{told}");
    site.scene.service.until("the log", said("add/diag/log")).await;
    let sent = site.scene.service.said();
    let sent = sent.iter().find(|said| said.tail() == "add/diag/log").unwrap();
    assert_eq!(sent.json["d"]["message"], "door open, password=[redacted]");
    assert_eq!(sent.json["d"]["severity"], 1);
    assert_eq!(sent.json["d"]["data"], "AGJpbmFyeQ==");

    host.told(&["diag", "add-error", "42"]).await;
    site.scene.service.until("the code", said("add/diag/errorCodes")).await;
    let sent = site.scene.service.said();
    let sent = sent.iter().find(|said| said.tail() == "add/diag/errorCodes").unwrap();
    assert_eq!(sent.json["d"], json!({"errorCode": 42}));
    let held = |status: &str| status.contains("error codes that hold: 42") && !status.contains("still has");
    let mut status = String::new();
    for _ in 0..200 {
        status = host.told(&["diag", "status"]).await;
        if held(&status) {
            break;
        }
    }
    assert!(held(&status), "{status}");
    let status: Value = serde_json::from_str(&host.told(&["diag", "status", "--json"]).await).unwrap();
    assert_eq!(status["error_codes"]["by_hand"], json!([42]));

    for (command, tail) in [
        ("clear-errors", "clear/diag/errorCodes"),
        ("clear-logs", "clear/diag/log"),
    ] {
        host.told(&["diag", command]).await;
        site.scene.service.until(command, said(tail)).await;
        let sent = site.scene.service.said();
        let sent = sent.iter().find(|said| said.tail() == tail).unwrap();
        assert!(sent.json.get("d").is_none(), "{sent:?}");
    }

    for arguments in [
        &["diag", "add-error", "9001"][..],
        &["diag", "add-error", "99999999999"],
        &["diag", "add-log", ""],
    ] {
        let (code, text) = failure(&host.run(arguments).await);
        assert!(code == 1 && text.len() > 20, "{arguments:?} {text}");
    }
    std::fs::write(host.path("more"), vec![0; 64 * 1024 + 1]).unwrap();
    let (code, text) = failure(&host.run(&["diag", "add-log", "--data", &more, "x"]).await);
    assert!(code == 1 && text.contains("larger than 64 KiB"), "{text}");
    let (code, _) = failure(&host.run(&["diag", "add-log", "--severity", "3", "x"]).await);
    assert_eq!(code, 2);
}
