//! Does this host reset itself when it is asked to, and what would go?

use std::path::Path;

use super::{Finding, Severity};
use crate::config::{self, Configuration, DEFAULT_FACTORY_RESET_UNIT, FactoryReset};
use crate::daemon::Environment;
use crate::daemon::reset::{Means, means, possible, reset_plan};
use crate::host::bus::Bus;
use crate::host::systemd::{Systemd, mount_unit};
use crate::wipe;

/// What a factory reset would do now. Changes nothing.
///
/// # Errors
/// Why it would be refused: the configuration, or what says what is wiped, cannot be used. Each in words.
pub fn factory_reset(config_path: &Path, environment: &Environment) -> Result<wipe::Preview, Vec<String>> {
    let loaded = config::load(config_path, environment.credentials.as_deref());
    let loaded = loaded.map_err(|error| vec![format!("the configuration is refused: {error}")])?;
    let Configuration::Configured(settings) = &loaded.settings else {
        return Err(vec!["the configuration gives this device no identity yet".to_owned()]);
    };
    let state = settings.state.directory(environment.state_directory.as_deref());
    Ok(reset_plan(config_path, &loaded.files, settings, &state)?.preview())
}

fn finding(severity: Severity, text: impl Into<String>) -> Finding {
    Finding::new("host", "factory-reset", severity, text)
}

/// Looks. `plan`: what the package's own wipe would do, or why it would not. `state`: the agent's state folder.
pub(super) async fn look(
    bus: &Bus,
    settings: &FactoryReset,
    plan: Result<wipe::Plan, Vec<String>>,
    state: &Path,
) -> Vec<Finding> {
    let mut findings: Vec<_> = pending(state).into_iter().collect();
    if !settings.enabled {
        let text = "remote factory reset is switched off ([factory_reset] enabled = false)";
        findings.push(finding(Severity::Note, text));
        return findings;
    }
    let unit = settings.unit.as_str();
    let systemd = match Systemd::new(bus).await {
        Ok(systemd) => systemd,
        Err(error) => {
            findings.push(finding(Severity::Error, error.to_string()));
            return findings;
        }
    };
    if let Ok(plan) = &plan {
        findings.extend(not_awaited(&systemd, plan).await);
    }
    findings.push(match means(&systemd, unit, state).await {
        Err(error) => finding(Severity::Error, error.to_string()),
        Ok(Means::Nothing(reason)) => finding(
            Severity::Note,
            format!("a factory reset is answered with 501: {reason}"),
        ),
        Ok(Means::Other) => finding(
            Severity::Ok,
            format!("{unit} resets this host, in its own way; it must end in a reboot"),
        ),
        Ok(Means::Own) => match possible(plan).await {
            Ok(plan) => {
                let targets: Vec<_> = plan.targets().map(|path| path.display().to_string()).collect();
                let text = format!(
                    "{unit} wipes {}; check --factory-reset shows what would go and what would stay",
                    targets.join(", ")
                );
                finding(Severity::Ok, text)
            }
            Err(problems) => finding(
                Severity::Error,
                "a factory reset is answered with 501: what it is to wipe cannot be used",
            )
            .hint(problems.join("\n")),
        },
    });
    if unit != DEFAULT_FACTORY_RESET_UNIT {
        findings.push(rule(unit));
    }
    findings
}

/// File systems that may not be mounted yet when the wipe comes.
async fn not_awaited(systemd: &Systemd, plan: &wipe::Plan) -> Option<Finding> {
    let not_awaited = plan.not_awaited();
    let after = match not_awaited.is_empty() {
        true => return None,
        // who does not answer is told about with everything else
        false => systemd.after(wipe::WIPE_UNIT).await.ok()?,
    };
    let late = |mount: &&&Path| !after.contains(&mount_unit(mount));
    let late: Vec<_> = not_awaited.iter().filter(late).collect();
    let paths: Vec<_> = late.iter().map(|mount| mount.display().to_string()).collect();
    let units: Vec<_> = late.iter().map(|mount| mount_unit(mount)).collect();
    let text = format!(
        "a factory reset may find {} not mounted and wipe nothing there: the boot does not wait for it (nofail in /etc/fstab)",
        paths.join(", ")
    );
    let hint = format!(
        "systemctl edit {}, and there: [Unit] After={}",
        wipe::WIPE_UNIT,
        units.join(" ")
    );
    (!late.is_empty()).then(|| Finding::new("host", "factory-reset-mounts", Severity::Warning, text).hint(hint))
}

/// A wish that is there, whoever has left it.
fn pending(state: &Path) -> Option<Finding> {
    let wish = state.join(wipe::WISH);
    wish.symlink_metadata().ok()?;
    let text = format!("the next boot carries out a factory reset: {} is there", wish.display());
    Some(
        Finding::new("host", "factory-reset-pending", Severity::Warning, text)
            .hint("/usr/lib/iotdm-agent/factory-reset withdraw calls it off"),
    )
}

/// The package's rule opens systemd's own target only, and whether another one does cannot be asked without starting it.
fn rule(unit: &str) -> Finding {
    // a name may have a backslash in it
    let name = serde_json::Value::from(unit);
    let text = format!("polkit must let the agent start {unit}, which the package's rule does not");
    Finding::new("host", "factory-reset-rule", Severity::Note, text).hint(format!(
        "put this into /etc/polkit-1/rules.d/50-iotdm-agent-factory-reset.rules:\n\
         polkit.addRule(function (action, subject) {{\n\
         \x20   if (subject.user == \"iotdm-agent\" && action.id == \"org.freedesktop.systemd1.manage-units\" &&\n\
         \x20       action.lookup(\"unit\") == {name} && action.lookup(\"verb\") == \"start\")\n\
         \x20       return polkit.Result.YES;\n\
         }});"
    ))
}
