//! The brain of the service: what a device's message means, what is answered, how a request ends.
//!
//! It never does I/O, reads no clock and makes no randomness: time comes with every event, request ids come from a
//! generator that is seeded at construction. A [`Step`] says what is to be written and what is to be done, and the
//! shell keeps the order: the changes are committed in one transaction, and only then the effects run.
//!
//! Facts: device management requests (REST API v0002), manage device, device diagnostics, MQTT 3.1.1 section 4.6.

mod answers;
mod attributes;
mod diagnosing;
mod ends;
mod firmware;
mod forgetting;
mod ids;
mod message;
mod observing;
mod reports;
mod requests;
mod rows;
mod sending;
mod step;
mod tables;
mod words;
mod writes;
mod written;

use std::collections::{BTreeMap, BTreeSet};

pub use rows::{
    Action, Change, DeviceRow, ErrorCodeRow, LogRow, Managed, RequestRow, RequestStep, Rows, Status, StatusRow,
};
pub use step::{
    AckToken, Diagnose, Diagnosis, Effect, Event, Incoming, NewRequest, Now, PublishId, Refusal, RefusalKind, Reply,
    Step, WatchLine, Write,
};
pub use words::{severity, state_in_words, update_status_in_words};

use crate::protocol::Device;
use ids::Ids;
use tables::{Due, Tables};

/// The most devices that are kept; a manage of one more is answered 404.
pub const MAX_DEVICES: usize = 50_000;
/// The most devices of one request (REST API v0002, "initiate a device management request").
pub const MAX_REQUEST_DEVICES: usize = 5_000;
/// The most requests that are kept. When a new one comes, the oldest that are complete make room.
pub const MAX_REQUESTS: usize = 1_000;
/// The most rows of device status that are kept, over all requests.
pub const MAX_STATUSES: usize = 100_000;
/// How many requests are on their way to the broker at a time; answers to devices need room beside them.
pub const WINDOW: usize = 16;
/// How long a device has to carry out a reboot unless the request says otherwise, in seconds.
pub const DEFAULT_TIMEOUT: u64 = 3600;
/// The same for a factory reset: 2 hours. A wipe may take many minutes, and goes on in the next boot after a power cut;
/// a request that has timed out stays so, however well the reset ends.
pub const DEFAULT_RESET_TIMEOUT: u64 = 2 * 3600;
/// The same for a firmware download or update: 24 hours.
pub const DEFAULT_FIRMWARE_TIMEOUT: u64 = 24 * 3600;
/// The same for an update of attributes: 1 minute. A device that is there answers at once; one that comes back later may
/// still take it over, and is believed then.
pub const DEFAULT_UPDATE_TIMEOUT: u64 = 60;
/// How long an operator observes unless the request says otherwise, in seconds: 24 hours.
pub const DEFAULT_OBSERVE_TIMEOUT: u64 = 24 * 3600;
/// The longest timeout, in seconds: 30 days.
pub const MAX_TIMEOUT: u64 = 30 * 24 * 3600;
/// How long a device may leave the cancel of an observation unanswered, in milliseconds. Then the request ends as the
/// device has reported before; some agents in the field understand only an older form of cancel.
pub const CANCEL_PATIENCE_MS: i64 = 120_000;

/// The service: its registry as values, and what is on its way.
#[derive(Debug)]
pub struct Service {
    tables: Tables,
    ids: Ids,
    /// Whether requests may be published now.
    connected: bool,
    next_publish: u64,
    /// Requests that were handed to the session and whose PUBACK is not in yet.
    in_flight: BTreeMap<PublishId, (i64, Device)>,
    in_flight_keys: BTreeSet<(i64, Device)>,
}

impl Service {
    /// The service as its registry has it. It publishes nothing before [`Event::Connected`].
    ///
    /// The seed makes request ids; it must be a fresh random one at every start.
    pub fn restore(seed: [u8; 32], rows: Rows) -> Self {
        Service {
            tables: Tables::restore(rows),
            ids: Ids::new(seed),
            connected: false,
            next_publish: 0,
            in_flight: BTreeMap::new(),
            in_flight_keys: BTreeSet::new(),
        }
    }

    /// What follows from an event. The changes must be committed before any effect runs; when they cannot be, this
    /// value knows more than the registry and must be thrown away.
    pub fn handle(&mut self, now: Now, event: Event) -> Step {
        let mut step = Step::default();
        match event {
            Event::Connected { session_present } => self.on_connected(session_present),
            Event::Disconnected => self.connected = false,
            Event::Message(message) => self.on_message(now, message, &mut step),
            Event::Published(id) => self.on_published(now, id, &mut step),
            Event::NotPublished(id) => self.forget_in_flight(id),
            Event::PublishRefused(id) => self.on_publish_refused(now, id, &mut step),
            Event::Deadline => self.on_deadline(now, &mut step),
            Event::Create(request) => {
                let reply = self.create(now, request, &mut step);
                step.effects.push(Effect::Reply(reply));
            }
            Event::Write(write) => {
                let reply = self.write(now, write, &mut step);
                step.effects.push(Effect::Reply(reply));
            }
            Event::Diagnose(diagnose) => {
                let reply = self.diagnose(now, diagnose, &mut step);
                step.effects.push(Effect::Reply(reply));
            }
            Event::Forget { device } => {
                let reply = self.forget(now, &device, &mut step);
                step.effects.push(Effect::Reply(reply));
            }
            Event::Cancel { id } => {
                let reply = self.cancel(now, &id, &mut step);
                step.effects.push(Effect::Reply(reply));
            }
            Event::Delete { id } => {
                let reply = self.delete(now, &id, &mut step);
                step.effects.push(Effect::Reply(reply));
            }
        }
        self.publish_pending(now, &mut step);
        step
    }

    /// When [`Event::Deadline`] is due next, in Unix milliseconds: a lifetime, a timeout or the patience with a cancel ends.
    pub fn next_deadline(&self) -> Option<i64> {
        self.tables.next_due()
    }

    /// Everything that must survive, as the registry keeps it.
    pub fn rows(&self) -> Rows {
        self.tables.rows()
    }

    /// A device, when it is known.
    pub fn device(&self, device: &Device) -> Option<&DeviceRow> {
        self.tables.device(device)
    }

    /// All devices in the order of type and id, after this one.
    pub fn devices_after(&self, after: Option<&Device>) -> impl Iterator<Item = &DeviceRow> {
        self.tables.devices_after(after)
    }

    /// How many devices are known.
    pub fn device_count(&self) -> usize {
        self.tables.device_count()
    }

    /// A request, when it is kept.
    pub fn request(&self, id: &str) -> Option<&RequestRow> {
        self.tables.request(id)
    }

    /// All requests, oldest first, after the one with this number.
    pub fn requests_after(&self, after: i64) -> impl Iterator<Item = &RequestRow> {
        self.tables.requests_after(after)
    }

    /// How many requests are kept.
    pub fn request_count(&self) -> usize {
        self.tables.request_count()
    }

    /// True when no device of the request is in progress any more.
    pub fn is_complete(&self, request: &RequestRow) -> bool {
        self.tables.is_complete(request.number)
    }

    /// How one device stands with a request.
    pub fn status(&self, request: &RequestRow, device: &Device) -> Option<&StatusRow> {
        self.tables.status(request.number, device)
    }

    /// How the devices of a request stand, in the order of type and id, after this one.
    pub fn statuses_after(&self, request: &RequestRow, after: Option<&Device>) -> impl Iterator<Item = &StatusRow> {
        self.tables.statuses_after(request.number, after)
    }

    /// How many devices a request has.
    pub fn status_count(&self, request: &RequestRow) -> usize {
        self.tables.status_count(request.number)
    }

    fn on_deadline(&mut self, now: Now, step: &mut Step) {
        while let Some(due) = self.tables.due_by(now.unix_ms) {
            match due {
                Due::Dormant(device) => self.on_dormant(now, &device, step),
                Due::Timeout(number) => self.on_timeout(now, number, step),
                Due::Unanswered(number, device) => self.on_unanswered(now, number, &device, step),
            }
        }
    }

    /// Puts a change into the step and into the tables alike.
    fn change(&mut self, step: &mut Step, change: Change) {
        self.tables.apply(&change);
        step.changes.push(change);
    }

    fn next_publish_id(&mut self) -> PublishId {
        self.next_publish += 1;
        PublishId(self.next_publish)
    }
}
