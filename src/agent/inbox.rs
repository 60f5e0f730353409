//! What the service says: read, checked, and handed to the noun that it is about.

use super::durable::Wish;
use super::effect::{AckId, Level, Topic};
use super::event::Message;
use super::handled::{Key, Other};
use super::work::Work;
use super::{diagnostics, firmware, lifecycle, model, observation, outbox, reboot, reset};
use serde_json::Value;

use crate::protocol::topic::TopicError;
use crate::protocol::{Address, Malformed, Rc, ReqId, Request, Response, ToDevice, json};

/// Why a device that is not managed does nothing.
pub(super) const NOT_MANAGED: &str = "not managed: the device was taken out of management on the device itself";

pub(super) fn message(work: &mut Work<'_>, message: &Message) {
    let (address, kind) = match ToDevice::parse(&message.topic) {
        Ok((address, kind)) => (address, Ok(kind)),
        Err(TopicError::UnknownOperation { address, tail }) => (address, Err(tail)),
        Err(TopicError::Foreign(topic)) => return foreign(work, message, &topic),
    };
    if address != work.settings.address {
        let name = match address {
            Address::Session => "a device session".to_owned(),
            Address::Device(device) => device.to_string(),
        };
        return ignore(
            work,
            message.ack,
            format!("a message for {name} was ignored: this agent answers only for itself"),
        );
    }
    if message.retained {
        let text = format!(
            "a retained message on {} was ignored: it may be from any time",
            message.topic
        );
        return ignore(work, message.ack, text);
    }
    match kind {
        Ok(ToDevice::Response) => response(work, message),
        Ok(kind) => match Request::parse(&kind, &message.payload) {
            Ok((request, req_id)) => handle(work, message, &request, req_id),
            Err(malformed) => refuse_malformed(work, message, &malformed),
        },
        Err(tail) => match json::envelope(&message.payload) {
            Ok(envelope) => {
                let reason = format!("the device management protocol has no operation {tail}");
                say_refused(work, &message.topic, &reason);
                answer(work, envelope.req_id, Rc::NOT_IMPLEMENTED, &reason);
                work.ack(message.ack);
            }
            Err(malformed) => refuse_malformed(work, message, &malformed),
        },
    }
}

fn handle(work: &mut Work<'_>, message: &Message, request: &Request, req_id: Option<ReqId>) {
    // First of all it may be one that was carried out before.
    match request {
        Request::Reboot => return reboot::request(work, message.ack, req_id, message.dup),
        Request::FactoryReset => return reset::request(work, message.ack, req_id, message.dup),
        Request::FirmwareDownload => {
            return firmware::request(work, firmware::Operation::Download, message.ack, req_id, message.dup);
        }
        Request::FirmwareUpdate => {
            return firmware::request(work, firmware::Operation::Update, message.ack, req_id, message.dup);
        }
        _ => {}
    }
    work.ack(message.ack);
    let asked = Asked::new(request, req_id);
    if asked.req_id.is_none() && message.dup {
        let text = format!(
            "a message on {} without reqId was delivered again and not used: nobody can tell whether it was before",
            message.topic
        );
        return work.say(Level::Warning, Topic::MessageRefused, text);
    }
    if let Some(known) = asked.key.as_ref().and_then(|key| work.other(key)).cloned() {
        let text = format!(
            "a message on {} was delivered again; it is answered again",
            message.topic
        );
        work.say(Level::Info, Topic::MessageRefused, text);
        // To observe what is observed changes nothing, and the answer has the values of now.
        let again = |fields: &Vec<String>| known.rc == Rc::OK && observation::all_observed(work, fields);
        match request {
            Request::Observe(fields) if again(fields) => {}
            _ => {
                return answer(
                    work,
                    asked.req_id,
                    known.rc,
                    known.message.as_deref().unwrap_or_default(),
                );
            }
        }
    }
    // To tell nothing any more is what a device out of management does anyway; somebody may put it back before the service
    // has heard of its unmanage, which ends the observations.
    if work.d.wish != Wish::Managed && !matches!(request, Request::Cancel(_)) {
        return answer(work, asked.req_id, Rc::BAD_REQUEST, NOT_MANAGED);
    }
    match request {
        // Done above.
        Request::Reboot | Request::FactoryReset | Request::FirmwareDownload | Request::FirmwareUpdate => {}
        Request::Cancel(fields) => observation::cancel(work, fields, asked),
        Request::Observe(fields) => observation::observe(work, fields, asked),
        Request::Update(fields) => model::update(work, fields, asked),
        Request::Custom { bundle, .. } => {
            let reason = format!("the agent has no extension package {bundle}");
            answer(work, asked.req_id, Rc::NOT_IMPLEMENTED, &reason);
        }
    }
}

/// A request that changes nothing on the host, to be answered at once.
pub(super) struct Asked {
    key: Option<Key>,
    req_id: Option<ReqId>,
}

impl Asked {
    fn new(request: &Request, req_id: Option<ReqId>) -> Self {
        let op = match request {
            Request::Update(_) => Some("update"),
            Request::Observe(_) => Some("observe"),
            Request::Cancel(_) => Some("cancel"),
            _ => None,
        };
        let key = op.zip(req_id.as_ref()).map(|(op, req_id)| Key::new(op, req_id));
        Asked { key, req_id }
    }
}

/// Answers it, and remembers that: the same again must not undo what came after it. What the disk refused may be tried
/// again. `fields`: the values, or the names of what is wrong.
pub(super) fn respond(work: &mut Work<'_>, asked: Asked, rc: Rc, reason: &str, fields: Option<Vec<Value>>) {
    if let Some(key) = asked.key
        && rc != Rc::INTERNAL
    {
        work.remember_other(Other::new(key, rc, reason));
    }
    if let Some(req_id) = asked.req_id {
        let mut response = Response::new(req_id, rc).message(reason);
        response.d = fields.map(|fields| serde_json::json!({"fields": fields}));
        outbox::owe_response(work, &response, None);
    }
}

/// Answers a request that changes nothing on the host; nobody waits for an answer without a request id.
pub(super) fn answer(work: &mut Work<'_>, req_id: Option<ReqId>, rc: Rc, reason: &str) {
    if let Some(req_id) = req_id {
        outbox::owe_response(work, &Response::new(req_id, rc).message(reason), None);
    }
}

fn response(work: &mut Work<'_>, message: &Message) {
    match Response::parse(&message.payload) {
        Ok(response) => {
            let of_manage = lifecycle::answered(work, &response);
            let known = of_manage
                || observation::answered(work, &response)
                || model::answered(work, &response)
                || diagnostics::answered(work, &response)
                || outbox::answered(work, &response);
            if known && !of_manage && response.rc == Rc::NOT_FOUND {
                lifecycle::not_known(work);
            }
            if !known {
                let text = format!(
                    "a response (rc {}) to the unknown request {:?} was ignored",
                    response.rc,
                    short(&response.req_id)
                );
                work.say(Level::Info, Topic::MessageRefused, text);
            }
        }
        Err(malformed) => say_refused(work, &message.topic, &malformed.to_string()),
    }
    work.ack(message.ack);
}

fn refuse_malformed(work: &mut Work<'_>, message: &Message, malformed: &Malformed) {
    say_refused(work, &message.topic, &malformed.to_string());
    answer(work, malformed.req_id.clone(), Rc::BAD_REQUEST, &malformed.to_string());
    work.ack(message.ack);
}

/// A topic outside the protocol: the platform's broker tells gateways this way what it refused.
fn foreign(work: &mut Work<'_>, message: &Message, topic: &str) {
    if !topic.starts_with("iot-2/") || !topic.ends_with("/notify") {
        return ignore(
            work,
            message.ack,
            format!("a message on {topic:?} was ignored: not a device management topic"),
        );
    }
    let members = json::envelope(&message.payload)
        .map(|envelope| envelope.members)
        .unwrap_or_default();
    let text = |name: &str| {
        members
            .get(name)
            .and_then(|value| value.as_str())
            .unwrap_or("?")
            .chars()
            .take(200)
            .collect::<String>()
    };
    let code = members
        .get("RC")
        .map(|rc| format!(" (rc {rc}: {})", text("Message")))
        .unwrap_or_default();
    let line = format!(
        "the broker refused a {} on {:?}{code}: check the gateway's role and resource groups",
        text("Request"),
        text("Topic"),
    );
    work.say(Level::Warning, Topic::MessageRefused, line);
    work.ack(message.ack);
}

fn ignore(work: &mut Work<'_>, ack: AckId, text: String) {
    work.say(Level::Warning, Topic::MessageRefused, text);
    work.ack(ack);
}

fn say_refused(work: &mut Work<'_>, topic: &str, reason: &str) {
    let text = format!("a message on {topic} was refused: {reason}");
    work.say(Level::Warning, Topic::MessageRefused, text);
}

fn short(req_id: &ReqId) -> String {
    req_id.as_str().chars().take(60).collect()
}
