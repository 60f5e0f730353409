//! The program is killed at each of its system calls (a stop is before or after one), and the next boot goes on.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::place::{ASKED, NEXT, Place, strings};

const THIRD: &str = "cccccccccccccccccccccccccccccccc";

/// Runs a command up to its `stop`th stop before or after a system call, and kills it there. False: it has ended before.
/// What it has started goes on, and has ended, too, when this returns (a power cut would have ended it).
#[expect(clippy::zombie_processes, reason = "who traces a process waits for it by its number")]
fn killed(place: &Place, boot: &str, command: &str, stop: usize) -> bool {
    let mut child = place
        .waiting(boot, command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let options = Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let (mut begun, mut stops, mut signal) = (false, 0, None);
    loop {
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceEvent(..) => begun = true,
            WaitStatus::PtraceSyscall(_) => stops += 1,
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            WaitStatus::Exited(..) => return false,
            other => panic!("{other:?}"),
        }
        if stops == stop {
            kill(pid, Signal::SIGKILL).unwrap();
            assert!(matches!(
                waitpid(pid, None).unwrap(),
                WaitStatus::Signaled(_, Signal::SIGKILL, _)
            ));
            // all of them hold the other end
            assert_eq!(output.read(&mut [0]).unwrap(), 0);
            return true;
        }
        match begun {
            true => ptrace::syscall(pid, signal.take()).unwrap(),
            false => ptrace::cont(pid, signal.take()).unwrap(),
        }
    }
}

fn place() -> Place {
    Place::with("mount T/data\nwipe T/data/app\nkeep T/data/app/b/licence\n", "")
}

const FILES: usize = 7;

fn fill(place: &Place) {
    let top = place.path("T/data/app");
    let _ = std::fs::remove_dir_all(&top);
    for name in ["1", "2", "a/1", "a/c/1", "a/c/2", "b/1", "b/licence"] {
        let file = top.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, name).unwrap();
    }
    for name in ["factory-reset", "factory-reset.report"] {
        let _ = std::fs::remove_file(place.path("T/state").join(name));
    }
}

fn files(place: &Place) -> usize {
    let count = |path: &str| place.path("T/data/app").join(path).exists();
    let names = ["1", "2", "a/1", "a/c/1", "a/c/2", "b/1", "b/licence"];
    names.into_iter().filter(|name| count(name)).count()
}

#[test]
fn a_wipe_that_is_killed_anywhere_is_finished_by_the_next_boot_and_told_truthfully() {
    let place = place();
    let (mut stop, mut cut_in_the_middle, mut cut_at_the_end) = (1, 0, 0);
    loop {
        fill(&place);
        place.write("T/state/factory-reset", &format!("asked_in={ASKED}\n"));
        let alive = !killed(&place, NEXT, "wipe", stop);
        let left = files(&place);
        let wish = place.read("T/state/factory-reset");
        if wish.is_some() {
            cut_in_the_middle += usize::from(left > 1 && left < FILES);
            place.done(THIRD, "wipe");
            let report = place.report();
            let boots = report["boots"].as_u64().unwrap();
            assert!(boots == 2 || boots == 1, "{report}");
            assert_eq!(report["id"], THIRD);
        } else {
            cut_at_the_end += 1;
            assert_eq!(place.done(THIRD, "wipe"), "no factory reset is asked for\n");
            assert_eq!(place.report()["id"], NEXT);
        }
        let report = place.report();
        assert_eq!(report["asked_in"], ASKED);
        assert_eq!(
            (strings(&report["wiped"]), strings(&report["failed"])),
            (vec!["T/data/app"], vec![])
        );
        assert_eq!(
            place.list("T/data/app").lines().count(),
            2,
            "stop {stop}: the licence and its folder"
        );
        assert!(!place.has("T/state/factory-reset"));
        if alive {
            break;
        }
        // before anything is gone one stop is like the other; and after one system call is before the next
        stop += if left == FILES { 20 } else { 2 };
    }
    place.assert_identity();
    assert!(
        cut_in_the_middle > 5 && cut_at_the_end > 1,
        "{stop}: {cut_in_the_middle}, {cut_at_the_end}"
    );
}

#[test]
fn a_request_that_is_killed_anywhere_is_there_or_is_not() {
    let place = place();
    let (mut stop, mut asked, mut in_writing, mut not_asked) = (1, 0, 0, 0);
    loop {
        fill(&place);
        let alive = !killed(&place, ASKED, "request", stop);
        assert_eq!(files(&place), FILES);
        let is_writing = place.has("T/state/.factory-reset.new");
        match place.read("T/state/factory-reset") {
            Some(wish) => {
                assert_eq!(wish, format!("asked_in={ASKED}\n"));
                asked += 1;
                // as often as somebody asks: once
                place.done(ASKED, "request");
                place.done(NEXT, "wipe");
                assert_eq!(files(&place), 1);
            }
            None => {
                not_asked += 1;
                assert_eq!(place.done(NEXT, "wipe"), "no factory reset is asked for\n");
                assert_eq!(files(&place), FILES);
            }
        }
        if alive {
            break;
        }
        in_writing += usize::from(is_writing);
        let _ = std::fs::remove_file(place.path("T/state/.factory-reset.new"));
        stop += 4;
    }
    place.assert_identity();
    assert!(
        asked > 1 && in_writing > 1 && not_asked > 10,
        "{stop}: {asked}, {in_writing}, {not_asked}"
    );
}

/// What one that is about to end still has open.
fn is_open(device: &str) -> bool {
    let mut alone = std::fs::OpenOptions::new();
    alone.read(true).custom_flags(nix::libc::O_EXCL);
    alone.open(device).is_err()
}

#[test]
fn a_partition_that_is_made_anew_keeps_its_name_wherever_that_is_killed() {
    let mut place = Place::new();
    let device = place.disk("mkfs.ext4 -q -L apps");
    place.plan(&format!("format {device}\n"));
    let name = |place: &Place| place.sh(&format!("blkid -p -o export {device} | grep -E '^(UUID|LABEL|TYPE)='"));
    let before = name(&place);
    // every one would take minutes
    let mut stop = 3;
    loop {
        place.write("T/state/factory-reset", &format!("asked_in={ASKED}\n"));
        let alive = !killed(&place, NEXT, "format", stop);
        let begun = Instant::now();
        while is_open(&device) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        place.done(THIRD, "format");
        place.done(THIRD, "wipe");
        assert_eq!(strings(&place.report()["wiped"]), [device.as_str()]);
        assert_eq!(name(&place), before, "stop {stop}");
        assert_eq!(
            place.sh(&format!("mount {device} T/m; ls T/m; umount T/m")),
            "lost+found\n"
        );
        if alive {
            break;
        }
        place.sh(&format!("mount {device} T/m; touch T/m/x; umount T/m"));
        stop += 26;
    }
    assert!(stop > 200, "{stop}");
}
