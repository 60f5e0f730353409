//! Updates and reboots take turns: what asks for a reboot while a slot is written, and who holds the update's reboot up.

use serde_json::Value;

use crate::harness::SUITES;
use crate::push::{site, slow_image};

#[test]
fn fwu_06_nobody_reboots_politely_while_a_slot_is_written_and_a_held_reboot_goes_on_when_it_is_let_go() {
    for suite in SUITES {
        let site = site(suite, "");
        let wire = site.wire();
        site.hold_writing();
        let push = site.push(slow_image(suite, "2"), "2");
        site.wait_writing();
        assert_eq!(site.locks(), 1, "{suite}");
        for (operation, code, reason) in [
            ("device/reboot", 500, "busy: firmware is being installed"),
            ("device/factory_reset", 500, "busy"),
            ("firmware/download", 400, "under way"),
            ("firmware/update", 400, "under way"),
        ] {
            let (rc, message) = wire.ask(&site, &format!("mgmt/initiate/{operation}"), Value::Null);
            assert_eq!(rc, code, "{suite}: {operation}: {message}");
            assert!(message.contains(reason), "{suite}: {operation}: {message}");
        }

        // The lock outlives the agent: systemd keeps it while no agent runs.
        site.end_agent("systemctl kill -s KILL iotdm-agent; systemd-inhibit --list >/data/between");
        assert!(
            site.gateway.sh("cat /data/between").contains("installing firmware"),
            "{suite}"
        );
        site.gateway.sh(
            "systemd-run --unit=look sh -c 'while systemd-inhibit --list | grep -q \"installing firmware\"; do :; done'",
        );
        site.end_agent("systemctl restart iotdm-agent");
        assert_eq!(
            site.gateway.sh("systemctl is-active look"),
            "active",
            "{suite}: it was always there"
        );
        site.gateway.sh("systemctl stop look");
        assert_eq!(site.locks(), 1, "{suite}");
        assert_eq!(site.gateway.boot_ids().len(), 1, "{suite}");

        site.gateway.sh(
            "systemd-run --unit=blocker systemd-inhibit --what=shutdown --mode=block \
             --who='firmware writer' --why='writing the modem' sleep infinity",
        );
        site.gateway.wait("the lock is held", || {
            site.gateway.sh("systemd-inhibit --list").contains("firmware writer")
        });
        site.let_write();
        site.wait_waiting_for("firmware writer");
        assert_eq!(site.locks(), 0, "{suite}: the own lock is gone");
        for shown in ["systemctl show -P StatusText iotdm-agent", "iotdm-agent status"] {
            let text = site.gateway.sh(shown);
            assert!(text.contains("writing the modem"), "{suite}: {shown}: {text}");
        }
        site.gateway.sh("systemctl stop blocker");
        site.gateway
            .wait("the update goes on", || site.gateway.boot_ids().len() > 1);
        push.ends_well();
        assert_eq!(site.booted(), ("B".into(), "2".into()), "{suite}");
        assert_eq!(site.gateway.boot_ids().len(), 2, "{suite}");
    }
}
