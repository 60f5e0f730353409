//! A gpsd that does as it is told, for what a healthy one never does.

use std::pin::Pin;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::within;

pub const VERSION: &str = r#"{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}"#;
pub const DEVICES: &str = r#"{"class":"DEVICES","devices":[{"class":"DEVICE","path":"/dev/ttyACM0","flags":1}]}"#;
pub const WATCH: &str = r#"{"class":"WATCH","enable":true,"json":true,"nmea":false,"raw":0}"#;
pub const FIX: &str = r#"{"class":"TPV","device":"/dev/ttyACM0","mode":3,"time":"2026-11-23T12:00:00.000Z","lat":48.1,"lon":11.5,"altMSL":520.0,"eph":17.1}"#;

/// The requests that a client may make.
pub const ON: &str = r#"?WATCH={"enable":true,"json":true};"#;
pub const OFF: &str = r#"?WATCH={"enable":true,"json":false};"#;

/// A connection, from gpsd's side.
pub struct Client {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// Counts from 0.
    pub number: usize,
}

impl Client {
    /// Sends these bytes as they are; `false` when nobody takes them.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok()
    }

    /// Sends lines, each with the end that gpsd gives it.
    pub async fn say(&mut self, lines: &[&str]) -> bool {
        let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(text.as_bytes()).await
    }

    /// The next request; `None` when the client has gone.
    pub async fn asked(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.read.read_line(&mut line).await.ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// Waits for the next look, and answers to its request; `false` when the client has gone.
    pub async fn look(&mut self) -> bool {
        while let Some(request) = self.asked().await {
            if request == ON {
                return self.say(&[DEVICES, WATCH]).await;
            }
        }
        false
    }

    /// Says each of these lines once in a look, until the client goes.
    pub async fn at_each_look(&mut self, lines: &[&str]) {
        while self.look().await && self.say(lines).await {}
    }

    /// Says nothing more, and waits until the client has gone.
    pub async fn hang(&mut self) {
        let mut rest = Vec::new();
        let _ = self.read.read_to_end(&mut rest).await;
    }
}

/// What it does with a connection.
type Script = dyn Fn(Client) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send;

/// The server; ends when dropped.
pub struct Scripted {
    pub address: String,
    connections: watch::Receiver<Vec<Instant>>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Each connection gets a run of the script, and ends with it.
    pub async fn start<F>(script: impl Fn(Client) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, connections) = watch::channel(Vec::new());
        let script: Box<Script> = Box::new(move |client| Box::pin(script(client)));
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tell.send_modify(|times: &mut Vec<Instant>| times.push(Instant::now()));
                running.spawn(script(client(stream, number)));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// Waits for so many connections; when each came.
    pub async fn connections(&self, count: usize) -> Vec<Instant> {
        let mut connections = self.connections.clone();
        let what = format!("{count} connections");
        within(&what, connections.wait_for(|times| times.len() >= count))
            .await
            .unwrap()
            .clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn client(stream: TcpStream, number: usize) -> Client {
    let (read, write) = stream.into_split();
    Client {
        read: BufReader::new(read),
        write,
        number,
    }
}
