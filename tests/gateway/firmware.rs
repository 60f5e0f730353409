//! Firmware over the air: pushed by the operator, fetched over https, written by RAUC, on trial, and one truthful outcome.
//! Debian 12's RAUC 1.8 and Debian 13's 1.13. What can go wrong has a file for each kind in this folder.

mod away;
mod fetch;
mod kills;
mod newer;
mod power;
mod refused;
mod turn;

use serde_json::Value;

use crate::bundle::Bundle;
use crate::harness::SUITES;
use crate::push::{QUICK, image, site};

#[test]
fn fwu_03_an_update_runs_from_the_other_slot_is_marked_good_and_the_next_goes_back_again() {
    for suite in SUITES {
        let site = site(suite, "");
        assert_eq!(site.firmware()["not_supported"], Value::Null, "{suite}");
        // else so many reboots in a row would be taken for a loop
        site.gateway.uptime(700);
        site.push_well(image(suite, "2"), "2");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("B", "2"),
            "{suite}"
        );
        assert_eq!(site.boot_loader("B"), ("1".into(), "0".into()), "{suite}: read back");
        let row = site.row();
        assert_eq!(row["deviceInfo"]["fwVersion"], "2", "{suite}: {row}");
        assert!(
            !site
                .gateway
                .exec(&["test", "-e", "/var/lib/iotdm-agent/trial"])
                .status
                .success()
        );
        let left = site.gateway.sh("ls /var/lib/iotdm-agent/firmware");
        assert_eq!(left, "", "{suite}: the image is not kept");
        // Ordinary boots stay where they are: GRUB's scheme would go back after one that nobody marked.
        for _ in 0..4 {
            let (ok, row) = site.reboot();
            assert!(ok, "{suite}: {row}");
            assert_eq!(site.gateway.slot(), "B", "{suite}");
            site.gateway
                .wait("it is marked", || site.boot_loader("B") == ("1".into(), "0".into()));
        }
        site.push_well(image(suite, "3"), "3");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "3"),
            "{suite}"
        );
    }
}

#[test]
fn fwu_05_a_slot_that_does_not_start_is_told_from_the_old_one_which_stays() {
    for suite in SUITES {
        let site = site(suite, "");
        site.gateway.uptime(700);
        site.push_badly(Bundle::small(suite, "2"), "2", "did not start");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "1"),
            "{suite}"
        );
        site.gateway.wait("the slots are marked", || {
            site.boot_loader("A") == ("1".into(), "0".into()) && site.boot_loader("B").0 == "0"
        });
        for _ in 0..4 {
            let (ok, row) = site.reboot();
            assert!(ok, "{suite}: {row}");
            assert_eq!(site.gateway.slot(), "A", "{suite}: after a fall-back, too");
        }
    }
}

#[test]
fn a_unit_that_fails_in_the_new_slot_leads_back_with_the_reason() {
    for suite in SUITES {
        let site = site(suite, QUICK);
        let unit = "printf '[Service]\\nExecStart=/bin/false\\n[Install]\\nWantedBy=multi-user.target\\n' \
                    >/etc/systemd/system/modbus.service; systemctl enable modbus.service";
        site.push_badly(image(suite, "2").script(unit), "2", "modbus.service has failed");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "1"),
            "{suite}"
        );
        let row = site.row();
        assert_eq!(row["deviceInfo"]["fwVersion"], "1", "{suite}: {row}");
    }
}

#[test]
fn a_trial_is_not_over_before_the_boot_is_and_what_fails_last_leads_back_too() {
    let site = site("trixie", QUICK);
    let unit = "printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"until [ -e /data/fail ]; do sleep 0.1; done; exit 1\"\\n\\
                [Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/last.service; systemctl enable last.service";
    let push = site.push(image("trixie", "2").script(unit), "2");
    site.wait_waiting_for("still starting");
    site.gateway.sh("touch /data/fail");
    push.ends_badly("last.service has failed");
    assert_eq!(site.gateway.slot(), "A");
}

#[test]
fn fwu_04_what_is_not_for_this_gateway_is_refused_with_the_reason_and_the_old_slot_stays() {
    for suite in SUITES {
        let site = site(suite, "max_size = \"64MiB\"\n");
        let wire = site.wire();
        let small = || Bundle::small(suite, "2");
        // RAUC 1.8 only notices when it is there
        let too_large = if suite == "bookworm" {
            "No space left on device"
        } else {
            "too small"
        };
        for (bundle, reason) in [
            (small().with(&["--size", "320M"]), too_large),
            (small().with(&["--unsigned"]), "no RAUC bundle"),
            (small().with(&["--key", "foreign"]), "signature"),
            (
                small().with(&["--compatible", "other-gateway"]),
                "made for \"other-gateway\"",
            ),
        ] {
            site.push_badly(bundle, "2", reason);
            assert_eq!(site.gateway.bootloader("ORDER"), "A B", "{suite}");
        }
        assert_eq!(wire.ends(), [2, 5, 4, 5], "{suite}");
        assert_eq!(site.gateway.boot_ids().len(), 1, "{suite}: and nothing rebooted");
    }
}

#[test]
fn a_slot_without_a_working_agent_is_left_by_the_fall_back_outside_of_it() {
    for suite in SUITES {
        let site = site(suite, QUICK);
        // so that seven minutes need not be waited for
        site.gateway.uptime(500);
        let broken = image(suite, "2").script("rm /usr/bin/iotdm-agent");
        site.push_badly(broken, "2", "was not found good");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "1"),
            "{suite}"
        );
        site.gateway.wait("the slots are marked", || {
            site.boot_loader("A") == ("1".into(), "0".into()) && site.boot_loader("B").0 == "0"
        });
    }
}

#[test]
fn fwu_07_a_technician_updates_from_a_stick_at_a_site_without_a_network_and_may_go_back() {
    let site = site("trixie", "reboot = \"manual\"\n");
    let gateway = &site.gateway;
    gateway.wait("the slot is marked", || {
        site.boot_loader("A") == ("1".into(), "0".into())
    });
    // In the boot that installs, the service was never reached.
    gateway.cut();
    gateway.reboot();
    gateway.sh("mkdir -p -m 700 /data/stick");
    let image = image("trixie", "2").build();
    gateway.put(&image, "/data/stick/fw-2.raucb");
    let install = || gateway.sh("iotdm-agent firmware install /data/stick/fw-2.raucb");
    let is = |words: &str| gateway.sh("iotdm-agent firmware status").contains(words);
    assert!(install().contains("checked and installed"));
    gateway.wait("it is installed", || is("somebody to reboot the host"));
    assert_eq!(gateway.bootloader("ORDER"), "B A");

    gateway.sh("iotdm-agent firmware rollback");
    gateway.wait("it is called off", || gateway.bootloader("ORDER") == "A B");
    assert!(!gateway.exec(&["iotdm-agent", "firmware", "confirm"]).status.success());

    install();
    gateway.wait("it is installed again", || is("somebody to reboot the host"));
    gateway.reboot();
    assert_eq!(gateway.slot(), "B");
    gateway.wait("it has proven itself", || is("nothing is under way"));
    assert_eq!(site.boot_loader("B"), ("1".into(), "0".into()));

    gateway.sh("echo nonsense >/data/stick/fw-2.raucb");
    install();
    gateway.wait("it is refused", || is("unsupported image"));
    gateway.mend();
    gateway.wait("the service hears of it", || {
        site.row()["deviceInfo"]["fwVersion"] == "2"
    });
}
