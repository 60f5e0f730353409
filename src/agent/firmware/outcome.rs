//! After a start, or an end that nobody saw: what has become of the update?
//!
//! One table over what is on the disk (phase, boot ids) and what the host says (booted slot, RAUC's slot status). The
//! kernel's boot id and RAUC's status are facts; what a process remembers of its own plans is not.

use super::record::{Failure, Phase, Update};
use crate::agent::event::{Slot, Survey};

/// So many boots of the new slot may be cut short, or refuse to be left, before the update is given up.
const MAX_BOOTS: u32 = 3;

/// What has become of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// RAUC may still be writing.
    StillInstalling,
    /// The new slot is written, and the host has not rebooted yet.
    NotRebooted,
    /// The new slot runs and has to prove itself.
    Trial,
    /// The new slot runs, has failed, and is still to be left.
    Leave,
    /// The old slot runs, or the new one is not going to be left: it is over.
    Failed {
        /// Why, in words.
        reason: String,
        /// Whether the same image may be tried again.
        again: bool,
        /// What the boot loader has to be told first.
        slots: Slots,
    },
}

/// What becomes of the slots when an update has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// They are as they should be.
    AsTheyAre,
    /// The host has come back to the old slot. GRUB's scheme says bad of both then, and the next plain reboot would land
    /// in the failed one: what runs is good, the new one is not.
    FellBack,
    /// The new slot may boot next: the old one is to, and the new one is not good.
    TakeBack,
}

/// The slot that runs and the one that would be written.
///
/// # Errors
/// Says which of them RAUC does not name.
pub fn slots(survey: &Survey) -> Result<(&Slot, &Slot), String> {
    let booted = survey.booted.as_deref().ok_or("RAUC does not know which slot runs")?;
    let from = survey
        .slots
        .iter()
        .find(|slot| slot.name == booted)
        .ok_or_else(|| format!("RAUC does not list the slot that runs, {booted}"))?;
    let to = survey
        .slots
        .iter()
        .find(|slot| slot.class == from.class && slot.name != from.name)
        .ok_or_else(|| format!("RAUC knows no other slot beside {booted}"))?;
    Ok((from, to))
}

/// Whether the boot loader takes the new slot next; `None`: it does not say.
fn boots_next(update: &Update, survey: &Survey) -> Option<bool> {
    let slot = survey.slots.iter().find(|slot| slot.name == update.to_slot);
    slot.and_then(|slot| slot.boots_next)
}

/// Whether the slot was written to its end since the update began.
fn written(update: &Update, survey: &Survey) -> bool {
    let slot = survey.slots.iter().find(|slot| slot.name == update.to_slot);
    slot.is_some_and(|slot| {
        slot.complete
            && match &slot.transaction {
                Some(transaction) => *transaction == update.transaction,
                None => slot.installed != update.installed_before,
            }
    })
}

/// RAUC has failed, and the host has not rebooted since. It may have come far enough for the new slot to boot next; and
/// what is written by an installation that failed is not to boot even as the last resort.
fn given_up(update: &Update, failure: &Failure, survey: &Survey) -> Outcome {
    let next = boots_next(update, survey) == Some(true);
    Outcome::Failed {
        reason: failure.reason.clone(),
        again: failure.again,
        slots: match next || written(update, survey) {
            true => Slots::TakeBack,
            false => Slots::AsTheyAre,
        },
    }
}

/// The table. `boot_id` is this boot's.
pub fn decide(update: &Update, boot_id: &str, survey: &Survey) -> Outcome {
    let booted = survey.booted.as_deref();
    let in_new = booted == Some(update.to_slot.as_str());
    let in_old = booted == Some(update.from_slot.as_str());
    let same_boot = update.boot_id == boot_id;
    // What began in this boot goes on in it.
    let begun = update.trial_boot.as_deref() == Some(boot_id);
    let to = &update.to_slot;
    let failed = |reason: String| Outcome::Failed {
        reason,
        again: false,
        slots: match in_old && !same_boot {
            true => Slots::FellBack,
            false => Slots::AsTheyAre,
        },
    };
    let taken_back = |reason: String| Outcome::Failed {
        reason,
        again: false,
        slots: Slots::TakeBack,
    };
    if update.phase == Phase::Installing && same_boot && survey.installing {
        // RAUC does not even say which slot runs while it writes; and what is written boots next only when it is done.
        return Outcome::StillInstalling;
    }
    let failure = update.failure.as_ref().filter(|_| update.phase == Phase::Installing);
    if let Some(failure) = failure.filter(|_| same_boot) {
        return given_up(update, failure, survey);
    }
    if !in_new && !in_old {
        let runs = booted.unwrap_or("an unknown slot");
        return taken_back(format!(
            "the host came up in {runs}, neither the old slot nor the new one"
        ));
    }
    if let Some(failure) = failure {
        // The host rebooted before the boot loader was told.
        return match in_new && written(update, survey) {
            true => Outcome::Leave,
            false => Outcome::Failed {
                reason: failure.reason.clone(),
                again: failure.again,
                slots: match in_old {
                    true => Slots::FellBack,
                    false => Slots::AsTheyAre,
                },
            },
        };
    }
    match update.phase {
        // Where the boot loader does not say what it boots next, what is written counts as what boots.
        Phase::Installing if same_boot && written(update, survey) && boots_next(update, survey) != Some(false) => {
            Outcome::NotRebooted
        }
        Phase::Installing | Phase::Installed if in_new && same_boot => taken_back(format!(
            "slot {to} runs without a reboot: RAUC's idea of the booted slot has changed"
        )),
        Phase::Installing if in_new && !written(update, survey) => Outcome::Failed {
            reason: format!(
                "slot {to} was not written, and the boot loader has chosen it: the slot that ran was not marked good"
            ),
            again: true,
            slots: Slots::AsTheyAre,
        },
        Phase::Installing | Phase::Installed if in_new => Outcome::Trial,
        Phase::Installing if same_boot && written(update, survey) => Outcome::Failed {
            reason: format!("slot {to} was written, but RAUC was interrupted before the boot loader was told"),
            again: true,
            slots: Slots::AsTheyAre,
        },
        Phase::Installing if written(update, survey) => failed(match &survey.fallback {
            Some(note) => note.clone(),
            None => format!(
                "slot {to} was written, but the host came up in the old one: it did not start, or the power was cut before the boot loader was told"
            ),
        }),
        Phase::Installing => Outcome::Failed {
            reason: format!("writing slot {to} was interrupted: RAUC died, the host rebooted, or the power was cut"),
            again: true,
            slots: match same_boot {
                true => Slots::AsTheyAre,
                false => Slots::FellBack,
            },
        },
        Phase::Installed if same_boot => Outcome::NotRebooted,
        Phase::Installed => failed(match &survey.fallback {
            Some(note) => note.clone(),
            None => format!("slot {to} did not start: the boot loader fell back to the old one"),
        }),
        Phase::Trial if in_new && (begun || update.boots < MAX_BOOTS) => Outcome::Trial,
        Phase::Trial if in_new => Outcome::Leave,
        Phase::Trial => failed(match &survey.fallback {
            Some(note) => note.clone(),
            None => format!("the trial of slot {to} was cut short, and the boot loader fell back to the old one"),
        }),
        // Called off before it was booted, whatever RAUC says of the slot that runs.
        Phase::RollingBack if same_boot => Outcome::Failed {
            reason: update.reason.clone().unwrap_or_default(),
            again: true,
            slots: Slots::TakeBack,
        },
        Phase::RollingBack if in_new && (begun || update.boots <= MAX_BOOTS) => Outcome::Leave,
        Phase::RollingBack => {
            let reason = update.reason.as_deref().unwrap_or("it did not prove itself");
            failed(match in_new {
                true => format!("{reason}; and the host does not leave slot {to}"),
                false => reason.to_owned(),
            })
        }
    }
}
