//! What is remembered of the firmware: the description that the service gave, and the update that is under way.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::durable::RebootState;
use crate::protocol::firmware::{self, FirmwareState, UpdateStatus};

/// `mgmt.firmware` as it is remembered. Numbers that this version does not know are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Firmware {
    /// The version that is to be installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where to fetch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<String>,
    /// `state`: see [`FirmwareState`].
    #[serde(default)]
    pub state: u8,
    /// `updateStatus`: see [`UpdateStatus`].
    #[serde(default)]
    pub update_status: u8,
    /// Somebody on the device handed the image over, to be installed as soon as it is checked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// `updatedDateTime`, as the service gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_date_time: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Firmware {
    pub(in crate::agent) fn is_untouched(&self) -> bool {
        *self == Firmware::default()
    }

    /// A new description: idle, nothing happened yet.
    pub(in crate::agent) fn described(told: firmware::Firmware) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Firmware {
            version: said(told.version),
            name: said(told.name),
            uri: said(told.uri),
            verifier: said(told.verifier),
            updated_date_time: said(told.updated_date_time),
            ..Firmware::default()
        }
    }

    /// Whether both describe the same image.
    pub(in crate::agent) fn same_image(&self, other: &Firmware) -> bool {
        let image = |firmware: &Firmware| {
            (
                firmware.version.clone(),
                firmware.name.clone(),
                firmware.uri.clone(),
                firmware.verifier.clone(),
            )
        };
        image(self) == image(other)
    }

    pub(in crate::agent) fn is(&self, state: FirmwareState) -> bool {
        self.state == state as u8
    }

    /// The same image with these two.
    #[must_use]
    pub(in crate::agent) fn with(&self, state: FirmwareState, status: UpdateStatus) -> Self {
        Firmware {
            state: state as u8,
            update_status: status as u8,
            ..self.clone()
        }
    }

    /// As the service reads it.
    pub fn value(&self) -> Value {
        let mut object = Map::new();
        let text = |text: &Option<String>| Value::from(text.clone().unwrap_or_default());
        object.insert("version".into(), text(&self.version));
        object.insert("name".into(), text(&self.name));
        object.insert("uri".into(), text(&self.uri));
        object.insert("verifier".into(), text(&self.verifier));
        object.insert("state".into(), self.state.into());
        object.insert("updateStatus".into(), self.update_status.into());
        object.insert("updatedDateTime".into(), text(&self.updated_date_time));
        Value::Object(object)
    }
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// RAUC was asked to write the other slot.
    Installing,
    /// The other slot is written and boots next; the reboot is yet to come.
    Installed,
    /// The new slot runs, and has to prove itself.
    Trial,
    /// The new slot did not prove itself; it is left for the old one.
    RollingBack,
}

/// An update that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// How far it is.
    pub phase: Phase,
    /// The boot that installs.
    pub boot_id: String,
    /// The slot that ran when it began, by RAUC's name.
    pub from_slot: String,
    /// The slot that is written.
    pub to_slot: String,
    /// RAUC's `transaction-id`, where RAUC knows it.
    pub transaction: String,
    /// What RAUC said of the last installation into that slot, before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_before: Option<String>,
    /// The units that had failed before it began: their failure says nothing about the new slot.
    #[serde(default)]
    pub failed_before: Vec<String>,
    /// Whether the service was reached in the boot that installs.
    #[serde(default)]
    pub service_reached: bool,
    /// The boot of the trial, or of the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_boot: Option<String>,
    /// How many boots the trial has had; once it is rolled back, how many the way back has had.
    #[serde(default)]
    pub boots: u32,
    /// Whether the service has answered in the trial's boot.
    #[serde(default)]
    pub service_answered: bool,
    /// Why it is rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The update's reboot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootState>,
    /// How often RAUC was asked to write the slot.
    #[serde(default)]
    pub starts: u32,
    /// RAUC said that it failed, and the boot loader may still have to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How an installation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `updateStatus`: see [`UpdateStatus`].
    pub update_status: u8,
    /// Why, in RAUC's words.
    pub reason: String,
    /// Whether the same image may be tried again.
    #[serde(default)]
    pub again: bool,
}

impl Update {
    /// What the service is to read when this update fails.
    pub(in crate::agent) fn failed_as(&self) -> UpdateStatus {
        match self.failure.as_ref().map(|failure| failure.update_status) {
            Some(2) => UpdateStatus::OutOfMemory,
            Some(4) => UpdateStatus::VerificationFailed,
            _ => UpdateStatus::UnsupportedImage,
        }
    }
}
