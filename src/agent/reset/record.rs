//! What is remembered of a factory reset that is under way.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::handled::Key;

/// How far a reset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The host can be reset, and the service is told so. systemd was not asked yet.
    Accepted,
    /// systemd may have been asked.
    Starting,
}

/// A factory reset that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// How far it is.
    pub phase: Phase,
    /// The boot it began in.
    pub boot_id: String,
    /// When it was accepted, in milliseconds of time since boot.
    pub asked_ms: u64,
    /// When systemd had answered, or would have: from then on the host goes down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Whether the unit leaves a report. Where it does not, a new boot id is the proof.
    pub reports: bool,
    /// The requests that it answers.
    #[serde(default)]
    pub requests: Vec<Key>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Reset {
    /// When it was accepted, in time since boot.
    pub fn asked(&self) -> Duration {
        Duration::from_millis(self.asked_ms)
    }

    /// When systemd had answered, in time since boot.
    pub fn started(&self) -> Option<Duration> {
        self.started_ms.map(Duration::from_millis)
    }
}
