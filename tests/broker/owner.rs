//! The owner of a session, as a test: starts it with short times and waits for what it tells.

use crate::support::within;
use iotdm::mqtt::{
    Backoff, Broker, Event, Incoming, Options, PublishId, Session, Subscription, TlsFiles, Trouble, start,
};
use std::time::Duration;
use tokio::sync::mpsc;

pub(crate) const CLIENT: &str = "g:acme:edge:gw-1";
pub(crate) const FILTER: &str = "iotdm-1/type/edge/id/gw-1/#";
pub(crate) const REQUEST: &str = "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/reboot";
pub(crate) const RESPONSE: &str = "iotdevice-1/type/edge/id/gw-1/response";

/// Options for a broker on loopback: one required subscription, quick retries, slow ones of an hour.
pub(crate) fn options(port: u16) -> Options {
    let broker = Broker {
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        proxy: None,
    };
    let mut options = Options::new(broker, CLIENT);
    options.subscriptions = vec![Subscription {
        filter: FILTER.to_owned(),
        required: true,
    }];
    options.backoff = Backoff {
        first: Duration::from_millis(20),
        max: Duration::from_millis(100),
        slow_first: Duration::from_secs(3600),
        slow_max: Duration::from_secs(7200),
    };
    options
}

/// The same over TLS to "localhost".
pub(crate) fn tls_options(port: u16, files: TlsFiles) -> Options {
    let mut options = options(port);
    options.broker.host = "localhost".to_owned();
    options.broker.tls = Some(files);
    options
}

pub(crate) struct Owner {
    pub(crate) session: Session,
    pub(crate) events: mpsc::Receiver<Event>,
    /// What became of publishes, as far as events were read.
    pub(crate) refused: Vec<u64>,
    published: Vec<u64>,
    given_back: Vec<u64>,
}

impl Owner {
    pub(crate) fn start(options: Options) -> Self {
        let (session, events) = start(options, 1);
        Self {
            session,
            events,
            refused: Vec::new(),
            published: Vec::new(),
            given_back: Vec::new(),
        }
    }

    /// Waits until the session is connected and subscribed.
    pub(crate) async fn ready(options: Options) -> Self {
        let mut owner = Self::start(options);
        owner.subscribed().await;
        owner
    }

    /// The next event but `Progress`.
    pub(crate) async fn next(&mut self) -> Event {
        self.find("an event", |event| (!matches!(event, Event::Progress)).then_some(event))
            .await
    }

    /// Waits for an event that `pick` likes; others are passed over.
    pub(crate) async fn find<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        within(what, async {
            loop {
                let event = self.events.recv().await.expect("the session lives");
                match &event {
                    Event::PublishRefused { id, .. } => self.refused.push(id.0),
                    Event::Published(id) => self.published.push(id.0),
                    Event::NotPublished(id) => self.given_back.push(id.0),
                    _ => {}
                }
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn connected(&mut self) -> bool {
        self.find("connected", |event| match event {
            Event::Connected { session_present } => Some(session_present),
            _ => None,
        })
        .await
    }

    pub(crate) async fn subscribed(&mut self) {
        self.find("subscribed", |event| matches!(event, Event::Subscribed).then_some(()))
            .await;
    }

    pub(crate) async fn message(&mut self) -> Incoming {
        self.find("a message", |event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
        .await
    }

    pub(crate) async fn trouble(&mut self) -> (Trouble, Duration) {
        self.find("trouble", |event| match event {
            Event::Disconnected { trouble, retry_in } => Some((trouble, retry_in)),
            _ => None,
        })
        .await
    }

    /// Waits until `count` publishes have found their end since the last call: those acknowledged, those given back.
    pub(crate) async fn ends(&mut self, count: usize) -> (Vec<u64>, Vec<u64>) {
        while self.published.len() + self.given_back.len() < count {
            self.find("the end of a publish", |event| {
                matches!(event, Event::Published(_) | Event::NotPublished(_)).then_some(())
            })
            .await;
        }
        (
            std::mem::take(&mut self.published),
            std::mem::take(&mut self.given_back),
        )
    }

    pub(crate) fn publish(&self, id: u64) {
        self.session
            .publish(PublishId(id), RESPONSE.to_owned(), format!("{id}").into_bytes())
            .unwrap();
    }
}
