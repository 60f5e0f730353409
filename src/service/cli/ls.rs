//! `iotdm ls`: who is managed, since when, with which firmware, last seen.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{CallError, Client};
use super::output::{Output, seconds};

pub(super) async fn ls(client: &Client, output: &mut Output) -> Result<ExitCode, CallError> {
    let devices = client.list("/bulk/devices").await?;
    if output.is_json() {
        output.value(&devices.into())?;
        return Ok(ExitCode::SUCCESS);
    }
    if devices.is_empty() {
        output.line("no device has been heard of yet; it appears here with its first manage")?;
        return Ok(ExitCode::SUCCESS);
    }
    let heading = ["DEVICE", "MANAGED SINCE", "FIRMWARE", "ACTIONS", "LAST SEEN"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(devices.iter().map(row));
    output.table(&rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(device: &Value) -> Vec<String> {
    let text = |value: &Value| seconds(value.as_str().unwrap_or("-"));
    let mgmt = &device["mgmt"];
    let since = if mgmt.is_null() {
        "not managed".to_owned()
    } else {
        text(&mgmt["managedSince"])
    };
    let supports = &mgmt["supports"];
    let actions: Vec<&str> = [("deviceActions", "device"), ("firmwareActions", "firmware")]
        .into_iter()
        .filter(|(name, _)| supports[name] == true)
        .map(|(_, word)| word)
        .collect();
    vec![
        format!("{}/{}", text(&device["typeId"]), text(&device["deviceId"])),
        since,
        super::output::plain(device["deviceInfo"]["fwVersion"].as_str().unwrap_or("-")),
        if actions.is_empty() {
            "-".into()
        } else {
            actions.join(",")
        },
        text(&device["lastSeen"]),
    ]
}
