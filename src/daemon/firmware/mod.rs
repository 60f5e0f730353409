//! Firmware, carried out: each effect of the brain is a task of its own that comes back with one event.
//!
//! `fetch` downloads and has RAUC look, `install` writes the slot under a lock on shutdown, `survey` and `health` look
//! at the host, `marker` speaks to the fall-back outside the agent, `support` says whether any of it can work here.

mod fetch;
mod health;
mod install;
mod lock;
mod marker;
pub(super) mod support;
mod survey;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Happening;
use super::run::Daemon;
use crate::agent::effect::{Health, Image, Mark, Marker, Purpose};
use crate::agent::{Event, OpId};
use crate::config::{self, Configuration};
use crate::host::bus::Bus;
use crate::host::download::Download;
use crate::host::mounts;
use crate::host::rauc::{self, Rauc};
use crate::local::Inbox;
use lock::{Inherited, Lock};

/// How the brain names an image that was handed over on the device.
const HANDED_OVER: &str = "file:";
/// Room that a download leaves on the state disk, in bytes.
pub(super) const RESERVE: u64 = 64 * 1024 * 1024;
/// RAUC may have to be started first, and the host may be busy with its boot.
const RAUC_LIMIT: Duration = Duration::from_secs(20);

/// Where the image is kept.
fn file(folder: &Path) -> PathBuf {
    folder.join("firmware").join("bundle.raucb")
}

/// Where a file that somebody on the device hands over arrives.
fn handed_over(folder: &Path) -> PathBuf {
    folder.join("firmware").join("handed-over")
}

/// A file that the run before did not come to hand on: it would only be in the way.
pub(super) fn forget_handed_over(folder: &Path) {
    match std::fs::remove_file(handed_over(folder)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("a file that was handed over earlier could not be removed: {error}");
        }
        _ => {}
    }
}

/// The same for the socket: it takes no more than leaves the state its room.
pub(super) fn inbox(folder: &Path) -> Inbox {
    let state = folder.to_owned();
    let room = move |size: u64| match mounts::free_space(&state) {
        Ok(free) if size.saturating_add(RESERVE) <= free => Ok(()),
        Ok(free) => Err(format!(
            "the image has {} MiB, and below {} only {} MiB are free, of which {} must stay free: make room",
            size >> 20,
            state.display(),
            free >> 20,
            RESERVE >> 20
        )),
        Err(error) => Err(format!("the disk of {} cannot be looked at: {error}", state.display())),
    };
    Inbox {
        file: handed_over(folder),
        room: Box::new(room),
    }
}

/// What runs, and how far it is.
#[derive(Default)]
pub(super) struct Tasks {
    download: Option<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
    /// Tells when the locks on shutdown change; runs for as long as a reboot is waited for.
    inhibitors: Option<JoinHandle<()>>,
    /// How far the download or the installation is, in words.
    pub(super) progress: Option<String>,
    /// The lock on shutdown of the run before, until it is known whether RAUC is still at work.
    inherited: Option<Inherited>,
    window_open: bool,
}

impl Tasks {
    /// Nothing runs yet; the lock may be one of the run before.
    pub(super) fn new() -> Self {
        Tasks {
            inherited: Inherited::find(),
            ..Tasks::default()
        }
    }
}

/// Where a task tells what it found. Nobody listens any more when the daemon stops; then the disk decides.
#[derive(Clone)]
struct Teller(mpsc::Sender<Happening>);

impl Teller {
    async fn event(&self, event: Event) {
        let _ = self.0.send(Happening::Event(event)).await;
    }

    /// Progress that nobody takes in time is old news.
    fn progress(&self, text: String) {
        let _ = self.0.try_send(Happening::Progress(text));
    }
}

impl Daemon {
    fn teller(&self) -> Teller {
        Teller(self.happenings.clone())
    }

    /// Whether the configuration takes an image of so many bytes; if not, why.
    pub(super) fn takes_image(&self, size: u64) -> Result<(), String> {
        let most = self.firmware_settings().map_or(u64::MAX, |settings| settings.max_size);
        match size <= most {
            true => Ok(()),
            false => Err(format!(
                "the image has {} MiB, and firmware.max_size allows {} MiB",
                size >> 20,
                most >> 20
            )),
        }
    }

    fn firmware_settings(&self) -> Option<&config::Firmware> {
        match &self.configuration.settings {
            Configuration::Configured(settings) => Some(&settings.firmware),
            Configuration::NotConfigured { .. } => None,
        }
    }

    /// What the brain's image comes to, with the configuration in force.
    fn to_fetch(&self, image: &Image) -> Result<Download, String> {
        let settings = self.firmware_settings().ok_or("the device is not configured")?;
        fetch::download(settings, image, file(&self.folder))
    }

    pub(super) fn download(&mut self, op: OpId, image: &Image) {
        let teller = self.teller();
        if image.uri.starts_with(HANDED_OVER) {
            let (from, to) = (handed_over(&self.folder), file(&self.folder));
            let task = tokio::spawn(async move {
                let end = fetch::take_over(&from, &to).await;
                teller.event(Event::Downloaded { op, end }).await;
            });
            self.firmware.download.replace(task);
            return;
        }
        match self.to_fetch(image) {
            Ok(download) => {
                let task = tokio::spawn(async move {
                    let end = fetch::fetch(&download, &teller).await;
                    teller.event(Event::Downloaded { op, end }).await;
                });
                self.firmware.download.replace(task);
            }
            Err(message) => self.events.push_back(Event::Downloaded {
                op,
                end: fetch::unverifiable(message),
            }),
        }
    }

    pub(super) async fn discard(&mut self) {
        if let Err(error) = Download::discard(&file(&self.folder)).await {
            tracing::warn!("an old image could not be removed: {error}");
        }
    }

    pub(super) fn install(&mut self, op: OpId, image: &Image, transaction: String) {
        let (teller, inherited) = (self.teller(), self.firmware.inherited.take());
        let download = match image.uri.starts_with(HANDED_OVER) {
            // RAUC's signature is all that there is to check it by.
            true => Ok(None),
            false => self.to_fetch(image).map(Some),
        };
        let bundle = file(&self.folder);
        tokio::spawn(async move {
            let lock = Lock::take(inherited).await;
            let end = match download {
                Ok(download) => install::install(download.as_ref(), &bundle, &transaction, &teller).await,
                Err(message) => install::damaged(message),
            };
            lock.release();
            teller.event(Event::Installed { op, end }).await;
        });
    }

    pub(super) fn rejoin(&mut self, op: OpId) {
        let (teller, inherited) = (self.teller(), self.firmware.inherited.take());
        tokio::spawn(async move {
            let lock = Lock::take(inherited).await;
            let end = install::rejoin(&teller).await;
            lock.release();
            teller.event(Event::Installed { op, end }).await;
        });
    }

    pub(super) fn survey(&self, op: OpId, purpose: Purpose) {
        let (teller, folder) = (self.teller(), self.folder.clone());
        let settings = self.firmware_settings().cloned();
        let agent = self.agent.as_ref();
        let uri = agent.and_then(|agent| agent.durable().firmware.uri.clone());
        tokio::spawn(async move {
            let found = survey::look(purpose, &folder, settings.as_ref(), uri.as_deref()).await;
            teller.event(Event::Surveyed { op, found }).await;
        });
    }

    pub(super) fn watch_health(&mut self, watch: Option<(OpId, Health)>) {
        if let Some(task) = self.firmware.watch.take() {
            task.abort();
        }
        if let Some((op, health)) = watch {
            let teller = self.teller();
            self.firmware.watch = Some(tokio::spawn(health::watch(op, health, teller)));
        }
    }

    pub(super) fn mark(&self, op: OpId, marks: Vec<(Mark, String)>) {
        let teller = self.teller();
        tokio::spawn(async move {
            let result = mark(&marks).await;
            teller.event(Event::Marked { op, result }).await;
        });
    }

    pub(super) async fn mark_trial(&self, marker: Option<Marker>) {
        if let Err(error) = marker::write(&self.folder, marker).await {
            tracing::error!(
                "the fall-back outside the agent could not be told of the trial: {error}; the agent itself still ends it"
            );
        }
    }

    /// What hangs on the brain's state and not on one of its effects: the lock of an installation that is over, the locks
    /// and the time of day that a reboot waits for.
    pub(super) fn firmware_follow_up(&mut self) {
        let Some(agent) = &self.agent else { return };
        let installing = agent.installing();
        let waiting = agent.awaits_reboot();
        if !installing && let Some(lock) = self.firmware.inherited.take() {
            lock.release();
        }
        if !installing && self.firmware.download.as_ref().is_none_or(JoinHandle::is_finished) {
            self.firmware.progress = None;
        }
        if waiting && self.firmware.inhibitors.is_none() {
            let teller = self.teller();
            self.firmware.inhibitors = Some(tokio::spawn(waiting::inhibitors(teller)));
        } else if !waiting && let Some(task) = self.firmware.inhibitors.take() {
            task.abort();
        }
        let open = self
            .firmware_settings()
            .and_then(|settings| settings.window)
            .is_some_and(waiting::is_open);
        if open != self.firmware.window_open {
            self.firmware.window_open = open;
            self.events.push_back(Event::Window(open));
        }
    }
}

/// RAUC on a connection of its own: what it does may take minutes, and the bus may have gone since.
async fn connect() -> Result<Rauc, String> {
    let rauc = async {
        let bus = Bus::system().await.map_err(|error| error.to_string())?;
        let rauc = Rauc::new(&bus).await.map_err(|error| error.to_string())?;
        rauc.ok_or_else(|| "this host has no RAUC".to_owned())
    };
    let late = |_| "RAUC did not answer in time".to_owned();
    tokio::time::timeout(RAUC_LIMIT, rauc).await.map_err(late)?
}

async fn mark(marks: &[(Mark, String)]) -> Result<(), String> {
    let rauc = connect().await?;
    for (mark, slot) in marks {
        let mark = match mark {
            Mark::Good => rauc::Mark::Good,
            Mark::Bad => rauc::Mark::Bad,
            Mark::Active => rauc::Mark::Active,
        };
        rauc.mark(mark, slot).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
