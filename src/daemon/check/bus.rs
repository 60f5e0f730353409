//! Does the host do over D-Bus what the agent asks of it?

use super::{Finding, Severity};
use crate::config::Settings;
use crate::host::bus::Bus;
use crate::host::logind::{CanReboot, Logind, POLKIT_RULES};

/// Looks, and returns the bus. `in_unit`: this is the agent itself, not a command that stands in for it.
pub(super) async fn look(settings: Option<&Settings>, in_unit: bool, findings: &mut Vec<Finding>) -> Option<Bus> {
    let bus = match Bus::system().await {
        Ok(bus) => bus,
        Err(error) => {
            findings.push(Finding::new("host", "system-bus", Severity::Error, error.to_string()));
            return None;
        }
    };
    findings.push(Finding::new(
        "host",
        "system-bus",
        Severity::Ok,
        "the system bus answers",
    ));
    if settings.is_none_or(|settings| settings.reboot.enabled) {
        findings.push(reboot(&bus, in_unit).await);
        findings.extend(blockers(&bus).await);
    } else {
        let text = "remote reboot is switched off ([reboot] enabled = false)";
        findings.push(Finding::new("host", "reboot", Severity::Note, text));
    }
    Some(bus)
}

async fn reboot(bus: &Bus, in_unit: bool) -> Finding {
    let finding = |severity, text: String| Finding::new("host", "reboot", severity, text);
    let answer = match Logind::new(bus).await {
        Ok(logind) => logind.can_reboot().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(CanReboot::Yes) => finding(Severity::Ok, "logind lets the agent reboot this host".into()),
        Ok(CanReboot::Na) => finding(Severity::Warning, "logind says that this host cannot reboot".into()),
        // From Debian 13 on polkit knows the caller's unit, and the package's rule is for the agent's unit alone.
        Ok(CanReboot::No | CanReboot::Challenge) if !in_unit => finding(
            Severity::Note,
            "whether the agent may reboot this host can only be told while it runs".into(),
        )
        .hint("systemctl start iotdm-agent, then check again"),
        Ok(CanReboot::No | CanReboot::Challenge) => {
            finding(Severity::Error, "polkit does not let the agent reboot this host".into()).hint(format!(
                "{POLKIT_RULES} of the package must be there, and no rule with a lower number may forbid it"
            ))
        }
        Err(error) => finding(Severity::Error, error)
            .hint("the packages polkitd and systemd (logind) must be installed and running"),
    }
}

async fn blockers(bus: &Bus) -> Vec<Finding> {
    let Ok(logind) = Logind::new(bus).await else {
        return Vec::new();
    };
    let blockers = logind.shutdown_blockers().await.unwrap_or_default();
    let finding = |blocker| {
        let text = format!("a reboot would be refused just now: {blocker} holds a block lock on shutdown");
        Finding::new("host", "reboot-blocked", Severity::Warning, text).hint("systemd-inhibit --list shows all locks")
    };
    blockers.into_iter().map(finding).collect()
}
