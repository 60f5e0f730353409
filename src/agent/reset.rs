//! The factory reset: accepted, started once the service has its 202, and proven by the report that the wipe has left.
//!
//! Here is the request, up to the host's way down; `outcome` decides after a boot what has become of it; `record` is
//! what is remembered. What is wiped, and what is kept, is not decided here: see the unit that systemd starts.
//!
//! A request is acknowledged after a look at the host, when it is on the disk that it is accepted, or when it was
//! refused. `starting` is on the disk before systemd is asked. The downloaded image, and what `mgmt.firmware` says of
//! it, lie in the state folder, which outlives the reset: a download goes on after it as after any boot.
//!
//! Facts: protocol "factory reset"; org.freedesktop.systemd1(5), StartUnit.

mod outcome;
pub mod record;

use std::time::Duration;

pub(super) use outcome::{not_withdrawn, reported};

use super::Disk;
use super::durable::{Change, Exclusive, Wish};
use super::effect::{AckId, After, Effect, Level, OpId, Topic};
use super::event::{ResetOutcome, ResetReady, ResetRefused};
use super::handled::{Answer, Handled, Key, find};
use super::inbox::NOT_MANAGED;
use super::outbox;
use super::reboot::{ACCEPTED_LIMIT, ASKED_LIMIT, SHORT_BOOT, SHORT_BOOTS, millis};
use super::work::Work;
use crate::protocol::{Rc, ReqId, Response};
use record::{Phase, Reset as Record};

/// The operation's name in the memory of handled requests.
pub const OPERATION: &str = "factory_reset";
/// So long the broker has to take the 202 before the host goes down without that.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the unit's job is followed. Another unit than ours may wipe before the host goes down.
pub const JOB_LIMIT: Duration = Duration::from_secs(60 * 60);
/// So many requests share one reset.
const MAX_REQUESTS: usize = 16;

/// Requests that wait for a look at the host.
#[derive(Debug, Clone)]
struct Waiting {
    op: OpId,
    requests: Vec<(Key, ReqId)>,
    /// The same request may come again while it waits.
    acks: Vec<AckId>,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Reset {
    waiting: Option<Waiting>,
    /// systemd is being asked.
    op: Option<OpId>,
    /// Something has to wait for the disk: what follows from it may only happen when it is there.
    held: bool,
    outcome: outcome::Running,
}

impl Reset {
    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

/// The service asks for a factory reset.
pub(super) fn request(work: &mut Work<'_>, ack: AckId, req_id: Option<ReqId>, dup: bool) {
    let request = req_id.map(|req_id| (Key::new(OPERATION, &req_id), req_id));
    if let Some(waiting) = &mut work.v.reset.waiting
        && request
            .as_ref()
            .is_some_and(|request| waiting.requests.contains(request))
    {
        waiting.acks.push(ack);
        return;
    }
    if let Some((key, _)) = &request
        && find(&work.d.handled, key).is_some()
    {
        work.ack(ack);
        let text = "a factory reset request was delivered again; it is answered again and not carried out again";
        work.say(Level::Info, Topic::ResetAsked, text);
        return work.answer_again(key.clone());
    }
    if request.is_none() && dup {
        work.ack(ack);
        let text = "a factory reset request without reqId was delivered again and not carried out: nobody can tell whether it was before";
        return work.say(Level::Warning, Topic::ResetRefused, text);
    }
    let requests: Vec<_> = request.into_iter().collect();
    if let Err(refusal) = judge(work) {
        work.ack(ack);
        return refuse(work, requests, &refusal);
    }
    if let Some(reset) = work.d.reset().cloned() {
        work.ack(ack);
        return join(work, reset, requests);
    }
    if let Some(waiting) = &mut work.v.reset.waiting {
        if waiting.requests.len() < MAX_REQUESTS {
            waiting.requests.extend(requests);
            waiting.acks.push(ack);
            return;
        }
        work.ack(ack);
        return refuse(work, requests, &Refusal::busy(ONE_IS_UNDER_WAY));
    }
    work.say(Level::Info, Topic::ResetAsked, "the service asks for a factory reset");
    let op = work.op();
    work.effect(Effect::SurveyReset(op));
    work.v.reset.waiting = Some(Waiting {
        op,
        requests,
        acks: vec![ack],
    });
}

const ONE_IS_UNDER_WAY: &str = "a factory reset is under way already";

struct Refusal {
    rc: Rc,
    reason: String,
    /// It stays refused when it is delivered again after the reason is gone.
    remembered: bool,
}

impl Refusal {
    fn busy(reason: &str) -> Self {
        Refusal {
            rc: Rc::INTERNAL,
            reason: format!("busy: {reason}"),
            remembered: true,
        }
    }

    /// Carried out when it is delivered again and the reason is gone.
    fn now(rc: Rc, reason: &str) -> Self {
        Refusal {
            rc,
            reason: reason.to_owned(),
            remembered: false,
        }
    }
}

/// Whether it can be carried out, or joined, as far as that is known without a look at the host.
fn judge(work: &Work<'_>) -> Result<(), Refusal> {
    if work.d.wish != Wish::Managed {
        return Err(Refusal::now(Rc::BAD_REQUEST, NOT_MANAGED));
    }
    if !work.settings.reset_enabled {
        let reason = "factory reset is switched off in the device's configuration ([factory_reset] enabled = false)";
        return Err(Refusal::now(Rc::NOT_IMPLEMENTED, reason));
    }
    match &work.d.exclusive {
        None => {}
        // One that the service was told of joins; one that may be over does not.
        Some(Exclusive::Reset { reset }) if reset.boot_id == work.settings.boot_id => {}
        Some(Exclusive::Reset { .. }) => {
            return Err(Refusal::busy("the outcome of a factory reset is being established"));
        }
        Some(Exclusive::Reboot { .. }) => return Err(Refusal::busy("the host is about to reboot")),
        Some(Exclusive::Update { .. }) => {
            return Err(Refusal::busy(
                "firmware is being installed, or on trial; wait for its outcome",
            ));
        }
        Some(Exclusive::Unknown(_)) => {
            return Err(Refusal::busy(
                "a newer version of the agent began something that this version does not know",
            ));
        }
    }
    if work.d.exclusive.is_none() && work.d.short_boots >= SHORT_BOOTS && work.now.boottime < SHORT_BOOT {
        let reason = format!(
            "refused: this would be reboot number {} in a row within 10 minutes of starting; wait until the device is up for 10 minutes",
            SHORT_BOOTS + 1
        );
        return Err(Refusal {
            rc: Rc::INTERNAL,
            reason,
            remembered: true,
        });
    }
    match work.disk {
        // What is not on the disk is not promised to anybody.
        Disk::Refuses(reason) => Err(Refusal::now(Rc::INTERNAL, reason)),
        Disk::Works => Ok(()),
    }
}

fn refuse(work: &mut Work<'_>, requests: Vec<(Key, ReqId)>, refusal: &Refusal) {
    let Refusal { rc, reason, remembered } = refusal;
    let text = format!("a factory reset was asked for and refused: {reason}");
    work.say(Level::Warning, Topic::ResetRefused, text);
    for (key, req_id) in requests {
        if *remembered && work.disk == Disk::Works {
            let answer = Answer::new(*rc, reason.as_str());
            work.change(Change::Remember(Handled::new(key, &req_id, Some(answer))));
        } else {
            outbox::owe_response(work, &Response::new(req_id, *rc).message(reason.as_str()), Some(key));
        }
    }
}

/// Another request while a reset is under way: one reset answers both.
fn join(work: &mut Work<'_>, mut reset: Record, requests: Vec<(Key, ReqId)>) {
    if reset.requests.len() >= MAX_REQUESTS {
        return refuse(work, requests, &Refusal::busy(ONE_IS_UNDER_WAY));
    }
    let text = "the service asks for another factory reset while one is under way: one will do for both";
    work.say(Level::Info, Topic::ResetAsked, text);
    if requests.is_empty() {
        return;
    }
    reset.requests.extend(accept(work, requests));
    work.change(Change::Reset(Some(reset)));
}

/// Remembers the requests with a 202.
fn accept(work: &mut Work<'_>, requests: Vec<(Key, ReqId)>) -> Vec<Key> {
    let remember = |(key, req_id): (Key, ReqId)| {
        let accepted = Answer::new(Rc::ACCEPTED, "");
        work.change(Change::Remember(Handled::new(key.clone(), &req_id, Some(accepted))));
        key
    };
    requests.into_iter().map(remember).collect()
}

/// A look at the host is done.
pub(super) fn surveyed(work: &mut Work<'_>, op: OpId, found: &Result<ResetReady, ResetRefused>) {
    let Some(waiting) = work.v.reset.waiting.take_if(|waiting| waiting.op == op) else {
        return;
    };
    for ack in &waiting.acks {
        work.ack(*ack);
    }
    // The world may have changed since it was asked for.
    let judged = judge(work);
    let refusal = match (found, judged) {
        (Err(refused), _) => Refusal {
            rc: refused.rc,
            reason: refused.message.clone(),
            remembered: true,
        },
        (_, Err(refusal)) => refusal,
        (Ok(ready), Ok(())) => return begin(work, *ready, waiting.requests),
    };
    refuse(work, waiting.requests, &refusal);
}

fn begin(work: &mut Work<'_>, ready: ResetReady, requests: Vec<(Key, ReqId)>) {
    let requests = accept(work, requests);
    work.change(Change::Reset(Some(Record {
        phase: Phase::Accepted,
        boot_id: work.settings.boot_id.clone(),
        asked_ms: millis(work.now.boottime),
        started_ms: None,
        reports: ready.reports,
        requests,
        extra: serde_json::Map::new(),
    })));
    let text = "the factory reset is accepted; it begins when the service has been told";
    work.say(Level::Info, Topic::ResetAccepted, text);
}

/// Nobody waits for an acknowledgement on a connection that is gone: the request will be delivered again.
pub(super) fn disconnected(work: &mut Work<'_>) {
    work.v.reset.waiting = None;
}

/// After a start: what was under way, and what has a reset left?
pub(super) fn recover(work: &mut Work<'_>) {
    outcome::read(work);
    let Some(reset) = here(work) else { return };
    if reset.phase == Phase::Starting && reset.started_ms.is_none() {
        // The run before ended between this and systemd's answer. systemd may or may not have been asked.
        if work.now.boottime < reset.asked() + ASKED_LIMIT {
            ask(work);
        } else {
            follow(work, &reset);
        }
    }
}

/// The reset that is under way, if it began in this boot.
fn here(work: &Work<'_>) -> Option<Record> {
    let reset = work.d.reset().filter(|reset| reset.boot_id == work.settings.boot_id);
    reset.cloned()
}

/// Whether the broker has the answers to all requests.
fn is_told(work: &Work<'_>, reset: &Record) -> bool {
    let owed = |key: &Key| find(&work.d.handled, key).is_some_and(|handled| !handled.delivered);
    !reset.requests.iter().any(owed)
}

fn start(work: &mut Work<'_>, mut reset: Record) {
    if let Disk::Refuses(_) = work.disk {
        // After a crash nobody would know that systemd was asked.
        work.v.reset.held = true;
        return;
    }
    reset.phase = Phase::Starting;
    work.change(Change::Reset(Some(reset)));
    ask(work);
}

/// `starting` is on the disk, or will be with this step.
fn ask(work: &mut Work<'_>) {
    // The host goes down seconds after systemd was asked: the mark is made by then.
    super::firmware::before_reboot(work);
    let op = work.op();
    work.v.reset.op = Some(op);
    work.begin(After::Reset(op));
}

/// Too late to ask; but the unit may be at work still.
fn follow(work: &mut Work<'_>, reset: &Record) {
    let op = work.op();
    work.v.reset.op = Some(op);
    let limit = (reset.asked() + JOB_LIMIT).saturating_sub(work.now.boottime);
    work.effect(Effect::FollowReset { op, limit });
}

/// systemd answered.
pub(super) fn ended(work: &mut Work<'_>, op: OpId, outcome: &ResetOutcome) {
    if work.v.reset.op.take_if(|asked| *asked == op).is_none() {
        return;
    }
    let Some(reset) = here(work) else { return };
    match outcome {
        ResetOutcome::Started => {
            let text = "systemd has started the factory reset; the host goes down";
            work.say(Level::Info, Topic::ResetAccepted, text);
            is_started(work, reset);
        }
        ResetOutcome::Unknown => {
            let text = "it is not known whether systemd got the factory reset; waiting whether the host goes down";
            work.say(Level::Warning, Topic::ResetAccepted, text);
            is_started(work, reset);
        }
        ResetOutcome::Refused(reason) => {
            outcome::give_up(work, format!("the factory reset did not happen: {reason}"));
        }
    }
}

fn is_started(work: &mut Work<'_>, mut reset: Record) {
    reset.started_ms = Some(millis(work.now.boottime));
    work.change(Change::Reset(Some(reset)));
}

pub(super) fn due(work: &mut Work<'_>) {
    outcome::read_again(work);
    let waits_for_disk = work.v.reset.held && work.disk == Disk::Works && !work.may_retry_save();
    if !waits_for_disk {
        work.v.reset.held = false;
        go_on(work);
    }
}

fn go_on(work: &mut Work<'_>) {
    if outcome::is_given_up(work) {
        return outcome::end(work);
    }
    let Some(reset) = here(work) else { return };
    let now = work.now.boottime;
    match reset.phase {
        Phase::Accepted if now >= reset.asked() + ASKED_LIMIT => {
            let reason =
                "not executed: the agent was restarted, or its disk was full, and the request was over 2 minutes old";
            outcome::give_up(work, reason.to_owned());
        }
        Phase::Accepted if is_told(work, &reset) || now >= reset.asked() + ANSWER_LIMIT => start(work, reset),
        Phase::Starting if reset.started().is_some_and(|at| now >= at + ACCEPTED_LIMIT) => {
            let reason =
                "the factory reset did not happen: 3 minutes after systemd had been asked, the host was still up";
            outcome::give_up(work, reason.to_owned());
        }
        Phase::Accepted | Phase::Starting => {}
    }
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let next = || match (outcome::given_up(work), here(work)) {
        (Some(at), _) => Some(at),
        (None, Some(reset)) if reset.phase == Phase::Accepted => Some(reset.asked() + ANSWER_LIMIT),
        (None, Some(reset)) => reset.started().map(|at| at + ACCEPTED_LIMIT),
        (None, None) => None,
    };
    let next = (!work.v.reset.held).then(next).flatten();
    [next, outcome::next_read(work)].into_iter().flatten().min()
}
