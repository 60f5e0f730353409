//! The brain: what the agent does, as a pure function of what it knows and what happens.
//!
//! No I/O, no clock, no randomness. [`Agent::handle`] takes an event and says what is to be written first
//! ([`Step::owe`], [`Step::commit`]) and what is done once that is on the disk ([`Step::after`]). When the disk
//! refuses, nothing of the step has happened; the same event is handled again with [`Disk::Refuses`], and the answer
//! is a step that writes nothing and starts nothing.
//!
//! One file for one noun: `lifecycle` (manage, unmanage), `reboot`, `reset`, `handled` (requests that must not be executed
//! twice), `outbox` (what the service has not confirmed yet), `inbox` (what the service says). Shared between them
//! is only [`durable::Exclusive`]. `firmware` has a folder (download, install, trial, and what came of it).
//! `model` has the attributes, and whose word counts; `observation` tells the service what has changed of them.
//! `diagnostics` makes logs of the journal and keeps the list of error codes. `identity` knows whose memory this is.
//!
//! Facts: Device Management Protocol, "device management requests" and "device model"; org.freedesktop.login1(5).

pub mod diagnostics;
pub mod durable;
pub mod effect;
pub mod event;
pub mod firmware;
pub mod handled;
mod identity;
mod ids;
mod inbox;
pub mod lifecycle;
pub mod location;
pub mod model;
pub mod observation;
pub mod outbox;
pub mod reboot;
pub mod reset;
pub mod status;
mod work;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

pub use durable::Durable;
pub use effect::{AckId, After, CommandId, Effect, OpId, OweId, PublishId, Say, Step};
pub use event::{
    DownloadEnd, Event, InstallEnd, RebootOutcome, ResetOutcome, ResetReady, ResetRefused, ResetReport, Survey, Verdict,
};
pub use status::Status;

use crate::protocol::Address;
use crate::protocol::model::{DeviceInfo, Location};
use work::Work;

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the kernel started, suspend included (`CLOCK_BOOTTIME`).
    pub boottime: Duration,
    /// Unix seconds; `None` while the clock is not set.
    pub wall: Option<i64>,
}

/// Whether what a step commits can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk<'a> {
    /// As far as anybody knows.
    Works,
    /// It has just refused, for this reason in words ("state disk full: ...").
    Refuses(&'a str),
}

/// What the configuration and the host say, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who the device is to the service: its client id, `d:org:type:id` or `g:org:type:id`.
    pub identity: String,
    /// The service's URL.
    pub service: String,
    /// The device's address in topics: short for a device session, long otherwise.
    pub address: Address,
    /// Manage lifetime in seconds: 0 or at least 3600.
    pub lifetime: u64,
    /// The configuration's metadata; `None` leaves what the service has.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// What the host tells about the device.
    pub device_info: DeviceInfo,
    /// What the configuration says about the device: it wins over the host.
    pub configured_info: DeviceInfo,
    /// Where the configuration says that the device stands.
    pub location: Option<Location>,
    /// When the service is told what the host's receiver says; `None`: there is none.
    pub tracking: Option<location::Settings>,
    /// How the journal is told, and which conditions have a code; `None`: nothing of both.
    pub diagnostics: Option<diagnostics::Settings>,
    /// Whether a reboot may be asked for remotely.
    pub reboot_enabled: bool,
    /// Whether a factory reset may be asked for remotely.
    pub reset_enabled: bool,
    /// Firmware over the air.
    pub firmware: firmware::Settings,
    /// The kernel's boot id of this boot: 32 hexadecimal digits.
    pub boot_id: String,
}

/// What is lost when the process ends.
#[derive(Debug, Clone, Default)]
pub struct Volatile {
    ids: ids::Ids,
    subscribed: bool,
    session_kept: bool,
    lifecycle: lifecycle::Lifecycle,
    reboot: reboot::Reboot,
    reset: reset::Reset,
    firmware: firmware::Firmware,
    observation: observation::Observation,
    located: model::Located,
    receiver: model::Receiver,
    diagnostics: diagnostics::Diagnostics,
    outbox: outbox::Outbox,
    /// Publishes that the broker has not acknowledged.
    unacknowledged: BTreeSet<PublishId>,
    answers_in_flight: Vec<(PublishId, handled::Key, crate::protocol::Rc)>,
    /// Answers that the broker has, and that are to be sent once more.
    repeat: Vec<handled::Key>,
    /// Requests that did not change the host, and that the next commit takes along.
    others: Vec<handled::Other>,
    /// The durable memory as it is to be, while the disk refuses to take it.
    unsaved: Option<Box<Durable>>,
    retry_save_at: Option<Duration>,
}

/// The brain with its memory.
#[derive(Debug, Clone)]
pub struct Agent {
    settings: Settings,
    durable: Durable,
    volatile: Volatile,
}

/// How long after a refusal of the disk the next write is tried.
const SAVE_RETRY: Duration = Duration::from_secs(5);

impl Agent {
    /// After a start: what was on the disk, and what the outbox still holds (oldest first).
    ///
    /// `seed` must be different at every start: ids of own requests and all jitter come from it.
    /// Nothing happens yet; handle [`Event::Started`] first.
    pub fn new(settings: Settings, durable: Durable, owed: Vec<(OweId, Vec<u8>)>, seed: [u8; 16]) -> Self {
        let mut ids = ids::Ids::new(seed);
        let volatile = Volatile {
            outbox: outbox::Outbox::restore(owed, &settings.identity, &mut ids),
            ids,
            ..Volatile::default()
        };
        Agent {
            settings,
            durable,
            volatile,
        }
    }

    /// What to do about an event. Changes nothing; see [`Agent::adopt`].
    pub fn handle(&self, now: Now, event: &Event, disk: Disk<'_>) -> Step {
        let mut work = Work::new(self, now, disk);
        if let Event::Configured(settings) = event {
            work.settings = Cow::Borrowed(settings);
        }
        match event {
            Event::Started => {
                identity::compare(&mut work);
                model::configured(&mut work);
                reboot::recover(&mut work);
                reset::recover(&mut work);
                firmware::recover(&mut work);
                diagnostics::started(&mut work);
            }
            Event::Configured(_) => {
                let said = lifecycle::content(&self.settings, &work.d);
                identity::compare(&mut work);
                model::configured(&mut work);
                lifecycle::configured(&mut work, &said);
                firmware::configured(&mut work, &self.settings.firmware);
            }
            Event::Connected { session_present } => work.v.session_kept = *session_present,
            Event::Subscribed => {
                work.v.subscribed = true;
                lifecycle::subscribed(&mut work);
                observation::subscribed(&mut work);
                model::subscribed(&mut work);
                outbox::subscribed(&mut work);
                diagnostics::subscribed(&mut work);
            }
            Event::Disconnected => {
                work.v.subscribed = false;
                lifecycle::disconnected(&mut work);
                reset::disconnected(&mut work);
                firmware::disconnected(&mut work);
            }
            Event::Message(message) => inbox::message(&mut work, message),
            Event::Published(id) => work.published(*id),
            Event::NotPublished(id) => work.not_published(*id),
            Event::PublishRefused { id, reason } => work.publish_refused(*id, reason),
            Event::RebootEnded { op, outcome } => reboot::ended(&mut work, *op, outcome.clone()),
            Event::PreparingForShutdown(preparing) => reboot::preparing_for_shutdown(&mut work, *preparing),
            Event::ResetSurveyed { op, found } => reset::surveyed(&mut work, *op, found),
            Event::ResetEnded { op, outcome } => reset::ended(&mut work, *op, outcome),
            Event::ResetReported { op, report } => reset::reported(&mut work, *op, report),
            Event::ResetNotWithdrawn { reason } => reset::not_withdrawn(&mut work, reason),
            Event::Surveyed { op, found } => firmware::surveyed(&mut work, *op, found),
            Event::Downloaded { op, end } => firmware::downloaded(&mut work, *op, end),
            Event::Installed { op, end } => firmware::installed(&mut work, *op, end),
            Event::Marked { op, result } => firmware::marked(&mut work, *op, result),
            Event::Health { op, verdict } => firmware::health(&mut work, *op, verdict),
            Event::InstallFile(command, name) => firmware::install_file(&mut work, *command, name),
            Event::ConfirmTrial(command) => firmware::confirm_command(&mut work, *command),
            Event::RollBack(command) => firmware::roll_back_command(&mut work, *command),
            Event::Window(open) => firmware::window(&mut work, *open),
            Event::InhibitorsChanged => firmware::inhibitors_changed(&mut work),
            Event::Manage(command) => lifecycle::manage_command(&mut work, *command),
            Event::Unmanage(command) => lifecycle::unmanage_command(&mut work, *command),
            Event::OutboxDropped(ids) => outbox::dropped(&mut work, ids),
            Event::Fix(fix) => model::fix(&mut work, *fix),
            Event::NoFix(reason) => model::no_fix(&mut work, reason),
            Event::NotAsked(reason) => model::not_asked(&mut work, reason),
            Event::Journal {
                batch,
                entries,
                cursor,
                gap,
            } => diagnostics::journal(&mut work, *batch, entries, cursor, gap.as_ref()),
            Event::FailedUnits(units) => diagnostics::failed_units(&mut work, units),
            Event::Diag(command, what) => diagnostics::command(&mut work, *command, what),
            Event::Deadline => {}
        }
        // Before the count of short boots.
        reset::due(&mut work);
        reboot::due(&mut work);
        firmware::due(&mut work);
        lifecycle::due(&mut work);
        observation::due(&mut work);
        model::due(&mut work);
        outbox::due(&mut work);
        diagnostics::due(&mut work);
        work.pump();
        work.finish()
    }

    /// Makes a step's memory the agent's own: after its commit has reached the disk (or when it has none), and before
    /// [`Step::after`] runs.
    pub fn adopt(&mut self, step: &Step, event: &Event) {
        if let Event::Configured(settings) = event {
            self.settings = (**settings).clone();
        }
        self.volatile = step.volatile.clone();
        if let Some(durable) = &step.commit {
            self.durable = durable.clone();
        }
    }

    /// When [`Event::Deadline`] is due at the latest, in time since boot.
    pub fn next_deadline(&self) -> Option<Duration> {
        let work = Work::new(
            self,
            Now {
                boottime: Duration::ZERO,
                wall: None,
            },
            Disk::Works,
        );
        [
            lifecycle::deadline(&work),
            reboot::deadline(&work),
            reset::deadline(&work),
            firmware::deadline(&work),
            observation::deadline(&work),
            model::deadline(&work),
            outbox::deadline(&work),
            diagnostics::deadline(&work),
            self.volatile.retry_save_at.filter(|_| work.unsaved()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is on the disk.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// What the configuration and the host say.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether RAUC is at work for us.
    pub fn installing(&self) -> bool {
        let update = self.durable.update();
        update.is_some_and(|update| update.phase == firmware::record::Phase::Installing)
    }

    /// Whether an update waits for the host's reboot.
    pub fn awaits_reboot(&self) -> bool {
        use firmware::record::Phase;
        let waits = |update: &firmware::record::Update| {
            matches!(update.phase, Phase::Installed | Phase::RollingBack) && update.reboot.is_none()
        };
        self.durable.update().is_some_and(waits)
    }

    /// For people: where the host is, and why the service is not told more.
    pub fn whereabouts(&self, now: Duration) -> model::Whereabouts {
        let now = Now {
            boottime: now,
            wall: None,
        };
        model::whereabouts(&Work::new(self, now, Disk::Works))
    }

    /// Up to here, this included, the journal was taken; the reader goes on after it. To be asked after
    /// [`Event::Started`]. `None`: nothing was ever taken.
    pub fn journal_cursor(&self) -> Option<&str> {
        self.volatile.diagnostics.cursor()
    }

    /// For people: how diagnostics stand.
    pub fn diagnostics(&self, now: Now) -> diagnostics::Status {
        diagnostics::status(&Work::new(self, now, Disk::Works))
    }

    /// For people: how things stand.
    pub fn status(&self) -> Status {
        status::of(&Work::new(
            self,
            Now {
                boottime: Duration::ZERO,
                wall: None,
            },
            Disk::Works,
        ))
    }
}
