//! What several test binaries need: real mosquitto, certificates, a broker that misbehaves as told. Included with
//! `#[path = "../support/mod.rs"] mod support;`.

// Every test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

pub mod fake_broker;
pub mod mosquitto;
pub mod pki;

use std::time::Duration;

/// How long a test waits for something that should happen, on a machine that does other things as well.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A loopback port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits for something, and says what it waited for when it does not come.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LIMIT:?} in vain for: {what}"),
    }
}
