//! Requests for actions as operators make, cancel and delete them (REST API v0002, "device management requests").
//!
//! A request is a row before it is a message; `sending` publishes it, `answers` and `ends` take it to its end.

use std::collections::BTreeSet;

use super::rows::{Action, Change, RequestRow, RequestStep, Status, StatusRow};
use super::step::{NewRequest, Now, Refusal, RefusalKind, Reply, Step};
use super::words::clean;
use super::{
    DEFAULT_FIRMWARE_TIMEOUT, DEFAULT_OBSERVE_TIMEOUT, DEFAULT_RESET_TIMEOUT, DEFAULT_TIMEOUT, DEFAULT_UPDATE_TIMEOUT,
    MAX_REQUEST_DEVICES, MAX_REQUESTS, MAX_STATUSES, MAX_TIMEOUT, Service, firmware, observing,
};
use crate::protocol::Device;
use serde_json::Value;

impl Service {
    /// Registers a request for all its devices, or for none.
    pub(super) fn create(&mut self, now: Now, request: NewRequest, step: &mut Step) -> Result<Reply, Refusal> {
        let action = self.check(&request)?;
        self.make_room(request.devices.len(), step)?;
        if request.overrides {
            let open = request.devices.iter().flat_map(|device| self.tables.open_of(device));
            // Whoever looks on is not in the way.
            let open = open.filter(|row| self.action(row) != Some(Action::Observe));
            for row in open.collect::<Vec<_>>() {
                let why = "called off by a request that overrides it";
                self.give_up(now, row, Status::Failure, why, step);
            }
        }
        let id = self.enqueue(now, action, request.parameters, request.devices, request.timeout, step);
        Ok(Reply::Created { id })
    }

    /// Makes the rows of a request that was checked, and returns its id.
    pub(super) fn enqueue(
        &mut self,
        now: Now,
        action: Action,
        parameters: Vec<Value>,
        devices: Vec<Device>,
        timeout: Option<u64>,
        step: &mut Step,
    ) -> String {
        let default = match action {
            Action::Reboot => DEFAULT_TIMEOUT,
            Action::FactoryReset => DEFAULT_RESET_TIMEOUT,
            Action::FirmwareDownload | Action::FirmwareUpdate => DEFAULT_FIRMWARE_TIMEOUT,
            Action::Update => DEFAULT_UPDATE_TIMEOUT,
            Action::Observe => DEFAULT_OBSERVE_TIMEOUT,
        };
        let timeout_ms = i64::try_from(timeout.unwrap_or(default))
            .unwrap_or(i64::MAX)
            .saturating_mul(1000);
        let first = match action {
            Action::Reboot | Action::FactoryReset => RequestStep::Initiate,
            Action::FirmwareDownload | Action::FirmwareUpdate if parameters.is_empty() => RequestStep::Observe,
            Action::FirmwareDownload | Action::FirmwareUpdate | Action::Update => RequestStep::Update,
            Action::Observe => RequestStep::Observe,
        };
        let row = RequestRow {
            number: self.tables.next_number(),
            id: self.ids.next(),
            action,
            parameters,
            created_ms: now.unix_ms,
            deadline_ms: now.unix_ms.saturating_add(timeout_ms),
        };
        let (number, id) = (row.number, row.id.clone());
        self.change(step, Change::PutRequest(row));
        for device in devices {
            let row = StatusRow {
                request: number,
                device,
                step: first,
                step_ms: now.unix_ms,
                req_id: self.ids.next_req_id(),
                status: Status::InProgress,
                outcome: None,
                rc: None,
                message: None,
                requested_ms: now.unix_ms,
                sent_ms: None,
                accepted_ms: None,
                completed_ms: None,
                updated_ms: now.unix_ms,
                state: None,
                update_status: None,
                initiated: None,
                reason: None,
            };
            self.change(step, Change::PutStatus(row));
        }
        id
    }

    fn check(&self, request: &NewRequest) -> Result<Action, Refusal> {
        let action = Action::parse(&request.action).ok_or_else(|| unknown_action(&request.action))?;
        let invalid = |message: String| refusal(RefusalKind::Invalid, message);
        if action == Action::Update {
            let message = "action: device/update follows from a PUT of a device or of its location";
            return Err(invalid(message.to_owned()));
        }
        let devices = &request.devices;
        if devices.is_empty() || devices.len() > MAX_REQUEST_DEVICES {
            return Err(invalid(format!(
                "devices: has {} entries; a request is for 1 to {MAX_REQUEST_DEVICES} devices",
                devices.len()
            )));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = devices.iter().find(|device| !seen.insert(*device)) {
            return Err(invalid(format!("devices: {twice} is given twice")));
        }
        if action == Action::FirmwareUpdate
            && let Some(other) = devices.iter().find(|device| device.type_id() != devices[0].type_id())
        {
            return Err(invalid(format!(
                "devices: {} and {other} differ in type; {} is for devices of one type",
                devices[0],
                action.as_str()
            )));
        }
        check_timeout(request.timeout)?;
        if action.is_firmware() {
            firmware::description(&request.parameters).map_err(|malformed| invalid(malformed.to_string()))?;
        }
        if action == Action::Observe {
            observing::fields(&request.parameters).map_err(|malformed| invalid(malformed.to_string()))?;
        }
        if let Some(unknown) = devices.iter().find(|device| self.tables.device(device).is_none()) {
            let message = format!("{unknown} is not registered: it has never been heard of here");
            return Err(refusal(RefusalKind::NotFound, message));
        }
        for device in devices {
            self.check_supports(action, device)?;
        }
        if action.is_firmware() && !request.overrides {
            devices.iter().try_for_each(|device| self.check_idle(device))?;
        }
        Ok(action)
    }

    fn check_supports(&self, action: Action, device: &Device) -> Result<(), Refusal> {
        let managed = self.tables.device(device).and_then(|row| row.managed.as_ref());
        let message = match managed {
            None => format!("{device} is not managed: nothing is sent to it before its next manage"),
            Some(managed) if action.is_firmware() && !managed.firmware_actions => {
                let action = action.as_str();
                format!("{device} does not support {action}: its agent offers no firmware actions")
            }
            Some(managed) if action.ends_with_manage() && !managed.device_actions => {
                let action = action.as_str();
                format!("{device} does not support {action}: its agent offers no device actions")
            }
            Some(_) => return Ok(()),
        };
        Err(refusal(RefusalKind::NotSupported, message))
    }

    /// A device does one firmware action at a time.
    fn check_idle(&self, device: &Device) -> Result<(), Refusal> {
        let open = self.tables.open_of(device);
        let busy = open
            .iter()
            .filter_map(|row| self.tables.request_by_number(row.request))
            .find(|request| request.action.is_firmware());
        let Some(request) = busy else { return Ok(()) };
        let message = format!(
            "{device} is busy with {} (request {}); wait for its end, cancel it, or override it",
            request.action.as_str(),
            request.id
        );
        Err(refusal(RefusalKind::Conflict, message))
    }

    /// The oldest complete requests make room for a new one.
    pub(super) fn make_room(&mut self, devices: usize, step: &mut Step) -> Result<(), Refusal> {
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
            let observed = row.step == RequestStep::Working && self.action(&row) == Some(Action::Observe);
            if observed {
                self.give_up(now, row, Status::Success, "ended by the operator", step);
            } else {
                self.give_up(now, row, Status::Failure, "cancelled by the operator", step);
            }
        }
        Ok(Reply::Cancelled)
    }

    /// Clears a request, complete or not.
    pub(super) fn delete(&mut self, now: Now, id: &str, step: &mut Step) -> Result<Reply, Refusal> {
        let number = self.number(id)?;
        // What is in progress is called off first, so that no device goes on notifying for nobody.
        for row in self.tables.open_with(number) {
            self.give_up(now, row, Status::Failure, "deleted by the operator", step);
        }
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
}

/// # Errors
/// Says how long a timeout may be.
pub(super) fn check_timeout(timeout: Option<u64>) -> Result<(), Refusal> {
    match timeout {
        Some(seconds) if !(1..=MAX_TIMEOUT).contains(&seconds) => {
            let message = format!("timeout: must be 1 to {MAX_TIMEOUT} seconds");
            Err(refusal(RefusalKind::Invalid, message))
        }
        _ => Ok(()),
    }
}

pub(super) fn refusal(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        message: message.into(),
    }
}

fn unknown_action(name: &str) -> Refusal {
    match name.split_once('/') {
        Some((bundle, action)) if !matches!(bundle, "" | "device" | "firmware") && !action.is_empty() => refusal(
            RefusalKind::NotBuilt,
            format!(
                "custom actions such as {} are not built yet in this service",
                clean(name)
            ),
        ),
        _ => {
            let asked = Action::ALL.into_iter().filter(|action| *action != Action::Update);
            let known = asked.map(Action::as_str).collect::<Vec<_>>().join(", ");
            refusal(
                RefusalKind::Invalid,
                format!("action: {:?} is unknown; this service can ask for {known}", clean(name)),
            )
        }
    }
}
