//! Whether firmware can be updated on this host, and if not, why: for `supports.firmwareActions` and the answer 501.

use std::path::{Path, PathBuf};

use crate::config;
use crate::host::mounts::{self, Placement};
use crate::host::rauc::Slot;
use crate::wipe;

/// What the host says about firmware. Configuration and host decide together: see [`supported`].
#[derive(Debug, Clone, PartialEq)]
pub(in crate::daemon) enum Host {
    /// RAUC's slots; empty on a host without RAUC.
    Slots(Vec<Slot>),
    /// RAUC installs, and tells nothing else meanwhile. So it has two slots.
    Busy,
    /// RAUC is there and does not say.
    Silent(String),
}

/// Whether there is a slot to mark good, may updates be switched off or not.
pub(in crate::daemon) fn knows_the_booted_slot(host: &Host) -> bool {
    match host {
        Host::Slots(slots) => slots.iter().any(|slot| slot.booted),
        Host::Busy => true,
        Host::Silent(_) => false,
    }
}

/// Why not, in words for the service.
pub(in crate::daemon) fn supported(
    settings: &config::Settings,
    host: &Host,
    kept: &[(&str, PathBuf)],
) -> Result<(), String> {
    if !settings.firmware.enabled {
        return Err(
            "firmware updates are switched off in the device's configuration ([firmware] enabled = false)".into(),
        );
    }
    let slots = match host {
        Host::Slots(slots) if slots.is_empty() => return Err("this host has no RAUC to install firmware with".into()),
        Host::Slots(slots) => slots,
        Host::Busy => return outlives(kept, &[]),
        Host::Silent(reason) => return Err(format!("RAUC does not tell its slots: {reason}")),
    };
    let Some(booted) = slots.iter().find(|slot| slot.booted) else {
        return Err("RAUC does not know which slot this host was booted from".into());
    };
    let other = |slot: &&Slot| slot.class == booted.class && slot.name != booted.name;
    if !slots.iter().any(|slot| other(&slot)) {
        return Err(format!(
            "RAUC knows no other slot beside {}: there is nothing to update into",
            booted.name
        ));
    }
    outlives(kept, slots)
}

/// Nothing that is kept lies where an update takes it away.
fn outlives(kept: &[(&str, PathBuf)], slots: &[Slot]) -> Result<(), String> {
    let lost = lost(kept, slots);
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!(
        "an update would lose what lies on the root file system or a slot: {}; move it to a partition of its own",
        lost.join(", ")
    ))
}

/// What an update would take away, each with its path.
pub(in crate::daemon) fn lost(kept: &[(&str, PathBuf)], slots: &[Slot]) -> Vec<String> {
    // RAUC may know a slot by a link, and the sandbox hides what is in /dev
    let devices: Vec<_> = slots
        .iter()
        .filter_map(|slot| Some((slot.name.clone(), wipe::device_number(slot.device.as_deref()?)?)))
        .collect();
    kept.iter()
        .filter_map(|(what, path)| match mounts::placement(path, &devices) {
            Ok(Placement::Root) => Some(format!("{what} ({})", path.display())),
            Ok(Placement::Slot(slot)) => Some(format!("{what} ({}, slot {slot})", path.display())),
            Ok(Placement::Elsewhere) | Err(_) => None,
        })
        .collect()
}

/// What must outlive a slot: configuration, state, and what the device is known by.
pub(in crate::daemon) fn kept<'a>(
    config: &Path,
    state: &Path,
    settings: &config::Settings,
    credentials: Option<&Path>,
) -> Vec<(&'a str, PathBuf)> {
    let service = &settings.service;
    let mut kept = vec![("configuration", config.to_owned()), ("state", state.to_owned())];
    kept.extend(service.token.iter().map(|token| ("token", token.path().to_owned())));
    kept.extend(service.ca_file.iter().map(|path| ("CA", path.clone())));
    if let Some(certificate) = &service.certificate {
        kept.push(("client certificate", certificate.cert_file.clone()));
        kept.push(("key", certificate.key_file.clone()));
    }
    kept.extend(
        settings
            .firmware
            .ca_file
            .iter()
            .map(|path| ("CA of [firmware]", path.clone())),
    );
    if let Some(certificate) = &settings.firmware.certificate {
        kept.push(("client certificate of [firmware]", certificate.cert_file.clone()));
        kept.push(("key of [firmware]", certificate.key_file.clone()));
    }
    // systemd puts credentials into memory anew at each start.
    kept.retain(|(_, path)| !credentials.is_some_and(|folder| path.starts_with(folder)));
    kept
}
