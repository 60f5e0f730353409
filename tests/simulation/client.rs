//! A client's MQTT session as `src/mqtt` promises it: every publish has one end, what was handed over is sent again in
//! its order with the session, acknowledgements leave in arrival order, and those for an earlier connection never.

use std::collections::VecDeque;

use crate::broker::{Message, Packet, Who};
use crate::counts::Thing;
use crate::world::{Happening, World, note};

/// So many publishes are sent before the first is acknowledged.
const WINDOW: usize = 8;

/// What a process tells its broker, and what it knows of it. Gone when the process dies.
#[derive(Debug, Default)]
pub struct Client {
    /// Whether there is a process.
    pub alive: bool,
    /// Counts processes.
    pub run: u64,
    pub connection: Option<u64>,
    session_present: bool,
    subscribed: bool,
    queue: VecDeque<(u64, Message)>,
    handed: VecDeque<Handed>,
    /// Of this connection: packet, token, whether the owner is done.
    acks: VecDeque<(u64, u64, bool)>,
    last_token: u64,
    last_packet: u64,
    /// When the owner has taken the last event.
    told_at: u64,
}

#[derive(Debug)]
struct Handed {
    id: u64,
    packet: u64,
    message: Message,
}

/// What a session tells its owner.
#[derive(Debug)]
pub enum Told {
    Connected { session_present: bool },
    Subscribed { session_present: bool },
    Disconnected,
    Message { message: Message, dup: bool, token: u64 },
    Published(u64),
    NotPublished(u64),
}

impl Client {
    /// Nothing waits, in either direction.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.handed.is_empty() && self.acks.is_empty()
    }
}

impl World {
    fn client(&mut self, who: Who) -> &mut Client {
        &mut self.clients[who as usize]
    }

    /// A process begins; it will connect.
    pub fn client_starts(&mut self, who: Who) {
        let client = self.client(who);
        *client = Client {
            alive: true,
            run: client.run + 1,
            ..Client::default()
        };
        let run = client.run;
        let at = self.now + self.random.skewed(5, 3000);
        self.at(at, Happening::Connects { who, run });
    }

    /// The process is gone. `politely`: the kernel closes the connection; else the broker has to find out.
    pub fn client_dies(&mut self, who: Who, politely: bool) {
        let client = self.client(who);
        client.alive = false;
        let connection = client.connection.take();
        if who == Who::Agent {
            self.process_died();
        }
        let Some(number) = connection else { return };
        let at = if politely {
            self.now + 5
        } else {
            self.now + self.random.between(1000, 90_000)
        };
        self.at(at, Happening::BrokerNotices { who, number });
    }

    /// The client tries to connect.
    pub fn client_connects(&mut self, who: Who, run: u64) {
        let client = self.client(who);
        if !client.alive || client.run != run || client.connection.is_some() {
            return;
        }
        if self.broker.down || self.parted || (who == Who::Agent && self.is_cut_off()) {
            let at = self.now + self.random.skewed(500, 30_000);
            self.at(at, Happening::Connects { who, run });
            return self.tell(who, run, Told::Disconnected);
        }
        let number = self.broker.wire(who).renew();
        let client = self.client(who);
        client.connection = Some(number);
        client.subscribed = false;
        client.acks.clear();
        self.send(who, true, Packet::Connect);
    }

    /// The client sees that its connection is gone.
    pub fn client_notices(&mut self, who: Who, number: u64) {
        let client = self.client(who);
        if client.connection != Some(number) {
            return;
        }
        client.connection = None;
        client.subscribed = false;
        client.acks.clear();
        let run = client.run;
        let at = self.now + self.random.skewed(100, 20_000);
        self.at(at, Happening::Connects { who, run });
        self.tell(who, run, Told::Disconnected);
    }

    /// A packet has reached the client.
    pub fn client_receives(&mut self, who: Who, number: u64, packet: Packet) {
        let client = self.client(who);
        if client.connection != Some(number) {
            return;
        }
        let run = client.run;
        match packet {
            Packet::ConnAck { session_present } => self.client_is_accepted(who, run, session_present),
            Packet::SubAck => {
                client.subscribed = true;
                let session_present = client.session_present;
                self.tell(who, run, Told::Subscribed { session_present });
                self.hand_over(who);
            }
            Packet::Publish { packet, dup, message } => {
                client.last_token += 1;
                let token = client.last_token;
                client.acks.push_back((packet, token, false));
                self.tell(who, run, Told::Message { message, dup, token });
            }
            Packet::PubAck { packet } => {
                let Some(at) = client.handed.iter().position(|handed| handed.packet == packet) else {
                    return;
                };
                let id = client.handed.remove(at).map(|handed| handed.id);
                self.tell(who, run, Told::Published(id.unwrap_or_default()));
                self.hand_over(who);
            }
            Packet::Connect | Packet::Subscribe => {}
        }
    }

    fn client_is_accepted(&mut self, who: Who, run: u64, session_present: bool) {
        note!(self, "the {who:?} is connected, session present: {session_present}");
        let client = self.client(who);
        client.session_present = session_present;
        if session_present {
            let again: Vec<Packet> = client
                .handed
                .iter()
                .map(|handed| Packet::Publish {
                    packet: handed.packet,
                    dup: true,
                    message: handed.message.clone(),
                })
                .collect();
            for packet in again {
                self.counts.add(Thing::Resent);
                self.send(who, true, packet);
            }
        } else {
            for handed in std::mem::take(&mut client.handed) {
                self.counts.add(Thing::NotPublished);
                self.tell(who, run, Told::NotPublished(handed.id));
            }
        }
        self.tell(who, run, Told::Connected { session_present });
        self.send(who, true, Packet::Subscribe);
    }

    /// Tells the owner something, who may be busy for a while.
    fn tell(&mut self, who: Who, run: u64, told: Told) {
        let at = self.now + self.random.skewed(0, self.plan.slowest_owner);
        let client = self.client(who);
        client.told_at = client.told_at.max(at);
        let at = client.told_at;
        self.at(at, Happening::Told { who, run, told });
    }

    /// The owner takes an event.
    pub fn told(&mut self, who: Who, run: u64, told: Told) {
        let client = self.client(who);
        if client.alive && client.run == run {
            match who {
                Who::Agent => self.agent_is_told(told),
                Who::Service => self.service_is_told(told),
            }
        }
    }

    /// The owner wants this published.
    pub fn publish(&mut self, who: Who, id: u64, message: Message) {
        let client = self.client(who);
        client.queue.push_back((id, message));
        let outstanding = client.queue.len() + client.handed.len();
        assert!(outstanding <= 64, "the session takes no more than 64 publishes");
        self.hand_over(who);
    }

    fn hand_over(&mut self, who: Who) {
        loop {
            let client = self.client(who);
            if !client.alive || !client.subscribed || client.handed.len() >= WINDOW {
                return;
            }
            let Some((id, message)) = client.queue.pop_front() else {
                return;
            };
            client.last_packet += 1;
            let packet = client.last_packet;
            client.handed.push_back(Handed {
                id,
                packet,
                message: message.clone(),
            });
            self.send(
                who,
                true,
                Packet::Publish {
                    packet,
                    dup: false,
                    message,
                },
            );
        }
    }

    /// The owner is done with a message.
    pub fn acknowledge(&mut self, who: Who, token: u64) {
        let client = self.client(who);
        let Some(at) = client.acks.iter().position(|(_, of, _)| *of == token) else {
            self.counts.add(Thing::StaleAck);
            return;
        };
        assert!(!client.acks[at].2, "a message is acknowledged twice");
        client.acks[at].2 = true;
        while let Some((packet, _, true)) = self.client(who).acks.front().copied() {
            self.client(who).acks.pop_front();
            self.send(who, true, Packet::PubAck { packet });
        }
    }
}
