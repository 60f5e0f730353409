//! Can the service be told what goes wrong on this host?

use std::collections::BTreeMap;

use super::{Finding, Severity};
use crate::config::{Diagnostics, ErrorCause, Settings};
use crate::daemon::diagnostics;
use crate::daemon::environment::Environment;
use crate::host::bus::Bus;
use crate::host::clock;
use crate::host::journal::readable;
use crate::host::systemd::Systemd;

/// Whether the journal can be read that the service is to be told of.
pub(super) async fn journal(settings: &Settings, environment: &Environment) -> Option<Finding> {
    if !settings.diagnostics.journal {
        return None;
    }
    let boot_id = clock::boot_id(environment.boot_id.as_deref()).ok()?;
    let directory = environment.journal_directory.as_deref();
    let options = diagnostics::options(&settings.diagnostics, &boot_id, directory);
    Some(match readable(&options).await {
        Ok(()) => Finding::new("host", "journal", Severity::Ok, "the journal can be read"),
        Err(reason) => Finding::new("host", "journal", Severity::Warning, reason)
            .hint("without it the service is told no errors of this host; or set [diagnostics] journal = false"),
    })
}

/// Whether systemd knows the units that the configuration names. A mistyped one is never failed and logs nothing.
pub(super) async fn units(bus: &Bus, diagnostics: &Diagnostics) -> Vec<Finding> {
    let finding = |severity, text: String| Finding::new("host", "diagnostics-units", severity, text);
    let named = named(diagnostics);
    if named.is_empty() {
        return Vec::new();
    }
    let systemd = match Systemd::new(bus).await {
        Ok(systemd) => systemd,
        Err(error) => return vec![finding(Severity::Warning, error.to_string())],
    };
    let mut findings = Vec::new();
    for (name, for_what) in named {
        let text = match systemd.unit(name).await {
            Ok(unit) if unit.load_state == "loaded" => continue,
            Ok(unit) => format!("{name} is {}: {for_what}", unit.load_state),
            Err(error) => format!("{name}: {error}: {for_what}"),
        };
        let hint = "correct the name under [diagnostics], or install the unit; systemctl list-units --all shows them";
        findings.push(finding(Severity::Warning, text).hint(hint));
    }
    findings
}

/// The units that something is wanted of, each with what will not be told without it.
fn named(diagnostics: &Diagnostics) -> BTreeMap<&str, String> {
    let mut named: BTreeMap<&str, String> = diagnostics
        .units
        .iter()
        .filter(|_| diagnostics.journal)
        .map(|name| (name.as_str(), "no log entries of it will be told".to_owned()))
        .collect();
    for rule in &diagnostics.error_codes {
        let unit = match &rule.cause {
            ErrorCause::Failed(unit) => Some(unit),
            ErrorCause::Logged { unit, .. } => unit.as_ref(),
        };
        if let Some(unit) = unit {
            named.insert(unit, format!("error code {} will never be told", rule.code));
        }
    }
    named
}
