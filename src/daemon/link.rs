//! The daemon's end of the session: publishes go out, and what the session tells becomes events for the brain.

use std::time::Instant;

use tokio::sync::mpsc;

use super::connection::Connection;
use super::logging;
use super::pulse::Task;
use super::run::Daemon;
use crate::agent::event::Message;
use crate::agent::{AckId, Event, PublishId};
use crate::mqtt::{self, Session};

/// A session and what it tells.
pub(super) struct Link {
    pub(super) session: Session,
    pub(super) events: mpsc::Receiver<mqtt::Event>,
}

impl Daemon {
    pub(super) fn publish(&mut self, id: PublishId, topic: String, payload: Vec<u8>) {
        let Some(link) = &self.session else { return };
        if let Err(error) = link.session.publish(mqtt::PublishId(id.0), topic, payload) {
            tracing::error!("a message could not be sent: {error}");
            self.events.push_back(Event::PublishRefused(id));
        } else {
            self.outstanding.insert(id);
        }
    }

    /// The session told the end of a publish.
    fn ended(&mut self, id: mqtt::PublishId) -> PublishId {
        let id = PublishId(id.0);
        self.outstanding.remove(&id);
        id
    }

    pub(super) fn session_event(&mut self, event: mqtt::Event) {
        self.pulse.beat(Task::Session);
        match event {
            mqtt::Event::Connected { session_present } => {
                self.connection = Connection::Connected;
                self.events.push_back(Event::Connected { session_present });
            }
            mqtt::Event::Subscribed => {
                self.connection = Connection::Subscribed(Instant::now());
                tracing::info!(MESSAGE_ID = logging::CONNECTED, "connected to the service");
                self.events.push_back(Event::Subscribed);
            }
            mqtt::Event::SubscriptionRefused { filter } => {
                tracing::warn!(
                    "the broker does not allow the subscription {filter}; refusals of the broker will not be heard"
                );
            }
            mqtt::Event::Message(incoming) => {
                self.next_ack += 1;
                let ack = AckId(self.next_ack);
                self.acks.insert(ack, incoming.ack);
                self.events.push_back(Event::Message(Message {
                    topic: incoming.topic,
                    payload: incoming.payload,
                    retained: incoming.retained,
                    dup: incoming.dup,
                    ack,
                }));
            }
            mqtt::Event::Published(id) => {
                let id = self.ended(id);
                self.events.push_back(Event::Published(id));
            }
            mqtt::Event::NotPublished(id) => {
                let id = self.ended(id);
                self.events.push_back(Event::NotPublished(id));
            }
            mqtt::Event::PublishRefused { id, topic } => {
                tracing::error!("the broker ends the connection after every message on {topic}: check its ACL");
                let id = self.ended(id);
                self.events.push_back(Event::PublishRefused(id));
            }
            mqtt::Event::QueueDropped => {
                tracing::error!(
                    "the broker's queue for this device was dropped: it held a packet that is too large to be received"
                );
            }
            mqtt::Event::Disconnected { trouble, retry_in } => {
                let text = trouble.to_string();
                tracing::warn!(
                    MESSAGE_ID = logging::DISCONNECTED,
                    "not connected: {text}; next attempt in {} s",
                    retry_in.as_secs()
                );
                self.connection = Connection::trouble(trouble, retry_in);
                self.events.push_back(Event::Disconnected);
            }
            mqtt::Event::Progress => {}
        }
    }

    /// Ends the session. What it had not delivered is the brain's again.
    pub(super) async fn leave(&mut self) {
        let Some(Link { session, mut events }) = self.session.take() else {
            return;
        };
        session.stop().await;
        self.pulse.rest(Task::Session);
        while let Ok(event) = events.try_recv() {
            if let mqtt::Event::Published(id) = event {
                let id = self.ended(id);
                self.events.push_back(Event::Published(id));
            }
        }
        self.events.push_back(Event::Disconnected);
        let lost = std::mem::take(&mut self.outstanding);
        self.events.extend(lost.into_iter().map(Event::NotPublished));
        self.drain().await;
    }
}

/// The next event of the session; never, when there is none.
pub(super) async fn next_event(session: &mut Option<Link>) -> Option<mqtt::Event> {
    match session {
        Some(link) => link.events.recv().await,
        None => std::future::pending().await,
    }
}
