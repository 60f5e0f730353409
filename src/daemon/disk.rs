//! The state and the outbox, written without holding up the rest: each write happens on a thread that may block.
//!
//! A step that commits writes its records first and the state then. What happens in between must not leave records of a
//! change that never was: an answer would be sent that is not true. So such a record carries the generation of the state
//! that it came with, and counts only when the state is that far.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use crate::agent::{Durable, OweId, Step};
use crate::store::{Limits, Notice, Outbox, Seq, StateFile, StoreError};

/// How much the outbox may take on the disk. A record is at most a message, so it fits into a segment.
const LIMITS: Limits = Limits {
    max_bytes: 4 * 1024 * 1024,
    segment_bytes: 512 * 1024,
};

/// The folder that survives a power cut.
#[derive(Debug)]
pub(super) struct Disk {
    /// `None` only while a write is under way on the other thread.
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    state: StateFile,
    outbox: Outbox,
    seqs: HashMap<OweId, Seq>,
    /// Records that the disk did not take, oldest first; tried again before anything else. The brain has them, too, and
    /// it is its bound that keeps them few.
    unwritten: VecDeque<(OweId, Vec<u8>)>,
    /// A record whose state never came may still be on the disk. It must be gone from there before a state of its
    /// generation comes.
    undone: bool,
}

/// What stands before the bytes of a record: its id, and the generation of the state that it came with, 0 without one.
const HEADER: usize = 16;

fn encode(id: OweId, generation: u64, record: &[u8]) -> Vec<u8> {
    [&id.0.to_le_bytes(), &generation.to_le_bytes(), record].concat()
}

fn decode(bytes: &[u8]) -> Option<(OweId, u64, &[u8])> {
    let (header, record) = bytes.split_first_chunk::<HEADER>()?;
    let (id, rest) = header.split_first_chunk()?;
    let (generation, _) = rest.split_first_chunk()?;
    Some((OweId(u64::from_le_bytes(*id)), u64::from_le_bytes(*generation), record))
}

/// What was found at the start.
pub(super) struct Found {
    pub(super) durable: Durable,
    pub(super) owed: Vec<(OweId, Vec<u8>)>,
    pub(super) notices: Vec<Notice>,
}

/// What a write came to.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Why the disk refused, in words. Without a commit in the step this is only worth a line in the log.
    pub(super) refused: Option<String>,
    /// Records that had to go to make room.
    pub(super) dropped: Vec<OweId>,
}

impl Disk {
    pub(super) fn open(folder: &Path) -> Result<(Self, Found), StoreError> {
        let (state, loaded) = StateFile::open(folder)?;
        let (mut outbox, recovered) = Outbox::open(&folder.join("outbox"), LIMITS)?;
        let mut notices = loaded.notices;
        notices.extend(recovered.cut);
        let durable = match loaded.json.as_deref().map(|json| (json, Durable::from_json(json))) {
            None => Durable::default(),
            Some((_, Ok(durable))) => durable,
            Some((json, Err(error))) => {
                let kept = match state.keep(json) {
                    Ok(path) => format!("it is kept as {}", path.display()),
                    Err(error) => format!("it could not be kept ({})", error.reason()),
                };
                notices.push(Notice {
                    path: folder.to_owned(),
                    reason: format!(
                        "its content is not understood ({error}); {kept}, and the agent starts as if it were new"
                    ),
                });
                Durable::default()
            }
        };
        let mut seqs = HashMap::new();
        let mut owed = Vec::new();
        let mut undone = false;
        for (seq, bytes) in recovered.records {
            match decode(&bytes) {
                Some((id, generation, record)) if generation <= loaded.generation => {
                    seqs.insert(id, seq);
                    owed.push((id, record.to_vec()));
                }
                // Its request was not acknowledged, and comes again.
                _ => {
                    // tried again before the next commit
                    let _ = outbox.remove(seq);
                    undone = true;
                }
            }
        }
        Ok((
            Disk {
                files: Some(Files {
                    state,
                    outbox,
                    seqs,
                    unwritten: VecDeque::new(),
                    undone,
                }),
            },
            Found { durable, owed, notices },
        ))
    }

    /// Appends what is owed, and makes the commit. With a commit both have reached the disk when this returns, or
    /// neither is kept. Without one, what the disk does not take is kept here and tried again.
    pub(super) async fn write(&mut self, step: &Step) -> Written {
        if step.owe.is_empty() && step.commit.is_none() {
            return Written::default();
        }
        let owe = step.owe.clone();
        let commit = step.commit.as_ref().map(Durable::to_json);
        self.away(move |files| files.write(&owe, commit.as_deref())).await
    }

    /// The record is no longer needed. When that cannot be written down, it is sent once more after a restart.
    pub(super) async fn settle(&mut self, id: OweId) -> Option<String> {
        self.away(move |files| {
            files.unwritten.retain(|(unwritten, _)| *unwritten != id);
            let seq = files.seqs.remove(&id)?;
            files.outbox.remove(seq).err().map(|error| error.reason())
        })
        .await
    }

    /// Whether something was appended and has not reached the disk.
    pub(super) fn dirty(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.outbox.dirty())
    }

    pub(super) async fn sync(&mut self) -> Option<String> {
        self.away(|files| files.outbox.sync().err().map(|error| error.reason()))
            .await
    }

    /// Tries whether the disk takes everything again: what it did not take before, and the state once more.
    pub(super) async fn try_again(&mut self, durable: &Durable) -> Written {
        let json = durable.to_json();
        self.away(move |files| files.write(&[], Some(&json))).await
    }

    async fn away<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Files) -> T + Send + 'static) -> T {
        let mut files = self
            .files
            .take()
            .expect("one write at a time: the daemon waits for each");
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut files);
            (files, result)
        });
        let (files, result) = done.await.expect("writing does not panic");
        self.files = Some(files);
        result
    }
}

impl Files {
    fn write(&mut self, owe: &[(OweId, Vec<u8>)], commit: Option<&[u8]>) -> Written {
        let mut written = Written::default();
        let result = self
            .append_unwritten(&mut written.dropped)
            .and_then(|()| self.try_write(owe, commit, &mut written.dropped));
        if let Err(error) = result {
            written.refused = Some(error.reason());
            if commit.is_none() {
                let taken = |id| self.seqs.contains_key(id);
                let left: Vec<_> = owe.iter().filter(|(id, _)| !taken(id)).cloned().collect();
                self.unwritten.extend(left);
            }
        }
        written
    }

    fn append_unwritten(&mut self, dropped: &mut Vec<OweId>) -> Result<(), StoreError> {
        while let Some((id, record)) = self.unwritten.pop_front() {
            if let Err(error) = self.append(id, 0, &record, dropped) {
                self.unwritten.push_front((id, record));
                return Err(error);
            }
        }
        Ok(())
    }

    fn try_write(
        &mut self,
        owe: &[(OweId, Vec<u8>)],
        commit: Option<&[u8]>,
        dropped: &mut Vec<OweId>,
    ) -> Result<(), StoreError> {
        let new: Vec<_> = owe.iter().filter(|(id, _)| !self.seqs.contains_key(id)).collect();
        let written = self.write_in_order(&new, commit, dropped, !owe.is_empty());
        if written.is_err() && commit.is_some() {
            // Nothing of the step has happened: its numbers may be given to other records.
            for (id, _) in new {
                if let Some(seq) = self.seqs.remove(id) {
                    // What cannot be removed now is removed before the next commit, or at the next start.
                    let _ = self.outbox.remove(seq);
                    self.undone = true;
                }
            }
        }
        written
    }

    fn write_in_order(
        &mut self,
        new: &[&(OweId, Vec<u8>)],
        commit: Option<&[u8]>,
        dropped: &mut Vec<OweId>,
        owes: bool,
    ) -> Result<(), StoreError> {
        if commit.is_some() && self.undone {
            self.outbox.settle()?;
            self.outbox.sync()?;
            self.undone = false;
        }
        let generation = commit.map_or(0, |_| self.state.generation() + 1);
        for (id, record) in new {
            self.append(*id, generation, record, dropped)?;
        }
        if let Some(json) = commit {
            if owes {
                self.outbox.sync()?;
            }
            self.state.commit(json)?;
        }
        Ok(())
    }

    fn append(
        &mut self,
        id: OweId,
        generation: u64,
        record: &[u8],
        dropped: &mut Vec<OweId>,
    ) -> Result<(), StoreError> {
        let appended = match self.outbox.append(&encode(id, generation, record)) {
            // It never will fit, and must not be in the way of what does.
            Err(StoreError::TooLarge { .. }) => {
                dropped.push(id);
                return Ok(());
            }
            appended => appended?,
        };
        self.seqs.insert(id, appended.seq);
        if !appended.dropped.is_empty() {
            let gone: Vec<_> = self
                .seqs
                .iter()
                .filter(|(_, seq)| appended.dropped.contains(seq))
                .map(|(id, _)| *id)
                .collect();
            self.seqs.retain(|id, _| !gone.contains(id));
            dropped.extend(gone);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(folder: &Path) -> (Files, Found) {
        let (disk, found) = Disk::open(folder).unwrap();
        (disk.files.unwrap(), found)
    }

    #[test]
    fn nothing_of_a_refused_step_is_kept_and_its_ids_are_free_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        let too_large = vec![b'x'; 5 * 1024 * 1024];
        let refused = files.write(&[(OweId(1), b"refused".to_vec())], Some(&too_large));
        assert!(refused.refused.is_some());
        assert!(files.write(&[(OweId(1), b"instead".to_vec())], None).refused.is_none());
        drop(files);
        let (_, found) = open(folder.path());
        assert_eq!(found.owed, [(OweId(1), b"instead".to_vec())]);
    }

    /// Writes the records of a step that commits, and dies before the state is written.
    fn dies_before_the_state(mut files: Files, record: &[u8]) {
        let generation = files.state.generation() + 1;
        files.append(OweId(1), generation, record, &mut Vec::new()).unwrap();
        files.outbox.sync().unwrap();
    }

    #[test]
    fn an_answer_to_a_change_that_never_reached_the_disk_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        assert!(
            files
                .write(&[(OweId(1), b"first".to_vec())], Some(b"{}"))
                .refused
                .is_none()
        );
        files.outbox.remove(files.seqs[&OweId(1)]).unwrap();
        dies_before_the_state(files, b"not true");
        let (mut files, found) = open(folder.path());
        assert_eq!(found.owed, []);
        // nor later, when the state is that far
        assert!(
            files
                .write(&[(OweId(1), b"true".to_vec())], Some(b"{}"))
                .refused
                .is_none()
        );
        drop(files);
        let (_, found) = open(folder.path());
        assert_eq!(found.owed, [(OweId(1), b"true".to_vec())]);
    }

    #[test]
    fn a_state_that_is_not_understood_is_kept_for_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        files.write(&[], Some(b"[\"of another agent\"]"));
        drop(files);
        let (mut files, found) = open(folder.path());
        assert_eq!(found.durable, Durable::default());
        let kept = folder.path().join("state.not-understood");
        let told = &found.notices[0].reason;
        assert!(told.contains(&format!("kept as {}", kept.display())), "{told}");
        for _ in 0..2 {
            files.write(&[], Some(b"{}"));
        }
        assert_eq!(std::fs::read(kept).unwrap(), b"[\"of another agent\"]");
    }

    #[test]
    fn what_was_owed_without_a_change_is_sent_whatever_the_state_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        assert!(files.write(&[(OweId(1), b"owed".to_vec())], None).refused.is_none());
        files.outbox.sync().unwrap();
        drop(files);
        let (_, found) = open(folder.path());
        assert_eq!(found.owed, [(OweId(1), b"owed".to_vec())]);
    }

    #[test]
    fn a_record_that_never_fits_is_dropped_and_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = open(folder.path());
        let record = vec![b'x'; 2 * 1024 * 1024];
        let written = files.write(&[(OweId(1), record), (OweId(2), b"small".to_vec())], Some(b"{}"));
        assert_eq!((written.refused, written.dropped), (None, vec![OweId(1)]));
        drop(files);
        let (_, found) = open(folder.path());
        assert_eq!(found.owed, [(OweId(2), b"small".to_vec())]);
    }
}
