//! The state folder as root uses it: it belongs to the unprivileged agent, so nothing that lies in it is trusted.
//!
//! Every name is used relative to the open folder, no link is followed, and only small regular files are read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Nothing that this room leaves there is larger.
const FILE_BYTES: u64 = 64 * 1024;

/// An open state folder.
#[derive(Debug)]
pub(super) struct StateFolder(OwnedFd);

/// A file in it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) text: String,
    /// The user whom it belongs to.
    pub(super) owner: u32,
}

impl StateFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// The content of a small regular file; `None`: there is nothing of that name.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Found>> {
        let file = match self.file(name, OFlag::O_RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let owner = file.metadata()?.uid();
        let mut bytes = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(odd(name, "is too large"));
        }
        let text = String::from_utf8(bytes).map_err(|_| odd(name, "is no text"))?;
        Ok(Some(Found { text, owner }))
    }

    /// Puts a file in the place of another, so that a power cut leaves the one or the other.
    pub(super) fn replace(&self, name: &str, text: &str, mode: u32) -> io::Result<()> {
        let new = format!(".{name}.new");
        self.unlink(&new)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let written = (|| {
            let mut file = File::from(openat(&self.0, new.as_str(), flags, Mode::empty())?);
            nix::sys::stat::fchmod(file.as_fd(), Mode::from_bits_truncate(mode))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            renameat(&self.0, new.as_str(), &self.0, name)?;
            self.sync()
        })();
        if written.is_err() {
            // The first error is the one to tell.
            let _ = self.unlink(&new);
        }
        written
    }

    /// Adds a line to a file. It needs no new block on the disk, so it can be done when there is no room.
    pub(super) fn append(&self, name: &str, line: &str) -> io::Result<()> {
        let whole = self.read(name)?.is_none_or(|found| found.text.ends_with('\n'));
        let mut file = self.file(name, OFlag::O_WRONLY | OFlag::O_APPEND)?;
        // after half a line that a power cut left
        let begin = if whole { "" } else { "\n" };
        file.write_all(format!("{begin}{line}\n").as_bytes())?;
        file.sync_all()
    }

    /// Removes a file for good. That there is none is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.unlink(name)?;
        self.sync()
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR) => Ok(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.0)?)
    }

    fn file(&self, name: &str, how: OFlag) -> io::Result<File> {
        // a pipe without a writer must not hold anybody up
        let flags = how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let file = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ELOOP) => return Err(odd(name, "is a symbolic link")),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(odd(name, "is no file"));
        }
        Ok(file)
    }
}

fn odd(name: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} {what}"))
}
