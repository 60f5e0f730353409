//! Manage, its renewal, and unmanage (protocol: "manage device", "unmanage device").
//!
//! The service reads *any* manage as "the reboot is complete", so none is sent while a reboot or a factory reset is
//! under way, for whatever cause; and none is sent before the answers that are owed have reached the broker.

use std::time::Duration;

use super::Settings;
use super::durable::{Change, Wish};
use super::effect::{CommandId, Effect, Level, PublishId, Reply, Topic};
use super::work::Work;
use super::{Durable, diagnostics, firmware, model, observation, outbox};
use crate::protocol::manage::{Manage, Supports};
use crate::protocol::{Rc, Report, ReqId, Response};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The pause after "not registered".
const NOT_REGISTERED_PAUSE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    req_id: ReqId,
    publish: PublishId,
    /// When the answer counts as lost; `None` while the connection is gone.
    give_up: Option<Duration>,
    /// It is: the next attempt is due, but a late answer still counts.
    lost: bool,
    unmanage: bool,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    pending: Option<Pending>,
    /// When the next manage (or unmanage) is to go out.
    due: Option<Duration>,
    /// Attempts in a row without a usable answer.
    failures: u32,
    /// What is pending says something that is no longer true.
    stale: bool,
    /// When the last manage went out.
    sent: Option<Duration>,
    /// When the service is to be set right, if nothing else has done it before.
    set_right: Option<Duration>,
    /// When the service last answered 200 in this run (time since boot), and the wall clock then. Gone when it has
    /// refused a later one with 400, 403 or 404.
    pub(super) managed: Option<(Duration, Option<i64>)>,
    /// Why it last did not.
    pub(super) refusal: Option<(Rc, Option<String>)>,
    waiting: Vec<CommandId>,
}

/// The service is set right at most this often: one that writes what it is told not to, or that knows nothing of a device
/// that it manages, does not start a race.
const SET_RIGHT: Duration = Duration::from_secs(60);

/// The content of the manage request.
pub(super) fn content(settings: &Settings, durable: &Durable) -> Manage {
    Manage {
        metadata: model::metadata(settings, durable),
        lifetime: Some(settings.lifetime),
        supports: Some(Supports {
            device_actions: settings.reboot_enabled || settings.reset_enabled,
            firmware_actions: settings.firmware.supported.is_ok(),
            bundles: Vec::new(),
        }),
        device_info: Some(model::device_info(settings, durable)),
        extra: serde_json::Map::new(),
    }
}

/// No manage while a reboot or a factory reset is under way.
fn silent(work: &Work<'_>) -> bool {
    work.d.reboot().is_some() || work.d.reset().is_some()
}

pub(super) fn subscribed(work: &mut Work<'_>) {
    let give_up = work.after(ANSWER_LIMIT);
    let session_kept = work.v.session_kept;
    let lifecycle = &mut work.v.lifecycle;
    match &mut lifecycle.pending {
        Some(pending) if session_kept && !pending.lost => {
            pending.give_up = Some(give_up);
            return;
        }
        // The answer, if there was one, went with the session.
        pending => *pending = None,
    }
    let first = lifecycle.managed.is_none();
    match work.d.wish {
        Wish::Managed if first || !session_kept => work.v.lifecycle.due = Some(work.now.boottime),
        Wish::Unmanaging => work.v.lifecycle.due = Some(work.now.boottime),
        _ => {}
    }
}

/// Nobody waits at the terminal for a connection to come back.
pub(super) fn disconnected(work: &mut Work<'_>) {
    reply_all(work, &Reply::Later);
}

/// Another device, or another service: nobody has answered a manage of it yet.
pub(super) fn forget(work: &mut Work<'_>) {
    reply_all(work, &Reply::Later);
    work.v.lifecycle = Lifecycle {
        due: Some(work.now.boottime),
        ..Lifecycle::default()
    };
}

/// `said`: what manage said with the settings before.
pub(super) fn configured(work: &mut Work<'_>, said: &Manage) {
    let changed = content(&work.settings, &work.d) != *said;
    if work.d.wish == Wish::Managed && (changed || work.v.lifecycle.refusal.is_some()) {
        work.v.lifecycle.stale = work.v.lifecycle.pending.is_some();
        work.v.lifecycle.due = Some(work.now.boottime);
        work.v.lifecycle.failures = 0;
    }
}

/// The service itself has changed what manage says: no manage is needed for that, but one that is on its way would change
/// it back.
pub(super) fn outdated(work: &mut Work<'_>) {
    work.v.lifecycle.stale |= work.v.lifecycle.pending.is_some();
}

/// The service has something wrong, or nothing, of what manage says.
pub(super) fn set_right(work: &mut Work<'_>) {
    let now = work.now.boottime;
    let at = work.v.lifecycle.sent.map_or(now, |sent| now.max(sent + SET_RIGHT));
    work.v.lifecycle.set_right = Some(at);
    if work.v.lifecycle.pending.is_none() && work.d.wish == Wish::Managed {
        let due = work.v.lifecycle.due.map_or(at, |due| due.min(at));
        work.v.lifecycle.due = Some(due);
    }
}

/// The service does not know what the device tells of, perhaps because it does not know the device any more: a manage
/// tells it, at once (protocol 3.3, rule 5). The answer to one that is on its way says whether it does.
pub(super) fn not_known(work: &mut Work<'_>) {
    if work.v.lifecycle.managed.is_some() && work.v.lifecycle.pending.is_none() {
        set_right(work);
    }
}

/// A manage is to go out as soon as it may.
pub(super) fn wanted(work: &mut Work<'_>) {
    if work.d.wish == Wish::Managed {
        work.v.lifecycle.due = Some(work.now.boottime);
    }
}

pub(super) fn due(work: &mut Work<'_>) {
    if !work.v.subscribed {
        if let Some(pending) = &mut work.v.lifecycle.pending {
            pending.give_up = None;
        }
        return;
    }
    let lost = |pending: &Pending| pending.give_up.is_some_and(|at| work.now.boottime >= at);
    if let Some(pending) = work.v.lifecycle.pending.as_mut().filter(|pending| lost(pending)) {
        pending.lost = true;
        pending.give_up = None;
        let (topic, what) = match pending.unmanage {
            false => (Topic::Manage, "manage"),
            true => (Topic::Unmanage, "unmanage"),
        };
        let pause = try_later(work);
        let text = format!(
            "the service did not answer {what} within {} s; next attempt in {} s: is the service running, and may this device publish?",
            ANSWER_LIMIT.as_secs(),
            pause.as_secs()
        );
        work.say(Level::Warning, topic, text);
        reply_all(
            work,
            &Reply::Failed("the service did not answer; the agent goes on trying".into()),
        );
    }
}

fn try_later(work: &mut Work<'_>) -> Duration {
    let failures = work.v.lifecycle.failures.saturating_add(1);
    work.v.lifecycle.failures = failures;
    let pause = work.pause(failures);
    work.v.lifecycle.due = Some(work.after(pause));
    pause
}

pub(super) fn send(work: &mut Work<'_>) {
    if !may_send(work) || work.v.lifecycle.due.is_none_or(|at| work.now.boottime < at) {
        return;
    }
    let report = match work.d.wish {
        Wish::Managed => Report::Manage(Box::new(content(&work.settings, &work.d))),
        Wish::Unmanaging => Report::Unmanage,
        Wish::Unmanaged | Wish::Unknown(_) => {
            work.v.lifecycle.due = None;
            return;
        }
    };
    let req_id = work.v.ids.req_id();
    let publish = work.publish(report.kind(), report.to_payload(Some(&req_id)));
    let give_up = Some(work.after(ANSWER_LIMIT));
    let unmanage = report == Report::Unmanage;
    work.v.lifecycle.pending = Some(Pending {
        req_id,
        publish,
        give_up,
        lost: false,
        unmanage,
    });
    work.v.lifecycle.due = None;
    work.v.lifecycle.stale = false;
    work.v.lifecycle.sent = Some(work.now.boottime);
    work.v.lifecycle.set_right = None;
}

fn may_send(work: &Work<'_>) -> bool {
    let waiting = work.v.lifecycle.pending.as_ref().is_some_and(|pending| !pending.lost);
    work.v.subscribed && !waiting && !silent(work) && !work.answers_owed() && !outbox::must_precede_manage(work)
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let lifecycle = &work.v.lifecycle;
    match &lifecycle.pending {
        Some(pending) if !pending.lost => pending.give_up.filter(|_| work.v.subscribed),
        _ => lifecycle.due.filter(|_| may_send(work)),
    }
}

pub(super) fn not_published(work: &mut Work<'_>, id: PublishId) {
    if work
        .v
        .lifecycle
        .pending
        .as_ref()
        .is_some_and(|pending| pending.publish == id)
    {
        work.v.lifecycle.pending = None;
        work.v.lifecycle.due = Some(work.now.boottime);
    }
}

/// The broker does not take it: the connection ended right after it, again and again.
pub(super) fn publish_refused(work: &mut Work<'_>, id: PublishId) -> bool {
    if work
        .v
        .lifecycle
        .pending
        .take_if(|pending| pending.publish == id)
        .is_none()
    {
        return false;
    }
    work.v.lifecycle.due = Some(work.after(NOT_REGISTERED_PAUSE));
    true
}

/// True when the response was to a manage or unmanage of ours.
pub(super) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    let Some(pending) = work
        .v
        .lifecycle
        .pending
        .take_if(|pending| pending.req_id == response.req_id)
    else {
        return false;
    };
    firmware::service_answered(work);
    if pending.unmanage {
        unmanage_answered(work, response);
    } else {
        manage_answered(work, response);
    }
    true
}

fn manage_answered(work: &mut Work<'_>, response: &Response) {
    let reason = response
        .message
        .as_deref()
        .map(|message| format!(" ({message})"))
        .unwrap_or_default();
    let rc = response.rc;
    if rc.is_success() {
        let first = work.v.lifecycle.managed.is_none();
        work.v.lifecycle.managed = Some((work.now.boottime, work.now.wall));
        work.v.lifecycle.failures = 0;
        work.v.lifecycle.refusal = None;
        work.v.lifecycle.due = if work.v.lifecycle.stale {
            Some(work.now.boottime)
        } else {
            let due = [renewal(work), work.v.lifecycle.set_right];
            due.into_iter().flatten().min()
        };
        let text = if first {
            "the device is managed"
        } else {
            "the device stays managed"
        };
        work.say(Level::Info, Topic::Manage, text);
    } else {
        work.v.lifecycle.refusal = Some((rc, response.message.clone()));
        let what_now = match rc {
            Rc::CONFLICT => {
                let pause = Duration::from_secs(2) + work.v.ids.jitter(Duration::from_secs(6));
                work.v.lifecycle.due = Some(work.after(pause));
                "trying again in a few seconds".to_owned()
            }
            Rc::BAD_REQUEST | Rc::FORBIDDEN => {
                // The service may manage the device up to the end of its lifetime. Nobody renews that any more.
                work.v.lifecycle.managed = None;
                work.v.lifecycle.due = None;
                "correct [manage] in the configuration and reload the agent; it asks again then, and at the next connect".to_owned()
            }
            Rc::NOT_FOUND => {
                work.v.lifecycle.managed = None;
                model::forget(work);
                diagnostics::forget(work);
                work.v.lifecycle.due = Some(work.after(NOT_REGISTERED_PAUSE));
                "register the device at the service; the agent asks again in an hour and at the next connect".to_owned()
            }
            _ => format!("trying again in {} s", try_later(work).as_secs()),
        };
        work.say(
            Level::Error,
            Topic::Manage,
            format!("the service refused manage with rc {rc}{reason}: {what_now}"),
        );
    }
    reply_all(work, &Reply::Answered(rc, response.message.clone()));
}

/// Half the lifetime, less up to a tenth of it; `None` when the device never becomes dormant.
fn renewal(work: &mut Work<'_>) -> Option<Duration> {
    let lifetime = Duration::from_secs(work.settings.lifetime);
    (!lifetime.is_zero()).then(|| {
        let jitter = work.v.ids.jitter(lifetime / 10);
        work.after(lifetime / 2 - jitter)
    })
}

fn unmanage_answered(work: &mut Work<'_>, response: &Response) {
    let rc = response.rc;
    if rc == Rc::CONFLICT || rc.0 >= 500 {
        let pause = try_later(work);
        let text = format!(
            "the service refused unmanage with rc {rc}; next attempt in {} s",
            pause.as_secs()
        );
        work.say(Level::Warning, Topic::Unmanage, text);
    } else if work.d.wish == Wish::Unmanaging {
        work.change(Change::Wish(Wish::Unmanaged));
        observation::unmanaged(work);
        work.v.lifecycle.due = None;
        work.v.lifecycle.failures = 0;
        work.v.lifecycle.managed = None;
        work.say(
            Level::Info,
            Topic::Unmanage,
            format!("the device is no longer managed (rc {rc})"),
        );
    }
    reply_all(work, &Reply::Answered(rc, response.message.clone()));
}

pub(super) fn manage_command(work: &mut Work<'_>, command: CommandId) {
    if let Some(reason) = refused_command(work) {
        return work.effect(Effect::Reply(command, Reply::Failed(reason)));
    }
    if work.d.wish != Wish::Managed {
        work.change(Change::Wish(Wish::Managed));
        work.v.lifecycle.pending = None;
    }
    command_due(work, command);
}

pub(super) fn unmanage_command(work: &mut Work<'_>, command: CommandId) {
    if let Some(reason) = refused_command(work) {
        return work.effect(Effect::Reply(command, Reply::Failed(reason)));
    }
    if matches!(work.d.wish, Wish::Managed | Wish::Unknown(_)) {
        work.change(Change::Wish(Wish::Unmanaging));
        model::forget(work);
        work.v.lifecycle.pending = None;
        work.v.lifecycle.managed = None;
    }
    if work.d.wish == Wish::Unmanaged {
        return work.effect(Effect::Reply(
            command,
            Reply::Answered(Rc::OK, Some("already unmanaged".into())),
        ));
    }
    command_due(work, command);
}

fn command_due(work: &mut Work<'_>, command: CommandId) {
    work.v.lifecycle.due = Some(work.now.boottime);
    work.v.lifecycle.failures = 0;
    if work.v.subscribed {
        work.v.lifecycle.waiting.push(command);
    } else {
        work.effect(Effect::Reply(command, Reply::Later));
    }
}

fn refused_command(work: &Work<'_>) -> Option<String> {
    if silent(work) {
        let what = if work.d.reset().is_some() {
            "factory reset"
        } else {
            "reboot"
        };
        return Some(format!(
            "a {what} is under way; a manage now would look like its end: try again after it"
        ));
    }
    match work.disk {
        super::Disk::Refuses(reason) => Some(reason.to_owned()),
        super::Disk::Works => None,
    }
}

fn reply_all(work: &mut Work<'_>, reply: &Reply) {
    for command in std::mem::take(&mut work.v.lifecycle.waiting) {
        work.effect(Effect::Reply(command, reply.clone()));
    }
}
