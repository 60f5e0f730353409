//! A real journald: what is logged while it is read, rotated and vacuumed.

use std::collections::BTreeSet;
use std::time::Duration;

use iotdm::host::journal::Options;

use crate::journal::Journald;
use crate::{Read, SHORT, numbered, options, read_to, read_until, start, within};

fn of(journald: &Journald) -> Options {
    Options {
        boot_id: journald.boot.clone(),
        ..options(&journald.directory())
    }
}

fn log(journald: &Journald, prefix: &str, count: u64) {
    for message in numbered(prefix, count) {
        journald.log(3, &message);
        journald.log(6, "all is well");
    }
}

/// The number in the sequence that a cursor has.
fn number(cursor: &str) -> u64 {
    let number = cursor.split(';').find_map(|part| part.strip_prefix("i="));
    u64::from_str_radix(number.unwrap(), 16).unwrap()
}

/// How many entries a reader may be missing at most, by what it was told.
fn told(read: &Read) -> u64 {
    read.gaps.iter().map(|gap| gap.at_most.unwrap()).sum()
}

#[tokio::test]
async fn what_is_logged_comes_at_once_over_rotations_and_restarts_each_entry_once() {
    let journald = Journald::start();
    let mut journal = start(of(&journald), None);
    let mut read = Read::default();
    for round in 0..4 {
        log(&journald, &format!("r{round}-"), 50);
        let new = read_to(&mut journal, &format!("r{round}-49")).await;
        read.entries.extend(new.entries);
        read.gaps.extend(new.gaps);
        journald.rotate();
        log(&journald, &format!("s{round}-"), 50);
        if round % 2 == 0 {
            drop(journal);
            journal = start(of(&journald), new.cursor);
        }
        let new = read_to(&mut journal, &format!("s{round}-49")).await;
        read.entries.extend(new.entries);
        read.gaps.extend(new.gaps);
    }
    let expected: Vec<_> = (0..4)
        .flat_map(|round| [numbered(&format!("r{round}-"), 50), numbered(&format!("s{round}-"), 50)])
        .flatten()
        .collect();
    assert_eq!(read.messages(), expected);
    assert_eq!(read.gaps, []);
}

#[tokio::test]
async fn what_was_vacuumed_while_nobody_read_is_counted() {
    let journald = Journald::start();
    log(&journald, "read", 10);
    let mut journal = start(of(&journald), None);
    let before = read_to(&mut journal, "read9").await;
    drop(journal);
    log(&journald, "lost", 100);
    journald.rotate();
    journald.vacuum();
    log(&journald, "new", 10);
    let read = read_to(&mut start(of(&journald), before.cursor), "new9").await;
    assert_eq!(read.messages(), numbered("new", 10));
    assert_eq!(read.gaps.len(), 1, "{:?}", read.gaps);
    // 100 errors, 100 or 101 lines that are none, the mark of the rotation, and what journald says of itself.
    let at_most = told(&read);
    assert!((200..220).contains(&at_most), "{at_most}");
}

#[tokio::test]
async fn what_is_vacuumed_while_a_batch_waits_is_read_or_counted() {
    let journald = Journald::start();
    let small = Options {
        most_entries: 20,
        patience: SHORT,
        ..of(&journald)
    };
    log(&journald, "x", 40);
    let mut journal = start(small, None);
    let mut read = Read::default();
    read.add(within("the first batch", journal.next()).await);
    let late = tokio::time::sleep(Duration::from_millis(600));
    // More than the pipe holds; files come and go without the reader having seen them.
    for round in 0..3 {
        log(&journald, &format!("y{round}-"), 1000);
        journald.rotate();
        journald.vacuum();
    }
    log(&journald, "z", 10);
    // A batch that waits longer than the patience.
    late.await;
    journal.taken();
    let rest = read_to(&mut journal, "z9").await;
    read.entries.extend(rest.entries);
    read.gaps.extend(rest.gaps);
    let messages: BTreeSet<_> = read.messages().into_iter().collect();
    assert_eq!(messages.len(), read.entries.len(), "none twice");
    assert!(messages.contains("x39") && messages.contains("z0"));
    let missing = 40 + 3000 + 10 - messages.len() as u64;
    assert!(missing > 0, "nothing was vacuumed");
    assert!(told(&read) >= missing, "{missing} are missing, told: {:?}", read.gaps);
}

#[tokio::test]
async fn on_a_quiet_host_the_position_moves_on_and_vacuuming_is_no_loss() {
    let journald = Journald::start();
    log(&journald, "read", 3);
    let mut journal = start(of(&journald), None);
    read_to(&mut journal, "read2").await;
    for _ in 0..200 {
        journald.log(6, "all is well");
    }
    journald.rotate();
    journald.log(6, "still well");
    // Positions until one is behind the last of them.
    let end = number(&journald.cursor_of("still well"));
    let moved = read_until(&mut journal, "a position behind what does not count", |read| {
        read.cursor.as_deref().is_some_and(|cursor| number(cursor) >= end)
    })
    .await;
    assert_eq!(moved.messages(), Vec::<&str>::new());
    drop(journal);
    journald.vacuum();
    log(&journald, "new", 3);
    let read = read_to(&mut start(of(&journald), moved.cursor), "new2").await;
    assert_eq!(read.messages(), ["new0", "new1", "new2"]);
    assert_eq!(read.gaps, []);
}
