//! `/x/watch`: what devices say and what is sent to them, as it happens, one JSON object a line. Not in the platform.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::super::brain::WatchLine;
use super::super::outside;
use super::Api;
use super::error::ApiError;
use crate::protocol::model::FieldValue;
use crate::protocol::timestamp;

/// The most watchers at a time.
const MAX_WATCHERS: usize = 32;

/// `GET /x/watch`
pub(super) async fn watch(State(api): State<Api>) -> Result<Response, ApiError> {
    let receiver = {
        let shell = api.shell.lock();
        if shell.watcher_count() >= MAX_WATCHERS {
            let message = format!("{MAX_WATCHERS} clients watch already");
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        shell.watch()
    };
    let lines = stream::unfold(Some(receiver), next);
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn next(
    receiver: Option<Receiver<Arc<WatchLine>>>,
) -> Option<(Result<Bytes, std::io::Error>, Option<Receiver<Arc<WatchLine>>>)> {
    let mut receiver = receiver?;
    match receiver.recv().await {
        Ok(line) => Some((Ok(bytes(&line)), Some(receiver))),
        // Whoever does not keep up is told so and has to start again.
        Err(RecvError::Lagged(missed)) => {
            let line = WatchLine {
                at_ms: outside::now().unix_ms,
                device: None,
                operation: "dropped",
                text: format!("this client was too slow: {missed} lines were not sent, and this is the last one"),
                req_id: None,
                rc: None,
                values: Vec::new(),
            };
            Some((Ok(bytes(&line)), None))
        }
        Err(RecvError::Closed) => None,
    }
}

fn bytes(line: &WatchLine) -> Bytes {
    let mut object = Map::new();
    object.insert("time".into(), timestamp::format_ms(line.at_ms).into());
    if let Some(device) = &line.device {
        object.insert("typeId".into(), device.type_id().into());
        object.insert("deviceId".into(), device.device_id().into());
    }
    object.insert("operation".into(), line.operation.into());
    object.insert("text".into(), line.text.as_str().into());
    if let Some(req_id) = &line.req_id {
        object.insert("reqId".into(), req_id.as_str().into());
    }
    if let Some(rc) = line.rc {
        object.insert("rc".into(), rc.into());
    }
    if !line.values.is_empty() {
        let values = line.values.iter().map(FieldValue::to_value);
        object.insert("values".into(), values.collect());
    }
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line.into()
}
