//! The command line of `iotdm`: `serve` is the service, every other command is a client of its REST face.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 78 settings refused (`serve` only; sysexits.h EX_CONFIG).

mod assignment;
mod client;
mod confirm;
mod errors;
mod firmware;
mod forget;
mod initiate;
mod logs;
mod ls;
mod observe;
mod output;
mod set;
mod show;
mod watch;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use super::serve::serve;
use super::settings::{KEY_FILE, LISTEN, STATE, Settings};
use super::span;
use crate::protocol::Device;
use client::{CallError, Client};
use confirm::Deed;
use output::Output;

/// The service's side of device management over MQTT: run the service, see who is managed and what is known of a device,
/// change that, read its logs, reboot and reset devices, install firmware.
#[derive(Debug, Parser)]
#[command(name = "iotdm", version, max_term_width = 100)]
#[command(after_help = "Begin with: iotdm serve --config FILE; then, elsewhere on this host: iotdm ls")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: answer devices on the broker, keep the registry, offer the REST face
    #[command(after_long_help = SERVE_HELP)]
    Serve {
        /// The settings, a TOML file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Log every message of every device, too
        #[arg(long, short)]
        verbose: bool,
    },
    /// List the devices: who is managed, since when, with which firmware, last seen
    Ls {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what devices say and what is sent to them, one line each, until interrupted
    Watch {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show everything that is known of a device: is it managed, what it is, where, with which metadata
    Show {
        /// The device, for example edge-gateway/gw-0001
        #[arg(value_name = "TYPE/ID")]
        device: Device,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change what a device says of itself: metadata, description, location
    ///
    /// The device is asked, and this ends with its answer. Exit code 0 means that it has taken everything over, or that it
    /// is not managed and the values are stored here only.
    #[command(after_help = set::HELP)]
    Set(set::Set),
    /// Show what changes at a device, as it changes, until interrupted
    ///
    /// The device first tells how it is now, if it can, and then what changes. Ctrl-C ends that at the device, too.
    #[command(after_help = observe::HELP)]
    Observe(observe::Observe),
    /// Show what a device has logged, oldest first
    #[command(after_help = logs::HELP)]
    Logs(logs::Logs),
    /// Show the error codes of a device, newest first
    Errors {
        /// The device, for example edge-gateway/gw-0001
        #[arg(value_name = "TYPE/ID")]
        device: Device,
        #[command(flatten)]
        connection: Connection,
    },
    /// Ask a device to reboot
    ///
    /// Without --wait this ends as soon as the service has registered the request. With --wait it follows the request:
    /// sent to the broker, accepted by the device (202), managed again. Exit code 0 then means that the device is back.
    #[command(
        after_help = "A request that timed out may still be carried out: the broker keeps it for a device that is away."
    )]
    Reboot {
        #[command(flatten)]
        initiate: Initiate,
    },
    /// Ask a device to reset itself to its factory settings; what it wipes is lost
    ///
    /// What is wiped and what is kept is said in the device's own configuration. Its identity is kept, so that it comes
    /// back. On a terminal the device's id must be typed first; anywhere else --yes is needed.
    ///
    /// Without --wait this ends as soon as the service has registered the request. With --wait it follows the request:
    /// sent to the broker, accepted by the device (202), managed again. Exit code 0 then means that the device is reset
    /// and back.
    #[command(
        after_help = "A request that timed out may still be carried out: the broker keeps it for a device that is away."
    )]
    FactoryReset {
        /// Do not ask for the device's id to be typed
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        initiate: Initiate,
    },
    /// Forget a device that is no more, with its logs and error codes
    ///
    /// On a terminal the device's id must be typed first; anywhere else --yes is needed. What was asked of the device before
    /// stays with the requests.
    #[command(
        after_help = "A device that still speaks is registered anew: what keeps it out is the broker's access control \
                            list."
    )]
    Forget {
        /// The device, for example edge-gateway/gw-0001
        #[arg(value_name = "TYPE/ID")]
        device: Device,
        /// Do not ask for the device's id to be typed
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Install firmware on devices, or see how it stands
    Firmware {
        #[command(subcommand)]
        command: firmware::Command,
    },
}

/// What is asked of a device itself.
#[derive(Debug, Args)]
struct Initiate {
    /// The device, for example edge-gateway/gw-0001
    #[arg(value_name = "TYPE/ID")]
    device: Device,
    /// Follow the request to its end
    #[arg(long)]
    wait: bool,
    /// How long the device may take, from now until it is back: 90s, 10m, 2h [default: 1h, for a factory reset 2h]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

/// Where the service is, and how to speak to it.
#[derive(Debug, Args)]
struct Connection {
    /// The service's REST face
    #[arg(long, value_name = "URL", env = "IOTDM_API", default_value = DEFAULT_API)]
    api: String,
    /// The service's key file
    #[arg(long, value_name = "PATH", env = "IOTDM_KEY_FILE", default_value = DEFAULT_KEY_FILE)]
    key_file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const DEFAULT_API: &str = "http://127.0.0.1:8480";
const DEFAULT_KEY_FILE: &str = "/var/lib/iotdm/api-key";

const SERVE_HELP: &str = r#"Settings, with all that can be said:

  [service]
  org = "acme"                      # the organisation of the devices

  [broker]
  url = "mqtts://broker.example.com:8883"   # or mqtt://
  username = "iotdm"                # may publish iotdm-1/# and read iotdevice-1/#
  token_file = "/etc/iotdm/token"   # its password
  ca_file = "/etc/iotdm/ca.pem"     # without it: the system's store
  cert_file = "/etc/iotdm/cert.pem" # a client certificate, with key_file
  key_file = "/etc/iotdm/key.pem"
  keep_alive = "60s"

  [api]
  listen = "127.0.0.1:8480"
  key_file = "/var/lib/iotdm/api-key"       # made at first start

  [state]
  directory = "/var/lib/iotdm"

Only [service] org and [broker] url are needed."#;

fn timeout(text: &str) -> Result<Duration, String> {
    let span = span::parse(text)?;
    if span.is_zero() {
        return Err("must be at least 1s".into());
    }
    Ok(span)
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    debug_assert!(DEFAULT_API.ends_with(LISTEN) && Path::new(DEFAULT_KEY_FILE) == Path::new(STATE).join(KEY_FILE));
    let cli = Cli::parse();
    // Building an HTTP client panics without one. It may be there already in tests.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("the system refuses to run this: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match cli.command {
        Command::Serve { config, verbose } => runtime.block_on(run_service(&config, verbose)),
        Command::Ls { connection } => {
            runtime.block_on(connection.look(async |client, output| ls::ls(client, output).await))
        }
        Command::Watch { connection } => {
            runtime.block_on(connection.look(async |client, output| watch::watch(client, output).await))
        }
        Command::Show { device, connection } => {
            runtime.block_on(connection.look(async |client, output| show::show(client, output, &device).await))
        }
        Command::Set(set) => {
            runtime.block_on((set.connection).run(async |client, output| set::set(client, output, &set).await))
        }
        Command::Observe(wanted) => runtime
            .block_on((wanted.connection).look(async |client, output| observe::observe(client, output, &wanted).await)),
        Command::Logs(wanted) => {
            runtime.block_on((wanted.connection).look(async |client, output| logs::logs(client, output, &wanted).await))
        }
        Command::Errors { device, connection } => {
            runtime.block_on(connection.look(async |client, output| errors::errors(client, output, &device).await))
        }
        Command::Reboot { initiate } => runtime.block_on(initiate.run(&initiate::REBOOT)),
        Command::FactoryReset { yes, initiate } => match confirm::typed(Deed::Reset, &initiate.device, yes) {
            Ok(()) => runtime.block_on(initiate.run(&initiate::FACTORY_RESET)),
            Err(refused) => refused.tell(),
        },
        Command::Forget {
            device,
            yes,
            connection,
        } => match confirm::typed(Deed::Forget, &device, yes) {
            Ok(()) => {
                runtime.block_on(connection.run(async |client, output| forget::forget(client, output, &device).await))
            }
            Err(refused) => refused.tell(),
        },
        Command::Firmware { command } => {
            let connection = command.connection();
            let run = async |client: &Client, output: &mut Output| command.run(client, output).await;
            match command {
                firmware::Command::Push(_) => runtime.block_on(connection.run(run)),
                firmware::Command::Status { .. } => runtime.block_on(connection.look(run)),
            }
        }
    }
}

impl Initiate {
    async fn run(&self, kind: &initiate::Kind) -> ExitCode {
        let command = async |client: &Client, output: &mut Output| {
            initiate::initiate(client, output, kind, &self.device, self.wait, self.timeout).await
        };
        self.connection.run(command).await
    }
}

impl Connection {
    /// Runs a command that is for what it prints.
    async fn look(&self, command: impl AsyncFnOnce(&Client, &mut Output) -> Result<ExitCode, CallError>) -> ExitCode {
        self.with(Output::new(self.json), command).await
    }

    /// Runs a command that does something; its exit code says how that ended, whether or not somebody reads the output.
    async fn run(&self, command: impl AsyncFnOnce(&Client, &mut Output) -> Result<ExitCode, CallError>) -> ExitCode {
        self.with(Output::of_deed(self.json), command).await
    }

    async fn with(
        &self,
        mut output: Output,
        command: impl AsyncFnOnce(&Client, &mut Output) -> Result<ExitCode, CallError>,
    ) -> ExitCode {
        let outcome = match Client::new(&self.api, &self.key_file) {
            Ok(client) => command(&client, &mut output).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(code) => code,
            // Whoever read the output has enough of it.
            Err(CallError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                output::error(&error.to_string());
                ExitCode::FAILURE
            }
        }
    }
}

async fn run_service(config: &Path, verbose: bool) -> ExitCode {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(level)
        .init();
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(error) => {
            output::error(&error.to_string());
            return ExitCode::from(78);
        }
    };
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::brain::{DEFAULT_OBSERVE_TIMEOUT, DEFAULT_UPDATE_TIMEOUT};
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_timeouts_in_the_help_are_those_of_the_service() {
        let of = |arguments: &[&str]| match Cli::parse_from(arguments).command {
            Command::Set(set) => set.timeout.as_secs(),
            Command::Observe(observe) => observe.timeout.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&["iotdm", "set", "a/b", "model=x"]), DEFAULT_UPDATE_TIMEOUT);
        assert_eq!(of(&["iotdm", "observe", "a/b", "location"]), DEFAULT_OBSERVE_TIMEOUT);
    }

    #[test]
    fn the_settings_in_the_help_are_settings() {
        let (_, rest) = SERVE_HELP.split_once("\n\n").expect("a heading");
        let (settings, _) = rest.rsplit_once("\n\n").expect("a last line");
        assert_eq!(
            Settings::parse(settings).map(|settings| settings.org),
            Ok("acme".into())
        );
    }
}
