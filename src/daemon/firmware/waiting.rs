//! What a reboot into new firmware waits for: that nobody holds the host up, and the time of day.

use std::time::Duration;

use super::Teller;
use crate::agent::Event;
use crate::config::Window;
use crate::host::bus::{Bus, BusError};
use crate::host::clock;
use crate::host::logind::Logind;

/// The locks have no signal that every logind sends: they are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Tells when the locks of others on shutdown have changed, until it is aborted.
pub(super) async fn inhibitors(teller: Teller) {
    let mut known = None;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Ok(blockers) = blockers().await else { continue };
        if known.as_ref().is_some_and(|known| *known != blockers) {
            teller.event(Event::InhibitorsChanged).await;
        }
        known = Some(blockers);
    }
}

async fn blockers() -> Result<Vec<String>, BusError> {
    let bus = Bus::system().await?;
    let blockers = Logind::new(&bus).await?.shutdown_blockers().await?;
    Ok(blockers.iter().map(ToString::to_string).collect())
}

/// Whether the local time of day lies in the window; never while the clock is not set.
pub(super) fn is_open(window: Window) -> bool {
    clock::minute_of_day().is_some_and(|minute| within(window, minute))
}

/// A window may pass midnight.
fn within(window: Window, minute: u16) -> bool {
    if window.from <= window.to {
        (window.from..window.to).contains(&minute)
    } else {
        minute >= window.from || minute < window.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_pass_midnight_and_ends_before_its_last_minute() {
        let night = Window { from: 120, to: 240 };
        assert!(within(night, 120) && within(night, 239) && !within(night, 240) && !within(night, 119));
        let late = Window { from: 1380, to: 60 };
        assert!(within(late, 1439) && within(late, 0) && !within(late, 60) && !within(late, 720));
    }
}
