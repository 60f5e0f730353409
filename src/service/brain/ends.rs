//! How a device's part of a request ends. A device that was observed is told to stop first, and its part ends with the
//! answer to that; whatever ends it from outside does not wait.

use super::Service;
use super::message::say;
use super::rows::{Action, Change, RequestStep, Status, StatusRow};
use super::step::{Now, Step};
use crate::protocol::{Device, Response};

impl Service {
    /// The device has said what there is to say.
    pub(super) fn conclude(&mut self, now: Now, mut row: StatusRow, status: Status, message: &str, step: &mut Step) {
        let observed = matches!(row.step, RequestStep::Initiate | RequestStep::Working);
        // Somebody else may want to know on: then the device is not told to stop.
        if !(observed && self.is_firmware(&row)) || self.fields_only_of(&row).is_empty() {
            return self.finish(now, row, status, message, step);
        }
        row.outcome = Some(status);
        row.message = bounded(message);
        self.ask_next(now, row, RequestStep::Cancel, step);
    }

    /// Ends it from outside: nobody waits for the device any more. What it has said already counts.
    pub(super) fn give_up(&mut self, now: Now, row: StatusRow, status: Status, message: &str, step: &mut Step) {
        let asked = matches!(
            row.step,
            RequestStep::Observe | RequestStep::Initiate | RequestStep::Working
        );
        let fields = self.fields_only_of(&row);
        if asked && self.connected && !fields.is_empty() {
            let text = format!("need not notify changes of {} any more: {message}", fields.join(", "));
            say(now, step, Some(row.device.clone()), "cancel", text);
            self.stop_observing(&row.device, fields, step);
        }
        self.cut_short(now, row, status, message, step);
    }

    /// The same without a word to the device.
    pub(super) fn cut_short(&mut self, now: Now, row: StatusRow, status: Status, message: &str, step: &mut Step) {
        match row.outcome {
            Some(outcome) => {
                let message = row.message.clone().unwrap_or_default();
                self.finish(now, row, outcome, &message, step);
            }
            None => self.finish(now, row, status, message, step),
        }
    }

    /// Nothing more is asked and nothing more is waited for.
    pub(super) fn finish(&mut self, now: Now, mut row: StatusRow, status: Status, message: &str, step: &mut Step) {
        let device = row.device.clone();
        row.status = status;
        row.outcome = None;
        row.message = bounded(message);
        row.completed_ms = Some(now.unix_ms);
        row.updated_ms = now.unix_ms;
        let observes = !self.fields_of(&row).is_empty();
        self.change(step, Change::PutStatus(row));
        if observes {
            self.note_observed(&device, step);
        }
    }

    /// The device is out of reach: what is in progress with it has failed, unless it has said how it ended.
    pub(super) fn fail_open(&mut self, now: Now, device: &Device, why: &str, step: &mut Step) {
        for row in self.tables.open_of(device) {
            self.cut_short(now, row, Status::Failure, why, step);
        }
    }

    pub(super) fn on_timeout(&mut self, now: Now, number: i64, step: &mut Step) {
        for row in self.tables.open_with(number) {
            let firmware = self.is_firmware(&row);
            let action = self.action(&row);
            let why = match (row.sent_ms, row.step) {
                (_, RequestStep::Working) if action == Some(Action::Observe) => "the time of the observation is over",
                (_, RequestStep::Working) if firmware => {
                    "the device answered 202, but did not notify in time how it ended"
                }
                (_, RequestStep::Working) => "the device answered 202, but no manage came in time",
                (None, _) if row.rc.is_some() => "its time was over before the device could be asked for the next step",
                (None, _) => "the request never reached the broker",
                (Some(_), RequestStep::Update) if action == Some(Action::Update) => {
                    "the device did not answer in time; if it comes back it may still take over what was written"
                }
                (Some(_), RequestStep::Update) => "the device did not answer device/update in time",
                (Some(_), RequestStep::Observe) => "the device did not answer observe in time",
                (Some(_), RequestStep::Initiate | RequestStep::Cancel) => {
                    "the device did not answer in time; if it comes back it may still carry out the request"
                }
            };
            let device = row.device.clone();
            if row.outcome.is_none() {
                say(now, step, Some(device), "timeout", format!("timed out: {why}"));
            }
            self.give_up(now, row, Status::TimedOut, why, step);
        }
    }

    /// The cancel of an observation stays unanswered.
    pub(super) fn on_unanswered(&mut self, now: Now, number: i64, device: &Device, step: &mut Step) {
        let Some(row) = self.tables.status(number, device).cloned() else {
            return;
        };
        let text = "does not answer the cancel of the observation: the request ends as the device has reported";
        say(now, step, Some(device.clone()), "timeout", text.to_owned());
        self.cut_short(now, row, Status::TimedOut, text, step);
    }
}

pub(super) fn bounded(message: &str) -> Option<String> {
    (!message.is_empty()).then(|| message.chars().take(Response::MAX_MESSAGE).collect())
}
