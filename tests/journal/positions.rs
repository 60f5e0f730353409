//! Where reading goes on: over boots, clocks, machine ids, filters, and positions that are none.

use std::cell::RefCell;

use iotdm::host::journal::{Journal, Options};
use proptest::prelude::*;

use crate::journal::{BEGIN, BOOT, MACHINE, Record, write};
use crate::{numbered, options, read_to, read_until, start, within};

const EARLIER: &str = "00000000000000000000000000000001";
const DAY: u64 = 86_400_000_000;

fn boot(boot: &str, begin: u64, prefix: &str, count: u64) -> Vec<Record> {
    let one = |nth| Record::of(boot, begin, nth, 3, format!("{prefix}{nth}"));
    (0..count).map(one).collect()
}

#[tokio::test]
async fn the_first_start_reads_this_boot_from_its_beginning_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.journal"), &boot(EARLIER, BEGIN - DAY, "old", 5));
    write(&folder.path().join("b.journal"), &boot(BOOT, BEGIN, "new", 5));
    let read = read_to(&mut start(options(folder.path()), None), "new4").await;
    assert_eq!(read.messages(), numbered("new", 5));
    assert_eq!(read.gaps, []);
}

/// The cursor of an entry that was read.
async fn cursor_of(mut journal: Journal, message: &str) -> String {
    let read = read_to(&mut journal, message).await;
    let entry = read.entries.into_iter().find(|entry| entry.message == message);
    entry.unwrap().cursor
}

#[tokio::test]
async fn a_boot_whose_clock_is_behind_is_not_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.journal"), &boot(EARLIER, BEGIN, "old", 5));
    // A sequence of its own, as after each power cut; and its clock is set in the middle.
    let mut records = boot(BOOT, BEGIN - DAY, "new", 5);
    let late = Record::of(BOOT, BEGIN + DAY, 5, 3, "new5");
    records.push(late.with("__MONOTONIC_TIMESTAMP", "2000000"));
    write(&folder.path().join("b.journal"), &records);
    let of_earlier = Options {
        boot_id: EARLIER.to_owned(),
        ..options(folder.path())
    };
    let after = cursor_of(start(of_earlier, None), "old2").await;
    let read = read_to(&mut start(options(folder.path()), Some(after)), "new5").await;
    assert_eq!(
        read.messages(),
        ["old3", "old4", "new0", "new1", "new2", "new3", "new4", "new5"]
    );
    assert_eq!(read.gaps, []);
    let again = read.entries[4].cursor.clone();
    let read = read_to(&mut start(options(folder.path()), Some(again)), "new5").await;
    assert_eq!(read.messages(), ["new3", "new4", "new5"]);
}

#[tokio::test]
async fn a_new_machine_id_loses_nothing_and_other_hosts_in_the_journal_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = ("22222222222233334444555555555555", "33333333222233334444555555555555");
    let by = |records: Vec<Record>, machine: &str| -> Vec<Record> {
        records
            .into_iter()
            .map(|record| record.with("_MACHINE_ID", machine))
            .collect()
    };
    let remote = "00000000000000000000000000000002";
    for (machine, records) in [
        (MACHINE, boot(EARLIER, BEGIN, "old", 5)),
        (own, by(boot(BOOT, BEGIN + DAY, "new", 5), own)),
        (other, by(boot(remote, BEGIN + DAY / 2, "remote", 5), other)),
    ] {
        let subfolder = folder.path().join(machine);
        std::fs::create_dir(&subfolder).unwrap();
        write(&subfolder.join("system.journal"), &records);
    }
    let of_earlier = Options {
        boot_id: EARLIER.to_owned(),
        ..options(folder.path())
    };
    let after = cursor_of(start(of_earlier, None), "old2").await;
    let read = read_to(&mut start(options(folder.path()), Some(after)), "new4").await;
    assert_eq!(
        read.messages(),
        ["old3", "old4", "new0", "new1", "new2", "new3", "new4"]
    );
}

#[tokio::test]
async fn a_changed_filter_loses_no_entry_and_repeats_none() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..10)
        .map(|nth| Record::new(nth, if nth % 2 == 0 { 3 } else { 6 }, format!("m{nth}")))
        .collect();
    write(&folder.path().join("a.journal"), &records);
    let all = Options {
        priority: 7,
        ..options(folder.path())
    };
    let after = cursor_of(start(all.clone(), None), "m3").await;
    let read = read_to(&mut start(options(folder.path()), Some(after)), "m8").await;
    assert_eq!((read.messages(), read.gaps.len()), (vec!["m4", "m6", "m8"], 0));
    let after = read.entries[0].cursor.clone();
    let read = read_to(&mut start(all, Some(after)), "m9").await;
    assert_eq!(
        (read.messages(), read.gaps.len()),
        (vec!["m5", "m6", "m7", "m8", "m9"], 0)
    );
}

#[tokio::test]
async fn a_position_that_is_none_is_told_and_reading_begins_now() {
    for wrong in ["garbage", "", "with space", "s=zz", &"x".repeat(5000), "--since=today"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.journal");
        write(&file, &boot(BOOT, BEGIN, "before", 5));
        let mut journal = start(options(folder.path()), Some(wrong.to_owned()));
        let read = read_until(&mut journal, "the gap", |read| !read.gaps.is_empty()).await;
        assert_eq!(read.messages(), Vec::<&str>::new());
        assert!(read.gaps[0].reason.contains("from now on"), "{:?}", read.gaps);
        write(&file, &[Record::new(9, 3, "after")]);
        let read = read_to(&mut journal, "after").await;
        assert_eq!((read.messages(), read.gaps.len()), (vec!["after"], 0));
    }
}

#[tokio::test]
async fn a_journal_that_was_deleted_is_told_and_the_new_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.journal");
    write(&file, &boot(BOOT, BEGIN, "before", 5));
    let after = cursor_of(start(options(folder.path()), None), "before2").await;
    std::fs::remove_file(&file).unwrap();
    // The clock has gone back, too.
    let new = boot(BOOT, BEGIN - DAY, "new", 3);
    let new: Vec<_> = new
        .into_iter()
        .map(|record| record.with("__MONOTONIC_TIMESTAMP", "2000000"))
        .collect();
    write(&folder.path().join("b.journal"), &new);
    let read = read_to(&mut start(options(folder.path()), Some(after)), "new2").await;
    assert_eq!(read.messages(), ["new0", "new1", "new2"]);
    assert_eq!(read.gaps.len(), 1);
    assert_eq!(read.gaps[0].at_most, None);
}

#[tokio::test]
async fn a_clock_that_is_set_back_while_a_boot_is_followed_loses_nothing_and_repeats_nothing() {
    // In the file that is written to, and in one that is begun then, of a sequence of its own.
    for file in ["a.journal", "b.journal"] {
        let folder = tempfile::tempdir().unwrap();
        let of = |begin: u64, range: std::ops::Range<u64>| -> Vec<_> {
            range
                .map(|nth| Record::of(BOOT, begin, nth, 3, format!("m{nth}")))
                .collect()
        };
        write(&folder.path().join("a.journal"), &of(BEGIN, 0..5));
        let mut journal = start(options(folder.path()), None);
        let mut read = read_to(&mut journal, "m4").await;
        let set_back = of(BEGIN - DAY, 5..10);
        write(&folder.path().join(file), &set_back[..3]);
        let more = read_to(&mut journal, "m7").await;
        read.entries.extend(more.entries);
        read.gaps.extend(more.gaps);
        // And forward again.
        write(&folder.path().join(file), &set_back[3..]);
        write(&folder.path().join(file), &of(BEGIN + DAY, 10..12));
        let more = read_to(&mut journal, "m11").await;
        read.entries.extend(more.entries);
        read.gaps.extend(more.gaps);
        assert_eq!(
            (read.messages(), &read.gaps),
            (numbered("m", 12).iter().map(String::as_str).collect(), &vec![]),
            "{file}"
        );
        assert!(read.entries[5].realtime_us < read.entries[4].realtime_us);
        drop(journal);
        // From each place on: before, at, and behind a jump.
        for after in 0..11 {
            let mut journal = start(options(folder.path()), Some(read.entries[after].cursor.clone()));
            let rest = read_to(&mut journal, "m11").await;
            assert_eq!(
                (rest.messages(), rest.gaps.len()),
                (read.messages()[after + 1..].to_vec(), 0),
                "{file} {after}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_reader_that_is_killed_anywhere_and_goes_on_reads_each_entry_exactly_once(
        most in 1usize..40, kills in proptest::collection::vec(0usize..4, 1..6), priority in 3u8..5,
    ) {
        thread_local!(static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) });
        let path = FOLDER.with_borrow_mut(|folder| {
            let folder = folder.get_or_insert_with(|| {
                let folder = tempfile::tempdir().unwrap();
                let one = |boot: &str, begin, prefix: &str| -> Vec<_> {
                    let priority = |nth| [3, 6, 4, 3, 7][nth as usize % 5];
                    (0..100).map(|nth| Record::of(boot, begin, nth, priority(nth), format!("{prefix}{nth}"))).collect()
                };
                write(&folder.path().join("a.journal"), &one(EARLIER, BEGIN, "a"));
                write(&folder.path().join("b.journal"), &one(BOOT, BEGIN - DAY, "b"));
                folder
            });
            folder.path().to_owned()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let count = if priority == 3 { 40 } else { 60 };
            let options = Options { most_entries: most, priority, ..options(&path) };
            let earlier = Options { boot_id: EARLIER.to_owned(), ..options.clone() };
            let mut first = start(Options { most_entries: 1, ..earlier }, None);
            let batch = within("the first entry", first.next()).await;
            let (mut messages, mut after) = (vec![batch.entries[0].message.clone()], batch.cursor);
            drop(first);
            for batches in kills.into_iter().chain([usize::MAX]) {
                let mut journal = start(options.clone(), Some(after.clone()));
                for _ in 0..batches {
                    if messages.len() >= 2 * count {
                        break;
                    }
                    let batch = within("a batch", journal.next()).await;
                    assert_eq!(batch.gap, None);
                    after = batch.cursor;
                    messages.extend(batch.entries.into_iter().map(|entry| entry.message));
                    journal.taken();
                }
                // Killed with one more that is read and not taken.
            }
            let wanted = |nth: &u64| priority == 4 && nth % 5 == 2 || [0, 3].contains(&(nth % 5));
            let expected: Vec<_> = ["a", "b"].iter()
                .flat_map(|prefix| (0..100u64).filter(wanted).map(move |nth| format!("{prefix}{nth}")))
                .collect();
            assert_eq!(messages, expected);
        });
    }
}
