//! One session to a broker, MQTT 3.1.1: TLS, reconnect, acknowledgements by hand. Both sides, agent and service, use it.
//!
//! It carries topics as strings and payloads as bytes and knows nothing of the device management protocol. It never
//! keeps anything on disk: what must not be lost is the owner's, who is told what became of every publish. It never
//! gives up either: whatever happens it reports the [`Trouble`] in one line, waits, and tries again.
//!
//! ```text
//! owner -- publish, ack, reload, stop --> driver -- try_* only --> rumqttc -- wire -- connector -- broker
//! owner <------------ Event ------------- driver <---- poll ------ rumqttc
//! ```
//!
//! One task (`driver`) polls the MQTT crate and never awaits anything else of it, which is what keeps the crate's known
//! traps shut (`docs/decisions/0001-mqtt-client-crate.md`).

mod acks;
mod backoff;
mod connection;
mod connector;
mod credentials;
mod driver;
mod options;
mod outbound;
mod session;
mod subscriptions;
mod suspicion;
mod tls;
mod trouble;
mod verdict;
mod wire;

pub use acks::AckToken;
pub use backoff::{Backoff, Pace};
pub use options::{BadProxy, Broker, Limits, Options, Proxy, Subscription, TlsFiles, TokenSource};
pub use outbound::Turn;
pub use session::{
    Event, Incoming, MAX_INCOMING, MAX_OUTSTANDING, MAX_PAYLOAD, NotAccepted, PublishId, Session, start,
};
pub use trouble::Trouble;
