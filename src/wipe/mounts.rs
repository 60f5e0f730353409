//! What is mounted where, as far as a wipe has to know more than each path says itself: folders that are mounted a second
//! time elsewhere, and where an overlay keeps what is written to it.
//!
//! Facts: `proc_pid_mountinfo(5)`; the kernel's "Overlay Filesystem" (`upperdir=`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// What of the file system is mounted: `/`, or one of its folders or files.
    pub(super) root: PathBuf,
    /// Where.
    pub(super) point: PathBuf,
    /// Where an overlay keeps what is written to it.
    pub(super) upper: Option<PathBuf>,
}

pub(super) fn read() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    // optional fields end with a dash
    fields.find(|field| *field == b"-")?;
    let kind = fields.next()?;
    let options = fields.nth(1).unwrap_or_default();
    let mut options = options.split(|byte| *byte == b',');
    let upper = options.find_map(|option| option.strip_prefix(b"upperdir="));
    Some(Mount {
        root: path(root),
        point: path(point),
        upper: upper.filter(|_| kind == b"overlay").map(path),
    })
}

/// Spaces and the like stand there as three octal digits behind a backslash.
pub(super) fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut left = field;
    while let [first, rest @ ..] = left {
        let octal = rest.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = &rest[3..];
            }
            None => {
                bytes.push(*first);
                left = rest;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mount that a path lies on: the last one of the longest that it begins with.
pub(super) fn of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let over = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    over.max_by_key(|mount| mount.point.components().count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_read_as_the_kernel_writes_it() {
        let bind = b"54 21 8:17 /my\\040files /srv rw,noatime shared:3 master:1 - ext4 /dev/sdb1 rw";
        let expected = Mount {
            root: "/my files".into(),
            point: "/srv".into(),
            upper: None,
        };
        assert_eq!(parse(bind), Some(expected));
        let overlay = b"60 21 0:40 / /etc rw - overlay overlay rw,lowerdir=/etc,upperdir=/data/up,workdir=/data/w";
        assert_eq!(parse(overlay).unwrap().upper, Some("/data/up".into()));
        for odd in [&b""[..], b"54 21 8:17 / /srv rw", b"one two"] {
            assert_eq!(parse(odd), None);
        }
    }

    #[test]
    fn a_path_lies_on_the_nearest_mount() {
        let mount = |point: &str| Mount {
            root: "/".into(),
            point: point.into(),
            upper: None,
        };
        let mounts = [mount("/"), mount("/data"), mount("/data/app")];
        for (path, point) in [
            ("/etc", "/"),
            ("/data/x", "/data"),
            ("/data/app", "/data/app"),
            ("/data/apps", "/data"),
        ] {
            assert_eq!(of(&mounts, Path::new(path)).unwrap().point, Path::new(point));
        }
        assert!(!read().unwrap().is_empty());
    }
}
