//! `iotdm forget`: nothing is known of a device any more.

use std::process::ExitCode;

use serde_json::json;

use super::client::{CallError, Client};
use super::output::Output;
use crate::protocol::Device;

pub(super) async fn forget(client: &Client, output: &mut Output, device: &Device) -> Result<ExitCode, CallError> {
    let (type_id, device_id) = (device.type_id(), device.device_id());
    let path = format!("/device/types/{type_id}/devices/{device_id}");
    client.delete(&path).await?;
    if output.is_json() {
        output.value(&json!({"typeId": type_id, "deviceId": device_id, "forgotten": true}))?;
    } else {
        output.line(&format!("{device} is forgotten; what it says next registers it anew"))?;
    }
    Ok(ExitCode::SUCCESS)
}
