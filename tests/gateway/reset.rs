//! Factory reset, end to end: `iotdm factory-reset` at one end, an application's files that are gone at the other, and
//! a device that is still itself.

use serde_json::Value;

use crate::harness::SUITES;
use crate::push::{image, site};
use crate::site::{DEVICE, Site};
use crate::wire::Wire;

pub(crate) const RESET: &str = "mgmt/initiate/device/factory_reset";
pub(crate) const MANY: usize = 8_000;

/// A gateway with two slots and an application, which has files on the data partition and a partition of its own.
pub(crate) fn laid_out(suite: &str) -> Site {
    let site = site(suite, "");
    lay_out(&site);
    site.gateway.sh(&format!(
        "{OWN_PARTITION}systemctl start srv-app.mount; touch /srv/app/x"
    ));
    site.gateway.write(
        "/etc/iotdm-agent/factory-reset.d/60-partition.conf",
        &format!("format {PARTITION}\n"),
    );
    site
}

const PARTITION: &str = "/dev/disk/by-partlabel/app";

/// In a container systemd ignores what /etc/fstab says of devices.
const OWN_PARTITION: &str = "cat >/etc/systemd/system/srv-app.mount <<'END'
[Unit]
After=iotdm-agent-format.service
[Mount]
What=/dev/disk/by-partlabel/app
Where=/srv/app
Type=ext4
[Install]
WantedBy=local-fs.target
END
systemctl enable srv-app.mount
";

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

pub(crate) fn fill(site: &Site) {
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
        // what is enabled is part of the slot
        let enabled = format!("{OWN_PARTITION}systemctl enable iotdm-agent-factory-reset.service; useradd -r app");
        site.push_well(image(suite, "2").script(&enabled), "2");
        assert_eq!(site.gateway.slot(), "B");
        let boots = site.gateway.boot_ids().len();
        let identity = "cat /etc/iotdm-agent/token /etc/iotdm-agent/ca.pem /etc/iotdm-agent/conf.d/* /etc/machine-id";
        let before = site.gateway.sh(identity);

        let rehearsal = site.gateway.sh("iotdm-agent check --factory-reset");
        let anew = format!("{PARTITION}: made anew, with the same UUID and label");
        for words in ["/data/app/licence", &anew] {
            assert!(rehearsal.contains(words), "{suite}: {rehearsal}");
        }
        let name = format!("blkid -p -o export {PARTITION} | grep -E '^(UUID|LABEL|TYPE)='");
        let partition = site.gateway.sh(&name);
        assert!(partition.contains("LABEL=app"), "{suite}: {partition}");
        site.gateway.sh(&format!(
            "test $(ls /data/app/cache | wc -l) = {MANY}; test -e /srv/app/x"
        ));

        let (done, row) = site.reset();
        assert!(done, "{suite}: {row}");
        site.gateway.wait_boot(boots + 1);
        assert_reset(&site);
        assert_eq!(site.gateway.sh(identity), before, "{suite}");
        assert_eq!(site.gateway.sh(&name), partition, "{suite}");
        assert_eq!(
            site.gateway.sh("findmnt -no SOURCE /srv/app; ls /srv/app"),
            format!("{PARTITION}\nlost+found")
        );
        assert_eq!(site.gateway.slot(), "B", "{suite}");
        site.gateway.wait("it is managed", || site.is_managed());
        site.gateway.wait("the service has the log", || {
            wire.logs().iter().any(|log| log.contains("/data/app, /dev/disk"))
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
        assert_eq!(site.gateway.slot(), "B", "{suite}");
        let told = wire.logs().iter().filter(|log| log.contains("/data/app")).count();
        assert_eq!(told, 2, "{suite}: each reset is told once");
    }
}

#[test]
fn rst_01_a_host_that_nothing_would_be_reset_on_answers_501_or_500_after_the_202_and_says_what_to_do() {
    for suite in SUITES {
        let site = site(suite, "");
        let wire = site.wire();
        let gateway = &site.gateway;
        let refused = |code: u64, words: &str| {
            let (rc, message) = wire.ask(&site, RESET, Value::Null);
            assert_eq!(rc, code, "{suite}: {message}");
            assert!(message.contains(words), "{suite}: {message}");
            let check = gateway.exec(&["iotdm-agent", "check"]);
            let check = String::from_utf8_lossy(&check.stdout).into_owned();
            assert!(check.contains(words), "{suite}: {check}");
        };
        refused(501, "pulls in nothing");
        gateway.sh("systemctl enable iotdm-agent-factory-reset.service");
        refused(501, "factory-reset.d");
        gateway.write(PLAN, "mount /data\nwipe /data/../etc\n");
        refused(501, "50-app.conf:2");
        // of a partition that holds what stays, by whichever way to it
        let data = gateway.sh("findmnt -no SOURCE /data");
        gateway.write(PLAN, &format!("mount /data\nwipe /data/app\nformat {data}\n"));
        refused(501, "50-app.conf:3: format /dev/loop");
        refused(501, "it holds what stays");
        // no udev runs in a container: as it would know the device
        gateway.sh(&format!(
            "mkdir -p /run/udev/data; chmod 755 /run/udev /run/udev/data
             echo S:disk/by-partlabel/data >/run/udev/data/b$(cat /sys/class/block/{}/dev)",
            data.trim_start_matches("/dev/")
        ));
        gateway.write(PLAN, "format /dev/disk/by-partlabel/data\n");
        refused(501, "format /dev/disk/by-partlabel/data: it holds what stays");
        let root = gateway.sh("findmnt -no SOURCE /");
        gateway.write(PLAN, &format!("format {root}\n"));
        refused(501, "it is the root file system");
        gateway.write(PLAN, "mount /data\nwipe /data/app\n");
        gateway.sh(&format!("chown iotdm-agent {PLAN}"));
        refused(501, "not to root");
        gateway.sh(&format!("chown root {PLAN}; systemctl mask factory-reset.target"));
        refused(501, "masked");
        gateway.sh(
            "systemctl unmask factory-reset.target; mkdir /run/systemd/system/iotdm-agent-wipe.service.d
             cd /run/systemd/system/iotdm-agent-wipe.service.d
             printf '[Service]\\nEnvironment=STATE_DIRECTORY=/data/state\\n' >state.conf; systemctl daemon-reload",
        );
        refused(501, "knows /data/state as the state folder");
        gateway.sh(&format!(
            "rm /run/systemd/system/iotdm-agent-wipe.service.d/state.conf; systemctl daemon-reload; {}",
            locked("blocker", "firmware writer")
        ));
        refused(500, "firmware writer");
        gateway.sh("systemctl stop blocker; test ! -e /var/lib/iotdm-agent/factory-reset");
        told_after_the_202(&site, &wire);
        assert_eq!(gateway.boot_ids().len(), 1, "{suite}");
    }
}

const PLAN: &str = "/etc/iotdm-agent/factory-reset.d/50-app.conf";

/// A shell line after which somebody holds a lock on shutdown.
fn locked(unit: &str, who: &str) -> String {
    format!(
        "systemd-run --unit={unit} systemd-inhibit --what=shutdown --mode=block --who='{who}' --why='the modem' \
         sleep infinity; timeout 30 sh -c \"until systemd-inhibit --list | grep -q '{who}'; do sleep 0.1; done\""
    )
}

/// What the agent cannot see, or what changes after the 202: the second answer has the reason, nothing is wiped by any
/// later boot, and the device is managed again.
fn told_after_the_202(site: &Site, wire: &Wire) {
    let gateway = &site.gateway;
    let fails = |id: &str, words: &str| {
        site.publish(RESET, &format!("{{\"reqId\":\"{id}\"}}"));
        gateway.wait(&format!("{id} is answered twice"), || wire.answers(id).len() == 2);
        assert_eq!(wire.answers(id), [202, 500]);
        let reason = wire.reasons(id).pop().unwrap();
        assert!(reason.contains(words), "{reason}");
        gateway.wait("it is managed", || site.is_managed());
        gateway.sh("test ! -e /var/lib/iotdm-agent/factory-reset");
    };
    gateway.sh("mkdir -p /data/app/cache");
    gateway.write(PLAN, "mount /data/app\nwipe /data/app/cache\n");
    fails("as-root", "50-app.conf:1: mount /data/app: is not mounted");

    gateway.write(PLAN, "mount /data\nwipe /data/app/cache\n");
    gateway.write("/etc/lock", &format!("#!/bin/sh\n{}\n", locked("late", "late writer")));
    gateway.sh(
        "chmod 755 /etc/lock; cd /run/systemd/system; mkdir iotdm-agent-factory-reset-reboot.service.d
         printf '[Service]\\nExecStartPre=+/etc/lock\\n' >iotdm-agent-factory-reset-reboot.service.d/lock.conf
         systemctl daemon-reload",
    );
    fails("locked", "blocked by late writer (the modem; uid 0");
}

/// A target of the integrator's own: the rule that `check` prints is the one that is needed.
#[test]
fn rst_01_another_unit_is_started_once_polkit_has_the_rule_that_check_prints() {
    for suite in SUITES {
        let site = Site::managed(suite);
        let wire = site.wire();
        let gateway = &site.gateway;
        gateway.write(
            "/etc/systemd/system/site-reset.service",
            "[Service]\nExecStart=/bin/sh -c 'touch /data/was-reset && exec systemctl reboot'\n",
        );
        let path = "/etc/iotdm-agent/conf.d/70-reset.toml";
        gateway.sh(&format!("install -m 640 -g iotdm-agent /dev/null {path}"));
        gateway.write(path, "[factory_reset]\nunit = \"site-reset.service\"\n");
        gateway.sh("systemctl daemon-reload; systemctl reload iotdm-agent");
        gateway.wait("the configuration counts", || {
            gateway.sh("iotdm-agent check; true").contains("site-reset.service")
        });
        site.publish(RESET, r#"{"reqId":"without"}"#);
        gateway.wait("it is answered twice", || wire.answers("without") == [202, 500]);
        let reason = wire.reasons("without").pop().unwrap();
        assert!(
            reason.contains("polkit does not let the agent start site-reset.service"),
            "{suite}: {reason}"
        );
        gateway.sh("test ! -e /data/was-reset");

        let check = gateway.exec(&["iotdm-agent", "check", "--json"]);
        let findings: Value = serde_json::from_slice(&check.stdout).unwrap();
        let mut findings = findings.as_array().unwrap().iter();
        let rule = findings.find(|finding| finding["id"] == "factory-reset-rule").unwrap();
        let (file, rule) = rule["hint"].as_str().unwrap().split_once(":\n").unwrap();
        gateway.write(file.trim_start_matches("put this into "), rule);
        gateway.sh("systemctl restart polkit");
        let (done, row) = site.reset();
        assert!(done, "{suite}: {row}");
        assert_eq!(gateway.boot_ids().len(), 2, "{suite}");
        gateway.sh("test -e /data/was-reset");
    }
}

/// The next wipe stands still when it has begun to delete, once; then the power may be cut.
///
/// Until then it has a hundredth of a processor where the guest may share that out (a container may not), and each file
/// that it deletes is on the disk before the next where the guest has `chattr` (the machine has not): time enough to stop
/// it.
pub(crate) fn stands_still(site: &Site) {
    let script = format!(
        "cd /data/app/cache
         while [ $(ls -U | wc -l) -ge {MANY} ]; do :; done
         pkill -STOP -x factory-reset && [ -n \"$(ls -U)\" ] || exit 1
         chattr -D . 2>/dev/null; rm {SLOW}; touch /data/stopped; sync . {SLOW_FOLDER} /data/stopped
         echo the wipe stands still >/dev/ttyS1\n"
    );
    let unit = "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/data /var/lib/iotdm-agent\n\
         Before=iotdm-agent-wipe.service\nConditionPathExists=/var/lib/iotdm-agent/factory-reset\n\
         ConditionPathExists=/etc/systemd/system/iotdm-agent-wipe.service.d/slow.conf\n\
         [Service]\nExecStartPre=-chattr +D /data/app/cache\n\
         ExecStart=/bin/sh /etc/stand-still\nRuntimeMaxSec=10min\n[Install]\nWantedBy=sysinit.target\n";
    site.gateway.write("/etc/stand-still", &script);
    site.gateway.write("/etc/systemd/system/stand-still.service", unit);
    site.gateway.sh(&format!("rm -f /data/stopped; mkdir -p {SLOW_FOLDER}"));
    site.gateway.write(SLOW, "[Service]\nCPUQuota=1%\n");
    site.gateway.sh("systemctl enable stand-still.service; sync");
}

const SLOW_FOLDER: &str = "/etc/systemd/system/iotdm-agent-wipe.service.d";
const SLOW: &str = "/etc/systemd/system/iotdm-agent-wipe.service.d/slow.conf";
