//! Logs and error codes: added, cleared, bounded, and read for the operator.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use super::super::brain::{ErrorCodeRow, LogRow};
use super::{Registry, RegistryError};
use crate::protocol::{Device, ReqId};

/// How many bytes of logs are kept for each device (quotas of the platform).
pub const MAX_LOG_BYTES: i64 = 500_000;
/// How long logs are kept, in milliseconds: 7 days (quotas of the platform).
pub const MAX_LOG_AGE_MS: i64 = 7 * 24 * 3600 * 1000;
/// How many error codes are kept for each device. The platform documents no limit.
pub const MAX_ERROR_CODES: i64 = 1000;

/// What an entry takes beside its texts: the row and its indexes, roughly.
const LOG_OVERHEAD: i64 = 100;

/// A log entry as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its number in the registry.
    pub id: i64,
    /// RFC 3339.
    pub timestamp: String,
    /// 0 information, 1 warning, 2 error.
    pub severity: u8,
    /// The text.
    pub message: String,
    /// Anything else.
    pub data: Option<Vec<u8>>,
}

/// An error code as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCode {
    /// The code.
    pub code: i64,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
}

impl Registry {
    /// The logs of a device, newest first, without those that are older than [`MAX_LOG_AGE_MS`].
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn logs(&self, device: &Device, now_ms: i64) -> Result<Vec<Log>, RegistryError> {
        self.logs_after(device, 0, now_ms)
    }

    /// The same without what came before the log of this number, and itself. Numbers are given once and grow, also over
    /// what was cleared.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn logs_after(&self, device: &Device, id: i64, now_ms: i64) -> Result<Vec<Log>, RegistryError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, timestamp, severity, message, data FROM logs
             WHERE type_id = ?1 AND device_id = ?2 AND received_ms >= ?3 AND id > ?4 ORDER BY id DESC",
        )?;
        let oldest = now_ms.saturating_sub(MAX_LOG_AGE_MS);
        let found = statement.query_map(params![device.type_id(), device.device_id(), oldest, id], read_log)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// One log of a device, unless it is older than [`MAX_LOG_AGE_MS`].
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn log(&self, device: &Device, id: i64, now_ms: i64) -> Result<Option<Log>, RegistryError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, timestamp, severity, message, data FROM logs
             WHERE type_id = ?1 AND device_id = ?2 AND received_ms >= ?3 AND id = ?4",
        )?;
        let oldest = now_ms.saturating_sub(MAX_LOG_AGE_MS);
        let found = statement.query_row(params![device.type_id(), device.device_id(), oldest, id], read_log);
        Ok(found.optional()?)
    }

    /// The error codes of a device, newest first.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn error_codes(&self, device: &Device) -> Result<Vec<ErrorCode>, RegistryError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT code, received_ms FROM error_codes WHERE type_id = ?1 AND device_id = ?2 ORDER BY id DESC",
        )?;
        let found = statement.query_map([device.type_id(), device.device_id()], |row| {
            Ok(ErrorCode {
                code: row.get(0)?,
                received_ms: row.get(1)?,
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Deletes the logs of all devices that are older than [`MAX_LOG_AGE_MS`], and says how many.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn prune(&self, now_ms: i64) -> Result<usize, RegistryError> {
        let oldest = now_ms.saturating_sub(MAX_LOG_AGE_MS);
        let mut statement = self
            .connection
            .prepare_cached("DELETE FROM logs WHERE received_ms < ?1")?;
        Ok(statement.execute([oldest])?)
    }
}

fn read_log(row: &Row<'_>) -> rusqlite::Result<Log> {
    Ok(Log {
        id: row.get(0)?,
        timestamp: row.get(1)?,
        severity: row.get(2)?,
        message: row.get(3)?,
        data: row.get(4)?,
    })
}

/// Whether `data` says which entry of the device's journal this is: then the same again is the same entry, sent again
/// under another request id because the answer to the first got lost.
fn names_its_entry(data: Option<&[u8]>) -> bool {
    let data = data.and_then(|data| serde_json::from_slice::<Value>(data).ok());
    data.is_some_and(|data| data["cursor"].is_string())
}

/// One more log entry, unless it is the same message delivered again; what is over the bounds goes, oldest first.
pub(super) fn add_log(transaction: &Transaction<'_>, row: &LogRow) -> Result<(), RegistryError> {
    let (type_id, device_id) = (row.device.type_id(), row.device.device_id());
    let bytes = row.message.len() + row.timestamp.len() + row.data.as_ref().map_or(0, Vec::len);
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2) + LOG_OVERHEAD;
    transaction
        .prepare_cached(
            "INSERT INTO logs (type_id, device_id, received_ms, timestamp, severity, message, data, req_id, bytes)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS (
                 SELECT 1 FROM logs WHERE type_id = ?1 AND device_id = ?2 AND message = ?6
                 AND (req_id = ?8 OR ?10 AND data = ?7))",
        )?
        .execute(params![
            type_id,
            device_id,
            row.received_ms,
            row.timestamp,
            row.severity,
            row.message,
            row.data,
            row.req_id.as_ref().map(ReqId::as_str),
            bytes,
            names_its_entry(row.data.as_deref()),
        ])?;
    transaction
        .prepare_cached(
            "DELETE FROM logs WHERE type_id = ?1 AND device_id = ?2 AND (received_ms < ?3 OR id <= (
                 SELECT max(id) FROM (
                     SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS total FROM logs
                     WHERE type_id = ?1 AND device_id = ?2)
                 WHERE total > ?4))",
        )?
        .execute(params![
            type_id,
            device_id,
            row.received_ms.saturating_sub(MAX_LOG_AGE_MS),
            MAX_LOG_BYTES
        ])?;
    Ok(())
}

/// One more error code, unless it is the same message delivered again; the oldest goes when there are too many.
pub(super) fn add_error_code(transaction: &Transaction<'_>, row: &ErrorCodeRow) -> Result<(), RegistryError> {
    let (type_id, device_id) = (row.device.type_id(), row.device.device_id());
    transaction
        .prepare_cached(
            "INSERT INTO error_codes (type_id, device_id, received_ms, code, req_id)
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (
                 SELECT 1 FROM error_codes WHERE type_id = ?1 AND device_id = ?2 AND req_id = ?5 AND code = ?4)",
        )?
        .execute(params![
            type_id,
            device_id,
            row.received_ms,
            row.code,
            row.req_id.as_ref().map(ReqId::as_str),
        ])?;
    transaction
        .prepare_cached(
            "DELETE FROM error_codes WHERE type_id = ?1 AND device_id = ?2 AND id <= (
                 SELECT id FROM error_codes WHERE type_id = ?1 AND device_id = ?2
                 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
        )?
        .execute(params![type_id, device_id, MAX_ERROR_CODES])?;
    Ok(())
}

/// One log of a device.
pub(super) fn delete_log(transaction: &Transaction<'_>, device: &Device, id: i64) -> Result<(), RegistryError> {
    transaction
        .prepare_cached("DELETE FROM logs WHERE type_id = ?1 AND device_id = ?2 AND id = ?3")?
        .execute(params![device.type_id(), device.device_id(), id])?;
    Ok(())
}

/// All rows of a device.
pub(super) fn clear(transaction: &Transaction<'_>, table: &str, device: &Device) -> Result<(), RegistryError> {
    transaction
        .prepare_cached(&format!("DELETE FROM {table} WHERE type_id = ?1 AND device_id = ?2"))?
        .execute([device.type_id(), device.device_id()])?;
    Ok(())
}
