//! What the agent owes the service and has no confirmation of: responses (until the broker has them) and log entries
//! (until the service has answered). Each is a record on the disk; this is the order and the patience.

use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

use super::durable::Wish;
use super::effect::{Effect, Level, OweId, PublishId, Topic};
use super::handled::{Key, find};
use super::work::Work;
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::{Rc, Report, ReqId, Response, ToService};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// So many records are kept in memory; more than this and the oldest go.
pub const MAX_RECORDS: usize = 2000;

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Response {
        payload: Vec<u8>,
        /// The request that was refused, where the same one may be carried out when it is delivered again.
        refused: Option<Key>,
    },
    Log {
        entry: LogEntry,
        before_manage: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting { not_before: Duration },
    Publishing(PublishId, ReqId),
    AwaitingAnswer { req_id: ReqId, until: Duration },
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    id: OweId,
    item: Item,
    state: State,
    attempts: u32,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    last_id: u64,
}

impl Outbox {
    /// From the records on the disk, oldest first. A record of a newer version stays there and is not sent.
    pub(super) fn restore(records: Vec<(OweId, Vec<u8>)>) -> Self {
        let last_id = records.iter().map(|(id, _)| id.0).max().unwrap_or(0);
        let waiting = State::Waiting {
            not_before: Duration::ZERO,
        };
        let read = |(id, bytes): (OweId, Vec<u8>)| {
            Some(Entry {
                id,
                item: decode(&bytes)?,
                state: waiting.clone(),
                attempts: 0,
            })
        };
        Outbox {
            entries: records.into_iter().filter_map(read).collect(),
            last_id,
        }
    }

    /// How many publishes of it wait for their acknowledgement.
    pub(super) fn in_flight(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.state, State::Publishing(..)))
            .count()
    }

    /// How many records wait for their confirmation.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// `refused`: the request, where the same one may be carried out when it is delivered again.
pub(super) fn owe_response(work: &mut Work<'_>, response: &Response, refused: Option<Key>) {
    let payload = response.to_payload();
    owe(work, Item::Response { payload, refused });
}

/// `before_manage`: it must reach the service before the next manage does.
pub(super) fn owe_log(work: &mut Work<'_>, entry: &LogEntry, before_manage: bool) {
    owe(
        work,
        Item::Log {
            entry: entry.clone(),
            before_manage,
        },
    );
}

fn owe(work: &mut Work<'_>, item: Item) {
    work.v.outbox.last_id += 1;
    let id = OweId(work.v.outbox.last_id);
    work.owe(id, encode(&item));
    let state = State::Waiting {
        not_before: work.now.boottime,
    };
    work.v.outbox.entries.push_back(Entry {
        id,
        item,
        state,
        attempts: 0,
    });
    if work.v.outbox.entries.len() > MAX_RECORDS
        && let Some(oldest) = work.v.outbox.entries.pop_front()
    {
        work.effect(Effect::Settle(oldest.id));
        work.say(
            Level::Warning,
            Topic::Dropped,
            "the outbox is full: its oldest record was dropped",
        );
    }
}

pub(super) fn dropped(work: &mut Work<'_>, ids: &[OweId]) {
    let before = work.v.outbox.entries.len();
    work.v.outbox.entries.retain(|entry| !ids.contains(&entry.id));
    let gone = before - work.v.outbox.entries.len();
    if gone > 0 {
        let text = format!("the outbox on the disk is full: its {gone} oldest records were dropped");
        work.say(Level::Warning, Topic::Dropped, text);
    }
}

pub(super) fn subscribed(work: &mut Work<'_>) {
    let until = work.after(ANSWER_LIMIT);
    for entry in &mut work.v.outbox.entries {
        if let State::AwaitingAnswer { until: limit, .. } = &mut entry.state {
            *limit = until;
        }
    }
}

pub(super) fn due(work: &mut Work<'_>) {
    if !work.v.subscribed {
        return;
    }
    for index in 0..work.v.outbox.entries.len() {
        if let State::AwaitingAnswer { until, .. } = work.v.outbox.entries[index].state
            && work.now.boottime >= until
        {
            try_later(work, index);
        }
    }
}

fn try_later(work: &mut Work<'_>, index: usize) {
    let attempts = work.v.outbox.entries[index].attempts.saturating_add(1);
    let pause = work.pause(attempts);
    let not_before = work.after(pause);
    let entry = &mut work.v.outbox.entries[index];
    entry.attempts = attempts;
    entry.state = State::Waiting { not_before };
}

/// Whether this may go out now, apart from its time.
fn allowed(work: &Work<'_>, item: &Item) -> bool {
    match item {
        Item::Response { .. } => !outdated(work, item),
        Item::Log { before_manage, .. } => {
            work.d.wish == Wish::Managed && (*before_manage || work.v.lifecycle.managed.is_some())
        }
    }
}

/// A crash may come between a refusal that is on the disk and its acknowledgement. Then the request comes again, and
/// may be carried out now: the refusal must not follow its 202.
fn outdated(work: &Work<'_>, item: &Item) -> bool {
    matches!(item, Item::Response { refused: Some(key), .. } if find(&work.d.handled, key).is_some())
}

/// Forgets what is outdated, once the answer that counts is on the disk.
pub(super) fn drop_outdated(work: &mut Work<'_>) {
    for index in (0..work.v.outbox.entries.len()).rev() {
        let entry = &work.v.outbox.entries[index];
        // What is on its way has its end there; given back, it is dropped then.
        let waits = matches!(entry.state, State::Waiting { .. });
        if waits && outdated(work, &entry.item) && work.will_be_saved() {
            settle(work, index);
        }
    }
}

/// Whether something waits for its turn that must reach the service before the next manage does: a refused reboot
/// would be complete for the service if a manage overtook the refusal.
pub(super) fn must_precede_manage(work: &Work<'_>) -> bool {
    work.v.outbox.entries.iter().any(|entry| {
        // What was tried, and is to be tried again later, has had its turn.
        let waits = matches!(entry.state, State::Waiting { .. }) && entry.attempts == 0;
        waits && is_early(&entry.item) && allowed(work, &entry.item)
    })
}

/// Responses, and what says so itself, go out before a manage.
fn is_early(item: &Item) -> bool {
    !matches!(
        item,
        Item::Log {
            before_manage: false,
            ..
        }
    )
}

/// Publishes what is due: responses and what must precede a manage first.
pub(super) fn send(work: &mut Work<'_>, before_manage: bool) {
    for index in 0..work.v.outbox.entries.len() {
        let entry = &work.v.outbox.entries[index];
        let State::Waiting { not_before } = entry.state else {
            continue;
        };
        if is_early(&entry.item) != before_manage || work.now.boottime < not_before || !allowed(work, &entry.item) {
            continue;
        }
        if !work.may_publish() {
            return;
        }
        let item = entry.item.clone();
        let req_id = work.v.ids.req_id();
        let id = match item {
            Item::Response { payload, .. } => work.publish(ToService::Response, payload),
            Item::Log { entry, .. } => {
                let report = Report::AddLog(entry);
                work.publish(report.kind(), report.to_payload(Some(&req_id)))
            }
        };
        work.v.outbox.entries[index].state = State::Publishing(id, req_id);
    }
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    if !work.v.subscribed {
        return None;
    }
    let at = |entry: &Entry| match &entry.state {
        State::Waiting { not_before } if allowed(work, &entry.item) && work.may_publish() => Some(*not_before),
        State::AwaitingAnswer { until, .. } => Some(*until),
        _ => None,
    };
    work.v.outbox.entries.iter().filter_map(at).min()
}

fn position(work: &Work<'_>, id: PublishId) -> Option<usize> {
    work.v
        .outbox
        .entries
        .iter()
        .position(|entry| matches!(&entry.state, State::Publishing(publish, _) if *publish == id))
}

pub(super) fn published(work: &mut Work<'_>, id: PublishId) {
    let Some(index) = position(work, id) else { return };
    let until = work.after(ANSWER_LIMIT);
    let entry = &mut work.v.outbox.entries[index];
    match (&entry.item, &entry.state) {
        (Item::Log { .. }, State::Publishing(_, req_id)) => {
            entry.state = State::AwaitingAnswer {
                req_id: req_id.clone(),
                until,
            };
        }
        _ => settle(work, index),
    }
}

pub(super) fn not_published(work: &mut Work<'_>, id: PublishId) {
    if let Some(index) = position(work, id) {
        work.v.outbox.entries[index].state = State::Waiting {
            not_before: work.now.boottime,
        };
    }
}

/// The broker does not take it: the connection ended right after it, again and again.
pub(super) fn publish_refused(work: &mut Work<'_>, id: PublishId) -> bool {
    let found = position(work, id);
    if let Some(index) = found {
        settle(work, index);
    }
    found.is_some()
}

/// True when the response was to a record of ours.
pub(super) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    let ours = |entry: &Entry| match &entry.state {
        State::Publishing(_, req_id) | State::AwaitingAnswer { req_id, .. } => {
            *req_id == response.req_id && matches!(entry.item, Item::Log { .. })
        }
        State::Waiting { .. } => false,
    };
    let Some(index) = work.v.outbox.entries.iter().position(ours) else {
        return false;
    };
    let rc = response.rc;
    if rc == Rc::CONFLICT || rc.0 >= 500 {
        try_later(work, index);
    } else {
        if !rc.is_success() {
            let text = format!(
                "the service refused a log entry with rc {rc}{}; it was dropped",
                response
                    .message
                    .as_deref()
                    .map(|message| format!(" ({message})"))
                    .unwrap_or_default()
            );
            work.say(Level::Warning, Topic::Dropped, text);
        }
        settle(work, index);
    }
    true
}

fn settle(work: &mut Work<'_>, index: usize) {
    if let Some(entry) = work.v.outbox.entries.remove(index) {
        work.effect(Effect::Settle(entry.id));
    }
}

fn encode(item: &Item) -> Vec<u8> {
    let record = match item {
        Item::Response { payload, refused } => {
            let mut record = serde_json::json!({"kind": "response", "payload": String::from_utf8_lossy(payload)});
            if let Some(key) = refused {
                record["refused"] = serde_json::json!(key);
            }
            record
        }
        Item::Log { entry, before_manage } => {
            serde_json::json!({"kind": "log", "d": entry.to_object(), "before_manage": before_manage})
        }
    };
    record.to_string().into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Item> {
    let record: Value = serde_json::from_slice(bytes).ok()?;
    match record.get("kind")?.as_str()? {
        "response" => Some(Item::Response {
            payload: record.get("payload")?.as_str()?.as_bytes().to_vec(),
            refused: record
                .get("refused")
                .and_then(|key| serde_json::from_value(key.clone()).ok()),
        }),
        "log" => Some(Item::Log {
            entry: LogEntry::parse("d", record.get("d")?.clone()).ok()?,
            before_manage: record.get("before_manage").and_then(Value::as_bool).unwrap_or(false),
        }),
        _ => None,
    }
}
