//! `iotdm`, the service and the operator's commands.

fn main() {}
