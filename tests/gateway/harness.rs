//! A virtual gateway as a value: booted when made, gone when dropped. All work is done by the script beside this file;
//! here is only what tests need to say it shortly. It never touches the clock and never waits without a limit.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The Debian releases that the agent is made for.
pub(crate) const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// Seconds after which a command in a guest is ended. Those that tests wait for take seconds, on a machine minutes.
const LIMIT: &str = "900";

static COUNTER: AtomicU32 = AtomicU32::new(1);

/// The package under test, as `make deb` leaves it.
pub(crate) fn package() -> PathBuf {
    built("iotdm-agent.deb")
}

/// The same program with a higher version, to upgrade to.
pub(crate) fn next_package() -> PathBuf {
    built("iotdm-agent-next.deb")
}

fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("build").join(name);
    assert!(path.exists(), "{} is missing: run `make deb` first", path.display());
    path
}

/// One running gateway.
pub(crate) struct Gateway {
    name: String,
    /// How long something in it may take.
    patience: Duration,
    /// Between two looks at it. Each look is work for it.
    pause: Duration,
}

impl Gateway {
    /// Boots a bare Debian of this suite.
    pub(crate) fn boot_bare(suite: &str) -> Self {
        let gateway = Self::named(suite);
        succeeded(gateway.script(&["boot"], &[suite]).output(), "boot");
        gateway
    }

    /// Boots a Debian of this suite with two slots, RAUC, and the package in slot A.
    pub(crate) fn boot_slots(suite: &str) -> Self {
        let gateway = Self::named(suite);
        let package = package();
        let arguments = [suite, "--slots", "--deb", &package.to_string_lossy()];
        succeeded(gateway.script(&["boot"], &arguments).output(), "boot");
        gateway
    }

    /// The same as a machine: an emulated one takes its time.
    pub(crate) fn boot_machine(suite: &str) -> Self {
        let mut gateway = Self::named(suite);
        gateway.patience = Duration::from_secs(300);
        gateway.pause = Duration::from_secs(1);
        let package = package();
        let arguments = [suite, "--machine", "--deb", &package.to_string_lossy()];
        succeeded(gateway.script(&["boot"], &arguments).output(), "boot");
        gateway
    }

    fn named(suite: &str) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("{suite}-{}-{number}", std::process::id()),
            patience: Duration::from_secs(120),
            pause: Duration::from_millis(100),
        }
    }

    /// Boots a Debian of this suite and installs the package in it.
    pub(crate) fn boot(suite: &str) -> Self {
        let gateway = Self::boot_bare(suite);
        gateway.install(&package());
        gateway
    }

    /// Installs a package, or upgrades to it.
    pub(crate) fn install(&self, package: &Path) {
        succeeded(
            self.script(&["install"], &[&package.to_string_lossy()]).output(),
            "install",
        );
    }

    /// Runs a command in the guest as root, whatever comes of it: 15 minutes at most.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        self.in_guest(command).output().expect("the harness script runs")
    }

    /// Runs a shell line in the guest as root that must succeed; gives what it printed, without the last line end.
    pub(crate) fn sh(&self, line: &str) -> String {
        succeeded(self.in_guest(&["sh", "-c", line]).output(), line)
    }

    /// Runs a shell line as the agent would: in its unit, with all of the unit's directives, in place of the program.
    /// Gives whether it succeeded and what it printed. The agent itself is stopped and stays so.
    pub(crate) fn as_agent(&self, line: &str) -> (bool, String) {
        const START: &str = "set -e
            conf=/run/systemd/system/iotdm-agent.service.d/probe.conf
            if [ ! -e $conf ]; then
                systemctl stop iotdm-agent
                mkdir -p ${conf%/*}
                cat >$conf <<'END'
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStart=
ExecStart=/bin/sh /run/probe
StandardOutput=append:/run/probe.out
StandardError=append:/run/probe.out
END
                systemctl daemon-reload
            fi
            : >/run/probe.out
            printf %s \"$0\" >/run/probe
            rc=0; systemctl start iotdm-agent 2>/dev/null || rc=$?
            cat /run/probe.out; exit $rc";
        let output = self.exec(&["sh", "-c", START, line]);
        let told = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        (output.status.success(), told)
    }

    /// Writes a file in the guest; owner and mode of a file that is there already stay.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let mut child = self
            .script(&["exec"], &["sh", "-c", "cat >\"$0\"", path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the harness script runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("stdin is piped"), content.as_bytes())
            .expect("the guest takes the file");
        succeeded(child.wait_with_output(), path);
    }

    /// The boot ids that the guest had so far, the running one last, in the kernel's notation.
    pub(crate) fn boot_ids(&self) -> Vec<String> {
        succeeded(self.script(&["boots"], &[]).output(), "boots")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// What a machine has said about its boots.
    pub(crate) fn told(&self) -> String {
        succeeded(self.script(&["told"], &[]).output(), "told")
    }

    /// The slot that the boot loader has taken, `A` or `B`.
    pub(crate) fn slot(&self) -> String {
        succeeded(self.script(&["slot"], &[]).output(), "slot")
    }

    /// A variable of the boot loader, such as `ORDER` or `A_TRY`.
    pub(crate) fn bootloader(&self, variable: &str) -> String {
        let all = succeeded(self.script(&["bootloader"], &[]).output(), "bootloader");
        let mut values = all
            .lines()
            .filter_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        values
            .next()
            .unwrap_or_else(|| panic!("no {variable} in {all}"))
            .to_owned()
    }

    /// Reboots through logind and waits until the next boot is up.
    pub(crate) fn reboot(&self) {
        let next = self.boot_ids().len() + 1;
        // the answer may not get out any more
        let _ = self.exec(&["systemctl", "reboot"]);
        self.wait_boot(next);
    }

    /// Copies a file into the guest.
    pub(crate) fn put(&self, file: &Path, path: &str) {
        let file = std::fs::File::open(file).expect("the file is there");
        let mut script = self.script(&["exec"], &["sh", "-c", "cat >\"$0\"", path]);
        succeeded(script.stdin(file).output(), path);
    }

    /// Waits until the guest's boot number `n` (the first is 1) is up.
    pub(crate) fn wait_boot(&self, n: usize) {
        let seconds = self.at_least(Duration::from_secs(60)).as_secs();
        let arguments = [n.to_string(), seconds.to_string()];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        succeeded(self.script(&["wait-boot"], &arguments).output(), "wait-boot");
    }

    /// Entries of the guest's journal, of all boots, as `journalctl -o json` gives them.
    pub(crate) fn journal(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let arguments: Vec<_> = ["-o", "json", "--all"].iter().chain(arguments).copied().collect();
        succeeded(self.script(&["journal"], &arguments).output(), "journal")
            .lines()
            .map(|line| serde_json::from_str(line).expect("journalctl prints JSON"))
            .collect()
    }

    /// The messages of the agent's journal, of all boots, oldest first.
    pub(crate) fn agent_log(&self) -> Vec<String> {
        let entries = self.journal(&["_SYSTEMD_UNIT=iotdm-agent.service"]);
        entries
            .iter()
            .filter_map(|entry| entry["MESSAGE"].as_str())
            .map(str::to_owned)
            .collect()
    }

    /// Waits until the agent has logged a line that contains `text`, in any boot.
    pub(crate) fn wait_log(&self, text: &str) {
        self.wait(&format!("the agent logs '{text}'"), || self.logged(text) > 0);
    }

    /// How many lines with this text the agent has logged, in any boot.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.agent_log().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until something about the guest is so: 120 s at most, 300 s for a machine.
    pub(crate) fn wait(&self, what: &str, so: impl FnMut() -> bool) {
        self.wait_long(self.patience, what, so);
    }

    /// This long, or longer on a machine.
    pub(crate) fn at_least(&self, limit: Duration) -> Duration {
        limit.max(self.patience)
    }

    /// The same with a limit that fits what takes longer.
    pub(crate) fn wait_long(&self, limit: Duration, what: &str, mut so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !so() {
            assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
            std::thread::sleep(self.pause);
        }
    }

    /// The host's end of the guest's link: a broker for the guest listens there. The guest knows it as `broker.test`.
    pub(crate) fn host_address(&self) -> Ipv4Addr {
        let text = succeeded(self.script(&["address"], &[]).output(), "address");
        text.parse().expect("the harness prints an address")
    }

    /// The link goes silent in both directions.
    pub(crate) fn cut(&self) {
        succeeded(self.script(&["cut"], &[]).output(), "cut");
    }

    /// The gateway hears, and is not heard.
    pub(crate) fn hush(&self) {
        succeeded(self.script(&["hush"], &[]).output(), "hush");
    }

    /// The link works again.
    pub(crate) fn mend(&self) {
        succeeded(self.script(&["mend"], &[]).output(), "mend");
    }

    /// From the next boot on, the guest has been up for so many seconds when it starts.
    pub(crate) fn uptime(&self, seconds: u32) {
        succeeded(self.script(&["uptime"], &[&seconds.to_string()]).output(), "uptime");
    }

    /// Power cut: everything in the guest dies at once, then it boots again.
    pub(crate) fn kill(&self) {
        succeeded(self.script(&["kill"], &[]).output(), "kill");
    }

    fn in_guest(&self, command: &[&str]) -> Command {
        let script = self.script(&["exec"], command);
        let mut limited = Command::new("timeout");
        limited
            .args(["--kill-after=10", LIMIT])
            .arg(script.get_program())
            .args(script.get_args())
            .stdin(Stdio::null());
        limited
    }

    fn script(&self, command: &[&str], arguments: &[&str]) -> Command {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/gateway"));
        script
            .args(command)
            .arg(&self.name)
            .args(arguments)
            .stdin(Stdio::null());
        script
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(journal) = self.script(&["journal"], &["-n", "60"]).output()
        {
            let text = String::from_utf8_lossy(&journal.stdout);
            show(&format!("the last of {}'s journal", self.name), text.lines());
            // of a machine that does not answer: the end of its console
            let console = String::from_utf8_lossy(&journal.stderr);
            show("and instead of it", console.lines());
        }
        // a gateway that does not stop here ends with this process
        let _ = self.script(&["stop"], &[]).output();
    }
}

pub(crate) fn succeeded(output: std::io::Result<Output>, what: &str) -> String {
    let output = output.expect("the harness script runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "'{what}' failed ({}):\n{text}{errors}",
        output.status
    );
    text.trim_end().to_owned()
}

/// Prints lines beside a failed test.
#[expect(clippy::print_stderr, reason = "this is what the test runner shows of a failed test")]
pub(crate) fn show<'a>(title: &str, lines: impl Iterator<Item = &'a str>) {
    eprintln!("--- {title}");
    for line in lines {
        eprintln!("{line}");
    }
}
