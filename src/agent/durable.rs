//! What must survive a power cut: exactly what is serialised.
//!
//! The format is an interface between versions: a newer agent reads what an older one wrote, and after a fall-back the
//! older one reads what the newer one wrote. So members are only ever added, and what is not known is kept.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

use super::diagnostics::{Codes, Kept, Snapshot};
use super::firmware::record::{Firmware, Update};
use super::handled::{Answer, Handled, Key, Other};
use super::model::Written;
use super::observation::Observed;
use super::reset::record::Reset;

/// Whether the device is to be managed. Survives restarts: an unmanaged device sends no manage until it is told to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Yes.
    #[default]
    Managed,
    /// No, and the service does not know yet.
    Unmanaging,
    /// No, and the service knows.
    Unmanaged,
    /// Something that a newer version wrote: kept, and not managed, until a person says what is to be. All that may come
    /// to stand here beside "managed" is some way of not being that.
    #[serde(untagged)]
    Unknown(Value),
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
    /// Whose memory this is: the device's client id, `d:org:type:id` or `g:org:type:id`. `None`: an older version's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// At which service: its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
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
    /// The boot in which the service last answered a manage: for the trial of new firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_in: Option<String>,
    /// What was taken of the journal, and what the service was told of error codes.
    #[serde(default, skip_serializing_if = "Kept::is_empty")]
    pub diagnostics: Kept,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A change of the durable memory. Changes that the disk refused are kept, and tried again.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The memory belongs to this device, at this service.
    BelongsTo {
        /// See [`Durable::identity`].
        identity: String,
        /// See [`Durable::service`].
        service: String,
    },
    /// It belonged to another device: what that one was asked is forgotten, and that it was not to be managed.
    AnotherDevice,
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
    /// The service has answered in the boot with this id.
    Reached(String),
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
    /// The journal was taken up to here, and that much is counted.
    Journal(Box<Snapshot>),
    /// Error codes were added, told or cleared.
    Codes(Codes),
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

    fn another_device(&mut self) {
        self.wish = Wish::Managed;
        self.handled.clear();
        self.others.clear();
        self.written = Written::default();
        // What is under way goes on, and answers nobody.
        let reboot = match &mut self.exclusive {
            Some(Exclusive::Reboot { reboot }) => Some(reboot),
            Some(Exclusive::Update { update }) => update.reboot.as_mut(),
            Some(Exclusive::Reset { reset }) => {
                reset.requests.clear();
                None
            }
            Some(Exclusive::Unknown(_)) | None => None,
        };
        if let Some(reboot) = reboot {
            reboot.requests.clear();
        }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::BelongsTo { identity, service } => {
                self.identity = Some(identity.clone());
                self.service = Some(service.clone());
            }
            Change::AnotherDevice => self.another_device(),
            Change::Wish(wish) => self.wish = wish.clone(),
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
            Change::Reached(boot_id) => self.reached_in = Some(boot_id.clone()),
            Change::Firmware(firmware) => self.firmware = firmware.clone(),
            Change::Observed(observed) => self.observed = observed.clone(),
            Change::Written(written) => self.written = written.clone(),
            Change::RememberOther(other) => super::handled::remember_other(&mut self.others, other.clone()),
            Change::Remember(handled) => super::handled::remember(&mut self.handled, handled.clone()),
            Change::Answer(key, answer) => super::handled::answer(&mut self.handled, key, answer),
            Change::Delivered(key, rc) => super::handled::delivered(&mut self.handled, key, *rc),
            Change::ShortBoots(count) => self.short_boots = *count,
            Change::Journal(snapshot) => self.diagnostics.journal = (**snapshot).clone(),
            Change::Codes(codes) => self.diagnostics.codes = codes.clone(),
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
    fn a_word_of_a_newer_version_costs_nothing_else_and_is_kept_wherever_a_word_stands() {
        let words = serde_json::json!({
            "wish": "managed",
            "exclusive": null,
            "handled": [{"key": {"op": "reboot", "hash": "00"}, "req_id": "a", "answer": {"rc": 202}, "delivered": true}],
            "short_boots": 1,
        });
        let reboot = serde_json::json!({"phase": "asked", "boot_id": "b", "asked_ms": 1, "requests": []});
        let reset =
            serde_json::json!({"phase": "starting", "boot_id": "b", "asked_ms": 1, "reports": true, "requests": []});
        let update = serde_json::json!({
            "phase": "installed", "boot_id": "b", "from_slot": "A", "to_slot": "B", "transaction": "t",
            "failed_before": [], "service_reached": false, "boots": 0, "service_answered": false,
            "reboot": reboot, "starts": 1,
        });
        for (name, value, word) in [
            ("none", Value::Null, "/wish"),
            ("reboot", reboot.clone(), "/exclusive/reboot/phase"),
            ("reset", reset, "/exclusive/reset/phase"),
            ("update", update.clone(), "/exclusive/update/phase"),
            ("update", update, "/exclusive/update/reboot/phase"),
        ] {
            let mut newer = words.clone();
            if name != "none" {
                newer["exclusive"] = serde_json::json!({ name: value });
            }
            let known = Durable::from_json(newer.to_string().as_bytes()).unwrap();
            assert!(
                !matches!(known.exclusive, Some(Exclusive::Unknown(_))),
                "{word}: known without the word"
            );
            *newer.pointer_mut(word).unwrap() = "from-a-newer-version".into();
            let mut durable =
                Durable::from_json(newer.to_string().as_bytes()).unwrap_or_else(|error| panic!("{word}: {error}"));
            assert_eq!((&durable.handled, durable.short_boots), (&known.handled, 1), "{word}");
            durable.apply(&Change::ShortBoots(2));
            let again: Value = serde_json::from_slice(&durable.to_json()).unwrap();
            assert_eq!(again.pointer(word), newer.pointer(word), "{word}");
            assert_eq!(again["exclusive"], newer["exclusive"], "{word}");
        }
    }

    #[test]
    fn an_empty_document_is_a_fresh_device() {
        assert_eq!(Durable::from_json(b"{}").unwrap(), Durable::default());
        assert!(Durable::from_json(b"[]").is_err());
    }
}
