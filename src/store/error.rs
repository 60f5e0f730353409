//! What can go wrong on the disk, sorted by what somebody can do about it.
//!
//! Never decides: the caller answers a request with [`StoreError::reason`] or logs a [`Notice`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The store could not do what was asked. What was stored before is still stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call refused. The message carries the refusal, so there is no source below it.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried, as a verb: "write", "sync", "rename".
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Another process holds the lock on the folder.
    #[error(
        "the state folder {} is in use by {}: stop that one first (systemctl stop iotdm-agent), \
         or give this one a [state] directory of its own",
        path.display(), holder_in_words(.holder)
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, if it has written its id.
        holder: Option<u32>,
    },
    /// More bytes than the place may hold.
    #[error("{what} of {bytes} bytes does not fit: at most {limit} bytes are kept")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The most it may have, in bytes.
        limit: u64,
    },
    /// The limits given to the outbox contradict each other.
    #[error("outbox limits of {max_bytes} bytes in segments of {segment_bytes} bytes make no sense: {rule}")]
    Limits {
        /// The bound on all segments together, in bytes.
        max_bytes: u64,
        /// The bound on one segment, in bytes.
        segment_bytes: u64,
        /// The rule they break.
        rule: &'static str,
    },
}

/// A [`StoreError`] by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No room, or no quota: it works again when there is room.
    DiskFull,
    /// The file system is mounted read-only, often by the kernel after an error of the disk.
    ReadOnly,
    /// This user may not.
    Permission,
    /// Another process uses the folder.
    InUse,
    /// Anything else.
    Other,
}

impl StoreError {
    /// For `map_err`: `action` is the verb, `path` what it was tried on.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            action,
            path: path.to_owned(),
            error,
        }
    }

    /// What can be done about it.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Io { error, .. } => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::DiskFull,
                io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
                io::ErrorKind::PermissionDenied => StoreErrorKind::Permission,
                _ => StoreErrorKind::Other,
            },
            Self::InUse { .. } => StoreErrorKind::InUse,
            Self::TooLarge { .. } | Self::Limits { .. } => StoreErrorKind::Other,
        }
    }

    /// One line for whoever reads the answer to a request: what happened, on which file.
    pub fn reason(&self) -> String {
        match self.kind() {
            StoreErrorKind::DiskFull => format!("state disk full: {self}"),
            StoreErrorKind::ReadOnly => format!("state disk is read-only: {self}"),
            StoreErrorKind::Permission => format!("no permission on the state folder: {self}"),
            StoreErrorKind::InUse => self.to_string(),
            StoreErrorKind::Other => format!("state cannot be kept: {self}"),
        }
    }
}

fn holder_in_words(holder: &Option<u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// Something found while opening that a person should know. The store has dealt with it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The file or folder it is about.
    pub path: PathBuf,
    /// What was found and what was done.
    pub reason: String,
}

impl Notice {
    pub(super) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}
