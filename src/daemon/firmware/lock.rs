//! The lock on shutdown while RAUC writes. It survives a restart of the agent in systemd's store of file descriptors
//! (sd_pid_notify_with_fds(3), FDSTORE=1): whoever asks logind politely does not reboot in the middle of a slot write.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use sd_notify::NotifyState;

use crate::daemon::pulse::notify;
use crate::host::bus::Bus;
use crate::host::logind::Logind;

/// Its name in the store.
const NAME: &str = "installing";

/// The lock, when it is held.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Lock {
    own: Option<OwnedFd>,
    /// From the run before; systemd gave it back at the start.
    inherited: Option<RawFd>,
}

impl Lock {
    /// What an earlier run left in the store.
    pub(in crate::daemon) fn inherited() -> Self {
        let given = sd_notify::listen_fds_with_names().ok();
        let ours = given.and_then(|mut given| given.find(|(_, name)| name == NAME));
        Lock {
            own: None,
            inherited: ours.map(|(fd, _)| fd),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.own.is_some() || self.inherited.is_some()
    }

    /// Without it the installation goes on all the same: an update that is cut short falls back.
    pub(super) async fn take(&mut self) {
        if self.is_held() {
            return;
        }
        match ask().await {
            Ok(lock) => {
                let states = [NotifyState::FdStore, NotifyState::FdName(NAME)];
                if let Err(error) = sd_notify::notify_with_fds(&states, &[lock.as_fd()]) {
                    tracing::debug!("systemd does not keep the lock on shutdown: {error}");
                }
                self.own = Some(lock);
            }
            Err(error) => {
                tracing::warn!("no lock on shutdown while the firmware is installed: {error}");
            }
        }
    }

    pub(super) fn release(&mut self) {
        notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(NAME)]);
        self.own = None;
        if let Some(fd) = self.inherited.take()
            && let Err(error) = nix::unistd::close(fd)
        {
            tracing::debug!("the lock of the run before could not be closed: {error}");
        }
    }
}

async fn ask() -> Result<OwnedFd, String> {
    let bus = Bus::system().await.map_err(|error| error.to_string())?;
    let logind = Logind::new(&bus).await.map_err(|error| error.to_string())?;
    let lock = logind.take_block_lock("installing firmware").await;
    lock.map_err(|error| error.to_string())
}
