//! One `iotdm serve` for one state folder: two would answer every device twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held as long as this lives; the kernel lets go when the process dies, however it dies.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the state folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "another iotdm serve{holder} already uses {}; there can be only one: stop it, or give this one its own state folder",
        directory.display()
    )]
    Held {
        /// The folder.
        directory: PathBuf,
        /// ` (process 1234)`, or nothing.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error("the state folder {} cannot be used: {error}", directory.display())]
    Folder {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Lock {
    /// Takes the lock of a state folder.
    ///
    /// # Errors
    /// Another process holds it, or the folder cannot be written.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let unusable = |error| LockError::Folder {
            directory: directory.to_owned(),
            error,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))
            .map_err(unusable)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Only for the message of whoever comes second.
                let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
                Ok(Lock { _file: lock })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let known = file.read_to_string(&mut pid).is_ok() && pid.parse::<u32>().is_ok();
                Err(LockError::Held {
                    directory: directory.to_owned(),
                    holder: if known {
                        format!(" (process {pid})")
                    } else {
                        String::new()
                    },
                })
            }
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_one_is_refused_and_told_who_holds_it_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(Lock::take(folder.path()).is_ok());
    }
}
