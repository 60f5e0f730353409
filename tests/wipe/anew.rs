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
fn the_time_that_it_takes_counts() {
    let (place, device) = with_disk(EXT4);
    place.done(ASKED, "request");
    place.tool(
        "mkfs.ext4",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin; sleep 1; exec mkfs.ext4 \"$@\"",
    );
    place.done(NEXT, "format");
    let said = place.done(NEXT, "wipe");
    let seconds = place.report()["seconds"].as_f64().unwrap();
    assert!((1.0..30.0).contains(&seconds), "{seconds}");
    assert_eq!(said, format!("wiped 0 files, 0 bytes, in {seconds:.1} s: {device}\n"));
}

#[test]
fn a_power_cut_in_the_middle_of_mkfs_is_finished_by_the_next_boot() {
    let (place, device) = with_disk(EXT4);
    let before = name(&place, &device);
    place.done(ASKED, "request");
    place.tool("mkfs.ext4", &clears_and_then("kill -9 $PPID $$"));
    assert_eq!(place.run(NEXT, "format").status.code(), None, "killed");
    assert_eq!(name(&place, &device), "");
    place.sh("rm T/bin/mkfs.ext4");
    place.done(THIRD, "format");
    assert_eq!(name(&place, &device), before);
    place.done(THIRD, "wipe");
    assert_eq!(place.report()["boots"], 2);
    assert_eq!(content(&place, &device), "lost+found\n");
}

/// What mkfs.ext4 does first, and then something else.
fn clears_and_then(end: &str) -> String {
    format!("for device; do :; done; dd if=/dev/zero of=$device bs=64k count=1 conv=notrunc 2>/dev/null; {end}")
}

#[test]
fn a_mkfs_that_fails_or_is_killed_is_made_good_by_the_next_reset_and_keeps_the_name_until_then() {
    for (end, ended, told) in [
        (
            "echo 'No space left' >&2; exit 1",
            Some(0),
            "ask for the factory reset again. mkfs.ext4: No space left",
        ),
        (
            "kill -9 $$",
            Some(0),
            "is not made (signal: 9 (SIGKILL)), and its UUID and label are kept",
        ),
        // by the limit of the unit; the boot goes on
        (
            "kill -9 $PPID $$",
            None,
            "iotdm-agent-format.service has not made it anew",
        ),
    ] {
        let (place, device) = with_disk(EXT4);
        let before = name(&place, &device);
        place.done(ASKED, "request");
        place.tool("mkfs.ext4", &clears_and_then(end));
        assert_eq!(place.run(NEXT, "format").status.code(), ended, "{end}");
        place.refused(NEXT, "wipe");
        let report = place.report();
        let failed = strings(&report["failed"]).join("");
        assert!(failed.contains(told), "{failed}");
        assert_eq!(name(&place, &device), "", "it is lost to whoever only looks at it");
        assert!(!place.has("T/state/factory-reset"), "no later boot tries it unasked");

        place.sh("rm T/bin/mkfs.ext4");
        place.done(NEXT, "plan");
        place.done(NEXT, "request");
        place.done(THIRD, "format");
        place.done(THIRD, "wipe");
        assert_eq!(strings(&place.report()["wiped"]), [device.as_str()]);
        assert_eq!(name(&place, &device), before);
        assert_eq!(content(&place, &device), "lost+found\n");
        assert!(
            !place.has("T/state/factory-reset.names"),
            "it says itself again what it is called"
        );
        // from now on it is like any other
        place.sh(&format!(
            "dd if=/dev/zero of={device} bs=64k count=1 conv=notrunc 2>/dev/null"
        ));
        let said = place.refused(THIRD, "request");
        assert!(said.contains("holds no ext4 file system"), "{said}");
    }
}

#[test]
fn a_name_that_root_did_not_write_makes_nothing_anew() {
    let (place, device) = with_disk(EXT4);
    place.sh(&format!(
        "dd if=/dev/zero of={device} bs=64k count=1 conv=notrunc 2>/dev/null"
    ));
    place.write(
        "T/state/factory-reset.names",
        &format!("33554432 abababab-abab-abab-abab-abababababab  {device}\n"),
    );
    place.sh("chown 1 T/state/factory-reset.names");
    let said = place.refused(ASKED, "request");
    assert!(said.contains("holds no ext4 file system"), "{said}");
}

/// What has the path in the next boot may be somebody's USB disk.
#[test]
fn what_is_another_file_system_than_the_one_that_was_asked_for_is_not_made_anew() {
    for (instead, told) in [
        (
            "mkfs.ext4 -q -U abababab-abab-abab-abab-abababababab",
            "holds another file system than when the factory reset was asked for: its UUID is abababab",
        ),
        (
            "mkfs.ext2 -q -F",
            "holds no ext4 file system any more, and ext2 instead",
        ),
        (
            "wipefs -qa $device; mkswap -q",
            "holds no ext4 file system any more, and swap instead",
        ),
        (
            "wipefs -qa $device; echo 1M | sfdisk -q --no-reread --no-tell-kernel",
            "holds no ext4 file system any more, and something else instead",
        ),
        (
            "wipefs -qa $device; losetup -c $device; set -- $(losetup -nO BACK-FILE $device); truncate -s 16M $1; losetup -c",
            "is another device than when the factory reset was asked for: it has 16777216 bytes, and that one had 33554432",
        ),
    ] {
        let (place, device) = with_disk(EXT4);
        place.done(ASKED, "request");
        place.sh(&format!("device={device}; {instead} $device"));
        let before = place.sh(&format!("sha256sum <{device}"));
        place.done(NEXT, "format");
        assert_eq!(place.sh(&format!("sha256sum <{device}")), before, "{instead}");
        place.refused(NEXT, "wipe");
        let failed = strings(&place.report()["failed"]).join("");
        assert!(failed.contains(told), "{failed}");
    }
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
            "ext4 noatime,x-systemd.after=iotdm-agent-format.service 0 0",
            "add the option nofail",
        ),
        (
            "ext4 noatime,nofail 0 0",
            "add the option x-systemd.after=iotdm-agent-format.service",
        ),
        (
            "ext4 nofail,x-systemd.after=iotdm-agent-format.service 0 2",
            "set the last field to 0",
        ),
    ] {
        place.sh(&format!("echo '{device} /srv/app {line}' >/etc/fstab"));
        let said = place.refused(ASKED, "request");
        assert!(said.contains(reason), "{line}: {said}");
    }
    place.sh(&format!(
        "echo '{device} /srv/app ext4 nofail,x-systemd.after=iotdm-agent-format.service 0 0' >/etc/fstab"
    ));
    place.done(ASKED, "request");
}
