//! `iotdm observe`: a device tells what changes, until Ctrl-C ends it.
//!
//! The observation is a request of the service, so that it ends by itself when this command is killed; the values come
//! out of the stream of what devices say. Neither is in the platform's API.

use std::future::pending;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::{CallError, Client, Lines};
use super::output::{self, Output, plain};
use super::show::text;
use super::{Connection, timeout};
use crate::protocol::Device;

/// How often the service is asked whether the observation goes on.
const POLL: Duration = Duration::from_secs(1);
/// After how long a device that has not answered is spoken of.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) const HELP: &str = "\
What can be observed: location, metadata, deviceInfo, mgmt.firmware, and their members. What a
device does not have it refuses (404).

Example:
  iotdm observe edge-gateway/gw-0001 location deviceInfo.fwVersion";

/// What a device is to tell.
#[derive(Debug, Args)]
pub(super) struct Observe {
    /// The device, for example edge-gateway/gw-0001
    #[arg(value_name = "TYPE/ID")]
    pub(super) device: Device,
    /// The attributes, for example location or metadata.site
    #[arg(value_name = "FIELD", required = true)]
    pub(super) fields: Vec<String>,
    /// How long to observe at most; it also ends what a killed command leaves behind
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "24h")]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// An observation that the service has.
struct Observation<'a> {
    client: &'a Client,
    wanted: &'a Observe,
    id: String,
    /// On the wire.
    req_id: Value,
    /// `None` while the service is away.
    lines: Option<Lines>,
    /// The device has agreed.
    begun: bool,
}

pub(super) async fn observe(client: &Client, output: &mut Output, wanted: &Observe) -> Result<ExitCode, CallError> {
    let device = &wanted.device;
    let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Before the device is asked, so that nothing of what it says is missed.
    let lines = client.watch().await?;
    let parameter = |field: &String| json!({"name": "field", "value": field});
    let body = json!({
        "action": "device/observe",
        "devices": [{"typeId": device.type_id(), "deviceId": device.device_id()}],
        "parameters": wanted.fields.iter().map(parameter).collect::<Value>(),
        "timeout": wanted.timeout.as_secs(),
    });
    let answer = client.post("/mgmt/requests", &body).await?;
    let mut observation = Observation {
        client,
        wanted,
        id: answer["reqId"].as_str().unwrap_or_default().to_owned(),
        req_id: Value::Null,
        lines: Some(lines),
        begun: false,
    };
    match observation.follow(output, &mut signals).await {
        Ok(Some(code)) => Ok(code),
        Ok(None) if observation.cancel().await => Ok(ExitCode::SUCCESS),
        Ok(None) => Ok(ExitCode::FAILURE),
        Err(error) => {
            observation.cancel().await;
            Err(error)
        }
    }
}

impl Observation<'_> {
    /// Prints what the device tells. Returns how it ended, or nothing when the user ends it.
    async fn follow(
        &mut self,
        output: &mut Output,
        signals: &mut (Signal, Signal),
    ) -> Result<Option<ExitCode>, CallError> {
        let row = self.row().await?;
        self.req_id = row["reqId"].clone();
        if !output.is_json() {
            output::error(&format!("{} is asked to tell; end with Ctrl-C", self.wanted.device));
        }
        let silence = sleep(SILENCE);
        tokio::pin!(silence);
        let mut silent = false;
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = signals.0.recv() => return Ok(None),
                _ = signals.1.recv() => return Ok(None),
                line = next(&mut self.lines) => match line {
                    Some(line) => self.show(&line, output)?,
                    None => {
                        self.lines = None;
                        output::error("the service ended the stream of what devices say; still waiting");
                    }
                },
                () = &mut silence, if !silent => {
                    silent = true;
                    if !self.begun {
                        let device = &self.wanted.device;
                        output::error(&format!("{device} has not answered yet. Is it connected? It is asked on"));
                    }
                }
                _ = poll.tick() => match self.look(output).await {
                    Ok(Some(row)) => return Ok(Some(self.end(&row))),
                    Ok(None) => {}
                    Err(error) if error.is_passing() => {}
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Looks how the service has it; returns the row when it is over.
    async fn look(&mut self, output: &Output) -> Result<Option<Value>, CallError> {
        if self.lines.is_none() {
            self.lines = Some(self.client.watch().await?);
            output::error("the service is back; what changed meanwhile was not shown");
        }
        let row = self.row().await?;
        if row["step"] == "working" {
            self.agreed(output);
        }
        Ok((row["complete"] == true).then_some(row))
    }

    fn agreed(&mut self, output: &Output) {
        if !self.begun && !output.is_json() {
            output::error("it agreed, and tells what changes from now on");
        }
        self.begun = true;
    }

    async fn row(&self) -> Result<Value, CallError> {
        let (type_id, device_id) = (self.wanted.device.type_id(), self.wanted.device.device_id());
        let path = format!("/mgmt/requests/{}/deviceStatus/{type_id}/{device_id}", self.id);
        self.client.get(&path).await
    }

    fn show(&mut self, line: &str, output: &mut Output) -> Result<(), CallError> {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let ours = line["typeId"] == self.wanted.device.type_id() && line["deviceId"] == self.wanted.device.device_id();
        if !ours {
            return Ok(());
        }
        let answer = line["operation"] == "response" && line["reqId"] == self.req_id;
        if answer && line["rc"] == 200 {
            self.agreed(output);
        }
        // A device does not notify what an operator wrote: that counts with its answer.
        let taken = line["operation"] == "response" && line["rc"] == 204;
        if !(answer || self.begun && (taken || line["operation"] == "notify")) {
            return Ok(());
        }
        for told in line["values"].as_array().into_iter().flatten() {
            let field = told["field"].as_str().unwrap_or_default();
            let wanted = |observed: &String| within(observed, field) || within(field, observed);
            if !self.wanted.fields.iter().any(wanted) {
                continue;
            }
            if output.is_json() {
                output.value(&json!({"time": line["time"], "field": field, "value": told["value"]}))?;
            } else {
                let time = line["time"].as_str().unwrap_or_default();
                output.line(&plain(&format!("{time:<24}  {field} = {}", text(&told["value"]))))?;
            }
        }
        Ok(())
    }

    /// It ended without us.
    fn end(&self, row: &Value) -> ExitCode {
        let device = &self.wanted.device;
        let message = row["message"].as_str().unwrap_or("no reason given");
        let (text, code) = match (row["status"].as_u64(), row["step"].as_str(), row["rc"].as_u64()) {
            (Some(3), Some("working"), _) => (message.to_owned(), ExitCode::SUCCESS),
            (Some(3), ..) => (
                format!("timed out: {message}. Is {device} connected?"),
                ExitCode::FAILURE,
            ),
            (Some(2), Some("observe"), Some(rc)) => (format!("the device refused: {rc}: {message}"), ExitCode::FAILURE),
            _ => (
                format!("the observation of {device} ended: {message}"),
                ExitCode::FAILURE,
            ),
        };
        output::error(&plain(&text));
        code
    }

    /// Nobody wants to know any more; false when the service could not be told.
    async fn cancel(&self) -> bool {
        let path = format!("/mgmt/requests/{}/cancel", self.id);
        let Err(error) = self.client.post(&path, &json!({})).await else {
            return true;
        };
        output::error(&format!(
            "{error}; the observation goes on at the device (request {}), until its time is over",
            self.id
        ));
        false
    }
}

/// The next line; it does not come while there is no stream.
async fn next(lines: &mut Option<Lines>) -> Option<String> {
    match lines {
        Some(lines) => lines.next().await,
        None => pending().await,
    }
}

/// True when the part is the whole or a member of it.
fn within(whole: &str, part: &str) -> bool {
    let rest = part.strip_prefix(whole);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
