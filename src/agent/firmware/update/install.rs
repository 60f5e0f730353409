//! The image is written into the other slot.

use super::ending::{Ending, fail};
use super::{Step, conclude, ended, look, marker, reached, set, status, step, trial};
use crate::agent::Disk;
use crate::agent::diagnostics;
use crate::agent::effect::{After, Level, OpId, Topic};
use crate::agent::event::{InstallEnd, Survey};
use crate::agent::firmware::image;
use crate::agent::firmware::outcome::{self, Outcome};
use crate::agent::firmware::record::{Failure, Phase, Update};
use crate::agent::handled::Key;
use crate::agent::work::Work;
use crate::protocol::firmware::{FirmwareState, UpdateStatus};

/// How often RAUC is asked to write the slot, when the agent died before it could see that RAUC was at it.
const MAX_STARTS: u32 = 3;

/// The service asks for the update, and the host looks fit for it.
pub(in crate::agent::firmware) fn begin(work: &mut Work<'_>, survey: &Survey, key: Option<&Key>) -> Result<(), String> {
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
        // Who asks for it over the network is reached.
        service_reached: !work.d.firmware.local || reached::in_this_boot(work),
        trial_boot: None,
        boots: 0,
        service_answered: false,
        reason: None,
        reboot: None,
        starts: 1,
        failure: None,
        extra: serde_json::Map::new(),
    };
    trial::stop_watching(work);
    let text = format!(
        "firmware is installed into slot {}; {} runs",
        update.to_slot, update.from_slot
    );
    set(work, update);
    diagnostics::update_over(work);
    status(work, FirmwareState::Downloaded, UpdateStatus::InProgress);
    work.say(Level::Info, Topic::Update, text);
    // Before RAUC begins: from its end on any reboot, be it of a power cut, boots the new slot, and its agent may not
    // start.
    marker(work);
    install(work, transaction);
    Ok(())
}

fn install(work: &mut Work<'_>, transaction: String) {
    if let Some(image) = image(work) {
        work.v.firmware.update.seen_installing = true;
        let op = step(work, Step::Install);
        work.begin(After::Install { op, image, transaction });
    }
}

/// Not what this run has seen fail, not without end, and only when it can be written down.
pub(super) fn may_install_again(work: &Work<'_>, update: &Update) -> bool {
    update.boot_id == work.settings.boot_id
        && update.failure.is_none()
        && !work.v.firmware.update.seen_installing
        && update.starts < MAX_STARTS
        && work.disk == Disk::Works
}

/// The run before died between its decision to install and RAUC's beginning, or RAUC ended badly while no agent ran: in
/// both cases the slot that runs is the one that boots next, and doing it again either succeeds or tells the reason.
pub(super) fn install_again(work: &mut Work<'_>, mut update: Update, survey: &Survey) {
    update.starts += 1;
    // What it wrote before does not show that it writes now.
    let slot = survey.slots.iter().find(|slot| slot.name == update.to_slot);
    update.installed_before = slot.and_then(|slot| slot.installed.clone());
    let transaction = update.transaction.clone();
    let text = format!("slot {} is not installed: RAUC is asked again", update.to_slot);
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

/// RAUC has come to an end.
pub(in crate::agent) fn installed(work: &mut Work<'_>, op: OpId, end: &InstallEnd) {
    if ended(work, op).is_none() {
        return;
    }
    if work.d.update().is_some_and(|update| update.failure.is_some()) {
        // That was somebody else's.
        return look(work);
    }
    match end {
        InstallEnd::Done => conclude(work, Outcome::NotRebooted),
        InstallEnd::Refused { status, message, again } => {
            let ending = Ending {
                status: *status,
                reason: message.clone(),
                again: *again,
            };
            fail(work, &ending);
        }
        // It is over when the new slot does not boot next. Until then it is on the disk that RAUC has failed: should the
        // host go down now, a slot that runs is to be left, and not to prove itself.
        InstallEnd::Failed { status, message, again } => {
            let Some(mut update) = work.d.update().cloned() else {
                return;
            };
            update.failure = Some(Failure {
                update_status: *status as u8,
                reason: message.clone(),
                again: *again,
            });
            set(work, update);
            let text = format!("RAUC has failed: {message}; the slots are looked at before that is told");
            work.say(Level::Warning, Topic::Update, text);
            look(work);
        }
        // The slots tell.
        InstallEnd::Unclear(reason) => {
            let text = format!("it is not clear how the installation ended: {reason}");
            work.say(Level::Warning, Topic::Update, text);
            look(work);
        }
    }
}
