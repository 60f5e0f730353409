//! A folder on the disk: made, locked, synced, and one file in it replaced as a whole.
//!
//! Never leaves a half-written file under a name that somebody reads. The steps of [`Folder::replace`] are those that
//! fsync(2) and rename(2) ask for: the file reaches the disk before its name does, and the name is only safe once the
//! folder itself is synced.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Files of the store are for their owner only: requests and answers may carry secrets.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const LOCK: &str = "lock";
const TEMPORARY: &str = ".tmp";

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Opens the folder at `path`, which is made (0700) when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(path)
                .map_err(StoreError::io("make the folder", path))?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)
                    .and_then(|parent| parent.sync_all())
                    .map_err(StoreError::io("sync the folder", parent))?;
            }
        }
        let handle = File::open(path).map_err(StoreError::io("open the folder", path))?;
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes names that were created, renamed or removed here survive a power cut.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.handle
            .sync_all()
            .map_err(StoreError::io("sync the folder", &self.path))
    }

    /// The names of the files in the folder, those that are UTF-8. The store gives its files no others.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = || StoreError::io("list the folder", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            names.extend(entry.map_err(failed())?.file_name().into_string());
        }
        Ok(names)
    }

    /// Puts `bytes` in the place of the file `name`.
    ///
    /// When this fails, `name` holds what it held before, or is gone when only the last step failed; it never holds
    /// the new bytes. It needs room for the new bytes beside the old ones.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.join(name);
        let temporary = self.join(&format!("{name}{TEMPORARY}"));
        let written = write_new(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path).map_err(StoreError::io("rename into place", &temporary)));
        if let Err(error) = written {
            // What is left of it takes room that a full disk needs. If even this fails, the next try removes it.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        if let Err(error) = self.sync() {
            // Told as a failure, so it must not be what the next start finds.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(())
    }

    /// Removes what an interrupted [`Folder::replace`] of `name` left behind.
    pub(super) fn remove_leftover(&self, name: &str) -> Result<(), StoreError> {
        remove_if_there(&self.join(&format!("{name}{TEMPORARY}")))
    }
}

/// Removes the file; that it is not there is fine.
pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    remove_if_there(path)?;
    let mut file = create(path)?;
    file.write_all(bytes).map_err(StoreError::io("write", path))?;
    file.sync_all().map_err(StoreError::io("sync", path))
}

/// A new empty file, for reading and writing, for its owner only.
pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(StoreError::io("create", path))
}

/// What reading a file gave.
pub(super) enum Content {
    /// There is no such file.
    Missing,
    /// At most the bytes asked for, and one more when there are more.
    Bytes(Vec<u8>),
    /// The medium does not give the file back, so it counts as damaged.
    Unreadable(io::Error),
}

/// Reads a file that has at most `limit` bytes. An error that says nothing about the file (permission, no memory) is
/// an error of this call: taking it for damage would throw away good state.
pub(super) fn read(path: &Path, limit: u64) -> Result<Content, StoreError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Content::Bytes(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Missing),
        Err(error) if is_of_the_medium(&error) => Ok(Content::Unreadable(error)),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// What was read of a file that was whole before; `None` when it is gone or cut off, or the medium does not give it back. An
/// error that says nothing about the file stays one, as in [`read`].
pub(super) fn given_back<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(None),
        Err(error) if is_of_the_medium(&error) => Ok(None),
        read => read.map(Some),
    }
}

fn is_of_the_medium(error: &io::Error) -> bool {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => matches!(errno, Errno::EIO | Errno::EUCLEAN | Errno::EBADMSG | Errno::EISDIR),
        None => false,
    }
}

/// The exclusive lock on a folder, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

/// Looks whether a process uses the folder at `path`, and leaves it as it is.
///
/// For as long as that takes, an agent that starts is told that the folder is in use.
///
/// # Errors
/// [`StoreError::InUse`] when one does; when that cannot be found out, why.
pub fn unused(path: &Path) -> Result<(), StoreError> {
    let lock = path.join(LOCK);
    let mut file = match File::open(&lock) {
        // No agent ever ran here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(StoreError::io("open the lock", &lock))?,
    };
    // Shared, so that two who look do not see each other.
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map_err(StoreError::io("unlock", &lock)),
        Err(TryLockError::WouldBlock) => Err(in_use(path, &mut file)),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &lock)(error)),
    }
}

fn in_use(folder: &Path, lock: &mut File) -> StoreError {
    let mut holder = String::new();
    // Without the name it is in use all the same.
    let _ = lock.take(32).read_to_string(&mut holder);
    StoreError::InUse {
        path: folder.to_owned(),
        holder: holder.trim().parse().ok(),
    }
}

impl FolderLock {
    /// Takes the lock at once or says who has it.
    pub(super) fn take(folder: &Folder) -> Result<Self, StoreError> {
        let path = folder.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(StoreError::io("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder.path(), &mut file)),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
        // Only there to be named in the message above. The lock holds without it, also on a full disk.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that is between fork and exec still has the file open.
        let _ = self.file.unlock();
    }
}
