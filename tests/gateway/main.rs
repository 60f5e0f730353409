//! Tests on a real Debian: the package is installed in a virtual gateway (see `gateway` in this folder), where the agent
//! meets the real systemd, logind, polkit and journald, on Debian 12 and 13. Needs root (or sudo) and `make deb`.

#![allow(clippy::unwrap_used)]

mod bundle;
mod cuts;
mod diagnostics;
mod emulated;
mod files;
mod firmware;
#[path = "../support/gnss.rs"]
mod gnss;
mod harness;
mod location;
mod machine;
mod package;
mod push;
mod reboot;
mod reset;
mod sandbox;
#[allow(dead_code, unreachable_pub)]
#[path = "../download/server.rs"]
mod server;
mod site;
mod slots;
#[path = "../support/mod.rs"]
mod support;
mod wire;
