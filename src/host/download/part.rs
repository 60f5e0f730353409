//! A download on the disk: `FILE.part` while it grows, `FILE.part.json` (the note) beside it, `FILE` when it is right.
//!
//! Everything here blocks, and is run where that is allowed. What is gone on with was hashed again from the disk, and
//! is not more than what was surely on it: behind that point a power cut may have left anything. A part is locked while
//! somebody has it, so that a download that was just cancelled and the next one do not write at the same time.
//! Facts: fsync(2), rename(2), flock(2), statvfs(3).

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk::{DiskTrouble, bytes, free_space};
use super::note::Note;
use super::verifier::{Digests, Hashes};
use super::{Download, Fetched};

/// For the owner, and for a group that RAUC or an operator may be in.
pub(super) const MODE: u32 = 0o640;

/// So much may be lost to a power cut, whichever is reached first.
const SYNC_BYTES: u64 = 32 * 1024 * 1024;
const SYNC_TIME: Duration = Duration::from_secs(30);

/// What is read of a file at once, in bytes; and how much of it is hashed before somebody may change their mind.
const READ: usize = 256 * 1024;
const SLICE: u64 = 16 * 1024 * 1024;

/// Where the files of one download are.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) file: PathBuf,
    part: PathBuf,
    note: PathBuf,
    note_temporary: PathBuf,
}

impl Paths {
    pub(super) fn of(file: &Path) -> Self {
        let with = |ending: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self {
            file: file.to_owned(),
            part: with(".part"),
            note: with(".part.json"),
            note_temporary: with(".part.json.tmp"),
        }
    }

    /// The note of an earlier run, when there is one that can be read.
    pub(super) fn note(&self) -> Option<Note> {
        Note::read(&self.note)
    }

    /// Whether a part is there; a whole file then is of an earlier download.
    pub(super) fn has_part(&self) -> bool {
        self.part.exists()
    }

    /// Removes the finished file. Part and note are for who has the lock.
    pub(super) fn remove_finished(&self) -> io::Result<()> {
        remove(&self.file)
    }

    fn remove_notes(&self) -> io::Result<()> {
        remove(&self.note_temporary).and(remove(&self.note))
    }
}

/// Removes a file; that it is not there is fine.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the names in the folder of `path` survive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Hashing what is on the disk already, slice by slice.
#[derive(Debug)]
pub(super) struct Rehash {
    file: File,
    left: u64,
    pub(super) hashed: u64,
    pub(super) hashes: Hashes,
    buffer: Vec<u8>,
}

impl Rehash {
    /// The first `length` bytes of `file`, or fewer when it is shorter.
    fn new(file: File, length: u64, hashes: Hashes) -> Self {
        Self {
            file,
            left: length,
            hashed: 0,
            hashes,
            buffer: vec![0; READ],
        }
    }

    /// The finished file, all of it; `None` when there is none.
    pub(super) fn finished(paths: &Paths, hashes: Hashes) -> io::Result<Option<Self>> {
        match File::open(&paths.file) {
            Ok(file) => Ok(Some(Self::new(file, u64::MAX, hashes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hashes the next slice; false when it was the last.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        let mut slice = SLICE.min(self.left);
        while slice > 0 {
            let most = usize::try_from(slice).map_or(READ, |slice| slice.min(READ));
            let count = match self.file.read(&mut self.buffer[..most]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if count == 0 {
                self.left = 0;
                break;
            }
            self.hashes.update(&self.buffer[..count]);
            self.hashed += count as u64;
            self.left -= count as u64;
            slice -= count as u64;
        }
        Ok(self.left > 0)
    }
}

/// A file that grows, locked.
#[derive(Debug)]
pub(super) struct Part {
    paths: Paths,
    file: File,
    hashes: Hashes,
    fresh: Hashes,
    /// Bytes in the file, all of them hashed.
    length: u64,
    synced_at: Instant,
    max_size: u64,
    reserve: u64,
    pub(super) note: Note,
}

impl Part {
    /// Opens the part, or begins one, and takes its lock; `None` when somebody else has it.
    pub(super) fn take(download: &Download) -> Result<Option<(Self, Rehash)>, DiskTrouble> {
        let paths = Paths::of(&download.file);
        let failed = |what: &'static str| DiskTrouble::io(what, &paths.part);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&paths.part)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        if !is_at(&file, &paths.part).map_err(failed("look at"))? {
            // Who had it before has just finished or removed it.
            return Ok(None);
        }
        file.set_permissions(Permissions::from_mode(MODE))
            .map_err(failed("set the mode of"))?;
        let there = file.metadata().map_err(failed("look at"))?.len();
        let asked = Note::of(download);
        let note = match paths.note() {
            Some(note) if note.is_of(&asked) => note,
            _ => asked,
        };
        let usable = if note.usable() <= there { note.usable() } else { 0 };
        let hashes = Hashes::new(download.verifier);
        let reading = file.try_clone().map_err(failed("open"))?;
        let mut part = Self {
            paths: paths.clone(),
            file,
            fresh: hashes.clone(),
            hashes: hashes.clone(),
            length: 0,
            synced_at: Instant::now(),
            max_size: download.limits.max_size,
            reserve: download.limits.reserve,
            note,
        };
        if usable == 0 {
            part.start_over()?;
        }
        part.file.seek(SeekFrom::Start(0)).map_err(failed("read"))?;
        Ok(Some((part, Rehash::new(reading, usable, hashes))))
    }

    /// Goes on behind what was hashed again.
    pub(super) fn go_on(&mut self, rehash: Rehash) -> Result<(), DiskTrouble> {
        if rehash.hashed != self.note.synced {
            // Shorter than a moment ago: somebody else has his hands in it.
            return self.start_over();
        }
        (self.length, self.hashes) = (rehash.hashed, rehash.hashes);
        self.cut()
    }

    /// Forgets what was fetched; what was spent stays.
    pub(super) fn start_over(&mut self) -> Result<(), DiskTrouble> {
        (self.length, self.hashes) = (0, self.fresh.clone());
        self.note.forget_file();
        self.cut()
    }

    fn cut(&mut self) -> Result<(), DiskTrouble> {
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)).map(drop))
            .map_err(DiskTrouble::io("cut", &self.paths.part))
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether `more` bytes may come at all, and have room beside the reserve.
    pub(super) fn make_room(&self, more: u64) -> Result<(), DiskTrouble> {
        let size = self.length.saturating_add(more);
        if size > self.max_size {
            return Err(DiskTrouble::TooLarge {
                size,
                max: self.max_size,
            });
        }
        let free = free_space(&self.paths.part)?;
        if free.saturating_sub(self.reserve) < more {
            return Err(DiskTrouble::NoRoom {
                free,
                needed: more,
                reserve: self.reserve,
            });
        }
        Ok(())
    }

    /// Whether `missing` more bytes of a file of this size stay within twice its size.
    pub(super) fn afford(&self, missing: u64, size: u64) -> Result<(), String> {
        if self.note.spent.can_afford(missing, size) {
            return Ok(());
        }
        Err(format!(
            "{} of a file of {} were received, it is still not whole, and more is not spent on it",
            bytes(self.note.spent.bytes),
            bytes(size)
        ))
    }

    /// Appends what has arrived.
    pub(super) fn append<B: AsRef<[u8]>>(&mut self, pieces: &[B]) -> Result<(), DiskTrouble> {
        let more = pieces.iter().map(|piece| piece.as_ref().len() as u64).sum();
        self.make_room(more)?;
        for piece in pieces {
            let piece = piece.as_ref();
            self.file
                .write_all(piece)
                .map_err(DiskTrouble::io("write", &self.paths.part))?;
            self.hashes.update(piece);
            self.length += piece.len() as u64;
            self.note.spent.bytes += piece.len() as u64;
        }
        if self.length - self.note.synced >= SYNC_BYTES || self.synced_at.elapsed() >= SYNC_TIME {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes what is there survive a power cut, and notes that.
    pub(super) fn sync(&mut self) -> Result<(), DiskTrouble> {
        if self.length > self.note.synced {
            self.file
                .sync_data()
                .map_err(DiskTrouble::io("sync", &self.paths.part))?;
        }
        self.note.synced = self.length;
        self.synced_at = Instant::now();
        self.save()
    }

    fn save(&self) -> Result<(), DiskTrouble> {
        self.note
            .save(&self.paths.note, &self.paths.note_temporary)
            .map_err(DiskTrouble::io("write", &self.paths.note))
    }

    pub(super) fn digests(&self) -> Digests {
        self.hashes.digests()
    }

    /// Gives the file its name. It and its name are on the disk when this returns.
    pub(super) fn finish(&mut self) -> Result<Fetched, DiskTrouble> {
        let digests = self.digests();
        self.file
            .sync_all()
            .map_err(DiskTrouble::io("sync", &self.paths.part))?;
        (self.note.synced, self.note.total) = (self.length, Some(self.length));
        self.note.set_whole(&digests);
        self.note.clear_account();
        self.save()?;
        fs::rename(&self.paths.part, &self.paths.file)
            .and_then(|()| sync_folder(&self.paths.file))
            .map_err(DiskTrouble::io("rename into place", &self.paths.part))?;
        Ok(Fetched {
            size: self.length,
            sha256: digests.sha256,
        })
    }

    /// Leaves what was fetched for a later download of the same, with a clean account. Nothing worth it is removed.
    pub(super) fn keep(mut self) -> Result<(), DiskTrouble> {
        if self.length == 0 || self.note.etag.is_none() {
            return self.remove();
        }
        self.note.clear_account();
        self.sync()
    }

    /// Removes the part and its note.
    pub(super) fn remove(self) -> Result<(), DiskTrouble> {
        self.paths
            .remove_notes()
            .and(remove(&self.paths.part))
            .map_err(DiskTrouble::io("remove", &self.paths.part))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Closing is not enough: a child that is between fork and exec still has the file open.
        let _ = self.file.unlock();
    }
}

/// Whether the open file is still the one of that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes everything of the download to `file`; false when somebody still writes it.
pub(super) fn discard(file: &Path) -> io::Result<bool> {
    let paths = Paths::of(file);
    match OpenOptions::new().write(true).open(&paths.part) {
        Ok(part) => {
            match part.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let removed = paths.remove_notes().and(remove(&paths.part)).and(remove(&paths.file));
            let _ = part.unlock();
            removed?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            paths.remove_notes().and(remove(&paths.file))?;
        }
        Err(error) => return Err(error),
    }
    match sync_folder(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}
