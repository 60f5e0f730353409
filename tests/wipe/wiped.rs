//! What goes, and what stays.

use crate::place::{ASKED, NEXT, Place, leaks, strings};

const PLAN: &str = "# the application\nmount T/data\nwipe T/data/app\n";

#[test]
fn rst_02_everything_in_the_named_folder_goes_and_identity_and_everything_else_stays() {
    let place = Place::with(
        PLAN,
        "mkdir -p T/data/app/a/b/c T/data/app/.hidden T/data/other
         chown 1234:1234 T/data/app && chmod 750 T/data/app
         echo 1 >T/data/app/a/b/c/file; echo 2 >T/data/app/.hidden/x; echo 3 >T/data/other/stays
         mkfifo T/data/app/pipe; mknod T/data/app/null c 1 3
         mkdir T/data/app/closed && echo 4 >T/data/app/closed/x && chmod 000 T/data/app/closed T/data/app/closed/x",
    );
    let report = place.reset();
    assert_eq!(place.list("T/data/app"), "");
    assert_eq!(place.sh("stat -c '%u:%g %a' T/data/app"), "1234:1234 750\n");
    assert_eq!(place.read("T/data/other/stays").as_deref(), Some("3\n"));
    place.assert_identity();
    assert_eq!(
        (
            report["id"].as_str(),
            report["asked_in"].as_str(),
            report["boots"].as_u64()
        ),
        (Some(NEXT), Some(ASKED), Some(1))
    );
    assert_eq!(report["files"], 5);
    assert_eq!(report["bytes"], 3 * 4096);
    assert_eq!(strings(&report["wiped"]), ["T/data/app"]);
    assert!(!place.has("T/state/factory-reset"), "the wish is fulfilled");
    assert_eq!(place.sh("stat -c '%u %a' T/state/factory-reset.report"), "0 644\n");
}

#[test]
fn a_whole_partition_can_be_wiped_and_what_the_device_is_stays_under_whatever_name() {
    // T/etc and T/state are bind mounts: on the partition they have other names
    let place = Place::with(
        "mount T/data\nwipe T/data\nkeep T/data/journal\n",
        "mkdir -p T/data/app T/data/journal; echo 1 >T/data/app/x; echo 2 >T/data/file; echo 3 >T/data/journal/x
         ln T/data/etc/token T/data/app/hard-link-to-the-token",
    );
    place.reset();
    place.assert_identity();
    assert_eq!(
        place.sh("cd T/data && find . -maxdepth 2 -type f | sort; ls"),
        "./app/hard-link-to-the-token\n./etc/ca.pem\n./etc/config.toml\n./etc/token\n./journal/x\n./state/factory-reset.report\n\
         ./state/state.a\napp\netc\njournal\nlost+found\nstate\n"
    );
}

#[test]
fn the_key_that_opens_the_hosts_credentials_stays() {
    let place = Place::with(
        "mount T/data\nwipe T/data/lib\n",
        "mkdir -p T/data/lib/systemd; echo key >T/data/lib/systemd/credential.secret; echo x >T/data/lib/systemd/x
         mount --bind T/data/lib /var/lib",
    );
    place.reset();
    assert_eq!(
        place.sh("cd T/data/lib; find . -type f"),
        "./systemd/credential.secret\n"
    );
}

#[test]
fn what_is_kept_stays_with_its_parents_and_nothing_else_does() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\nkeep T/data/app/deep/er/licence\nkeep T/data/app/folder\nkeep T/data/app/not-there\n",
        "mkdir -p T/data/app/deep/er/not T/data/app/folder/sub T/data/app/gone
         echo L >T/data/app/deep/er/licence; echo x >T/data/app/deep/x; echo x >T/data/app/deep/er/x
         echo S >T/data/app/folder/sub/x",
    );
    place.reset();
    assert_eq!(
        place.sh("cd T/data/app && find . -mindepth 1 | sort"),
        "./deep\n./deep/er\n./deep/er/licence\n./folder\n./folder/sub\n./folder/sub/x\n"
    );
}

#[test]
fn a_link_goes_and_what_it_leads_to_stays() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\nwipe T/data/link\n",
        "mkdir T/data/app T/outside T/data/target; echo x >T/outside/x; echo y >T/data/target/y
         ln -s T/outside T/data/app/out; ln -s /etc T/data/app/etc; ln -s ../target T/data/app/relative
         ln -s T/data/target T/data/link; ln -s / T/data/app/root; ln -s nowhere T/data/app/broken",
    );
    place.reset();
    assert_eq!(place.list("T/data/app"), "");
    assert!(!place.has("T/data/link"));
    assert!(place.has("T/outside/x") && place.has("T/data/target/y"));
    assert!(std::path::Path::new("/etc/passwd").exists());
}

#[test]
fn a_link_on_the_way_to_the_token_stays_because_the_token_is_found_through_it() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\n",
        "mkdir -p T/data/app/v1/secret T/data/app/more; printf secret >T/data/app/v1/secret/t; chmod 600 T/data/app/v1/secret/t; ln -s v1 T/data/app/current
         echo x >T/data/app/v1/x
         mv T/etc/token T/data/app/more/; ln -s T/data/app/current/secret/t T/etc/token",
    );
    place.reset();
    place.assert_identity();
    assert_eq!(
        place.sh("cd T/data/app && find . -mindepth 1 | sort"),
        "./current\n./v1\n./v1/secret\n./v1/secret/t\n"
    );
}

#[test]
fn a_file_system_that_is_mounted_in_the_tree_is_not_entered_and_that_is_told() {
    let place = Place::with(
        PLAN,
        "mkdir -p T/data/app/inside T/data/app/bound T/outside; echo x >T/outside/x; echo g >T/data/app/gone
         mount -t tmpfs t T/data/app/inside && echo y >T/data/app/inside/y
         mount --bind T/outside T/data/app/bound; touch T/data/app/f && mount --bind T/outside/x T/data/app/f",
    );
    place.done(ASKED, "request");
    let said = place.refused(NEXT, "wipe");
    assert!(
        place.has("T/outside/x") && place.has("T/data/app/inside/y") && !place.has("T/data/app/gone"),
        "{said}"
    );
    let report = place.report();
    let mut failed = strings(&report["failed"]);
    failed.sort_unstable();
    assert_eq!(
        failed,
        [
            "T/data/app/bound: another file system is mounted there",
            "T/data/app/f: Device or resource busy",
            "T/data/app/inside: another file system is mounted there",
        ]
    );
    assert_eq!(strings(&report["wiped"]), Vec::<&str>::new());
    assert!(
        !place.has("T/state/factory-reset"),
        "a wipe that failed is not tried for ever"
    );
}

#[test]
fn a_file_system_in_the_tree_that_the_plan_declares_too_is_wiped_by_its_own_lines() {
    let place = Place::with(
        "mount T/data\nmount T/data/app/log\nwipe T/data/app\nwipe T/data/app/log/old\n",
        "mkdir -p T/data/app/log; truncate -s 16M T/disk2; mkfs.ext4 -q T/disk2; mount -o loop T/disk2 T/data/app/log
         mkdir T/data/app/log/old T/data/app/log/new; echo x >T/data/app/log/old/x; echo y >T/data/app/log/new/y
         echo z >T/data/app/z",
    );
    place.reset();
    assert_eq!(
        place.sh("cd T/data/app && find . -mindepth 1 -not -name lost+found | sort"),
        "./log\n./log/new\n./log/new/y\n./log/old\n"
    );
}

#[test]
fn a_file_system_in_the_tree_that_is_kept_is_no_failure() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\nkeep T/data/app/log\n",
        "mkdir -p T/data/app/log T/data/app/x; mount -t tmpfs t T/data/app/log; echo y >T/data/app/log/y",
    );
    place.reset();
    assert_eq!(
        place.sh("cd T/data/app && find . -mindepth 1 | sort"),
        "./log\n./log/y\n"
    );
}

#[test]
fn a_data_partition_that_is_not_mounted_stays_as_it_is_and_so_does_what_is_beneath() {
    let place = Place::with(
        "mount T/data\nmount T/apps\nwipe T/data/app\nwipe T/apps/a\n",
        "mkdir -p T/data/app T/apps/a; echo beneath >T/apps/a/x; echo 1 >T/data/app/x
         truncate -s 16M T/disk2; mkfs.ext4 -q T/disk2; mount -o loop T/disk2 T/apps; mkdir T/apps/a; echo on >T/apps/a/x",
    );
    place.done(ASKED, "request");
    place.sh("umount T/apps");
    place.refused(NEXT, "wipe");
    let report = place.report();
    assert_eq!(strings(&report["wiped"]), ["T/data/app"]);
    assert_eq!(
        strings(&report["failed"]),
        [
            "nothing was wiped of T/apps: it is not mounted",
            "T/apps/a: is not mounted"
        ]
    );
    assert_eq!(place.read("T/apps/a/x").as_deref(), Some("beneath\n"));
    assert_eq!(place.sh("mount -o loop T/disk2 T/apps; cat T/apps/a/x"), "on\n");
}

#[test]
fn what_cannot_be_removed_is_told_and_the_rest_goes() {
    let place = Place::with(
        PLAN,
        "mkdir -p T/data/app/a; echo x >T/data/app/a/fixed; echo y >T/data/app/a/y; chattr +i T/data/app/a/fixed",
    );
    place.done(ASKED, "request");
    place.refused(NEXT, "wipe");
    assert_eq!(
        strings(&place.report()["failed"]),
        ["T/data/app/a/fixed: Operation not permitted"]
    );
    assert_eq!(place.sh("cd T/data/app && find . -type f"), "./a/fixed\n");
    place.sh("chattr -i T/data/app/a/fixed");
}

#[test]
fn a_tree_deeper_than_any_path_goes() {
    let place = Place::with(
        PLAN,
        "mkdir T/data/app && cd T/data/app && i=0; d=$(printf '%0200d' 0)
         while [ $i -lt 300 ]; do mkdir $d && cd -P ./$d && : >f; i=$((i+1)); done",
    );
    let report = place.reset();
    assert_eq!(report["files"], 300);
    assert_eq!(place.list("T/data/app"), "");
}

#[test]
fn a_full_disk_keeps_nobody_from_wiping() {
    let place = Place::with(PLAN, "mkdir T/data/app");
    place.done(ASKED, "request");
    place.sh(
        "dd if=/dev/zero of=T/data/app/filler bs=64k 2>/dev/null || true; for i in 1 2 3 4 5 6 7 8; do
              dd if=/dev/zero of=T/data/app/f$i bs=1 count=4096 2>/dev/null || true; done",
    );
    place.done(NEXT, "wipe");
    assert_eq!(strings(&place.report()["wiped"]), ["T/data/app"]);
}

#[test]
fn the_plan_shows_what_the_wipe_then_does_and_changes_nothing() {
    let place = Place::with(
        "mount T/data\nwipe T/data/app\nwipe T/data/none\nwipe T/data/link\nkeep T/data/app/licence\n",
        "mkdir -p T/data/app/a/b; echo 1 >T/data/app/a/x; echo L >T/data/app/licence; ln -s /etc T/data/link
         echo 2 >T/data/app/a/two; ln T/data/app/a/two T/data/app/a/names",
    );
    let before = place.list("T/data");
    let shown = place.done(ASKED, "plan");
    assert_eq!(place.list("T/data"), before);
    assert_eq!(
        shown,
        "wiped:   T/data/app/*: 3 files, 2 folders, 8.0 KiB\nwiped:   T/data/none: nothing is there\n\
         wiped:   T/data/link: a symbolic link; what it leads to stays\n\
         stays:   T/data/app/licence (T/etc/factory-reset.d/50-test.conf:5: keep)\n"
    );
    let report = place.reset();
    assert_eq!(
        (&report["files"], &report["bytes"]),
        (&4.into(), &8192.into()),
        "the three, and the link"
    );
}

#[test]
fn a_test_leaves_no_mount_behind() {
    let place = Place::with(PLAN, "mkdir T/data/app");
    let folder = place.text("T/");
    assert!(!leaks(std::path::Path::new(&folder)));
}

#[test]
fn what_is_mounted_elsewhere_too_is_emptied_and_not_removed() {
    let place = Place::with(
        PLAN,
        "mkdir -p T/data/app/journal/old T/data/app/x; echo 1 >T/data/app/journal/old/entry; echo 2 >T/data/app/x/hosts
         mkdir T/log; mount --bind T/data/app/journal T/log; touch T/hosts; mount --bind T/data/app/x/hosts T/hosts",
    );
    assert!(place.done(ASKED, "plan").contains("mounted on T/log"));
    place.reset();
    assert_eq!(
        place.sh("cd T/data/app; find . | sort; echo new >T/log/entry; cat T/log/entry T/hosts"),
        ".\n./journal\n./x\n./x/hosts\nnew\n2\n"
    );
}

#[test]
fn rst_02_an_identity_on_an_overlay_stays_where_that_keeps_it() {
    let place = Place::with(
        "mount T/data\nwipe T/data/over\n",
        "mkdir -p T/data/over/up T/data/over/work T/data/over/else T/low T/merged; echo 1 >T/data/over/else/x
         mount -t overlay -o lowerdir=T/low,upperdir=T/data/over/up,workdir=T/data/over/work overlay T/merged
         echo ca >T/merged/ca.pem; sed -i 's#T/etc/ca.pem#T/merged/ca.pem#' T/etc/config.toml",
    );
    place.reset();
    assert_eq!(place.read("T/data/over/up/ca.pem").as_deref(), Some("ca\n"));
    assert!(!place.has("T/data/over/else"));
}
