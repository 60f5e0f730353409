//! A boot's health, and the fall-back outside the agent, which leaves a slot on trial that nobody has decided about.

use iotdm::agent::effect::{Health, Marker};
use iotdm::agent::{Event, OpId, Verdict};

use super::{Content, RESCUE, SLOTS};
use crate::counts::Thing;
use crate::logind::How;
use crate::world::{Happening, World, note};

impl World {
    /// A boot is not healthy at once, and an image that is not good never is for long.
    pub fn health_begins(&mut self) {
        self.device.host.health = Verdict::Pending("app.service is activating".to_owned());
        let boot = self.device.boot;
        let mut at = self.now + self.random.skewed(1000, if self.quiet { 20_000 } else { 180_000 });
        let bad = || Verdict::Bad("app.service has failed".to_owned());
        let flaps = if self.quiet { 0 } else { self.random.pick(&[0, 0, 1, 3]) };
        for _ in 0..flaps {
            let verdict = if self.random.one_in(2) { bad() } else { Verdict::Good };
            self.at(at, Happening::HealthChanges { boot, verdict });
            // Nobody may take a failing unit for a healthy one because it runs now and then.
            at += self.random.between(100, 4000);
            self.at(at, Happening::HealthChanges { boot, verdict: bad() });
            at += self.random.pick(&[500, 3000, 30_000]);
        }
        let last = match self.device.host.image().content {
            Content::UnitFails => bad(),
            _ => Verdict::Good,
        };
        self.at(at, Happening::HealthChanges { boot, verdict: last });
    }

    pub fn health_changes(&mut self, boot: u32, verdict: Verdict) {
        if !self.device.is_up_in(boot) {
            return;
        }
        note!(self, "health: {verdict:?}");
        self.counts.add(Thing::HealthChanged);
        self.device.host.health = verdict;
        self.health_is_to_be_told();
    }

    /// The agent watches the health of this boot, or no longer.
    pub fn watch_begins(&mut self, watch: Option<(OpId, Health)>) {
        if let Some(process) = &mut self.device.process {
            process.watch = watch.map(|(op, _)| op);
        }
        self.truth.told_health = None;
        self.health_is_to_be_told();
    }

    fn health_is_to_be_told(&mut self) {
        if let Some(process) = &self.device.process
            && let Some(op) = process.watch
        {
            let run = process.run;
            let at = self.now + self.random.skewed(1, 1000);
            self.at(at, Happening::HealthIsTold { run, op });
        }
    }

    pub fn health_is_told(&mut self, run: u64, op: OpId) {
        let watched = self.device.process.as_ref().and_then(|process| process.watch);
        if self.is_run(run) && watched == Some(op) {
            let verdict = self.device.host.health.clone();
            self.health_was_told(&verdict);
            self.agent_handles(Event::Health { op, verdict }, None);
        }
    }

    /// A kernel that panics after a while: everything is gone, as in a power cut.
    pub fn image_crashes(&mut self, boot: u32) {
        if self.device.is_up_in(boot) && self.device.disk.durable.update().is_some() {
            self.counts.add(Thing::TrialCrashed);
            self.power_is_cut();
        }
    }

    /// The agent writes the marker, or removes it with whatever the fall-back has left.
    pub fn marker_is_written(&mut self, marker: Option<Marker>) {
        if marker.is_none() {
            self.device.host.note = None;
        } else if self.device.disk.is_full() {
            self.counts.add(Thing::MarkerRefused);
            return;
        }
        self.device.host.marker = marker;
        self.fall_back_watches();
    }

    /// The timer of the fall-back runs as long as there is a marker.
    pub fn fall_back_watches(&mut self) {
        let host = &self.device.host;
        if let Some(marker) = host.marker.as_ref().filter(|marker| marker.slot == SLOTS[host.booted]) {
            let deadline = u64::try_from(marker.deadline.as_millis()).expect("not that long");
            let wait = deadline.saturating_sub(self.device.uptime(self.now));
            let at = self.now + wait + 1000 + self.random.below(60_000);
            let boot = self.device.boot;
            self.at(at, Happening::FallBackActs { boot });
        }
    }

    /// The fall-back outside the agent leaves the slot.
    pub fn fall_back_acts(&mut self, boot: u32) {
        if !self.device.is_up_in(boot) || self.device.stopping {
            return;
        }
        let uptime = self.device.uptime(self.now);
        let host = &mut self.device.host;
        let booted = host.booted;
        let over = |marker: &Marker| marker.slot == SLOTS[booted] && uptime > marker.deadline.as_millis() as u64;
        if !host.marker.as_ref().is_some_and(over) || booted == RESCUE {
            return;
        }
        if !self.quiet && self.random.one_in(self.plan.mark_fails) {
            self.at(self.now + 60_000, Happening::FallBackActs { boot });
            return;
        }
        note!(self, "the fall-back outside the agent leaves {}", SLOTS[booted]);
        self.counts.add(Thing::OuterFallBack);
        let host = &mut self.device.host;
        host.boot_loader.activate(1 - booted);
        host.boot_loader.mark(booted, false);
        host.note = Some("the slot was not found good in time".to_owned());
        if self.device.logind.going.is_none() {
            self.logind_accepts(How::InTime, false);
        }
    }
}
