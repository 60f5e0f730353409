//! The rows as they were written.

use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::brain::{Action, DeviceRow, Managed, RequestRow, RequestStep, Rows, Status, StatusRow};
use super::RegistryError;
use crate::protocol::firmware::Firmware;
use crate::protocol::{Device, ReqId};

/// Everything that the brain works on.
pub(super) fn rows(connection: &Connection) -> Result<Rows, RegistryError> {
    Ok(Rows {
        devices: all(
            connection,
            "SELECT * FROM devices ORDER BY type_id, device_id",
            device_row,
        )?,
        requests: all(connection, "SELECT * FROM requests ORDER BY number", request_row)?,
        statuses: all(
            connection,
            "SELECT * FROM statuses ORDER BY request, type_id, device_id",
            status_row,
        )?,
    })
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, RegistryError>,
) -> Result<Vec<T>, RegistryError> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read(row)?);
    }
    Ok(rows)
}

/// The device that `type_id` and `device_id` name.
pub(super) fn device(row: &Row<'_>) -> Result<Device, RegistryError> {
    let (type_id, device_id): (String, String) = (row.get("type_id")?, row.get("device_id")?);
    Device::new(type_id, device_id).map_err(|error| RegistryError::Damaged(format!("a device's name: {error}")))
}

fn device_row(row: &Row<'_>) -> Result<DeviceRow, RegistryError> {
    let device = device(row)?;
    let managed = match row.get::<_, Option<i64>>("since_ms")? {
        None => None,
        Some(since_ms) => Some(Managed {
            since_ms,
            manage_ms: row.get("manage_ms")?,
            dormant_ms: row.get("dormant_ms")?,
            device_actions: row.get("device_actions")?,
            firmware_actions: row.get("firmware_actions")?,
            bundles: json(row, "bundles")?,
            firmware: json(row, "firmware")?,
            observed: json(row, "observed")?,
        }),
    };
    let manages: Vec<String> = json(row, "manages")?;
    Ok(DeviceRow {
        device,
        registered_ms: row.get("registered_ms")?,
        last_seen_ms: row.get("last_seen_ms")?,
        device_info: json(row, "device_info")?,
        metadata: json(row, "metadata")?,
        location: match row.get::<_, Option<String>>("location")? {
            None => None,
            Some(_) => Some(json(row, "location")?),
        },
        location_written: row.get("location_written")?,
        managed,
        manages: manages.into_iter().map(req_id).collect::<Result<_, _>>()?,
    })
}

fn request_row(row: &Row<'_>) -> Result<RequestRow, RegistryError> {
    let action: String = row.get("action")?;
    Ok(RequestRow {
        number: row.get("number")?,
        id: row.get("id")?,
        action: Action::parse(&action)
            .ok_or_else(|| RegistryError::Damaged(format!("a request with the action {action:?}")))?,
        parameters: json(row, "parameters")?,
        created_ms: row.get("created_ms")?,
        deadline_ms: row.get("deadline_ms")?,
    })
}

fn status_row(row: &Row<'_>) -> Result<StatusRow, RegistryError> {
    let step: String = row.get("step")?;
    let outcome: Option<i64> = row.get("outcome")?;
    let notified = notified(row)?;
    Ok(StatusRow {
        request: row.get("request")?,
        device: device(row)?,
        step: RequestStep::parse(&step)
            .ok_or_else(|| RegistryError::Damaged(format!("a device status at the step {step:?}")))?,
        step_ms: row.get("step_ms")?,
        req_id: req_id(row.get("req_id")?)?,
        status: status(row.get("status")?)?,
        outcome: outcome.map(status).transpose()?,
        rc: row.get("rc")?,
        message: row.get("message")?,
        requested_ms: row.get("requested_ms")?,
        sent_ms: row.get("sent_ms")?,
        accepted_ms: row.get("accepted_ms")?,
        completed_ms: row.get("completed_ms")?,
        updated_ms: row.get("updated_ms")?,
        state: notified.state,
        update_status: notified.update_status,
        initiated: row.get::<_, Option<String>>("initiated")?.map(req_id).transpose()?,
        reason: row.get("reason")?,
    })
}

fn status(number: i64) -> Result<Status, RegistryError> {
    Status::from_number(number).ok_or_else(|| RegistryError::Damaged(format!("a device status of {number}")))
}

/// The numbers of the columns `state` and `update_status`, read as they are read from the wire.
fn notified(row: &Row<'_>) -> Result<Firmware, RegistryError> {
    let mut members = Map::new();
    for (column, member) in [("state", "state"), ("update_status", "updateStatus")] {
        if let Some(number) = row.get::<_, Option<i64>>(column)? {
            members.insert(member.to_owned(), number.into());
        }
    }
    Firmware::parse("statuses", Value::Object(members))
        .map_err(|malformed| RegistryError::Damaged(format!("a device status: {malformed}")))
}

fn req_id(text: String) -> Result<ReqId, RegistryError> {
    ReqId::new(text).ok_or_else(|| RegistryError::Damaged("an empty or endless request id".into()))
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, RegistryError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| RegistryError::Damaged(format!("column {column}: {error}")))
}
