//! The update: written into the other slot (`install`), booted (`awaited_reboot`), on trial (`trial`), and marked good or left
//! again (`ending`).
//!
//! What is on the disk is always enough to find out, after any crash, what has become of it: see `outcome`.

mod awaited_reboot;
mod ending;
mod install;
mod reached;
mod trial;

use std::time::Duration;

pub(in crate::agent) use awaited_reboot::{
    inhibitors_changed, is_unclear, reboot_failed, reboot_wanted, waiting_for, window,
};
pub(in crate::agent) use ending::{before_reboot, marked};
pub(super) use install::begin;
pub(in crate::agent) use install::installed;
pub(in crate::agent) use reached::service_answered;
pub(in crate::agent) use trial::health;
pub(super) use trial::{on_trial, roll_back};

use awaited_reboot::reboot_allowed;
use ending::{Ending, after_the_end, fail, settle};
use install::{install_again, may_install_again};

use super::outcome::{self, Outcome, Slots};
use super::record::{Phase, Update};
use super::{Settings, start_download};
use crate::agent::durable::Change;
use crate::agent::effect::{After, Effect, Level, Mark, Marker, OpId, Purpose, Topic};
use crate::agent::event::{Survey, Verdict};
use crate::agent::work::Work;
use crate::agent::{observation, reboot};
use crate::protocol::firmware::{FirmwareState, UpdateStatus};

/// The pause after something that must be tried again: a mark, a survey, a reboot that was refused.
const PAUSE: Duration = Duration::from_secs(10);
/// How much longer than the agent the fall-back outside of it waits.
const OUTER_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// RAUC writes the slot.
    Install,
    /// A look at the slots, after a start or an unclear end.
    Survey,
    /// The slot on trial is marked good.
    Confirm,
    /// The old slot is made the next, the new one bad.
    Leave,
    /// What runs is good; after a failure, what failed is bad.
    Settle,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub(in crate::agent) struct Running {
    step: Option<(OpId, Step)>,
    /// When the next step may be tried.
    not_before: Option<Duration>,
    watch: Option<OpId>,
    /// How this boot is, and since when.
    verdict: Option<(Verdict, Duration)>,
    /// Whether the time of day allows a reboot.
    window_open: bool,
    /// Somebody on the device says that the slot on trial is good.
    pub(super) confirmed: bool,
    /// Why the reboot that the update needs was refused.
    pub(in crate::agent) blocked: Option<String>,
    /// Whether the slot that runs is marked good.
    marked_good: bool,
    /// Whether the slot that failed is marked bad, and the host may reboot.
    may_leave: bool,
    /// Marks to be made when no update is under way, or before it ends.
    marks: Vec<(Mark, String)>,
    attempts: u32,
    /// How the update ends once they are made.
    ending: Option<Ending>,
    /// Whether this run of the agent has asked RAUC to install, or has seen it at it.
    seen_installing: bool,
}

const BOOTED: &str = "booted";

/// After a start: what was under way?
pub(in crate::agent) fn recover(work: &mut Work<'_>) {
    if work.d.firmware.is(FirmwareState::Downloading) {
        start_download(work);
    } else if work.d.firmware.local && work.d.firmware.is(FirmwareState::Downloaded) && work.d.update().is_none() {
        super::local::begin_update(work);
    }
    if work.d.update().is_some() {
        look(work);
    } else {
        // The run before may have died between the end of an update and this.
        work.effect(Effect::Marker(None));
        keep_good(work);
    }
}

/// The configuration, or what the host says, is another one: what makes a boot healthy may be, too. `old`: before.
pub(in crate::agent) fn configured(work: &mut Work<'_>, old: &Settings) {
    let marks = work.settings.firmware.mark_good;
    let units = work.settings.firmware.units.clone();
    let to_come = |update: &Update| update.phase != Phase::RollingBack;
    if work.settings.firmware.trial != old.trial && work.d.update().is_some_and(to_come) {
        marker(work);
    }
    let watches = work.v.firmware.update.watch.is_some();
    match work.d.update() {
        Some(update) if watches && units != old.units => {
            let failed_before = Some(update.failed_before.clone());
            trial::watch(work, units, failed_before);
        }
        Some(_) => {}
        None if watches && !marks => trial::stop_watching(work),
        None if watches && units != old.units => trial::watch(work, units, None),
        None => keep_good(work),
    }
}

/// An ordinary boot is marked good as soon as it is healthy: GRUB gives a slot one try, and nothing else marks it.
fn keep_good(work: &mut Work<'_>) {
    let settings = &work.settings.firmware;
    let running = &work.v.firmware.update;
    if !settings.mark_good || running.marked_good || running.watch.is_some() {
        return;
    }
    let units = settings.units.clone();
    trial::watch(work, units, None);
}

fn look(work: &mut Work<'_>) {
    let op = step(work, Step::Survey);
    work.effect(Effect::Survey(op, Purpose::Outcome));
}

fn step(work: &mut Work<'_>, step: Step) -> OpId {
    let op = work.op();
    work.v.firmware.update.step = Some((op, step));
    work.v.firmware.update.not_before = None;
    op
}

/// Takes the step that has this id, when it is waited for.
fn ended(work: &mut Work<'_>, op: OpId) -> Option<Step> {
    let step = work.v.firmware.update.step.take_if(|(waited, _)| *waited == op);
    step.map(|(_, step)| step)
}

fn set(work: &mut Work<'_>, update: Update) {
    work.change(Change::Update(Some(Box::new(update))));
}

fn pause(work: &mut Work<'_>, pause: Duration) {
    work.v.firmware.update.not_before = Some(work.after(pause));
}

fn status(work: &mut Work<'_>, state: FirmwareState, status: UpdateStatus) {
    let mut record = work.d.firmware.with(state, status);
    // From here on it is an update like any other.
    record.local = false;
    observation::set_firmware(work, record, false);
}

/// The slots were looked at.
pub(super) fn surveyed(work: &mut Work<'_>, op: OpId, found: &Result<Survey, String>) {
    if ended(work, op).is_none() {
        return;
    }
    let Some(update) = work.d.update() else { return };
    match found {
        Ok(survey) => match outcome::decide(update, &work.settings.boot_id, survey) {
            Outcome::Failed {
                again: true,
                slots: Slots::AsTheyAre,
                ..
            } if may_install_again(work, update) => install_again(work, update.clone(), survey),
            outcome => conclude(work, outcome),
        },
        Err(reason) => {
            let text = format!("what has become of the update is not known yet: {reason}; asking again");
            work.say(Level::Warning, Topic::Update, text);
            pause(work, PAUSE);
        }
    }
}

fn conclude(work: &mut Work<'_>, outcome: Outcome) {
    let Some(mut update) = work.d.update().cloned() else {
        return;
    };
    match outcome {
        Outcome::StillInstalling => {
            work.v.firmware.update.seen_installing = true;
            let op = step(work, Step::Install);
            work.begin(After::Rejoin(op));
        }
        Outcome::NotRebooted => {
            if update.phase != Phase::Installed {
                update.phase = Phase::Installed;
                let text = format!("slot {} is written and boots next", update.to_slot);
                set(work, update);
                work.say(Level::Info, Topic::Update, text);
            }
            marker(work);
        }
        Outcome::Trial => trial::begin(work, update),
        Outcome::Leave if update.phase == Phase::Trial => {
            let boots = update.boots;
            roll_back(work, &format!("its trial was cut short {boots} times"));
        }
        Outcome::Leave => {
            if let Some(failure) = update.failure.clone().filter(|_| update.phase == Phase::Installing) {
                update.phase = Phase::RollingBack;
                update.reason = Some(failure.reason);
                set(work, update);
            }
            trial::leave(work);
        }
        Outcome::Failed { reason, again, slots } => {
            let ending = Ending {
                status: update.failed_as(),
                reason,
                again,
            };
            let marks = match slots {
                Slots::AsTheyAre => return fail(work, &ending),
                Slots::FellBack => vec![(Mark::Good, BOOTED.into()), (Mark::Bad, update.to_slot)],
                Slots::TakeBack => vec![(Mark::Active, update.from_slot), (Mark::Bad, update.to_slot)],
            };
            let running = &mut work.v.firmware.update;
            running.ending = Some(ending);
            running.marks = marks;
            running.attempts = 0;
            settle(work);
        }
    }
}

/// The fall-back outside the agent gets to know until when the agent has to have decided.
fn marker(work: &mut Work<'_>) {
    let Some(update) = work.d.update() else { return };
    let marker = Marker {
        slot: update.to_slot.clone(),
        deadline: work.settings.firmware.trial + OUTER_PATIENCE,
    };
    work.effect(Effect::Marker(Some(marker)));
}

pub(super) fn go_on(work: &mut Work<'_>) {
    reached::note(work);
    if on_trial(work) {
        trial::due(work);
    }
    if work.v.firmware.update.step.is_some()
        || work
            .v
            .firmware
            .update
            .not_before
            .is_some_and(|at| work.now.boottime < at)
    {
        return;
    }
    work.v.firmware.update.not_before = None;
    let here = work.settings.boot_id.clone();
    match work.d.update() {
        Some(_) if work.v.firmware.update.ending.is_some() => settle(work),
        Some(update) if update.reboot.is_some() => {}
        Some(update) if update.phase == Phase::Installed && update.boot_id == here => {
            if reboot_allowed(work) {
                reboot::begin_own(work, "a reboot into the new firmware");
            }
        }
        Some(update) if update.phase == Phase::RollingBack && update.trial_boot.as_ref() == Some(&here) => {
            if work.v.firmware.update.may_leave {
                reboot::begin_own(work, "a reboot back into the old firmware");
            } else {
                trial::leave(work);
            }
        }
        Some(_) if on_trial(work) && work.v.firmware.update.watch.is_some() => {}
        Some(_) => look(work),
        None => after_the_end(work),
    }
}

/// The new slot is not to be booted.
pub(super) fn call_off(work: &mut Work<'_>, reason: &str) {
    let Some(mut update) = work.d.update().cloned() else {
        return;
    };
    update.phase = Phase::RollingBack;
    update.reason = Some(reason.to_owned());
    set(work, update);
    let reason = reason.to_owned();
    let slots = Slots::TakeBack;
    conclude(
        work,
        Outcome::Failed {
            reason,
            again: true,
            slots,
        },
    );
}

pub(in crate::agent) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let running = &work.v.firmware.update;
    let settled = running.verdict.as_ref().and_then(|(verdict, since)| match verdict {
        Verdict::Pending(_) => None,
        _ if running.confirmed || running.step.is_some() => None,
        Verdict::Good if trial::missing(work).is_some() => None,
        Verdict::Good | Verdict::Bad(_) => Some(*since + trial::SETTLED),
    });
    let decides = on_trial(work) && !running.confirmed && !trial::being_confirmed(work);
    let trial = decides.then_some(work.settings.firmware.trial);
    let next = running.not_before.filter(|_| running.step.is_none());
    let settled = settled
        .filter(|_| on_trial(work))
        .map(|at| next.map_or(at, |next| at.max(next)));
    [
        settled,
        trial,
        next.filter(|_| work.d.update().is_some() || !running.marks.is_empty()),
    ]
    .into_iter()
    .flatten()
    .min()
}
