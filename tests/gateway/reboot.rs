//! The main job, end to end: `iotdm reboot` at one end, a real Debian that goes down and comes back at the other.

use crate::harness::SUITES;
use crate::site::{DEVICE, Site};

const REBOOT: &str = "mgmt/initiate/device/reboot";

#[test]
fn reb_01_reb_02_a_remote_reboot_is_accepted_happens_and_is_complete_when_the_gateway_is_back() {
    for suite in SUITES {
        let site = Site::managed(suite);
        let started = site
            .gateway
            .sh("systemctl show -P ActiveEnterTimestampMonotonic iotdm-agent");
        let (done, row) = site.reboot();
        assert!(done, "{suite}: {row}");
        assert_eq!((&row["status"], &row["complete"]), (&0.into(), &true.into()), "{suite}");
        let time = |step: &str| {
            row[step]
                .as_str()
                .unwrap_or_else(|| panic!("no {step} in {row}"))
                .to_owned()
        };
        assert!(time("requested") <= time("accepted") && time("accepted") < time("completed"));

        site.gateway.wait_boot(2);
        let boots = site.gateway.boot_ids();
        assert_eq!(boots.len(), 2, "{suite}: exactly one reboot");
        assert_ne!(boots[0], boots[1]);
        // The 202 reached the broker before the second boot did.
        let log = site.gateway.journal(&["_SYSTEMD_UNIT=iotdm-agent.service"]);
        let boot_of = |text: &str| {
            let found = log
                .iter()
                .find(|entry| entry["MESSAGE"].as_str().is_some_and(|line| line.contains(text)));
            found.unwrap_or_else(|| panic!("nobody logged '{text}'"))["_BOOT_ID"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(boot_of("logind accepted the reboot"), boots[0].replace('-', ""));
        assert_eq!(boot_of("the host has rebooted"), boots[1].replace('-', ""));
        assert!(
            site.answered_before_it_came_back(),
            "{suite}: the 202 is of the first boot"
        );
        assert_ne!(started, "0");
        site.gateway.wait("the agent says that it is managed", || {
            site.gateway.sh("iotdm-agent status").contains("managed: yes")
        });
    }
}

#[test]
fn reb_04_env_07_the_same_request_redelivered_after_the_boot_does_not_reboot_again() {
    for suite in SUITES {
        let site = Site::managed(suite);
        let request = r#"{"reqId":"5b1ad8f5-0f3f-4f0c-8f3c-1a2b3c4d5e6f"}"#;
        site.publish(REBOOT, request);
        site.gateway.wait_boot(2);
        site.gateway.wait_log("the host has rebooted");
        site.gateway.wait("the gateway is managed again", || {
            site.gateway.sh("iotdm-agent status").contains("managed: yes")
        });
        site.publish(REBOOT, request);
        site.gateway.wait_log("a reboot request was delivered again");
        site.gateway.wait("the agent still runs", || {
            site.gateway.sh("iotdm-agent status").contains("managed: yes")
        });
        assert_eq!(site.gateway.boot_ids().len(), 2, "{suite}");
        let asked = site
            .gateway
            .agent_log()
            .iter()
            .filter(|line| line.contains("logind accepted"))
            .count();
        assert_eq!(asked, 1, "{suite}");
    }
}

#[test]
fn reb_03_a_block_lock_is_answered_500_with_its_holder_and_nothing_reboots() {
    for suite in SUITES {
        let site = Site::managed(suite);
        site.gateway.sh(
            "systemd-run --unit=blocker systemd-inhibit --what=shutdown --mode=block \
             --who='firmware writer' --why='writing the modem' sleep infinity",
        );
        site.gateway.wait("the lock is held", || {
            site.gateway.sh("systemd-inhibit --list").contains("firmware writer")
        });
        let (done, row) = site.reboot();
        assert!(!done);
        assert_eq!((&row["status"], &row["rc"]), (&2.into(), &500.into()), "{suite}: {row}");
        let message = row["message"].as_str().unwrap();
        assert!(
            message.contains("firmware writer") && message.contains("writing the modem"),
            "{suite}: {message}"
        );
        let check = site.gateway.exec(&["iotdm-agent", "check"]);
        assert!(
            String::from_utf8_lossy(&check.stdout).contains("firmware writer"),
            "check says so, too"
        );
        site.gateway.sh("systemctl stop blocker");
        let (done, row) = site.reboot();
        assert!(done, "{suite}: {row}");
        site.gateway.wait_boot(2);
        assert_eq!(site.gateway.boot_ids().len(), 2);
    }
}

#[test]
fn reb_03_a_site_that_forbids_it_by_polkit_is_answered_500_naming_polkit() {
    for suite in SUITES {
        let site = Site::managed(suite);
        site.gateway.write(
            "/etc/polkit-1/rules.d/10-site.rules",
            "polkit.addRule(function (action, subject) {\n    if (action.id.indexOf('org.freedesktop.login1.reboot') === 0 \
             && subject.user === 'iotdm-agent') return polkit.Result.NO;\n});\n",
        );
        site.gateway
            .sh("chmod 644 /etc/polkit-1/rules.d/10-site.rules; systemctl restart polkit");
        let (done, row) = site.reboot();
        assert!(!done);
        assert_eq!(row["rc"], 500, "{suite}: {row}");
        assert!(row["message"].as_str().unwrap().contains("polkit"), "{suite}: {row}");
        let check = site.gateway.exec(&["iotdm-agent", "check"]);
        assert!(!check.status.success(), "check fails");
        assert_eq!(site.gateway.boot_ids().len(), 1);
    }
}

#[test]
fn a_technician_who_is_logged_in_does_not_keep_the_gateway_from_rebooting() {
    for suite in SUITES {
        let site = Site::managed(suite);
        site.gateway
            .sh("useradd -m technician; systemd-run --unit=login sleep infinity");
        site.gateway.sh(
            "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager CreateSession \
             'uusssssussbssa(sv)' $(id -u technician) $(systemctl show -P MainPID login) \
             test tty user '' '' 0 '' '' false '' '' 0",
        );
        assert!(
            site.gateway.sh("loginctl list-sessions").contains("technician"),
            "{suite}"
        );
        let (done, row) = site.reboot();
        assert!(done, "{suite}: {row}");
        site.gateway.wait_boot(2);
    }
}

#[test]
fn svc_the_request_completes_although_the_service_is_killed_while_the_gateway_reboots() {
    let mut site = Site::managed("bookworm");
    let following = site.begin(&["reboot", DEVICE, "--wait", "--timeout", "2m", "--json"]);
    site.gateway.wait_log("logind accepted the reboot");
    site.kill_service();
    site.gateway.wait_boot(2);
    site.gateway.wait_log("the host has rebooted");
    site.start_service();
    let output = following.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{}", site.service_log());
    assert_eq!(site.gateway.boot_ids().len(), 2);
}

#[test]
fn reb_05_a_power_cut_after_the_request_ends_in_one_truthful_answer() {
    let site = Site::managed("trixie");
    // The stop of this unit holds the reboot up long enough for the power to go first.
    site.gateway.write(
        "/run/systemd/system/slow.service",
        "[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sleep 20\nTimeoutStopSec=30\n",
    );
    site.gateway.sh("systemctl daemon-reload; systemctl start slow");
    let following = site.begin(&["reboot", DEVICE, "--wait", "--timeout", "2m", "--json"]);
    site.gateway.wait_log("logind accepted the reboot");
    site.gateway.kill();
    site.gateway.wait_boot(2);
    let output = following.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(site.gateway.boot_ids().len(), 2, "exactly one new boot");
}

#[test]
fn reb_05_an_agent_that_is_killed_after_the_request_does_not_reboot_twice() {
    let site = Site::managed("bookworm");
    let following = site.begin(&["reboot", DEVICE, "--wait", "--timeout", "2m", "--json"]);
    site.gateway.wait_log("the service asks for a reboot");
    // Perhaps before logind was asked, perhaps after; perhaps the host is already going down.
    let _ = site.gateway.exec(&["systemctl", "kill", "-s", "KILL", "iotdm-agent"]);
    site.gateway.wait_boot(2);
    let output = following.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(site.gateway.boot_ids().len(), 2);
}

#[test]
fn con_10_a_gateway_whose_link_was_cut_for_a_while_takes_the_request_that_waited() {
    let site = Site::managed("bookworm");
    site.gateway.cut();
    let following = site.begin(&["reboot", DEVICE, "--wait", "--timeout", "3m", "--json"]);
    // The broker has it, and has sent it into the dead link.
    site.gateway
        .wait("the request is on its way", || site.broker_has_sent("device/reboot"));
    assert_eq!(site.gateway.logged("asks for a reboot"), 0);
    site.gateway.mend();
    let output = following.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(site.gateway.boot_ids().len(), 2);
}

#[test]
fn one_device_cannot_speak_as_another_with_the_shipped_acl() {
    let site = Site::managed("bookworm");
    let before = site.row();
    // mosquitto drops what the ACL forbids, and says so only in its log.
    let manage = r#"{"d":{"deviceInfo":{"fwVersion":"stolen"}},"reqId":"x"}"#;
    site.mosquitto_pub(
        "gw-0002",
        "iotdevice-1/type/edge-gateway/id/gw-0001/mgmt/manage",
        manage,
    );
    site.mosquitto_pub(
        "gw-0002",
        "iotdm-1/type/edge-gateway/id/gw-0001/mgmt/initiate/device/reboot",
        r#"{"reqId":"y"}"#,
    );
    // What gw-0002 may say arrives after it, so that by then the other would have been here.
    let own = r#"{"d":{"deviceInfo":{"fwVersion":"own"}},"reqId":"z"}"#;
    site.mosquitto_pub("gw-0002", "iotdevice-1/type/edge-gateway/id/gw-0002/mgmt/manage", own);
    site.gateway.wait("gw-0002 is managed", || {
        String::from_utf8_lossy(&site.iotdm(&["ls"]).stdout).contains("gw-0002")
    });
    assert_eq!(site.row()["deviceInfo"]["fwVersion"], before["deviceInfo"]["fwVersion"]);
    assert_eq!(site.gateway.boot_ids().len(), 1);
    assert!(
        !site
            .gateway
            .agent_log()
            .iter()
            .any(|line| line.contains("asks for a reboot"))
    );
}

#[test]
fn status_and_check_say_what_a_technician_needs() {
    let site = Site::managed("trixie");
    let status = site.gateway.sh("iotdm-agent status");
    for text in ["managed", DEVICE, "mqtts://broker.test", "connected for"] {
        assert!(status.contains(text), "{text} is missing in:\n{status}");
    }
    // The message of a connection has its id in the journal, and the catalog explains it.
    let connected = "MESSAGE_ID=e5097b415e4d4b7592cd24c87356b8c5";
    assert_eq!(site.gateway.journal(&[connected]).len(), 1);
    let explained = site.gateway.sh(&format!("journalctl --catalog {connected}"));
    assert!(explained.contains("granted its subscription"), "{explained}");
    let json: serde_json::Value = serde_json::from_str(&site.gateway.sh("iotdm-agent status --json")).unwrap();
    assert_eq!(json["agent"]["managed"], true);
    assert_eq!(json["boot_id"].as_str().unwrap().len(), 32);
    let check = site.gateway.sh("iotdm-agent check");
    for text in ["logind lets the agent reboot", "token file", "the journal can be read"] {
        assert!(check.contains(text), "{text} is missing in:\n{check}");
    }
    assert!(!check.contains("ERROR"), "{check}");
    // Once more without the agent: then check itself asks the broker, as the service's user.
    site.gateway.sh("systemctl stop iotdm-agent");
    let alone = site.gateway.sh("iotdm-agent check");
    assert!(alone.contains("lets g:acme:edge-gateway:gw-0001 in"), "{alone}");
    let log: String = site.gateway.agent_log().join("\n");
    assert!(!log.contains("secret of"), "no secret in the log");
}
