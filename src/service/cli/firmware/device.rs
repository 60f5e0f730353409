//! One device's way through a push: download, update, and what it says at the end.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::client::Client;
use super::Push;
use super::find;
use super::show::{Phase, Progress};
use super::source::Source;
use crate::protocol::Device;
use crate::protocol::firmware::{Firmware, FirmwareState, UpdateStatus};
use crate::service::brain::DEFAULT_FIRMWARE_TIMEOUT;

/// How long after its timeout the service may take to say so, and how long it may be away when something is asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device that needs no reboot may take to tell its new version after it has told that the update succeeded.
const VERSION: Duration = Duration::from_secs(60);
/// How long the reason in the device's own words, its log, may take to arrive after its last notify. What comes later
/// is in `iotdm firmware status`.
const REASON: Duration = Duration::from_secs(5);

/// How a device ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) done: bool,
    /// What it says that it runs.
    pub(super) fw_version: Option<String>,
    pub(super) took: Duration,
    /// Why it failed.
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
}

/// Why it cannot go on.
struct Failed {
    reason: String,
    /// The device itself refused the request, with this code.
    rc: Option<u64>,
}

impl Failed {
    fn new(reason: impl Into<String>) -> Self {
        Failed {
            reason: reason.into(),
            rc: None,
        }
    }
}

/// The device is not in the state that the request needs.
const BAD_REQUEST: Option<u64> = Some(400);

impl One<'_> {
    /// Takes the device to its end.
    pub(super) async fn install(&self) -> Ended {
        let begun = Instant::now();
        let mut ended = Ended::default();
        match self.all(&mut ended).await {
            Ok(()) => {
                ended.done = true;
                self.set(Phase::Done(ended.fw_version.clone()));
            }
            Err(Failed { reason, .. }) => {
                ended.fw_version = self.version().await;
                self.set(Phase::Failed(reason.clone()));
                ended.reason = reason;
            }
        }
        ended.took = begun.elapsed();
        ended
    }

    async fn all(&self, ended: &mut Ended) -> Result<(), Failed> {
        self.download_and_update(ended).await?;
        ended.fw_version = self.final_version().await;
        match (&ended.fw_version, &self.work.push.version) {
            (Some(runs), Some(told)) if runs != told => Err(Failed::new(format!(
                "it says that the update succeeded, and that it runs {runs}, not {told}: --version must be what the bundle's \
                 firmware says of itself"
            ))),
            (None, Some(told)) => Err(Failed::new(format!(
                "it says that the update succeeded, but not which version it runs, so nobody knows whether that is {told}"
            ))),
            _ => Ok(()),
        }
    }

    /// A device that has the image already refuses to fetch it again, and would throw it away for another address of it:
    /// then only the update is left to do.
    async fn download_and_update(&self, ended: &mut Ended) -> Result<(), Failed> {
        let mut overrides = self.work.push.overrides;
        if self.has_the_image().await {
            match self.update(ended, overrides).await {
                // It has lost it since it told so.
                Err(failed) if failed.rc == BAD_REQUEST => {
                    ended.update = None;
                    overrides = false;
                }
                end => return end,
            }
        }
        match self.download(ended, overrides).await {
            // It has it, and could not tell so while nobody observed it.
            Err(failed) if failed.rc == BAD_REQUEST && self.has_the_image().await => {}
            end => end?,
        }
        self.update(ended, false).await
    }

    async fn download(&self, ended: &mut Ended, overrides: bool) -> Result<(), Failed> {
        let parameters = self.work.source.parameters(self.index);
        let id = self.ask("firmware/download", &parameters, overrides).await?;
        ended.download = Some(id.clone());
        self.set(Phase::Requested);
        self.follow(&id, async |row| self.set(self.downloading(row))).await?;
        self.set(Phase::Downloaded);
        Ok(())
    }

    async fn update(&self, ended: &mut Ended, overrides: bool) -> Result<(), Failed> {
        let id = self.ask("firmware/update", &[], overrides).await?;
        ended.update = Some(id.clone());
        self.set(Phase::UpdateRequested);
        self.follow(&id, async |row| self.set(self.updating(row).await)).await
    }

    /// Whether what is to be installed lies on the device, downloaded and not being installed, as far as the service
    /// knows.
    async fn has_the_image(&self) -> bool {
        let mgmt = self.work.client.mgmt(self.device).await.unwrap_or_default();
        let Ok(known) = Firmware::parse("mgmt.firmware", mgmt["firmware"].clone()) else {
            return false;
        };
        known.state == Some(FirmwareState::Downloaded)
            && known.update_status != Some(UpdateStatus::InProgress)
            && self.work.source.is(self.index, &known)
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
                    break ours.ok_or_else(|| Failed::new(error.to_string()))?.id().to_owned();
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
                Err(error) => return Err(Failed::new(error.to_string())),
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
                Ok(row) if row["complete"] == true => {
                    return Err(Failed {
                        rc: row["rc"].as_u64().filter(|_| !row["accepted"].is_string()),
                        reason: self.reason(&path, row).await,
                    });
                }
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
                Err(error) => return Err(Failed::new(error.to_string())),
            }
            if Instant::now() >= give_up {
                let reason = format!(
                    "the service says nothing final, even {} s after the timeout; is it connected to the broker?",
                    PATIENCE.as_secs()
                );
                return Err(Failed::new(reason));
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
            let told = self.work.push.version.is_some();
            let changed = version.is_some() && version != self.before;
            if !told || changed || version == self.work.push.version || Instant::now() >= give_up {
                return version;
            }
            sleep(self.work.poll).await;
        }
    }

    /// Why it failed, as the service says it. Where the device notified a code of the protocol, its log has the words,
    /// and may come a moment later.
    async fn reason(&self, path: &str, mut row: Value) -> String {
        let give_up = Instant::now() + REASON;
        while notified_failure(&row) && !row["reason"].is_string() && Instant::now() < give_up {
            sleep(self.work.poll).await;
            row = self.work.client.get(path).await.unwrap_or(row);
        }
        said(&row)
    }
}

fn notified_failure(row: &Value) -> bool {
    let status = row["updateStatus"].as_str();
    row["status"] == 2 && status.is_some_and(|status| !matches!(status, "success" | "in progress"))
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
