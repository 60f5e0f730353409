//! The trial: the new slot runs, and proves itself or is left again; and how healthy a boot is.

use std::time::Duration;

use super::{BOOTED, Step, marker, reached, set, step};
use crate::agent::effect::{After, Effect, Health, Level, Mark, OpId, Topic};
use crate::agent::event::Verdict;
use crate::agent::firmware::record::{Phase, Update};
use crate::agent::work::Work;

/// So long a boot must be healthy, or a unit failed, before that counts.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// The new slot runs.
pub(super) fn begin(work: &mut Work<'_>, mut update: Update) {
    let boot_id = work.settings.boot_id.clone();
    if update.trial_boot.as_ref() != Some(&boot_id) {
        update.trial_boot = Some(boot_id);
        update.boots += 1;
        update.service_answered = false;
        update.phase = Phase::Trial;
        let text = format!("slot {} runs for the first time: it is on trial", update.to_slot);
        work.say(Level::Info, Topic::Update, text);
    }
    let failed_before = Some(update.failed_before.clone());
    set(work, update);
    marker(work);
    let units = work.settings.firmware.units.clone();
    watch(work, units, failed_before);
}

/// This boot is on trial.
pub(in crate::agent::firmware) fn on_trial(work: &Work<'_>) -> bool {
    let here = |update: &Update| update.trial_boot.as_ref() == Some(&work.settings.boot_id);
    work.d
        .update()
        .is_some_and(|update| update.phase == Phase::Trial && here(update))
}

pub(in crate::agent) fn health(work: &mut Work<'_>, op: OpId, verdict: &Verdict) {
    let running = &mut work.v.firmware.update;
    if running.watch != Some(op) {
        return;
    }
    let same = running
        .verdict
        .as_ref()
        .is_some_and(|(known, _)| std::mem::discriminant(known) == std::mem::discriminant(verdict));
    let since = match &running.verdict {
        Some((_, since)) if same => *since,
        _ => work.now.boottime,
    };
    running.verdict = Some((verdict.clone(), since));
}

/// What is still missing for a good end; `None` when nothing is.
pub(super) fn missing(work: &Work<'_>) -> Option<String> {
    let update = work.d.update()?;
    match &work.v.firmware.update.verdict {
        None => return Some("the health of this boot is not known".into()),
        Some((Verdict::Pending(reason) | Verdict::Bad(reason), _)) => return Some(reason.clone()),
        Some((Verdict::Good, _)) => {}
    }
    reached::is_missing(work, update).then(|| "service not reached".to_owned())
}

/// RAUC is marking the slot good. Nothing else is marked meanwhile: the mark that comes last would win.
pub(super) fn being_confirmed(work: &Work<'_>) -> bool {
    matches!(work.v.firmware.update.step, Some((_, Step::Confirm)))
}

pub(super) fn due(work: &mut Work<'_>) {
    if being_confirmed(work) {
        return;
    }
    let settled = |since: Duration| work.now.boottime >= since + SETTLED;
    let verdict = work.v.firmware.update.verdict.clone();
    match (verdict, missing(work)) {
        // A person has decided, and may need more time than the trial.
        _ if work.v.firmware.update.confirmed => return confirm(work),
        (Some((Verdict::Bad(reason), since)), _) if settled(since) => return roll_back(work, &reason),
        (Some((Verdict::Good, since)), None) if settled(since) => confirm(work),
        _ => {}
    }
    if on_trial(work) && work.now.boottime >= work.settings.firmware.trial {
        let minutes = work.settings.firmware.trial.as_secs() / 60;
        let missing = missing(work).unwrap_or_else(|| "RAUC does not mark it good".into());
        roll_back(work, &format!("{missing} {minutes} minutes after its start"));
    }
}

fn confirm(work: &mut Work<'_>) {
    let running = &work.v.firmware.update;
    let wait = running.not_before.is_some_and(|at| work.now.boottime < at);
    if running.step.is_none() && !wait {
        let op = step(work, Step::Confirm);
        // Active as well: the fall-back outside the agent may have begun to leave.
        let marks = vec![(Mark::Active, BOOTED.into()), (Mark::Good, BOOTED.into())];
        work.begin(After::Mark(op, marks));
    }
}

pub(in crate::agent::firmware) fn roll_back(work: &mut Work<'_>, reason: &str) {
    let Some(mut update) = work.d.update().cloned() else {
        return;
    };
    let text = format!(
        "the new firmware in slot {} did not prove itself: {reason}",
        update.to_slot
    );
    update.phase = Phase::RollingBack;
    update.reason = Some(reason.to_owned());
    // The way back has boots of its own.
    update.trial_boot = Some(work.settings.boot_id.clone());
    update.boots = 1;
    set(work, update);
    stop_watching(work);
    work.say(Level::Error, Topic::Update, text);
    if !being_confirmed(work) {
        leave(work);
    }
}

/// Makes the old slot the next one.
pub(super) fn leave(work: &mut Work<'_>) {
    let here = work.settings.boot_id.clone();
    let Some(mut update) = work.d.update().cloned() else {
        return;
    };
    if update.trial_boot.as_ref() != Some(&here) {
        update.trial_boot = Some(here);
        update.boots += 1;
        set(work, update.clone());
    }
    let op = step(work, Step::Leave);
    let marks = vec![(Mark::Active, update.from_slot), (Mark::Bad, update.to_slot)];
    work.begin(After::Mark(op, marks));
}

pub(super) fn watch(work: &mut Work<'_>, units: Vec<String>, failed_before: Option<Vec<String>>) {
    let op = work.op();
    work.v.firmware.update.watch = Some(op);
    work.v.firmware.update.verdict = None;
    let health = Health { units, failed_before };
    work.effect(Effect::Watch(Some((op, health))));
}

pub(super) fn stop_watching(work: &mut Work<'_>) {
    if work.v.firmware.update.watch.take().is_some() {
        work.v.firmware.update.verdict = None;
        work.effect(Effect::Watch(None));
    }
}
