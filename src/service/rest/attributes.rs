//! `PUT` of a device and of its location: what an operator writes (REST API v0002).
//!
//! The platform answers 200 with what is stored, and lets reads lag behind. So does this: the answer is the device as it
//! will be, and its `reqId`, which the platform does not have, names the request that tells whether the device took it. Nor does it have members by dotted names: these go to the
//! device alone, and leave the others as they are there.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::super::brain::{DeviceRow, Event, Reply, Write};
use super::Api;
use super::devices::{Named, device_object, device_of, location_object};
use super::error::ApiError;
use super::page::{Parameters, parameters};
use crate::protocol::Device;
use crate::protocol::json;
use crate::protocol::model::FieldValue;

/// What `GET` of a device has beside what can be written: taken and ignored, so that an answer can be written back.
const READ_ONLY: [&str; 10] = [
    "clientId",
    "classId",
    "typeId",
    "deviceId",
    "gatewayTypeId",
    "gatewayId",
    "registration",
    "mgmt",
    "lastSeen",
    "refs",
];

/// `PUT /device/types/{typeId}/devices/{deviceId}`
pub(super) async fn device(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
    given: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let timeout = timeout(given)?;
    let mut values = Vec::new();
    for (name, value) in object(body)? {
        match name.as_str() {
            // Of a member alone, null is what has gone.
            name if is_member(name) => values.push(FieldValue {
                field: name.to_owned(),
                value,
            }),
            // Of the whole, it is what clients send for what they leave as it is.
            _ if value.is_null() => {}
            "deviceInfo" | "metadata" => values.push(FieldValue { field: name, value }),
            name if READ_ONLY.contains(&name) => {}
            _ => {
                let message =
                    format!("{name}: cannot be written here; there are deviceInfo, metadata and their members");
                return Err(ApiError::invalid(message));
            }
        }
    }
    let (id, row) = write(&api, device, values, timeout)?;
    Ok(answer(device_object(&api.org, &row), id))
}

/// `metadata.site`: a member of an attribute that is to be written alone. Not in the platform.
fn is_member(name: &str) -> bool {
    ["deviceInfo.", "metadata."].iter().any(|whole| name.starts_with(whole))
}

/// `PUT .../location`
pub(super) async fn location(
    State(api): State<Api>,
    Path((type_id, device_id)): Named,
    given: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let device = device_of(type_id, device_id)?;
    let timeout = timeout(given)?;
    let values = vec![FieldValue {
        field: "location".to_owned(),
        value: object(body)?.into(),
    }];
    let (id, row) = write(&api, device, values, timeout)?;
    Ok(answer(location_object(&row).unwrap_or_default(), id))
}

fn write(
    api: &Api,
    device: Device,
    values: Vec<FieldValue>,
    timeout: Option<u64>,
) -> Result<(Option<String>, Box<DeviceRow>), ApiError> {
    let write = Write {
        device,
        values,
        timeout,
    };
    match api.shell.lock().call(Event::Write(write))?? {
        Reply::Written { id, row } => Ok((id, row)),
        _ => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "nothing was written")),
    }
}

fn answer(mut object: Value, id: Option<String>) -> Json<Value> {
    if let Some(id) = id {
        object["reqId"] = id.into();
    }
    Json(object)
}

/// `timeout`, in seconds: how long the device may take. Not in the platform.
fn timeout(given: Parameters) -> Result<Option<u64>, ApiError> {
    let text = parameters(given)?.remove("timeout");
    let seconds = text.map(|text| text.parse()).transpose();
    seconds.map_err(|_| ApiError::invalid("timeout: must be seconds"))
}

/// The body, an object as strict as the protocol's messages, into one of which it goes: of at most 128 KiB, with no member
/// twice. A `reqId` is ours.
pub(super) fn object(body: Result<Bytes, BytesRejection>) -> Result<Map<String, Value>, ApiError> {
    let body = body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let read = json::envelope(&body).map_err(|malformed| ApiError::invalid(malformed.to_string()))?;
    Ok(read.members)
}
