//! The real `iotdm-agent` as a process of its own: a real mosquitto, a private bus with a scripted logind, and a test
//! that plays systemd and the service. The host "reboots" when the process is started with another boot id.
#![allow(clippy::unwrap_used)]

#[path = "../support/bus.rs"]
mod bus;
#[path = "../support/gnss.rs"]
mod gnss;
#[path = "../support/gpsd.rs"]
mod gpsd;
#[path = "../support/journal.rs"]
mod journal;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

mod agent;
mod scene;
mod service;

mod away;
mod commands;
mod described;
mod diagnostics;
mod disk;
mod identity;
mod input;
mod kills;
mod life;
mod location;
mod looking;
mod model;
mod reboot;
mod refusals;
mod reset;
mod slow_rauc;
mod updatable;
mod wire;
