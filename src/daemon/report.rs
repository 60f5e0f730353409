//! The answer to `iotdm-agent status`: as JSON, and as a person reads it.

use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

use sd_notify::NotifyState;

use super::configuration::not_configured;
use super::connection::{Connection, View};
use super::pulse::notify;
use super::run::Daemon;
use super::settings;
use crate::agent::durable::Wish;
use crate::agent::{Agent, Status};
use crate::config::{self, Configuration};
use crate::host::clock;

/// How the agent stands. Members are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) version: &'static str,
    /// The one line that systemd shows, too.
    pub(super) summary: String,
    /// Whether an identity is configured; if not, what is missing.
    pub(super) configured: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    pub(super) connection: View,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<Status>,
    pub(super) boot_id: String,
    /// Seconds since the agent started.
    pub(super) running_for_seconds: u64,
    /// Whether the wall clock can be believed.
    pub(super) clock_set: bool,
    pub(super) state_directory: String,
    /// Why the disk refuses, when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk_trouble: Option<String>,
    pub(super) configuration_files: Vec<String>,
    /// What was refused when the configuration was last read anew; the older one is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) configuration_trouble: Option<String>,
}

impl Daemon {
    /// One line about everything.
    pub(super) fn summary(&self) -> String {
        if let Configuration::NotConfigured { missing } = &self.configuration.settings {
            return not_configured(missing, &self.config_path);
        }
        let status = self.agent.as_ref().map(Agent::status);
        let busy = status.as_ref().map_or("none", |status| status.busy);
        let connection = match &self.connection {
            Connection::None | Connection::Connecting | Connection::Connected => "connecting to the service".to_owned(),
            Connection::Trouble { trouble, .. } => format!("not connected: {trouble}"),
            Connection::Subscribed(_) => match &status {
                Some(status) if status.manage_refused.is_some() => {
                    format!(
                        "connected, and manage was refused: {}",
                        status.manage_refused.as_deref().unwrap_or_default()
                    )
                }
                Some(status) if status.wish != Wish::Managed => {
                    "connected; the device is out of management (iotdm-agent manage takes it back)".to_owned()
                }
                Some(status) if status.managed => "managed".to_owned(),
                _ => "connected, waiting for the service to answer manage".to_owned(),
            },
        };
        if let Some(progress) = &self.firmware.progress {
            return format!("{progress}; {connection}");
        }
        let waiting = status
            .as_ref()
            .and_then(|status| status.firmware.waiting_for.as_deref());
        if let Some(waiting) = waiting {
            return format!("{busy}; waiting for: {waiting}; {connection}");
        }
        match busy {
            "none" => connection,
            "reboot asked" => format!("the service asks for a reboot; {connection}"),
            "reboot accepted" => format!("going down: logind accepted the reboot; {connection}"),
            "reboot unclear" => {
                format!("waiting whether the host goes down: logind did not answer the request to reboot; {connection}")
            }
            busy => match status.and_then(|status| status.firmware.waiting_for) {
                Some(reason) => format!("busy with {busy}: {reason}; {connection}"),
                None => format!("busy with {busy}; {connection}"),
            },
        }
    }

    pub(super) fn tell_summary(&mut self) {
        let summary = self.summary();
        if summary != self.last_summary {
            notify(&[NotifyState::Status(&summary)]);
            self.last_summary = summary;
        }
    }

    pub(super) fn report(&self) -> Report {
        let (missing, settings) = match &self.configuration.settings {
            Configuration::NotConfigured { missing } => (missing.clone(), None),
            Configuration::Configured(settings) => (Vec::new(), Some(settings)),
        };
        let url = |url: &config::Url| format!("{}://{}:{}", if url.tls { "mqtts" } else { "mqtt" }, url.host, url.port);
        Report {
            version: env!("CARGO_PKG_VERSION"),
            summary: self.summary(),
            configured: settings.is_some(),
            missing,
            device: settings.map(|settings| format!("{}/{}", settings.device.type_id, settings.device.id)),
            client_id: settings.map(|settings| settings::client_id(settings)),
            service: settings.map(|settings| url(&settings.service.url)),
            connection: self.connection.view(),
            agent: self.agent.as_ref().map(|agent| {
                let mut status = agent.status();
                status.firmware.progress = self.firmware.progress.clone();
                status
            }),
            boot_id: self.boot_id.clone(),
            running_for_seconds: self.started.elapsed().as_secs(),
            clock_set: clock::wall().is_some(),
            state_directory: self.folder.display().to_string(),
            disk_trouble: self.disk_trouble.clone(),
            configuration_files: self
                .configuration
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            configuration_trouble: self.configuration_trouble.clone(),
        }
    }
}

/// The report for a person; `value` is what the daemon sent.
pub fn readable(value: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:>14}: {text}");
        }
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let agent = &value["agent"];
    let connection = &value["connection"];
    line("state", text(&value["summary"]));
    line("device", text(&value["device"]));
    line("service", text(&value["service"]));
    line(
        "connection",
        text(&connection["state"]).map(|state| match connection["for_seconds"].as_u64() {
            Some(seconds) => format!("{state} for {}", duration(seconds)),
            None => state,
        }),
    );
    line("trouble", text(&connection["trouble"]));
    line(
        "next attempt",
        connection["next_attempt_in_seconds"]
            .as_u64()
            .map(|seconds| format!("in {}", duration(seconds))),
    );
    if agent.is_object() {
        let managed = match (agent["wish"].as_str(), agent["managed"].as_bool()) {
            (Some("unmanaged"), _) => "no: taken out of management on this device (iotdm-agent manage takes it back)",
            (Some("unmanaging"), _) => "no: taken out of management on this device; the service does not know yet",
            (_, Some(true)) => "yes",
            _ => "not yet: the service has not answered since the agent started",
        };
        let since = agent["managed_since"]
            .as_i64()
            .and_then(crate::protocol::timestamp::format);
        line(
            "managed",
            Some(since.map_or(managed.to_owned(), |since| format!("{managed}, last confirmed {since}"))),
        );
        line("refused", text(&agent["manage_refused"]));
        line("service wrote", written(&agent["written"]));
        line("busy", text(&agent["busy"]).filter(|busy| busy != "none"));
        let owed = agent["owed"].as_u64().unwrap_or(0) + agent["answers_owed"].as_u64().unwrap_or(0);
        line("to be sent", (owed > 0).then(|| format!("{owed} messages")));
    }
    line(
        "clock",
        (value["clock_set"] == false).then(|| "not set: certificates cannot be checked".to_owned()),
    );
    line("disk", text(&value["disk_trouble"]));
    line("configuration", text(&value["configuration_trouble"]));
    line("version", text(&value["version"]));
    out
}

/// What the service has written into the device model: not too much of it.
fn written(written: &Value) -> Option<String> {
    const SHOWN: usize = 6;
    let written = written.as_object().filter(|written| !written.is_empty())?;
    let one = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::Null => format!("no {name}"),
            value => format!("{name} = {value}"),
        };
        let short = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c });
        short.collect::<String>()
    };
    let mut text = written.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(", ");
    if written.len() > SHOWN {
        text += &format!(" and {} more (--json shows all)", written.len() - SHOWN);
    }
    Some(text)
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The report's `agent.firmware` for a person.
pub fn firmware_in_words(firmware: &Value) -> String {
    let text = |name: &str| firmware[name].as_str();
    if firmware.is_null() {
        return "the device is not configured yet".to_owned();
    }
    let mut lines = Vec::new();
    let version = text("version")
        .map(|version| format!(" (version {version})"))
        .unwrap_or_default();
    lines.push(match (firmware["state"].as_u64(), firmware["update_status"].as_u64()) {
        (Some(1), _) => format!("a new image{version} is being downloaded"),
        (_, Some(1)) => format!("a new image{version} is being installed, or on trial"),
        (Some(2), Some(0)) => format!("a new image{version} is downloaded and waits for the update"),
        (Some(2), Some(status)) => {
            format!(
                "the last update{version} failed: {}; its image is kept",
                update_status(status)
            )
        }
        (_, Some(0)) => "nothing is under way".to_owned(),
        (_, Some(status)) => format!("the last image{version} failed: {}", update_status(status)),
        _ => "nothing is known".to_owned(),
    });
    lines.extend(text("progress").map(str::to_owned));
    lines.extend(text("phase").map(|phase| match text("slot") {
        Some(slot) => format!("{phase}, slot {slot}"),
        None => phase.to_owned(),
    }));
    lines.extend(text("waiting_for").map(|what| format!("waiting for: {what}")));
    lines.extend(text("not_supported").map(|reason| format!("not supported here: {reason}")));
    lines.join("\n")
}

/// The answer to `iotdm-agent location` for a person.
pub fn location_in_words(value: &Value) -> String {
    let place = |value: &Value| {
        let mut text = format!("{}, {}", value["latitude"], value["longitude"]);
        for (name, what) in [("elevation", "elevation"), ("accuracy", "accuracy")] {
            if let Some(metres) = value[name].as_f64() {
                let _ = write!(text, ", {what} {metres} m");
            }
        }
        if let Some(time) = value["measuredDateTime"].as_str() {
            let _ = write!(text, ", measured {time}");
        }
        text
    };
    let aged = |name: &str| {
        let age = value[format!("{name}_age_seconds")].as_u64()?;
        Some(format!("{}, {} ago", place(&value[name]), duration(age)))
    };
    let mut lines = Vec::new();
    lines.push(match value["source"].as_str() {
        Some("measured") if value["fix_is_alive"] == true => {
            format!("here, as measured: {}", place(&value["location"]))
        }
        Some("measured") => format!("here, as last measured: {}", place(&value["location"])),
        Some("service") => format!("here, as the service says: {}", place(&value["location"])),
        Some("configuration") => format!("here, as the configuration says: {}", place(&value["location"])),
        _ => "nobody knows where this host is ([location] in the configuration)".to_owned(),
    });
    lines.extend(aged("fix").map(|text| format!("newest fix: {text}")));
    lines.extend(aged("reported").map(|text| format!("last reported: {text}")));
    lines.extend(value["why"].as_str().map(|why| format!("not more is told: {why}")));
    lines.extend(value["trouble"].as_str().map(|why| format!("no fix: {why}")));
    lines.join("\n")
}

/// `mgmt.firmware.updateStatus` in the protocol's words.
fn update_status(status: u64) -> &'static str {
    match status {
        2 => "out of memory",
        3 => "connection lost",
        4 => "verification failed",
        5 => "unsupported image",
        6 => "invalid URI",
        _ => "for a reason that this version does not know",
    }
}
