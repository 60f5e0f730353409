//! The host below the agent as far as the factory reset goes: the unit that systemd starts, the wish that it leaves for
//! the next boot, the wipe in that boot, and the report. Or another unit, which leaves nothing.

use std::time::Duration;

use iotdm::agent::{Event, OpId, ResetOutcome, ResetReady, ResetRefused, ResetReport};
use iotdm::protocol::Rc;

use crate::counts::Thing;
use crate::faults::Fault;
use crate::random::Random;
use crate::world::{Happening, World, note};

/// What a reset has left on the disk, and what it does in this boot.
#[derive(Debug)]
pub struct Reset {
    /// The unit is our own: it leaves a wish, and then a report.
    pub ours: bool,
    pub wish: Option<Wish>,
    pub report: Option<Report>,
    /// systemd takes the host down for it.
    pub going: bool,
    /// That is because the agent asked for it.
    pub by_agent: bool,
}

/// The next boot is to wipe.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    pub asked_in: u32,
    /// The agent asked for it (or else somebody else did).
    pub by_agent: bool,
}

/// What the wipe has left.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    pub boot: u32,
    pub asked_in: u32,
    pub complete: bool,
}

/// What systemd does with a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    Goes,
    Late,
    /// The host goes down before the wish is on the disk.
    WithoutWish,
    Refuses,
    /// The unit fails after it has left the wish.
    Fails,
    Nothing,
}

impl Reset {
    pub fn new(random: &mut Random) -> Self {
        Reset {
            ours: !random.one_in(6),
            wish: None,
            report: None,
            going: false,
            by_agent: false,
        }
    }
}

/// How a report is found in what the agent tells of it.
pub fn mark(boot: u32) -> String {
    format!("wiped in boot {boot};")
}

impl Report {
    fn told(self) -> ResetReport {
        let failed = "/data/x: input/output error".to_owned();
        ResetReport {
            id: format!("boot-{}", self.boot),
            asked_in: format!("boot-{}", self.asked_in),
            failed: (!self.complete).then_some(failed),
            text: mark(self.boot),
        }
    }
}

impl World {
    pub fn reset_survey_begins(&mut self, op: OpId) {
        let run = self.agent_run();
        let at = self.now + self.random.skewed(1, 20_000);
        self.at(at, Happening::ResetIsSurveyed { run, op });
    }

    pub fn reset_is_surveyed(&mut self, run: u64, op: OpId) {
        let refuse = |rc, message: &str| {
            Err(ResetRefused {
                rc,
                message: message.to_owned(),
            })
        };
        let goes_down = self.device.logind.going.is_some() || self.device.host.reset.going;
        let found = if !self.quiet && self.random.one_in(self.plan.survey_fails) {
            self.counts.add(Thing::ResetImpossible);
            let rc = self.random.pick(&[Rc::INTERNAL, Rc::NOT_IMPLEMENTED]);
            refuse(rc, "the unit is masked")
        } else if goes_down || self.device.host.rauc.installing.is_some() {
            refuse(Rc::INTERNAL, "busy")
        } else {
            Ok(ResetReady {
                reports: self.device.host.reset.ours,
            })
        };
        if self.is_run(run) {
            self.agent_handles(Event::ResetSurveyed { op, found }, None);
        }
    }

    /// The agent goes on to ask systemd.
    pub fn reset_begins(&mut self, op: OpId) {
        self.check_reset();
        let run = self.agent_run();
        let at = self.now + self.random.skewed(1, 5000);
        self.at(at, Happening::SystemdIsAsked { run, op });
    }

    pub fn systemd_is_asked(&mut self, run: u64, op: OpId) {
        if !self.is_run(run) {
            return;
        }
        if self.random.one_in(self.plan.disk_fills_then) {
            self.fault(Fault::DiskFull);
        }
        let ours = self.device.host.reset.ours;
        let outcome = if self.device.host.reset.going {
            self.counts.add(Thing::ResetAskedAgain);
            self.device.host.reset.by_agent = true;
            ResetOutcome::Started
        } else if self.device.logind.going.is_some() || self.device.stopping {
            // Somebody else's reboot: where there is a report, it will tell.
            match ours {
                true => ResetOutcome::Started,
                false => ResetOutcome::Refused("the host goes down already".to_owned()),
            }
        } else {
            self.systemd_starts(ours)
        };
        let unknown = !self.quiet && outcome == ResetOutcome::Started && self.random.one_in(10);
        let outcome = if unknown {
            self.counts.add(Thing::ResetUnknown);
            ResetOutcome::Unknown
        } else {
            outcome
        };
        let at = self.now + self.random.skewed(1, 4000);
        self.at(at, Happening::SystemdAnswers { run, op, outcome });
    }

    /// The agent was restarted, and asks whether the unit is at work.
    pub fn reset_is_followed(&mut self, op: OpId, limit: Duration) {
        let run = self.agent_run();
        let limit = u64::try_from(limit.as_millis()).expect("not that long");
        let (outcome, wait) = match self.device.host.reset.going {
            true => (ResetOutcome::Started, self.random.skewed(1, 400_000)),
            false => (ResetOutcome::Unknown, self.random.skewed(1, 4000)),
        };
        let at = self.now + wait.min(limit.max(1));
        self.at(at, Happening::SystemdAnswers { run, op, outcome });
    }

    fn systemd_starts(&mut self, ours: bool) -> ResetOutcome {
        let does = match self.random.below(20) {
            _ if self.quiet || self.plan.logind_is_good => Does::Goes,
            0 | 1 => Does::Refuses,
            2 if ours => Does::Fails,
            3 => Does::Nothing,
            4 => Does::Late,
            5 if ours => Does::WithoutWish,
            _ => Does::Goes,
        };
        note!(self, "systemd: {does:?}");
        match does {
            Does::Refuses | Does::Fails => {
                self.counts.add(Thing::ResetRefused);
                if let Does::Fails = does {
                    self.leave_wish(true);
                }
                return ResetOutcome::Refused("the unit has failed".to_owned());
            }
            Does::Nothing => {}
            Does::Goes => self.reset_goes_in(true, ours, (3000, 30_000)),
            Does::Late => {
                self.counts.add(Thing::ResetLate);
                self.reset_goes_in(true, ours, (200_000, 400_000));
            }
            Does::WithoutWish => {
                self.counts.add(Thing::WishLost);
                self.reset_goes_in(true, false, (100, 3000));
            }
        }
        ResetOutcome::Started
    }

    /// The unit leaves the wish, and then the host reboots.
    fn reset_goes_in(&mut self, by_agent: bool, wish: bool, (low, high): (u64, u64)) {
        let boot = self.device.boot;
        self.device.host.reset.going = true;
        self.device.host.reset.by_agent = by_agent;
        if wish {
            let at = self.now + self.random.skewed(1, low.min(3000));
            self.at(at, Happening::WishIsLeft { boot, by_agent });
        }
        let at = self.now + self.random.between(low, high);
        self.at(at, Happening::ResetGoes { boot });
    }

    pub fn wish_is_left(&mut self, boot: u32, by_agent: bool) {
        if self.device.is_up_in(boot) {
            self.leave_wish(by_agent);
        }
    }

    fn leave_wish(&mut self, by_agent: bool) {
        note!(self, "the next boot is to wipe");
        let asked_in = self.device.boot;
        self.device.host.reset.wish = Some(Wish { asked_in, by_agent });
    }

    pub fn reset_goes(&mut self, boot: u32) {
        if !self.device.is_up_in(boot) || self.device.stopping {
            return;
        }
        note!(self, "the host goes down for the reset");
        let takes = self.random.skewed(200, 60_000);
        let stopped = self.random.between(0, takes);
        self.at(self.now + stopped, Happening::AgentIsStopped { boot });
        self.at(self.now + takes, Happening::HostIsDown { boot });
    }

    /// systemd's answer reaches the agent.
    pub fn systemd_answers(&mut self, run: u64, op: OpId, outcome: ResetOutcome) {
        if self.is_run(run) {
            self.agent_handles(Event::ResetEnded { op, outcome }, None);
        }
    }

    /// Somebody on the device starts the target.
    pub fn somebody_resets(&mut self) {
        let host = &self.device.host;
        let free = self.device.up && !self.device.stopping && !host.reset.going && host.reset.report.is_none();
        let busy = self.device.logind.going.is_some() || host.rauc.installing.is_some();
        if free && !busy && host.reset.ours && self.device.process.is_some() {
            self.counts.add(Thing::ResetByHand);
            self.reset_goes_in(false, true, (3000, 30_000));
        }
    }

    /// A boot begins. True when it wipes first, and starts the agent after that.
    pub fn wipe_begins(&mut self) -> bool {
        let boot = self.device.boot;
        self.device.host.reset.going = false;
        let Some(wish) = self.device.host.reset.wish else {
            return false;
        };
        if wish.by_agent && !self.quiet && self.random.one_in(self.plan.wipe_never_runs) {
            self.counts.add(Thing::WipeNeverRan);
            note!(self, "the wipe does not run");
            return false;
        }
        let takes = self.random.skewed(100, 120_000);
        if !self.quiet && self.random.one_in(self.plan.wipe_is_cut) {
            let at = self.now + self.random.below(takes);
            self.at(at, Happening::WipeIsCut { boot });
        }
        self.at(self.now + takes, Happening::WipeEnds { boot });
        true
    }

    pub fn wipe_is_cut(&mut self, boot: u32) {
        if self.device.is_up_in(boot) && self.device.host.reset.wish.is_some() {
            self.counts.add(Thing::WipeCut);
            self.power_is_cut();
        }
    }

    /// The report is on the disk, and then the wish is gone.
    pub fn wipe_ends(&mut self, boot: u32) {
        if !self.device.is_up_in(boot) || self.device.stopping {
            return;
        }
        let complete = self.quiet || !self.random.one_in(self.plan.wipe_fails);
        let wish = self.device.host.reset.wish.expect("it wipes because of it");
        let report = Report {
            boot,
            asked_in: wish.asked_in,
            complete,
        };
        note!(self, "the wipe ends: {report:?}");
        self.wiped(wish, report);
        if !self.quiet && self.random.one_in(8) {
            // The next boot does it once more: there is nothing left to wipe.
            self.counts.add(Thing::WipeCut);
            self.device.host.reset.report = Some(report);
            return self.power_is_cut();
        }
        self.device.host.reset.report = Some(report);
        self.device.host.reset.wish = None;
        let at = self.now + self.random.skewed(3000, 30_000);
        self.at(at, Happening::AgentStarts { boot });
    }

    pub fn report_is_wanted(&mut self, op: OpId) {
        let run = self.agent_run();
        let at = self.now + self.random.skewed(1, 2000);
        self.at(at, Happening::ReportIsRead { run, op });
    }

    pub fn report_is_read(&mut self, run: u64, op: OpId) {
        if !self.is_run(run) {
            return;
        }
        let reset = &mut self.device.host.reset;
        if let (Some(report), Some(wish)) = (reset.report, reset.wish)
            && report.asked_in == wish.asked_in
        {
            reset.wish = None;
        }
        let report = if !self.quiet && self.random.one_in(self.plan.report_fails) {
            self.counts.add(Thing::ReportRefused);
            Err("input/output error".to_owned())
        } else {
            Ok(self.device.host.reset.report.map(Report::told))
        };
        self.agent_handles(Event::ResetReported { op, report }, None);
    }

    /// The agent has told of the report.
    pub fn report_is_discarded(&mut self) {
        self.check_discard();
        self.device.host.reset.report = None;
    }

    /// The agent takes back what was left for the next boot.
    pub fn wish_is_withdrawn(&mut self) {
        if self.device.host.reset.wish.take().is_some() {
            self.counts.add(Thing::WishWithdrawn);
            note!(self, "the next boot is not to wipe");
        }
    }
}
