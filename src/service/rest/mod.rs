//! The REST face in the shapes of the platform's API v0002, under `/api/v0002`, with HTTP Basic authentication.
//!
//! It reads what the brain and the registry have and passes an operator's calls to the brain. It decides nothing.
//! What the platform does not have (`x/watch`, some members) is listed in `docs/service.md`.

mod attributes;
mod auth;
mod devices;
mod diagnostics;
mod error;
mod page;
mod requests;
mod watch;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};

use super::key::Key;
use super::shell::Shared;
use error::ApiError;

/// The largest body, in bytes: 5,000 devices with names of full length fit.
const MAX_BODY: usize = 1024 * 1024;

/// What every handler has.
#[derive(Debug, Clone)]
pub(super) struct Api {
    shell: Shared,
    key: [u8; 32],
    org: String,
}

/// The whole face.
pub fn router(shell: Shared, key: &Key, org: &str) -> Router {
    let api = Api {
        shell,
        key: key.digest(),
        org: org.to_owned(),
    };
    let device = "/device/types/{typeId}/devices/{deviceId}";
    let routes = Router::new()
        .route("/mgmt/requests", post(requests::create).get(requests::list))
        .route("/mgmt/requests/{id}", get(requests::one).delete(requests::delete))
        .route("/mgmt/requests/{id}/cancel", post(requests::cancel))
        .route("/mgmt/requests/{id}/deviceStatus", get(requests::statuses))
        .route(
            "/mgmt/requests/{id}/deviceStatus/{typeId}/{deviceId}",
            get(requests::status),
        )
        .route("/bulk/devices", get(devices::list))
        .route(
            device,
            get(devices::one).put(attributes::device).delete(devices::forget),
        )
        .route(&format!("{device}/mgmt"), get(devices::mgmt))
        .route(
            &format!("{device}/location"),
            get(devices::location).put(attributes::location),
        )
        .route(
            &format!("{device}/diag/logs"),
            get(diagnostics::logs)
                .post(diagnostics::add_log)
                .delete(diagnostics::clear_logs),
        )
        .route(
            &format!("{device}/diag/logs/{{id}}"),
            get(diagnostics::log).delete(diagnostics::delete_log),
        )
        .route(
            &format!("{device}/diag/errorCodes"),
            get(diagnostics::error_codes)
                .post(diagnostics::add_error_code)
                .delete(diagnostics::clear_error_codes),
        )
        .route("/x/watch", get(watch::watch));
    Router::new()
        .nest("/api/v0002", routes)
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not built at this path")
        })
        .layer(middleware::from_fn_with_state(api.clone(), auth::check))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}
