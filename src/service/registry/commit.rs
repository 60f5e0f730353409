//! The brain's changes, written in one transaction.

use rusqlite::{Transaction, params};
use serde_json::{Map, Value};

use super::super::brain::{Change, DeviceRow, RequestRow, StatusRow};
use super::{Registry, RegistryError, diagnostics};
use crate::protocol::ReqId;

impl Registry {
    /// Writes all of these or none. When it returns, they survive a power cut.
    ///
    /// # Errors
    /// The disk refuses; nothing is written then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), RegistryError> {
        if changes.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        for change in changes {
            match change {
                Change::PutDevice(row) => put_device(&transaction, row)?,
                Change::PutRequest(row) => put_request(&transaction, row)?,
                Change::DeleteDevice(device) => {
                    transaction
                        .prepare_cached("DELETE FROM devices WHERE type_id = ?1 AND device_id = ?2")?
                        .execute([device.type_id(), device.device_id()])?;
                    diagnostics::clear(&transaction, "logs", device)?;
                    diagnostics::clear(&transaction, "error_codes", device)?;
                }
                Change::DeleteRequest(number) => {
                    for table in ["statuses WHERE request", "requests WHERE number"] {
                        transaction
                            .prepare_cached(&format!("DELETE FROM {table} = ?1"))?
                            .execute([number])?;
                    }
                }
                Change::PutStatus(row) => put_status(&transaction, row)?,
                Change::AddLog(row) => diagnostics::add_log(&transaction, row)?,
                Change::ClearLogs(device) => diagnostics::clear(&transaction, "logs", device)?,
                Change::DeleteLog(device, id) => diagnostics::delete_log(&transaction, device, *id)?,
                Change::AddErrorCode(row) => diagnostics::add_error_code(&transaction, row)?,
                Change::ClearErrorCodes(device) => diagnostics::clear(&transaction, "error_codes", device)?,
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn put_device(transaction: &Transaction<'_>, row: &DeviceRow) -> Result<(), RegistryError> {
    let managed = row.managed.as_ref();
    let manages: Vec<&str> = row.manages.iter().map(ReqId::as_str).collect();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO devices VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            row.device.type_id(),
            row.device.device_id(),
            row.registered_ms,
            row.last_seen_ms,
            object(&row.device_info),
            object(&row.metadata),
            row.location.as_ref().map(object),
            Value::from(manages).to_string(),
            managed.map(|managed| managed.since_ms),
            managed.map(|managed| managed.manage_ms),
            managed.and_then(|managed| managed.dormant_ms),
            managed.map(|managed| managed.device_actions),
            managed.map(|managed| managed.firmware_actions),
            managed.map(|managed| object(&managed.bundles)),
            managed.map(|managed| object(&managed.firmware)),
            managed.map(|managed| Value::from_iter(managed.observed.iter().cloned()).to_string()),
            row.location_written,
        ])?;
    Ok(())
}

fn put_request(transaction: &Transaction<'_>, row: &RequestRow) -> Result<(), RegistryError> {
    transaction
        .prepare_cached("INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            row.number,
            row.id,
            row.action.as_str(),
            Value::from(row.parameters.clone()).to_string(),
            row.created_ms,
            row.deadline_ms,
        ])?;
    Ok(())
}

fn put_status(transaction: &Transaction<'_>, row: &StatusRow) -> Result<(), RegistryError> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO statuses
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
        )?
        .execute(params![
            row.request,
            row.device.type_id(),
            row.device.device_id(),
            row.req_id.as_str(),
            row.status as i64,
            row.rc,
            row.message,
            row.requested_ms,
            row.sent_ms,
            row.accepted_ms,
            row.completed_ms,
            row.updated_ms,
            row.step.as_str(),
            row.step_ms,
            row.outcome.map(|outcome| outcome as i64),
            row.state.map(|state| state as i64),
            row.update_status.map(|status| status as i64),
            row.initiated.as_ref().map(ReqId::as_str),
            row.reason,
        ])?;
    Ok(())
}

fn object(object: &Map<String, Value>) -> String {
    Value::Object(object.clone()).to_string()
}
