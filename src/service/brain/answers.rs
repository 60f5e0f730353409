//! What a device's answers, and its manage, mean for the requests in progress with it.

use super::Service;
use super::message::say;
use super::rows::{Action, Change, RequestStep, Status, StatusRow};
use super::step::{Now, Step};
use super::words::ending;
use super::writes;
use crate::protocol::model::{FieldValue, kept_in};
use crate::protocol::{Device, Rc, Response};

impl Service {
    /// A device answered the present step of a request. Returns what that means, in words; `values` gets what it told of
    /// fields that are observed now, or took over.
    pub(super) fn on_response(
        &mut self,
        now: Now,
        mut row: StatusRow,
        response: &Response,
        values: &mut Vec<FieldValue>,
        step: &mut Step,
    ) -> String {
        let rc = response.rc;
        let reason = ending(response.message.as_deref());
        let action = self.action(&row);
        let what = action.map_or("a request", |action| action.as_str());
        self.seen(now, &row.device, step);
        if row.is_complete() && rc == Rc::CHANGED && self.is_unwritten(&row) {
            *values = self.taken_of(&row, response);
            self.on_written(now, &row.device, values, step);
            row.rc = Some(rc.0);
            self.change(step, Change::PutStatus(row));
            return format!("has taken over after all what {what} wrote (204){reason}");
        }
        if row.is_complete() {
            return format!("answered {rc}{reason} to {what}, which is over: nothing changes");
        }
        // Whoever answers has received it, PUBACK or not.
        row.sent_ms.get_or_insert(now.unix_ms);
        row.updated_ms = now.unix_ms;
        match (row.step, rc) {
            (RequestStep::Cancel, _) => {
                let done = row.outcome == Some(Status::Success);
                let end = if done { "is complete" } else { "has failed" };
                let why = ending(row.message.as_deref());
                self.cut_short(now, row, Status::Failure, "", step);
                format!("is not observed any more ({rc}){reason}: {what} {end}{why}")
            }
            (RequestStep::Update, Rc::CHANGED) if action == Some(Action::Update) => {
                *values = self.taken_of(&row, response);
                self.on_written(now, &row.device, values, step);
                row.rc = Some(rc.0);
                let names = writes::names(values);
                // What it says beside that is not kept, as with other agents.
                let message = response
                    .message
                    .as_deref()
                    .filter(|message| !kept_in(message).is_empty());
                self.finish(now, row, Status::Success, message.unwrap_or_default(), step);
                match names.as_str() {
                    "" => format!("has taken over nothing (204){reason}"),
                    names => format!("has taken over {names} (204){reason}"),
                }
            }
            (RequestStep::Observe, Rc::OK) if action == Some(Action::Observe) => {
                *values = self.on_observed(now, &row, response, step);
                let device = row.device.clone();
                row.rc = Some(rc.0);
                row.step = RequestStep::Working;
                row.step_ms = now.unix_ms;
                row.accepted_ms = Some(now.unix_ms);
                self.change(step, Change::PutStatus(row));
                self.note_observed(&device, step);
                format!("notifies changes from now on (200){reason}")
            }
            (RequestStep::Update, Rc::CHANGED) => {
                self.on_described(&row, step);
                row.rc = Some(rc.0);
                self.ask_next(now, row, RequestStep::Observe, step);
                format!("knows which firmware {what} is about (204){reason}")
            }
            (RequestStep::Observe, Rc::OK) => {
                *values = self.on_observed(now, &row, response, step);
                let device = row.device.clone();
                row.rc = Some(rc.0);
                self.ask_next(now, row, RequestStep::Initiate, step);
                self.note_observed(&device, step);
                format!("notifies changes from now on (200){reason}")
            }
            (RequestStep::Initiate, Rc::ACCEPTED) => {
                row.rc = Some(rc.0);
                row.message = response.message.clone().filter(|message| !message.is_empty());
                row.accepted_ms = Some(now.unix_ms);
                row.step = RequestStep::Working;
                row.step_ms = now.unix_ms;
                self.change(step, Change::PutStatus(row));
                format!("accepted {what} (202){reason}")
            }
            (RequestStep::Working, rc) if rc.is_success() => {
                self.change(step, Change::PutStatus(row));
                format!("answered {rc} to {what} again")
            }
            _ => self.on_refusal(now, row, response, step),
        }
    }

    fn on_refusal(&mut self, now: Now, mut row: StatusRow, response: &Response, step: &mut Step) -> String {
        let rc = response.rc;
        let reason = ending(response.message.as_deref());
        let what = self.action(&row).map_or("a request", |action| action.as_str());
        let attributes = self.action(&row) == Some(Action::Update);
        let fields = writes::refused_fields(response);
        let text = match row.step {
            RequestStep::Update if attributes => format!("refused what was written ({rc}){reason}"),
            RequestStep::Update => format!("refused the description of the firmware ({rc}){reason}"),
            RequestStep::Observe => format!("refused to be observed ({rc}){reason}"),
            // Our agent says so when the system took the reboot and then did not go down, or when not all was wiped.
            RequestStep::Working => format!("accepted {what}, but it did not succeed ({rc}){reason}"),
            RequestStep::Initiate | RequestStep::Cancel => format!("refused {what} ({rc}){reason}"),
        };
        row.rc = Some(rc.0);
        let message = response.message.clone().filter(|message| !message.is_empty());
        let message = message.unwrap_or_else(|| match row.step {
            RequestStep::Update | RequestStep::Observe if !fields.is_empty() => {
                format!("the device answered {rc} for {fields}")
            }
            RequestStep::Update => format!("the device answered {rc} to device/update"),
            RequestStep::Observe => format!("the device answered {rc} to observe"),
            _ => format!("the device answered {rc}"),
        });
        self.conclude(now, row, Status::Failure, &message, step);
        text
    }

    /// A manage came: a reboot or reset that the device had accepted has happened. Firmware actions are ended by
    /// notifies alone.
    pub(super) fn complete_accepted(&mut self, now: Now, device: &Device, step: &mut Step) {
        for mut row in self.tables.open_of(device) {
            let Some(action) = self.action(&row).filter(|action| action.ends_with_manage()) else {
                continue;
            };
            if row.step == RequestStep::Working {
                row.message = None;
                let text = format!("is back: {} is complete", action.as_str());
                say(now, step, Some(device.clone()), "complete", text);
                self.finish(now, row, Status::Success, "", step);
            }
        }
    }

    fn seen(&mut self, now: Now, device: &Device, step: &mut Step) {
        if let Some(mut row) = self.tables.device(device).cloned() {
            row.last_seen_ms = now.unix_ms;
            self.change(step, Change::PutDevice(Box::new(row)));
        }
    }
}
