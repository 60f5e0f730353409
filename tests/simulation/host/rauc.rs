//! RAUC: it writes the other slot, marks, and tells of both. What it was asked to install goes on when the agent dies;
//! it may die itself, and a power cut takes it with it. When it is done, that is on the disk before the boot loader is
//! told; and when that is told, its last handler may still fail.

use std::collections::BTreeMap;

use iotdm::agent::effect::{Image as Wanted, Purpose};
use iotdm::agent::event::Slot as Told;
use iotdm::agent::{Event, InstallEnd, OpId, Survey};
use iotdm::protocol::firmware::UpdateStatus;

use super::{Content, Image, RESCUE, SLOTS};
use crate::counts::Thing;
use crate::faults::Fault;
use crate::random::Random;
use crate::world::{Happening, World, note};

/// A slot, as its status file has it.
#[derive(Debug)]
pub struct Slot {
    pub image: Image,
    pub complete: bool,
    /// How often it was written to its end.
    pub count: u32,
    pub transaction: Option<String>,
}

/// An installation.
#[derive(Debug)]
pub struct Installation {
    number: u64,
    to: usize,
    image: Image,
    pub transaction: String,
    /// Which operation of which run of the agent waits for its end.
    waiter: Option<(u64, OpId)>,
}

/// RAUC.
#[derive(Debug)]
pub struct Rauc {
    pub slots: [Slot; 2],
    /// It keeps the transaction with the slot (1.10 and later).
    knows_transactions: bool,
    /// The boot loader says which slot it boots next.
    pub names_next: bool,
    pub installing: Option<Installation>,
    /// Whether the newest installation has written its slot to its end.
    pub whole: bool,
    /// Whether the boot loader was told of it.
    pub activated: bool,
    /// How often it was asked for each transaction.
    pub asked_for: BTreeMap<String, u32>,
}

impl Rauc {
    pub fn new(random: &mut Random) -> Self {
        let slot = || Slot {
            image: Image::good(),
            complete: true,
            count: 0,
            transaction: None,
        };
        Rauc {
            slots: [slot(), slot()],
            knows_transactions: random.one_in(2),
            names_next: !random.one_in(4),
            installing: None,
            whole: false,
            activated: false,
            asked_for: BTreeMap::new(),
        }
    }

    /// It is gone, and with it what it had not written down: the old RAUC says of a slot that it has begun to write what it
    /// said before.
    fn forgets(&mut self) {
        for slot in &mut self.slots {
            slot.complete |= !self.knows_transactions;
        }
    }

    /// `next`: the slot that is booted next, where that is known.
    fn tell(&self, next: Option<Option<usize>>) -> Vec<Told> {
        let slots = self.slots.iter().zip(SLOTS);
        let boots_next = |name: &str| next.map(|slot| slot.is_some_and(|slot| SLOTS[slot] == name));
        let told = |(slot, name): (&Slot, &str)| Told {
            name: name.to_owned(),
            class: "rootfs".to_owned(),
            complete: slot.complete,
            transaction: slot.transaction.clone().filter(|_| self.knows_transactions),
            installed: (slot.count > 0).then(|| slot.count.to_string()),
            boots_next: boots_next(name),
        };
        let rescue = Told {
            name: SLOTS[RESCUE].to_owned(),
            class: "rescue".to_owned(),
            complete: true,
            boots_next: boots_next(SLOTS[RESCUE]),
            ..Told::default()
        };
        slots.map(told).chain([rescue]).collect()
    }
}

impl World {
    /// The agent looks at the host.
    pub fn survey_begins(&mut self, op: OpId, purpose: Purpose) {
        let run = self.agent_run();
        let at = self.now + self.random.skewed(1, 20_000);
        self.at(at, Happening::HostIsSurveyed { run, op, purpose });
    }

    pub fn host_is_surveyed(&mut self, run: u64, op: OpId, purpose: Purpose) {
        let at = self.now + self.random.skewed(0, 3000);
        let found = self.survey(purpose);
        self.at(
            at,
            Happening::Surveyed {
                run,
                op,
                found: Box::new(found),
            },
        );
    }

    fn survey(&mut self, purpose: Purpose) -> Result<Survey, String> {
        if !self.quiet && self.random.one_in(self.plan.survey_fails) {
            self.counts.add(Thing::SurveyFailed);
            return Err("RAUC does not answer".to_owned());
        }
        let host = &self.device.host;
        let mut booted = host.booted;
        let update = self.device.disk.durable.update();
        let here = format!("boot-{}", self.device.boot);
        if let Some(update) = update.filter(|update| purpose == Purpose::Outcome && update.boot_id == here)
            && !self.quiet
            && self.plan.rauc_is_confused
            && self.random.one_in(4)
        {
            // It takes the slot that boots next for the one that runs.
            booted = host.slot(&update.to_slot);
        }
        let mut problems = Vec::new();
        if self.device.disk.is_full() && purpose == Purpose::Download {
            problems.push("there is no room for an image".to_owned());
        }
        if host.rauc.installing.is_some() && purpose == Purpose::Install {
            problems.push("RAUC is installing something".to_owned());
        }
        let asked = purpose == Purpose::Outcome && host.rauc.names_next;
        let next = asked.then(|| host.boot_loader.primary());
        Ok(Survey {
            booted: Some(SLOTS[booted].to_owned()),
            slots: host.rauc.tell(next),
            installing: host.rauc.installing.is_some(),
            failed_units: Vec::new(),
            problems,
            fallback: host.note.clone(),
        })
    }

    pub fn surveyed(&mut self, run: u64, op: OpId, found: Result<Survey, String>) {
        if self.is_run(run) {
            if let Ok(survey) = &found {
                self.count_outcome(survey);
            }
            self.agent_handles(Event::Surveyed { op, found }, None);
        }
    }

    /// The agent checks the image once more, and then asks RAUC.
    pub fn install_begins(&mut self, op: OpId, image: Wanted, transaction: String) {
        self.check_install(&image.uri, &transaction);
        let run = self.agent_run();
        let at = self.now + self.random.skewed(5, 60_000);
        self.at(
            at,
            Happening::RaucIsAsked {
                run,
                op,
                uri: image.uri,
                transaction,
            },
        );
    }

    pub fn rauc_is_asked(&mut self, run: u64, op: OpId, uri: &str, transaction: String) {
        if !self.is_run(run) {
            return;
        }
        self.check_file(uri);
        if !self.quiet && self.random.one_in(self.plan.rauc_fails) {
            self.counts.add(Thing::InstallRefused);
            let status = self
                .random
                .pick(&[UpdateStatus::VerificationFailed, UpdateStatus::UnsupportedImage]);
            let message = "RAUC refuses the bundle".to_owned();
            return self.install_ends(
                Some((run, op)),
                InstallEnd::Refused {
                    status,
                    message,
                    again: false,
                },
            );
        }
        let image = self.image_at(uri);
        self.messages += 1;
        let number = self.messages;
        let host = &mut self.device.host;
        assert!(host.rauc.installing.is_none(), "RAUC installs already");
        // Again only when the agent had died and found nothing of it.
        let times = host.rauc.asked_for.entry(transaction.clone()).or_default();
        *times += 1;
        assert!(*times <= 3, "{transaction} is installed again and again");
        let to = 1 - host.booted;
        let update = self.device.disk.durable.update().expect("an update is on the disk");
        assert_eq!(SLOTS[to], update.to_slot, "another slot is written");
        host.rauc.slots[to] = Slot {
            image: Image {
                content: Content::Torn,
                ..image
            },
            complete: false,
            count: host.rauc.slots[to].count,
            transaction: None,
        };
        host.boot_loader.mark(to, false);
        host.rauc.whole = false;
        host.rauc.activated = false;
        host.rauc.installing = Some(Installation {
            number,
            to,
            image,
            transaction,
            waiter: Some((run, op)),
        });
        note!(self, "RAUC writes {} with {image:?}", SLOTS[to]);
        let at = self.now + self.random.skewed(1000, if self.quiet { 60_000 } else { 600_000 });
        if !self.quiet && self.random.one_in(self.plan.rauc_dies) {
            let at = self.now + self.random.below(at - self.now);
            let gently = self.random.one_in(2);
            return self.at(at, Happening::RaucDies { number, gently });
        }
        self.at(at, Happening::SlotIsWritten { number });
    }

    fn installation(&mut self, number: u64) -> Option<&mut Installation> {
        let installing = self.device.host.rauc.installing.as_mut();
        installing.filter(|installation| installation.number == number)
    }

    /// It dies, or gives up (`gently`).
    pub fn rauc_dies(&mut self, number: u64, gently: bool) {
        let Some(installation) = self.installation(number) else {
            return;
        };
        let waiter = installation.waiter;
        self.device.host.rauc.installing = None;
        if !gently {
            self.device.host.rauc.forgets();
        }
        let end = if gently {
            self.counts.add(Thing::InstallFailed);
            InstallEnd::Failed {
                status: UpdateStatus::OutOfMemory,
                message: "the bundle is larger than the slot".to_owned(),
                again: self.random.one_in(2),
            }
        } else {
            self.counts.add(Thing::RaucDied);
            InstallEnd::Unclear("RAUC left the bus".to_owned())
        };
        note!(self, "RAUC stops: {end:?}");
        self.install_ends(waiter, end);
    }

    pub fn slot_is_written(&mut self, number: u64) {
        let Some(installation) = self.installation(number) else {
            return;
        };
        let (to, image, transaction) = (installation.to, installation.image, installation.transaction.clone());
        let slot = &mut self.device.host.rauc.slots[to];
        *slot = Slot {
            image,
            complete: true,
            count: slot.count + 1,
            transaction: Some(transaction),
        };
        self.device.host.rauc.whole = true;
        note!(self, "{} is written", SLOTS[to]);
        let at = self.now + self.random.skewed(10, 5000);
        if !self.quiet && self.random.one_in(self.plan.rauc_dies) {
            // The boot loader is never told.
            return self.at(at, Happening::RaucDies { number, gently: false });
        }
        self.at(at, Happening::SlotIsActivated { number });
    }

    pub fn slot_is_activated(&mut self, number: u64) {
        let Some(installation) = self.installation(number) else {
            return;
        };
        let (to, waiter) = (installation.to, installation.waiter);
        let host = &mut self.device.host;
        host.boot_loader.activate(to);
        host.rauc.installing = None;
        host.rauc.activated = true;
        self.counts.add(Thing::Installed);
        if waiter.is_none_or(|(run, _)| !self.is_run(run)) {
            self.counts.add(Thing::InstalledAlone);
        }
        note!(self, "{} boots next", SLOTS[to]);
        let lost = !self.quiet && self.random.one_in(self.plan.rauc_dies);
        let end = match lost {
            true if self.random.one_in(2) => {
                self.counts.add(Thing::HandlerFailed);
                if self.random.one_in(3) {
                    // Before the slot is taken back, or after.
                    let at = self.now + self.random.skewed(1, 30_000);
                    self.at(at, Happening::Fault(Fault::PowerCut));
                }
                InstallEnd::Failed {
                    status: UpdateStatus::UnsupportedImage,
                    message: "Post-install handler error".to_owned(),
                    again: self.random.one_in(2),
                }
            }
            true => InstallEnd::Unclear("the bus broke".to_owned()),
            false => InstallEnd::Done,
        };
        self.install_ends(waiter, end);
    }

    fn install_ends(&mut self, waiter: Option<(u64, OpId)>, end: InstallEnd) {
        if let Some((run, op)) = waiter {
            let at = self.now + self.random.skewed(1, 2000);
            self.at(at, Happening::InstallEnds { run, op, end });
        }
    }

    pub fn install_ended(&mut self, run: u64, op: OpId, end: InstallEnd) {
        if self.is_run(run) {
            self.agent_handles(Event::Installed { op, end }, None);
        }
    }

    /// A new run of the agent waits for what an earlier one began.
    pub fn rejoin_begins(&mut self, op: OpId) {
        let run = self.agent_run();
        self.counts.add(Thing::Rejoined);
        match &mut self.device.host.rauc.installing {
            Some(installation) => installation.waiter = Some((run, op)),
            None => {
                let end = InstallEnd::Unclear("RAUC is not installing".to_owned());
                self.install_ends(Some((run, op)), end);
            }
        }
    }

    /// The host goes down, or loses its power: whatever RAUC does ends with it.
    pub fn rauc_ends(&mut self) {
        if self.device.host.rauc.installing.take().is_some() {
            self.device.host.rauc.forgets();
            self.counts.add(Thing::InstallCut);
        }
    }
}
