//! The state and the outbox, written without holding up the rest: each write happens on a thread that may block.

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
        let (outbox, recovered) = Outbox::open(&folder.join("outbox"), LIMITS)?;
        let mut notices = loaded.notices;
        notices.extend(recovered.cut);
        let durable = match loaded.json.as_deref().map(Durable::from_json) {
            None => Durable::default(),
            Some(Ok(durable)) => durable,
            Some(Err(error)) => {
                let reason = format!("its content is not understood ({error}); the agent starts as if it were new");
                notices.push(Notice {
                    path: folder.to_owned(),
                    reason,
                });
                Durable::default()
            }
        };
        let mut seqs = HashMap::new();
        let mut owed = Vec::new();
        for (seq, bytes) in recovered.records {
            if let Some((id, record)) = bytes.split_first_chunk() {
                let id = OweId(u64::from_le_bytes(*id));
                seqs.insert(id, seq);
                owed.push((id, record.to_vec()));
            }
        }
        Ok((
            Disk {
                files: Some(Files {
                    state,
                    outbox,
                    seqs,
                    unwritten: VecDeque::new(),
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
            if let Err(error) = self.append(id, &record, dropped) {
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
                    // What cannot be removed now is removed by a later sync, or sent after a restart.
                    let _ = self.outbox.remove(seq);
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
        for (id, record) in new {
            self.append(*id, record, dropped)?;
        }
        if let Some(json) = commit {
            if owes {
                self.outbox.sync()?;
            }
            self.state.commit(json)?;
        }
        Ok(())
    }

    fn append(&mut self, id: OweId, record: &[u8], dropped: &mut Vec<OweId>) -> Result<(), StoreError> {
        let mut bytes = id.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(record);
        let appended = match self.outbox.append(&bytes) {
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
