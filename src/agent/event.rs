//! What happens to the brain.

use super::Settings;
use super::effect::{AckId, CommandId, OpId, OweId, PublishId};
use crate::protocol::rc::Rc;

/// A message as the broker delivered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The whole topic.
    pub topic: String,
    /// Anything.
    pub payload: Vec<u8>,
    /// Kept by the broker from before; never executed.
    pub retained: bool,
    /// Perhaps delivered before (MQTT 3.1.1, 3.3.1.1).
    pub dup: bool,
    /// To acknowledge it with.
    pub ack: AckId,
}

/// How asking logind for a reboot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RebootOutcome {
    /// logind is on it, or was already.
    Accepted,
    /// The bus broke in the middle: nobody knows whether logind got it. The host may still go down.
    Unknown,
    /// It will not happen: 501 when the host cannot, 500 with who and why otherwise.
    Refused {
        /// 500 or 501.
        rc: Rc,
        /// Who and why, in words.
        message: String,
    },
}

/// Something that the brain is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first event of a run: look at what was on the disk.
    Started,
    /// The configuration or the host's facts were read anew.
    Configured(Box<Settings>),
    /// The broker accepted the connection.
    Connected {
        /// It kept the session: subscription and queue.
        session_present: bool,
    },
    /// The subscription stands; publishing may begin.
    Subscribed,
    /// The connection is gone; publishes in flight are still the session's to deliver or to give back.
    Disconnected,
    /// The service said something.
    Message(Message),
    /// The broker has the publish.
    Published(PublishId),
    /// The session gave the publish up; it must be made again.
    NotPublished(PublishId),
    /// The broker ended the connection right after this publish, every time.
    PublishRefused(PublishId),
    /// The one end of [`super::After::Reboot`].
    RebootEnded {
        /// Which.
        op: OpId,
        /// How.
        outcome: RebootOutcome,
    },
    /// logind's signal: true when the host is about to go down, false when that was called off.
    PreparingForShutdown(bool),
    /// Somebody on the host asks for a manage request.
    Manage(CommandId),
    /// Somebody on the host takes the device out of management.
    Unmanage(CommandId),
    /// The outbox on the disk was full, and these records went.
    OutboxDropped(Vec<OweId>),
    /// [`super::Agent::next_deadline`] has passed.
    Deadline,
}
