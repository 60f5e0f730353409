//! `factory-reset`, which a host runs as root to fulfil a factory reset. What is done is in `iotdm::wipe`; here it is
//! told which files must survive, out of the agent's configuration.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Output};

use clap::{Parser, Subcommand};
use iotdm::config::{self, Configuration, DEFAULT_PATH, DEFAULT_STATE_DIRECTORY};
use iotdm::daemon::{Environment, reset_plan};
use iotdm::host::bus::{Bus, BusError};
use iotdm::host::clock;
use iotdm::host::logind::Logind;
use iotdm::wipe::{self, Outcome, Plan};
use sd_notify::NotifyState;

/// The longest reason that is told to systemd, in characters.
const SAID: usize = 600;

/// Wipes what /etc/iotdm-agent/factory-reset.d names. systemd runs it: systemctl start factory-reset.target
#[derive(Debug, Parser)]
#[command(name = "factory-reset", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The agent's configuration: what it names survives
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
enum Command {
    /// Show what would be wiped and what would stay. Changes nothing
    Plan,
    /// Leave the wish for a factory reset, which the next boot fulfils
    Request,
    /// Reboot the host; when that is refused, take the wish back
    Reboot,
    /// Take the wish back
    Withdraw,
    /// Make anew the devices that the plan names, if there is a wish of an earlier boot: before they are mounted
    Format,
    /// Fulfil the wish of an earlier boot, if there is one, and leave the report for the agent
    Wipe,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(text) => match writeln!(io::stdout(), "{}", text.trim_end()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(reason) => {
            // Without stderr the exit code has to do.
            let _ = writeln!(io::stderr(), "factory-reset: {reason}");
            // This is where the agent, which may not read the journal, finds the reason. It is one line.
            let said: String = reason.replace('\n', "; ").chars().take(SAID).collect();
            let _ = sd_notify::notify(&[NotifyState::Status(&said)]);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<String, String> {
    let environment = Environment::read();
    let given = environment.state_directory.clone();
    let boot = || clock::boot_id(environment.boot_id.as_deref()).map_err(|error| error.to_string());
    let plan = || read(cli, given.as_deref()).map(|(plan, _)| plan);
    match cli.command {
        Command::Plan => {
            let preview = read(cli, given.as_deref())
                .map_err(|problems| problems.join("\n"))?
                .0
                .preview();
            if preview.problems.is_empty() {
                Ok(preview.to_string())
            } else {
                Err(format!("a factory reset is refused:\n{preview}"))
            }
        }
        Command::Request => {
            let refused = |reasons: Vec<String>| format!("refused: {}", reasons.join("\n"));
            let (plan, state) = read(cli, given.as_deref()).map_err(refused)?;
            will_be_wiped()?;
            wipe::request(&state, &boot()?, &plan).map_err(|error| format!("refused: {error}"))?;
            let targets: Vec<_> = plan.targets().map(|path| path.display().to_string()).collect();
            Ok(format!("the next boot wipes {}", targets.join(", ")))
        }
        Command::Reboot => {
            let state = state_folder(given.as_deref(), None)?;
            if !wipe::is_asked(&state, &boot()?).map_err(|error| error.to_string())? {
                return Err("no factory reset was asked for in this boot, so the host is not rebooted".to_owned());
            }
            let Err(reason) = reboot() else {
                return Ok("the host reboots".to_owned());
            };
            wipe::withdraw(&state)
                .map_err(|error| format!("the reboot is refused ({reason}), and the next boot wipes: {error}"))?;
            Err(format!("the reboot is refused, so nothing is wiped: {reason}"))
        }
        Command::Withdraw => {
            let loaded = config::load(&cli.config, None).map(|loaded| loaded.settings);
            let configured = match loaded {
                Ok(Configuration::Configured(settings)) => settings.state.directory,
                _ => None,
            };
            let state = configured.map_or_else(|| state_folder(given.as_deref(), None), Ok)?;
            if state.exists() {
                wipe::withdraw(&state).map_err(|error| error.to_string())?;
            }
            Ok("no factory reset is asked for any more".to_owned())
        }
        Command::Format => {
            let state = state_folder(given.as_deref(), None)?;
            wipe::format(&state, &boot()?, plan).map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        Command::Wipe => {
            let state = state_folder(given.as_deref(), None)?;
            match wipe::carry_out(&state, &boot()?, plan).map_err(|error| error.to_string())? {
                Outcome::NotAsked => Ok("no factory reset is asked for".to_owned()),
                Outcome::Over(report) => match report.failure() {
                    None => Ok(report.text()),
                    Some(failure) => Err(format!("{failure}; {}", report.text())),
                },
            }
        }
    }
}

/// The plan beside the configuration, with what survives, and the state folder.
fn read(cli: &Cli, given: Option<&Path>) -> Result<(Plan, PathBuf), Vec<String>> {
    let one = |reason: String| vec![reason];
    let loaded = config::load(&cli.config, None).map_err(|error| {
        one(format!(
            "what must survive is not known: the configuration is refused: {error}"
        ))
    })?;
    let Configuration::Configured(settings) = &loaded.settings else {
        return Err(one(format!(
            "what must survive is not known: {} gives this device no identity yet",
            cli.config.display()
        )));
    };
    let state = state_folder(given, settings.state.directory.as_deref()).map_err(one)?;
    reset_plan(&cli.config, &loaded.files, settings, &state).map(|plan| (plan, state))
}

/// The units say which it is, and the agent's configuration may say it, too.
fn state_folder(given: Option<&Path>, configured: Option<&Path>) -> Result<PathBuf, String> {
    match (given, configured) {
        (Some(given), Some(configured)) if given != configured => Err(format!(
            "the units of the factory reset know {} as the state folder, the configuration says {}: \
             give each of them a drop-in (man iotdm-agent-factory-reset)",
            given.display(),
            configured.display()
        )),
        (Some(path), _) | (None, Some(path)) => Ok(path.to_owned()),
        (None, None) => Ok(PathBuf::from(DEFAULT_STATE_DIRECTORY)),
    }
}

/// A wish that nobody fulfils would lie in wait.
fn will_be_wiped() -> Result<(), String> {
    for unit in wipe::UNITS {
        let said = systemctl(&["is-enabled", unit])?.stdout;
        if said.starts_with(b"masked") {
            return Err(format!("refused: {unit} is masked: systemctl unmask {unit}"));
        }
    }
    for unit in [wipe::FORMAT_UNIT, wipe::WIPE_UNIT] {
        if !systemctl(&["is-enabled", "--quiet", unit])?.status.success() {
            return Err(format!(
                "refused: {unit} is not enabled: systemctl enable {}",
                wipe::REQUEST_UNIT
            ));
        }
    }
    Ok(())
}

/// Root could reboot over a lock (and does, on Debian 12); whoever holds one holds this reboot up as any other.
fn reboot() -> Result<(), String> {
    let blockers = blockers().map_err(|error| format!("it cannot be seen who holds a lock on it: {error}"))?;
    if !blockers.is_empty() {
        return Err(format!("blocked by {}", blockers.join(", ")));
    }
    let asked = systemctl(&["reboot"])?;
    // one that is ended by a signal is ended by the shutdown
    if asked.status.code().is_none_or(|code| code == 0) {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&asked.stderr).trim().to_owned())
}

/// Who holds a block lock on shutdown, and why.
fn blockers() -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.map_err(|error| error.to_string())?.block_on(async {
        let logind = Logind::new(&Bus::system().await?).await?;
        logind.shutdown_blockers().await
    });
    let blockers = asked.map_err(|error: BusError| error.to_string())?;
    Ok(blockers.iter().map(ToString::to_string).collect())
}

fn systemctl(arguments: &[&str]) -> Result<Output, String> {
    Process::new("systemctl")
        .args(arguments)
        .output()
        .map_err(|error| format!("systemctl cannot be started: {error}"))
}
