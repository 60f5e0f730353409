//! A client of the REST face.

use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::super::bundle::BundleError;
use super::super::key::{Key, KeyError};
use crate::protocol::Device;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(30);

/// Speaks to one service with one key.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    api: String,
    key: Key,
}

/// Why a command could not be carried out; the text is for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}; the service makes it at its first start, --key-file or IOTDM_KEY_FILE names it")]
    Key(#[from] KeyError),
    #[error("{api} is no address of a REST face: {error}; write for example http://127.0.0.1:8480")]
    Address { api: String, error: String },
    #[error("no service answers at {api} ({error}); is iotdm serve running? --api or IOTDM_API names its address")]
    Unreachable { api: String, error: String },
    /// It was reached, and what came of it is not known.
    #[error(
        "{api} was asked, and its answer got lost ({error}): the request may be registered, and carried out. \
         GET {api}/api/v0002/mgmt/requests lists what is, newest last; look there before you repeat it"
    )]
    Unanswered { api: String, error: String },
    /// The service says no.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("the answer of {api} cannot be understood: {error}")]
    Answer { api: String, error: String },
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl CallError {
    /// True when the same call may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            CallError::Unreachable { .. } | CallError::Unanswered { .. } | CallError::Answer { .. } => true,
            CallError::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }

    /// True when there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, CallError::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// True when a device is busy with an earlier request.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, CallError::Refused { status, .. } if *status == StatusCode::CONFLICT)
    }
}

impl Client {
    pub(super) fn new(api: &str, key_file: &Path) -> Result<Self, CallError> {
        let key = Key::load(key_file)?;
        let api = api.trim_end_matches('/').to_owned();
        let address = |error: String| CallError::Address {
            api: api.clone(),
            error,
        };
        let url = reqwest::Url::parse(&api).map_err(|error| address(error.to_string()))?;
        let mut builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
        if matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost")) {
            // A proxy has no business between a command and a service on the same host.
            builder = builder.no_proxy();
        }
        if url.scheme() != "https" {
            // Then a host without any certificate authority is good enough.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| address(cause(&error)))?;
        Ok(Client { http, api, key })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// All pages of a list.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>, CallError> {
        let first = format!("{path}?_limit=1000");
        let (mut all, mut next) = (Vec::new(), first.clone());
        loop {
            let page = self.get(&next).await?;
            all.extend(page["results"].as_array().cloned().unwrap_or_default());
            // A bookmark is a number or TYPE/ID; none has a character that would need encoding.
            match page["bookmark"].as_str() {
                Some(bookmark) => next = format!("{first}&_bookmark={bookmark}"),
                None => return Ok(all),
            }
        }
    }

    /// What the service knows of a device; with a tail, a part of it: `/mgmt`, `/diag/logs`.
    pub(super) async fn device(&self, device: &Device, tail: &str) -> Result<Value, CallError> {
        let (type_id, device_id) = (device.type_id(), device.device_id());
        self.get(&format!("/device/types/{type_id}/devices/{device_id}{tail}"))
            .await
    }

    /// `mgmt.*` of a device; `Null` while it is not managed.
    pub(super) async fn mgmt(&self, device: &Device) -> Result<Value, CallError> {
        match self.device(device, "/mgmt").await {
            Err(error) if error.is_not_found() => Ok(Value::Null),
            answer => answer,
        }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), CallError> {
        // There is nothing in the answer.
        self.send(Method::DELETE, path, None, Some(CALL)).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let response = self.send(method.clone(), path, body, Some(CALL)).await?;
        let answer = response.json().await;
        answer.map_err(|error| match method {
            Method::GET => self.not_understood(&error),
            _ => self.unanswered(&error),
        })
    }

    /// What devices say and what is sent to them, from now on.
    pub(super) async fn watch(&self) -> Result<Lines, CallError> {
        let response = self.send(Method::GET, "/x/watch", None, None).await?;
        Ok(Lines {
            response,
            buffer: Vec::new(),
        })
    }

    fn unanswered(&self, error: &reqwest::Error) -> CallError {
        CallError::Unanswered {
            api: self.api.clone(),
            error: cause(error),
        }
    }

    pub(super) fn not_understood(&self, error: &reqwest::Error) -> CallError {
        CallError::Answer {
            api: self.api.clone(),
            error: cause(error),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Option<Duration>,
    ) -> Result<reqwest::Response, CallError> {
        let changes = method != Method::GET;
        let mut request = self
            .http
            .request(method, format!("{}/api/v0002{path}", self.api))
            .basic_auth(&self.key.user, Some(&self.key.token));
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| match changes && !error.is_connect() {
                true => self.unanswered(&error),
                false => CallError::Unreachable {
                    api: self.api.clone(),
                    error: cause(&error),
                },
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let answer: Value = response.json().await.unwrap_or_default();
        let message = match answer["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} answers {status}; is that a REST face of a service?", self.api),
        };
        Err(CallError::Refused { status, message })
    }
}

/// A response whose body does not end, line by line.
#[derive(Debug)]
pub(super) struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the service has ended it. Nothing is lost when this is given up and called again.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

/// The innermost reason, without the address, which is said already.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
