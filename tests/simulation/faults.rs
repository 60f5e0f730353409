//! What goes wrong, and what people do meanwhile: planned when the run begins, all of it out of the seed. Each run has
//! its own mix, so that rare things meet each other.

use iotdm::agent::Event;
use iotdm::agent::durable::Wish;
use iotdm::agent::firmware::WhenToReboot;
use iotdm::agent::firmware::record::Phase;
use iotdm::protocol::{Address, Request, ToDevice};

use crate::broker::{Cut, Message, Who};
use crate::counts::Thing;
use crate::device::DEVICE;
use crate::disk::Refuses;
use crate::host::RESCUE;
use crate::logind::How;
use crate::random::Random;
use crate::world::{Happening, World, note};

/// The mix of a run.
#[derive(Debug)]
pub struct Plan {
    /// Milliseconds that faults go on for.
    length: u64,
    /// How many things happen in that time.
    things: u64,
    /// The slowest packet, in milliseconds.
    pub slowest_packet: u64,
    /// How long the owner of a session lets its events wait at most, in milliseconds.
    pub slowest_owner: u64,
    /// The agent dies at one in so many points of its steps; 0 is never.
    pub death: u64,
    /// The same in the steps in which a reboot goes on.
    pub death_if_critical: u64,
    /// The service dies at one in so many points of its steps.
    pub service_death: u64,
    /// logind does what it is asked.
    pub logind_is_good: bool,
    /// The disk fills up at one in so many requests to logind.
    pub disk_fills_then: u64,
    /// The connection breaks after one in so many answers of logind, while the 202 is on its way.
    pub cut_then: u64,
    /// Somebody on the host asks for a manage right before one in so many requests.
    manage_first: u64,
    /// One in so many requests is for a factory reset.
    resets: u64,
    /// A wipe is cut short, does not run, or leaves something, once in so many times.
    pub wipe_is_cut: u64,
    pub wipe_never_runs: u64,
    pub wipe_fails: u64,
    /// A report cannot be read once in so many times.
    pub report_fails: u64,
    /// The host takes firmware, and the operator has some.
    pub firmware: bool,
    pub images_are_good: bool,
    pub server_is_good: bool,
    /// A look at the host fails once in so many times.
    pub survey_fails: u64,
    /// RAUC refuses once in so many times.
    pub rauc_fails: u64,
    /// RAUC dies in one of so many installations.
    pub rauc_dies: u64,
    /// It takes one slot for the other now and then.
    pub rauc_is_confused: bool,
    /// A mark goes wrong once in so many times.
    pub mark_fails: u64,
    /// No slot is ever taken away from the boot loader, and everything that boots is marked good.
    pub stubborn: bool,
    /// Somebody boots another system once in so many boots.
    pub rescue: u64,
    /// Somebody writes, edits and observes the device model.
    pub model: bool,
    /// The host may have a receiver.
    pub receiver: bool,
    /// A good image has to arrive in the end.
    pub last_push: bool,
    /// Four plain reboots come after that.
    pub plain_reboots: bool,
    /// How often each kind of fault is drawn.
    weights: [u64; KINDS],
    /// The journal is told, and units fail.
    pub diagnostics: bool,
    /// The operator asks again and again.
    eager: bool,
}

const KINDS: usize = 13;

/// Something that somebody does, or that breaks.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The operator asks for a reboot or a factory reset, as soon as that is possible; so many times at once.
    Ask {
        times: u32,
        patience: u32,
    },
    /// A request outside the service's books, without a request id or with one.
    Raw {
        kind: u64,
    },
    /// A request that was delivered before comes again.
    Again,
    Cut(Who, Cut),
    BrokerRestarts {
        persistent: bool,
    },
    SessionExpires,
    Part,
    PartEnds,
    DiskFull,
    DiskWorks,
    AgentDies,
    PowerCut,
    OwnReboot,
    /// Somebody on the device resets it.
    OwnReset,
    ServiceDies,
    Manage,
    Unmanage,
    Configured,
    /// Whoever took the device out of management puts it back.
    Rejoin,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Self {
        let weights = std::array::from_fn(|_| random.pick(&[0, 0, 1, 1, 3]));
        let firmware = random.one_in(4);
        let minutes = if firmware { [5, 10, 20, 40] } else { [1, 3, 10, 30] };
        Plan {
            length: random.pick(&minutes) * 60_000,
            things: random.between(2, 12),
            slowest_packet: random.pick(&[20, 200, 5000]),
            slowest_owner: random.pick(&[0, 0, 50, 2000]),
            death: random.pick(&[0, 0, 100, 40]),
            death_if_critical: random.pick(&[0, 6, 12]),
            service_death: random.pick(&[0, 0, 60]),
            logind_is_good: random.one_in(2),
            disk_fills_then: random.pick(&[0, 0, 4]),
            cut_then: random.pick(&[0, 0, 3]),
            manage_first: random.pick(&[0, 0, 3]),
            resets: random.pick(&[0, 2, 4, 1]),
            wipe_is_cut: random.pick(&[0, 0, 2]),
            wipe_never_runs: random.pick(&[0, 0, 4]),
            wipe_fails: random.pick(&[0, 0, 3]),
            report_fails: random.pick(&[0, 0, 0, 4, 2, 1]),
            firmware,
            images_are_good: random.one_in(3),
            server_is_good: random.one_in(2),
            survey_fails: random.pick(&[0, 0, 4]),
            rauc_fails: random.pick(&[0, 0, 4]),
            rauc_dies: random.pick(&[0, 0, 4]),
            rauc_is_confused: random.one_in(12),
            mark_fails: random.pick(&[0, 0, 2, 4]),
            stubborn: random.one_in(16),
            rescue: random.pick(&[0, 0, 0, 0, 4]),
            model: random.one_in(5),
            receiver: random.one_in(2),
            last_push: random.one_in(4),
            plain_reboots: random.one_in(8),
            weights,
            eager: random.one_in(8),
            diagnostics: random.one_in(10),
        }
    }
}

impl World {
    pub fn plan_faults(&mut self) {
        let start = self.now + 5000;
        let first = start + self.random.skewed(0, self.plan.length);
        self.at(first, ask(1));
        let things = if self.plan.eager { 24 } else { self.plan.things };
        for _ in 0..things {
            let at = start + self.random.below(self.plan.length);
            let fault = self.draw_fault();
            self.at(at, Happening::Fault(fault));
        }
        if self.plan.eager {
            for n in 0..8 {
                self.at(start + n * 75_000, ask(1));
            }
        }
        let length = if self.plan.eager {
            self.plan.length.max(700_000)
        } else {
            self.plan.length
        };
        self.plan_campaign(start, length);
        self.plan_model(start, length);
        if self.plan.firmware {
            if self.device.firmware().reboot == WhenToReboot::Window {
                self.at(start, Happening::WindowTurns);
            }
            self.at(start, Happening::TechnicianLooks);
            if !self.device.marks_good() {
                self.at(start, Happening::IntegratorMarks { boot: 1 });
            }
        }
        if self.plan.diagnostics {
            self.at(start, Happening::Journal(crate::journal::Doing::Grows));
        }
        self.at(start + length, Happening::FaultsEnd);
    }

    fn draw_fault(&mut self) -> Fault {
        let total: u64 = self.plan.weights.iter().sum();
        let mut at = self.random.below(total + 2);
        let mut kind = KINDS;
        for (index, weight) in self.plan.weights.iter().enumerate() {
            if at < *weight {
                kind = index;
                break;
            }
            at -= weight;
        }
        let random = &mut self.random;
        match kind {
            0 => Fault::Raw { kind: random.below(14) },
            1 => Fault::Again,
            2 | 3 => {
                let who = random.pick(&[Who::Agent, Who::Agent, Who::Service]);
                let how = random.pick(&[Cut::Both, Cut::ClientFirst, Cut::BrokerFirst, Cut::Silent]);
                Fault::Cut(who, how)
            }
            4 => Fault::BrokerRestarts {
                persistent: random.one_in(2),
            },
            5 => random.pick(&[Fault::SessionExpires, Fault::Part]),
            6 => Fault::DiskFull,
            7 => Fault::AgentDies,
            8 => Fault::PowerCut,
            9 => random.pick(&[Fault::OwnReboot, Fault::Configured]),
            10 => Fault::ServiceDies,
            12 => Fault::OwnReset,
            11 => random.pick(&[Fault::Manage, Fault::Manage, Fault::Unmanage]),
            _ => Fault::Ask {
                times: random.pick(&[1, 1, 1, 1, 2, 3, 3, 12]) as u32,
                patience: 10,
            },
        }
    }

    pub fn fault(&mut self, fault: Fault) {
        note!(self, "-- {fault:?}");
        match fault {
            Fault::Ask { times, patience } => self.ask(times, patience),
            Fault::Raw { kind } => self.raw(kind),
            Fault::Again => {
                if let Some(count) = self.truth.seen.len().checked_sub(1) {
                    let message = self.truth.seen[self.random.between(0, count as u64) as usize].clone();
                    // Without a request id nobody can tell a new one from an old one but by DUP.
                    let dup = self.random.one_in(2) || &*message.payload == b"{}";
                    self.deliver_again(message, dup);
                }
            }
            Fault::Cut(who, how) => self.cut(who, how),
            Fault::BrokerRestarts { persistent } => {
                let ms = self.random.skewed(500, 120_000);
                self.broker_restarts(persistent, ms);
            }
            Fault::SessionExpires => {
                let who = self.random.pick(&[Who::Agent, Who::Service]);
                self.cut(who, Cut::Both);
                self.session_is_lost(who);
            }
            Fault::Part => {
                self.parted = true;
                self.cut(Who::Agent, Cut::Silent);
                let at = self.now + self.random.skewed(2000, 600_000);
                self.at(at, Happening::Fault(Fault::PartEnds));
            }
            Fault::PartEnds => self.parted = false,
            Fault::DiskFull => {
                if self.quiet {
                    return;
                }
                let what = self.random.pick(&[Refuses::Everything, Refuses::State]);
                self.device.disk.refuses(self.now, what);
                let at = self.now + self.random.skewed(1000, 300_000);
                self.at(at, Happening::Fault(Fault::DiskWorks));
            }
            Fault::DiskWorks => self.device.disk.refuses(self.now, Refuses::Nothing),
            Fault::AgentDies => {
                self.counts.add(Thing::AgentKilled);
                self.agent_is_killed();
            }
            Fault::PowerCut => self.power_is_cut(),
            Fault::OwnReboot => {
                self.reboot_by_hand();
            }
            Fault::OwnReset => self.somebody_resets(),
            Fault::ServiceDies => self.service_is_killed(),
            Fault::Manage => self.agent_is_commanded(Event::Manage),
            Fault::Unmanage => {
                self.counts.add(Thing::Unmanaged);
                self.truth.interrupted = true;
                self.truth.located.forget();
                self.agent_is_commanded(Event::Unmanage);
                if self.random.one_in(3) {
                    // It was a slip, and is taken back, often before the service has heard of it.
                    let at = self.now + self.random.skewed(0, 5000);
                    self.at(at, Happening::Fault(Fault::Rejoin));
                }
            }
            Fault::Configured => {
                let lifetime = self.random.pick(&[0, 3600, 86_400]);
                let reboot_enabled = !self.random.one_in(3);
                let reset_enabled = !self.random.one_in(3);
                let supported = self.plan.firmware && !self.random.one_in(4);
                self.truth.located.excuse();
                self.agent_is_configured(|settings| {
                    settings.lifetime = lifetime;
                    settings.reboot_enabled = reboot_enabled;
                    settings.reset_enabled = reset_enabled;
                    settings.firmware.supported = firmware_supported(supported);
                });
            }
            Fault::Rejoin => {
                let process = self.device.process.as_ref();
                let wish = process.map(|process| process.agent.durable().wish.clone());
                if wish == Some(Wish::Unmanaging) {
                    self.counts.add(Thing::TakenBack);
                }
                if wish.is_some_and(|wish| wish != Wish::Managed) {
                    self.agent_is_commanded(Event::Manage);
                }
            }
        }
    }

    fn ask(&mut self, times: u32, patience: u32) {
        if self.operator.may_ask() {
            if !self.quiet && self.random.one_in(self.plan.manage_first) {
                self.agent_is_commanded(Event::Manage);
            }
            for _ in 0..times {
                let timeout = self.random.pick(&[60, 600, 1800, 1800]);
                let action = match self.random.one_in(self.plan.resets) {
                    true => "device/factoryReset",
                    false => "device/reboot",
                };
                self.operator_asks(action, timeout);
            }
        } else if patience > 0 && !self.quiet {
            let patience = patience - 1;
            self.at(self.now + 10_000, Happening::Fault(Fault::Ask { times, patience }));
        }
    }

    fn raw(&mut self, kind: u64) {
        let number = self.random.next();
        let (kind, payload) = match kind {
            0 | 1 => (ToDevice::Reboot, "{}".to_owned()),
            2 | 3 => (ToDevice::Reboot, format!(r#"{{"reqId":"raw-{number}"}}"#)),
            4 => (ToDevice::Observe, format!(r#"{{"reqId":"raw-{number}"}}"#)),
            5 => (ToDevice::FactoryReset, format!(r#"{{"reqId":"raw-{number}"}}"#)),
            6 => {
                self.truth.observation.broken = true;
                let d = Request::Cancel(vec!["mgmt.firmware".into()]);
                (d.kind(), format!(r#"{{"reqId":"raw-{number}"}}"#))
            }
            7 => (ToDevice::Update, "nonsense".to_owned()),
            8 => (ToDevice::FirmwareDownload, "{}".to_owned()),
            9 => (ToDevice::FirmwareUpdate, "{}".to_owned()),
            12 | 13 => (ToDevice::FactoryReset, "{}".to_owned()),
            10 => (ToDevice::FirmwareDownload, format!(r#"{{"reqId":"raw-{number}"}}"#)),
            _ => (ToDevice::FirmwareUpdate, format!(r#"{{"reqId":"raw-{number}"}}"#)),
        };
        let topic = kind.topic(&Address::Device(DEVICE.parse().expect("a name")));
        let message = self.message(&topic, payload.as_bytes());
        self.deliver_again(message, false);
    }

    /// Somebody at the console reboots. While RAUC installs, systemctl refuses that unless it is forced.
    fn reboot_by_hand(&mut self) {
        if !self.device.up || self.device.logind.going.is_some() {
            return;
        }
        if self.device.host.rauc.installing.is_some() {
            if !self.random.one_in(3) {
                return;
            }
            self.counts.add(Thing::ForcedReboot);
        }
        if self
            .device
            .disk
            .durable
            .update()
            .is_some_and(|update| update.phase == Phase::Installed)
        {
            self.counts.add(Thing::HandReboot);
        }
        self.logind_accepts(How::InTime, false);
    }

    /// Where updates wait for somebody to reboot, somebody does; and nobody leaves a host in another system.
    pub fn technician_looks(&mut self) {
        let manual = self.device.firmware().reboot == WhenToReboot::Manual;
        let update = self.device.disk.durable.update();
        let here = format!("boot-{}", self.device.boot);
        let waits = update.is_some_and(|update| {
            update.phase == Phase::Installed && update.reboot.is_none() && update.boot_id == here
        });
        if (manual && waits) || self.device.host.booted == RESCUE {
            self.reboot_by_hand();
        }
        self.at(self.now + 5 * 60_000, Happening::TechnicianLooks);
    }

    /// A new message.
    pub fn message(&mut self, topic: &str, payload: &[u8]) -> Message {
        self.messages += 1;
        Message {
            topic: topic.into(),
            payload: payload.into(),
            number: self.messages,
            boot: self.device.boot,
        }
    }

    /// From now on everything works.
    pub fn faults_end(&mut self) {
        note!(self, "-- no more faults");
        self.quiet = true;
        self.quiet_since = self.now;
        self.parted = false;
        self.device.disk.refuses(self.now, Refuses::Nothing);
        if self.plan.firmware {
            self.agent_is_configured(|settings| settings.firmware.supported = Ok(()));
        }
        if self.device.host.reset.report.is_some() {
            // One that could not be read is read at the next start.
            self.agent_is_killed();
        }
        self.plan_last_push();
        for minutes in [1, 5, 10, 20, 40, 60] {
            self.at(self.now + minutes * 60_000, Happening::Fault(Fault::Rejoin));
        }
    }
}

fn firmware_supported(supported: bool) -> Result<(), String> {
    match supported {
        true => Ok(()),
        false => Err("switched off".to_owned()),
    }
}

fn ask(times: u32) -> Happening {
    Happening::Fault(Fault::Ask { times, patience: 10 })
}
