//! The power is cut: in the middle of the writing, between the installation and the reboot, and on trial. Here a cut ends
//! every process; what it does to the page cache, only a machine shows.

use serde_json::Value;

use crate::push::{site, slow_image};

#[test]
fn fwd_07_fwu_05_wherever_the_power_is_cut_the_update_comes_to_one_truthful_end() {
    let site = site(
        "bookworm",
        "reboot = \"manual\"\n[firmware.trial]\nunits = [\"held.service\"]\n",
    );
    let wire = site.wire();
    site.hold_trial();
    site.let_try();

    // half of the slot is written
    site.hold_writing();
    let push = site.push(slow_image("bookworm", "2"), "2");
    site.wait_writing();
    site.gateway.kill();
    site.gateway.wait_boot(2);
    push.ends_badly("writing slot rootfs.1 was interrupted");
    assert_eq!(site.booted(), ("A".into(), "1".into()));
    assert_eq!(site.firmware()["state"], 2, "it is still there to be tried again");

    // it is written, and the host does not reboot by itself
    site.let_write();
    let (rc, message) = wire.ask(&site, "mgmt/initiate/firmware/update", Value::Null);
    assert_eq!(rc, 202, "{message}");
    site.wait_waiting_for("somebody to reboot");
    site.gateway.kill();
    site.gateway.wait_boot(3);
    site.gateway.wait_log("has proven itself");
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    site.gateway.wait("the new version is told", || {
        site.row()["deviceInfo"]["fwVersion"] == "2"
    });

    // on trial: the boot loader gives a slot one try
    let push = site.push(slow_image("bookworm", "3"), "3");
    site.wait_waiting_for("somebody to reboot");
    site.gateway.sh("touch /data/hold-trial; systemctl reboot");
    site.wait_trial("rootfs.0");
    site.gateway.sh("rm /data/hold-trial");
    site.gateway.kill();
    push.ends_badly("the trial of slot rootfs.0 was cut short");
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    site.gateway.wait("the slots are marked", || {
        site.boot_loader("B") == ("1".into(), "0".into()) && site.boot_loader("A").0 == "0"
    });
    assert_eq!(site.gateway.boot_ids().len(), 5);
    assert_eq!(site.gateway.logged("has proven itself"), 1);
}
