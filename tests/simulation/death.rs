//! Where the agent, or the whole host, dies: at every point of a step, and most where the host changes.

use iotdm::agent::{After, Event, Step};

use crate::broker::Who;
use crate::counts::Thing;
use crate::world::{Happening, World, note};

/// Where in a step the process dies.
#[derive(Debug, Clone, Copy)]
pub enum Point {
    Owe,
    Commit,
    Adopt,
    Effect,
}

/// Whether the host changes with this step.
pub fn is_critical(event: &Event, step: &Step) -> bool {
    let changes = matches!(
        event,
        Event::RebootEnded { .. }
            | Event::Started
            | Event::Downloaded { .. }
            | Event::Surveyed { .. }
            | Event::Installed { .. }
            | Event::Marked { .. }
            | Event::ResetSurveyed { .. }
            | Event::ResetEnded { .. }
            | Event::ResetReported { .. }
    );
    let begins = |after: &After| {
        matches!(
            after,
            After::Reboot(_) | After::Reset(_) | After::Install { .. } | After::Mark(..)
        )
    };
    changes || step.after.iter().any(begins)
}

impl World {
    /// Whether the process, or the whole host, dies here.
    pub fn dies(&mut self, point: Point, critical: bool) -> bool {
        let odds = if critical {
            self.plan.death_if_critical
        } else {
            self.plan.death
        };
        if self.quiet || !self.random.one_in(odds) {
            return false;
        }
        let power = self.random.one_in(3);
        self.counts.add(match (point, power) {
            (Point::Owe, false) => Thing::KilledBeforeOwe,
            (Point::Commit, false) => Thing::KilledBeforeCommit,
            (Point::Adopt, false) => Thing::KilledBeforeAdopt,
            (Point::Effect, false) => Thing::KilledBetweenEffects,
            (Point::Owe, true) => Thing::CutBeforeOwe,
            (Point::Commit, true) => Thing::CutBeforeCommit,
            (Point::Adopt, true) => Thing::CutBeforeAdopt,
            (Point::Effect, true) => Thing::CutBetweenEffects,
        });
        note!(self, "  dies before: {point:?}");
        if power {
            self.power_is_cut();
        } else {
            self.agent_is_killed();
        }
        true
    }

    /// SIGKILL; systemd starts it again.
    pub fn agent_is_killed(&mut self) {
        if self.device.process.take().is_none() {
            return;
        }
        note!(self, "the agent is killed");
        self.client_dies(Who::Agent, true);
        self.delay_lock_goes(false);
        let delay = if self.random.one_in(6) {
            self.random.between(60_000, 240_000)
        } else {
            self.random.skewed(100, 20_000)
        };
        let boot = self.device.boot;
        self.at(self.now + delay, Happening::AgentStarts { boot });
    }
}
