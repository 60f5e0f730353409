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
use crate::protocol::timestamp;

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
            (Some("managed"), Some(true)) => "yes",
            (Some("managed"), _) => "not yet: the service has not answered since the agent started",
            _ => {
                "no: a newer version of the agent has left something that this one does not know (iotdm-agent manage or unmanage decides)"
            }
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
    lines.extend(text("trouble").map(str::to_owned));
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

/// The answer to `iotdm-agent diag status` for a person.
pub fn diagnostics_in_words(value: &Value) -> String {
    let number = |name: &str| value[name].as_u64().unwrap_or(0);
    let list = |value: &Value| {
        let codes = value.as_array().map(Vec::as_slice).unwrap_or_default();
        codes.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    lines.push(match (value["reading"].as_bool(), value["trouble"].as_str()) {
        (Some(true), None) => format!("the journal is read: {} entries so far", number("entries_taken")),
        (Some(true), Some(trouble)) => format!("the journal cannot be read: {trouble}"),
        _ => "the journal is not read ([diagnostics] journal in the configuration)".to_owned(),
    });
    lines.extend(value["cursor"].as_str().map(|cursor| match written_at(cursor) {
        Some(time) => format!("it is read up to {time} (journalctl --cursor='{cursor}')"),
        None => format!("it is read up to the cursor '{cursor}'"),
    }));
    lines.push(format!(
        "{} of at most {} log entries in the last minute",
        number("in_last_minute"),
        number("max_per_minute")
    ));
    if number("logs_waiting") > 0 {
        lines.push(format!(
            "{} log entries wait for the service ({} bytes), {} of them are sent and not answered yet",
            number("logs_waiting"),
            number("bytes_waiting"),
            number("logs_in_flight")
        ));
    }
    if number("folded") > 0 {
        lines.push(format!("{} repetitions are counted and not told yet", number("folded")));
    }
    if let Some(held) = value["held_back"].as_object().filter(|held| !held.is_empty()) {
        let held: Vec<_> = held.iter().map(|(unit, count)| format!("{count} of {unit}")).collect();
        lines.push(format!("held back, to be told in one: {}", held.join(", ")));
    }
    if number("dropped_logs") > 0 {
        lines.push(format!(
            "{} log entries, of {} in the journal, were dropped for want of room: the service was away too long",
            number("dropped_logs"),
            number("dropped_entries")
        ));
    }
    let codes = &value["error_codes"];
    lines.push(match list(&codes["hold"]).as_str() {
        "" => "no error code holds".to_owned(),
        codes => format!("error codes that hold: {codes}"),
    });
    if codes["hold"] != codes["told"] {
        lines.push(match list(&codes["told"]).as_str() {
            "" => "the service knows of no error code yet".to_owned(),
            codes => format!("the service still has: {codes}"),
        });
    }
    if codes["refused"].as_array().is_some_and(|refused| !refused.is_empty()) {
        lines.push(format!("the service refused: {}", list(&codes["refused"])));
    }
    lines.join("\n")
}

/// When the entry at a cursor of the journal was written: its `t` is in microseconds, hexadecimal.
fn written_at(cursor: &str) -> Option<String> {
    let micros = cursor.split(';').find_map(|part| part.strip_prefix("t="))?;
    timestamp::format(i64::from_str_radix(micros, 16).ok()? / 1_000_000)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn diagnostics_are_told_with_the_position_what_waits_what_was_held_back_and_what_was_dropped() {
        let status = json!({
            "reading": true, "cursor": "s=1;i=2;b=3;m=4;t=617618cb1e800;x=5", "entries_taken": 7,
            "logs_waiting": 12, "bytes_waiting": 3000, "logs_in_flight": 10,
            "max_per_minute": 30, "in_last_minute": 4, "folds": 1, "folded": 8,
            "held_back": {"modbus.service": 9}, "dropped_logs": 2, "dropped_entries": 5,
            "error_codes": {"hold": [42, 9002], "told": [42], "by_hand": [42], "refused": [7]},
        });
        let text = "the journal is read: 7 entries so far
it is read up to 2024-05-01T10:00:00Z (journalctl --cursor='s=1;i=2;b=3;m=4;t=617618cb1e800;x=5')
4 of at most 30 log entries in the last minute
12 log entries wait for the service (3000 bytes), 10 of them are sent and not answered yet
8 repetitions are counted and not told yet
held back, to be told in one: 9 of modbus.service
2 log entries, of 5 in the journal, were dropped for want of room: the service was away too long
error codes that hold: 42, 9002
the service still has: 42
the service refused: 7";
        assert_eq!(diagnostics_in_words(&status), text);
    }
}
