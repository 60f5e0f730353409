//! What has become of an update: every row of the table.

use iotdm::agent::event::{Slot, Survey};
use iotdm::agent::firmware::outcome::{Outcome, Slots, decide, slots};
use iotdm::agent::firmware::record::{Failure, Phase, Update};

const HERE: &str = "boot-now";
const BEFORE: &str = "boot-before";

fn update(phase: Phase, boot_id: &str) -> Update {
    Update {
        phase,
        boot_id: boot_id.into(),
        from_slot: "rootfs.0".into(),
        to_slot: "rootfs.1".into(),
        transaction: "t-2".into(),
        installed_before: Some("1".into()),
        failed_before: Vec::new(),
        service_reached: true,
        trial_boot: None,
        boots: 0,
        starts: 1,
        failure: None,
        service_answered: false,
        reason: None,
        reboot: None,
        extra: serde_json::Map::new(),
    }
}

fn survey(booted: &str, complete: bool, installed: &str, transaction: Option<&str>) -> Survey {
    let slot = |name: &str, complete, installed: &str, transaction: Option<&str>| Slot {
        name: name.into(),
        class: "rootfs".into(),
        complete,
        transaction: transaction.map(str::to_owned),
        installed: Some(installed.into()),
        boots_next: None,
    };
    Survey {
        booted: Some(booted.into()),
        slots: vec![
            slot("rootfs.0", true, "0", None),
            slot("rootfs.1", complete, installed, transaction),
        ],
        ..Survey::default()
    }
}

fn old(complete: bool, installed: &str) -> Survey {
    survey("rootfs.0", complete, installed, None)
}

/// The same, and this slot boots next.
fn next(name: &str, mut survey: Survey) -> Survey {
    for slot in &mut survey.slots {
        slot.boots_next = Some(slot.name == name);
    }
    survey
}

fn new() -> Survey {
    survey("rootfs.1", true, "2", None)
}

/// In one word.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::StillInstalling => "installing",
        Outcome::NotRebooted => "not rebooted",
        Outcome::Trial => "trial",
        Outcome::Leave => "leave",
        Outcome::Failed { again, slots, .. } => match (slots, again) {
            (Slots::FellBack, true) => "fell back, again",
            (Slots::FellBack, false) => "fell back",
            (Slots::AsTheyAre, true) => "failed, again",
            (Slots::AsTheyAre, false) => "failed",
            (Slots::TakeBack, _) => "taken back",
        },
    }
}

fn row(update: &Update, survey: &Survey, expected: &str, words: &str) {
    let outcome = decide(update, HERE, survey);
    assert_eq!(word(&outcome), expected, "{update:?} {survey:?}");
    if let Outcome::Failed { reason, .. } = outcome {
        assert!(!words.is_empty() && reason.contains(words), "{reason}");
    }
}

#[test]
fn while_installing_in_the_same_boot_the_slot_tells() {
    let state = update(Phase::Installing, HERE);
    let writing = Survey {
        installing: true,
        ..old(false, "1")
    };
    row(&state, &writing, "installing", "");
    let says_nothing_else = Survey {
        installing: true,
        ..Survey::default()
    };
    row(&state, &says_nothing_else, "installing", "");
    row(&state, &old(true, "2"), "not rebooted", "");
    row(&state, &old(false, "1"), "failed, again", "interrupted");
    row(&state, &old(true, "1"), "failed, again", "interrupted");
}

#[test]
fn a_slot_that_is_written_does_not_boot_next_before_rauc_is_done() {
    let almost = Survey {
        installing: true,
        ..old(true, "2")
    };
    row(&update(Phase::Installing, HERE), &almost, "installing", "");
}

#[test]
fn a_slot_that_is_written_and_that_the_boot_loader_was_not_told_of_is_not_installed() {
    let state = update(Phase::Installing, HERE);
    let told = "before the boot loader was told";
    row(&state, &next("rootfs.0", old(true, "2")), "failed, again", told);
    // GRUB calls nothing bootable as long as the slot that runs is not marked good.
    row(&state, &next("", old(true, "2")), "failed, again", told);
    row(&state, &next("rootfs.1", old(true, "2")), "not rebooted", "");
    row(
        &state,
        &next("rootfs.1", old(true, "1")),
        "failed, again",
        "writing slot rootfs.1 was interrupted",
    );
    // After a reboot it is no longer known what the boot loader was told.
    let state = update(Phase::Installing, BEFORE);
    row(
        &state,
        &next("rootfs.0", old(true, "2")),
        "fell back",
        "the power was cut before the boot loader was told",
    );
    row(&state, &next("rootfs.0", new()), "trial", "");
    // Somebody decides what boots next after it was installed.
    let state = update(Phase::Installed, HERE);
    row(&state, &next("rootfs.0", old(true, "2")), "not rebooted", "");
}

#[test]
fn a_slot_that_runs_and_was_not_written_is_not_on_trial() {
    // The agent died before RAUC was asked, the power was cut, and the slot that ran had not been marked good.
    let state = update(Phase::Installing, BEFORE);
    row(
        &state,
        &survey("rootfs.1", true, "1", None),
        "failed, again",
        "not written",
    );
}

#[test]
fn a_transaction_counts_more_than_the_time_of_an_installation() {
    let state = update(Phase::Installing, HERE);
    row(&state, &survey("rootfs.0", true, "1", Some("t-2")), "not rebooted", "");
    row(
        &state,
        &survey("rootfs.0", true, "2", Some("t-1")),
        "failed, again",
        "interrupted",
    );
}

#[test]
fn an_interrupted_write_and_one_that_was_finished_and_not_recorded_are_told_apart() {
    let state = update(Phase::Installing, BEFORE);
    row(&state, &old(false, "1"), "fell back, again", "interrupted");
    row(
        &state,
        &old(true, "2"),
        "fell back",
        "did not start, or the power was cut",
    );
    row(&state, &new(), "trial", "");
}

#[test]
fn what_rauc_says_has_failed_is_taken_back_unless_the_slot_is_as_it_was() {
    for again in [false, true] {
        let told = if again { "failed, again" } else { "failed" };
        let mut state = update(Phase::Installing, HERE);
        state.failure = Some(Failure {
            update_status: 5,
            reason: "Post-install handler error".into(),
            again,
        });
        for (survey, expected) in [
            // RAUC tells the boot loader first, and runs the post-install handler then.
            (next("rootfs.1", old(true, "2")), "taken back"),
            // RAUC 1.8 writes no record when the slot has the same image already.
            (next("rootfs.1", old(true, "1")), "taken back"),
            // The boot loader may take it when the other has used up its tries.
            (next("rootfs.0", old(true, "2")), "taken back"),
            (old(true, "2"), "taken back"),
            (next("rootfs.0", old(false, "1")), told),
            (next("", old(true, "1")), told),
            (old(true, "1"), told),
        ] {
            row(&state, &survey, expected, "Post-install");
            let confused = Survey {
                booted: Some("rootfs.1".into()),
                ..survey
            };
            row(&state, &confused, expected, "Post-install");
        }
        let another = Survey {
            installing: true,
            ..old(true, "1")
        };
        row(&state, &another, "installing", "");
    }
}

#[test]
fn what_rauc_says_has_failed_is_left_when_it_was_booted_all_the_same() {
    let mut state = update(Phase::Installing, BEFORE);
    state.failure = Some(Failure {
        update_status: 2,
        reason: "No space left on device".into(),
        again: true,
    });
    row(&state, &new(), "leave", "");
    row(&state, &old(true, "2"), "fell back, again", "No space");
    row(
        &state,
        &survey("rootfs.1", true, "1", None),
        "failed, again",
        "No space",
    );
    row(&state, &survey("rescue.0", true, "2", None), "taken back", "rescue.0");
}

#[test]
fn an_installed_slot_waits_runs_or_did_not_start() {
    row(&update(Phase::Installed, HERE), &old(true, "2"), "not rebooted", "");
    row(&update(Phase::Installed, BEFORE), &new(), "trial", "");
    row(
        &update(Phase::Installed, BEFORE),
        &old(true, "2"),
        "fell back",
        "did not start",
    );
    row(
        &update(Phase::Installed, HERE),
        &new(),
        "taken back",
        "without a reboot",
    );
}

#[test]
fn a_trial_goes_on_in_its_boot_and_a_few_more_and_ends_in_the_old_slot() {
    let mut state = update(Phase::Trial, BEFORE);
    state.trial_boot = Some(HERE.into());
    state.boots = 1;
    row(&state, &new(), "trial", "");
    row(&state, &old(true, "2"), "fell back", "cut short");
    state.trial_boot = Some("boot-2".into());
    row(&state, &new(), "trial", "");
    state.boots = 3;
    row(&state, &new(), "leave", "");
}

#[test]
fn what_is_rolled_back_is_left_and_says_why() {
    let mut state = update(Phase::RollingBack, BEFORE);
    state.reason = Some("modbus.service has failed".into());
    state.boots = 1;
    row(&state, &new(), "leave", "");
    row(&state, &old(true, "2"), "fell back", "modbus.service has failed");
    state.boots = 4;
    row(&state, &new(), "failed", "does not leave");
    state.trial_boot = Some(HERE.into());
    row(&state, &new(), "leave", "");
    let mut off = update(Phase::RollingBack, HERE);
    off.reason = Some("not wanted".into());
    row(&off, &old(true, "2"), "taken back", "not wanted");
}

#[test]
fn the_fall_back_outside_the_agent_tells_its_reason() {
    let note = "the agent did not decide within 35 minutes";
    for phase in [Phase::Installing, Phase::Installed, Phase::Trial] {
        let survey = Survey {
            fallback: Some(note.into()),
            ..old(true, "2")
        };
        row(&update(phase, BEFORE), &survey, "fell back", note);
    }
}

#[test]
fn a_third_slot_or_none_is_an_end_of_its_own() {
    for phase in [Phase::Installing, Phase::Installed, Phase::Trial, Phase::RollingBack] {
        row(
            &update(phase, BEFORE),
            &survey("rescue.0", true, "2", None),
            "taken back",
            "rescue.0",
        );
        let unknown = Survey { booted: None, ..new() };
        row(&update(phase, BEFORE), &unknown, "taken back", "unknown slot");
    }
}

#[test]
fn the_other_slot_is_the_one_of_the_same_class() {
    let mut found = old(true, "1");
    found.slots.insert(
        1,
        Slot {
            name: "data.0".into(),
            class: "data".into(),
            ..Slot::default()
        },
    );
    let (from, to) = slots(&found).unwrap();
    assert_eq!((from.name.as_str(), to.name.as_str()), ("rootfs.0", "rootfs.1"));
    found.slots.pop();
    assert!(slots(&found).unwrap_err().contains("no other slot"));
    found.booted = Some("rootfs.7".into());
    assert!(slots(&found).unwrap_err().contains("rootfs.7"));
    found.booted = None;
    assert!(slots(&found).is_err());
}

/// It would leave the slot that runs for one that nobody wanted.
#[test]
fn what_was_called_off_is_taken_back_whatever_rauc_says_of_the_slot_that_runs() {
    let mut state = update(Phase::RollingBack, HERE);
    state.reason = Some("nobody wants it".into());
    row(&state, &old(true, "2"), "taken back", "nobody wants it");
    row(&state, &new(), "taken back", "nobody wants it");
}
