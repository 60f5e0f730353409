//! Whether this boot is healthy: the named units are active, and on trial it is over, and no unit has failed that had not
//! failed before.

use std::time::Duration;

use super::Teller;
use crate::agent::effect::Health;
use crate::agent::{Event, OpId, Verdict};
use crate::host::bus::{Bus, BusError};
use crate::host::systemd::Systemd;

/// How often systemd is asked. This runs only until a boot has proven itself.
const EVERY: Duration = Duration::from_secs(2);

/// What systemd says of itself until everything that a boot starts has come up or failed (systemctl(1)).
const STARTING: [&str; 2] = ["initializing", "starting"];

/// Tells the verdict at once, and whenever it changes, until it is aborted.
pub(super) async fn watch(op: OpId, health: Health, teller: Teller) {
    let mut told = None;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut systemd = None;
    loop {
        tick.tick().await;
        let verdict = match judge(&mut systemd, &health).await {
            Ok(verdict) => verdict,
            Err(error) => {
                systemd = None;
                Verdict::Pending(format!("systemd does not answer: {error}"))
            }
        };
        if told.as_ref() != Some(&verdict) {
            told = Some(verdict.clone());
            teller.event(Event::Health { op, verdict }).await;
        }
    }
}

async fn judge(kept: &mut Option<Systemd>, health: &Health) -> Result<Verdict, BusError> {
    let systemd = match kept.take() {
        Some(systemd) => systemd,
        None => Systemd::new(&Bus::system().await?).await?,
    };
    let verdict = verdict(&systemd, health).await?;
    *kept = Some(systemd);
    Ok(verdict)
}

async fn verdict(systemd: &Systemd, health: &Health) -> Result<Verdict, BusError> {
    if let Some(before) = &health.failed_before {
        let failed = systemd.failed_units().await?;
        let news: Vec<_> = failed.into_iter().filter(|unit| !before.contains(unit)).collect();
        if !news.is_empty() {
            return Ok(Verdict::Bad(format!("{} has failed", news.join(", "))));
        }
    }
    for name in &health.units {
        let unit = systemd.unit(name).await?;
        match unit.active_state.as_str() {
            "active" | "reloading" => {}
            "failed" => return Ok(Verdict::Bad(format!("{name} has failed"))),
            _ if unit.load_state != "loaded" => {
                return Ok(Verdict::Pending(format!("{name} is {}", unit.load_state)));
            }
            state => return Ok(Verdict::Pending(format!("{name} is {state}"))),
        }
    }
    // What starts last fails last.
    if health.failed_before.is_some() && STARTING.contains(&systemd.system_state().await?.as_str()) {
        return Ok(Verdict::Pending("the host is still starting".into()));
    }
    Ok(Verdict::Good)
}
