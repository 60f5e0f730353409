//! `iotdm-agent`: the device management agent for Linux gateways, and `iotdm`, the service's side of the same protocol.
//!
//! The modules are rooms with one-way doors: `protocol` knows nobody, `agent` and `service` are pure and know only
//! `protocol`, the rooms that do I/O (`host`, `mqtt`, `store`, `config`, `wipe`) know nothing of each other, and `daemon`
//! is the one place where all of them meet. `tests/house` keeps it so.

pub mod agent;
pub mod config;
pub mod daemon;
pub mod host;
pub mod local;
pub mod mqtt;
pub mod protocol;
pub mod service;
pub mod store;
pub mod wipe;
