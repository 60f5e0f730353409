//! The outbox: what this device owes the service, kept until it is answered.
//!
//! Append-only segments, bounded in bytes. An append is written, not synced: the caller syncs, at most once a second
//! or when it must be certain. Only at the end of a segment does an append wait for the disk. A removal is a small
//! record of its own; a segment goes when it is the oldest and holds nothing that is wanted. When the bound is
//! reached, the oldest segment goes: the few wanted entries of one that is mostly removed are moved to the youngest,
//! otherwise its entries are dropped, counted and told.
//!
//! Never looks into the payload, never sends anything, and takes no lock: its folder lies in the one that
//! [`StateFile`](super::StateFile) has locked.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::path::Path;

use super::folder::{self, Folder};
use super::record::{CUT_OFF_BYTES, ENTRY_OVERHEAD, Record};
use super::recover::{Found, Recovered, recover};
use super::segment::{Active, MAX_SEGMENT, Segment, name_of};
use super::{Seq, StoreError};

/// How much the outbox may take on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All segments together, in bytes; at least four segments.
    pub max_bytes: u64,
    /// One segment, in bytes: 64 to 16 MiB. It bounds an entry, and is what goes at once when there is no room.
    pub segment_bytes: u64,
}

impl Limits {
    /// The largest payload that fits, in bytes.
    pub fn max_payload(&self) -> u64 {
        self.segment_bytes - CUT_OFF_BYTES - ENTRY_OVERHEAD
    }

    fn check(self) -> Result<Self, StoreError> {
        let Self {
            max_bytes,
            segment_bytes,
        } = self;
        let rule = if !(64..=MAX_SEGMENT).contains(&segment_bytes) {
            "a segment has 64 bytes to 16 MiB"
        } else if max_bytes / segment_bytes < 4 {
            "there must be room for four segments"
        } else {
            return Ok(self);
        };
        Err(StoreError::Limits {
            max_bytes,
            segment_bytes,
            rule,
        })
    }
}

/// What an append did.
#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    /// The number of the new entry.
    pub seq: Seq,
    /// Entries that were given up for want of room since the last append, oldest first.
    pub dropped: Vec<Seq>,
}

/// The outbox of one agent.
#[derive(Debug)]
pub struct Outbox {
    folder: Folder,
    limits: Limits,
    /// Oldest first. Only the last is written.
    segments: VecDeque<Segment>,
    /// The file of the last segment, from the first write of this process on.
    active: Option<Active>,
    next_index: u64,
    below: u64,
    dropped_total: u64,
    untold: Vec<Seq>,
    /// A file was removed and the folder is not synced.
    folder_dirty: bool,
}

impl Outbox {
    /// Opens the outbox in the folder `dir`, which is made when it is missing, and reads everything in it. Needs no
    /// room on the disk.
    ///
    /// # Errors
    /// When the limits make no sense or the disk refuses. Damage is no error.
    pub fn open(dir: &Path, limits: Limits) -> Result<(Self, Recovered), StoreError> {
        let limits = limits.check()?;
        let folder = Folder::open(dir)?;
        let Found {
            segments,
            below,
            next_index,
            recovered,
        } = recover(&folder)?;
        let mut outbox = Self {
            folder,
            limits,
            segments,
            active: None,
            next_index,
            below,
            dropped_total: recovered.dropped_total,
            untold: Vec::new(),
            folder_dirty: true,
        };
        outbox.sweep()?;
        Ok((outbox, recovered))
    }

    /// Keeps `payload`. It survives a power cut after the next [`Outbox::sync`].
    ///
    /// # Errors
    /// Nothing was kept, what was there is still there, and the next append works again as soon as the disk does.
    /// [`StoreError::TooLarge`] above [`Limits::max_payload`].
    pub fn append(&mut self, payload: &[u8]) -> Result<Appended, StoreError> {
        let (bytes, limit) = (payload.len() as u64, self.limits.max_payload());
        if bytes > limit {
            return Err(StoreError::TooLarge {
                what: "an entry of the outbox",
                bytes,
                limit,
            });
        }
        self.make_room(ENTRY_OVERHEAD + bytes)?;
        let (segment, active) = self.youngest();
        let seq = active.next_seq();
        let record = Record::Entry { seq, payload }.encode();
        active.write(&segment.path, segment.len, &record)?;
        active.take_seq();
        let start = segment.len;
        segment.len += record.len() as u64;
        segment.live.insert(seq, start..segment.len);
        Ok(Appended {
            seq,
            dropped: mem::take(&mut self.untold),
        })
    }

    /// Forgets the entry. One that is not there, or no more, is fine.
    ///
    /// # Errors
    /// The entry is forgotten all the same, until a restart. The record of it is owed: every later removal and sync
    /// tries to write it.
    pub fn remove(&mut self, seq: Seq) -> Result<(), StoreError> {
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.live.contains_key(&seq)) else {
            return Ok(());
        };
        segment.live.remove(&seq);
        segment.owed.insert(seq);
        // First what frees room, then what needs some.
        let swept = self.sweep();
        swept.and(self.settle())
    }

    /// Everything appended and removed survives a power cut when this returns.
    ///
    /// # Errors
    /// It does not, for certain; the next sync tries again. A removal that a full disk does not take is no error
    /// here: it leaves the outbox [`dirty`](Outbox::dirty).
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let _ = self.settle();
        self.sync_active()?;
        if self.folder_dirty {
            self.folder.sync()?;
            self.folder_dirty = false;
        }
        Ok(())
    }

    /// Whether a power cut may undo something that was done.
    pub fn dirty(&self) -> bool {
        self.folder_dirty
            || self.active.as_ref().is_some_and(Active::is_dirty)
            || self.segments.iter().any(|segment| !segment.owed.is_empty())
    }

    /// Bytes on the disk; after an append never more than [`Limits::max_bytes`].
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// How many entries are kept.
    pub fn live(&self) -> usize {
        self.segments.iter().map(|segment| segment.live.len()).sum()
    }

    /// How many entries were given up for want of room since the outbox was made.
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// The youngest segment and its file.
    fn youngest(&mut self) -> (&mut Segment, &mut Active) {
        self.segments
            .back_mut()
            .zip(self.active.as_mut())
            .expect("make_room() has opened the youngest segment")
    }

    /// Makes the youngest segment one that takes `bytes` more.
    fn prepare(&mut self, bytes: u64) -> Result<(), StoreError> {
        let has_room = self
            .segments
            .back()
            .is_some_and(|last| !last.unreadable && last.len + bytes <= self.limits.segment_bytes);
        match &self.active {
            Some(_) if has_room => Ok(()),
            None if has_room => self.go_on(),
            _ => self.begin_segment(),
        }
    }

    /// Goes on in the youngest segment of an earlier run. It gets a new index, because the numbers that were given
    /// under the old one may have been lost with the end of the file.
    fn go_on(&mut self) -> Result<(), StoreError> {
        let last = self
            .segments
            .back_mut()
            .expect("prepare() has seen the youngest segment");
        let path = self.folder.join(&name_of(self.next_index));
        std::fs::rename(&last.path, &path).map_err(StoreError::io("rename", &last.path))?;
        (last.index, last.path) = (self.next_index, path);
        self.next_index += 1;
        self.folder.sync()?;
        self.active = Some(last.open()?);
        Ok(())
    }

    /// Ends the youngest segment and begins a new one.
    fn begin_segment(&mut self) -> Result<(), StoreError> {
        self.sync_active()?;
        let index = self.next_index;
        self.next_index += 1;
        let first = Record::CutOff {
            dropped: self.dropped_total,
            below: self.below,
        }
        .encode();
        let (segment, active) = Segment::create(&self.folder, index, &first)?;
        self.segments.push_back(segment);
        self.active = Some(active);
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), StoreError> {
        match self.segments.back().zip(self.active.as_mut()) {
            Some((last, active)) => active.sync(&last.path, last.len),
            None => Ok(()),
        }
    }

    /// Writes the removals that are owed.
    ///
    /// # Errors
    /// Some are owed still: a restart would bring their entries back.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        let owed: Vec<Seq> = self
            .segments
            .iter()
            .flat_map(|segment| segment.owed.iter().copied())
            .collect();
        for seq in owed {
            let record = Record::Removed { seq }.encode();
            self.make_room(record.len() as u64)?;
            let (segment, active) = self.youngest();
            active.write(&segment.path, segment.len, &record)?;
            segment.len += record.len() as u64;
            for segment in &mut self.segments {
                segment.owed.remove(&seq);
            }
        }
        Ok(())
    }

    /// Removes the oldest segments in which nothing is wanted. In this order only: the records of what was removed
    /// from a segment stand in it or in younger ones.
    fn sweep(&mut self) -> Result<(), StoreError> {
        while self.segments.len() > 1 && self.segments.front().is_some_and(|oldest| oldest.live.is_empty()) {
            self.delete_oldest()?;
        }
        Ok(())
    }

    fn delete_oldest(&mut self) -> Result<(), StoreError> {
        // Where its entries were moved to, and that they were dropped, must outlive it.
        self.sync_active()?;
        if self.folder_dirty {
            // At most one removal of a file waits for the disk, so that they reach it in order.
            self.folder.sync()?;
            self.folder_dirty = false;
        }
        let oldest = self.segments.front().expect("the callers have seen it");
        folder::remove_if_there(&oldest.path)?;
        self.segments.pop_front();
        self.folder_dirty = true;
        Ok(())
    }

    /// Makes the youngest segment one that takes `bytes` more, and gives up the oldest ones until the others leave
    /// room for two: the youngest, and the one that comes next.
    fn make_room(&mut self, bytes: u64) -> Result<(), StoreError> {
        let bound = self.limits.max_bytes - 2 * self.limits.segment_bytes;
        loop {
            self.prepare(bytes)?;
            self.sweep()?;
            let ended = self.bytes() - self.segments.back().map_or(0, |last| last.len);
            if ended <= bound {
                return Ok(());
            }
            self.prepare(CUT_OFF_BYTES)?;
            self.give_up_oldest()?;
        }
    }

    /// Moves the wanted entries of the oldest segment to the youngest when they are few, drops them otherwise, and
    /// removes it. One record says that it is gone, so a power cut in between changes nothing.
    fn give_up_oldest(&mut self) -> Result<(), StoreError> {
        let oldest = self.segments.front().expect("make_room() has found it too many");
        let last = self.segments.back().expect("make_room() has prepared it");
        let (below, weight) = (oldest.index + 1, oldest.live_bytes() + CUT_OFF_BYTES);
        let mut bytes = Vec::new();
        let mut moved = BTreeMap::new();
        if weight <= oldest.len / 2 && last.len + weight <= self.limits.segment_bytes {
            // What cannot be read any more is dropped with the segment.
            for (seq, record) in oldest.whole_records()? {
                let start = last.len + bytes.len() as u64;
                moved.insert(seq, start..start + record.len() as u64);
                bytes.extend(record);
            }
        }
        let dropped: Vec<Seq> = oldest
            .live
            .keys()
            .filter(|seq| !moved.contains_key(seq))
            .copied()
            .collect();
        let dropped_total = self.dropped_total + dropped.len() as u64;
        bytes.extend(
            Record::CutOff {
                dropped: dropped_total,
                below,
            }
            .encode(),
        );

        let (last, active) = self.youngest();
        active.write(&last.path, last.len, &bytes)?;
        last.len += bytes.len() as u64;
        last.live.extend(moved);
        self.below = below;
        self.dropped_total = dropped_total;
        self.untold.extend(dropped);
        if let Some(oldest) = self.segments.front_mut() {
            oldest.live.clear();
        }
        self.delete_oldest()
    }

    /// How much of the youngest segment a power cut leaves, in bytes.
    #[cfg(test)]
    pub(super) fn certain_bytes(&self) -> u64 {
        let unsynced = self.active.as_ref().map_or(0, Active::unsynced_bytes);
        self.segments.back().map_or(0, |last| last.len - unsynced)
    }

    /// As after a sync that failed.
    #[cfg(test)]
    pub(super) fn pretend_sync_failed(&mut self) {
        if let Some(active) = &mut self.active {
            active.pretend_sync_failed();
        }
    }
}
