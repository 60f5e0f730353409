//! RAUC's slots, as `GetSlotStatus` tells them.
//!
//! Facts: RAUC 1.3 and later. What is not told by a version, or not kept by a host, is absent, never made up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use zbus::OwnedVariant;

use super::super::bus::{Bus, BusError};

/// One slot, as far as RAUC knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// RAUC's name, such as `rootfs.0`.
    pub name: String,
    /// What the slot is for, such as `rootfs`; an update goes to the class's other slot.
    pub class: String,
    /// The block device (or other target) that holds it.
    pub device: Option<PathBuf>,
    /// The boot loader's name for it; absent for a slot that is not booted itself, and then it cannot be marked.
    pub bootname: Option<String>,
    /// The slot that this one belongs to (an `appfs` to its `rootfs`): it is installed and booted with it.
    pub parent: Option<String>,
    /// Whether it is the slot that this system was booted from.
    pub booted: bool,
    /// Whether the boot loader would boot it. Absent without a bootname. When RAUC cannot ask the boot loader it says
    /// "bad", or what it heard last; after GRUB has fallen back both slots are "bad" until one is marked good.
    pub boot_good: Option<bool>,
    /// The version of the bundle it was installed from; absent after a factory flash. Of a bundle whose installation failed
    /// from RAUC 1.11 on: only with the status `ok` is it what the slot holds.
    pub bundle_version: Option<String>,
    /// What became of the last installation, in RAUC's words: `ok`; `pending` while it is written, and for good when that
    /// was cut short; `failed`; `update` is 1.8's `pending`, and lost with RAUC's process. RAUC 1.8 leaves the record of
    /// an interrupted slot as it was; only [`Slot::boot_good`] tells then. Absent when RAUC keeps no record.
    pub status: Option<String>,
    /// The `transaction-id` of the last installation. Absent before RAUC 1.10.
    pub installed_transaction: Option<String>,
    /// How many installations have succeeded here. Absent when there was none, or RAUC keeps no record.
    pub installed_count: Option<u32>,
    /// When the last one succeeded, RFC 3339 in UTC, by the host's clock at that time.
    pub installed_timestamp: Option<String>,
}

/// The bundle version of the booted slot, when it was installed from a bundle.
pub fn booted_version(slots: &[Slot]) -> Option<String> {
    slots
        .iter()
        .find(|slot| slot.booted)
        // From 1.11 on, RAUC writes the version down before it has written the slot.
        .filter(|slot| slot.status.as_deref().is_none_or(|status| status == "ok"))
        .and_then(|slot| slot.bundle_version.clone())
}

/// All slots, in the order of their names: RAUC has none.
pub(super) async fn ask(bus: &Bus, limit: Duration) -> Result<Vec<Slot>, BusError> {
    const CALL: &str = "rauc GetSlotStatus";
    let reply = super::ask(bus, CALL, "GetSlotStatus", &(), limit).await?;
    let list: Vec<(String, HashMap<String, OwnedVariant>)> = super::read(CALL, &reply)?;
    let mut slots: Vec<Slot> = list.into_iter().map(|(name, status)| slot(name, &status)).collect();
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(slots)
}

fn slot(name: String, status: &HashMap<String, OwnedVariant>) -> Slot {
    let text = |key: &str| {
        let value: Option<&str> = status.get(key).and_then(|value| value.downcast_ref().ok());
        value.map(str::to_owned).filter(|value| !value.is_empty())
    };
    Slot {
        class: text("class").unwrap_or_default(),
        device: text("device").map(PathBuf::from),
        bootname: text("bootname"),
        parent: text("parent"),
        booted: text("state").as_deref() == Some("booted"),
        boot_good: text("boot-status").map(|status| status == "good"),
        bundle_version: text("bundle.version"),
        status: text("status"),
        installed_transaction: text("installed.transaction"),
        installed_count: status
            .get("installed.count")
            .and_then(|value| value.downcast_ref().ok()),
        installed_timestamp: text("installed.timestamp"),
        name,
    }
}
