//! The host's journal and who reads it to the agent, and the units that fail and recover.
//!
//! The journal keeps everything. Whatever dies, reading goes on from the cursor that the agent has; a batch that it does
//! not take is offered again.

use std::collections::BTreeSet;
use std::time::Duration;

use iotdm::agent::Event;
use iotdm::agent::diagnostics::{DiagCommand, Entry, Rule, Settings};

use crate::counts::Thing;
use crate::device::START;
use crate::faults::Plan;
use crate::random::Random;
use crate::world::{Happening, World, note};

/// So many entries are offered at a time.
const BATCH: usize = 50;
/// The units whose failure has a code, which is 42 and the next ones.
pub const UNITS: [&str; 3] = ["u0.service", "u1.service", "u2.service"];
/// The code of entries that match, and how long it lasts.
const MATCHED: i64 = 50;
const LASTS: Duration = Duration::from_secs(600);

/// What happens to it.
#[derive(Debug, Clone, Copy)]
pub enum Doing {
    /// Programs log, and units fail and recover.
    Grows,
    /// The reader of this run offers what comes next.
    IsRead { run: u64 },
    /// systemd's signals reach the agent of this run.
    UnitsAreTold { run: u64 },
}

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    pub entries: Vec<Entry>,
    pub failed: BTreeSet<String>,
    /// The run whose reader waits for its next look.
    reading: Option<u64>,
    offered: u64,
    /// The last batch that was taken.
    pub taken: u64,
}

/// What the agent is to make of the journal; `None`: nothing.
pub fn settings(random: &mut Random, plan: &Plan) -> Option<Settings> {
    if !plan.diagnostics {
        return None;
    }
    let code = |(n, unit): (usize, &&str)| Rule::failed(42 + n as i64, unit);
    let units: Result<Vec<_>, _> = UNITS.iter().enumerate().map(code).collect();
    let mut rules = units.expect("good rules");
    rules.push(Rule::journal(MATCHED, Some("matches"), None, None, LASTS).expect("a good rule"));
    let settings = Settings::new(random.pick(&[2, 10, 30]), Vec::new(), rules);
    Some(settings.expect("good settings"))
}

impl World {
    pub fn journal_does(&mut self, doing: Doing) {
        match doing {
            Doing::Grows => self.journal_grows(),
            Doing::IsRead { run } => self.journal_is_read(run),
            Doing::UnitsAreTold { run } if self.is_run(run) => {
                let failed = self.device.journal.failed.clone();
                self.agent_handles(Event::FailedUnits(failed), None);
            }
            Doing::UnitsAreTold { .. } => {}
        }
    }

    /// The agent has started: whoever tells it begins.
    pub fn journal_is_opened(&mut self, run: u64) {
        if !self.plan.diagnostics {
            return;
        }
        self.device.journal.reading = None;
        self.read_later(run, 3000);
        self.tell_units_later(run);
    }

    fn read_later(&mut self, run: u64, slowest: u64) {
        if self.device.journal.reading != Some(run) {
            self.device.journal.reading = Some(run);
            let at = self.now + self.random.skewed(slowest / 4, slowest);
            self.at(at, Happening::Journal(Doing::IsRead { run }));
        }
    }

    fn tell_units_later(&mut self, run: u64) {
        let at = self.now + self.random.skewed(10, 5000);
        self.at(at, Happening::Journal(Doing::UnitsAreTold { run }));
    }

    fn journal_grows(&mut self) {
        if self.quiet {
            return;
        }
        if self.device.up {
            let count = self.random.pick(&[1, 1, 3, 20, 120]);
            for _ in 0..count {
                self.log();
            }
            if self.random.one_in(2) {
                let unit = self.random.pick(&UNITS).to_owned();
                let failed = &mut self.device.journal.failed;
                if !failed.remove(&unit) {
                    failed.insert(unit);
                    self.counts.add(Thing::UnitFailed);
                }
            }
            if self.random.one_in(8) {
                let code = 60 + self.random.below(4) as i64;
                let command = match self.random.one_in(3) {
                    true => DiagCommand::ClearErrors,
                    false => DiagCommand::AddError(code),
                };
                self.agent_is_commanded(|id| Event::Diag(id, command));
            }
            if let Some(run) = self.device.process.as_ref().map(|process| process.run) {
                self.read_later(run, 1000);
                self.tell_units_later(run);
            }
        }
        let at = self.now + self.random.skewed(1000, 240_000);
        self.at(at, Happening::Journal(Doing::Grows));
    }

    fn log(&mut self) {
        let n = self.device.journal.entries.len() as u64;
        let letters: String = (0..2).map(|_| char::from(b'a' + self.random.below(6) as u8)).collect();
        let matches = if self.random.one_in(40) { " matches" } else { "" };
        self.device.journal.entries.push(Entry {
            cursor: n.to_string(),
            boot_id: format!("boot-{}", self.device.boot),
            realtime_us: (START * 1000 + self.now) * 1000,
            priority: self.random.below(5) as u8,
            unit: Some(self.random.pick(&UNITS).to_owned()),
            message: format!("{letters} {n}{matches}"),
            ..Entry::default()
        });
    }

    fn journal_is_read(&mut self, run: u64) {
        if !self.is_run(run) || self.device.journal.reading != Some(run) {
            return;
        }
        self.device.journal.reading = None;
        let Some(process) = &self.device.process else { return };
        let next = (process.agent.journal_cursor()).map_or(0, |cursor| cursor.parse::<usize>().expect("ours") + 1);
        let journal = &mut self.device.journal;
        let end = journal.entries.len().min(next + BATCH);
        if next == end {
            return;
        }
        journal.offered += 1;
        let (batch, entries) = (journal.offered, journal.entries[next..end].to_vec());
        let cursor = (end - 1).to_string();
        note!(self, "entries {next} to {cursor} of the journal are offered");
        let gap = None;
        self.agent_handles(
            Event::Journal {
                batch,
                entries,
                cursor,
                gap,
            },
            None,
        );
        if !self.is_run(run) {
            return self.counts.add(Thing::BatchCutShort);
        }
        if self.device.journal.taken == batch {
            self.counts.add(Thing::BatchTaken);
            self.read_later(run, 1000);
        } else {
            self.counts.add(Thing::BatchRefused);
            let at = self.now + 5000;
            self.device.journal.reading = Some(run);
            self.at(at, Happening::Journal(Doing::IsRead { run }));
        }
    }
}
