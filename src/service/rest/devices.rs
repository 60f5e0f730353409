//! `/device/types/.../devices/...` and `/bulk/devices`: what the service knows of its devices (REST API v0002).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::brain::{DeviceRow, Event, Managed};
use super::super::shell::Shell;
use super::Api;
use super::error::ApiError;
use super::page::{Page, Parameters};
use crate::protocol::{Device, timestamp};

pub(super) type Named = Path<(String, String)>;

/// A device that a path names; one that no device can have is not found.
pub(super) fn device_of(type_id: String, device_id: String) -> Result<Device, ApiError> {
    Device::new(type_id, device_id).map_err(|error| ApiError::not_found(format!("there is no such device: {error}")))
}

pub(super) fn find<'a>(shell: &'a Shell, device: &Device) -> Result<&'a DeviceRow, ApiError> {
    let row = shell.brain().device(device);
    row.ok_or_else(|| ApiError::not_found(format!("{device} is not registered: it has never been heard of here")))
}

/// `GET /bulk/devices`
pub(super) async fn list(State(api): State<Api>, given: Parameters) -> Result<Json<Value>, ApiError> {
    let page = Page::read(given)?;
    let after = match &page.bookmark {
        None => None,
        Some(bookmark) => Some(bookmark.parse::<Device>().map_err(|_| Page::bad_bookmark())?),
    };
    let shell = api.shell.lock();
    let brain = shell.brain();
    Ok(page.answer(
        brain.devices_after(after.as_ref()),
        brain.device_count(),
        |row| device_object(&api.org, row),
        |row| row.device.to_string(),
    ))
}

/// `GET /device/types/{typeId}/devices/{deviceId}`
pub(super) async fn one(State(api): State<Api>, Path((type_id, device_id)): Named) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let shell = api.shell.lock();
    Ok(Json(device_object(&api.org, find(&shell, &device)?)))
}

/// `DELETE /device/types/{typeId}/devices/{deviceId}`
pub(super) async fn forget(State(api): State<Api>, Path((type_id, device_id)): Named) -> Result<StatusCode, ApiError> {
    let device = device_of(type_id, device_id)?;
    api.shell.lock().call(Event::Forget { device })??;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET .../mgmt`
pub(super) async fn mgmt(State(api): State<Api>, Path((type_id, device_id)): Named) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let shell = api.shell.lock();
    let row = find(&shell, &device)?;
    match &row.managed {
        Some(managed) => Ok(Json(mgmt_object(row, managed))),
        None => Err(ApiError::not_found(format!("{device} is not managed"))),
    }
}

/// `GET .../location`
pub(super) async fn location(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let shell = api.shell.lock();
    match location_object(find(&shell, &device)?) {
        Some(location) => Ok(Json(location)),
        None => Err(ApiError::not_found(format!("{device} has not said where it is"))),
    }
}

/// The core attributes. `mgmt` and `lastSeen` are this service's own: a list of who is managed takes one call.
pub(super) fn device_object(org: &str, row: &DeviceRow) -> Value {
    let (type_id, device_id) = (row.device.type_id(), row.device.device_id());
    let path = format!("/api/v0002/device/types/{type_id}/devices/{device_id}");
    let mut refs = json!({"diag": {
        "logs": format!("{path}/diag/logs"),
        "errorCodes": format!("{path}/diag/errorCodes"),
    }});
    let mut object = Map::new();
    // On a plain broker every device speaks as a gateway: only those topics carry its name.
    object.insert("clientId".into(), format!("g:{org}:{type_id}:{device_id}").into());
    object.insert("classId".into(), "Gateway".into());
    object.insert("typeId".into(), type_id.into());
    object.insert("deviceId".into(), device_id.into());
    object.insert("deviceInfo".into(), row.device_info.clone().into());
    object.insert("metadata".into(), row.metadata.clone().into());
    let registered = timestamp::format_ms(row.registered_ms);
    object.insert("registration".into(), json!({"date": registered}));
    if row.location.is_some() {
        refs["location"] = format!("{path}/location").into();
    }
    if let Some(managed) = &row.managed {
        refs["mgmt"] = format!("{path}/mgmt").into();
        object.insert("mgmt".into(), mgmt_object(row, managed));
    }
    object.insert("lastSeen".into(), timestamp::format_ms(row.last_seen_ms).into());
    object.insert("refs".into(), refs);
    Value::Object(object)
}

/// `writtenBy` is this service's own.
pub(super) fn location_object(row: &DeviceRow) -> Option<Value> {
    let mut location = row.location.clone()?;
    if row.location_written {
        location.insert("writtenBy".into(), "operator".into());
    }
    Some(location.into())
}

/// `mgmt.*`; `managedSince` and `observed` are this service's own.
fn mgmt_object(row: &DeviceRow, managed: &Managed) -> Value {
    let mut supports = Map::new();
    supports.insert("deviceActions".into(), managed.device_actions.into());
    supports.insert("firmwareActions".into(), managed.firmware_actions.into());
    supports.extend(managed.bundles.clone());
    let mut object = Map::new();
    object.insert("dormant".into(), false.into());
    if let Some(at) = managed.dormant_ms.and_then(timestamp::format_ms) {
        object.insert("dormantDateTime".into(), at.into());
    }
    let active = timestamp::format_ms(row.last_seen_ms);
    object.insert("lastActivityDateTime".into(), active.into());
    object.insert("supports".into(), supports.into());
    if !managed.firmware.is_empty() {
        object.insert("firmware".into(), managed.firmware.clone().into());
    }
    object.insert("managedSince".into(), timestamp::format_ms(managed.since_ms).into());
    if !managed.observed.is_empty() {
        object.insert("observed".into(), managed.observed.iter().cloned().collect());
    }
    Value::Object(object)
}
