//! The reboot: asked, accepted, and proven by the kernel's boot id, never by a clock.
//!
//! `asked` is on the disk before logind is asked; `accepted` before the 202 goes out. In the next boot, either of them
//! means that the reboot happened. In the same boot, `accepted` means silence until it is clear that it did not.
//!
//! Facts: protocol "reboot"; org.freedesktop.login1(5), RebootWithFlags and PrepareForShutdown.

use std::time::Duration;

use super::Disk;
use super::durable::{Change, Exclusive, RebootPhase, RebootState, Wish};
use super::effect::{AckId, Effect, Level, OpId, Topic};
use super::event::RebootOutcome;
use super::handled::{Answer, Handled, Key, find};
use super::inbox::NOT_MANAGED;
use super::work::Work;
use super::{firmware, lifecycle, outbox};
use crate::protocol::diagnostics::{LogEntry, Severity};
use crate::protocol::{Rc, ReqId, Response, timestamp};

/// The operation's name in the memory of handled requests.
pub const OPERATION: &str = "reboot";
/// An `asked` reboot older than this is not executed any more.
pub const ASKED_LIMIT: Duration = Duration::from_secs(2 * 60);
/// After this an `accepted` reboot did not happen.
pub const ACCEPTED_LIMIT: Duration = Duration::from_secs(3 * 60);
/// A boot that the service ends sooner than this is a short one.
pub const SHORT_BOOT: Duration = Duration::from_secs(10 * 60);
/// So many short boots in a row are allowed.
pub const SHORT_BOOTS: u32 = 3;
/// So many requests share one reboot.
const MAX_REQUESTS: usize = 16;

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Reboot {
    op: Option<OpId>,
    /// logind is asked when the slot that runs is marked good.
    waits_for_mark: bool,
    /// A refusal that is not told before it is on the disk: told and then forgotten, the reboot would be tried again.
    held: Option<Held>,
}

/// An end that the disk does not have.
#[derive(Debug, Clone)]
enum Held {
    Refused(Rc, String),
    DidNotHappen(&'static str),
}

impl Reboot {
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

pub(super) fn recover(work: &mut Work<'_>) {
    let Some(reboot) = work.d.reboot().cloned() else { return };
    if reboot.boot_id != work.settings.boot_id {
        happened(work, &reboot);
    } else if reboot.phase == RebootPhase::Asked {
        ask_again(work, reboot);
    }
}

/// The run before ended between the request and logind's answer. logind may or may not have been asked.
fn ask_again(work: &mut Work<'_>, mut reboot: RebootState) {
    let age = |since: Duration| work.now.boottime.saturating_sub(since);
    if age(reboot.asked()) < ASKED_LIMIT && work.disk == Disk::Works {
        reboot.tried_ms = Some(millis(work.now.boottime));
        work.change(Change::Reboot(Some(reboot)));
        start(work);
    } else if age(reboot.tried()) < ASKED_LIMIT {
        // Too late to ask once more, too early to say that nothing comes of it.
        conclude(work, RebootOutcome::Unknown);
    } else {
        let message = "not executed: the agent was restarted, and the request was over 2 minutes old".to_owned();
        let rc = Rc::INTERNAL;
        conclude(work, RebootOutcome::Refused { rc, message });
    }
}

fn happened(work: &mut Work<'_>, reboot: &RebootState) {
    let short = reboot.asked() < SHORT_BOOT;
    let count = match short {
        // An update's own reboot is no sign of a loop; one that was asked for without a request id may be.
        true if reboot.requests.is_empty() && work.d.update().is_some() => work.d.short_boots,
        true => work.d.short_boots.saturating_add(1),
        false => 0,
    };
    if count != work.d.short_boots {
        work.change(Change::ShortBoots(count));
    }
    for key in &reboot.requests {
        if find(&work.d.handled, key).is_some_and(|handled| handled.answer.is_none()) {
            work.change(Change::Answer(key.clone(), Answer::new(Rc::ACCEPTED, "")));
        }
    }
    work.change(Change::Reboot(None));
    work.say(
        Level::Info,
        Topic::RebootDone,
        "the host has rebooted, as it was asked to",
    );
}

/// The service asks for a reboot.
pub(super) fn request(work: &mut Work<'_>, ack: AckId, req_id: Option<ReqId>, dup: bool) {
    work.ack(ack);
    let key = req_id.as_ref().map(|req_id| Key::new(OPERATION, req_id));
    if let Some(key) = &key
        && let Some(known) = find(&work.d.handled, key)
    {
        let text = match &known.answer {
            Some(answer) => format!(
                "a reboot request was delivered again; it is answered {} again and not executed",
                answer.rc
            ),
            None => "a reboot request was delivered again while it is being worked on".to_owned(),
        };
        work.say(Level::Info, Topic::RebootAsked, text);
        if known_answer(work, key) {
            work.answer_again(key.clone());
        }
        return;
    }
    if key.is_none() && dup {
        let text = "a reboot request without reqId was delivered again and not executed: nobody can tell whether it was before";
        return work.say(Level::Warning, Topic::RebootRefused, text);
    }
    if work.d.wish != Wish::Managed {
        return answer(work, key, req_id, Rc::BAD_REQUEST, NOT_MANAGED);
    }
    if !work.settings.reboot_enabled {
        let reason = "reboot is switched off in the device's configuration ([reboot] enabled = false)";
        work.say(Level::Info, Topic::RebootRefused, reason);
        return answer(work, key, req_id, Rc::NOT_IMPLEMENTED, reason);
    }
    if let Some(Exclusive::Unknown(_)) = work.d.exclusive {
        let reason = "busy: a newer version of the agent began something that this version does not know";
        return refuse(work, key, req_id, reason);
    }
    if work.d.reset().is_some() {
        return refuse(work, key, req_id, "busy: a factory reset is under way");
    }
    let boot_id = &work.settings.boot_id;
    if let Some(Err(reason)) = work.d.update().map(|update| firmware::reboot_wanted(update, boot_id)) {
        return refuse(work, key, req_id, reason);
    }
    if let Some(reboot) = work.d.reboot().cloned() {
        return join(work, reboot, key, req_id);
    }
    if work.d.short_boots >= SHORT_BOOTS && work.now.boottime < SHORT_BOOT {
        let reason = format!(
            "refused: this would be reboot number {} in a row within 10 minutes of starting; wait until the device is up for 10 minutes",
            SHORT_BOOTS + 1
        );
        return refuse(work, key, req_id, &reason);
    }
    begin(work, key, req_id);
}

fn known_answer(work: &Work<'_>, key: &Key) -> bool {
    find(&work.d.handled, key).is_some_and(|handled| handled.answer.is_some())
}

fn begin(work: &mut Work<'_>, key: Option<Key>, req_id: Option<ReqId>) {
    if let Disk::Refuses(reason) = work.disk {
        return cannot_remember(work, key, req_id, reason);
    }
    if let (Some(key), Some(req_id)) = (&key, &req_id) {
        work.change(Change::Remember(Handled::new(key.clone(), req_id, None)));
    }
    work.say(Level::Info, Topic::RebootAsked, "the service asks for a reboot");
    ask(work, key.into_iter().collect());
}

/// A reboot that an update needs, and nobody has asked for.
pub(super) fn begin_own(work: &mut Work<'_>, what: &str) {
    if let Disk::Refuses(reason) = work.disk {
        firmware::reboot_failed(work, reason);
        return;
    }
    work.say(Level::Info, Topic::RebootAsked, format!("{what} is due"));
    ask(work, Vec::new());
}

fn ask(work: &mut Work<'_>, requests: Vec<Key>) {
    let reboot = RebootState {
        phase: RebootPhase::Asked,
        boot_id: work.settings.boot_id.clone(),
        asked_ms: millis(work.now.boottime),
        tried_ms: None,
        accepted_ms: None,
        unknown: false,
        requests,
        extra: serde_json::Map::new(),
    };
    work.change(Change::Reboot(Some(reboot)));
    work.v.reboot.held = None;
    start(work);
}

/// `asked` is on the disk, or will be with this step.
fn start(work: &mut Work<'_>) {
    work.v.reboot.waits_for_mark = firmware::before_reboot(work);
    if !work.v.reboot.waits_for_mark {
        work.v.reboot.op = Some(work.start_reboot());
    }
}

/// RAUC has marked slots, or could not.
pub(super) fn marked(work: &mut Work<'_>, result: &Result<(), String>) {
    if !std::mem::take(&mut work.v.reboot.waits_for_mark) {
        return;
    }
    if let Err(reason) = result {
        // Who asks for a reboot may do so because RAUC does not work.
        let text = format!(
            "the host reboots although the slot that runs is not marked good, so the boot loader may start the other one: {reason}"
        );
        work.say(Level::Warning, Topic::RebootAsked, text);
    }
    work.v.reboot.op = Some(work.start_reboot());
}

/// What is not on the disk is not promised to anybody.
fn cannot_remember(work: &mut Work<'_>, key: Option<Key>, req_id: Option<ReqId>, reason: &str) {
    work.say(
        Level::Error,
        Topic::RebootRefused,
        format!("a reboot was asked for and refused: {reason}"),
    );
    answer(work, key, req_id, Rc::INTERNAL, reason);
}

/// Refused for a reason that may be gone when the request is delivered again; then it is carried out.
fn answer(work: &mut Work<'_>, key: Option<Key>, req_id: Option<ReqId>, rc: Rc, reason: &str) {
    if let Some(req_id) = req_id {
        outbox::owe_response(work, &Response::new(req_id, rc).message(reason), key);
    }
}

/// A second request while a reboot is under way: one reboot answers both.
fn join(work: &mut Work<'_>, mut reboot: RebootState, key: Option<Key>, req_id: Option<ReqId>) {
    let (Some(key), Some(req_id)) = (key, req_id) else {
        return;
    };
    if let Disk::Refuses(reason) = work.disk {
        return cannot_remember(work, Some(key), Some(req_id), reason);
    }
    if reboot.requests.len() >= MAX_REQUESTS {
        return refuse(work, Some(key), Some(req_id), "busy: a reboot is under way already");
    }
    let accepted = reboot.phase == RebootPhase::Accepted && !reboot.unknown;
    let given = accepted.then(|| Answer::new(Rc::ACCEPTED, ""));
    work.change(Change::Remember(Handled::new(key.clone(), &req_id, given)));
    reboot.requests.push(key);
    work.change(Change::Reboot(Some(reboot)));
    work.say(
        Level::Info,
        Topic::RebootAsked,
        "the service asks for another reboot while one is under way: one will do for both",
    );
}

/// Refused, and remembered, so that it stays refused when it is delivered again after the reason is gone.
fn refuse(work: &mut Work<'_>, key: Option<Key>, req_id: Option<ReqId>, reason: &str) {
    work.say(
        Level::Warning,
        Topic::RebootRefused,
        format!("a reboot was asked for and refused: {reason}"),
    );
    if let (Some(key), Some(req_id)) = (key, req_id) {
        work.change(Change::Remember(Handled::new(
            key,
            &req_id,
            Some(Answer::new(Rc::INTERNAL, reason)),
        )));
    }
}

/// logind answered.
pub(super) fn ended(work: &mut Work<'_>, op: OpId, outcome: RebootOutcome) {
    if work.v.reboot.op == Some(op) {
        work.v.reboot.op = None;
        conclude(work, outcome);
    }
}

fn conclude(work: &mut Work<'_>, outcome: RebootOutcome) {
    let Some(mut reboot) = work
        .d
        .reboot()
        .filter(|reboot| reboot.phase == RebootPhase::Asked)
        .cloned()
    else {
        return;
    };
    match outcome {
        RebootOutcome::Unknown => {
            // Silence until it is clear, as if accepted; but no 202 for what may not be.
            reboot.phase = RebootPhase::Accepted;
            reboot.unknown = true;
            reboot.accepted_ms = Some(millis(work.now.boottime));
            work.change(Change::Reboot(Some(reboot)));
            work.effect(Effect::ReleaseDelayLock);
            let text = "it is not known whether logind got the request to reboot; waiting whether the host goes down";
            work.say(Level::Warning, Topic::RebootAccepted, text);
        }
        RebootOutcome::Accepted => {
            reboot.phase = RebootPhase::Accepted;
            reboot.accepted_ms = Some(millis(work.now.boottime));
            let requests = reboot.requests.clone();
            work.change(Change::Reboot(Some(reboot)));
            if requests.is_empty() {
                work.effect(Effect::ReleaseDelayLock);
            }
            for key in requests {
                work.change(Change::Answer(key, Answer::new(Rc::ACCEPTED, "")));
            }
            work.say(
                Level::Info,
                Topic::RebootAccepted,
                "logind accepted the reboot; the host goes down",
            );
        }
        RebootOutcome::Refused { rc, message } => {
            if let Disk::Refuses(_) = work.disk {
                work.v.reboot.held = Some(Held::Refused(rc, message));
                return;
            }
            work.change(Change::Reboot(None));
            for key in reboot.requests {
                work.change(Change::Answer(key, Answer::new(rc, message.as_str())));
            }
            work.effect(Effect::ReleaseDelayLock);
            if !firmware::reboot_failed(work, &message) {
                work.say(
                    Level::Warning,
                    Topic::RebootRefused,
                    format!("the reboot was refused: {message}"),
                );
            }
        }
    }
}

/// logind says that the host goes down, or that it does not after all.
pub(super) fn preparing_for_shutdown(work: &mut Work<'_>, preparing: bool) {
    let accepted = work
        .d
        .reboot()
        .is_some_and(|reboot| reboot.phase == RebootPhase::Accepted);
    if !preparing && accepted {
        did_not_happen(work, "logind accepted the reboot and then called it off");
    }
}

pub(super) fn due(work: &mut Work<'_>) {
    if let Some(held) = work.v.reboot.held.take() {
        match held {
            _ if !work.may_retry_save() && work.disk == Disk::Works => work.v.reboot.held = Some(held),
            Held::Refused(rc, message) => conclude(work, RebootOutcome::Refused { rc, message }),
            Held::DidNotHappen(reason) => did_not_happen(work, reason),
        }
    }
    let overdue = |reboot: &RebootState| {
        reboot.phase == RebootPhase::Accepted
            && reboot.boot_id == work.settings.boot_id
            && work.now.boottime >= reboot.accepted() + ACCEPTED_LIMIT
    };
    if !work.v.reboot.is_held() && work.d.reboot().is_some_and(overdue) {
        did_not_happen(work, "3 minutes after logind had been asked, the host was still up");
    }
    if counts_down(work) && work.now.boottime >= SHORT_BOOT {
        work.change(Change::ShortBoots(0));
    }
}

/// The count of short boots is forgotten when this boot is no short one.
fn counts_down(work: &Work<'_>) -> bool {
    work.d.short_boots > 0 && work.d.exclusive.is_none()
}

fn did_not_happen(work: &mut Work<'_>, reason: &'static str) {
    let Some(reboot) = work.d.reboot().cloned() else { return };
    if work.asked_on_disk && work.disk != Disk::Works {
        // The next run would not know that logind had accepted, and ask again.
        work.v.reboot.held = Some(Held::DidNotHappen(reason));
        return;
    }
    let reason = format!("the reboot did not happen: {reason}");
    work.change(Change::Reboot(None));
    for key in reboot.requests {
        work.change(Change::Answer(key, Answer::new(Rc::INTERNAL, reason.as_str())));
    }
    work.effect(Effect::ReleaseDelayLock);
    lifecycle::wanted(work);
    if firmware::reboot_failed(work, &reason) {
        return;
    }
    let entry = LogEntry {
        message: reason.clone(),
        severity: Severity::Error,
        timestamp: work.now.wall.and_then(timestamp::format),
        data: None,
        extra: serde_json::Map::new(),
    };
    outbox::owe_log(work, &entry, true);
    work.say(Level::Error, Topic::RebootDidNotHappen, reason);
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let accepted = work.d.reboot().filter(|reboot| reboot.phase == RebootPhase::Accepted);
    let forget = counts_down(work).then_some(SHORT_BOOT);
    let limit = accepted.map(|reboot| reboot.accepted() + ACCEPTED_LIMIT).or(forget);
    limit.filter(|_| !work.v.reboot.is_held())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
