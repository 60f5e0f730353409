//! The device's disk: the state file, written whole or not at all, and the outbox, whose latest records a power cut may
//! take.

use std::collections::BTreeMap;
use std::rc::Rc;

use iotdm::agent::{Durable, OweId};
use serde_json::Value;

use crate::random::Random;

/// How long an outbox record may wait for the disk, in milliseconds.
const SYNC_EVERY: u64 = 1000;

#[derive(Debug, Clone)]
enum Change {
    Append(OweId, Record),
    Remove(OweId),
}

/// What is owed, and the generation of the state that it came with, 0 without one.
#[derive(Debug, Clone)]
struct Record {
    bytes: Vec<u8>,
    generation: u64,
}

/// What it does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refuses {
    #[default]
    Nothing,
    /// The state file; there is room for a record yet.
    State,
    Everything,
}

/// What is on it.
#[derive(Debug, Default)]
pub struct Disk {
    refuses: Refuses,
    /// The state file. It is made into bytes when somebody reads it.
    pub durable: Rc<Durable>,
    /// How often it was written.
    generation: u64,
    /// The agent is a newer one.
    newer: bool,
    synced: BTreeMap<OweId, Record>,
    /// Written by the process, with the time; not on the medium yet.
    unsynced: Vec<(u64, Change)>,
    /// Removals that the full disk refused; the process makes up for them.
    removals: Vec<OweId>,
}

impl Disk {
    pub fn new() -> Self {
        Disk::default()
    }

    /// The outbox as the process sees it.
    fn outbox(&self) -> BTreeMap<OweId, Record> {
        let mut outbox = self.synced.clone();
        for (_, change) in &self.unsynced {
            apply(&mut outbox, change);
        }
        outbox
    }

    pub fn holds(&self, id: OweId) -> bool {
        let last = self.unsynced.iter().rev().find_map(|(_, change)| match change {
            Change::Append(of, _) if *of == id => Some(true),
            Change::Remove(of) if *of == id => Some(false),
            _ => None,
        });
        last.unwrap_or_else(|| self.synced.contains_key(&id))
    }

    /// Whether the record of this id is there and has these words in it. After a power cut that forgot a removal, an id may
    /// be an older record's again.
    pub fn holds_with(&self, id: OweId, words: &str) -> bool {
        let last = self.unsynced.iter().rev().find_map(|(_, change)| match change {
            Change::Append(of, record) if *of == id => Some(Some(record)),
            Change::Remove(of) if *of == id => Some(None),
            _ => None,
        });
        let record = last.unwrap_or_else(|| self.synced.get(&id));
        record.is_some_and(|record| String::from_utf8_lossy(&record.bytes).contains(words))
    }

    pub fn outbox_is_empty(&self) -> bool {
        self.outbox().is_empty()
    }

    /// False when the disk refuses. A record that is there already stays as it is, and must be the same.
    /// `commits`: a state follows, and without it the record does not count.
    pub fn append(&mut self, now: u64, id: OweId, bytes: &[u8], commits: bool) -> bool {
        if self.holds(id) {
            assert_eq!(self.outbox()[&id].bytes, bytes, "the record on the disk is another one");
            return true;
        }
        if self.refuses == Refuses::Everything {
            return false;
        }
        let record = Record {
            bytes: bytes.to_vec(),
            generation: if commits { self.generation + 1 } else { 0 },
        };
        self.unsynced.push((now, Change::Append(id, record)));
        true
    }

    pub fn remove(&mut self, now: u64, id: OweId) {
        if self.refuses == Refuses::Everything {
            self.removals.push(id);
        } else if self.holds(id) {
            self.unsynced.push((now, Change::Remove(id)));
        }
    }

    /// From now on it refuses everything, or takes it again.
    pub fn refuses(&mut self, now: u64, what: Refuses) {
        self.refuses = what;
        if what != Refuses::Everything {
            for id in std::mem::take(&mut self.removals) {
                self.remove(now, id);
            }
        }
    }

    /// The process is gone: what it wanted removed comes back.
    pub fn process_died(&mut self) {
        self.removals.clear();
    }

    /// Everything owed so far, and then the state. False when the disk refuses.
    pub fn commit(&mut self, durable: &Durable) -> bool {
        if self.refuses != Refuses::Nothing {
            return false;
        }
        self.sync();
        let newer = |durable: &Durable| durable.extra.contains_key(NEWER);
        assert!(
            !newer(&self.durable) || newer(durable),
            "what a newer agent wrote is gone"
        );
        self.durable = Rc::new(durable.clone());
        self.generation += 1;
        true
    }

    pub fn sync(&mut self) {
        for (_, change) in std::mem::take(&mut self.unsynced) {
            apply(&mut self.synced, &change);
        }
    }

    /// Takes some of the latest changes away. Returns the records that are gone.
    pub fn power_cut(&mut self, now: u64, random: &mut Random) -> Vec<OweId> {
        let before = self.outbox();
        let old = self.unsynced.iter().filter(|(at, _)| at + SYNC_EVERY <= now).count();
        let kept = random.between(old as u64, self.unsynced.len() as u64) as usize;
        self.unsynced.truncate(kept);
        self.sync();
        before.into_keys().filter(|id| !self.synced.contains_key(id)).collect()
    }

    pub fn is_full(&self) -> bool {
        self.refuses == Refuses::Everything
    }

    /// What an agent finds that starts, and whether an older one finds what a newer one has written.
    pub fn read(&mut self, now: u64, newer: bool) -> (Durable, Vec<(OweId, Vec<u8>)>, bool) {
        let state = self.durable.to_json();
        let mut durable = Durable::from_json(&state).expect("what was written can be read");
        assert_eq!(durable, *self.durable, "what was written is what is read");
        if std::mem::replace(&mut self.newer, newer) && *state != *b"{}" {
            durable = Durable::from_json(&more(&state)).expect("what a newer one wrote can be read");
            self.durable = Rc::new(durable.clone());
        }
        let older = !newer && durable.extra.contains_key(NEWER);
        let mut owed = Vec::new();
        for (id, record) in self.outbox() {
            if record.generation <= self.generation {
                owed.push((id, record.bytes));
            } else {
                // gone for good before a state of its generation comes
                self.unsynced.push((now, Change::Remove(id)));
            }
        }
        (durable, owed, older)
    }
}

/// The member that only a newer agent knows.
const NEWER: &str = "seen_by_a_newer_agent";

/// What a newer agent makes of a state: more members, everywhere.
fn more(state: &[u8]) -> Vec<u8> {
    let mut state: Value = serde_json::from_slice(state).expect("a state");
    state[NEWER] = true.into();
    for place in [
        "/firmware",
        "/written",
        "/exclusive/update",
        "/exclusive/update/reboot",
        "/exclusive/reboot",
        "/exclusive/reset",
    ] {
        if let Some(object) = state.pointer_mut(place).and_then(Value::as_object_mut) {
            object.insert(NEWER.to_owned(), true.into());
        }
    }
    for list in ["/observed", "/handled", "/others"] {
        for item in state
            .pointer_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            item[NEWER] = true.into();
        }
    }
    serde_json::to_vec(&state).expect("it was read")
}

fn apply(outbox: &mut BTreeMap<OweId, Record>, change: &Change) {
    match change {
        Change::Append(id, record) => drop(outbox.insert(*id, record.clone())),
        Change::Remove(id) => drop(outbox.remove(id)),
    }
}
