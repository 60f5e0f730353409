//! The lock on shutdown while RAUC writes. It survives a restart of the agent in systemd's store of file descriptors
//! (sd_pid_notify_with_fds(3), FDSTORE=1): whoever asks logind politely does not reboot in the middle of a slot write.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use sd_notify::NotifyState;

use crate::daemon::pulse::notify;
use crate::host::bus::Bus;
use crate::host::logind::Logind;

/// Its name in the store.
const NAME: &str = "installing";

/// The lock of a run before, which systemd gave back at the start.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Inherited(RawFd);

impl Inherited {
    /// What is in the store.
    pub(super) fn find() -> Option<Self> {
        let mut given = sd_notify::listen_fds_with_names().ok()?;
        given.find(|(_, name)| name == NAME).map(|(fd, _)| Inherited(fd))
    }

    pub(super) fn release(self) {
        notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(NAME)]);
        if let Err(error) = nix::unistd::close(self.0) {
            tracing::debug!("the lock of the run before could not be closed: {error}");
        }
    }
}

/// The lock, held until it is released. Without it the installation goes on all the same: an update that is cut short
/// falls back.
pub(super) struct Lock {
    own: Option<OwnedFd>,
    inherited: Option<Inherited>,
}

impl Lock {
    /// Takes over the one of the run before, or takes a new one.
    pub(super) async fn take(inherited: Option<Inherited>) -> Self {
        if inherited.is_some() {
            return Lock { own: None, inherited };
        }
        let own = match ask().await {
            Ok(lock) => {
                let states = [NotifyState::FdStore, NotifyState::FdName(NAME)];
                if let Err(error) = sd_notify::notify_with_fds(&states, &[lock.as_fd()]) {
                    tracing::debug!("systemd does not keep the lock on shutdown: {error}");
                }
                Some(lock)
            }
            Err(error) => {
                tracing::warn!("no lock on shutdown while the firmware is installed: {error}");
                None
            }
        };
        Lock { own, inherited: None }
    }

    /// Before anybody is told: Debian 13 refuses a reboot to the holder of a lock, too.
    pub(super) fn release(self) {
        if let Some(inherited) = self.inherited {
            inherited.release();
        } else if self.own.is_some() {
            notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(NAME)]);
        }
    }
}

async fn ask() -> Result<OwnedFd, String> {
    let bus = Bus::system().await.map_err(|error| error.to_string())?;
    let logind = Logind::new(&bus).await.map_err(|error| error.to_string())?;
    let lock = logind.take_block_lock("installing firmware").await;
    lock.map_err(|error| error.to_string())
}
