//! The update: written into the other slot, booted, on trial (`trial`), and marked good or left again.
//!
//! What is on the disk is always enough to find out, after any crash, what has become of it: see `outcome`.

mod trial;

use std::time::Duration;

pub(in crate::agent) use trial::health;
pub(super) use trial::{on_trial, roll_back};

use super::outcome::{self, Outcome, Slots};
use super::record::{Phase, Update};
use super::{WhenToReboot, start_download, tell};
use crate::agent::durable::Change;
use crate::agent::effect::{After, Effect, Level, Mark, Marker, OpId, Purpose, Topic};
use crate::agent::event::{InstallEnd, Survey, Verdict};
use crate::agent::handled::Key;
use crate::agent::work::Work;
use crate::agent::{Disk, observation, reboot};
use crate::protocol::firmware::{FirmwareState, UpdateStatus};

/// The pause after something that must be tried again: a mark, a survey, a reboot that was refused.
const PAUSE: Duration = Duration::from_secs(10);
/// The pause after a refused reboot, unless the locks change before.
const BLOCKED_PAUSE: Duration = Duration::from_secs(60);
/// How much longer than the agent the fall-back outside of it waits.
const OUTER_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How often a mark is tried that the outcome does not hang on: for five minutes.
const MARK_ATTEMPTS: u32 = 30;
/// How often RAUC is asked to write the slot, when the agent died before it could see that RAUC was at it.
const MAX_STARTS: u32 = 3;

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

/// How an update has failed. It is over when the boot loader knows: a crash in between must not leave it with a slot
/// that nobody watches any more.
#[derive(Debug, Clone)]
struct Ending {
    status: UpdateStatus,
    reason: String,
    /// Whether the same image may be tried again.
    again: bool,
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

pub(in crate::agent) fn configured(work: &mut Work<'_>) {
    if work.d.update().is_none() {
        keep_good(work);
    }
}

/// An ordinary boot is marked good as soon as it is healthy: GRUB gives a slot one try, and nothing else marks it.
fn keep_good(work: &mut Work<'_>) {
    let settings = &work.settings.firmware;
    let running = &work.v.firmware.update;
    if settings.supported.is_err() || !settings.mark_good || running.marked_good || running.watch.is_some() {
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

/// The service asks for the update, and the host looks fit for it.
pub(super) fn begin(work: &mut Work<'_>, survey: &Survey, key: Option<&Key>) -> Result<(), String> {
    let (from, to) = outcome::slots(survey)?;
    let transaction = transaction(work, key);
    let update = Update {
        phase: Phase::Installing,
        boot_id: work.settings.boot_id.clone(),
        from_slot: from.name.clone(),
        to_slot: to.name.clone(),
        transaction: transaction.clone(),
        installed_before: to.installed.clone(),
        failed_before: survey.failed_units.clone(),
        service_reached: work.v.lifecycle.managed.is_some(),
        trial_boot: None,
        boots: 0,
        service_answered: false,
        reason: None,
        reboot: None,
        starts: 1,
        extra: serde_json::Map::new(),
    };
    trial::stop_watching(work);
    let text = format!(
        "firmware is installed into slot {}; {} runs",
        update.to_slot, update.from_slot
    );
    set(work, update);
    status(work, FirmwareState::Downloaded, UpdateStatus::InProgress);
    work.say(Level::Info, Topic::Update, text);
    // Before RAUC begins: from its end on any reboot, be it of a power cut, boots the new slot, and its agent may not
    // start.
    marker(work);
    install(work, transaction);
    Ok(())
}

fn install(work: &mut Work<'_>, transaction: String) {
    if let Some(image) = super::image(work) {
        work.v.firmware.update.seen_installing = true;
        let op = step(work, Step::Install);
        work.begin(After::Install { op, image, transaction });
    }
}

/// The run before died between its decision to install and RAUC's beginning, or RAUC ended badly while no agent ran: in
/// both cases the slot that runs is as it was, and doing it again either succeeds or tells the reason.
fn install_again(work: &mut Work<'_>, mut update: Update) {
    update.starts += 1;
    let transaction = update.transaction.clone();
    let text = format!("slot {} is not written: RAUC is asked again", update.to_slot);
    set(work, update);
    work.say(Level::Info, Topic::Update, text);
    marker(work);
    install(work, transaction);
}

/// What RAUC is to remember the installation by: the same for the same request.
fn transaction(work: &mut Work<'_>, key: Option<&Key>) -> String {
    match key {
        Some(key) => key.hash[..32].to_owned(),
        None => work.v.ids.req_id().as_str().to_owned(),
    }
}

fn status(work: &mut Work<'_>, state: FirmwareState, status: UpdateStatus) {
    let mut record = work.d.firmware.with(state, status);
    // From here on it is an update like any other.
    record.local = false;
    observation::set_firmware(work, record, false);
}

/// RAUC has come to an end.
pub(in crate::agent) fn installed(work: &mut Work<'_>, op: OpId, end: &InstallEnd) {
    if ended(work, op).is_none() {
        return;
    }
    match end {
        InstallEnd::Done => conclude(work, Outcome::NotRebooted),
        InstallEnd::Failed { status, message, again } => {
            let ending = Ending {
                status: *status,
                reason: message.clone(),
                again: *again,
            };
            fail(work, &ending);
        }
        // The slots tell.
        InstallEnd::Unclear(reason) => {
            let text = format!("it is not clear how the installation ended: {reason}");
            work.say(Level::Warning, Topic::Update, text);
            look(work);
        }
    }
}

/// The slots were looked at.
pub(super) fn surveyed(work: &mut Work<'_>, op: OpId, found: &Result<Survey, String>) {
    if ended(work, op).is_none() {
        return;
    }
    let Some(update) = work.d.update() else { return };
    match found {
        Ok(survey) => {
            let outcome = outcome::decide(update, &work.settings.boot_id, survey);
            conclude(work, outcome);
        }
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
        Outcome::Leave => trial::leave(work),
        Outcome::Failed {
            again: true,
            slots: Slots::AsTheyAre,
            ..
        } if update.boot_id == work.settings.boot_id
            && !work.v.firmware.update.seen_installing
            && update.starts < MAX_STARTS
            && work.disk == Disk::Works =>
        {
            install_again(work, update);
        }
        Outcome::Failed { reason, again, slots } => {
            let ending = Ending {
                status: UpdateStatus::UnsupportedImage,
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

fn settle(work: &mut Work<'_>) {
    let marks = work.v.firmware.update.marks.clone();
    let op = step(work, Step::Settle);
    work.begin(After::Mark(op, marks));
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

fn reboot_allowed(work: &Work<'_>) -> bool {
    match work.settings.firmware.reboot {
        WhenToReboot::Now => true,
        WhenToReboot::Window => work.v.firmware.update.window_open,
        WhenToReboot::Manual => false,
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

pub(in crate::agent) fn marked(work: &mut Work<'_>, op: OpId, result: &Result<(), String>) {
    let Some(step) = ended(work, op) else { return };
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
        Step::Confirm => succeed(work),
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
    status(work, FirmwareState::Idle, UpdateStatus::Success);
    work.effect(Effect::Marker(None));
    super::discard(work);
    let text = format!(
        "the new firmware in slot {} has proven itself and is marked good",
        update.to_slot
    );
    work.say(Level::Info, Topic::Update, text);
}

/// The update is over, and the old firmware runs, or still runs.
fn fail(work: &mut Work<'_>, ending: &Ending) {
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
    work.effect(Effect::Marker(None));
    if !ending.again {
        super::discard(work);
    }
    let text = format!("the firmware was not updated: {}", ending.reason);
    tell(work, Topic::Update, &text);
    keep_good(work);
}

/// What is left to do when no update is under way: the marks.
fn after_the_end(work: &mut Work<'_>) {
    if let Some((Verdict::Good, _)) = work.v.firmware.update.verdict {
        trial::stop_watching(work);
        work.v.firmware.update.marks = vec![(Mark::Good, BOOTED.into())];
    }
    if !work.v.firmware.update.marks.is_empty() {
        settle(work);
    }
}

/// Whether the update's reboot is what a request for a reboot asks for; otherwise why it is refused.
pub(in crate::agent) fn reboot_wanted(update: &Update, boot_id: &str) -> Result<(), &'static str> {
    match update.phase {
        Phase::Installing => Err("busy: firmware is being installed"),
        Phase::Installed if update.boot_id == boot_id => Ok(()),
        Phase::RollingBack if update.reboot.is_some() => Ok(()),
        Phase::Trial => Err("busy: new firmware is on trial, and a reboot would end it; wait until it is proven"),
        _ => Err("busy: the outcome of an update is being established"),
    }
}

/// The reboot that the update needs was refused, or did not happen. True when that is no news.
pub(in crate::agent) fn reboot_failed(work: &mut Work<'_>, reason: &str) -> bool {
    if work.d.update().is_none() {
        return false;
    }
    pause(work, BLOCKED_PAUSE);
    let before = work.v.firmware.update.blocked.replace(reason.to_owned());
    before.as_deref() == Some(reason)
}

pub(in crate::agent) fn inhibitors_changed(work: &mut Work<'_>) {
    if work.v.firmware.update.blocked.is_some() {
        work.v.firmware.update.not_before = None;
    }
}

pub(in crate::agent) fn window(work: &mut Work<'_>, open: bool) {
    work.v.firmware.update.window_open = open;
}

/// What an update waits for, in words.
pub(in crate::agent) fn waiting_for(work: &Work<'_>) -> Option<String> {
    let update = work.d.update()?;
    let running = &work.v.firmware.update;
    match update.phase {
        Phase::Installing => None,
        Phase::Installed | Phase::RollingBack if update.reboot.is_some() => Some("the host to go down".into()),
        Phase::Installed if work.settings.firmware.reboot == WhenToReboot::Manual => {
            Some("somebody to reboot the host".into())
        }
        Phase::Installed if !reboot_allowed(work) => Some("the time of day at which it may reboot the host".into()),
        Phase::Installed | Phase::RollingBack => running.blocked.clone(),
        Phase::Trial => trial::missing(work),
    }
}

pub(in crate::agent) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let running = &work.v.firmware.update;
    let settled = running.verdict.as_ref().and_then(|(verdict, since)| match verdict {
        Verdict::Pending(_) => None,
        _ if running.confirmed || running.step.is_some() => None,
        Verdict::Good if trial::missing(work).is_some() => None,
        Verdict::Good | Verdict::Bad(_) => Some(*since + trial::SETTLED),
    });
    let trial = (on_trial(work) && !running.confirmed).then_some(work.settings.firmware.trial);
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
