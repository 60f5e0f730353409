//! The brain's rules, each as a test on values.
#![allow(clippy::unwrap_used, missing_docs)]

mod codes;
mod diagnostics;
mod drive;
mod driver;
mod firmware;
mod golden;
mod inbox;
mod last_word;
mod lifecycle;
mod location;
mod machine;
mod model;
mod moved;
mod observation;
mod outbox;
mod outcome;
mod reboot;
mod receiver;
mod reset;
