//! The process `iotdm serve`: takes the state folder, opens the registry, listens, keeps the session, and ends cleanly.
//!
//! As long as the service cannot hear its devices it concludes nothing from their silence: no timeout and no lifetime
//! ends while there is no session, nor in the first seconds of one, when the broker delivers what waited there. After a
//! long outage of the broker that takes minutes: until all agents have connected again.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::brain::{Event, Service};
use super::key::{Key, KeyError};
use super::lock::{Lock, LockError};
use super::outside;
use super::registry::{Registry, RegistryError};
use super::rest;
use super::settings::Settings;
use super::shell::{Shared, Stopped};
use crate::mqtt::{self, Trouble};

/// How long after the session is up nothing times out.
const GRACE: Duration = Duration::from_secs(5);
/// The same when there was none for longer than [`OUTAGE`]: agents try again every 5 minutes at most, give or take.
const LONG_GRACE: Duration = Duration::from_secs(330);
/// From when on it may be the broker that was away, and with it all agents.
const OUTAGE: Duration = Duration::from_secs(60);
/// How many events of the session share a transaction at most.
const BATCH: usize = 64;
/// How often logs that are too old are deleted.
const PRUNE: Duration = Duration::from_secs(3600);
/// The longest that a deadline is slept towards; the wall clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state folder cannot be made.
    #[error("the state folder {} cannot be made: {error}", directory.display())]
    State {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another instance runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The registry cannot be opened.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {error}; choose another api.listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The registry could not be written.
    #[error("{0}")]
    Stopped(#[from] Stopped),
    /// The system refuses something that always works.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Runs the service until SIGTERM or SIGINT. On SIGHUP it reads its credentials for the broker anew.
///
/// # Errors
/// It cannot start, or the registry cannot be written any more.
pub async fn serve(settings: Settings) -> Result<(), ServeError> {
    if let Some(warning) = settings.warning() {
        warn!("{warning}");
    }
    let directory = &settings.state;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(|error| ServeError::State {
        directory: directory.clone(),
        error,
    })?;
    let _lock = Lock::take(directory)?;
    let (registry, rows) = Registry::open(&directory.join("registry.sqlite"))?;
    let key = Key::load_or_make(&settings.key_file, &settings.org)?;
    let unheard = |error| ServeError::Listen {
        address: settings.listen,
        error,
    };
    let listener = TcpListener::bind(settings.listen).await.map_err(unheard)?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let shell = Shared::new(Service::restore(outside::seed(), rows), registry);
    let failure = shell.lock().failure();
    let router = rest::router(shell.clone(), &key, &settings.org);
    let rest = tokio::spawn(axum::serve(listener, router).into_future());
    info!(%address, key_file = %settings.key_file.display(), "the REST face listens");

    let seed = u64::from_be_bytes(first_eight(outside::seed()));
    let (session, events) = mqtt::start(settings.mqtt.clone(), seed);
    shell.lock().use_session(session);
    let mut keeper = Keeper::new(shell.clone(), events, &settings, address);
    let reload = async {
        while hangup.recv().await.is_some() {
            info!("SIGHUP: the credentials are read anew, and the broker is connected to again");
            shell.lock().reload(settings.mqtt.clone());
        }
    };
    let outcome = tokio::select! {
        outcome = keeper.run() => outcome,
        () = reload => Ok(()),
        () = failure.notified() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    info!("ending");
    rest.abort();
    let session = shell.lock().give_session();
    if let Some(session) = session {
        session.stop().await;
    }
    outcome?;
    let failed = shell.lock().failed().map(str::to_owned);
    match failed {
        Some(why) => Err(Stopped(why).into()),
        None => Ok(()),
    }
}

fn first_eight(bytes: [u8; 32]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    first
}

#[cfg(test)]
mod tests;

/// Keeps the brain fed: what the session tells, what time brings.
struct Keeper {
    shell: Shared,
    events: Receiver<mqtt::Event>,
    broker: String,
    address: SocketAddr,
    /// Whether the broker had our session, between CONNACK and SUBACK.
    session_present: bool,
    /// From when on deadlines count; `None` without a session.
    hearing: Option<Instant>,
    /// Since when there is no session.
    away: Option<Instant>,
    /// The grace of an outage outlasts a short interruption after it.
    grace: Instant,
    trouble: Option<Trouble>,
}

impl Keeper {
    fn new(shell: Shared, events: Receiver<mqtt::Event>, settings: &Settings, address: SocketAddr) -> Self {
        Keeper {
            shell,
            events,
            broker: settings.broker_url.clone(),
            address,
            session_present: false,
            hearing: None,
            away: Some(Instant::now()),
            grace: Instant::now(),
            trouble: None,
        }
    }

    async fn run(&mut self) -> Result<(), ServeError> {
        let mut prune = tokio::time::interval(PRUNE);
        loop {
            let wake = self.next_wake();
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.take(event)?,
                    None => return Err(Stopped("the session to the broker ended by itself".into()).into()),
                },
                () = async { sleep_until(wake.unwrap_or_else(Instant::now)).await }, if wake.is_some() => {
                    self.shell.lock().steps([Event::Deadline])?;
                }
                _ = prune.tick() => {
                    let pruned = self.shell.lock().registry().prune(outside::now().unix_ms);
                    if let Err(error) = pruned {
                        warn!("old logs were not deleted: {error}");
                    }
                }
            }
        }
    }

    /// When the next deadline is to be handled, if any counts.
    fn next_wake(&self) -> Option<Instant> {
        let hearing = self.hearing?;
        let due_ms = self.shell.lock().brain().next_deadline()?;
        let left = u64::try_from(due_ms.saturating_sub(outside::now().unix_ms)).unwrap_or(0);
        let nap = Duration::from_millis(left).min(NAP);
        Some(hearing.max(Instant::now() + nap))
    }

    /// Takes an event in, with what has come meanwhile.
    fn take(&mut self, first: mqtt::Event) -> Result<(), ServeError> {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(event) = self.events.try_recv()
        {
            batch.push(event);
        }
        // A change of the session is told to the brain at its place between the messages.
        let mut run = Vec::new();
        for event in batch {
            let connected = self.note(&event);
            run.push(event);
            if let Some(connected) = connected {
                let mut shell = self.shell.lock();
                shell.session_events(std::mem::take(&mut run))?;
                shell.steps([connected])?;
            }
        }
        self.shell.lock().session_events(run)?;
        Ok(())
    }

    /// Notes how the session stands. Returns what the brain is to know when it has come up.
    fn note(&mut self, event: &mqtt::Event) -> Option<Event> {
        match event {
            mqtt::Event::Connected { session_present } => self.session_present = *session_present,
            mqtt::Event::Subscribed => {
                let away = self.away.take().map_or(Duration::ZERO, |since| since.elapsed());
                let grace = if away < OUTAGE { GRACE } else { LONG_GRACE };
                self.grace = self.grace.max(Instant::now() + grace);
                self.hearing = Some(self.grace);
                self.trouble = None;
                let (broker, address) = (&self.broker, self.address);
                info!(%broker, "ready: connected to {broker}, listening on {address}");
                return Some(Event::Connected {
                    session_present: self.session_present,
                });
            }
            mqtt::Event::Disconnected { trouble, retry_in } => {
                self.hearing = None;
                self.away.get_or_insert_with(Instant::now);
                if self.trouble.as_ref() != Some(trouble) {
                    warn!(retry_in = ?retry_in, "no connection to the broker: {trouble}");
                    self.trouble = Some(trouble.clone());
                }
            }
            mqtt::Event::QueueDropped => {
                error!("the broker's queue for this service was dropped: it held a message that is too large");
            }
            _ => {}
        }
        None
    }
}
