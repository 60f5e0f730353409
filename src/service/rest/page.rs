//! Lists in pages: `_limit` and `_bookmark` in, `results`, `meta.total_rows` and `bookmark` out.

use std::collections::HashMap;

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde_json::{Map, Value, json};

use super::error::ApiError;

/// The parameters of a call.
pub(super) type Parameters = Result<Query<HashMap<String, String>>, QueryRejection>;

/// How many rows a page has unless `_limit` says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// The most rows of a page.
const MAX_LIMIT: usize = 1000;

/// The parameters, or what is wrong with them.
pub(super) fn parameters(parameters: Parameters) -> Result<HashMap<String, String>, ApiError> {
    match parameters {
        Ok(Query(parameters)) => Ok(parameters),
        Err(rejection) => Err(ApiError::invalid(rejection.body_text())),
    }
}

/// Which part of a list is asked for.
#[derive(Debug)]
pub(super) struct Page {
    limit: usize,
    /// As an earlier page gave it.
    pub(super) bookmark: Option<String>,
}

impl Page {
    pub(super) fn read(given: Parameters) -> Result<Self, ApiError> {
        let mut given = parameters(given)?;
        let limit = match given.remove("_limit") {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| ApiError::invalid(format!("_limit: must be 1 to {MAX_LIMIT}")))?,
        };
        Ok(Page {
            limit,
            bookmark: given.remove("_bookmark").filter(|bookmark| !bookmark.is_empty()),
        })
    }

    pub(super) fn bad_bookmark() -> ApiError {
        ApiError::invalid("_bookmark: is none that this service gave")
    }

    /// The page of these rows, which begin after the bookmark.
    pub(super) fn answer<T>(
        &self,
        rows: impl Iterator<Item = T>,
        total: usize,
        show: impl Fn(&T) -> Value,
        bookmark: impl Fn(&T) -> String,
    ) -> Json<Value> {
        let mut rows = rows.peekable();
        let mut results = Vec::new();
        let mut last = None;
        while results.len() < self.limit
            && let Some(row) = rows.next()
        {
            results.push(show(&row));
            last = Some(bookmark(&row));
        }
        let mut answer = Map::new();
        answer.insert("results".into(), results.into());
        answer.insert("meta".into(), json!({"total_rows": total}));
        // Without a bookmark there is no further page.
        if rows.peek().is_some()
            && let Some(last) = last
        {
            answer.insert("bookmark".into(), last.into());
        }
        Json(Value::Object(answer))
    }
}
