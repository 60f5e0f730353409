//! A host for a factory reset: a data partition on a loop device, the agent's configuration and state on it, reached
//! through bind mounts, all in a mount namespace of its own that ends with the test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The boots of a test.
pub(super) const ASKED: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const NEXT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A host. `T` in scripts and plans is its folder: `T/data` is the data partition, `T/etc` and `T/state` are bind mounts
/// of folders on it.
pub(super) struct Place {
    shell: Child,
    folder: tempfile::TempDir,
    /// Loop devices that nobody has mounted go with these.
    held: Vec<std::fs::File>,
    /// Where the system bus is.
    pub(super) bus: String,
}

impl Place {
    /// With a data partition of 64 MiB, identity and state on it, an enabled wipe, and nothing to wipe.
    pub(super) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "mounting wants root");
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("unshare")
            .args(["-m", "sh", "-c", "echo ready; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) is part of util-linux, which every Debian has");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        let place = Self {
            shell,
            folder,
            held: Vec::new(),
            bus: "unix:path=/nonexistent/bus".to_owned(),
        };
        place.sh("mkdir T/data T/etc T/state T/bin T/m
             truncate -s 64M T/disk && mkfs.ext4 -q -b 4096 T/disk && mount -o loop T/disk T/data
             mkdir -p T/data/etc T/data/state
             mount --bind T/data/etc T/etc && mount --bind T/data/state T/state
             mkdir T/etc/factory-reset.d && chmod 755 T/etc T/etc/factory-reset.d
             mount -t tmpfs run /run");
        place.sh("umask 077; printf secret >T/etc/token");
        place.write("T/etc/ca.pem", "ca");
        place.write(
            "T/etc/config.toml",
            "[device]\norg = 'acme'\ntype = 'gw'\nid = 'gw-1'\n[service]\nurl = 'mqtts://broker.example.com'\n\
             username = 'gw-1'\nca_file = 'T/etc/ca.pem'\ntoken_file = 'T/etc/token'\n[state]\ndirectory = 'T/state'\n",
        );
        place.write("T/state/state.a", "remembered");
        place.tool("systemctl", "exit 0");
        place
    }

    /// The same, with a plan, and with this on the data partition.
    pub(super) fn with(plan: &str, script: &str) -> Self {
        let place = Self::new();
        place.plan(plan);
        place.sh(script);
        place
    }

    pub(super) fn plan(&self, plan: &str) {
        self.write("T/etc/factory-reset.d/50-test.conf", plan);
    }

    /// Another disk, made by `mkfs`, that is not mounted and has a file `x` on it; its device.
    pub(super) fn disk(&mut self, mkfs: &str) -> String {
        let file = format!("T/another-{}", self.held.len());
        let device = self.sh(&format!(
            "truncate -s 32M {file}; {mkfs} {file}; losetup --find --show {file}"
        ));
        let device = device.trim().to_owned();
        self.held.push(std::fs::File::open(&device).unwrap());
        // from now on it goes when nobody uses it any more
        self.sh(&format!(
            "losetup -d {device}; mount {device} T/m; touch T/m/x; umount T/m"
        ));
        device
    }

    /// A program that the reset finds in its PATH.
    pub(super) fn tool(&self, name: &str, body: &str) {
        let file = format!("T/bin/{name}");
        self.write(&file, &format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(self.path(&file), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Where a path of the host is for this process.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.shell.id(), self.text(path)))
    }

    /// With the folder in the place of `T/`.
    pub(super) fn text(&self, text: &str) -> String {
        text.replace("T/", &format!("{}/", self.folder.path().display()))
    }

    /// What it said, with `T/` again in the place of the folder.
    pub(super) fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "T/")
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        std::fs::write(self.path(path), self.text(content)).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// Whether something is there, be it a link that leads nowhere.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Everything below a path, each with its kind and content; the same list means the same tree.
    pub(super) fn list(&self, path: &str) -> String {
        self.sh(&format!(
            "cd {path} && find . -mindepth 1 -not -name lost+found -printf '%p %y %m %U\\n' | sort"
        ))
    }

    /// Runs a script in it; it must succeed.
    pub(super) fn sh(&self, script: &str) -> String {
        let output = self.inside("sh").args(["-euc", &self.text(script)]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        self.plain(&String::from_utf8(output.stdout).unwrap())
    }

    /// A command of the program in a boot.
    pub(super) fn command(&self, boot: &str, command: &str) -> Command {
        let mut run = self.inside(env!("CARGO_BIN_EXE_factory-reset"));
        run.arg(command).arg("--config").arg(self.text("T/etc/config.toml"));
        run.env("STATE_DIRECTORY", self.text("T/state"))
            .env("IOTDM_BOOT_ID", boot)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .env("PATH", self.text("T/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        run
    }

    /// The same; it says that it is ready, and begins when it gets a line. It and all that it starts hold its output open.
    pub(super) fn waiting(&self, boot: &str, command: &str) -> Command {
        let begun = self.command(boot, command);
        let mut waiting = self.inside("sh");
        waiting.args(["-c", "echo ready; read _; exec \"$@\" 9>&1 >/dev/null", "sh"]);
        // behind the nsenter of its own
        waiting.args(begun.get_args().skip_while(|argument| *argument != "--").skip(1));
        waiting.envs(begun.get_envs().filter_map(|(name, value)| Some((name, value?))));
        waiting
    }

    pub(super) fn run(&self, boot: &str, command: &str) -> Output {
        self.command(boot, command).output().unwrap()
    }

    /// Runs a command that must succeed, and gives what it said.
    pub(super) fn done(&self, boot: &str, command: &str) -> String {
        let output = self.run(boot, command);
        assert!(output.status.success(), "{command}: {output:?}");
        self.plain(&String::from_utf8(output.stdout).unwrap())
    }

    /// Runs a command that must fail, and gives the reason.
    pub(super) fn refused(&self, boot: &str, command: &str) -> String {
        let output = self.run(boot, command);
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
        self.plain(&String::from_utf8(output.stderr).unwrap())
    }

    /// What `iotdm-agent check` finds.
    pub(super) fn check(&self) -> Vec<serde_json::Value> {
        let mut check = self.inside(env!("CARGO_BIN_EXE_iotdm-agent"));
        check
            .args(["check", "--json", "--config"])
            .arg(self.text("T/etc/config.toml"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .env("RUNTIME_DIRECTORY", self.text("T/run"));
        let output = check.output().unwrap();
        let text = self.plain(&String::from_utf8_lossy(&output.stdout));
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// Asked for in one boot, wiped in the next; all of it went well.
    pub(super) fn reset(&self) -> serde_json::Value {
        self.done(ASKED, "request");
        self.done(NEXT, "wipe");
        let report = self.report();
        assert_eq!(report["failed"], serde_json::json!([]), "{report}");
        report
    }

    /// What the agent will find.
    pub(super) fn report(&self) -> serde_json::Value {
        let text = self.read("T/state/factory-reset.report").expect("a report");
        serde_json::from_str(&self.plain(&text)).unwrap()
    }

    /// Identity and state are what they were.
    pub(super) fn assert_identity(&self) {
        for (path, content) in [
            ("T/etc/token", "secret"),
            ("T/etc/ca.pem", "ca"),
            ("T/state/state.a", "remembered"),
        ] {
            assert_eq!(self.sh(&format!("cat {path}")), content, "{path}");
        }
        assert!(self.has("T/etc/config.toml") && self.has("T/etc/factory-reset.d/50-test.conf"));
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.shell.id().to_string(), "-m", "--", program]);
        command.current_dir("/");
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The namespace, and with it every mount and loop device, ends with its only process.
        drop(self.shell.stdin.take().map(|mut stdin| stdin.write_all(b"\n")));
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The paths of a report's list.
pub(super) fn strings(value: &serde_json::Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

/// Whether nothing of this path is mounted anywhere in this process's namespace.
pub(super) fn leaks(folder: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .contains(&*folder.to_string_lossy())
}
