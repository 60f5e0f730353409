//! Errors as the API has them: a status and `{"message": "..."}`, and for diagnostics what the platform's clients look
//! for: `exception.id` and `violations`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

use super::super::brain::{Refusal, RefusalKind};
use super::super::registry::RegistryError;
use super::super::shell::Stopped;
use crate::protocol::Malformed;

/// A call that was not carried out.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    /// What is wrong with a diagnostic entry, as the platform tells it beside the message.
    violation: Option<String>,
}

/// The platform's id of a request with members that it does not take.
const NOT_VALID: &str = "CUDRS0007E";

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError {
            status,
            message: message.into(),
            violation: None,
        }
    }

    /// A member that the API does not take, in the shape that the platform's clients read.
    pub(super) fn violation(malformed: &Malformed) -> Self {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            message: format!("{NOT_VALID}: {malformed}"),
            violation: Some(malformed.to_string()),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({"message": self.message});
        if let Some(violation) = self.violation {
            body["exception"] = json!({"id": NOT_VALID, "properties": []});
            body["violations"] = json!([{"message": violation}]);
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotSupported => StatusCode::FORBIDDEN,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::NotBuilt => StatusCode::NOT_IMPLEMENTED,
            RefusalKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.message)
    }
}

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        let message = format!("nothing was done, and the service ends: {stopped}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        error!("a call could not be answered: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}
