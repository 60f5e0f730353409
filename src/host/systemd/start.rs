//! The start of a unit, followed to the end of its job.
//!
//! Facts: `org.freedesktop.systemd1(5)`, StartUnit and JobRemoved; the results of a job stand there too. Signals come
//! only after Subscribe.

use std::time::Duration;

use futures_util::StreamExt;

use super::{BusError, Systemd};
use crate::host::bus::Cause;

const START: &str = "systemd1 StartUnit";

/// Why a unit was not started, or did not get to where it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartFailed {
    /// polkit, or systemd before it, does not let us. The text says what to check.
    #[error("{0}")]
    NotPermitted(String),
    /// There is no such unit, or it is masked.
    #[error("{0}")]
    NotThere(String),
    /// The host is going down: a job that cannot be called off is in the way.
    #[error("the host is going down already")]
    GoingDown,
    /// The job ended otherwise than by success; `units` are those that failed of what the unit pulls in.
    #[error("its job ended with \"{result}\"{}", failed(.units))]
    Job {
        /// systemd's word: `failed`, `dependency`, `timeout`, `canceled`, `skipped`.
        result: String,
        /// The names of units.
        units: Vec<String>,
    },
    /// Nobody knows: no reply, the bus broke, or the job takes longer than was waited for. It may go on.
    #[error("it is not known how it went on: {0}")]
    Unknown(String),
    /// Anything else; nothing was done.
    #[error("{0}")]
    Failed(String),
}

fn failed(units: &[String]) -> String {
    match units {
        [] => String::new(),
        units => format!(" because {} failed", units.join(", ")),
    }
}

impl Systemd {
    /// Starts the unit `name` in a way that no later job can call off (`replace-irreversibly`), and waits for the end of
    /// its job, but no longer than `limit`.
    ///
    /// # Errors
    /// See [`StartFailed`]. After [`StartFailed::Unknown`] the unit may be started all the same.
    pub async fn start(&self, name: &str, limit: Duration) -> Result<(), StartFailed> {
        let failed = |error: zbus::Error| StartFailed::Failed(BusError::new(START, &error).to_string());
        let mut removed = self.manager.receive_job_removed().await.map_err(failed)?;
        self.manager.subscribe().await.map_err(failed)?;
        let job = self.manager.start_unit(name, "replace-irreversibly").await;
        let job = job.map_err(|error| refusal(name, BusError::new(START, &error)))?;
        let end = async {
            while let Some(signal) = removed.next().await {
                if let Ok(end) = signal.args()
                    && end.job == job
                {
                    return Some(end.result.clone());
                }
            }
            None
        };
        match tokio::time::timeout(limit, end).await {
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(Some(result)) => Err(StartFailed::Job {
                units: self.failed_of(name).await,
                result,
            }),
            Ok(None) => Err(StartFailed::Unknown("the connection to the system bus was lost".into())),
            Err(_) => Err(StartFailed::Unknown(format!(
                "its job has not ended within {} s",
                limit.as_secs()
            ))),
        }
    }

    /// Which of the units that `name` pulls in have failed, itself included; none when systemd does not say.
    async fn failed_of(&self, name: &str) -> Vec<String> {
        let mut units = self.pulled_in_by(name).await.unwrap_or_default();
        units.push(name.to_owned());
        let failed = self.failed_units().await.unwrap_or_default();
        units.retain(|unit| failed.contains(unit));
        units
    }
}

fn refusal(unit: &str, error: BusError) -> StartFailed {
    let Cause::Refused { name, text } = &error.cause else {
        return match error.cause {
            Cause::NoReply | Cause::Lost(_) => StartFailed::Unknown(error.to_string()),
            _ => StartFailed::Failed(error.to_string()),
        };
    };
    match name.rsplit('.').next().unwrap_or(name) {
        "InteractiveAuthorizationRequired" | "AccessDenied" => StartFailed::NotPermitted(format!(
            "polkit does not let the agent start {unit} ({text}): iotdm-agent check says which rule is needed"
        )),
        "NoSuchUnit" | "LoadFailed" | "BadUnitSetting" => {
            StartFailed::NotThere(format!("{unit} cannot be loaded: {text}"))
        }
        "UnitMasked" => StartFailed::NotThere(format!("{unit} is masked: systemctl unmask {unit}")),
        "TransactionIsDestructive" | "ShuttingDown" => StartFailed::GoingDown,
        _ => StartFailed::Failed(error.to_string()),
    }
}
