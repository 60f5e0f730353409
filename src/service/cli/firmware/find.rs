//! Finds the firmware request that a device was last in.

use serde_json::Value;

use super::super::client::{CallError, Client};
use crate::protocol::Device;

/// A request and how the device stands with it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) request: Value,
    pub(super) row: Value,
}

impl Found {
    pub(super) fn is_open(&self) -> bool {
        self.row["complete"] == false
    }

    pub(super) fn id(&self) -> &str {
        self.request["id"].as_str().unwrap_or_default()
    }

    pub(super) fn action(&self) -> &str {
        self.request["action"].as_str().unwrap_or_default()
    }
}

/// The path of a device's row in a request.
pub(super) fn row_path(request: &str, device: &Device) -> String {
    format!(
        "/mgmt/requests/{request}/deviceStatus/{}/{}",
        device.type_id(),
        device.device_id()
    )
}

/// The newest firmware request that the device is in, if the service still keeps one.
pub(super) async fn newest(client: &Client, device: &Device) -> Result<Option<Found>, CallError> {
    let requests = client.list("/mgmt/requests").await?;
    let firmware = requests.into_iter().rev().filter(|request| {
        let action = request["action"].as_str().unwrap_or_default();
        action.starts_with("firmware/")
    });
    for request in firmware {
        let id = request["id"].as_str().unwrap_or_default();
        match client.get(&row_path(id, device)).await {
            Ok(row) => return Ok(Some(Found { request, row })),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
