//! The session's task: connect, tell the trouble, wait, connect again.
//!
//! What happens while a connection is being made or stands is in `connection`; how long to wait in `backoff`.

use super::acks::AckQueue;
use super::backoff::{Jitter, Pace};
use super::options::Options;
use super::outbound::{Outbound, WINDOW};
use super::session::{Command, Event, MAX_INCOMING, MAX_OUTSTANDING, MAX_PAYLOAD};
use super::subscriptions::Subscriptions;
use super::suspicion::{History, Measure};
use super::trouble::Trouble;
use rumqttc::{AckMode, AsyncClient, EventLoop, ManualAck, MqttOptions};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How a connection, or the attempt to make one, ended.
pub(super) enum End {
    /// The owner stopped the session or is gone.
    Stopped,
    /// The owner wants new options; whether a connection stood.
    Reload(Box<Options>, bool),
    /// A clean session was had on purpose: the broker's queue is dropped.
    Cleaned,
    /// Anything else.
    Lost {
        trouble: Trouble,
        measure: Measure,
        stable: bool,
    },
}

/// All of the session that outlives a connection, except the MQTT crate's event loop.
pub(super) struct Driver {
    pub(super) options: Options,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) events: mpsc::Sender<Event>,
    /// Events that the owner has no room for yet.
    pub(super) pending: VecDeque<Event>,
    outstanding: Arc<AtomicUsize>,
    pub(super) client: AsyncClient,
    pub(super) outbound: Outbound,
    pub(super) subscriptions: Subscriptions,
    /// Optional subscriptions that cost us the connection; not asked again until a reload.
    pub(super) skip: Vec<String>,
    pub(super) acks: AckQueue<ManualAck>,
    pub(super) history: History,
    pub(super) progress_at: Instant,
    jitter: Jitter,
    failures: Failures,
}

/// Failures in a row, for each pace.
#[derive(Default)]
struct Failures {
    ordinary: u32,
    slow: u32,
}

impl Failures {
    fn count(&mut self, pace: Pace) -> u32 {
        let count = match pace {
            Pace::Ordinary => &mut self.ordinary,
            Pace::Slow => &mut self.slow,
        };
        let before = *count;
        *count = count.saturating_add(1);
        before
    }
}

/// What ended a wait.
enum Waited {
    Over,
    Reload(Box<Options>),
    Stopped,
}

impl Driver {
    pub(super) fn new(
        options: Options,
        seed: u64,
        commands: mpsc::UnboundedReceiver<Command>,
        events: mpsc::Sender<Event>,
        outstanding: Arc<AtomicUsize>,
    ) -> (Self, EventLoop) {
        let (client, eventloop) = AsyncClient::builder(mqtt_options(&options, false))
            .capacity(MAX_OUTSTANDING)
            .build();
        let progress_at = Instant::now() + options.limits.progress;
        let driver = Self {
            options,
            commands,
            events,
            pending: VecDeque::new(),
            outstanding,
            client,
            outbound: Outbound::default(),
            subscriptions: Subscriptions::default(),
            skip: Vec::new(),
            acks: AckQueue::new(),
            history: History::default(),
            progress_at,
            jitter: Jitter::new(seed),
            failures: Failures::default(),
        };
        (driver, eventloop)
    }

    pub(super) async fn run(mut self, mut eventloop: EventLoop) {
        let mut clean = false;
        loop {
            let end = self.connection(&mut eventloop, clean).await;
            clean = false;
            // The crate keeps what it read ahead; under the next connection its acknowledgements would be wrong.
            eventloop.clean();
            eventloop.state.events.clear();
            match end {
                End::Stopped => return,
                End::Reload(options, connected) => self.adopt(*options, connected),
                End::Cleaned => {
                    self.history.cleaned();
                    self.emit(Event::QueueDropped);
                }
                End::Lost {
                    trouble,
                    measure,
                    stable,
                } => {
                    if stable {
                        self.failures = Failures::default();
                    }
                    match measure {
                        Measure::None => {}
                        Measure::CleanSession => clean = true,
                        Measure::SkipSubscription(filter) => self.skip_subscription(filter),
                        Measure::RefusePublish(order) => {
                            if let Some(event) = self.outbound.refuse(order) {
                                self.emit(event);
                            }
                            // The crate cannot give up a single message. The others are told `NotPublished`.
                            eventloop.reset_session_state();
                            self.settle_outbound();
                        }
                    }
                    let failures = self.failures.count(trouble.pace());
                    let retry_in = self.options.backoff.delay(trouble.pace(), failures, self.jitter.next());
                    self.emit(Event::Disconnected { trouble, retry_in });
                    match self.wait(retry_in).await {
                        Waited::Over => {}
                        Waited::Reload(options) => self.adopt(*options, false),
                        Waited::Stopped => return,
                    }
                }
            }
        }
    }

    fn adopt(&mut self, options: Options, connected: bool) {
        self.options = options;
        self.failures = Failures::default();
        self.history = History::default();
        self.skip.clear();
        if connected {
            self.emit(Event::Disconnected {
                trouble: Trouble::Reload,
                retry_in: Duration::ZERO,
            });
        }
    }

    fn skip_subscription(&mut self, filter: String) {
        if self
            .options
            .subscriptions
            .iter()
            .any(|it| it.filter == filter && !it.required)
        {
            self.emit(Event::SubscriptionRefused { filter: filter.clone() });
            self.skip.push(filter);
        }
    }

    /// Waits between two attempts, taking commands.
    async fn wait(&mut self, time: Duration) -> Waited {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Publish(publish)) => self.outbound.push(publish),
                    Some(Command::Ack(_)) => {}
                    Some(Command::Reload(options)) => return Waited::Reload(options),
                    Some(Command::Stop) | None => return Waited::Stopped,
                },
                delivered = deliver(&self.events, &mut self.pending), if !self.pending.is_empty() => {
                    if delivered.is_err() {
                        return Waited::Stopped;
                    }
                }
                () = tokio::time::sleep_until(self.progress_at) => self.progress(),
                () = tokio::time::sleep_until(until) => return Waited::Over,
            }
        }
    }

    /// Says that this task is alive, unless the owner does not listen anyway.
    pub(super) fn progress(&mut self) {
        if self.pending.is_empty() {
            self.pending.push_back(Event::Progress);
        }
        self.progress_at = Instant::now() + self.options.limits.progress;
    }

    /// Queues an event for the owner.
    pub(super) fn emit(&mut self, event: Event) {
        if matches!(
            event,
            Event::Published(_) | Event::NotPublished(_) | Event::PublishRefused { .. }
        ) {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
        }
        self.pending.push_back(event);
    }

    /// Tells the end of all publishes that the crate has, because the session they belonged to is gone.
    pub(super) fn settle_outbound(&mut self) {
        for event in self.outbound.reset() {
            self.emit(event);
        }
    }
}

/// The owner listens no more.
pub(super) struct Gone;

/// Gives the owner the oldest event once there is room. Cancel safe.
pub(super) async fn deliver(events: &mpsc::Sender<Event>, pending: &mut VecDeque<Event>) -> Result<(), Gone> {
    let permit = events.reserve().await.map_err(|_| Gone)?;
    if let Some(event) = pending.pop_front() {
        permit.send(event);
    }
    Ok(())
}

/// The crate's options for the next connection, without credentials and socket.
pub(super) fn mqtt_options(options: &Options, clean: bool) -> MqttOptions {
    let mut mqtt = MqttOptions::new(
        options.client_id.clone(),
        (options.broker.host.clone(), options.broker.port),
    );
    // An empty client id panics on a persistent session; the broker refuses it on a clean one with CONNACK 2, which is
    // reported in words.
    mqtt.set_clean_session(clean || options.client_id.is_empty())
        .set_keep_alive(options.keep_alive_secs())
        .set_ack_mode(AckMode::Manual)
        .set_inflight(WINDOW as u16)
        .set_read_batch_size(8)
        .set_max_packet_size(MAX_INCOMING, MAX_PAYLOAD + 65_535 + 16);
    mqtt
}
