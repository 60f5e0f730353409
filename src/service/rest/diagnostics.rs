//! `.../diag/logs` and `.../diag/errorCodes`: what a device has logged and which errors it has (REST API v0002).
//!
//! What an operator adds or deletes here is so in the registry alone: the protocol has no message that told the device.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::brain::{Diagnose, Diagnosis, Event};
use super::super::outside;
use super::super::registry::Log;
use super::Api;
use super::attributes::object;
use super::devices::{Named, device_of, find};
use super::error::ApiError;
use super::page::{Parameters, parameters};
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::json::Members;
use crate::protocol::{Device, Malformed, timestamp};

type Body = Result<Bytes, BytesRejection>;

/// What `GET` of a log has beside what can be written: taken and ignored.
const READ_ONLY: [&str; 3] = ["id", "typeId", "deviceId"];

/// `GET .../diag/logs`; with `?after=` only those with a larger id, which the platform does not have.
pub(super) async fn logs(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
    given: Parameters,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let after = parameters(given)?.remove("after");
    let after = after.map(|id| id.parse()).transpose();
    let after = after.map_err(|_| ApiError::invalid("after: must be the id of a log"))?;
    let shell = api.shell.lock();
    find(&shell, &device)?;
    let now_ms = outside::now().unix_ms;
    let logs = shell.registry().logs_after(&device, after.unwrap_or(0), now_ms)?;
    Ok(Json(logs.into_iter().map(|log| log_object(&device, log)).collect()))
}

/// `GET .../diag/logs/{id}`
pub(super) async fn log(
    State(api): State<Api>,
    Path((type_id, device_id, id)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let log = find_log(&api, &device, &id)?;
    Ok(Json(log_object(&device, log)))
}

/// `POST .../diag/logs`
pub(super) async fn add_log(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let device = device_of(type_id, device_id)?;
    let entry = read_log(object(body)?).map_err(|malformed| ApiError::violation(&malformed))?;
    diagnose(&api, device, Diagnosis::AddLog(entry))?;
    Ok(StatusCode::CREATED)
}

/// `DELETE .../diag/logs`
pub(super) async fn clear_logs(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
) -> Result<StatusCode, ApiError> {
    diagnose(&api, device_of(type_id, device_id)?, Diagnosis::ClearLogs)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE .../diag/logs/{id}`
pub(super) async fn delete_log(
    State(api): State<Api>,
    Path((type_id, device_id, id)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let device = device_of(type_id, device_id)?;
    // What goes in between is gone all the same.
    let log = find_log(&api, &device, &id)?;
    diagnose(&api, device, Diagnosis::DeleteLog(log.id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET .../diag/errorCodes`
pub(super) async fn error_codes(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let shell = api.shell.lock();
    find(&shell, &device)?;
    let codes = shell.registry().error_codes(&device)?;
    let codes = codes
        .into_iter()
        .map(|row| json!({"errorCode": row.code, "timestamp": timestamp::format_ms(row.received_ms)}));
    Ok(Json(codes.collect()))
}

/// `POST .../diag/errorCodes`
pub(super) async fn add_error_code(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let device = device_of(type_id, device_id)?;
    let (code, at_ms) = read_error_code(object(body)?).map_err(|malformed| ApiError::violation(&malformed))?;
    diagnose(&api, device, Diagnosis::AddErrorCode(code, at_ms))?;
    Ok(StatusCode::CREATED)
}

/// `DELETE .../diag/errorCodes`
pub(super) async fn clear_error_codes(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
) -> Result<StatusCode, ApiError> {
    diagnose(&api, device_of(type_id, device_id)?, Diagnosis::ClearErrorCodes)?;
    Ok(StatusCode::NO_CONTENT)
}

fn diagnose(api: &Api, device: Device, change: Diagnosis) -> Result<(), ApiError> {
    let diagnose = Diagnose { device, change };
    api.shell.lock().call(Event::Diagnose(diagnose))??;
    Ok(())
}

fn find_log(api: &Api, device: &Device, id: &str) -> Result<Log, ApiError> {
    let shell = api.shell.lock();
    find(&shell, device)?;
    let log = match id.parse() {
        Ok(id) => shell.registry().log(device, id, outside::now().unix_ms)?,
        Err(_) => None,
    };
    log.ok_or_else(|| ApiError::not_found(format!("{device} has no such log, or not any more")))
}

fn log_object(device: &Device, log: Log) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), log.id.to_string().into());
    object.insert("typeId".into(), device.type_id().into());
    object.insert("deviceId".into(), device.device_id().into());
    object.insert("message".into(), log.message.into());
    object.insert("severity".into(), log.severity.into());
    if let Some(data) = log.data {
        object.insert("data".into(), STANDARD.encode(data).into());
    }
    object.insert("timestamp".into(), log.timestamp.into());
    Value::Object(object)
}

fn read_log(body: Map<String, Value>) -> Result<LogEntry, Malformed> {
    let mut entry = LogEntry::parse("", body.into())?;
    let extra = std::mem::take(&mut entry.extra);
    check_members(&extra, &READ_ONLY, "message, severity, timestamp, data")?;
    check_fraction(entry.timestamp.as_deref())?;
    Ok(entry)
}

/// The code, and its time in Unix milliseconds when one is given.
fn read_error_code(body: Map<String, Value>) -> Result<(i64, Option<i64>), Malformed> {
    let mut members = Members::from_map("", body);
    let code = members.integer("errorCode")?;
    let code = code.ok_or_else(|| Malformed::new("errorCode", "is missing"))?;
    let given = members.string("timestamp")?.filter(|text| !text.is_empty());
    check_members(&members.rest(), &[], "errorCode, timestamp")?;
    check_fraction(given.as_deref())?;
    let at_ms = given.as_deref().map(|text| {
        timestamp::parse(text)
            .ok_or_else(|| Malformed::new("timestamp", "is no time with a zone, such as 2024-05-01T10:00:00Z"))
    });
    Ok((code, at_ms.transpose()?))
}

/// A member that nobody knows is a slip of the pen.
fn check_members(extra: &Map<String, Value>, ignored: &[&str], known: &str) -> Result<(), Malformed> {
    match extra.keys().find(|name| !ignored.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => Err(Malformed::new(unknown, format!("is unknown; there are {known}"))),
    }
}

/// The platform refuses what is finer than a millisecond.
fn check_fraction(timestamp: Option<&str>) -> Result<(), Malformed> {
    let fraction = timestamp.and_then(|text| text.split_once('.'));
    let digits = fraction.map_or(0, |(_, rest)| rest.chars().take_while(char::is_ascii_digit).count());
    if digits > 3 {
        return Err(Malformed::new("timestamp", "is finer than milliseconds"));
    }
    Ok(())
}
