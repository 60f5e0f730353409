//! The start of a unit, followed to the end of its job.
//!
//! Facts: `org.freedesktop.systemd1(5)`, StartUnit and JobRemoved; the results of a job stand there too. Signals come
//! only after Subscribe. The number in a unit's `Job` is 0 while it has none. A unit's `InvocationID` is a new one at each
//! start; a service's `StatusText` is what it has last said with `STATUS=`, and is kept when it has ended.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;

use super::{BusError, JobRemovedStream, OwnedObjectPath, Systemd};
use crate::host::bus::Cause;

const START: &str = "systemd1 StartUnit";
/// The pause between two looks at a unit whose end is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

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
    #[error("its job ended with \"{result}\"{}", because(.units))]
    Job {
        /// systemd's word: `failed`, `dependency`, `timeout`, `canceled`, `skipped`.
        result: String,
        /// In the order of their names.
        units: Vec<FailedUnit>,
    },
    /// Nobody knows: no reply, the bus broke, or the job takes longer than was waited for. It may go on.
    #[error("it is not known how it went on: {0}")]
    Unknown(String),
    /// Anything else; nothing was done.
    #[error("{0}")]
    Failed(String),
}

fn because(units: &[FailedUnit]) -> String {
    let units: Vec<_> = units.iter().map(ToString::to_string).collect();
    match units.as_slice() {
        [] => String::new(),
        units => format!(" because {}", units.join(", ")),
    }
}

/// A unit that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedUnit {
    /// Its name.
    pub name: String,
    /// What it has said of itself last (`STATUS=`); empty when it has said nothing.
    pub said: String,
}

impl fmt::Display for FailedUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.name)?;
        match self.said.as_str() {
            "" => Ok(()),
            said => write!(f, ": {said}"),
        }
    }
}

/// One start of a unit: another start is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation(Vec<u8>);

impl Systemd {
    /// Starts the unit `name` in a way that no later job can call off (`replace-irreversibly`), and waits for the end of
    /// its job, but no longer than `limit`.
    ///
    /// # Errors
    /// See [`StartFailed`]. After [`StartFailed::Unknown`] the unit may be started all the same.
    pub async fn start(&self, name: &str, limit: Duration) -> Result<(), StartFailed> {
        let mut removed = self.jobs().await?;
        let job = self.manager.start_unit(name, "replace-irreversibly").await;
        let job = job.map_err(|error| refusal(name, BusError::new(START, &error)))?;
        self.ended(name, &job, &mut removed, limit).await
    }

    /// Waits for the end of the job that the unit `name` has, but no longer than `limit`; `false`: it has none. Starts
    /// nothing.
    ///
    /// # Errors
    /// [`StartFailed::Job`] when the job has ended otherwise than by success; anything else says nothing about the unit.
    pub async fn follow(&self, name: &str, limit: Duration) -> Result<bool, StartFailed> {
        let mut removed = self.jobs().await?;
        let job = async { self.load(name).await?.job().await };
        let job = job.await.map_err(|error| BusError::new("systemd1 Job", &error));
        match job.map_err(|error| StartFailed::Unknown(error.to_string()))? {
            (0, _) => Ok(false),
            (_, job) => self.ended(name, &job, &mut removed, limit).await.map(|()| true),
        }
    }

    /// The ends of jobs, from now on.
    async fn jobs(&self) -> Result<JobRemovedStream, StartFailed> {
        let failed = |error: zbus::Error| StartFailed::Failed(BusError::new(START, &error).to_string());
        let removed = self.manager.receive_job_removed().await.map_err(failed)?;
        self.manager.subscribe().await.map_err(failed)?;
        Ok(removed)
    }

    async fn ended(
        &self,
        name: &str,
        job: &OwnedObjectPath,
        removed: &mut JobRemovedStream,
        limit: Duration,
    ) -> Result<(), StartFailed> {
        let end = async {
            while let Some(signal) = removed.next().await {
                if let Ok(end) = signal.args()
                    && end.job == *job
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
    async fn failed_of(&self, name: &str) -> Vec<FailedUnit> {
        let mut names = self.pulled_in_by(name).await.unwrap_or_default();
        names.push(name.to_owned());
        let failed = self.failed_units().await.unwrap_or_default();
        let mut units = Vec::new();
        for name in names.into_iter().filter(|name| failed.contains(name)) {
            units.push(self.failed_unit(name).await);
        }
        units
    }

    async fn failed_unit(&self, name: String) -> FailedUnit {
        let said = async { self.service_named(&name).await?.status_text().await };
        let said = said.await.unwrap_or_default();
        FailedUnit { name, said }
    }

    /// The last start of the unit `name`, to tell the next one from it.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn invocation(&self, name: &str) -> Result<Invocation, BusError> {
        let id = async { self.load(name).await?.invocation_id().await };
        let id = id.await.map_err(|error| BusError::new("systemd1 InvocationID", &error));
        id.map(Invocation)
    }

    /// Waits for the end of the unit `name` in a later start than `before`, but no longer than `limit`. Gives it when it
    /// failed, and nothing when it has ended well, or has not ended, or systemd does not say.
    pub async fn failure_after(&self, name: &str, before: &Invocation, limit: Duration) -> Option<FailedUnit> {
        let end = async {
            loop {
                let unit = self.load(name).await.ok()?;
                if unit.invocation_id().await.ok()? != before.0 {
                    match unit.active_state().await.ok()?.as_str() {
                        "failed" => return Some(self.failed_unit(name.to_owned()).await),
                        "inactive" => return None,
                        _ => {}
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, end).await.ok().flatten()
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
