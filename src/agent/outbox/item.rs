//! A record of the outbox, in memory and on the disk.
//!
//! The format is an interface between versions: a record of a kind that is not known stays on the disk and is not sent.

use serde_json::Value;

use crate::agent::handled::Key;
use crate::protocol::ReqId;
use crate::protocol::diagnostics::LogEntry;

/// What a record holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Response {
        payload: Vec<u8>,
        /// The request that was refused, where the same one may be carried out when it is delivered again.
        refused: Option<Key>,
    },
    Log {
        /// The same at every attempt: so the service knows that it is the same log.
        req_id: ReqId,
        entry: LogEntry,
        before_manage: bool,
        /// How many entries of the journal it stands for; `None`: it is no log of diagnostics.
        covers: Option<u64>,
    },
    /// The service is to forget all logs.
    ClearLogs { req_id: ReqId },
}

impl Item {
    /// Of diagnostics: how large it is, and how many entries it stands for.
    pub(super) fn diagnostic(&self) -> Option<(usize, u64)> {
        match self {
            Item::Log { entry, covers, .. } => {
                let data = entry.data.as_ref().map_or(0, Vec::len);
                covers.map(|covers| (entry.message.len() + data, covers))
            }
            _ => None,
        }
    }

    /// Of a log: a name that nothing else has, the same whenever the log is made again. Where it stands in the journal, or
    /// its request id where it is not of the journal.
    pub(super) fn name(&self) -> Option<String> {
        let Item::Log {
            req_id, entry, covers, ..
        } = self
        else {
            return None;
        };
        let data = entry.data.as_ref().filter(|_| covers.is_some_and(|covers| covers > 0));
        let data = data.and_then(|data| serde_json::from_slice::<Value>(data).ok());
        let cursor = data.as_ref().and_then(|data| data["cursor"].as_str());
        Some(cursor.unwrap_or(req_id.as_str()).to_owned())
    }

    /// A log that waits for its turn behind everything else, or the end of all those before it.
    pub(super) fn is_late(&self) -> bool {
        !self.is_early()
    }

    /// Under what the service answers it, if it has to.
    pub(super) fn req_id(&self) -> Option<&ReqId> {
        match self {
            Item::Response { .. } => None,
            Item::Log { req_id, .. } | Item::ClearLogs { req_id } => Some(req_id),
        }
    }

    /// Responses, and what says so itself, go out before a manage.
    pub(super) fn is_early(&self) -> bool {
        !matches!(
            self,
            Item::ClearLogs { .. }
                | Item::Log {
                    before_manage: false,
                    ..
                }
        )
    }

    /// As it is on the disk. `identity`: the device that owes it.
    pub(super) fn to_record(&self, identity: &str) -> Vec<u8> {
        let mut record = match self {
            Item::Response { payload, refused } => {
                let mut record = serde_json::json!({"kind": "response", "payload": String::from_utf8_lossy(payload)});
                if let Some(key) = refused {
                    record["refused"] = serde_json::json!(key);
                }
                record
            }
            Item::Log {
                req_id,
                entry,
                before_manage,
                covers,
            } => {
                let (req_id, d) = (req_id.as_str(), entry.to_object());
                let mut record =
                    serde_json::json!({"kind": "log", "req_id": req_id, "d": d, "before_manage": before_manage});
                if let Some(covers) = covers {
                    record["covers"] = (*covers).into();
                }
                record
            }
            Item::ClearLogs { req_id } => serde_json::json!({"kind": "clear_logs", "req_id": req_id.as_str()}),
        };
        record["identity"] = identity.into();
        record.to_string().into_bytes()
    }

    /// `None`: of a newer version. `fresh` is the request id of a record that has none: at first each attempt had one of
    /// its own.
    pub(super) fn from_record(bytes: &[u8], fresh: impl FnOnce() -> ReqId) -> Option<Self> {
        let record: Value = serde_json::from_slice(bytes).ok()?;
        let req_id = || {
            let known = record.get("req_id").and_then(Value::as_str).and_then(ReqId::new);
            known.unwrap_or_else(fresh)
        };
        match record.get("kind")?.as_str()? {
            "response" => Some(Item::Response {
                payload: record.get("payload")?.as_str()?.as_bytes().to_vec(),
                refused: record
                    .get("refused")
                    .and_then(|key| serde_json::from_value(key.clone()).ok()),
            }),
            "log" => Some(Item::Log {
                req_id: req_id(),
                entry: LogEntry::parse("d", record.get("d")?.clone()).ok()?,
                before_manage: record.get("before_manage").and_then(Value::as_bool).unwrap_or(false),
                covers: record.get("covers").and_then(Value::as_u64),
            }),
            "clear_logs" => Some(Item::ClearLogs { req_id: req_id() }),
            _ => None,
        }
    }
}

/// The device that owes a record; `None`: of an older version, which did not say.
pub(super) fn identity(bytes: &[u8]) -> Option<String> {
    let record: Value = serde_json::from_slice(bytes).ok()?;
    record.get("identity")?.as_str().map(str::to_owned)
}
