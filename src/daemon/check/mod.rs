//! `iotdm-agent check`: does the agent have what it needs on this host? Read-only, as the service's user.
//!
//! A check is a value: an id that stays, a section, a severity, what was found and what to do. Beside a running agent
//! the agent itself looks, from inside its sandbox, and the connection that it has is the answer about the broker: a
//! second session with its client id would throw the first one out. Only an agent without a session, for it has no
//! identity yet, tries the broker with what is written meanwhile.

mod beside;
mod bus;
mod diagnostics;
mod files;
mod firmware;
mod policy;
mod probe;
mod reset;
mod user;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::reset::reset_plan;
use crate::config::{self, Configuration, State};
use crate::host::clock;
use crate::store;

pub(super) use beside::{Probe, Tried};
pub use reset::factory_reset;
pub use user::become_the_service;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something will not work, or not for long.
    Warning,
    /// The agent cannot do its job.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name; stays the same over versions.
    pub id: String,
    /// `configuration`, `service`, `host`, `firmware` or `state`.
    pub section: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    fn new(section: &str, id: &str, severity: Severity, text: impl Into<String>) -> Self {
        Finding {
            id: id.into(),
            section: section.into(),
            severity,
            text: text.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Ok => "ok     ",
            Severity::Note => "note   ",
            Severity::Warning => "warning",
            Severity::Error => "ERROR  ",
        };
        write!(f, "{mark}  {}: {}", self.id, self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\n         {}", hint.replace('\n', "\n         ")),
            None => Ok(()),
        }
    }
}

/// What was seen without a connection to the broker.
#[derive(Debug)]
pub(super) struct Looked {
    findings: Vec<Finding>,
    /// What the files say, when it can be used.
    settings: Option<Box<config::Settings>>,
    /// The agent's state folder, as far as can be told.
    state: PathBuf,
}

/// Everything, by a process that looks while no agent runs.
pub async fn alone(path: &Path, environment: &Environment) -> Vec<Finding> {
    let Looked {
        mut findings,
        settings,
        state,
    } = host(path, environment, false).await;
    if let Some(settings) = settings {
        findings.push(match store::unused(&state) {
            Ok(()) => probe::broker(&settings, std::future::pending::<()>()).await,
            Err(error) => beside::not_alone(&error),
        });
    }
    findings
}

/// Everything that is seen without a connection to the broker. `in_unit`: this is the agent itself, not a command that
/// stands in for it.
pub(super) async fn host(path: &Path, environment: &Environment, in_unit: bool) -> Looked {
    let mut findings = Vec::new();
    let loaded = config::load(path, environment.credentials.as_deref());
    configuration(&loaded, &mut findings);
    findings.push(clock_set());
    let files = loaded.as_ref().map(|loaded| loaded.files.clone()).unwrap_or_default();
    let settings = match loaded.map(|loaded| loaded.settings) {
        Ok(Configuration::Configured(settings)) => Some(settings),
        _ => None,
    };
    if let Some(settings) = &settings {
        findings.extend(diagnostics::journal(settings, environment).await);
    }
    let bus = bus::look(settings.as_deref(), in_unit, &mut findings).await;
    let state = settings
        .as_ref()
        .map_or(State { directory: None }, |settings| settings.state.clone())
        .directory(environment.state_directory.as_deref());
    if let (Some(bus), Some(settings)) = (&bus, &settings) {
        findings.extend(diagnostics::units(bus, &settings.diagnostics).await);
        let plan = reset_plan(path, &files, settings, &state);
        findings.extend(reset::look(bus, &settings.factory_reset, plan, &state).await);
    }
    let slots = firmware::look(bus.as_ref(), settings.as_deref(), &state, &mut findings).await;
    files::look(
        path,
        settings.as_deref(),
        environment,
        state.clone(),
        &slots,
        &mut findings,
    );
    Looked {
        findings,
        settings,
        state,
    }
}

fn configuration(loaded: &Result<config::Loaded, config::ConfigError>, findings: &mut Vec<Finding>) {
    match loaded {
        Err(error) => {
            for problem in &error.problems {
                findings.push(Finding::new(
                    "configuration",
                    "config-valid",
                    Severity::Error,
                    problem.to_string(),
                ));
            }
        }
        Ok(loaded) => {
            for warning in &loaded.warnings {
                findings.push(Finding::new(
                    "configuration",
                    "config-sound",
                    Severity::Warning,
                    warning.to_string(),
                ));
            }
            let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
            findings.push(match &loaded.settings {
                Configuration::Configured(_) => Finding::new(
                    "configuration",
                    "config-valid",
                    Severity::Ok,
                    format!("{} can be used", files.join(", ")),
                ),
                Configuration::NotConfigured { missing } => {
                    let text = format!("no identity yet: {} not set", missing.join(", "));
                    Finding::new("configuration", "config-valid", Severity::Error, text).hint(format!(
                        "set them in {}, then systemctl reload iotdm-agent",
                        files.first().map_or("", String::as_str)
                    ))
                }
            });
        }
    }
}

fn clock_set() -> Finding {
    match clock::wall() {
        Some(_) => Finding::new("host", "clock", Severity::Ok, "the clock is set"),
        None => Finding::new(
            "host",
            "clock",
            Severity::Warning,
            "the clock is not set, so certificates cannot be checked",
        )
        .hint("let NTP set it (timedatectl), or give the host a real-time clock"),
    }
}
