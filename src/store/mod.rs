//! What must survive a power cut: the durable state and the outbox.
//!
//! [`StateFile`] keeps one document and replaces it as a whole; [`Outbox`] keeps many small records and forgets them
//! one by one. Both know bytes only: what the bytes mean is the caller's. Everything here blocks on the disk and is
//! meant to be called from a thread that may.
//!
//! This room never decides what to do when the disk refuses: it leaves what is on the disk as it was, says why in a
//! [`StoreError`], and works again as soon as the disk does. It never reads a clock and never logs: what a person
//! should know comes back as [`Notice`]s.
//!
//! The reasons are in `docs/decisions/0004-durable-state-and-outbox.md`; the facts come from open(2), rename(2),
//! fsync(2) and flock(2).

mod copy;
mod error;
mod folder;

mod outbox;
mod record;
mod recover;
mod segment;
mod state;
#[cfg(test)]
mod tests;

pub use error::{Notice, StoreError, StoreErrorKind};
pub use folder::unused;
pub use outbox::{Appended, Limits, Outbox};
pub use record::Seq;
pub use recover::Recovered;
pub use state::{Loaded, MAX_DOCUMENT, StateFile};
