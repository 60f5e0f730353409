//! The daemon's life: start, the loop, stop; and the one order in which a step of the brain is carried out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::check;
use super::commands::command_reply;
use super::connection::Connection;
use super::disk::{Disk as Files, Found};
use super::environment::Environment;
use super::link::{Link, next_event};
use super::logging;
use super::pulse::{Pulse, Task, notify};
use super::{Facts, Happening, diagnostics, firmware, location, shutdown};
use crate::agent::{AckId, After, Agent, CommandId, Disk, Effect, Event, Now, PublishId};
use crate::config::{self, Configuration};
use crate::host::clock;
use crate::local::{self, Call, Reply};
use crate::mqtt::AckToken;

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Stopped,
    /// It cannot run: another agent has the state, no boot id, no disk. It is tried again.
    Failed,
    /// The configuration was refused; only a person can mend that.
    Configuration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Stopped => 0,
            Exit::Failed => 1,
            // EX_CONFIG of sysexits.h; the unit does not restart on it.
            Exit::Configuration => 78,
        })
    }
}

/// How often what was appended to the outbox is brought to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often a disk that refused is tried again, unless the brain does so anyway.
const TRY_DISK_EVERY: Duration = Duration::from_secs(5);
/// How often RAUC is asked again when it does not say; after that, with the other facts.
const MAX_SILENT: u32 = 6;
/// How often the facts about the host are looked at anew: a boot slot may be marked, a hostname changed.
const FACTS_EVERY: Duration = Duration::from_secs(3600);

/// Runs until SIGTERM. Logs; prints nothing.
pub async fn run(config_path: &Path, environment: Environment) -> Exit {
    let boot_id = match clock::boot_id(environment.boot_id.as_deref()) {
        Ok(boot_id) => boot_id,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Failed;
        }
    };
    let loaded = match config::load(config_path, environment.credentials.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) if error.unreadable => {
            tracing::error!(
                MESSAGE_ID = logging::CONFIGURATION,
                "the configuration cannot be read:\n{error}"
            );
            notify(&[NotifyState::Status("the configuration cannot be read, trying again")]);
            return Exit::Failed;
        }
        Err(error) => {
            tracing::error!(
                MESSAGE_ID = logging::CONFIGURATION,
                "the configuration is refused:\n{error}"
            );
            notify(&[NotifyState::Status(
                "the configuration is refused: see iotdm-agent check",
            )]);
            return Exit::Configuration;
        }
    };
    let folder = match &loaded.settings {
        Configuration::Configured(settings) => settings.state.directory(environment.state_directory.as_deref()),
        Configuration::NotConfigured { .. } => {
            config::State { directory: None }.directory(environment.state_directory.as_deref())
        }
    };
    let (files, found) = match Files::open(&folder) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(MESSAGE_ID = logging::DISK, "{}", error.reason());
            return Exit::Failed;
        }
    };
    for notice in &found.notices {
        tracing::warn!(
            MESSAGE_ID = logging::DISK,
            "{}: {}",
            notice.path.display(),
            notice.reason
        );
    }
    if !found.durable.firmware.local {
        firmware::forget_handed_over(&folder);
    }
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(terminate), Ok(interrupt), Ok(hangup)) = signals else {
        tracing::error!("signals cannot be received");
        return Exit::Failed;
    };
    let (happenings, inbox) = mpsc::channel(16);
    let (calls, commands) = mpsc::channel(16);
    let pulse = Pulse::default();
    let socket = local::socket_path(environment.runtime_directory.as_deref());
    let beat = pulse.clone();
    let server = match local::listen(&socket, firmware::inbox(&folder), calls, move || beat.beat(Task::Local)) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::error!("local commands cannot be served at {}: {error}", socket.display());
            None
        }
    };
    let beat = pulse.clone();
    let watch = tokio::spawn(shutdown::watch(happenings.clone(), move || beat.beat(Task::Shutdown)));
    let mut daemon = Daemon::new(config_path, environment, boot_id, folder, files, loaded, happenings);
    daemon.waiting = Some(found);
    daemon.pulse = pulse;
    daemon.announce_configuration();
    notify(&[NotifyState::Ready]);
    daemon.ask_facts();
    let exit = daemon
        .work(Sources {
            inbox,
            commands,
            terminate,
            interrupt,
            hangup,
        })
        .await;
    watch.abort();
    daemon.stop(server).await;
    exit
}

struct Sources {
    inbox: mpsc::Receiver<Happening>,
    commands: mpsc::Receiver<Call>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Everything that the loop holds. Other files of this room add what it does about one noun.
pub(super) struct Daemon {
    pub(super) config_path: PathBuf,
    pub(super) environment: Environment,
    pub(super) boot_id: String,
    pub(super) folder: PathBuf,
    pub(super) files: Files,
    /// `None` until an identity is configured.
    pub(super) agent: Option<Agent>,
    /// What was on the disk, until the agent takes it over.
    pub(super) waiting: Option<Found>,
    /// Events that the brain has not seen yet.
    pub(super) events: VecDeque<Event>,
    pub(super) session: Option<Link>,
    /// Publishes that the session has not told the end of.
    pub(super) outstanding: BTreeSet<PublishId>,
    /// `None` until the host was asked for the first time.
    pub(super) facts: Option<Facts>,
    /// How often in a row RAUC did not say.
    pub(super) silent: u32,
    pub(super) connection: Connection,
    /// What it was made with, or could not be.
    pub(super) tried: Option<check::Tried>,
    pub(super) probe: Option<check::Probe>,
    pub(super) configuration: config::Loaded,
    pub(super) configuration_trouble: Option<String>,
    pub(super) disk_trouble: Option<String>,
    pub(super) acks: HashMap<AckId, AckToken>,
    pub(super) next_ack: u64,
    pub(super) calls: HashMap<CommandId, oneshot::Sender<Reply>>,
    pub(super) next_command: u64,
    pub(super) delay_lock: Option<OwnedFd>,
    pub(super) firmware: firmware::Tasks,
    pub(super) looking: location::Looking,
    pub(super) reading: diagnostics::Reading,
    pub(super) happenings: mpsc::Sender<Happening>,
    pub(super) pulse: Pulse,
    pub(super) started: Instant,
    pub(super) last_summary: String,
}

impl Daemon {
    /// Without a brain, a session, or anything under way.
    pub(super) fn new(
        config_path: &Path,
        environment: Environment,
        boot_id: String,
        folder: PathBuf,
        files: Files,
        configuration: config::Loaded,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        Daemon {
            config_path: config_path.to_owned(),
            environment,
            boot_id,
            folder,
            files,
            agent: None,
            waiting: None,
            events: VecDeque::new(),
            session: None,
            outstanding: BTreeSet::new(),
            facts: None,
            silent: 0,
            connection: Connection::None,
            tried: None,
            probe: None,
            configuration,
            configuration_trouble: None,
            disk_trouble: None,
            acks: HashMap::new(),
            next_ack: 0,
            calls: HashMap::new(),
            next_command: 0,
            delay_lock: None,
            firmware: firmware::Tasks::new(),
            looking: location::Looking::default(),
            reading: diagnostics::Reading::default(),
            happenings,
            pulse: Pulse::default(),
            started: Instant::now(),
            last_summary: String::new(),
        }
    }

    async fn work(&mut self, mut sources: Sources) -> Exit {
        // A third of what systemd allows, and often enough for the status line.
        let feed = sd_notify::watchdog_enabled().map_or(Duration::from_secs(20), |limit| limit / 3);
        let mut feed = tokio::time::interval(feed);
        let mut sync = tokio::time::interval(SYNC_EVERY);
        let mut facts = tokio::time::interval_at(tokio::time::Instant::now() + FACTS_EVERY, FACTS_EVERY);
        let mut try_disk = tokio::time::interval(TRY_DISK_EVERY);
        for interval in [&mut feed, &mut sync, &mut facts, &mut try_disk] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            self.drain().await;
            self.firmware_follow_up();
            self.drain().await;
            self.tell_summary();
            let deadline = self.until_deadline();
            let dirty = self.files.dirty();
            tokio::select! {
                event = next_event(&mut self.session) => match event {
                    Some(event) => self.session_event(event),
                    None => {
                        tracing::error!("the session's task has ended by itself; leaving it to systemd to start anew");
                        return Exit::Failed;
                    }
                },
                found = self.reading.next() => self.trouble_found(found),
                Some(happening) = sources.inbox.recv() => self.happened(happening).await,
                Some(call) = sources.commands.recv() => self.called(call),
                () = tokio::time::sleep(deadline.unwrap_or(Duration::MAX)), if deadline.is_some() => {
                    self.events.push_back(Event::Deadline);
                }
                _ = feed.tick() => self.pulse.feed(),
                _ = sync.tick(), if dirty => {
                    // That this works does not mean that there is room for more.
                    if let Some(reason) = self.files.sync().await {
                        self.disk_said(Some(reason));
                    }
                }
                _ = try_disk.tick(), if self.disk_trouble.is_some() || self.reading.waits() => {
                    self.try_disk().await;
                    self.offer_journal();
                }
                _ = facts.tick() => self.ask_facts(),
                _ = sources.hangup.recv() => self.reload().await,
                _ = sources.terminate.recv() => return Exit::Stopped,
                _ = sources.interrupt.recv() => return Exit::Stopped,
            }
        }
    }

    pub(super) fn now() -> Now {
        Now {
            boottime: clock::boottime(),
            wall: clock::wall(),
        }
    }

    /// Time until the brain's next deadline. A little is added, so that it has passed when the timer fires.
    fn until_deadline(&self) -> Option<Duration> {
        let at = self.agent.as_ref()?.next_deadline()?;
        Some(at.saturating_sub(clock::boottime()) + Duration::from_millis(5))
    }

    /// Hands every event to the brain, in order, each with its consequences.
    pub(super) async fn drain(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let Some(agent) = &self.agent else { continue };
            let now = Self::now();
            let mut step = agent.handle(now, &event, Disk::Works);
            let commits = step.commit.is_some();
            let mut written = self.files.write(&step).await;
            if let Some(reason) = written.refused.take() {
                if commits {
                    step = agent.handle(now, &event, Disk::Refuses(&reason));
                    written.dropped.extend(self.files.write(&step).await.dropped);
                }
                self.disk_said(Some(reason));
            } else if commits {
                self.disk_said(None);
            }
            if !written.dropped.is_empty() {
                self.events.push_back(Event::OutboxDropped(written.dropped));
            }
            if let Some(agent) = &mut self.agent {
                agent.adopt(&step, &event);
            }
            for after in step.after {
                self.carry_out(after).await;
            }
        }
    }

    /// Has everything that the disk refused reached it by now?
    async fn try_disk(&mut self) {
        let Some(agent) = self.agent.as_ref().filter(|_| self.disk_trouble.is_some()) else {
            return;
        };
        let written = self.files.try_again(agent.durable()).await;
        self.disk_said(written.refused);
        if !written.dropped.is_empty() {
            self.events.push_back(Event::OutboxDropped(written.dropped));
        }
    }

    async fn carry_out(&mut self, after: After) {
        match after {
            After::Ack(ack) => {
                if let (Some(token), Some(link)) = (self.acks.remove(&ack), &self.session) {
                    link.session.ack(token);
                }
            }
            After::Reboot(op) => {
                tokio::spawn(shutdown::reboot(op, self.happenings.clone()));
            }
            After::Effect(Effect::Publish { id, topic, payload }) => self.publish(id, topic, payload),
            After::Effect(Effect::Settle(id)) => {
                let refused = self.files.settle(id).await;
                if refused.is_some() {
                    self.disk_said(refused);
                }
            }
            After::Effect(Effect::ReleaseDelayLock) => self.delay_lock = None,
            After::Effect(Effect::Reply(command, reply)) => {
                if let Some(call) = self.calls.remove(&command) {
                    // The command may have been interrupted.
                    let _ = call.send(command_reply(reply));
                }
            }
            After::Effect(Effect::JournalTaken(batch)) => self.journal_taken(batch),
            After::Effect(Effect::Say(say)) => logging::say(&say),
            After::Effect(Effect::Survey(op, purpose)) => self.survey(op, purpose),
            After::Effect(Effect::Watch(watch)) => self.watch_health(watch),
            After::Effect(Effect::Marker(marker)) => self.mark_trial(marker).await,
            After::Effect(Effect::Discard) => self.discard().await,
            After::Effect(Effect::SurveyReset(op)) => self.survey_reset(op),
            After::Effect(Effect::FollowReset { op, limit }) => self.follow_reset(op, limit),
            After::Effect(Effect::ReadResetReport(op)) => self.read_reset_report(op),
            After::Effect(Effect::DiscardResetReport) => self.discard_reset_report(),
            After::Effect(Effect::WithdrawReset) => self.withdraw_reset(),
            // Nothing reads the journal yet.
            After::Reset(op) => self.start_reset(op),
            After::Download(op, image) => self.download(op, &image),
            After::Install { op, image, transaction } => self.install(op, &image, transaction),
            After::Rejoin(op) => self.rejoin(op),
            After::Mark(op, marks) => self.mark(op, marks),
        }
    }

    async fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Facts(facts) => {
                let told = |facts: &Facts| matches!(facts.firmware, firmware::support::Host::Slots(_));
                if told(&facts) {
                    self.silent = 0;
                } else if self.silent < MAX_SILENT {
                    self.silent += 1;
                    self.ask_facts_later();
                }
                // A RAUC that is busy or slow has the slots that it had.
                if told(&facts) || !self.facts.as_ref().is_some_and(told) {
                    self.facts = Some(*facts);
                }
                self.configured().await;
            }
            Happening::Event(event) => self.events.push_back(event),
            Happening::Progress(text) => self.firmware.progress = Some(text),
            Happening::RebootEnded { op, outcome, lock } => {
                self.delay_lock = lock;
                self.events.push_back(Event::RebootEnded { op, outcome });
            }
            Happening::PreparingForShutdown(preparing) => self.events.push_back(Event::PreparingForShutdown(preparing)),
            Happening::Checked(looked, reply) => self.checked(looked, reply),
        }
    }

    /// Says it once when the disk begins to refuse, and once when it works again.
    pub(super) fn disk_said(&mut self, refused: Option<String>) {
        match (&self.disk_trouble, &refused) {
            (None, Some(reason)) => tracing::error!(
                MESSAGE_ID = logging::DISK,
                "{reason}; the agent goes on and tries again"
            ),
            (Some(_), None) => tracing::info!(MESSAGE_ID = logging::DISK, "the state disk takes what is written again"),
            _ => {}
        }
        self.disk_trouble = refused;
    }

    /// Within 5 s: commands that wait are told, what is appended reaches the disk, what is queued the broker, as far as
    /// it can.
    async fn stop(&mut self, server: Option<local::Server>) {
        notify(&[NotifyState::Stopping]);
        self.calls.clear();
        if let Some(server) = server {
            server.close().await;
        }
        if let Some(reason) = self.files.sync().await {
            tracing::error!(MESSAGE_ID = logging::DISK, "{reason}");
        }
        self.end_probe().await;
        self.leave().await;
        if let Some(reason) = self.files.sync().await {
            tracing::error!(MESSAGE_ID = logging::DISK, "{reason}");
        }
        tracing::info!("stopped");
    }
}
