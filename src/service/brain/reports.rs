//! What a device's reports change: managed or not, where it is, what it logs (device management operations).

use serde_json::{Map, Value};

use super::attributes::{self, Placed};
use super::message::{Answer, say};
use super::rows::{Change, DeviceRow, ErrorCodeRow, LogRow, Managed};
use super::step::{Now, Step};
use super::{MAX_DEVICES, Service};
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::manage::Manage;
use crate::protocol::model::{DeviceInfo, check_metadata};
use crate::protocol::{Device, Rc, Report, ReqId, timestamp};

impl Service {
    /// Takes a report in and says how it is answered.
    pub(super) fn report(
        &mut self,
        now: Now,
        device: &Device,
        report: Report,
        req_id: Option<&ReqId>,
        step: &mut Step,
    ) -> Answer {
        // On a plain broker the access control list is the registration: whoever may publish under a name is that
        // device. Only an unmanage or a notify of a device that nobody knows registers nothing.
        let known = self.tables.device(device).cloned();
        let mut row = match (known, &report) {
            (Some(row), _) => row,
            (None, Report::Unmanage) => return Answer::ok(),
            (None, Report::Notify(_)) => return Answer::refused(Rc::NOT_FOUND, "the device is not registered"),
            (None, _) if self.tables.device_count() >= MAX_DEVICES => {
                let reason = format!("the registry is full: it holds {MAX_DEVICES} devices");
                return Answer::refused(Rc::NOT_FOUND, reason);
            }
            (None, _) => DeviceRow::new(device.clone(), now.unix_ms),
        };
        row.last_seen_ms = now.unix_ms;
        match report {
            Report::Manage(manage) => self.manage(now, row, *manage, req_id, step),
            Report::Unmanage => {
                row.managed = None;
                self.change(step, Change::PutDevice(Box::new(row)));
                self.fail_open(now, device, "the device was unmanaged", step);
                Answer::ok()
            }
            Report::Location(location) => {
                // The second time it may come after what an operator has written since.
                let again = !first_time(&mut row, req_id);
                if again && row.location_written {
                    self.change(step, Change::PutDevice(Box::new(row)));
                    return Answer::nothing_new(BEFORE);
                }
                let placed = attributes::place(&mut row, &location, now);
                self.change(step, Change::PutDevice(Box::new(row)));
                match placed {
                    Placed::Here | Placed::Part => Answer::ok(),
                    Placed::Older => Answer::nothing_new("it was measured before the one that is known"),
                    Placed::Echo => Answer::nothing_new("it repeats what an operator wrote"),
                }
            }
            Report::AddLog(entry) => {
                self.change(step, Change::PutDevice(Box::new(row)));
                self.on_logged(now, device, &entry, step);
                self.change(step, Change::AddLog(log_row(device, now, entry, req_id)));
                Answer::ok()
            }
            Report::ClearLogs => {
                self.change(step, Change::PutDevice(Box::new(row)));
                self.change(step, Change::ClearLogs(device.clone()));
                Answer::ok()
            }
            Report::AddErrorCode(code) => {
                self.change(step, Change::PutDevice(Box::new(row)));
                let row = ErrorCodeRow {
                    device: device.clone(),
                    received_ms: now.unix_ms,
                    code,
                    req_id: req_id.cloned(),
                };
                self.change(step, Change::AddErrorCode(row));
                Answer::ok()
            }
            Report::ClearErrorCodes => {
                self.change(step, Change::PutDevice(Box::new(row)));
                self.change(step, Change::ClearErrorCodes(device.clone()));
                Answer::ok()
            }
            Report::Notify(fields) => self.notify(now, row, fields, req_id, step),
        }
    }

    fn manage(
        &mut self,
        now: Now,
        mut row: DeviceRow,
        manage: Manage,
        req_id: Option<&ReqId>,
        step: &mut Step,
    ) -> Answer {
        let info = manage.device_info.as_ref().map(DeviceInfo::to_object);
        for (name, object) in [("d.metadata", &manage.metadata), ("d.deviceInfo", &info)] {
            if let Some(object) = object
                && let Err(malformed) = check_metadata(name, object)
            {
                return Answer::refused(Rc::BAD_REQUEST, malformed.to_string());
            }
        }
        // MQTT may deliver a manage twice, the second time after the 202 of a reboot that came later, and after what was
        // written or notified since.
        let again = !first_time(&mut row, req_id);
        if let Some(metadata) = manage.metadata.filter(|_| !again) {
            row.metadata = metadata;
        }
        if let Some(info) = info.filter(|_| !again) {
            row.device_info = info;
        }
        let lifetime = manage.lifetime.filter(|seconds| *seconds > 0);
        let supports = manage.supports.unwrap_or_default();
        let before = row.managed.take();
        let (since_ms, firmware, observed) = match before {
            Some(before) => (before.since_ms, before.firmware, before.observed),
            None => (now.unix_ms, Map::new(), Default::default()),
        };
        row.managed = Some(Managed {
            since_ms,
            manage_ms: now.unix_ms,
            dormant_ms: lifetime.map(|seconds| {
                let ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
                now.unix_ms.saturating_add(ms)
            }),
            device_actions: supports.device_actions,
            firmware_actions: supports.firmware_actions,
            bundles: supports
                .bundles
                .into_iter()
                .map(|(bundle, yes)| (bundle, Value::Bool(yes)))
                .collect(),
            firmware,
            observed,
        });
        let device = row.device.clone();
        self.change(step, Change::PutDevice(Box::new(row)));
        if again {
            return Answer::nothing_new(BEFORE);
        }
        self.complete_accepted(now, &device, step);
        Answer::ok()
    }

    /// The lifetime has passed without another manage.
    pub(super) fn on_dormant(&mut self, now: Now, device: &Device, step: &mut Step) {
        let Some(mut row) = self.tables.device(device).cloned() else {
            return;
        };
        row.managed = None;
        self.change(step, Change::PutDevice(Box::new(row)));
        let text = "is no longer managed: its lifetime passed without another manage".to_owned();
        say(now, step, Some(device.clone()), "dormant", text);
        self.fail_open(now, device, "the device became dormant: its lifetime passed", step);
    }
}

/// Why a report that is delivered again says nothing.
pub(super) const BEFORE: &str = "it came before";

/// Whether a manage, location or notify with this id is new; remembers it.
pub(super) fn first_time(row: &mut DeviceRow, req_id: Option<&ReqId>) -> bool {
    let Some(req_id) = req_id else { return true };
    if row.manages.contains(req_id) {
        return false;
    }
    row.manages.push(req_id.clone());
    let surplus = row.manages.len().saturating_sub(DeviceRow::MANAGES);
    row.manages.drain(..surplus);
    true
}

pub(super) fn log_row(device: &Device, now: Now, entry: LogEntry, req_id: Option<&ReqId>) -> LogRow {
    LogRow {
        device: device.clone(),
        received_ms: now.unix_ms,
        timestamp: entry
            .timestamp
            .or_else(|| timestamp::format_ms(now.unix_ms))
            .unwrap_or_default(),
        severity: entry.severity as u8,
        message: entry.message,
        data: entry.data,
        req_id: req_id.cloned(),
    }
}
