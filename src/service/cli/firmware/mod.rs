//! `iotdm firmware`: new firmware for one or many devices, and how it stands with one.

mod device;
mod find;
mod push;
mod show;
mod source;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::{CallError, Client};
use super::output::Output;
use super::{Connection, timeout};
use crate::protocol::Device;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Install a firmware bundle on devices: download, update, and wait until each has proven it or fallen back
    ///
    /// With --file this process is the file server: it must run, and be reachable by the devices, until the downloads
    /// are done. With --uri the bundle lies on a server of yours.
    ///
    /// A device that has the bundle already is not asked to download it again.
    ///
    /// Exit code 0 means that every device runs the new firmware and says that it is good.
    #[command(after_long_help = PUSH_HELP)]
    Push(Box<Push>),
    /// Show which firmware a device runs, what is to be installed, and which request is under way
    Status {
        /// The device, for example edge-gateway/gw-0001
        #[arg(value_name = "TYPE/ID")]
        device: Device,
        #[command(flatten)]
        connection: Connection,
    },
}

const PUSH_HELP: &str = "\
How far a device is, in the words that are printed:
  requested    the service has the request; the device is asked as soon as it can be
  downloading  with --file in percent of what it has fetched
  downloaded   fetched and checked; then the update is requested
  installing   written to the other slot, then rebooting into it: the service sees no difference
  on trial     it is back, runs another version than before, and has to prove itself
  done         it says that the update succeeded, and runs what --version says
  failed       with the reason; the table at the end has the version that runs

Ctrl-C ends this command and nothing else: what a device was asked goes on there. With --file,
downloads that are not done lose their server. A device that is busy with an earlier request is
refused; --override calls that off first.

Examples:
  iotdm firmware push edge-gateway/gw-0001 --file fw-2.0.raucb --version 2.0 \\
      --public-host ops.example.com --cert ops.pem --key ops.key
  iotdm firmware push edge-gateway/gw-0001 edge-gateway/gw-0002 \\
      --uri https://fw.example.com/fw-2.0.raucb --verifier sha256:9f86d0...";

/// What to install where, and from where.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["file", "uri"])))]
pub(super) struct Push {
    /// The devices, for example edge-gateway/gw-0001
    #[arg(value_name = "TYPE/ID", required = true)]
    devices: Vec<Device>,
    /// The bundle, served to the devices by this process
    #[arg(long, value_name = "BUNDLE")]
    file: Option<PathBuf>,
    /// Where the devices fetch the bundle
    #[arg(long, value_name = "URI")]
    uri: Option<String>,
    /// The version that devices are told, and must say they run afterwards
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// The name that devices are told [default: the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What devices check the bundle with, for example sha256:9f86d0...; of a file it is computed
    #[arg(long, value_name = "ALGORITHM:DIGEST", conflicts_with = "file")]
    verifier: Option<String>,
    /// How long each of download and update may take: 90m, 12h, 7d [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Duration>,
    /// Call off what is in progress with the devices first
    #[arg(long = "override")]
    overrides: bool,
    /// Where the file server listens
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8443",
        conflicts_with = "uri"
    )]
    listen: SocketAddr,
    /// This host's name as the devices know it and as the certificate has it; with a port when that differs from --listen
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        required_unless_present = "uri",
        conflicts_with = "uri"
    )]
    public_host: Option<String>,
    /// The file server's certificate, PEM, with what leads to the authority that the devices trust
    #[arg(long, value_name = "PATH", requires = "key", required_unless_present_any = ["uri", "http"], conflicts_with_all = ["uri", "http"])]
    cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "PATH", requires = "cert")]
    key: Option<PathBuf>,
    /// Serve without TLS, for a lab: agents refuse it unless their allow_http is set
    #[arg(long, conflicts_with = "uri")]
    http: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Command {
    pub(super) fn connection(&self) -> &Connection {
        match self {
            Command::Push(push) => &push.connection,
            Command::Status { connection, .. } => connection,
        }
    }

    pub(super) async fn run(&self, client: &Client, output: &mut Output) -> Result<ExitCode, CallError> {
        match self {
            Command::Push(push) => push::push(client, output, push).await,
            Command::Status { device, .. } => status::status(client, output, device).await,
        }
    }
}
