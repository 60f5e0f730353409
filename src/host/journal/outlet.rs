//! Where batches go: one at a time, and no more often than the pace.

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::batch::Collected;
use super::{Batch, Options};

/// Nobody takes batches any more.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) struct Outlet {
    teller: mpsc::Sender<Batch>,
    taken: mpsc::Receiver<()>,
    /// Since when one is out and not taken yet.
    out: Option<Instant>,
    /// No earlier goes one that is not full.
    due: Instant,
}

impl Outlet {
    pub(super) fn new(teller: mpsc::Sender<Batch>, taken: mpsc::Receiver<()>) -> Self {
        Self {
            teller,
            taken,
            out: None,
            due: Instant::now(),
        }
    }

    /// Whether one is out.
    pub(super) fn waits(&self) -> bool {
        self.out.is_some()
    }

    /// Hands over what was collected if it is time.
    pub(super) fn hand_over(&mut self, collected: &mut Collected, options: &Options) -> Result<(), Closed> {
        let now = Instant::now();
        if self.out.is_some() || now < self.due && !collected.is_full(options) {
            return Ok(());
        }
        let Some(batch) = collected.batch() else {
            return Ok(());
        };
        (self.out, self.due) = (Some(now), now + options.pace);
        // There is room: the one before was taken.
        self.teller.try_send(batch).map_err(|_| Closed)
    }

    /// Waits until there is something to do: the batch that is out is taken (how long that took), or it is time for the
    /// next one (`None`). May be dropped.
    pub(super) async fn ready(&mut self, collected: &Collected) -> Result<Option<Duration>, Closed> {
        match self.out {
            Some(out) => {
                self.taken.recv().await.ok_or(Closed)?;
                self.out = None;
                Ok(Some(out.elapsed()))
            }
            None if collected.is_due() => {
                tokio::time::sleep_until(self.due).await;
                Ok(None)
            }
            None => {
                self.teller.closed().await;
                Err(Closed)
            }
        }
    }
}
