//! One connection from the first packet to the last.
//!
//! The MQTT crate is polled by one future that is never dropped before it is ready, except to end the connection: a
//! dropped `poll` starts the connect anew. Everything asked of the crate is a `try_` call that returns at once.

use super::connector;
use super::credentials::Credentials;
use super::driver::{Driver, End, deliver, mqtt_options};
use super::session::{Command, Event, Incoming};
use super::subscriptions::Progressed;
use super::suspicion::{Measure, Sent, Unanswered};
use super::trouble::Trouble;
use super::wire::{Observer, Wire};
use rumqttc::{ConnectionError, EventLoop, Outgoing, Packet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// So many events may wait for the owner before nothing more is read from the broker.
const BACKLOG: usize = 32;

/// How long DISCONNECT may take after the patience of a stop is at its end.
const LAST_WORD: Duration = Duration::from_millis(500);

/// The crate's limit for connect and for each flush, in seconds. Only a backstop: `connector` and `Wire` have their own.
const CRATE_LIMIT: u64 = 600;

/// The state of one connection.
pub(super) struct Connection {
    pub(super) observer: Observer,
    /// When CONNACK came.
    pub(super) since: Option<Instant>,
    pub(super) unanswered: Unanswered,
    leaving: Option<Leaving>,
    /// When the rate allows the next publish.
    publish_at: Option<Instant>,
}

/// The owner has stopped the session.
struct Leaving {
    /// How long to wait for acknowledgements.
    by: Instant,
    /// DISCONNECT is on its way, behind everything else.
    asked: bool,
    /// DISCONNECT is on its way, before everything else.
    forced: bool,
}

impl Connection {
    pub(super) fn new(observer: Observer) -> Self {
        Self {
            observer,
            since: None,
            unanswered: Unanswered::default(),
            leaving: None,
            publish_at: None,
        }
    }
}

type Polled = Result<rumqttc::Event, ConnectionError>;

impl Driver {
    /// Makes a connection and serves it until it ends. `clean`: only to make the broker forget its queue.
    pub(super) async fn connection(&mut self, eventloop: &mut EventLoop, clean: bool) -> End {
        let observer = Observer::default();
        if let Err(trouble) = self.prepare(eventloop, clean, &observer).await {
            self.history.not_connected();
            return End::Lost {
                trouble,
                measure: Measure::None,
                stable: false,
            };
        }
        self.acks.begin();
        self.subscriptions.begin(&self.options.subscriptions, &self.skip);
        let mut connection = Connection::new(observer);
        loop {
            let polled = match self.step(&mut connection, eventloop.poll()).await {
                Ok(polled) => polled,
                Err(end) => return end,
            };
            let end = match polled {
                Ok(event) => self.take(&mut connection, eventloop, event, clean),
                Err(_) if connection.leaving.is_some() => Some(End::Stopped),
                Err(error) => Some(self.explain(&connection, &error)),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Reads the files and gives the crate its options, with a connector of our own.
    async fn prepare(&mut self, eventloop: &mut EventLoop, clean: bool, observer: &Observer) -> Result<(), Trouble> {
        let options = self.options.clone();
        // The disk may be slow, and the system's store has a hundred certificates.
        let read = tokio::task::spawn_blocking(move || Credentials::read(&options)).await;
        let Credentials { token, tls } = read.unwrap_or_else(|error| {
            Err(Trouble::Protocol {
                problem: error.to_string(),
            })
        })?;
        let mut mqtt = mqtt_options(&self.options, clean);
        match (&self.options.username, token) {
            (None, None) => {}
            (Some(user), None) => {
                mqtt.set_username(user.clone());
            }
            (user, Some(token)) => {
                mqtt.set_credentials(user.clone().unwrap_or_default(), token);
            }
        }
        let options = Arc::new(self.options.clone());
        let silence = Duration::from_millis(u64::from(options.keep_alive_secs()) * 1500);
        let observer = observer.clone();
        mqtt.set_socket_connector(move |_, _| {
            let (options, tls, observer) = (Arc::clone(&options), tls.clone(), observer.clone());
            async move {
                match connector::connect(&options, tls).await {
                    Ok(stream) => Ok(Wire::new(stream, observer, options.limits.connack, silence)),
                    Err(trouble) => {
                        observer.look().not_connected = Some(trouble);
                        Err(std::io::ErrorKind::NotConnected.into())
                    }
                }
            }
        });
        eventloop.mqtt_options = mqtt;
        eventloop.network_options.set_connection_timeout(CRATE_LIMIT);
        Ok(())
    }

    /// Serves the owner until the crate has something, or the owner ends the connection.
    async fn step(&mut self, connection: &mut Connection, poll: impl Future<Output = Polled>) -> Result<Polled, End> {
        let mut poll = pin!(poll);
        loop {
            if let Some(end) = self.tend(connection) {
                return Err(end);
            }
            let leave_at = connection.leaving.as_ref().map(|leaving| leaving.by);
            let timer = [Some(self.progress_at), leave_at, connection.publish_at];
            let timer = timer.into_iter().flatten().min().unwrap_or(self.progress_at);
            tokio::select! {
                biased;
                command = self.commands.recv(), if connection.leaving.is_none() => match command {
                    Some(Command::Publish(publish)) => self.outbound.push(publish),
                    Some(Command::Ack(token)) => {
                        if !self.acks.handled(token) {
                            tracing::debug!("an acknowledgement for an earlier connection is dropped");
                        }
                    }
                    Some(Command::Reload(options)) => return Err(End::Reload(options, connection.since.is_some())),
                    Some(Command::Stop) | None => {
                        let by = Instant::now() + self.options.limits.stop;
                        connection.leaving = Some(Leaving { by, asked: false, forced: false });
                    }
                },
                delivered = deliver(&self.events, &mut self.pending), if !self.pending.is_empty() => match delivered {
                    Ok(()) => {}
                    Err(_) if connection.leaving.is_some() => self.pending.clear(),
                    Err(_) => return Err(End::Stopped),
                },
                outcome = self.outbound.outcome(), if self.outbound.in_flight() => {
                    if let Some(event) = self.outbound.ended(outcome) {
                        self.emit(event);
                    }
                }
                answer = self.subscriptions.answer(), if self.subscriptions.waiting() => {
                    let progressed = self.subscriptions.answered(answer);
                    if let Some(end) = self.subscribed(connection, progressed) {
                        return Err(end);
                    }
                }
                () = tokio::time::sleep_until(timer) => {
                    if self.progress_at <= Instant::now() {
                        self.progress();
                    }
                }
                polled = &mut poll, if self.pending.len() < BACKLOG || connection.leaving.is_some() => return Ok(polled),
            }
        }
    }

    /// Gives the crate what can be given now. Never waits.
    fn tend(&mut self, connection: &mut Connection) -> Option<End> {
        if connection.since.is_none() {
            return connection.leaving.as_ref().map(|_| End::Stopped);
        }
        let progressed = self.subscriptions.ask(&self.client);
        if let Some(end) = self.subscribed(connection, progressed) {
            return Some(end);
        }
        if self.subscriptions.stand() {
            connection.publish_at = self.outbound.hand_over(&self.client, self.options.publishes_per_second);
        }
        while let Some(ack) = self.acks.ready() {
            // A full channel is emptied by the poll that goes on; then this is tried again.
            if self.client.try_manual_ack(ack.clone()).is_err() {
                break;
            }
            self.acks.sent();
        }
        let leaving = connection.leaving.as_mut()?;
        let now = Instant::now();
        if !leaving.asked && self.outbound.is_empty() && self.acks.ready().is_none() {
            // It goes through the same channel as the acknowledgements, after them.
            leaving.asked = self
                .client
                .try_disconnect_with_timeout(leaving.by.saturating_duration_since(now))
                .is_ok();
        }
        if now >= leaving.by {
            if leaving.forced || self.client.try_disconnect_now().is_err() {
                return Some(End::Stopped);
            }
            *leaving = Leaving {
                by: now + LAST_WORD,
                asked: true,
                forced: true,
            };
        }
        None
    }

    fn subscribed(&mut self, connection: &Connection, progressed: Option<Progressed>) -> Option<End> {
        match progressed? {
            Progressed::RequiredStand => {
                self.emit(Event::Subscribed);
                None
            }
            Progressed::OptionalRefused(filter) => {
                self.emit(Event::SubscriptionRefused { filter });
                None
            }
            Progressed::RequiredRefused(filter) => {
                self.history.ended_otherwise();
                let stable = self.stable(connection);
                Some(End::Lost {
                    trouble: Trouble::SubscriptionRefused { filter },
                    measure: Measure::None,
                    stable,
                })
            }
        }
    }

    /// Takes what the crate reports.
    fn take(
        &mut self,
        connection: &mut Connection,
        eventloop: &mut EventLoop,
        event: rumqttc::Event,
        clean: bool,
    ) -> Option<End> {
        use rumqttc::Event as Crate;
        match event {
            Crate::Incoming(Packet::ConnAck(_)) if clean => return Some(End::Cleaned),
            Crate::Incoming(Packet::ConnAck(connack)) => {
                connection.since = Some(Instant::now());
                // From now on the value is only the crate's interval of pings. Half the keep-alive leaves room for the
                // answer before `Wire` gives the peer up.
                eventloop
                    .mqtt_options
                    .set_keep_alive((self.options.keep_alive_secs() / 2).max(1));
                if !connack.session_present {
                    self.settle_outbound();
                }
                self.emit(Event::Connected {
                    session_present: connack.session_present,
                });
            }
            Crate::Incoming(Packet::Publish(publish)) => {
                let ack = self.acks.received(self.client.prepare_ack(&publish));
                self.emit(Event::Message(Incoming {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                    dup: publish.dup,
                    ack,
                }));
            }
            Crate::Incoming(Packet::PubAck(_)) => connection.unanswered.answered(Sent::Publish),
            Crate::Incoming(Packet::SubAck(_)) => connection.unanswered.answered(Sent::Subscribe),
            Crate::Outgoing(Outgoing::Publish(_)) => connection.unanswered.sent(Sent::Publish),
            Crate::Outgoing(Outgoing::Subscribe(_)) => connection.unanswered.sent(Sent::Subscribe),
            Crate::Outgoing(Outgoing::PingReq) => {
                // The crate would give up when the answer is not there before its next ping, although the bytes of a
                // large packet may be coming in all the while. `Wire` decides that better.
                if let Err(error) = eventloop.state.handle_incoming_packet(Packet::PingResp) {
                    tracing::debug!(%error, "the MQTT crate does not take a ping response");
                }
            }
            Crate::Outgoing(Outgoing::Disconnect) => return Some(End::Stopped),
            _ => {}
        }
        None
    }
}
