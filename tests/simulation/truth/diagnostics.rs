//! Every entry of the journal is at the service, by itself or in a number; and the service's error codes are what holds.

use std::collections::BTreeSet;

use iotdm::protocol::{Report, ReqId, ToService};
use iotdm::service::brain::{ErrorCodeRow, LogRow};
use serde_json::Value;

use crate::broker::Message;
use crate::counts::Thing;
use crate::journal::UNITS;
use crate::world::{World, note};

/// That the state's disk refuses: the only code that cannot be written down before it is told.
const DISK_REFUSES: i64 = 9003;

/// What the service has of it.
#[derive(Debug, Default)]
pub struct Diagnostics {
    /// The logs made of the journal, by their first cursor, with how many entries each stands for.
    logs: BTreeSet<(String, u64)>,
    /// The request ids of those.
    requests: BTreeSet<Option<ReqId>>,
    /// The codes, each with its request id: the same again is the same message, sent again.
    codes: Vec<(i64, Option<ReqId>)>,
    /// Whether the agent was ever killed.
    killed: bool,
    /// That the disk refuses was told; and the agent that knew of it is gone.
    disk_was_told: bool,
    disk_may_stay: bool,
}

impl World {
    pub fn diagnostic_published(&mut self, message: &Message) {
        if let Ok((_, kind @ ToService::AddErrorCode)) = ToService::parse(&message.topic)
            && let Ok((Report::AddErrorCode(code), _)) = Report::parse(kind, &message.payload)
        {
            note!(self, "  error code {code}");
            self.truth.diagnostics.disk_was_told |= code == DISK_REFUSES;
        }
    }

    pub fn diagnostics_died(&mut self) {
        let truth = &mut self.truth.diagnostics;
        truth.killed = true;
        truth.disk_may_stay |= truth.disk_was_told;
    }

    pub fn diagnostic_log_received(&mut self, row: &LogRow) {
        let data = row
            .data
            .as_ref()
            .and_then(|data| serde_json::from_slice::<Value>(data).ok());
        let Some(data) = data else { return };
        let (Some(cursor), Some(count)) = (data["cursor"].as_str(), data["count"].as_u64()) else {
            return;
        };
        if data.get("held_back").is_some() {
            self.counts.add(Thing::HeldBack);
        } else if count > 1 {
            self.counts.add(Thing::Folded);
        }
        let truth = &mut self.truth.diagnostics;
        let same_request = !truth.requests.insert(row.req_id.clone());
        if !truth.logs.insert((cursor.to_owned(), count)) {
            assert!(
                same_request || truth.killed,
                "the same log comes as another request: {cursor}"
            );
            self.counts.add(Thing::LogTwice);
        }
    }

    pub fn code_received(&mut self, row: &ErrorCodeRow) {
        self.counts.add(Thing::CodeAdded);
        let told = (row.code, row.req_id.clone());
        let codes = &mut self.truth.diagnostics.codes;
        if !codes.contains(&told) {
            codes.push(told);
        }
    }

    pub fn codes_cleared(&mut self) {
        self.counts.add(Thing::CodesCleared);
        self.truth.diagnostics.codes.clear();
    }

    pub fn check_diagnostics_settled(&self) {
        let Some(process) = &self.device.process else { return };
        if !self.plan.diagnostics {
            return;
        }
        let status = process.agent.diagnostics(self.device.now(self.now));
        let (journal, truth) = (&self.device.journal, &self.truth.diagnostics);
        assert_eq!(
            (status.folded, status.held_back.len()),
            (0, 0),
            "not told in the end: {status:?}"
        );
        assert_eq!((status.dropped_logs, status.logs_waiting), (0, 0), "{status:?}");
        let last = journal.entries.last().map(|entry| entry.cursor.as_str());
        assert_eq!(status.cursor.as_deref(), last, "not everything was read");
        let told: u64 = truth.logs.iter().map(|(_, count)| count).sum();
        let there = journal.entries.len() as u64;
        assert!(told >= there, "{there} entries, of which {told} were told or counted");
        assert!(truth.killed || told == there, "{there} entries were told as {told}");

        let mut codes: Vec<_> = truth.codes.iter().map(|(code, _)| *code).collect();
        if truth.disk_may_stay {
            codes.retain(|code| *code != DISK_REFUSES);
        }
        codes.sort_unstable();
        let hold = &status.error_codes.hold;
        assert_eq!(codes, *hold, "the service has other error codes than hold: {status:?}");
        for (n, unit) in UNITS.iter().enumerate() {
            let failed = journal.failed.contains(*unit);
            assert_eq!(hold.contains(&(42 + n as i64)), failed, "{unit}");
        }
    }
}
