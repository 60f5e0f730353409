//! From the configuration and the host's facts to what the brain and the session need.

use std::path::PathBuf;
use std::time::Duration;

use super::Facts;
use super::firmware::support;
use crate::agent;
use crate::agent::firmware::WhenToReboot;
use crate::config::{self, ErrorCause, FirmwareReboot, Kind, LocationSource, Token};
use crate::host::identity;
use crate::mqtt::{Broker, Options, Proxy, Subscription, TlsFiles, TokenSource};
use crate::protocol::model::{DeviceInfo, Location};
use crate::protocol::names::NameError;
use crate::protocol::topic::{agent_filter, gateway_notification};
use crate::protocol::{Address, Device};

/// What the brain needs.
///
/// # Errors
/// When the device's name is none; the configuration has checked it.
pub(super) fn brain(
    settings: &config::Settings,
    facts: &Facts,
    kept: &[(&str, PathBuf)],
    boot_id: &str,
) -> Result<agent::Settings, NameError> {
    let (identity, service) = belongs_to(settings);
    Ok(agent::Settings {
        identity,
        service,
        address: address(settings)?,
        lifetime: u64::from(settings.manage.lifetime),
        metadata: settings.manage.metadata.clone(),
        device_info: host_info(&facts.identity),
        configured_info: configured_info(&settings.manage.device_info),
        location: fixed(&settings.location.source),
        tracking: tracking(&settings.location),
        diagnostics: Some(diagnostics(&settings.diagnostics)),
        reboot_enabled: settings.reboot.enabled,
        reset_enabled: settings.factory_reset.enabled,
        firmware: agent::firmware::Settings {
            supported: support::supported(settings, &facts.firmware, kept),
            mark_good: settings.firmware.mark_good && support::knows_the_booted_slot(&facts.firmware),
            allow_http: settings.firmware.allow_http,
            reboot: match settings.firmware.reboot {
                FirmwareReboot::Now => WhenToReboot::Now,
                FirmwareReboot::Window => WhenToReboot::Window,
                FirmwareReboot::Manual => WhenToReboot::Manual,
            },
            trial: settings.firmware.trial.timeout,
            units: settings.firmware.trial.units.clone(),
            require_service: settings.firmware.trial.require_service,
        },
        boot_id: boot_id.to_owned(),
    })
}

/// Where the configuration says that the device stands.
fn fixed(source: &LocationSource) -> Option<Location> {
    match source {
        LocationSource::Fixed { latitude, longitude } => Some(Location {
            latitude: *latitude,
            longitude: *longitude,
            elevation: None,
            accuracy: None,
            measured_date_time: None,
            extra: serde_json::Map::new(),
        }),
        LocationSource::Off | LocationSource::Gpsd(_) => None,
    }
}

/// When the service is told what the receiver says.
fn tracking(location: &config::Location) -> Option<agent::location::Settings> {
    matches!(location.source, LocationSource::Gpsd(_)).then(|| agent::location::Settings {
        min_interval: location.min_interval,
        max_interval: location.max_interval,
        min_distance: location.min_distance,
        decimals: location.decimals,
        interval: super::location::interval(location),
    })
}

/// How the journal is told, and which conditions have a code.
///
/// What the configuration has found right is right here, too: what is not is left out and said.
fn diagnostics(wanted: &config::Diagnostics) -> agent::diagnostics::Settings {
    use agent::diagnostics::{Pattern, Rule};
    let said = |reason: &String| tracing::error!("[diagnostics]: {reason}; it is left out");
    let rule = |rule: &config::ErrorCode| match &rule.cause {
        ErrorCause::Failed(unit) => Rule::failed(rule.code.into(), unit),
        ErrorCause::Logged {
            unit,
            message,
            message_id,
            lasts,
        } => Rule::journal(
            rule.code.into(),
            message.as_deref(),
            message_id.as_deref(),
            unit.as_deref(),
            *lasts,
        ),
    };
    let redact = wanted.redact.iter().map(|text| Pattern::new(text));
    agent::diagnostics::Settings {
        max_per_minute: wanted.max_per_minute,
        redact: redact.filter_map(|pattern| pattern.inspect_err(said).ok()).collect(),
        codes: wanted
            .error_codes
            .iter()
            .map(rule)
            .filter_map(|rule| rule.inspect_err(said).ok())
            .collect(),
    }
}

/// What the host says.
fn host_info(facts: &identity::Facts) -> DeviceInfo {
    DeviceInfo {
        serial_number: facts.serial_number.clone(),
        manufacturer: facts.manufacturer.clone(),
        model: facts.model.clone(),
        fw_version: facts.fw_version.clone(),
        hw_version: facts.hw_version.clone(),
        ..DeviceInfo::default()
    }
}

/// What the configuration says.
fn configured_info(set: &config::DeviceInfo) -> DeviceInfo {
    DeviceInfo {
        serial_number: set.serial_number.clone(),
        manufacturer: set.manufacturer.clone(),
        model: set.model.clone(),
        device_class: set.device_class.clone(),
        description: set.description.clone(),
        fw_version: set.fw_version.clone(),
        hw_version: set.hw_version.clone(),
        descriptive_location: set.descriptive_location.clone(),
        extra: serde_json::Map::new(),
    }
}

fn device(settings: &config::Settings) -> Result<Device, NameError> {
    Device::new(&settings.device.type_id, &settings.device.id)
}

fn address(settings: &config::Settings) -> Result<Address, NameError> {
    Ok(match settings.device.kind {
        Kind::Gateway => Address::Device(device(settings)?),
        Kind::Device => Address::Session,
    })
}

/// `d:org:type:id` or `g:org:type:id` (connecting devices, "client id").
pub(super) fn client_id(settings: &config::Settings) -> String {
    let class = match settings.device.kind {
        Kind::Gateway => 'g',
        Kind::Device => 'd',
    };
    let device = &settings.device;
    format!("{class}:{}:{}:{}", device.org, device.type_id, device.id)
}

/// Whose memory the brain keeps: the device's client id, and the service's URL with its port.
pub(super) fn belongs_to(settings: &config::Settings) -> (String, String) {
    let config::Url { tls, host, port } = &settings.service.url;
    let scheme = if *tls { "mqtts" } else { "mqtt" };
    let service = match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    };
    (client_id(settings), service)
}

/// What the session needs.
///
/// # Errors
/// As [`brain`].
pub(super) fn session(settings: &config::Settings) -> Result<Options, NameError> {
    let service = &settings.service;
    let tls = service.url.tls.then(|| TlsFiles {
        ca_file: service.ca_file.clone(),
        cert_file: service
            .certificate
            .as_ref()
            .map(|certificate| certificate.cert_file.clone()),
        key_file: service
            .certificate
            .as_ref()
            .map(|certificate| certificate.key_file.clone()),
    });
    let proxy = service.proxy.as_ref().map(|proxy| Proxy {
        host: proxy.host.clone(),
        port: proxy.port,
        login: None,
    });
    let broker = Broker {
        host: service.url.host.clone(),
        port: service.url.port,
        tls,
        proxy,
    };
    let mut options = Options::new(broker, client_id(settings));
    options.username = Some(service.username.clone());
    options.token = match &service.token {
        None => TokenSource::None,
        Some(Token::File(path) | Token::Credential(path)) => TokenSource::File(path.clone()),
    };
    options.keep_alive = service.keep_alive;
    options.subscriptions = vec![Subscription {
        filter: agent_filter(&address(settings)?),
        required: true,
    }];
    if settings.device.kind == Kind::Gateway {
        // The platform's broker says here what it refused; a plain broker has no such topic, and may not allow it.
        options.subscriptions.push(Subscription {
            filter: gateway_notification(&device(settings)?),
            required: false,
        });
    }
    options.publishes_per_second = Some(5);
    options.wall_clock_plausible = || crate::host::clock::wall().is_some();
    Ok(options)
}

/// Like [`session`], but only to see whether the broker lets us in.
pub(super) fn probe(settings: &config::Settings) -> Result<Options, NameError> {
    let mut options = session(settings)?;
    options.subscriptions.clear();
    options.stable_after = Duration::from_secs(3600);
    Ok(options)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What a small configuration comes to.
    pub(in crate::daemon) fn settings() -> config::Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "[device]\norg = \"acme\"\ntype = \"edge\"\nid = \"gw-1\"\n\
                    [service]\nurl = \"mqtts://broker.example.com\"\nusername = \"gw-1\"\n";
        std::fs::write(&path, text).unwrap();
        match config::load(&path, None).unwrap().settings {
            config::Configuration::Configured(settings) => *settings,
            config::Configuration::NotConfigured { missing } => panic!("missing {missing:?}"),
        }
    }

    #[test]
    fn con_15_the_session_publishes_at_most_5_messages_a_second() {
        let options = session(&settings()).unwrap();
        assert_eq!(options.publishes_per_second, Some(5));
    }
}
