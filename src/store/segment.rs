//! One file of the outbox, and the one that is being written.
//!
//! A segment's name carries its index, and the numbers of the entries appended to it begin with that index. A name is
//! on the disk before the first number is given, so no number is given twice, whatever is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::folder::{self, Folder};
use super::record::{ENTRY_OVERHEAD, Records};
use super::{Seq, StoreError};

/// How many low bits of a number count within a segment.
const COUNT_BITS: u32 = 20;
/// No segment is larger, so that its entries can be counted and its file read at once. In bytes.
pub(super) const MAX_SEGMENT: u64 = 16 * 1024 * 1024;
const _: () = assert!(MAX_SEGMENT / ENTRY_OVERHEAD < 1 << COUNT_BITS);

const PREFIX: &str = "segment-";

/// The file name of the segment with this index.
pub(super) fn name_of(index: u64) -> String {
    format!("{PREFIX}{index:012}")
}

/// The index in a file name; none when it is not a segment.
pub(super) fn index_in(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let index = digits.parse().ok()?;
    (index < 1 << (63 - COUNT_BITS) && name == name_of(index)).then_some(index)
}

/// What is known of one file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) index: u64,
    pub(super) path: PathBuf,
    /// Bytes in the file.
    pub(super) len: u64,
    /// Entries in this file that are wanted, and where their records stand.
    pub(super) live: BTreeMap<Seq, Range<u64>>,
    /// Entries in this file that were removed while no record of it could be written.
    pub(super) owed: BTreeSet<Seq>,
    /// The medium does not give the file back: nothing is written to it.
    pub(super) unreadable: bool,
}

impl Segment {
    pub(super) fn new(folder: &Folder, index: u64, len: u64) -> Self {
        let path = folder.join(&name_of(index));
        Self {
            index,
            path,
            len,
            live: BTreeMap::new(),
            owed: BTreeSet::new(),
            unreadable: false,
        }
    }

    /// Bytes of the records that are wanted.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.values().map(|span| span.end - span.start).sum()
    }

    /// The records of the entries that are wanted, without those that the medium does not give back as they were written.
    pub(super) fn whole_records(&self) -> Result<Vec<(Seq, Vec<u8>)>, StoreError> {
        let file = folder::given_back(File::open(&self.path)).map_err(StoreError::io("open", &self.path))?;
        let Some(file) = file else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for (seq, span) in &self.live {
            let length = usize::try_from(span.end - span.start).expect("a span lies in a segment, at most 16 MiB");
            let mut record = vec![0; length];
            let read = folder::given_back(file.read_exact_at(&mut record, span.start));
            let read = read.map_err(StoreError::io("read", &self.path))?;
            if read.is_some() && Records::of(&record).next().is_some() {
                records.push((*seq, record));
            }
        }
        Ok(records)
    }

    /// Opens the file of this segment for writing on.
    pub(super) fn open(&self) -> Result<Active, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(StoreError::io("open", &self.path))?;
        Ok(Active::new(file, self.index))
    }

    /// Makes a file for a new segment whose content is `first`; content and name are on the disk when this returns.
    pub(super) fn create(folder: &Folder, index: u64, first: &[u8]) -> Result<(Self, Active), StoreError> {
        let segment = Self::new(folder, index, first.len() as u64);
        let file = folder::create(&segment.path)?;
        let made = file
            .write_all_at(first, 0)
            .map_err(StoreError::io("write", &segment.path))
            .and_then(|()| file.sync_all().map_err(StoreError::io("sync", &segment.path)))
            .and_then(|()| folder.sync());
        if let Err(error) = made {
            // An empty segment would do no harm, but take the room of its name.
            let _ = fs::remove_file(&segment.path);
            return Err(error);
        }
        Ok((segment, Active::new(file, index)))
    }
}

/// The file that is being appended to: the youngest segment's.
#[derive(Debug)]
pub(super) struct Active {
    file: File,
    next: u64,
    /// What was written and has not reached the disk for certain. Kept because the kernel forgets it when a sync fails.
    unsynced: Vec<u8>,
    /// The last sync failed: write `unsynced` again before the next.
    suspect: bool,
    /// A write failed half-way and could not be taken back yet.
    torn: bool,
}

impl Active {
    fn new(file: File, index: u64) -> Self {
        Self {
            file,
            next: index << COUNT_BITS,
            unsynced: Vec::new(),
            suspect: false,
            torn: false,
        }
    }

    /// The number for the entry that is appended next.
    pub(super) fn next_seq(&self) -> Seq {
        Seq::new(self.next)
    }

    /// The number is taken.
    pub(super) fn take_seq(&mut self) {
        self.next += 1;
    }

    /// Whether something may be lost by a power cut.
    pub(super) fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Writes `bytes` at `len`, the end of the file. When this fails, the file ends where it ended.
    pub(super) fn write(&mut self, path: &Path, len: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if self.torn {
            self.file
                .set_len(len)
                .map_err(StoreError::io("take back a half-written record in", path))?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all_at(bytes, len) {
            self.torn = self.file.set_len(len).is_err();
            return Err(StoreError::io("write", path)(error));
        }
        self.unsynced.extend_from_slice(bytes);
        Ok(())
    }

    /// Everything written has reached the disk when this returns. `len` is the end of the file.
    pub(super) fn sync(&mut self, path: &Path, len: u64) -> Result<(), StoreError> {
        if !self.is_dirty() {
            return Ok(());
        }
        if self.suspect {
            let start = len - self.unsynced.len() as u64;
            self.file
                .write_all_at(&self.unsynced, start)
                .map_err(StoreError::io("write again", path))?;
        }
        let synced = self.file.sync_data().map_err(StoreError::io("sync", path));
        self.suspect = synced.is_err();
        if synced.is_ok() {
            self.unsynced.clear();
        }
        synced
    }

    #[cfg(test)]
    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.unsynced.len() as u64
    }

    #[cfg(test)]
    pub(super) fn pretend_sync_failed(&mut self) {
        self.suspect = true;
    }
}
