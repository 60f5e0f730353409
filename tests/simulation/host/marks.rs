//! RAUC's marks on the boot loader: one after the other, refused while it installs, and now and then without anybody
//! knowing whether they stick.

use iotdm::agent::effect::Mark;
use iotdm::agent::{Event, OpId};

use super::{RESCUE, SLOTS};
use crate::counts::Thing;
use crate::world::{Happening, World, note};

impl World {
    /// The agent asks for marks, one after the other.
    pub fn marks_begin(&mut self, op: OpId, marks: Vec<(Mark, String)>) {
        self.check_marks(&marks);
        let run = self.agent_run();
        let boot = self.device.boot;
        let at = self.now + self.random.skewed(1, 10_000);
        self.at(
            at,
            Happening::MarkIsMade {
                boot,
                run,
                op,
                marks,
                index: 0,
            },
        );
    }

    pub fn mark_is_made(&mut self, boot: u32, run: u64, op: OpId, marks: Vec<(Mark, String)>, index: usize) {
        if !self.device.is_up_in(boot) {
            return;
        }
        let (mark, name) = &marks[index];
        let alone = !self.is_run(run);
        if alone && self.random.one_in(2) {
            // It had not reached RAUC when the agent died.
            return;
        }
        let slot = self.device.host.slot(name);
        let fails = !self.quiet && self.random.one_in(self.plan.mark_fails);
        let busy = self.device.host.rauc.installing.is_some();
        let away = *mark == Mark::Bad || (*mark == Mark::Active && slot != self.device.host.booted);
        let stubborn = !self.quiet && self.plan.stubborn && away;
        let refused = slot == RESCUE || busy || stubborn || fails && self.random.one_in(2);
        let applied = !refused;
        if applied {
            note!(self, "{} is marked {mark:?}", SLOTS[slot]);
            let host = &mut self.device.host;
            let boot_loader = &mut host.boot_loader;
            match mark {
                Mark::Good => {
                    boot_loader.mark(slot, true);
                    host.rauc.slots[slot].image.has_lived();
                }
                Mark::Bad => boot_loader.mark(slot, false),
                Mark::Active => boot_loader.activate(slot),
            }
        }
        if alone {
            return;
        }
        let at = self.now + self.random.skewed(1, 3000);
        if fails || !applied {
            self.counts.add(match applied {
                true => Thing::MarkUnknown,
                false => Thing::MarkFailed,
            });
            let result = Err("it does not stick".to_owned());
            self.at(at, Happening::Marked { run, op, result });
        } else if index + 1 < marks.len() {
            self.at(
                at,
                Happening::MarkIsMade {
                    boot,
                    run,
                    op,
                    marks,
                    index: index + 1,
                },
            );
        } else {
            self.at(
                at,
                Happening::Marked {
                    run,
                    op,
                    result: Ok(()),
                },
            );
        }
    }

    pub fn marked(&mut self, run: u64, op: OpId, result: Result<(), String>) {
        if self.is_run(run) {
            self.agent_handles(Event::Marked { op, result }, None);
        }
    }
}
