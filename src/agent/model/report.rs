//! Telling the service where the device is (protocol: "update location").
//!
//! A location is not a message that must arrive: none waits in the outbox, and the newest replaces one that is still to
//! be sent. What the service has written itself is never told back to it. Whoever measures decides when a location is
//! worth telling, also when one was lost on the way; a fixed one, and one that sets the service right, is told until the
//! service has answered.

use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

use crate::agent::durable::Change;
use crate::agent::effect::{Level, PublishId, Topic};
use crate::agent::location::Answer;
use crate::agent::work::Work;
use crate::protocol::model::Location;
use crate::protocol::{Rc, Report, ReqId, Response};

/// How long an answer of the service may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The service is set right at most this often: one that writes what it is told not to does not start a race.
const SET_RIGHT: Duration = Duration::from_secs(60);
/// A broker that ends the connection for a location is not tried again for so long: each attempt costs connections.
const BARRED: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
struct Pending {
    publish: PublishId,
    req_id: ReqId,
    location: Location,
    measured: bool,
    number: u64,
    until: Duration,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Located {
    measured: Option<Location>,
    /// What the service knows from us, or is not to be told again.
    told: Option<Location>,
    /// How often there was something to be told, be it the same as before.
    number: u64,
    pending: Option<Pending>,
    sent: Option<Duration>,
    not_before: Option<Duration>,
    attempts: u32,
    answer: Option<Answer>,
    /// Until when the broker is not tried with a location.
    barred: Option<Duration>,
}

impl Located {
    /// Where the device was measured to be, in this run.
    pub(super) fn measured(&self) -> Option<&Location> {
        self.measured.as_ref()
    }

    /// How many publishes of it wait for their acknowledgement.
    pub(in crate::agent) fn in_flight(&self) -> usize {
        usize::from(self.pending.is_some())
    }
}

/// The device was measured to be here, and the service is to be told, also when that is where it was before.
pub(super) fn located(work: &mut Work<'_>, location: &Location) {
    if work.d.written.location.is_some() {
        let mut written = work.d.written.clone();
        written.location = None;
        work.change(Change::Written(written));
        let text = "the location was measured: it replaces the one that the service had written";
        work.say(Level::Info, Topic::Attributes, text);
    }
    let located = &mut work.v.located;
    located.measured = Some(Location {
        extra: Map::new(),
        ..location.clone()
    });
    located.told = None;
    located.number += 1;
    located.not_before = None;
    located.attempts = 0;
}

/// The measured location is this now, with other decimals; whoever measures tells it.
pub(super) fn rounded_anew(work: &mut Work<'_>, location: Location) {
    let located = &mut work.v.located;
    if located.measured.is_some() {
        located.measured = Some(location);
        located.told = located.measured.clone();
        located.number += 1;
    }
}

/// Where the host was measured to be is nobody's word any more.
pub(super) fn unmeasured(work: &mut Work<'_>) {
    work.v.located.measured = None;
}

/// The service has written where the device is, while the host did not know: the next fix is the first one again. What
/// the configuration says is known to the service if that is what it wrote.
pub(super) fn placed(work: &mut Work<'_>) {
    super::receiver::forget(work);
    unmeasured(work);
    let told = own(work).cloned();
    let located = &mut work.v.located;
    located.told = told;
    located.number += 1;
}

/// What the service wrote does not count any more, and it does not know that.
pub(super) fn dropped(work: &mut Work<'_>) {
    work.v.located.told = None;
    work.v.located.number += 1;
}

/// What the device itself says; the service's own word is not told back. Where it was measured to be is told only while
/// there is a fix.
fn own<'a>(work: &'a Work<'_>) -> Option<&'a Location> {
    if let Some(measured) = &work.v.located.measured {
        return Some(measured).filter(|_| super::receiver::was_alive(work));
    }
    let fixed = work.settings.location.as_ref();
    fixed.filter(|_| work.d.written.location.is_none())
}

/// Whether there is a measured location that the service is still to be told.
pub(super) fn owes(work: &Work<'_>) -> bool {
    let located = &work.v.located;
    located.pending.is_none() && located.measured.is_some() && located.told != located.measured
}

/// What the service is to be told.
fn news<'a>(work: &'a Work<'_>) -> Option<&'a Location> {
    own(work).filter(|own| work.v.located.told.as_ref() != Some(own))
}

/// The service has it wrong.
pub(super) fn set_right(work: &mut Work<'_>) {
    let located = &mut work.v.located;
    located.told = None;
    located.number += 1;
    located.not_before = located.sent.map(|sent| sent + SET_RIGHT);
}

/// The service knows nothing of the device any more, or it is another device.
pub(in crate::agent) fn forget(work: &mut Work<'_>) {
    super::receiver::forget(work);
    let measured = work.v.located.measured.take();
    let measured = measured.filter(|_| super::receiver::is_alive(work));
    work.v.located = Located {
        measured,
        barred: work.v.located.barred,
        ..Located::default()
    };
}

fn may_send(work: &Work<'_>) -> bool {
    work.v.located.pending.is_none() && work.v.lifecycle.managed.is_some() && work.may_publish() && news(work).is_some()
}

fn not_before(work: &Work<'_>) -> Option<Duration> {
    let located = &work.v.located;
    located.not_before.max(located.barred)
}

pub(in crate::agent) fn send(work: &mut Work<'_>) {
    if !may_send(work) || not_before(work).is_some_and(|at| work.now.boottime < at) {
        return;
    }
    let Some(location) = news(work).cloned() else { return };
    let report = Report::Location(location.clone());
    let req_id = work.v.ids.req_id();
    let publish = work.publish(report.kind(), report.to_payload(Some(&req_id)));
    let until = work.after(ANSWER_LIMIT);
    let located = &mut work.v.located;
    located.not_before = None;
    located.sent = Some(work.now.boottime);
    located.pending = Some(Pending {
        publish,
        req_id,
        measured: located.measured.is_some(),
        number: located.number,
        location,
        until,
    });
}

pub(in crate::agent) fn subscribed(work: &mut Work<'_>) {
    let until = work.after(ANSWER_LIMIT);
    if let Some(pending) = &mut work.v.located.pending {
        pending.until = until;
    }
}

pub(in crate::agent) fn due(work: &mut Work<'_>) {
    let late = |pending: &mut Pending| work.now.boottime >= pending.until;
    if work.v.subscribed
        && let Some(pending) = work.v.located.pending.take_if(late)
    {
        ended(work, pending, Answer::Lost);
    }
    let over = |at: &mut Duration| work.now.boottime >= *at;
    work.v.located.barred.take_if(over);
    super::receiver::due(work);
}

pub(in crate::agent) fn deadline(work: &Work<'_>) -> Option<Duration> {
    own_deadline(work)
        .into_iter()
        .chain(super::receiver::deadline(work))
        .min()
}

fn own_deadline(work: &Work<'_>) -> Option<Duration> {
    let located = &work.v.located;
    match &located.pending {
        Some(pending) => Some(pending.until).filter(|_| work.v.subscribed),
        None => not_before(work).filter(|_| may_send(work)),
    }
}

/// Whether whoever measures decides what follows. When a measured one was told again to set the service right, it does
/// not, as of a fixed one.
fn is_followed(work: &Work<'_>, pending: &Pending) -> bool {
    pending.measured && super::receiver::in_flight(work)
}

/// The one end of each location that was told: here whoever measures hears of it.
fn ended(work: &mut Work<'_>, pending: Pending, answer: Answer) {
    let followed = is_followed(work, &pending);
    if followed {
        super::receiver::ended(work, answer);
    }
    work.v.located.answer = Some(answer);
    if answer != Answer::Lost {
        work.v.located.attempts = 0;
    } else if !followed {
        let attempts = work.v.located.attempts.saturating_add(1);
        let pause = work.pause(attempts);
        let at = work.after(pause);
        let located = &mut work.v.located;
        located.attempts = attempts;
        located.told = None;
        located.not_before = Some(located.not_before.map_or(at, |before| before.max(at)));
        return;
    }
    // What was to be told meanwhile is news, even when it is the same place.
    if work.v.located.number == pending.number {
        work.v.located.told = Some(pending.location);
    }
}

pub(in crate::agent) fn not_published(work: &mut Work<'_>, id: PublishId) {
    let ours = |pending: &mut Pending| pending.publish == id;
    if let Some(pending) = work.v.located.pending.take_if(ours)
        && is_followed(work, &pending)
    {
        ended(work, pending, Answer::Lost);
    }
}

/// Whether the broker is not tried with a location just now.
pub(super) fn is_barred(work: &Work<'_>) -> bool {
    work.v.located.barred.is_some()
}

/// The configuration was read: somebody may have done something about the broker, too.
pub(super) fn configured(work: &mut Work<'_>) {
    work.v.located.barred = None;
}

/// The broker ends the connection for it, again and again: that is no word of the service, and the next one would fare
/// no better.
pub(in crate::agent) fn publish_refused(work: &mut Work<'_>, id: PublishId) -> bool {
    let ours = |pending: &mut Pending| pending.publish == id;
    let Some(pending) = work.v.located.pending.take_if(ours) else {
        return false;
    };
    if is_followed(work, &pending) {
        super::receiver::ended(work, Answer::Lost);
    }
    let until = work.after(BARRED);
    let located = &mut work.v.located;
    located.answer = Some(Answer::Refused);
    located.told = None;
    located.attempts = 0;
    located.barred = Some(until);
    true
}

/// True when the response was to a location of ours.
pub(in crate::agent) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    let ours = |pending: &mut Pending| pending.req_id == response.req_id;
    let Some(pending) = work.v.located.pending.take_if(ours) else {
        return false;
    };
    let rc = response.rc;
    let answer = match rc {
        _ if rc.is_success() => Answer::Taken,
        _ if rc == Rc::CONFLICT || rc.0 >= 500 => Answer::Lost,
        _ => Answer::Refused,
    };
    if answer != Answer::Taken {
        let reason = response.message.as_deref().unwrap_or_default();
        let reason = reason.chars().take(200).collect::<String>();
        let text = format!("the service did not take the location (rc {rc}) {reason}");
        work.say(Level::Warning, Topic::Dropped, text.trim_end());
    }
    ended(work, pending, answer);
    true
}

/// The location in `iotdm-agent status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocationStatus {
    /// As the service reads it.
    pub value: Map<String, Value>,
    /// Whose word it is: `measured`, `service`, `configuration`.
    pub source: &'static str,
    /// What the service said to the last one that it was told: `taken`, `refused`, `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<&'static str>,
}

pub(in crate::agent) fn status(work: &Work<'_>) -> Option<LocationStatus> {
    let source = match (&work.v.located.measured, &work.d.written.location) {
        (Some(_), _) => "measured",
        (None, Some(_)) => "service",
        (None, None) => "configuration",
    };
    Some(LocationStatus {
        value: super::location(work)?,
        source,
        last: work.v.located.answer.map(|answer| match answer {
            Answer::Taken => "taken",
            Answer::Refused => "refused",
            Answer::Lost => "lost",
        }),
    })
}
