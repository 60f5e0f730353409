//! What the service observes, and telling it what has changed (protocol: "observe", "cancel", "notify").
//!
//! A notify is not a stored message: for each observed field it is remembered what the service was last told, and
//! whether there is news. So nothing is told twice or out of order, what changes while the service is away is told
//! as one, and a crash loses nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

use super::durable::{Change, Durable};
use super::effect::{Level, PublishId, Topic};
use super::firmware::record::Firmware;
use super::work::Work;
use super::{Disk, outbox};
use crate::protocol::model::FieldValue;
use crate::protocol::{Rc, Report, ReqId, Response};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// After a refusal the service gets one more chance: it may not have taken the manage in yet.
const SECOND_CHANCE: Duration = Duration::from_secs(30);
/// The attribute that can be observed, whole or by one of its members.
const FIRMWARE: &str = "mgmt.firmware";

/// A field that the service observes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Its dotted name.
    pub field: String,
    /// What the service was last told, or told us.
    pub told: Value,
    /// How often it has changed since, be it back to what it was.
    #[serde(default)]
    pub changes: u32,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A notify that the service has not answered.
#[derive(Debug, Clone)]
struct Pending {
    publish: PublishId,
    req_id: ReqId,
    /// What it tells of, whole, and how many changes that covers.
    told: Vec<(String, Value, u32)>,
    until: Duration,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    pending: Option<Pending>,
    not_before: Option<Duration>,
    attempts: u32,
    refused: bool,
}

impl Observation {
    /// How many publishes of it wait for their acknowledgement.
    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.pending.is_some())
    }
}

/// The value of a field that can be read.
fn value(durable: &Durable, field: &str) -> Option<Value> {
    let firmware = durable.firmware.value();
    match field.strip_prefix(FIRMWARE)? {
        "" => Some(firmware),
        member => firmware.get(member.strip_prefix('.')?).cloned(),
    }
}

/// The service wants to know about these fields from now on.
pub(super) fn observe(work: &mut Work<'_>, fields: &[String], req_id: Option<ReqId>) {
    let unknown: Vec<_> = fields.iter().filter(|field| value(&work.d, field).is_none()).collect();
    if !unknown.is_empty() {
        let names: Vec<Value> = unknown
            .iter()
            .map(|field| serde_json::json!({"field": field}))
            .collect();
        let text = format!(
            "this device has no attribute that can be observed under the name {}",
            unknown.iter().map(|name| short(name)).collect::<Vec<_>>().join(", ")
        );
        return respond(work, req_id, Rc::NOT_FOUND, &text, Some(names));
    }
    if let Disk::Refuses(reason) = work.disk {
        return respond(work, req_id, Rc::INTERNAL, reason, None);
    }
    let mut observed = work.d.observed.clone();
    let mut values = Vec::new();
    for field in fields {
        let Some(told) = value(&work.d, field) else { continue };
        observed.retain(|known| known.field != *field);
        let field = field.clone();
        values.push(serde_json::json!({"field": field, "value": told}));
        observed.push(Observed {
            field,
            told,
            changes: 0,
            extra: Map::new(),
        });
    }
    work.v.observation.refused = false;
    work.change(Change::Observed(observed));
    respond(work, req_id, Rc::OK, "", Some(values));
}

/// The service does not want to know about these fields any more; without names, about none.
pub(super) fn cancel(work: &mut Work<'_>, fields: &[String], req_id: Option<ReqId>) {
    let mut observed = work.d.observed.clone();
    observed.retain(|known| !fields.is_empty() && !fields.contains(&known.field));
    if observed != work.d.observed {
        work.change(Change::Observed(observed));
    }
    respond(work, req_id, Rc::OK, "", None);
}

/// The service observes nothing of a device that it does not manage, and asks anew when it does again.
pub(super) fn unmanaged(work: &mut Work<'_>) {
    if !work.d.observed.is_empty() {
        work.change(Change::Observed(Vec::new()));
    }
}

fn respond(work: &mut Work<'_>, req_id: Option<ReqId>, rc: Rc, reason: &str, fields: Option<Vec<Value>>) {
    if let Some(req_id) = req_id {
        let mut response = Response::new(req_id, rc).message(reason);
        response.d = fields.map(|fields| serde_json::json!({"fields": fields}));
        outbox::owe_response(work, &response, None);
    }
}

/// `mgmt.firmware` becomes this. `by_service`: the service knows already, it said so itself.
pub(super) fn set_firmware(work: &mut Work<'_>, firmware: Firmware, by_service: bool) {
    let before = work.d.clone();
    if before.firmware == firmware {
        return;
    }
    work.change(Change::Firmware(firmware));
    let mut observed = work.d.observed.clone();
    for known in &mut observed {
        let Some(now) = value(&work.d, &known.field) else {
            continue;
        };
        if by_service {
            known.told = now;
            known.changes = 0;
        } else if value(&before, &known.field).as_ref() != Some(&now) {
            known.changes = known.changes.saturating_add(1);
        }
    }
    if observed != work.d.observed {
        work.change(Change::Observed(observed));
    }
}

/// What to say about a field: the members that are new to the service, or the whole scalar.
fn news(known: &Observed, now: &Value) -> Value {
    let (Value::Object(told), Value::Object(now)) = (&known.told, now) else {
        return now.clone();
    };
    let differs = |name: &String| told.get(name) != now.get(name);
    let progress = |name: &String| name == "state" || name == "updateStatus";
    let pick = |wanted: &dyn Fn(&String) -> bool| -> Map<String, Value> {
        let members = now.iter().filter(|(name, _)| wanted(name));
        members.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let members = pick(&differs);
    // For the service {"state": 0} alone is a success. So both are said when it failed as it had failed before, when
    // there was something in between, and when it changed and changed back: it waits for a word all the same.
    let failed = now.get("updateStatus") != Some(&Value::from(0));
    let both = members.is_empty() || members.contains_key("state") && (failed || known.changes > 1);
    Value::Object(pick(&|name| differs(name) || both && progress(name)))
}

/// One notify with everything that has changed.
pub(super) fn send(work: &mut Work<'_>) {
    if !may_send(work) || work.v.observation.not_before.is_some_and(|at| work.now.boottime < at) {
        return;
    }
    let mut fields = Vec::new();
    let mut told = Vec::new();
    for known in work.d.observed.iter().filter(|known| known.changes > 0) {
        let Some(now) = value(&work.d, &known.field) else {
            continue;
        };
        fields.push(FieldValue {
            field: known.field.clone(),
            value: news(known, &now),
        });
        told.push((known.field.clone(), now, known.changes));
    }
    let report = Report::Notify(fields);
    let req_id = work.v.ids.req_id();
    let publish = work.publish(report.kind(), report.to_payload(Some(&req_id)));
    let until = work.after(ANSWER_LIMIT);
    work.v.observation.not_before = None;
    work.v.observation.pending = Some(Pending {
        publish,
        req_id,
        told,
        until,
    });
}

/// Only a managed device tells anything, only one notify at a time (two could overtake each other), and only what is on
/// the disk: the next run would not know what was told, and might come to another end.
fn may_send(work: &Work<'_>) -> bool {
    work.v.observation.pending.is_none()
        && work.will_be_saved()
        && work.v.lifecycle.managed.is_some()
        && work.d.observed.iter().any(|known| known.changes > 0)
        && work.may_publish()
}

pub(super) fn subscribed(work: &mut Work<'_>) {
    let until = work.after(ANSWER_LIMIT);
    if let Some(pending) = &mut work.v.observation.pending {
        pending.until = until;
    }
}

pub(super) fn due(work: &mut Work<'_>) {
    let late = |pending: &Pending| work.now.boottime >= pending.until;
    if work.v.subscribed && work.v.observation.pending.as_ref().is_some_and(late) {
        try_later(work);
    }
}

fn try_later(work: &mut Work<'_>) {
    let attempts = work.v.observation.attempts.saturating_add(1);
    let pause = work.pause(attempts);
    let at = work.after(pause);
    let observation = &mut work.v.observation;
    observation.attempts = attempts;
    observation.pending = None;
    observation.not_before = Some(at);
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let observation = &work.v.observation;
    match &observation.pending {
        Some(pending) => Some(pending.until).filter(|_| work.v.subscribed),
        None => observation.not_before.filter(|_| may_send(work)),
    }
}

pub(super) fn not_published(work: &mut Work<'_>, id: PublishId) {
    work.v.observation.pending.take_if(|pending| pending.publish == id);
}

/// The broker does not take it, again and again: nobody would hear of the field.
pub(super) fn publish_refused(work: &mut Work<'_>, id: PublishId) -> bool {
    let found = work.v.observation.pending.take_if(|pending| pending.publish == id);
    if let Some(pending) = &found {
        forget(work, &pending.told);
    }
    found.is_some()
}

fn forget(work: &mut Work<'_>, told: &[(String, Value, u32)]) {
    let mut observed = work.d.observed.clone();
    observed.retain(|known| told.iter().all(|(field, ..)| *field != known.field));
    work.change(Change::Observed(observed));
}

/// True when the response was to a notify of ours.
pub(super) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    let ours = |pending: &mut Pending| pending.req_id == response.req_id;
    let Some(pending) = work.v.observation.pending.take_if(ours) else {
        return false;
    };
    let rc = response.rc;
    if rc == Rc::CONFLICT || rc.0 >= 500 {
        try_later(work);
    } else if rc.is_success() {
        work.v.observation.attempts = 0;
        work.v.observation.refused = false;
        let mut observed = work.d.observed.clone();
        for (field, told, changes) in pending.told {
            if let Some(known) = observed.iter_mut().find(|known| known.field == field) {
                known.changes = known.changes.saturating_sub(changes);
                known.told = told;
            }
        }
        work.change(Change::Observed(observed));
    } else if work.v.observation.refused {
        let text = format!("the service does not want to hear of a change (rc {rc}): it is taken as not observing");
        work.say(Level::Warning, Topic::Dropped, text);
        forget(work, &pending.told);
    } else {
        work.v.observation.refused = true;
        work.v.observation.not_before = Some(work.after(SECOND_CHANCE));
    }
    true
}

fn short(name: &str) -> String {
    format!("{:?}", name.chars().take(60).collect::<String>())
}
