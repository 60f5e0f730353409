//! RAUC, read-only: its slots, and which bundle version the booted one was installed from.
//!
//! Installs and marks nothing. A host without RAUC is ordinary: then there are no slots.
//! Facts: `de.pengutronix.rauc.Installer.GetSlotStatus` (RAUC 1.3 and later), the same on Debian 12 and 13.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use zbus::OwnedVariant;

use super::bus::{Bus, BusError, Cause};

/// How long the start of the agent may wait for RAUC, which D-Bus may have to start first.
const LIMIT: Duration = Duration::from_secs(2);

#[zbus::proxy(
    interface = "de.pengutronix.rauc.Installer",
    default_service = "de.pengutronix.rauc",
    default_path = "/"
)]
trait Installer {
    fn get_slot_status(&self) -> zbus::Result<Vec<(String, HashMap<String, OwnedVariant>)>>;
}

/// One slot, as far as RAUC knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// RAUC's name, such as `rootfs.0`.
    pub name: String,
    /// The block device (or other target) that holds it.
    pub device: Option<PathBuf>,
    /// Whether it is the slot that this system was booted from.
    pub booted: bool,
    /// The version of the bundle it was installed from; absent after a factory flash.
    pub bundle_version: Option<String>,
}

/// All slots of this host; empty on a host without RAUC. Takes at most 2 s.
///
/// # Errors
/// When RAUC is there and does not say (not configured, booted slot unknown, too slow).
pub async fn slots(bus: &Bus) -> Result<Vec<Slot>, BusError> {
    const CALL: &str = "rauc GetSlotStatus";
    let answer = tokio::time::timeout(LIMIT, async {
        InstallerProxy::builder(bus.connection())
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?
            .get_slot_status()
            .await
    });
    let answer = answer.await.map_err(|_| BusError {
        call: CALL,
        cause: Cause::NoReply,
    })?;
    match answer.map_err(|error| BusError::new(CALL, &error)) {
        Ok(list) => Ok(list.into_iter().map(|(name, status)| slot(name, &status)).collect()),
        Err(BusError {
            cause: Cause::Absent(_),
            ..
        }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The bundle version of the booted slot, when it was installed from a bundle.
pub fn booted_version(slots: &[Slot]) -> Option<String> {
    slots
        .iter()
        .find(|slot| slot.booted)
        .and_then(|slot| slot.bundle_version.clone())
}

fn slot(name: String, status: &HashMap<String, OwnedVariant>) -> Slot {
    let text = |key: &str| {
        let value: Option<&str> = status.get(key).and_then(|value| value.downcast_ref().ok());
        value.map(str::to_owned).filter(|value| !value.is_empty())
    };
    Slot {
        name,
        device: text("device").map(PathBuf::from),
        booted: text("state").as_deref() == Some("booted"),
        bundle_version: text("bundle.version"),
    }
}
