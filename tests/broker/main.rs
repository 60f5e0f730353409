//! The session against a real mosquitto, and against a scripted broker for what mosquitto cannot be made to show.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod acknowledgements;
mod away;
mod connect;
mod owner;
mod proxy;
mod publishing;
mod refused;
mod subscribing;
mod tls;
