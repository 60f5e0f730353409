//! Requests for actions: validation, publishing, and how each device's part ends (REST API v0002, "device
//! management requests").
//!
//! A request is a row before it is a message. It is published until its PUBACK is recorded, always with the same
//! request id; the agent carries out an id at most once.

use std::collections::BTreeSet;

use super::message::{line, say};
use super::rows::{Action, Change, RequestRow, Status, StatusRow};
use super::step::{Effect, NewRequest, Now, PublishId, Refusal, RefusalKind, Reply, Step, WatchLine};
use super::words::{ending, span};
use super::{
    DEFAULT_TIMEOUT, MAX_REQUEST_DEVICES, MAX_REQUESTS, MAX_STATUSES, MAX_TIMEOUT, Service, tables::Key, words::clean,
};
use crate::protocol::{Address, Device, Rc, Request, Response};

impl Service {
    /// Registers a request for all its devices, or for none.
    pub(super) fn create(&mut self, now: Now, request: NewRequest, step: &mut Step) -> Result<Reply, Refusal> {
        let action = self.check(&request)?;
        self.make_room(request.devices.len(), step)?;
        let timeout = request.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let timeout_ms = i64::try_from(timeout).unwrap_or(i64::MAX).saturating_mul(1000);
        let row = RequestRow {
            number: self.tables.next_number(),
            id: self.ids.next(),
            action,
            parameters: request.parameters,
            created_ms: now.unix_ms,
            deadline_ms: now.unix_ms.saturating_add(timeout_ms),
        };
        let (number, id) = (row.number, row.id.clone());
        self.change(step, Change::PutRequest(row));
        for device in request.devices {
            let row = StatusRow {
                request: number,
                device,
                req_id: self.ids.next_req_id(),
                status: Status::InProgress,
                rc: None,
                message: None,
                requested_ms: now.unix_ms,
                sent_ms: None,
                accepted_ms: None,
                completed_ms: None,
                updated_ms: now.unix_ms,
            };
            self.change(step, Change::PutStatus(row));
        }
        Ok(Reply::Created { id })
    }

    fn check(&self, request: &NewRequest) -> Result<Action, Refusal> {
        let action = Action::parse(&request.action).ok_or_else(|| unknown_action(&request.action))?;
        let devices = &request.devices;
        if devices.is_empty() || devices.len() > MAX_REQUEST_DEVICES {
            let message = format!(
                "devices: has {} entries; a request is for 1 to {MAX_REQUEST_DEVICES} devices",
                devices.len()
            );
            return Err(refusal(RefusalKind::Invalid, message));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = devices.iter().find(|device| !seen.insert(*device)) {
            return Err(refusal(
                RefusalKind::Invalid,
                format!("devices: {twice} is given twice"),
            ));
        }
        if request
            .timeout
            .is_some_and(|seconds| !(1..=MAX_TIMEOUT).contains(&seconds))
        {
            let message = format!("timeout: must be 1 to {MAX_TIMEOUT} seconds");
            return Err(refusal(RefusalKind::Invalid, message));
        }
        if let Some(unknown) = devices.iter().find(|device| self.tables.device(device).is_none()) {
            let message = format!("{unknown} is not registered: it has never been heard of here");
            return Err(refusal(RefusalKind::NotFound, message));
        }
        for device in devices {
            let managed = self.tables.device(device).and_then(|row| row.managed.as_ref());
            let message = match managed {
                None => format!("{device} is not managed: nothing is sent to it before its next manage"),
                Some(managed) if !managed.device_actions => {
                    format!(
                        "{device} does not support {}: its agent offers no device actions",
                        request.action
                    )
                }
                Some(_) => continue,
            };
            return Err(refusal(RefusalKind::NotSupported, message));
        }
        Ok(action)
    }

    /// The oldest complete requests make room for a new one.
    fn make_room(&mut self, devices: usize, step: &mut Step) -> Result<(), Refusal> {
        while self.tables.request_count() >= MAX_REQUESTS || self.tables.status_total() + devices > MAX_STATUSES {
            let complete = self.tables.requests_after(0).map(|row| row.number);
            let Some(oldest) = complete.into_iter().find(|number| self.tables.is_complete(*number)) else {
                let message = format!(
                    "too much is in progress: {} requests; cancel or delete some, or wait until they time out",
                    self.tables.request_count()
                );
                return Err(refusal(RefusalKind::Busy, message));
            };
            self.change(step, Change::DeleteRequest(oldest));
        }
        Ok(())
    }

    /// Calls off what is in progress. A device that already has the request may still carry it out.
    pub(super) fn cancel(&mut self, now: Now, id: &str, step: &mut Step) -> Result<Reply, Refusal> {
        let number = self.number(id)?;
        for row in self.tables.open_with(number) {
            self.end(now, row, Status::Failure, "cancelled by the operator", step);
        }
        Ok(Reply::Cancelled)
    }

    /// Clears a request, complete or not.
    pub(super) fn delete(&mut self, id: &str, step: &mut Step) -> Result<Reply, Refusal> {
        let number = self.number(id)?;
        // The number may be given again: a PUBACK that is still to come must not count for the next request.
        self.in_flight.retain(|_, key| key.0 != number);
        self.in_flight_keys.retain(|key| key.0 != number);
        self.change(step, Change::DeleteRequest(number));
        Ok(Reply::Deleted)
    }

    fn number(&self, id: &str) -> Result<i64, Refusal> {
        let row = self.tables.request(id);
        row.map(|row| row.number)
            .ok_or_else(|| refusal(RefusalKind::NotFound, format!("there is no request {}", clean(id))))
    }

    /// The broker took a request over.
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

    /// The broker will not take a request: the device will never see it.
    pub(super) fn on_publish_refused(&mut self, now: Now, id: PublishId, step: &mut Step) {
        let Some(key) = self.in_flight.remove(&id) else { return };
        self.in_flight_keys.remove(&key);
        let Some(row) = self.tables.status(key.0, &key.1).cloned() else {
            return;
        };
        if !row.is_complete() {
            let why = "the broker refuses the request: its access control list must let the service publish iotdm-1/#";
            say(now, step, Some(key.1), "refused", why.to_owned());
            self.end(now, row, Status::Failure, why, step);
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

    /// Publishes what waits, a bounded number at a time, oldest first.
    pub(super) fn publish_pending(&mut self, now: Now, step: &mut Step) {
        if !self.connected || self.in_flight.len() >= super::WINDOW {
            return;
        }
        let room = super::WINDOW - self.in_flight.len();
        let waiting = self.tables.unsent().filter(|key| !self.in_flight_keys.contains(key));
        let keys: Vec<Key> = waiting.take(room).cloned().collect();
        for key in keys {
            let row = self.tables.status(key.0, &key.1);
            let (Some(row), Some(request)) = (row, self.tables.request_by_number(key.0)) else {
                continue;
            };
            let (message, operation) = match request.action {
                Action::Reboot => (Request::Reboot, "reboot"),
                Action::FactoryReset => (Request::FactoryReset, "factoryReset"),
            };
            let seconds = request.deadline_ms.saturating_sub(request.created_ms) / 1000;
            let left = span(u64::try_from(seconds).unwrap_or(0));
            let text = format!("is asked for {} (timeout {left})", request.action.as_str());
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

    /// A device answered a request. Returns what that means, in words.
    pub(super) fn on_response(&mut self, now: Now, mut row: StatusRow, response: &Response, step: &mut Step) -> String {
        let rc = response.rc;
        let reason = ending(response.message.as_deref());
        let what = self
            .tables
            .request_by_number(row.request)
            .map_or("a request", |request| request.action.as_str());
        self.seen(now, &row.device, step);
        if row.is_complete() {
            return format!("answered {rc}{reason} to {what}, which is over: nothing changes");
        }
        // Whoever answers has received it, PUBACK or not.
        row.sent_ms.get_or_insert(now.unix_ms);
        row.updated_ms = now.unix_ms;
        if rc == Rc::ACCEPTED && row.accepted_ms.is_none() {
            row.rc = Some(rc.0);
            row.message = response.message.clone().filter(|message| !message.is_empty());
            row.accepted_ms = Some(now.unix_ms);
            self.change(step, Change::PutStatus(row));
            return format!("accepted {what} (202){reason}");
        }
        if row.accepted_ms.is_some() && rc.is_success() {
            self.change(step, Change::PutStatus(row));
            return format!("answered {rc} to {what} again");
        }
        let text = match row.accepted_ms {
            // Our agent says so when the system took the reboot and then did not go down.
            Some(_) => format!("accepted {what}, but it did not happen ({rc}){reason}"),
            None => format!("refused {what} ({rc}){reason}"),
        };
        row.rc = Some(rc.0);
        let message = response.message.as_deref().filter(|message| !message.is_empty());
        let message = message.map_or_else(|| format!("the device answered {rc}"), str::to_owned);
        self.end(now, row, Status::Failure, &message, step);
        text
    }

    /// A manage came: whatever the device had accepted has happened.
    pub(super) fn complete_accepted(&mut self, now: Now, device: &Device, step: &mut Step) {
        for mut row in self.tables.open_of(device) {
            if row.accepted_ms.is_some() {
                row.message = None;
                let what = self
                    .tables
                    .request_by_number(row.request)
                    .map_or("the request", |request| request.action.as_str());
                let text = format!("is back: {what} is complete");
                say(now, step, Some(device.clone()), "complete", text);
                self.end(now, row, Status::Success, "", step);
            }
        }
    }

    /// The device is out of reach: what is in progress with it has failed.
    pub(super) fn fail_open(&mut self, now: Now, device: &Device, why: &str, step: &mut Step) {
        for row in self.tables.open_of(device) {
            self.end(now, row, Status::Failure, why, step);
        }
    }

    pub(super) fn on_timeout(&mut self, now: Now, number: i64, step: &mut Step) {
        for row in self.tables.open_with(number) {
            let why = match (row.sent_ms, row.accepted_ms) {
                (_, Some(_)) => "the device answered 202, but no manage came in time",
                (Some(_), None) => {
                    "the device did not answer in time; if it comes back it may still carry out the request"
                }
                (None, None) => "the request never reached the broker",
            };
            say(
                now,
                step,
                Some(row.device.clone()),
                "timeout",
                format!("timed out: {why}"),
            );
            self.end(now, row, Status::TimedOut, why, step);
        }
    }

    fn end(&mut self, now: Now, mut row: StatusRow, status: Status, message: &str, step: &mut Step) {
        row.status = status;
        row.message = (!message.is_empty()).then(|| message.chars().take(Response::MAX_MESSAGE).collect());
        row.completed_ms = Some(now.unix_ms);
        row.updated_ms = now.unix_ms;
        self.change(step, Change::PutStatus(row));
    }

    fn seen(&mut self, now: Now, device: &Device, step: &mut Step) {
        if let Some(mut row) = self.tables.device(device).cloned() {
            row.last_seen_ms = now.unix_ms;
            self.change(step, Change::PutDevice(Box::new(row)));
        }
    }
}

fn refusal(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        message: message.into(),
    }
}

fn unknown_action(name: &str) -> Refusal {
    match name.split_once('/') {
        Some(("firmware", "download" | "update")) => refusal(
            RefusalKind::NotBuilt,
            format!("{name} is not built yet in this service"),
        ),
        Some((bundle, action)) if !matches!(bundle, "" | "device" | "firmware") && !action.is_empty() => refusal(
            RefusalKind::NotBuilt,
            format!(
                "custom actions such as {} are not built yet in this service",
                clean(name)
            ),
        ),
        _ => refusal(
            RefusalKind::Invalid,
            format!(
                "action: {:?} is unknown; device/reboot and device/factoryReset are what this service can ask for",
                clean(name)
            ),
        ),
    }
}
