//! How things stand, for people and for `status --json`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::durable::{Exclusive, RebootPhase, Wish};
use super::firmware::{self, record::Phase};
use super::model::{self, LocationStatus};
use super::reset::record::Phase as ResetPhase;
use super::work::Work;

/// The brain's part of `iotdm-agent status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether the device is to be managed.
    pub wish: Wish,
    /// Whether the service answered 200 to a manage since the agent started, and has refused none since as wrong, forbidden or
    /// unknown.
    pub managed: bool,
    /// When that was, in unix seconds, if the clock was set.
    pub managed_since: Option<i64>,
    /// The return code of the last manage that was refused, with the service's reason.
    pub manage_refused: Option<String>,
    /// Whether the subscription stands.
    pub subscribed: bool,
    /// What is under way: `none`, `reboot asked`, `factory reset accepted`, `firmware on trial` and the like, or something
    /// that this version does not know.
    pub busy: &'static str,
    /// How firmware stands.
    pub firmware: FirmwareStatus,
    /// What the service has written into the device model, by the names of attributes; `null` where it took something away.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub written: Map<String, Value>,
    /// Where the device is, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationStatus>,
    /// Error codes that the service was told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_codes: Vec<i64>,
    /// Records in the outbox that the service has not confirmed.
    pub owed: usize,
    /// Answers that the broker does not have yet.
    pub answers_owed: usize,
    /// Requests that are remembered so that they are not executed again.
    pub remembered: usize,
    /// Whether the disk refuses to take changes.
    pub unsaved: bool,
}

/// Firmware in `iotdm-agent status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirmwareStatus {
    /// Why it cannot be updated here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_supported: Option<String>,
    /// `mgmt.firmware.state`: 0 idle, 1 downloading, 2 downloaded.
    pub state: u8,
    /// `mgmt.firmware.updateStatus`: 0 success or nothing yet, 1 in progress, 2 to 6 failures.
    pub update_status: u8,
    /// The version that the service described.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How far an update is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'static str>,
    /// How far a download or an installation is; the daemon knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The slot that is written or on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// What an update waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What was said of the last request that was refused or failed, since the agent started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

pub(super) fn of(work: &Work<'_>) -> Status {
    let lifecycle = &work.v.lifecycle;
    Status {
        wish: work.d.wish.clone(),
        managed: lifecycle.managed.is_some(),
        managed_since: lifecycle.managed.and_then(|(_, wall)| wall),
        manage_refused: lifecycle.refusal.as_ref().map(|(rc, message)| match message {
            Some(message) => format!("rc {rc}: {message}"),
            None => format!("rc {rc}"),
        }),
        subscribed: work.v.subscribed,
        busy: busy(work),
        firmware: firmware(work),
        written: work.d.written.by_name(),
        location: model::status(work),
        error_codes: work.d.diagnostics.codes.told().collect(),
        owed: work.v.outbox.len(),
        answers_owed: work
            .d
            .handled
            .iter()
            .filter(|handled| handled.answer.is_some() && !handled.delivered)
            .count(),
        remembered: work.d.handled.len() + work.d.others.len(),
        unsaved: work.unsaved(),
    }
}

fn firmware(work: &Work<'_>) -> FirmwareStatus {
    let (record, update) = (&work.d.firmware, work.d.update());
    FirmwareStatus {
        not_supported: work.settings.firmware.supported.clone().err(),
        state: record.state,
        update_status: record.update_status,
        version: record.version.clone(),
        phase: update.map(|_| busy(work)),
        progress: None,
        slot: update.map(|update| update.to_slot.clone()),
        waiting_for: firmware::waiting_for(work),
        trouble: firmware::trouble(work),
    }
}

fn busy(work: &Work<'_>) -> &'static str {
    match &work.d.exclusive {
        None => "none",
        Some(Exclusive::Reboot { reboot }) if reboot.phase == RebootPhase::Asked => "reboot asked",
        Some(Exclusive::Reboot { reboot }) if reboot.unknown => "reboot unclear",
        Some(Exclusive::Reboot { .. }) => "reboot accepted",
        Some(Exclusive::Update { update }) => match (update.phase, &update.reboot) {
            _ if firmware::is_unclear(work, update) => "firmware update, outcome to come",
            (Phase::Installing, _) => "firmware installing",
            (Phase::Installed, None) => "firmware installed, reboot to come",
            (Phase::Installed, Some(_)) => "firmware installed, rebooting",
            (Phase::Trial, _) => "firmware on trial",
            (Phase::RollingBack, _) => "firmware rolling back",
        },
        Some(Exclusive::Reset { reset }) if reset.boot_id != work.settings.boot_id => "factory reset, outcome to come",
        Some(Exclusive::Reset { reset }) => match reset.phase {
            ResetPhase::Accepted => "factory reset accepted",
            ResetPhase::Starting => "factory reset starting",
        },
        Some(Exclusive::Unknown(_)) => "something that this version does not know",
    }
}
