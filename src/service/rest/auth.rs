//! HTTP Basic authentication with the key of the key file (RFC 7617).

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::key;
use super::Api;
use super::error::ApiError;

/// Lets a call pass that carries the key.
pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
    if given.is_some_and(|given| key::matches(&given, &api.key)) {
        return next.run(request).await;
    }
    let message = "the API key or its token is missing or wrong; they are in the service's key file";
    let mut response = ApiError::new(StatusCode::UNAUTHORIZED, message).into_response();
    let challenge = HeaderValue::from_static("Basic realm=\"iotdm\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}
