//! Opening an outbox: from the files in a folder to what is still owed.
//!
//! Every segment is read up to its first record that is not whole, and cut there: a power cut leaves at most such an
//! end in the youngest one. Damage in one segment touches no other. What was removed after the last sync may come
//! back, so whoever sends must be ready to send twice; what was appended never comes back as anything else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::path::Path;

use super::folder::{self, Content, Folder};
use super::record::{Record, Records};
use super::segment::{self, MAX_SEGMENT, Segment};
use super::{Notice, Seq, StoreError};

/// What an outbox held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// Everything appended and not removed, oldest first.
    pub records: Vec<(Seq, Vec<u8>)>,
    /// What was cut off as damaged.
    pub cut: Vec<Notice>,
    /// How many entries were given up for want of room since the outbox was made.
    pub dropped_total: u64,
}

/// What is found in the files, ready to be worked with.
pub(super) struct Found {
    pub(super) segments: VecDeque<Segment>,
    /// Segments below this index are no more.
    pub(super) below: u64,
    /// No segment has had this index or a higher one.
    pub(super) next_index: u64,
    pub(super) recovered: Recovered,
}

/// Reads the folder, cuts damage off and removes what is no longer part of the outbox.
pub(super) fn recover(folder: &Folder) -> Result<Found, StoreError> {
    let mut indexes: Vec<u64> = folder
        .names()?
        .iter()
        .filter_map(|name| segment::index_in(name))
        .collect();
    indexes.sort_unstable();
    let next_index = indexes.last().map_or(1, |last| last + 1);

    let mut segments = VecDeque::new();
    let mut payloads = BTreeMap::new();
    let mut removed = BTreeSet::new();
    let (mut dropped_total, mut below) = (0, 0);
    let mut cut = Vec::new();
    for index in indexes {
        let path = folder.join(&segment::name_of(index));
        let mut segment = Segment::new(folder, index, 0);
        let bytes = match folder::read(&path, MAX_SEGMENT)? {
            Content::Bytes(bytes) => bytes,
            Content::Missing => continue,
            Content::Unreadable(error) => {
                cut.push(Notice::new(
                    &path,
                    format!("it cannot be read ({error}): what it held is lost"),
                ));
                segment.unreadable = true;
                segments.push_back(segment);
                continue;
            }
        };
        let mut records = Records::of(&bytes);
        for (span, record) in records.by_ref() {
            match record {
                Record::Entry { seq, payload } => {
                    segment.live.insert(seq, span.start as u64..span.end as u64);
                    payloads.insert(seq, payload.to_vec());
                }
                Record::Removed { seq } => {
                    removed.insert(seq);
                }
                Record::CutOff { dropped, below: index } => {
                    dropped_total = dropped_total.max(dropped);
                    below = below.max(index);
                }
                Record::Unknown => {}
            }
        }
        segment.len = records.end() as u64;
        if records.end() < bytes.len() {
            truncate(&path, segment.len)?;
            let lost = bytes.len() - records.end();
            cut.push(Notice::new(
                &path,
                format!("cut after {} good bytes: the {lost} behind are damaged", segment.len),
            ));
        }
        segments.push_back(segment);
    }

    // A killed process may have left there what has not reached the disk. The older ones were synced when they ended.
    if let Some(youngest) = segments.back().filter(|youngest| !youngest.unreadable) {
        File::open(&youngest.path)
            .and_then(|file| file.sync_all())
            .map_err(StoreError::io("sync", &youngest.path))?;
    }
    // What was cut off may still lie there when the power went before the folder was synced.
    while segments.len() > 1 && segments.front().is_some_and(|oldest| oldest.index < below) {
        let oldest = segments.pop_front().expect("there is more than one");
        folder::remove_if_there(&oldest.path)?;
    }
    // An entry that was moved counts where it was moved to, and one only in a segment cut off counts nowhere.
    let mut seen = BTreeSet::new();
    for segment in segments.iter_mut().rev() {
        segment
            .live
            .retain(|seq, _| !removed.contains(seq) && seen.insert(*seq));
    }
    let records = payloads.into_iter().filter(|(seq, _)| seen.contains(seq)).collect();
    Ok(Found {
        segments,
        below,
        next_index,
        recovered: Recovered {
            records,
            cut,
            dropped_total,
        },
    })
}

fn truncate(path: &Path, len: u64) -> Result<(), StoreError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(len).and_then(|()| file.sync_all()))
        .map_err(StoreError::io("cut the damaged end off", path))
}
