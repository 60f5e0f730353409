//! The outer fall-back (`packaging/lib/fallback`), run as it is packaged: by sh, with nothing but the usual tools of a
//! Debian, a scripted `rauc` and a scripted `systemctl` in its PATH. In `real`, RAUC is the real one.
//!
//! Its time is the host's real uptime: a deadline of 1 s is always over, one of 999999999 s never.
#![allow(clippy::unwrap_used)]

#[path = "../support/bus.rs"]
mod bus;
mod real;
mod refused;
mod rows;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the program uses of the Debian packages that every installation has.
const TOOLS: [&str; 12] = [
    "cat", "chmod", "grep", "mkdir", "mktemp", "mv", "rm", "sed", "sync", "tail", "timeout", "tr",
];

const OVER: &str = "slot=rootfs.1\ndeadline=1\n";

/// What RAUC says in the trial: 1.8 and 1.13 write the same lines.
const STATUS: &str = "RAUC_SYSTEM_COMPATIBLE='trial'\nRAUC_SYSTEM_VARIANT=''\nRAUC_SYSTEM_BOOTED_BOOTNAME='B'\n\
    RAUC_BOOT_PRIMARY=''\nRAUC_SYSTEM_SLOTS='data.0 rootfs.1 rootfs.0'\nRAUC_SLOTS='1 2 3'\n\
    RAUC_SLOT_STATE_1='inactive'\nRAUC_SLOT_CLASS_1='data'\nRAUC_SLOT_STATE_2='booted'\nRAUC_SLOT_CLASS_2='rootfs'\n\
    RAUC_SLOT_STATE_3='inactive'\nRAUC_SLOT_CLASS_3='rootfs'\n";

/// A host: its folders, its tools, and what was called.
struct Host(tempfile::TempDir);

impl Host {
    /// With a marker, and with a RAUC and a systemd that do as they are told.
    fn new(marker: &str) -> Self {
        let host = Self::without_rauc(marker);
        host.rauc("");
        host
    }

    fn without_rauc(marker: &str) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "state", "run"] {
            std::fs::create_dir(host.path(folder)).unwrap();
        }
        for tool in TOOLS {
            symlink(Path::new("/usr/bin").join(tool), host.path("bin").join(tool)).unwrap();
        }
        host.systemctl("");
        host.mark(marker);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mark(&self, marker: &str) {
        std::fs::write(self.path("state/trial"), marker).unwrap();
    }

    /// `first` comes before what it does otherwise.
    fn rauc(&self, first: &str) {
        std::fs::write(self.path("status"), STATUS).unwrap();
        let status = self.path("status");
        let body = format!(
            "{first}\ncase $* in 'status --output-format=shell') cat {} ;; esac",
            status.display()
        );
        self.tool("rauc", &body);
    }

    fn systemctl(&self, first: &str) {
        self.tool(
            "systemctl",
            &format!("{first}\ncase $1 in is-active) echo failed; exit 3 ;; esac"),
        );
    }

    /// A tool that writes down how it was called.
    fn tool(&self, name: &str, body: &str) {
        let file = self.path("bin").join(name);
        let calls = self.path("calls");
        std::fs::write(
            &file,
            format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{body}\n", calls.display()),
        )
        .unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self) -> Output {
        Command::new("/bin/sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/lib/fallback"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .output()
            .unwrap()
    }

    /// Runs it as the timer does, and gives what it said. It must not have failed.
    fn tick(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{output:?}");
        said(&output)
    }

    /// The same when it could not do what it should.
    fn failing_tick(&self) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        said(&output)
    }

    /// How rauc and systemctl were called since the last time this was asked.
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("calls"));
        text.lines().map(str::to_owned).collect()
    }

    /// What the agent of the other slot will read.
    fn reason(&self) -> Option<String> {
        std::fs::read_to_string(self.path("state/fallback")).ok()
    }
}

/// What goes into the journal: nothing else is printed.
fn said(output: &Output) -> String {
    assert_eq!(output.stdout, b"", "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}
