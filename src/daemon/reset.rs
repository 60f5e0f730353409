//! The factory reset on the host: whether it can be reset, the start of the unit that does it, and what that has left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Happening;
use super::run::Daemon;
use crate::agent::reset::JOB_LIMIT;
use crate::agent::{Event, OpId, ResetOutcome, ResetReady, ResetRefused, ResetReport};
use crate::config::{self, Configuration, Token};
use crate::host::bus::{Bus, BusError, Cause};
use crate::host::logind::Logind;
use crate::host::rauc;
use crate::host::systemd::{Invocation, StartFailed, Systemd, UnitInfo};
use crate::protocol::Rc;
use crate::wipe;

/// A look at the host takes no longer.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// How long the agent waits whether the reboot that follows is refused. It is asked for at once.
const REBOOT_LIMIT: Duration = Duration::from_secs(30);

/// What the unit is, as far as a reset is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Means {
    /// The package's own wipe hangs on it.
    Own,
    /// Something of the integrator's.
    Other,
    /// It resets nothing, for this reason in words.
    Nothing(String),
}

/// Looks at the unit. `state` is the agent's state folder.
///
/// # Errors
/// When systemd does not answer.
pub(super) async fn means(systemd: &Systemd, unit: &str, state: &Path) -> Result<Means, BusError> {
    let info = systemd.unit(unit).await?;
    if let Some(reason) = unusable(unit, &info) {
        let from = match info.load_state.as_str() {
            "not-found" => " ([factory_reset] unit)",
            _ => "",
        };
        return Ok(Means::Nothing(format!("{reason}{from}")));
    }
    // a name may stand there of a unit that is not there
    let (mut pulled_in, mut dangling) = (Vec::new(), Vec::new());
    for name in systemd.pulled_in_by(unit).await? {
        match unusable(&name, &systemd.unit(&name).await?) {
            None => pulled_in.push(name),
            Some(reason) => dangling.push(reason),
        }
    }
    Ok(match () {
        () if pulled_in.iter().any(|name| name == wipe::REQUEST_UNIT) => match unprepared(systemd, state).await? {
            None => Means::Own,
            Some(reason) => Means::Nothing(reason),
        },
        // any other kind of unit does something by itself
        () if !unit.ends_with(".target") || !pulled_in.is_empty() => Means::Other,
        () if !dangling.is_empty() => Means::Nothing(format!(
            "{unit} pulls in nothing that can be started, so nothing would be reset: {}",
            dangling.join("; ")
        )),
        () => Means::Nothing(format!(
            "{unit} pulls in nothing, so nothing would be reset: systemctl enable {} to have the paths of \
             /etc/iotdm-agent/factory-reset.d wiped",
            wipe::REQUEST_UNIT
        )),
    })
}

/// Why the package's units would wipe nothing: one cannot be started, one that the next boot needs is off, or one knows
/// another state folder.
async fn unprepared(systemd: &Systemd, state: &Path) -> Result<Option<String>, BusError> {
    for unit in wipe::UNITS {
        let info = systemd.unit(unit).await?;
        if let Some(reason) = unusable(unit, &info) {
            return Ok(Some(format!("{reason}, so nothing would be wiped")));
        }
        if [wipe::FORMAT_UNIT, wipe::WIPE_UNIT].contains(&unit) && info.unit_file_state != "enabled" {
            return Ok(Some(format!(
                "{unit} is not enabled, so nothing would be wiped: systemctl enable {}",
                wipe::REQUEST_UNIT
            )));
        }
    }
    for unit in wipe::UNITS {
        let environment = systemd.environment(unit).await?;
        let mut given = environment
            .iter()
            .filter_map(|pair| pair.strip_prefix("STATE_DIRECTORY="));
        if let Some(known) = given.next_back().map(Path::new).filter(|known| *known != state) {
            return Ok(Some(format!(
                "{unit} knows {} as the state folder, and the agent's is {}: give each unit of the factory reset a \
                 drop-in (man iotdm-agent-factory-reset)",
                known.display(),
                state.display()
            )));
        }
    }
    Ok(None)
}

fn unusable(unit: &str, info: &UnitInfo) -> Option<String> {
    match info.load_state.as_str() {
        "loaded" => None,
        "not-found" => Some(format!("{unit} does not exist")),
        "masked" => Some(format!("{unit} is masked: systemctl unmask {unit}")),
        other => Some(format!(
            "{unit} cannot be loaded ({other}): see systemctl status {unit}"
        )),
    }
}

/// What a factory reset wipes: `factory-reset.d` beside the configuration `config`. What must survive is everything in
/// the configuration's folder and in `state`, `files` (those of the configuration, which may be links), and each file that
/// the configuration names.
///
/// # Errors
/// Everything that is wrong with it, each with file and line.
pub fn reset_plan(
    config: &Path,
    files: &[PathBuf],
    settings: &config::Settings,
    state: &Path,
) -> Result<wipe::Plan, Vec<String>> {
    let folder = config.parent().unwrap_or(Path::new("/"));
    let (service, firmware) = (&settings.service, &settings.firmware);
    let mut protected = vec![folder.to_owned()];
    protected.extend(files.iter().cloned());
    for pair in service.certificate.iter().chain(&firmware.certificate) {
        protected.extend([pair.cert_file.clone(), pair.key_file.clone()]);
    }
    // a credential is put into memory anew at each start
    if let Some(Token::File(token)) = &service.token {
        protected.push(token.clone());
    }
    protected.extend(service.ca_file.iter().chain(&firmware.ca_file).cloned());
    wipe::Plan::read(&folder.join("factory-reset.d"), state, &protected)
}

impl Daemon {
    /// Whether the host can be reset.
    pub(super) fn survey_reset(&mut self, op: OpId) {
        let Configuration::Configured(settings) = &self.configuration.settings else {
            let found = Err(internal(NOT_CONFIGURED));
            return self.events.push_back(Event::ResetSurveyed { op, found });
        };
        let unit = settings.factory_reset.unit.clone();
        let plan = reset_plan(&self.config_path, &self.configuration.files, settings, &self.folder);
        let (state, happenings) = (self.folder.clone(), self.happenings.clone());
        tokio::spawn(async move {
            let late = |_| Err(internal("systemd, logind or RAUC did not answer in time"));
            let look = look(&unit, plan, &state);
            let found = tokio::time::timeout(LOOK_LIMIT, look).await.unwrap_or_else(late);
            // Nobody listens any more when the daemon stops.
            let _ = happenings
                .send(Happening::Event(Event::ResetSurveyed { op, found }))
                .await;
        });
    }

    /// Has systemd start the unit.
    pub(super) fn start_reset(&mut self, op: OpId) {
        let Configuration::Configured(settings) = &self.configuration.settings else {
            let outcome = ResetOutcome::Refused(NOT_CONFIGURED.into());
            return self.events.push_back(Event::ResetEnded { op, outcome });
        };
        let (unit, state) = (settings.factory_reset.unit.clone(), self.folder.clone());
        self.reset_ends_with(op, async move { start(&unit, &state).await });
    }

    /// Waits for the end of the unit's job, if it has one.
    pub(super) fn follow_reset(&mut self, op: OpId, limit: Duration) {
        let Configuration::Configured(settings) = &self.configuration.settings else {
            let outcome = ResetOutcome::Unknown;
            return self.events.push_back(Event::ResetEnded { op, outcome });
        };
        let (unit, state) = (settings.factory_reset.unit.clone(), self.folder.clone());
        self.reset_ends_with(op, async move {
            // What systemd does not say is not known; the boot id will tell.
            let followed = follow(&unit, &state, limit).await;
            followed.unwrap_or(ResetOutcome::Unknown)
        });
    }

    fn reset_ends_with(&self, op: OpId, outcome: impl Future<Output = ResetOutcome> + Send + 'static) {
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let outcome = outcome.await;
            let _ = happenings
                .send(Happening::Event(Event::ResetEnded { op, outcome }))
                .await;
        });
    }

    /// What the last reset has left.
    pub(super) fn read_reset_report(&mut self, op: OpId) {
        let report = wipe::report::read(&self.folder).map_err(|error| error.to_string());
        let report = report.map(|report| {
            report.map(|report| ResetReport {
                failed: report.failure(),
                text: report.text(),
                id: report.id,
                asked_in: report.asked_in,
            })
        });
        self.events.push_back(Event::ResetReported { op, report });
    }

    /// What the last reset has left is told.
    pub(super) fn discard_reset_report(&mut self) {
        if let Err(error) = wipe::report::discard(&self.folder) {
            tracing::warn!("the report of the factory reset could not be removed: {error}");
        }
    }

    /// What was left for the next boot is taken back.
    pub(super) fn withdraw_reset(&mut self) {
        if let Err(error) = wipe::withdraw(&self.folder) {
            let reason = format!(
                "the factory reset could not be called off, and the next boot may carry it out: remove {} ({error})",
                self.folder.join(wipe::WISH).display()
            );
            tracing::error!("{reason}");
            self.events.push_back(Event::ResetNotWithdrawn { reason });
        }
    }
}

const NOT_CONFIGURED: &str = "the device has no identity any more in its configuration";

fn internal(message: impl Into<String>) -> ResetRefused {
    ResetRefused {
        rc: Rc::INTERNAL,
        message: message.into(),
    }
}

async fn look(unit: &str, plan: Result<wipe::Plan, Vec<String>>, state: &Path) -> Result<ResetReady, ResetRefused> {
    let told = |error: BusError| internal(error.to_string());
    let not_implemented = |message| ResetRefused {
        rc: Rc::NOT_IMPLEMENTED,
        message,
    };
    let bus = Bus::system().await.map_err(told)?;
    let systemd = Systemd::new(&bus).await.map_err(told)?;
    let reports = match means(&systemd, unit, state).await.map_err(told)? {
        Means::Own => {
            // whether the host is as it says in every other respect, only root sees: the unit looks, and refuses
            let refused = possible(plan).await;
            refused.map_err(|problems| not_implemented(problems.join("; ")))?;
            true
        }
        Means::Other => false,
        Means::Nothing(reason) => return Err(not_implemented(reason)),
    };
    let logind = Logind::new(&bus).await.map_err(told)?;
    let blockers = logind.shutdown_blockers().await.map_err(told)?;
    if !blockers.is_empty() {
        let blockers: Vec<_> = blockers.iter().map(ToString::to_string).collect();
        return Err(internal(format!("blocked by {}", blockers.join(", "))));
    }
    match rauc::slots(&bus).await {
        Err(error) if rauc::is_busy(&error) => Err(internal("RAUC is writing a slot: ask again when it is done")),
        // It answers nobody while it verifies a bundle.
        Err(error) if matches!(error.cause, Cause::NoReply) => Err(internal(format!(
            "RAUC may be installing, as it does not answer: ask again later ({error})"
        ))),
        // Without RAUC, or with one that says that it cannot work, nothing is installed.
        _ => Ok(ResetReady { reports }),
    }
}

/// The plan, unless it cannot be carried out as far as the agent sees.
///
/// # Errors
/// Why not.
pub(super) async fn possible(plan: Result<wipe::Plan, Vec<String>>) -> Result<wipe::Plan, Vec<String>> {
    let plan = plan?;
    let looked_at = plan.clone();
    let refused = tokio::task::spawn_blocking(move || looked_at.refused_formats()).await;
    match refused {
        Ok(refused) if refused.is_empty() => Ok(plan),
        Ok(refused) => Err(refused),
        Err(error) => Err(vec![error.to_string()]),
    }
}

async fn start(unit: &str, state: &Path) -> ResetOutcome {
    let refused = |error: BusError| ResetOutcome::Refused(error.to_string());
    let bus = match Bus::system().await {
        Ok(bus) => bus,
        Err(error) => return refused(error),
    };
    let systemd = match Systemd::new(&bus).await {
        Ok(systemd) => systemd,
        Err(error) => return refused(error),
    };
    let own = matches!(means(&systemd, unit, state).await, Ok(Means::Own));
    let before = systemd.invocation(wipe::REBOOT_UNIT).await;
    match systemd.start(unit, JOB_LIMIT).await {
        Ok(()) => started(&systemd, before.ok().filter(|_| own)).await,
        // Its own reboot, when the agent asks for the second time; of another unit nobody can tell whose it is.
        Err(StartFailed::GoingDown) if own => ResetOutcome::Started,
        Err(StartFailed::Unknown(_)) => ResetOutcome::Unknown,
        Err(failed) => ResetOutcome::Refused(format!("{unit} was not started: {failed}")),
    }
}

async fn follow(unit: &str, state: &Path, limit: Duration) -> Result<ResetOutcome, BusError> {
    let bus = Bus::system().await?;
    let systemd = Systemd::new(&bus).await?;
    let own = means(&systemd, unit, state).await? == Means::Own;
    let before = systemd.invocation(wipe::REBOOT_UNIT).await;
    Ok(match systemd.follow(unit, limit).await {
        Ok(true) => started(&systemd, before.ok().filter(|_| own)).await,
        Err(failed @ StartFailed::Job { .. }) => ResetOutcome::Refused(format!("{unit} was not started: {failed}")),
        Ok(false) | Err(_) => ResetOutcome::Unknown,
    })
}

/// The unit's job has ended well; `before` is the last start of the package's own reboot, where that is to follow.
async fn started(systemd: &Systemd, before: Option<Invocation>) -> ResetOutcome {
    match before {
        Some(before) => rebooted(systemd, &before).await,
        None => ResetOutcome::Started,
    }
}

/// The package's own reboot comes after the unit; `before` is the start of it before this one. When the host goes down,
/// so does the agent, and nothing of this counts.
async fn rebooted(systemd: &Systemd, before: &Invocation) -> ResetOutcome {
    match systemd.failure_after(wipe::REBOOT_UNIT, before, REBOOT_LIMIT).await {
        Some(failed) => ResetOutcome::Refused(failed.to_string()),
        None => ResetOutcome::Started,
    }
}
