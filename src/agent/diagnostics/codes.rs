//! Error codes: the service's list is made what holds here (protocol: "diagnostics", add and clear error codes).
//!
//! The protocol can add one code and clear all. So what is wanted is compared with what the service has been told: when
//! it was told something that does not hold any more, everything is cleared, and what still holds is added again, one
//! message at a time. What is about to be told is written down first: after a crash nobody knows whether the service has
//! it, and a code that nobody knows of would stay there for ever. Its request id is written down with it: told again
//! under the same one it is the same message, and the service does not have the code twice.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::DiagCommand;
use super::settings::{CLOCK_NOT_SET, DISK_REFUSES, ROLLED_BACK, UPDATE_FAILED, When, allowed_code};
use crate::agent::Disk;
use crate::agent::durable::Change;
use crate::agent::effect::{Level, PublishId, Topic};
use crate::agent::work::Work;
use crate::protocol::{Rc, Report, ReqId, Response};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// So many codes can be added by hand.
const MOST_BY_HAND: usize = 64;
/// The disk has refused for so long before that has a code: a short want of room is none.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// After the boot the clock has so much time to be set.
const CLOCK_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How often it is looked at then.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// What is on the disk of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Codes {
    /// Added by hand.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    by_hand: BTreeSet<i64>,
    /// What the service has answered 200 to since the last clear.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    told: BTreeSet<i64>,
    /// What it is being told, or was without an answer: it may have it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unsure: BTreeSet<i64>,
    /// Under which request ids it is told those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    req_ids: BTreeMap<i64, String>,
    /// Everything is to be cleared, or may have been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    clear: bool,
    /// How the last update ended, if it failed: [`UPDATE_FAILED`] or [`ROLLED_BACK`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<i64>,
    /// What this version does not know.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Codes {
    /// What the service was told.
    pub fn told(&self) -> impl Iterator<Item = i64> {
        self.told.iter().copied()
    }

    /// The service has it.
    fn has(&mut self, code: i64) {
        self.told.insert(code);
        self.unsure.remove(&code);
        self.req_ids.remove(&code);
    }

    /// The service does not have it.
    fn has_not(&mut self, code: i64) {
        self.unsure.remove(&code);
        self.req_ids.remove(&code);
    }

    /// The service has none.
    fn has_none(&mut self) {
        self.told.clear();
        self.unsure.clear();
        self.req_ids.clear();
        self.clear = false;
    }

    /// The code that it is being told, or was, under this request id.
    fn told_as(&self, req_id: &ReqId) -> Option<i64> {
        let found = self.req_ids.iter().find(|(_, known)| *known == req_id.as_str());
        found.map(|(code, _)| *code)
    }
}

/// A message that the service has not answered.
#[derive(Debug, Clone)]
struct Pending {
    publish: PublishId,
    req_id: ReqId,
    what: What,
    /// When the answer is late; `None`: the broker does not have the message yet.
    until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Add(i64),
    Clear,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub(in crate::agent) struct Telling {
    pending: Option<Pending>,
    not_before: Option<Duration>,
    attempts: u32,
    /// The units that rules name and that are failed; `None`: not known yet.
    failed: Option<BTreeSet<String>>,
    /// What held when it was looked at last.
    wanted: BTreeSet<i64>,
    /// What the service refused, until something else holds.
    refused: BTreeSet<i64>,
    clear_refused: bool,
    /// Since when the disk refuses.
    disk_since: Option<Duration>,
    /// When it refused last.
    disk_last: Option<Duration>,
    /// It has been for so long that it counts.
    disk_counts: bool,
    clock_missing: bool,
    clock_look: Option<Duration>,
}

impl Telling {
    /// How many publishes of it wait for their acknowledgement.
    pub(in crate::agent) fn in_flight(&self) -> usize {
        usize::from(self.pending.is_some())
    }

    /// The disk has just refused.
    pub(super) fn disk_refused(&mut self, now: Duration) {
        self.disk_since.get_or_insert(now);
        self.disk_last = Some(now);
    }

    /// The disk has just taken something.
    pub(super) fn disk_works(&mut self) {
        self.disk_since = None;
        self.disk_last = None;
        self.disk_counts = false;
    }

    /// When the disk refused last, if it does.
    pub(super) fn disk_last(&self) -> Option<Duration> {
        self.disk_last
    }
}

pub(super) fn failed_units(work: &mut Work<'_>, units: &BTreeSet<String>) {
    work.v.diagnostics.telling.failed = Some(units.clone());
}

/// An update has ended without the new firmware. `rolled_back`: the host had left the old slot for it.
pub(in crate::agent) fn update_failed(work: &mut Work<'_>, rolled_back: bool) {
    let code = if rolled_back { ROLLED_BACK } else { UPDATE_FAILED };
    set_update(work, Some(code));
}

/// An update has begun, or has succeeded.
pub(in crate::agent) fn update_over(work: &mut Work<'_>) {
    set_update(work, None);
}

fn set_update(work: &mut Work<'_>, update: Option<i64>) {
    if work.d.diagnostics.codes.update != update {
        change(work, |codes| codes.update = update);
    }
}

fn change(work: &mut Work<'_>, how: impl FnOnce(&mut Codes)) {
    let mut codes = work.d.diagnostics.codes.clone();
    how(&mut codes);
    work.change(Change::Codes(codes));
}

/// The service knows nothing of this device: neither of its codes.
pub(super) fn forget(work: &mut Work<'_>) {
    let codes = &work.d.diagnostics.codes;
    if !codes.told.is_empty() || !codes.unsure.is_empty() || codes.clear {
        change(work, Codes::has_none);
    }
    let telling = &mut work.v.diagnostics.telling;
    telling.pending = None;
    telling.refused.clear();
    telling.clear_refused = false;
}

/// Another device, or another service: it may have other codes than this one was told, or none. Or it is the same one
/// under another URL, and has them. So they are all cleared, and those that hold are told after that.
pub(super) fn doubt(work: &mut Work<'_>) {
    let codes = &work.d.diagnostics.codes;
    let clear = !codes.told.is_empty() || !codes.unsure.is_empty() || codes.clear;
    forget(work);
    if clear {
        change(work, |codes| codes.clear = true);
    }
    let telling = &mut work.v.diagnostics.telling;
    telling.attempts = 0;
    telling.not_before = None;
}

/// Somebody adds a code, or clears them all.
///
/// # Errors
/// Why that cannot be.
pub(super) fn command(work: &mut Work<'_>, command: &DiagCommand) -> Result<(), String> {
    match command {
        DiagCommand::AddError(code) => {
            let code = allowed_code(*code)?;
            let by_hand = &work.d.diagnostics.codes.by_hand;
            if by_hand.len() >= MOST_BY_HAND && !by_hand.contains(&code) {
                return Err(format!(
                    "{MOST_BY_HAND} error codes were added by hand: clear them first (diag clear-errors)"
                ));
            }
            work.v.diagnostics.telling.refused.remove(&code);
            change(work, |codes| codes.by_hand.extend([code]));
        }
        DiagCommand::ClearErrors => {
            let telling = &mut work.v.diagnostics.telling;
            telling.refused.clear();
            telling.clear_refused = false;
            change(work, |codes| {
                codes.by_hand.clear();
                codes.clear = true;
            });
        }
        DiagCommand::AddLog { .. } | DiagCommand::ClearLogs => {}
    }
    Ok(())
}

/// What holds.
fn wanted(work: &Work<'_>) -> BTreeSet<i64> {
    let (codes, telling) = (&work.d.diagnostics.codes, &work.v.diagnostics.telling);
    let mut wanted = codes.by_hand.clone();
    wanted.extend(codes.update);
    wanted.extend(telling.disk_counts.then_some(DISK_REFUSES));
    wanted.extend(telling.clock_missing.then_some(CLOCK_NOT_SET));
    let rules = work.settings.diagnostics.iter().flat_map(|settings| &settings.codes);
    for rule in rules {
        let holds = match (&rule.when, &telling.failed) {
            (When::Failed { unit }, Some(failed)) => failed.contains(unit),
            // Until systemd has said how the units are, everything stays as it is.
            (When::Failed { .. }, None) => codes.told.contains(&rule.code) || codes.unsure.contains(&rule.code),
            (When::Journal { .. }, _) => work.v.diagnostics.journal.matched(rule.code, work.now.boottime),
        };
        wanted.extend(holds.then_some(rule.code));
    }
    wanted
}

/// What the service is to be told next.
fn next(codes: &Codes, telling: &Telling) -> Option<What> {
    let over = |code: &i64| !telling.wanted.contains(code);
    let stale = codes.told.iter().chain(&codes.unsure).any(over);
    if (codes.clear || stale) && !telling.clear_refused {
        return Some(What::Clear);
    }
    missing(codes, telling).next().map(What::Add)
}

/// What holds, and the service does not know.
fn missing(codes: &Codes, telling: &Telling) -> impl Iterator<Item = i64> {
    let missing = |code: &i64| !codes.told.contains(code) && !telling.refused.contains(code);
    telling.wanted.iter().copied().filter(missing)
}

pub(super) fn subscribed(work: &mut Work<'_>) {
    let limit = work.after(ANSWER_LIMIT);
    if let Some(until) = work
        .v
        .diagnostics
        .telling
        .pending
        .as_mut()
        .and_then(|pending| pending.until.as_mut())
    {
        *until = limit;
    }
}

pub(super) fn due(work: &mut Work<'_>) {
    let now = work.now.boottime;
    let telling = &mut work.v.diagnostics.telling;
    telling.disk_counts |= telling.disk_since.is_some_and(|since| now >= since + DISK_PATIENCE);
    telling.clock_missing = work.now.wall.is_none() && now >= CLOCK_PATIENCE;
    telling.clock_look = (work.now.wall.is_none()).then(|| CLOCK_PATIENCE.max(now + CLOCK_LOOK));
    let wanted = wanted(work);
    let telling = &mut work.v.diagnostics.telling;
    if wanted != telling.wanted {
        telling.wanted = wanted;
        telling.refused.clear();
        telling.clear_refused = false;
    }
    let late = |pending: &Pending| pending.until.is_some_and(|until| now >= until);
    if work.v.subscribed && work.v.diagnostics.telling.pending.as_ref().is_some_and(late) {
        try_later(work);
    }
    work.v.diagnostics.telling.not_before.take_if(|at| *at <= now);
}

fn try_later(work: &mut Work<'_>) {
    let attempts = work.v.diagnostics.telling.attempts.saturating_add(1);
    let pause = work.pause(attempts);
    let at = work.after(pause);
    let telling = &mut work.v.diagnostics.telling;
    telling.attempts = attempts;
    telling.pending = None;
    telling.not_before = Some(at);
}

/// One message, if the service is to be told something.
pub(super) fn send(work: &mut Work<'_>) {
    let telling = &work.v.diagnostics.telling;
    let waits = telling.pending.is_some() || telling.not_before.is_some();
    if waits || work.v.lifecycle.managed.is_none() || !work.may_publish_more() {
        return;
    }
    let codes = &work.d.diagnostics.codes;
    let what = match work.will_be_saved() {
        true => next(codes, telling),
        // Of all that holds only this can be told without being written down first.
        false => missing(codes, telling)
            .find(|code| *code == DISK_REFUSES)
            .map(What::Add),
    };
    let Some(what) = what else { return };
    let report = match what {
        What::Add(code) => Report::AddErrorCode(code),
        What::Clear => Report::ClearErrorCodes,
    };
    let before = match what {
        What::Add(code) => codes.req_ids.get(&code).and_then(ReqId::new),
        What::Clear => None,
    };
    let known = before.is_some() || what == What::Clear && codes.clear;
    let req_id = before.unwrap_or_else(|| work.v.ids.req_id());
    if !known {
        change(work, |codes| match what {
            What::Add(code) => {
                codes.unsure.insert(code);
                codes.req_ids.insert(code, req_id.to_string());
            }
            What::Clear => codes.clear = true,
        });
    }
    let publish = work.publish(report.kind(), report.to_payload(Some(&req_id)));
    work.v.diagnostics.telling.pending = Some(Pending {
        publish,
        req_id,
        what,
        until: None,
    });
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let telling = &work.v.diagnostics.telling;
    let until = telling.pending.as_ref().and_then(|pending| pending.until);
    let disk = telling.disk_since.filter(|_| !telling.disk_counts);
    let at = [
        until.filter(|_| work.v.subscribed),
        telling.not_before.filter(|_| work.v.subscribed),
        disk.map(|since| since + DISK_PATIENCE),
        telling.clock_look,
    ];
    at.into_iter().flatten().min()
}

/// The broker has it: now the service has time to answer.
pub(super) fn published(work: &mut Work<'_>, id: PublishId) {
    let limit = work.after(ANSWER_LIMIT);
    if let Some(pending) = &mut work.v.diagnostics.telling.pending
        && pending.publish == id
    {
        pending.until = Some(limit);
    }
}

pub(super) fn not_published(work: &mut Work<'_>, id: PublishId) {
    work.v
        .diagnostics
        .telling
        .pending
        .take_if(|pending| pending.publish == id);
}

/// The broker does not take it: the connection ended right after it, again and again.
pub(super) fn publish_refused(work: &mut Work<'_>, id: PublishId) -> bool {
    let ours = |pending: &mut Pending| pending.publish == id;
    let found = work.v.diagnostics.telling.pending.take_if(ours);
    if let Some(pending) = &found {
        give_up(work, pending.what);
    }
    found.is_some()
}

fn give_up(work: &mut Work<'_>, what: What) {
    let telling = &mut work.v.diagnostics.telling;
    match what {
        What::Add(code) => {
            telling.refused.insert(code);
            change(work, |codes| codes.has_not(code));
        }
        What::Clear => {
            telling.clear_refused = true;
            change(work, |codes| codes.clear = false);
        }
    }
}

/// True when the response was to a message of ours, also to one that was given up waiting for.
pub(super) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    let ours = |pending: &mut Pending| pending.req_id == response.req_id;
    let pending = work.v.diagnostics.telling.pending.take_if(ours);
    let late = || work.d.diagnostics.codes.told_as(&response.req_id).map(What::Add);
    let Some(what) = pending.as_ref().map(|pending| pending.what).or_else(late) else {
        return false;
    };
    let rc = response.rc;
    if rc == Rc::CONFLICT || rc.0 >= 500 {
        if pending.is_some() {
            try_later(work);
        }
        return true;
    }
    work.v.diagnostics.telling.attempts = 0;
    work.v.diagnostics.telling.not_before = None;
    if rc.is_success() {
        change(work, |codes| match what {
            What::Add(code) => codes.has(code),
            What::Clear => codes.has_none(),
        });
        return true;
    }
    let reason = (response.message.as_deref()).map_or(String::new(), |message| format!(" ({message})"));
    let asked = match what {
        What::Add(code) => format!("error code {code}"),
        What::Clear => "to clear the error codes".to_owned(),
    };
    let text = format!("the service refused {asked} with rc {rc}{reason}; it is told again when other codes hold");
    work.say(Level::Warning, Topic::Dropped, text);
    give_up(work, what);
    true
}

/// For people: what holds, what the service was told, what it refused.
pub(super) fn status(work: &Work<'_>) -> super::status::ErrorCodes {
    let (codes, telling) = (&work.d.diagnostics.codes, &work.v.diagnostics.telling);
    super::status::ErrorCodes {
        hold: telling.wanted.iter().copied().collect(),
        told: codes.told.iter().copied().collect(),
        by_hand: codes.by_hand.iter().copied().collect(),
        refused: telling.refused.iter().copied().collect(),
    }
}

/// Whether changes can be written down, as far as anybody knows.
pub(super) fn disk_works(work: &Work<'_>) -> bool {
    work.disk == Disk::Works && work.will_be_saved()
}
