//! A device's message: who sent it, what it is, whether it is answered. What it means is in `reports` and `requests`.

use super::Service;
use super::rows::StatusRow;
use super::step::{Effect, Incoming, Now, Step, WatchLine};
use super::words::{clean, ending};
use crate::protocol::model::FieldValue;
use crate::protocol::topic::TopicError;
use crate::protocol::{Address, Device, Malformed, Rc, Report, ReqId, Response, ToDevice, ToService, json};

/// What a report is answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) rc: Rc,
    /// The reason, for everything but success.
    pub(super) message: Option<String>,
    /// Why a success changed nothing, for whoever watches.
    pub(super) note: Option<&'static str>,
    /// What was told of observed fields.
    pub(super) values: Vec<FieldValue>,
}

impl Answer {
    pub(super) fn ok() -> Self {
        Answer {
            rc: Rc::OK,
            message: None,
            note: None,
            values: Vec::new(),
        }
    }

    /// Success, as the device has done what it should, but it changed nothing.
    pub(super) fn nothing_new(note: &'static str) -> Self {
        Answer {
            note: Some(note),
            ..Answer::ok()
        }
    }

    pub(super) fn refused(rc: Rc, message: impl Into<String>) -> Self {
        Answer {
            rc,
            message: Some(message.into()),
            ..Answer::ok()
        }
    }
}

impl Service {
    /// Handles a message and acknowledges it, whatever it is: one that stayed would come again for ever.
    pub(super) fn on_message(&mut self, now: Now, message: Incoming, step: &mut Step) {
        let ack = message.ack;
        match ToService::parse(&message.topic) {
            Ok((Address::Device(device), _)) if message.retained => {
                let text = format!("ignored a retained message on {}: it may be of any age", message.topic);
                say(now, step, Some(device), "ignored", text);
            }
            Ok((Address::Device(device), ToService::Response)) => self.on_answer(now, device, &message.payload, step),
            Ok((Address::Device(device), kind)) => self.on_report(now, device, kind, &message.payload, step),
            Err(TopicError::UnknownOperation {
                address: Address::Device(device),
                tail,
            }) => self.on_unknown(now, device, &tail, &message, step),
            Ok((Address::Session, _))
            | Err(TopicError::UnknownOperation {
                address: Address::Session,
                ..
            }) => {
                let text = format!(
                    "ignored a message on {}: it does not say whose it is; set kind = \"gateway\" in the agent",
                    message.topic
                );
                say(now, step, None, "ignored", text);
            }
            Err(error @ TopicError::Foreign(_)) => {
                say(now, step, None, "ignored", format!("ignored a message: {error}"));
            }
        }
        step.effects.push(Effect::Ack(ack));
    }

    fn on_report(&mut self, now: Now, device: Device, kind: ToService, payload: &[u8], step: &mut Step) {
        let (report, req_id) = match Report::parse(kind, payload) {
            Ok(read) => read,
            Err(malformed) => return self.refuse(now, device, operation(kind), malformed, step),
        };
        let what = super::words::report(&report);
        let answer = self.report(now, &device, report, req_id.as_ref(), step);
        let text = match (&answer.message, answer.note) {
            (None, None) => what,
            (None, Some(note)) => format!("{what}: nothing new, {note}"),
            (Some(reason), _) => format!("sent a {} that is answered {}: {reason}", operation(kind), answer.rc),
        };
        self.tell(line(now, Some(device), operation(kind), &text), req_id, answer, step);
    }

    /// What cannot be read is answered 400 when there is an id to answer.
    fn refuse(&mut self, now: Now, device: Device, operation: &'static str, malformed: Malformed, step: &mut Step) {
        let reason = malformed.to_string();
        let text = match &malformed.req_id {
            Some(_) => format!("sent a malformed message: answered 400, {reason}"),
            None => format!("sent a malformed message that cannot be answered: {reason}"),
        };
        let answer = Answer::refused(Rc::BAD_REQUEST, reason);
        self.tell(
            line(now, Some(device), operation, &text),
            malformed.req_id,
            answer,
            step,
        );
    }

    fn on_unknown(&mut self, now: Now, device: Device, tail: &str, message: &Incoming, step: &mut Step) {
        let req_id = match json::envelope(&message.payload) {
            Ok(envelope) => envelope.req_id,
            Err(malformed) => malformed.req_id,
        }
        .filter(|_| !message.retained);
        let reason = format!("the device management protocol knows no operation {tail:?}");
        let text = format!("sent a message that means nothing: {reason}");
        let answer = Answer::refused(Rc::NOT_FOUND, reason);
        self.tell(line(now, Some(device), "ignored", &text), req_id, answer, step);
    }

    fn on_answer(&mut self, now: Now, device: Device, payload: &[u8], step: &mut Step) {
        let response = match Response::parse(payload) {
            Ok(response) => response,
            Err(malformed) => {
                let text = format!("sent a response that cannot be used: {malformed}");
                return say(now, step, Some(device), "ignored", text);
            }
        };
        let row: Option<StatusRow> = self
            .tables
            .status_by_req_id(&response.req_id)
            .filter(|row| row.device == device)
            .cloned();
        let reason = ending(response.message.as_deref());
        let mut values = Vec::new();
        let text = match row {
            None => format!(
                "answered {}{reason} to a request that is not known, or not any more",
                response.rc
            ),
            Some(row) => self.on_response(now, row, &response, &mut values, step),
        };
        step.effects.push(Effect::Say(WatchLine {
            req_id: Some(clean(response.req_id.as_str())),
            rc: Some(response.rc.0),
            values,
            ..line(now, Some(device), "response", &text)
        }));
    }

    /// Says what a device said, and answers it when it wants an answer.
    fn tell(&mut self, mut line: WatchLine, req_id: Option<ReqId>, answer: Answer, step: &mut Step) {
        if let (Some(req_id), Some(device)) = (req_id, line.device.clone()) {
            line.req_id = Some(clean(req_id.as_str()));
            line.rc = Some(answer.rc.0);
            let response = Response::new(req_id, answer.rc).message(answer.message.unwrap_or_default());
            step.effects.push(Effect::Publish {
                id: self.next_publish_id(),
                topic: ToDevice::Response.topic(&Address::Device(device)),
                payload: response.to_payload(),
            });
        }
        line.values = answer.values;
        step.effects.push(Effect::Say(line));
    }
}

/// A line about this device, without a request id.
pub(super) fn line(now: Now, device: Option<Device>, operation: &'static str, text: &str) -> WatchLine {
    WatchLine {
        at_ms: now.unix_ms,
        device,
        operation,
        text: clean(text),
        req_id: None,
        rc: None,
        values: Vec::new(),
    }
}

/// A line about something that has no request id.
pub(super) fn say(now: Now, step: &mut Step, device: Option<Device>, operation: &'static str, text: String) {
    step.effects.push(Effect::Say(line(now, device, operation, &text)));
}

fn operation(kind: ToService) -> &'static str {
    match kind {
        ToService::Manage => "manage",
        ToService::Unmanage => "unmanage",
        ToService::Location => "location",
        ToService::AddErrorCode => "addErrorCode",
        ToService::ClearErrorCodes => "clearErrorCodes",
        ToService::AddLog => "addLog",
        ToService::ClearLogs => "clearLogs",
        ToService::Notify => "notify",
        ToService::Response => "response",
    }
}
