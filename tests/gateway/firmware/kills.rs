//! Processes that die in the middle of an update: the agent at every step that it has on the disk, and RAUC.

use serde_json::Value;

use crate::harness::SUITES;
use crate::push::{LONG, site, slow_image};

#[test]
fn an_agent_that_is_killed_at_every_step_of_an_update_brings_it_to_one_good_end() {
    for suite in SUITES {
        let config = "max_rate = \"8MiB\"\nreboot = \"manual\"\n[firmware.trial]\nunits = [\"held.service\"]\n";
        let site = site(suite, config);
        let wire = site.wire();
        site.hold_writing();
        site.hold_trial();
        let push = site.push(slow_image(suite, "2"), "2");

        site.gateway.wait_long(LONG, "some of it is downloaded", || {
            let summary = site.status()["summary"].to_string();
            summary.contains("downloading firmware, ") && !summary.contains(" 0 %")
        });
        site.kill_agent();
        let downloaded = "the firmware is there, and RAUC accepts it";
        site.gateway
            .wait_long(LONG, "it is downloaded", || site.gateway.logged(downloaded) > 0);
        site.kill_agent();
        site.wait_writing();
        site.kill_agent();
        site.gateway
            .wait("it is managed again", || site.status()["agent"]["managed"] == true);
        let supports = site.row()["mgmt"]["supports"].clone();
        assert_eq!(supports["firmwareActions"], true, "{suite}: it can, it is busy");
        site.let_write();
        site.wait_waiting_for("somebody to reboot");
        site.kill_agent();
        site.wait_waiting_for("somebody to reboot");
        assert_eq!((site.locks(), site.gateway.boot_ids().len()), (0, 1), "{suite}");
        let (ok, row) = site.reboot();
        assert!(ok, "{suite}: a reboot that the service asks for is the update's: {row}");
        site.wait_trial("rootfs.1");
        site.kill_agent();
        site.wait_waiting_for("held.service is activating");
        site.let_try();
        push.ends_well();

        assert_eq!(site.booted(), ("B".into(), "2".into()), "{suite}");
        assert_eq!(site.boot_loader("B"), ("1".into(), "0".into()), "{suite}");
        assert_eq!(site.gateway.boot_ids().len(), 2, "{suite}");
        assert_eq!(site.gateway.logged("has proven itself"), 1, "{suite}");
        assert_eq!(wire.ends(), [0], "{suite}: one end is told");
    }
}

#[test]
fn rauc_that_is_killed_in_the_middle_is_told_harms_nothing_and_the_next_update_succeeds() {
    for suite in SUITES {
        let site = site(suite, "");
        let wire = site.wire();
        site.hold_writing();
        let push = site.push(slow_image(suite, "2"), "2");
        site.wait_writing();
        assert_eq!(site.locks(), 1, "{suite}");
        site.gateway.sh("kill -9 $(systemctl show -P MainPID rauc)");
        push.ends_badly("writing slot rootfs.1 was interrupted: RAUC died");
        assert_eq!(wire.ends(), [5], "{suite}: one end is told");
        let firmware = site.firmware();
        assert_eq!(
            (&firmware["state"], &firmware["update_status"], &firmware["slot"]),
            (&2.into(), &5.into(), &Value::Null),
            "{suite}: {firmware}"
        );
        site.gateway.wait("the lock is gone", || site.locks() == 0);
        assert_eq!(site.booted(), ("A".into(), "1".into()), "{suite}");
        assert_eq!(site.gateway.bootloader("ORDER"), "A B", "{suite}");
        assert_eq!(site.boot_loader("B").0, "0", "{suite}: half of a slot is not booted");

        site.let_write();
        let (rc, message) = wire.ask(&site, "mgmt/initiate/firmware/update", Value::Null);
        assert_eq!(rc, 202, "{suite}: {message}");
        site.gateway.wait_long(LONG, "the slot has proven itself", || {
            site.gateway.logged("has proven itself") > 0
        });
        assert_eq!(site.booted(), ("B".into(), "2".into()), "{suite}");
        assert_eq!(site.row()["deviceInfo"]["fwVersion"], "2", "{suite}");
        assert_eq!(site.gateway.boot_ids().len(), 2, "{suite}");
    }
}

/// RAUC stands still, so that the old slot cannot be made the next one before the cut.
#[test]
fn a_way_back_goes_on_when_it_is_cut_before_the_boot_loader_knows_of_it() {
    for (suite, power) in [("bookworm", false), ("trixie", true)] {
        let site = site(suite, "[firmware.trial]\nunits = [\"held.service\"]\n");
        let wire = site.wire();
        site.hold_trial();
        let push = site.push(slow_image(suite, "2"), "2");
        site.wait_trial("rootfs.1");
        site.gateway
            .sh("systemctl kill -s STOP rauc; iotdm-agent firmware rollback");
        site.gateway.wait("it is on its way back", || {
            site.firmware()["phase"] == "firmware rolling back"
        });
        site.let_try();
        match power {
            true => site.gateway.kill(),
            false => drop(
                site.gateway
                    .sh("systemctl kill -s KILL iotdm-agent; systemctl kill -s CONT rauc"),
            ),
        }
        push.ends_badly("somebody on the device did not want it");
        assert_eq!(site.booted(), ("A".into(), "1".into()), "{suite}");
        site.gateway.wait("the slots are marked", || {
            site.boot_loader("A") == ("1".into(), "0".into()) && site.boot_loader("B").0 == "0"
        });
        assert_eq!(site.gateway.boot_ids().len(), 3, "{suite}");
        assert_eq!(wire.ends(), [5], "{suite}: one end is told");
    }
}
