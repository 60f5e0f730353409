//! A disk that is really full: a small tmpfs in a mount namespace of its own, reached through /proc.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{files, scratch};
use crate::store::{Limits, Outbox, Seq, StateFile, StoreErrorKind};

const LIMITS: Limits = Limits {
    max_bytes: 64 * 1024,
    segment_bytes: 8 * 1024,
};

/// A file system of 64 KiB that only this test sees. It ends with the shell that holds the namespace.
struct SmallDisk {
    shell: Child,
    _mount_point: TempDir,
    path: PathBuf,
}

impl SmallDisk {
    fn mount(options: &str) -> Self {
        let mount_point = scratch();
        let namespace = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
        let mut shell = Command::new("unshare")
            .args([
                namespace,
                "sh",
                "-c",
                "mount -t tmpfs -o \"$1\" small \"$2\" && echo mounted && read _",
                "sh",
            ])
            .arg(options)
            .arg(mount_point.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) is part of util-linux, which every Debian has");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "mounted\n", "mount namespaces are allowed here");
        let root = PathBuf::from(format!("/proc/{}/root", shell.id()));
        let path = root.join(mount_point.path().strip_prefix("/").unwrap());
        Self {
            shell,
            _mount_point: mount_point,
            path,
        }
    }

    fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }

    fn free(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.path).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    /// Takes everything but `left` bytes.
    fn fill(&self, left: u64) {
        let mut ballast = fs::File::create(self.path.join("ballast")).unwrap();
        while self.free() > left {
            ballast.write_all(&[0; 4096]).unwrap();
        }
        assert_eq!(self.free(), left);
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[test]
fn a_full_disk_refuses_every_commit_keeps_the_last_one_and_recovers_by_itself() {
    for left in [0, 4096, 8192] {
        let disk = SmallDisk::mount("size=64k");
        let (mut state, _) = StateFile::open(&disk.state()).unwrap();
        let (first, second) = (vec![b'1'; 10_000], vec![b'2'; 10_000]);
        assert_eq!(state.commit(&first).unwrap(), 1);
        assert_eq!(state.commit(&first).unwrap(), 2);
        disk.fill(left);
        for _ in 0..100 {
            let error = state.commit(&second).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::DiskFull);
            assert!(
                error.reason().starts_with("state disk full: cannot "),
                "{}",
                error.reason()
            );
            assert_eq!(disk.free(), left, "nothing half-written is left");
        }
        // A start on the full disk finds the last one, and refuses as before.
        drop(state);
        let (mut state, loaded) = StateFile::open(&disk.state()).unwrap();
        assert_eq!(
            (loaded.json.as_deref(), loaded.notices),
            (Some(first.as_slice()), Vec::new())
        );
        assert_eq!(state.commit(&second).unwrap_err().kind(), StoreErrorKind::DiskFull);

        disk.make_room();
        assert_eq!(state.commit(&second).unwrap(), 3);
        drop(state);
        let (_, loaded) = StateFile::open(&disk.state()).unwrap();
        assert_eq!((loaded.json, loaded.generation), (Some(second), 3));
    }
}

fn payload(n: usize) -> Vec<u8> {
    format!("entry {n} {}", "x".repeat(300 + n % 7)).into_bytes()
}

#[test]
fn a_full_disk_refuses_appends_keeps_what_was_there_and_recovers_by_itself() {
    let disk = SmallDisk::mount("size=64k");
    let (mut outbox, _) = Outbox::open(&disk.outbox(), LIMITS).unwrap();
    // An odd number of pages: the disk is full in the middle of a segment, and of a record.
    disk.fill(12 * 1024);
    let mut kept: Vec<(Seq, Vec<u8>)> = Vec::new();
    let error = loop {
        match outbox.append(&payload(kept.len())) {
            Ok(done) => kept.push((done.seq, payload(kept.len()))),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000);
    };
    assert!(
        kept.len() > 20 && error.reason().starts_with("state disk full: "),
        "{}",
        error.reason()
    );
    for n in 0..100 {
        assert_eq!(outbox.append(&payload(n)).unwrap_err().kind(), StoreErrorKind::DiskFull);
    }
    assert_eq!((outbox.live(), outbox.dropped_total()), (kept.len(), 0));
    let on_disk: usize = files(&disk.outbox()).iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(outbox.bytes(), on_disk as u64, "half a record is left");
    outbox.sync().unwrap();
    drop(outbox);
    let (mut outbox, recovered) = Outbox::open(&disk.outbox(), LIMITS).unwrap();
    assert_eq!(
        (&recovered.records, recovered.cut.len()),
        (&kept, 0),
        "what was refused left nothing behind"
    );

    disk.make_room();
    for n in 500..520 {
        kept.push((outbox.append(&payload(n)).unwrap().seq, payload(n)));
    }
    outbox.sync().unwrap();
    assert_eq!(Outbox::open(&disk.outbox(), LIMITS).unwrap().1.records, kept);
}

#[test]
fn what_is_removed_on_a_full_disk_frees_room_and_stays_removed() {
    let disk = SmallDisk::mount("size=64k");
    let (mut outbox, _) = Outbox::open(&disk.outbox(), LIMITS).unwrap();
    let mut seqs = Vec::new();
    for n in 0..60 {
        seqs.push(outbox.append(&payload(n)).unwrap().seq);
    }
    // Until not even the record of a removal fits.
    disk.fill(0);
    while let Ok(done) = outbox.append(b"") {
        seqs.push(done.seq);
    }
    let last = seqs.pop().unwrap();
    let error = outbox.remove(seqs.pop().unwrap()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::DiskFull);
    outbox.sync().unwrap();
    assert!(outbox.dirty(), "one removal is owed");

    // Answers for the oldest entries come in: their segment goes, and there is room again.
    for seq in &seqs {
        let _ = outbox.remove(*seq);
    }
    assert!(disk.free() > 0);
    assert_eq!(outbox.live(), 1);
    let new = outbox.append(b"new").unwrap().seq;
    outbox.sync().unwrap();
    assert!(!outbox.dirty());
    let (_, recovered) = Outbox::open(&disk.outbox(), LIMITS).unwrap();
    assert_eq!(recovered.records, [(last, Vec::new()), (new, b"new".to_vec())]);
}

#[test]
fn a_removal_that_a_full_disk_did_not_take_is_written_by_the_first_sync_with_room() {
    let disk = SmallDisk::mount("size=64k");
    let (mut outbox, _) = Outbox::open(&disk.outbox(), LIMITS).unwrap();
    let seq = outbox.append(b"answered").unwrap().seq;
    disk.fill(0);
    while outbox.append(b"").is_ok() {}
    let left = outbox.live() - 1;
    assert_eq!(outbox.remove(seq).unwrap_err().kind(), StoreErrorKind::DiskFull);
    assert_eq!(outbox.live(), left);
    for _ in 0..10 {
        outbox.sync().unwrap();
        assert!(outbox.dirty());
    }
    disk.make_room();
    outbox.sync().unwrap();
    assert!(!outbox.dirty());
    let (_, recovered) = Outbox::open(&disk.outbox(), LIMITS).unwrap();
    assert_eq!(recovered.records.len(), left);
    assert!(recovered.records.iter().all(|(other, _)| *other != seq));
}

#[test]
fn a_read_only_disk_is_told_from_a_full_one() {
    let disk = SmallDisk::mount("size=64k,ro");
    let error = StateFile::open(&disk.path).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly);
    assert!(
        error.reason().starts_with("state disk is read-only: "),
        "{}",
        error.reason()
    );
}
