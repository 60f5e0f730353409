//! What the brain asks the outside to do.

use crate::agent::{Durable, Volatile};
use crate::protocol::rc::Rc;

/// A publish of ours, until it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// A message of the service, until we acknowledge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(pub u64);

/// An operation on the host, from its start to its one end. Ids of an earlier run mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A record in the outbox; unique across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OweId(pub u64);

/// A local command that waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// How important a line in the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something went wrong.
    Error,
    /// Something may go wrong.
    Warning,
    /// Something happened.
    Info,
}

/// What a log line is about; each has a stable MESSAGE_ID in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The device became managed, or its manage was refused.
    Manage,
    /// The device is no longer managed.
    Unmanage,
    /// A reboot was asked for.
    RebootAsked,
    /// logind accepted the reboot.
    RebootAccepted,
    /// The reboot was refused.
    RebootRefused,
    /// The host came back from a reboot that was asked for.
    RebootDone,
    /// The reboot was accepted, and did not happen.
    RebootDidNotHappen,
    /// A message of the service was not used.
    MessageRefused,
    /// Something that the service should have had was given up.
    Dropped,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Say {
    /// How important.
    pub level: Level,
    /// About what.
    pub topic: Topic,
    /// In words.
    pub text: String,
}

/// The reply to a local command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The service answered.
    Answered(Rc, Option<String>),
    /// It is written down, and will be said to the service as soon as it is reached.
    Later,
    /// It was not done, for this reason.
    Failed(String),
}

/// Something that may be done before or without a commit, twice or not at all, without harm.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish at QoS 1, not retained.
    Publish {
        /// Comes back in `Published` or `NotPublished`.
        id: PublishId,
        /// The whole topic.
        topic: String,
        /// At most 128 KiB.
        payload: Vec<u8>,
    },
    /// The record is no longer needed in the outbox.
    Settle(OweId),
    /// Let go of the delay lock: the host may go down now.
    ReleaseDelayLock,
    /// Answer a local command.
    Reply(CommandId, Reply),
    /// Write a line to the log.
    Say(Say),
}

/// What is done once the commit is on the disk.
#[derive(Debug, Clone, PartialEq)]
pub enum After {
    /// What needs no commit.
    Effect(Effect),
    /// Acknowledge a message of the service.
    Ack(AckId),
    /// Ask logind for a reboot, inhibitors respected: `RebootEnded` follows.
    Reboot(OpId),
}

/// The answer to an event.
#[derive(Debug, Clone)]
pub struct Step {
    /// To be appended to the outbox first, in order; a record that is there already is not appended again.
    pub owe: Vec<(OweId, Vec<u8>)>,
    /// To reach the disk next, together with `owe`. Without it, `owe` need not be on the disk yet.
    pub commit: Option<Durable>,
    /// Done last, in order.
    pub after: Vec<After>,
    pub(super) volatile: Volatile,
}
