//! The configuration in force, and the host's facts: how they come in, and where they go.

use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;

use super::connection::Connection;
use super::disk::Found;
use super::firmware::support::Host;
use super::link::Link;
use super::pulse::{Task, notify};
use super::run::Daemon;
use super::{Facts, Happening, firmware, logging, settings};
use crate::agent::{Agent, Event};
use crate::config::{self, Configuration};
use crate::host::{bus::Bus, identity, rauc};
use crate::mqtt;

/// How long the bus may take to greet. RAUC, which it may have to start, has a limit of its own.
const BUS_LIMIT: Duration = Duration::from_secs(2);
/// The pause before RAUC is asked again when it did not say.
const FACTS_PAUSE: Duration = Duration::from_secs(20);

impl Daemon {
    /// Looks at the host anew; [`Daemon::configured`] follows. D-Bus may hang, and nothing waits for it.
    pub(super) fn ask_facts(&self) {
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let facts = Box::new(facts().await);
            // Nobody listens any more when the daemon stops.
            let _ = happenings.send(Happening::Facts(facts)).await;
        });
    }

    /// RAUC says nothing while it installs, and not much while the host starts.
    pub(super) fn ask_facts_later(&self) {
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FACTS_PAUSE).await;
            let facts = Box::new(facts().await);
            let _ = happenings.send(Happening::Facts(facts)).await;
        });
    }

    /// Takes the configuration in force, and the host's facts, to the brain and the session.
    pub(super) async fn configured(&mut self) {
        let Configuration::Configured(settings) = &self.configuration.settings else {
            self.connection = Connection::None;
            self.look_for_location();
            self.look_for_trouble();
            return self.leave().await;
        };
        // The first answer of the host comes soon, and leads here.
        let Some(facts) = &self.facts else { return };
        let kept = firmware::support::kept(
            &self.config_path,
            &self.folder,
            settings,
            self.environment.credentials.as_deref(),
        );
        let parts = (
            settings::brain(settings, facts, &kept, &self.boot_id),
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
        self.look_for_location();
        // What recovery says comes before anything that the broker has waiting.
        self.drain().await;
        self.look_for_trouble();
        if self.session.is_none() {
            self.end_probe().await;
            let seed = uuid::Uuid::new_v4().as_u64_pair().0;
            let (session, events) = mqtt::start(options, seed);
            self.session = Some(Link { session, events });
            self.connection = Connection::Connecting;
            self.pulse.beat(Task::Session);
        }
    }

    pub(super) async fn reload(&mut self) {
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
                    let options = settings::session(settings);
                    let moved = self.agent.as_ref().is_some_and(|agent| {
                        let (identity, service) = settings::belongs_to(settings);
                        agent.settings().identity != identity || agent.settings().service != service
                    });
                    if moved {
                        // What the session has not delivered is for that service, as that device.
                        self.leave().await;
                    } else if let (Some(link), Ok(options)) = (&self.session, options) {
                        // Certificates and token are read anew, too.
                        link.session.reload(options);
                        self.connection = Connection::Connecting;
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

    pub(super) fn announce_configuration(&self) {
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
}

/// What the host tells about itself. D-Bus and RAUC may be absent, slow, or hang.
async fn facts() -> Facts {
    let late = |_| Err("the system bus does not answer".to_owned());
    let greeted = async { Bus::system().await.map_err(|error| error.to_string()) };
    let firmware = match tokio::time::timeout(BUS_LIMIT, greeted).await.unwrap_or_else(late) {
        Ok(bus) => match rauc::slots(&bus).await {
            Ok(slots) => Host::Slots(slots),
            Err(error) if rauc::is_busy(&error) => Host::Busy,
            Err(error) => Host::Silent(error.to_string()),
        },
        Err(reason) => Host::Silent(reason),
    };
    let version = match &firmware {
        Host::Slots(slots) => rauc::booted_version(slots),
        Host::Busy | Host::Silent(_) => None,
    };
    Facts {
        identity: identity::read(Path::new("/"), identity::kernel(), version),
        firmware,
    }
}

/// What is missing, and what to do about it.
pub(super) fn not_configured(missing: &[&str], config_path: &Path) -> String {
    format!(
        "not configured: set {} in {}, then systemctl reload iotdm-agent",
        missing.join(", "),
        config_path.display()
    )
}
