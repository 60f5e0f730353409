//! A broker with persistent sessions, as MQTT 3.1.1 allows at QoS 1, and the wires to its two clients.
//!
//! Within a session messages go out in order, and again with DUP after a reconnect until they are acknowledged. A wire
//! keeps the order; it may break between any two packets, for both sides at once, for one side first, or in silence.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::counts::Thing;
use crate::world::{Happening, World, note};

/// One of the two clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Agent,
    Service,
}

impl Who {
    pub fn other(self) -> Self {
        match self {
            Who::Agent => Who::Service,
            Who::Service => Who::Agent,
        }
    }
}

/// A message, the same wherever it is.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: Rc<str>,
    pub payload: Rc<[u8]>,
    /// Tells messages apart that look the same.
    pub number: u64,
    /// The boot in which the device published it.
    pub boot: u32,
}

/// What goes over a wire.
#[derive(Debug, Clone)]
pub enum Packet {
    Connect,
    ConnAck { session_present: bool },
    Subscribe,
    SubAck,
    Publish { packet: u64, dup: bool, message: Message },
    PubAck { packet: u64 },
}

/// A wire between a client and the broker.
#[derive(Debug, Default)]
pub struct Wire {
    /// Counts connections; packets of an earlier one mean nothing.
    pub number: u64,
    /// Up to this connection nothing arrives any more.
    silent: u64,
    to_broker_at: u64,
    to_client_at: u64,
}

/// What the broker keeps for a client.
#[derive(Debug, Default)]
pub struct Session {
    pub exists: bool,
    subscribed: bool,
    /// The connection, as far as the broker knows.
    connection: Option<u64>,
    pub queue: VecDeque<Queued>,
    last_packet: u64,
}

/// A message for a client that the client has not acknowledged.
#[derive(Debug)]
pub struct Queued {
    message: Message,
    packet: u64,
    /// It was sent before, perhaps on an earlier connection.
    sent: bool,
    /// It was sent on this connection.
    out: bool,
}

/// So many are sent before the first is acknowledged (mosquitto's default).
const WINDOW: usize = 20;

#[derive(Debug, Default)]
pub struct Broker {
    pub down: bool,
    sessions: [Session; 2],
    wires: [Wire; 2],
}

impl Wire {
    /// The next connection.
    pub fn renew(&mut self) -> u64 {
        self.number += 1;
        self.to_broker_at = 0;
        self.to_client_at = 0;
        self.number
    }
}

impl Broker {
    pub fn session(&mut self, who: Who) -> &mut Session {
        &mut self.sessions[who as usize]
    }

    pub fn wire(&mut self, who: Who) -> &mut Wire {
        &mut self.wires[who as usize]
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides notice at once.
    Both,
    /// The client has given up; what it has sent still arrives.
    ClientFirst,
    /// The broker has given up; what it has sent still arrives.
    BrokerFirst,
    /// Nothing arrives any more; both notice later, by themselves.
    Silent,
}

impl World {
    /// Puts a packet on the wire.
    pub fn send(&mut self, who: Who, to_broker: bool, packet: Packet) {
        let delay = self.random.skewed(1, self.plan.slowest_packet);
        let earliest = self.now + delay;
        let wire = self.broker.wire(who);
        if wire.number <= wire.silent {
            return;
        }
        let last = if to_broker {
            &mut wire.to_broker_at
        } else {
            &mut wire.to_client_at
        };
        let at = earliest.max(*last);
        *last = at;
        let number = wire.number;
        self.at(
            at,
            Happening::Arrives {
                who,
                number,
                to_broker,
                packet,
            },
        );
    }

    /// A packet has crossed the wire.
    pub fn arrives(&mut self, who: Who, number: u64, to_broker: bool, packet: Packet) {
        if number <= self.broker.wire(who).silent {
            return;
        }
        if !to_broker {
            return self.client_receives(who, number, packet);
        }
        if self.broker.down {
            return;
        }
        if let Packet::Connect = packet {
            if self.broker.wire(who).number == number {
                self.broker_accepts(who, number);
            }
            return;
        }
        if self.broker.session(who).connection != Some(number) {
            return;
        }
        match packet {
            Packet::Subscribe => {
                self.broker.session(who).subscribed = true;
                self.send(who, false, Packet::SubAck);
            }
            Packet::Publish { packet, message, .. } => {
                self.route(who.other(), message);
                self.send(who, false, Packet::PubAck { packet });
            }
            Packet::PubAck { packet } => {
                let session = self.broker.session(who);
                session.queue.retain(|queued| queued.packet != packet);
                self.pump(who);
            }
            Packet::Connect | Packet::ConnAck { .. } | Packet::SubAck => {}
        }
    }

    fn broker_accepts(&mut self, who: Who, number: u64) {
        let session = self.broker.session(who);
        let session_present = session.exists;
        session.exists = true;
        session.connection = Some(number);
        session.queue.iter_mut().for_each(|queued| queued.out = false);
        self.send(who, false, Packet::ConnAck { session_present });
        self.pump(who);
    }

    /// Queues a message for a client.
    fn route(&mut self, to: Who, message: Message) {
        if to == Who::Service {
            self.broker_has(&message);
        }
        let session = self.broker.session(to);
        if session.exists && session.subscribed {
            session.queue_message(message, false);
            self.pump(to);
        } else {
            self.lost(&message);
        }
    }

    /// Queues a message for the agent that it may have had before.
    pub fn deliver_again(&mut self, message: Message, dup: bool) {
        let session = self.broker.session(Who::Agent);
        if session.exists && session.subscribed {
            session.queue_message(message, dup);
            self.pump(Who::Agent);
        }
    }

    fn pump(&mut self, who: Who) {
        let session = self.broker.session(who);
        if session.connection.is_none() {
            return;
        }
        let mut packets = Vec::new();
        for queued in session.queue.iter_mut().take(WINDOW).filter(|queued| !queued.out) {
            packets.push(Packet::Publish {
                packet: queued.packet,
                dup: queued.sent,
                message: queued.message.clone(),
            });
            queued.sent = true;
            queued.out = true;
        }
        for packet in packets {
            self.send(who, false, packet);
        }
    }

    /// The broker sees that a connection is gone.
    pub fn broker_notices(&mut self, who: Who, number: u64) {
        let session = self.broker.session(who);
        if session.connection == Some(number) {
            session.connection = None;
        }
    }

    /// Ends a client's connection, if there is one.
    pub fn cut(&mut self, who: Who, how: Cut) {
        let Some(number) = self.clients[who as usize].connection else {
            return;
        };
        note!(self, "the connection of the {who:?} is cut: {how:?}");
        let wire = self.broker.wire(who);
        let (broker_at, client_at) = (wire.to_broker_at, wire.to_client_at);
        match how {
            Cut::Both => {
                self.counts.add(Thing::LinkCut);
                wire.silent = number;
                self.broker_notices(who, number);
                self.client_notices(who, number);
            }
            Cut::ClientFirst => {
                self.counts.add(Thing::HalfClosed);
                let at = broker_at.max(self.now + 1);
                self.at(at, Happening::BrokerNotices { who, number });
                self.client_notices(who, number);
            }
            Cut::BrokerFirst => {
                self.counts.add(Thing::HalfClosed);
                let at = client_at.max(self.now + 1);
                self.at(at, Happening::ClientNotices { who, number });
                self.broker_notices(who, number);
            }
            Cut::Silent => {
                self.counts.add(Thing::LinkSilent);
                wire.silent = number;
                let (one, two) = (self.random.between(1000, 90_000), self.random.between(1000, 90_000));
                self.at(self.now + one, Happening::BrokerNotices { who, number });
                self.at(self.now + two, Happening::ClientNotices { who, number });
            }
        }
    }

    /// The broker stops, and is back after a while; without persistence it remembers nothing.
    pub fn broker_restarts(&mut self, persistent: bool, for_ms: u64) {
        note!(
            self,
            "the broker restarts, persistent: {persistent}, down for {for_ms} ms"
        );
        self.counts.add(Thing::BrokerRestart);
        self.broker.down = true;
        for who in [Who::Agent, Who::Service] {
            self.cut(who, Cut::Both);
            self.broker.session(who).connection = None;
            if !persistent {
                self.session_is_lost(who);
            }
        }
        self.at(self.now + for_ms, Happening::BrokerIsUp);
    }

    /// The broker forgets a client's session, as after its expiry.
    pub fn session_is_lost(&mut self, who: Who) {
        self.counts.add(Thing::SessionLost);
        let session = std::mem::take(self.broker.session(who));
        for queued in session.queue {
            self.lost(&queued.message);
        }
    }
}

impl Session {
    fn queue_message(&mut self, message: Message, sent: bool) {
        self.last_packet += 1;
        self.queue.push_back(Queued {
            message,
            packet: self.last_packet,
            sent,
            out: false,
        });
    }
}
