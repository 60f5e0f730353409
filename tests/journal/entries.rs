//! What an entry is, and which ones count.

use std::path::Path;

use iotdm::host::journal::Options;

use crate::journal::{BOOT, Record, write};
use crate::{numbered, options, read_to, read_until, start, within};

#[tokio::test]
async fn whatever_a_service_logs_becomes_one_entry() {
    let folder = tempfile::tempdir().unwrap();
    let many = "ü".repeat(512 * 1024);
    let records = [
        Record::new(0, 3, "two\nlines"),
        Record::new(1, 3, b"no \xff UTF-8 \xc3".to_vec()),
        Record::new(2, 3, "x").without("MESSAGE"),
        Record::new(3, 3, many.clone()),
        Record::new(4, 3, vec![0xffu8; 1024 * 1024]),
        Record::new(5, 3, "first").and("MESSAGE", "second"),
        Record::new(6, 3, "\u{1b}[31mred\u{1b}[0m"),
        Record::new(7, 6, "urgent").and("PRIORITY", "2"),
        Record::new(8, 3, "much").with("_SYSTEMD_UNIT", "y".repeat(100_000)),
        Record::new(9, 3, ""),
        Record::new(10, 3, "last").without("_SYSTEMD_UNIT").without("_PID"),
    ];
    write(&folder.path().join("a.journal"), &records);
    let mut journal = start(options(folder.path()), None);
    let read = read_to(&mut journal, "last").await;
    let messages = read.messages();
    assert_eq!(messages.len(), records.len(), "{:?}", read.gaps);
    assert_eq!(messages[..3], ["two\nlines", "no \u{fffd} UTF-8 \u{fffd}", ""]);
    assert!(
        many.starts_with(messages[3]) && messages[3].len() == 4096,
        "{}",
        messages[3].len()
    );
    assert_eq!(read.entries[3].cut, 1024 * 1024 - 4096);
    let kept = messages[4].chars().count() as u64;
    assert!(messages[4].len() <= 4096 && kept + read.entries[4].cut == 1024 * 1024);
    assert!(["first", "second"].contains(&messages[5]));
    assert_eq!(messages[6], "\u{1b}[31mred\u{1b}[0m");
    assert_eq!(read.entries[7].priority, 2);
    assert_eq!(read.entries[8].unit.as_ref().unwrap().len(), 256);
    assert_eq!(messages[9], "");
    let (first, last) = (&read.entries[0], &read.entries[10]);
    assert_eq!((first.unit.as_deref(), first.pid), (Some("modbus.service"), Some(42)));
    assert_eq!((first.boot_id.as_str(), first.priority), (BOOT, 3));
    assert_eq!(
        (last.unit.as_deref(), last.pid, last.identifier.as_deref()),
        (None, None, Some("modbusd"))
    );
    assert_eq!(read.gaps, []);
}

#[tokio::test]
async fn priority_message_id_and_unit_decide_what_counts() {
    let folder = tempfile::tempdir().unwrap();
    let killed = "fe6faa94e7774663a0da52717891d8ef";
    let records = [
        Record::new(0, 4, "warning"),
        Record::new(1, 3, "error"),
        Record::new(2, 5, "killed")
            .with("MESSAGE_ID", killed)
            .with("UNIT", "modbus.service"),
        Record::new(3, 0, "own").with("_SYSTEMD_UNIT", "iotdm-agent.service"),
        Record::new(4, 2, "manager")
            .with("_SYSTEMD_UNIT", "init.scope")
            .with("UNIT", "modbus.service"),
        Record::new(5, 2, "other").with("_SYSTEMD_UNIT", "other.service"),
        Record::new(6, 3, "end"),
    ];
    write(&folder.path().join("a.journal"), &records);
    let messages = async |options: Options| {
        let read = read_to(&mut start(options, None), "end").await;
        read.entries.into_iter().map(|entry| entry.message).collect::<Vec<_>>()
    };
    let base = || Options {
        exclude_units: vec!["iotdm-agent.service".to_owned()],
        ..options(folder.path())
    };
    assert_eq!(messages(base()).await, ["error", "manager", "other", "end"]);
    let warnings = Options { priority: 4, ..base() };
    assert_eq!(
        messages(warnings).await,
        ["warning", "error", "manager", "other", "end"]
    );
    let ids = Options {
        message_ids: vec![killed.to_owned()],
        ..base()
    };
    assert_eq!(
        messages(ids.clone()).await,
        ["error", "killed", "manager", "other", "end"]
    );
    // What is watched comes marked, unless it would come anyway.
    for (options, marked) in [(base(), true), (ids, false), (Options { priority: 5, ..base() }, false)] {
        let options = Options {
            watched_ids: vec![killed.to_owned()],
            ..options
        };
        let read = read_to(&mut start(options, None), "end").await;
        let watched: Vec<_> = read.entries.iter().filter(|entry| entry.watched).collect();
        assert_eq!(watched.len(), usize::from(marked));
        assert!(watched.iter().all(|entry| entry.message == "killed"));
        assert!(read.messages().contains(&"killed"));
    }
    let units = Options {
        units: vec!["modbus.service".to_owned()],
        ..base()
    };
    assert_eq!(messages(units).await, ["error", "manager", "end"]);
}

/// `count` errors, each followed by a line that is none.
fn errors(folder: &Path, count: u64) {
    let records: Vec<_> = (0..count)
        .flat_map(|nth| {
            [
                Record::new(2 * nth, 3, format!("e{nth}")),
                Record::new(2 * nth + 1, 6, "fine"),
            ]
        })
        .collect();
    write(&folder.join("a.journal"), &records);
}

#[tokio::test]
async fn a_batch_has_a_thousand_entries_and_the_next_one_waits_until_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    errors(folder.path(), 2500);
    let mut journal = start(options(folder.path()), None);
    let first = within("the first batch", async {
        let mut read = crate::Read::default();
        // The very first may go out with what the first reading gave.
        while read.entries.len() < 500 {
            read.add(journal.next().await);
            journal.taken();
        }
        read
    })
    .await;
    assert!(first.entries.len() <= 1500);
    let rest = within("another batch", journal.next()).await;
    assert!(rest.entries.len() <= 1000);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), journal.next()).await;
    assert!(
        early.is_err(),
        "{} entries before the batch was taken",
        early.unwrap().entries.len()
    );
    journal.taken();
    let last = read_to(&mut journal, "e2499").await;
    let mut messages = first.messages();
    messages.extend(rest.entries.iter().map(|entry| entry.message.as_str()));
    messages.extend(last.messages());
    assert_eq!(messages, numbered("e", 2500));
}

#[tokio::test]
async fn what_waits_to_be_taken_is_bounded_however_long_the_messages_are() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..600)
        .map(|nth| Record::new(nth, 3, format!("{nth} {}", "x".repeat(6000))))
        .collect();
    write(&folder.path().join("a.journal"), &records);
    let mut journal = start(options(folder.path()), None);
    let read = read_until(&mut journal, "600 entries", |read| read.entries.len() == 600).await;
    assert!(read.entries.iter().all(|entry| entry.message.len() == 4096));
    let mut journal = start(options(folder.path()), None);
    let mut seen = 0;
    while seen < 600 {
        let batch = within("a batch", journal.next()).await;
        journal.taken();
        let bytes: usize = batch.entries.iter().map(|entry| entry.message.len()).sum();
        assert!(bytes <= 1024 * 1024 + 4096, "{bytes}");
        seen += batch.entries.len();
    }
}
