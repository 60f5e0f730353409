//! One record of an outbox segment as bytes.
//!
//! Length (u32), CRC-32 over the length and the body (u32), body; little endian. The body begins with its kind. A
//! reader skips a whole record of a kind it does not know and ignores what a kind it knows has at its end, so a later
//! version may add both. Pure: no I/O here.

use std::fmt;
use std::ops::Range;

const ENTRY: u8 = 1;
const REMOVED: u8 = 2;
const CUT_OFF: u8 = 3;

/// Bytes before the body.
const FRAME: usize = 8;
/// Bytes of an entry beside its payload.
pub(super) const ENTRY_OVERHEAD: u64 = (FRAME + 1 + 8) as u64;
/// Bytes of a [`Record::CutOff`].
pub(super) const CUT_OFF_BYTES: u64 = (FRAME + 1 + 16) as u64;

/// The number of an entry of the outbox. Grows with every append and is never given twice, also across restarts and
/// power cuts; it leaves gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// A number that was taken out with [`Seq::get`].
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number, to keep it elsewhere.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a segment consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// Something appended. The same one twice is one: it was moved to a younger segment.
    Entry { seq: Seq, payload: &'a [u8] },
    /// The entry is no more.
    Removed { seq: Seq },
    /// Segments with an index below `below` are no more, and `dropped` entries were given up for want of room since
    /// the outbox was made.
    CutOff { dropped: u64, below: u64 },
    /// Whole, but of a later version.
    Unknown,
}

impl Record<'_> {
    /// The record with its frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FRAME];
        match self {
            Self::Entry { seq, payload } => {
                bytes.push(ENTRY);
                bytes.extend_from_slice(&seq.0.to_le_bytes());
                bytes.extend_from_slice(payload);
            }
            Self::Removed { seq } => {
                bytes.push(REMOVED);
                bytes.extend_from_slice(&seq.0.to_le_bytes());
            }
            Self::CutOff { dropped, below } => {
                bytes.push(CUT_OFF);
                bytes.extend_from_slice(&dropped.to_le_bytes());
                bytes.extend_from_slice(&below.to_le_bytes());
            }
            Self::Unknown => {}
        }
        let length = u32::try_from(bytes.len() - FRAME).expect("a record is bounded by a segment, far below 4 GiB");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let sum = checksum(&bytes[..4], &bytes[FRAME..]);
        bytes[4..FRAME].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// The records in the bytes of a segment, with where they stand, up to the first that is not whole.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the records read so far end. After the last one: less than all bytes means damage.
    pub(super) fn end(&self) -> usize {
        self.at
    }

    fn whole_body(&self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (sum, after) = after.split_first_chunk::<4>()?;
        let body = after.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        // A stretch of zeros, as a power cut may leave it, is no record.
        (!body.is_empty() && u32::from_le_bytes(*sum) == checksum(length, body)).then_some(body)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (Range<usize>, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let body = self.whole_body()?;
        let start = self.at;
        self.at += FRAME + body.len();
        Some((start..self.at, parse(body).unwrap_or(Record::Unknown)))
    }
}

fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = body.split_first()?;
    let (first, after) = rest.split_first_chunk::<8>()?;
    let first = u64::from_le_bytes(*first);
    match *kind {
        ENTRY => Some(Record::Entry {
            seq: Seq(first),
            payload: after,
        }),
        REMOVED => Some(Record::Removed { seq: Seq(first) }),
        CUT_OFF => {
            let (second, _) = after.split_first_chunk::<8>()?;
            Some(Record::CutOff {
                dropped: first,
                below: u64::from_le_bytes(*second),
            })
        }
        _ => None,
    }
}

fn checksum(length: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(body);
    hasher.finalize()
}
