//! The talk with gpsd: connect, look, wait, look again; wait longer and connect again when that breaks.
//!
//! Every wait has a limit, and so has what is read: see [`MOST`] and `lines`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::clock;
use super::backoff::jitter;
use super::lines::{LONGEST, Line, Lines};
use super::look::Look;
use super::message::Message;
use super::trouble::Trouble;
use super::{Options, Report};

/// Reports on. gpsd answers with its receivers and its `WATCH`, and then tells whatever they say.
const ON: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";
/// Reports off, with the receivers kept active.
const OFF: &[u8] = b"?WATCH={\"enable\":true,\"json\":false};\n";
/// The most that is read from one look to the next, in bytes. A fix is under a thousand, and a receiver that reports ten
/// times a second stays below a megabyte for the length of a look. Above that something else is talking.
const MOST: usize = 16 * 1024 * 1024;
/// The version of the protocol that this was written for.
const MAJOR: i64 = 3;

/// Looks at gpsd for ever.
pub(super) async fn run(options: Options, reports: watch::Sender<Option<Report>>) {
    let mut teller = Teller {
        reports,
        last: None,
        told: Told::default(),
    };
    let (mut failures, mut seed) = (0u32, options.seed);
    loop {
        let trouble = match Connection::open(&options, &mut teller.told).await {
            Ok(mut connection) => {
                let mut looks = 0u64;
                let trouble = connection.serve(&options, &mut teller, &mut looks).await;
                // One that breaks after each look is away, too.
                if looks > 1 {
                    failures = 0;
                }
                trouble
            }
            Err(trouble) => trouble,
        };
        teller.tell(Report::Trouble(trouble));
        sleep(options.backoff.pause(failures, jitter(&mut seed))).await;
        failures = failures.saturating_add(1);
    }
}

/// Hands on what is new, and writes to the log what has become different.
struct Teller {
    reports: watch::Sender<Option<Report>>,
    last: Option<Report>,
    told: Told,
}

/// What is written to the log only once in the life of the process.
#[derive(Default)]
struct Told {
    garbage: bool,
    too_long: bool,
    major: bool,
}

impl Teller {
    fn tell(&mut self, report: Report) {
        match (&report, &self.last) {
            (Report::Fix(_), Some(Report::Fix(_))) => {}
            (Report::Fix(fix), _) => tracing::info!(mode = ?fix.mode, "gpsd has a fix"),
            (Report::Trouble(new), Some(Report::Trouble(old))) if new.is_like(old) => return,
            (Report::Trouble(trouble), _) if trouble.needs_somebody() => tracing::warn!("{trouble}"),
            (Report::Trouble(trouble), _) => tracing::info!("{trouble}"),
        }
        self.last = Some(report.clone());
        self.reports.send_replace(Some(report));
    }

    fn has_fix(&self) -> bool {
        matches!(self.last, Some(Report::Fix(_)))
    }
}

struct Connection {
    stream: TcpStream,
    address: String,
    lines: Lines,
    /// Bytes since the look began.
    read: usize,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects, and waits for the greeting.
    async fn open(options: &Options, told: &mut Told) -> Result<Self, Trouble> {
        let unreachable = |reason: String| Trouble::Unreachable {
            address: options.address.clone(),
            reason,
        };
        let limit = options.patience;
        let stream = match timeout(limit, TcpStream::connect(options.address.as_str())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("it did not answer for {} s", limit.as_secs()))),
        };
        let mut connection = Connection {
            stream,
            address: options.address.clone(),
            lines: Lines::default(),
            read: 0,
            buffer: vec![0; 16 * 1024],
        };
        let mut version = None;
        let until = Instant::now() + limit;
        while version.is_none() {
            let greeting = timeout_at(
                until,
                connection.hear(told, |message| {
                    if let Message::Version { release, major } = message {
                        version = Some((release.clone(), *major));
                    }
                }),
            );
            match greeting.await {
                Ok(heard) => heard?,
                Err(_) => return Err(connection.no_gpsd("it does not greet with its version")),
            }
        }
        let (release, major) = version.unwrap_or_default();
        match major {
            None | Some(MAJOR) => tracing::debug!(release, "connected to gpsd"),
            Some(_) if std::mem::replace(&mut told.major, true) => {}
            Some(major) => tracing::warn!(
                release,
                major,
                "gpsd speaks another version of its protocol than {MAJOR}; what is understood of it is used"
            ),
        }
        Ok(connection)
    }

    /// Looks once in an interval, until the connection breaks; says why it did. Counts the looks that were answered.
    async fn serve(&mut self, options: &Options, teller: &mut Teller, looks: &mut u64) -> Trouble {
        loop {
            let began = Instant::now();
            match self.look(options, &mut teller.told).await {
                Ok(look) => teller.tell(look.report()),
                Err(trouble) => return trouble,
            }
            *looks += 1;
            let interval = match teller.has_fix() {
                true => options.interval,
                false => options.interval.min(options.searching),
            };
            if let Err(trouble) = self.rest(began + interval, &mut teller.told).await {
                return trouble;
            }
        }
    }

    /// One look.
    async fn look(&mut self, options: &Options, told: &mut Told) -> Result<Look, Trouble> {
        self.read = 0;
        self.say(ON, options.patience).await?;
        let mut look = Look::default();
        let mut until = Instant::now() + options.patience;
        let mut settling = false;
        while !look.is_over() {
            let heard = self.hear(told, |message| look.hear(message, clock::boottime()));
            match timeout_at(until, heard).await {
                Ok(heard) => heard?,
                Err(_) if look.answered() => break,
                Err(_) => return Err(self.lost(format!("no answer for {} s", options.patience.as_secs()))),
            }
            if look.was_told() && !settling {
                settling = true;
                until = until.min(Instant::now() + options.settle);
            }
        }
        self.say(OFF, options.patience).await?;
        Ok(look)
    }

    /// Waits for the next look. gpsd's answer to the last request comes in this time, and that it ends is noticed.
    async fn rest(&mut self, until: Instant, told: &mut Told) -> Result<(), Trouble> {
        loop {
            match timeout_at(until, self.hear(told, |_| {})).await {
                Ok(heard) => heard?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Reads what has come, at least something. May be dropped: a line is not lost.
    async fn hear(&mut self, told: &mut Told, mut each: impl FnMut(&Message)) -> Result<(), Trouble> {
        let count = match self.stream.read(&mut self.buffer).await {
            Ok(0) => return Err(self.lost("gpsd has closed it".to_owned())),
            Ok(count) => count,
            Err(error) => return Err(self.lost(error.to_string())),
        };
        self.read += count;
        if self.read > MOST {
            return Err(self.no_gpsd("it does not stop talking"));
        }
        self.lines.take(&self.buffer[..count], |line| match line {
            Line::TooLong if !std::mem::replace(&mut told.too_long, true) => {
                tracing::warn!("gpsd sends lines of more than {LONGEST} bytes; they are skipped");
            }
            Line::TooLong => {}
            Line::Whole(line) => {
                let message = Message::parse(line);
                if message == Message::Garbage && !std::mem::replace(&mut told.garbage, true) {
                    tracing::warn!("gpsd sends lines that are none of its protocol; they are skipped");
                }
                each(&message);
            }
        });
        Ok(())
    }

    async fn say(&mut self, request: &[u8], limit: Duration) -> Result<(), Trouble> {
        match timeout(limit, self.stream.write_all(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost(io::Error::from(io::ErrorKind::TimedOut).to_string())),
        }
    }

    fn lost(&self, reason: String) -> Trouble {
        Trouble::Lost {
            address: self.address.clone(),
            reason,
        }
    }

    fn no_gpsd(&self, reason: &str) -> Trouble {
        Trouble::NotGpsd {
            address: self.address.clone(),
            reason: reason.to_owned(),
        }
    }
}
