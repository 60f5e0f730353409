//! Entries that are told of by their number: how many, and between when and when.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::log::{Context, severity};
use crate::protocol::diagnostics::Severity;

/// Entries that are told of by their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    /// How many.
    pub entries: u64,
    /// The earliest, in microseconds since 1970; none of those count whose time cannot be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_us: Option<u64>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_us: Option<u64>,
    /// The worst severity, 0 to 2.
    pub severity: u8,
    /// The cursor of the one that was read first.
    pub cursor: String,
    /// The boot in which that was written.
    pub boot_id: String,
}

impl Count {
    pub(super) fn add(&mut self, entry: &Entry, context: &Context<'_>) {
        if self.entries == 0 {
            self.cursor.clone_from(&entry.cursor);
            self.boot_id.clone_from(&entry.boot_id);
        }
        self.entries += 1;
        self.severity = self.severity.max(severity(entry) as u8);
        if let Some(at) = context.plausible(entry) {
            self.first_us = Some(self.first_us.map_or(at, |first| first.min(at)));
            self.last_us = Some(self.last_us.map_or(at, |last| last.max(at)));
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.entries == 0
    }

    /// Takes over what another has counted later.
    pub(super) fn add_all(&mut self, other: Count) {
        if self.entries == 0 {
            *self = other;
            return;
        }
        self.entries += other.entries;
        self.severity = self.severity.max(other.severity);
        self.first_us = [self.first_us, other.first_us].into_iter().flatten().min();
        self.last_us = self.last_us.max(other.last_us);
    }

    pub(super) fn severity(&self) -> Severity {
        Severity::from_number(self.severity.into()).unwrap_or(Severity::Error)
    }
}
