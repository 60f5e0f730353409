//! The factory reset: one test for each row of its outcome table, and what is around it.

use std::time::Duration;

use iotdm::agent::effect::Reply;
use iotdm::agent::reset::record::Phase;
use iotdm::agent::{
    CommandId, Event, InstallEnd, OpId, RebootOutcome, ResetOutcome, ResetReady, ResetRefused, ResetReport, Settings,
};
use iotdm::protocol::{Address, Rc, ToDevice};

use crate::driver::{Driver, FULL, settings};
use crate::firmware::slots;

const SECOND: Duration = Duration::from_secs(1);
const TOPIC: &str = "iotdm-1/mgmt/initiate/device/factory_reset";

/// Our own unit, which leaves a report.
const READY: Result<ResetReady, ResetRefused> = Ok(ResetReady { reports: true });
/// Somebody else's.
const ANOTHER: Result<ResetReady, ResetRefused> = Ok(ResetReady { reports: false });

fn refused(rc: Rc) -> Result<ResetReady, ResetRefused> {
    Err(ResetRefused {
        rc,
        message: "apt-daily holds a block lock: package upgrade".into(),
    })
}

fn report(asked_in: &str) -> ResetReport {
    ResetReport {
        id: format!("after-{asked_in}"),
        asked_in: asked_in.into(),
        failed: None,
        text: "/data/app wiped: 12 files, 34 MiB, in 5 s".into(),
    }
}

fn incomplete(asked_in: &str) -> ResetReport {
    ResetReport {
        failed: Some("/data/x: input/output error".into()),
        ..report(asked_in)
    }
}

impl Driver {
    /// The service has asked, and has its 202; systemd is being asked.
    fn resetting() -> Driver {
        let mut driver = Driver::managed();
        driver.ask_reset("f1");
        driver.reset_surveyed(READY);
        driver.broker_has_all();
        assert_eq!(driver.resets.len(), 1);
        driver
    }

    /// The next boot after systemd has done what it was asked for.
    fn after_a_reset() -> Driver {
        let mut driver = Driver::resetting();
        driver.reset_ends(ResetOutcome::Started);
        driver.host_reboots("boot-2");
        driver
    }

    fn severities(&self) -> Vec<u64> {
        let logs = self.on("add/diag/log").into_iter();
        logs.map(|log| log["d"]["severity"].as_u64().unwrap()).collect()
    }
}

#[test]
fn rst_01_the_topic_is_factory_reset_and_it_is_answered_202_before_systemd_is_asked() {
    assert_eq!(ToDevice::FactoryReset.topic(&Address::Session), TOPIC);
    let mut driver = Driver::managed();
    let acked = driver.acked.len();
    let ack = driver.ask_reset("f1");
    assert_eq!(driver.acked.len(), acked, "not before the look at the host");
    assert!(driver.published.is_empty());
    driver.reset_surveyed(READY);
    assert_eq!(driver.acked.last(), Some(&ack));
    assert_eq!(driver.answers("f1"), [202]);
    assert!(driver.resets.is_empty(), "the broker does not have the 202 yet");
    driver.broker_has_all();
    assert_eq!(driver.resets.len(), 1);
}

#[test]
fn rst_01_a_202_that_does_not_get_through_holds_the_reset_up_for_5_seconds() {
    for connected in [true, false] {
        let mut driver = Driver::managed();
        driver.ask_reset("f1");
        driver.reset_surveyed(READY);
        if !connected {
            driver.event(Event::Disconnected);
        }
        driver.pass(Duration::from_millis(4900));
        assert!(driver.resets.is_empty());
        driver.pass(Duration::from_millis(200));
        assert_eq!(driver.resets.len(), 1);
        driver.reset_ends(ResetOutcome::Started);
        driver.host_reboots("boot-2");
        driver.report_is(Ok(Some(report("boot-1"))));
        driver.connect(true);
        assert_eq!(driver.answers("f1"), [202], "it follows after the boot");
    }
}

#[test]
fn rst_01_without_a_request_id_it_begins_at_once_and_nobody_is_answered() {
    let mut driver = Driver::managed();
    driver.receive(TOPIC, "{}");
    driver.reset_surveyed(READY);
    assert_eq!(driver.resets.len(), 1);
    driver.reset_ends(ResetOutcome::Started);
    driver.host_reboots("boot-2");
    driver.connect(true);
    assert!(driver.published.is_empty(), "the report is not read yet");
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.broker_has_all();
    assert_eq!(driver.order(), ["log", "manage"]);
}

#[test]
fn rst_02_after_the_reset_identity_and_memory_are_there_and_manage_completes_the_request() {
    let mut driver = Driver::after_a_reset();
    driver.connect(true);
    assert!(
        driver.published.is_empty(),
        "no manage before it is known what was wiped"
    );
    driver.report_is(Ok(Some(report("boot-1"))));
    assert_eq!(driver.order(), ["log", "manage"]);
    assert_eq!(driver.severities(), [0]);
    assert!(
        driver.on("log")[0]["d"]["message"]
            .as_str()
            .unwrap()
            .contains("12 files")
    );
    driver.answer_manage(200);
    assert!(driver.on_disk().exclusive.is_none());
    assert_eq!(driver.reports_discarded, 1);
    let ack = driver.ask_reset("f1");
    assert_eq!(driver.acked.last(), Some(&ack));
    assert_eq!(driver.answers("f1"), [202], "answered, and not carried out again");
    assert_eq!((driver.reset_surveys.len(), driver.resets.len()), (1, 1));
}

#[test]
fn rst_02_a_202_whose_arrival_is_not_recorded_goes_out_again_before_manage() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    driver.pass(SECOND * 6);
    driver.host_reboots("boot-2");
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.connect(true);
    assert_eq!(driver.order(), ["response", "log"]);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "log", "manage"]);
    assert_eq!(driver.answers("f1"), [202]);
}

#[test]
fn what_could_not_be_wiped_is_told_with_500_and_a_log_entry_before_manage() {
    let mut driver = Driver::after_a_reset();
    driver.report_is(Ok(Some(incomplete("boot-1"))));
    driver.connect(true);
    assert_eq!(driver.answers("f1"), [500]);
    assert!(driver.reason("f1").contains("/data/x: input/output error"));
    assert_eq!(driver.severities(), [2]);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "log", "manage"]);
    assert_eq!(driver.reports_discarded, 1);
    assert_eq!(driver.withdrawn, 0, "the wipe has come to its end");
}

#[test]
fn a_boot_without_a_report_is_no_reset_and_what_was_left_for_the_next_boot_is_taken_back_first() {
    for other in [None, Some(report("boot-0"))] {
        let mut driver = Driver::after_a_reset();
        driver.connect(true);
        driver.report_is(Ok(other.clone()));
        assert_eq!(driver.withdrawn, 1);
        assert!(driver.answers("f1").is_empty(), "a crash now must not leave it");
        driver.pass(SECOND * 2);
        assert_eq!(driver.answers("f1"), [500]);
        assert!(driver.reason("f1").contains("no report"), "{}", driver.reason("f1"));
        driver.broker_has_all();
        driver.answer_manage(200);
        let told = if other.is_some() { vec![0, 2] } else { vec![2] };
        assert_eq!(driver.severities(), told);
    }
}

#[test]
fn with_a_unit_that_leaves_no_report_a_new_boot_is_the_proof() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.reset_surveyed(ANOTHER);
    driver.broker_has_all();
    driver.reset_ends(ResetOutcome::Unknown);
    driver.host_reboots("boot-2");
    driver.report_is(Ok(None));
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["log", "manage"]);
    assert!(driver.answers("f1").is_empty(), "the 202 had arrived");
    assert_eq!(driver.withdrawn, 0);
}

#[test]
fn a_boot_before_systemd_was_asked_is_no_reset_whatever_the_unit() {
    for ready in [READY, ANOTHER] {
        let mut driver = Driver::managed();
        driver.ask_reset("f1");
        driver.reset_surveyed(ready);
        driver.host_reboots("boot-2");
        driver.report_is(Ok(None));
        driver.connect(true);
        driver.pass(SECOND * 2);
        assert_eq!(driver.answers("f1"), [202, 500], "the 202 may have arrived or not");
        assert!(driver.reason("f1").contains("before systemd was asked"));
        assert_eq!(driver.on_disk().short_boots, 0, "the service has not ended that boot");
        driver.broker_has_all();
        assert_eq!(driver.order(), ["response", "response", "log", "manage"]);
    }
}

#[test]
fn a_report_that_cannot_be_read_is_tried_for_a_minute_and_then_told() {
    let mut driver = Driver::after_a_reset();
    driver.connect(true);
    for tried in 1..6 {
        driver.report_is(Err("input/output error".into()));
        assert!(driver.published.is_empty(), "{tried}");
        driver.pass(SECOND * 10);
        assert_eq!(driver.report_reads.len(), 2 + tried, "one at the first start");
    }
    driver.report_is(Err("input/output error".into()));
    driver.pass(SECOND * 2);
    assert_eq!(driver.answers("f1"), [500]);
    assert!(driver.reason("f1").contains("not known"));
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "log", "manage"]);
    assert_eq!(driver.reports_discarded, 0, "the next start may be able to read it");
    let reads = driver.report_reads.len();
    driver.pass(SECOND * 100);
    assert_eq!(driver.report_reads.len(), reads);
}

#[test]
fn a_report_that_can_be_read_at_the_second_try_counts() {
    let mut driver = Driver::after_a_reset();
    driver.report_is(Err("interrupted".into()));
    driver.pass(SECOND * 10);
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["log", "manage"]);
}

#[test]
fn what_systemd_refuses_is_told_with_500_after_the_202_then_a_log_entry_then_manage() {
    let mut driver = Driver::resetting();
    driver.published.clear();
    driver.reset_ends(ResetOutcome::Refused("polkit does not allow it".into()));
    assert_eq!(driver.withdrawn, 1);
    assert!(driver.published.is_empty());
    driver.pass(SECOND);
    assert_eq!(driver.answers("f1"), [500]);
    assert!(driver.reason("f1").contains("did not happen: polkit"));
    assert_eq!(driver.order(), ["response", "log"]);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["response", "log", "manage"]);
    driver.answer_manage(200);
    driver.broker_has_all();
    driver.ask_reset("f1");
    assert_eq!(driver.answers("f1"), [500, 500], "the latest answer is repeated");
    driver.ask_reset("f2");
    assert_eq!(driver.reset_surveys.len(), 2, "another request is another reset");
}

#[test]
fn a_wish_that_could_not_be_taken_back_is_told_with_the_reason() {
    let mut driver = Driver::resetting();
    driver.reset_ends(ResetOutcome::Refused("polkit does not allow it".into()));
    let reason = "remove the wish (read-only file system)".to_owned();
    driver.event(Event::ResetNotWithdrawn { reason: reason.clone() });
    driver.pass(SECOND);
    assert_eq!(
        driver.reason("f1"),
        "the factory reset did not happen: polkit does not allow it; remove the wish (read-only file system)"
    );
    // one that comes too late changes nothing
    let told = driver.published.len();
    driver.event(Event::ResetNotWithdrawn { reason });
    assert_eq!(driver.published.len(), told);
}

#[test]
fn a_host_that_is_still_up_3_minutes_after_systemd_was_asked_was_not_reset() {
    for outcome in [ResetOutcome::Started, ResetOutcome::Unknown] {
        let mut driver = Driver::resetting();
        driver.published.clear();
        driver.pass(SECOND * 30);
        driver.reset_ends(outcome);
        driver.pass(SECOND * 179);
        assert!(driver.published.is_empty() && driver.withdrawn == 0);
        driver.pass(SECOND * 3);
        assert_eq!(driver.order(), ["response", "log"]);
        assert_eq!(driver.answers("f1"), [500]);
        assert!(driver.reason("f1").contains("still up"));
        assert_eq!(driver.withdrawn, 1, "a later reboot must not wipe");
        driver.broker_has_all();
        assert_eq!(driver.order(), ["response", "log", "manage"]);
    }
}

#[test]
fn a_wipe_that_comes_after_all_is_told_when_it_is_found() {
    let mut driver = Driver::resetting();
    driver.reset_ends(ResetOutcome::Started);
    driver.pass(SECOND * 200);
    driver.broker_has_all();
    driver.host_reboots("boot-2");
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.connect(true);
    driver.answer_manage(200);
    assert!(driver.answers("f1").is_empty());
    assert_eq!(driver.severities(), [2, 0], "that it did not happen, and that it did");
}

#[test]
fn a_reset_that_somebody_on_the_device_began_is_told_once() {
    for (crash, found, severity) in [(true, report("boot-1"), 0), (false, incomplete("boot-1"), 2)] {
        let mut driver = Driver::managed();
        driver.host_reboots("boot-2");
        driver.report_is(Ok(Some(found.clone())));
        assert_eq!(driver.reports_discarded, 1);
        if crash {
            // It died before the report was removed.
            driver.restart();
            driver.report_is(Ok(Some(found)));
            assert_eq!(driver.reports_discarded, 2);
        }
        driver.connect(true);
        assert_eq!(driver.order(), ["log", "manage"]);
        assert_eq!(driver.severities(), [severity]);
    }
}

#[test]
fn on_a_full_disk_the_outcome_is_told_and_the_report_kept_until_its_log_entry_is_on_the_disk() {
    let mut driver = Driver::after_a_reset();
    driver.disk_full = true;
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["manage"], "told all the same");
    driver.pass(SECOND * 10);
    driver.report_is(Ok(Some(report("boot-1"))));
    assert_eq!(driver.reports_discarded, 0, "a crash now would find nothing");
    driver.answer_manage(200);
    driver.disk_full = false;
    driver.pass(SECOND * 10);
    driver.report_is(Ok(Some(report("boot-1"))));
    assert_eq!(driver.reports_discarded, 1);
    assert_eq!(driver.on_disk().reset_told.as_deref(), Some("after-boot-1"));
    assert_eq!(driver.severities(), [0]);
}

#[test]
fn a_log_entry_that_had_to_wait_for_the_disk_does_not_say_that_no_request_waited() {
    for (found, severity) in [(report("boot-1"), 0), (incomplete("boot-1"), 2)] {
        let mut driver = Driver::after_a_reset();
        driver.disk_full = true;
        driver.report_is(Ok(Some(found.clone())));
        driver.connect(true);
        driver.broker_has_all();
        driver.answer_manage(200);
        driver.pass(SECOND * 6);
        driver.disk_full = false;
        driver.pass(SECOND * 6);
        driver.report_is(Ok(Some(found)));
        assert_eq!(driver.severities(), [severity]);
        let told = driver.on("add/diag/log")[0]["d"]["message"].to_string();
        assert!(told.contains("12 files"), "{told}");
        let said = driver.said.iter().map(|(_, text)| text);
        let wrong: Vec<_> = said.chain([&told]).filter(|text| text.contains("no request")).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn an_answer_of_an_earlier_run_means_nothing() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.event(Event::ResetSurveyed {
        op: OpId(999_999),
        found: READY,
    });
    assert!(driver.published.is_empty());
    driver.reset_surveyed(READY);
    driver.broker_has_all();
    driver.event(Event::ResetEnded {
        op: OpId(999_999),
        outcome: ResetOutcome::Refused("no".into()),
    });
    driver.event(Event::ResetReported {
        op: OpId(999_999),
        report: Ok(Some(report("boot-1"))),
    });
    assert_eq!(driver.on_disk().reset().unwrap().phase, Phase::Starting);
    assert_eq!((driver.withdrawn, driver.reports_discarded), (0, 0));
}

#[test]
fn switched_off_is_501_and_not_managed_is_400_and_neither_looks_at_the_host() {
    let off = Settings {
        reset_enabled: false,
        ..settings("boot-1")
    };
    let mut driver = Driver::with(off.clone());
    driver.connect(false);
    driver.answer_manage(200);
    let ack = driver.ask_reset("f1");
    assert_eq!(driver.acked.last(), Some(&ack));
    assert_eq!(driver.answers("f1"), [501]);
    assert_eq!(driver.on("manage")[0]["d"]["supports"]["deviceActions"], true, "reboot");
    driver.event(Event::Configured(Box::new(Settings {
        reboot_enabled: false,
        ..off
    })));
    assert_eq!(driver.on("manage")[1]["d"]["supports"]["deviceActions"], false);

    let mut driver = Driver::managed();
    driver.event(Event::Unmanage(CommandId(1)));
    driver.ask_reset("f1");
    assert_eq!(driver.answers("f1"), [400]);
    assert!(driver.reset_surveys.is_empty());
}

#[test]
fn a_host_that_cannot_be_reset_is_answered_with_the_reason_and_that_is_remembered() {
    for rc in [Rc::INTERNAL, Rc::NOT_IMPLEMENTED] {
        let mut driver = Driver::managed();
        let ack = driver.ask_reset("f1");
        driver.reset_surveyed(refused(rc));
        assert_eq!(driver.acked.last(), Some(&ack));
        assert_eq!(driver.answers("f1"), [u64::from(rc.0)]);
        assert!(driver.reason("f1").contains("apt-daily"));
        driver.broker_has_all();
        driver.restart();
        driver.connect(true);
        driver.ask_reset("f1");
        assert_eq!(driver.answers("f1"), [u64::from(rc.0)], "also after the cause is gone");
        assert_eq!(driver.reset_surveys.len(), 1);
        driver.answer_manage(200);
        driver.ask_reset("f2");
        assert_eq!(driver.reset_surveys.len(), 2);
    }
}

#[test]
fn what_is_under_way_is_in_the_way_of_a_reset_and_a_reset_is_in_the_way_of_it() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.ask_reset("f1");
    assert_eq!(driver.answers("f1"), [500]);
    assert!(driver.reason("f1").contains("reboot"));

    let mut driver = Driver::downloaded();
    driver.update("u1");
    driver.surveyed(slots("rootfs.0"));
    driver.ask_reset("f1");
    assert_eq!(driver.answers("f1"), [500]);
    assert!(driver.reason("f1").contains("firmware"));
    driver.install_ends(InstallEnd::Done);
    driver.ask_reset("f2");
    assert_eq!(driver.answers("f2"), [500]);

    let mut driver = Driver::resetting();
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [500]);
    assert!(driver.reboots.is_empty());

    let mut driver = Driver::managed();
    driver.disk = br#"{"exclusive":{"reset":{"phase":"rehearsing"}}}"#.to_vec();
    driver.restart();
    driver.connect(true);
    driver.answer_manage(200);
    driver.ask_reset("f1");
    assert_eq!(driver.answers("f1"), [500]);
    assert!(driver.reset_surveys.is_empty());
}

#[test]
fn what_began_while_the_host_was_looked_at_is_in_the_way_too() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.ask_reboot("r1");
    driver.reset_surveyed(READY);
    assert_eq!(driver.answers("f1"), [500]);
    driver.reboot_ends(RebootOutcome::Accepted);
    assert_eq!(driver.answers("r1"), [202]);

    let mut driver = Driver::downloaded();
    driver.update("u1");
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    driver.surveyed(slots("rootfs.0"));
    assert_eq!(driver.answers("u1"), [500]);
    assert_eq!(driver.answers("f1"), [202]);
    assert!(driver.installs.is_empty());
}

#[test]
fn a_download_is_not_in_the_way_of_a_reset_and_goes_on_after_it_and_a_new_one_waits() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(slots("rootfs.0"));
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    assert_eq!(driver.answers("f1"), [202]);
    driver.broker_has_all();
    driver.reset_ends(ResetOutcome::Started);
    driver.host_reboots("boot-2");
    assert_eq!(driver.downloads.len(), 2);
    assert_eq!(driver.on_disk().firmware.state, 1, "still true");

    let mut driver = Driver::described();
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    driver.download("d1");
    assert_eq!(driver.answers("d1"), [500]);
    assert!(driver.reason("d1").contains("factory reset"));
}

#[test]
fn two_requests_share_one_reset_in_every_phase() {
    let mut driver = Driver::managed();
    let first = driver.ask_reset("f1");
    let second = driver.ask_reset("f2");
    let again = driver.ask_reset("f1");
    assert_eq!(driver.reset_surveys.len(), 1);
    driver.reset_surveyed(READY);
    assert_eq!(driver.acked[driver.acked.len() - 3..], [first, second, again]);
    driver.ask_reset("f3");
    driver.broker_has_all();
    assert_eq!(driver.resets.len(), 1);
    driver.ask_reset("f4");
    driver.reset_ends(ResetOutcome::Started);
    for req_id in ["f1", "f2", "f3", "f4"] {
        assert_eq!(driver.answers(req_id), [202], "{req_id}");
    }
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.ask_reset("f5");
    assert_eq!(driver.answers("f5"), [500], "what was wiped was wiped before it");
    driver.report_is(Ok(Some(incomplete("boot-1"))));
    for req_id in ["f1", "f2", "f3", "f4"] {
        assert_eq!(driver.answers(req_id).last(), Some(&500), "{req_id}");
    }
    assert_eq!(driver.resets.len(), 1);
}

#[test]
fn only_so_many_requests_share_one_reset() {
    for surveyed in [false, true] {
        let mut driver = Driver::managed();
        for n in 0..16 {
            driver.ask_reset(&format!("f{n}"));
        }
        if surveyed {
            driver.reset_surveyed(READY);
        }
        for _ in 0..2 {
            driver.broker_has_all();
        }
        driver.ask_reset("f16");
        assert_eq!(driver.answers("f16"), [500]);
    }
}

#[test]
fn without_a_request_id_and_delivered_again_it_is_not_carried_out() {
    let mut driver = Driver::managed();
    let ack = driver.deliver(TOPIC, b"{}", false, true);
    assert_eq!(driver.acked.last(), Some(&ack));
    assert!(driver.reset_surveys.is_empty());
    let ack = driver.deliver(TOPIC, br#"{"reqId":"f1"}"#, true, false);
    assert_eq!(driver.acked.last(), Some(&ack));
    assert!(driver.reset_surveys.is_empty(), "nor when it was kept by the broker");
}

#[test]
fn a_request_that_waits_for_the_look_at_the_host_is_forgotten_with_its_connection_and_begins_anew() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    let acked = driver.acked.len();
    driver.event(Event::Disconnected);
    driver.reset_surveyed(READY);
    assert_eq!(driver.acked.len(), acked);
    assert!(driver.on_disk().exclusive.is_none());
    driver.connect(true);
    driver.deliver(TOPIC, br#"{"reqId":"f1"}"#, false, true);
    driver.reset_surveyed(READY);
    assert_eq!(driver.answers("f1"), [202]);
}

#[test]
fn mng_11_no_manage_for_any_cause_between_the_request_and_the_outcome_of_a_reset() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    for phase in 0..3 {
        match phase {
            1 => driver.reset_ends(ResetOutcome::Started),
            2 => driver.host_reboots("boot-2"),
            _ => {}
        }
        driver.event(Event::Disconnected);
        driver.connect(true);
        driver.event(Event::Disconnected);
        driver.connect(false);
        driver.event(Event::Configured(Box::new(Settings {
            lifetime: 3600 + phase,
            ..driver.agent.settings().clone()
        })));
        driver.event(Event::Manage(CommandId(phase)));
        driver.pass(SECOND * 30);
        driver.broker_has_all();
        assert!(driver.on("manage").is_empty(), "{phase}");
    }
    assert_eq!(driver.replies.len(), 3, "the command is told why");
    let Reply::Failed(reason) = &driver.replies[0].1 else {
        panic!("{:?}", driver.replies)
    };
    assert!(reason.contains("factory reset"), "{reason}");
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.broker_has_all();
    assert_eq!(driver.on("manage").len(), 1);
}

#[test]
fn a_reset_counts_as_a_reboot_in_a_row_of_short_boots() {
    let mut driver = Driver::managed();
    driver.host_reboots("boot-2");
    driver.report_is(Ok(None));
    for n in 2..5 {
        driver.connect(true);
        driver.ask_reset(&format!("f{n}"));
        driver.reset_surveyed(READY);
        driver.broker_has_all();
        driver.reset_ends(ResetOutcome::Started);
        driver.host_reboots(&format!("boot-{}", n + 1));
        driver.report_is(Ok(Some(report(&format!("boot-{n}")))));
    }
    driver.connect(true);
    driver.answer_manage(200);
    for (ask, req_id) in [
        (Driver::ask_reset as fn(&mut Driver, &str) -> _, "f9"),
        (Driver::ask_reboot, "r9"),
    ] {
        ask(&mut driver, req_id);
        assert_eq!(driver.answers(req_id), [500], "{req_id}");
        assert!(driver.reason(req_id).contains("up for 10 minutes"));
    }
    driver.broker_has_all();
    driver.pass(SECOND * 600);
    driver.ask_reset("f10");
    driver.reset_surveyed(READY);
    assert_eq!(driver.answers("f10"), [202]);
}

#[test]
fn recovery_accepted_in_this_boot_and_young_goes_on() {
    for told in [true, false] {
        let mut driver = Driver::managed();
        driver.ask_reset("f1");
        driver.reset_surveyed(READY);
        driver.restart();
        driver.report_is(Ok(None));
        assert!(driver.resets.is_empty());
        if told {
            driver.connect(true);
            assert_eq!(driver.answers("f1"), [202], "again: its arrival was not recorded");
            driver.broker_has_all();
        } else {
            driver.pass(SECOND * 6);
        }
        assert_eq!(driver.resets.len(), 1);
    }
}

#[test]
fn recovery_accepted_in_this_boot_and_old_is_not_executed() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    driver.now.boottime += SECOND * 121;
    driver.restart();
    driver.connect(true);
    driver.pass(SECOND * 2);
    assert!(driver.resets.is_empty());
    assert_eq!(driver.answers("f1").last(), Some(&500));
    assert!(driver.reason("f1").contains("not executed"));
}

#[test]
fn recovery_starting_and_young_asks_systemd_again() {
    let mut driver = Driver::resetting();
    driver.pass(SECOND * 119);
    driver.restart();
    assert_eq!(driver.resets.len(), 2, "a unit that runs is not started twice");
    driver.connect(true);
    driver.reset_ends(ResetOutcome::Started);
    driver.pass(SECOND * 170);
    assert!(driver.published.is_empty());
}

#[test]
fn recovery_starting_and_old_waits_whether_the_host_goes_down() {
    let mut driver = Driver::resetting();
    driver.pass(SECOND * 121);
    driver.restart();
    driver.connect(true);
    assert_eq!(driver.resets.len(), 1, "too late to ask once more");
    driver.follow_ends(ResetOutcome::Unknown);
    driver.pass(SECOND * 170);
    assert!(driver.published.is_empty(), "and systemd may be on it");
    driver.pass(SECOND * 12);
    assert_eq!(driver.answers("f1"), [500]);
}

#[test]
fn recovery_starting_and_old_follows_a_unit_that_works_still_and_waits_from_its_end() {
    let mut driver = Driver::resetting();
    let began = driver.now.boottime;
    for minute in [4, 9] {
        driver.now.boottime = began + SECOND * 60 * minute;
        driver.restart();
        driver.connect(true);
        let left = SECOND * 60 * (60 - minute);
        assert_eq!(driver.follows.last().unwrap().1, left, "an hour in all");
    }
    driver.pass(SECOND * 60 * 6);
    assert!(driver.published.is_empty() && driver.withdrawn == 0, "it works");
    driver.follow_ends(ResetOutcome::Started);
    driver.pass(SECOND * 179);
    assert!(driver.published.is_empty() && driver.withdrawn == 0);
    driver.host_reboots("boot-2");
    driver.report_is(Ok(Some(report("boot-1"))));
    driver.connect(true);
    driver.broker_has_all();
    assert_eq!(driver.order(), ["log", "manage"]);
    assert!(driver.answers("f1").is_empty(), "the 202 had arrived");

    let mut driver = Driver::resetting();
    driver.pass(SECOND * 60 * 61);
    driver.restart();
    assert_eq!(driver.follows[0].1, Duration::ZERO);
    driver.connect(true);
    driver.follow_ends(ResetOutcome::Refused("wipe.service failed".into()));
    driver.pass(SECOND);
    assert!(driver.reason("f1").contains("did not happen: wipe.service failed"));
    assert_eq!((driver.resets.len(), driver.withdrawn), (1, 1));
}

#[test]
fn recovery_when_systemd_had_answered_nobody_asks_again() {
    let mut driver = Driver::resetting();
    driver.reset_ends(ResetOutcome::Started);
    driver.restart();
    driver.connect(true);
    assert_eq!(driver.resets.len(), 1);
    driver.pass(SECOND * 182);
    assert_eq!(driver.answers("f1"), [500]);
}

#[test]
fn a_full_disk_refuses_new_resets_and_keeps_answering() {
    let mut driver = Driver::managed();
    driver.disk_full = true;
    // What is accepted cannot be written down.
    let ack = driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    assert_eq!(driver.acked.last(), Some(&ack));
    assert_eq!(driver.answers("f1"), [500]);
    assert_eq!(driver.reason("f1"), FULL);
    // Nor that it was refused.
    driver.ask_reset("f2");
    driver.reset_surveyed(refused(Rc::INTERNAL));
    assert!(driver.reason("f2").contains("apt-daily"));
    assert!(driver.resets.is_empty());
    driver.disk_full = false;
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    assert_eq!(driver.answers("f1"), [500, 202], "nothing was remembered");
}

#[test]
fn a_disk_that_fills_up_after_the_202_holds_the_reset_up_and_after_2_minutes_it_is_told_not_to_happen() {
    for works_again in [true, false] {
        let mut driver = Driver::managed();
        driver.ask_reset("f1");
        driver.reset_surveyed(READY);
        driver.disk_full = true;
        driver.broker_has_all();
        driver.pass(SECOND * 60);
        assert!(driver.resets.is_empty());
        driver.disk_full = !works_again;
        driver.pass(SECOND * 6);
        assert_eq!(driver.resets.len(), usize::from(works_again));
        if !works_again {
            driver.pass(SECOND * 70);
            assert_eq!(driver.answers("f1"), [202, 500]);
            assert!(driver.resets.is_empty());
        }
    }
}

#[test]
fn an_end_after_which_the_next_run_would_ask_systemd_again_is_not_told_before_it_is_on_the_disk() {
    let mut driver = Driver::resetting();
    driver.published.clear();
    driver.disk_full = true;
    driver.reset_ends(ResetOutcome::Refused("masked".into()));
    driver.pass(SECOND * 60);
    assert!(driver.published.is_empty());
    driver.disk_full = false;
    driver.pass(SECOND * 6);
    assert_eq!(driver.answers("f1"), [500]);

    let mut driver = Driver::resetting();
    driver.published.clear();
    driver.disk_full = true;
    driver.reset_ends(ResetOutcome::Refused("masked".into()));
    driver.pass(SECOND * 130);
    assert_eq!(driver.answers("f1"), [500], "by now the next run would not ask");
}

#[test]
fn a_second_request_is_refused_by_a_full_disk_while_a_reset_is_under_way() {
    let mut driver = Driver::resetting();
    driver.disk_full = true;
    driver.ask_reset("f2");
    assert_eq!(driver.answers("f2"), [500], "after a crash nobody would know of it");
    assert_eq!(driver.reason("f2"), FULL);
}

#[test]
fn status_tells_how_far_a_reset_is() {
    let mut driver = Driver::managed();
    driver.ask_reset("f1");
    driver.reset_surveyed(READY);
    assert_eq!(driver.agent.status().busy, "factory reset accepted");
    driver.broker_has_all();
    assert_eq!(driver.agent.status().busy, "factory reset starting");
    driver.host_reboots("boot-2");
    assert_eq!(driver.agent.status().busy, "factory reset, outcome to come");
    driver.report_is(Ok(Some(report("boot-1"))));
    assert_eq!(driver.agent.status().busy, "none");
}
