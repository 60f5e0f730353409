//! The durable state: one document, replaced as a whole, in two copies.
//!
//! A commit always writes the older copy, so a commit that fails or is cut off leaves the newer one as it was. On
//! opening, the newest copy that is whole wins; a damaged one is put aside for a person to look at, and told.
//!
//! Never looks into the document, and never keeps a document that it could not write: after a failed commit the
//! previous one is still the state.

use std::fs;
use std::path::{Path, PathBuf};

use super::copy::{self, Copy};
use super::folder::{self, Content, Folder, FolderLock};
use super::{Notice, StoreError};

/// The two copies. They take turns.
const COPIES: [&str; 2] = ["state.a", "state.b"];
const DAMAGED: &str = ".damaged";
const NOT_UNDERSTOOD: &str = "state.not-understood";

/// The largest document, in bytes. Far above what an agent keeps; it bounds what a start reads.
pub const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// The durable state of one agent, locked against every other process until it is dropped.
#[derive(Debug)]
pub struct StateFile {
    folder: Folder,
    generation: u64,
    /// Index in [`COPIES`] of the copy that the next commit writes.
    older: usize,
    _lock: FolderLock,
}

/// What was found on opening.
#[derive(Debug)]
pub struct Loaded {
    /// The document; none on the first start, and when both copies are damaged (then `notices` say so).
    pub json: Option<Vec<u8>>,
    /// How often the document was committed; 0 when there is none.
    pub generation: u64,
    /// What a person should know.
    pub notices: Vec<Notice>,
}

impl StateFile {
    /// Opens the state in the folder `dir`, which is made when it is missing, and locks the folder.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it; otherwise what the disk said. Damage is no error.
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let folder = Folder::open(dir)?;
        let lock = FolderLock::take(&folder)?;
        let mut notices = Vec::new();
        let mut copies = [None, None];
        let mut damaged = 0;
        for (slot, name) in COPIES.into_iter().enumerate() {
            folder.remove_leftover(name)?;
            match read_copy(&folder, name)? {
                None => {}
                Some(Ok(copy)) => copies[slot] = Some(copy),
                Some(Err(reason)) => {
                    damaged += 1;
                    notices.push(put_aside(&folder, name, &reason));
                }
            }
        }
        let [a, b] = copies;
        let b_is_newer = b.as_ref().map(|b| b.generation) > a.as_ref().map(|a| a.generation);
        let (newest, older) = if b_is_newer { (b, 0) } else { (a, 1) };
        match &newest {
            Some(copy) => {
                if damaged > 0 {
                    notices.push(Notice::new(
                        &folder.join(COPIES[1 - older]),
                        format!(
                            "used instead (generation {}): the last change may be lost",
                            copy.generation
                        ),
                    ));
                }
                if copy.version > copy::VERSION {
                    notices.push(Notice::new(
                        &folder.join(COPIES[1 - older]),
                        format!(
                            "written by a newer agent (format {}), read for what is understood",
                            copy.version
                        ),
                    ));
                }
            }
            None => notices.extend(nothing_left(&folder, damaged)),
        }
        let generation = newest.as_ref().map_or(0, |copy| copy.generation);
        let json = newest.map(|copy| copy.json);
        Ok((
            Self {
                folder,
                generation,
                older,
                _lock: lock,
            },
            Loaded {
                json,
                generation,
                notices,
            },
        ))
    }

    /// How often the document was committed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Keeps a document that nobody understands beside the state, for a person to look at, and returns where: the next
    /// commits would take it away. One is kept, the latest.
    ///
    /// # Errors
    /// What the disk said.
    pub fn keep(&self, json: &[u8]) -> Result<PathBuf, StoreError> {
        self.folder.replace(NOT_UNDERSTOOD, json)?;
        Ok(self.folder.join(NOT_UNDERSTOOD))
    }

    /// Makes `json` the document and returns its generation. It has reached the disk when this returns.
    ///
    /// # Errors
    /// The previous document is then still the state, also for the next start, and the next commit works again as
    /// soon as the disk does. [`StoreError::TooLarge`] above [`MAX_DOCUMENT`].
    pub fn commit(&mut self, json: &[u8]) -> Result<u64, StoreError> {
        let bytes = json.len() as u64;
        if bytes > MAX_DOCUMENT {
            return Err(StoreError::TooLarge {
                what: "the state",
                bytes,
                limit: MAX_DOCUMENT,
            });
        }
        let generation = self.generation + 1;
        self.folder
            .replace(COPIES[self.older], &copy::encode(generation, json))?;
        self.generation = generation;
        self.older = 1 - self.older;
        Ok(generation)
    }
}

/// The copy `name`: none, a whole one, or what is wrong with it.
fn read_copy(folder: &Folder, name: &str) -> Result<Option<Result<Copy, String>>, StoreError> {
    let limit = MAX_DOCUMENT + copy::MAX_HEADER as u64;
    Ok(match folder::read(&folder.join(name), limit)? {
        Content::Missing => None,
        Content::Unreadable(error) => Some(Err(format!("it cannot be read ({error})"))),
        Content::Bytes(bytes) if bytes.len() as u64 > limit => Some(Err("it is too large".to_owned())),
        Content::Bytes(bytes) => Some(copy::decode(&bytes)),
    })
}

/// Takes a damaged copy out of the way. One is kept of each, the latest.
fn put_aside(folder: &Folder, name: &str, reason: &str) -> Notice {
    let (path, aside) = (folder.join(name), folder.join(&format!("{name}{DAMAGED}")));
    match fs::rename(&path, &aside) {
        Ok(()) => Notice::new(&path, format!("damaged: {reason}; kept as {}", aside.display())),
        // The next commit writes over it, which is as good.
        Err(error) => Notice::new(&path, format!("damaged: {reason}; it could not be put aside ({error})")),
    }
}

/// What to say when there is no whole copy: nothing on a first start, and loudly what was lost otherwise.
fn nothing_left(folder: &Folder, damaged: usize) -> Option<Notice> {
    let earlier = COPIES
        .iter()
        .any(|name| folder.join(&format!("{name}{DAMAGED}")).exists());
    let found = match (damaged, earlier) {
        (2, _) => "both copies of the state are damaged",
        (1, _) => "the only copy of the state is damaged",
        (_, true) => "there is no state, only a damaged copy from an earlier start",
        (_, false) => return None,
    };
    Some(Notice::new(
        folder.path(),
        format!("{found}: starting without any. What was asked of this device before is forgotten"),
    ))
}
