//! What must survive a power cut: exactly what is serialised.
//!
//! The format is an interface between versions: a newer agent reads what an older one wrote, and after a fall-back the
//! older one reads what the newer one wrote. So members are only ever added, and what is not known is kept.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

use super::firmware::record::{Firmware, Update};
use super::handled::{Answer, Handled, Key, Other};
use super::model::Written;
use super::observation::Observed;
use super::reset::record::Reset;

/// Whether the device is to be managed. Survives restarts: an unmanaged device sends no manage until it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Yes.
    #[default]
    Managed,
    /// No, and the service does not know yet.
    Unmanaging,
    /// No, and the service knows.
    Unmanaged,
}

/// How far a reboot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RebootPhase {
    /// The service asked; logind may have been asked.
    Asked,
    /// logind accepted.
    Accepted,
}

/// A reboot that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootState {
    /// How far it is.
    pub phase: RebootPhase,
    /// The boot it began in; another boot id is the proof that it happened.
    pub boot_id: String,
    /// When the service asked, in milliseconds of time since boot.
    pub asked_ms: u64,
    /// When logind was last asked, if that was not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_ms: Option<u64>,
    /// When logind accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_ms: Option<u64>,
    /// Nobody knows whether logind got the request: it counts as accepted, but nobody is told so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The requests that it answers.
    #[serde(default)]
    pub requests: Vec<Key>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The one thing that the host does for the service at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exclusive {
    /// A reboot.
    Reboot {
        /// Its state.
        reboot: RebootState,
    },
    /// Firmware is installed, or on trial.
    Update {
        /// Its state.
        update: Box<Update>,
    },
    /// The host is reset to its factory settings.
    Reset {
        /// Its state.
        reset: Reset,
    },
    /// Something that a newer version began: kept, and in the way of everything else.
    Unknown(Value),
}

/// The durable memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Durable {
    /// Whether the device is to be managed.
    #[serde(default)]
    pub wish: Wish,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<Exclusive>,
    /// Requests that must not be executed again, oldest first.
    #[serde(default)]
    pub handled: Vec<Handled>,
    /// Other requests that must not be executed again, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Other>,
    /// How many boots in a row the service ended within 10 minutes.
    #[serde(default)]
    pub short_boots: u32,
    /// `mgmt.firmware`.
    #[serde(default, skip_serializing_if = "Firmware::is_untouched")]
    pub firmware: Firmware,
    /// What the service observes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// What the service has written into the device model.
    #[serde(default, skip_serializing_if = "Written::is_empty")]
    pub written: Written,
    /// The id of the last report of a factory reset that was told: a crash may come before it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_told: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A change of the durable memory. Changes that the disk refused are kept, and tried again.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The device is to be managed, or not.
    Wish(Wish),
    /// A reboot began, went on, or ended. During an update it is the update's.
    Reboot(Option<RebootState>),
    /// An update began, went on, or ended.
    Update(Option<Box<Update>>),
    /// A factory reset began, went on, or ended.
    Reset(Option<Reset>),
    /// The report with this id was told.
    ResetTold(String),
    /// `mgmt.firmware` has changed.
    Firmware(Firmware),
    /// What the service observes, or what it was told of it.
    Observed(Vec<Observed>),
    /// What the service has written into the device model.
    Written(Written),
    /// A request is remembered, with its answer when there is one already.
    Remember(Handled),
    /// A request that did not change the host is remembered.
    RememberOther(Other),
    /// A remembered request has this answer now; it is to be sent.
    Answer(Key, Answer),
    /// The broker has the answer with this code.
    Delivered(Key, crate::protocol::Rc),
    /// See [`Durable::short_boots`].
    ShortBoots(u32),
}

impl Durable {
    /// Reads what the state file holds.
    ///
    /// # Errors
    /// When it is not this document at all; a newer version's document is read for what is understood.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As the state file holds it.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("all keys are strings")
    }

    /// The reboot that is under way.
    pub fn reboot(&self) -> Option<&RebootState> {
        match &self.exclusive {
            Some(Exclusive::Reboot { reboot }) => Some(reboot),
            Some(Exclusive::Update { update }) => update.reboot.as_ref(),
            _ => None,
        }
    }

    /// The update that is under way.
    pub fn update(&self) -> Option<&Update> {
        match &self.exclusive {
            Some(Exclusive::Update { update }) => Some(update),
            _ => None,
        }
    }

    /// The factory reset that is under way.
    pub fn reset(&self) -> Option<&Reset> {
        match &self.exclusive {
            Some(Exclusive::Reset { reset }) => Some(reset),
            _ => None,
        }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Wish(wish) => self.wish = *wish,
            Change::Reboot(reboot) => match &mut self.exclusive {
                Some(Exclusive::Update { update }) => update.reboot = reboot.clone(),
                exclusive => *exclusive = reboot.clone().map(|reboot| Exclusive::Reboot { reboot }),
            },
            Change::Update(update) => {
                self.exclusive = update.clone().map(|update| Exclusive::Update { update });
            }
            Change::Reset(reset) => {
                self.exclusive = reset.clone().map(|reset| Exclusive::Reset { reset });
            }
            Change::ResetTold(id) => self.reset_told = Some(id.clone()),
            Change::Firmware(firmware) => self.firmware = firmware.clone(),
            Change::Observed(observed) => self.observed = observed.clone(),
            Change::Written(written) => self.written = written.clone(),
            Change::RememberOther(other) => super::handled::remember_other(&mut self.others, other.clone()),
            Change::Remember(handled) => super::handled::remember(&mut self.handled, handled.clone()),
            Change::Answer(key, answer) => super::handled::answer(&mut self.handled, key, answer),
            Change::Delivered(key, rc) => super::handled::delivered(&mut self.handled, key, *rc),
            Change::ShortBoots(count) => self.short_boots = *count,
        }
    }
}

impl RebootState {
    /// When the service asked, in time since boot.
    pub fn asked(&self) -> Duration {
        Duration::from_millis(self.asked_ms)
    }

    /// When logind was last asked, in time since boot, as far as that is known.
    pub fn tried(&self) -> Duration {
        Duration::from_millis(self.tried_ms.unwrap_or(self.asked_ms))
    }

    /// When logind accepted; when that is not known, when the service asked.
    pub fn accepted(&self) -> Duration {
        Duration::from_millis(self.accepted_ms.unwrap_or(self.asked_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_newer_version_wrote_is_read_for_what_is_understood_and_kept() {
        let newer = serde_json::json!({
            "wish": "unmanaged",
            "exclusive": {"reset": {"phase": "wiping"}},
            "handled": [{"key": {"op": "firmware_update", "hash": "00"}, "req_id": "a", "answer": {"rc": 202, "extra": 1}, "more": true}],
            "short_boots": 1,
            "trusted": ["mgmt.firmware"],
        });
        let durable = Durable::from_json(newer.to_string().as_bytes()).unwrap();
        assert_eq!(durable.wish, Wish::Unmanaged);
        assert!(matches!(durable.exclusive, Some(Exclusive::Unknown(_))));
        let again: Value = serde_json::from_slice(&durable.to_json()).unwrap();
        for (name, value) in newer.as_object().unwrap() {
            match name.as_str() {
                "handled" => assert_eq!(again["handled"][0]["more"], true),
                _ => assert_eq!(&again[name], value, "{name}"),
            }
        }
    }

    #[test]
    fn what_a_newer_version_added_to_a_reboot_or_an_answer_is_kept_when_it_is_written_again() {
        let newer = serde_json::json!({
            "exclusive": {"reboot": {"phase": "asked", "boot_id": "b", "asked_ms": 1, "requests": [], "reason": "update"}},
            "handled": [{"key": {"op": "reboot", "hash": "00"}, "req_id": "a", "answer": {"rc": 202, "since": 5}, "delivered": true}],
        });
        let mut durable = Durable::from_json(newer.to_string().as_bytes()).unwrap();
        durable.apply(&Change::ShortBoots(1));
        let again: Value = serde_json::from_slice(&durable.to_json()).unwrap();
        assert_eq!(again["exclusive"], newer["exclusive"]);
        assert_eq!(again["handled"], newer["handled"]);
    }

    #[test]
    fn what_a_newer_version_added_to_a_factory_reset_is_kept_and_a_phase_that_is_unknown_makes_it_unknown() {
        let mut newer = serde_json::json!({
            "exclusive": {"reset": {"phase": "accepted", "boot_id": "b", "asked_ms": 1, "reports": true, "requests": [], "by": "x"}},
            "reset_told": "c",
        });
        let mut durable = Durable::from_json(newer.to_string().as_bytes()).unwrap();
        assert_eq!(durable.reset().unwrap().boot_id, "b");
        durable.apply(&Change::ShortBoots(1));
        let again: Value = serde_json::from_slice(&durable.to_json()).unwrap();
        assert_eq!(again["exclusive"], newer["exclusive"]);
        assert_eq!(again["reset_told"], "c");

        newer["exclusive"]["reset"]["phase"] = "rehearsing".into();
        let durable = Durable::from_json(newer.to_string().as_bytes()).unwrap();
        assert!(matches!(durable.exclusive, Some(Exclusive::Unknown(_))));
    }

    #[test]
    fn an_empty_document_is_a_fresh_device() {
        assert_eq!(Durable::from_json(b"{}").unwrap(), Durable::default());
        assert!(Durable::from_json(b"[]").is_err());
    }
}
