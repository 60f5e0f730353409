//! What it does, row by row: marker, booted slot, deadline.

use super::*;

const ASK: &str = "rauc status --output-format=shell";
const ACT: [&str; 5] = [
    ASK,
    "systemctl is-active iotdm-agent.service",
    "rauc status mark-active other",
    "rauc status mark-bad booted",
    "systemctl reboot",
];
const REASON: &str = "rootfs.1 was not found good within 1 s of its boot; iotdm-agent.service was failed there";

#[test]
fn a_trial_past_its_deadline_ends_in_the_other_slot_with_the_reason_left_behind() {
    let host = Host::new(OVER);
    assert_eq!(host.tick(), format!("<2>{REASON}; booting the other slot\n"));
    assert_eq!(host.calls(), ACT);
    assert_eq!(host.reason().unwrap(), format!("{REASON}\n"));
    let mode = std::fs::metadata(host.path("state/fallback"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644, "the agent, another user, reads it");
    let names: Vec<_> = std::fs::read_dir(host.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "nothing else is left: {names:?}");
}

#[test]
fn it_never_acts_twice_in_one_boot_and_again_in_the_next() {
    let host = Host::new(OVER);
    host.tick();
    host.calls();
    assert_eq!(host.tick(), "");
    assert_eq!(host.calls(), [""; 0]);
    // another boot: what is below /run is gone
    std::fs::remove_dir_all(host.path("run")).unwrap();
    host.tick();
    assert_eq!(host.calls(), ACT);
}

#[test]
fn without_a_marker_nothing_is_done_said_or_asked() {
    let host = Host::new("");
    std::fs::remove_file(host.path("state/trial")).unwrap();
    assert_eq!(host.tick(), "");
    std::fs::remove_dir(host.path("state")).unwrap();
    assert_eq!(host.tick(), "", "nor without the folder");
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn a_marker_that_goes_while_the_host_runs_ends_it() {
    let host = Host::new("slot=rootfs.1\ndeadline=999999999\n");
    assert_eq!(host.tick(), "");
    std::fs::remove_file(host.path("state/trial")).unwrap();
    assert_eq!(host.tick(), "");
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn what_is_no_marker_is_told_once_and_ignored() {
    for marker in [
        "",
        "\n",
        "rubbish",
        "slot=rootfs.1",
        "slot=rootfs.1\n",
        "deadline=1\n",
        "deadline=1\nslot=rootfs.1\n",
        "slot=rootfs.1\ndeadline=1",
        "slot=rootfs.1\ndeadline=1\n\n",
        "slot=rootfs.1\ndeadline=1\nattempt=2\n",
        "slot=rootfs.1\ndeadline=1\nattempt=2",
        "slot=rootfs.1\n\ndeadline=1\n",
        "slot=rootfs.1\r\ndeadline=1\r\n",
        "slot=\ndeadline=1\n",
        "slot=rootfs.1\ndeadline=\n",
        "slot=rootfs.1\ndeadline=-1\n",
        "slot=rootfs.1\ndeadline=1.5\n",
        "slot=rootfs.1\ndeadline=0x1\n",
        "slot=rootfs.1\ndeadline= 1\n",
        "slot=rootfs.1\ndeadline=1 \n",
        "slot=rootfs.1\ndeadline=1234567890\n",
        "slot=rootfs.1 rootfs.0\ndeadline=1\n",
        "slot=$(touch run/hacked)\ndeadline=1\n",
        "slot='rootfs.1'\ndeadline=1\n",
        "slot=*\ndeadline=1\n",
        "slot=röotfs.1\ndeadline=1\n",
        "Slot=rootfs.1\ndeadline=1\n",
        " slot=rootfs.1\ndeadline=1\n",
        "{\"slot\":\"rootfs.1\",\"deadline\":1}\n",
    ] {
        let host = Host::new(marker);
        let told = format!(
            "<4>{} is no trial marker and is ignored\n",
            host.path("state/trial").display()
        );
        assert_eq!(host.tick(), told, "{marker:?}");
        assert_eq!(host.tick(), "", "{marker:?}");
        assert_eq!(host.calls(), [""; 0], "{marker:?}");
    }
}

#[test]
fn a_marker_that_is_no_plain_file_is_neither_followed_nor_waited_for() {
    let host = Host::new(OVER);
    let marker = host.path("state/trial");
    let elsewhere = host.path("elsewhere");
    for (what, make) in [
        ("a link", "mv $1 $2; ln -s $2 $1"),
        ("a dangling link", "ln -sfn /nonexistent $1"),
        ("a folder", "rm $1; mkdir $1"),
        ("a pipe", "rmdir $1; mkfifo $1"),
    ] {
        let made = Command::new("/bin/sh")
            .args(["-ec", make, "sh"])
            .arg(&marker)
            .arg(&elsewhere)
            .status()
            .unwrap();
        assert!(made.success(), "{what}");
        let _ = std::fs::remove_file(host.path("run/said"));
        assert!(host.tick().contains("is no trial marker and is ignored"), "{what}");
        assert_eq!(host.calls(), [""; 0], "{what}");
    }
}

#[test]
fn before_the_deadline_rauc_is_not_even_asked() {
    let host = Host::new("slot=rootfs.1\ndeadline=999999999\n");
    assert_eq!(host.tick(), "");
    assert_eq!(host.calls(), [""; 0]);
    assert_eq!(host.reason(), None);
}

#[test]
fn in_another_slot_nothing_is_done_and_rauc_is_asked_once_in_a_boot() {
    for slot in ["rootfs.0", "data.0", "rootfs.11", "rootfs", "rootfs.2"] {
        let host = Host::new(&format!("slot={slot}\ndeadline=1\n"));
        for _ in 0..3 {
            assert_eq!(host.tick(), "", "{slot}");
        }
        assert_eq!(host.calls(), [ASK], "{slot}");
        assert_eq!(host.reason(), None, "{slot}");
    }
}

#[test]
fn the_deadline_may_have_leading_zeros_and_is_decimal() {
    let host = Host::new("slot=rootfs.1\ndeadline=000000010\n");
    host.tick();
    assert_eq!(host.calls(), ACT);
    let host = Host::new("slot=rootfs.1\ndeadline=099999999\n");
    host.tick();
    assert_eq!(host.calls(), [""; 0]);
}
