//! `iotdm reboot` and `iotdm factory-reset`: asks for it and, with `--wait`, follows it to its end.
//!
//! Both go the same way (REST API v0002, "device management requests"): 202, then a manage. They differ in their words.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::brain::{Action, DEFAULT_RESET_TIMEOUT, DEFAULT_TIMEOUT};
use super::client::{CallError, Client};
use super::output::{self, Output, plain};
use crate::protocol::{Device, timestamp};

/// How often the service is asked how the request stands.
const POLL: Duration = Duration::from_millis(300);
/// How long after its timeout the service may take to say so.
const PATIENCE: Duration = Duration::from_secs(60);

/// An action on the device itself, and how it is spoken of.
#[derive(Debug)]
pub(super) struct Kind {
    action: Action,
    noun: &'static str,
    /// After the 202.
    accepted: &'static str,
    /// After the manage.
    done: &'static str,
    /// After a 202 and then an error.
    undone: &'static str,
    /// How long it may take, in seconds.
    timeout: u64,
}

pub(super) const REBOOT: Kind = Kind {
    action: Action::Reboot,
    noun: "reboot",
    accepted: "the device is going down",
    done: "it is back",
    undone: "did not happen",
    timeout: DEFAULT_TIMEOUT,
};

pub(super) const FACTORY_RESET: Kind = Kind {
    action: Action::FactoryReset,
    noun: "factory reset",
    accepted: "the device resets itself and comes back",
    done: "it is reset and back",
    // Nothing was wiped, or not all of it: the device's message says which.
    undone: "did not succeed",
    timeout: DEFAULT_RESET_TIMEOUT,
};

/// Asks the service; `wait` follows the request to its end.
pub(super) async fn initiate(
    client: &Client,
    output: &mut Output,
    kind: &Kind,
    device: &Device,
    wait: bool,
    timeout: Option<Duration>,
) -> Result<ExitCode, CallError> {
    let timeout = timeout.unwrap_or(Duration::from_secs(kind.timeout));
    let body = json!({
        "action": kind.action.as_str(),
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
                "the {} of {device} is requested ({id}); --wait follows such a request to its end",
                kind.noun
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
                    told.tell(kind, device, &row, output)?;
                }
                if row["complete"] == true {
                    return end(kind, device, id, row, output);
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
                "the service says nothing final about the {} of {device}, even {} s after its timeout; \
                 is it connected to the broker? its log says so",
                kind.noun,
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
    fn tell(&mut self, kind: &Kind, device: &Device, row: &Value, output: &mut Output) -> Result<(), CallError> {
        for (step, text) in [
            ("requested", "requested".to_owned()),
            ("sent", "sent: the broker has the request".to_owned()),
            ("accepted", format!("accepted (202): {}", kind.accepted)),
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

fn end(kind: &Kind, device: &Device, id: String, mut row: Value, output: &mut Output) -> Result<ExitCode, CallError> {
    let done = row["status"] == 0;
    if output.is_json() {
        row["id"] = id.into();
        output.value(&row)?;
    } else {
        let at = row["completed"].as_str().unwrap_or_default();
        output.line(&format!("{at:<24}  {device}  {}", plain(&outcome(kind, &row))))?;
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How it ended, in words.
fn outcome(kind: &Kind, row: &Value) -> String {
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
                        "managed again: {}, {}.{} s after it accepted",
                        kind.done,
                        tenths / 10,
                        tenths % 10
                    )
                }
                None => format!("managed again: {}", kind.done),
            }
        }
        (Some(3), ..) => format!("timed out: {message}"),
        (_, Some(_), Some(rc)) if rc != 202 => {
            format!("{}: after its 202 the device answered {rc}: {message}", kind.undone)
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
            assert_eq!(outcome(&REBOOT, &row), said);
        }
    }

    #[test]
    fn a_reset_that_is_done_is_no_mere_reboot_and_one_that_is_not_may_have_wiped_a_part() {
        for (row, said) in [
            (
                json!({"status": 0, "accepted": "2024-05-01T10:00:00Z", "completed": "2024-05-01T10:03:00Z"}),
                "managed again: it is reset and back, 180.0 s after it accepted",
            ),
            (
                json!({"status": 2, "rc": 500, "accepted": "2024-05-01T10:00:00Z", "message": "/data/app: read-only"}),
                "did not succeed: after its 202 the device answered 500: /data/app: read-only",
            ),
            (
                json!({"status": 2, "rc": 501, "message": "factory-reset.target pulls in nothing"}),
                "refused: the device answered 501: factory-reset.target pulls in nothing",
            ),
        ] {
            assert_eq!(outcome(&FACTORY_RESET, &row), said);
        }
    }
}
