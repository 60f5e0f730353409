//! How far a download is, told now and then; and how fast it may go.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Progress;

/// Progress is told this often at most.
const TELL: Duration = Duration::from_millis(250);

/// Counts what passes.
pub(super) struct Meter<F> {
    progress: F,
    told: Option<Instant>,
    bytes_per_second: Option<u64>,
    /// When what has passed may have passed.
    due: Instant,
}

impl<F: FnMut(Progress) + Send> Meter<F> {
    pub(super) fn new(progress: F, bytes_per_second: Option<u64>) -> Self {
        Self {
            progress,
            told: None,
            bytes_per_second: bytes_per_second.filter(|limit| *limit > 0),
            due: Instant::now(),
        }
    }

    /// Tells it whatever was told before.
    pub(super) fn tell(&mut self, received: u64, total: Option<u64>) {
        self.told = Some(Instant::now());
        (self.progress)(Progress { received, total });
    }

    /// `count` bytes have passed; comes back when the next may.
    pub(super) async fn passed(&mut self, count: usize, received: u64, total: Option<u64>) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.tell(received, total);
        }
        if let Some(limit) = self.bytes_per_second {
            // What was not used is not saved up.
            let took = Duration::from_secs_f64(count as f64 / limit as f64);
            self.due = self.due.max(Instant::now()) + took;
            sleep_until(self.due).await;
        }
    }
}
