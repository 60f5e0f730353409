//! `iotdm reboot`: asks for it and, with `--wait`, follows it to its end.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::brain::DEFAULT_TIMEOUT;
use super::client::{CallError, Client};
use super::output::{self, Output, plain};
use crate::protocol::{Device, timestamp};

/// How often the service is asked how the request stands.
const POLL: Duration = Duration::from_millis(300);
/// How long after its timeout the service may take to say so.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn reboot(
    client: &Client,
    output: &mut Output,
    device: &Device,
    wait: bool,
    timeout: Option<Duration>,
) -> Result<ExitCode, CallError> {
    let timeout = timeout.unwrap_or(Duration::from_secs(DEFAULT_TIMEOUT));
    let body = json!({
        "action": "device/reboot",
        "devices": [{"typeId": device.type_id(), "deviceId": device.device_id()}],
        "timeout": timeout.as_secs(),
    });
    let answer = client.post("/mgmt/requests", &body).await?;
    let id = answer["reqId"].as_str().unwrap_or_default().to_owned();
    if !wait {
        if output.is_json() {
            output.value(&answer)?;
        } else {
            output.line(&format!(
                "the reboot of {device} is requested ({id}); --wait follows such a request to its end"
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let path = format!(
        "/mgmt/requests/{id}/deviceStatus/{}/{}",
        device.type_id(),
        device.device_id()
    );
    let give_up = Instant::now() + timeout + PATIENCE;
    let mut told = Told::default();
    let mut away = false;
    loop {
        match client.get(&path).await {
            Ok(row) => {
                away = false;
                if !output.is_json() {
                    told.tell(device, &row, output)?;
                }
                if row["complete"] == true {
                    return end(device, id, row, output);
                }
            }
            Err(error) if error.is_passing() => {
                if !away {
                    output::error(&format!("{error}; still waiting"));
                }
                away = true;
            }
            Err(error) => return Err(error),
        }
        if Instant::now() >= give_up {
            output::error(&format!(
                "the service says nothing final about the reboot of {device}, even {} s after its timeout; \
                 is it connected to the broker? its log says so",
                PATIENCE.as_secs()
            ));
            return Ok(ExitCode::FAILURE);
        }
        sleep(POLL).await;
    }
}

/// Which steps have been printed.
#[derive(Debug, Default)]
struct Told(Vec<&'static str>);

impl Told {
    fn tell(&mut self, device: &Device, row: &Value, output: &mut Output) -> Result<(), CallError> {
        for (step, text) in [
            ("requested", "requested"),
            ("sent", "sent: the broker has the request"),
            ("accepted", "accepted (202): the device is going down"),
        ] {
            if let Some(at) = row[step].as_str()
                && !self.0.contains(&step)
            {
                self.0.push(step);
                output.line(&format!("{at:<24}  {device}  {text}"))?;
            }
        }
        Ok(())
    }
}

fn end(device: &Device, id: String, mut row: Value, output: &mut Output) -> Result<ExitCode, CallError> {
    let done = row["status"] == 0;
    if output.is_json() {
        row["id"] = id.into();
        output.value(&row)?;
    } else {
        let at = row["completed"].as_str().unwrap_or_default();
        output.line(&format!("{at:<24}  {device}  {}", plain(&outcome(&row))))?;
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How it ended, in words.
fn outcome(row: &Value) -> String {
    let message = row["message"].as_str().unwrap_or("no reason given");
    let accepted = row["accepted"].as_str();
    match (row["status"].as_u64(), accepted, row["rc"].as_u64()) {
        (Some(0), accepted, _) => {
            let from = accepted.and_then(timestamp::parse);
            let to = row["completed"].as_str().and_then(timestamp::parse);
            match from.zip(to) {
                Some((from, to)) => {
                    let tenths = (to - from) / 100;
                    format!(
                        "managed again: it is back, {}.{} s after it accepted",
                        tenths / 10,
                        tenths % 10
                    )
                }
                None => "managed again: it is back".into(),
            }
        }
        (Some(3), ..) => format!("timed out: {message}"),
        (_, Some(_), Some(rc)) if rc != 202 => {
            format!("did not happen: after its 202 the device answered {rc}: {message}")
        }
        (_, None, Some(rc)) => format!("refused: the device answered {rc}: {message}"),
        _ => format!("failed: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_said_plainly() {
        for (row, said) in [
            (
                json!({"status": 0, "accepted": "2024-05-01T10:00:00.200Z", "completed": "2024-05-01T10:00:22.650Z"}),
                "managed again: it is back, 22.4 s after it accepted",
            ),
            (
                json!({"status": 2, "rc": 500, "message": "blocked by apt"}),
                "refused: the device answered 500: blocked by apt",
            ),
            (
                json!({"status": 2, "rc": 500, "accepted": "2024-05-01T10:00:00Z", "message": "still up"}),
                "did not happen: after its 202 the device answered 500: still up",
            ),
            (
                json!({"status": 2, "message": "cancelled by the operator"}),
                "failed: cancelled by the operator",
            ),
            (
                json!({"status": 2, "rc": 202, "accepted": "2024-05-01T10:00:00Z", "message": "the device was unmanaged"}),
                "failed: the device was unmanaged",
            ),
            (
                json!({"status": 3, "message": "the device did not answer in time"}),
                "timed out: the device did not answer in time",
            ),
        ] {
            assert_eq!(outcome(&row), said);
        }
    }
}
