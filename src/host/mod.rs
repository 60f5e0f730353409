//! The Linux side, one file for one system service or one kind of fact.
//!
//! Nothing here decides: these rooms ask the host, carry out one call and report what came of it. They know nothing
//! of the protocol, the broker, the configuration or the disk state; `daemon` brings them together.

pub mod bus;
pub mod clock;
pub mod download;
pub mod gpsd;
pub mod identity;
pub mod journal;
pub mod logind;
pub mod mounts;
pub mod rauc;
pub mod systemd;
