//! The daemon's life: start, the loop, reload, stop.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::check;
use super::connection::Connection;
use super::disk::{Disk as Files, Found};
use super::environment::Environment;
use super::logging;
use super::pulse::{Pulse, Task, notify};
use super::report::Report;
use super::{Happening, settings, shutdown};
use crate::agent::effect::Reply as CommandReply;
use crate::agent::event::Message;
use crate::agent::{AckId, After, Agent, CommandId, Disk, Effect, Event, Now, PublishId};
use crate::config::{self, Configuration};
use crate::host::{bus::Bus, clock, identity, rauc};
use crate::local::{self, Call, Reply, Request};
use crate::mqtt::{self, AckToken, Session};

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Stopped,
    /// It cannot run: another agent has the state, no boot id, no disk.
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
/// How long D-Bus and RAUC may take to tell the version of the booted slot.
const VERSION_LIMIT: Duration = Duration::from_secs(3);
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
    let server = match local::listen(&socket, calls, move || beat.beat(Task::Local)) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::error!("local commands cannot be served at {}: {error}", socket.display());
            None
        }
    };
    let beat = pulse.clone();
    let watch = tokio::spawn(shutdown::watch(happenings.clone(), move || beat.beat(Task::Shutdown)));
    let mut daemon = Daemon {
        config_path: config_path.to_owned(),
        environment,
        boot_id,
        folder,
        files,
        agent: None,
        waiting: Some(found),
        events: VecDeque::new(),
        session: None,
        outstanding: BTreeSet::new(),
        facts: None,
        connection: Connection::None,
        configuration: loaded,
        configuration_trouble: None,
        disk_trouble: None,
        acks: HashMap::new(),
        next_ack: 0,
        calls: HashMap::new(),
        next_command: 0,
        delay_lock: None,
        happenings,
        pulse,
        started: Instant::now(),
        last_summary: String::new(),
    };
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

/// A session and what it tells.
struct Link {
    session: Session,
    events: mpsc::Receiver<mqtt::Event>,
}

struct Daemon {
    config_path: PathBuf,
    environment: Environment,
    boot_id: String,
    folder: PathBuf,
    files: Files,
    /// `None` until an identity is configured.
    agent: Option<Agent>,
    /// What was on the disk, until the agent takes it over.
    waiting: Option<Found>,
    /// Events that the brain has not seen yet.
    events: VecDeque<Event>,
    session: Option<Link>,
    /// Publishes that the session has not told the end of.
    outstanding: BTreeSet<PublishId>,
    /// `None` until the host was asked for the first time.
    facts: Option<identity::Facts>,
    connection: Connection,
    configuration: config::Loaded,
    configuration_trouble: Option<String>,
    disk_trouble: Option<String>,
    acks: HashMap<AckId, AckToken>,
    next_ack: u64,
    calls: HashMap<CommandId, oneshot::Sender<Reply>>,
    next_command: u64,
    delay_lock: Option<OwnedFd>,
    happenings: mpsc::Sender<Happening>,
    pulse: Pulse,
    started: Instant,
    last_summary: String,
}

impl Daemon {
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
                _ = try_disk.tick(), if self.disk_trouble.is_some() => self.try_disk().await,
                _ = facts.tick() => self.ask_facts(),
                _ = sources.hangup.recv() => self.reload().await,
                _ = sources.terminate.recv() => return Exit::Stopped,
                _ = sources.interrupt.recv() => return Exit::Stopped,
            }
        }
    }

    fn now() -> Now {
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
    async fn drain(&mut self) {
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
        let Some(agent) = &self.agent else { return };
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
            After::Effect(Effect::Say(say)) => logging::say(&say),
        }
    }

    fn publish(&mut self, id: PublishId, topic: String, payload: Vec<u8>) {
        let Some(link) = &self.session else { return };
        if let Err(error) = link.session.publish(mqtt::PublishId(id.0), topic, payload) {
            tracing::error!("a message could not be sent: {error}");
            self.events.push_back(Event::PublishRefused(id));
        } else {
            self.outstanding.insert(id);
        }
    }

    /// The session told the end of a publish.
    fn ended(&mut self, id: mqtt::PublishId) -> PublishId {
        let id = PublishId(id.0);
        self.outstanding.remove(&id);
        id
    }

    fn session_event(&mut self, event: mqtt::Event) {
        self.pulse.beat(Task::Session);
        match event {
            mqtt::Event::Connected { session_present } => {
                self.connection = Connection::Connected;
                self.events.push_back(Event::Connected { session_present });
            }
            mqtt::Event::Subscribed => {
                self.connection = Connection::Subscribed(Instant::now());
                tracing::info!(MESSAGE_ID = logging::CONNECTED, "connected to the service");
                self.events.push_back(Event::Subscribed);
            }
            mqtt::Event::SubscriptionRefused { filter } => {
                tracing::warn!(
                    "the broker does not allow the subscription {filter}; refusals of the broker will not be heard"
                );
            }
            mqtt::Event::Message(incoming) => {
                self.next_ack += 1;
                let ack = AckId(self.next_ack);
                self.acks.insert(ack, incoming.ack);
                self.events.push_back(Event::Message(Message {
                    topic: incoming.topic,
                    payload: incoming.payload,
                    retained: incoming.retained,
                    dup: incoming.dup,
                    ack,
                }));
            }
            mqtt::Event::Published(id) => {
                let id = self.ended(id);
                self.events.push_back(Event::Published(id));
            }
            mqtt::Event::NotPublished(id) => {
                let id = self.ended(id);
                self.events.push_back(Event::NotPublished(id));
            }
            mqtt::Event::PublishRefused { id, topic } => {
                tracing::error!("the broker ends the connection after every message on {topic}: check its ACL");
                let id = self.ended(id);
                self.events.push_back(Event::PublishRefused(id));
            }
            mqtt::Event::QueueDropped => {
                tracing::error!(
                    "the broker's queue for this device was dropped: it held a packet that is too large to be received"
                );
            }
            mqtt::Event::Disconnected { trouble, retry_in } => {
                let text = trouble.to_string();
                tracing::warn!(
                    MESSAGE_ID = logging::DISCONNECTED,
                    "not connected: {text}; next attempt in {} s",
                    retry_in.as_secs()
                );
                self.connection = Connection::trouble(trouble, retry_in);
                self.events.push_back(Event::Disconnected);
            }
            mqtt::Event::Progress => {}
        }
    }

    async fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Facts(facts) => {
                self.facts = Some(facts);
                self.configured().await;
            }
            Happening::RebootEnded { op, outcome, lock } => {
                self.delay_lock = lock;
                self.events.push_back(Event::RebootEnded { op, outcome });
            }
            Happening::PreparingForShutdown(preparing) => self.events.push_back(Event::PreparingForShutdown(preparing)),
            Happening::Checked(mut findings, reply) => {
                if let Configuration::Configured(_) = &self.configuration.settings {
                    findings.push(check::connection(&self.connection));
                }
                // The command may have been interrupted.
                let _ = reply.send(Reply::Done(serde_json::json!(findings)));
            }
        }
    }

    fn called(&mut self, call: Call) {
        match call.request {
            Request::Status => {
                // The command may have been interrupted.
                let _ = call.reply.send(Reply::Done(serde_json::json!(self.report())));
            }
            Request::Check => {
                let (path, environment) = (self.config_path.clone(), self.environment.clone());
                let happenings = self.happenings.clone();
                tokio::spawn(async move {
                    let findings = check::host(&path, &environment, None).await;
                    let _ = happenings.send(Happening::Checked(findings, call.reply)).await;
                });
            }
            Request::Manage | Request::Unmanage if self.agent.is_none() => {
                let _ = call.reply.send(Reply::Failed(self.summary()));
            }
            Request::Manage => {
                let command = self.keep(call.reply);
                self.events.push_back(Event::Manage(command));
            }
            Request::Unmanage => {
                let command = self.keep(call.reply);
                self.events.push_back(Event::Unmanage(command));
            }
        }
    }

    fn keep(&mut self, reply: oneshot::Sender<Reply>) -> CommandId {
        self.calls.retain(|_, reply| !reply.is_closed());
        self.next_command += 1;
        let command = CommandId(self.next_command);
        self.calls.insert(command, reply);
        command
    }

    /// Looks at the host anew; [`Daemon::configured`] follows. D-Bus may hang, and nothing waits for it.
    fn ask_facts(&self) {
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let facts = facts().await;
            // Nobody listens any more when the daemon stops.
            let _ = happenings.send(Happening::Facts(facts)).await;
        });
    }

    /// Takes the configuration in force, and the host's facts, to the brain and the session.
    async fn configured(&mut self) {
        let Configuration::Configured(settings) = &self.configuration.settings else {
            self.connection = Connection::None;
            return self.leave().await;
        };
        // The first answer of the host comes soon, and leads here.
        let Some(facts) = &self.facts else { return };
        let parts = (
            settings::brain(settings, facts, &self.boot_id),
            settings::session(settings),
        );
        let (brain, options) = match parts {
            (Ok(brain), Ok(options)) => (brain, options),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!("device.type and device.id name no device: {error}");
                return;
            }
        };
        if let Some(Found { durable, owed, .. }) = self.waiting.take() {
            self.agent = Some(Agent::new(brain, durable, owed, *uuid::Uuid::new_v4().as_bytes()));
            self.events.push_back(Event::Started);
        } else {
            self.events.push_back(Event::Configured(Box::new(brain)));
        }
        // What recovery says comes before anything that the broker has waiting.
        self.drain().await;
        if self.session.is_none() {
            let seed = uuid::Uuid::new_v4().as_u64_pair().0;
            let (session, events) = mqtt::start(options, seed);
            self.session = Some(Link { session, events });
            self.connection = Connection::Connecting;
            self.pulse.beat(Task::Session);
        }
    }

    /// Ends the session. What it had not delivered is the brain's again.
    async fn leave(&mut self) {
        let Some(Link { session, mut events }) = self.session.take() else {
            return;
        };
        session.stop().await;
        self.pulse.rest(Task::Session);
        while let Ok(event) = events.try_recv() {
            if let mqtt::Event::Published(id) = event {
                let id = self.ended(id);
                self.events.push_back(Event::Published(id));
            }
        }
        self.events.push_back(Event::Disconnected);
        let lost = std::mem::take(&mut self.outstanding);
        self.events.extend(lost.into_iter().map(Event::NotPublished));
        self.drain().await;
    }

    async fn reload(&mut self) {
        if let Ok(monotonic) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, monotonic]);
        }
        match config::load(&self.config_path, self.environment.credentials.as_deref()) {
            Ok(loaded) => {
                self.configuration = loaded;
                self.configuration_trouble = None;
                self.announce_configuration();
                if let Configuration::Configured(settings) = &self.configuration.settings {
                    let folder = settings.state.directory(self.environment.state_directory.as_deref());
                    if folder != self.folder {
                        tracing::warn!("[state] directory takes effect when the agent is restarted");
                    }
                    // Certificates and token are read anew, too.
                    if let (Some(link), Ok(options)) = (&self.session, settings::session(settings)) {
                        link.session.reload(options);
                    }
                }
                self.configured().await;
                self.ask_facts();
            }
            Err(error) => {
                tracing::error!(
                    MESSAGE_ID = logging::CONFIGURATION,
                    "the new configuration is refused, the old one stays in force:\n{error}"
                );
                self.configuration_trouble = Some(format!("the new one is refused, the old one is in force: {error}"));
            }
        }
        notify(&[NotifyState::Ready]);
    }

    fn announce_configuration(&self) {
        for warning in &self.configuration.warnings {
            tracing::warn!(MESSAGE_ID = logging::CONFIGURATION, "{warning}");
        }
        if let Configuration::NotConfigured { missing } = &self.configuration.settings {
            tracing::warn!(
                MESSAGE_ID = logging::CONFIGURATION,
                "{}",
                not_configured(missing, &self.config_path)
            );
        }
    }

    /// Says it once when the disk begins to refuse, and once when it works again.
    fn disk_said(&mut self, refused: Option<String>) {
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

    /// One line about everything.
    fn summary(&self) -> String {
        if let Configuration::NotConfigured { missing } = &self.configuration.settings {
            return not_configured(missing, &self.config_path);
        }
        let status = self.agent.as_ref().map(Agent::status);
        let busy = status.as_ref().map_or("none", |status| status.busy);
        let connection = match &self.connection {
            Connection::None | Connection::Connecting | Connection::Connected => "connecting to the service".to_owned(),
            Connection::Trouble { trouble, .. } => format!("not connected: {trouble}"),
            Connection::Subscribed(_) => match &status {
                Some(status) if status.manage_refused.is_some() => {
                    format!(
                        "connected, and manage was refused: {}",
                        status.manage_refused.as_deref().unwrap_or_default()
                    )
                }
                Some(status) if status.wish != crate::agent::durable::Wish::Managed => {
                    "connected; the device is out of management (iotdm-agent manage takes it back)".to_owned()
                }
                Some(status) if status.managed => "managed".to_owned(),
                _ => "connected, waiting for the service to answer manage".to_owned(),
            },
        };
        match busy {
            "none" => connection,
            busy => format!("{busy} by the service; {connection}"),
        }
    }

    fn tell_summary(&mut self) {
        let summary = self.summary();
        if summary != self.last_summary {
            notify(&[NotifyState::Status(&summary)]);
            self.last_summary = summary;
        }
    }

    fn report(&self) -> Report {
        let (missing, settings) = match &self.configuration.settings {
            Configuration::NotConfigured { missing } => (missing.clone(), None),
            Configuration::Configured(settings) => (Vec::new(), Some(settings)),
        };
        let url = |url: &config::Url| format!("{}://{}:{}", if url.tls { "mqtts" } else { "mqtt" }, url.host, url.port);
        Report {
            version: env!("CARGO_PKG_VERSION"),
            summary: self.summary(),
            configured: settings.is_some(),
            missing,
            device: settings.map(|settings| format!("{}/{}", settings.device.type_id, settings.device.id)),
            client_id: settings.map(|settings| settings::client_id(settings)),
            service: settings.map(|settings| url(&settings.service.url)),
            connection: self.connection.view(),
            agent: self.agent.as_ref().map(Agent::status),
            boot_id: self.boot_id.clone(),
            running_for_seconds: self.started.elapsed().as_secs(),
            clock_set: clock::wall().is_some(),
            state_directory: self.folder.display().to_string(),
            disk_trouble: self.disk_trouble.clone(),
            configuration_files: self
                .configuration
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            configuration_trouble: self.configuration_trouble.clone(),
        }
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
        self.leave().await;
        if let Some(reason) = self.files.sync().await {
            tracing::error!(MESSAGE_ID = logging::DISK, "{reason}");
        }
        tracing::info!("stopped");
    }
}

/// The next event of the session; never, when there is none.
async fn next_event(session: &mut Option<Link>) -> Option<mqtt::Event> {
    match session {
        Some(link) => link.events.recv().await,
        None => std::future::pending().await,
    }
}

/// What the host tells about itself. D-Bus and RAUC may be absent, slow, or hang.
async fn facts() -> identity::Facts {
    let version = async {
        let bus = Bus::system().await.ok()?;
        rauc::booted_version(&rauc::slots(&bus).await.ok()?)
    };
    let version = tokio::time::timeout(VERSION_LIMIT, version).await.ok().flatten();
    identity::read(Path::new("/"), identity::kernel(), version)
}

fn not_configured(missing: &[&str], config_path: &Path) -> String {
    format!(
        "not configured: set {} in {}, then systemctl reload iotdm-agent",
        missing.join(", "),
        config_path.display()
    )
}

fn command_reply(reply: CommandReply) -> Reply {
    match reply {
        CommandReply::Answered(rc, message) if rc.is_success() => {
            Reply::Done(serde_json::json!({"rc": rc.0, "message": message}))
        }
        CommandReply::Answered(rc, message) => {
            let reason = message.map(|message| format!(": {message}")).unwrap_or_default();
            Reply::Failed(format!("the service answered rc {rc}{reason}"))
        }
        CommandReply::Later => Reply::Done(serde_json::json!({
            "message": "written down; the service will be told as soon as it is reached",
        })),
        CommandReply::Failed(reason) => Reply::Failed(reason),
    }
}
