//! The host's receiver: what it says, and what the service is told of it. `location` decides when, `report` tells it.

use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

use super::report::{is_barred, located, owes, rounded_anew, unmeasured};
use crate::agent::location::{Answer, Fix, Location};
use crate::agent::work::Work;
use crate::protocol::timestamp;

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    location: Location,
    /// Why it has no fix.
    trouble: Option<String>,
    deadline: Option<Duration>,
    /// The fix that is the measured location, and with how many decimals.
    measured: Option<(Fix, u8)>,
    /// Whether there was a fix at the last event.
    alive: bool,
}

pub(in crate::agent) fn fix(work: &mut Work<'_>, fix: Fix) {
    // One that comes after the configuration has changed is nobody's.
    if work.settings.tracking.is_some() {
        if !is_alive(work) && owes(work) {
            // What the service was still to be told is a place of before.
            forget(work);
            unmeasured(work);
        }
        work.v.receiver.trouble = None;
        work.v.receiver.location.fix(work.now.boottime, fix);
    }
}

/// Whether the host knows where it is now.
pub(super) fn is_alive(work: &Work<'_>) -> bool {
    let tracking = work.settings.tracking.as_ref();
    tracking.is_some_and(|tracking| work.v.receiver.location.is_alive(tracking, work.now.boottime))
}

/// The same at the last event; right also where nobody knows what time it is.
pub(super) fn was_alive(work: &Work<'_>) -> bool {
    work.v.receiver.alive
}

pub(in crate::agent) fn no_fix(work: &mut Work<'_>, reason: &str) {
    if work.settings.tracking.is_some() {
        work.v.receiver.trouble = Some(reason.to_owned());
        work.v.receiver.location.lost(work.now.boottime);
    }
}

/// Nobody knows whether it has one: the last one ages.
pub(in crate::agent) fn not_asked(work: &mut Work<'_>, reason: &str) {
    if work.settings.tracking.is_some() {
        work.v.receiver.trouble = Some(reason.to_owned());
    }
}

pub(super) fn configured(work: &mut Work<'_>) {
    let Some(tracking) = work.settings.tracking else {
        work.v.receiver = Receiver::default();
        return unmeasured(work);
    };
    if let Some((fix, decimals)) = work.v.receiver.measured
        && decimals != tracking.decimals
    {
        // It is told so with the next report, and shown so at once.
        forget(work);
        work.v.receiver.measured = Some((fix, tracking.decimals));
        rounded_anew(work, fix.to_wire(tracking.decimals));
    }
}

/// The service knows nothing of the device any more.
pub(super) fn forget(work: &mut Work<'_>) {
    work.v.receiver.location.answered(Answer::Lost);
    work.v.receiver.location.forget();
}

/// Whether whoever measures waits for what becomes of a location.
pub(super) fn in_flight(work: &Work<'_>) -> bool {
    work.v.receiver.location.in_flight()
}

/// What became of the location that was told last.
pub(super) fn ended(work: &mut Work<'_>, answer: Answer) {
    work.v.receiver.location.answered(answer);
}

pub(super) fn due(work: &mut Work<'_>) {
    work.v.receiver.deadline = None;
    work.v.receiver.alive = is_alive(work);
    let Some(tracking) = work.settings.tracking else { return };
    let hears = work.v.subscribed && work.v.lifecycle.managed.is_some();
    if !hears || work.v.located.in_flight() > 0 || is_barred(work) {
        return;
    }
    let now = work.now.boottime;
    if let Some(location) = work.v.receiver.location.due(&tracking, now) {
        let newest = work.v.receiver.location.newest();
        work.v.receiver.measured = newest.map(|fix| (fix, tracking.decimals));
        located(work, &location);
    }
    let deadline = work.v.receiver.location.deadline(&tracking, now);
    work.v.receiver.deadline = deadline.filter(|at| *at > now);
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    work.v.receiver.deadline
}

/// The answer to `iotdm-agent location`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Whereabouts {
    /// Whose word the device model has: `measured`, `service`, `configuration`; `none` while nobody has said.
    pub source: &'static str,
    /// The location in the device model, as the service reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Map<String, Value>>,
    /// The newest fix that is believed, exact, in the names of the protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Map<String, Value>>,
    /// Whether it is where the host is now: not lost, and not too old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix_is_alive: Option<bool>,
    /// How old that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix_age_seconds: Option<u64>,
    /// What the service took last of what was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<Map<String, Value>>,
    /// How long ago that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_age_seconds: Option<u64>,
    /// Why the service is not told more just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why the receiver has no fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

pub(in crate::agent) fn whereabouts(work: &Work<'_>) -> Whereabouts {
    let status = super::status(work);
    let view = (work.settings.tracking).map(|tracking| work.v.receiver.location.view(&tracking, work.now.boottime));
    let (fix, reported, why) = match view {
        Some(view) => (view.fix, view.told, view.why.map(|why| why.to_string())),
        None => (None, None, None),
    };
    let unheard = (work.settings.tracking.is_some() && work.v.lifecycle.managed.is_none())
        .then(|| "the service does not manage this device just now".to_owned());
    let barred = is_barred(work).then(|| {
        "the broker ends the connection when it is told a location: check its ACL; it is tried again after an hour, or a reload".to_owned()
    });
    Whereabouts {
        source: status.as_ref().map_or("none", |status| status.source),
        location: status.map(|status| status.value),
        fix: fix.as_ref().map(|(fix, _)| exact(fix)),
        fix_is_alive: fix.map(|_| is_alive(work)),
        fix_age_seconds: fix.map(|(_, age)| age.as_secs()),
        reported: reported.as_ref().map(|(told, _)| told.to_object()),
        reported_age_seconds: reported.map(|(_, age)| age.as_secs()),
        why: unheard.or(barred).or(why),
        trouble: work.v.receiver.trouble.clone(),
    }
}

fn exact(fix: &Fix) -> Map<String, Value> {
    let location = crate::protocol::model::Location {
        latitude: fix.latitude,
        longitude: fix.longitude,
        elevation: fix.elevation,
        accuracy: fix.accuracy,
        measured_date_time: fix.measured.and_then(timestamp::format),
        extra: Map::new(),
    };
    location.to_object()
}
