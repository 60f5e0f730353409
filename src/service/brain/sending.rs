//! Publishes what devices are asked, until the PUBACK is a row; always with the step's request id. The agent carries
//! out an id at most once.

use super::message::{line, say};
use super::rows::{Action, Change, RequestRow, RequestStep, Status, StatusRow};
use super::step::{Effect, Now, PublishId, Step, WatchLine};
use super::tables::Key;
use super::words::span;
use super::{Service, WINDOW, firmware, observing, writes};
use crate::protocol::{Address, Request};

impl Service {
    /// The broker took a message over.
    pub(super) fn on_published(&mut self, now: Now, id: PublishId, step: &mut Step) {
        let Some(key) = self.in_flight.remove(&id) else { return };
        self.in_flight_keys.remove(&key);
        let Some(mut row) = self.tables.status(key.0, &key.1).cloned() else {
            return;
        };
        if row.sent_ms.is_none() {
            row.sent_ms = Some(now.unix_ms);
            row.updated_ms = now.unix_ms;
            self.change(step, Change::PutStatus(row));
        }
    }

    /// The broker will not take a message: the device will never see it.
    pub(super) fn on_publish_refused(&mut self, now: Now, id: PublishId, step: &mut Step) {
        let Some(key) = self.in_flight.remove(&id) else { return };
        self.in_flight_keys.remove(&key);
        let Some(row) = self.tables.status(key.0, &key.1).cloned() else {
            return;
        };
        if !row.is_complete() {
            let why = "the broker refuses the request: its access control list must let the service publish iotdm-1/#";
            say(now, step, Some(key.1), "refused", why.to_owned());
            self.cut_short(now, row, Status::Failure, why, step);
        }
    }

    pub(super) fn on_connected(&mut self, session_present: bool) {
        self.connected = true;
        if !session_present {
            self.in_flight.clear();
            self.in_flight_keys.clear();
        }
    }

    pub(super) fn forget_in_flight(&mut self, id: PublishId) {
        if let Some(key) = self.in_flight.remove(&id) {
            self.in_flight_keys.remove(&key);
        }
    }

    /// Goes on to the next step that asks something. An answer may overtake the PUBACK of its request: that one must
    /// not count for the next.
    pub(super) fn ask_next(&mut self, now: Now, mut row: StatusRow, next: RequestStep, step: &mut Step) {
        let key = (row.request, row.device.clone());
        self.in_flight.retain(|_, in_flight| *in_flight != key);
        self.in_flight_keys.remove(&key);
        row.step = next;
        row.step_ms = now.unix_ms;
        row.req_id = self.ids.next_req_id();
        if next == RequestStep::Initiate {
            row.initiated = Some(row.req_id.clone());
        }
        row.sent_ms = None;
        row.updated_ms = now.unix_ms;
        self.change(step, Change::PutStatus(row));
    }

    /// Publishes what waits, a bounded number at a time, oldest first. What is over is not asked any more: it ends with
    /// [`super::Event::Deadline`], which may still be held back.
    pub(super) fn publish_pending(&mut self, now: Now, step: &mut Step) {
        if !self.connected || self.in_flight.len() >= WINDOW {
            return;
        }
        let room = WINDOW - self.in_flight.len();
        let waiting = self.tables.unsent().filter(|key| !self.in_flight_keys.contains(key));
        let waiting = waiting.filter(|key| !self.is_over(now, key));
        let keys: Vec<Key> = waiting.take(room).cloned().collect();
        for key in keys {
            let row = self.tables.status(key.0, &key.1);
            let (Some(row), Some(request)) = (row, self.tables.request_by_number(key.0)) else {
                continue;
            };
            let (message, operation, text) = question(request, row);
            step.effects.push(Effect::Say(WatchLine {
                req_id: Some(row.req_id.as_str().to_owned()),
                ..line(now, Some(key.1.clone()), operation, &text)
            }));
            let topic = message.kind().topic(&Address::Device(key.1.clone()));
            let payload = message.to_payload(Some(&row.req_id));
            let id = self.next_publish_id();
            self.in_flight.insert(id, key.clone());
            self.in_flight_keys.insert(key);
            step.effects.push(Effect::Publish { id, topic, payload });
        }
    }

    /// Whether the time of a request has passed. The cancel of an observation is asked all the same: the device would
    /// notify on for nobody.
    fn is_over(&self, now: Now, key: &Key) -> bool {
        let row = self.tables.status(key.0, &key.1);
        let request = self.tables.request_by_number(key.0);
        let over = request.is_some_and(|request| request.deadline_ms <= now.unix_ms);
        over && row.is_some_and(|row| row.step != RequestStep::Cancel)
    }
}

/// What a device is asked in a step: the message, the operation for whoever watches, and the same in words.
type Question = (Request, &'static str, String);

fn question(request: &RequestRow, row: &StatusRow) -> Question {
    let action = request.action.as_str();
    // What was checked when the request was made reads well again.
    match request.action {
        Action::Reboot => initiate(request, Request::Reboot, "reboot"),
        Action::FactoryReset => initiate(request, Request::FactoryReset, "factoryReset"),
        Action::FirmwareDownload => firmware_step(request, row, Request::FirmwareDownload, "firmwareDownload"),
        Action::FirmwareUpdate => firmware_step(request, row, Request::FirmwareUpdate, "firmwareUpdate"),
        Action::Update => {
            let values = writes::values(&request.parameters);
            let text = format!("is asked to take over {} ({action})", writes::names(&values));
            (Request::Update(values), "update", text)
        }
        Action::Observe => {
            let fields = observing::fields(&request.parameters).unwrap_or_default();
            let text = format!("is asked to notify changes of {} ({action})", fields.join(", "));
            (Request::Observe(fields), "observe", text)
        }
    }
}

fn firmware_step(request: &RequestRow, row: &StatusRow, message: Request, operation: &'static str) -> Question {
    let action = request.action.as_str();
    match row.step {
        RequestStep::Update => {
            let firmware = firmware::description(&request.parameters).unwrap_or_default();
            let text = format!("is told which firmware {action} is about{}", firmware::named(&firmware));
            (firmware::update(firmware), "update", text)
        }
        RequestStep::Observe => (
            Request::Observe(vec![firmware::FIELD.to_owned()]),
            "observe",
            format!("is asked to notify changes of {} ({action})", firmware::FIELD),
        ),
        RequestStep::Initiate | RequestStep::Working => initiate(request, message, operation),
        RequestStep::Cancel => (
            firmware::cancel(),
            "cancel",
            format!("need not notify changes of {} any more ({action})", firmware::FIELD),
        ),
    }
}

fn initiate(request: &RequestRow, message: Request, operation: &'static str) -> Question {
    let seconds = request.deadline_ms.saturating_sub(request.created_ms) / 1000;
    let left = span(u64::try_from(seconds).unwrap_or(0));
    let text = format!("is asked for {} (timeout {left})", request.action.as_str());
    (message, operation, text)
}
