//! Where the host is: gpsd is looked at for as long as the configuration names it.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::Happening;
use super::run::Daemon;
use crate::agent::Event;
use crate::agent::location::Fix;
use crate::config::{self, Configuration, LocationSource};
use crate::host::gpsd::{Gpsd, Options, Report, Trouble};

/// A look costs a wake-up, and one that comes to rarely a fix that is old.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// How often gpsd is looked at.
pub(super) fn interval(location: &config::Location) -> Duration {
    location.min_interval.clamp(INTERVALS.0, INTERVALS.1)
}

/// The one who looks, and what at.
#[derive(Default)]
pub(super) struct Looking(Option<(String, Duration, JoinHandle<()>)>);

impl Daemon {
    /// Begins to look, goes on, or ends it, as the configuration says.
    pub(super) fn look_for_location(&mut self) {
        let wanted = match &self.configuration.settings {
            Configuration::Configured(settings) => match &settings.location.source {
                LocationSource::Gpsd(address) => Some((address.clone(), interval(&settings.location))),
                LocationSource::Off | LocationSource::Fixed { .. } => None,
            },
            Configuration::NotConfigured { .. } => None,
        };
        let now = self
            .looking
            .0
            .as_ref()
            .map(|(address, interval, _)| (address, interval));
        if now == wanted.as_ref().map(|(address, interval)| (address, interval)) {
            return;
        }
        if let Some((.., task)) = self.looking.0.take() {
            task.abort();
        }
        let Some((address, interval)) = wanted else { return };
        let mut options = Options::new(address.clone(), interval);
        options.seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let happenings = self.happenings.clone();
        let task = tokio::spawn(async move {
            let mut gpsd = Gpsd::start(options);
            loop {
                let event = event(gpsd.next().await);
                // Nobody listens any more when the daemon stops.
                if happenings.send(Happening::Event(event)).await.is_err() {
                    return;
                }
            }
        });
        self.looking.0 = Some((address, interval, task));
    }
}

/// Only a receiver that was heard, or was not, says that there is no fix; a gpsd that is away, as while it is restarted,
/// says nothing of it.
fn event(report: Report) -> Event {
    match report {
        Report::Fix(fix) => Event::Fix(Fix {
            latitude: fix.latitude,
            longitude: fix.longitude,
            elevation: fix.altitude,
            accuracy: fix.accuracy,
            measured: fix.time,
        }),
        Report::Trouble(trouble @ (Trouble::NoFix | Trouble::Silent { .. })) => Event::NoFix(trouble.to_string()),
        Report::Trouble(trouble) => Event::NotAsked(trouble.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_receiver_without_a_fix_ends_the_last_one_at_once() {
        let (address, reason, receivers) = ("localhost:2947".to_owned(), String::new(), String::new());
        let ends = |trouble| matches!(event(Report::Trouble(trouble)), Event::NoFix(_));
        assert!(ends(Trouble::NoFix) && ends(Trouble::Silent { receivers }));
        let lost = Trouble::Lost {
            address: address.clone(),
            reason: reason.clone(),
        };
        assert!(!ends(lost) && !ends(Trouble::Unreachable { address, reason }) && !ends(Trouble::NoReceiver));
    }
}
