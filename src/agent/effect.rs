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
    /// A factory reset was asked for.
    ResetAsked,
    /// The factory reset was accepted.
    ResetAccepted,
    /// The factory reset was refused.
    ResetRefused,
    /// The host came back from a factory reset.
    ResetDone,
    /// The factory reset was accepted, and did not happen or did not wipe everything.
    ResetDidNotHappen,
    /// The service has written attributes, or what it had written counts no longer.
    Attributes,
    /// Firmware is fetched.
    Download,
    /// Firmware is installed, on trial, proven, or not.
    Update,
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
    /// It has begun; this is what happens.
    Begun(&'static str),
    /// It was not done, for this reason.
    Failed(String),
}

/// What a survey of the host is for; it looks only at what that needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whether there is room for a download.
    Download,
    /// Whether an update can be installed, and between which slots.
    Install,
    /// What came of an update.
    Outcome,
}

/// What is fetched and installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub uri: String,
    /// What it must be; see protocol, "verifier".
    pub verifier: Option<String>,
}

/// How a slot's boot is to be marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It boots next.
    Active,
}

/// What makes a boot healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Units that must be active.
    pub units: Vec<String>,
    /// Units whose failure is no news; `None`: failed units do not matter.
    pub failed_before: Option<Vec<String>>,
}

/// What the fall-back outside the agent must know: which slot is on trial, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// RAUC's name of the slot.
    pub slot: String,
    /// Time since boot.
    pub deadline: std::time::Duration,
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
    /// Look at the host: `Surveyed` follows, within half a minute.
    Survey(OpId, Purpose),
    /// Watch the health of this boot: `Health` follows, at once and whenever it changes. `None`: no longer.
    Watch(Option<(OpId, Health)>),
    /// Write the marker of a trial, or remove it.
    Marker(Option<Marker>),
    /// The downloaded image is no longer needed.
    Discard,
    /// Look whether the host can be reset: `ResetSurveyed` follows, within half a minute.
    SurveyReset(OpId),
    /// The reset's unit may have a job, from before a restart of the agent: `ResetEnded` follows when it has ended, or when it
    /// has not within the limit. Nothing is started.
    FollowReset {
        /// To tell the end by.
        op: OpId,
        /// No longer than this.
        limit: std::time::Duration,
    },
    /// Read what the last reset has left: `ResetReported` follows. Where a report is there, the wipe has come to its end;
    /// should the power have been cut before it could remove the wish that the report answers, that is made up for.
    ReadResetReport(OpId),
    /// What the last reset has left is told.
    DiscardResetReport,
    /// The reset has come to its end without wiping anything: what was left for the next boot is taken back, so that a
    /// later reboot does not wipe what the service was told is untouched. Nothing to do where nothing was left.
    WithdrawReset,
    /// This batch of the journal is taken: the next one may come.
    JournalTaken(u64),
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
    /// Have systemd start the reset's unit: `ResetEnded` follows. Asked twice, it is started once.
    Reset(OpId),
    /// Fetch the image, or go on fetching it, and have RAUC look at it: `Downloaded` follows.
    Download(OpId, Image),
    /// Check the image once more and have RAUC write it into the other slot: `Installed` follows.
    Install {
        /// To tell the end by.
        op: OpId,
        /// What was downloaded.
        image: Image,
        /// RAUC's `transaction-id`, where it knows it.
        transaction: String,
    },
    /// RAUC may be at it still, from before a restart of the agent: `Installed` follows.
    Rejoin(OpId),
    /// Mark slots, in this order, and read that back: `Marked` follows. A slot is RAUC's name, or `booted`.
    Mark(OpId, Vec<(Mark, String)>),
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
