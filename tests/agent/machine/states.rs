//! The states of the machine, each with the way there.

use std::time::Duration;

use iotdm::agent::firmware::WhenToReboot;
use iotdm::agent::{CommandId, DownloadEnd, Event, InstallEnd, RebootOutcome, ResetReady, Survey, Verdict};
use iotdm::protocol::firmware::UpdateStatus;

use super::events::{configured, without_rauc};
use crate::driver::Driver;
use crate::firmware::{slots, written};

/// A state, how it comes about, and what RAUC says in it.
pub(super) type State = (&'static str, fn() -> Driver, fn() -> Survey);

pub(super) fn states() -> Vec<State> {
    let old: fn() -> Survey = || slots("rootfs.0");
    let unbooted: fn() -> Survey = || written("rootfs.0");
    let new: fn() -> Survey = || written("rootfs.1");
    vec![
        ("idle, an image is described", Driver::described, old),
        (
            "a download was asked for, the host is looked at",
            looked_at_for_download,
            old,
        ),
        ("downloading", downloading, old),
        ("downloaded", Driver::downloaded, old),
        (
            "an update was asked for, the host is looked at",
            looked_at_for_update,
            old,
        ),
        ("a file of a technician is checked", handed_over, old),
        (
            "a file of a technician is there, the host is looked at",
            looked_at_for_a_file,
            old,
        ),
        ("installing", || told(Driver::installing()), old),
        (
            "installing, an end that nobody saw: the slots are looked at",
            unclear,
            unbooted,
        ),
        (
            "installing, RAUC has failed: the slots are looked at",
            rauc_has_failed,
            old,
        ),
        ("installed, waits for somebody to reboot", waiting, unbooted),
        (
            "installed, the reboot is asked for",
            || told(Driver::installed()),
            unbooted,
        ),
        ("installed, the reboot is accepted", going_down, unbooted),
        ("installed and called off: the slots are marked", called_off, unbooted),
        ("rebooted: the slots are looked at", rebooted, new),
        ("on trial", trial, new),
        ("on trial, being marked good", being_confirmed, new),
        ("rolling back: the slots are marked", rolling_back, new),
        ("rolling back, the reboot is asked for", leaving, new),
        ("fallen back: the slots are marked", fallen_back, unbooted),
        ("failed, and the image may be tried again", failed, old),
        ("downloaded, another reboot is asked for", reboot_is_asked, old),
        ("downloaded, a factory reset is accepted", reset_is_accepted, old),
        ("downloaded, out of management", unmanaged, old),
        ("downloaded, firmware is switched off", switched_off, old),
    ]
}

/// The service has been told of everything.
fn told(mut driver: Driver) -> Driver {
    driver.answer_notifies(200);
    driver.published.clear();
    driver
}

/// The same after a boot.
fn connected(mut driver: Driver) -> Driver {
    driver.connect(true);
    driver.answer_manage(200);
    told(driver)
}

fn looked_at_for_download() -> Driver {
    let mut driver = Driver::described();
    driver.download("d1");
    driver
}

fn downloading() -> Driver {
    let mut driver = looked_at_for_download();
    driver.surveyed(Survey::default());
    told(driver)
}

fn looked_at_for_update() -> Driver {
    let mut driver = Driver::downloaded();
    driver.update("p1");
    driver
}

fn handed_over() -> Driver {
    let mut driver = Driver::described();
    driver.event(Event::InstallFile(CommandId(1), "fw-2.raucb".into()));
    told(driver)
}

fn looked_at_for_a_file() -> Driver {
    let mut driver = handed_over();
    driver.download_ends(DownloadEnd::Done);
    told(driver)
}

fn unclear() -> Driver {
    let mut driver = Driver::installing();
    driver.install_ends(InstallEnd::Unclear("RAUC left the bus".into()));
    told(driver)
}

fn rauc_has_failed() -> Driver {
    let mut driver = Driver::installing();
    driver.install_ends(InstallEnd::Failed {
        status: UpdateStatus::OutOfMemory,
        message: "the slot is too small".into(),
        again: true,
    });
    told(driver)
}

fn waiting() -> Driver {
    let mut driver = Driver::installing();
    let mut settings = driver.agent.settings().clone();
    settings.firmware.reboot = WhenToReboot::Manual;
    driver.event(Event::Configured(Box::new(settings)));
    driver.install_ends(InstallEnd::Done);
    told(driver)
}

fn going_down() -> Driver {
    let mut driver = told(Driver::installed());
    driver.reboot_ends(RebootOutcome::Accepted);
    driver
}

fn called_off() -> Driver {
    let mut driver = waiting();
    driver.event(Event::RollBack(CommandId(1)));
    driver
}

fn rebooted() -> Driver {
    let mut driver = going_down();
    driver.host_reboots("boot-2");
    connected(driver)
}

fn trial() -> Driver {
    connected(Driver::on_trial())
}

fn being_confirmed() -> Driver {
    let mut driver = trial();
    driver.health(Verdict::Good);
    driver.pass(Duration::from_secs(11));
    assert_eq!(driver.marks.len(), 1);
    driver
}

fn rolling_back() -> Driver {
    let mut driver = trial();
    driver.health(Verdict::Bad("modbus.service has failed".into()));
    driver.pass(Duration::from_secs(11));
    told(driver)
}

fn leaving() -> Driver {
    let mut driver = rolling_back();
    driver.marked(Ok(()));
    driver
}

fn fallen_back() -> Driver {
    let mut driver = going_down();
    driver.host_reboots("boot-2");
    driver.surveyed(written("rootfs.0"));
    connected(driver)
}

fn failed() -> Driver {
    let mut driver = unclear();
    driver.surveyed(slots("rootfs.0"));
    told(driver)
}

fn reboot_is_asked() -> Driver {
    let mut driver = Driver::downloaded();
    driver.ask_reboot("r1");
    driver
}

fn reset_is_accepted() -> Driver {
    let mut driver = Driver::downloaded();
    driver.ask_reset("f1");
    driver.reset_surveyed(Ok(ResetReady { reports: true }));
    driver.published.clear();
    driver
}

fn unmanaged() -> Driver {
    let mut driver = Driver::downloaded();
    driver.event(Event::Unmanage(CommandId(1)));
    let req_id = driver.on("mgmt/unmanage")[0]["reqId"].as_str().unwrap().to_owned();
    driver.receive("iotdm-1/response", &format!(r#"{{"rc":200,"reqId":"{req_id}"}}"#));
    told(driver)
}

fn switched_off() -> Driver {
    let mut driver = Driver::downloaded();
    driver.event(configured(without_rauc(&driver)));
    driver.answer_manage(200);
    told(driver)
}
