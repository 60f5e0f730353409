//! What it does when RAUC, systemd or the disk do not do as they are told.

use super::*;

const MARKS: [&str; 2] = ["rauc status mark-active other", "rauc status mark-bad booted"];

#[test]
fn without_rauc_it_says_so_once_and_does_nothing() {
    let host = Host::without_rauc(OVER);
    assert_eq!(
        host.tick(),
        "<4>rootfs.1 is on trial and its time is over, but there is no rauc on this host: nothing is done\n"
    );
    assert_eq!(host.tick(), "");
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn a_rauc_that_does_not_say_which_slot_is_booted_is_asked_again_until_it_does() {
    let nobody_booted = STATUS.replace("'booted'", "'inactive'");
    let two_booted = STATUS.replace("'inactive'", "'booted'");
    let no_names = STATUS.replace("RAUC_SYSTEM_SLOTS", "RAUC_SLOT_NAMES");
    let too_few_names = STATUS.replace("data.0 rootfs.1 rootfs.0", "data.0");
    let host = Host::new(OVER);
    for answer in ["", "rubbish\n", &nobody_booted, &two_booted, &no_names, &too_few_names] {
        std::fs::write(host.path("status"), answer).unwrap();
        let _ = std::fs::remove_file(host.path("run/said"));
        let told = "<3>rootfs.1 is on trial and its time is over, but RAUC does not say which slot is booted: ";
        assert_eq!(
            host.failing_tick(),
            format!("{told}it names no booted slot\n"),
            "{answer}"
        );
        assert_eq!(host.failing_tick(), "", "the same is said once");
    }
    host.rauc("echo 'rauc: no bus' >&2; exit 1");
    assert!(host.failing_tick().ends_with("which slot is booted: rauc: no bus\n"));
    assert!(
        !host
            .calls()
            .iter()
            .any(|call| call.contains("mark") || call.contains("reboot"))
    );
    host.rauc("");
    host.tick();
    assert_eq!(host.calls().last().unwrap(), "systemctl reboot");
}

#[test]
fn a_rauc_that_hangs_counts_as_one_that_fails() {
    let host = Host::new(OVER);
    // as packaged it waits half a minute
    let timeout = host.path("bin/timeout");
    std::fs::remove_file(&timeout).unwrap();
    host.tool("timeout", "shift 3; exec /usr/bin/timeout -k 1 0.3 \"$@\"");
    host.rauc("case $* in *mark-*) exec /usr/bin/sleep 60 ;; esac");
    assert!(
        host.failing_tick()
            .contains("RAUC marks nothing, so it is tried again every minute")
    );
    let calls = host.calls();
    let limited: Vec<_> = calls.iter().filter(|call| call.starts_with("timeout")).collect();
    assert!(
        limited.iter().all(|call| call.starts_with("timeout -k 5 30 ")) && limited.len() == 4,
        "{calls:?}"
    );
    assert!(!calls.iter().any(|call| call.contains("reboot")));
}

#[test]
fn one_mark_of_the_two_is_enough() {
    for (refused, told) in [
        (
            "mark-active",
            "<3>RAUC does not make the other slot the one to boot: rauc mark: no such slot\n",
        ),
        (
            "mark-bad",
            "<3>RAUC does not mark rootfs.1 bad: rauc mark: no such slot\n",
        ),
    ] {
        let host = Host::new(OVER);
        host.rauc(&format!(
            "case $* in *{refused}*) echo 'rauc mark: no such slot' >&2; exit 1 ;; esac"
        ));
        let said = host.tick();
        assert!(
            said.starts_with(told) && said.ends_with("; booting the other slot\n"),
            "{said}"
        );
        let calls = host.calls();
        assert_eq!(calls[2..], [MARKS[0], MARKS[1], "systemctl reboot"], "{refused}");
        assert!(host.reason().is_some());
    }
}

#[test]
fn without_any_mark_it_does_not_reboot_but_tries_again() {
    let host = Host::new(OVER);
    host.rauc("case $* in *mark-*) echo 'already processing a different method' >&2; exit 1 ;; esac");
    let said = host.failing_tick();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("already processing a different method"), "{said}");
    assert!(!host.calls().contains(&"systemctl reboot".to_owned()));
    assert_eq!(host.reason(), None);
    assert_eq!(host.failing_tick(), "", "and does not fill the journal");
    host.rauc("");
    host.tick();
    assert_eq!(host.calls().last().unwrap(), "systemctl reboot");
}

#[test]
fn a_reboot_that_is_refused_is_asked_for_again_and_leaves_no_reason_that_is_not_true() {
    let host = Host::new(OVER);
    let refuses = "case $1 in reboot) echo 'Operation inhibited by \"dpkg\"' >&2; exit 1 ;; esac";
    host.systemctl(refuses);
    let said = host.failing_tick();
    assert!(
        said.contains("the reboot into the other slot is refused") && said.contains("inhibited by \"dpkg\""),
        "{said}"
    );
    assert_eq!(host.reason(), None);
    // the agent came back in the meantime and found the slot good
    std::fs::rename(host.path("state/trial"), host.path("trial")).unwrap();
    host.calls();
    assert_eq!(host.tick(), "");
    assert_eq!(host.calls(), [""; 0]);
    // or it did not
    std::fs::rename(host.path("trial"), host.path("state/trial")).unwrap();
    host.systemctl("");
    host.tick();
    assert_eq!(host.calls().last().unwrap(), "systemctl reboot");
    assert!(host.reason().is_some());
}

#[test]
fn a_reason_that_cannot_be_written_keeps_nobody_from_falling_back() {
    let host = Host::new(OVER);
    std::fs::create_dir(host.path("state/fallback")).unwrap();
    let said = host.tick();
    assert!(said.contains("state/fallback cannot be written"), "{said}");
    assert_eq!(host.calls().last().unwrap(), "systemctl reboot");
    let left = std::fs::read_dir(host.path("state")).unwrap().count();
    assert_eq!(left, 2, "nothing half written is left");
}

#[test]
fn what_the_agent_put_where_the_reason_goes_is_replaced_and_not_followed() {
    let host = Host::new(OVER);
    std::fs::write(host.path("shadow"), "untouched").unwrap();
    symlink(host.path("shadow"), host.path("state/fallback")).unwrap();
    host.tick();
    assert_eq!(std::fs::read_to_string(host.path("shadow")).unwrap(), "untouched");
    assert!(
        std::fs::symlink_metadata(host.path("state/fallback"))
            .unwrap()
            .is_file()
    );
}
