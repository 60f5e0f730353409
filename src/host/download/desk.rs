//! The part of a download, worked on by a thread that may block while the next bytes arrive.
//!
//! One piece of work at a time. When the desk is dropped, what was begun ends by itself within moments, and with it the
//! part's lock; nothing new begins.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::disk::DiskTrouble;
use super::note::Note;
use super::part::{Part, Paths, Rehash};
use super::verifier::Hashes;
use super::{Download, Fetched};

/// So long a cancelled download may take to let go: one write and one sync on a slow disk.
pub(super) const LET_GO: Duration = Duration::from_secs(60);
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is on the disk at the beginning.
pub(super) enum Opened {
    /// All of it, hashed again.
    Finished(Fetched),
    /// Some of it, or nothing.
    Part(Desk),
}

pub(super) struct Desk(State);

enum State {
    Here(Box<Part>),
    Working(JoinHandle<(Box<Part>, Result<(), DiskTrouble>)>),
    /// The thread never came back.
    Gone,
}

impl Desk {
    /// Looks at what is there for this download, and hashes it again.
    pub(super) async fn open(download: &Download) -> Result<Opened, DiskTrouble> {
        let deadline = Instant::now() + LET_GO;
        let (mut part, mut rehash) = loop {
            // Also after waiting: who had the lock may have finished it.
            if let Some(fetched) = finished(download).await? {
                return Ok(Opened::Finished(fetched));
            }
            let asked = download.clone();
            if let Some(taken) = blocking(move || Part::take(&asked)).await?? {
                break taken;
            }
            if Instant::now() >= deadline {
                return Err(DiskTrouble::Busy {
                    path: Paths::of(&download.file).file,
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let trouble = DiskTrouble::io("read", &download.file);
        loop {
            let (more, back) = next(rehash).await?;
            rehash = back;
            if !more.map_err(&trouble)? {
                break;
            }
        }
        let part = blocking(move || part.go_on(rehash).map(|()| part)).await??;
        Ok(Opened::Part(Self(State::Here(Box::new(part)))))
    }

    /// The part, when the work on it has ended.
    pub(super) async fn part(&mut self) -> Result<&mut Part, DiskTrouble> {
        if let State::Working(work) = &mut self.0 {
            let ended = work.await;
            self.0 = State::Gone;
            let (part, result) = ended.map_err(|_| DiskTrouble::Stopping)?;
            self.0 = State::Here(part);
            result?;
        }
        match &mut self.0 {
            State::Here(part) => Ok(part),
            _ => Err(DiskTrouble::Stopping),
        }
    }

    /// Waits for the work before, begins this and does not wait for its end.
    pub(super) async fn begin(
        &mut self,
        work: impl FnOnce(&mut Part) -> Result<(), DiskTrouble> + Send + 'static,
    ) -> Result<(), DiskTrouble> {
        let mut part = self.take().await?;
        self.0 = State::Working(tokio::task::spawn_blocking(move || {
            let result = work(&mut part);
            (part, result)
        }));
        Ok(())
    }

    /// Waits for the work before, then for this.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Part) -> Result<T, DiskTrouble> + Send + 'static,
    ) -> Result<T, DiskTrouble> {
        let mut part = self.take().await?;
        let (part, result) = blocking(move || {
            let result = work(&mut part);
            (part, result)
        })
        .await?;
        self.0 = State::Here(part);
        result
    }

    /// The part for good, when it is still there: work that failed does not keep it.
    pub(super) async fn close(mut self) -> Option<Part> {
        if let Err(error) = self.part().await {
            tracing::debug!(%error, "the last work on the download failed");
        }
        match self.0 {
            State::Here(part) => Some(*part),
            _ => None,
        }
    }

    async fn take(&mut self) -> Result<Box<Part>, DiskTrouble> {
        self.part().await?;
        match std::mem::replace(&mut self.0, State::Gone) {
            State::Here(part) => Ok(part),
            _ => Err(DiskTrouble::Stopping),
        }
    }
}

/// The finished file, when it is the one of this download and still has its digest. Another one is removed.
async fn finished(download: &Download) -> Result<Option<Fetched>, DiskTrouble> {
    let asked = download.clone();
    let (found, note) = blocking(move || {
        let paths = Paths::of(&asked.file);
        let note = paths
            .note()
            .filter(|note| note.is_whole() && note.is_of(&Note::of(&asked)) && !paths.has_part());
        let found = match note {
            None => Ok(None),
            Some(_) => Rehash::finished(&paths, Hashes::new(asked.verifier)),
        };
        (found, note)
    })
    .await?;
    let trouble = DiskTrouble::io("read", &download.file);
    if let (Some(mut rehash), Some(note)) = (found.map_err(&trouble)?, note) {
        let whole = loop {
            let (more, back) = next(rehash).await?;
            rehash = back;
            match more {
                Ok(true) => {}
                Ok(false) => break true,
                Err(error) => {
                    tracing::warn!(%error, "the firmware that was downloaded cannot be read back");
                    break false;
                }
            }
        };
        let digests = rehash.hashes.digests();
        if whole && note.fits(rehash.hashed, &digests) {
            return Ok(Some(Fetched {
                size: rehash.hashed,
                sha256: digests.sha256,
            }));
        }
        tracing::warn!("the firmware that was downloaded has changed on the disk; it is downloaded again");
    }
    let paths = Paths::of(&download.file);
    let removed = blocking(move || paths.remove_finished()).await?;
    removed.map_err(DiskTrouble::io("remove", &download.file))?;
    Ok(None)
}

async fn next(mut rehash: Rehash) -> Result<(std::io::Result<bool>, Rehash), DiskTrouble> {
    blocking(move || {
        let more = rehash.next();
        (more, rehash)
    })
    .await
}

/// Does this where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DiskTrouble> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| DiskTrouble::Stopping)
}
