//! Updates of a gateway that is a machine: what the container cannot show. UEFI and GRUB, bundles whose blocks the kernel
//! checks (verity), a kernel that panics, and a disk that loses in a power cut what was not flushed.

use serde_json::Value;

use crate::bundle::Bundle;
use crate::harness::Gateway;
use crate::push::{image, site_of, slow_image};
use crate::reset;
use crate::site::{DEVICE, Site};

const SUITE: &str = "trixie";
/// Nothing is left that a kernel could start.
const PANICS: &str = "rm -f /usr/sbin/init /usr/lib/systemd/systemd /usr/bin/sh";
/// The agent is missing; and so that five minutes and the trial need not be waited for, the marker's deadline is moved.
const NO_AGENT: &str = "rm /usr/bin/iotdm-agent
cat >/etc/systemd/system/hurry.service <<'END'
[Unit]
ConditionPathExists=/var/lib/iotdm-agent/trial
[Service]
Type=oneshot
ExecStart=/usr/bin/sed -i s/^deadline=.*/deadline=30/ /var/lib/iotdm-agent/trial
[Install]
WantedBy=multi-user.target
END
systemctl enable hurry.service";

/// An update that is written and waits for the reboot, which comes; the end is that of the push.
fn boots_into(site: &Site, bundle: Bundle, version: &str, reason: &str) {
    let push = site.push(bundle.machine(), version);
    site.wait_waiting_for("somebody to reboot");
    site.gateway.reboot();
    push.ends_badly(reason);
}

/// So many remote reboots in a row, each of which ends in slot B.
fn stays(site: &Site, reboots: usize) {
    for _ in 0..reboots {
        let (done, row) = site.reboot();
        assert!(done, "{row}");
        assert_eq!(site.booted(), ("B".into(), "2".into()));
        site.gateway.wait("the running slot is marked good", || {
            site.boot_loader("B") == ("1".into(), "0".into())
        });
    }
}

#[test]
fn on_a_machine_an_update_comes_to_one_truthful_end_through_power_cuts_a_panic_and_a_broken_agent_and_so_does_a_reset()
{
    let config = "reboot = \"manual\"\n[firmware.trial]\nunits = [\"held.service\"]\n";
    let site = site_of(Gateway::boot_machine(SUITE), config);
    let gateway = &site.gateway;
    let wire = site.wire();
    site.hold_trial();
    site.let_try();
    assert_eq!(site.booted(), ("A".into(), "1".into()));

    // The power is cut while the slot is written.
    site.hold_writing();
    let push = site.push(slow_image(SUITE, "2").machine(), "2");
    site.wait_writing();
    gateway.sh("echo lost >/data/lost");
    gateway.kill();
    gateway.wait_boot(2);
    push.ends_badly("writing slot rootfs.1 was interrupted");
    assert_eq!(site.booted(), ("A".into(), "1".into()));
    assert_eq!(
        gateway.sh("cat /data/lost 2>/dev/null; true"),
        "",
        "the page cache died with the machine"
    );

    // It is cut again between the installation and the reboot: the new slot runs all the same, and proves itself.
    site.let_write();
    let (rc, message) = wire.ask(&site, "mgmt/initiate/firmware/update", Value::Null);
    assert_eq!(rc, 202, "{message}");
    site.wait_waiting_for("somebody to reboot");
    gateway.kill();
    gateway.wait_boot(3);
    gateway.wait_log("has proven itself");
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    assert_eq!(site.boot_loader("B"), ("1".into(), "0".into()));

    // Both slots are good, and GRUB gives the one that runs a single try: it is marked good in each boot. The agent
    // refuses a fourth remote reboot in ten minutes, for as long as it remembers the others.
    assert_eq!(site.boot_loader("A"), ("1".into(), "0".into()));
    stays(&site, 3);
    gateway.sh("systemctl stop iotdm-agent; rm /var/lib/iotdm-agent/state.?; systemctl start iotdm-agent");
    stays(&site, 1);

    // And once more on trial: GRUB gives a slot one try.
    let push = site.push(slow_image(SUITE, "3").machine(), "3");
    site.wait_waiting_for("somebody to reboot");
    // its answer may not get out any more, and the boot is not over while the trial is held
    let _ = gateway.exec(&["sh", "-c", "touch /data/hold-trial; sync; systemctl reboot"]);
    site.wait_trial("rootfs.0");
    gateway.sh("rm /data/hold-trial; sync");
    gateway.kill();
    push.ends_badly("the trial of slot rootfs.0 was cut short");
    assert_eq!(site.booted(), ("B".into(), "2".into()));

    boots_into(
        &site,
        image(SUITE, "4").script(PANICS),
        "4",
        "slot rootfs.0 did not start",
    );
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    boots_into(&site, image(SUITE, "5").script(NO_AGENT), "5", "was not found good");
    assert_eq!(site.booted(), ("B".into(), "2".into()));

    // Ordinary boots stay where they are: what runs is marked good, and what failed is not tried again. One is remote, one
    // local, and two belong to the reset.
    gateway.wait("the slots are marked", || {
        site.boot_loader("B") == ("1".into(), "0".into()) && site.boot_loader("A").0 == "0"
    });
    stays(&site, 1);
    gateway.reboot();
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    assert_eq!(gateway.logged("has proven itself"), 1);

    // A factory reset whose power is cut in the middle of the wipe: the next boot goes on.
    reset::lay_out(&site);
    reset::stands_still(&site);
    let reset = site.begin(&["factory-reset", DEVICE, "--yes", "--wait", "--timeout", "20m"]);
    gateway.wait("the wipe stands still", || {
        gateway.told().contains("the wipe stands still")
    });
    gateway.kill();
    let output = reset.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    reset::assert_reset(&site);
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    gateway.wait("the service has the log", || !wire.logs().is_empty());
    let log = wire.logs().pop().unwrap_or_default();
    assert!(log.contains("/data/app") && log.contains("2 boots"), "{log}");
}
