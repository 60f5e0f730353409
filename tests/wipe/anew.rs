//! A partition of its own is made anew.

use crate::place::{ASKED, NEXT, Place, strings};

const THIRD: &str = "cccccccccccccccccccccccccccccccc";

/// A second disk with a file system on it, in which a file `x` is; its device.
fn with_disk(mkfs: &str) -> (Place, String) {
    let mut place = Place::new();
    let device = place.disk(mkfs);
    place.plan(&format!("format {device}\n"));
    (place, device)
}

const EXT4: &str = "mkfs.ext4 -q -L 'my apps'";

fn name(place: &Place, device: &str) -> String {
    place.sh(&format!(
        "blkid -p -o export {device} | grep -E '^(UUID|LABEL|TYPE)=' | sort"
    ))
}

fn content(place: &Place, device: &str) -> String {
    place.sh(&format!("mount {device} T/m && ls T/m && umount T/m"))
}

#[test]
fn a_partition_is_made_anew_with_its_uuid_and_its_label() {
    let (place, device) = with_disk(EXT4);
    let before = name(&place, &device);
    assert!(before.contains("LABEL=my") && before.contains("TYPE=ext4"), "{before}");
    assert_eq!(
        place.done(ASKED, "plan"),
        format!("wiped:   {device}: made anew, with the same UUID and label\n")
    );
    assert_eq!(content(&place, &device), "lost+found\nx\n");
    place.done(ASKED, "request");
    place.done(NEXT, "format");
    assert_eq!(name(&place, &device), before);
    assert_eq!(content(&place, &device), "lost+found\n");
    place.done(NEXT, "wipe");
    let report = place.report();
    assert_eq!(strings(&report["wiped"]), [device.as_str()]);
    assert_eq!(report["boots"], 1);
    // once
    place.sh(&format!("mount {device} T/m && touch T/m/new && umount T/m"));
    place.done(THIRD, "format");
    assert_eq!(content(&place, &device), "lost+found\nnew\n");
}

#[test]
fn a_power_cut_in_the_middle_of_mkfs_is_finished_by_the_next_boot() {
    let (place, device) = with_disk(EXT4);
    let before = name(&place, &device);
    place.done(ASKED, "request");
    place.tool(
        "mkfs.ext4",
        "for device; do :; done; dd if=/dev/zero of=$device bs=64k count=1 conv=notrunc 2>/dev/null; kill -9 $PPID $$",
    );
    assert_eq!(place.run(NEXT, "format").status.code(), None, "killed");
    assert_eq!(name(&place, &device), "");
    place.sh("rm T/bin/mkfs.ext4");
    place.done(THIRD, "format");
    assert_eq!(name(&place, &device), before);
    place.done(THIRD, "wipe");
    assert_eq!(place.report()["boots"], 2);
    assert_eq!(content(&place, &device), "lost+found\n");
}

#[test]
fn a_device_that_is_in_use_or_holds_anything_else_is_not_made_anew() {
    let (mut place, device) = with_disk(EXT4);
    let other = place.disk("mkfs.ext2 -q");
    let state = place.sh("findmnt -no SOURCE T/data").trim().to_owned();
    place.sh(&format!(
        "mkdir /run/rauc; printf '[slot.rootfs.0]\\ndevice=%s\\n' {device} >/run/rauc/system.conf"
    ));
    for (plan, reason) in [
        (format!("format {device}\n"), "is slot rootfs.0"),
        (format!("format {other}\n"), "holds no ext4 file system"),
        (format!("format {state}\n"), "holds what stays (T/etc always stays)"),
        ("format /dev/null\n".to_owned(), "is no block device"),
        (
            "format /dev/nowhere\n".to_owned(),
            "is no block device, or is not there",
        ),
    ] {
        place.plan(&plan);
        let said = place.refused(ASKED, "request");
        assert!(said.contains(reason), "{plan}: {said}");
    }
    place.sh(&format!("rm /run/rauc/system.conf; mount {device} T/m"));
    place.plan(&format!("format {device}\nmount T/m\nwipe T/m\n"));
    let said = place.refused(ASKED, "request");
    assert!(said.contains("is declared to be wiped as well"), "{said}");

    // it is in use in a running system, and still is when the order of the units is wrong
    place.plan(&format!("format {device}\n"));
    place.done(ASKED, "request");
    place.done(NEXT, "format");
    assert!(place.has("T/m/x"));
    place.refused(NEXT, "wipe");
    assert_eq!(
        strings(&place.report()["failed"]),
        [format!(
            "{device}: is in use already: order its mount after iotdm-agent-format.service"
        )]
    );
}

#[test]
fn a_device_that_nobody_has_made_anew_is_told_as_failed() {
    let (place, device) = with_disk(EXT4);
    place.done(ASKED, "request");
    place.refused(NEXT, "wipe");
    assert_eq!(
        strings(&place.report()["failed"]),
        [format!("{device}: iotdm-agent-format.service has not made it anew")]
    );
    assert_eq!(content(&place, &device), "lost+found\nx\n");
}

#[test]
fn an_fstab_that_mounts_it_too_early_is_told_beforehand() {
    let (place, device) = with_disk(EXT4);
    place.sh("mkdir T/copy; mount -t tmpfs copy T/copy; cp -a /etc/. T/copy; mount --bind T/copy /etc");
    for (line, reason) in [
        (
            "ext4 noatime 0 0",
            "add the option x-systemd.after=iotdm-agent-format.service",
        ),
        (
            "ext4 noatime,x-systemd.after=iotdm-agent-format.service 0 2",
            "set the last field to 0",
        ),
    ] {
        place.sh(&format!("echo '{device} /srv/app {line}' >/etc/fstab"));
        let said = place.refused(ASKED, "request");
        assert!(said.contains(reason), "{line}: {said}");
    }
    place.sh(&format!(
        "echo '{device} /srv/app ext4 x-systemd.after=iotdm-agent-format.service 0 0' >/etc/fstab"
    ));
    place.done(ASKED, "request");
}
