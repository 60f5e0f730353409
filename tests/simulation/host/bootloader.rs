//! The boot loader: GRUB with RAUC's scheme. A slot with OK and a try left is booted, and its one try is used up by
//! that; only who marks it gives it another. When no slot is left, every try is given back.

/// Its variables. They survive everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLoader {
    /// The wanted slot first.
    order: [usize; 2],
    ok: [bool; 2],
    /// TRY: booted since it was last marked.
    tried: [bool; 2],
}

impl BootLoader {
    /// The first slot runs, and nobody has marked it in this boot; the other is empty.
    pub fn new() -> Self {
        BootLoader {
            order: [0, 1],
            ok: [true, false],
            tried: [true, false],
        }
    }

    /// Boots. `starts`: whether what is in a slot gets as far as systemd; otherwise it panics, and GRUB is asked again.
    /// Says how often that happened.
    pub fn boot(&mut self, starts: impl Fn(usize) -> bool) -> (usize, u32) {
        for panics in 0..6 {
            let slot = self.next();
            if !self.ok[slot] || self.tried[slot] {
                self.tried = [false; 2];
            }
            self.tried[slot] = true;
            if starts(slot) {
                return (slot, panics);
            }
        }
        panic!("the host does not boot any more: {self:?}");
    }

    /// Which slot is booted next, if it starts.
    pub fn next(&self) -> usize {
        let left = self.order.into_iter().find(|slot| self.ok[*slot] && !self.tried[*slot]);
        let good = self.order.into_iter().find(|slot| self.ok[*slot]);
        left.or(good).unwrap_or(0)
    }

    /// Which slot RAUC says is booted next: none, as long as every slot has used up its try.
    pub fn primary(&self) -> Option<usize> {
        self.order.into_iter().find(|slot| self.is_good(*slot))
    }

    /// What RAUC calls good.
    pub fn is_good(&self, slot: usize) -> bool {
        self.ok[slot] && !self.tried[slot]
    }

    pub fn mark(&mut self, slot: usize, good: bool) {
        self.ok[slot] = good;
        self.tried[slot] = false;
    }

    pub fn activate(&mut self, slot: usize) {
        self.mark(slot, true);
        self.order = [slot, 1 - slot];
    }
}
