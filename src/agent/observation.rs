//! What the service observes, and telling it what has changed (protocol: "observe", "cancel", "notify").
//!
//! A notify is not a stored message: for each observed field it is remembered what the service was last told. What
//! differs from that is news; of `mgmt.firmware` it counts that it changed, too, be it back to what it was. So nothing
//! is told twice or out of order, what changes while the service is away is told as one, and a crash loses nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

use super::durable::Change;
use super::effect::{Level, PublishId, Topic};
use super::firmware::record::Firmware;
use super::inbox::{Asked, respond};
use super::work::Work;
use super::{Disk, model};
use crate::protocol::model::FieldValue;
use crate::protocol::{Rc, Report, ReqId, Response};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// After a refusal the service gets one more chance: it may not have taken the manage in yet.
const SECOND_CHANCE: Duration = Duration::from_secs(30);
/// So many fields are observed at a time.
const MAX_OBSERVED: usize = 32;
/// So many bytes of values go into one message, if there are several: it has 128 KiB, and `metadata` 64.
const MAX_VALUES: usize = 60 * 1024;

/// A field that the service observes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Its dotted name.
    pub field: String,
    /// What the service was last told, or told us.
    pub told: Value,
    /// Of `mgmt.firmware`: how often it has changed since, be it back to what it was.
    #[serde(default)]
    pub changes: u32,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a notify tells of one field.
#[derive(Debug, Clone)]
struct Told {
    field: String,
    /// The value, whole.
    now: Value,
    /// What the service had been told before.
    before: Value,
    /// How many changes that covers.
    changes: u32,
}

/// A notify that the service has not answered.
#[derive(Debug, Clone)]
struct Pending {
    publish: PublishId,
    req_id: ReqId,
    told: Vec<Told>,
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

/// The service wants to know about these fields from now on.
pub(super) fn observe(work: &mut Work<'_>, fields: &[String], asked: Asked) {
    if let Some(reason) = model::too_many(fields.len()) {
        return respond(work, asked, Rc::BAD_REQUEST, &reason, None);
    }
    let unknown = fields.iter().filter(|field| model::read(work, field).is_none());
    let unknown: Vec<_> = unknown.take(model::NAMED).map(|field| model::cut(field)).collect();
    if !unknown.is_empty() {
        let text = format!(
            "this device has no attribute that can be observed under the name {}",
            model::names(&unknown)
        );
        let named = unknown.iter().map(|field| serde_json::json!({"field": field}));
        return respond(work, asked, Rc::NOT_FOUND, &text, Some(named.collect()));
    }
    if let Disk::Refuses(reason) = work.disk {
        return respond(work, asked, Rc::INTERNAL, reason, None);
    }
    let mut observed = work.d.observed.clone();
    let mut values = Vec::new();
    let mut bytes = 0;
    for (at, field) in fields.iter().enumerate() {
        let Some(told) = model::read(work, field).filter(|_| !fields[..at].contains(field)) else {
            continue;
        };
        bytes += size(&told);
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
    if observed.len() > MAX_OBSERVED {
        let reason = format!("at most {MAX_OBSERVED} fields can be observed at a time: observe a whole attribute");
        return respond(work, asked, Rc::BAD_REQUEST, &reason, None);
    }
    if bytes > MAX_VALUES && values.len() > 1 {
        let reason = format!("the values of these fields have {bytes} bytes: observe them one at a time");
        return respond(work, asked, Rc::BAD_REQUEST, &reason, None);
    }
    work.v.observation.refused = false;
    work.change(Change::Observed(observed));
    respond(work, asked, Rc::OK, "", Some(values));
}

/// Whether all of these are observed.
pub(super) fn all_observed(work: &Work<'_>, fields: &[String]) -> bool {
    let observed = |field: &String| work.d.observed.iter().any(|known| known.field == *field);
    fields.iter().all(observed)
}

/// The service does not want to know about these fields any more; without names, about none.
pub(super) fn cancel(work: &mut Work<'_>, fields: &[String], asked: Asked) {
    let mut observed = work.d.observed.clone();
    observed.retain(|known| !fields.is_empty() && !fields.contains(&known.field));
    if observed != work.d.observed {
        work.change(Change::Observed(observed));
    }
    respond(work, asked, Rc::OK, "", None);
}

/// The service observes nothing of a device that it does not manage, and asks anew when it does again. Not before it has
/// answered the unmanage: one that it never heard of, because somebody took it back, ends nothing at its side.
pub(super) fn unmanaged(work: &mut Work<'_>) {
    if !work.d.observed.is_empty() {
        work.change(Change::Observed(Vec::new()));
    }
}

/// Another device, or another service: it says itself what it wants to know.
pub(super) fn forget_all(work: &mut Work<'_>) {
    unmanaged(work);
    work.v.observation = Observation::default();
}

/// `mgmt.firmware` becomes this. `by_service`: the service knows already, it said so itself.
pub(super) fn set_firmware(work: &mut Work<'_>, firmware: Firmware, by_service: bool) {
    let before = work.d.firmware.clone();
    if before == firmware {
        return;
    }
    work.change(Change::Firmware(firmware));
    let mut observed = work.d.observed.clone();
    for known in &mut observed {
        let Some(now) = model::read_firmware(&work.d.firmware, &known.field) else {
            continue;
        };
        if by_service {
            known.told = now;
            known.changes = 0;
        } else if model::read_firmware(&before, &known.field).as_ref() != Some(&now) {
            known.changes = known.changes.saturating_add(1);
        }
    }
    if observed != work.d.observed {
        work.change(Change::Observed(observed));
    }
}

/// The service makes this change of the model: what it changes itself, it knows.
pub(super) fn by_service(work: &mut Work<'_>, change: impl FnOnce(&mut Work<'_>)) {
    let mut observed = work.d.observed.clone();
    let before: Vec<_> = observed.iter().map(|known| model::known(work, &known.field)).collect();
    change(work);
    for (known, before) in observed.iter_mut().zip(before) {
        match model::known(work, &known.field) {
            Some(now) if before.as_ref() != Some(&now) => known.told = now,
            _ => {}
        }
    }
    if observed != work.d.observed {
        work.change(Change::Observed(observed));
    }
}

/// What a field is now, if the service is to be told.
fn changed(work: &Work<'_>, known: &Observed) -> Option<Value> {
    let now = model::known(work, &known.field)?;
    let firmware = model::read_firmware(&work.d.firmware, &known.field).is_some();
    let news = if firmware { known.changes > 0 } else { now != known.told };
    news.then_some(now)
}

/// What to say about a field. Of `metadata`, `deviceInfo` and `mgmt.firmware` the members that are new to the service,
/// `null` for what has gone. Everything else whole: what a location leaves out is unknown now, and a value at a dotted
/// name takes the place of the one that the service has there.
fn news(known: &Observed, now: &Value) -> Value {
    let (Value::Object(told), Value::Object(now)) = (&known.told, now) else {
        return now.clone();
    };
    let differs = |name: &String| told.get(name) != now.get(name);
    let pick = |wanted: &dyn Fn(&String) -> bool| -> Map<String, Value> {
        let members = now.iter().filter(|(name, _)| wanted(name));
        members.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    match known.field.as_str() {
        "mgmt.firmware" => {
            let members = pick(&differs);
            // For the service {"state": 0} alone is a success. So both are said when it failed as it had failed before,
            // when there was something in between, and when it changed and changed back: it waits for a word all the
            // same.
            let progress = |name: &String| name == "state" || name == "updateStatus";
            let failed = now.get("updateStatus") != Some(&Value::from(0));
            let both = members.is_empty() || members.contains_key("state") && (failed || known.changes > 1);
            pick(&|name| differs(name) || both && progress(name)).into()
        }
        "metadata" | "deviceInfo" => {
            let mut members = pick(&differs);
            let gone = told.keys().filter(|name| !now.contains_key(*name));
            members.extend(gone.map(|name| (name.clone(), Value::Null)));
            members.into()
        }
        _ => now.clone().into(),
    }
}

/// How long a value is in a message.
fn size(value: &Value) -> usize {
    value.to_string().len()
}

/// One notify with everything that has changed.
pub(super) fn send(work: &mut Work<'_>) {
    if !may_send(work) || work.v.observation.not_before.is_some_and(|at| work.now.boottime < at) {
        return;
    }
    let mut fields = Vec::new();
    let mut told = Vec::new();
    let mut bytes = 0;
    for known in &work.d.observed {
        let Some(now) = changed(work, known) else {
            continue;
        };
        if work.v.observation.refused && !fields.is_empty() {
            // Which of several the service did not want shows one by one.
            break;
        }
        let value = news(known, &now);
        bytes += size(&value);
        if bytes > MAX_VALUES && !fields.is_empty() {
            // The rest has its turn when this is answered.
            break;
        }
        fields.push(FieldValue {
            field: known.field.clone(),
            value,
        });
        told.push(Told {
            field: known.field.clone(),
            now,
            before: known.told.clone(),
            changes: known.changes,
        });
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
        && work.may_publish()
        && work.d.observed.iter().any(|known| changed(work, known).is_some())
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

fn forget(work: &mut Work<'_>, told: &[Told]) {
    let mut observed = work.d.observed.clone();
    observed.retain(|known| told.iter().all(|told| told.field != known.field));
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
        for told in pending.told {
            // What the service wrote or asked for meanwhile is later than what it was told.
            let same = |known: &&mut Observed| known.field == told.field && known.told == told.before;
            if let Some(known) = observed.iter_mut().find(same) {
                known.changes = known.changes.saturating_sub(told.changes);
                known.told = told.now;
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
