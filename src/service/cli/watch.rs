//! `iotdm watch`: what devices say and what is sent to them, as it happens.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{CallError, Client};
use super::output::{self, Output, plain};

pub(super) async fn watch(client: &Client, output: &mut Output) -> Result<ExitCode, CallError> {
    let mut lines = client.watch().await?;
    if !output.is_json() {
        output::error("watching; end with Ctrl-C");
    }
    while let Some(line) = lines.next().await {
        show(&line, output)?;
    }
    output::error("the service ended the stream; start again with: iotdm watch");
    Ok(ExitCode::FAILURE)
}

fn show(text: &str, output: &mut Output) -> Result<(), CallError> {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Ok(output.line(&plain(text))?);
    };
    if output.is_json() {
        return Ok(output.value(&value)?);
    }
    let part = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let device = match value["deviceId"].as_str() {
        Some(device_id) => format!("{}/{device_id}", part("typeId")),
        None => "-".into(),
    };
    Ok(output.line(&plain(&format!("{}  {device}  {}", part("time"), part("text"))))?)
}
