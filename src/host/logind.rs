//! systemd-logind: who holds the machine up, may we reboot it, reboot it.
//!
//! The order of a reboot is the caller's: [`Logind::preflight`] (blockers, then permission),
//! [`Logind::take_delay_lock`], release of an own block lock, [`Logind::reboot`], the work that must be done before
//! going down, drop of the delay lock. Nothing here waits, retries or overrides an inhibitor: the flags that skip
//! inhibitors are never used, and no property is cached.
//! Facts: `org.freedesktop.login1(5)`, and what Debian 12 (systemd 252) and 13 (257) answer in practice.

use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use zbus::proxy::CacheProperties;

use super::bus::{Bus, BusError, Cause};

/// The name under which our own locks appear in `systemd-inhibit --list`.
pub const WHO: &str = "iotdm-agent";

/// The packaged polkit rule that lets our user reboot this machine.
pub const POLKIT_RULES: &str = "/usr/share/polkit-1/rules.d/60-iotdm-agent.rules";

const BUS_ERROR: &str = "org.freedesktop.DBus.Error.";

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    fn list_inhibitors(&self) -> zbus::Result<Vec<(String, String, String, String, u32, u32)>>;
    fn can_reboot(&self) -> zbus::Result<String>;
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<zbus::OwnedFd>;
    fn reboot(&self, interactive: bool) -> zbus::Result<()>;
    fn reboot_with_flags(&self, flags: u64) -> zbus::Result<()>;

    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn preparing_for_shutdown(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "false"), name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;
}

/// A lock that keeps the machine from shutting down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibitor {
    /// Who holds it, in the holder's words.
    pub who: String,
    /// Why, in the holder's words.
    pub why: String,
    /// The holder's user id.
    pub uid: u32,
    /// The holder's process id.
    pub pid: u32,
    /// `block` or, from systemd 257 on, `block-weak`.
    pub mode: String,
}

impl std::fmt::Display for Inhibitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}; uid {}, pid {})", self.who, self.why, self.uid, self.pid)
    }
}

/// logind's answer to "may I reboot?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanReboot {
    /// Allowed.
    Yes,
    /// polkit forbids it.
    No,
    /// Somebody would have to authenticate; for a daemon that is a no.
    Challenge,
    /// This machine cannot reboot.
    Na,
}

/// Why logind did not reboot the machine, or did not grant a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebootRefused {
    /// Somebody holds a block lock on shutdown. Never empty.
    #[error("blocked by {}", list(.0))]
    Blocked(Vec<Inhibitor>),
    /// polkit, or logind before it, does not let us. The text says what to check.
    #[error("{0}")]
    NotPermitted(String),
    /// This machine cannot reboot through logind.
    #[error("this machine cannot be rebooted through logind")]
    NotSupported,
    /// A shutdown or reboot is under way already. For a reboot that was asked for before, this is acceptance.
    #[error("a shutdown or reboot is in progress already")]
    InProgress,
    /// The request may or may not have reached logind: no reply, or the bus broke in the middle. The machine may
    /// still go down.
    #[error("it is not known whether logind accepted the request: {0}")]
    Unknown(BusError),
    /// Anything else; nothing was done.
    #[error("{0}")]
    Failed(String),
}

fn list(inhibitors: &[Inhibitor]) -> String {
    inhibitors
        .iter()
        .map(Inhibitor::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// logind on one bus connection.
#[derive(Debug, Clone)]
pub struct Logind {
    manager: ManagerProxy<'static>,
}

impl Logind {
    /// Speaks to logind over `bus`. Nothing is asked of logind yet.
    ///
    /// # Errors
    /// When the bus is gone.
    pub async fn new(bus: &Bus) -> Result<Self, BusError> {
        let manager = ManagerProxy::builder(bus.connection())
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(|error| BusError::new("login1", &error))?;
        Ok(Self { manager })
    }

    /// The block locks on shutdown that others hold (`block`, and `block-weak` where logind knows it).
    ///
    /// Our own are left out: this process's, and those of an earlier run that survive in systemd's fd store (same
    /// user, same name). Needs no permission.
    ///
    /// # Errors
    /// When the bus or logind does not answer.
    pub async fn shutdown_blockers(&self) -> Result<Vec<Inhibitor>, BusError> {
        let uid = nix::unistd::getuid().as_raw();
        let pid = std::process::id();
        let all = self
            .manager
            .list_inhibitors()
            .await
            .map_err(|error| BusError::new("login1 ListInhibitors", &error))?;
        Ok(blockers(all, |lock| {
            lock.uid == uid && (lock.pid == pid || lock.who == WHO)
        }))
    }

    /// Asks whether this process may reboot the machine now.
    ///
    /// # Errors
    /// [`RebootRefused::NotPermitted`] when there is no polkit to ask, [`RebootRefused::Failed`] otherwise.
    pub async fn can_reboot(&self) -> Result<CanReboot, RebootRefused> {
        const CALL: &str = "login1 CanReboot";
        let answer = self
            .manager
            .can_reboot()
            .await
            .map_err(|error| refusal(BusError::new(CALL, &error)))?;
        match answer.as_str() {
            "yes" => Ok(CanReboot::Yes),
            "no" => Ok(CanReboot::No),
            "challenge" => Ok(CanReboot::Challenge),
            "na" => Ok(CanReboot::Na),
            other => Err(RebootRefused::Failed(format!("{CALL}: unexpected answer {other:?}"))),
        }
    }

    /// Everything that can be known before a reboot is asked for: first the locks of others, then the permission.
    ///
    /// # Errors
    /// What [`Logind::reboot`] would most likely be refused with. `Ok` is no promise: a lock may be taken in between.
    pub async fn preflight(&self) -> Result<(), RebootRefused> {
        let blockers = self.shutdown_blockers().await.map_err(refusal)?;
        if !blockers.is_empty() {
            return Err(RebootRefused::Blocked(blockers));
        }
        match self.can_reboot().await? {
            CanReboot::Yes => Ok(()),
            CanReboot::No => Err(RebootRefused::NotPermitted(polkit_forbids("polkit says no"))),
            CanReboot::Challenge => Err(RebootRefused::NotPermitted(polkit_forbids("polkit wants a password"))),
            CanReboot::Na => Err(RebootRefused::NotSupported),
        }
    }

    /// Takes a delay lock on shutdown: it holds an accepted reboot until the descriptor is dropped, at most
    /// [`Logind::inhibit_delay_max`]. To be taken *before* the reboot is asked for.
    ///
    /// # Errors
    /// [`RebootRefused::InProgress`] when a shutdown is under way, else as [`Logind::reboot`].
    pub async fn take_delay_lock(&self, why: &str) -> Result<OwnedFd, RebootRefused> {
        self.lock(why, "delay").await
    }

    /// Takes a block lock on shutdown: others do not shut down by way of logind until the descriptor is dropped
    /// (on systemd 252 root still may). From systemd 257 on it also stops our own [`Logind::reboot`].
    ///
    /// # Errors
    /// As [`Logind::take_delay_lock`].
    pub async fn take_block_lock(&self, why: &str) -> Result<OwnedFd, RebootRefused> {
        self.lock(why, "block").await
    }

    async fn lock(&self, why: &str, mode: &str) -> Result<OwnedFd, RebootRefused> {
        match self.manager.inhibit("shutdown", WHO, why, mode).await {
            Ok(fd) => Ok(fd.into()),
            Err(error) => Err(refusal(BusError::new("login1 Inhibit", &error))),
        }
    }

    /// Reboots the machine, respecting inhibitors. Returns as soon as logind has accepted, which is at the *start* of
    /// the delay that locks may cause; the proof of a reboot is a new boot id.
    ///
    /// # Errors
    /// See [`RebootRefused`]. After [`RebootRefused::Unknown`] the machine may go down all the same.
    pub async fn reboot(&self) -> Result<(), RebootRefused> {
        const CALL: &str = "login1 RebootWithFlags";
        let mut outcome = self
            .manager
            .reboot_with_flags(0)
            .await
            .map_err(|error| BusError::new(CALL, &error));
        if matches!(&outcome, Err(error) if error.name() == Some("org.freedesktop.DBus.Error.UnknownMethod")) {
            outcome = self
                .manager
                .reboot(false)
                .await
                .map_err(|error| BusError::new("login1 Reboot", &error));
        }
        let Err(error) = outcome else { return Ok(()) };
        match error.cause {
            Cause::NoReply if self.preparing_for_shutdown().await == Ok(true) => Err(RebootRefused::InProgress),
            Cause::NoReply | Cause::Lost(_) => Err(RebootRefused::Unknown(error)),
            _ if may_mean_blocked(&error) => match self.shutdown_blockers().await {
                Ok(blockers) if !blockers.is_empty() => Err(RebootRefused::Blocked(blockers)),
                _ => Err(refusal(error)),
            },
            _ => Err(refusal(error)),
        }
    }

    /// How long an accepted shutdown waits for delay locks at most (`InhibitDelayMaxSec=`, 5 s unless configured).
    ///
    /// # Errors
    /// When the bus or logind does not answer.
    pub async fn inhibit_delay_max(&self) -> Result<Duration, BusError> {
        let limit = self.manager.inhibit_delay_max_usec().await;
        limit
            .map(Duration::from_micros)
            .map_err(|error| BusError::new("login1 InhibitDelayMaxUSec", &error))
    }

    /// Whether a shutdown or reboot was accepted and is under way.
    ///
    /// # Errors
    /// When the bus or logind does not answer.
    pub async fn preparing_for_shutdown(&self) -> Result<bool, BusError> {
        let preparing = self.manager.preparing_for_shutdown().await;
        preparing.map_err(|error| BusError::new("login1 PreparingForShutdown", &error))
    }

    /// `PrepareForShutdown`: `true` when a shutdown is accepted, `false` when it did not happen after all. Subscribed
    /// when this returns. The stream ends when the bus is lost.
    ///
    /// # Errors
    /// When the bus does not take the subscription.
    pub async fn prepare_for_shutdown(&self) -> Result<impl Stream<Item = bool> + Send + Unpin + use<>, BusError> {
        let signals = self.manager.receive_prepare_for_shutdown().await;
        let signals = signals.map_err(|error| BusError::new("login1 PrepareForShutdown", &error))?;
        Ok(signals.filter_map(|signal| std::future::ready(signal.args().map(|args| args.start).ok())))
    }
}

fn blockers(all: Vec<(String, String, String, String, u32, u32)>, ours: impl Fn(&Inhibitor) -> bool) -> Vec<Inhibitor> {
    all.into_iter()
        .filter(|(what, _, _, mode, ..)| what.split(':').any(|w| w == "shutdown") && mode.starts_with("block"))
        .map(|(_, who, why, mode, uid, pid)| Inhibitor {
            who,
            why,
            uid,
            pid,
            mode,
        })
        .filter(|lock| !ours(lock))
        .collect()
}

/// "Somebody blocks" has no error of its own: systemd 252 wants a password or says ESTALE (two polkit questions in one
/// call), 257 denies access. Only the list of locks tells.
fn may_mean_blocked(error: &BusError) -> bool {
    matches!(
        error.name(),
        Some(
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
                | "org.freedesktop.DBus.Error.AccessDenied"
                | "System.Error.ESTALE"
        )
    )
}

/// What an error means when no lock of somebody else explains it.
fn refusal(error: BusError) -> RebootRefused {
    let Cause::Refused { name, text } = &error.cause else {
        return RebootRefused::Failed(error.to_string());
    };
    match name.strip_prefix(BUS_ERROR).unwrap_or(name) {
        "org.freedesktop.login1.OperationInProgress" => RebootRefused::InProgress,
        "NotSupported" => RebootRefused::NotSupported,
        "InteractiveAuthorizationRequired" => RebootRefused::NotPermitted(polkit_forbids("polkit wants a password")),
        "AccessDenied" if text.contains("inhibitor") => RebootRefused::Failed(format!(
            "logind refused because of a block lock that nobody else holds any more, or that is our own: {text}"
        )),
        "System.Error.ESTALE" => RebootRefused::Failed(
            "logind refused because somebody is logged in and a block lock was held; no lock is left now".to_owned(),
        ),
        "AccessDenied" => RebootRefused::NotPermitted(format!(
            "logind denied access ({text}): is the package polkitd installed and running?"
        )),
        "org.freedesktop.systemd1.UnitMasked" => RebootRefused::NotPermitted(format!(
            "polkit cannot be asked ({text}): unmask and start polkit.service"
        )),
        _ => RebootRefused::Failed(error.to_string()),
    }
}

fn polkit_forbids(what: &str) -> String {
    format!(
        "{what} for org.freedesktop.login1.reboot or reboot-multiple-sessions: is {POLKIT_RULES} in place and readable, \
         and does no rule in /etc/polkit-1/rules.d forbid it?"
    )
}
