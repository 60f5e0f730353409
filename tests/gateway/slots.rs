//! The slots of the virtual gateway, with RAUC's own command line alone: what every test of an update builds on. Debian
//! 12's RAUC 1.8 and Debian 13's 1.13, and the scheme of RAUC's GRUB: one try for each boot, used up unless marked good.

use crate::bundle::Bundle;
use crate::harness::{Gateway, SUITES, package};

/// Installs a bundle, which must succeed.
fn install(gateway: &Gateway, bundle: Bundle) {
    gateway.put(&bundle.build(), "/data/update.raucb");
    gateway.sh("rauc install /data/update.raucb 2>&1");
}

fn version(gateway: &Gateway) -> String {
    gateway.sh(". /etc/os-release; echo $IMAGE_VERSION")
}

/// The boot status of rootfs.0 and rootfs.1 as RAUC sees it.
fn boot_status(gateway: &Gateway) -> [String; 2] {
    let text = gateway.sh("rauc status --output-format=json 2>/dev/null");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    ["rootfs.0", "rootfs.1"].map(|name| {
        let mut slots = status["slots"].as_array().unwrap().iter();
        let slot = slots.find_map(|slot| slot.get(name)).unwrap();
        slot["boot_status"].as_str().unwrap().to_owned()
    })
}

#[test]
fn an_update_is_the_running_root_after_a_reboot_and_what_is_on_data_stays() {
    for suite in SUITES {
        let gateway = Gateway::boot_slots(suite);
        assert_eq!(
            (gateway.slot().as_str(), version(&gateway).as_str()),
            ("A", "1"),
            "{suite}"
        );
        let machine = gateway.sh("cat /etc/machine-id");
        let owner = gateway.sh("stat -c %u:%g /etc/iotdm-agent/config.toml /var/lib/iotdm-agent");
        gateway.sh("rauc status mark-good; echo '# mine' >>/etc/iotdm-agent/config.toml; logger -t trial in version 1");

        let script = "echo '[Service]' >/etc/systemd/system/trial.service";
        install(&gateway, Bundle::new(suite, "2").deb(&package()).script(script));
        assert_eq!(
            gateway.bootloader("ORDER"),
            "B A",
            "{suite}: what is installed is booted next"
        );
        gateway.reboot();
        assert_eq!(
            (gateway.slot().as_str(), version(&gateway).as_str()),
            ("B", "2"),
            "{suite}"
        );
        assert_eq!(gateway.sh("cat /etc/systemd/system/trial.service"), "[Service]");
        assert_eq!(
            gateway.sh("systemctl is-active iotdm-agent; cat /etc/machine-id"),
            format!("active\n{machine}")
        );
        assert_eq!(
            gateway.sh("stat -c %u:%g /etc/iotdm-agent/config.toml /var/lib/iotdm-agent"),
            owner,
            "{suite}: the agent's user has the same number in both slots"
        );
        assert_eq!(gateway.sh("tail -n 1 /etc/iotdm-agent/config.toml"), "# mine");
        assert_eq!(
            gateway.journal(&["-t", "trial"]).len(),
            1,
            "{suite}: one journal for both slots"
        );

        gateway.sh("rauc status mark-good");
        assert_eq!(boot_status(&gateway), ["good", "good"], "{suite}");
        gateway.reboot();
        assert_eq!(gateway.slot(), "B", "{suite}: marked good, it is booted again");
    }
}

#[test]
fn a_slot_that_nobody_marks_good_is_booted_once() {
    for suite in SUITES {
        let gateway = Gateway::boot_slots(suite);
        gateway.sh("rauc status mark-good");
        install(&gateway, Bundle::new(suite, "2"));
        gateway.reboot();
        assert_eq!(
            (gateway.slot().as_str(), gateway.bootloader("B_TRY").as_str()),
            ("B", "1"),
            "{suite}"
        );
        gateway.reboot();
        assert_eq!(gateway.slot(), "A", "{suite}: its one try is used up");
        assert_eq!(
            boot_status(&gateway),
            ["bad", "bad"],
            "{suite}: nor has anybody marked this one"
        );
    }
}

#[test]
fn after_a_fall_back_both_slots_are_bad_until_somebody_marks_them() {
    for suite in SUITES {
        let gateway = Gateway::boot_slots(suite);
        gateway.sh("rauc status mark-good");
        install(&gateway, Bundle::small(suite, "2"));
        gateway.reboot();
        assert_eq!(
            (gateway.slot().as_str(), version(&gateway).as_str()),
            ("A", "1"),
            "{suite}"
        );
        assert_eq!(
            gateway.boot_ids().len(),
            2,
            "{suite}: of the other slot no boot was seen"
        );
        assert_eq!(boot_status(&gateway), ["bad", "bad"], "{suite}");
        // Now every try is used up: the next boot gives them back, tries the broken slot first, and falls back again.
        gateway.reboot();
        assert_eq!(gateway.slot(), "A", "{suite}");

        gateway.sh("rauc status mark-good; rauc status mark-bad other");
        assert_eq!(boot_status(&gateway), ["good", "bad"], "{suite}");
        assert_eq!(
            (gateway.bootloader("A_OK"), gateway.bootloader("B_OK")),
            ("1".into(), "0".into())
        );
        gateway.reboot();
        assert_eq!(gateway.slot(), "A", "{suite}");
        assert_eq!(gateway.bootloader("B_TRY"), "0", "{suite}: the bad one was not tried");
    }
}

#[test]
fn a_power_cut_in_the_middle_of_an_install_leaves_the_running_slot_alone() {
    for suite in SUITES {
        let gateway = Gateway::boot_slots(suite);
        gateway.sh("rauc status mark-good");
        let half = "dd if=\"$RAUC_IMAGE_NAME\" of=\"$RAUC_SLOT_DEVICE\" bs=1M count=20 conv=fsync && \
                    touch /data/half && exec sleep infinity";
        let bundle = Bundle::new(suite, "2").hook(&format!("#!/bin/sh\n{half}\n")).build();
        gateway.put(&bundle, "/data/update.raucb");
        gateway.sh("systemd-run --unit=install rauc install /data/update.raucb");
        gateway.wait("half of the slot is written", || {
            gateway.exec(&["test", "-e", "/data/half"]).status.success()
        });
        gateway.kill();
        gateway.wait_boot(2);
        assert_eq!(
            (gateway.slot().as_str(), version(&gateway).as_str()),
            ("A", "1"),
            "{suite}"
        );
        assert_eq!(gateway.bootloader("ORDER"), "A B", "{suite}");
        assert_eq!(gateway.bootloader("B_OK"), "0", "{suite}: half of a slot is not booted");

        // and the next attempt starts anew
        gateway.sh("rauc status mark-good");
        install(&gateway, Bundle::new(suite, "2"));
        gateway.reboot();
        assert_eq!(
            (gateway.slot().as_str(), version(&gateway).as_str()),
            ("B", "2"),
            "{suite}"
        );
    }
}

#[test]
fn a_bundle_that_is_not_for_this_gateway_is_refused_and_nothing_changes() {
    for suite in SUITES {
        let gateway = Gateway::boot_slots(suite);
        gateway.sh("rauc status mark-good");
        // RAUC 1.8 only notices when it is there
        let too_large = if suite == "bookworm" {
            "No space left on device"
        } else {
            "too small"
        };
        let small = || Bundle::small(suite, "2");
        for (bundle, reason) in [
            (small().with(&["--unsigned"]), "ignature"),
            (
                small().with(&["--key", "foreign"]),
                "unable to get local issuer certificate",
            ),
            (
                small().with(&["--compatible", "other-gateway"]),
                "Expected 'virtual-gateway' but bundle manifest has 'other-gateway'",
            ),
            (small().with(&["--size", "320M"]), too_large),
        ] {
            gateway.put(&bundle.build(), "/data/update.raucb");
            let output = gateway.exec(&["sh", "-c", "rauc install /data/update.raucb 2>&1"]);
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success(), "{suite}: {told}");
            assert!(told.contains(reason), "{suite}: '{reason}' is missing in:\n{told}");
            assert_eq!(gateway.bootloader("ORDER"), "A B", "{suite}");
        }
        gateway.reboot();
        assert_eq!(
            (gateway.slot().as_str(), version(&gateway).as_str()),
            ("A", "1"),
            "{suite}"
        );
    }
}
