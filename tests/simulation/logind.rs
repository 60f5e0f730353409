//! The host below the agent: logind, which accepts or refuses, waits for delay locks, calls off, or does nothing; and
//! the power.
//!
//! What it does to a reboot that it accepted is done within 90 seconds, or, now and then, after more than 3 minutes.

use iotdm::agent::{Event, OpId, RebootOutcome};
use iotdm::protocol::Rc;

use crate::counts::Thing;
use crate::faults::Fault;
use crate::world::{Happening, World, note};

/// logind in this boot.
#[derive(Debug, Default)]
pub struct Logind {
    pub going: Option<Going>,
}

/// A reboot that logind has accepted.
#[derive(Debug)]
pub struct Going {
    pub how: How,
    /// The agent asked for it (or else somebody else did).
    pub by_agent: bool,
    /// For an update.
    pub for_update: bool,
    /// When it was accepted.
    pub since: u64,
    /// The requests that it was asked for, by their ids.
    pub requests: Vec<String>,
    /// The agent has its answer, and the delay lock.
    pub lock_is_the_daemons: bool,
    /// That answer was yes.
    pub agent_knows: bool,
    stopping: bool,
}

/// What becomes of a reboot that logind has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    InTime,
    Late,
    CalledOff,
}

/// What logind does with a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    Goes(How),
    Refuses,
    Nothing,
}

impl World {
    /// The agent's request has reached logind.
    pub fn logind_is_asked(&mut self, run: u64, op: OpId) {
        if self.device.process.as_ref().is_none_or(|process| process.run != run) {
            return;
        }
        if self.random.one_in(self.plan.disk_fills_then) {
            self.fault(Fault::DiskFull);
        }
        let requests = self.requests_of_reboot();
        if let Some(going) = &mut self.device.logind.going {
            self.counts.add(Thing::InProgress);
            going.requests.extend(requests);
            return self.logind_replies(run, op, RebootOutcome::Accepted);
        }
        let does = match self.random.below(20) {
            _ if self.quiet || self.plan.logind_is_good => Does::Goes(How::InTime),
            0 | 1 => Does::Refuses,
            2 => Does::Nothing,
            3 => Does::Goes(How::CalledOff),
            4 => Does::Goes(How::Late),
            _ => Does::Goes(How::InTime),
        };
        note!(self, "logind: {does:?}");
        match does {
            Does::Refuses => {
                self.counts.add(Thing::Refused);
                let rc = self.random.pick(&[Rc::INTERNAL, Rc::NOT_IMPLEMENTED]);
                let message = "refused by logind".to_owned();
                return self.logind_replies(run, op, RebootOutcome::Refused { rc, message });
            }
            Does::Nothing => {}
            Does::Goes(how) => self.logind_accepts(how, true),
        }
        let unknown = !self.quiet && self.random.one_in(10);
        if unknown {
            self.counts.add(Thing::Unknown);
        }
        self.logind_replies(
            run,
            op,
            if unknown {
                RebootOutcome::Unknown
            } else {
                RebootOutcome::Accepted
            },
        );
    }

    fn logind_replies(&mut self, run: u64, op: OpId, outcome: RebootOutcome) {
        let at = self.now + self.random.skewed(1, 4000);
        self.at(at, Happening::LogindAnswers { run, op, outcome });
    }

    /// A reboot begins; delay locks hold it up for a while.
    pub fn logind_accepts(&mut self, how: How, by_agent: bool) {
        let boot = self.device.boot;
        let requests = if by_agent {
            self.requests_of_reboot()
        } else {
            Vec::new()
        };
        self.device.logind.going = Some(Going {
            how,
            by_agent,
            for_update: self.device.disk.durable.update().is_some(),
            since: self.now,
            requests,
            lock_is_the_daemons: false,
            agent_knows: false,
            stopping: false,
        });
        match how {
            How::InTime => {
                let delay = self.random.pick(&[5000, 30_000]);
                self.at(self.now + delay, Happening::LogindGoes { boot });
            }
            How::Late => {
                let delay = self.random.between(200_000, 400_000);
                self.at(self.now + delay, Happening::LogindGoes { boot });
            }
            How::CalledOff => {
                let delay = self.random.skewed(100, 170_000);
                self.at(self.now + delay, Happening::LogindCallsOff { boot });
            }
        }
        self.agent_handles(Event::PreparingForShutdown(true), None);
    }

    /// The delay lock is let go of: by the agent (`orderly`), or because its process is gone.
    pub fn delay_lock_goes(&mut self, orderly: bool) {
        let has_lock = |logind: &Logind| logind.going.as_ref().is_some_and(|going| going.lock_is_the_daemons);
        if orderly {
            if !has_lock(&self.device.logind) {
                return;
            }
            self.check_release();
        }
        let Some(going) = &mut self.device.logind.going else {
            return;
        };
        going.lock_is_the_daemons = false;
        going.agent_knows = false;
        if going.by_agent && going.how == How::InTime {
            let boot = self.device.boot;
            self.logind_goes(boot);
        }
    }

    pub fn logind_calls_off(&mut self, boot: u32) {
        if boot == self.device.boot && self.device.up && self.device.logind.going.take().is_some() {
            self.counts.add(Thing::CalledOff);
            note!(self, "logind calls the reboot off");
            self.agent_handles(Event::PreparingForShutdown(false), None);
            // An agent that is not there, or dies of it, does not know; one whose disk refuses may forget it again.
            if self.device.process.is_some() && !self.agent_is_unsaved() {
                self.truth.accepted_in = None;
            }
        }
    }

    /// systemd takes the host down.
    pub fn logind_goes(&mut self, boot: u32) {
        let up = boot == self.device.boot && self.device.up;
        let Some(going) = self.device.logind.going.as_mut().filter(|going| up && !going.stopping) else {
            return;
        };
        going.stopping = true;
        note!(self, "the host goes down");
        let takes = self.random.skewed(200, 60_000);
        let stopped = self.random.between(0, takes);
        self.at(self.now + stopped, Happening::AgentIsStopped { boot });
        self.at(self.now + takes, Happening::HostIsDown { boot });
    }

    pub fn agent_is_stopped(&mut self, boot: u32) {
        if boot == self.device.boot && self.device.up {
            self.device.stopping = true;
            if self.device.process.take().is_some() {
                note!(self, "systemd stops the agent");
                self.client_dies(crate::broker::Who::Agent, true);
            }
        }
    }

    pub fn host_is_down(&mut self, boot: u32) {
        if boot != self.device.boot || !self.device.up {
            return;
        }
        note!(self, "the host is down");
        self.agent_is_stopped(boot);
        self.device.disk.sync();
        self.host_rebooted();
        self.rauc_ends();
        self.device.up = false;
        let takes = self.random.skewed(4000, 60_000);
        self.at(self.now + takes, Happening::HostIsUp);
    }

    /// Everything that is not on the disk is gone.
    pub fn power_is_cut(&mut self) {
        if !self.device.up {
            return;
        }
        note!(self, "the power is cut");
        self.counts.add(Thing::PowerCut);
        self.boot_is_short();
        self.rauc_ends();
        for id in self.device.disk.power_cut(self.now, &mut self.random) {
            self.counts.add(Thing::OutboxCut);
            self.truth.owed.remove(&id);
        }
        if self.device.process.take().is_some() {
            self.client_dies(crate::broker::Who::Agent, false);
        }
        self.process_died();
        self.device.up = false;
        let takes = self.random.skewed(4000, 60_000);
        self.at(self.now + takes, Happening::HostIsUp);
    }

    pub fn host_is_up(&mut self) {
        let clock = !self.random.one_in(4);
        self.device.boots(self.now, clock);
        note!(self, "boot {} begins", self.device.boot);
        self.host_boots();
        if self.wipe_begins() {
            return;
        }
        let boot = self.device.boot;
        let at = self.now + self.random.skewed(3000, 30_000);
        self.at(at, Happening::AgentStarts { boot });
    }
}
