//! The service's side of the protocol on a plain MQTT broker.
//!
//! `brain` decides and is pure: events in, steps out, no I/O, no clock. `registry` keeps what the brain knows in
//! SQLite. `shell` carries events in and effects out and never decides anything about a device; `rest` is its face,
//! `serve` the process, and `cli` a client of the face like any other. `bundle` is the file server of one of its commands.
//!
//! Facts: the Device Management Protocol reference (operations, return codes) and the platform's REST API v0002
//! (device management requests, devices, diagnostics).

pub mod brain;
pub mod bundle;
pub mod cli;
pub mod key;
pub mod lock;
pub mod outside;
pub mod registry;
pub mod rest;
pub mod serve;
pub mod settings;
pub mod shell;
pub mod span;
