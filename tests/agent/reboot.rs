use std::time::Duration;

use iotdm::agent::durable::{Exclusive, RebootPhase};
use iotdm::agent::{CommandId, Event, OpId, RebootOutcome, Settings};
use iotdm::protocol::Rc;

use crate::driver::{Driver, FULL, settings};

const SECOND: Duration = Duration::from_secs(1);

fn refused(rc: Rc) -> RebootOutcome {
    RebootOutcome::Refused {
        rc,
        message: "apt-daily holds a block lock: package upgrade".into(),
    }
}

#[test]
fn reb_01_the_request_is_on_the_disk_and_acknowledged_before_logind_is_asked_and_the_lock_goes_after_the_202() {
    let mut driver = Driver::managed();
    let ack = driver.ask_reboot("r1");
    assert_eq!(driver.acked.last(), Some(&ack));
    assert_eq!(driver.reboots.len(), 1);
    assert!(driver.answers("r1").is_empty(), "not before logind has accepted");
    driver.reboot_ends(RebootOutcome::Accepted);
    assert_eq!(driver.answers("r1"), [202]);
    assert_eq!(driver.released, 0, "the broker does not have the 202 yet");
    driver.broker_has_all();
    assert_eq!(driver.released, 1);
}

#[test]
fn reb_02_after_the_boot_manage_completes_the_request() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.host_reboots("boot-2");
    driver.connect(true);
    assert_eq!(driver.order(), ["manage"], "the 202 had arrived");
    driver.answer_manage(200);
    assert!(driver.agent.durable().exclusive.is_none());
}

#[test]
fn reb_02_a_202_whose_arrival_is_not_recorded_goes_out_again_before_manage() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    driver.connect(true);
    assert_eq!(driver.order(), ["response"], "manage waits for it");
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "manage"]);
    assert_eq!(driver.answers("r1"), [202]);
}

#[test]
fn reb_02_a_reboot_in_state_asked_that_happened_is_answered_after_the_boot() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "manage"]);
    assert_eq!(driver.answers("r1"), [202]);
    assert_eq!(driver.reboots.len(), 1, "and not done again");
}

#[test]
fn reb_03_switched_off_is_501_and_a_refusal_is_500_with_the_reason() {
    let mut driver = Driver::with(Settings {
        reboot_enabled: false,
        ..settings("boot-1")
    });
    driver.connect(false);
    driver.answer_manage(200);
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [501]);
    assert!(driver.reboots.is_empty());

    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(refused(Rc::INTERNAL));
    assert_eq!(driver.answers("r1"), [500]);
    assert!(driver.reason("r1").contains("apt-daily"));
    assert_eq!(driver.released, 1);
    driver.broker_has_all();
    driver.ask_reboot("r2");
    driver.reboot_ends(refused(Rc::NOT_IMPLEMENTED));
    assert_eq!(driver.answers("r2"), [501]);
}

#[test]
fn reb_04_redelivered_reboot_is_answered_but_not_repeated() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.ask_reboot("r1");
    assert_eq!(driver.reboots.len(), 1, "while it is being worked on");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.answer_manage(200);
    let ack = driver.ask_reboot("r1");
    assert_eq!(driver.reboots.len(), 1, "after the boot");
    assert_eq!(driver.answers("r1"), [202]);
    assert_eq!(driver.acked.last(), Some(&ack));
}

#[test]
fn env_07_the_same_request_gets_the_same_refusal_after_the_cause_is_gone_and_after_a_restart() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(refused(Rc::INTERNAL));
    driver.broker_has_all();
    driver.restart();
    driver.connect(true);
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [500]);
    assert_eq!(driver.reboots.len(), 1);
}

#[test]
fn env_07_the_same_request_gets_the_same_answer_when_the_device_is_no_longer_managed() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.event(Event::Unmanage(CommandId(1)));
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [202], "it was carried out");
    let ack = driver.ask_reboot("r2");
    assert_eq!(driver.answers("r2"), [400]);
    assert_eq!(driver.acked.last(), Some(&ack));
    assert_eq!(driver.reboots.len(), 1);
}

#[test]
fn reb_05_without_a_broker_the_202_follows_after_the_boot() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.event(Event::Disconnected);
    driver.reboot_ends(RebootOutcome::Accepted);
    assert!(driver.published.is_empty());
    driver.host_reboots("boot-2");
    driver.connect(false);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "manage"]);
}

#[test]
fn reb_06_accepted_and_not_done_is_told_with_500_then_a_log_entry_then_manage() {
    for called_off in [true, false] {
        let mut driver = Driver::managed();
        driver.ask_reboot("r1");
        driver.reboot_ends(RebootOutcome::Accepted);
        driver.broker_has_all();
        driver.published.clear();
        if called_off {
            driver.event(Event::PreparingForShutdown(false));
        } else {
            driver.pass(SECOND * 179);
            assert!(driver.published.is_empty(), "3 minutes are not over");
            driver.pass(SECOND * 2);
        }
        assert_eq!(driver.order(), ["response", "log"]);
        assert_eq!(driver.answers("r1"), [500]);
        assert!(driver.reason("r1").contains("did not happen"));
        assert_eq!(driver.on("log")[0]["d"]["severity"], 2);
        driver.broker_has_all();
        assert_eq!(driver.order(), ["response", "log", "manage"]);
        driver.answer_manage(200);
        driver.broker_has_all();
        driver.ask_reboot("r1");
        assert_eq!(
            driver.answers("r1"),
            [500, 500],
            "the latest answer is the one that is repeated"
        );
        driver.ask_reboot("r2");
        assert_eq!(driver.reboots.len(), 2, "another request is another reboot");
    }
}

#[test]
fn mng_11_no_manage_for_any_cause_between_the_request_and_the_reboot() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    for accepted in [false, true] {
        if accepted {
            driver.reboot_ends(RebootOutcome::Accepted);
            driver.broker_has_all();
        }
        driver.event(Event::Disconnected);
        driver.connect(true);
        driver.event(Event::Disconnected);
        driver.connect(false);
        driver.event(Event::Configured(Box::new(Settings {
            lifetime: 3600,
            ..settings("boot-1")
        })));
        driver.event(Event::Manage(CommandId(1)));
        driver.pass(SECOND * 30);
        assert!(driver.on("manage").is_empty());
    }
    assert_eq!(driver.replies.len(), 2, "the command is told why");
}

#[test]
fn recovery_asked_in_this_boot_and_young_goes_on() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.pass(SECOND * 119);
    driver.restart();
    assert_eq!(
        driver.reboots.len(),
        2,
        "logind's 'already in progress' counts as accepted"
    );
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.connect(true);
    assert_eq!(driver.answers("r1"), [202]);
}

#[test]
fn recovery_asked_in_this_boot_and_old_is_not_executed() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.pass(SECOND * 121);
    driver.restart();
    assert_eq!(driver.reboots.len(), 1);
    driver.connect(true);
    assert_eq!(driver.answers("r1"), [500]);
    assert!(driver.reason("r1").contains("not executed"));
}

#[test]
fn recovery_asked_long_ago_and_tried_just_now_is_not_claimed_to_be_over() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.pass(SECOND * 119);
    driver.restart();
    driver.pass(SECOND * 2);
    driver.restart();
    driver.connect(true);
    driver.pass(SECOND * 60);
    assert_eq!(driver.reboots.len(), 2, "too late to ask once more");
    assert!(driver.published.is_empty(), "and logind may be on it");
    driver.pass(SECOND * 121);
    assert_eq!(driver.answers("r1"), [500]);
    assert!(driver.reason("r1").contains("did not happen"));
}

#[test]
fn recovery_on_a_full_disk_asks_nobody_and_claims_nothing() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.disk_full = true;
    driver.restart();
    driver.connect(true);
    assert_eq!(driver.reboots.len(), 1);
    assert!(driver.published.is_empty());
    driver.pass(SECOND * 181);
    assert!(driver.published.is_empty(), "the next run would ask after all");
    driver.disk_full = false;
    driver.pass(SECOND * 6);
    assert_eq!(driver.answers("r1"), [500]);
}

#[test]
fn recovery_accepted_in_this_boot_is_silent_until_it_is_clear() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.restart();
    driver.connect(true);
    driver.pass(SECOND * 170);
    assert!(driver.published.is_empty());
    assert_eq!(driver.reboots.len(), 1);
    driver.pass(SECOND * 11);
    assert_eq!(driver.order(), ["response", "log"]);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "log", "manage"]);
}

#[test]
fn recovery_accepted_and_a_new_boot_is_done() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    assert!(driver.agent.durable().exclusive.is_none());
    driver.restart();
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(
        driver.order(),
        ["response", "manage"],
        "also when the agent dies once more before it could say so"
    );
}

#[test]
fn recovery_what_a_newer_version_began_is_left_alone_and_in_the_way() {
    let mut driver = Driver::managed();
    driver.disk = br#"{"exclusive":{"install":{"phase":"writing"}}}"#.to_vec();
    driver.restart();
    driver.connect(true);
    driver.answer_manage(200);
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [500]);
    assert!(driver.reboots.is_empty());
    assert!(matches!(driver.agent.durable().exclusive, Some(Exclusive::Unknown(_))));
}

#[test]
fn two_requests_share_one_reboot() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.ask_reboot("r2");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.ask_reboot("r3");
    assert_eq!(driver.reboots.len(), 1);
    for req_id in ["r1", "r2", "r3"] {
        assert_eq!(driver.answers(req_id), [202], "{req_id}");
    }
}

#[test]
fn the_fourth_reboot_within_four_short_boots_is_refused_until_the_device_was_up_for_10_minutes() {
    let mut driver = Driver::managed();
    driver.host_reboots("boot-2");
    for n in 0..3 {
        driver.connect(true);
        driver.ask_reboot(&format!("r{n}"));
        driver.reboot_ends(RebootOutcome::Accepted);
        driver.broker_has_all();
        driver.host_reboots(&format!("boot-{}", n + 3));
    }
    driver.connect(true);
    driver.answer_manage(200);
    driver.ask_reboot("r3");
    assert_eq!(driver.answers("r3"), [500]);
    assert!(driver.reason("r3").contains("up for 10 minutes"));
    assert_eq!(driver.reboots.len(), 3);
    driver.broker_has_all();
    driver.pass(SECOND * 600);
    driver.ask_reboot("r4");
    assert_eq!(driver.reboots.len(), 4);
}

#[test]
fn a_fourth_short_boot_is_refused_to_requests_without_an_id_too() {
    let mut driver = Driver::managed();
    driver.host_reboots("boot-2");
    for n in 0..3 {
        driver.receive("iotdm-1/mgmt/initiate/device/reboot", "{}");
        driver.reboot_ends(RebootOutcome::Accepted);
        driver.host_reboots(&format!("boot-{}", n + 3));
    }
    driver.receive("iotdm-1/mgmt/initiate/device/reboot", "{}");
    assert_eq!(driver.reboots.len(), 3);
}

#[test]
fn an_answer_of_logind_from_an_earlier_run_means_nothing() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.event(Event::RebootEnded {
        op: OpId(999_999),
        outcome: RebootOutcome::Accepted,
    });
    assert_eq!(driver.agent.durable().reboot().unwrap().phase, RebootPhase::Asked);
    assert!(driver.answers("r1").is_empty());
}

#[test]
fn a_full_disk_refuses_new_reboots_keeps_answering_and_recovers_by_itself() {
    let mut driver = Driver::managed();
    driver.disk_full = true;
    for n in 0..100 {
        let ack = driver.ask_reboot(&format!("r{n}"));
        assert_eq!(driver.acked.last(), Some(&ack));
        assert_eq!(driver.answers(&format!("r{n}")), [500]);
        assert_eq!(driver.reason(&format!("r{n}")), FULL);
        driver.broker_has_all();
    }
    assert!(driver.reboots.is_empty());
    driver.disk_full = false;
    driver.ask_reboot("later");
    assert_eq!(driver.reboots.len(), 1);
}

#[test]
fn a_disk_that_fills_up_after_logind_accepted_does_not_hold_the_202_back() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.disk_full = true;
    driver.reboot_ends(RebootOutcome::Accepted);
    assert_eq!(driver.answers("r1"), [202]);
    driver.broker_has_all();
    assert_eq!(driver.released, 1);
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(
        driver.answers("r1"),
        [202],
        "said once more: its arrival could not be recorded"
    );
    assert_eq!(driver.order(), ["response", "manage"]);
}

#[test]
fn a_full_disk_refuses_a_second_request_too_while_a_reboot_is_under_way() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.disk_full = true;
    driver.ask_reboot("r2");
    assert_eq!(driver.answers("r2"), [500], "after a crash nobody would know of it");
    driver.restart();
    driver.disk_full = false;
    driver.connect(true);
    driver.ask_reboot("r3");
    assert_eq!(driver.answers("r3"), [202]);
}

#[test]
fn a_refusal_is_not_told_before_it_is_on_the_disk() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.disk_full = true;
    driver.reboot_ends(refused(Rc::INTERNAL));
    driver.pass(SECOND * 60);
    assert!(
        driver.answers("r1").is_empty(),
        "a crash now would try the reboot again"
    );
    driver.disk_full = false;
    driver.pass(SECOND * 6);
    assert_eq!(driver.answers("r1"), [500]);
}

#[test]
fn when_nobody_knows_whether_logind_got_it_nothing_is_claimed_until_it_is_clear() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Unknown);
    driver.ask_reboot("r2");
    driver.pass(SECOND * 60);
    assert!(driver.published.is_empty());
    let mut rebooted = Driver::managed();
    rebooted.ask_reboot("r1");
    rebooted.reboot_ends(RebootOutcome::Unknown);
    rebooted.host_reboots("boot-2");
    rebooted.connect(true);
    assert_eq!(rebooted.answers("r1"), [202]);
    driver.pass(SECOND * 125);
    assert_eq!(driver.answers("r1"), [500]);
    assert_eq!(driver.answers("r2"), [500], "it came while nobody knew");
}

#[test]
fn a_refusal_that_was_held_back_is_told_although_another_request_found_the_disk_working_first() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.disk_full = true;
    driver.reboot_ends(refused(Rc::INTERNAL));
    driver.disk_full = false;
    driver.ask_reboot("r2");
    driver.pass(SECOND * 6);
    assert_eq!(driver.answers("r1"), [500]);
    assert_eq!(driver.answers("r2"), [500]);
}

#[test]
fn what_did_not_happen_is_not_told_while_the_disk_has_only_that_logind_was_asked() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.disk_full = true;
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.event(Event::PreparingForShutdown(false));
    driver.pass(SECOND * 300);
    assert_eq!(driver.answers("r1"), [202], "a crash now would ask logind again");
    assert!(driver.on("manage").is_empty());
    driver.disk_full = false;
    driver.pass(SECOND * 6);
    assert_eq!(driver.answers("r1"), [202, 500]);
    driver.restart();
    assert_eq!(driver.reboots.len(), 1);
}

#[test]
fn a_disk_that_stays_full_does_not_fill_the_memory() {
    let mut driver = Driver::managed();
    driver.disk = br#"{"exclusive":{"install":{}}}"#.to_vec();
    driver.restart();
    driver.connect(true);
    driver.answer_manage(200);
    driver.disk_full = true;
    let mut sizes = Vec::new();
    for round in 0..2 {
        for n in 0..300 {
            driver.ask_reboot(&format!("r{}", 1000 + round * 300 + n));
            driver.broker_has_all();
            driver.published.clear();
        }
        sizes.push(format!("{:?}", driver.agent).len());
    }
    let grown = sizes[1] as f64 / sizes[0] as f64;
    assert!(grown < 1.05, "{sizes:?}");
}
