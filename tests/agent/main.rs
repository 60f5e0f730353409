//! The brain's rules, each as a test on values.
#![allow(clippy::unwrap_used, missing_docs)]

mod driver;
mod golden;
mod inbox;
mod lifecycle;
mod outbox;
mod reboot;
