//! Firmware actions: the description that goes ahead of them, and what a device's notifies say about them (firmware
//! actions reference).

use serde_json::Value;

use super::Service;
use super::ends::bounded;
use super::rows::{Action, Change, RequestStep, Status, StatusRow};
use super::step::{Now, Step};
use super::words::update_status_in_words;
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::firmware::{Firmware, FirmwareState, UpdateStatus};
use crate::protocol::json::Members;
use crate::protocol::model::FieldValue;
use crate::protocol::{Device, Malformed, ReqId, Request};

/// The attribute that a firmware action changes, and that is observed for it.
pub(super) const FIELD: &str = "mgmt.firmware";
/// The longest value of a parameter, in bytes.
const MAX_PARAMETER: usize = 4096;
/// So much of the reason that a device logged goes into the message of its row, in characters: the code follows it.
const MAX_REASON: usize = 900;

/// Reads `parameters` of a request: a list of `{"name", "value"}` with the names `uri`, `name`, `verifier`, `version`.
///
/// # Errors
/// Names the parameter that is wrong.
pub(super) fn description(parameters: &[Value]) -> Result<Firmware, Malformed> {
    let mut firmware = Firmware::default();
    for (index, parameter) in parameters.iter().enumerate() {
        let mut members = Members::of(format!("parameters[{index}]"), parameter.clone())?;
        let name = members.string("name")?;
        let name = name.ok_or_else(|| Malformed::new(members.path("name"), "is missing"))?;
        let value = members.string("value")?;
        let value = value.ok_or_else(|| Malformed::new(members.path("value"), "is missing"))?;
        if value.len() > MAX_PARAMETER {
            let reason = format!("has {} bytes, more than {MAX_PARAMETER}", value.len());
            return Err(Malformed::new(members.path("value"), reason));
        }
        let member = match name.as_str() {
            "uri" => &mut firmware.uri,
            "name" => &mut firmware.name,
            "verifier" => &mut firmware.verifier,
            "version" => &mut firmware.version,
            _ => {
                let reason = "is none of a firmware action; these are uri, name, verifier and version";
                return Err(Malformed::new(members.path("name"), reason));
            }
        };
        if member.replace(value).is_some() {
            let reason = format!("{name} is given twice");
            return Err(Malformed::new(members.path("name"), reason));
        }
    }
    Ok(firmware)
}

/// `, version 2.0`, or nothing.
pub(super) fn named(firmware: &Firmware) -> String {
    match firmware.version.as_deref() {
        Some(version) if !version.is_empty() => format!(", version {version}"),
        _ => String::new(),
    }
}

/// `mgmt.firmware` as it is written before an action: the whole object, with an empty text for what was not given, so
/// that nothing of an earlier description stays.
pub(super) fn written(description: Firmware) -> Firmware {
    let text = |text: Option<String>| Some(text.unwrap_or_default());
    Firmware {
        version: text(description.version),
        name: text(description.name),
        uri: text(description.uri),
        verifier: text(description.verifier),
        state: Some(FirmwareState::Idle),
        update_status: Some(UpdateStatus::Success),
        updated_date_time: text(None),
        extra: description.extra,
    }
}

/// The first step.
pub(super) fn update(description: Firmware) -> Request {
    Request::Update(vec![FieldValue {
        field: FIELD.to_owned(),
        value: written(description).to_object().into(),
    }])
}

/// The last step.
pub(super) fn cancel() -> Request {
    Request::Cancel(vec![FIELD.to_owned()])
}

impl Service {
    pub(super) fn action(&self, row: &StatusRow) -> Option<Action> {
        self.tables.request_by_number(row.request).map(|request| request.action)
    }

    /// True for a device's part of a firmware action.
    pub(super) fn is_firmware(&self, row: &StatusRow) -> bool {
        self.action(row).is_some_and(Action::is_firmware)
    }

    /// The device has taken the description over: that is what `mgmt.firmware` is now.
    pub(super) fn on_described(&mut self, row: &StatusRow, step: &mut Step) {
        let request = self.tables.request_by_number(row.request);
        let description = request.and_then(|request| description(&request.parameters).ok());
        self.know(&row.device, description.map(written), step);
    }

    fn know(&mut self, device: &Device, firmware: Option<Firmware>, step: &mut Step) {
        let row = self.tables.device(device).cloned();
        let (Some(mut row), Some(firmware)) = (row, firmware) else {
            return;
        };
        let Some(managed) = &mut row.managed else { return };
        managed.firmware = firmware.to_object();
        self.change(step, Change::PutDevice(Box::new(row)));
    }

    /// A device notified this: it may be the end of what it works on.
    pub(super) fn on_notified(&mut self, now: Now, device: &Device, changed: &Firmware, step: &mut Step) {
        for mut row in self.tables.open_of(device) {
            // The 202 comes before the first notify: what comes earlier is about something else.
            let Some(action) = self.action(&row).filter(|action| action.is_firmware()) else {
                continue;
            };
            if row.step != RequestStep::Working {
                continue;
            }
            let was_in_progress = row.update_status == Some(UpdateStatus::InProgress);
            row.state = changed.state.or(row.state);
            row.update_status = changed.update_status.or(row.update_status);
            row.updated_ms = now.unix_ms;
            match verdict(action, &row, was_in_progress) {
                None => self.change(step, Change::PutStatus(row)),
                Some(Ok(())) => {
                    row.reason = None;
                    self.conclude(now, row, Status::Success, "", step);
                }
                Some(Err(status)) => {
                    let why = failure(action, status, row.reason.as_deref());
                    self.conclude(now, row, Status::Failure, &why, step);
                }
            }
        }
    }

    /// A device logged something: it may be the reason of a failure that it notifies, or has notified. The codes of the
    /// protocol are few; the log has the words.
    pub(super) fn on_logged(&mut self, now: Now, device: &Device, entry: &LogEntry, step: &mut Step) {
        let Some((req_id, number)) = failed_request(entry) else {
            return;
        };
        let row = self.tables.status_by_initiated(&req_id);
        let row = row.filter(|row| row.device == *device && row.reason.is_none());
        let (Some(mut row), Some(reason)) = (row.cloned(), bounded(&entry.message)) else {
            return;
        };
        let Some(action) = self.action(&row) else { return };
        let notified = row.update_status.filter(|status| *status as u64 == number);
        let waits = matches!(row.step, RequestStep::Initiate | RequestStep::Working) && !row.is_complete();
        match (row.outcome.unwrap_or(row.status), notified) {
            (Status::Failure, Some(status)) => row.message = bounded(&failure(action, status, Some(&reason))),
            (Status::InProgress, _) if waits => {}
            _ => return,
        }
        row.reason = Some(reason);
        row.updated_ms = now.unix_ms;
        self.change(step, Change::PutStatus(row));
    }
}

/// The request whose failure a log tells of, and the `updateStatus` that goes with it: our agent says both in `data`.
fn failed_request(entry: &LogEntry) -> Option<(ReqId, u64)> {
    let data: Value = serde_json::from_slice(entry.data.as_deref()?).ok()?;
    data["firmware"].as_str()?;
    Some((ReqId::new(data["reqId"].as_str()?)?, data["updateStatus"].as_u64()?))
}

/// How an action failed: in the device's own words, if it had any, with the protocol's code.
fn failure(action: Action, status: UpdateStatus, reason: Option<&str>) -> String {
    let words = update_status_in_words(status);
    let number = status as u8;
    match (reason, action) {
        (Some(reason), _) => {
            let reason: String = reason.chars().take(MAX_REASON).collect();
            format!("{reason} ({words}, updateStatus {number})")
        }
        (None, Action::FirmwareDownload) => format!("the download failed: {words} (updateStatus {number})"),
        (None, _) => format!("the update failed: {words} (updateStatus {number})"),
    }
}

/// What the notifies so far say: nothing final, done, or failed and how.
fn verdict(action: Action, row: &StatusRow, was_in_progress: bool) -> Option<Result<(), UpdateStatus>> {
    let failed = row
        .update_status
        .filter(|status| !matches!(status, UpdateStatus::Success | UpdateStatus::InProgress));
    match action {
        Action::Reboot | Action::FactoryReset | Action::Update | Action::Observe => None,
        Action::FirmwareDownload => match (row.state, failed) {
            (Some(FirmwareState::Downloaded), _) => Some(Ok(())),
            (_, Some(status)) => Some(Err(status)),
            _ => None,
        },
        Action::FirmwareUpdate => {
            let idle = row.state == Some(FirmwareState::Idle);
            match row.update_status.unwrap_or_default() {
                // Zero is also "nothing happened yet": it ends an update that was in progress, or with the image gone.
                UpdateStatus::Success => (idle || was_in_progress).then_some(Ok(())),
                UpdateStatus::InProgress => None,
                status => Some(Err(status)),
            }
        }
    }
}
