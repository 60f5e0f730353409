//! The service's one door to the wall clock and to randomness. Nothing else in `service` reads either.

use std::time::{SystemTime, UNIX_EPOCH};

use super::brain::Now;

/// The wall clock.
#[allow(clippy::disallowed_methods)] // the one place of the service that may
pub fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
    }
}

/// A fresh seed for request ids.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    seed[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    seed
}

/// A secret of 64 hexadecimal digits.
pub fn secret() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}
