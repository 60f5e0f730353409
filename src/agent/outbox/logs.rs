//! The logs of diagnostics in the outbox: their own bound, and the end of all logs.

use std::sync::Arc;

use super::item::Item;
use super::{Entry, State};
use crate::agent::diagnostics;
use crate::agent::effect::{Level, Topic};
use crate::agent::work::Work;
use crate::protocol::diagnostics::LogEntry;

/// Of all records, so many logs of diagnostics, with so many bytes of texts and data; then the oldest of them go.
pub const MAX_LOGS: usize = 1000;
/// See [`MAX_LOGS`].
pub const MAX_BYTES: usize = 1 << 20;
/// So many logs of diagnostics may be without an answer. Of the eight publishes that the broker may owe an acknowledgement
/// the rest is left to what is in a hurry: responses above all.
pub(super) const MAX_UNANSWERED: usize = 5;

/// A log made of the journal, or by hand. `covers`: how many entries of the journal it stands for.
pub(in crate::agent) fn owe_diagnostic(work: &mut Work<'_>, entry: LogEntry, covers: u64) {
    let (req_id, before_manage, covers) = (work.v.ids.req_id(), false, Some(covers));
    super::owe(
        work,
        Item::Log {
            req_id,
            entry,
            before_manage,
            covers,
        },
    );
    loop {
        let held = held(work);
        if held.records <= MAX_LOGS && held.bytes <= MAX_BYTES {
            return;
        }
        let entries = &work.v.outbox.entries;
        let waits = |entry: &Entry| matches!(entry.state, State::Waiting { .. });
        let ours = |entry: &Entry| entry.item.diagnostic().is_some();
        let oldest = entries.iter().position(|entry| ours(entry) && waits(entry));
        let Some(oldest) = oldest.or_else(|| entries.iter().position(ours)) else {
            return;
        };
        drop_oldest(work, oldest);
    }
}

/// The service is to forget all logs: those that wait need not be sent any more.
pub(in crate::agent) fn owe_clear(work: &mut Work<'_>) {
    for index in (0..work.v.outbox.entries.len()).rev() {
        let entry = &work.v.outbox.entries[index];
        if entry.item.is_late() && matches!(entry.state, State::Waiting { .. }) {
            super::settle(work, index);
        }
    }
    let req_id = work.v.ids.req_id();
    super::owe(work, Item::ClearLogs { req_id });
}

/// The logs of diagnostics that the outbox holds.
pub(in crate::agent) struct Held {
    pub(in crate::agent) records: usize,
    pub(in crate::agent) bytes: usize,
    /// Sent, and not answered.
    pub(in crate::agent) in_flight: usize,
}

pub(in crate::agent) fn held(work: &Work<'_>) -> Held {
    let mut held = Held {
        records: 0,
        bytes: 0,
        in_flight: 0,
    };
    for entry in &work.v.outbox.entries {
        if let Some((bytes, _)) = entry.item.diagnostic() {
            held.records += 1;
            held.bytes += bytes;
            held.in_flight += usize::from(!matches!(entry.state, State::Waiting { .. }));
        }
    }
    held
}

/// Whether half of the room for logs of diagnostics is free.
pub(in crate::agent) fn has_room(work: &Work<'_>) -> bool {
    let held = held(work);
    held.records <= MAX_LOGS / 2 && held.bytes <= MAX_BYTES / 2
}

/// A record has to make room.
pub(super) fn drop_oldest(work: &mut Work<'_>, index: usize) {
    let item = Arc::clone(&work.v.outbox.entries[index].item);
    super::settle(work, index);
    match item.diagnostic().zip(item.name()) {
        // That is told to the service, too, when there is room again.
        Some(((_, covers), name)) => diagnostics::dropped(work, covers, &name),
        None => work.say(
            Level::Warning,
            Topic::Dropped,
            "the outbox is full: its oldest record was dropped",
        ),
    }
}

/// Whether the service is to forget this log: it is not tried again after that.
pub(super) fn is_cleared(work: &Work<'_>, index: usize) -> bool {
    let entries = &work.v.outbox.entries;
    let log = matches!(*entries[index].item, Item::Log { .. }) && entries[index].item.is_late();
    log && cleared_at(work).is_some_and(|clear| clear > index)
}

/// Where the end of all logs stands in the queue: those behind it wait until it is done.
pub(super) fn cleared_at(work: &Work<'_>) -> Option<usize> {
    let clears = |entry: &Entry| matches!(*entry.item, Item::ClearLogs { .. });
    work.v.outbox.entries.iter().position(clears)
}

/// Whether logs of diagnostics wait: the service did not take the last one.
pub(super) fn wait(work: &Work<'_>) -> bool {
    let not_before = work.v.outbox.logs_not_before;
    not_before.is_some_and(|at| work.now.boottime < at)
}
