//! The one place where all rooms meet: events of the session, of D-Bus, of the local commands and of systemd go into
//! the brain; what it answers is written to the disk first and then carried out.
//!
//! Nothing is decided here. Everything that takes time is a task of its own that comes back as a [`Happening`].

pub mod check;
mod commands;
mod configuration;
mod connection;
mod diagnostics;
mod disk;
mod environment;
mod firmware;
mod link;
mod location;
mod logging;
mod pulse;
mod report;
mod reset;
mod run;
mod settings;
mod shutdown;

pub use diagnostics::offer;
pub use environment::Environment;
pub use logging::start as start_logging;
pub use report::{Report, diagnostics_in_words, firmware_in_words, location_in_words, readable};
pub use reset::reset_plan;
pub use run::{Exit, run};

use std::os::fd::OwnedFd;

use crate::agent::{Event, OpId, RebootOutcome};
use crate::host::identity;

/// What the host tells about itself.
#[derive(Debug, Clone)]
struct Facts {
    identity: identity::Facts,
    firmware: firmware::support::Host,
}

/// What a task of the daemon has to tell.
#[derive(Debug)]
enum Happening {
    /// Asking for a reboot came to its end; the lock is to be kept until the 202 is out.
    RebootEnded {
        op: OpId,
        outcome: RebootOutcome,
        lock: Option<OwnedFd>,
    },
    /// What the host tells about itself.
    Facts(Box<Facts>),
    /// What the brain waits for.
    Event(Event),
    /// How far a download or an installation is, in words.
    Progress(String),
    /// logind's signal.
    PreparingForShutdown(bool),
    /// `check` has looked at everything that it sees without the connection.
    Checked(check::Looked, tokio::sync::oneshot::Sender<crate::local::Reply>),
}
