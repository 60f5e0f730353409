//! Firmware: the requests, the download, the installation and the trial, as values.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::agent::effect::{Mark, Purpose, Reply};
use iotdm::agent::event::Slot;
use iotdm::agent::firmware::record::Phase;
use iotdm::agent::firmware::{self, WhenToReboot};
use iotdm::agent::{CommandId, DownloadEnd, Event, InstallEnd, RebootOutcome, ResetReady, Settings, Survey, Verdict};
use iotdm::protocol::Rc;
use iotdm::protocol::firmware::UpdateStatus;
use serde_json::{Value, json};

use crate::driver::{Driver, FULL, settings};

const SECOND: Duration = Duration::from_secs(1);

/// A host with two slots.
pub(crate) fn slots(booted: &str) -> Survey {
    let slot = |name: &str| Slot {
        name: name.into(),
        class: "rootfs".into(),
        complete: true,
        transaction: None,
        installed: None,
        boots_next: None,
    };
    Survey {
        booted: Some(booted.into()),
        slots: vec![slot("rootfs.0"), slot("rootfs.1")],
        ..Survey::default()
    }
}

/// How a trial ends well.
fn confirmed() -> [(Mark, String); 2] {
    [Mark::Active, Mark::Good].map(|mark| (mark, "booted".to_owned()))
}

/// The same, after the other slot was written.
pub(crate) fn written(booted: &str) -> Survey {
    let mut survey = slots(booted);
    survey.slots[1].installed = Some("2024-05-01".into());
    survey
}

/// The same, and this slot boots next.
fn next(name: &str, mut survey: Survey) -> Survey {
    for slot in &mut survey.slots {
        slot.boots_next = Some(slot.name == name);
    }
    survey
}

/// The old slot next, the new one bad.
fn taken_back() -> [(Mark, String); 2] {
    [
        (Mark::Active, "rootfs.0".to_owned()),
        (Mark::Bad, "rootfs.1".to_owned()),
    ]
}

/// RAUC has told the boot loader, and then its handler failed.
fn handler_failed() -> InstallEnd {
    InstallEnd::Failed {
        status: UpdateStatus::UnsupportedImage,
        message: "Post-install handler error: Child process exited with code 1".into(),
        again: false,
    }
}

impl Driver {
    pub(crate) fn described() -> Self {
        let mut driver = Self::managed();
        driver.describe("u1", "2.0");
        driver.request("observe", "o1", r#","d":{"fields":[{"field":"mgmt.firmware"}]}"#);
        driver.broker_has_all();
        driver.published.clear();
        driver
    }

    pub(crate) fn describe(&mut self, req_id: &str, version: &str) {
        let value = json!({"version": version, "name": "rootfs", "uri": format!("https://fw/{version}.raucb"),
            "verifier": "", "state": 0, "updateStatus": 0, "updatedDateTime": ""});
        let fields = json!({"fields": [{"field": "mgmt.firmware", "value": value}]});
        self.request("device/update", req_id, &format!(r#","d":{fields}"#));
    }

    pub(crate) fn request(&mut self, tail: &str, req_id: &str, more: &str) {
        self.receive(&format!("iotdm-1/{tail}"), &format!(r#"{{"reqId":"{req_id}"{more}}}"#));
    }

    pub(crate) fn download(&mut self, req_id: &str) {
        self.request("mgmt/initiate/firmware/download", req_id, "");
    }

    pub(crate) fn update(&mut self, req_id: &str) {
        self.request("mgmt/initiate/firmware/update", req_id, "");
    }

    pub(crate) fn surveyed(&mut self, survey: Survey) {
        let (op, _) = *self.surveys.last().unwrap();
        self.event(Event::Surveyed { op, found: Ok(survey) });
    }

    pub(crate) fn download_ends(&mut self, end: DownloadEnd) {
        let op = self.downloads.last().unwrap().0;
        self.event(Event::Downloaded { op, end });
    }

    pub(crate) fn install_ends(&mut self, end: InstallEnd) {
        let op = *self.installs.last().unwrap();
        self.event(Event::Installed { op, end });
    }

    pub(crate) fn marked(&mut self, result: Result<(), String>) {
        let op = self.marks.last().unwrap().0;
        self.event(Event::Marked { op, result });
    }

    pub(crate) fn health(&mut self, verdict: Verdict) {
        let op = self.watch.as_ref().unwrap().0;
        self.event(Event::Health { op, verdict });
    }

    /// The service answers every notify that waits for it, and so on, until there is none.
    pub(crate) fn answer_notifies(&mut self, rc: u16) -> Vec<Value> {
        let mut told = Vec::new();
        while told.len() < self.on("notify").len() {
            let notify = self.on("notify")[told.len()].clone();
            told.push(notify["d"]["fields"][0]["value"].clone());
            let req_id = notify["reqId"].as_str().unwrap().to_owned();
            self.broker_has_all();
            self.receive("iotdm-1/response", &format!(r#"{{"rc":{rc},"reqId":"{req_id}"}}"#));
        }
        told
    }

    pub(crate) fn downloaded() -> Self {
        let mut driver = Self::described();
        driver.download("d1");
        driver.surveyed(Survey::default());
        driver.download_ends(DownloadEnd::Done);
        driver.answer_notifies(200);
        driver.published.clear();
        driver
    }

    pub(crate) fn installing() -> Self {
        let mut driver = Self::downloaded();
        driver.update("p1");
        driver.surveyed(slots("rootfs.0"));
        driver
    }

    pub(crate) fn installed() -> Self {
        let mut driver = Self::installing();
        driver.install_ends(InstallEnd::Done);
        driver
    }

    /// Up in the new slot, with everything read that was asked for.
    pub(crate) fn on_trial() -> Self {
        let mut driver = Self::installed();
        driver.reboot_ends(RebootOutcome::Accepted);
        driver.answer_notifies(200);
        driver.host_reboots("boot-2");
        driver.surveyed(written("rootfs.1"));
        driver
    }

    /// What the last log says of itself beside its text.
    fn failure(&self) -> Value {
        let logs = self.on("add/diag/log");
        let data = logs.last().unwrap()["d"]["data"].as_str().unwrap();
        serde_json::from_slice(&STANDARD.decode(data).unwrap()).unwrap()
    }

    fn phase(&self) -> Option<Phase> {
        self.on_disk().update().map(|update| update.phase)
    }

    fn firmware(&self) -> (u8, u8) {
        let firmware = &self.on_disk().firmware;
        (firmware.state, firmware.update_status)
    }
}

fn failed(status: UpdateStatus) -> DownloadEnd {
    DownloadEnd::Failed {
        status,
        message: "the server closed the connection".into(),
    }
}

#[test]
fn fwd_01_a_download_from_its_description_to_the_cancel() {
    let mut driver = Driver::managed();
    driver.describe("r1", "2.0");
    assert_eq!(driver.answers("r1"), [204]);
    driver.request("observe", "r2", r#","d":{"fields":[{"field":"mgmt.firmware"}]}"#);
    assert_eq!(driver.answers("r2"), [200]);
    driver.download("r3");
    assert!(driver.answers("r3").is_empty(), "the host is looked at first");
    driver.surveyed(Survey::default());
    assert_eq!(driver.answers("r3"), [202]);
    assert_eq!(driver.downloads[0].1.uri, "https://fw/2.0.raucb");
    driver.download_ends(DownloadEnd::Done);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 1}), json!({"state": 2})]);
    driver.request("cancel", "r4", r#","d":{"fields":[{"field":"mgmt.firmware"}]}"#);
    assert_eq!(driver.answers("r4"), [200]);
    assert_eq!(driver.firmware(), (2, 0));
}

#[test]
fn fwd_02_what_cannot_be_downloaded_is_refused_with_its_reason() {
    let refused = |prepare: &dyn Fn(&mut Driver), rc: u64, words: &str| {
        let mut driver = Driver::described();
        prepare(&mut driver);
        driver.download("d1");
        if !driver.surveys.is_empty() {
            driver.surveyed(Survey::default());
        }
        assert_eq!(driver.answers("d1"), [rc], "{words}");
        assert!(driver.reason("d1").contains(words), "{}", driver.reason("d1"));
        assert!(driver.downloads.is_empty());
    };
    for (uri, words) in [
        ("", "uri is missing"),
        ("ftp://fw/2.raucb", "ftp is not supported"),
        ("http://fw/2.raucb", "https only"),
        ("file:///etc/shadow", "file is not supported"),
        ("no address at all", "is no address"),
        ("https://", "is no address"),
    ] {
        let describe = |driver: &mut Driver| {
            let value = json!({"uri": uri, "state": 0, "updateStatus": 0});
            let d = json!({"fields": [{"field": "mgmt.firmware", "value": value}]});
            driver.request("device/update", "u2", &format!(r#","d":{d}"#));
        };
        refused(&describe, 400, words);
    }
    let off = |driver: &mut Driver| {
        driver.event(Event::Configured(Box::new(Settings {
            firmware: firmware::Settings {
                supported: Err("this host has no RAUC".into()),
                ..firmware::Settings::default()
            },
            ..settings("boot-1")
        })));
    };
    refused(&off, 501, "this host has no RAUC");
    refused(&|driver| driver.disk_full = true, 500, FULL);
}

#[test]
fn fwd_02_a_host_without_room_is_500_and_nothing_begins() {
    let mut driver = Driver::described();
    driver.download("d1");
    assert_eq!(driver.surveys.last().unwrap().1, Purpose::Download);
    let problems = vec!["2 MiB are free below /var/lib/iotdm-agent; make room".to_owned()];
    driver.surveyed(Survey {
        problems,
        ..Survey::default()
    });
    assert_eq!(driver.answers("d1"), [500]);
    assert!(driver.reason("d1").contains("make room"));
    assert_eq!(driver.firmware(), (0, 0));
    driver.broker_has_all();
    driver.download("d1");
    assert_eq!(driver.answers("d1"), [500, 500], "and it stays refused");
}

#[test]
fn fwd_02_a_second_download_is_400_while_one_runs_and_after_it() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(Survey::default());
    driver.download("d2");
    assert_eq!(driver.answers("d2"), [400]);
    driver.download_ends(DownloadEnd::Done);
    driver.download("d3");
    assert_eq!(driver.answers("d3"), [400]);
    assert_eq!(driver.downloads.len(), 1);
}

#[test]
fn env_07_a_download_request_that_comes_again_is_answered_again_and_not_carried_out_again() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.download("d1");
    driver.surveyed(Survey::default());
    assert_eq!(driver.answers("d1"), [202]);
    assert_eq!(
        driver.acked.len() as u64,
        5,
        "both deliveries are acknowledged: {:?}",
        driver.acked
    );
    driver.broker_has_all();
    driver.download("d1");
    assert_eq!(driver.answers("d1"), [202, 202]);
    assert_eq!(driver.downloads.len(), 1);
}

#[test]
fn fwd_03_the_202_goes_out_before_state_1() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(Survey::default());
    assert_eq!(driver.order(), ["response", "notify"]);
}

#[test]
fn fwd_04_every_failure_is_one_notify_with_state_0_and_a_log_with_the_reason() {
    for status in [
        UpdateStatus::OutOfMemory,
        UpdateStatus::ConnectionLost,
        UpdateStatus::VerificationFailed,
        UpdateStatus::UnsupportedImage,
        UpdateStatus::InvalidUri,
    ] {
        let mut driver = Driver::described();
        driver.download("d1");
        driver.surveyed(Survey::default());
        driver.answer_notifies(200);
        driver.published.clear();
        driver.download_ends(failed(status));
        let number = status as u8;
        assert_eq!(
            driver.answer_notifies(200),
            [json!({"state": 0, "updateStatus": number})]
        );
        assert_eq!(driver.firmware(), (0, number));
        let logs = driver.on("add/diag/log");
        assert!(
            logs[0]["d"]["message"]
                .as_str()
                .unwrap()
                .contains("closed the connection")
        );
        assert_eq!(
            driver.failure(),
            json!({"firmware": "download", "updateStatus": number, "reqId": "d1"})
        );
    }
}

#[test]
fn a_failures_log_names_the_last_accepted_request_also_after_the_reboot_of_its_update() {
    let mut driver = Driver::on_trial();
    driver.connect(true);
    driver.answer_manage(200);
    driver.update("refused");
    assert_eq!(driver.answers("refused"), [400]);
    driver.broker_has_all();
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.pass(11 * SECOND);
    driver.marked(Ok(()));
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-3");
    driver.surveyed(written("rootfs.0"));
    driver.marked(Ok(()));
    driver.connect(true);
    driver.answer_manage(200);
    assert_eq!(driver.firmware(), (0, 5));
    assert_eq!(
        driver.failure(),
        json!({"firmware": "update", "updateStatus": 5, "reqId": "p1"})
    );
}

#[test]
fn fwd_06_a_download_goes_on_after_a_crash() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(Survey::default());
    driver.restart();
    assert_eq!(driver.downloads.len(), 2);
    driver.host_reboots("boot-2");
    assert_eq!(driver.downloads.len(), 3);
    driver.connect(true);
    driver.broker_has_all();
    driver.answer_manage(200);
    driver.download_ends(DownloadEnd::Done);
    assert_eq!(driver.answer_notifies(200).last().unwrap(), &json!({"state": 2}));
}

#[test]
fn fwd_08_a_download_without_a_description_takes_the_last_one() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(Survey::default());
    driver.download_ends(failed(UpdateStatus::ConnectionLost));
    driver.download("d2");
    driver.surveyed(Survey::default());
    assert_eq!(driver.answers("d2"), [202]);
    assert_eq!(driver.downloads[1].1, driver.downloads[0].1);
    assert_eq!(driver.firmware(), (1, 0));
}

#[test]
fn fwd_09_another_description_while_downloading_is_409_and_changes_nothing() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(Survey::default());
    driver.describe("u2", "3.0");
    assert_eq!(driver.answers("u2"), [409]);
    assert_eq!(driver.on_disk().firmware.version.as_deref(), Some("2.0"));
    assert_eq!(driver.firmware(), (1, 0));
    assert_eq!(driver.discarded, 1, "only the first description");
}

#[test]
fn fwd_10_a_cancel_does_not_stop_a_download_and_ends_the_notifies() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(Survey::default());
    driver.request("cancel", "c1", "");
    driver.published.clear();
    driver.download_ends(DownloadEnd::Done);
    assert_eq!(driver.firmware(), (2, 0));
    assert!(driver.on("notify").is_empty());
}

#[test]
fn fwd_07_the_image_outlives_a_reboot_and_another_look_at_the_same_description() {
    let mut driver = Driver::downloaded();
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.answer_manage(200);
    driver.describe("u2", "2.0");
    assert_eq!(driver.firmware(), (2, 0));
    driver.update("p1");
    driver.surveyed(slots("rootfs.0"));
    assert_eq!(driver.answers("p1"), [202]);
}

#[test]
fn fwu_01_an_update_without_an_image_is_400() {
    let mut driver = Driver::described();
    driver.update("p1");
    assert_eq!(driver.answers("p1"), [400]);
    driver.download("d1");
    driver.surveyed(Survey::default());
    driver.update("p2");
    assert_eq!(driver.answers("p2"), [400]);
    assert!(driver.installs.is_empty());
}

#[test]
fn fwu_03_a_good_update_reboots_proves_itself_and_is_told_after_manage() {
    let mut driver = Driver::downloaded();
    driver.update("p1");
    assert_eq!(driver.surveys.last().unwrap().1, Purpose::Install);
    driver.surveyed(slots("rootfs.0"));
    assert_eq!(driver.answers("p1"), [202]);
    assert_eq!(driver.order(), ["response", "notify"]);
    assert_eq!(driver.answer_notifies(200), [json!({"updateStatus": 1})]);
    driver.install_ends(InstallEnd::Done);
    assert_eq!(driver.phase(), Some(Phase::Installed));
    assert_eq!(driver.marker.as_ref().unwrap().slot, "rootfs.1");
    assert_eq!(driver.reboots.len(), 1, "the reboot follows by itself");
    let released = driver.released;
    driver.reboot_ends(RebootOutcome::Accepted);
    assert_eq!(driver.released, released + 1, "nobody waits for a 202");
    driver.host_reboots("boot-2");
    driver.surveyed(written("rootfs.1"));
    assert_eq!(
        driver.phase(),
        Some(Phase::Trial),
        "the new slot writes down that it runs"
    );
    driver.connect(true);
    driver.answer_manage(200);
    driver.health(Verdict::Good);
    driver.pass(9 * SECOND);
    assert!(driver.marks.is_empty(), "it has to be healthy for a while");
    driver.pass(2 * SECOND);
    assert_eq!(driver.marks[0].1, confirmed());
    assert!(driver.on("notify").is_empty(), "not before the mark is read back");
    driver.marked(Ok(()));
    assert_eq!(driver.order(), ["manage", "notify"]);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 0, "updateStatus": 0})]);
    assert_eq!(driver.firmware(), (0, 0));
    assert!(driver.on_disk().exclusive.is_none());
    assert!(driver.marker.is_none());
}

#[test]
fn fwu_04_what_the_installer_says_is_told_and_nothing_reboots() {
    for (status, again, state) in [
        (UpdateStatus::UnsupportedImage, false, 0),
        (UpdateStatus::OutOfMemory, true, 2),
    ] {
        let mut driver = Driver::installing();
        driver.answer_notifies(200);
        driver.published.clear();
        let message = "Compatible mismatch: expected 'lab', found 'other'".to_owned();
        driver.install_ends(match again {
            false => InstallEnd::Refused { status, message, again },
            true => InstallEnd::Failed { status, message, again },
        });
        if again {
            assert_eq!(driver.surveys.last().unwrap().1, Purpose::Outcome);
            driver.surveyed(next("rootfs.0", slots("rootfs.0")));
        }
        assert!(driver.marks.is_empty(), "the boot loader is as it was");
        assert_eq!(driver.firmware(), (state, status as u8));
        let told = driver.answer_notifies(200);
        assert_eq!(told.last().unwrap()["updateStatus"], status as u8);
        let logs = driver.on("add/diag/log");
        assert!(
            logs[0]["d"]["message"]
                .as_str()
                .unwrap()
                .contains("Compatible mismatch")
        );
        assert!(driver.reboots.is_empty());
    }
}

/// Told and forgotten, it would run after the next reboot, and be marked good without a trial.
#[test]
fn fwu_04_a_slot_that_boots_next_although_rauc_failed_is_taken_back_before_that_is_told() {
    let mut driver = Driver::installing();
    driver.answer_notifies(200);
    driver.published.clear();
    driver.install_ends(handler_failed());
    assert_eq!(driver.firmware(), (2, 1), "not over before the slots are looked at");
    let (op, purpose) = *driver.surveys.last().unwrap();
    assert_eq!(purpose, Purpose::Outcome);
    driver.event(Event::Surveyed {
        op,
        found: Err("RAUC does not answer".into()),
    });
    driver.pass(11 * SECOND);
    driver.surveyed(next("rootfs.1", written("rootfs.0")));
    assert_eq!(driver.marks[0].1, taken_back());
    assert!(driver.marker.is_some() && driver.firmware() == (2, 1));
    driver.marked(Ok(()));
    assert_eq!((driver.phase(), driver.firmware()), (None, (0, 5)));
    assert!(driver.marker.is_none() && driver.reboots.is_empty());
    let logs = driver.on("add/diag/log");
    let told = logs[0]["d"]["message"].as_str().unwrap();
    assert!(told.contains("Post-install handler error"), "{told}");
}

#[test]
fn fwu_04_that_rauc_failed_is_not_forgotten_in_a_restart_or_a_reboot() {
    let mut restarted = Driver::installing();
    restarted.install_ends(handler_failed());
    restarted.restart();
    restarted.surveyed(next("rootfs.1", written("rootfs.0")));
    restarted.restart();
    restarted.surveyed(next("rootfs.0", written("rootfs.0")));
    assert_eq!(restarted.marks.last().unwrap().1, taken_back());
    restarted.marked(Ok(()));
    assert_eq!((restarted.phase(), restarted.firmware()), (None, (0, 5)));

    let mut early = Driver::installing();
    early.install_ends(InstallEnd::Failed {
        status: UpdateStatus::OutOfMemory,
        message: "No space left on device".into(),
        again: true,
    });
    early.restart();
    early.surveyed(slots("rootfs.0"));
    assert_eq!(early.installs.len(), 1, "what failed is not tried again by itself");
    assert_eq!(early.firmware(), (2, 2));

    let mut rebooted = Driver::installing();
    rebooted.answer_notifies(200);
    rebooted.install_ends(handler_failed());
    rebooted.host_reboots("boot-2");
    rebooted.surveyed(written("rootfs.1"));
    assert_eq!(rebooted.phase(), Some(Phase::RollingBack), "it has failed already");
    assert_eq!(rebooted.marks[0].1, taken_back());
    rebooted.marked(Ok(()));
    rebooted.reboot_ends(RebootOutcome::Accepted);
    rebooted.host_reboots("boot-3");
    rebooted.surveyed(written("rootfs.0"));
    rebooted.marked(Ok(()));
    assert_eq!((rebooted.phase(), rebooted.firmware()), (None, (0, 5)));
    rebooted.connect(true);
    rebooted.answer_manage(200);
    let logs = rebooted.on("add/diag/log");
    let told = logs[0]["d"]["message"].as_str().unwrap();
    assert!(told.contains("Post-install handler error"), "{told}");
}

#[test]
fn an_installation_of_somebody_else_after_ours_failed_is_not_ours() {
    let mut driver = Driver::installing();
    driver.install_ends(handler_failed());
    driver.surveyed(Survey {
        installing: true,
        ..Survey::default()
    });
    assert_eq!(driver.rejoins, 1);
    driver.install_ends(InstallEnd::Done);
    assert_eq!(driver.phase(), Some(Phase::Installing));
    driver.surveyed(next("rootfs.1", written("rootfs.0")));
    assert_eq!(driver.marks[0].1, taken_back());
}

#[test]
fn fwu_05_a_boot_loader_that_falls_back_is_told_with_the_old_version_running() {
    let mut driver = Driver::installed();
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.answer_notifies(200);
    driver.host_reboots("boot-2");
    driver.surveyed(written("rootfs.0"));
    assert_eq!(
        driver.marks[0].1,
        [(Mark::Good, "booted".to_owned()), (Mark::Bad, "rootfs.1".to_owned())]
    );
    assert!(driver.phase().is_some(), "not over before the boot loader knows");
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 5));
    driver.connect(true);
    driver.answer_manage(200);
    assert_eq!(driver.order()[0], "manage");
    assert_eq!(driver.answer_notifies(200), [json!({"state": 0, "updateStatus": 5})]);
    let logs = driver.on("add/diag/log");
    assert!(logs[0]["d"]["message"].as_str().unwrap().contains("did not start"));
}

#[test]
fn fwu_06_the_same_and_another_update_while_one_runs_install_nothing_more() {
    let mut driver = Driver::installing();
    driver.broker_has_all();
    driver.update("p1");
    assert_eq!(driver.answers("p1"), [202, 202]);
    driver.update("p2");
    assert_eq!(driver.answers("p2"), [400]);
    assert_eq!(driver.installs.len(), 1);
}

#[test]
fn reb_03_a_reboot_is_refused_while_installing_and_on_trial_and_is_the_updates_own_in_between() {
    let mut driver = Driver::installing();
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [500]);
    assert!(driver.reason("r1").contains("installed"));
    let mut manual = Driver::installing();
    let mut settings = manual.agent.settings().clone();
    settings.firmware.reboot = WhenToReboot::Manual;
    manual.event(Event::Configured(Box::new(settings)));
    manual.install_ends(InstallEnd::Done);
    assert!(manual.reboots.is_empty(), "somebody else decides when");
    manual.ask_reboot("r2");
    manual.reboot_ends(RebootOutcome::Accepted);
    assert_eq!(manual.answers("r2"), [202]);
    manual.host_reboots("boot-2");
    manual.surveyed(written("rootfs.1"));
    assert_eq!(manual.phase(), Some(Phase::Trial));
    let mut trial = Driver::on_trial();
    trial.connect(true);
    trial.ask_reboot("r3");
    assert_eq!(trial.answers("r3"), [500]);
    assert!(trial.reason("r3").contains("on trial"));
}

#[test]
fn a_window_opens_the_way_for_the_reboot() {
    let mut driver = Driver::installing();
    let mut settings = driver.agent.settings().clone();
    settings.firmware.reboot = WhenToReboot::Window;
    driver.event(Event::Configured(Box::new(settings)));
    driver.install_ends(InstallEnd::Done);
    driver.pass(3600 * SECOND);
    assert!(driver.reboots.is_empty());
    driver.event(Event::Window(true));
    assert_eq!(driver.reboots.len(), 1);
}

#[test]
fn a_blocked_reboot_waits_for_the_lock_to_go_and_is_complained_of_once() {
    let mut driver = Driver::installed();
    let blocked = || RebootOutcome::Refused {
        rc: Rc::INTERNAL,
        message: "blocked by apt".into(),
    };
    driver.reboot_ends(blocked());
    assert_eq!(driver.phase(), Some(Phase::Installed));
    driver.pass(50 * SECOND);
    assert_eq!(driver.reboots.len(), 1);
    driver.event(Event::InhibitorsChanged);
    assert_eq!(driver.reboots.len(), 2);
    driver.reboot_ends(blocked());
    driver.pass(65 * SECOND);
    assert_eq!(driver.reboots.len(), 3, "and now and then without a signal");
    let complaints = driver
        .said
        .iter()
        .filter(|(_, text)| text.contains("blocked by apt"))
        .count();
    assert_eq!(complaints, 1);
}

#[test]
fn a_unit_that_fails_for_good_leads_back_and_the_reason_is_told_from_the_old_slot() {
    let mut driver = Driver::on_trial();
    driver.connect(true);
    driver.answer_manage(200);
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.pass(11 * SECOND);
    assert_eq!(driver.phase(), Some(Phase::RollingBack));
    assert_eq!(
        driver.marks[0].1,
        [
            (Mark::Active, "rootfs.0".to_owned()),
            (Mark::Bad, "rootfs.1".to_owned())
        ]
    );
    driver.marked(Ok(()));
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-3");
    driver.surveyed(written("rootfs.0"));
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 5));
    driver.connect(true);
    driver.answer_manage(200);
    assert_eq!(driver.answer_notifies(200).last().unwrap()["updateStatus"], 5);
    let logs = driver.on("add/diag/log");
    assert!(
        logs[0]["d"]["message"]
            .as_str()
            .unwrap()
            .contains("modbus.service has failed")
    );
}

/// Three boots of the new slot end before it is proven: the fourth is the way back, and no trial.
#[test]
fn a_slot_whose_trial_is_cut_short_three_times_is_left_and_the_reason_is_told_from_the_old_slot() {
    let mut driver = Driver::on_trial();
    for boot in ["boot-3", "boot-4"] {
        driver.host_reboots(boot);
        driver.surveyed(written("rootfs.1"));
        assert_eq!(driver.phase(), Some(Phase::Trial), "{boot}");
    }
    driver.host_reboots("boot-5");
    driver.surveyed(written("rootfs.1"));
    assert_eq!(driver.phase(), Some(Phase::RollingBack));
    assert!(driver.watch.is_none(), "there is nothing to prove any more");
    let back = [
        (Mark::Active, "rootfs.0".to_owned()),
        (Mark::Bad, "rootfs.1".to_owned()),
    ];
    assert_eq!(driver.marks.last().unwrap().1, back);
    driver.event(Event::ConfirmTrial(CommandId(1)));
    assert!(matches!(driver.replies.last().unwrap().1, Reply::Failed(_)));
    // The agent may die on the way.
    let marks = driver.marks.len();
    driver.restart();
    driver.surveyed(written("rootfs.1"));
    assert_eq!(
        (driver.phase(), driver.marks.len()),
        (Some(Phase::RollingBack), marks + 1)
    );
    let reboots = driver.reboots.len();
    driver.marked(Ok(()));
    assert_eq!(driver.reboots.len(), reboots + 1);
    driver.reboot_ends(RebootOutcome::Accepted);
    // That boot, too, lands in the new slot: the way back has boots of its own.
    driver.host_reboots("boot-6");
    driver.surveyed(written("rootfs.1"));
    assert_eq!(driver.phase(), Some(Phase::RollingBack));
    assert_eq!(driver.marks.last().unwrap().1, back);
    driver.marked(Ok(()));
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-7");
    driver.surveyed(written("rootfs.0"));
    driver.marked(Ok(()));
    assert_eq!((driver.phase(), driver.firmware()), (None, (0, 5)));
    driver.connect(true);
    driver.answer_manage(200);
    assert_eq!(driver.answer_notifies(200).last().unwrap()["updateStatus"], 5);
    let logs = driver.on("add/diag/log");
    let message = logs[0]["d"]["message"].as_str().unwrap();
    assert!(message.contains("cut short 3 times"), "{message}");
}

#[test]
fn a_unit_that_recovers_in_time_is_forgiven() {
    let mut driver = Driver::on_trial();
    driver.connect(true);
    driver.answer_manage(200);
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.pass(5 * SECOND);
    driver.health(Verdict::Good);
    driver.pass(11 * SECOND);
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 0));
}

#[test]
fn a_service_that_had_been_reached_before_must_be_reached_again() {
    let mut driver = Driver::on_trial();
    driver.health(Verdict::Good);
    driver.pass(29 * 60 * SECOND);
    assert!(driver.marks.is_empty());
    driver.pass(60 * SECOND);
    assert_eq!(driver.phase(), Some(Phase::RollingBack));
    let reason = driver.on_disk().update().unwrap().reason.clone().unwrap();
    assert!(reason.contains("service not reached"), "{reason}");
}

impl Driver {
    /// A host on which RAUC writes an image that a technician handed over; the service has not been reached in this boot.
    fn installing_a_file() -> Self {
        let mut driver = Self::new();
        driver.event(Event::InstallFile(CommandId(1), "fw-2.raucb".into()));
        driver.download_ends(DownloadEnd::Done);
        driver.surveyed(slots("rootfs.0"));
        driver
    }

    /// Whether the trial of what is being installed will ask for the service.
    fn needs_service(mut self) -> bool {
        if self.phase() == Some(Phase::Installing) {
            self.install_ends(InstallEnd::Done);
        }
        self.reboot_ends(RebootOutcome::Accepted);
        self.host_reboots("boot-2");
        self.surveyed(written("rootfs.1"));
        self.health(Verdict::Good);
        self.pass(60 * SECOND);
        self.marks.is_empty()
    }
}

#[test]
fn a_request_of_the_service_proves_that_it_is_reached_before_it_answers_a_manage() {
    let mut driver = Driver::downloaded();
    driver.restart();
    driver.connect(true);
    driver.update("p1");
    driver.surveyed(slots("rootfs.0"));
    assert!(
        driver.needs_service(),
        "an image with a broken network would be marked good"
    );
}

#[test]
fn any_answer_to_a_manage_while_the_image_is_written_or_waits_counts_as_reached() {
    for rc in [200, 403, 500] {
        let mut driver = Driver::installing_a_file();
        driver.connect(false);
        driver.answer_manage(rc);
        assert!(driver.needs_service(), "{rc} while it is written");

        let mut driver = Driver::installing_a_file();
        let mut settings = driver.agent.settings().clone();
        settings.firmware.reboot = WhenToReboot::Window;
        driver.event(Event::Configured(Box::new(settings)));
        driver.install_ends(InstallEnd::Done);
        driver.connect(false);
        driver.answer_manage(rc);
        driver.event(Event::Window(true));
        assert!(driver.needs_service(), "{rc} while it waits");
    }
    assert!(!Driver::installing_a_file().needs_service(), "a site without a network");
}

#[test]
fn a_service_that_was_reached_in_this_boot_stays_so_across_restarts_and_not_across_boots() {
    let reached = |rc: u16| {
        let mut driver = Driver::new();
        driver.connect(false);
        driver.answer_manage(rc);
        driver
    };
    let install = |driver: &mut Driver| {
        driver.event(Event::InstallFile(CommandId(1), "fw-2.raucb".into()));
        driver.download_ends(DownloadEnd::Done);
        driver.surveyed(slots("rootfs.0"));
    };
    for rc in [200, 403] {
        let mut driver = reached(rc);
        driver.restart();
        install(&mut driver);
        assert!(driver.needs_service(), "{rc}");
        let mut driver = reached(rc);
        driver.host_reboots("boot-1b");
        install(&mut driver);
        assert!(!driver.needs_service(), "{rc}, and that was another boot");
    }
}

#[test]
fn an_answer_in_the_boot_of_the_trial_counts_after_a_restart_too() {
    let mut driver = Driver::on_trial();
    driver.connect(true);
    driver.answer_manage(403);
    driver.restart();
    driver.surveyed(written("rootfs.1"));
    driver.health(Verdict::Good);
    driver.pass(11 * SECOND);
    assert_eq!(driver.marks[0].1, confirmed());
}

/// It sends no manage, so nobody answers one.
#[test]
fn a_device_that_is_taken_out_of_management_during_its_update_need_not_reach_the_service() {
    let mut driver = Driver::installing();
    driver.broker_has_all();
    driver.event(Event::Unmanage(CommandId(1)));
    let req_id = driver.on("mgmt/unmanage")[0]["reqId"].as_str().unwrap().to_owned();
    driver.receive("iotdm-1/response", &format!(r#"{{"rc":200,"reqId":"{req_id}"}}"#));
    assert!(!driver.needs_service());
    // Before that is answered, its answer is the proof.
    let mut driver = Driver::installing();
    driver.event(Event::Disconnected);
    driver.event(Event::Unmanage(CommandId(1)));
    assert!(driver.needs_service());
}

#[test]
fn a_site_that_does_not_need_the_service_keeps_the_new_slot_and_tells_later() {
    let mut driver = Driver::on_trial();
    let mut settings = driver.agent.settings().clone();
    settings.firmware.require_service = false;
    driver.event(Event::Configured(Box::new(settings)));
    driver.health(Verdict::Good);
    driver.pass(11 * SECOND);
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 0));
    driver.pass(24 * 3600 * SECOND);
    driver.connect(false);
    driver.answer_manage(200);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 0, "updateStatus": 0})]);
}

#[test]
fn a_mark_that_does_not_stick_is_tried_until_the_trial_ends() {
    let mut driver = Driver::on_trial();
    driver.connect(true);
    driver.answer_manage(200);
    driver.health(Verdict::Good);
    driver.pass(11 * SECOND);
    for _ in 0..3 {
        driver.marked(Err("the boot loader's variables cannot be written".into()));
        driver.pass(11 * SECOND);
    }
    assert_eq!(driver.marks.len(), 4);
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 0));
}

/// Both at once, the mark that comes last would win, and the slot that is left would be the one that boots next.
#[test]
fn a_slot_that_is_being_marked_good_is_not_left_before_that_has_come_to_its_end() {
    let back = [
        (Mark::Active, "rootfs.0".to_owned()),
        (Mark::Bad, "rootfs.1".to_owned()),
    ];
    let being_confirmed = || {
        let mut driver = Driver::on_trial();
        driver.connect(true);
        driver.answer_manage(200);
        driver.health(Verdict::Good);
        driver.pass(11 * SECOND);
        assert_eq!(driver.marks.len(), 1);
        driver
    };
    // A unit fails, or the time of the trial is over.
    let fails: fn(&mut Driver) = |driver| driver.health(Verdict::Bad("modbus.service has failed".into()));
    for (happens, lasts) in [(fails, 60 * SECOND), (|_| {}, 3600 * SECOND)] {
        let mut driver = being_confirmed();
        happens(&mut driver);
        driver.pass(lasts);
        assert_eq!((driver.phase(), driver.marks.len()), (Some(Phase::Trial), 1));
        let mut good = being_confirmed();
        happens(&mut good);
        good.pass(lasts);
        good.marked(Ok(()));
        assert_eq!((good.phase(), good.firmware()), (None, (0, 0)), "it had proven itself");
        driver.marked(Err("busy".into()));
        assert_eq!(driver.phase(), Some(Phase::RollingBack));
        driver.pass(11 * SECOND);
        assert_eq!(driver.marks.last().unwrap().1, back);
    }
    // A person decides otherwise.
    for result in [Ok(()), Err("busy".to_owned())] {
        let mut driver = being_confirmed();
        driver.event(Event::RollBack(CommandId(1)));
        assert_eq!((driver.phase(), driver.marks.len()), (Some(Phase::RollingBack), 1));
        driver.marked(result);
        driver.pass(11 * SECOND);
        assert_eq!((driver.phase(), driver.marks.len()), (Some(Phase::RollingBack), 2));
        assert_eq!(driver.marks[1].1, back);
        driver.marked(Ok(()));
        assert_eq!(driver.reboots.len(), 2);
    }
}

#[test]
fn an_ordinary_boot_is_marked_good_without_the_service() {
    let mut driver = Driver::new();
    driver.health(Verdict::Pending("network.service is activating".into()));
    assert!(driver.marks.is_empty());
    driver.health(Verdict::Good);
    assert_eq!(driver.marks[0].1, [(Mark::Good, "booted".to_owned())]);
    driver.marked(Err("busy".into()));
    driver.pass(11 * SECOND);
    driver.marked(Ok(()));
    driver.pass(3600 * SECOND);
    assert_eq!(driver.marks.len(), 2);
    let mut off = settings("boot-1");
    off.firmware.mark_good = false;
    assert!(Driver::with(off).watch.is_none(), "where the integrator does it");
    let mut no_updates = settings("boot-1");
    no_updates.firmware.supported = Err("firmware updates are switched off".into());
    let mut driver = Driver::with(no_updates);
    driver.health(Verdict::Good);
    assert_eq!(
        driver.marks[0].1,
        [(Mark::Good, "booted".to_owned())],
        "a slot has one try all the same"
    );
}

/// GRUB has used up the slot's only try, and would boot the other one.
#[test]
fn a_boot_that_is_asked_to_reboot_before_it_was_marked_good_is_marked_at_once() {
    for tail in ["reboot", "factory_reset"] {
        let mut driver = Driver::managed();
        driver.marks_at_once = false;
        driver.health(Verdict::Pending("network.service is activating".into()));
        driver.request(&format!("mgmt/initiate/device/{tail}"), "asked", "");
        if tail == "factory_reset" {
            driver.reset_surveyed(Ok(ResetReady { reports: true }));
            driver.broker_has_all();
        }
        assert_eq!(driver.marks.len(), 1, "{tail}");
        assert_eq!(driver.marks[0].1, [(Mark::Good, "booted".to_owned())]);
        assert!(driver.watch.is_none(), "{tail}: nothing more is to be found out");
        assert!(driver.reboots.is_empty(), "not before that has come to its end");
        driver.marked(Ok(()));
        assert_eq!(driver.reboots.len(), usize::from(tail == "reboot"));
        driver.pass(3600 * SECOND);
        assert_eq!(driver.marks.len(), 1, "{tail}: once is enough");
    }
}

#[test]
fn a_reboot_waits_for_the_mark_that_is_under_way_and_for_no_other() {
    let mut driver = Driver::managed();
    driver.marks_at_once = false;
    driver.health(Verdict::Good);
    assert_eq!(driver.marks.len(), 1);
    driver.ask_reboot("r1");
    assert_eq!((driver.marks.len(), driver.reboots.len()), (1, 0));
    driver.marked(Ok(()));
    driver.reboot_ends(RebootOutcome::Accepted);
    assert_eq!((driver.marks.len(), driver.reboots.len()), (1, 1));
    assert_eq!(driver.answers("r1"), [202]);
}

/// Who asks for a reboot may do so because RAUC does not work.
#[test]
fn a_reboot_comes_also_when_the_mark_does_not_stick_and_the_log_says_what_may_come_of_it() {
    let mut driver = Driver::managed();
    driver.marks_at_once = false;
    driver.ask_reboot("r1");
    driver.marked(Err("the boot loader's variables cannot be written".into()));
    assert_eq!(driver.reboots.len(), 1);
    let told = |(_, text): &(_, String)| text.contains("may start the other one: the boot loader's variables");
    assert!(driver.said.iter().any(told), "{:?}", driver.said);
    driver.pass(60 * SECOND);
    assert_eq!(driver.reboots.len(), 1, "once");
}

/// An agent that died while RAUC marked the slot has not asked logind: the next one begins with the mark.
#[test]
fn a_reboot_that_waited_for_the_mark_goes_on_after_a_restart() {
    let mut driver = Driver::managed();
    driver.marks_at_once = false;
    driver.ask_reboot("r1");
    driver.restart();
    assert_eq!((driver.marks.len(), driver.reboots.len()), (2, 0));
    driver.marked(Ok(()));
    assert_eq!(driver.reboots.len(), 1);
}

/// A slot that is not marked good because of a misspelt unit would be left at the next plain reboot, or at the trial's end.
#[test]
fn other_units_count_as_soon_as_the_configuration_is_read() {
    let units = |driver: &Driver, name: &str| {
        let mut settings = driver.agent.settings().clone();
        settings.firmware.units = vec![name.into()];
        Event::Configured(Box::new(settings))
    };
    let watched = |driver: &Driver| driver.watch.as_ref().map(|(_, health)| health.units.clone());
    for mut driver in [Driver::new(), Driver::on_trial()] {
        let before = driver.watch.as_ref().unwrap().1.failed_before.clone();
        driver.event(units(&driver, "modbus.service"));
        assert_eq!(watched(&driver), Some(vec!["modbus.service".to_owned()]));
        assert_eq!(driver.watch.as_ref().unwrap().1.failed_before, before);
        driver.health(Verdict::Pending("modbus.service is not there".into()));
        let op = driver.watch.as_ref().unwrap().0;
        driver.event(Event::Configured(Box::new(driver.agent.settings().clone())));
        assert_eq!(driver.watch.as_ref().unwrap().0, op, "nothing has changed");
        driver.event(units(&driver, "mbus.service"));
        driver.event(Event::Health {
            op,
            verdict: Verdict::Good,
        });
        driver.pass(11 * SECOND);
        assert!(driver.marks.is_empty(), "of the units before");
    }
    let mut driver = Driver::new();
    let mut settings = driver.agent.settings().clone();
    settings.firmware.mark_good = false;
    driver.event(Event::Configured(Box::new(settings)));
    assert_eq!(watched(&driver), None, "the integrator does it now");
}

/// Who gives a trial more time does so because it would end too early; the fall-back outside the agent gets to know it.
#[test]
fn another_time_for_the_trial_counts_for_the_outer_fall_back_at_once() {
    let trial = |driver: &Driver, minutes: u64| {
        let mut settings = driver.agent.settings().clone();
        settings.firmware.trial = Duration::from_secs(minutes * 60);
        Event::Configured(Box::new(settings))
    };
    let deadline = |driver: &Driver| driver.marker.as_ref().map(|marker| marker.deadline.as_secs());
    for mut driver in [Driver::installing(), Driver::on_trial()] {
        driver.event(trial(&driver, 180));
        assert_eq!(deadline(&driver), Some((180 + 5) * 60));
    }
    let mut driver = Driver::on_trial();
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.pass(11 * SECOND);
    driver.marker = None;
    driver.event(trial(&driver, 180));
    assert_eq!(deadline(&driver), None, "it is left already");
    let mut driver = Driver::managed();
    driver.event(trial(&driver, 180));
    assert_eq!(deadline(&driver), None, "no update, no trial");
}

/// What never was marked good lands in the other slot at the next plain reboot: giving up for a while is not giving up.
#[test]
fn an_ordinary_boot_whose_mark_never_sticks_is_tried_again_when_the_host_is_looked_at_anew() {
    let mut driver = Driver::new();
    driver.health(Verdict::Good);
    let mut tries = 0;
    while driver.marks.len() > tries {
        tries = driver.marks.len();
        driver.marked(Err("the boot loader's variables cannot be written".into()));
        driver.pass(11 * SECOND);
    }
    assert!((2..100).contains(&tries), "it pauses: {tries}");
    let settings = Box::new(driver.agent.settings().clone());
    driver.event(Event::Configured(settings));
    driver.health(Verdict::Good);
    assert_eq!(driver.marks.len(), tries + 1);
    driver.marked(Ok(()));
    let settings = Box::new(driver.agent.settings().clone());
    driver.event(Event::Configured(settings));
    assert!(driver.watch.is_none(), "once it is marked, nothing is left to do");
}

#[test]
fn an_agent_that_dies_while_rauc_writes_joins_it_again_or_reads_the_slots() {
    let mut driver = Driver::installing();
    driver.restart();
    driver.surveyed(Survey {
        installing: true,
        ..slots("rootfs.0")
    });
    assert_eq!(driver.rejoins, 1);
    driver.install_ends(InstallEnd::Unclear("RAUC left the bus".into()));
    driver.surveyed(slots("rootfs.0"));
    assert_eq!(driver.firmware(), (2, 5), "the image may be tried again");
    let mut done = Driver::installing();
    done.restart();
    done.surveyed(written("rootfs.0"));
    assert_eq!(done.phase(), Some(Phase::Installed));
    assert_eq!(done.reboots.len(), 1);
}

#[test]
fn an_agent_that_died_before_rauc_began_asks_it_again_and_not_without_end() {
    let mut driver = Driver::installing();
    for _ in 0..2 {
        let asked = driver.installs.len();
        driver.restart();
        driver.surveyed(slots("rootfs.0"));
        assert_eq!(driver.installs.len(), asked + 1);
        assert_eq!(driver.phase(), Some(Phase::Installing));
    }
    driver.restart();
    driver.surveyed(slots("rootfs.0"));
    assert_eq!(
        driver.firmware(),
        (2, 5),
        "an agent that dies of it does not do so for ever"
    );

    let mut seen = Driver::installing();
    seen.install_ends(InstallEnd::Unclear("RAUC died".into()));
    seen.surveyed(slots("rootfs.0"));
    assert_eq!(
        (seen.firmware(), seen.installs.len()),
        ((2, 5), 1),
        "what was seen is told"
    );
    let mut rebooted = Driver::installing();
    rebooted.host_reboots("boot-2");
    rebooted.surveyed(slots("rootfs.0"));
    rebooted.marked(Ok(()));
    assert_eq!(rebooted.firmware(), (2, 5), "another boot is another matter");
}

/// The host would reboot into the old slot, and the service would read that the new one did not start.
#[test]
fn rauc_that_dies_before_it_tells_the_boot_loader_has_not_installed() {
    let mut seen = Driver::installing();
    seen.install_ends(InstallEnd::Unclear("RAUC left the bus".into()));
    seen.surveyed(next("rootfs.0", written("rootfs.0")));
    assert_eq!((seen.phase(), seen.firmware()), (None, (2, 5)));
    assert!(seen.reboots.is_empty() && seen.marks.is_empty());
    let logs = seen.on("add/diag/log");
    let told = logs[0]["d"]["message"].as_str().unwrap();
    assert!(told.contains("before the boot loader was told"), "{told}");

    let mut unseen = Driver::installing();
    unseen.restart();
    unseen.surveyed(next("rootfs.0", written("rootfs.0")));
    assert_eq!(unseen.installs.len(), 2, "RAUC is asked again");
    unseen.install_ends(InstallEnd::Done);
    assert_eq!((unseen.phase(), unseen.reboots.len()), (Some(Phase::Installed), 1));

    // The power is cut while it writes: what RAUC 1.8 says of the slot is still what the first attempt had written.
    let mut cut = Driver::installing();
    cut.restart();
    cut.surveyed(next("rootfs.0", written("rootfs.0")));
    cut.host_reboots("boot-2");
    cut.surveyed(written("rootfs.0"));
    cut.marked(Ok(()));
    assert_eq!(cut.firmware(), (2, 5), "interrupted, and not a slot that did not start");

    let mut silent = Driver::installing();
    silent.install_ends(InstallEnd::Unclear("RAUC left the bus".into()));
    silent.surveyed(written("rootfs.0"));
    assert_eq!(
        silent.phase(),
        Some(Phase::Installed),
        "a boot loader that does not say what it boots next"
    );
}

/// Wherever the agent dies, it comes to the same end: this is the good update, with a restart after each step.
#[test]
fn a_restart_after_any_step_of_an_update_ends_in_the_same_outcome() {
    for dies_at in 0..12 {
        let mut driver = Driver::downloaded();
        let mut step = 0;
        let mut dies = |driver: &mut Driver, booted: &str, done: bool| {
            step += 1;
            if step == dies_at {
                driver.restart();
                driver.connect(true);
                driver.broker_has_all();
                if driver.on("mgmt/manage").last().is_some() {
                    driver.answer_manage(200);
                }
                if driver.on_disk().update().is_some() {
                    driver.surveyed(if done { written(booted) } else { slots(booted) });
                }
            }
        };
        driver.update("p1");
        dies(&mut driver, "rootfs.0", false);
        if dies_at == 1 {
            driver.update("p1");
        }
        driver.surveyed(slots("rootfs.0"));
        dies(&mut driver, "rootfs.0", true);
        if driver.phase() == Some(Phase::Installing) {
            driver.install_ends(InstallEnd::Done);
        }
        dies(&mut driver, "rootfs.0", true);
        driver.reboot_ends(RebootOutcome::Accepted);
        dies(&mut driver, "rootfs.0", true);
        driver.host_reboots("boot-2");
        dies(&mut driver, "rootfs.1", true);
        if driver.phase() == Some(Phase::Installed) {
            driver.surveyed(written("rootfs.1"));
        }
        dies(&mut driver, "rootfs.1", true);
        driver.connect(true);
        driver.broker_has_all();
        if driver.on("mgmt/manage").last().is_some() {
            driver.answer_manage(200);
        }
        driver.health(Verdict::Good);
        dies(&mut driver, "rootfs.1", true);
        driver.health(Verdict::Good);
        driver.pass(11 * SECOND);
        dies(&mut driver, "rootfs.1", true);
        if driver.phase().is_some() {
            driver.health(Verdict::Good);
            driver.pass(11 * SECOND);
            driver.marked(Ok(()));
        }
        dies(&mut driver, "rootfs.1", true);
        driver.answer_notifies(200);
        assert_eq!(driver.firmware(), (0, 0), "died at {dies_at}");
        assert!(driver.on_disk().exclusive.is_none(), "died at {dies_at}");
        assert!(driver.on_disk().observed[0].changes == 0, "told, died at {dies_at}");
        assert_eq!(
            driver.on_disk().observed[0].told["updateStatus"],
            0,
            "died at {dies_at}"
        );
    }
}

#[test]
fn the_fall_back_outside_the_agent_knows_of_the_slot_before_rauc_writes_it() {
    let driver = Driver::installing();
    assert_eq!(driver.marker.as_ref().unwrap().slot, "rootfs.1");
}

#[test]
fn a_marker_that_outlived_its_update_is_removed_at_the_next_start() {
    let mut driver = Driver::on_trial();
    let left = driver.marker.clone();
    driver.connect(true);
    driver.answer_manage(200);
    driver.health(Verdict::Good);
    driver.pass(11 * SECOND);
    driver.marked(Ok(()));
    driver.marker = left;
    driver.restart();
    assert!(driver.marker.is_none(), "else a slot that is marked good would be left");
}

#[test]
fn a_file_from_the_device_goes_through_the_same_checks_and_the_same_machine() {
    let mut driver = Driver::new();
    driver.event(Event::InstallFile(CommandId(1), "fw-2.raucb".into()));
    assert!(matches!(driver.replies[0].1, Reply::Begun(_)), "{:?}", driver.replies);
    assert_eq!(driver.downloads[0].1.uri, "file:fw-2.raucb");
    driver.event(Event::InstallFile(CommandId(2), "fw-3.raucb".into()));
    assert!(matches!(driver.replies[1].1, Reply::Failed(_)));
    driver.download_ends(DownloadEnd::Done);
    driver.event(Event::Disconnected);
    assert_eq!(driver.surveys.last().unwrap().1, Purpose::Install);
    driver.surveyed(slots("rootfs.0"));
    driver.install_ends(InstallEnd::Done);
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    driver.surveyed(written("rootfs.1"));
    driver.health(Verdict::Good);
    driver.pass(11 * SECOND);
    assert_eq!(
        driver.marks.len(),
        1,
        "the service had not been reached before, so it need not be now"
    );
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 0));
}

#[test]
fn a_file_that_is_refused_is_told_and_one_that_a_restart_interrupts_goes_on() {
    let trouble = |driver: &Driver| driver.agent.status().firmware.trouble.unwrap_or_default();
    let mut driver = Driver::new();
    driver.event(Event::InstallFile(CommandId(1), "fw-2.raucb".into()));
    driver.download_ends(failed(UpdateStatus::VerificationFailed));
    assert_eq!(driver.firmware(), (0, 4));
    assert!(trouble(&driver).starts_with("the firmware could not be taken: "));
    driver.event(Event::InstallFile(CommandId(2), "fw-2.raucb".into()));
    assert_eq!(trouble(&driver), "");
    driver.restart();
    assert_eq!(driver.downloads.len(), 3);
    driver.download_ends(DownloadEnd::Done);
    driver.restart();
    let problems = vec!["modbus.service is a oneshot".to_owned()];
    driver.surveyed(Survey {
        problems,
        ..slots("rootfs.0")
    });
    assert_eq!(driver.firmware(), (2, 0));
    assert_eq!(
        trouble(&driver),
        "a firmware update was asked for and refused: modbus.service is a oneshot"
    );
    let surveys = driver.surveys.len();
    driver.restart();
    assert_eq!(driver.surveys.len(), surveys, "a refusal is an end");
}

#[test]
fn a_technician_may_end_a_trial_either_way() {
    let mut driver = Driver::on_trial();
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.event(Event::ConfirmTrial(CommandId(1)));
    assert_eq!(driver.marks[0].1, confirmed());
    driver.pass(20 * SECOND);
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 0));
    let mut driver = Driver::on_trial();
    driver.event(Event::RollBack(CommandId(1)));
    assert_eq!(driver.phase(), Some(Phase::RollingBack));
    driver.marked(Ok(()));
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-3");
    driver.surveyed(written("rootfs.0"));
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 5));
    for command in [Event::ConfirmTrial(CommandId(2)), Event::RollBack(CommandId(3))] {
        driver.event(command);
        assert!(matches!(driver.replies.last().unwrap().1, Reply::Failed(_)));
    }
}

/// The technician on the phone reads it out.
#[test]
fn a_rollback_that_is_refused_says_what_is_going_on() {
    let refused = |driver: &mut Driver| {
        driver.event(Event::RollBack(CommandId(9)));
        match driver.replies.last() {
            Some((CommandId(9), Reply::Failed(reason))) => reason.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&mut Driver::new()).contains("no firmware is on trial"));
    assert!(refused(&mut Driver::installing()).contains("wait until it is written"));
    assert!(refused(&mut Driver::installed()).contains("about to reboot already"));
    let mut driver = Driver::installed();
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    assert!(refused(&mut driver).contains("outcome of the update is being established"));
    driver.surveyed(written("rootfs.0"));
    assert!(refused(&mut driver).contains("outcome of the update is being established"));
    assert_eq!(driver.agent.status().busy, "firmware update, outcome to come");
    assert_eq!(driver.agent.status().firmware.waiting_for, None);
    let mut driver = Driver::on_trial();
    driver.event(Event::RollBack(CommandId(1)));
    assert!(refused(&mut driver).contains("on its way back already"));
    // And of a file: nothing is downloaded while the service's request is looked at.
    let mut driver = Driver::downloaded();
    driver.update("p1");
    driver.event(Event::InstallFile(CommandId(2), "fw-3.raucb".into()));
    let (_, reply) = driver.replies.last().unwrap();
    assert!(matches!(reply, Reply::Failed(reason) if reason.contains("another firmware request")));
}

#[test]
fn what_is_installed_and_not_booted_can_be_called_off_also_across_a_restart() {
    for restarts in [false, true] {
        let mut driver = Driver::installing();
        let mut settings = driver.agent.settings().clone();
        settings.firmware.reboot = WhenToReboot::Manual;
        driver.event(Event::Configured(Box::new(settings)));
        driver.install_ends(InstallEnd::Done);
        driver.event(Event::RollBack(CommandId(1)));
        if restarts {
            driver.restart();
            driver.surveyed(written("rootfs.0"));
        }
        assert_eq!(
            driver.marks.last().unwrap().1,
            [
                (Mark::Active, "rootfs.0".to_owned()),
                (Mark::Bad, "rootfs.1".to_owned())
            ]
        );
        driver.marked(Ok(()));
        assert_eq!(driver.firmware(), (2, 5), "the image may be installed another time");
        assert!(driver.reboots.is_empty());
        assert!(driver.marker.is_none());
    }
}

/// Told and then forgotten, the failed slot would be booted again, and nobody would watch it any more.
#[test]
fn a_crash_after_a_fall_back_and_before_its_marks_does_not_forget_them() {
    let mut driver = Driver::installed();
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    driver.surveyed(written("rootfs.0"));
    driver.restart();
    driver.surveyed(written("rootfs.0"));
    assert_eq!(driver.marks.len(), 2);
    driver.marked(Err("busy".into()));
    driver.pass(11 * SECOND);
    assert_eq!(driver.marks.len(), 3);
    assert!(driver.phase().is_some() && driver.marker.is_some());
    driver.marked(Ok(()));
    assert_eq!((driver.phase(), driver.firmware()), (None, (0, 5)));
}

#[test]
fn marks_that_never_stick_do_not_keep_the_outcome_for_ever() {
    let mut driver = Driver::installed();
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    driver.surveyed(written("rootfs.0"));
    for _ in 0..30 {
        driver.marked(Err("the boot loader's variables cannot be written".into()));
        driver.pass(11 * SECOND);
    }
    assert_eq!((driver.phase(), driver.firmware()), (None, (0, 5)));
}

#[test]
fn a_system_beside_the_slots_takes_the_new_one_back() {
    let mut driver = Driver::installed();
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.host_reboots("boot-2");
    driver.surveyed(written("rescue.0"));
    assert_eq!(
        driver.marks[0].1,
        [
            (Mark::Active, "rootfs.0".to_owned()),
            (Mark::Bad, "rootfs.1".to_owned())
        ]
    );
    driver.marked(Ok(()));
    assert_eq!(driver.firmware(), (0, 5));
}

#[test]
fn an_image_stays_until_the_disk_has_that_it_is_not_needed() {
    let mut driver = Driver::installing();
    driver.disk_full = true;
    let before = driver.discarded;
    driver.install_ends(InstallEnd::Refused {
        status: UpdateStatus::UnsupportedImage,
        message: "another board".into(),
        again: false,
    });
    assert_eq!(driver.discarded, before, "the next run would take it for whole");
    driver.disk_full = false;
    driver.pass(6 * SECOND);
    assert_eq!((driver.discarded, driver.firmware()), (before + 1, (0, 5)));
}

/// For the service `{"state": 0}` alone is a success.
#[test]
fn a_second_failure_after_one_that_could_be_tried_again_says_so_whole() {
    let mut driver = Driver::installing();
    driver.answer_notifies(200);
    driver.install_ends(InstallEnd::Refused {
        status: UpdateStatus::UnsupportedImage,
        message: "interrupted".into(),
        again: true,
    });
    driver.answer_notifies(200);
    driver.event(Event::Disconnected);
    driver.update("p2");
    driver.surveyed(slots("rootfs.0"));
    driver.install_ends(InstallEnd::Refused {
        status: UpdateStatus::UnsupportedImage,
        message: "another board".into(),
        again: false,
    });
    driver.published.clear();
    driver.connect(true);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 0, "updateStatus": 5})]);
}

#[test]
fn rauc_is_not_asked_again_from_the_slot_that_it_was_to_write() {
    // The power was cut before RAUC was asked, and the slot that ran had not been marked good.
    let mut driver = Driver::installing();
    driver.host_reboots("boot-2");
    driver.surveyed(slots("rootfs.1"));
    assert_eq!(
        driver.installs.len(),
        1,
        "it would write the slot that is to be left alone"
    );
    assert_eq!((driver.phase(), driver.firmware()), (None, (2, 5)));
}
