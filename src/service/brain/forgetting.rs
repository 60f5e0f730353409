//! A device that an operator has forgotten (REST API v0002: DELETE of a device).
//!
//! Who may speak is the broker's matter: one that says something is registered anew. What was asked of it before stays
//! with the requests.

use super::Service;
use super::message::say;
use super::requests::refusal;
use super::rows::Change;
use super::step::{Now, Refusal, RefusalKind, Reply, Step};
use crate::protocol::Device;

impl Service {
    pub(super) fn forget(&mut self, now: Now, device: &Device, step: &mut Step) -> Result<Reply, Refusal> {
        if self.tables.device(device).is_none() {
            let message = format!("{device} is not registered: it has never been heard of here");
            return Err(refusal(RefusalKind::NotFound, message));
        }
        let open = self.tables.open_of(device);
        let request = open.first().and_then(|row| self.tables.request_by_number(row.request));
        if let Some(request) = request {
            let message = format!(
                "{} of {device} is in progress (request {}); wait for its end, or cancel it",
                request.action.as_str(),
                request.id
            );
            return Err(refusal(RefusalKind::Conflict, message));
        }
        self.change(step, Change::DeleteDevice(device.clone()));
        let text = "an operator had it forgotten; what it says next registers it anew".to_owned();
        say(now, step, Some(device.clone()), "forget", text);
        Ok(Reply::Forgotten)
    }
}
