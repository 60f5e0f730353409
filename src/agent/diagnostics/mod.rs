//! Diagnostics: the host's journal becomes logs at the service, conditions become error codes.
//!
//! The journal is the store. A batch of entries is taken in one step, or not at all: when the disk refuses what the step
//! owes, nothing of the batch is taken, the reader waits, and the journal keeps what it has. Everything that is counted
//! and not told yet is saved with the cursor, in the write that owes what is told. That is at most one write a second:
//! what was made meanwhile waits in memory, and so does the cursor. No I/O, no clock, no randomness.
//!
//! `entry` is what comes in; `journal` decides what becomes of it (`bucket`, `fold`, `held`, `count`), `log` makes what
//! goes out (`redact`, `keys`); `codes` keeps the service's list of error codes; `command` is what people ask for.
//!
//! Facts: Device Management Protocol, "device diagnostics operations"; systemd.journal-fields(7).

mod bucket;
mod codes;
mod command;
mod count;
mod entry;
mod fold;
mod hash;
mod held;
mod journal;
mod keys;
mod log;
mod redact;
pub mod settings;
mod status;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

pub use codes::Codes;
pub(super) use codes::{Telling, update_failed, update_over};
pub use command::{DiagCommand, LARGEST_DATA};
pub use entry::{CORE_DUMP, Entry, Gap, OUT_OF_MEMORY};
pub use journal::Snapshot;
pub use settings::{Pattern, Rule, Settings};
pub(super) use status::of as status;
pub use status::{ErrorCodes, Status};

use super::effect::{CommandId, Effect, PublishId, Reply};
use super::work::Work;
use super::{Disk, SAVE_RETRY, outbox};
use crate::protocol::Response;
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::timestamp;
use journal::Journal;
use log::{Context, Made};

/// What is on the disk of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Of the journal.
    #[serde(default)]
    pub journal: Snapshot,
    /// Of error codes.
    #[serde(default)]
    pub codes: Codes,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        *self == Kept::default()
    }
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Diagnostics {
    /// Shared with the memory before: the brain's whole memory is cloned with every event.
    journal: Arc<Journal>,
    telling: Telling,
}

impl Diagnostics {
    pub(super) fn cursor(&self) -> Option<&str> {
        self.journal.cursor()
    }
}

/// Runs `f` on what is remembered of the journal.
fn with<R>(work: &mut Work<'_>, f: impl FnOnce(&mut Journal, &Context<'_>) -> R) -> Option<R> {
    let settings = work.settings.diagnostics.as_ref()?;
    let context = Context {
        now: work.now,
        boot_id: &work.settings.boot_id,
        settings,
    };
    Some(f(Arc::make_mut(&mut work.v.diagnostics.journal), &context))
}

/// The agent has started: what was saved counts on.
pub(super) fn started(work: &mut Work<'_>) {
    let journal = Journal::restore(&work.d.diagnostics.journal, work.now.boottime);
    work.v.diagnostics.journal = Arc::new(journal);
}

/// The service knows nothing of this device.
pub(super) fn forget(work: &mut Work<'_>) {
    codes::forget(work);
}

/// It is not known which codes the service has.
pub(super) fn doubt(work: &mut Work<'_>) {
    codes::doubt(work);
}

/// The journal's next entries, in their order. Taken when [`Effect::JournalTaken`] follows; otherwise nothing of them
/// counts, and they are to be offered again.
pub(super) fn journal(work: &mut Work<'_>, batch: u64, entries: &[Entry], cursor: &str, gap: Option<&Gap>) {
    if !may_save(work) {
        return;
    }
    let made = with(work, |journal, context| {
        if let Some(gap) = gap {
            journal.gap(gap, context.now.boottime);
        }
        journal.take(context, entries, cursor)
    });
    if let Some(made) = made {
        make_ready(work, made);
        owe_if_due(work);
        work.effect(Effect::JournalTaken(batch));
    }
}

/// The units that rules name and that are failed are these.
pub(super) fn failed_units(work: &mut Work<'_>, units: &std::collections::BTreeSet<String>) {
    codes::failed_units(work, units);
}

/// Somebody on the host asks for something.
pub(super) fn command(work: &mut Work<'_>, id: CommandId, command: &DiagCommand) {
    let done = match work.disk {
        Disk::Refuses(reason) => Err(reason.to_owned()),
        Disk::Works => carry_out(work, command),
    };
    let reply = match done {
        Ok(()) => Reply::Later,
        Err(reason) => Reply::Failed(reason),
    };
    work.effect(Effect::Reply(id, reply));
}

fn carry_out(work: &mut Work<'_>, command: &DiagCommand) -> Result<(), String> {
    let Some(settings) = work.settings.diagnostics.as_ref() else {
        return Err("diagnostics are switched off in the configuration".to_owned());
    };
    match command {
        DiagCommand::AddLog { severity, text, data } => {
            if text.trim().is_empty() {
                return Err("a log needs a text".to_owned());
            }
            if data.as_ref().is_some_and(|data| data.len() > LARGEST_DATA) {
                return Err(format!("the data of a log may have at most {LARGEST_DATA} bytes"));
            }
            let log = LogEntry {
                message: log::by_hand(text, settings),
                severity: *severity,
                timestamp: work.now.wall.and_then(timestamp::format),
                data: data.clone(),
                extra: Map::new(),
            };
            make_ready(work, vec![Made { log, covers: 0 }]);
            // Whoever asked waits for it.
            work.save();
            owe(work);
        }
        DiagCommand::ClearLogs => {
            outbox::owe_clear(work);
            work.save();
        }
        DiagCommand::AddError(_) | DiagCommand::ClearErrors => codes::command(work, command)?,
    }
    Ok(())
}

/// These are to be owed.
fn make_ready(work: &mut Work<'_>, made: Vec<Made>) {
    if !made.is_empty() {
        Arc::make_mut(&mut work.v.diagnostics.journal).make_ready(made);
    }
}

/// What is ready is owed if it is time, and what it was made of is saved with it.
fn owe_if_due(work: &mut Work<'_>) {
    if work
        .v
        .diagnostics
        .journal
        .owe_at()
        .is_some_and(|at| at <= work.now.boottime)
    {
        work.save();
        owe(work);
    }
}

/// What is ready is owed, in a step that is saved.
fn owe(work: &mut Work<'_>) {
    if work.v.diagnostics.journal.owe_at().is_none() {
        return;
    }
    let ready = Arc::make_mut(&mut work.v.diagnostics.journal).take_ready(work.now.boottime);
    for Made { log, covers } in ready {
        outbox::owe_diagnostic(work, log, covers);
    }
}

/// A log of ours has left the outbox without having been sent: nobody else knows of it any more.
pub(super) fn dropped(work: &mut Work<'_>, covers: u64, name: &str) {
    work.save();
    with(work, |journal, context| {
        journal.dropped(covers, name, context.now.boottime);
    });
}

/// Whether something may be owed now: the disk works, or it is time to try it.
fn may_save(work: &Work<'_>) -> bool {
    codes::disk_works(work) && retry_at(work).is_none_or(|at| work.now.boottime >= at)
}

/// Before this the disk is not tried again.
fn retry_at(work: &Work<'_>) -> Option<Duration> {
    work.v.diagnostics.telling.disk_last().map(|last| last + SAVE_RETRY)
}

pub(super) fn subscribed(work: &mut Work<'_>) {
    codes::subscribed(work);
}

pub(super) fn due(work: &mut Work<'_>) {
    if work.settings.diagnostics.is_none() {
        return;
    }
    disk_taken(work);
    tell(work);
    disk_taken(work);
    codes::due(work);
}

fn tell(work: &mut Work<'_>) {
    let Some(settings) = work.settings.diagnostics.as_ref() else {
        return;
    };
    if !may_save(work) {
        return;
    }
    let (now, room) = (work.now.boottime, outbox::has_room(work));
    let journal = &work.v.diagnostics.journal;
    let due = journal.is_due(now, settings, room);
    let save = journal
        .unsaved
        .is_some_and(|since| now >= since.saturating_add(journal::SAVE));
    if save || retry_at(work).is_some() {
        // The second is a look whether the disk works again.
        work.save();
    }
    if due {
        let made = with(work, |journal, context| journal.tell(context, room));
        make_ready(work, made.unwrap_or_default());
    }
    owe_if_due(work);
}

pub(super) fn send(work: &mut Work<'_>) {
    if work.settings.diagnostics.is_none() {
        return;
    }
    codes::send(work);
    if retry_at(work).is_some() && disk_taken(work) {
        // What has waited for that need not wait for another look.
        tell(work);
    }
}

/// Whether the disk takes this step; then it works.
fn disk_taken(work: &mut Work<'_>) -> bool {
    let taken = work.is_written();
    if taken {
        work.v.diagnostics.telling.disk_works();
    }
    taken
}

pub(super) fn deadline(work: &Work<'_>) -> Option<Duration> {
    let settings = work.settings.diagnostics.as_ref()?;
    let retry = retry_at(work);
    let unsaved = work.v.retry_save_at.filter(|_| work.unsaved());
    let gate = retry.max(unsaved).unwrap_or_default();
    let journal = work.v.diagnostics.journal.deadline(settings).map(|at| at.max(gate));
    let at = [journal, retry.map(|at| at.max(gate)), codes::deadline(work)];
    at.into_iter().flatten().min()
}

/// Everything that the step changed is about to be committed: what is counted and not told yet goes with it.
pub(super) fn snapshot(work: &mut Work<'_>) -> Option<Snapshot> {
    work.v.diagnostics.telling.disk_works();
    // The position goes to the disk: so must what was made of the entries before it.
    owe(work);
    work.v.diagnostics.journal.unsaved?;
    let journal = Arc::make_mut(&mut work.v.diagnostics.journal);
    journal.unsaved = None;
    Some(journal.to_snapshot(&work.d.diagnostics.journal, work.now.boottime))
}

/// The step before this one could not be written.
pub(super) fn disk_refused(work: &mut Work<'_>) {
    if work.settings.diagnostics.is_some() {
        work.v.diagnostics.telling.disk_refused(work.now.boottime);
    }
}

pub(super) fn published(work: &mut Work<'_>, id: PublishId) {
    codes::published(work, id);
}

pub(super) fn not_published(work: &mut Work<'_>, id: PublishId) {
    codes::not_published(work, id);
}

pub(super) fn publish_refused(work: &mut Work<'_>, id: PublishId) -> bool {
    codes::publish_refused(work, id)
}

/// True when the response was to an error code of ours.
pub(super) fn answered(work: &mut Work<'_>, response: &Response) -> bool {
    codes::answered(work, response)
}

/// How many publishes of it wait for their acknowledgement.
pub(super) fn in_flight(work: &Work<'_>) -> usize {
    work.v.diagnostics.telling.in_flight()
}

/// Milliseconds, for the disk.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
