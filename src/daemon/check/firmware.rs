//! Can this host be updated, and does it come back from a bad update?

use std::path::Path;

use super::{Finding, Severity, policy};
use crate::config::{DEFAULT_STATE_DIRECTORY, Firmware, Settings};
use crate::daemon::firmware::RESERVE;
use crate::host::bus::Bus;
use crate::host::mounts;
use crate::host::rauc::{self, Slot};
use crate::host::systemd::{Systemd, UnitInfo};

/// What ends a trial that the agent of the new slot does not end.
const FALLBACK_TIMER: &str = "iotdm-agent-fallback.timer";

/// The marker of a trial, in the folder of the state.
const TRIAL: &str = "trial";

const MIB: u64 = 1024 * 1024;

fn finding(id: &str, severity: Severity, text: impl Into<String>) -> Finding {
    Finding::new("firmware", id, severity, text)
}

/// Looks, and returns RAUC's slots. `state`: the folder of the state, where bundles are fetched to.
pub(super) async fn look(
    bus: Option<&Bus>,
    settings: Option<&Settings>,
    state: &Path,
    findings: &mut Vec<Finding>,
) -> Vec<Slot> {
    let Some(bus) = bus else {
        return Vec::new();
    };
    let enabled = settings.is_none_or(|settings| settings.firmware.enabled);
    let (rauc, slots) = match rauc::slots(bus).await {
        Ok(slots) => (known(&slots), slots),
        Err(error) => (untold(&error.to_string(), enabled), Vec::new()),
    };
    findings.push(rauc);
    if slots.is_empty() {
        return slots;
    }
    findings.push(policy_finding(policy::open_to_everybody()));
    let mark_good = settings.is_none_or(|settings| settings.firmware.mark_good);
    findings.extend(slot_good(&slots, mark_good, state.join(TRIAL).exists()));
    if !enabled {
        let text = "firmware updates are switched off ([firmware] enabled = false)";
        findings.push(finding("firmware", Severity::Note, text));
        return slots;
    }
    let systemd = match Systemd::new(bus).await {
        Ok(systemd) => systemd,
        Err(error) => {
            findings.push(finding("fallback-timer", Severity::Error, error.to_string()));
            return slots;
        }
    };
    findings.push(match systemd.unit(FALLBACK_TIMER).await {
        Ok(timer) => fallback_timer(&timer),
        Err(error) => finding("fallback-timer", Severity::Warning, error.to_string()),
    });
    findings.extend(fallback_folder(state));
    if let Some(settings) = settings {
        findings.extend(room(&settings.firmware, state, mounts::free_space(state).ok()));
        for name in &settings.firmware.trial.units {
            findings.push(match systemd.unit(name).await {
                Ok(unit) => trial_unit(name, &unit),
                Err(error) => finding("trial-units", Severity::Error, format!("{name}: {error}")),
            });
        }
    }
    slots
}

fn known(slots: &[Slot]) -> Finding {
    if slots.is_empty() {
        let text = "there is no RAUC on this host: no firmware updates, and everything else works";
        return finding("rauc", Severity::Note, text);
    }
    let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
    match slots.iter().find(|slot| slot.booted) {
        Some(booted) => finding(
            "rauc",
            Severity::Ok,
            format!("RAUC has the slots {}; {} is booted", names.join(", "), booted.name),
        ),
        None => finding(
            "rauc",
            Severity::Warning,
            format!(
                "RAUC has the slots {} and does not know which one is booted",
                names.join(", ")
            ),
        )
        .hint("the kernel command line must say it, see RAUC's documentation on rauc.slot="),
    }
}

fn untold(error: &str, enabled: bool) -> Finding {
    let severity = match enabled {
        true => Severity::Warning,
        false => Severity::Note,
    };
    finding("rauc", severity, format!("RAUC does not tell its slots: {error}"))
        .hint("rauc status and journalctl -u rauc tell more; /etc/rauc/system.conf must fit this host")
}

fn policy_finding(open: bool) -> Finding {
    match open {
        false => finding("rauc-policy", Severity::Ok, "not every local user may install bundles"),
        true => finding(
            "rauc-policy",
            Severity::Warning,
            "every local user of this host may install bundles and mark slots: RAUC's D-Bus policy lets them",
        )
        .hint(format!(
            "to leave it to root and the agent, put this into {} and run systemctl reload dbus:\n{}",
            policy::CLOSED_PATH,
            policy::CLOSED.trim_end()
        )),
    }
}

/// A boot loader that counts its tries leaves a slot that nobody marks good.
fn slot_good(slots: &[Slot], mark_good: bool, on_trial: bool) -> Option<Finding> {
    let slot = slots.iter().find(|slot| slot.booted)?;
    let told = |severity, text: String| finding("slot-good", severity, format!("{} {text}", slot.name));
    Some(match (slot.boot_good?, mark_good) {
        (true, _) => told(Severity::Ok, "is marked good".into()),
        (false, _) if on_trial => told(Severity::Note, "is on trial and not marked good yet".into()),
        (false, true) => told(
            Severity::Warning,
            "is not marked good yet: the next boot may land in the other slot".into(),
        )
        .hint(
            "the agent marks it once it runs; if that lasts, its journal says why, and rauc status how the slots stand",
        ),
        (false, false) => told(
            Severity::Warning,
            "is not marked good, and the agent leaves that to others ([firmware] mark_good = false)".into(),
        )
        .hint("what marks slots good on this host has not done it: the next boot may land in the other slot"),
    })
}

fn fallback_timer(timer: &UnitInfo) -> Finding {
    let enabled = matches!(timer.unit_file_state.as_str(), "enabled" | "static" | "enabled-runtime");
    if timer.active_state == "active" && enabled {
        let text = "a trial that the agent does not end is ended without it";
        return finding("fallback-timer", Severity::Ok, text);
    }
    let state = match timer.load_state.as_str() {
        "loaded" => format!("{} and {}", timer.unit_file_state, timer.active_state),
        other => other.to_owned(),
    };
    let text = format!("{FALLBACK_TIMER} is {state}: a new slot in which the agent does not run is never left");
    finding("fallback-timer", Severity::Warning, text).hint(format!("systemctl enable --now {FALLBACK_TIMER}"))
}

fn fallback_folder(state: &Path) -> Option<Finding> {
    (state != Path::new(DEFAULT_STATE_DIRECTORY)).then(|| {
        let text = format!(
            "the state is in {}: iotdm-agent-fallback.service looks for the trial there only if a drop-in says so",
            state.display()
        );
        finding("fallback-folder", Severity::Note, text).hint(
            "systemctl edit iotdm-agent-fallback.service: ConditionPathExists=, STATE_DIRECTORY=, ReadWritePaths=",
        )
    })
}

fn room(firmware: &Firmware, state: &Path, free: Option<u64>) -> Option<Finding> {
    // the same sum as the download's
    let (free, wanted) = (free?, firmware.max_size.saturating_add(RESERVE));
    let text = format!("{} MiB free in {} for bundles", free / MIB, state.display());
    Some(match free < wanted {
        true => finding(
            "firmware-room",
            Severity::Warning,
            format!(
                "{text}, and a bundle may have up to {} MiB, beside which {} stay free",
                firmware.max_size.div_ceil(MIB),
                RESERVE / MIB
            ),
        )
        .hint("set [firmware] max_size to what fits, or give the state more room"),
        false => finding("firmware-room", Severity::Ok, text),
    })
}

fn trial_unit(name: &str, unit: &UnitInfo) -> Finding {
    let told = |severity, text: String| finding("trial-units", severity, text);
    if unit.service.as_ref().is_some_and(|service| !service.can_stay_active()) {
        let text = format!("{name} ends when its work is done and is never active: no update would stay");
        return told(Severity::Error, text)
            .hint("take it out of [firmware.trial] units, or give it RemainAfterExit=yes");
    }
    match (unit.load_state.as_str(), unit.active_state.as_str()) {
        ("loaded", "active" | "reloading") => told(Severity::Ok, format!("{name} is active")),
        ("loaded", state) => told(
            Severity::Warning,
            format!("{name} is {state}: a new slot in which that is so is given up"),
        )
        .hint(format!("systemctl status {name}")),
        (load, _) => told(
            Severity::Error,
            format!("{name} is {load}, and [firmware.trial] units wants it active: no update would stay"),
        )
        .hint("correct the name, or take it out of the list"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::systemd::ServiceInfo;

    fn unit(load: &str, active: &str, file: &str) -> UnitInfo {
        UnitInfo {
            load_state: load.to_owned(),
            active_state: active.to_owned(),
            unit_file_state: file.to_owned(),
            service: None,
        }
    }

    #[test]
    fn a_host_without_rauc_is_ordinary_and_one_whose_rauc_says_nothing_is_not() {
        assert_eq!(known(&[]).severity, Severity::Note);
        assert_eq!(untold("busy", true).severity, Severity::Warning);
        assert_eq!(untold("busy", false).severity, Severity::Note);
        let slot = |name: &str, booted| Slot {
            name: name.to_owned(),
            booted,
            ..Slot::default()
        };
        let told = known(&[slot("rootfs.0", false), slot("rootfs.1", true)]);
        assert_eq!(told.text, "RAUC has the slots rootfs.0, rootfs.1; rootfs.1 is booted");
        assert_eq!(told.severity, Severity::Ok);
        assert_eq!(known(&[slot("rootfs.0", false)]).severity, Severity::Warning);
    }

    #[test]
    fn an_open_policy_is_told_with_the_one_that_closes_it() {
        let told = policy_finding(true);
        assert_eq!(told.severity, Severity::Warning);
        let hint = told.hint.unwrap();
        assert!(hint.contains(policy::CLOSED_PATH) && hint.contains("<deny send_destination=\"de.pengutronix.rauc\""));
        assert_eq!(policy_finding(false).severity, Severity::Ok);
    }

    #[test]
    fn the_fallback_timer_must_be_there_enabled_and_active() {
        for (timer, severity, words) in [
            (unit("loaded", "active", "enabled"), Severity::Ok, "without it"),
            (
                unit("loaded", "inactive", "disabled"),
                Severity::Warning,
                "is disabled and inactive",
            ),
            (
                unit("loaded", "active", "disabled"),
                Severity::Warning,
                "is disabled and active",
            ),
            (unit("masked", "inactive", "masked"), Severity::Warning, "is masked"),
            (unit("not-found", "inactive", ""), Severity::Warning, "is not-found"),
        ] {
            let told = fallback_timer(&timer);
            assert_eq!(told.severity, severity, "{told}");
            assert!(told.text.contains(words), "{told}");
        }
        assert_eq!(fallback_folder(Path::new(DEFAULT_STATE_DIRECTORY)), None);
        assert_eq!(
            fallback_folder(Path::new("/data/agent")).unwrap().severity,
            Severity::Note
        );
    }

    #[test]
    fn units_of_a_trial_must_exist_and_should_be_active() {
        for (found, severity) in [
            (unit("loaded", "active", "enabled"), Severity::Ok),
            (unit("loaded", "activating", "enabled"), Severity::Warning),
            (unit("loaded", "failed", "enabled"), Severity::Warning),
            (unit("not-found", "inactive", ""), Severity::Error),
            (unit("masked", "inactive", "masked"), Severity::Error),
        ] {
            let told = trial_unit("modbus.service", &found);
            assert_eq!(told.severity, severity, "{told}");
            assert!(told.text.starts_with("modbus.service is "), "{told}");
        }
    }

    #[test]
    fn a_unit_that_is_never_active_cannot_prove_a_slot() {
        for (service_type, remain_after_exit, severity) in [
            ("oneshot", false, Severity::Error),
            ("oneshot", true, Severity::Ok),
            ("notify", false, Severity::Ok),
        ] {
            let service = Some(ServiceInfo {
                service_type: service_type.to_owned(),
                remain_after_exit,
            });
            let found = UnitInfo {
                service,
                ..unit("loaded", "active", "enabled")
            };
            assert_eq!(
                trial_unit("modbus.service", &found).severity,
                severity,
                "{service_type}"
            );
        }
    }

    #[test]
    fn the_booted_slot_should_be_marked_good_by_somebody() {
        let slots = |boot_good| {
            let slot = |name: &str, booted| Slot {
                name: name.to_owned(),
                booted,
                boot_good,
                ..Slot::default()
            };
            [slot("rootfs.0", false), slot("rootfs.1", true)]
        };
        for (boot_good, mark_good, on_trial, severity) in [
            (true, true, false, Severity::Ok),
            (true, false, false, Severity::Ok),
            (false, true, true, Severity::Note),
            (false, true, false, Severity::Warning),
            (false, false, false, Severity::Warning),
        ] {
            let told = slot_good(&slots(Some(boot_good)), mark_good, on_trial).unwrap();
            assert_eq!(told.severity, severity, "{told}");
            assert!(told.text.starts_with("rootfs.1 is "), "{told}");
        }
        assert_eq!(
            slot_good(&slots(None), true, false),
            None,
            "a boot loader without marks"
        );
        assert_eq!(slot_good(&[], true, false), None);
    }

    #[test]
    fn a_bundle_of_the_allowed_size_must_find_room() {
        let etc = tempfile::tempdir().unwrap();
        let text = "device = { org = \"a\", type = \"b\", id = \"c\" }\nservice.url = \"mqtts://broker\"\n";
        std::fs::write(
            etc.path().join("config.toml"),
            format!("{text}firmware.max_size = \"100MiB\"\n"),
        )
        .unwrap();
        let loaded = crate::config::load(&etc.path().join("config.toml"), None).unwrap();
        let crate::config::Configuration::Configured(settings) = loaded.settings else {
            panic!("{loaded:?}");
        };
        let told = |free| room(&settings.firmware, Path::new("/state"), free);
        assert_eq!(told(Some(164 * MIB)).unwrap().severity, Severity::Ok);
        let little = told(Some(164 * MIB - 1)).unwrap();
        assert_eq!(little.severity, Severity::Warning);
        assert_eq!(
            little.text,
            "163 MiB free in /state for bundles, and a bundle may have up to 100 MiB, beside which 64 stay free"
        );
        assert_eq!(told(None), None);
    }
}
