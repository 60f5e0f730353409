//! What is refused, and that nothing happens then.

use crate::bus::{Answer, PrivateBus, block_lock, login1, systemd1};
use crate::place::{ASKED, NEXT, Place, strings};

/// What the request, and the plan, say of a plan that nobody carries out.
fn refused(place: &Place, plan: &str) -> String {
    place.plan(plan);
    let before = place.list("T/data");
    let said = place.refused(ASKED, "request");
    assert!(place.run(ASKED, "plan").status.code() == Some(1), "{plan}: {said}");
    assert_eq!(place.list("T/data"), before, "{plan}");
    said
}

#[test]
fn every_mistake_in_a_plan_is_told_with_file_and_line() {
    let place = Place::new();
    let name = "T/etc/factory-reset.d/50-test.conf";
    for (plan, line, reason) in [
        ("mount T/data\nwipe\n", 2, "the path is missing"),
        ("mount T/data\n\n# x\nerase T/data/x\n", 4, "no word 'erase'"),
        ("mount T/data\nwipe data/x\n", 2, "must begin with /"),
        ("mount T/data\nwipe T/data/../x\n", 2, "no '.' and no '..'"),
        ("mount T/data\nwipe T/data/./x\n", 2, "no '.' and no '..'"),
        ("mount T/data\nwipe T/data/*\n", 2, "'*' is not understood"),
        ("mount T/data\nwipe \"T/data/x\"\n", 2, "'\"' is not understood"),
        ("mount /\nwipe /x\n", 1, "never the root file system"),
        ("mount T/data\nwipe //\n", 2, "never the root file system"),
        ("wipe T/data/x\n", 1, "below no declared file system"),
        ("mount T/data\nwipe T/database/x\n", 2, "below no declared file system"),
        ("mount T/data\nwipe T/data/x\nwipe T/data/x/y\n", 3, "takes it already"),
        ("mount T/data\nwipe T/data/x\nwipe T/data/x/\n", 3, "stands there twice"),
        ("mount T/data\nwipe T/data/x\nkeep T/data/y\n", 3, "below no 'wipe'"),
        ("mount T/data\nwipe T/data/x\nkeep T/data/x\n", 3, "below no 'wipe'"),
        ("format T/data/x\n", 1, "no device below /dev"),
    ] {
        let said = refused(&place, plan);
        assert!(
            said.contains(&format!("{name}:{line}: ")) && said.contains(reason),
            "{plan}: {said}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_none_of_the_plan_is_carried_out() {
    let place = Place::with("", "mkdir T/data/app; echo x >T/data/app/x");
    let said = refused(&place, "mount T/data\nwipe T/data/app\noops\nwipe x\n");
    assert!(said.contains(":3: ") && said.contains(":4: "), "{said}");
}

#[test]
fn a_plan_that_wipes_nothing_is_refused() {
    let place = Place::new();
    for plan in ["", "# nothing\n", "mount T/data\n"] {
        let said = refused(&place, plan);
        assert!(said.contains("names nothing to wipe"), "{said}");
    }
    place.sh("rm -r T/etc/factory-reset.d");
    assert!(place.refused(ASKED, "request").contains("names nothing to wipe"));
}

#[test]
fn a_plan_that_others_than_root_can_write_is_refused() {
    let place = Place::with("", "mkdir T/data/app");
    let plan = "mount T/data\nwipe T/data/app\n";
    for (spoil, mend) in [
        (
            "chmod o+w T/etc/factory-reset.d/50-test.conf",
            "chmod o-w T/etc/factory-reset.d/50-test.conf",
        ),
        (
            "chown 1234 T/etc/factory-reset.d/50-test.conf",
            "chown 0 T/etc/factory-reset.d/50-test.conf",
        ),
        ("chmod g+w T/etc/factory-reset.d", "chmod g-w T/etc/factory-reset.d"),
        ("chown 1234 T/etc/factory-reset.d", "chown 0 T/etc/factory-reset.d"),
    ] {
        place.plan(plan);
        place.sh(spoil);
        let said = place.refused(ASKED, "request");
        assert!(said.contains("root"), "{spoil}: {said}");
        place.sh(mend);
        place.done(ASKED, "request");
    }
}

#[test]
fn a_file_system_that_is_the_systems_or_none_of_its_own_is_refused() {
    let place = Place::with(
        "",
        "mkdir T/folder T/tmp T/rootish T/other T/x; mount -t tmpfs t T/tmp; mount --bind T/folder T/rootish
         truncate -s 16M T/disk2; mkfs.ext4 -q T/disk2; mount -o loop T/disk2 T/other
         ln -s T/data T/link; mkdir T/data/real; ln -s T/data/real T/data/way; mkdir T/data/app; ln -s ../real T/data/app/way",
    );
    let slot = place.sh("findmnt -no SOURCE T/other");
    place.sh(&format!(
        "mkdir /run/rauc; printf '[system]\\ncompatible=x\\n[slot.rootfs.1]\\ndevice={}\\n' >/run/rauc/system.conf",
        slot.trim()
    ));
    for (plan, reason) in [
        ("mount T/folder\nwipe T/folder/x\n", "is not mounted"),
        ("mount T/nowhere\nwipe T/nowhere/x\n", "is not there"),
        ("mount T/tmp\nwipe T/tmp/x\n", "no file system on a disk of its own"),
        ("mount T/rootish\nwipe T/rootish/x\n", "is the root file system"),
        ("mount T/other\nwipe T/other/x\n", "is slot rootfs.1"),
        ("mount T/link\nwipe T/link/app\n", "goes through a symbolic link"),
        ("mount T/data\nwipe T/data/way/x\n", "way on the way is a symbolic link"),
        (
            "mount T/data\nwipe T/data/app\nkeep T/data/app/way/x\n",
            "keep T/data/app/way/x: goes through a symbolic link",
        ),
        (
            "mount T/data\nwipe T/data/etc\n",
            "lies in what stays (T/etc always stays)",
        ),
        (
            "mount T/data\nwipe T/data/state/state.a\n",
            "lies in what stays (T/state always stays)",
        ),
        (
            "mount T/state\nwipe T/state\n",
            "lies in what stays (T/state always stays)",
        ),
    ] {
        let said = refused(&place, plan);
        assert!(said.contains(reason), "{plan}: {said}");
    }
}

#[test]
fn what_must_stay_and_cannot_be_found_stops_everything() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\n",
        "mkdir T/data/app; echo x >T/data/app/x",
    );
    place.done(ASKED, "request");
    for (spoil, reason) in [
        (
            "mv T/etc/token T/etc/token.old",
            "T/etc/token must stay and cannot be found",
        ),
        ("echo '[nonsense' >T/etc/config.toml", "the configuration is refused"),
        (": >T/etc/config.toml", "gives this device no identity yet"),
    ] {
        place.sh(spoil);
        place.sh("printf 'asked_in=%s\\n' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa >T/state/factory-reset");
        let said = place.refused(NEXT, "wipe");
        assert!(said.contains(reason), "{spoil}: {said}");
        let report = place.report();
        assert_eq!(strings(&report["failed"])[0], "nothing was wiped");
        assert_eq!(report["asked_in"], ASKED);
        assert!(place.has("T/data/app/x") && !place.has("T/state/factory-reset"));
        place.refused(ASKED, "request");
    }
}

#[test]
fn a_wish_of_this_boot_waits_for_the_next_one() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\n",
        "mkdir T/data/app; echo x >T/data/app/x",
    );
    assert_eq!(place.done(ASKED, "wipe"), "no factory reset is asked for\n");
    place.done(ASKED, "request");
    assert!(place.refused(ASKED, "wipe").contains("takes place in the next one"));
    assert!(place.has("T/data/app/x") && place.has("T/state/factory-reset"));
    assert!(!place.has("T/state/factory-reset.report"));
    place.done(NEXT, "wipe");
    assert!(!place.has("T/data/app/x"));
    // once
    place.sh("echo new >T/data/app/x");
    assert_eq!(place.done(NEXT, "wipe"), "no factory reset is asked for\n");
    assert!(place.has("T/data/app/x"));
}

/// The folder belongs to the unprivileged agent.
#[test]
fn what_the_agent_could_put_in_the_place_of_a_wish_is_no_wish_and_is_not_followed() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\n",
        "mkdir T/data/app; echo x >T/data/app/x; printf 'asked_in=%s\\n' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa >T/elsewhere",
    );
    for put in [
        "ln -s T/elsewhere T/state/factory-reset",
        "mkfifo T/state/factory-reset",
        "mkdir T/state/factory-reset",
        "head -c 100000 /dev/zero >T/state/factory-reset",
        ": >T/state/factory-reset",
        "echo asked_in=yesterday >T/state/factory-reset",
        "cp T/elsewhere T/state/factory-reset; chown 1234 T/state/factory-reset",
    ] {
        place.sh(put);
        place.refused(NEXT, "wipe");
        assert!(place.has("T/data/app/x") && place.has("T/elsewhere"), "{put}");
        assert!(!place.has("T/state/factory-reset"), "{put}: it is tried once");
        assert_eq!(place.report()["asked_in"], "", "{put}");
    }
    // nor in the place of what is written
    for put in [
        "ln -s T/elsewhere T/state/.factory-reset.new",
        "ln -s T/elsewhere T/state/factory-reset",
        "ln -sf T/elsewhere T/state/factory-reset.report",
        "mkdir T/state/.factory-reset.report.new",
    ] {
        place.sh(put);
        place.reset();
        assert_eq!(
            place.read("T/elsewhere").as_deref(),
            Some(&*format!("asked_in={ASKED}\n")),
            "{put}"
        );
        assert_eq!(place.sh("stat -c %F T/state/factory-reset.report"), "regular file\n");
    }
}

#[test]
fn a_wipe_that_brings_the_host_down_again_and_again_is_given_up() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\n",
        "mkdir T/data/app; echo x >T/data/app/x",
    );
    place.done(ASKED, "request");
    for boot in 1..=5 {
        place.sh(&format!("printf 'boot=%032d\\n' {boot} >>T/state/factory-reset"));
    }
    assert!(
        place
            .refused(NEXT, "wipe")
            .contains("given up: 5 boots have not come to its end")
    );
    assert!(place.has("T/data/app/x") && !place.has("T/state/factory-reset"));
    assert_eq!(place.report()["boots"], 6);
}

#[test]
fn a_request_wants_a_wipe_that_is_enabled() {
    let place = Place::with("mount T/data\nwipe T/data/app\n", "mkdir T/data/app");
    place.tool(
        "systemctl",
        "[ \"$*\" != 'is-enabled --quiet iotdm-agent-wipe.service' ]",
    );
    let said = place.refused(ASKED, "request");
    assert!(
        said.contains("systemctl enable iotdm-agent-factory-reset.service"),
        "{said}"
    );
    assert!(!place.has("T/state/factory-reset"));
}

#[test]
fn a_request_wants_units_that_are_not_masked() {
    let place = Place::with("mount T/data\nwipe T/data/app\n", "mkdir T/data/app");
    for unit in ["", "-reboot"] {
        let unit = format!("iotdm-agent-factory-reset{unit}.service");
        place.tool(
            "systemctl",
            &format!("[ \"$*\" != 'is-enabled {unit}' ] || {{ echo masked-runtime; exit 1; }}"),
        );
        let said = place.refused(ASKED, "request");
        assert!(said.contains(&format!("systemctl unmask {unit}")), "{said}");
        assert!(!place.has("T/state/factory-reset"));
    }
}

#[tokio::test]
async fn check_warns_of_a_mount_that_the_wipe_does_not_wait_for() {
    let mut place = Place::with("mount T/data\nwipe T/data/app\n", "mkdir T/data/app");
    place.sh(
        "mkdir T/copy; mount -t tmpfs copy T/copy; cp -a /etc/. T/copy; mount --bind T/copy /etc
         echo iotdm-agent:x:0:0::/:/bin/sh >>/etc/passwd; printf '[factory_reset]\nenabled = true\n' >>T/etc/config.toml",
    );
    let bus = PrivateBus::start();
    let systemd1 = systemd1(&bus).await;
    let request = "iotdm-agent-factory-reset.service".to_owned();
    systemd1
        .answer("Requires", Answer::Names(vec![request]))
        .answer("After", Answer::Names(vec!["local-fs.target".to_owned()]));
    bus.address().clone_into(&mut place.bus);
    let place = std::sync::Arc::new(place);
    // what the warning says to do, if there is one
    let warned = async |fstab: &str| {
        place.write("/etc/fstab", &format!("LABEL=data T/data ext4 {fstab} 0 2\n"));
        let place = std::sync::Arc::clone(&place);
        let checked = tokio::task::spawn_blocking(move || place.check()).await.unwrap();
        assert!(
            checked.iter().any(|finding| finding["id"] == "factory-reset"),
            "{checked:?}"
        );
        let found = checked
            .into_iter()
            .find(|finding| finding["id"] == "factory-reset-mounts")?;
        assert_eq!(found["severity"], "warning");
        let text = found["text"].as_str().unwrap();
        assert!(text.contains("may find T/data not mounted"), "{text}");
        let (_, unit) = found["hint"].as_str().unwrap().split_once("After=").unwrap();
        Some(unit.to_owned())
    };
    assert_eq!(warned("noatime").await, None);
    let told = "noatime,nofail,x-systemd.before=iotdm-agent-wipe.service";
    assert_eq!(warned(told).await, None);
    let unit = warned("noatime,nofail").await.expect("a warning");
    assert!(unit.ends_with("-data.mount"), "{unit}");
    systemd1.answer("After", Answer::Names(vec![unit]));
    assert_eq!(warned("noatime,nofail").await, None);
}

/// A request whose reboot is refused; the bus is served meanwhile.
async fn refused_to_reboot(place: Place, reason: &'static str) -> Place {
    let asked = move || {
        place.done(ASKED, "request");
        assert!(place.has("T/state/factory-reset"));
        let said = place.refused(ASKED, "reboot");
        assert!(said.contains(reason), "{said}");
        assert!(!place.has("T/state/factory-reset"));
        place
    };
    tokio::task::spawn_blocking(asked).await.unwrap()
}

#[tokio::test]
async fn a_reboot_that_is_refused_takes_the_wish_back_and_a_lock_refuses_it_also_to_root() {
    let place = Place::with("mount T/data\nwipe T/data/app\n", "mkdir T/data/app");
    place.tool("systemctl", "[ $1 != reboot ] || touch T/rebooted");
    let mut place = refused_to_reboot(place, "it cannot be seen who holds a lock on it").await;
    let bus = PrivateBus::start();
    let login1 = login1(&bus).await;
    bus.address().clone_into(&mut place.bus);
    let lock = block_lock("apt", "upgrading");
    login1.answer("ListInhibitors", Answer::Locks(vec![lock]));
    let place = refused_to_reboot(place, "blocked by apt (upgrading; uid 4711").await;
    assert!(!place.has("T/rebooted"));

    // one that is taken in between
    login1.answer("ListInhibitors", Answer::Locks(Vec::new()));
    place.tool("systemctl", "[ $1 != reboot ] || { echo 'inhibited' >&2; exit 1; }");
    let mut place = refused_to_reboot(place, "inhibited").await;
    // the shutdown ends whoever has asked for it
    for reboots in ["exit 0", "kill $$"] {
        place.tool("systemctl", &format!("[ $1 != reboot ] || {{ {reboots}; }}"));
        let rebooted = move || {
            place.done(ASKED, "request");
            place.done(ASKED, "reboot");
            assert!(place.has("T/state/factory-reset"), "{reboots}");
            place
        };
        place = tokio::task::spawn_blocking(rebooted).await.unwrap();
    }
}

#[test]
fn a_wish_is_taken_back_also_when_the_configuration_is_refused() {
    let place = Place::with("mount T/data\nwipe T/data/app\n", "mkdir T/data/app");
    for configuration in [None, Some("oops")] {
        place.done(ASKED, "request");
        if let Some(text) = configuration {
            place.write("T/etc/config.toml", text);
        }
        for _ in 0..2 {
            assert!(place.done(ASKED, "withdraw").contains("no factory reset is asked for"));
            assert!(!place.has("T/state/factory-reset"));
        }
    }
}
