//! The service's side: the brain by conformance id, the registry, the REST face, and the whole of it on a real broker.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod brain;
mod bundle;
mod diagnostics;
mod firmware;
mod live;
mod model;
mod operate;
mod place;
mod push;
mod push_again;
mod put;
mod random;
mod reason;
mod registry;
mod reset;
mod rest;
mod scene;
#[path = "../support/mod.rs"]
mod support;
