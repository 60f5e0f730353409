//! A real gpsd on a loopback port of its own; it ends when this is dropped, or with the test, whatever happens to that.

// Every test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::watch;

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Gpsd {
    pub port: u16,
    /// Holds gpsd: when its input ends, for whatever reason, gpsd is killed.
    shell: Child,
}

impl Gpsd {
    /// Starts it with these sources, `tcp://HOST:PORT` for one of `gnss`, and waits until it listens. Without any it
    /// waits for a receiver to be plugged in.
    pub async fn start(port: u16, sources: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut gpsd = vec!["-N", "-n", "-b", "-D", "3", "-S"];
        let (number, control) = (port.to_string(), folder.path().join("control"));
        gpsd.push(&number);
        if sources.is_empty() {
            gpsd.extend(["-F", control.to_str().unwrap()]);
        }
        gpsd.extend(sources.iter().map(String::as_str));
        let mut shell = Command::new("sh")
            .args(["-c", "gpsd \"$@\" & read _; kill -9 $!; wait", "sh"])
            .args(&gpsd)
            // where Debian has it, outside of a user's path
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(shell.stderr.take().unwrap());
        let (tell, mut log) = watch::channel(Vec::<String>::new());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                tell.send_modify(|lines| lines.push(line));
            }
        });
        // It listens before it opens its sources, and takes requests after that.
        let started = log.wait_for(|lines| lines.iter().any(|line| line.contains("startup at")));
        let started = matches!(tokio::time::timeout(LIMIT, started).await, Ok(Ok(_)));
        assert!(
            started,
            "gpsd (Debian package gpsd) does not start: {:#?}",
            log.borrow()
        );
        Self { port, shell }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(self) {}
}

impl Drop for Gpsd {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
