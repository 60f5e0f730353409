//! A broker that does exactly what the test says, packet by packet, for what a real one cannot be made to show.

use super::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct FakeBroker {
    listener: TcpListener,
    pub port: u16,
}

/// One accepted connection.
pub struct Peer {
    stream: TcpStream,
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Connect),
    Publish {
        topic: String,
        payload: Vec<u8>,
        id: u16,
        dup: bool,
        qos: u8,
        retain: bool,
    },
    PubAck(u16),
    Subscribe {
        id: u16,
        filters: Vec<(String, u8)>,
    },
    PingReq,
    Disconnect,
    /// Any other packet type.
    Other(u8),
    /// The client closed the connection.
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub protocol: String,
    pub level: u8,
    pub clean: bool,
    pub will: bool,
    pub keep_alive: u16,
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
}

impl FakeBroker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// The next TCP connection.
    pub async fn accept(&self) -> Peer {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        Peer { stream }
    }

    /// The next connection with its CONNECT, accepted.
    pub async fn session(&self, session_present: bool) -> (Peer, Connect) {
        let mut peer = self.accept().await;
        let connect = peer.connect().await;
        peer.connack(session_present, 0).await;
        (peer, connect)
    }

    /// The same, with its first SUBSCRIBE granted.
    pub async fn subscribed(&self, session_present: bool) -> Peer {
        let (mut peer, _) = self.session(session_present).await;
        peer.grant().await;
        peer
    }

    /// Whether a client has connected and was not accepted yet.
    pub async fn somebody_waits(&self, limit: std::time::Duration) -> bool {
        tokio::time::timeout(limit, self.listener.accept()).await.is_ok()
    }
}

impl Peer {
    /// The next packet, whatever it is.
    pub async fn read(&mut self) -> Packet {
        within("a packet", self.read_packet()).await
    }

    /// The next packet that is no ping (which is answered).
    pub async fn next(&mut self) -> Packet {
        loop {
            match self.read().await {
                Packet::PingReq => self.send(&[0xD0, 0]).await,
                other => return other,
            }
        }
    }

    async fn read_packet(&mut self) -> Packet {
        let Ok(first) = self.stream.read_u8().await else {
            return Packet::End;
        };
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.stream.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        if self.stream.read_exact(&mut body).await.is_err() {
            return Packet::End;
        }
        parse(first, &body)
    }

    pub async fn connect(&mut self) -> Connect {
        match self.read().await {
            Packet::Connect(connect) => connect,
            other => panic!("expected CONNECT, got {other:?}"),
        }
    }

    pub async fn connack(&mut self, session_present: bool, code: u8) {
        self.send(&[0x20, 2, u8::from(session_present), code]).await;
    }

    /// Reads a SUBSCRIBE and grants it.
    pub async fn grant(&mut self) -> String {
        match self.next().await {
            Packet::Subscribe { id, filters } => {
                self.suback(id, &vec![1; filters.len()]).await;
                filters[0].0.clone()
            }
            other => panic!("expected SUBSCRIBE, got {other:?}"),
        }
    }

    pub async fn suback(&mut self, id: u16, codes: &[u8]) {
        let mut packet = vec![0x90, u8::try_from(2 + codes.len()).unwrap()];
        packet.extend(id.to_be_bytes());
        packet.extend(codes);
        self.send(&packet).await;
    }

    pub async fn puback(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// Sends a QoS 1 message.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], id: u16) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend(id.to_be_bytes());
        body.extend(payload);
        let mut packet = vec![0x32];
        let mut length = body.len();
        loop {
            let byte = u8::try_from(length % 128).unwrap();
            length /= 128;
            packet.push(if length > 0 { byte | 0x80 } else { byte });
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.send(&packet).await;
    }

    /// Sends raw bytes. A client that is gone is no error: the test finds out when it reads.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }
}

fn parse(first: u8, body: &[u8]) -> Packet {
    let mut fields = Fields(body);
    match first >> 4 {
        1 => {
            let protocol = fields.text();
            let level = fields.byte();
            let flags = fields.byte();
            let keep_alive = fields.number();
            let client_id = fields.text();
            assert_eq!(flags & 0x04, 0, "a will has not been foreseen");
            Packet::Connect(Connect {
                protocol,
                level,
                clean: flags & 0x02 != 0,
                will: flags & 0x04 != 0,
                keep_alive,
                client_id,
                username: (flags & 0x80 != 0).then(|| fields.text()),
                password: (flags & 0x40 != 0).then(|| fields.bytes().to_vec()),
            })
        }
        3 => {
            let topic = fields.text();
            let qos = first >> 1 & 3;
            let id = if qos > 0 { fields.number() } else { 0 };
            Packet::Publish {
                topic,
                id,
                payload: fields.0.to_vec(),
                dup: first & 8 != 0,
                qos,
                retain: first & 1 != 0,
            }
        }
        4 => Packet::PubAck(fields.number()),
        8 => {
            let id = fields.number();
            let mut filters = Vec::new();
            while !fields.0.is_empty() {
                filters.push((fields.text(), fields.byte()));
            }
            Packet::Subscribe { id, filters }
        }
        12 => Packet::PingReq,
        14 => Packet::Disconnect,
        other => Packet::Other(other),
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *byte
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.number());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}
