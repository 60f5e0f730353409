//! The daemon's end of the session: publishes go out, and what the session tells becomes events for the brain.

use std::time::Instant;

use tokio::sync::mpsc;

use super::check::Tried;
use super::connection::Connection;
use super::logging;
use super::pulse::Task;
use super::run::Daemon;
use crate::agent::event::Message;
use crate::agent::{AckId, Event, PublishId};
use crate::config::Configuration;
use crate::mqtt::{self, Session, Trouble, Turn};
use crate::protocol::ToService;

/// A session and what it tells.
pub(super) struct Link {
    pub(super) session: Session,
    pub(super) events: mpsc::Receiver<mqtt::Event>,
}

impl Daemon {
    pub(super) fn publish(&mut self, id: PublishId, topic: String, payload: Vec<u8>) {
        let Some(link) = &self.session else {
            // `Disconnected` is on its way to the brain, before this.
            self.events.push_back(Event::NotPublished(id));
            return;
        };
        let publish = link
            .session
            .publish_in(turn(&topic), mqtt::PublishId(id.0), topic.clone(), payload);
        match publish {
            // A session that has ended by itself is left, and gives back what it has not delivered.
            Ok(()) | Err(mqtt::NotAccepted::Ended) => {
                self.outstanding.insert(id);
            }
            Err(error) => {
                let reason = format!("a message to {topic} cannot be sent: {error}");
                self.events.push_back(Event::PublishRefused { id, reason });
            }
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
                self.note_tried();
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
                let id = self.ended(id);
                let reason = format!(
                    "the broker ended the connection three times right after a message to {topic}: check that its access rules (ACL) allow it"
                );
                self.events.push_back(Event::PublishRefused { id, reason });
            }
            mqtt::Event::QueueDropped => {
                tracing::error!(
                    "the broker's queue for this device was dropped, because twice in a row it sent what cannot be received, too large or no MQTT (see above): ask again for what was asked of the device meanwhile"
                );
            }
            mqtt::Event::Disconnected { trouble, retry_in } => {
                let text = trouble.to_string();
                tracing::warn!(
                    MESSAGE_ID = logging::DISCONNECTED,
                    "not connected: {text}; next attempt in {} s",
                    retry_in.as_secs()
                );
                self.note_tried();
                self.connection = match trouble {
                    Trouble::Reload => Connection::Connecting,
                    trouble => Connection::trouble(trouble, retry_in),
                };
                self.events.push_back(Event::Disconnected);
            }
            mqtt::Event::Progress => {}
        }
    }

    /// What this event of the session speaks for.
    fn note_tried(&mut self) {
        if let Configuration::Configured(settings) = &self.configuration.settings {
            self.tried = Some(Tried::now(settings));
        }
    }

    /// Ends the session. What it had not delivered is the brain's again.
    pub(super) async fn leave(&mut self) {
        let Some(Link { session, mut events }) = self.session.take() else {
            return;
        };
        session.stop().await;
        self.pulse.rest(Task::Session);
        // First, or the brain goes on publishing when it hears that there is room again.
        self.events.push_back(Event::Disconnected);
        while let Ok(event) = events.try_recv() {
            if let mqtt::Event::Published(id) = event {
                let id = self.ended(id);
                self.events.push_back(Event::Published(id));
            }
        }
        let lost = std::mem::take(&mut self.outstanding);
        self.events.extend(lost.into_iter().map(Event::NotPublished));
        self.drain().await;
    }
}

/// A request's answer does not wait for logs. It passes nothing else: a manage tells the service how things stand, and what
/// was to precede it does.
fn turn(topic: &str) -> Turn {
    match ToService::parse(topic) {
        Ok((_, ToService::Response)) => Turn::First,
        Ok((_, ToService::AddLog | ToService::ClearLogs)) => Turn::Last,
        _ => Turn::InOrder,
    }
}

/// The next event of the session; never, when there is none.
pub(super) async fn next_event(session: &mut Option<Link>) -> Option<mqtt::Event> {
    match session {
        Some(link) => link.events.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::agent::{Agent, Durable, Settings, firmware};
    use crate::config::{Configuration, Loaded};
    use crate::daemon::Environment;
    use crate::daemon::disk::Disk as Files;
    use crate::mqtt::{Broker, Options};
    use crate::protocol::Address;
    use crate::protocol::model::DeviceInfo;

    const BOOT: &str = "0123456789abcdef0123456789abcdef";

    /// A daemon whose brain knows this, without a session.
    fn daemon(folder: &Path, durable: Durable) -> Daemon {
        let settings = Settings {
            identity: "d:acme:edge:gw-1".to_owned(),
            service: "mqtt://127.0.0.1:1".to_owned(),
            address: Address::Session,
            lifetime: 0,
            metadata: None,
            device_info: DeviceInfo::default(),
            configured_info: DeviceInfo::default(),
            location: None,
            tracking: None,
            diagnostics: None,
            reboot_enabled: true,
            reset_enabled: true,
            firmware: firmware::Settings::default(),
            boot_id: BOOT.to_owned(),
        };
        let (files, _) = Files::open(folder).unwrap();
        let environment = Environment {
            credentials: None,
            state_directory: None,
            runtime_directory: None,
            boot_id: None,
            journal_directory: None,
            journal: false,
        };
        let configuration = Loaded {
            settings: Configuration::NotConfigured { missing: Vec::new() },
            files: Vec::new(),
            warnings: Vec::new(),
        };
        let path = folder.join("config.toml");
        let happenings = mpsc::channel(16).0;
        let boot_id = BOOT.to_owned();
        let mut daemon = Daemon::new(
            &path,
            environment,
            boot_id,
            folder.to_owned(),
            files,
            configuration,
            happenings,
        );
        daemon.agent = Some(Agent::new(settings, durable, Vec::new(), [0; 16]));
        daemon
    }

    /// A session that takes publishes and reaches nobody, and what the test lets it tell.
    fn link() -> (Link, mpsc::Sender<mqtt::Event>) {
        let broker = Broker {
            host: "127.0.0.1".to_owned(),
            // nobody listens on it, and nobody may
            port: 1,
            tls: None,
            proxy: None,
        };
        let mut options = Options::new(broker, "d:acme:edge:gw-1");
        options.limits.stop = Duration::from_millis(100);
        let (session, mut unheard) = mqtt::start(options, 0);
        tokio::spawn(async move { while unheard.recv().await.is_some() {} });
        let (tell, events) = mpsc::channel(64);
        (Link { session, events }, tell)
    }

    /// So many requests were answered, and the broker has none of the answers.
    fn owes_answers(count: usize) -> Durable {
        let handled: Vec<_> = (0..count)
            .map(|n| {
                serde_json::json!({
                    "key": {"op": "reboot", "hash": format!("{n:02}")},
                    "req_id": format!("r{n}"),
                    "answer": {"rc": 501},
                })
            })
            .collect();
        let json = serde_json::json!({"wish": "unmanaged", "handled": handled});
        Durable::from_json(json.to_string().as_bytes()).unwrap()
    }

    async fn connected(daemon: &mut Daemon) -> mpsc::Sender<mqtt::Event> {
        let (link, tell) = link();
        daemon.session = Some(link);
        daemon.session_event(mqtt::Event::Connected { session_present: false });
        daemon.session_event(mqtt::Event::Subscribed);
        daemon.drain().await;
        tell
    }

    #[tokio::test]
    async fn what_the_broker_acknowledges_while_the_session_ends_lets_nothing_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = daemon(folder.path(), owes_answers(10));
        let tell = connected(&mut daemon).await;
        let sent: Vec<_> = daemon.outstanding.iter().copied().collect();
        assert_eq!(sent.len(), 8, "as many as may be in flight");
        for id in &sent[..2] {
            tell.send(mqtt::Event::Published(mqtt::PublishId(id.0))).await.unwrap();
        }
        daemon.leave().await;
        assert_eq!(daemon.agent.as_ref().unwrap().status().answers_owed, 8);
        assert!(daemon.outstanding.is_empty());

        connected(&mut daemon).await;
        assert_eq!(daemon.outstanding.len(), 8, "all that is owed goes to the next session");
    }

    #[tokio::test]
    async fn what_the_brain_publishes_without_a_session_comes_back_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = daemon(folder.path(), owes_answers(3));
        // The brain has not seen the subscription yet when the session goes.
        let (link, _tell) = link();
        daemon.session = Some(link);
        daemon.session_event(mqtt::Event::Subscribed);
        daemon.leave().await;

        connected(&mut daemon).await;
        assert_eq!(daemon.outstanding.len(), 3);
    }

    #[tokio::test]
    async fn why_a_publish_is_given_up_is_told_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = daemon(folder.path(), Durable::default());
        let _tell = connected(&mut daemon).await;
        let told = |daemon: &mut Daemon| match daemon.events.pop_back() {
            Some(Event::PublishRefused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        daemon.publish(
            PublishId(7),
            "iotdevice-1/x".to_owned(),
            vec![b'x'; mqtt::MAX_PAYLOAD + 1],
        );
        let reason = told(&mut daemon);
        assert!(
            reason.contains("131073 bytes") && reason.contains("iotdevice-1/x"),
            "{reason}"
        );
        assert!(!reason.contains("ACL"), "{reason}");
        daemon.session_event(mqtt::Event::PublishRefused {
            id: mqtt::PublishId(7),
            topic: "iotdevice-1/x".to_owned(),
        });
        let reason = told(&mut daemon);
        assert!(
            reason.contains("three times") && reason.contains("check that its access rules (ACL)"),
            "{reason}"
        );
    }
    #[test]
    fn a_response_passes_logs_and_nothing_else() {
        for (tail, expected) in [
            ("response", Turn::First),
            ("add/diag/log", Turn::Last),
            ("clear/diag/log", Turn::Last),
            ("mgmt/manage", Turn::InOrder),
            ("notify", Turn::InOrder),
            ("add/diag/errorCodes", Turn::InOrder),
        ] {
            for address in ["iotdevice-1/", "iotdevice-1/type/t/id/d/"] {
                assert_eq!(turn(&format!("{address}{tail}")), expected, "{tail}");
            }
        }
    }
}
