//! `iotdm-agent`, the daemon and its local commands.

fn main() {}
