//! The outbox against a model: any sequence of appends, removals, syncs, restarts and power cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::scratch;
use crate::store::{Limits, Outbox, Seq};

const LIMITS: Limits = Limits {
    max_bytes: 800,
    segment_bytes: 160,
};

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<u8>),
    /// The entry at this part of all live ones.
    Remove(prop::sample::Index),
    Sync,
    Restart,
    PowerCut {
        /// How much of what is not certain is lost.
        lost: prop::sample::Index,
        /// It is there, but zeros.
        zeroed: bool,
        /// The file that was deleted last is back.
        undelete: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Op::Append),
        8 => any::<prop::sample::Index>().prop_map(Op::Remove),
        2 => Just(Op::Sync),
        1 => Just(Op::Restart),
        1 => (any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
            .prop_map(|(lost, zeroed, undelete)| Op::PowerCut { lost, zeroed, undelete }),
    ]
}

struct Run {
    dir: TempDir,
    outbox: Outbox,
    /// Links to the files as they were before the last operation, to bring a deleted one back.
    links: TempDir,
    deleted: Option<PathBuf>,
    /// What was ever appended.
    ever: BTreeMap<Seq, Vec<u8>>,
    /// What is wanted, and whether a sync came after it.
    live: BTreeMap<Seq, bool>,
    /// Removed since the last sync: it may come back.
    removed: BTreeSet<Seq>,
    ever_removed: BTreeSet<Seq>,
    told: u64,
}

impl Run {
    fn new() -> Self {
        let dir = scratch();
        let (outbox, _) = Outbox::open(dir.path(), LIMITS).unwrap();
        let (ever, live, removed, ever_removed) = Default::default();
        Self {
            dir,
            outbox,
            links: scratch(),
            deleted: None,
            ever,
            live,
            removed,
            ever_removed,
            told: 0,
        }
    }

    fn step(&mut self, op: Op) {
        let before = self.link_files();
        match op {
            Op::Append(payload) => {
                let done = self.outbox.append(&payload).unwrap();
                assert!(
                    self.ever
                        .last_key_value()
                        .is_none_or(|(highest, _)| *highest < done.seq),
                    "a number twice"
                );
                self.ever.insert(done.seq, payload);
                self.live.insert(done.seq, false);
                for seq in &done.dropped {
                    // One that a removal made room with is told only now, and may have been removed in between.
                    let was_there = self.live.remove(seq).is_some() || self.ever_removed.contains(seq);
                    assert!(was_there, "dropped what was not there: {seq}");
                }
                self.told += done.dropped.len() as u64;
                assert_eq!(self.outbox.dropped_total(), self.told);
                assert_eq!(self.outbox.live(), self.live.len());
                assert!(self.outbox.bytes() <= LIMITS.max_bytes);
            }
            Op::Remove(index) => {
                if !self.live.is_empty() {
                    let seq = *self.live.keys().nth(index.index(self.live.len())).unwrap();
                    self.outbox.remove(seq).unwrap();
                    self.live.remove(&seq);
                    self.removed.insert(seq);
                    self.ever_removed.insert(seq);
                }
            }
            Op::Sync => {
                self.outbox.sync().unwrap();
                assert!(!self.outbox.dirty());
                self.removed.clear();
                self.live.values_mut().for_each(|synced| *synced = true);
            }
            Op::Restart => self.restart(),
            Op::PowerCut { lost, zeroed, undelete } => self.power_cut(lost, zeroed, undelete),
        }
        self.note_deleted(before);
    }

    /// A new process finds everything, synced or not.
    fn restart(&mut self) {
        let untold = self.outbox.dropped_total() - self.told;
        let found = self.reopen();
        let missing: Vec<Seq> = self.live.keys().filter(|seq| !found.contains(seq)).copied().collect();
        assert!(missing.len() as u64 <= untold, "lost: {missing:?}");
        assert!(
            found.iter().all(|seq| self.live.contains_key(seq)),
            "removed entries came back"
        );
        self.agree_on(&found);
    }

    /// What is certain is there; of the rest a beginning; nothing else.
    fn power_cut(&mut self, lost: prop::sample::Index, zeroed: bool, undelete: bool) {
        let untold = self.outbox.dropped_total() - self.told;
        let certain = self.outbox.certain_bytes();
        if let Some(path) = self.paths().pop() {
            let bytes = fs::read(&path).unwrap();
            let certain = usize::try_from(certain).unwrap();
            let left = certain + lost.index(bytes.len() - certain + 1);
            let mut after = bytes[..left].to_vec();
            if zeroed {
                after.resize(bytes.len(), 0);
            }
            fs::write(&path, &after).unwrap();
        }
        if let Some(link) = self.deleted.take().filter(|_| undelete) {
            fs::copy(&link, self.dir.path().join(link.file_name().unwrap())).unwrap();
        }
        let found = self.reopen();
        let missing = self
            .live
            .iter()
            .filter(|(seq, synced)| **synced && !found.contains(seq))
            .count() as u64;
        assert!(missing <= untold, "synced entries are lost");
        for seq in &found {
            assert!(
                self.live.contains_key(seq) || self.removed.contains(seq),
                "{seq} came back"
            );
        }
        if untold == 0 {
            let unsynced = self
                .live
                .iter()
                .filter(|(_, synced)| !**synced)
                .map(|(seq, _)| found.contains(seq));
            assert!(unsynced.is_sorted_by(|a, b| a >= b), "a hole in what was not synced");
        }
        self.agree_on(&found);
        self.removed.clear();
    }

    /// Opens it again; every payload is the one appended, in order, and the count of dropped entries is kept.
    fn reopen(&mut self) -> BTreeSet<Seq> {
        let dropped = self.outbox.dropped_total();
        let (outbox, recovered) = Outbox::open(self.dir.path(), LIMITS).unwrap();
        self.outbox = outbox;
        assert_eq!(recovered.dropped_total, dropped);
        assert!(recovered.records.is_sorted());
        for (seq, payload) in &recovered.records {
            assert_eq!(self.ever.get(seq), Some(payload));
        }
        recovered.records.into_iter().map(|(seq, _)| seq).collect()
    }

    fn agree_on(&mut self, found: &BTreeSet<Seq>) {
        assert_eq!(self.outbox.live(), found.len());
        self.told = self.outbox.dropped_total();
        self.live = found.iter().map(|seq| (*seq, true)).collect();
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    }

    fn link_files(&mut self) -> Vec<(u64, PathBuf)> {
        let links = tempfile::tempdir_in(self.links.path()).unwrap().keep();
        let link = |path: PathBuf| {
            let link = links.join(path.file_name().unwrap());
            fs::hard_link(&path, &link).unwrap();
            (fs::metadata(&link).unwrap().ino(), link)
        };
        self.paths().into_iter().map(link).collect()
    }

    /// Which file went in this operation and may be back after a power cut: the last one; a sync makes it certain.
    fn note_deleted(&mut self, before: Vec<(u64, PathBuf)>) {
        let there: BTreeSet<u64> = self
            .paths()
            .iter()
            .map(|path| fs::metadata(path).unwrap().ino())
            .collect();
        match before.into_iter().rfind(|(inode, _)| !there.contains(inode)) {
            Some((_, link)) => self.deleted = Some(link),
            None if !self.outbox.dirty() => self.deleted = None,
            None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_appends_removals_syncs_restarts_and_power_cuts_keeps_the_promises(
        ops in proptest::collection::vec(op(), 1..150)
    ) {
        let mut run = Run::new();
        for op in ops {
            run.step(op);
        }
    }
}
