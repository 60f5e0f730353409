//! From merged inputs to settings: what each value means, what fits together, what is missing.
//!
//! Files that the configuration names may still be missing (they are read at each connect): that is a warning. A token
//! or key that every user of the host can read is refused.

mod diagnostics;
mod firmware;
mod location;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Problem;
use super::fragment::{Located, Value};
use super::settings::{
    ClientCertificate, DEFAULT_FACTORY_RESET_UNIT, Device, DeviceInfo, FactoryReset, Kind, Manage, Reboot, Service,
    Settings, State, Token, Url,
};
use super::{Configuration, Inputs, units};

/// The user name of the platform's devices, whatever their token.
const USERNAME: &str = "use-token-auth";
/// Shorter keep-alives cost more than they find; longer ones outlive the memory of most NAT boxes.
const KEEP_ALIVE: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(1200);
const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(60);
/// The protocol's smallest lifetime, in seconds.
const LIFETIME_LEAST: Duration = Duration::from_secs(3600);
const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// No sensible serial number or description is longer; what is, would be a file put in by mistake.
const INFO_CHARACTERS: usize = 256;
/// The keys without which there is no session.
const REQUIRED: [&str; 4] = ["device.org", "device.type", "device.id", "service.url"];

/// Makes settings of inputs. With problems the result means nothing.
pub(super) fn settings(
    inputs: &Inputs,
    credentials: Option<&Path>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Configuration {
    let mut check = Check {
        inputs,
        problems,
        warnings,
    };
    let org = check.id("device.org");
    let type_id = check.id("device.type");
    let id = check.id("device.id");
    let kind = check.kind();
    let url = check.text("service.url", units::url);
    let service = check.service(url.clone(), credentials);
    let manage = check.manage();
    let reboot = Reboot {
        enabled: check.truth("reboot.enabled").unwrap_or(true),
    };
    let factory_reset = FactoryReset {
        enabled: check.truth("factory_reset.enabled").unwrap_or(true),
        unit: check
            .text("factory_reset.unit", units::unit_name)
            .unwrap_or_else(|| DEFAULT_FACTORY_RESET_UNIT.to_owned()),
    };
    let firmware = check.firmware();
    let location = check.location();
    let diagnostics = check.diagnostics();
    let state = State {
        directory: check.path("state.directory"),
    };

    let missing: Vec<&str> = REQUIRED.into_iter().filter(|key| !inputs.contains_key(key)).collect();
    match (org, type_id, id, service) {
        (Some(org), Some(type_id), Some(id), Some(service)) => {
            let device = Device { org, type_id, id, kind };
            Configuration::Configured(Box::new(Settings {
                device,
                service,
                manage,
                reboot,
                factory_reset,
                firmware,
                location,
                diagnostics,
                state,
            }))
        }
        _ => Configuration::NotConfigured { missing },
    }
}

struct Check<'a> {
    inputs: &'a Inputs,
    problems: &'a mut Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        if let Some(located) = self.inputs.get(key) {
            self.problems
                .push(located.place.problem(key, message, Some(hint.into())));
        }
    }

    fn warn(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        if let Some(located) = self.inputs.get(key) {
            self.warnings
                .push(located.place.problem(key, message, Some(hint.into())));
        }
    }

    /// The value of a string key as `read` understands it; what it says otherwise is the problem.
    fn text<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Some(Located {
            value: Value::Text(text),
            place,
        }) = self.inputs.get(key)
        else {
            return None;
        };
        match read(text) {
            Ok(value) => Some(value),
            Err(told) => {
                self.problems.push(place.problem(key, told, None));
                None
            }
        }
    }

    fn truth(&self, key: &str) -> Option<bool> {
        match self.inputs.get(key) {
            Some(Located {
                value: Value::Truth(truth),
                ..
            }) => Some(*truth),
            _ => None,
        }
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key, |text| match text.starts_with('/') {
            true => Ok(PathBuf::from(text)),
            false => Err("must be an absolute path, beginning with /".to_owned()),
        })
    }

    fn id(&mut self, key: &str) -> Option<String> {
        self.text(key, |text| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if key == "device.org" && text == "quickstart" {
                return Err(
                    "\"quickstart\" has no device management: use the organisation that the device is registered in"
                        .into(),
                );
            }
            match (1..=36).contains(&text.len()) && text.chars().all(legal) {
                true => Ok(text.to_owned()),
                false => {
                    Err("must be 1 to 36 characters out of letters, digits, _ . - (no umlauts, no spaces)".to_owned())
                }
            }
        })
    }

    fn kind(&mut self) -> Kind {
        let kind = self.text("device.kind", |text| match text {
            "gateway" => Ok(Kind::Gateway),
            "device" => Ok(Kind::Device),
            _ => Err("must be \"gateway\" or \"device\", as the device is registered".to_owned()),
        });
        kind.unwrap_or(Kind::Gateway)
    }

    fn service(&mut self, url: Option<Url>, credentials: Option<&Path>) -> Option<Service> {
        let username = self.text("service.username", |text| {
            match text.is_empty() || text.chars().any(char::is_control) {
                true => Err("must not be empty or hold control characters".to_owned()),
                false => Ok(text.to_owned()),
            }
        });
        let ca_file = self.file("service.ca_file", false);
        let certificate = self.certificate(["service.cert_file", "service.key_file"]);
        let token = self.token(credentials);
        let keep_alive = self.text("service.keep_alive", |text| {
            let keep_alive = units::duration(text)?;
            match KEEP_ALIVE.contains(&keep_alive) {
                true => Ok(keep_alive),
                false => Err(format!("{} is out of range: 5s to 20m", units::show(keep_alive))),
            }
        });
        let proxy = self.text("service.proxy", units::proxy);
        let url = url?;
        if !url.tls {
            for key in ["service.ca_file", "service.cert_file"] {
                self.warn(
                    key,
                    "has no effect: the url says mqtt, which has no TLS",
                    "write mqtts:// in service.url",
                );
            }
            if token.is_some() && !loopback(&url.host) {
                self.warn(
                    "service.url",
                    "the token goes over the network in the clear",
                    "use mqtts://",
                );
            }
        }
        if token.is_none() && certificate.is_none() {
            self.warn(
                "service.url",
                "neither a token nor a client certificate is configured: the service has nothing to know this device by",
                "set service.token_file, or service.cert_file and service.key_file",
            );
        }
        Some(Service {
            url,
            username: username.unwrap_or_else(|| USERNAME.to_owned()),
            ca_file,
            certificate,
            token,
            keep_alive: keep_alive.unwrap_or(KEEP_ALIVE_DEFAULT),
            proxy,
        })
    }

    /// A client certificate by the two keys that name it.
    fn certificate(&mut self, [cert, key]: [&str; 2]) -> Option<ClientCertificate> {
        let cert_file = self.file(cert, false);
        let key_file = self.file(key, true);
        for (one, other) in [(cert, key), (key, cert)] {
            if !self.inputs.contains_key(other) {
                self.wrong(
                    one,
                    format!("needs {other} as well"),
                    "a certificate is no use without its key",
                );
            }
        }
        let (cert_file, key_file) = (cert_file?, key_file?);
        Some(ClientCertificate { cert_file, key_file })
    }

    fn token(&mut self, credentials: Option<&Path>) -> Option<Token> {
        let credential = credentials
            .map(|folder| folder.join("token"))
            .filter(|file| file.exists());
        match (self.file("service.token_file", true), credential) {
            (Some(file), credential) => {
                if credential.is_some() {
                    self.warn(
                        "service.token_file",
                        "wins over the systemd credential \"token\"",
                        "remove one of the two",
                    );
                }
                Some(Token::File(file))
            }
            (None, credential) => credential.map(Token::Credential),
        }
    }

    /// A file that is read at each connect: it may be missing now, but a secret one must not be open to everybody.
    fn file(&mut self, key: &str, secret: bool) -> Option<PathBuf> {
        let path = self.path(key)?;
        match std::fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => {
                self.wrong(key, format!("{} is not a file", path.display()), "name the file itself");
            }
            Ok(meta) if secret && meta.permissions().mode() & 0o006 != 0 => self.wrong(
                key,
                format!("every user of this host can read or change {}", path.display()),
                format!("run: chown root:iotdm-agent {0} && chmod 0640 {0}", path.display()),
            ),
            Ok(_) => self.warn_unless(key, &path, std::fs::File::open(&path).map(drop)),
            Err(error) => self.warn_unless(key, &path, Err(error)),
        }
        Some(path)
    }

    fn warn_unless(&mut self, key: &str, path: &Path, readable: std::io::Result<()>) {
        if let Err(error) = readable {
            let told = format!("{} cannot be read: {error}", path.display());
            self.warn(
                key,
                told,
                "the agent cannot connect without it and looks for it again at each try",
            );
        }
    }

    fn manage(&mut self) -> Manage {
        let lifetime = self.text("manage.lifetime", |text| {
            let lifetime = units::duration(text)?;
            if lifetime < LIFETIME_LEAST && lifetime != Duration::ZERO {
                return Err(format!(
                    "{} is too short: the service takes 0 (never dormant) or at least 1h",
                    units::show(lifetime)
                ));
            }
            u32::try_from(lifetime.as_secs()).map_err(|_| format!("{text:?} is too long"))
        });
        let metadata = match self.inputs.get("manage.metadata") {
            Some(Located {
                value: Value::Table(table),
                ..
            }) => Some(table.clone()),
            _ => None,
        };
        let device_info = DeviceInfo {
            serial_number: self.info("manage.device_info.serialNumber"),
            manufacturer: self.info("manage.device_info.manufacturer"),
            model: self.info("manage.device_info.model"),
            device_class: self.info("manage.device_info.deviceClass"),
            description: self.info("manage.device_info.description"),
            fw_version: self.info("manage.device_info.fwVersion"),
            hw_version: self.info("manage.device_info.hwVersion"),
            descriptive_location: self.info("manage.device_info.descriptiveLocation"),
        };
        Manage {
            lifetime: lifetime.unwrap_or(LIFETIME_DEFAULT.as_secs() as u32),
            metadata,
            device_info,
        }
    }

    fn info(&mut self, key: &str) -> Option<String> {
        self.text(key, |text| match text.chars().count() {
            0 => Err("must not be empty: remove the line".to_owned()),
            1..=INFO_CHARACTERS => Ok(text.to_owned()),
            _ => Err(format!("is longer than {INFO_CHARACTERS} characters")),
        })
    }
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
