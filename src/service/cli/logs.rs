//! `iotdm logs`: what a device has logged, oldest first, and with `--follow` what it goes on to log.
//!
//! That there is a new one tells the stream of what devices say; the logs themselves are read by their ids, which grow
//! for ever. So nothing is missed when the stream breaks or the service restarts.

use std::future::pending;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::super::brain::severity;
use super::Connection;
use super::client::{CallError, Client, Lines};
use super::output::{self, Output, plain, seconds};
use crate::protocol::Device;
use crate::protocol::diagnostics::Severity;

/// How often a service that is away is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How many older ones are shown before those that follow, unless it is said.
const BEFORE: u32 = 10;

pub(super) const HELP: &str = "\
What belongs to a log stands behind it: the unit that it is about, and how often it was told in one.
The service keeps 500 KB of logs of each device for 7 days.

Examples:
  iotdm logs edge-gateway/gw-0001 --severity warning
  iotdm logs edge-gateway/gw-0001 --follow";

/// Which logs are shown.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The device, for example edge-gateway/gw-0001
    #[arg(value_name = "TYPE/ID")]
    pub(super) device: Device,
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Only these and worse: 0 or information, 1 or warning, 2 or error
    #[arg(long, value_name = "N", value_parser = read_severity, default_value = "0")]
    pub(super) severity: Severity,
    /// Only the newest so many [default: all that there are, with --follow 10]
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) number: Option<u32>,
    #[command(flatten)]
    pub(super) connection: Connection,
}

fn read_severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Information, Severity::Warning, Severity::Error];
    let found = all
        .into_iter()
        .find(|one| text == severity(*one) || text == (*one as u8).to_string());
    found.ok_or_else(|| "write 0, 1 or 2, or information, warning or error".to_owned())
}

pub(super) async fn logs(client: &Client, output: &mut Output, wanted: &Logs) -> Result<ExitCode, CallError> {
    let mut reader = Reader {
        client,
        wanted,
        last: 0,
    };
    if wanted.follow {
        return reader.follow(output).await;
    }
    let shown = reader.show(output, wanted.number).await?;
    if shown == 0 && !output.is_json() {
        let device = &wanted.device;
        output.line(&match wanted.severity {
            Severity::Information => format!("there are no logs of {device}"),
            other => format!("there are no logs of {device} that are {} or worse", severity(other)),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Reader<'a> {
    client: &'a Client,
    wanted: &'a Logs,
    /// The id of the newest log that was read.
    last: i64,
}

impl Reader<'_> {
    async fn follow(&mut self, output: &mut Output) -> Result<ExitCode, CallError> {
        let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Before the first look, so that nothing falls in between.
        let mut lines = Some(self.client.watch().await?);
        self.show(output, Some(self.wanted.number.unwrap_or(BEFORE))).await?;
        if !output.is_json() {
            output::error("showing what comes; end with Ctrl-C");
        }
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let looked = tokio::select! {
                _ = signals.0.recv() => return Ok(ExitCode::SUCCESS),
                _ = signals.1.recv() => return Ok(ExitCode::SUCCESS),
                line = next(&mut lines) => match line {
                    Some(line) if !self.is_about_logs(&line) => Ok(0),
                    Some(_) => self.show(output, None).await,
                    None => {
                        lines = None;
                        output::error("the service ended the stream of what devices say; still waiting");
                        Ok(0)
                    }
                },
                _ = retry.tick(), if lines.is_none() => match self.client.watch().await {
                    Ok(again) => {
                        lines = Some(again);
                        output::error("the service is back");
                        self.show(output, None).await
                    }
                    Err(error) => Err(error),
                },
            };
            match looked {
                Ok(_) => {}
                // It will be read with what the next stream begins with.
                Err(error) if error.is_passing() => lines = None,
                Err(error) => return Err(error),
            }
        }
    }

    fn is_about_logs(&self, line: &str) -> bool {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let device = &self.wanted.device;
        line["operation"] == "addLog" && line["typeId"] == device.type_id() && line["deviceId"] == device.device_id()
    }

    /// Shows what is new, oldest first, of it the newest so many; returns how many.
    async fn show(&mut self, output: &mut Output, number: Option<u32>) -> Result<usize, CallError> {
        let tail = format!("/diag/logs?after={}", self.last);
        let answer = self.client.device(&self.wanted.device, &tail).await?;
        let logs = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let ids = logs.iter().filter_map(|log| log["id"].as_str()?.parse::<i64>().ok());
        self.last = ids.max().unwrap_or(0).max(self.last);
        let least = self.wanted.severity as u64;
        let logs = logs.iter().filter(|log| log["severity"].as_u64().unwrap_or(0) >= least);
        let number = number.and_then(|number| usize::try_from(number).ok());
        let logs: Vec<&Value> = logs.take(number.unwrap_or(usize::MAX)).collect();
        for log in logs.iter().rev() {
            if output.is_json() {
                output.value(log)?;
            } else {
                output.line(&line(log))?;
            }
        }
        Ok(logs.len())
    }
}

/// The next line; it does not come while there is no stream.
async fn next(lines: &mut Option<Lines>) -> Option<String> {
    match lines {
        Some(lines) => lines.next().await,
        None => pending().await,
    }
}

/// `2024-05-01T10:00:00Z  error        it failed  (modbus.service, 5 times)`
fn line(log: &Value) -> String {
    let time = seconds(log["timestamp"].as_str().unwrap_or_default());
    let number = log["severity"].as_i64().unwrap_or(0);
    let severity = Severity::from_number(number).map_or("unknown", severity);
    let message = plain(log["message"].as_str().unwrap_or_default());
    let about = about(log["data"].as_str(), &message);
    format!("{time:<20}  {severity:<11}  {message}{about}")
}

/// What `data` says beside the text: of our agent which unit, and how often; of another how much there is.
fn about(data: Option<&str>, message: &str) -> String {
    let Some(bytes) = data.and_then(|data| STANDARD.decode(data).ok()) else {
        return String::new();
    };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if value["firmware"].is_string() && value["updateStatus"].is_u64() {
        // It is for the message of a request.
        return String::new();
    }
    let unit = value["unit"].as_str().or(value["identifier"].as_str());
    let count = value["count"].as_u64();
    if unit.is_none() && count.is_none() {
        return format!("  ({} bytes of data)", bytes.len());
    }
    let unit = unit.map(plain).filter(|unit| !message.contains(unit.as_str()));
    let times = count.filter(|count| *count > 1).map(|count| format!("{count} times"));
    let parts: Vec<String> = unit.into_iter().chain(times).collect();
    if parts.is_empty() {
        return String::new();
    }
    format!("  ({})", parts.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_is_one_line_with_what_its_data_says() {
        let unit = json!({"unit": "modbus.service", "cursor": "s=1", "count": 5, "pid": 7});
        let once = json!({"unit": "modbus.service", "count": 1, "cursor": "s=1"});
        for (message, data, said) in [
            ("it failed", None, "it failed"),
            (
                "it failed",
                Some(unit.to_string()),
                "it failed  (modbus.service, 5 times)",
            ),
            ("it failed", Some(once.to_string()), "it failed  (modbus.service)"),
            (
                "modbus.service: it failed",
                Some(once.to_string()),
                "modbus.service: it failed",
            ),
            (
                "it failed",
                Some(r#"{"identifier": "sudo", "count": 1}"#.into()),
                "it failed  (sudo)",
            ),
            (
                "it failed",
                Some(r#"{"firmware": "update", "updateStatus": 5, "reqId": "r"}"#.into()),
                "it failed",
            ),
            ("it failed", Some("hi".into()), "it failed  (2 bytes of data)"),
            ("it failed", Some("[1]".into()), "it failed  (3 bytes of data)"),
            (
                "a\nb\u{1b}[31m\u{9b}c",
                Some(r#"{"unit": "\u001b]0;x"}"#.into()),
                "a b [31m c  ( ]0;x)",
            ),
        ] {
            let mut log = json!({"timestamp": "2024-05-01T10:00:00.250Z", "severity": 2, "message": message});
            if let Some(data) = data {
                log["data"] = STANDARD.encode(data).into();
            }
            assert_eq!(line(&log), format!("2024-05-01T10:00:00Z  error        {said}"));
        }
        let odd = json!({"timestamp": "\u{1b}x", "severity": 9, "message": 5, "data": "%%"});
        assert_eq!(line(&odd).split_whitespace().collect::<Vec<_>>(), ["x", "unknown"]);
    }

    #[test]
    fn a_severity_is_a_number_or_a_word() {
        for text in ["1", "warning"] {
            assert_eq!(read_severity(text), Ok(Severity::Warning));
        }
        for text in ["3", "-1", "err", ""] {
            assert!(read_severity(text).is_err(), "{text}");
        }
    }
}
