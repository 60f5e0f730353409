//! `/mgmt/requests`: device management requests (REST API v0002).

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::super::brain::{Event, NewRequest, Reply, RequestRow, StatusRow, state_in_words, update_status_in_words};
use super::super::shell::Shell;
use super::error::ApiError;
use super::page::{Page, Parameters, parameters};
use super::{Api, devices::device_of};
use crate::protocol::json::Members;
use crate::protocol::{Device, Malformed, timestamp};

/// `POST /mgmt/requests`
pub(super) async fn create(
    State(api): State<Api>,
    given: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let mut given = parameters(given)?;
    let mut request = read_request(&body)?;
    if let Some(text) = given.remove("timeout") {
        if request.timeout.is_some() {
            return Err(ApiError::invalid("timeout: is given in the body and in the query"));
        }
        let seconds = text
            .parse()
            .map_err(|_| ApiError::invalid("timeout: must be seconds"))?;
        request.timeout = Some(seconds);
    }
    request.overrides = match given.remove("override").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid("override: must be true or false")),
    };
    let reply = api.shell.lock().call(Event::Create(request))??;
    let Reply::Created { id } = reply else {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request was not registered",
        ));
    };
    Ok((StatusCode::ACCEPTED, Json(json!({"reqId": id}))).into_response())
}

fn read_request(body: &[u8]) -> Result<NewRequest, ApiError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body is not JSON: {error}")))?;
    let read = || -> Result<NewRequest, Malformed> {
        let mut members = match value {
            Value::Object(members) => Members::from_map("", members),
            _ => return Err(Malformed::new("body", "must be a JSON object")),
        };
        let action = members.string("action")?;
        let action = action.ok_or_else(|| Malformed::new("action", "is missing"))?;
        let parameters = members.array("parameters")?.unwrap_or_default();
        let timeout = match members.integer("timeout")? {
            None => None,
            Some(seconds) => Some(u64::try_from(seconds).map_err(|_| Malformed::new("timeout", "is negative"))?),
        };
        let devices = members.array("devices")?;
        let devices = devices.ok_or_else(|| Malformed::new("devices", "is missing"))?;
        let devices = devices.into_iter().enumerate().map(read_device);
        Ok(NewRequest {
            action,
            parameters,
            devices: devices.collect::<Result<_, _>>()?,
            timeout,
            overrides: false,
        })
    };
    read().map_err(|malformed| ApiError::invalid(malformed.to_string()))
}

fn read_device((index, value): (usize, Value)) -> Result<Device, Malformed> {
    let path = format!("devices[{index}]");
    let mut members = Members::of(path.clone(), value)?;
    let mut name = |name: &str| {
        let value = members.string(name)?;
        value.ok_or_else(|| Malformed::new(members.path(name), "is missing"))
    };
    let (type_id, device_id) = (name("typeId")?, name("deviceId")?);
    Device::new(type_id, device_id).map_err(|error| Malformed::new(path, error.to_string()))
}

/// `GET /mgmt/requests`
pub(super) async fn list(State(api): State<Api>, given: Parameters) -> Result<Json<Value>, ApiError> {
    let page = Page::read(given)?;
    let after = match &page.bookmark {
        None => 0,
        Some(bookmark) => bookmark.parse().map_err(|_| Page::bad_bookmark())?,
    };
    let shell = api.shell.lock();
    let brain = shell.brain();
    Ok(page.answer(
        brain.requests_after(after),
        brain.request_count(),
        |row| request_object(&shell, row),
        |row| row.number.to_string(),
    ))
}

/// `GET /mgmt/requests/{id}`
pub(super) async fn one(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let shell = api.shell.lock();
    let row = find(&shell, &id)?;
    Ok(Json(request_object(&shell, row)))
}

/// `DELETE /mgmt/requests/{id}`
pub(super) async fn delete(State(api): State<Api>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    api.shell.lock().call(Event::Delete { id })??;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /mgmt/requests/{id}/cancel`
pub(super) async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let mut shell = api.shell.lock();
    shell.call(Event::Cancel { id: id.clone() })??;
    let row = find(&shell, &id)?;
    Ok(Json(request_object(&shell, row)))
}

/// `GET /mgmt/requests/{id}/deviceStatus`
pub(super) async fn statuses(
    State(api): State<Api>,
    Path(id): Path<String>,
    given: Parameters,
) -> Result<Json<Value>, ApiError> {
    let page = Page::read(given)?;
    let after = match &page.bookmark {
        None => None,
        Some(bookmark) => Some(bookmark.parse::<Device>().map_err(|_| Page::bad_bookmark())?),
    };
    let shell = api.shell.lock();
    let request = find(&shell, &id)?;
    let brain = shell.brain();
    Ok(page.answer(
        brain.statuses_after(request, after.as_ref()),
        brain.status_count(request),
        |row| status_object(row),
        |row| row.device.to_string(),
    ))
}

/// `GET /mgmt/requests/{id}/deviceStatus/{typeId}/{deviceId}`
pub(super) async fn status(
    State(api): State<Api>,
    Path((id, type_id, device_id)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let shell = api.shell.lock();
    let request = find(&shell, &id)?;
    let row = shell.brain().status(request, &device);
    let row = row.ok_or_else(|| ApiError::not_found(format!("{device} is not in request {id}")))?;
    Ok(Json(status_object(row)))
}

fn find<'a>(shell: &'a Shell, id: &str) -> Result<&'a RequestRow, ApiError> {
    let row = shell.brain().request(id);
    row.ok_or_else(|| ApiError::not_found("requested status not found: there is no such request"))
}

fn request_object(shell: &Shell, row: &RequestRow) -> Value {
    json!({
        "id": row.id,
        "action": row.action.as_str(),
        "parameters": row.parameters,
        "complete": shell.brain().is_complete(row),
        "created": timestamp::format_ms(row.created_ms),
        "timeout": (row.deadline_ms - row.created_ms) / 1000,
    })
}

/// `status` and `complete` are the platform's; the rest is this service's own.
fn status_object(row: &StatusRow) -> Value {
    let mut object = Map::new();
    object.insert("typeId".into(), row.device.type_id().into());
    object.insert("deviceId".into(), row.device.device_id().into());
    object.insert("status".into(), (row.status as u8).into());
    object.insert("complete".into(), row.is_complete().into());
    if let Some(rc) = row.rc {
        object.insert("rc".into(), rc.into());
    }
    if let Some(message) = &row.message {
        object.insert("message".into(), message.as_str().into());
    }
    if let Some(reason) = &row.reason {
        object.insert("reason".into(), reason.as_str().into());
    }
    object.insert("step".into(), row.step.as_str().into());
    if let Some(state) = row.state {
        object.insert("state".into(), state_in_words(state).into());
    }
    if let Some(status) = row.update_status {
        object.insert("updateStatus".into(), update_status_in_words(status).into());
    }
    object.insert("reqId".into(), row.req_id.as_str().into());
    for (name, at) in [
        ("requested", Some(row.requested_ms)),
        ("sent", row.sent_ms),
        ("accepted", row.accepted_ms),
        ("completed", row.completed_ms),
        ("lastUpdate", Some(row.updated_ms)),
    ] {
        if let Some(at) = at.and_then(timestamp::format_ms) {
            object.insert(name.into(), at.into());
        }
    }
    Value::Object(object)
}
