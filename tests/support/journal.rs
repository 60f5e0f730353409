//! Real journals: files that systemd-journal-remote makes of any text, and a real journald in namespaces of its own.

// Every test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A boot id that the tests' files have.
pub const BOOT: &str = "0f0e0d0c0b0a09080706050403020100";
/// A machine id that they have.
pub const MACHINE: &str = "11111111222233334444555555555555";
/// When their first entry was logged, in microseconds since 1970.
pub const BEGIN: u64 = 1_793_600_000_000_000;

/// How long a part may take.
const LIMIT: Duration = Duration::from_secs(60);

/// An entry to be written: names and values in their order.
#[derive(Debug, Clone)]
pub struct Record(pub Vec<(String, Vec<u8>)>);

impl Record {
    /// The `nth` of a boot, a millisecond after the one before.
    pub fn new(nth: u64, priority: u8, message: impl Into<Vec<u8>>) -> Self {
        Self::of(BOOT, BEGIN, nth, priority, message)
    }

    pub fn of(boot: &str, begin: u64, nth: u64, priority: u8, message: impl Into<Vec<u8>>) -> Self {
        let record = Self(vec![
            ("__REALTIME_TIMESTAMP".into(), (begin + nth * 1000).to_string().into()),
            (
                "__MONOTONIC_TIMESTAMP".into(),
                (1_000_000 + nth * 1000).to_string().into(),
            ),
            ("_BOOT_ID".into(), boot.into()),
        ]);
        record
            .with("_MACHINE_ID", MACHINE)
            .with("PRIORITY", priority.to_string())
            .with("_SYSTEMD_UNIT", "modbus.service")
            .with("SYSLOG_IDENTIFIER", "modbusd")
            .with("_PID", "42")
            .with("MESSAGE", message)
    }

    /// With another value of a field, or a field that it did not have.
    #[must_use]
    pub fn with(self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let mut record = self.without(name);
        record.0.push((name.to_owned(), value.into()));
        record
    }

    /// With one more value of a field.
    #[must_use]
    pub fn and(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(field, _)| field != name);
        self
    }

    /// systemd's JOURNAL_EXPORT_FORMATS: a value that is no line of text stands behind its length.
    pub fn export(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, value) in &self.0 {
            text.extend_from_slice(name.as_bytes());
            if value.iter().all(|byte| *byte >= b' ') {
                text.push(b'=');
            } else {
                text.push(b'\n');
                text.extend((value.len() as u64).to_le_bytes());
            }
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        text.push(b'\n');
        text
    }
}

/// Writes a journal's file, or adds to it; a new one is a sequence of its own.
pub fn write(file: &Path, records: &[Record]) {
    let text: Vec<u8> = records.iter().flat_map(Record::export).collect();
    write_export(file, &text);
}

/// The same from text.
pub fn write_export(file: &Path, text: &[u8]) {
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote")
        .arg("--output")
        .args([file, Path::new("-")])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote is a Debian package of that name");
    remote.stdin.take().unwrap().write_all(text).unwrap();
    assert!(remote.wait().unwrap().success());
    assert!(file.exists());
}

/// A journald of its own. It ends when this is dropped.
pub struct Journald {
    folder: tempfile::TempDir,
    child: Child,
    socket: UnixDatagram,
    /// The boot id that it writes.
    pub boot: String,
}

impl Journald {
    pub fn start() -> Self {
        const SCRIPT: &str = r#"
            set -e
            mount -t tmpfs tmpfs /run
            mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d
            mount --bind "$1/log" /run/log/journal
            mount --bind "$1/sockets" /run/systemd/journal
            cat >/run/systemd/journald.conf.d/test.conf <<'CONF'
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
RateLimitBurst=0
RuntimeMaxFileSize=512K
ForwardToWall=no
CONF
            exec /lib/systemd/systemd-journald
        "#;
        let folder = tempfile::tempdir().unwrap();
        for name in ["log", "sockets"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", SCRIPT, "sh"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare(1) is part of util-linux, which every Debian has");
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let journald = Self {
            folder,
            child,
            socket: UnixDatagram::unbound().unwrap(),
            boot: boot.trim().replace('-', ""),
        };
        wait("journald to listen", || journald.try_log(7, "begin").is_ok());
        wait("journald to write", || !journald.files().is_empty());
        journald
    }

    /// Where its files are.
    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn try_log(&self, priority: u8, message: &str) -> std::io::Result<usize> {
        let text = format!("PRIORITY={priority}\nMESSAGE={message}\nSYSLOG_IDENTIFIER=test\n");
        self.socket
            .send_to(text.as_bytes(), self.folder.path().join("sockets/socket"))
    }

    pub fn log(&self, priority: u8, message: &str) {
        self.try_log(priority, message).unwrap();
    }

    /// Puts the file aside that it writes to, with everything in it that was logged before.
    pub fn rotate(&self) {
        let before = self.archived().len();
        // What was sent is read first only if it is there when the signal is seen: ask for it.
        let last = format!("rotated {before}");
        self.log(7, &last);
        self.cursor_of(&last);
        kill(&self.child, nix::sys::signal::Signal::SIGUSR2);
        wait("a rotated journal", || self.archived().len() > before);
    }

    /// Waits until an entry with this message has been written; where.
    pub fn cursor_of(&self, message: &str) -> String {
        let mut cursor = String::new();
        wait(message, || {
            let found = Command::new("journalctl")
                .args(["--quiet", "--merge", "--lines=1", "--output=export", "--directory"])
                .arg(self.directory())
                .arg(format!("MESSAGE={message}"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&found.stdout);
            if let Some(line) = text.lines().find_map(|line| line.strip_prefix("__CURSOR=")) {
                line.clone_into(&mut cursor);
            }
            !cursor.is_empty()
        });
        cursor
    }

    /// Deletes what was put aside.
    pub fn vacuum(&self) {
        for file in self.archived() {
            std::fs::remove_file(file).unwrap();
        }
    }

    fn archived(&self) -> Vec<PathBuf> {
        let mut files = self.files();
        files.retain(|file| file.to_str().unwrap().contains('@'));
        files
    }

    fn files(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.directory()).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(child: &Child, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Waits for something that cannot be waited for otherwise.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
