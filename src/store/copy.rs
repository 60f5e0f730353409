//! One copy of the durable state as it lies on the disk: a header line, then the document.
//!
//! `iotdm-state version=1 generation=42 length=512 sha256=…`: words separated by one space. The digest covers every
//! byte of the file but itself. A later format may add words before `sha256`, and raise the version; it keeps those
//! that are here, so that an older agent still reads it. Pure: no I/O here.

use sha2::{Digest, Sha256};

const NAME: &str = "iotdm-state";
/// The format that this agent writes.
pub(super) const VERSION: u32 = 1;
/// No header is longer, whatever a later version adds. In bytes, with the line's end.
pub(super) const MAX_HEADER: usize = 1024;

/// A copy that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The format it was written in; newer than [`VERSION`] after a fall-back to this agent.
    pub(super) version: u32,
    /// Grows by one with every commit.
    pub(super) generation: u64,
    /// The document.
    pub(super) json: Vec<u8>,
}

/// The bytes of a copy.
pub(super) fn encode(generation: u64, json: &[u8]) -> Vec<u8> {
    let head = format!(
        "{NAME} version={VERSION} generation={generation} length={} sha256=",
        json.len()
    );
    let mut bytes = Vec::with_capacity(head.len() + 65 + json.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(digest(head.as_bytes(), json).as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(json);
    bytes
}

/// The copy in `bytes`, or in words what is wrong with them.
pub(super) fn decode(bytes: &[u8]) -> Result<Copy, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let end = bytes
        .iter()
        .take(MAX_HEADER)
        .position(|byte| *byte == b'\n')
        .ok_or("the header line has no end")?;
    let (line, json) = (&bytes[..end], &bytes[end + 1..]);
    let line = str::from_utf8(line).map_err(|_| "the header line is not text")?;
    let words = line.strip_prefix(NAME).ok_or("it does not begin as a state file")?;
    let member = |name: &str| {
        let found = words
            .split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("the header names no {name}"))
    };
    let number = |name: &str| {
        member(name)?
            .parse::<u64>()
            .map_err(|_| format!("{name} in the header is no number"))
    };

    let length = number("length")?;
    if length != json.len() as u64 {
        return Err(format!(
            "the header promises {length} bytes and {} are there",
            json.len()
        ));
    }
    let sha256 = member("sha256")?;
    let head = line
        .strip_suffix(sha256)
        .ok_or("the header does not end with its digest")?;
    if sha256 != digest(head.as_bytes(), json) {
        return Err("the content does not match its digest".to_owned());
    }
    let version = u32::try_from(number("version")?).map_err(|_| "version in the header is too large")?;
    Ok(Copy {
        version,
        generation: number("generation")?,
        json: json.to_vec(),
    })
}

fn digest(head: &[u8], json: &[u8]) -> String {
    let sum = Sha256::new()
        .chain_update(head)
        .chain_update(b"\n")
        .chain_update(json)
        .finalize();
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}
