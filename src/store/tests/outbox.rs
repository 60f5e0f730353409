//! The outbox: what goes in comes out until it is removed, within its bound.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{files, restore, scratch};
use crate::store::{Limits, Outbox, Recovered, Seq, StoreError};

const LIMITS: Limits = Limits {
    max_bytes: 2048,
    segment_bytes: 256,
};

fn open(dir: &Path) -> (Outbox, Recovered) {
    Outbox::open(dir, LIMITS).unwrap()
}

fn found(dir: &Path) -> Vec<(Seq, Vec<u8>)> {
    open(dir).1.records
}

#[test]
fn what_is_appended_comes_back_oldest_first_until_it_is_removed() {
    let dir = scratch();
    let (mut outbox, recovered) = open(dir.path());
    assert!(recovered.records.is_empty() && recovered.cut.is_empty());
    let seqs: Vec<Seq> = (0..20)
        .map(|n| outbox.append(format!("entry {n}").as_bytes()).unwrap().seq)
        .collect();
    assert!(seqs.is_sorted());
    for seq in seqs.iter().step_by(2) {
        outbox.remove(*seq).unwrap();
    }
    assert_eq!(outbox.live(), 10);
    outbox.sync().unwrap();
    let expected: Vec<_> = (1..20)
        .step_by(2)
        .map(|n| (seqs[n], format!("entry {n}").into_bytes()))
        .collect();
    assert_eq!(found(dir.path()), expected);
}

#[test]
fn an_entry_may_be_empty_and_as_large_as_the_limit_but_no_larger() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let largest = vec![7; usize::try_from(LIMITS.max_payload()).unwrap()];
    let empty = outbox.append(b"").unwrap().seq;
    let full = outbox.append(&largest).unwrap().seq;
    let too_large = [largest.as_slice(), b"!"].concat();
    assert!(
        matches!(outbox.append(&too_large), Err(StoreError::TooLarge { limit, .. }) if limit == LIMITS.max_payload())
    );
    assert_eq!(found(dir.path()), [(empty, Vec::new()), (full, largest)]);
}

#[test]
fn no_number_is_given_twice_not_even_when_everything_was_removed_or_lost() {
    let dir = scratch();
    let mut highest = None;
    for round in 0..30 {
        let (mut outbox, _) = open(dir.path());
        for _ in 0..round {
            let seq = outbox.append(b"something").unwrap().seq;
            assert!(Some(seq) > highest, "round {round}");
            highest = Some(seq);
            outbox.remove(seq).unwrap();
        }
        if round % 3 == 0 {
            // The end of the youngest file never reached the disk.
            if let Some((path, _)) = files(dir.path()).last() {
                fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
            }
        }
    }
}

#[test]
fn removing_twice_or_what_never_was_is_fine() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let seq = outbox.append(b"once").unwrap().seq;
    outbox.remove(seq).unwrap();
    let bytes = outbox.bytes();
    outbox.remove(seq).unwrap();
    outbox.remove(Seq::new(12345)).unwrap();
    assert_eq!((outbox.live(), outbox.bytes()), (0, bytes));
}

#[test]
fn only_what_waits_for_the_disk_is_dirty() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    outbox.sync().unwrap();
    assert!(!outbox.dirty());
    let seq = outbox.append(b"something").unwrap().seq;
    assert!(outbox.dirty());
    outbox.sync().unwrap();
    assert!(!outbox.dirty());
    outbox.remove(seq).unwrap();
    assert!(outbox.dirty());
    outbox.sync().unwrap();
    assert!(!outbox.dirty());
}

#[test]
fn a_sync_that_failed_is_made_good_by_the_next() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    outbox.append(b"before").unwrap();
    outbox.sync().unwrap();
    outbox.append(b"first").unwrap();
    outbox.append(b"second").unwrap();
    // The kernel has forgotten the pages; on the disk are zeros.
    let (path, bytes) = files(dir.path()).pop().unwrap();
    let certain = usize::try_from(outbox.certain_bytes()).unwrap();
    let zeroed: Vec<u8> = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| if at < certain { *byte } else { 0 })
        .collect();
    fs::write(&path, &zeroed).unwrap();
    outbox.pretend_sync_failed();
    outbox.sync().unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(!outbox.dirty());
}

#[test]
fn beyond_the_bound_the_oldest_segment_goes_and_its_entries_are_counted_and_told() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let mut appended = Vec::new();
    let mut dropped = Vec::new();
    for n in 0..500 {
        let done = outbox.append(format!("entry number {n}").as_bytes()).unwrap();
        appended.push(done.seq);
        dropped.extend(done.dropped);
        assert!(outbox.bytes() <= LIMITS.max_bytes);
    }
    assert!(!dropped.is_empty());
    assert_eq!(
        appended[..dropped.len()],
        dropped,
        "the oldest were dropped, each told once"
    );
    assert_eq!(outbox.dropped_total(), dropped.len() as u64);
    let (outbox, recovered) = open(dir.path());
    let left: Vec<Seq> = recovered.records.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(left, appended[dropped.len()..]);
    assert_eq!(
        (recovered.dropped_total, outbox.live()),
        (dropped.len() as u64, left.len())
    );
    let on_disk: u64 = files(dir.path()).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(outbox.bytes(), on_disk);
}

#[test]
fn one_entry_that_nobody_answers_does_not_fill_the_outbox() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let stuck = outbox.append(b"never answered").unwrap().seq;
    for n in 0..2000 {
        let done = outbox.append(format!("answered {n}").as_bytes()).unwrap();
        assert_eq!(done.dropped, []);
        outbox.remove(done.seq).unwrap();
    }
    assert_eq!(outbox.dropped_total(), 0);
    assert!(outbox.bytes() <= LIMITS.max_bytes);
    assert_eq!(found(dir.path()), [(stuck, b"never answered".to_vec())]);
}

#[test]
fn segments_in_which_nothing_is_wanted_are_deleted() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let seqs: Vec<Seq> = (0..40)
        .map(|n| outbox.append(format!("entry {n}").as_bytes()).unwrap().seq)
        .collect();
    assert!(files(dir.path()).len() > 4);
    for seq in seqs {
        outbox.remove(seq).unwrap();
    }
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_thousand_restarts_leave_no_more_files_than_one() {
    let dir = scratch();
    open(dir.path()).0.append(b"never answered").unwrap();
    for _ in 0..1000 {
        let (mut outbox, _) = open(dir.path());
        let seq = outbox.append(b"manage").unwrap().seq;
        outbox.remove(seq).unwrap();
        outbox.sync().unwrap();
    }
    assert!(files(dir.path()).len() <= 8);
    assert_eq!(found(dir.path()).len(), 1);
}

#[test]
fn an_outbox_that_is_over_a_smaller_bound_comes_back_under_it() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    for n in 0..60 {
        outbox.append(format!("entry {n}").as_bytes()).unwrap();
    }
    let before = outbox.live();
    let smaller = Limits {
        max_bytes: 512,
        segment_bytes: 128,
    };
    let (mut outbox, recovered) = Outbox::open(dir.path(), smaller).unwrap();
    assert_eq!(recovered.records.len(), before);
    let dropped = outbox.append(b"one more").unwrap().dropped;
    assert!(outbox.bytes() <= smaller.max_bytes);
    assert_eq!(outbox.live(), before + 1 - dropped.len());
}

#[test]
fn a_segment_that_was_given_up_stays_gone_when_its_file_comes_back() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let mut before = files(dir.path());
    let dropped = loop {
        let done = outbox.append(b"some longer entry of which not many fit").unwrap();
        if !done.dropped.is_empty() {
            break done.dropped;
        }
        before = files(dir.path());
    };
    let mut after = files(dir.path());
    let deleted = before.into_iter().find(|(path, _)| !path.exists()).unwrap();
    let left = found(dir.path());
    after.insert(0, deleted);
    let again = restore(&after);
    let (_, recovered) = open(again.path());
    assert_eq!(recovered.records, left);
    assert_eq!(recovered.dropped_total, dropped.len() as u64);
}

#[test]
fn a_move_cut_off_at_any_byte_neither_loses_nor_doubles_an_entry() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    for name in ["first", "second", "third"] {
        outbox.append(name.as_bytes()).unwrap();
    }
    let wanted = found(dir.path());
    // Until the oldest segment goes: what it still holds is moved.
    let mut before = files(dir.path());
    loop {
        let done = outbox.append(b"answered at once").unwrap();
        if !before.iter().all(|(path, _)| path.exists()) {
            outbox.remove(done.seq).unwrap();
            break;
        }
        outbox.remove(done.seq).unwrap();
        before = files(dir.path());
    }
    let after = files(dir.path());
    let youngest = after.last().unwrap();
    for cut in 0..youngest.1.len() {
        let mut files: Vec<_> = before.iter().filter(|(path, _)| path != &youngest.0).cloned().collect();
        files.push((youngest.0.clone(), youngest.1[..cut].to_vec()));
        let again = restore(&files);
        let (mut outbox, recovered) = open(again.path());
        let came: Vec<_> = recovered
            .records
            .into_iter()
            .filter(|(_, payload)| payload != b"answered at once")
            .collect();
        assert_eq!(came, wanted, "cut at {cut}");
        // Each is there once: removed once, it is gone.
        for (seq, _) in &wanted {
            let live = outbox.live();
            outbox.remove(*seq).unwrap();
            assert_eq!(outbox.live(), live - 1);
        }
        outbox.sync().unwrap();
        assert!(
            found(again.path())
                .iter()
                .all(|(seq, _)| wanted.iter().all(|(other, _)| other != seq))
        );
    }
}

#[test]
fn a_segment_that_the_medium_does_not_give_back_is_told_and_the_others_are_read() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    for n in 0..20 {
        outbox.append(format!("entry {n}").as_bytes()).unwrap();
    }
    drop(outbox);
    let path = files(dir.path()).pop().unwrap().0;
    let whole = found(dir.path());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (mut outbox, recovered) = open(dir.path());
    assert!(
        recovered.cut[0].reason.contains("cannot be read"),
        "{:?}",
        recovered.cut
    );
    assert_eq!(recovered.records, whole[..recovered.records.len()]);
    assert!(outbox.append(b"goes on").unwrap().seq > whole.last().unwrap().0);
}

/// One entry in the oldest segment is wanted when `spoil` gets that segment's file; then so much is appended that its turn
/// to be moved comes.
fn spoiled_before_it_is_moved(spoil: impl Fn(&Path)) {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    let stuck = outbox.append(b"never answered").unwrap().seq;
    let spoiled = files(dir.path())[0].0.clone();
    while files(dir.path()).len() < 3 {
        let seq = outbox.append(b"answered").unwrap().seq;
        outbox.remove(seq).unwrap();
    }
    spoil(&spoiled);
    let mut dropped = Vec::new();
    for _ in 0..200 {
        let done = outbox.append(b"answered").unwrap();
        dropped.extend(done.dropped);
        outbox.remove(done.seq).unwrap();
    }
    assert_eq!((dropped, outbox.dropped_total()), (vec![stuck], 1));
    assert!(!spoiled.exists());
    outbox.append(b"kept").unwrap();
    drop(outbox);
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.dropped_total, 1);
    let payloads: Vec<_> = recovered.records.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [b"kept"]);
}

#[test]
fn a_segment_that_the_medium_does_not_give_back_is_in_the_way_of_nothing() {
    spoiled_before_it_is_moved(|path| {
        fs::remove_file(path).unwrap();
        // reads at such addresses are EIO
        std::os::unix::fs::symlink("/proc/self/mem", path).unwrap();
        let error = fs::read(path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
    });
}

#[test]
fn a_segment_that_is_gone_or_cut_off_is_in_the_way_of_nothing() {
    spoiled_before_it_is_moved(|path| fs::remove_file(path).unwrap());
    spoiled_before_it_is_moved(|path| fs::File::create(path).unwrap().set_len(10).unwrap());
}

#[test]
fn records_of_a_kind_from_a_later_version_are_skipped() {
    let dir = scratch();
    let (mut outbox, _) = open(dir.path());
    outbox.append(b"known").unwrap();
    drop(outbox);
    let (path, mut bytes) = files(dir.path()).pop().unwrap();
    // Kind 99 with three bytes, framed as every record is.
    let body = [99, 1, 2, 3];
    let mut sum = crc32fast::Hasher::new();
    sum.update(&4u32.to_le_bytes());
    sum.update(&body);
    bytes.extend(4u32.to_le_bytes());
    bytes.extend(sum.finalize().to_le_bytes());
    bytes.extend(body);
    fs::write(&path, &bytes).unwrap();
    let (mut outbox, recovered) = open(dir.path());
    assert_eq!((recovered.records.len(), recovered.cut.len()), (1, 0));
    outbox.append(b"behind it").unwrap();
    assert_eq!(found(dir.path()).len(), 2);
}

#[test]
fn other_files_in_the_folder_are_left_alone() {
    let dir = scratch();
    for name in ["segment-", "segment-1", "segment-99999999999999", "notes.txt"] {
        fs::write(dir.path().join(name), b"mine").unwrap();
    }
    let (mut outbox, recovered) = open(dir.path());
    assert!(recovered.cut.is_empty());
    outbox.append(b"entry").unwrap();
    assert_eq!(
        files(dir.path()).iter().filter(|(_, bytes)| bytes == b"mine").count(),
        4
    );
}

#[test]
fn nobody_but_the_owner_reads_the_outbox() {
    let dir = scratch();
    open(dir.path()).0.append(b"entry").unwrap();
    let (path, _) = files(dir.path()).pop().unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let dir = scratch();
    for (max_bytes, segment_bytes) in [(0, 0), (1 << 20, 63), (1 << 30, (16 << 20) + 1), (1023, 256)] {
        let limits = Limits {
            max_bytes,
            segment_bytes,
        };
        assert!(
            matches!(Outbox::open(dir.path(), limits), Err(StoreError::Limits { .. })),
            "{limits:?}"
        );
    }
}
