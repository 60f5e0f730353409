//! What the disk refuses, and how much room it has: said so that somebody can act on it.

use std::io;
use std::path::{Path, PathBuf};

use super::super::mounts;

/// The disk does not take the firmware.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskTrouble {
    /// It would not fit, or not beside what must stay free.
    #[error(
        "no room for the firmware: {} are needed, {} are free and {} of them must stay free; make room on the device",
        bytes(*needed), bytes(*free), bytes(*reserve)
    )]
    NoRoom { free: u64, needed: u64, reserve: u64 },
    /// Larger than the configuration allows.
    #[error("the firmware has at least {}, and firmware.max_size on the device allows {}", bytes(*size), bytes(*max))]
    TooLarge { size: u64, max: u64 },
    /// The disk is full, or a quota is used up.
    #[error("the disk is full: cannot {what} {path}: {error}; make room on the device")]
    Full {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// Anything else that a disk can answer.
    #[error("cannot {what} {path}: {error}; check the disk of the device")]
    Other {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// Somebody else writes the same file.
    #[error("another download still writes {path}; try again when it has ended")]
    Busy { path: PathBuf },
    /// The runtime takes no more work.
    #[error("the agent is stopping")]
    Stopping,
}

impl DiskTrouble {
    pub(super) fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| {
            let path = path.clone();
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Self::Full { what, path, error }
                }
                _ => Self::Other { what, path, error },
            }
        }
    }
}

/// The room on the file system of `path`, in bytes.
pub(super) fn free_space(path: &Path) -> Result<u64, DiskTrouble> {
    mounts::free_space(path).map_err(DiskTrouble::io("look at the room of", path))
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match count {
        0..1024 => format!("{count} bytes"),
        1024..MIB => format!("{} KiB", count / 1024),
        _ => format!("{}.{} MiB", count / MIB, count % MIB * 10 / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_a_quota_and_a_file_that_grows_too_large_are_one_thing_and_all_else_another() {
        for (errno, full) in [(28, true), (122, true), (27, true), (5, false), (30, false)] {
            let trouble = DiskTrouble::io("write", Path::new("/x"))(io::Error::from_raw_os_error(errno));
            assert_eq!(matches!(trouble, DiskTrouble::Full { .. }), full, "{trouble}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(2048), "2 KiB");
        assert_eq!(bytes(1024 * 1024 * 5 / 2), "2.5 MiB");
    }
}
