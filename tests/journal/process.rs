//! journalctl itself: killed, stopped, not there, not allowed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use iotdm::host::journal::{Options, readable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::journal::{BEGIN, BOOT, Journald, Record, wait, write};
use crate::{SHORT, numbered, options, read_to, read_until, start, within};

/// A program that is called as journalctl is.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("journalctl");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A journalctl whose process is known: the last one that follows.
fn watched(folder: &Path) -> PathBuf {
    let pid = folder.join("pid");
    let text = format!(
        "case \"$*\" in *--follow*) echo $$ >{pid}.new; mv {pid}.new {pid};; esac\nexec /usr/bin/journalctl \"$@\"",
        pid = pid.display()
    );
    script(folder, &text)
}

/// A journalctl that writes down how it was called and does `first` before it is the real one.
fn noted(folder: &Path, first: &str) -> PathBuf {
    let calls = folder.join("calls");
    let text = format!(
        "echo \"$*\" >>{}\ncd {}\n{first}\nexec /usr/bin/journalctl \"$@\"",
        calls.display(),
        folder.display()
    );
    script(folder, &text)
}

/// How often it was called with these words.
fn calls(folder: &Path, with: &str) -> usize {
    let calls = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    calls.lines().filter(|call| call.contains(with)).count()
}

/// What it is called with to catch up.
const CATCHES_UP: &str = " _MACHINE_ID=";

async fn until(what: &str, done: impl Fn() -> bool) {
    let work = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, work).await;
}

fn follower(folder: &Path) -> Option<Pid> {
    let pid = std::fs::read_to_string(folder.join("pid")).ok()?;
    Some(Pid::from_raw(pid.trim().parse().ok()?))
}

#[tokio::test]
async fn a_journalctl_that_is_killed_is_started_again_and_no_entry_is_lost_or_repeated() {
    let (journald, folder) = (Journald::start(), tempfile::tempdir().unwrap());
    let options = Options {
        boot_id: journald.boot.clone(),
        journalctl: watched(folder.path()),
        ..options(&journald.directory())
    };
    let mut journal = start(options, None);
    let mut messages = Vec::new();
    for round in 0..5 {
        for nth in 0..20 {
            journald.log(3, &format!("m{}", 20 * round + nth));
        }
        let read = read_to(&mut journal, &format!("m{}", 20 * round + 19)).await;
        assert_eq!(read.gaps, []);
        messages.extend(read.entries.into_iter().map(|entry| entry.message));
        kill(follower(folder.path()).unwrap(), Signal::SIGKILL).unwrap();
    }
    assert_eq!(messages, numbered("m", 100));
}

#[tokio::test]
async fn a_journalctl_that_stands_still_is_noticed_and_started_again() {
    let (journald, folder) = (Journald::start(), tempfile::tempdir().unwrap());
    let options = Options {
        boot_id: journald.boot.clone(),
        journalctl: watched(folder.path()),
        patience: SHORT,
        ..options(&journald.directory())
    };
    let mut journal = start(options, None);
    journald.log(3, "before");
    read_to(&mut journal, "before").await;
    let stopped = follower(folder.path()).unwrap();
    kill(stopped, Signal::SIGSTOP).unwrap();
    journald.log(3, "meanwhile");
    let read = read_to(&mut journal, "meanwhile").await;
    assert_eq!(read.messages(), ["meanwhile"]);
    wait("the end of the one that stands still", || kill(stopped, None).is_err());
}

#[tokio::test]
async fn a_place_that_no_journalctl_gets_past_is_passed_over_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory).unwrap();
    let records: Vec<_> = (0..10).map(|nth| Record::new(nth, 3, format!("m{nth}"))).collect();
    write(&directory.join("a.journal"), &records);
    let mut journal = start(options(&directory), None);
    let before = read_to(&mut journal, "m9").await;
    drop(journal);
    let stuck = Options {
        journalctl: script(
            folder.path(),
            "case \"$*\" in *--follow*) exec sleep 1000;; esac; exec /usr/bin/journalctl \"$@\"",
        ),
        patience: SHORT,
        ..options(&directory)
    };
    let mut journal = start(stuck, Some(before.entries[3].cursor.clone()));
    let read = read_until(&mut journal, "a gap", |read| !read.gaps.is_empty()).await;
    assert_eq!(read.messages(), Vec::<&str>::new());
    assert_eq!(read.gaps[0].at_most, Some(6), "m4 to m9");
    assert_eq!(read.cursor.as_ref(), Some(&before.entries[9].cursor));
}

#[tokio::test]
async fn while_nothing_is_logged_progress_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.journal"), &[Record::new(0, 6, "fine")]);
    let (beats, mut count) = tokio::sync::watch::channel(0);
    let alive = move || beats.send_modify(|count| *count += 1);
    let _journal = iotdm::host::journal::Journal::start(options(folder.path()), None, alive);
    within("three signs of life", count.wait_for(|count| *count >= 3))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_journal_that_may_not_be_read_names_the_group() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("a.journal");
    write(&file, &[Record::new(0, 3, "secret")]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let nobody = "exec setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/journalctl \"$@\"";
    let nobody = Options {
        journalctl: script(folder.path(), nobody),
        ..options(&directory)
    };
    let text = readable(&nobody).await.unwrap_err();
    assert!(text.contains("group systemd-journal"), "{text}");
    let journal = start(nobody, None);
    let told = async {
        loop {
            if let Some(trouble) = journal.trouble() {
                return trouble;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let trouble = within("a trouble", told).await;
    assert!(trouble.contains("group systemd-journal"), "{trouble}");

    assert_eq!(readable(&options(&directory)).await, Ok(()));
    let other = Options {
        boot_id: "00000000000000000000000000000009".to_owned(),
        ..options(&directory)
    };
    let text = readable(&other).await.unwrap_err();
    assert!(text.contains("no entry of this boot"), "{text}");
}

#[tokio::test]
async fn a_journalctl_that_is_not_there_or_talks_nonsense_is_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory).unwrap();
    write(
        &directory.join("a.journal"),
        &[Record::new(0, 3, "first"), Record::new(1, 3, "second")],
    );
    let missing = folder.path().join("journalctl");
    let options = Options {
        journalctl: missing.clone(),
        ..options(&directory)
    };
    let text = readable(&options).await.unwrap_err();
    assert!(text.contains("cannot be started"), "{text}");
    let mut journal = start(options, None);
    // One line that is none, and then the real thing.
    script(folder.path(), "echo nonsense; exec /usr/bin/journalctl \"$@\"");
    let read = read_to(&mut journal, "second").await;
    assert_eq!(read.messages(), ["first", "second"]);
    assert!(
        read.gaps.iter().any(|gap| gap.reason.contains("no entry")),
        "{:?}",
        read.gaps
    );
    assert_eq!(journal.trouble(), None);
}

#[tokio::test]
async fn a_position_of_this_boot_is_kept_however_long_the_journal_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory).unwrap();
    let records: Vec<_> = (0..10).map(|nth| Record::new(nth, 3, format!("m{nth}"))).collect();
    write(&directory.join("a.journal"), &records);
    let before = read_to(&mut start(options(&directory), None), "m9").await;
    std::fs::write(folder.path().join("broken"), "").unwrap();
    let fails = "[ ! -e broken ] || { echo Failed to open files: Input/output error >&2; exit 1; }";
    let broken = Options {
        journalctl: noted(folder.path(), fails),
        ..options(&directory)
    };
    let mut journal = start(broken, Some(before.entries[3].cursor.clone()));
    until("eight attempts", || calls(folder.path(), "--cursor") >= 8).await;
    let trouble = journal.trouble().unwrap_or_default();
    assert!(trouble.contains("Input/output error"), "{trouble}");
    std::fs::remove_file(folder.path().join("broken")).unwrap();
    let read = read_to(&mut journal, "m9").await;
    assert_eq!(read.messages(), ["m4", "m5", "m6", "m7", "m8", "m9"]);
    assert_eq!(read.gaps, []);
}

/// Five entries of the boot before, `old0` to `old4`, and five of this one, `new0` to `new4`; where `old2` stands.
async fn two_boots(directory: &Path) -> String {
    std::fs::create_dir(directory).unwrap();
    let of = |boot: &'static str, begin, prefix: &'static str| -> Vec<_> {
        (0..5)
            .map(|nth| Record::of(boot, begin, nth, 3, format!("{prefix}{nth}")))
            .collect()
    };
    write(&directory.join("a.journal"), &of(EARLIER, BEGIN - 60_000_000, "old"));
    write(&directory.join("b.journal"), &of(BOOT, BEGIN, "new"));
    let earlier = Options {
        boot_id: EARLIER.to_owned(),
        ..options(directory)
    };
    read_to(&mut start(earlier, None), "old4").await.entries[2]
        .cursor
        .clone()
}

const EARLIER: &str = "00000000000000000000000000000001";

#[tokio::test]
async fn earlier_boots_are_given_up_and_told_only_while_this_one_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    let after = two_boots(&directory).await;
    std::fs::write(folder.path().join("broken"), "").unwrap();
    let fails = "[ ! -e broken ] || { echo Failed to open files: Input/output error >&2; exit 1; }";
    let broken = Options {
        journalctl: noted(folder.path(), fails),
        ..options(&directory)
    };
    let mut journal = start(broken, Some(after.clone()));
    until("eight attempts", || calls(folder.path(), "--cursor") >= 8).await;
    std::fs::remove_file(folder.path().join("broken")).unwrap();
    let read = read_to(&mut journal, "new4").await;
    let mut expected = vec!["old3".to_owned(), "old4".to_owned()];
    expected.extend(numbered("new", 5));
    assert_eq!(read.messages(), expected);
    assert_eq!(read.gaps, []);

    let fails = "case \"$*\" in *' _MACHINE_ID='*) exit 1;; esac";
    let broken = Options {
        journalctl: noted(folder.path(), fails),
        ..options(&directory)
    };
    let read = read_to(&mut start(broken, Some(after)), "new4").await;
    assert_eq!(read.messages(), numbered("new", 5));
    assert_eq!(read.gaps.len(), 1);
    assert!(read.gaps[0].reason.contains("earlier boots"), "{:?}", read.gaps);
}

#[tokio::test]
async fn a_journalctl_that_stands_still_while_it_catches_up_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    let after = two_boots(&directory).await;
    // Once; then with every attempt.
    for (hangs, told) in [
        ("mv sound hung 2>/dev/null && exec sleep 1000", 0),
        ("exec sleep 1000", 1),
    ] {
        std::fs::write(folder.path().join("sound"), "").unwrap();
        let hangs = format!("case \"$*\" in *' _MACHINE_ID='*) {hangs};; esac");
        let before = calls(folder.path(), CATCHES_UP);
        let options = Options {
            journalctl: noted(folder.path(), &hangs),
            patience: SHORT,
            ..options(&directory)
        };
        let mut journal = start(options, Some(after.clone()));
        until("a trouble", || {
            (journal.trouble()).is_some_and(|trouble| trouble.contains("nothing for"))
        })
        .await;
        let read = read_to(&mut journal, "new4").await;
        assert_eq!(read.gaps.len(), told, "{:?}", read.gaps);
        let mut expected = match told {
            0 => vec!["old3".to_owned(), "old4".to_owned()],
            _ => Vec::new(),
        };
        expected.extend(numbered("new", 5));
        assert_eq!(read.messages(), expected);
        let attempts = calls(folder.path(), CATCHES_UP) - before;
        assert_eq!(attempts, if told == 0 { 2 } else { 5 });
    }
}

#[tokio::test]
async fn a_journalctl_that_waits_for_its_batch_to_be_taken_while_it_catches_up_does_not_stand_still() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    let after = two_boots(&directory).await;
    let many: Vec<_> = (5..3000)
        .map(|nth| Record::of(EARLIER, BEGIN - 60_000_000, nth, 3, format!("old{nth}")))
        .collect();
    write(&directory.join("a.journal"), &many);
    let options = Options {
        journalctl: noted(folder.path(), ""),
        most_entries: 10,
        patience: Duration::from_secs(2),
        ..options(&directory)
    };
    let mut journal = start(options, Some(after));
    let first = within("a batch", journal.next()).await;
    // Longer than the patience, and more than the pipe holds is still to come.
    let next = tokio::time::timeout(Duration::from_secs(3), journal.next()).await;
    assert!(next.is_err(), "before the batch was taken");
    journal.taken();
    let read = read_to(&mut journal, "new4").await;
    assert_eq!(first.entries.len() + read.entries.len(), 2997 + 5);
    assert_eq!((read.gaps, journal.trouble()), (vec![], None));
    assert_eq!(calls(folder.path(), CATCHES_UP), 1);
}

#[tokio::test]
async fn when_the_newest_file_is_lost_what_was_read_from_older_ones_does_not_come_again() {
    // Older files of the same sequence, of another one, and none at all.
    for older in ["same", "other", "none"] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("journal");
        std::fs::create_dir(&directory).unwrap();
        let records: Vec<_> = (0..10).map(|nth| Record::new(nth, 3, format!("m{nth}"))).collect();
        let newest = directory.join("newest.journal");
        match older {
            "same" => {
                write(&newest, &records[..5]);
                std::fs::copy(&newest, directory.join("older.journal")).unwrap();
            }
            "other" => write(&directory.join("older.journal"), &records[..5]),
            _ => write(&newest, &records[..5]),
        }
        write(&newest, &records[5..]);
        let before = read_to(&mut start(options(&directory), None), "m9").await;
        std::fs::remove_file(&newest).unwrap();
        let options = Options {
            journalctl: noted(folder.path(), ""),
            ..options(&directory)
        };
        let mut journal = start(options, before.cursor.clone());
        let read = read_until(&mut journal, "a gap", |read| !read.gaps.is_empty()).await;
        assert_eq!((read.messages(), read.gaps.len()), (vec![], 1), "{older}");
        // Time enough to miss what does not come.
        until("looks", || calls(folder.path(), "--lines=1") >= 8).await;
        assert_eq!(
            (calls(folder.path(), "--follow"), journal.trouble()),
            (1, None),
            "{older}"
        );
        write(&directory.join("new.journal"), &[Record::new(20, 3, "m20")]);
        let read = read_to(&mut journal, "m20").await;
        assert_eq!((read.messages(), read.gaps.len()), (vec!["m20"], 0), "{older}");
    }
}
