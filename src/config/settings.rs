//! The validated settings: what the rest of the program is built from. Plain data; holds no secret.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

/// Where the state is kept unless the configuration or systemd says otherwise.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/iotdm-agent";

/// systemd's own target for it (systemd.special(7)).
pub const DEFAULT_FACTORY_RESET_UNIT: &str = "factory-reset.target";

/// Everything a configured agent needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who this device is.
    pub device: Device,
    /// How to reach the service.
    pub service: Service,
    /// What manage says.
    pub manage: Manage,
    /// Reboot on request.
    pub reboot: Reboot,
    /// Factory reset on request.
    pub factory_reset: FactoryReset,
    /// Firmware updates on request.
    pub firmware: Firmware,
    /// Where the host is.
    pub location: Location,
    /// What the service is told of the host's troubles.
    pub diagnostics: Diagnostics,
    /// Where the state is kept.
    pub state: State,
}

/// The identity that the service knows this device by. Each part matches `[A-Za-z0-9_.-]{1,36}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The organisation.
    pub org: String,
    /// The device type (`type` in the file).
    pub type_id: String,
    /// The device id.
    pub id: String,
    /// Which form topics and client id have.
    pub kind: Kind,
}

/// The class of a device, as the service registered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Client id `g:org:type:id`; topics carry type and id.
    Gateway,
    /// Client id `d:org:type:id`; short topics.
    Device,
}

/// How to reach the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where it is.
    pub url: Url,
    /// The MQTT user name.
    pub username: String,
    /// CA certificates (PEM) to trust; none: the system's store.
    pub ca_file: Option<PathBuf>,
    /// The client certificate, where the service wants one.
    pub certificate: Option<ClientCertificate>,
    /// Where the token (the MQTT password) is; none: no password is sent.
    pub token: Option<Token>,
    /// The MQTT keep-alive, 5 s to 1200 s.
    pub keep_alive: Duration,
    /// An HTTP proxy to go through with CONNECT; none: direct.
    pub proxy: Option<Proxy>,
}

/// The address of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether to speak TLS (`mqtts`).
    pub tls: bool,
    /// Host name or IP address; IPv6 without brackets.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

/// A client certificate with its key, both PEM. The files may not be there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, its chain after it.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Where the token is. The file may not be there yet, and may change; read it at each connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The file that `token_file` names.
    File(PathBuf),
    /// systemd's credential `token`.
    Credential(PathBuf),
}

impl Token {
    /// The file to read.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Credential(path) => path,
        }
    }
}

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or IP address; IPv6 without brackets.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

/// `http://HOST:PORT`, IPv6 in brackets.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

/// What manage says.
#[derive(Debug, Clone, PartialEq)]
pub struct Manage {
    /// Seconds until the service takes a silent device for dormant: 0 (never) or at least 3600.
    pub lifetime: u32,
    /// The metadata to register; none: the service keeps what it has.
    pub metadata: Option<Map<String, Value>>,
    /// Overrides what the host tells about itself.
    pub device_info: DeviceInfo,
}

/// The members of the protocol's `deviceInfo` that the configuration sets. None is an empty string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the protocol's own names, in snake case
pub struct DeviceInfo {
    pub serial_number: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub device_class: Option<String>,
    pub description: Option<String>,
    pub fw_version: Option<String>,
    pub hw_version: Option<String>,
    pub descriptive_location: Option<String>,
}

/// Reboot on request of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reboot {
    /// Whether the device does it.
    pub enabled: bool,
}

/// Factory reset on request of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryReset {
    /// Whether the device does it.
    pub enabled: bool,
    /// The systemd unit that resets this host and ends in a reboot, with its suffix.
    pub unit: String,
}

/// Firmware updates on request of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Whether the device does them.
    pub enabled: bool,
    /// Whether the agent marks the booted slot good; otherwise the integrator has something else that does.
    pub mark_good: bool,
    /// The largest bundle that is fetched, in bytes; at least 1024.
    pub max_size: u64,
    /// The only hosts that bundles are fetched from: names in lower case, or IP addresses (IPv6 without brackets). Empty:
    /// any.
    pub allow_hosts: Vec<String>,
    /// Whether a bundle may come over http, in the clear.
    pub allow_http: bool,
    /// CA certificates (PEM) to trust for https; none: the system's store.
    pub ca_file: Option<PathBuf>,
    /// The client certificate for https, where the server wants one.
    pub certificate: Option<ClientCertificate>,
    /// An HTTP proxy to fetch through; none: direct.
    pub proxy: Option<Proxy>,
    /// The most that a download takes of the network, in bytes per second; at least 1024. None: no limit.
    pub max_rate: Option<u64>,
    /// When the host boots the slot that was written.
    pub reboot: FirmwareReboot,
    /// The time of day for [`FirmwareReboot::Window`]; never absent with it.
    pub window: Option<Window>,
    /// When a new slot is good.
    pub trial: Trial,
}

/// When the host boots a slot that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareReboot {
    /// As soon as it is written.
    Now,
    /// In the window.
    Window,
    /// When a person, or the service with a reboot request, says so.
    Manual,
}

/// A time of day, every day, in local time. With `from > to` it passes midnight; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The minute of the day at which it opens, 0 to 1439.
    pub from: u16,
    /// The minute of the day at which it closes, 0 to 1439, itself not in the window.
    pub to: u16,
}

/// When a new slot is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// After so long since its boot a slot on trial that is not good is bad: 2 minutes to 24 hours.
    pub timeout: Duration,
    /// The systemd units that must be active, each with its suffix.
    pub units: Vec<String>,
    /// Whether the service must have answered a manage from the new slot, if it was reached from the old one.
    pub require_service: bool,
}

/// Where the host is, and when the service is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// Who knows it.
    pub source: LocationSource,
    /// The least time from one report to the next: 10 s to 24 h.
    pub min_interval: Duration,
    /// The longest time from one report to the next while there is a fix; at least `min_interval`, 30 days at most.
    pub max_interval: Duration,
    /// Metres that the host must have moved, 0 to 100,000.
    pub min_distance: f64,
    /// Decimal places of the coordinates that are told, 0 to 9.
    pub decimals: u8,
}

/// Who knows where the host is.
#[derive(Debug, Clone, PartialEq)]
pub enum LocationSource {
    /// Nobody on this host.
    Off,
    /// A gpsd at this host and port, such as `127.0.0.1:2947` or `[::1]:2947`.
    Gpsd(String),
    /// The configuration.
    Fixed {
        /// Decimal degrees, -90 to 90.
        latitude: f64,
        /// Decimal degrees, -180 to 180.
        longitude: f64,
    },
}

/// What the service is told of the host's troubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// Whether the journal is read.
    pub journal: bool,
    /// The least important priority that is told, 0 (emerg) to 7 (debug) as in syslog(3).
    pub priority: u8,
    /// The only units whose entries are told, each with its suffix. Empty: all.
    pub units: Vec<String>,
    /// Units whose entries are not told.
    pub exclude_units: Vec<String>,
    /// Entries with these MESSAGE_IDs (32 hexadecimal digits in lower case) are told whatever their priority.
    pub message_ids: Vec<String>,
    /// The most log entries in a minute, 1 to 600.
    pub max_per_minute: u32,
    /// What must not leave the host beside what never does: regular expressions that are right.
    pub redact: Vec<String>,
    /// When which error code holds, 64 at most.
    pub error_codes: Vec<ErrorCode>,
}

/// When an error code holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCode {
    /// 1 to 2147483647, and none of the agent's own, 9000 to 9099.
    pub code: i32,
    /// While or after what.
    pub cause: ErrorCause,
}

/// What an error code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorCause {
    /// This unit is failed.
    Failed(String),
    /// Such an entry was logged; at least one of `message` and `message_id` is there.
    Logged {
        /// By this unit; none: by any.
        unit: Option<String>,
        /// A regular expression that is right and that its message matches somewhere.
        message: Option<String>,
        /// Its MESSAGE_ID, 32 hexadecimal digits in lower case.
        message_id: Option<String>,
        /// So long after the last of them the code holds: 1 minute to 30 days.
        lasts: Duration,
    },
}

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The folder that the configuration names, if it names one.
    pub directory: Option<PathBuf>,
}

impl State {
    /// The folder to use: the configured one, else `given` (systemd's `$STATE_DIRECTORY`), else the default.
    pub fn directory(&self, given: Option<&Path>) -> PathBuf {
        match (&self.directory, given) {
            (Some(configured), _) => configured.clone(),
            (None, Some(given)) => given.to_path_buf(),
            (None, None) => PathBuf::from(DEFAULT_STATE_DIRECTORY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_written_as_an_address_of_it_must_be() {
        for (host, written) in [
            ("proxy.example.com", "http://proxy.example.com:3128"),
            ("192.0.2.1", "http://192.0.2.1:3128"),
            ("2001:db8::1", "http://[2001:db8::1]:3128"),
        ] {
            let proxy = Proxy {
                host: host.to_owned(),
                port: 3128,
            };
            assert_eq!(proxy.to_string(), written);
        }
    }
}
