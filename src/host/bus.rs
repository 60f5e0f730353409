//! The connection to the system bus, and what a failed D-Bus call means.
//!
//! A [`Bus`] is one connection. It is never repaired: when it is lost every call fails with [`Cause::Lost`] and the
//! owner makes a new one. Every call has a limit, because a D-Bus call has none by itself. Nothing is cached.
//! Facts: the D-Bus specification's error names; `DBUS_SYSTEM_BUS_ADDRESS` is honoured by zbus.

use std::time::Duration;

use zbus::DBusError as _;
use zbus::connection::{Builder, Connection};

/// How long one call may take. polkit is started by its first question (tens of milliseconds); a service that D-Bus
/// has to start may take seconds on a slow gateway.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How long connecting and greeting the bus may take. Both are local and answered by the bus itself.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// One connection to the system bus. Cheap to clone; all clones are the same connection.
#[derive(Debug, Clone)]
pub struct Bus {
    connection: Connection,
    /// Where it is, when it is not the system's own.
    address: Option<String>,
}

/// A D-Bus call that did not succeed: which one, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {cause}")]
pub struct BusError {
    /// The call, as a person would name it, such as `login1 CanReboot`.
    pub call: &'static str,
    /// What happened.
    pub cause: Cause,
}

/// Why a D-Bus call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// There is no bus, or the connection to it broke. Make a new [`Bus`].
    #[error("no connection to the system bus ({0}); is dbus.service running?")]
    Lost(String),
    /// No reply in time. Whether the service did what it was asked is not known.
    #[error("no reply in time")]
    NoReply,
    /// The service is not on the bus and could not be started: not installed, masked, or failed.
    #[error("the service is not there ({0})")]
    Absent(String),
    /// The service (or the bus on its behalf) answered with an error.
    #[error("{text} ({name})")]
    Refused {
        /// The D-Bus error name, such as `org.freedesktop.DBus.Error.AccessDenied`.
        name: String,
        /// The service's own words; may be empty.
        text: String,
    },
    /// The reply was not what the interface promises.
    #[error("unexpected reply ({0})")]
    Unexpected(String),
}

impl Bus {
    /// Connects to the system bus: `DBUS_SYSTEM_BUS_ADDRESS`, else the well-known socket.
    ///
    /// # Errors
    /// [`Cause::Lost`] when nothing listens there, [`Cause::NoReply`] when it does not greet within 5 s.
    pub async fn system() -> Result<Self, BusError> {
        Self::build(None, Some(CALL_LIMIT)).await
    }

    /// Connects to the bus at a D-Bus address such as `unix:path=/run/dbus/system_bus_socket`; a call may take
    /// `call_limit`.
    ///
    /// # Errors
    /// As [`Bus::system`].
    pub async fn at(address: &str, call_limit: Duration) -> Result<Self, BusError> {
        Self::build(Some(address.to_owned()), Some(call_limit)).await
    }

    /// Another connection to the same bus, on which a call has no limit: for a caller that gives each call its own, and
    /// whose unread signals shall not hold up anybody else's replies.
    pub(super) async fn without_limit(&self) -> Result<Self, BusError> {
        Self::build(self.address.clone(), None).await
    }

    async fn build(address: Option<String>, call_limit: Option<Duration>) -> Result<Self, BusError> {
        const CALL: &str = "connecting to the system bus";
        let mut builder = match &address {
            Some(address) => Builder::address(address.as_str()),
            None => Builder::system(),
        };
        if let Some(limit) = call_limit {
            builder = builder.method_timeout(limit);
        }
        match tokio::time::timeout(CONNECT_LIMIT, builder.build()).await {
            Ok(Ok(connection)) => Ok(Self { connection, address }),
            Ok(Err(error)) => Err(BusError {
                call: CALL,
                cause: Cause::Lost(error.to_string()),
            }),
            Err(_) => Err(BusError {
                call: CALL,
                cause: Cause::NoReply,
            }),
        }
    }

    /// Resolves when the connection is gone. From then on every call fails; make a new [`Bus`].
    pub async fn lost(&self) {
        self.connection.closed().await;
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl BusError {
    pub(super) fn new(call: &'static str, error: &zbus::Error) -> Self {
        Self {
            call,
            cause: cause(error),
        }
    }

    /// The D-Bus error name, when a service answered with an error.
    pub fn name(&self) -> Option<&str> {
        match &self.cause {
            Cause::Refused { name, .. } => Some(name),
            _ => None,
        }
    }
}

fn cause(error: &zbus::Error) -> Cause {
    match error {
        zbus::Error::InputOutput(io) if io.kind() == std::io::ErrorKind::TimedOut => Cause::NoReply,
        zbus::Error::InputOutput(io) => Cause::Lost(io.to_string()),
        zbus::Error::Connection(io, _) => Cause::Lost(io.to_string()),
        zbus::Error::MethodError(name, text, _) => named(name.as_str(), text.clone().unwrap_or_default()),
        zbus::Error::FDO(fdo) => match fdo.as_ref() {
            zbus::fdo::Error::ZBus(inner) => cause(inner),
            other => named(
                other.name().as_str(),
                other.description().unwrap_or_default().to_owned(),
            ),
        },
        other => Cause::Unexpected(other.to_string()),
    }
}

/// Sorts a D-Bus error name: the names that the bus itself uses for "nobody there", "no reply" and "gone", and the rest.
fn named(name: &str, text: String) -> Cause {
    const BUS: &str = "org.freedesktop.DBus.Error.";
    match name.strip_prefix(BUS) {
        Some("NoReply" | "TimedOut" | "Timeout") => Cause::NoReply,
        Some("Disconnected" | "NoServer") => Cause::Lost(text),
        Some("ServiceUnknown" | "NameHasNoOwner") => Cause::Absent(text),
        Some(rest) if rest.starts_with("Spawn.") => Cause::Absent(text),
        _ => Cause::Refused {
            name: name.to_owned(),
            text,
        },
    }
}
