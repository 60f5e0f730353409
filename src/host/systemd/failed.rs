//! Which of some units are `failed`, told at once and whenever that changes; nobody is asked in between.
//!
//! Signals only say that something may have changed; what is so is then asked. That goes for units that are not loaded,
//! too: asking for one loads it, its object's path is made of its name, and it signals under it when it comes to life.
//! After a reload and a re-execution of systemd, and when the bus was away, everything is asked anew.
//!
//! Facts: `org.freedesktop.systemd1(5)`: PropertiesChanged of a unit and Reloading come only after Subscribe, a second
//! Subscribe of one client is an error that means nothing; UnitRemoved says that a unit was unloaded.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::stream::SelectAll;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use zbus::match_rule::Builder;
use zbus::message::Type;
use zbus::{MatchRule, Message, MessageStream, ObjectPath, OwnedObjectPath};

use super::super::bus::{Bus, BusError, Cause};
use super::{LOAD, Systemd, UnitProxy};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The first pause before the bus is tried again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Units that signal all the time are asked no more often than this.
const PACE: Duration = Duration::from_millis(200);
/// Signals that wait until they are read: more than these units send between a call and its reply. A full queue would
/// hold that reply back.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";

/// A task that watches units; it ends when this is dropped.
#[derive(Debug)]
pub struct FailedUnits {
    failed: watch::Receiver<Option<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl FailedUnits {
    /// Watches the units of these names on the bus at this D-Bus address, the system's without one. Begins at once and
    /// never gives up; nothing is watched when there are no names.
    pub fn start(address: Option<String>, names: BTreeSet<String>) -> Self {
        let (teller, failed) = watch::channel(None);
        let task = tokio::spawn(run(address, names, teller));
        Self { failed, task }
    }

    /// Waits for the next change; the first time until it is known. All of the names whose units are `failed`. May be
    /// dropped and called again.
    pub async fn next(&mut self) -> BTreeSet<String> {
        loop {
            if self.failed.changed().await.is_err() {
                // The task never ends by itself; if it did, there would be nothing to tell any more.
                std::future::pending::<()>().await;
            }
            if let Some(failed) = self.failed.borrow_and_update().clone() {
                return failed;
            }
        }
    }
}

impl Drop for FailedUnits {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(address: Option<String>, names: BTreeSet<String>, teller: watch::Sender<Option<BTreeSet<String>>>) {
    let mut pause = PAUSE.0;
    loop {
        let began = Instant::now();
        let Err(error) = watch(address.as_deref(), &names, &teller).await;
        tracing::warn!("systemd cannot be asked for failed units, trying again: {error}");
        if began.elapsed() > PAUSE.1 {
            pause = PAUSE.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One connection, until it breaks.
async fn watch(
    address: Option<&str>,
    names: &BTreeSet<String>,
    teller: &watch::Sender<Option<BTreeSet<String>>>,
) -> Result<Infallible, BusError> {
    let bus = match address {
        Some(address) => Bus::at(address, CALL_LIMIT).await?,
        None => Bus::system().await?,
    };
    let systemd = Systemd::new(&bus).await?;
    // The signals first, the states then: what changes in between is asked again.
    let mut signals = SelectAll::new();
    for rule in [owner(), reloading()] {
        signals.push(stream(&bus, rule).await?);
    }
    let mut known = BTreeSet::new();
    loop {
        let asked = Instant::now();
        systemd.subscribe().await?;
        let mut failed = BTreeSet::new();
        for name in names {
            let Some(unit) = systemd.load_if_valid(name).await? else {
                continue;
            };
            if known.insert(unit.inner().path().to_owned()) {
                signals.push(stream(&bus, properties(unit.inner().path())).await?);
                signals.push(stream(&bus, removed(name)).await?);
            }
            let state = unit.active_state().await;
            if state.map_err(|error| BusError::new("systemd1 ActiveState", &error))? == "failed" {
                failed.insert(name.clone());
            }
        }
        teller.send_if_modified(|told| {
            let changed = told.as_ref() != Some(&failed);
            if changed {
                *told = Some(failed.clone());
            }
            changed
        });
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal.and_then(Result::ok),
                () = bus.lost() => None,
            };
            let signal = signal.ok_or_else(|| BusError {
                call: "systemd1 signals",
                cause: Cause::Lost("the connection broke".to_owned()),
            })?;
            if matters(&signal, &failed) {
                break;
            }
        }
        sleep_until(asked + PACE).await;
        // Whatever came meanwhile is answered by the same questions.
        while let Some(Some(_)) = signals.next().now_or_never() {}
    }
}

/// Whether something may be otherwise now. Asking for a unit that is not there loads it, and it is unloaded again, which
/// is signalled, too: that counts only for one that was failed (`CollectMode=inactive-or-failed`).
fn matters(signal: &Message, failed: &BTreeSet<String>) -> bool {
    let header = signal.header();
    if header.member().is_none_or(|member| member.as_str() != "UnitRemoved") {
        return true;
    }
    let body = signal.body();
    let unit: zbus::Result<(String, OwnedObjectPath)> = body.deserialize();
    unit.is_ok_and(|(name, _)| failed.contains(&name))
}

async fn stream(bus: &Bus, rule: zbus::Result<MatchRule<'static>>) -> Result<MessageStream, BusError> {
    let subscribe = async { MessageStream::for_match_rule(rule?, bus.connection(), Some(QUEUE)).await };
    let subscribed = tokio::time::timeout(CALL_LIMIT, subscribe).await;
    let subscribed = subscribed.map_err(|_| BusError {
        call: "systemd1 signals",
        cause: Cause::NoReply,
    })?;
    subscribed.map_err(|error| BusError::new("systemd1 signals", &error))
}

/// systemd comes and goes, as it does when it is executed anew.
fn owner() -> zbus::Result<MatchRule<'static>> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus");
    let rule = rule.interface("org.freedesktop.DBus").member("NameOwnerChanged");
    rule.add_arg(NAME).build()
}

/// systemd reads its units anew, or has done so.
fn reloading() -> zbus::Result<MatchRule<'static>> {
    manager("Reloading").build()
}

/// This unit was unloaded. No other: a reload unloads every unit of the host.
fn removed(name: &str) -> zbus::Result<MatchRule<'static>> {
    manager("UnitRemoved").add_arg(name.to_owned()).build()
}

/// A signal of the manager.
fn manager(member: &'static str) -> Builder<'static> {
    let rule = MatchRule::builder().msg_type(Type::Signal).sender(NAME).path(PATH);
    rule.interface("org.freedesktop.systemd1.Manager").member(member)
}

/// A property of this unit changes.
fn properties(unit: &ObjectPath<'static>) -> zbus::Result<MatchRule<'static>> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(NAME)
        .path(unit.clone());
    let rule = rule
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged");
    rule.build()
}

impl Systemd {
    /// Asks for signals of units.
    async fn subscribe(&self) -> Result<(), BusError> {
        let subscribed = self.manager.subscribe().await;
        match subscribed.map_err(|error| BusError::new("systemd1 Subscribe", &error)) {
            Err(error) if error.name() == Some("org.freedesktop.systemd1.AlreadySubscribed") => Ok(()),
            other => other,
        }
    }

    /// The unit; `None` when systemd does not take the name for one.
    async fn load_if_valid(&self, name: &str) -> Result<Option<UnitProxy<'static>>, BusError> {
        match self.load(name).await.map_err(|error| BusError::new(LOAD, &error)) {
            Ok(unit) => Ok(Some(unit)),
            // Who checks a configuration has told that before.
            Err(error) if error.name() == Some("org.freedesktop.DBus.Error.InvalidArgs") => Ok(None),
            Err(error) => Err(error),
        }
    }
}
