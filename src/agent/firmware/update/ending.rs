//! How an update ends: the boot loader gets to know it, and then the service; and the marks of ordinary boots.

use super::{BOOTED, PAUSE, Step, ended, keep_good, on_trial, pause, status, step, trial};
use crate::agent::durable::Change;
use crate::agent::effect::{After, Effect, Level, Mark, OpId, Topic};
use crate::agent::event::Verdict;
use crate::agent::firmware::record::Phase;
use crate::agent::firmware::{discard, tell};
use crate::agent::work::Work;
use crate::agent::{diagnostics, reboot};
use crate::protocol::firmware::{FirmwareState, UpdateStatus};

/// How often a mark is tried that the outcome does not hang on: for five minutes.
const MARK_ATTEMPTS: u32 = 30;

/// How an update has failed. It is over when the boot loader knows: a crash in between must not leave it with a slot
/// that nobody watches any more.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) status: UpdateStatus,
    pub(super) reason: String,
    /// Whether the same image may be tried again.
    pub(super) again: bool,
}

/// Tells the boot loader.
pub(super) fn settle(work: &mut Work<'_>) {
    let marks = work.v.firmware.update.marks.clone();
    let op = step(work, Step::Settle);
    work.begin(After::Mark(op, marks));
}

pub(in crate::agent) fn marked(work: &mut Work<'_>, op: OpId, result: &Result<(), String>) {
    let Some(step) = ended(work, op) else { return };
    reboot::marked(work, result);
    if let Err(reason) = result {
        work.say(
            Level::Error,
            Topic::Update,
            format!("RAUC does not mark a slot: {reason}"),
        );
        work.v.firmware.update.attempts += 1;
        if work.v.firmware.update.attempts < MARK_ATTEMPTS || step == Step::Confirm {
            return pause(work, PAUSE);
        }
    }
    work.v.firmware.update.attempts = 0;
    match step {
        // Unless somebody on the device has decided otherwise meanwhile.
        Step::Confirm if on_trial(work) => succeed(work),
        Step::Confirm => {}
        Step::Leave => work.v.firmware.update.may_leave = true,
        Step::Settle => {
            let running = &mut work.v.firmware.update;
            let marks = std::mem::take(&mut running.marks);
            // What did not stick is tried again when the host is looked at anew, every hour.
            running.marked_good = result.is_ok() && marks.contains(&(Mark::Good, BOOTED.into()));
            if let Some(ending) = running.ending.take() {
                fail(work, &ending);
            }
        }
        Step::Install | Step::Survey => {}
    }
}

fn succeed(work: &mut Work<'_>) {
    let Some(update) = work.d.update().cloned() else { return };
    trial::stop_watching(work);
    work.v.firmware.update.marked_good = true;
    work.change(Change::Update(None));
    diagnostics::update_over(work);
    status(work, FirmwareState::Idle, UpdateStatus::Success);
    work.effect(Effect::Marker(None));
    discard(work);
    let text = format!(
        "the new firmware in slot {} has proven itself and is marked good",
        update.to_slot
    );
    work.say(Level::Info, Topic::Update, text);
}

/// The update is over, and the old firmware runs, or still runs.
pub(super) fn fail(work: &mut Work<'_>, ending: &Ending) {
    let Some(update) = work.d.update().cloned() else { return };
    trial::stop_watching(work);
    let reboot = update.reboot.clone();
    work.change(Change::Update(None));
    if reboot.is_some() {
        // Somebody waits for a reboot that is no longer the update's.
        work.change(Change::Reboot(reboot));
    }
    let state = match ending.again {
        true => FirmwareState::Downloaded,
        false => FirmwareState::Idle,
    };
    status(work, state, ending.status);
    let left = update.phase != Phase::Installing && update.boot_id != work.settings.boot_id;
    diagnostics::update_failed(work, left);
    work.effect(Effect::Marker(None));
    if !ending.again {
        discard(work);
    }
    let text = format!("the firmware was not updated: {}", ending.reason);
    tell(work, Topic::Update, &text);
    keep_good(work);
}

/// The host is asked to reboot before an ordinary boot was marked good. GRUB would give the reboot to the other slot, and
/// nobody has asked for that: the mark is made at once. Whether one is under way.
pub(in crate::agent) fn before_reboot(work: &mut Work<'_>) -> bool {
    let mark_good = work.settings.firmware.mark_good;
    let running = &mut work.v.firmware.update;
    if !mark_good || running.marked_good || work.d.update().is_some() {
        return false;
    }
    if running.step.is_none() {
        running.marks = vec![(Mark::Good, BOOTED.to_owned())];
        trial::stop_watching(work);
        settle(work);
    }
    true
}

/// What is left to do when no update is under way: the marks.
pub(super) fn after_the_end(work: &mut Work<'_>) {
    if let Some((Verdict::Good, _)) = work.v.firmware.update.verdict {
        trial::stop_watching(work);
        work.v.firmware.update.marks = vec![(Mark::Good, BOOTED.into())];
    }
    if !work.v.firmware.update.marks.is_empty() {
        settle(work);
    }
}
