//! Factory reset, end to end: `iotdm factory-reset` at one end, an application's files that are gone at the other, and
//! a device that is still itself.

use serde_json::Value;

use crate::harness::SUITES;
use crate::push::{image, site};
use crate::site::{DEVICE, Site};

const RESET: &str = "mgmt/initiate/device/factory_reset";
const MANY: usize = 8_000;

fn laid_out(suite: &str) -> Site {
    let site = site(suite, "");
    lay_out(&site);
    site
}

/// What the site's integrator has done: an application with files, one of which is to be kept.
pub(crate) fn lay_out(site: &Site) {
    let gateway = &site.gateway;
    gateway.write(
        "/etc/iotdm-agent/factory-reset.d/50-app.conf",
        "mount /data\nwipe /data/app\nkeep /data/app/licence\n",
    );
    gateway.sh(
        "useradd -r app; mkdir -p /data/app/cache; chown app /data/app; chmod 750 /data/app
         echo key >/data/app/licence; ln -s /etc/iotdm-agent/token /data/app/link; echo outside >/data/outside
         systemctl enable iotdm-agent-factory-reset.service",
    );
    fill(site);
}

fn fill(site: &Site) {
    site.gateway.sh(&format!(
        "mkdir -p /data/app/cache; cd /data/app/cache && seq {MANY} | xargs touch && sync"
    ));
}

/// What the reset takes is gone, and what it leaves is as it was.
pub(crate) fn assert_reset(site: &Site) {
    let left = site
        .gateway
        .sh("cd /data && find app -printf '%p %u %m\\n' | sort; cat outside app/licence");
    assert_eq!(left, "app app 750\napp/licence root 644\noutside\nkey");
}

impl Site {
    /// Asks for a reset, waits for its end, and gives whether it succeeded and the request's last row.
    pub(crate) fn reset(&self) -> (bool, Value) {
        let output = self.iotdm(&["factory-reset", DEVICE, "--yes", "--wait", "--timeout", "3m", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let row = serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.success(), row)
    }

    pub(crate) fn is_managed(&self) -> bool {
        self.gateway.sh("iotdm-agent status").contains("managed: yes")
    }
}

#[test]
fn rst_01_rst_02_a_reset_takes_the_applications_files_keeps_the_identity_and_is_complete_when_it_is_back() {
    for suite in SUITES {
        let site = laid_out(suite);
        let wire = site.wire();
        let in_b = suite == "trixie";
        if in_b {
            // what is enabled is part of the slot
            let enabled = "systemctl enable iotdm-agent-factory-reset.service; useradd -r app";
            site.push_well(image(suite, "2").script(enabled), "2");
        }
        let slot = site.gateway.slot();
        assert_eq!(slot == "B", in_b);
        let boots = site.gateway.boot_ids().len();
        let identity = "cat /etc/iotdm-agent/token /etc/iotdm-agent/ca.pem /etc/iotdm-agent/conf.d/* /etc/machine-id";
        let before = site.gateway.sh(identity);

        let rehearsal = site.gateway.sh("iotdm-agent check --factory-reset");
        assert!(rehearsal.contains("/data/app/licence"), "{suite}: {rehearsal}");
        site.gateway.sh(&format!("test $(ls /data/app/cache | wc -l) = {MANY}"));

        let (done, row) = site.reset();
        assert!(done, "{suite}: {row}");
        site.gateway.wait_boot(boots + 1);
        assert_reset(&site);
        assert_eq!(site.gateway.sh(identity), before, "{suite}");
        assert_eq!(site.gateway.slot(), slot, "{suite}");
        site.gateway.wait("it is managed", || site.is_managed());
        site.gateway.wait("the service has the log", || {
            wire.logs().iter().any(|log| log.contains("/data/app"))
        });

        // the same request, delivered again after the boot
        fill(&site);
        let request = r#"{"reqId":"5b1ad8f5-0f3f-4f0c-8f3c-1a2b3c4d5e6f"}"#;
        site.publish(RESET, request);
        site.gateway.wait_boot(boots + 2);
        site.gateway.wait("it is managed", || site.is_managed());
        assert_reset(&site);
        fill(&site);
        site.publish(RESET, request);
        site.gateway.wait_log("a factory reset request was delivered again");
        assert!(site.is_managed(), "{suite}");
        site.gateway.sh(&format!("test $(ls /data/app/cache | wc -l) = {MANY}"));
        assert_eq!(site.gateway.boot_ids().len(), boots + 2, "{suite}");
        // an ordinary reboot wipes nothing
        site.gateway.reboot();
        site.gateway.sh(&format!("test $(ls /data/app/cache | wc -l) = {MANY}"));
        assert_eq!(site.gateway.slot(), slot, "{suite}");
        let told = wire.logs().iter().filter(|log| log.contains("/data/app")).count();
        assert_eq!(told, 2, "{suite}: each reset is told once");
    }
}

#[test]
fn rst_01_a_host_that_nothing_would_be_reset_on_answers_501_and_says_what_to_do() {
    for suite in SUITES {
        let site = site(suite, "");
        let wire = site.wire();
        let refused = |code: u64, words: &str| {
            let (rc, message) = wire.ask(&site, RESET, Value::Null);
            assert_eq!(rc, code, "{suite}: {message}");
            assert!(message.contains(words), "{suite}: {message}");
            let check = site.gateway.exec(&["iotdm-agent", "check"]);
            let check = String::from_utf8_lossy(&check.stdout).into_owned();
            assert!(check.contains(words), "{suite}: {check}");
        };
        refused(501, "pulls in nothing");
        site.gateway.sh("systemctl enable iotdm-agent-factory-reset.service");
        refused(501, "factory-reset.d");
        let plan = "/etc/iotdm-agent/factory-reset.d/50-app.conf";
        site.gateway.write(plan, "mount /data\nwipe /data/../etc\n");
        refused(501, "50-app.conf:2");
        site.gateway.write(plan, "mount /data\nwipe /data/app\n");
        site.gateway.sh("systemctl mask factory-reset.target");
        refused(501, "masked");
        site.gateway.sh("systemctl unmask factory-reset.target");
        site.gateway.sh(
            "systemd-run --unit=blocker systemd-inhibit --what=shutdown --mode=block \
             --who='firmware writer' --why='writing the modem' sleep infinity",
        );
        site.gateway.wait("the lock is held", || {
            site.gateway.sh("systemd-inhibit --list").contains("firmware writer")
        });
        refused(500, "firmware writer");
        assert_eq!(site.gateway.boot_ids().len(), 1, "{suite}");
        site.gateway
            .sh("systemctl stop blocker; test ! -e /var/lib/iotdm-agent/factory-reset");
    }
}

/// From now on the wipe stands still when it has begun to delete, so many times; then the power may be cut.
pub(crate) fn stands_still(site: &Site, times: u32) {
    let script = format!(
        "n=$(cat /data/stops 2>/dev/null || echo 0); [ $n -lt {times} ] || exit 0
         left=$(cat /data/left 2>/dev/null || echo {MANY})
         while [ $(ls -U /data/app/cache | wc -l) -ge $left ]; do :; done
         until pkill -STOP -x factory-reset; do :; done
         ls -U /data/app/cache | wc -l >/data/left; echo $((n + 1)) >/data/stops; sync /data/left /data/stops
         echo the wipe stands still >/dev/ttyS1\n"
    );
    let unit = "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/data /var/lib/iotdm-agent\n\
         Before=iotdm-agent-wipe.service\nConditionPathExists=/var/lib/iotdm-agent/factory-reset\n\
         [Service]\nExecStart=/bin/sh /etc/stand-still\n[Install]\nWantedBy=sysinit.target\n";
    site.gateway.write("/etc/stand-still", &script);
    site.gateway.write("/etc/systemd/system/stand-still.service", unit);
    site.gateway.sh("systemctl enable stand-still.service; sync");
}

fn files_left(site: &Site) -> usize {
    site.gateway.sh("ls -U /data/app/cache | wc -l").parse().unwrap()
}

/// The power is cut in the middle of the wipe, twice; the agent is killed while it waits for the host to go down.
#[test]
fn rst_02_a_reset_that_is_cut_anywhere_is_finished_by_the_next_boot_and_told_once() {
    for suite in SUITES {
        let site = laid_out(suite);
        let wire = site.wire();
        stands_still(&site, 2);
        site.publish(RESET, r#"{"reqId":"cut"}"#);
        site.gateway.wait_log("a factory reset");
        // it may be down already
        let _ = site.gateway.exec(&["systemctl", "kill", "-s", "KILL", "iotdm-agent"]);
        for stops in 1..=2 {
            // nobody looks into a guest that goes down
            let boot = stops + 1;
            site.gateway
                .wait("the next boot", || site.gateway.boot_ids().len() == boot);
            site.gateway.wait("the wipe stands still", || {
                let told = site.gateway.exec(&["cat", "/data/stops"]);
                told.stdout.trim_ascii() == stops.to_string().as_bytes()
            });
            site.gateway.kill();
        }
        site.gateway.wait_boot(4);
        site.gateway.wait("it is managed", || site.is_managed());
        assert_reset(&site);
        site.gateway.wait("the service has the log", || !wire.logs().is_empty());
        let logs = wire.logs();
        assert!(
            logs[0].contains("/data/app") && logs[0].contains("3 boots"),
            "{suite}: {logs:?}"
        );
        let answers = wire.answers("cut");
        assert!(
            !answers.is_empty() && answers.iter().all(|rc| *rc == 202),
            "{suite}: {answers:?}"
        );
        // and nothing of it is left for a later boot
        fill(&site);
        site.gateway.reboot();
        assert_eq!(files_left(&site), MANY, "{suite}");
        assert_eq!(wire.logs().len(), 1, "{suite}");
    }
}
