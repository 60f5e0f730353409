//! How diagnostics stand, for people and for `diag status --json`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::codes;
use crate::agent::outbox;
use crate::agent::work::Work;

/// `iotdm-agent diag status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Up to here, this included, the journal was taken.
    pub cursor: Option<String>,
    /// Entries of the journal that were taken since the agent started.
    pub entries_taken: u64,
    /// Logs that wait for the service.
    pub logs_waiting: usize,
    /// Their size in bytes.
    pub bytes_waiting: usize,
    /// Of those, sent and not answered yet.
    pub logs_in_flight: usize,
    /// Logs in a minute, at most.
    pub max_per_minute: u32,
    /// Logs that were made of the journal in the last minute.
    pub in_last_minute: usize,
    /// Kinds of entries that are counted at present.
    pub folds: usize,
    /// Entries that they have counted.
    pub folded: u64,
    /// Entries that are held back, by unit; told within a minute.
    pub held_back: Map<String, Value>,
    /// Logs that were dropped for want of room, and not told of yet.
    pub dropped_logs: u64,
    /// Entries of the journal that those stood for.
    pub dropped_entries: u64,
    /// Error codes.
    pub error_codes: ErrorCodes,
}

/// Error codes in `diag status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCodes {
    /// What holds.
    pub hold: Vec<i64>,
    /// What the service was told.
    pub told: Vec<i64>,
    /// What was added by hand.
    pub by_hand: Vec<i64>,
    /// What the service refused.
    pub refused: Vec<i64>,
}

pub(in crate::agent) fn of(work: &Work<'_>) -> Status {
    let journal = &work.v.diagnostics.journal;
    let waiting = outbox::held(work);
    let (dropped_logs, dropped_entries) = journal.lost();
    let settings = work.settings.diagnostics.as_ref();
    Status {
        cursor: journal.cursor().map(str::to_owned),
        entries_taken: journal.taken,
        logs_waiting: waiting.records,
        bytes_waiting: waiting.bytes,
        logs_in_flight: waiting.in_flight,
        max_per_minute: settings.map_or(0, |settings| settings.max_per_minute),
        in_last_minute: journal.in_last_minute(work.now.boottime),
        folds: journal.folds().len(),
        folded: journal.folds().entries(),
        held_back: journal.held().by_name(),
        dropped_logs,
        dropped_entries,
        error_codes: codes::status(work),
    }
}
