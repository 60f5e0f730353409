//! The publishes that are not acknowledged yet: queued here, or in the hands of the MQTT crate.
//!
//! Few are in flight (CON-15), none is retained (CON-16), and each has exactly one end.

use super::session::{Event, PublishId};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rumqttc::{AsyncClient, PublishOptions, QoS};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How many publishes are sent before the first is acknowledged. The platform allows a device 10.
pub(super) const WINDOW: usize = 8;

/// When a publish that waits has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before those of [`Turn::Last`] that wait behind everything else.
    First,
    /// After everything that was published before it.
    InOrder,
    /// The same; but those of [`Turn::First`] may pass it.
    Last,
}

/// A publish as the owner gave it.
pub(super) struct Queued {
    pub(super) turn: Turn,
    pub(super) id: PublishId,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

/// A publish that the MQTT crate has.
struct Handed {
    id: PublishId,
    topic: String,
}

type Outcome = (u64, bool);

/// All publishes without an end.
#[derive(Default)]
pub(super) struct Outbound {
    queue: VecDeque<Queued>,
    /// By the order in which they were handed over.
    handed: BTreeMap<u64, Handed>,
    next: u64,
    outcomes: FuturesUnordered<BoxFuture<'static, Outcome>>,
    /// When the latest ones were handed over, for the rate.
    recent: VecDeque<Instant>,
}

impl Outbound {
    pub(super) fn push(&mut self, publish: Queued) {
        let in_order = |waits: &Queued| waits.turn != Turn::Last;
        let at = match publish.turn {
            Turn::First => self.queue.iter().rposition(in_order).map_or(0, |last| last + 1),
            Turn::InOrder | Turn::Last => self.queue.len(),
        };
        self.queue.insert(at, publish);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.handed.is_empty()
    }

    /// Hands over as many as the window and the rate allow. Returns when the rate allows the next one, if that is what
    /// the queue waits for.
    pub(super) fn hand_over(&mut self, client: &AsyncClient, per_second: Option<u32>) -> Option<Instant> {
        while self.handed.len() < WINDOW && !self.queue.is_empty() {
            if let Some(at) = self.not_before(per_second) {
                return Some(at);
            }
            let Some(Queued { id, topic, payload, .. }) = self.queue.pop_front() else {
                break;
            };
            self.next += 1;
            let order = self.next;
            match client.try_publish_tracked(topic.clone(), payload, PublishOptions::new(QoS::AtLeastOnce)) {
                Ok(notice) => {
                    let outcome = async move { (order, notice.wait_async().await.is_ok()) };
                    self.outcomes.push(outcome.boxed());
                }
                Err(error) => {
                    // Cannot be: the window is smaller than the crate's channel, and the topic was checked.
                    tracing::error!(%error, "the MQTT crate does not take a message");
                    self.outcomes.push(std::future::ready((order, false)).boxed());
                }
            }
            self.handed.insert(order, Handed { id, topic });
            self.recent.push_back(Instant::now());
        }
        None
    }

    fn not_before(&mut self, per_second: Option<u32>) -> Option<Instant> {
        let Some(rate) = per_second.filter(|rate| *rate > 0) else {
            self.recent.clear();
            return None;
        };
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        while self.recent.front().is_some_and(|at| *at + second <= now) {
            self.recent.pop_front();
        }
        if self.recent.len() < rate as usize {
            None
        } else {
            self.recent.front().map(|at| *at + second)
        }
    }

    /// Whether [`outcome`](Self::outcome) has anything to wait for.
    pub(super) fn in_flight(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// The next publish that found its end. Cancel safe. Pending for ever when none is in flight.
    pub(super) async fn outcome(&mut self) -> Outcome {
        match self.outcomes.next().await {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }

    /// What to tell the owner about an outcome.
    pub(super) fn ended(&mut self, (order, acknowledged): Outcome) -> Option<Event> {
        let Handed { id, .. } = self.handed.remove(&order)?;
        Some(if acknowledged {
            Event::Published(id)
        } else {
            Event::NotPublished(id)
        })
    }

    /// The session was reset: whatever was handed over has its end now. Those not handed over stay queued.
    pub(super) fn reset(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(Some(outcome)) = self.outcomes.next().now_or_never() {
            if outcome.1 {
                events.extend(self.ended(outcome));
            }
        }
        self.outcomes.clear();
        events.extend(
            std::mem::take(&mut self.handed)
                .into_values()
                .map(|handed| Event::NotPublished(handed.id)),
        );
        events
    }

    /// The oldest that was handed over and is not acknowledged: its number and topic.
    pub(super) fn oldest(&self) -> Option<(u64, &str)> {
        self.handed
            .first_key_value()
            .map(|(order, handed)| (*order, handed.topic.as_str()))
    }

    /// Gives one up for good.
    pub(super) fn refuse(&mut self, order: u64) -> Option<Event> {
        let Handed { id, topic } = self.handed.remove(&order)?;
        Some(Event::PublishRefused { id, topic })
    }
}
