//! Damage at every byte of an outbox of several segments.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{damaged, files, restore, scratch};
use crate::store::record::{Record, Records};
use crate::store::{Limits, Outbox, Seq};

const LIMITS: Limits = Limits {
    max_bytes: 1024,
    segment_bytes: 160,
};

/// An outbox of several segments in which everything that occurs stands: entries, removals, an entry that was moved,
/// segments given up.
fn sample() -> Vec<(PathBuf, Vec<u8>)> {
    let dir = scratch();
    let (mut outbox, _) = Outbox::open(dir.path(), LIMITS).unwrap();
    outbox.append(b"moved").unwrap();
    let mut last = None;
    for n in 0..60 {
        let seq = outbox.append(format!("entry {n}").as_bytes()).unwrap().seq;
        if n < 30 || n % 5 == 0 {
            outbox.remove(last.replace(seq).unwrap_or(seq)).unwrap();
        }
    }
    assert!(outbox.dropped_total() > 0);
    outbox.sync().unwrap();
    let files = files(dir.path());
    assert!(files.len() > 3);
    files
}

/// Every entry in these bytes, with where it ends.
fn entries(bytes: &[u8]) -> Vec<(usize, Seq, Vec<u8>)> {
    Records::of(bytes)
        .filter_map(|(span, record)| match record {
            Record::Entry { seq, payload } => Some((span.end, seq, payload.to_vec())),
            _ => None,
        })
        .collect()
}

#[test]
fn damage_at_any_byte_loses_only_what_stands_behind_it_in_its_segment_and_nothing_wrong_comes_out() {
    let whole = sample();
    let (_, recovered) = Outbox::open(restore(&whole).path(), LIMITS).unwrap();
    let wanted: BTreeMap<Seq, Vec<u8>> = recovered.records.into_iter().collect();
    let ever: BTreeMap<Seq, Vec<u8>> = whole
        .iter()
        .flat_map(|(_, bytes)| entries(bytes))
        .map(|(_, seq, payload)| (seq, payload))
        .collect();
    let highest = *ever.keys().last().unwrap();
    let mut lossless = 0;

    for (which, (_, good)) in whole.iter().enumerate() {
        for (at, bad) in damaged(good) {
            let mut copy = whole.clone();
            copy[which].1.clone_from(&bad);
            let dir = restore(&copy);
            let (mut outbox, recovered) = Outbox::open(dir.path(), LIMITS).unwrap();
            let what = format!("segment {which}, byte {at}, {} of {} bytes", bad.len(), good.len());

            for (seq, payload) in &recovered.records {
                assert_eq!(ever.get(seq), Some(payload), "never appended: {what}");
            }
            assert!(recovered.records.is_sorted(), "{what}");
            let came: BTreeMap<Seq, Vec<u8>> = recovered.records.into_iter().collect();
            for seq in wanted.keys() {
                let intact = copy.iter().enumerate().any(|(other, _)| {
                    entries(&whole[other].1)
                        .iter()
                        .any(|(end, found, _)| found == seq && (other != which || *end <= at))
                });
                assert!(!intact || came.contains_key(seq), "{seq} is lost: {what}");
            }
            lossless += usize::from(came == wanted);
            let ends_with_a_record = bad.len() < good.len() && Records::of(good).any(|(span, _)| span.end == at);
            assert_eq!(
                recovered.cut.is_empty(),
                at == 0 && bad.is_empty() || ends_with_a_record,
                "{what}"
            );

            // It goes on: new entries behind the cut, under numbers that nobody had.
            let seq = outbox.append(b"after").unwrap().seq;
            assert!(seq > highest, "{what}");
            outbox.sync().unwrap();
            let (_, again) = Outbox::open(dir.path(), LIMITS).unwrap();
            assert_eq!(again.cut, [], "told twice: {what}");
            assert_eq!(again.records.last(), Some(&(seq, b"after".to_vec())), "{what}");
        }
    }
    assert!(lossless > 0, "damage behind the last entry loses nothing");
}

#[test]
fn what_was_cut_is_told_with_its_file_and_its_size() {
    let mut files = sample();
    let bytes = &mut files.last_mut().unwrap().1;
    let good = bytes.len();
    bytes.extend([0; 100]);
    let dir = restore(&files);
    let (_, recovered) = Outbox::open(dir.path(), LIMITS).unwrap();
    let told = recovered.cut[0].to_string();
    assert!(
        told.contains("segment-") && told.contains(&format!("cut after {good} good bytes: the 100")),
        "{told}"
    );
    assert_eq!(fs::metadata(&recovered.cut[0].path).unwrap().len(), good as u64);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_segment_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let mut records = Records::of(&bytes);
        let count = records.by_ref().count();
        proptest::prop_assert!(records.end() <= bytes.len() && (count > 0 || records.end() == 0));
    }
}
