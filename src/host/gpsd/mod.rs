//! gpsd: where this host is, as often as it is asked for and not more often.
//!
//! gpsd tells every sentence of a receiver to whoever watches it: a wake-up a second and more. So here it is *looked* at:
//! once in an interval its reports are switched on, the first complete fix is taken, and they are switched off again.
//! In between the watch stays enabled without reports, which keeps the receiver active. `?POLL` would be one exchange
//! less, and repeats the last fix of a receiver that has fallen silent for ever (`docs/decisions/0012-gpsd-client.md`).
//!
//! Nothing here decides what the service is told; a fix is handed on as it is. Whatever gpsd sends, or something that
//! listens at its address: it is bounded, and what is no fix is none.
//!
//! `lines` and `message` read, `fix` says what counts, `look` sums up, `task` talks. Facts: gpsd_json(5), gpsd(8).

mod backoff;
mod fix;
mod lines;
mod look;
mod message;
mod task;
mod trouble;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use backoff::Backoff;
pub use fix::{Fix, Mode};
pub use trouble::Trouble;

/// Where gpsd is, and how it is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Host and port, such as `127.0.0.1:2947` or `[::1]:2947`.
    pub address: String,
    /// From the beginning of a look to that of the next.
    pub interval: Duration,
    /// The same while there is no fix, if that is shorter: who waits for the first one does not wait for a long interval.
    pub searching: Duration,
    /// How long gpsd may take for anything: to be connected, to greet, to answer; and the receiver for a fix.
    pub patience: Duration,
    /// How long it is listened on for a complete fix once the receiver has said anything. A receiver's cycle is a second.
    pub settle: Duration,
    /// The pauses between connections.
    pub backoff: Backoff,
    /// For the jitter of the pauses: something that differs between devices.
    pub seed: u64,
}

impl Options {
    /// Looks at the gpsd at this address once in this interval; the rest as for a device in the field.
    pub fn new(address: impl Into<String>, interval: Duration) -> Self {
        Self {
            address: address.into(),
            interval,
            searching: Duration::from_secs(60),
            patience: Duration::from_secs(10),
            settle: Duration::from_secs(2),
            backoff: Backoff::default(),
            seed: 0,
        }
    }
}

/// What came of a look, or of the attempt at one.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Here this host is.
    Fix(Fix),
    /// Nobody knows, and why.
    Trouble(Trouble),
}

/// A task that looks at gpsd; it ends when this is dropped.
#[derive(Debug)]
pub struct Gpsd {
    reports: watch::Receiver<Option<Report>>,
    task: JoinHandle<()>,
}

impl Gpsd {
    /// Begins at once, and never gives up.
    pub fn start(options: Options) -> Self {
        let (teller, reports) = watch::channel(None);
        let task = tokio::spawn(task::run(options, teller));
        Self { reports, task }
    }

    /// Waits for the next report: each look's fix, and each trouble when it begins or becomes another. Whoever does not
    /// listen misses all but the newest. May be dropped and called again.
    pub async fn next(&mut self) -> Report {
        loop {
            if self.reports.changed().await.is_err() {
                // The task never ends by itself; if it did, there would be nothing to tell any more.
                std::future::pending::<()>().await;
            }
            if let Some(report) = self.reports.borrow_and_update().clone() {
                return report;
            }
        }
    }
}

impl Drop for Gpsd {
    fn drop(&mut self) {
        self.task.abort();
    }
}
