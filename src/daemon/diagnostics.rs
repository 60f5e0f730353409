//! The journal is read, and failed units are watched, for as long as the configuration wants it; and what `diag` asks.

use std::collections::BTreeSet;
use std::future::pending;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::pulse::Task;
use super::run::Daemon;
use crate::agent::Event;
use crate::agent::diagnostics::{self, DiagCommand, Entry, Gap};
use crate::config::{self, Configuration, ErrorCause};
use crate::host::journal::{self, Batch, Journal, Options};
use crate::host::systemd::FailedUnits;
use crate::local::Request;
use crate::protocol::diagnostics::Severity;

/// Its own entries are not told: an error in sending would feed itself.
const OWN_UNIT: &str = "iotdm-agent.service";

/// Who reads, and what was read.
#[derive(Default)]
pub(super) struct Reading {
    journal: Option<(Options, Journal)>,
    /// What the brain has not taken yet.
    offered: Option<Event>,
    batches: u64,
    /// Who watches which units.
    units: Option<(BTreeSet<String>, FailedUnits)>,
}

/// What they tell.
pub(super) enum Found {
    /// The journal's next entries.
    Batch(Batch),
    /// These of the watched units are failed.
    Failed(BTreeSet<String>),
}

/// The answer to `iotdm-agent diag status`.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    status: diagnostics::Status,
    /// Whether the journal is read.
    reading: bool,
    /// Why nothing can be read of it at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl Reading {
    /// What comes next; never, when nobody reads or watches. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Found {
        let journal = async {
            match &mut self.journal {
                Some((_, journal)) => journal.next().await,
                None => pending().await,
            }
        };
        let units = async {
            match &mut self.units {
                Some((_, units)) => units.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            batch = journal => Found::Batch(batch),
            failed = units => Found::Failed(failed),
        }
    }

    /// Whether the brain has not taken what was offered.
    pub(super) fn waits(&self) -> bool {
        self.offered.is_some()
    }
}

/// How the journal is read, as the configuration says.
pub(super) fn options(wanted: &config::Diagnostics, boot_id: &str, directory: Option<&std::path::Path>) -> Options {
    let mut options = Options::new(boot_id);
    options.priority = wanted.priority;
    options.message_ids.clone_from(&wanted.message_ids);
    // They are told whatever is read: systemd tells of a core dump at `crit`, of the other at a priority that nobody reads.
    let always = [diagnostics::CORE_DUMP, diagnostics::OUT_OF_MEMORY];
    options.message_ids.extend(always.map(str::to_owned));
    // What a rule waits for may be logged at any priority. It makes no log then.
    options.watched_ids = wanted.error_codes.iter().filter_map(logged_id).collect();
    options.units.clone_from(&wanted.units);
    options.exclude_units.clone_from(&wanted.exclude_units);
    options.exclude_units.push(OWN_UNIT.to_owned());
    options.directory = directory.map(std::path::Path::to_owned);
    options
}

/// The MESSAGE_ID that a rule waits for.
fn logged_id(rule: &config::ErrorCode) -> Option<String> {
    match &rule.cause {
        ErrorCause::Logged { message_id, .. } => message_id.clone(),
        ErrorCause::Failed(_) => None,
    }
}

impl Daemon {
    /// Begins to read and to watch, goes on, or ends it, as the configuration says.
    pub(super) fn look_for_trouble(&mut self) {
        let (Some(agent), Configuration::Configured(settings)) = (&self.agent, &self.configuration.settings) else {
            self.reading = Reading::default();
            self.pulse.rest(Task::Journal);
            return;
        };
        let wanted = &settings.diagnostics;
        let directory = self.environment.journal_directory.as_deref();
        let options = wanted.journal.then(|| options(wanted, &self.boot_id, directory));
        if self.reading.journal.as_ref().map(|(options, _)| options) != options.as_ref() {
            // What was offered and not taken is read again.
            self.reading.offered = None;
            self.reading.journal = None;
            self.pulse.rest(Task::Journal);
            if let Some(options) = options {
                let pulse = self.pulse.clone();
                pulse.beat(Task::Journal);
                let after = agent.journal_cursor().map(str::to_owned);
                let journal = Journal::start(options.clone(), after, move || pulse.beat(Task::Journal));
                self.reading.journal = Some((options, journal));
            }
        }
        let failed = |cause: &config::ErrorCode| match &cause.cause {
            ErrorCause::Failed(unit) => Some(unit.clone()),
            ErrorCause::Logged { .. } => None,
        };
        let units: BTreeSet<_> = wanted.error_codes.iter().filter_map(failed).collect();
        self.watch_units(units);
    }

    fn watch_units(&mut self, units: BTreeSet<String>) {
        if self.reading.units.as_ref().map(|(units, _)| units) == Some(&units) {
            return;
        }
        self.reading.units = None;
        match units.is_empty() {
            true => self.events.push_back(Event::FailedUnits(units)),
            false => self.reading.units = Some((units.clone(), FailedUnits::start(None, units))),
        }
    }

    pub(super) fn trouble_found(&mut self, found: Found) {
        match found {
            Found::Batch(batch) => self.journal_read(batch),
            Found::Failed(units) => self.events.push_back(Event::FailedUnits(units)),
        }
    }

    /// Offers what was read to the brain.
    fn journal_read(&mut self, batch: Batch) {
        self.reading.batches += 1;
        self.reading.offered = Some(offer(self.reading.batches, batch));
        self.offer_journal();
    }

    /// Once more: the disk had refused.
    pub(super) fn offer_journal(&mut self) {
        self.events.extend(self.reading.offered.clone());
    }

    /// The brain has taken what was read: go on.
    pub(super) fn journal_taken(&mut self, taken: u64) {
        let offered = matches!(&self.reading.offered, Some(Event::Journal { batch, .. }) if *batch == taken);
        if let (true, Some((_, journal))) = (offered, &self.reading.journal) {
            self.reading.offered = None;
            journal.taken();
        }
    }

    /// How diagnostics stand.
    pub(super) fn diag_report(&self) -> serde_json::Value {
        let Some(agent) = &self.agent else {
            return serde_json::Value::Null;
        };
        let reading = self.reading.journal.as_ref();
        serde_json::json!(Report {
            status: agent.diagnostics(Self::now()),
            reading: reading.is_some(),
            trouble: reading.and_then(|(_, journal)| journal.trouble()),
        })
    }
}

/// One of `diag`'s commands for the brain.
///
/// # Errors
/// Why it is none, in words.
pub(super) fn command(request: Request) -> Result<DiagCommand, String> {
    Ok(match request {
        Request::DiagAddLog {
            severity,
            message,
            data,
        } => DiagCommand::AddLog {
            severity: Severity::from_number(severity.into()).ok_or("the severity must be 0, 1 or 2")?,
            text: message,
            data: data
                .map(|data| STANDARD.decode(data))
                .transpose()
                .map_err(|error| format!("the data is not base64: {error}"))?,
        },
        Request::DiagClearLogs => DiagCommand::ClearLogs,
        Request::DiagAddError { code } => DiagCommand::AddError(code),
        Request::DiagClearErrors => DiagCommand::ClearErrors,
        _ => return Err("this is no command about diagnostics".to_owned()),
    })
}

/// What was read, for the brain; `number` names it.
pub fn offer(number: u64, batch: Batch) -> Event {
    let entry = |entry: journal::Entry| Entry {
        cursor: entry.cursor,
        boot_id: entry.boot_id,
        realtime_us: entry.realtime_us,
        priority: entry.priority,
        unit: entry.unit,
        identifier: entry.identifier,
        pid: entry.pid,
        message_id: entry.message_id,
        message: entry.message,
        cut: entry.cut,
        about: entry.about,
        watched: entry.watched,
    };
    Event::Journal {
        batch: number,
        entries: batch.entries.into_iter().map(entry).collect(),
        cursor: batch.cursor,
        gap: batch.gap.map(|gap| Gap {
            reason: gap.reason,
            at_most: gap.at_most,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_process_is_read_at_any_priority_and_so_is_what_a_rule_waits_for() {
        let rule = |cause| config::ErrorCode { code: 1, cause };
        let logged = |message_id: Option<&str>| ErrorCause::Logged {
            unit: None,
            message: Some("lost".to_owned()),
            message_id: message_id.map(str::to_owned),
            lasts: std::time::Duration::from_secs(60),
        };
        let wanted = config::Diagnostics {
            journal: true,
            priority: 1,
            units: vec!["modbus.service".to_owned()],
            exclude_units: Vec::new(),
            message_ids: vec!["told".to_owned()],
            max_per_minute: 30,
            redact: Vec::new(),
            error_codes: vec![
                rule(ErrorCause::Failed("modbus.service".to_owned())),
                rule(logged(None)),
                rule(logged(Some("waited for"))),
            ],
        };
        let options = options(&wanted, "boot", None);
        assert_eq!((options.priority, options.boot_id.as_str()), (1, "boot"));
        let always = ["told", diagnostics::CORE_DUMP, diagnostics::OUT_OF_MEMORY];
        assert_eq!(options.message_ids, always);
        assert_eq!(options.watched_ids, ["waited for"]);
        assert_eq!(options.units, ["modbus.service"]);
        assert_eq!(options.exclude_units, [OWN_UNIT]);
    }
}
