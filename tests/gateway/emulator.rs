//! The gateway that is a machine, with RAUC's own command line alone: what the container cannot show. UEFI and GRUB, a
//! bundle whose blocks the kernel checks, a kernel that panics, and a disk that loses what was not flushed.

use crate::bundle::Bundle;
use crate::harness::Gateway;

#[test]
fn a_machine_falls_back_from_a_kernel_panic_and_loses_in_a_power_cut_what_was_not_flushed() {
    let gateway = Gateway::boot_machine("trixie");
    assert_eq!(gateway.slot(), "A");
    gateway.sh("grep -q rauc.slot=A /proc/cmdline && rauc status mark-good");
    assert_eq!(
        (gateway.bootloader("A_OK"), gateway.bootloader("A_TRY")),
        ("1".into(), "0".into())
    );

    let broken = Bundle::new("trixie", "2").machine();
    let broken = broken.script("rm -f /usr/sbin/init /usr/lib/systemd/systemd /usr/bin/sh");
    gateway.put(&broken.build(), "/data/update.raucb");
    let told = gateway.sh("rauc install /data/update.raucb 2>&1; journalctl -b -u rauc -o cat");
    assert!(told.contains("succeeded") && told.contains("dm-verity"), "{told}");
    assert_eq!(gateway.bootloader("ORDER"), "B A");
    gateway.reboot();
    assert_eq!(
        (gateway.slot().as_str(), gateway.bootloader("B_TRY").as_str()),
        ("A", "1")
    );
    assert_eq!(
        gateway.boot_ids().len(),
        2,
        "the other slot's kernel found nothing to start"
    );
    gateway.sh("rauc status mark-good; rauc status mark-bad other");

    gateway.sh("echo flushed >/data/flushed; sync; echo lost >/data/lost; cat /data/lost");
    gateway.kill();
    gateway.wait_boot(3);
    assert_eq!(gateway.slot(), "A", "marked good and marked bad reached the disk");
    assert_eq!(
        gateway
            .sh("cat /data/flushed; cat /data/lost 2>&1; true")
            .lines()
            .next(),
        Some("flushed")
    );
    assert!(
        gateway.sh("cat /data/lost 2>/dev/null || true").is_empty(),
        "the page cache died with the machine"
    );
}
