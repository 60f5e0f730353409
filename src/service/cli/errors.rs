//! `iotdm errors`: the error codes that a device has told and not cleared.

use std::process::ExitCode;

use serde_json::Value;

use super::super::outside;
use super::client::{CallError, Client};
use super::output::{Output, plain};
use super::show::{moment, text};
use crate::protocol::Device;

pub(super) async fn errors(client: &Client, output: &mut Output, device: &Device) -> Result<ExitCode, CallError> {
    let codes = client.device(device, "/diag/errorCodes").await?;
    if output.is_json() {
        output.value(&codes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let codes = codes.as_array().map(Vec::as_slice).unwrap_or_default();
    if codes.is_empty() {
        output.line(&format!("none: {device} has told of no error, or has cleared them"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now_ms = outside::now().unix_ms;
    let row = |code: &Value| {
        let at = moment(&code["timestamp"], now_ms).unwrap_or("-".into());
        vec![plain(&text(&code["errorCode"])), at]
    };
    let mut rows = vec![vec!["CODE".to_owned(), "ADDED".to_owned()]];
    rows.extend(codes.iter().map(row));
    output.table(&rows)?;
    Ok(ExitCode::SUCCESS)
}
