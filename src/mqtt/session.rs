//! The owner's end of a session: what it may ask for and what it is told.

use super::acks::AckToken;
use super::driver::Driver;
use super::options::Options;
use super::outbound::{Queued, Turn};
use super::trouble::Trouble;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The largest payload that is published, in bytes: the platform closes the connection on more (CON-14).
pub const MAX_PAYLOAD: usize = 131_072;

/// The largest packet that is received, in bytes after the fixed header: 1 MiB of payload and the longest topic.
pub const MAX_INCOMING: usize = 1024 * 1024 + 65_535 + 4;

/// How many publishes may be outstanding: queued here, or sent and not acknowledged.
pub const MAX_OUTSTANDING: usize = 64;

/// Capacity of the channel of events.
const EVENTS: usize = 64;

/// The owner's name for a publish. It should be unique among those outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// What the session tells its owner.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted us.
    Connected {
        /// Whether the broker still had our session. If not, everything that was sent and not acknowledged has been
        /// reported as [`Event::NotPublished`] before this.
        session_present: bool,
    },
    /// All required subscriptions of this connection stand. Only now are publishes sent.
    Subscribed,
    /// The broker refused an optional subscription. (A required one ends the session.)
    SubscriptionRefused {
        /// The refused filter.
        filter: String,
    },
    /// A message came in. It may come before [`Event::Subscribed`] when the broker kept our session.
    Message(Incoming),
    /// The broker acknowledged a publish.
    Published(PublishId),
    /// A publish may or may not have reached the broker, and is no longer held here: publish it again if it matters.
    NotPublished(PublishId),
    /// The broker closed the connection three times in a row right after this publish, which is no longer held here.
    /// Publishing it again would end the next session, too.
    PublishRefused {
        /// Which publish.
        id: PublishId,
        /// Its topic.
        topic: String,
    },
    /// The broker's queue for this client was dropped on purpose, with whatever waited in it, because the broker twice
    /// in a row sent a packet that cannot be received.
    QueueDropped,
    /// There is no connection, or no longer one.
    Disconnected {
        /// Why, for people.
        trouble: Trouble,
        /// When the next attempt comes.
        retry_in: Duration,
    },
    /// Nothing happened, but the session's task is alive. For a watchdog.
    Progress,
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The topic.
    pub topic: String,
    /// The payload, at most about 1 MiB.
    pub payload: Vec<u8>,
    /// Kept by the broker from earlier, and not sent to us now.
    pub retained: bool,
    /// The broker thinks it may have sent this before.
    pub dup: bool,
    /// To be given back through [`Session::ack`] when it is handled.
    pub ack: AckToken,
}

/// Why a publish was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// [`MAX_OUTSTANDING`] publishes are outstanding.
    #[error(
        "{MAX_OUTSTANDING} messages wait for the broker already, which acknowledges none: look into the broker's log"
    )]
    Full,
    /// The payload is over [`MAX_PAYLOAD`].
    #[error("it has {0} bytes, more than the {MAX_PAYLOAD} that the service takes: see that less is put into it")]
    TooLarge(usize),
    /// Empty, too long, or with a wildcard or NUL in it.
    #[error("not a topic that can be published to")]
    Topic,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// What the owner asks of the task.
pub(super) enum Command {
    Publish(Queued),
    Ack(AckToken),
    Reload(Box<Options>),
    Stop,
}

/// A session that reconnects for ever. Dropping it ends it as [`stop`](Session::stop) does, but without waiting.
#[derive(Debug)]
pub struct Session {
    commands: mpsc::UnboundedSender<Command>,
    outstanding: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    patience: Duration,
}

/// Starts a session on the present tokio runtime. `seed` feeds the jitter of the backoff.
///
/// The receiver has to be read: after 64 unread events nothing more is received from the broker.
pub fn start(options: Options, seed: u64) -> (Session, mpsc::Receiver<Event>) {
    // Bounded by what it carries: publishes by `outstanding`, acknowledgements by the events given out.
    let (commands, inbox) = mpsc::unbounded_channel();
    let (events, receiver) = mpsc::channel(EVENTS);
    let outstanding = Arc::new(AtomicUsize::new(0));
    let patience = options.limits.stop + Duration::from_secs(1);
    let (driver, eventloop) = Driver::new(options, seed, inbox, events, Arc::clone(&outstanding));
    let task = tokio::spawn(driver.run(eventloop));
    (
        Session {
            commands,
            outstanding,
            task,
            patience,
        },
        receiver,
    )
}

impl Session {
    /// Takes a message for the broker (QoS 1, never retained). Exactly one of [`Event::Published`],
    /// [`Event::NotPublished`] and [`Event::PublishRefused`] follows, unless the session is stopped before. While there
    /// is no connection it waits here. Does not block.
    ///
    /// # Errors
    /// [`NotAccepted`], when it is not taken and no event follows.
    pub fn publish(&self, id: PublishId, topic: String, payload: Vec<u8>) -> Result<(), NotAccepted> {
        self.publish_in(Turn::InOrder, id, topic, payload)
    }

    /// The same, with a say in what it passes while it waits for the window and the rate.
    ///
    /// # Errors
    /// As for [`Session::publish`].
    pub fn publish_in(&self, turn: Turn, id: PublishId, topic: String, payload: Vec<u8>) -> Result<(), NotAccepted> {
        if payload.len() > MAX_PAYLOAD {
            return Err(NotAccepted::TooLarge(payload.len()));
        }
        if topic.is_empty() || topic.len() > 65_535 || topic.contains(['+', '#', '\0']) {
            return Err(NotAccepted::Topic);
        }
        let room = |count| (count < MAX_OUTSTANDING).then_some(count + 1);
        if self
            .outstanding
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_err()
        {
            return Err(NotAccepted::Full);
        }
        let publish = Queued {
            turn,
            id,
            topic,
            payload,
        };
        self.commands
            .send(Command::Publish(publish))
            .map_err(|_| NotAccepted::Ended)
    }

    /// Acknowledges a message to the broker, after those that came before it. A token of an earlier connection does
    /// nothing: the broker sends that message again. Does not block.
    pub fn ack(&self, token: AckToken) {
        // When the session has ended there is nobody to acknowledge to.
        let _ = self.commands.send(Command::Ack(token));
    }

    /// Takes new options, reads all files anew and reconnects at once, whatever the session was waiting for.
    pub fn reload(&self, options: Options) {
        let _ = self.commands.send(Command::Reload(Box::new(options)));
    }

    /// Sends what is queued, waits for the broker's acknowledgements for at most `limits.stop`, and takes leave with
    /// DISCONNECT. Ends at once when there is no connection. The events may or may not be read meanwhile.
    pub async fn stop(mut self) {
        let _ = self.commands.send(Command::Stop);
        if tokio::time::timeout(self.patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
