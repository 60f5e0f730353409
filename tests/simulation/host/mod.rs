//! The host below the agent as far as firmware goes: two slots, RAUC, the boot loader, the images, the health of a boot,
//! and the fall-back outside the agent.

mod bootloader;
mod images;
mod marks;
mod rauc;
pub mod reset;
mod trial;

use iotdm::agent::Verdict;
use iotdm::agent::effect::Marker;
use iotdm::agent::firmware::record::Phase;

use crate::counts::Thing;
use crate::random::Random;
use crate::world::{Happening, World, note};
pub use bootloader::BootLoader;
pub use images::{Content, Image, address};
pub use rauc::Rauc;

/// RAUC's names of the slots; the last is a system beside them that somebody boots by hand.
pub const SLOTS: [&str; 3] = ["rootfs.0", "rootfs.1", "rescue.0"];
/// The last of them.
pub const RESCUE: usize = 2;

/// What is on the disks, and what runs.
#[derive(Debug)]
pub struct Host {
    pub boot_loader: BootLoader,
    pub rauc: Rauc,
    /// The slot that runs.
    pub booted: usize,
    /// What every image there ever was is like, by the number in its address.
    pub images: Vec<Image>,
    /// The address of the image that is on the data partition, whole.
    pub file: Option<String>,
    /// The marker of a trial, for the fall-back outside the agent.
    pub marker: Option<Marker>,
    /// Why that has left a slot.
    pub note: Option<String>,
    /// How this boot really is.
    pub health: Verdict,
    pub reset: reset::Reset,
}

impl Host {
    pub fn new(random: &mut Random) -> Self {
        Host {
            boot_loader: BootLoader::new(),
            rauc: Rauc::new(random),
            booted: 0,
            images: Vec::new(),
            file: None,
            marker: None,
            note: None,
            health: Verdict::Good,
            reset: reset::Reset::new(random),
        }
    }

    /// What runs.
    pub fn image(&self) -> Image {
        match self.rauc.slots.get(self.booted) {
            Some(slot) => slot.image,
            None => Image::good(),
        }
    }

    /// By RAUC's name.
    pub fn slot(&self, name: &str) -> usize {
        if name == "booted" {
            return self.booted;
        }
        let found = SLOTS.iter().position(|slot| *slot == name);
        found.expect("the agent names a slot that RAUC has named")
    }
}

impl World {
    /// The kernel of a slot comes up: the boot loader has chosen it, or somebody at the console.
    pub fn host_boots(&mut self) {
        let by_hand =
            !self.quiet && self.device.disk.durable.update().is_some() && self.random.one_in(self.plan.rescue);
        let host = &mut self.device.host;
        if by_hand {
            self.counts.add(Thing::Rescue);
            host.booted = RESCUE;
        } else {
            let slots = &host.rauc.slots;
            let (slot, panics) = host.boot_loader.boot(|slot| slots[slot].image.starts());
            host.booted = slot;
            for _ in 0..panics {
                self.counts.add(Thing::Panic);
            }
        }
        note!(
            self,
            "{} boots: {:?}",
            SLOTS[self.device.host.booted],
            self.device.host.image()
        );
        self.health_begins();
        self.fall_back_watches();
        let boot = self.device.boot;
        let image = self.device.host.image();
        if image.content == Content::Crashes {
            let at = self.now + self.random.skewed(1000, 300_000);
            self.at(at, Happening::ImageCrashes { boot });
        }
        if !self.device.marks_good() {
            // Where the agent does not, the integrator does.
            self.at(self.now + 60_000, Happening::IntegratorMarks { boot });
        }
    }

    pub fn integrator_marks(&mut self, boot: u32) {
        let booted = self.device.host.booted;
        if self.device.is_up_in(boot) && booted != RESCUE {
            self.device.host.boot_loader.mark(booted, true);
        }
    }

    /// Whether the agent of this image starts, or goes on.
    pub fn has_agent(&self) -> bool {
        let durable = &self.device.disk.durable;
        let here = SLOTS[self.device.host.booted];
        let on_trial = durable
            .update()
            .is_some_and(|update| update.phase == Phase::Trial && update.to_slot == here);
        match self.device.host.image().content {
            Content::NoAgent => false,
            Content::AgentDies => !on_trial,
            _ => true,
        }
    }

    /// Whether the agent of this boot gets through to the broker.
    pub fn is_cut_off(&self) -> bool {
        // Who takes such an image for proven sends somebody with a cable.
        let on_trial = self.device.disk.durable.update().is_some();
        self.parted || (on_trial && self.device.host.image().content == Content::NoNetwork)
    }
}
