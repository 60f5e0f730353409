//! What becomes of entries, as a whole: nothing is lost, nothing counts twice, and no more is told than may be.
#![allow(clippy::unwrap_used)]

use super::super::settings::Rule;
use super::*;
use crate::agent::Now;
use crate::protocol::diagnostics::Severity;
use crate::protocol::timestamp;
use proptest::prelude::*;
use serde_json::Value;

const BOOT: &str = "0f0e0d0c0b0a09080706050403020100";
const WALL: i64 = 1_800_000_000;

fn context(settings: &Settings, seconds: f64) -> Context<'_> {
    Context {
        now: Now {
            boottime: Duration::from_secs_f64(1000.0 + seconds),
            wall: Some(WALL + seconds as i64),
        },
        boot_id: BOOT,
        settings,
    }
}

fn entry(n: u64, unit: &str, message: &str) -> Entry {
    Entry {
        cursor: format!("s=1;i={n:x}"),
        boot_id: BOOT.into(),
        realtime_us: (WALL as u64 + n) * 1_000_000,
        priority: 3,
        unit: Some(unit.into()),
        message: message.into(),
        ..Entry::default()
    }
}

fn data(made: &Made) -> Value {
    serde_json::from_slice(made.log.data.as_ref().unwrap()).unwrap()
}

#[test]
fn the_first_of_a_kind_goes_out_at_once_and_the_rest_is_told_by_its_number_after_five_minutes() {
    let (settings, mut journal) = (Settings::default(), Journal::default());
    let entries: Vec<_> = (0..5)
        .map(|n| entry(n, "modbus.service", &format!("no answer from {n}")))
        .collect();
    let made = journal.take(&context(&settings, 5.0), &entries, "s=1;i=4");
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].log.message.as_str(), made[0].covers), ("no answer from 0", 1));
    assert_eq!(data(&made[0])["cursor"], "s=1;i=0");

    assert!(!journal.is_due(context(&settings, 304.9).now.boottime, &settings, false));
    assert_eq!(journal.tell_at(&settings), Some(Duration::from_secs(1305)));
    let made = journal.tell(&context(&settings, 305.0), false);
    let times = [WALL + 1, WALL + 4].map(|at| timestamp::format(at).unwrap());
    let text = format!(
        "no answer from 0 (4 more like this between {} and {})",
        times[0], times[1]
    );
    assert_eq!((made[0].log.message.clone(), made[0].covers), (text, 4));
    let told = data(&made[0]);
    assert_eq!(
        (told["cursor"].as_str(), told["count"].as_u64()),
        (Some("s=1;i=1"), Some(4))
    );
    assert_eq!(
        (told["unit"].as_str(), told["last"].as_str()),
        (Some("modbus.service"), Some(times[1].as_str()))
    );
    assert_eq!(journal.folds.len(), 0);
}

#[test]
fn an_entry_that_is_there_for_a_rule_only_has_its_code_and_no_log_and_no_token() {
    let id = "0123456789abcdef0123456789abcdef";
    let rule = Rule::journal(42, None, Some(id), None, Duration::from_secs(60)).unwrap();
    let (settings, mut journal) = (Settings::new(2, vec![], vec![rule]).unwrap(), Journal::default());
    let watched = |n: u64| Entry {
        priority: 6,
        message_id: Some(id.to_owned()),
        watched: true,
        ..entry(n, "modbus.service", "started")
    };
    let entries = [watched(0), watched(1), entry(2, "modbus.service", "no answer")];
    let context = context(&settings, 0.0);
    let made = journal.take(&context, &entries, "s=1;i=2");
    let texts: Vec<_> = made.iter().map(|made| made.log.message.as_str()).collect();
    assert_eq!(texts, ["no answer"]);
    assert!(journal.matched(42, context.now.boottime));
    assert_eq!((journal.folds.entries(), journal.held.is_empty()), (0, true));
}

#[test]
fn what_there_is_no_token_for_is_told_in_one_summary_a_minute_by_unit() {
    let (settings, mut journal) = (Settings::new(4, vec![], vec![]).unwrap(), Journal::default());
    let letters = |n: u64| ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][n as usize % 10].to_owned();
    let mut entries: Vec<_> = (0..10).map(|n| entry(n, "storm.service", &letters(n))).collect();
    entries.extend((10..13).map(|n| entry(n, "other.service", &letters(n))));
    let made = journal.take(&context(&settings, 0.0), &entries, "s=1;i=c");
    assert_eq!(made.len(), 4, "half of them for each");
    let made = journal.tell(&context(&settings, 60.0), false);
    assert_eq!(made.len(), 1);
    assert!(
        made[0].log.message.starts_with("held back between "),
        "{}",
        made[0].log.message
    );
    assert!(
        made[0]
            .log
            .message
            .contains(": 8 of storm.service, 1 of other.service: more than 4 logs in a minute"),
        "{}",
        made[0].log.message
    );
    assert_eq!(made[0].covers, 9);
    assert_eq!(data(&made[0])["held_back"]["storm.service"], 8);
    assert!(journal.held.is_empty());
}

#[test]
fn severity_follows_priority_and_a_core_dump_names_its_unit() {
    let (settings, mut journal) = (Settings::default(), Journal::default());
    for (priority, severity) in [(0, 2), (3, 2), (4, 1), (5, 0), (7, 0)] {
        let mut entry = entry(
            1,
            "a.service",
            ["x", "y", "z", "v", "w", "u", "t", "s"][priority as usize],
        );
        entry.priority = priority;
        let made = journal.take(&context(&settings, 0.0), &[entry], "c");
        assert_eq!(made[0].log.severity as i64, severity, "{priority}");
    }
    let dump = Entry {
        message_id: Some(super::super::CORE_DUMP.into()),
        about: Some("modbus.service".into()),
        priority: 5,
        ..entry(
            9,
            "systemd-coredump@1.service",
            "Process 17 (modbusd) of user 0 dumped core.",
        )
    };
    let made = journal.take(&context(&settings, 0.0), &[dump], "c");
    assert_eq!(made[0].log.severity, Severity::Error);
    assert_eq!(
        made[0].log.message,
        "modbus.service has dumped core: Process 17 (modbusd) of user 0 dumped core."
    );
    assert_eq!(data(&made[0])["unit"], "modbus.service");
}

#[test]
fn a_text_over_the_limit_is_cut_at_a_characters_end_with_a_mark_and_nothing_secret_is_left() {
    let (settings, mut journal) = (Settings::default(), Journal::default());
    let secret = format!("{} password=hunter2 {}", "ä".repeat(900), "ö ".repeat(400_000));
    let length = secret.len();
    let made = journal.take(&context(&settings, 0.0), &[entry(1, "a.service", &secret)], "c");
    let text = &made[0].log.message;
    assert!(text.len() <= 2048 && text.contains("password=[redacted]"), "{text}");
    let mark = text.rsplit_once(" […").unwrap();
    let missing: usize = mark.1.strip_suffix(" bytes more]").unwrap().parse().unwrap();
    assert!(missing > length - 2048 && missing < length, "{missing} of {length}");
    // What the reader has cut off counts, and what it has cut in two is no text.
    let cut = Entry {
        cut: 1_000_000,
        ..entry(3, "b.service", "the request was password=hunt")
    };
    let made = journal.take(&context(&settings, 0.0), &[cut], "c");
    assert_eq!(made[0].log.message, "the request was […1000014 bytes more]");
    let empty = journal.take(&context(&settings, 0.0), &[entry(2, "a.service", " \n")], "c");
    assert_eq!(empty[0].log.message, "an entry without a message");
}

#[test]
fn what_systemd_says_of_a_unit_is_of_that_unit_and_what_others_say_is_theirs() {
    let rule = Rule::journal(50, Some("Failed to start"), None, Some("modbus.service"), 60 * MINUTE);
    let settings = Settings::new(30, vec![], vec![rule.unwrap()]).unwrap();
    let mut journal = Journal::default();
    let context = context(&settings, 0.0);
    let of = |n: u64, unit: &str| Entry {
        about: Some("modbus.service".into()),
        ..entry(n, unit, "Failed to start the bus.")
    };
    let made = journal.take(&context, &[of(0, "liar.service")], "c");
    assert_eq!(data(&made[0])["unit"], "liar.service");
    assert!(!journal.matched(50, context.now.boottime));
    let made = journal.take(
        &context,
        &[of(1, "init.scope"), entry(2, "init.scope", "Reexecuting.")],
        "c",
    );
    assert_eq!(
        (&data(&made[0])["unit"], &data(&made[1])["unit"]),
        (&"modbus.service".into(), &"init.scope".into())
    );
    assert!(journal.matched(50, context.now.boottime));
}

#[test]
fn the_code_of_an_entry_holds_from_when_it_was_logged() {
    let rule = |code, text| Rule::journal(code, Some(text), None, None, 10 * MINUTE).unwrap();
    let settings = Settings::new(30, vec![], vec![rule(50, "stuck"), rule(51, "old"), rule(52, "odd")]).unwrap();
    let mut journal = Journal::default();
    let now = context(&settings, 0.0);
    let ago = |seconds: i64, boot: &str, text: &str| Entry {
        boot_id: boot.into(),
        realtime_us: (WALL - seconds) as u64 * 1_000_000,
        ..entry(0, "a.service", text)
    };
    let batch = [
        ago(240, BOOT, "stuck"),
        ago(3 * 24 * 3600, "ab", "old"),
        // Before its own boot: the clock was not set then, and nobody knows when that was.
        ago(3 * 24 * 3600, BOOT, "odd"),
    ];
    journal.take(&now, &batch, "c");
    let holds = |seconds: f64| {
        let at = context(&settings, seconds).now.boottime;
        [50, 51, 52].map(|code| journal.matched(code, at))
    };
    assert_eq!(holds(0.0), [true, false, true]);
    assert_eq!(holds(359.0), [true, false, true]);
    assert_eq!(holds(361.0), [false, false, true]);
    assert_eq!(holds(601.0), [false; 3]);
}

#[test]
fn a_private_key_that_comes_line_by_line_does_not_go_out_and_the_agents_restart_in_its_middle_changes_nothing() {
    let (settings, mut journal) = (Settings::default(), Journal::default());
    let context = context(&settings, 0.0);
    let line = |n: u64, text: &str| Entry {
        pid: Some(17),
        ..entry(n, "a.service", text)
    };
    let mut made = journal.take(
        &context,
        &[line(0, "-----BEGIN EC PRIVATE KEY-----"), line(1, "MHcCA+")],
        "c",
    );
    let snapshot = serde_json::to_value(journal.to_snapshot(&Snapshot::default(), context.now.boottime)).unwrap();
    let mut journal = Journal::restore(&serde_json::from_value(snapshot).unwrap(), context.now.boottime);
    let rest = [
        line(2, "Q0ZFR0g"),
        line(3, "-----END EC PRIVATE KEY-----"),
        line(4, "began"),
    ];
    made.extend(journal.take(&context, &rest, "d"));
    let texts: Vec<_> = made.iter().map(|made| made.log.message.as_str()).collect();
    assert_eq!(texts, ["[redacted]", "[redacted] (of a private key)", "began"]);
    let counted: u64 = made.iter().map(|made| made.covers).sum();
    assert_eq!(counted + journal.folds.entries(), 5);
}

#[test]
fn dia_02_a_time_that_cannot_be_true_is_left_out() {
    let (settings, mut journal) = (Settings::default(), Journal::default());
    let mut take = |entry: Entry, context: Context<'_>| journal.take(&context, &[entry], "c").remove(0).log.timestamp;
    let at = |seconds: i64, text: &str| Entry {
        realtime_us: (WALL + seconds) as u64 * 1_000_000 + 250_000,
        ..entry(0, "a.service", text)
    };
    let now = context(&settings, 0.0);
    assert_eq!(take(at(-5, "a"), now), timestamp::format_ms((WALL - 5) * 1000 + 250));
    assert_eq!(
        take(at(-5000, "b"), now),
        None,
        "before its own boot: the clock was not set then"
    );
    let earlier = Entry {
        boot_id: "ab".into(),
        ..at(-5000, "c")
    };
    assert!(take(earlier, now).is_some());
    assert_eq!(take(at(500, "d"), now), None, "the clock was put back");
    let unset = Context {
        now: Now { wall: None, ..now.now },
        ..now
    };
    assert_eq!(take(at(-5, "e"), unset), None);
}

#[test]
fn a_gap_is_told_once_and_more_of_them_once_a_minute() {
    let (settings, mut journal) = (Settings::default(), Journal::default());
    let gap = |at_most| Gap {
        reason: "it was vacuumed".into(),
        at_most,
    };
    journal.gap(&gap(Some(40)), Duration::from_secs(1000));
    let made = journal.tell(&context(&settings, 0.0), false);
    assert_eq!(
        made[0].log.message,
        "the journal has lost entries before they were read, at most 40 of any priority: it was vacuumed"
    );
    assert_eq!(made[0].log.severity, Severity::Warning);
    journal.gap(&gap(Some(1)), Duration::from_secs(1001));
    journal.gap(&gap(Some(2)), Duration::from_secs(1002));
    assert!(journal.tell(&context(&settings, 59.0), false).is_empty());
    let made = journal.tell(&context(&settings, 60.0), false);
    assert!(
        made[0].log.message.contains("at most 3 of any priority") && made[0].log.message.contains("2 times"),
        "{}",
        made[0].log.message
    );
}

#[test]
fn what_was_saved_by_an_older_version_without_members_is_read() {
    let snapshot: Snapshot = serde_json::from_str(r#"{"cursor":"s=1","newer":{"x":1}}"#).unwrap();
    let journal = Journal::restore(&snapshot, Duration::from_secs(5));
    assert_eq!(journal.cursor(), Some("s=1"));
    let again = serde_json::to_value(journal.to_snapshot(&snapshot, Duration::from_secs(6))).unwrap();
    assert_eq!(again, serde_json::json!({"cursor": "s=1", "newer": {"x": 1}}));
}

/// One step of a random run.
#[derive(Debug, Clone)]
enum Step {
    /// The reader brings so many entries.
    Batch(usize),
    /// Seconds pass.
    Wait(u16),
    /// The process is killed, and starts again with what is on the disk.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..40).prop_map(Step::Batch),
        3 => (0u16..200).prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ]
}

/// The brain's shell in small: what it does with what is made, and when it saves.
struct Run {
    settings: Settings,
    journal: Journal,
    now: f64,
    disk: Snapshot,
    /// Where the reader is, and where it goes on after a crash.
    read: usize,
    on_disk: usize,
    /// What left, and when; what was on the disk is never taken back.
    left: Vec<(f64, Made)>,
}

impl Run {
    fn context(&self) -> Context<'_> {
        context(&self.settings, self.now)
    }

    /// As the brain does: what is owed is saved with what it was made of.
    fn owe(&mut self, made: Vec<Made>) {
        let now = self.context().now.boottime;
        let late = self.journal.unsaved.is_some_and(|since| now >= since + SAVE);
        if !made.is_empty() || late {
            self.journal.unsaved = None;
            self.disk = self.journal.to_snapshot(&self.disk, now);
            self.on_disk = self.read;
        }
        self.left.extend(made.into_iter().map(|made| (self.now, made)));
    }

    fn tell(&mut self) {
        let now = self.context().now.boottime;
        let mut journal = self.journal.clone();
        let made = match journal.is_due(now, &self.settings, false) {
            true => journal.tell(&self.context(), false),
            false => Vec::new(),
        };
        self.journal = journal;
        self.owe(made);
    }

    fn batch(&mut self, entries: &[Entry], size: usize) {
        let end = (self.read + size).min(entries.len());
        let Some(last) = entries[self.read..end].last() else {
            return;
        };
        let mut journal = self.journal.clone();
        let made = journal.take(&self.context(), &entries[self.read..end], &last.cursor);
        self.journal = journal;
        self.read = end;
        self.owe(made);
        self.tell();
    }

    fn wait(&mut self, seconds: f64) {
        let end = self.now + seconds;
        for round in 0.. {
            assert!(round < 10_000, "a deadline that is over comes again and again");
            let deadline = self.journal.deadline(&self.settings);
            let at = deadline.map_or(f64::MAX, |at| at.as_secs_f64() - 1000.0);
            if at > end {
                break;
            }
            // Rounded up, as a timer is.
            self.now = self.now.max(at + 1e-6);
            self.tell();
        }
        self.now = self.now.max(end);
    }

    fn crash(&mut self) {
        let now = self.context().now.boottime;
        self.journal = Journal::restore(&self.disk, now);
        self.read = self.on_disk;
    }

    fn counted(&self) -> u64 {
        let told: u64 = self.left.iter().map(|(_, made)| made.covers).sum();
        told + self.journal.folds.entries() + self.journal.held.entries()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn dia_04_every_entry_is_told_or_counted_exactly_once_over_crashes_and_no_minute_has_more_than_its_logs(
        limit in 1u32..30,
        kinds in prop::collection::vec((0u8..6, 0u8..90), 1..800),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let name = |kind: u8| format!("{}{}", char::from(b'a' + kind / 26), char::from(b'a' + kind % 26));
        let entries: Vec<_> = (0u64..).zip(&kinds)
            .map(|(n, (unit, kind))| entry(n, &format!("{unit}.service"), &name(*kind)))
            .collect();
        let mut run = Run {
            settings: Settings::new(limit, vec![], vec![]).unwrap(),
            journal: Journal::default(), now: 0.0, disk: Snapshot::default(), read: 0, on_disk: 0, left: Vec::new(),
        };
        for step in steps {
            match step {
                Step::Batch(size) => run.batch(&entries, size),
                Step::Wait(seconds) => run.wait(seconds.into()),
                Step::Crash => run.crash(),
            }
            prop_assert_eq!(run.counted(), run.read as u64);
        }
        // The rest is read, and everything has its end.
        while run.read < entries.len() {
            run.batch(&entries, 100);
        }
        run.wait(3600.0 * 4.0);
        prop_assert_eq!(run.journal.folds.entries() + run.journal.held.entries(), 0);
        prop_assert_eq!(run.counted(), entries.len() as u64);
        let mut cursors: Vec<_> = run.left.iter().map(|(_, made)| data(made)["cursor"].to_string()).collect();
        cursors.sort_unstable();
        cursors.dedup();
        prop_assert_eq!(cursors.len(), run.left.len(), "no two logs have the same id");
        for (at, _) in &run.left {
            // Sums of floating point numbers are a nanosecond off.
            let minute = run.left.iter().filter(|(other, _)| at - other < 60.0 - 1e-8 && other <= at);
            let (summaries, logs): (Vec<_>, Vec<_>) = minute.partition(|(_, made)| data(made)["held_back"].is_object());
            prop_assert!(logs.len() <= limit as usize, "{} logs in a minute", logs.len());
            prop_assert!(summaries.len() <= 1);
        }
    }
}
