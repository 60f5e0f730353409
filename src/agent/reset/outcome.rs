//! What has become of a factory reset: decided by the report that the wipe has left, or, where the unit leaves none, by
//! the kernel's boot id. Until it is decided no manage goes out.
//!
//! Before the service is told that a reset did not happen, what was left for the next boot is taken back: a reboot
//! weeks later must not wipe a device of which the service believes that it was not touched.

use std::time::Duration;

use super::record::{Phase, Reset as Record};
use crate::agent::Disk;
use crate::agent::durable::Change;
use crate::agent::effect::{Effect, Level, OpId, Topic};
use crate::agent::event::ResetReport;
use crate::agent::handled::Answer;
use crate::agent::reboot::{ASKED_LIMIT, SHORT_BOOT};
use crate::agent::work::Work;
use crate::agent::{lifecycle, outbox};
use crate::protocol::diagnostics::{LogEntry, Severity};
use crate::protocol::{Rc, timestamp};

/// How often a report that cannot be read is tried.
const READ_ATTEMPTS: u32 = 6;
/// The pause between two.
const READ_PAUSE: Duration = Duration::from_secs(10);
/// Between taking back what was left for the next boot and telling that nothing was wiped.
const WITHDRAW_PAUSE: Duration = Duration::from_secs(1);
/// Characters of what a report says that go into one message.
const MAX_TEXT: usize = 600;

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    reading: Option<OpId>,
    read_at: Option<Duration>,
    reads: u32,
    given_up: Option<GivenUp>,
    /// The report by which a request was decided. Its log entry may have to wait for the disk.
    decided_by: Option<String>,
}

/// The reset has failed, and nobody was told yet.
#[derive(Debug, Clone)]
struct GivenUp {
    reason: String,
    at: Duration,
}

/// What has the last reset left?
pub(super) fn read(work: &mut Work<'_>) {
    let op = work.op();
    work.v.reset.outcome.reading = Some(op);
    work.v.reset.outcome.read_at = None;
    work.effect(Effect::ReadResetReport(op));
}

pub(super) fn read_again(work: &mut Work<'_>) {
    if next_read(work).is_some_and(|at| work.now.boottime >= at) {
        read(work);
    }
}

pub(super) fn next_read(work: &Work<'_>) -> Option<Duration> {
    work.v.reset.outcome.read_at
}

/// What the last reset has left was read.
pub(in crate::agent) fn reported(work: &mut Work<'_>, op: OpId, report: &Result<Option<ResetReport>, String>) {
    if work.v.reset.outcome.reading.take_if(|reading| *reading == op).is_none() {
        return;
    }
    match report {
        Ok(report) => decide(work, report.as_ref()),
        Err(reason) => unreadable(work, reason),
    }
}

fn unreadable(work: &mut Work<'_>, reason: &str) {
    work.v.reset.outcome.reads += 1;
    if work.v.reset.outcome.reads < READ_ATTEMPTS {
        work.v.reset.outcome.read_at = Some(work.after(READ_PAUSE));
        return;
    }
    let text = format!("what a factory reset has left cannot be read: {}", cut(reason));
    if earlier(work).is_some() {
        return give_up(work, format!("it is not known what was wiped: {text}"));
    }
    work.say(Level::Error, Topic::ResetDidNotHappen, text);
}

/// The reset that began in an earlier boot.
fn earlier(work: &Work<'_>) -> Option<Record> {
    let reset = work.d.reset().filter(|reset| reset.boot_id != work.settings.boot_id);
    reset.cloned()
}

fn decide(work: &mut Work<'_>, report: Option<&ResetReport>) {
    let reset = earlier(work);
    let ours = report.filter(|report| reset.as_ref().is_some_and(|reset| reset.boot_id == report.asked_in));
    if let (Some(report), None) = (report, ours) {
        not_asked_for(work, report);
    }
    match (reset, ours) {
        (None, _) => {}
        (Some(reset), Some(report)) => match &report.failed {
            None => done(work, &reset, &report.text, Some(report)),
            Some(failed) => {
                let text = format!(
                    "the factory reset is not complete: {} ({})",
                    cut(failed),
                    cut(&report.text)
                );
                fail(work, &reset, text, Some(report));
            }
        },
        (Some(reset), None) if reset.phase == Phase::Starting && !reset.reports => {
            let text = "the host has rebooted; the unit that resets it leaves no report";
            done(work, &reset, text, None);
        }
        (Some(reset), None) => {
            let reason = match reset.phase {
                Phase::Accepted => {
                    "the factory reset did not happen: the host rebooted before systemd was asked for it"
                }
                Phase::Starting => {
                    "the factory reset did not happen, or not to its end: the host has rebooted, and no report of what was wiped is there"
                }
            };
            give_up(work, reason.to_owned());
        }
    }
}

/// A report of a reset that somebody on the device has begun, or of one that was given up or is over.
fn not_asked_for(work: &mut Work<'_>, report: &ResetReport) {
    if work.d.reset_told.as_ref() == Some(&report.id) {
        // The run before died before it could.
        return work.effect(Effect::DiscardResetReport);
    }
    // On a full disk the entry of a request that is over had to wait.
    let decided = work.v.reset.outcome.decided_by.as_ref() == Some(&report.id);
    let nobody_waits = if decided { "" } else { ", and no request waits for it" };
    let mut text = format!(
        "the host was reset to its factory settings{nobody_waits}: {}",
        cut(&report.text)
    );
    let (mut level, mut severity, mut topic) = (Level::Info, Severity::Information, Topic::ResetDone);
    if let Some(failed) = &report.failed {
        text = format!("{text}; not complete: {}", cut(failed));
        (level, severity, topic) = (Level::Error, Severity::Error, Topic::ResetDidNotHappen);
    }
    if work.disk == Disk::Works && !decided {
        work.say(level, topic, text.as_str());
    }
    tell(work, &text, severity, Some(report));
}

fn done(work: &mut Work<'_>, reset: &Record, text: &str, report: Option<&ResetReport>) {
    let text = format!("the host was reset to its factory settings: {}", cut(text));
    tell(work, &text, Severity::Information, report);
    work.say(Level::Info, Topic::ResetDone, text);
    over(work, reset, report);
}

/// What had been answered 202 is answered 500.
fn fail(work: &mut Work<'_>, reset: &Record, text: String, report: Option<&ResetReport>) {
    for key in &reset.requests {
        work.change(Change::Answer(key.clone(), Answer::new(Rc::INTERNAL, text.as_str())));
    }
    tell(work, &text, Severity::Error, report);
    work.say(Level::Error, Topic::ResetDidNotHappen, text);
    over(work, reset, report);
}

/// A log entry for the service; with it on the disk, the report it is made of is not needed any more.
fn tell(work: &mut Work<'_>, text: &str, severity: Severity, report: Option<&ResetReport>) {
    if let Some(report) = report {
        if work.disk != Disk::Works {
            // The entry would be in memory only, and the report gone: later, then.
            work.v.reset.outcome.read_at = Some(work.after(READ_PAUSE));
            return;
        }
        work.change(Change::ResetTold(report.id.clone()));
        work.effect(Effect::DiscardResetReport);
    }
    let entry = LogEntry {
        message: text.to_owned(),
        severity,
        timestamp: work.now.wall.and_then(timestamp::format),
        data: None,
        extra: serde_json::Map::new(),
    };
    outbox::owe_log(work, &entry, true);
}

fn over(work: &mut Work<'_>, reset: &Record, report: Option<&ResetReport>) {
    work.v.reset.outcome.decided_by = report.map(|report| report.id.clone());
    if reset.boot_id != work.settings.boot_id && reset.phase == Phase::Starting {
        count_boot(work, reset);
    }
    work.change(Change::Reset(None));
    lifecycle::wanted(work);
}

/// A reset ends a boot as a reboot does.
fn count_boot(work: &mut Work<'_>, reset: &Record) {
    let count = match reset.asked() < SHORT_BOOT {
        true => work.d.short_boots.saturating_add(1),
        false => 0,
    };
    if count != work.d.short_boots {
        work.change(Change::ShortBoots(count));
    }
}

/// It did not happen. What was left for the next boot is taken back first; then it is told, in a step of its own, so
/// that no crash comes between.
pub(super) fn give_up(work: &mut Work<'_>, reason: String) {
    work.effect(Effect::WithdrawReset);
    let at = work.after(WITHDRAW_PAUSE);
    work.v.reset.outcome.given_up = Some(GivenUp { reason, at });
}

/// What was left for the next boot could not be taken back: then that is told with it.
pub(in crate::agent) fn not_withdrawn(work: &mut Work<'_>, reason: &str) {
    if let Some(given_up) = &mut work.v.reset.outcome.given_up {
        given_up.reason = format!("{}; {}", given_up.reason, cut(reason));
    }
}

pub(super) fn is_given_up(work: &Work<'_>) -> bool {
    work.v.reset.outcome.given_up.is_some()
}

/// When that is to be told.
pub(super) fn given_up(work: &Work<'_>) -> Option<Duration> {
    work.v.reset.outcome.given_up.as_ref().map(|given_up| given_up.at)
}

/// Tells that it did not happen, when that is due.
pub(super) fn end(work: &mut Work<'_>) {
    let now = work.now.boottime;
    let Some(reset) = work.d.reset().cloned() else {
        work.v.reset.outcome.given_up = None;
        return;
    };
    let Some(given_up) = work.v.reset.outcome.given_up.take_if(|given_up| now >= given_up.at) else {
        return;
    };
    // The next run would ask systemd again.
    let again =
        reset.boot_id == work.settings.boot_id && reset.phase == Phase::Starting && now < reset.asked() + ASKED_LIMIT;
    if again && work.disk != Disk::Works {
        work.v.reset.outcome.given_up = Some(given_up);
        work.v.reset.held = true;
        return;
    }
    fail(work, &reset, given_up.reason, None);
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
