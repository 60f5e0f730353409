//! `iotdm firmware status`: what a device runs, what is to be installed, which request is under way.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::super::client::{CallError, Client};
use super::super::output::{Output, plain};
use super::find::{self, Found};
use crate::protocol::Device;
use crate::protocol::firmware::Firmware;
use crate::service::brain::{state_in_words, update_status_in_words};

pub(super) async fn status(client: &Client, output: &mut Output, device: &Device) -> Result<ExitCode, CallError> {
    let shown = client.device(device, "").await?;
    let mgmt = client.mgmt(device).await?;
    let found = find::newest(client, device).await?;
    if output.is_json() {
        let mut object = Map::new();
        object.insert("typeId".into(), device.type_id().into());
        object.insert("deviceId".into(), device.device_id().into());
        object.insert("managed".into(), mgmt.is_object().into());
        object.insert("fwVersion".into(), shown["deviceInfo"]["fwVersion"].clone());
        object.insert("firmware".into(), mgmt["firmware"].clone());
        object.insert("request".into(), found.map_or(Value::Null, |found| joined(&found)));
        output.value(&Value::Object(object))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = lines(&shown, &mgmt, found.as_ref()).into_iter();
    let rows = rows.map(|(name, text)| vec![name.to_owned(), plain(&text)]);
    output.table(&rows.collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

fn joined(found: &Found) -> Value {
    let mut row = found.row.clone();
    row["id"] = found.id().into();
    row["action"] = found.action().into();
    row
}

/// Names and what stands for them.
fn lines(shown: &Value, mgmt: &Value, found: Option<&Found>) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("it has not said").to_owned();
    let mut lines = vec![("runs", text(&shown["deviceInfo"]["fwVersion"]))];
    if !mgmt.is_object() {
        lines.push((
            "managed",
            "no: nothing can be installed before its next manage".to_owned(),
        ));
    } else if mgmt["supports"]["firmwareActions"] != true {
        lines.push(("firmware", "the device offers no firmware actions".to_owned()));
    }
    if let Ok(firmware) = Firmware::parse("mgmt.firmware", mgmt["firmware"].clone()) {
        for (name, text) in [
            ("to install", firmware.version),
            ("name", firmware.name),
            ("from", firmware.uri),
            ("verifier", firmware.verifier),
        ] {
            lines.extend(text.filter(|text| !text.is_empty()).map(|text| (name, text)));
        }
        lines.extend(firmware.state.map(|state| ("state", state_in_words(state).to_owned())));
        let status = firmware.update_status.map(update_status_in_words);
        lines.extend(status.map(|status| ("update status", status.to_owned())));
    }
    lines.push((
        "request",
        match found {
            None => "none is known".to_owned(),
            Some(found) => request(found),
        },
    ));
    lines
}

fn request(found: &Found) -> String {
    let (action, id) = (found.action(), found.id());
    let row = &found.row;
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    if found.is_open() {
        let step = text("step");
        return format!(
            "{action} is under way since {}: {step} (request {id})",
            text("requested")
        );
    }
    let end = match row["status"].as_u64() {
        Some(0) => "succeeded",
        Some(3) => "timed out",
        _ => "failed",
    };
    let reason = match text("message") {
        "" => String::new(),
        message => format!(": {message}"),
    };
    format!("{action} {end} at {}{reason} (request {id})", text("completed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_that_is_known_is_said_and_nothing_else() {
        let shown = json!({"deviceInfo": {"fwVersion": "1.0"}});
        let mgmt = json!({"supports": {"firmwareActions": true},
            "firmware": {"version": "2.0", "name": "", "uri": "https://fw/2", "state": 2, "updateStatus": 1}});
        let found = Found {
            request: json!({"id": "r", "action": "firmware/update"}),
            row: json!({"complete": false, "status": 1, "step": "working", "requested": "2024-05-01T10:00:00Z"}),
        };
        let said: Vec<String> = lines(&shown, &mgmt, Some(&found))
            .into_iter()
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        assert_eq!(
            said,
            [
                "runs: 1.0",
                "to install: 2.0",
                "from: https://fw/2",
                "state: downloaded",
                "update status: in progress",
                "request: firmware/update is under way since 2024-05-01T10:00:00Z: working (request r)",
            ]
        );
        let said = lines(&json!({}), &Value::Null, None);
        assert_eq!(said[0].1, "it has not said");
        assert!(said[1].1.starts_with("no: "), "{said:?}");
    }

    #[test]
    fn a_request_that_is_over_says_how_and_why() {
        let found = |status: u8, message: Option<&str>| Found {
            request: json!({"id": "r", "action": "firmware/download"}),
            row: json!({"complete": true, "status": status, "message": message, "completed": "T"}),
        };
        assert_eq!(request(&found(0, None)), "firmware/download succeeded at T (request r)");
        assert_eq!(
            request(&found(2, Some("connection lost"))),
            "firmware/download failed at T: connection lost (request r)"
        );
    }
}
