//! Why nothing more is told of the location, in words for `iotdm-agent location`.

use std::time::Duration;

/// Why nothing more is told. Durations count from now.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Why {
    /// There was no fix since the agent started.
    #[error("there was no fix yet")]
    NoFixYet,
    /// The source said that there is none any more.
    #[error("the fix was lost {} ago", seconds(.ago))]
    Lost {
        /// How long ago.
        ago: Duration,
    },
    /// The source has said nothing for too long.
    #[error("the last fix is {} old; after {} it does not count any more", seconds(.age), seconds(.limit))]
    TooOld {
        /// Of the last fix.
        age: Duration,
        /// The longest that a fix counts.
        limit: Duration,
    },
    /// The last fix is further away than anything travels.
    #[error("the last fix leapt {metres:.0} m away from the one before; it waits for another one to confirm it")]
    Leap {
        /// How far.
        metres: f64,
    },
    /// The service has not answered yet.
    #[error("the service has not answered to the last report yet")]
    InFlight,
    /// It is where it was when the service was told last.
    #[error("it is {metres:.0} m from where the service was told last; more than {needed:.0} m are reported")]
    Near {
        /// How far it is from there.
        metres: f64,
        /// How far it has to be: the configured distance, or what the fixes' errors may come to.
        needed: f64,
    },
    /// It is further away, but the coordinates with so few decimals are the same.
    #[error("with the configured decimals the coordinates are those that the service was told last")]
    SameCell,
    /// It would be told, but for the rate.
    #[error("the last report is too recent; the next may go out in {}", seconds(.left))]
    TooSoon {
        /// How long it has to wait.
        left: Duration,
    },
}

fn seconds(time: &Duration) -> String {
    format!("{} s", time.as_secs_f64().ceil())
}
