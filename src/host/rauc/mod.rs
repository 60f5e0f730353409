//! RAUC: its slots, what a bundle is, install one, mark a slot.
//!
//! Decides nothing: which bundle, when, and what an end means for the update is the caller's. Never concludes anything
//! from RAUC's `Operation`, which a refused second installation sets to idle while the first goes on, and caches nothing
//! but the two questions that an installed RAUC answers the same way as long as it runs: is it there, and which methods
//! has it.
//! Facts: `de.pengutronix.rauc.Installer` of RAUC 1.8 (Debian 12) and 1.13 (Debian 13). RAUC answers every call from one
//! loop, and verifies a plain bundle in it: meanwhile it answers nobody.

mod bundle_file;
mod inspect;
mod install;
mod mark;
mod signals;
mod slot;

use std::path::Path;
use std::time::Duration;

use zbus::names::{OwnedUniqueName, UniqueName};
use zbus::{DynamicType, Message};

use super::bus::{Bus, BusError, Cause};

pub use inspect::{Bundle, InspectError};
pub use install::{InstallEnd, Progress};
pub use mark::{Mark, MarkError};
pub use slot::{Slot, booted_version};

const NAME: &str = "de.pengutronix.rauc";
const PATH: &str = "/";
const INTERFACE: &str = "de.pengutronix.rauc.Installer";

/// How long the start of the agent may wait for RAUC, which D-Bus may have to start first, on a slow host in the middle of
/// its boot. An agent that does not wait says that it takes no firmware, and takes that back soon after.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long RAUC may take for a question: it may have to be started, and asks tools of the boot loader.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// How long RAUC may take where it, or somebody's question before ours, reads a whole bundle: 2 GiB at under 3 MiB/s.
const BUNDLE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// RAUC on a connection of its own, which no limit for calls applies to but those named here.
#[derive(Debug, Clone)]
pub struct Rauc {
    bus: Bus,
    /// RAUC 1.9 and later. One version more, and `transaction-id` is known.
    inspect_bundle: bool,
}

impl Rauc {
    /// Looks for RAUC on this host, starting it if D-Bus can, and for what it is able to do. `None`: there is none. Takes
    /// at most 30 s.
    ///
    /// # Errors
    /// When there is no bus, or RAUC is there and does not answer.
    pub async fn new(bus: &Bus) -> Result<Option<Self>, BusError> {
        const CALL: &str = "rauc Introspect";
        let bus = bus.without_limit().await?;
        let question = bus.connection().call_method(
            Some(NAME),
            PATH,
            Some("org.freedesktop.DBus.Introspectable"),
            "Introspect",
            &(),
        );
        match limited(CALL, QUESTION_LIMIT, question).await {
            Ok(reply) => {
                let text: String = read(CALL, &reply)?;
                let inspect_bundle = text.contains("\"InspectBundle\"") || text.contains("'InspectBundle'");
                Ok(Some(Self { bus, inspect_bundle }))
            }
            Err(BusError {
                cause: Cause::Absent(_),
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Resolves when the connection is gone. From then on every call fails; make a new [`Rauc`] on a new [`Bus`].
    pub async fn lost(&self) {
        self.bus.lost().await;
    }

    /// All slots, in the order of their names. Takes at most 30 s; refused while RAUC installs ([`is_busy`]).
    ///
    /// # Errors
    /// When RAUC does not say: not configured, booted slot unknown, busy, too slow.
    pub async fn slots(&self) -> Result<Vec<Slot>, BusError> {
        slot::ask(&self.bus, QUESTION_LIMIT).await
    }

    /// What a bundle must be `compatible` with to be installed here. Takes at most 30 s.
    ///
    /// # Errors
    /// When RAUC does not answer.
    pub async fn compatible(&self) -> Result<String, BusError> {
        self.text("rauc Compatible", "Compatible").await
    }

    /// The name of the slot that the boot loader takes next. `None` when it finds none that is bootable: with GRUB that is
    /// so from a boot on until the booted slot is marked good. Takes at most 30 s; refused while RAUC installs.
    ///
    /// # Errors
    /// When RAUC or the boot loader's tools fail.
    pub async fn primary(&self) -> Result<Option<String>, BusError> {
        const CALL: &str = "rauc GetPrimary";
        match self.call(CALL, "GetPrimary", &(), QUESTION_LIMIT).await {
            Ok(reply) => Ok(Some(read(CALL, &reply)?)),
            Err(error) if none_is_bootable(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn call<B: serde::Serialize + DynamicType>(
        &self,
        call: &'static str,
        method: &str,
        body: &B,
        limit: Duration,
    ) -> Result<Message, BusError> {
        ask(&self.bus, call, method, body, limit).await
    }

    /// A property that holds text, read anew.
    async fn text(&self, call: &'static str, property: &str) -> Result<String, BusError> {
        let value = self.property(call, property).await?;
        String::try_from(value).map_err(|error| BusError::new(call, &error))
    }

    async fn property(&self, call: &'static str, property: &str) -> Result<zbus::OwnedVariant, BusError> {
        let which = (INTERFACE, property);
        let question =
            self.bus
                .connection()
                .call_method(Some(NAME), PATH, Some("org.freedesktop.DBus.Properties"), "Get", &which);
        read(call, &limited(call, QUESTION_LIMIT, question).await?)
    }
}

/// The unique name of the RAUC that runs, without starting one.
async fn instance(bus: &Bus) -> Result<Option<UniqueName<'static>>, BusError> {
    const CALL: &str = "rauc GetNameOwner";
    const DBUS: &str = "org.freedesktop.DBus";
    let question = bus
        .connection()
        .call_method(Some(DBUS), "/org/freedesktop/DBus", Some(DBUS), "GetNameOwner", &NAME);
    match limited(CALL, QUESTION_LIMIT, question).await {
        Ok(reply) => Ok(Some(read::<OwnedUniqueName>(CALL, &reply)?.into())),
        Err(BusError {
            cause: Cause::Absent(_),
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All slots of this host, in the order of their names; empty on a host without RAUC. Takes at most 10 s: for the start of
/// the agent, which must not hang because RAUC does.
///
/// # Errors
/// When RAUC is there and does not say (not configured, booted slot unknown, busy, too slow).
pub async fn slots(bus: &Bus) -> Result<Vec<Slot>, BusError> {
    match slot::ask(bus, START_LIMIT).await {
        Err(BusError {
            cause: Cause::Absent(_),
            ..
        }) => Ok(Vec::new()),
        answer => answer,
    }
}

/// Whether RAUC refused because it is installing. Every version says it in these words, some with a capital letter.
pub fn is_busy(error: &BusError) -> bool {
    said(error).is_some_and(|text| text.to_lowercase().contains("already processing a different method"))
}

/// The boot loaders' words for "there is nothing I would boot" (GRUB, U-Boot and EFI of RAUC 1.8 to 1.13). A custom backend
/// has none: it fails.
fn none_is_bootable(error: &BusError) -> bool {
    const WORDS: [&str; 3] = [
        "No bootable slot found",
        "Unable to find primary boot slot",
        "Did not find primary boot entry",
    ];
    said(error).is_some_and(|text| WORDS.iter().any(|words| text.contains(words)))
}

/// What RAUC itself said, when it answered with an error. Its errors have no names of their own, and no other has its:
/// the bus's (no permission) and GDBus's (no such method) begin like this.
fn said(error: &BusError) -> Option<&str> {
    match &error.cause {
        Cause::Refused { name, text } if !name.starts_with("org.freedesktop.DBus.Error.") => Some(text.trim_end()),
        _ => None,
    }
}

/// RAUC is another process with another view of the file system: only an absolute path in UTF-8 means the same to both.
fn path_text(bundle: &Path) -> Result<&str, String> {
    match bundle.to_str() {
        Some(path) if bundle.is_absolute() => Ok(path),
        _ => Err(format!(
            "RAUC needs the bundle's absolute path in UTF-8, and this is none: {}",
            bundle.display()
        )),
    }
}

async fn ask<B: serde::Serialize + DynamicType>(
    bus: &Bus,
    call: &'static str,
    method: &str,
    body: &B,
    limit: Duration,
) -> Result<Message, BusError> {
    let question = bus
        .connection()
        .call_method(Some(NAME), PATH, Some(INTERFACE), method, body);
    limited(call, limit, question).await
}

async fn limited(
    call: &'static str,
    limit: Duration,
    question: impl Future<Output = zbus::Result<Message>>,
) -> Result<Message, BusError> {
    match tokio::time::timeout(limit, question).await {
        Ok(answer) => answer.map_err(|error| BusError::new(call, &error)),
        Err(_) => Err(BusError {
            call,
            cause: Cause::NoReply,
        }),
    }
}

fn read<T>(call: &'static str, reply: &Message) -> Result<T, BusError>
where
    T: for<'d> serde::Deserialize<'d> + zbus::Type,
{
    let answer = reply.body().deserialize();
    answer.map_err(|error| BusError::new(call, &error))
}
