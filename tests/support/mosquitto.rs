//! A real mosquitto on a loopback port of its own, with a generated configuration. Killed when dropped.

use super::{free_port, within};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::sync::watch;

/// What the broker is to be like.
#[derive(Clone, Default)]
pub struct Setup {
    /// Sessions survive a restart.
    pub persistence: bool,
    /// User names and passwords; empty: everybody is let in.
    pub users: Vec<(String, String)>,
    /// The content of an ACL file.
    pub acl: Option<String>,
    /// TLS instead of plain TCP.
    pub tls: Option<ServerTls>,
    /// More lines of configuration for the listener.
    pub more: String,
}

/// The PEM files of the broker.
#[derive(Clone)]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Clients need a certificate of this authority; its CN becomes the user name.
    pub client_ca: Option<PathBuf>,
    /// "tlsv1.2" or "tlsv1.3" only.
    pub version: Option<&'static str>,
}

pub struct Mosquitto {
    pub port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
    log: watch::Receiver<Vec<String>>,
    log_in: std::sync::Arc<watch::Sender<Vec<String>>>,
}

impl Mosquitto {
    /// Starts it and waits until it listens.
    pub async fn start(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        std::fs::write(folder.path().join("mosquitto.conf"), config(setup, port, folder.path())).unwrap();
        let (log_in, log) = watch::channel(Vec::new());
        let mut broker = Self {
            port,
            folder,
            child: None,
            log,
            log_in: std::sync::Arc::new(log_in),
        };
        broker.launch().await;
        broker
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port with the same files.
    pub async fn launch(&mut self) {
        assert!(self.child.is_none(), "mosquitto runs already");
        let from = self.log_len();
        let mut child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is installed (Debian package mosquitto)");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = std::sync::Arc::clone(&self.log_in);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.send_modify(|lines| lines.push(line));
            }
        });
        self.child = Some(child);
        self.log_line_from(from, " running").await;
    }

    /// SIGTERM: it takes leave, and saves its sessions if it is persistent.
    pub fn stop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.child.take().unwrap().wait().unwrap();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGSTOP: the kernel keeps its connections, it says nothing.
    pub fn freeze(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    /// SIGHUP: reads passwords and ACL again.
    pub fn reload(&self) {
        self.signal(nix::sys::signal::Signal::SIGHUP);
    }

    /// SIGUSR1: writes its sessions to disk now.
    pub fn save(&self) {
        self.signal(nix::sys::signal::Signal::SIGUSR1);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.child.as_ref().expect("mosquitto runs").id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// Replaces the passwords; [`reload`](Self::reload) makes it read them.
    pub fn set_users(&self, users: &[(String, String)]) {
        write_users(&self.folder.path().join("passwords"), users);
    }

    /// Where its persistent sessions are kept.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("mosquitto.db")
    }

    /// How many lines it has logged.
    pub fn log_len(&self) -> usize {
        self.log.borrow().len()
    }

    /// All that it has logged.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// How many lines of the log contain `part`.
    pub fn log_count(&self, part: &str) -> usize {
        self.log.borrow().iter().filter(|line| line.contains(part)).count()
    }

    /// Waits for a line that contains `part`, from the beginning of the log.
    pub async fn log_line(&self, part: &str) -> String {
        self.log_line_from(0, part).await
    }

    /// Waits for a line that contains `part`, from line `from` on.
    pub async fn log_line_from(&self, from: usize, part: &str) -> String {
        let mut log = self.log.clone();
        let found = within(
            part,
            log.wait_for(|lines| lines.iter().skip(from).any(|line| line.contains(part))),
        )
        .await;
        found
            .unwrap()
            .iter()
            .skip(from)
            .find(|line| line.contains(part))
            .cloned()
            .unwrap()
    }

    /// Publishes with `mosquitto_pub` (plain TCP): `arguments` are added, for instance `-r` or `-u`.
    pub async fn publish(&self, topic: &str, payload: &[u8], arguments: &[&str]) {
        let file = self.folder.path().join("payload");
        std::fs::write(&file, payload).unwrap();
        let status = tokio::process::Command::new("mosquitto_pub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-q",
                "1",
                "-t",
                topic,
                "-f",
            ])
            .arg(&file)
            .args(arguments)
            .status()
            .await
            .expect("mosquitto_pub is installed (Debian package mosquitto-clients)");
        assert!(status.success(), "mosquitto_pub failed: {status}");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn config(setup: &Setup, port: u16, folder: &Path) -> String {
    let mut config = format!("listener {port} 127.0.0.1\nlog_dest stderr\nlog_type all\n");
    if nix::unistd::geteuid().is_root() {
        config.push_str("user root\n");
    }
    if setup.persistence {
        let _ = writeln!(
            config,
            "persistence true\npersistence_location {}/\nautosave_interval 1",
            folder.display()
        );
        config.push_str("autosave_on_changes true\n");
    }
    if setup.users.is_empty() {
        config.push_str("allow_anonymous true\n");
    } else {
        let passwords = folder.join("passwords");
        write_users(&passwords, &setup.users);
        let _ = writeln!(config, "allow_anonymous false\npassword_file {}", passwords.display());
    }
    if let Some(acl) = &setup.acl {
        let file = folder.join("acl");
        std::fs::write(&file, acl).unwrap();
        let _ = writeln!(config, "acl_file {}", file.display());
    }
    if let Some(tls) = &setup.tls {
        let _ = writeln!(
            config,
            "certfile {}\nkeyfile {}",
            tls.cert_file.display(),
            tls.key_file.display()
        );
        if let Some(ca) = &tls.client_ca {
            let _ = writeln!(
                config,
                "cafile {}\nrequire_certificate true\nuse_identity_as_username true",
                ca.display()
            );
        }
        if let Some(version) = tls.version {
            let _ = writeln!(config, "tls_version {version}");
        }
    }
    config.push_str(&setup.more);
    config
}

fn write_users(file: &Path, users: &[(String, String)]) {
    std::fs::write(file, "").unwrap();
    for (user, password) in users {
        let status = Command::new("mosquitto_passwd")
            .arg("-b")
            .arg(file)
            .args([user, password])
            .status()
            .unwrap();
        assert!(status.success(), "mosquitto_passwd failed: {status}");
    }
}
