//! The factory reset on the host: whether it can be reset, the start of the unit that does it, and what that has left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Happening;
use super::run::Daemon;
use crate::agent::{Event, OpId, ResetOutcome, ResetReady, ResetRefused, ResetReport};
use crate::config::{self, Configuration, Token};
use crate::host::bus::{Bus, BusError};
use crate::host::logind::Logind;
use crate::host::rauc;
use crate::host::systemd::{StartFailed, Systemd, UnitInfo};
use crate::protocol::Rc;
use crate::wipe;

/// A look at the host takes no longer.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How long the unit's job is waited for. Another unit than ours may wipe before the host goes down.
const JOB_LIMIT: Duration = Duration::from_secs(60 * 60);

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

/// Looks at the unit.
///
/// # Errors
/// When systemd does not answer.
pub(super) async fn means(systemd: &Systemd, unit: &str) -> Result<Means, BusError> {
    let info = systemd.unit(unit).await?;
    if let Some(reason) = unusable(unit, &info) {
        return Ok(Means::Nothing(reason));
    }
    let pulled_in = systemd.pulled_in_by(unit).await?;
    Ok(match () {
        () if pulled_in.iter().any(|name| name == wipe::REQUEST_UNIT) => match switched_off(systemd).await? {
            None => Means::Own,
            Some(unit) => Means::Nothing(format!(
                "{unit} is not enabled, so nothing would be wiped: systemctl enable {}",
                wipe::REQUEST_UNIT
            )),
        },
        // any other kind of unit does something by itself
        () if unit.ends_with(".target") && pulled_in.is_empty() => Means::Nothing(format!(
            "{unit} pulls in nothing, so nothing would be reset: systemctl enable {} to have the paths of \
             /etc/iotdm-agent/factory-reset.d wiped",
            wipe::REQUEST_UNIT
        )),
        () => Means::Other,
    })
}

/// Which of the units that the next boot needs for the wipe is off.
async fn switched_off(systemd: &Systemd) -> Result<Option<&'static str>, BusError> {
    for unit in [wipe::FORMAT_UNIT, wipe::WIPE_UNIT] {
        if systemd.unit(unit).await?.unit_file_state != "enabled" {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

fn unusable(unit: &str, info: &UnitInfo) -> Option<String> {
    match info.load_state.as_str() {
        "loaded" => None,
        "not-found" => Some(format!("{unit} does not exist ([factory_reset] unit)")),
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
    let mut protected = vec![folder.to_owned(), state.to_owned()];
    protected.extend(files.iter().cloned());
    for pair in service.certificate.iter().chain(&firmware.certificate) {
        protected.extend([pair.cert_file.clone(), pair.key_file.clone()]);
    }
    // a credential is put into memory anew at each start
    if let Some(Token::File(token)) = &service.token {
        protected.push(token.clone());
    }
    protected.extend(service.ca_file.iter().chain(&firmware.ca_file).cloned());
    wipe::Plan::read(&folder.join("factory-reset.d"), &protected)
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
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let late = |_| Err(internal("systemd, logind or RAUC did not answer in time"));
            let look = look(&unit, plan);
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
        let unit = settings.factory_reset.unit.clone();
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let outcome = start(&unit).await;
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
            tracing::error!(
                "the factory reset could not be called off, and the next boot may carry it out: remove {} ({error})",
                self.folder.join(wipe::WISH).display()
            );
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

async fn look(unit: &str, plan: Result<wipe::Plan, Vec<String>>) -> Result<ResetReady, ResetRefused> {
    let told = |error: BusError| internal(error.to_string());
    let not_implemented = |message| ResetRefused {
        rc: Rc::NOT_IMPLEMENTED,
        message,
    };
    let bus = Bus::system().await.map_err(told)?;
    let systemd = Systemd::new(&bus).await.map_err(told)?;
    let reports = match means(&systemd, unit).await.map_err(told)? {
        Means::Own => {
            // whether the host is as it says, only root sees: the unit looks, and refuses
            plan.map_err(|problems| not_implemented(problems.join("; ")))?;
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
        // Without RAUC, or with one that does not answer, nothing is installed.
        _ => Ok(ResetReady { reports }),
    }
}

async fn start(unit: &str) -> ResetOutcome {
    let refused = |error: BusError| ResetOutcome::Refused(error.to_string());
    let bus = match Bus::system().await {
        Ok(bus) => bus,
        Err(error) => return refused(error),
    };
    let systemd = match Systemd::new(&bus).await {
        Ok(systemd) => systemd,
        Err(error) => return refused(error),
    };
    match systemd.start(unit, JOB_LIMIT).await {
        Ok(()) => ResetOutcome::Started,
        // Its own reboot, when the agent asks for the second time; of another unit nobody can tell whose it is.
        Err(StartFailed::GoingDown) if matches!(means(&systemd, unit).await, Ok(Means::Own)) => ResetOutcome::Started,
        Err(StartFailed::Unknown(_)) => ResetOutcome::Unknown,
        Err(failed) => ResetOutcome::Refused(format!("{unit} was not started: {failed}")),
    }
}
