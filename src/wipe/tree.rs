//! One folder is emptied, or only counted: the same walk, so that what is shown beforehand is what happens.
//!
//! Everything is done relative to the one folder that is open. A folder is entered by `openat2(2)`, through no link and over
//! no mount, and left by its `..`, which must be the folder that it was entered from. So no depth is too deep, and nothing
//! outside is reached whatever somebody renames meanwhile. What cannot be removed is noted, and the rest goes on.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ground::{Identity, Stays, identity, in_words, is_folder, open_below};

/// As many of what failed or stays are named; the rest is counted.
const NAMED: usize = 20;
/// A folder that is not empty when everything in it is gone is read again so often.
const AGAIN: u32 = 3;

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Count,
    /// Until then; what is left afterwards has failed.
    Remove(Instant),
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whatever is no folder.
    pub(super) files: u64,
    pub(super) folders: u64,
    /// On the disk.
    pub(super) bytes: u64,
    pub(super) stays: Named,
    pub(super) failed: Named,
}

/// Paths with a reason; at most [`NAMED`] of them in words.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) lines: Vec<(PathBuf, String)>,
    pub(super) more: u64,
}

impl Named {
    fn add(&mut self, path: PathBuf, why: String) {
        if self.lines.len() < NAMED {
            self.lines.push((path, why));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// A folder that has been entered.
#[derive(Debug)]
struct Level {
    name: CString,
    identity: Identity,
    /// The folders in it that are still to be entered.
    folders: Vec<CString>,
    /// Something in it stays, so it does, too.
    stays: bool,
    again: u32,
}

/// One walk.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) mode: Mode,
    pub(super) stays: &'a Stays,
    /// How the folder at the top is called.
    pub(super) path: &'a Path,
    /// The folder at the top is the root of its file system.
    pub(super) is_root: bool,
    pub(super) tally: Tally,
    levels: Vec<Level>,
    /// How many names have been counted of a file that has several.
    names: HashMap<Identity, u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(mode: Mode, stays: &'a Stays, path: &'a Path, is_root: bool) -> Self {
        Self {
            mode,
            stays,
            path,
            is_root,
            tally: Tally::default(),
            levels: Vec::new(),
            names: HashMap::new(),
        }
    }

    /// Everything in the folder `top`; the folder itself stays.
    pub(super) fn empty(mut self, top: OwnedFd) -> Tally {
        if let Err(error) = self.descend(top) {
            let path = self.here(None);
            self.tally.failed.add(path, error);
        }
        self.tally
    }

    /// The file or link `name` of `folder`; `path` is its own.
    pub(super) fn single(mut self, folder: &OwnedFd, name: &CStr, stat: &FileStat) -> Tally {
        if let Err(error) = self.remove(folder, name, stat) {
            self.tally.failed.add(self.path.to_owned(), in_words(error));
        }
        self.tally
    }

    fn descend(&mut self, top: OwnedFd) -> Result<(), String> {
        let device = identity(&fstat(&top).map_err(in_words)?).0;
        let mut here = self.enter(top, c"".to_owned(), 0)?;
        while let Some(level) = self.levels.last_mut() {
            in_time(self.mode)?;
            let Some(name) = level.folders.pop() else {
                if self.levels.len() == 1 {
                    return Ok(());
                }
                here = self.leave(here)?;
                continue;
            };
            match open_below(&here, as_path(&name)) {
                Ok(folder) => {
                    let stat = fstat(&folder).map_err(in_words)?;
                    if self.is_kept(&name, &stat) {
                        continue;
                    }
                    if identity(&stat).0 != device {
                        self.fail(&name, "another file system".to_owned());
                        continue;
                    }
                    here = self.enter(folder, name, 0)?;
                }
                Err(Errno::ENOENT) => {}
                Err(Errno::EXDEV) => self.mounted(&here, &name),
                Err(error) => self.fail(&name, in_words(error)),
            }
        }
        Ok(())
    }

    /// Reads a folder: what is no folder goes at once.
    fn enter(&mut self, folder: OwnedFd, name: CString, again: u32) -> Result<OwnedFd, String> {
        let identity = identity(&fstat(&folder).map_err(in_words)?);
        self.levels.push(Level {
            name,
            identity,
            folders: Vec::new(),
            stays: false,
            again,
        });
        let handle = folder.try_clone().map_err(|error| error.to_string())?;
        let mut listing = match Dir::from_fd(handle) {
            Ok(listing) => listing,
            Err(error) => {
                self.fail_here(in_words(error));
                return Ok(folder);
            }
        };
        for entry in listing.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.fail_here(in_words(error));
                    break;
                }
            };
            in_time(self.mode)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(error) => {
                    self.fail(name, in_words(error));
                    continue;
                }
            };
            if self.is_kept(name, &stat) || (!is_folder(&stat) && self.is_bound(name, &stat)) {
                continue;
            }
            if is_folder(&stat) {
                if let Some(level) = self.levels.last_mut() {
                    level.folders.push(name.to_owned());
                }
            } else if let Err(error) = self.remove(&folder, name, &stat) {
                self.fail(name, in_words(error));
            }
        }
        Ok(folder)
    }

    /// Back to the folder that this one was entered from; this one goes when nothing in it stays.
    fn leave(&mut self, here: OwnedFd) -> Result<OwnedFd, String> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let parent = openat2(&here, "..", how).map_err(in_words)?;
        drop(here);
        let moved = || "it was moved while it was wiped".to_owned();
        let left = self.levels.pop().ok_or_else(moved)?;
        let above = self.levels.last_mut().ok_or_else(moved)?;
        if identity(&fstat(&parent).map_err(in_words)?) != above.identity {
            return Err(moved());
        }
        if left.stays {
            above.stays = true;
            return Ok(parent);
        }
        if let Some(points) = self.stays.bound.get(&left.identity) {
            above.stays = true;
            let path = self.here(Some(&left.name));
            let why = format!("it is emptied, and mounted on {}", in_a_row(points));
            self.tally.stays.add(path, why);
            return Ok(parent);
        }
        if self.is_root && self.levels.len() == 1 && left.name.as_c_str() == c"lost+found" {
            // the file system's own
            return Ok(parent);
        }
        let removed = match self.mode {
            Mode::Count => Ok(()),
            Mode::Remove(_) => unlinkat(&parent, left.name.as_c_str(), UnlinkatFlags::RemoveDir),
        };
        match removed {
            Ok(()) | Err(Errno::ENOENT) => self.tally.folders += 1,
            Err(Errno::ENOTEMPTY) if left.again < AGAIN => {
                if let Ok(folder) = open_below(&parent, as_path(&left.name)) {
                    return self.enter(folder, left.name, left.again + 1);
                }
            }
            Err(error) => self.fail(&left.name, in_words(error)),
        }
        Ok(parent)
    }

    fn remove(&mut self, folder: impl AsFd, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
        if self.removes() {
            match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) => {}
                Err(Errno::ENOENT) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.tally.files += 1;
        // with another name left, no room comes free
        if self.names_left(stat) == 0 {
            self.tally.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        Ok(())
    }

    /// How many names a file has besides this one and those that went before.
    // the types differ between architectures
    #[allow(clippy::useless_conversion)]
    fn names_left(&mut self, stat: &FileStat) -> u64 {
        let names = u64::from(stat.st_nlink);
        if self.removes() || names == 1 {
            return names.saturating_sub(1);
        }
        let counted = self.names.entry(identity(stat)).or_default();
        *counted += 1;
        names.saturating_sub(*counted)
    }

    /// Whether it stays; it is noted then.
    fn is_kept(&mut self, name: &CStr, stat: &FileStat) -> bool {
        let Some(why) = self.stays.kept.get(&identity(stat)) else {
            return false;
        };
        let path = self.here(Some(name));
        self.tally.stays.add(path, why.clone());
        self.stay();
        true
    }

    /// Whether it is a file that is mounted elsewhere, too; it is noted then.
    fn is_bound(&mut self, name: &CStr, stat: &FileStat) -> bool {
        let Some(points) = self.stays.bound.get(&identity(stat)) else {
            return false;
        };
        let path = self.here(Some(name));
        // then it is another file that is mounted here
        if points.contains(&path) {
            return false;
        }
        let why = format!("it is mounted on {}", in_a_row(points));
        self.tally.stays.add(path, why);
        self.stay();
        true
    }

    /// Something is mounted there.
    fn mounted(&mut self, here: &OwnedFd, name: &CStr) {
        // one that the plan declares has lines of its own
        match fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if self.stays.declared.contains(&identity(&stat)) => self.stay(),
            _ => self.fail(name, "another file system is mounted there".to_owned()),
        }
    }

    fn removes(&self) -> bool {
        self.mode != Mode::Count
    }

    fn fail(&mut self, name: &CStr, why: String) {
        let path = self.here(Some(name));
        self.tally.failed.add(path, why);
        self.stay();
    }

    fn fail_here(&mut self, why: String) {
        let path = self.here(None);
        self.tally.failed.add(path, why);
        self.stay();
    }

    fn stay(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.stays = true;
        }
    }

    /// The path of the open folder, or of something in it.
    fn here(&self, name: Option<&CStr>) -> PathBuf {
        let mut path = self.path.to_owned();
        let names = self
            .levels
            .iter()
            .skip(1)
            .map(|level| level.name.as_c_str())
            .chain(name);
        path.extend(names.map(as_path));
        path
    }
}

fn as_path(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

fn in_a_row(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

fn in_time(mode: Mode) -> Result<(), String> {
    match mode {
        Mode::Remove(until) if Instant::now() >= until => Err("the time for it was over".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn when_the_time_is_over_the_rest_stays_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let empty = |until: Instant| {
            let top = std::fs::File::open(folder.path()).unwrap().into();
            let stays = Stays::default();
            Walk::new(Mode::Remove(until), &stays, folder.path(), false).empty(top)
        };
        let tally = empty(Instant::now());
        assert_eq!(tally.files, 0);
        assert_eq!(
            tally.failed.lines,
            [(folder.path().to_owned(), "the time for it was over".to_owned())]
        );
        let tally = empty(Instant::now() + Duration::from_secs(3600));
        assert_eq!((tally.files, tally.failed.is_empty()), (1, true));
    }
}
