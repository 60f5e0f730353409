//! What the file itself tells when RAUC refused it without saying why.
//!
//! Never a second opinion on a signature, and asked only after RAUC has said no: RAUC is the judge. The file must be closed
//! again by then and before, because RAUC wants to be the only one who has it open.
//! Facts: a bundle is a squashfs (encrypted in a crypt bundle), then a CMS signature, then its size in 8 bytes, big-endian,
//! 64 KiB at most (RAUC's `bundle.c`, 1.8 to 1.15).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SIZE_FIELD: u64 = 8;
const SIGNATURE_LIMIT: u64 = 64 * 1024;

/// The object identifier 1.2.840.113549.1.7, in DER, without its last number: 2 is signed data, 3 is enveloped data.
const PKCS7: [u8; 10] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
const SIGNED: u8 = 2;
const ENVELOPED: u8 = 3;

/// Why this file cannot be a bundle; `None` when it has the shape of one.
///
/// # Errors
/// When it cannot be read.
pub(super) fn why_not(path: &Path) -> io::Result<Option<&'static str>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let Some(end) = length.checked_sub(SIZE_FIELD) else {
        return Ok(Some("it is far too short"));
    };
    let mut size = [0; SIZE_FIELD as usize];
    file.read_exact_at(&mut size, end)?;
    let size = u64::from_be_bytes(size);
    if size == 0 || size > SIGNATURE_LIMIT || size > end {
        return Ok(Some(
            "it does not end with a signature; unsigned, cut short, or something else",
        ));
    }
    let payload = end - size;
    let mut head = [0; 16];
    let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(head.len());
    file.read_exact_at(&mut head[..wanted], payload)?;
    let Some(kind) = kind(&head[..wanted]) else {
        return Ok(Some("what should be its signature is none"));
    };
    let mut magic = [0; 4];
    if payload < 4 || kind == ENVELOPED {
        return Ok((payload < 4).then_some("there is nothing before its signature"));
    }
    file.read_exact_at(&mut magic, 0)?;
    Ok((kind == SIGNED && &magic != b"hsqs").then_some("it does not begin with a squashfs"))
}

/// The kind of CMS structure that begins here: a SEQUENCE, its length in one of several forms, the identifier.
fn kind(der: &[u8]) -> Option<u8> {
    let [0x30, length, ..] = der else { return None };
    let skip = match length {
        0x81..=0x84 => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    let rest = der.get(skip..)?.strip_prefix(&PKCS7)?;
    rest.first().copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file(payload: &[u8], signature: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let size = (signature.len() as u64).to_be_bytes();
        std::fs::write(file.path(), [payload, signature, &size].concat()).unwrap();
        file
    }

    fn cms(last: u8) -> Vec<u8> {
        let mut der = vec![0x30, 0x82, 0x02, 0x00];
        der.extend(PKCS7);
        der.push(last);
        der.resize(600, 0);
        der
    }

    #[test]
    fn what_has_the_shape_of_a_bundle_is_taken_for_one() {
        assert_eq!(why_not(file(b"hsqs and more", &cms(SIGNED)).path()).unwrap(), None);
        assert_eq!(why_not(file(b"encrypted", &cms(ENVELOPED)).path()).unwrap(), None);
    }

    #[test]
    fn what_has_not_is_told_what_is_wrong() {
        let says = |payload: &[u8], signature: &[u8]| why_not(file(payload, signature).path()).unwrap().unwrap();
        assert!(says(b"hsqs and more", b"").contains("signature"));
        assert!(says(b"hsqs", b"not a signature").contains("signature"));
        assert!(says(b"hsqs", b"0").contains("signature"));
        assert!(says(b"hsqs", &cms(5)[..3]).contains("signature"));
        assert!(says(b"<html>", &cms(SIGNED)).contains("squashfs"));
        assert!(says(b"", &cms(SIGNED)).contains("nothing"));
        let short = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(short.path(), "404").unwrap();
        assert!(why_not(short.path()).unwrap().unwrap().contains("short"));
        let cut = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(cut.path(), [b"hsqs".as_slice(), &[0x5a; 4000]].concat()).unwrap();
        assert!(why_not(cut.path()).unwrap().unwrap().contains("cut short"));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_and_no_verdict() {
        assert!(why_not(Path::new("/nonexistent/bundle")).is_err());
    }
}
