//! The service's side of the protocol on a plain MQTT broker.
//!
//! `brain` decides and is pure: events in, steps out, no I/O, no clock. `registry` keeps what the brain knows in
//! SQLite. The other modules are the shell around the two: they never decide anything about a device.
//!
//! Facts: the Device Management Protocol reference (operations, return codes) and the platform's REST API v0002
//! (device management requests, devices, diagnostics).

pub mod brain;
pub mod registry;
