//! `iotdm watch`: what devices say and what is sent to them, as it happens.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{CallError, Client};
use super::output::{self, Output, plain};

pub(super) async fn watch(client: &Client, output: &mut Output) -> Result<ExitCode, CallError> {
    let mut stream = client.stream("/x/watch").await?;
    if !output.is_json() {
        output::error("watching; end with Ctrl-C");
    }
    let mut buffer = Vec::new();
    loop {
        let chunk = match stream.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) | Err(_) => {
                output::error("the service ended the stream; start again with: iotdm watch");
                return Ok(ExitCode::FAILURE);
            }
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            show(&line, output)?;
        }
    }
}

fn show(line: &[u8], output: &mut Output) -> Result<(), CallError> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
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
