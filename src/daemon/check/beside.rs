//! What `check` says about the broker when an agent runs, or may.
//!
//! It never blames or praises settings for what others did: a connection speaks for what it was made with, the files
//! that the settings name included. And it never tries the broker while there is a session, or lets one begin before
//! its own try has ended.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::Read;
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::probe::broker;
use super::{Finding, Looked, Severity};
use crate::config::{self, Configuration, Settings};
use crate::daemon::connection::Connection;
use crate::daemon::run::Daemon;
use crate::local::Reply;
use crate::store::StoreError;

/// So much of a file is compared, in bytes.
const COMPARED: u64 = 1024 * 1024;

/// What the session was made with, or could not be made with.
#[derive(Debug, PartialEq)]
pub(in crate::daemon) struct Tried {
    device: config::Device,
    service: config::Service,
    /// A hash of what is in each of the files; nothing of it can be found out from that.
    files: Vec<Option<u64>>,
}

impl Tried {
    /// With the files as they are now. The session has read them a moment ago.
    pub(in crate::daemon) fn now(settings: &Settings) -> Self {
        let service = &settings.service;
        let certificate = service.certificate.as_ref();
        let files = [
            service.token.as_ref().map(config::Token::path),
            service.ca_file.as_deref(),
            certificate.map(|certificate| certificate.cert_file.as_path()),
            certificate.map(|certificate| certificate.key_file.as_path()),
        ];
        Tried {
            device: settings.device.clone(),
            service: service.clone(),
            files: files.map(|file| file.and_then(content)).to_vec(),
        }
    }
}

fn content(path: &Path) -> Option<u64> {
    // Opening something else may take for ever.
    path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(COMPARED).read_to_end(&mut bytes).ok()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Some(hasher.finish())
}

/// A try under way.
#[derive(Debug)]
pub(in crate::daemon) struct Probe {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Daemon {
    /// The host has been looked at; the broker remains.
    pub(in crate::daemon) fn checked(&mut self, looked: Looked, reply: oneshot::Sender<Reply>) {
        let Looked {
            mut findings, settings, ..
        } = looked;
        match (&self.configuration.settings, settings) {
            (Configuration::NotConfigured { .. }, None) => {}
            (Configuration::NotConfigured { .. }, Some(written)) => return self.probe(written, findings, reply),
            // What is written cannot be used, and another finding says so.
            (Configuration::Configured(_), None) => findings.push(connection(&self.connection)),
            (Configuration::Configured(force), Some(written)) => {
                findings.push(match self.has_tried(force, &written) {
                    true => connection(&self.connection),
                    false => not_tried(),
                });
            }
        }
        answer(findings, reply);
    }

    /// Whether the connection, good or bad, speaks for what is written; or is to speak for it soon.
    fn has_tried(&self, force: &Settings, written: &Settings) -> bool {
        match self.connection {
            Connection::Subscribed(_) | Connection::Trouble { .. } => {
                self.tried.as_ref().is_some_and(|tried| *tried == Tried::now(written))
            }
            Connection::None | Connection::Connecting | Connection::Connected => {
                (&force.device, &force.service) == (&written.device, &written.service)
            }
        }
    }

    /// Tries the broker. There is no session, and [`end_probe`](Self::end_probe) comes before there is one.
    fn probe(&mut self, written: Box<Settings>, mut findings: Vec<Finding>, reply: oneshot::Sender<Reply>) {
        if self.probe.as_ref().is_some_and(|probe| !probe.task.is_finished()) {
            let text = "not tried: another check tries it just now";
            findings.push(finding(Severity::Warning, text).hint("ask again in a minute"));
            return answer(findings, reply);
        }
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut found = broker(&written, stopped).await;
            if found.severity == Severity::Ok {
                found
                    .text
                    .push_str("; systemctl reload iotdm-agent makes the agent connect");
            }
            findings.push(found);
            answer(findings, reply);
        });
        self.probe = Some(Probe { stop, task });
    }

    /// When this returns, no try is under way.
    pub(in crate::daemon) async fn end_probe(&mut self) {
        if let Some(Probe { stop, task }) = self.probe.take() {
            drop(stop);
            // If it has panicked, its session is gone, too.
            let _ = task.await;
        }
    }
}

fn answer(findings: Vec<Finding>, reply: oneshot::Sender<Reply>) {
    // The command may have been interrupted.
    let _ = reply.send(Reply::Done(serde_json::json!(findings)));
}

fn finding(severity: Severity, text: impl Into<String>) -> Finding {
    Finding::new("service", "broker", severity, text)
}

/// What the running agent's connection says about the broker.
fn connection(connection: &Connection) -> Finding {
    match connection {
        Connection::Subscribed(since) => {
            let seconds = since.elapsed().as_secs();
            let text = format!("connected for {seconds} s; the running agent was asked");
            finding(Severity::Ok, text)
        }
        Connection::Trouble { trouble, .. } => finding(Severity::Error, trouble.to_string()),
        Connection::None | Connection::Connecting | Connection::Connected => {
            finding(Severity::Warning, "the running agent is connecting just now").hint("ask again in a minute")
        }
    }
}

fn not_tried() -> Finding {
    let text = "not tried yet: the running agent has other settings for the service than what is written, \
                or the files that they name have changed since it connected";
    finding(Severity::Warning, text).hint("systemctl reload iotdm-agent, then check again")
}

/// No agent answers, and yet nobody may say that none runs.
pub(super) fn not_alone(error: &StoreError) -> Finding {
    match error {
        StoreError::InUse { holder, .. } => {
            let who = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let text =
                format!("not tried: an agent runs ({who}) and cannot be asked; a second session would end its own");
            finding(Severity::Warning, text)
                .hint("it is stopping, or has no socket: systemctl status iotdm-agent, and ask again in a minute")
        }
        error => {
            let text = format!("not tried: whether an agent runs cannot be told: {error}");
            finding(Severity::Warning, text).hint("run check as root or as the user that runs the agent")
        }
    }
}
