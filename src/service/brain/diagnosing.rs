//! What an operator changes in a device's logs and error codes (REST API v0002: diag).
//!
//! Only the registry keeps them; whether there is a log of some number it says itself, before this is called.

use super::Service;
use super::message::say;
use super::reports::log_row;
use super::requests::refusal;
use super::rows::{Change, ErrorCodeRow};
use super::step::{Diagnose, Diagnosis, Now, Refusal, RefusalKind, Reply, Step};
use super::words::severity;

impl Service {
    pub(super) fn diagnose(&mut self, now: Now, diagnose: Diagnose, step: &mut Step) -> Result<Reply, Refusal> {
        let Diagnose { device, change } = diagnose;
        if self.tables.device(&device).is_none() {
            let message = format!("{device} is not registered: it has never been heard of here");
            return Err(refusal(RefusalKind::NotFound, message));
        }
        let (change, operation, text) = match change {
            Diagnosis::AddLog(entry) => {
                let text = format!("an operator logged ({}): {}", severity(entry.severity), entry.message);
                (Change::AddLog(log_row(&device, now, entry, None)), "addLog", text)
            }
            Diagnosis::DeleteLog(id) => {
                let text = format!("an operator deleted its log {id}");
                (Change::DeleteLog(device.clone(), id), "deleteLog", text)
            }
            Diagnosis::ClearLogs => {
                let text = "an operator cleared its logs".to_owned();
                (Change::ClearLogs(device.clone()), "clearLogs", text)
            }
            Diagnosis::AddErrorCode(code, at_ms) => {
                let row = ErrorCodeRow {
                    device: device.clone(),
                    received_ms: at_ms.unwrap_or(now.unix_ms),
                    code,
                    req_id: None,
                };
                let text = format!("an operator added the error code {code}");
                (Change::AddErrorCode(row), "addErrorCode", text)
            }
            Diagnosis::ClearErrorCodes => {
                let text = "an operator cleared its error codes".to_owned();
                (Change::ClearErrorCodes(device.clone()), "clearErrorCodes", text)
            }
        };
        self.change(step, change);
        say(now, step, Some(device), operation, text);
        Ok(Reply::Diagnosed)
    }
}
