//! Whether the service is reached: an image whose network is broken is not to be kept where the one before it had reached
//! the service.
//!
//! Any answer to a manage (or unmanage) counts, a refusal too. It is remembered for the boot: the agent may be restarted
//! in it.

use super::set;
use crate::agent::durable::{Change, Wish};
use crate::agent::firmware::record::{Phase, Update};
use crate::agent::work::Work;

/// The service has answered. Written down where an update may ask for it.
pub(in crate::agent) fn service_answered(work: &mut Work<'_>) {
    let matters = work.settings.firmware.supported.is_ok() || work.d.update().is_some();
    if matters && !in_this_boot(work) {
        let boot_id = work.settings.boot_id.clone();
        work.change(Change::Reached(boot_id));
    }
}

/// The service has answered in this boot.
pub(super) fn in_this_boot(work: &Work<'_>) -> bool {
    work.d.reached_in.as_ref() == Some(&work.settings.boot_id)
}

/// What that says about the update: it was reached before, or it is from the slot on trial.
pub(super) fn note(work: &mut Work<'_>) {
    if !in_this_boot(work) {
        return;
    }
    let here = &work.settings.boot_id;
    let Some(mut update) = work.d.update().cloned() else {
        return;
    };
    let noted = match update.phase {
        Phase::Installing | Phase::Installed if update.boot_id == *here => &mut update.service_reached,
        Phase::Trial if update.trial_boot.as_ref() == Some(here) => &mut update.service_answered,
        _ => return,
    };
    if !std::mem::replace(noted, true) {
        set(work, update);
    }
}

/// Whether the trial still waits for the service. One that is not managed any more never answers.
pub(super) fn is_missing(work: &Work<'_>, update: &Update) -> bool {
    work.settings.firmware.require_service
        && update.service_reached
        && !update.service_answered
        && work.d.wish != Wish::Unmanaged
}
