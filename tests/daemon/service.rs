//! The service's side, played by the test: it hears everything that is published, and answers what it is told to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use iotdm::mqtt::{self, Event, Options, PublishId, Session, Subscription};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::within;

/// A message of a device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) topic: String,
    pub(crate) json: Value,
    pub(crate) dup: bool,
}

impl Said {
    pub(crate) fn device(&self) -> &str {
        self.topic.split('/').nth(4).unwrap_or_default()
    }

    pub(crate) fn tail(&self) -> &str {
        self.topic.splitn(6, '/').nth(5).unwrap_or_default()
    }

    pub(crate) fn is_manage(&self) -> bool {
        self.tail() == "mgmt/manage"
    }

    fn answers(&self, req_id: &str) -> bool {
        self.tail() == "response" && self.json["reqId"] == req_id
    }
}

pub(crate) struct Service {
    session: Arc<Session>,
    said: watch::Receiver<Vec<Said>>,
    sent: watch::Receiver<Vec<PublishId>>,
    /// How often its subscription was confirmed.
    subscribed: watch::Receiver<usize>,
    next: Arc<AtomicU64>,
    /// The return code of the answers; `None`: silence.
    answer: Arc<Mutex<Option<u16>>>,
}

impl Service {
    /// Connects to a plain broker without passwords.
    pub(crate) async fn start(port: u16) -> Self {
        Self::start_as(port, None).await
    }

    /// Connects under this name, with a password file.
    pub(crate) async fn start_as(port: u16, login: Option<(&str, &std::path::Path)>) -> Self {
        let broker = mqtt::Broker {
            host: "127.0.0.1".into(),
            port,
            tls: None,
            proxy: None,
        };
        let mut options = Options::new(broker, "a:acme:service");
        options.subscriptions = vec![Subscription {
            filter: "#".into(),
            required: true,
        }];
        options.backoff.max = std::time::Duration::from_millis(500);
        if let Some((user, file)) = login {
            options.username = Some(user.to_owned());
            options.token = mqtt::TokenSource::File(file.to_owned());
        }
        let (session, mut events) = mqtt::start(options, 7);
        let session = Arc::new(session);
        let (said_in, said) = watch::channel(Vec::new());
        let (sent_in, sent) = watch::channel(Vec::new());
        let (subscribed_in, subscribed) = watch::channel(0);
        let service = Self {
            session: Arc::clone(&session),
            said,
            sent,
            subscribed,
            next: Arc::new(AtomicU64::new(1)),
            answer: Arc::new(Mutex::new(Some(200))),
        };
        let (next, answer) = (Arc::clone(&service.next), Arc::clone(&service.answer));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Subscribed => subscribed_in.send_modify(|times| *times += 1),
                    Event::Published(id) => sent_in.send_modify(|sent| sent.push(id)),
                    Event::Message(message) => {
                        session.ack(message.ack);
                        // What this side says comes back, too.
                        if message.topic.starts_with("iotdm-1/") || message.topic.starts_with("test/") {
                            continue;
                        }
                        let said = Said {
                            topic: message.topic,
                            json: serde_json::from_slice(&message.payload).unwrap_or(Value::Null),
                            dup: message.dup,
                        };
                        let rc = *answer.lock().unwrap();
                        if let (Some(rc), true) = (rc, said.tail() != "response") {
                            let id = PublishId(next.fetch_add(1, Ordering::Relaxed));
                            let payload = json!({"rc": rc, "reqId": said.json["reqId"]});
                            let topic = format!("iotdm-1/type/edge/id/{}/response", said.device());
                            session.publish(id, topic, payload.to_string().into_bytes()).unwrap();
                        }
                        said_in.send_modify(|all| all.push(said));
                    }
                    _ => {}
                }
            }
        });
        service.subscribed(1).await;
        service
    }

    /// Waits for confirmation number `times` of the subscription; without it, nothing is heard.
    pub(crate) async fn subscribed(&self, times: usize) {
        let mut subscribed = self.subscribed.clone();
        let up = subscribed.wait_for(|seen| *seen >= times);
        within("the service's subscription", up).await.unwrap();
    }

    pub(crate) fn subscriptions(&self) -> usize {
        *self.subscribed.borrow()
    }

    /// From now on what devices say is answered with this code, or not at all.
    pub(crate) fn answer_with(&self, rc: Option<u16>) {
        *self.answer.lock().unwrap() = rc;
    }

    /// Publishes; returns when the broker has it.
    pub(crate) async fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) {
        let id = PublishId(self.next.fetch_add(1, Ordering::Relaxed));
        self.session
            .publish(id, topic.to_owned(), payload.as_ref().to_vec())
            .unwrap();
        let mut sent = self.sent.clone();
        within("the broker's acknowledgement", sent.wait_for(|sent| sent.contains(&id)))
            .await
            .unwrap();
    }

    /// Asks a device for something.
    pub(crate) async fn request(&self, device: &str, operation: &str, req_id: &str) {
        let payload = json!({"reqId": req_id}).to_string();
        self.publish(&format!("iotdm-1/type/edge/id/{device}/{operation}"), payload)
            .await;
    }

    pub(crate) async fn reboot(&self, device: &str, req_id: &str) {
        self.request(device, "mgmt/initiate/device/reboot", req_id).await;
    }

    /// Everything that was said so far.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.said.borrow().clone()
    }

    /// Everything that this device said so far.
    pub(crate) fn said_by(&self, device: &str) -> Vec<Said> {
        self.said().into_iter().filter(|said| said.device() == device).collect()
    }

    /// Waits until what was said is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&[Said]) -> bool) {
        self.until_within(crate::support::LIMIT, what, wanted).await;
    }

    /// The same for what takes longer.
    pub(crate) async fn until_within(&self, limit: std::time::Duration, what: &str, wanted: impl Fn(&[Said]) -> bool) {
        let mut said = self.said.clone();
        let seen = tokio::time::timeout(limit, said.wait_for(|said| wanted(said))).await;
        assert!(
            seen.is_ok(),
            "waited in vain for {what}; said so far: {:#?}",
            self.said()
        );
    }

    /// The answer number `nth` (from 1) to a request: its code and message.
    pub(crate) async fn answer(&self, req_id: &str, nth: usize) -> (u64, String) {
        self.until(&format!("answer {nth} to {req_id}"), |said| {
            said.iter().filter(|said| said.answers(req_id)).count() >= nth
        })
        .await;
        self.answers(req_id)[nth - 1].clone()
    }

    /// All answers to a request so far.
    pub(crate) fn answers(&self, req_id: &str) -> Vec<(u64, String)> {
        let answers = self.said().into_iter().filter(|said| said.answers(req_id));
        answers
            .map(|said| {
                let message = said.json["message"].as_str().unwrap_or_default().to_owned();
                (said.json["rc"].as_u64().unwrap(), message)
            })
            .collect()
    }

    /// How many manage requests this device has made.
    pub(crate) fn manages(&self, device: &str) -> usize {
        self.said_by(device).iter().filter(|said| said.is_manage()).count()
    }

    /// Waits for so many manage requests of this device.
    pub(crate) async fn managed(&self, device: &str, times: usize) {
        self.until(&format!("{times} manage of {device}"), |said| {
            said.iter()
                .filter(|said| said.device() == device && said.is_manage())
                .count()
                >= times
        })
        .await;
    }
}

/// What this device said, in short: `manage`, `response 202`.
pub(crate) fn story(said: &[Said]) -> Vec<String> {
    let short = |said: &Said| match said.tail() {
        "response" => format!("response {}", said.json["rc"]),
        tail => tail.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    said.iter().map(short).collect()
}
