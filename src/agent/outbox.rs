//! What the agent owes the service and has no confirmation of: responses (until the broker has them) and log entries
//! (until the service has answered). Each is a record on the disk; this is the order and the patience.
//!
//! Logs of diagnostics (made of the journal, or by hand) have a bound and a patience of their own: a flood of them
//! pushes out nothing else, and a service that takes none is not asked for each (`logs`). `item` is what a record holds.

mod item;
mod logs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::diagnostics;
use super::durable::Wish;
use super::effect::{Effect, Level, OweId, PublishId, Topic};
use super::handled::{Key, find};
use super::ids::Ids;
use super::work::Work;
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::{Rc, Report, Response, ToService};

use item::Item;
pub use logs::{MAX_BYTES, MAX_LOGS};
pub(super) use logs::{has_room, held, owe_clear, owe_diagnostic};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// So many records are kept in memory; more than this and the oldest go.
pub const MAX_RECORDS: usize = 2000;

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting { not_before: Duration },
    Publishing(PublishId),
    AwaitingAnswer { until: Duration },
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    id: OweId,
    /// Shared: the brain's whole memory is cloned with every event.
    item: Arc<Item>,
    state: State,
    attempts: u32,
    /// It was owed as another device. Only at the start: it is dropped before anything is sent.
    stranger: bool,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    last_id: u64,
    /// Before this no log of diagnostics goes out, after so many attempts in a row that came to nothing.
    logs_not_before: Option<Duration>,
    logs_attempts: u32,
}

impl Outbox {
    /// From the records on the disk, oldest first. A record of a newer version stays there and is not sent.
    pub(super) fn restore(records: Vec<(OweId, Vec<u8>)>, identity: &str, ids: &mut Ids) -> Self {
        let last_id = records.iter().map(|(id, _)| id.0).max().unwrap_or(0);
        let waiting = State::Waiting {
            not_before: Duration::ZERO,
        };
        let read = |(id, bytes): (OweId, Vec<u8>)| {
            Some(Entry {
                id,
                item: Arc::new(Item::from_record(&bytes, || ids.req_id())?),
                state: waiting.clone(),
                attempts: 0,
                stranger: item::identity(&bytes).is_some_and(|known| known != identity),
            })
        };
        Outbox {
            entries: records.into_iter().filter_map(read).collect(),
            last_id,
            ..Outbox::default()
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
    let req_id = work.v.ids.req_id();
    owe(
        work,
        Item::Log {
            req_id,
            entry: entry.clone(),
            before_manage,
            covers: None,
        },
    );
}

fn owe(work: &mut Work<'_>, item: Item) {
    work.v.outbox.last_id += 1;
    let id = OweId(work.v.outbox.last_id);
    work.owe(id, item.to_record(&work.settings.identity));
    let state = State::Waiting {
        not_before: work.now.boottime,
    };
    work.v.outbox.entries.push_back(Entry {
        id,
        item: Arc::new(item),
        state,
        attempts: 0,
        stranger: false,
    });
    if work.v.outbox.entries.len() > MAX_RECORDS {
        logs::drop_oldest(work, 0);
    }
}

pub(super) fn dropped(work: &mut Work<'_>, ids: &[OweId]) {
    let before = work.v.outbox.entries.len();
    let gone = work.v.outbox.entries.iter().filter(|entry| ids.contains(&entry.id));
    let logs: Vec<_> = gone
        .filter_map(|entry| entry.item.diagnostic().zip(entry.item.name()))
        .collect();
    work.v.outbox.entries.retain(|entry| !ids.contains(&entry.id));
    let gone = before - work.v.outbox.entries.len();
    for ((_, covers), name) in logs {
        diagnostics::dropped(work, covers, &name);
    }
    if gone > 0 {
        let text = format!("the outbox on the disk is full: its {gone} oldest records were dropped");
        work.say(Level::Warning, Topic::Dropped, text);
    }
}

/// Another device: nothing of this is its own. Says how many answers and how many logs that were.
pub(super) fn drop_all(work: &mut Work<'_>) -> (usize, usize) {
    let answer = |entry: &&Entry| matches!(*entry.item, Item::Response { .. });
    let entries = &work.v.outbox.entries;
    let answers = entries.iter().filter(answer).count();
    let logs = entries.len() - answers;
    for index in (0..entries.len()).rev() {
        settle(work, index);
    }
    (answers, logs)
}

/// A removal that had not reached the disk when the power was cut brings its record back. Says how many were another
/// device's.
pub(super) fn drop_strangers(work: &mut Work<'_>) -> usize {
    let before = work.v.outbox.entries.len();
    for index in (0..before).rev() {
        if work.v.outbox.entries[index].stranger {
            settle(work, index);
        }
    }
    before - work.v.outbox.entries.len()
}

/// Another service: what is still owed is sent to it, and it has not failed to answer anything yet.
pub(super) fn begin_anew(work: &mut Work<'_>) {
    let now = work.now.boottime;
    let outbox = &mut work.v.outbox;
    outbox.logs_not_before = None;
    outbox.logs_attempts = 0;
    for entry in &mut outbox.entries {
        entry.attempts = 0;
        if !matches!(entry.state, State::Publishing(_)) {
            entry.state = State::Waiting { not_before: now };
        }
    }
}

pub(super) fn subscribed(work: &mut Work<'_>) {
    let until = work.after(ANSWER_LIMIT);
    for entry in &mut work.v.outbox.entries {
        if let State::AwaitingAnswer { until: limit } = &mut entry.state {
            *limit = until;
        }
    }
}

pub(super) fn due(work: &mut Work<'_>) {
    if !work.v.subscribed {
        return;
    }
    for index in 0..work.v.outbox.entries.len() {
        if let State::AwaitingAnswer { until } = work.v.outbox.entries[index].state
            && work.now.boottime >= until
        {
            try_later(work, index);
        }
    }
}

fn try_later(work: &mut Work<'_>, index: usize) {
    // Those that were sent together and come to nothing together are one attempt.
    if work.v.outbox.entries[index].item.diagnostic().is_some() && !logs::wait(work) {
        let attempts = work.v.outbox.logs_attempts.saturating_add(1);
        let pause = work.pause(attempts);
        work.v.outbox.logs_attempts = attempts;
        work.v.outbox.logs_not_before = Some(work.after(pause));
    }
    if logs::is_cleared(work, index) {
        return settle(work, index);
    }
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
        Item::ClearLogs { .. } => work.d.wish == Wish::Managed && work.v.lifecycle.managed.is_some(),
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
        waits && entry.item.is_early() && allowed(work, &entry.item)
    })
}

/// Publishes what is due: responses and what must precede a manage first.
pub(super) fn send(work: &mut Work<'_>, before_manage: bool) {
    let cleared = logs::cleared_at(work).unwrap_or(usize::MAX);
    let mut unanswered = logs::held(work).in_flight;
    for index in 0..work.v.outbox.entries.len() {
        let entry = &work.v.outbox.entries[index];
        let State::Waiting { not_before } = entry.state else {
            continue;
        };
        if index > cleared && entry.item.is_late() {
            continue;
        }
        let diagnostic = entry.item.diagnostic().is_some();
        if diagnostic && (unanswered >= logs::MAX_UNANSWERED || logs::wait(work)) {
            continue;
        }
        if entry.item.is_early() != before_manage || work.now.boottime < not_before || !allowed(work, &entry.item) {
            continue;
        }
        let may_publish = match before_manage {
            true => work.may_publish(),
            false => work.may_publish_more(),
        };
        if !may_publish {
            return;
        }
        unanswered += usize::from(diagnostic);
        let item = Arc::clone(&entry.item);
        let report = match &*item {
            Item::Response { payload, .. } => Err(payload),
            Item::Log { entry, .. } => Ok(Report::AddLog(entry.clone())),
            Item::ClearLogs { .. } => Ok(Report::ClearLogs),
        };
        let id = match report {
            Ok(report) => work.publish(report.kind(), report.to_payload(item.req_id())),
            Err(response) => work.publish(ToService::Response, response.clone()),
        };
        work.v.outbox.entries[index].state = State::Publishing(id);
    }
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    if !work.v.subscribed {
        return None;
    }
    let (early, late) = (work.may_publish(), work.may_publish_more());
    let cleared = logs::cleared_at(work).unwrap_or(usize::MAX);
    let full = logs::held(work).in_flight >= logs::MAX_UNANSWERED;
    let logs_not_before = work.v.outbox.logs_not_before.unwrap_or_default();
    let at = |(index, entry): (usize, &Entry)| match &entry.state {
        State::Waiting { .. } if index > cleared && entry.item.is_late() => None,
        State::Waiting { .. } if !(if entry.item.is_early() { early } else { late }) => None,
        State::Waiting { .. } if !allowed(work, &entry.item) => None,
        State::Waiting { not_before } => match entry.item.diagnostic() {
            Some(_) if full => None,
            Some(_) => Some(logs_not_before.max(*not_before)),
            None => Some(*not_before),
        },
        State::AwaitingAnswer { until } => Some(*until),
        State::Publishing(..) => None,
    };
    work.v.outbox.entries.iter().enumerate().filter_map(at).min()
}

fn position(work: &Work<'_>, id: PublishId) -> Option<usize> {
    work.v
        .outbox
        .entries
        .iter()
        .position(|entry| matches!(&entry.state, State::Publishing(publish) if *publish == id))
}

pub(super) fn published(work: &mut Work<'_>, id: PublishId) {
    let Some(index) = position(work, id) else { return };
    let until = work.after(ANSWER_LIMIT);
    let entry = &mut work.v.outbox.entries[index];
    match entry.item.req_id() {
        Some(_) => entry.state = State::AwaitingAnswer { until },
        None => settle(work, index),
    }
}

pub(super) fn not_published(work: &mut Work<'_>, id: PublishId) {
    if let Some(index) = position(work, id) {
        if logs::is_cleared(work, index) {
            return settle(work, index);
        }
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

/// True when the response was to a record of ours, also to an attempt that was given up waiting for.
pub(super) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    let ours = |entry: &Entry| entry.item.req_id() == Some(&response.req_id);
    let Some(index) = work.v.outbox.entries.iter().position(ours) else {
        return false;
    };
    let rc = response.rc;
    if rc == Rc::CONFLICT || rc.0 >= 500 {
        if !matches!(work.v.outbox.entries[index].state, State::Waiting { .. }) {
            try_later(work, index);
        }
    } else {
        if work.v.outbox.entries[index].item.diagnostic().is_some() {
            work.v.outbox.logs_attempts = 0;
            work.v.outbox.logs_not_before = None;
        }
        if !rc.is_success() {
            let what = match *work.v.outbox.entries[index].item {
                Item::ClearLogs { .. } => "to clear the logs",
                _ => "a log entry",
            };
            let text = format!(
                "the service refused {what} with rc {rc}{}; it was dropped",
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
