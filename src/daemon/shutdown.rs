//! The way down: asking logind for a reboot, and hearing from it whether the host goes down.

use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::Happening;
use crate::agent::{OpId, RebootOutcome};
use crate::host::bus::Bus;
use crate::host::logind::{Logind, RebootRefused};
use crate::protocol::Rc;

/// How long after a loss of the bus the next attempt is made to listen.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks for the reboot, in the order that keeps the answer true: locks of others, permission, a delay lock of our own
/// (so that the 202 gets out), the reboot. Tells the outcome as [`Happening::RebootEnded`].
pub(super) async fn reboot(op: OpId, happenings: mpsc::Sender<Happening>) {
    let (outcome, lock) = ask().await;
    // Nobody listens any more when the daemon stops; then the state on the disk decides.
    let _ = happenings.send(Happening::RebootEnded { op, outcome, lock }).await;
}

async fn ask() -> (RebootOutcome, Option<OwnedFd>) {
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("logind could not be asked: {error}");
        (
            RebootOutcome::Refused {
                rc: Rc::INTERNAL,
                message,
            },
            None,
        )
    };
    let bus = match Bus::system().await {
        Ok(bus) => bus,
        Err(error) => return failed(&error),
    };
    let logind = match Logind::new(&bus).await {
        Ok(logind) => logind,
        Err(error) => return failed(&error),
    };
    if let Err(refused) = logind.preflight().await {
        return (outcome(refused), None);
    }
    // Without the lock the reboot is as good; only the 202 may come after it.
    let lock = match logind
        .take_delay_lock("telling the service that the host reboots")
        .await
    {
        Ok(lock) => Some(lock),
        Err(error) => {
            tracing::warn!("no delay lock from logind, so the answer may follow after the reboot: {error}");
            None
        }
    };
    match logind.reboot().await {
        Ok(()) => (RebootOutcome::Accepted, lock),
        Err(refused) => {
            let outcome = outcome(refused);
            let lock = lock.filter(|_| outcome == RebootOutcome::Accepted);
            (outcome, lock)
        }
    }
}

fn outcome(refused: RebootRefused) -> RebootOutcome {
    match refused {
        RebootRefused::InProgress => RebootOutcome::Accepted,
        RebootRefused::Unknown(_) => RebootOutcome::Unknown,
        RebootRefused::NotSupported => RebootOutcome::Refused {
            rc: Rc::NOT_IMPLEMENTED,
            message: refused.to_string(),
        },
        RebootRefused::Blocked(_) | RebootRefused::NotPermitted(_) | RebootRefused::Failed(_) => {
            RebootOutcome::Refused {
                rc: Rc::INTERNAL,
                message: refused.to_string(),
            }
        }
    }
}

/// Tells every `PrepareForShutdown` of logind, for ever; `alive` is called about every 10 s.
pub(super) async fn watch(happenings: mpsc::Sender<Happening>, alive: impl Fn()) {
    let mut pulse = tokio::time::interval(Duration::from_secs(10));
    loop {
        match listen(&happenings, &mut pulse, &alive).await {
            Ok(()) => return,
            Err(error) => tracing::debug!("logind's signals are not heard for the moment: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
        alive();
    }
}

/// `Ok` when nobody wants to hear any more.
async fn listen(
    happenings: &mpsc::Sender<Happening>,
    pulse: &mut tokio::time::Interval,
    alive: &impl Fn(),
) -> Result<(), crate::host::bus::BusError> {
    let bus = Bus::system().await?;
    let mut signals = Logind::new(&bus).await?.prepare_for_shutdown().await?;
    loop {
        tokio::select! {
            _ = pulse.tick() => alive(),
            signal = signals.next() => match signal {
                Some(preparing) => {
                    if happenings.send(Happening::PreparingForShutdown(preparing)).await.is_err() {
                        return Ok(());
                    }
                }
                None => {
                    return Err(crate::host::bus::BusError {
                        call: "login1 PrepareForShutdown",
                        cause: crate::host::bus::Cause::Lost("the stream ended".into()),
                    });
                }
            },
        }
    }
}
