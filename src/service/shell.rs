//! Carries events to the brain, its changes to the registry, and its effects to the broker and the watchers, in that
//! order.
//!
//! Nothing here blocks but the commit, which is one fsync. When a commit fails the brain knows more than the
//! registry; the shell then takes no more events, and the process ends: nothing of that step was acknowledged or
//! answered, so the broker delivers it again to the next start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};
use tracing::{debug, error, warn};

use super::brain::{AckToken, Effect, Event, Incoming, PublishId, Refusal, Reply, Service, WatchLine};
use super::outside;
use super::registry::Registry;
use crate::mqtt::{self, NotAccepted, Session};

/// How many lines a watcher may lag behind before it is dropped.
pub const WATCH_BACKLOG: usize = 256;

/// The brain with its hands.
#[derive(Debug)]
pub struct Shell {
    brain: Service,
    registry: Registry,
    session: Option<Session>,
    /// What the session has not taken yet, in order: an acknowledgement never overtakes the answer before it.
    outbound: VecDeque<Outbound>,
    /// The session's tokens of what is not acknowledged yet.
    acks: BTreeMap<AckToken, mqtt::AckToken>,
    next_ack: u64,
    watchers: broadcast::Sender<Arc<WatchLine>>,
    failed: Option<String>,
    failure: Arc<Notify>,
}

#[derive(Debug)]
enum Outbound {
    Publish {
        id: PublishId,
        topic: String,
        payload: Vec<u8>,
    },
    Ack(mqtt::AckToken),
}

/// The registry could not be written; the service ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

/// The shell as the REST face and the process share it.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Shell>>);

impl Shared {
    /// A brain and its registry, without a session yet.
    pub fn new(brain: Service, registry: Registry) -> Self {
        let (watchers, _) = broadcast::channel(WATCH_BACKLOG);
        Shared(Arc::new(Mutex::new(Shell {
            brain,
            registry,
            session: None,
            outbound: VecDeque::new(),
            acks: BTreeMap::new(),
            next_ack: 0,
            watchers,
            failed: None,
            failure: Arc::new(Notify::new()),
        })))
    }

    /// The shell, for a moment; never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Shell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shell {
    /// What the brain knows.
    pub fn brain(&self) -> &Service {
        &self.brain
    }

    /// The diagnostics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Listens to what is said from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<WatchLine>> {
        self.watchers.subscribe()
    }

    /// How many watchers there are.
    pub fn watcher_count(&self) -> usize {
        self.watchers.receiver_count()
    }

    /// Wakes when the service has to end.
    pub fn failure(&self) -> Arc<Notify> {
        Arc::clone(&self.failure)
    }

    /// Why it has to end.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Publishes through this session from now on.
    pub fn use_session(&mut self, session: Session) {
        self.session = Some(session);
    }

    /// Has the session read its credentials anew and connect again at once.
    pub fn reload(&self, options: mqtt::Options) {
        if let Some(session) = &self.session {
            session.reload(options);
        }
    }

    /// Gives the session up, to be stopped.
    pub fn give_session(&mut self) -> Option<Session> {
        self.session.take()
    }

    /// An operator's call.
    ///
    /// # Errors
    /// The registry could not be written.
    pub fn call(&mut self, event: Event) -> Result<Result<Reply, Refusal>, Stopped> {
        let reply = self.steps([event])?;
        reply.ok_or_else(|| Stopped("the service did not answer this call".into()))
    }

    /// Takes in what the session tells. Several events that came together are one transaction.
    ///
    /// # Errors
    /// The registry could not be written.
    pub fn session_events(&mut self, events: impl IntoIterator<Item = mqtt::Event>) -> Result<(), Stopped> {
        let events: Vec<Event> = events.into_iter().filter_map(|event| self.translate(event)).collect();
        self.steps(events)?;
        self.flush();
        Ok(())
    }

    /// Handles events: all their changes in one transaction, then all their effects in order. Returns the reply to
    /// the last call among them.
    ///
    /// # Errors
    /// The registry could not be written; no effect has run.
    pub fn steps(
        &mut self,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Option<Result<Reply, Refusal>>, Stopped> {
        if let Some(why) = &self.failed {
            return Err(Stopped(why.clone()));
        }
        let now = outside::now();
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        for event in events {
            let step = self.brain.handle(now, event);
            changes.extend(step.changes);
            effects.extend(step.effects);
        }
        if let Err(error) = self.registry.commit(&changes) {
            let why = error.to_string();
            error!("{why}; the service ends, and the broker will deliver again what was not acknowledged");
            self.failed = Some(why.clone());
            self.failure.notify_waiters();
            self.failure.notify_one();
            return Err(Stopped(why));
        }
        let mut reply = None;
        for effect in effects {
            match effect {
                Effect::Publish { id, topic, payload } => {
                    self.outbound.push_back(Outbound::Publish { id, topic, payload });
                }
                Effect::Ack(token) => {
                    let ack = self.acks.remove(&token).map(Outbound::Ack);
                    self.outbound.extend(ack);
                }
                Effect::Reply(answer) => reply = Some(answer),
                Effect::Say(line) => self.tell(line),
            }
        }
        self.flush();
        Ok(reply)
    }

    /// Tells the watchers, and the log.
    pub fn tell(&self, line: WatchLine) {
        let device = line.device.as_ref().map(tracing::field::display);
        debug!(
            device,
            operation = line.operation,
            req_id = line.req_id,
            rc = line.rc,
            "{}",
            line.text
        );
        // Nobody may be watching.
        let _ = self.watchers.send(Arc::new(line));
    }

    fn translate(&mut self, event: mqtt::Event) -> Option<Event> {
        let id = |id: mqtt::PublishId| PublishId(id.0);
        Some(match event {
            mqtt::Event::Message(message) => {
                self.next_ack += 1;
                let ack = AckToken(self.next_ack);
                self.acks.insert(ack, message.ack);
                Event::Message(Incoming {
                    topic: message.topic,
                    payload: message.payload,
                    retained: message.retained,
                    ack,
                })
            }
            mqtt::Event::Published(published) => Event::Published(id(published)),
            mqtt::Event::NotPublished(lost) => Event::NotPublished(id(lost)),
            mqtt::Event::PublishRefused { id: refused, topic } => {
                warn!(
                    topic,
                    "the broker refuses what is published here; check its access control list"
                );
                Event::PublishRefused(id(refused))
            }
            mqtt::Event::Disconnected { .. } => Event::Disconnected,
            // The process decides when the session is ready to publish.
            mqtt::Event::Connected { .. }
            | mqtt::Event::Subscribed
            | mqtt::Event::SubscriptionRefused { .. }
            | mqtt::Event::QueueDropped
            | mqtt::Event::Progress => return None,
        })
    }

    /// Hands to the session what it takes.
    fn flush(&mut self) {
        let Some(session) = &self.session else { return };
        while let Some(next) = self.outbound.pop_front() {
            match next {
                Outbound::Ack(token) => session.ack(token),
                Outbound::Publish { id, topic, payload } => {
                    match session.publish(mqtt::PublishId(id.0), topic.clone(), payload.clone()) {
                        Ok(()) => {}
                        Err(NotAccepted::Full) => {
                            self.outbound.push_front(Outbound::Publish { id, topic, payload });
                            return;
                        }
                        Err(error) => warn!(topic, "a message was not published: {error}"),
                    }
                }
            }
        }
    }
}
