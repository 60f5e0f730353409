//! The agent as a child process, and the host that it lives on: folders, boot id, bus.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::support::within;

const BINARY: &str = env!("CARGO_BIN_EXE_iotdm-agent");

/// Nobody may ever find this in what the agent writes.
pub(crate) const TOKEN: &str = "t0ken-that-stays-secret";

/// Lines that come in one after the other, and can be waited for.
#[derive(Clone)]
pub(crate) struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    fn new() -> (watch::Sender<Vec<String>>, Self) {
        let (lines_in, lines) = watch::channel(Vec::new());
        (lines_in, Self(lines))
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// How many lines contain `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.0.borrow().iter().filter(|line| line.contains(part)).count()
    }

    /// The first line that contains `part`.
    pub(crate) async fn line(&self, part: &str) -> String {
        self.line_from(0, part).await
    }

    /// The first line that contains `part`, from line `from` on.
    pub(crate) async fn line_from(&self, from: usize, part: &str) -> String {
        let mut lines = self.0.clone();
        let find = |lines: &Vec<String>| lines.iter().skip(from).find(|line| line.contains(part)).cloned();
        let seen = within(part, lines.wait_for(|lines| find(lines).is_some())).await;
        match seen {
            Ok(lines) => find(&lines).unwrap(),
            Err(_) => panic!("ended without {part:?}: {:#?}", self.all()),
        }
    }

    /// Returns when `part` has come so many times.
    pub(crate) async fn times(&self, part: &str, times: usize) {
        let mut lines = self.0.clone();
        let enough = |lines: &Vec<String>| lines.iter().filter(|line| line.contains(part)).count() >= times;
        let _ = within(part, lines.wait_for(enough)).await.unwrap();
    }
}

/// Where an agent lives. Dropping it removes everything.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    bus: String,
    boot: AtomicU32,
    starts: AtomicU32,
    /// The device id, the user name at the broker.
    pub(crate) id: String,
    /// `None`: below the host's own folder.
    pub(crate) state: Option<PathBuf>,
    /// More variables for the agent.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Host {
    /// A host with a token and no configuration.
    pub(crate) fn new(id: &str, bus: &str) -> Self {
        Self::below(&std::env::temp_dir(), id, bus)
    }

    /// The same with everything that is its own below a folder, which may be on another file system than `/`.
    pub(crate) fn below(folder: &Path, id: &str, bus: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir_in(folder).unwrap();
        // A command may be run as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        for name in ["run", "etc", "state"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let host = Self {
            folder,
            bus: bus.to_owned(),
            boot: AtomicU32::new(1),
            starts: AtomicU32::new(0),
            id: id.to_owned(),
            state: None,
            environment: Vec::new(),
        };
        host.set_token(TOKEN);
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.path("state"))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    pub(crate) fn set_token(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = self.path("token");
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the configuration as it stands.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.path("etc/config.toml"), text).unwrap();
    }

    /// The usual configuration for the service at `url`, with more lines at its end.
    pub(crate) fn configure_for(&self, url: &str, more: &str) {
        self.configure(&self.configuration(url, "", more));
    }

    /// The same as text; `service` are more lines of `[service]`. A factory reset, unless `more` has one, is switched off:
    /// a request that is answered and does nothing. And so is the journal of the machine that the tests run on.
    pub(crate) fn configuration(&self, url: &str, service: &str, more: &str) -> String {
        let reset = match more.contains("[factory_reset]") {
            true => "",
            false => "[factory_reset]\nenabled = false\n",
        };
        let journal = match more.contains("[diagnostics]") {
            true => "",
            false => "[diagnostics]\njournal = false\n",
        };
        format!(
            "{reset}{journal}[device]\norg = \"acme\"\ntype = \"edge\"\nid = \"{id}\"\n\
             [service]\nurl = \"{url}\"\nusername = \"{id}\"\ntoken_file = \"{token}\"\n{service}\n{more}\n",
            id = self.id,
            token = self.path("token").display(),
        )
    }

    /// From now on the kernel has another boot id.
    pub(crate) fn boot(&self) {
        self.boot.fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel's boot id.
    pub(crate) fn boot_id(&self) -> String {
        format!("{:032x}", self.boot.load(Ordering::Relaxed))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("STATE_DIRECTORY", self.state())
            .env("IOTDM_BOOT_ID", self.boot_id())
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn config(&self) -> PathBuf {
        self.path("etc/config.toml")
    }

    /// Starts the agent; does not wait for anything.
    pub(crate) fn start(&self) -> Agent {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let socket = self.path(&format!("notify-{start}"));
        let (notes_in, notes) = Lines::new();
        let datagrams = UnixDatagram::bind(&socket).unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(length) = datagrams.recv(&mut bytes).await {
                let text = String::from_utf8_lossy(&bytes[..length]);
                notes_in.send_modify(|notes| notes.extend(text.lines().map(str::to_owned)));
            }
        });
        let mut child = self
            .command()
            .env("NOTIFY_SOCKET", &socket)
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log_in, log) = Lines::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                log_in.send_modify(|log| log.push(line));
            }
        });
        Agent { child, log, notes }
    }

    /// Runs a local command to its end: `arguments` without `--config`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.run_as(None, arguments).await
    }

    /// Starts a local command that may take its time.
    pub(crate) fn start_command(&self, arguments: &[&str]) -> tokio::task::JoinHandle<Output> {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(self.config());
        tokio::spawn(async move { command.output().await.unwrap() })
    }

    /// The same as this user and group.
    pub(crate) async fn run_as(&self, id: Option<u32>, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments).arg("--config").arg(self.config());
        if let Some(id) = id {
            command.uid(id).gid(id);
        }
        let output = within("a local command", command.output()).await.unwrap();
        for stream in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(stream).contains(TOKEN), "{arguments:?}");
        }
        output
    }

    /// A command that succeeds: what it printed.
    pub(crate) async fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `status --json`.
    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.told(&["status", "--json"]).await).unwrap()
    }

    /// The status as soon as it is as wanted.
    pub(crate) async fn status_with(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let ask = async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        within(what, ask).await
    }
}

/// A command that failed: its exit code and what it said.
pub(crate) fn failure(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    pub(crate) log: Lines,
    /// What it told systemd.
    pub(crate) notes: Lines,
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it has not ended")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end: the exit code.
    pub(crate) async fn end(&mut self) -> i32 {
        let status = within("the agent's end", self.child.wait()).await.unwrap();
        status
            .code()
            .unwrap_or_else(|| panic!("{status}: {:#?}", self.log.all()))
    }

    /// SIGTERM, and its end.
    pub(crate) async fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.end().await
    }

    /// SIGHUP; returns when it says that it is ready again.
    pub(crate) async fn reload(&self) {
        let from = self.notes.len();
        self.signal(Signal::SIGHUP);
        self.notes.line_from(from, "READY=1").await;
    }

    pub(crate) async fn managed(&self) {
        self.notes.line("STATUS=managed").await;
    }

    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let said = self.log.all().into_iter().chain(self.notes.all());
        for line in said {
            assert!(std::thread::panicking() || !line.contains(TOKEN), "a secret in: {line}");
            assert!(std::thread::panicking() || !line.contains("panicked"), "{line}");
        }
        if std::thread::panicking() {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("the agent's log: {:#?}", self.log.all());
            }
        }
    }
}

/// Gives a file to another user.
pub(crate) fn give(path: &Path, id: u32) {
    std::os::unix::fs::chown(path, Some(id), Some(id)).unwrap();
}
