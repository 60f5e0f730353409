//! The reboot that an update waits for.

use std::time::Duration;

use super::{pause, trial};
use crate::agent::firmware::WhenToReboot;
use crate::agent::firmware::record::{Phase, Update};
use crate::agent::work::Work;

/// The pause after a refused reboot, unless the locks change before.
const BLOCKED_PAUSE: Duration = Duration::from_secs(60);

pub(super) fn reboot_allowed(work: &Work<'_>) -> bool {
    match work.settings.firmware.reboot {
        WhenToReboot::Now => true,
        WhenToReboot::Window => work.v.firmware.update.window_open,
        WhenToReboot::Manual => false,
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

/// The host has rebooted since the slot was written, or in the middle of that: what has become of the update is still to
/// be found out, or to be told to the boot loader.
pub(in crate::agent) fn is_unclear(work: &Work<'_>, update: &Update) -> bool {
    matches!(update.phase, Phase::Installing | Phase::Installed) && update.boot_id != work.settings.boot_id
}

/// What an update waits for, in words.
pub(in crate::agent) fn waiting_for(work: &Work<'_>) -> Option<String> {
    let update = work.d.update()?;
    let running = &work.v.firmware.update;
    match update.phase {
        Phase::Installing => None,
        _ if is_unclear(work, update) => None,
        Phase::Installed | Phase::RollingBack if update.reboot.is_some() => Some("the host to go down".into()),
        Phase::Installed if work.settings.firmware.reboot == WhenToReboot::Manual => {
            Some("somebody to reboot the host".into())
        }
        Phase::Installed if !reboot_allowed(work) => Some("the time of day at which it may reboot the host".into()),
        Phase::Installed | Phase::RollingBack => running.blocked.clone(),
        Phase::Trial => trial::missing(work),
    }
}
