//! `iotdm set`: attributes get values. The device is asked, and what it answers is said.
//!
//! Only what is named is sent, so that the rest stays as the device has it, which may be newer than what the service
//! knows. An agent that has no members by dotted names answers 404; only that one is sent the whole attribute (REST API
//! v0002: PUT of a device), with what is not to be changed as the service has it.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::outside;
use super::assignment::{self, Assignment, Place};
use super::client::{CallError, Client};
use super::output::{self, Output, age, plain};
use super::{Connection, timeout};
use crate::protocol::model::kept_in;
use crate::protocol::{Device, timestamp};

/// How often the service is asked how the request stands.
const POLL: Duration = Duration::from_millis(200);
/// How long after its timeout the service may take to say so.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const HELP: &str = "\
What can be written:
  metadata.NAME=VALUE    anything: JSON where it is JSON (5, true, {\"a\": 1}), else a text
  description=TEXT       and the other members of the device info: serialNumber, manufacturer,
                         model, deviceClass, fwVersion, hwVersion, descriptiveLocation.
                         A device may keep what it knows better, such as its fwVersion
  NAME=                  takes the value away

Only what is named is sent; the rest stays as the device has it.
A device that is away may still take over what timed out: the broker keeps it.

Examples:
  iotdm set edge-gateway/gw-0001 metadata.site=north description=\"at the gate\"
  iotdm set edge-gateway/gw-0001 --location 52.52,13.405,34";

/// What a device is to say of itself.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The device, for example edge-gateway/gw-0001
    #[arg(value_name = "TYPE/ID")]
    pub(super) device: Device,
    /// What to write
    #[arg(value_name = "NAME=VALUE", required_unless_present = "location")]
    pub(super) assignments: Vec<Assignment>,
    /// Where the device is: degrees of latitude and longitude, metres of elevation
    #[arg(long, value_name = "LAT,LON[,ALT]", allow_hyphen_values = true)]
    pub(super) location: Option<Place>,
    /// How long the device may take to answer
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "60s")]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// One call of the API: the path's tail, and the body.
struct Part {
    tail: &'static str,
    body: Value,
}

/// What a call led to.
enum End {
    /// The device was not asked; the answer of the service.
    Stored(Value),
    /// The device was asked; how it stands with the request at its end.
    Asked(Value),
    /// Nothing final came.
    Open,
}

pub(super) async fn set(client: &Client, output: &mut Output, wanted: &Set) -> Result<ExitCode, CallError> {
    let shown = client.device(&wanted.device, "").await?;
    let parts = match parts(wanted, &shown) {
        Ok(parts) => parts,
        Err(error) => {
            output::error(&format!("{error}; nothing was written"));
            return Ok(ExitCode::FAILURE);
        }
    };
    for (n, part) in parts.iter().enumerate() {
        if !write(client, output, wanted, part, &shown).await? {
            if let Some(next) = parts.get(n + 1) {
                output::error(&format!("{} was not written either", next.names()));
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parts(wanted: &Set, shown: &Value) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    if !wanted.assignments.is_empty() {
        parts.push(Part {
            tail: "",
            body: assignment::members(&wanted.assignments, shown)?,
        });
    }
    if let Some(place) = wanted.location {
        parts.push(Part {
            tail: "/location",
            body: place.to_value(),
        });
    }
    Ok(parts)
}

/// Writes one part; false when the device did not take it.
async fn write(
    client: &Client,
    output: &mut Output,
    wanted: &Set,
    part: &Part,
    shown: &Value,
) -> Result<bool, CallError> {
    let device = &wanted.device;
    let end = ask(client, wanted, part).await?;
    match &end {
        End::Asked(row) if row["rc"] == 404 && row["status"] != 0 && part.has_members() => {
            let shown = client.device(device, "").await?;
            match assignment::whole(&wanted.assignments, &shown) {
                Ok(body) => {
                    let whole = Part { tail: part.tail, body };
                    let names = whole.names();
                    output::error(&format!("{device} takes no member alone: {names} is written whole"));
                    let end = ask(client, wanted, &whole).await?;
                    tell(output, device, &names, &end, &shown)
                }
                // It has changed meanwhile.
                Err(_) => tell(output, device, &part.names(), &end, &shown),
            }
        }
        _ => tell(output, device, &part.names(), &end, shown),
    }
}

/// Has one part written, and waits for its end.
async fn ask(client: &Client, wanted: &Set, part: &Part) -> Result<End, CallError> {
    let (type_id, device_id) = (wanted.device.type_id(), wanted.device.device_id());
    let seconds = wanted.timeout.as_secs();
    let path = format!(
        "/device/types/{type_id}/devices/{device_id}{}?timeout={seconds}",
        part.tail
    );
    let stored = client.put(&path, &part.body).await?;
    let Some(id) = stored["reqId"].as_str() else {
        return Ok(End::Stored(stored));
    };
    let path = format!("/mgmt/requests/{id}/deviceStatus/{type_id}/{device_id}");
    let Some(mut row) = end(client, &path, wanted.timeout + PATIENCE).await? else {
        return Ok(End::Open);
    };
    row["id"] = id.into();
    Ok(End::Asked(row))
}

/// Says how it ended; false when the device did not take it.
fn tell(output: &mut Output, device: &Device, names: &str, end: &End, shown: &Value) -> Result<bool, CallError> {
    let (value, done, text) = match end {
        End::Open => {
            output::error(&format!(
                "the service says nothing final about what was written to {device}; is it connected to the broker? \
                 its log says so"
            ));
            return Ok(false);
        }
        End::Stored(stored) if shown["refs"]["mgmt"].is_string() => {
            let text = format!("{names}: stored; this service does not say whether {device} takes it");
            (stored, true, text)
        }
        End::Stored(stored) => {
            let text = format!(
                "{names}: stored here only. {device} is not managed: it was not asked, and what it says \
                 in its next manage replaces this"
            );
            (stored, true, text)
        }
        End::Asked(row) => {
            let text = outcome(device, names, row, shown, outside::now().unix_ms);
            (row, row["status"] == 0 && kept(row).is_empty(), text)
        }
    };
    if output.is_json() {
        output.value(value)?;
    } else {
        output.line(&plain(&text))?;
    }
    Ok(done)
}

/// The row when it is complete; `None` when it is not in time.
async fn end(client: &Client, path: &str, limit: Duration) -> Result<Option<Value>, CallError> {
    let give_up = Instant::now() + limit;
    let mut away = false;
    while Instant::now() < give_up {
        match client.get(path).await {
            Ok(row) if row["complete"] == true => return Ok(Some(row)),
            Ok(_) => away = false,
            Err(error) if error.is_passing() => {
                if !away {
                    output::error(&format!("{error}; still waiting"));
                }
                away = true;
            }
            Err(error) => return Err(error),
        }
        sleep(POLL).await;
    }
    Ok(None)
}

/// What the device did not take over, though it answered 204.
fn kept(row: &Value) -> Vec<&str> {
    kept_in(row["message"].as_str().unwrap_or_default())
}

/// How it ended, in words.
fn outcome(device: &Device, names: &str, row: &Value, shown: &Value, now_ms: i64) -> String {
    let message = row["message"].as_str().unwrap_or("no reason given");
    match (row["status"].as_u64(), row["rc"].as_u64()) {
        (Some(0), _) => match kept(row).join(", ") {
            kept if kept.is_empty() => format!("{names}: {device} has taken it over"),
            kept if kept == names => format!("{names}: {device} keeps what it has: it knows better"),
            kept => format!("{names}: {device} has taken it over, but keeps its own {kept}: it knows better"),
        },
        (Some(3), _) if row["sent"].is_null() => {
            format!("{names}: timed out: {message}. Is the service connected to it? Its log says so")
        }
        (Some(3), _) => {
            let heard = shown["lastSeen"].as_str().and_then(timestamp::parse);
            let heard = heard.map_or(String::new(), |at| format!(" (last heard {} before)", age(now_ms - at)));
            format!("{names}: timed out: {message}. Is {device} connected{heard}?")
        }
        (_, Some(501)) => format!("{names}: the device refused: 501, it cannot change this: {message}"),
        (_, Some(rc)) => format!("{names}: the device refused: {rc}: {message}"),
        _ => format!("{names}: failed: {message}"),
    }
}

impl Part {
    /// What it writes: attributes, or their members.
    fn names(&self) -> String {
        match self.tail {
            "" => {
                let names = self.body.as_object().into_iter().flatten().map(|(name, _)| plain(name));
                names.collect::<Vec<_>>().join(", ")
            }
            _ => "location".to_owned(),
        }
    }

    /// Whether it writes members alone.
    fn has_members(&self) -> bool {
        let names = self.body.as_object().into_iter().flatten().map(|(name, _)| name);
        self.tail.is_empty() && names.into_iter().any(|name| name.contains('.'))
    }
}

impl Place {
    fn to_value(self) -> Value {
        let mut value = json!({"latitude": self.latitude, "longitude": self.longitude});
        if let Some(metres) = self.elevation {
            value["elevation"] = metres.into();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_end_of_an_update_is_said_plainly() {
        let device: Device = "edge/gw-1".parse().unwrap();
        let shown = json!({"lastSeen": "2024-05-01T10:00:00Z"});
        let now_ms = timestamp::parse("2024-05-01T13:00:00Z").unwrap();
        for (row, said) in [
            (json!({"status": 0, "rc": 204}), "metadata: edge/gw-1 has taken it over"),
            (
                json!({"status": 0, "rc": 204, "message": "kept by the device: metadata"}),
                "metadata: edge/gw-1 keeps what it has: it knows better",
            ),
            (
                json!({"status": 0, "rc": 204, "message": "kept by the device: location, deviceInfo.fwVersion"}),
                "metadata: edge/gw-1 has taken it over, but keeps its own location, deviceInfo.fwVersion: it knows better",
            ),
            (
                json!({"status": 2, "rc": 400, "message": "d.fields[0].value: too deep"}),
                "metadata: the device refused: 400: d.fields[0].value: too deep",
            ),
            (
                json!({"status": 2, "rc": 501, "message": "metadata"}),
                "metadata: the device refused: 501, it cannot change this: metadata",
            ),
            (
                json!({"status": 2, "message": "the device was unmanaged"}),
                "metadata: failed: the device was unmanaged",
            ),
            (
                json!({"status": 3, "message": "the request never reached the broker"}),
                "metadata: timed out: the request never reached the broker. Is the service connected to it? Its log says so",
            ),
            (
                json!({"status": 3, "sent": "2024-05-01T12:59:00Z", "message": "the device did not answer in time"}),
                "metadata: timed out: the device did not answer in time. Is edge/gw-1 connected (last heard 3 h before)?",
            ),
        ] {
            assert_eq!(outcome(&device, "metadata", &row, &shown, now_ms), said);
        }
    }
}
