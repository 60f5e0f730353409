//! What RAUC says unasked while it works: how far it is, that it is through, that it is gone.
//!
//! Only signals of the one process that does the work count: anybody may send a signal of this name, and a RAUC that was
//! restarted knows nothing of what its predecessor did.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use futures_util::{FutureExt, StreamExt};
use zbus::message::{Sequence, Type};
use zbus::names::UniqueName;
use zbus::{MatchRule, Message, MessageStream, OwnedVariant};

use super::super::bus::{Bus, BusError, Cause};
use super::{INTERFACE, NAME, PATH, QUESTION_LIMIT};

/// Signals that wait until they are read. More than RAUC sends between a call and its reply.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// RAUC's signals, from the moment of the subscription on.
pub(super) struct Signals {
    rauc: MessageStream,
    owners: MessageStream,
}

/// One thing that RAUC, or the bus on its behalf, said.
#[derive(Debug)]
pub(super) enum Heard {
    /// An installation ended; 0 is success. `at` orders it against replies on the same connection.
    Completed { result: i32, at: Sequence },
    /// A step began or ended; or the reason of a failure is told, which is empty when an installation begins; or both.
    Changed {
        step: Option<Step>,
        last_error: Option<String>,
    },
    /// The process left the bus.
    Gone,
    /// The connection to the bus broke.
    Lost,
}

/// A step of RAUC's, as in its property `Progress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Of the whole work, 0 to 100; a failure jumps to the end.
    pub(super) percentage: i32,
    /// What is done, such as `Verifying signature`; at its end with ` done.` or ` failed.` behind it.
    pub(super) message: String,
    /// 1 is the whole work.
    pub(super) depth: i32,
}

impl Signals {
    /// Subscribes; what is said from then on is heard.
    pub(super) async fn subscribe(bus: &Bus) -> Result<Self, BusError> {
        const CALL: &str = "rauc signals";
        let subscribed = tokio::time::timeout(QUESTION_LIMIT, Self::streams(bus)).await;
        let subscribed = subscribed.map_err(|_| BusError {
            call: CALL,
            cause: Cause::NoReply,
        })?;
        subscribed.map_err(|error| BusError::new(CALL, &error))
    }

    async fn streams(bus: &Bus) -> zbus::Result<Self> {
        let rauc = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(NAME)
            .path(PATH)
            .build()?;
        let owners = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .add_arg(NAME)
            .build()?;
        let stream = |rule| MessageStream::for_match_rule(rule, bus.connection(), Some(QUEUE));
        Ok(Self {
            rauc: stream(rauc).await?,
            owners: stream(owners).await?,
        })
    }

    /// The next thing that concerns the RAUC with this unique name.
    pub(super) async fn next(&mut self, instance: &UniqueName<'_>) -> Heard {
        loop {
            // What RAUC said before it went is in the first queue when its going is in the second.
            let message = tokio::select! {
                biased;
                message = self.rauc.next() => message,
                message = self.owners.next() => message,
            };
            let Some(Ok(message)) = message else {
                return Heard::Lost;
            };
            if let Some(heard) = heard(&message, instance) {
                return heard;
            }
        }
    }

    /// The next thing, if it is there already.
    pub(super) fn queued(&mut self, instance: &UniqueName<'_>) -> Option<Heard> {
        self.next(instance).now_or_never()
    }
}

/// What a signal means, if it is one that concerns this RAUC.
fn heard(message: &Message, instance: &UniqueName<'_>) -> Option<Heard> {
    let header = message.header();
    let body = message.body();
    let member = header.member()?.as_str();
    if member == "NameOwnerChanged" && header.sender()?.as_str() == "org.freedesktop.DBus" {
        let (name, old, _new): (&str, &str, &str) = body.deserialize().ok()?;
        return (name == NAME && old == instance.as_str()).then_some(Heard::Gone);
    }
    if header.sender()? != instance {
        return None;
    }
    match (header.interface()?.as_str(), member) {
        (INTERFACE, "Completed") => Some(Heard::Completed {
            result: body.deserialize().ok()?,
            at: message.recv_position(),
        }),
        ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
            let changed: (String, HashMap<String, OwnedVariant>, Vec<String>) = body.deserialize().ok()?;
            let (_, mut changed, _) = changed;
            Some(Heard::Changed {
                step: changed.remove("Progress").and_then(step),
                last_error: changed.remove("LastError").and_then(|text| String::try_from(text).ok()),
            })
        }
        _ => None,
    }
}

/// Reads the value of the property `Progress`.
pub(super) fn step(value: OwnedVariant) -> Option<Step> {
    let (percentage, message, depth) = <(i32, String, i32)>::try_from(value).ok()?;
    Some(Step {
        percentage,
        message,
        depth,
    })
}
