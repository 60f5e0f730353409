//! The state and the outbox, written without holding up the rest: each write happens on a thread that may block.

use std::collections::HashMap;
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
                files: Some(Files { state, outbox, seqs }),
            },
            Found { durable, owed, notices },
        ))
    }

    /// Appends what is owed, and makes the commit. With a commit both have reached the disk when this returns.
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
        if let Err(error) = self.try_write(owe, commit, &mut written.dropped) {
            written.refused = Some(error.reason());
        }
        written
    }

    fn try_write(
        &mut self,
        owe: &[(OweId, Vec<u8>)],
        commit: Option<&[u8]>,
        dropped: &mut Vec<OweId>,
    ) -> Result<(), StoreError> {
        for (id, record) in owe {
            if self.seqs.contains_key(id) {
                continue;
            }
            let mut bytes = id.0.to_le_bytes().to_vec();
            bytes.extend_from_slice(record);
            let appended = self.outbox.append(&bytes)?;
            self.seqs.insert(*id, appended.seq);
            if !appended.dropped.is_empty() {
                let gone: Vec<_> = self
                    .seqs
                    .iter()
                    .filter(|(_, seq)| appended.dropped.contains(seq))
                    .collect();
                dropped.extend(gone.into_iter().map(|(id, _)| *id));
                self.seqs.retain(|id, _| !dropped.contains(id));
            }
        }
        if let Some(json) = commit {
            if !owe.is_empty() {
                self.outbox.sync()?;
            }
            self.state.commit(json)?;
        }
        Ok(())
    }
}
