//! `iotdm-agent`, the daemon and its local commands.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Parser, Subcommand};
use iotdm::config::DEFAULT_PATH;
use iotdm::daemon::check::{self, Finding, Severity};
use iotdm::daemon::{
    Environment, diagnostics_in_words, firmware_in_words, location_in_words, readable, run, start_logging,
};
use iotdm::local::{self, ClientError, Reply, Request};
use serde_json::Value;

/// Makes this host a managed device of a service that speaks the Device Management Protocol over MQTT.
#[derive(Debug, Parser)]
#[command(name = "iotdm-agent", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent. systemd does this: systemctl start iotdm-agent
    Run(Config),
    /// Look whether the agent has what it needs: configuration, broker, permissions, disk. Changes nothing
    Check {
        #[command(flatten)]
        asked: Asked,
        /// Rehearse a factory reset instead: show what would go and what would stay
        #[arg(long)]
        factory_reset: bool,
    },
    /// Show how the running agent stands
    Status(Asked),
    /// Show where this host is, what the service was told of it, and why not more
    Location(Asked),
    /// Send a manage request now, and take the device back into management after unmanage
    Manage(Asked),
    /// New firmware from the device itself, at a site without a network: the same checks, the same trial
    Firmware {
        #[command(subcommand)]
        command: Firmware,
    },
    /// Take the device out of management, for good: it stays out after a restart, until manage
    Unmanage(Asked),
    /// Log entries and error codes at the service, for scripts on this host
    Diag {
        #[command(subcommand)]
        command: Diag,
    },
}

#[derive(Debug, Subcommand)]
enum Diag {
    /// Tell the service a log entry. Done as soon as it is written down here; it is sent when the service is reached
    AddLog {
        /// 0 information, 1 warning, 2 error
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=2))]
        severity: u8,
        /// A file that goes with it, at most 64 KiB; - for standard input
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
        /// What happened
        text: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Have the service forget this device's log entries
    ClearLogs(Asked),
    /// Tell the service an error code, which holds until clear-errors
    AddError {
        /// A number of your own, 1 to 2147483647 without 9000 to 9099
        #[arg(allow_negative_numbers = true)]
        code: i64,
        #[command(flatten)]
        asked: Asked,
    },
    /// Take back what add-error added. Codes that hold for another reason are told the service anew
    ClearErrors(Asked),
    /// Show what is told of the journal, what waits, and what was held back
    Status(Asked),
}

#[derive(Debug, Subcommand)]
enum Firmware {
    /// Show what is downloaded, installed or on trial, and what it waits for
    Status(Asked),
    /// Install a RAUC bundle from a file: it is checked, written to the other slot, booted and put on trial
    Install {
        /// The bundle; it is read with your rights
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        asked: Asked,
    },
    /// The firmware on trial is good, whatever it still lacks
    Confirm(Asked),
    /// Leave the firmware on trial, or call off what is installed and not booted yet
    Rollback(Asked),
}

#[derive(Debug, Args)]
struct Config {
    /// The configuration; conf.d/*.toml beside it is read after it
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    config: Config,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::read();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the asynchronous runtime does not start: {error}")),
    };
    match cli.command {
        Command::Run(config) => {
            start_logging(environment.journal);
            let exit = runtime.block_on(run(&config.config, environment)).into();
            // A name that is being resolved must not hold up the end.
            runtime.shutdown_background();
            exit
        }
        Command::Check {
            asked,
            factory_reset: true,
        } => rehearsed(&asked, &environment),
        Command::Check { asked, .. } => runtime.block_on(checked(&asked, &environment)),
        Command::Status(asked) => runtime.block_on(asked_of_the_agent(Request::Status, &asked, &environment)),
        Command::Location(asked) => runtime.block_on(asked_of_the_agent(Request::Location, &asked, &environment)),
        Command::Manage(asked) => runtime.block_on(asked_of_the_agent(Request::Manage, &asked, &environment)),
        Command::Firmware { command } => runtime.block_on(firmware(command, &environment)),
        Command::Unmanage(asked) => runtime.block_on(asked_of_the_agent(Request::Unmanage, &asked, &environment)),
        Command::Diag { command } => runtime.block_on(diag(command, &environment)),
    }
}

async fn asked_of_the_agent(request: Request, asked: &Asked, environment: &Environment) -> ExitCode {
    let socket = local::socket_path(environment.runtime_directory.as_deref());
    told(
        local::ask(&socket, request.clone()).await,
        asked,
        |value| match request {
            Request::Status => readable(value).trim_end().to_owned(),
            Request::Location => location_in_words(value),
            Request::DiagStatus => diagnostics_in_words(value),
            request => done(&request, value),
        },
    )
}

async fn diag(command: Diag, environment: &Environment) -> ExitCode {
    let (request, asked) = match command {
        Diag::AddLog {
            severity,
            data,
            text,
            asked,
        } => {
            let data = match data.as_deref().map(attached).transpose() {
                Ok(data) => data.map(|bytes| STANDARD.encode(bytes)),
                Err(reason) => return failed(&reason),
            };
            let message = text;
            (
                Request::DiagAddLog {
                    severity,
                    message,
                    data,
                },
                asked,
            )
        }
        Diag::ClearLogs(asked) => (Request::DiagClearLogs, asked),
        Diag::AddError { code, asked } => (Request::DiagAddError { code }, asked),
        Diag::ClearErrors(asked) => (Request::DiagClearErrors, asked),
        Diag::Status(asked) => (Request::DiagStatus, asked),
    };
    asked_of_the_agent(request, &asked, environment).await
}

/// The file that goes with a log entry, `-` for standard input.
fn attached(file: &Path) -> Result<Vec<u8>, String> {
    const MOST: u64 = 64 * 1024;
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|opened| opened.take(MOST + 1).read_to_end(&mut bytes)),
    };
    match read {
        Ok(_) if bytes.len() as u64 > MOST => Err(format!(
            "{} is larger than 64 KiB: nothing was sent. Cut it, or compress it",
            file.display()
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    }
}

async fn firmware(command: Firmware, environment: &Environment) -> ExitCode {
    let socket = local::socket_path(environment.runtime_directory.as_deref());
    let (file, asked) = match command {
        Firmware::Status(asked) => {
            let reply = local::ask(&socket, Request::Status).await.map(|reply| match reply {
                Reply::Done(value) => Reply::Done(value["agent"]["firmware"].clone()),
                failed => failed,
            });
            return told(reply, &asked, firmware_in_words);
        }
        Firmware::Confirm(asked) => return asked_of_the_agent(Request::FirmwareConfirm, &asked, environment).await,
        Firmware::Rollback(asked) => return asked_of_the_agent(Request::FirmwareRollback, &asked, environment).await,
        Firmware::Install { file, asked } => (file, asked),
    };
    let opened = tokio::fs::File::open(&file).await;
    let given = match opened {
        Ok(given) => given.metadata().await.map(|metadata| (given, metadata)),
        Err(error) => Err(error),
    };
    let (given, size) = match given {
        Ok((given, metadata)) if metadata.is_file() => (given, metadata.len()),
        Ok(_) => return failed(&format!("{} is no file", file.display())),
        Err(error) => return failed(&format!("{} cannot be read: {error}", file.display())),
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let request = Request::FirmwareInstall { name, size };
    told(
        local::hand_over(&socket, request.clone(), given).await,
        &asked,
        |value| done(&request, value),
    )
}

fn told(reply: Result<Reply, ClientError>, asked: &Asked, words: impl FnOnce(&Value) -> String) -> ExitCode {
    match reply {
        Ok(Reply::Done(value)) if asked.json => print(&value.to_string()),
        Ok(Reply::Done(value)) => print(&words(&value)),
        Ok(Reply::Failed(reason)) => failed(&reason),
        Err(error) => failed(&error.to_string()),
    }
}

fn done(request: &Request, value: &Value) -> String {
    if let Some(message) = value["message"].as_str() {
        return message.to_owned();
    }
    match request {
        Request::Unmanage => "the service no longer manages this device",
        _ => "the service manages this device",
    }
    .to_owned()
}

/// With the caller's rights: only root sees everything that would go.
fn rehearsed(asked: &Asked, environment: &Environment) -> ExitCode {
    let preview = match check::factory_reset(&asked.config.config, environment) {
        Ok(preview) => preview,
        Err(problems) => return failed(&format!("a factory reset is refused:\n{}", problems.join("\n"))),
    };
    let text = match asked.json {
        true => serde_json::json!(preview).to_string(),
        false => preview.to_string(),
    };
    match print(text.trim_end()) {
        ExitCode::SUCCESS if preview.problems.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Beside a running agent the agent looks; otherwise this process does, as the service's user.
async fn checked(asked: &Asked, environment: &Environment) -> ExitCode {
    let socket = local::socket_path(environment.runtime_directory.as_deref());
    let findings = match local::ask(&socket, Request::Check).await {
        Ok(Reply::Done(value)) => match serde_json::from_value(value) {
            Ok(findings) => findings,
            Err(error) => return failed(&format!("the agent's answer could not be read: {error}")),
        },
        Ok(Reply::Failed(reason)) => return failed(&reason),
        Err(ClientError::NotRunning(_)) => {
            if let Err(reason) = check::become_the_service() {
                return failed(&reason);
            }
            check::alone(&asked.config.config, environment).await
        }
        Err(error) => return failed(&error.to_string()),
    };
    let worst = findings
        .iter()
        .map(|finding| finding.severity)
        .max()
        .unwrap_or(Severity::Ok);
    let text = if asked.json {
        serde_json::json!(findings).to_string()
    } else {
        written(&findings)
    };
    match print(&text) {
        ExitCode::SUCCESS if worst < Severity::Error => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn written(findings: &[Finding]) -> String {
    let mut sections: Vec<&str> = findings.iter().map(|finding| finding.section.as_str()).collect();
    sections.sort_unstable();
    sections.dedup();
    let mut lines = Vec::new();
    for section in sections {
        lines.push(format!("{section}:"));
        lines.extend(
            findings
                .iter()
                .filter(|finding| finding.section == section)
                .map(|finding| format!("  {finding}")),
        );
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    lines.push(match (errors, warnings) {
        (0, 0) => "everything is as it should be".to_owned(),
        _ => format!("{errors} errors, {warnings} warnings"),
    });
    lines.join("\n")
}

fn print(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn failed(reason: &str) -> ExitCode {
    // Without stderr the exit code has to do.
    let _ = writeln!(io::stderr(), "iotdm-agent: {reason}");
    ExitCode::FAILURE
}
