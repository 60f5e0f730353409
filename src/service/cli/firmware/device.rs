//! One device's way through a push: download, update, and what it says at the end.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::client::Client;
use super::Push;
use super::find;
use super::show::{Phase, Progress};
use super::source::Source;
use crate::protocol::Device;
use crate::service::brain::DEFAULT_FIRMWARE_TIMEOUT;

/// How long after its timeout the service may take to say so, and how long it may be away when something is asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device that needs no reboot may take to tell its new version after it has told that the update succeeded.
const VERSION: Duration = Duration::from_secs(10);
/// How long the reason may take to arrive in the device's log after its last notify.
const REASON: Duration = Duration::from_secs(3);

/// How a device ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) done: bool,
    /// What it says that it runs.
    pub(super) fw_version: Option<String>,
    pub(super) took: Duration,
    /// Why it failed, or what is odd although it did not.
    pub(super) reason: String,
    /// The requests that were made.
    pub(super) download: Option<String>,
    pub(super) update: Option<String>,
}

/// What all devices share.
pub(super) struct Work<'a> {
    pub(super) client: &'a Client,
    pub(super) push: &'a Push,
    pub(super) source: &'a Source,
    pub(super) progress: &'a Progress<'a>,
    /// How often the service is asked how a device stands.
    pub(super) poll: Duration,
}

/// One of the devices.
pub(super) struct One<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) index: usize,
    pub(super) device: &'a Device,
    /// What it ran before.
    pub(super) before: Option<String>,
    /// The newest of its logs before; the device's clock need not be ours, so their times say nothing.
    pub(super) last_log: Cell<u64>,
}

/// Why it cannot go on.
struct Failed(String);

impl One<'_> {
    /// Takes the device to its end.
    pub(super) async fn install(&self) -> Ended {
        let begun = Instant::now();
        let mut ended = Ended::default();
        self.last_log.set(self.newest_log().await);
        match self.all(&mut ended).await {
            Ok(()) => {
                ended.done = true;
                self.set(Phase::Done(ended.fw_version.clone()));
            }
            Err(Failed(reason)) => {
                ended.fw_version = self.version().await;
                self.set(Phase::Failed(reason.clone()));
                ended.reason = reason;
            }
        }
        ended.took = begun.elapsed();
        ended
    }

    async fn all(&self, ended: &mut Ended) -> Result<(), Failed> {
        let parameters = self.work.source.parameters(self.index);
        let id = self
            .ask("firmware/download", &parameters, self.work.push.overrides)
            .await?;
        ended.download = Some(id.clone());
        self.set(Phase::Requested);
        self.follow(&id, async |row| self.set(self.downloading(row))).await?;
        self.set(Phase::Downloaded);
        let id = self.ask("firmware/update", &[], false).await?;
        ended.update = Some(id.clone());
        self.set(Phase::UpdateRequested);
        self.follow(&id, async |row| self.set(self.updating(row).await)).await?;
        ended.fw_version = self.final_version().await;
        if let (Some(runs), Some(told)) = (&ended.fw_version, &self.work.push.version)
            && runs != told
        {
            ended.reason = format!("it says that it runs {runs}, not {told}");
        }
        Ok(())
    }

    fn set(&self, phase: Phase) {
        self.work.progress.set(self.index, phase);
    }

    /// Makes a request. When the answer to that is lost, nobody knows whether the service has it: then the device is
    /// busy, and with just this.
    async fn ask(&self, action: &str, parameters: &[Value], overrides: bool) -> Result<String, Failed> {
        let body = json!({
            "action": action,
            "parameters": parameters,
            "devices": [{"typeId": self.device.type_id(), "deviceId": self.device.device_id()}],
            "timeout": self.timeout().as_secs(),
        });
        let path = if overrides {
            "/mgmt/requests?override=true"
        } else {
            "/mgmt/requests"
        };
        let give_up = Instant::now() + PATIENCE;
        let mut lost = false;
        let id = loop {
            match self.work.client.post(path, &body).await {
                Ok(answer) => break answer["reqId"].as_str().unwrap_or_default().to_owned(),
                Err(error) if error.is_conflict() && lost => {
                    let found = find::newest(self.work.client, self.device).await;
                    let ours = found.ok().flatten().filter(|found| {
                        found.is_open() && found.action() == action && found.request["parameters"] == body["parameters"]
                    });
                    break ours.ok_or_else(|| Failed(error.to_string()))?.id().to_owned();
                }
                Err(error) if error.is_passing() && Instant::now() < give_up => {
                    if !lost {
                        self.work
                            .progress
                            .note(&format!("{}: {error}; still trying", self.device));
                    }
                    lost = true;
                    sleep(self.work.poll).await;
                }
                Err(error) => return Err(Failed(error.to_string())),
            }
        };
        self.work.progress.requested(self.index, &id);
        Ok(id)
    }

    fn timeout(&self) -> Duration {
        let default = Duration::from_secs(DEFAULT_FIRMWARE_TIMEOUT);
        self.work.push.timeout.unwrap_or(default)
    }

    /// Follows a request to its end, which must be success.
    async fn follow(&self, id: &str, show: impl AsyncFn(&Value)) -> Result<(), Failed> {
        let path = find::row_path(id, self.device);
        let give_up = Instant::now() + self.timeout() + PATIENCE;
        let mut away = false;
        loop {
            match self.work.client.get(&path).await {
                Ok(row) if row["complete"] == true && row["status"] == 0 => return Ok(()),
                Ok(row) if row["complete"] == true => return Err(Failed(self.reason(&row).await)),
                Ok(row) => {
                    away = false;
                    show(&row).await;
                }
                Err(error) if error.is_passing() => {
                    if !away {
                        self.work
                            .progress
                            .note(&format!("{}: {error}; still waiting", self.device));
                    }
                    away = true;
                }
                Err(error) => return Err(Failed(error.to_string())),
            }
            if Instant::now() >= give_up {
                let reason = format!(
                    "the service says nothing final, even {} s after the timeout; is it connected to the broker?",
                    PATIENCE.as_secs()
                );
                return Err(Failed(reason));
            }
            sleep(self.work.poll).await;
        }
    }

    fn downloading(&self, row: &Value) -> Phase {
        let percent = self.work.source.offer(self.index).map(|offer| offer.percent());
        // What it fetches from here is seen before it is told.
        let fetches = percent.is_some_and(|percent| percent > 0) || row["state"] == "downloading";
        match row["step"].as_str() {
            Some("cancel") => Phase::Downloaded,
            _ if fetches => Phase::Downloading(percent),
            _ => Phase::Requested,
        }
    }

    async fn updating(&self, row: &Value) -> Phase {
        if row["updateStatus"] != "in progress" {
            return Phase::UpdateRequested;
        }
        match self.version().await {
            Some(version) if Some(&version) != self.before.as_ref() => Phase::OnTrial(version),
            _ => Phase::Installing,
        }
    }

    /// What the device says that it runs; `None` also while the service is away.
    async fn version(&self) -> Option<String> {
        let shown = self.work.client.device(self.device, "").await.ok()?;
        version_in(&shown)
    }

    async fn final_version(&self) -> Option<String> {
        let give_up = Instant::now() + VERSION;
        loop {
            let version = self.version().await;
            let expected = self.work.push.version.is_none() || version == self.work.push.version;
            if expected || version != self.before || Instant::now() >= give_up {
                return version;
            }
            sleep(self.work.poll).await;
        }
    }

    /// Why it failed: what the service says, and the latest error that the device logged meanwhile. The protocol's codes
    /// are few; the log has the words, though they may be about something else.
    async fn reason(&self, row: &Value) -> String {
        let reason = said(row);
        if !row["accepted"].is_string() {
            return reason;
        }
        match self.logged().await {
            Some(logged) => format!("{reason}; its latest error log: {logged}"),
            None => reason,
        }
    }

    /// Its logs, newest first.
    async fn logs(&self) -> Vec<Value> {
        let logs = self.work.client.device(self.device, "/diag/logs").await;
        logs.ok().and_then(|logs| logs.as_array().cloned()).unwrap_or_default()
    }

    async fn newest_log(&self) -> u64 {
        self.logs().await.first().map_or(0, log_id)
    }

    async fn logged(&self) -> Option<String> {
        let give_up = Instant::now() + REASON;
        loop {
            let logs = self.logs().await;
            let new = |log: &&Value| log["severity"] == 2 && log_id(log) > self.last_log.get();
            let newest = logs.iter().find(new);
            if let Some(log) = newest {
                return log["message"].as_str().map(str::to_owned);
            }
            if Instant::now() >= give_up {
                return None;
            }
            sleep(self.work.poll).await;
        }
    }
}

/// The service numbers logs as they come.
fn log_id(log: &Value) -> u64 {
    log["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(0)
}

/// `deviceInfo.fwVersion` of a device as the service shows it.
pub(super) fn version_in(shown: &Value) -> Option<String> {
    shown["deviceInfo"]["fwVersion"].as_str().map(str::to_owned)
}

/// What the row of a request that has failed says.
fn said(row: &Value) -> String {
    let message = row["message"].as_str().unwrap_or("no reason given");
    match (row["status"].as_u64(), row["accepted"].is_string(), row["rc"].as_u64()) {
        (Some(3), ..) => format!("timed out: {message}"),
        (_, false, Some(rc)) if rc >= 300 => format!("refused: the device answered {rc}: {message}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_says_who_refused_what() {
        for (row, expected) in [
            (
                json!({"status": 2, "rc": 501, "message": "firmware is disabled"}),
                "refused: the device answered 501: firmware is disabled",
            ),
            (
                json!({"status": 3, "message": "nothing came"}),
                "timed out: nothing came",
            ),
            (
                json!({"status": 2, "rc": 202, "accepted": "T", "message": "the download failed: connection lost"}),
                "the download failed: connection lost",
            ),
            (
                json!({"status": 2, "rc": 204, "message": "cancelled by the operator"}),
                "cancelled by the operator",
            ),
        ] {
            assert_eq!(said(&row), expected);
        }
    }
}
