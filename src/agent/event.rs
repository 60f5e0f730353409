//! What happens to the brain.

use super::Settings;
use super::diagnostics::{DiagCommand, Entry, Gap};
use super::effect::{AckId, CommandId, OpId, OweId, PublishId};
use super::location::Fix;
use crate::protocol::firmware::UpdateStatus;
use crate::protocol::rc::Rc;
use std::collections::BTreeSet;

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

/// The host can be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetReady {
    /// Whether the unit leaves a report of what it wiped, as our own does. Another unit's proof is a new boot id.
    pub reports: bool,
}

/// The host cannot be reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetRefused {
    /// 501 when there is nothing that could reset it, 500 otherwise.
    pub rc: Rc,
    /// Who and why, in words.
    pub message: String,
}

/// How asking systemd for the reset's unit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetOutcome {
    /// The unit's job is done: the host will go down.
    Started,
    /// The bus broke in the middle: nobody knows whether systemd got it. The host may still go down.
    Unknown,
    /// The unit was not started, for this reason in words; the host stays up.
    Refused(String),
}

/// What a reset has left for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetReport {
    /// The boot id of the boot that finished it: no two reports have the same.
    pub id: String,
    /// The boot id of the boot in which it was asked for.
    pub asked_in: String,
    /// What could not be wiped, in words.
    pub failed: Option<String>,
    /// What was wiped, how much, how long it took, in words.
    pub text: String,
}

/// A slot as RAUC tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slot {
    /// RAUC's name, such as `rootfs.0`.
    pub name: String,
    /// Slots of one class take turns.
    pub class: String,
    /// Whether it was written to its end; a slot that RAUC never wrote counts as such.
    pub complete: bool,
    /// The transaction of the last installation, where RAUC knows it.
    pub transaction: Option<String>,
    /// Different after every installation that was written to its end.
    pub installed: Option<String>,
    /// Whether the boot loader takes it at the next boot. Not every boot loader says so, and it is asked only after an
    /// installation.
    pub boots_next: Option<bool>,
}

/// What a survey of the host found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// The slot that runs, by RAUC's name.
    pub booted: Option<String>,
    /// All slots.
    pub slots: Vec<Slot>,
    /// Whether RAUC is installing something.
    pub installing: bool,
    /// Units that have failed.
    pub failed_units: Vec<String>,
    /// What stands in the way, in words.
    pub problems: Vec<String>,
    /// What the fall-back outside the agent has left behind: why it left the slot on trial.
    pub fallback: Option<String>,
}

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadEnd {
    /// The image is there, whole, with the right digest, signed, and made for this hardware.
    Done,
    /// It is not.
    Failed {
        /// 2 to 6.
        status: UpdateStatus,
        /// Why, in words.
        message: String,
    },
}

/// How an installation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallEnd {
    /// The other slot is written and boots next.
    Done,
    /// RAUC never began: the slots and the boot loader are as they were.
    Refused {
        /// 2 to 6.
        status: UpdateStatus,
        /// Why, in words; RAUC's own, where there are any.
        message: String,
        /// Whether the same image may be tried again.
        again: bool,
    },
    /// RAUC began and says that it failed. How far it came, the slots tell: what fails after the writing (a `post-install`
    /// handler) leaves a slot that is written and boots next.
    Failed {
        /// 2 or 5.
        status: UpdateStatus,
        /// Why, in words; RAUC's own, where there are any.
        message: String,
        /// Whether the same image may be tried again.
        again: bool,
    },
    /// RAUC or the bus was lost in the middle: the slots will tell.
    Unclear(String),
}

/// Whether this boot is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Good,
    /// Not yet, for this reason.
    Pending(String),
    /// It is not, for this reason; it may yet become so.
    Bad(String),
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
    /// The publish is not sent, now or later: the broker ended the connection right after it, every time, or the session
    /// did not take it.
    PublishRefused {
        /// Which.
        id: PublishId,
        /// Why, and what to do about it, in words.
        reason: String,
    },
    /// The one end of [`super::After::Reboot`].
    RebootEnded {
        /// Which.
        op: OpId,
        /// How.
        outcome: RebootOutcome,
    },
    /// The one end of [`super::Effect::SurveyReset`].
    ResetSurveyed {
        /// Which.
        op: OpId,
        /// Whether the host can be reset.
        found: Result<ResetReady, ResetRefused>,
    },
    /// The one end of [`super::After::Reset`] or [`super::Effect::FollowReset`].
    ResetEnded {
        /// Which.
        op: OpId,
        /// How.
        outcome: ResetOutcome,
    },
    /// The one end of [`super::Effect::ReadResetReport`].
    ResetReported {
        /// Which.
        op: OpId,
        /// What the last reset has left, if anything, or why it cannot be read.
        report: Result<Option<ResetReport>, String>,
    },
    /// [`super::Effect::WithdrawReset`] has failed.
    ResetNotWithdrawn {
        /// What the next boot may do now, and what to do about it, in words.
        reason: String,
    },
    /// The one end of [`super::Effect::Survey`].
    Surveyed {
        /// Which.
        op: OpId,
        /// What was found, or why nobody knows.
        found: Result<Survey, String>,
    },
    /// The one end of [`super::After::Download`].
    Downloaded {
        /// Which.
        op: OpId,
        /// How.
        end: DownloadEnd,
    },
    /// The one end of [`super::After::Install`] and [`super::After::Rejoin`].
    Installed {
        /// Which.
        op: OpId,
        /// How.
        end: InstallEnd,
    },
    /// The one end of [`super::After::Mark`].
    Marked {
        /// Which.
        op: OpId,
        /// Why it did not stick.
        result: Result<(), String>,
    },
    /// The health of this boot is this now.
    Health {
        /// Of which watch.
        op: OpId,
        /// How it is.
        verdict: Verdict,
    },
    /// The time of day at which an update may reboot the host has begun, or ended.
    Window(bool),
    /// Somebody's lock on shutdown came or went.
    InhibitorsChanged,
    /// logind's signal: true when the host is about to go down, false when that was called off.
    PreparingForShutdown(bool),
    /// Somebody on the host handed over an image with this name, to be installed.
    InstallFile(CommandId, String),
    /// Somebody on the host says that the firmware on trial is good.
    ConfirmTrial(CommandId),
    /// Somebody on the host does not want the new firmware.
    RollBack(CommandId),
    /// Somebody on the host asks for a manage request.
    Manage(CommandId),
    /// Somebody on the host takes the device out of management.
    Unmanage(CommandId),
    /// The outbox on the disk was full, and these records went.
    OutboxDropped(Vec<OweId>),
    /// The host's receiver says where it is.
    Fix(Fix),
    /// It does not, or not any more: why, in words.
    NoFix(String),
    /// It could not be asked, and its last fix counts until it is too old: why, in words.
    NotAsked(String),
    /// The journal's next entries; none before [`super::Effect::JournalTaken`] has come for those before. Without it, they
    /// are not taken, and to be offered again after some seconds.
    Journal {
        /// Which.
        batch: u64,
        /// In the journal's order.
        entries: Vec<Entry>,
        /// Where to go on after them.
        cursor: String,
        /// Entries are missing before these.
        gap: Option<Gap>,
    },
    /// The units that are failed, of those that rules for error codes name
    /// ([`units`](super::diagnostics::Settings::units)): all of them, at the start and whenever that changes.
    FailedUnits(BTreeSet<String>),
    /// Somebody on the host has something to say.
    Diag(CommandId, DiagCommand),
    /// [`super::Agent::next_deadline`] has passed.
    Deadline,
}
