//! A GNSS receiver on a loopback port: it says NMEA 0183 to everybody who connects, faster than a real one, and what it
//! sees of the sky is up to the test. A real gpsd takes it as `tcp://HOST:PORT`.

// Every test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::task::{JoinHandle, JoinSet};

/// From one report of the receiver to the next; its own time moves on by a second.
const CYCLE: Duration = Duration::from_millis(25);

/// What the receiver makes of the sky.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sky {
    /// Three dimensions: degrees, metres above the sea.
    Fix {
        latitude: f64,
        longitude: f64,
        altitude: f64,
    },
    /// Two dimensions.
    Flat { latitude: f64, longitude: f64 },
    /// It works and does not know where it is.
    NoFix,
    /// It says nothing.
    Silent,
}

#[derive(Debug)]
struct State {
    sky: Sky,
    /// Seconds since 1970.
    time: i64,
}

/// The receiver. Unplugged when dropped.
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// `time` is the receiver's own, in seconds since 1970.
    pub async fn start(address: impl ToSocketAddrs, sky: Sky, time: i64) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { sky, time }));
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// From the next report on it sees this.
    pub fn see(&self, sky: Sky) {
        self.state.lock().unwrap().sky = sky;
    }

    /// The same, and it is so late.
    pub fn see_at(&self, sky: Sky, time: i64) {
        *self.state.lock().unwrap() = State { sky, time };
    }

    /// As gpsd takes it.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Ends its connections, and takes no new ones.
    pub async fn unplug(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut clock = tokio::time::interval(CYCLE);
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut writing = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept() => clients.push(client.unwrap().0),
            _ = clock.tick() => {
                let report = {
                    let mut state = state.lock().unwrap();
                    state.time += 1;
                    report(&state)
                };
                // one that does not read any more is gone
                for mut client in clients.drain(..) {
                    let report = report.clone();
                    writing.spawn(async move { client.write_all(report.as_bytes()).await.map(|()| client) });
                }
                while let Some(written) = writing.join_next().await {
                    clients.extend(written.unwrap());
                }
            }
        }
    }
}

/// The sentences of one second.
fn report(state: &State) -> String {
    let at = OffsetDateTime::from_unix_timestamp(state.time).unwrap();
    let (hour, minute, second) = at.to_hms();
    let clock = format!("{hour:02}{minute:02}{second:02}.00");
    let date = format!("{:02}{:02}{:02}", at.day(), u8::from(at.month()), at.year() % 100);
    let sentences = match state.sky {
        Sky::Silent => return String::new(),
        Sky::NoFix => [
            format!("GPGGA,{clock},,,,,0,00,99.9,,M,,M,,"),
            "GPGSA,A,1,,,,,,,,,,,,,99.9,99.9,99.9".to_owned(),
            format!("GPRMC,{clock},V,,,,,,,{date},,,N"),
        ],
        Sky::Flat { latitude, longitude } => {
            let place = place(latitude, longitude);
            [
                format!("GPGGA,{clock},{place},1,03,2.1,,M,,M,,"),
                "GPGSA,A,2,01,02,03,,,,,,,,,,2.5,2.1,1.0".to_owned(),
                format!("GPRMC,{clock},A,{place},000.0,000.0,{date},,,A"),
            ]
        }
        Sky::Fix {
            latitude,
            longitude,
            altitude,
        } => {
            let place = place(latitude, longitude);
            [
                format!("GPGGA,{clock},{place},1,08,0.9,{altitude:.1},M,46.9,M,,"),
                "GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.6,0.9,1.3".to_owned(),
                format!("GPRMC,{clock},A,{place},000.0,000.0,{date},,,A"),
            ]
        }
    };
    sentences.map(|sentence| framed(&sentence)).concat()
}

/// `$...*XX`, with the sum of its bytes.
fn framed(sentence: &str) -> String {
    let sum = sentence.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${sentence}*{sum:02X}\r\n")
}

/// `DDMM.MMMMM,N,DDDMM.MMMMM,E`
fn place(latitude: f64, longitude: f64) -> String {
    let part = |degrees: f64, width: usize, sides: [char; 2]| {
        let size = degrees.abs();
        let minutes = (size.fract() * 60.0 * 1e5).round() / 1e5;
        let (whole, minutes) = if minutes >= 60.0 {
            (size.trunc() + 1.0, 0.0)
        } else {
            (size.trunc(), minutes)
        };
        let side = sides[usize::from(degrees < 0.0)];
        format!("{whole:0width$.0}{minutes:08.5},{side}")
    };
    format!("{},{}", part(latitude, 2, ['N', 'S']), part(longitude, 3, ['E', 'W']))
}
