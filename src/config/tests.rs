//! Whole configurations: what is accepted, and what becomes of it.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;

mod diagnostics;
mod firmware;
mod refusals;
mod secrets;
mod values;

/// A folder with a `config.toml` and drop-ins, gone when dropped.
struct Etc(tempfile::TempDir);

impl Etc {
    fn new(config: &str) -> Self {
        let etc = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(etc.0.path().join(DROP_INS)).unwrap();
        std::fs::write(etc.path(), config).unwrap();
        etc
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn drop_in(self, name: &str, text: &str) -> Self {
        std::fs::write(self.0.path().join(DROP_INS).join(name), text).unwrap();
        self
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.path(), None)
    }

    fn settings(&self) -> Settings {
        match self.load().unwrap().settings {
            Configuration::Configured(settings) => *settings,
            Configuration::NotConfigured { missing } => panic!("missing {missing:?}"),
        }
    }

    /// The refusal as a person reads it, with the folder left out.
    fn refusal(&self) -> String {
        self.load()
            .unwrap_err()
            .to_string()
            .replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The least that makes a session, and then `more`.
fn with(more: &str) -> Etc {
    Etc::new(&format!(
        "[device]\norg = \"acme\"\ntype = \"edge\"\nid = \"gw-1\"\n[service]\nurl = \"mqtts://broker\"\n{more}"
    ))
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The shipped file with every option uncommented: options are `#key` and `#[section]`, prose is `# text`.
fn shipped_in_full() -> String {
    let text = std::fs::read_to_string(project("config/config.toml")).unwrap();
    let option = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| option(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_configuration_is_legal_and_waits_for_an_identity() {
    let loaded = load(&project("config/config.toml"), None).unwrap();
    let missing = vec!["device.org", "device.type", "device.id", "service.url"];
    assert_eq!(loaded.settings, Configuration::NotConfigured { missing });
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_shipped_configuration_with_every_option_uncommented_is_legal_and_names_every_key() {
    let etc = Etc::new(&shipped_in_full());
    let settings = etc.settings();
    assert_eq!(settings.device.kind, Kind::Gateway);
    assert_eq!(settings.service.keep_alive, Duration::from_secs(60));
    assert_eq!(settings.manage.lifetime, 86_400);
    for warning in etc.load().unwrap().warnings {
        assert!(warning.message.contains("cannot be read: No such file"), "{warning}");
    }
    let mut problems = Vec::new();
    let inputs = fragment::parse(&etc.path(), shipped_in_full().as_bytes(), &mut problems);
    let named: Vec<_> = inputs.keys().copied().collect();
    let mut known: Vec<_> = keys::KEYS.iter().map(|(key, _)| *key).collect();
    known.sort_unstable();
    assert_eq!(named, known);
}

#[test]
fn what_the_shipped_configuration_shows_as_a_default_is_the_default() {
    let bare = with("").settings();
    let full = Etc::new(&shipped_in_full()).settings();
    assert_eq!(bare.device.kind, full.device.kind);
    assert_eq!(bare.service.username, full.service.username);
    assert_eq!(bare.service.keep_alive, full.service.keep_alive);
    assert_eq!(bare.manage.lifetime, full.manage.lifetime);
    assert_eq!(bare.reboot, full.reboot);
    assert_eq!(bare.factory_reset, full.factory_reset);
    assert_eq!(bare.location, full.location);
    // what has no default is shown by an example: what is redacted, and the codes
    let mut diagnostics = full.diagnostics.clone();
    (diagnostics.redact, diagnostics.error_codes) = (Vec::new(), Vec::new());
    assert_eq!(bare.diagnostics, diagnostics);
    // what has no default is shown by an example: files, proxy, rate and window
    let mut firmware = full.firmware.clone();
    (firmware.ca_file, firmware.certificate, firmware.proxy) = (None, None, None);
    (firmware.max_rate, firmware.window) = (None, None);
    assert_eq!(bare.firmware, firmware);
    assert_eq!(bare.state.directory(None), full.state.directory(None));
}

#[test]
fn the_examples_are_complete() {
    for example in ["maximo.toml", "plain-broker.toml"] {
        let path = project("config/examples").join(example);
        let loaded = load(&path, None).unwrap();
        assert!(
            matches!(loaded.settings, Configuration::Configured(_)),
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_documentation_names_every_key() {
    let text = std::fs::read_to_string(project("docs/configuration.md")).unwrap();
    for (key, holds) in keys::KEYS {
        let (section, name) = key.rsplit_once('.').unwrap();
        let (_, rest) = text
            .split_once(&format!("## [{section}]\n"))
            .unwrap_or_else(|| panic!("no section {section}"));
        let rest = rest.split("\n## ").next().unwrap();
        let explained = match holds {
            keys::Holds::Tables(_) => text.contains(&format!("## [[{key}]]\n")),
            _ => rest.contains(&format!("| `{name}` |")),
        };
        assert!(explained, "{key} is not explained");
    }
}

#[test]
fn a_whole_configuration_becomes_settings() {
    let etc = Etc::new(
        r#"
        [device]
        org = "acme"
        type = "edge-gateway"
        id = "gw-0001"
        kind = "device"
        [service]
        url = "mqtts://acme.messaging.iot.example.com:443"
        username = "gw-0001"
        ca_file = "/nonexistent/ca.pem"
        cert_file = "/nonexistent/cert.pem"
        key_file = "/nonexistent/key.pem"
        token_file = "/nonexistent/token"
        keep_alive = "5m"
        proxy = "http://proxy.example.com:3128"
        [manage]
        lifetime = "1h"
        [manage.metadata]
        site = "north"
        since = 2026-11-23
        levels = [1, 2.5, { x = true }]
        [manage.device_info]
        serialNumber = "SN-1"
        descriptiveLocation = "hall 2"
        [reboot]
        enabled = false
        [factory_reset]
        enabled = false
        unit = "gateway-reset.service"
        [firmware]
        enabled = false
        mark_good = false
        max_size = "512MiB"
        allow_hosts = ["Updates.example.com", "[2001:DB8::1]"]
        allow_http = true
        ca_file = "/nonexistent/updates-ca.pem"
        cert_file = "/nonexistent/updates-cert.pem"
        key_file = "/nonexistent/updates-key.pem"
        proxy = "http://proxy.example.com:3129"
        max_rate = "500KiB"
        reboot = "window"
        window = "23:30-01:00"
        [firmware.trial]
        timeout = "10m"
        units = ["modbus.service", "data@1.mount"]
        require_service = false
        [location]
        source = "fixed"
        gpsd = "[::1]:2948"
        min_interval = "10s"
        max_interval = "7d"
        min_distance = 12.5
        decimals = 3
        [location.fixed]
        latitude = -33.5
        longitude = 151
        [state]
        directory = "/data/iotdm-agent"
        "#,
    );
    let expected = Settings {
        device: Device {
            org: "acme".into(),
            type_id: "edge-gateway".into(),
            id: "gw-0001".into(),
            kind: Kind::Device,
        },
        service: Service {
            url: Url {
                tls: true,
                host: "acme.messaging.iot.example.com".into(),
                port: 443,
            },
            username: "gw-0001".into(),
            ca_file: Some("/nonexistent/ca.pem".into()),
            certificate: Some(ClientCertificate {
                cert_file: "/nonexistent/cert.pem".into(),
                key_file: "/nonexistent/key.pem".into(),
            }),
            token: Some(Token::File("/nonexistent/token".into())),
            keep_alive: Duration::from_secs(300),
            proxy: Some(Proxy {
                host: "proxy.example.com".into(),
                port: 3128,
            }),
        },
        manage: Manage {
            lifetime: 3600,
            metadata: json!({"levels": [1, 2.5, {"x": true}], "since": "2026-11-23", "site": "north"})
                .as_object()
                .cloned(),
            device_info: DeviceInfo {
                serial_number: Some("SN-1".into()),
                descriptive_location: Some("hall 2".into()),
                ..DeviceInfo::default()
            },
        },
        reboot: Reboot { enabled: false },
        factory_reset: FactoryReset {
            enabled: false,
            unit: "gateway-reset.service".into(),
        },
        firmware: Firmware {
            enabled: false,
            mark_good: false,
            max_size: 512 * 1024 * 1024,
            allow_hosts: vec!["updates.example.com".into(), "2001:db8::1".into()],
            allow_http: true,
            ca_file: Some("/nonexistent/updates-ca.pem".into()),
            certificate: Some(ClientCertificate {
                cert_file: "/nonexistent/updates-cert.pem".into(),
                key_file: "/nonexistent/updates-key.pem".into(),
            }),
            proxy: Some(Proxy {
                host: "proxy.example.com".into(),
                port: 3129,
            }),
            max_rate: Some(500 * 1024),
            reboot: FirmwareReboot::Window,
            window: Some(Window { from: 1410, to: 60 }),
            trial: Trial {
                timeout: Duration::from_secs(600),
                units: vec!["modbus.service".into(), "data@1.mount".into()],
                require_service: false,
            },
        },
        location: Location {
            source: LocationSource::Fixed {
                latitude: -33.5,
                longitude: 151.0,
            },
            min_interval: Duration::from_secs(10),
            max_interval: Duration::from_secs(7 * 24 * 3600),
            min_distance: 12.5,
            decimals: 3,
        },
        diagnostics: with("").settings().diagnostics,
        state: State {
            directory: Some("/data/iotdm-agent".into()),
        },
    };
    assert_eq!(etc.settings(), expected);
}

#[test]
fn drop_ins_win_key_by_key_in_the_order_of_their_names() {
    let etc = with("keep_alive = \"10s\"\n[manage.device_info]\nmodel = \"A\"\nmanufacturer = \"B\"")
        .drop_in(
            "20-late.toml",
            "service.keep_alive = \"30s\"\nmanage.metadata = { rack = 1 }",
        )
        .drop_in(
            "10-early.toml",
            "service.keep_alive = \"20s\"\nmanage.device_info.model = \"C\"\nmanage.metadata = { site = 2 }",
        )
        .drop_in("30-not-mine.conf", "nonsense")
        .drop_in(".40-hidden.toml", "nonsense")
        .drop_in("50-backup.toml~", "nonsense");
    let settings = etc.settings();
    assert_eq!(settings.service.keep_alive, Duration::from_secs(30));
    assert_eq!(settings.manage.device_info.model.as_deref(), Some("C"));
    assert_eq!(settings.manage.device_info.manufacturer.as_deref(), Some("B"));
    assert_eq!(settings.manage.metadata, json!({"rack": 1}).as_object().cloned());
    let names: Vec<_> = etc
        .load()
        .unwrap()
        .files
        .iter()
        .map(|f| f.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["config.toml", "10-early.toml", "20-late.toml"]);
}

#[test]
fn a_value_that_a_later_file_replaces_is_not_judged() {
    let etc = with("keep_alive = \"1s\"").drop_in("10.toml", "service.keep_alive = \"10s\"");
    assert_eq!(etc.settings().service.keep_alive, Duration::from_secs(10));
}

#[test]
fn half_an_identity_waits_for_the_other_half() {
    let loaded = Etc::new("[device]\norg = \"acme\"\nid = \"gw\"\n").load().unwrap();
    assert_eq!(
        loaded.settings,
        Configuration::NotConfigured {
            missing: vec!["device.type", "service.url"]
        }
    );
}

#[test]
fn the_state_folder_is_the_configured_one_then_systemds_then_the_default() {
    let configured = State {
        directory: Some("/data/agent".into()),
    };
    let open = State { directory: None };
    let given = Some(Path::new("/var/lib/given"));
    assert_eq!(configured.directory(given), Path::new("/data/agent"));
    assert_eq!(open.directory(given), Path::new("/var/lib/given"));
    assert_eq!(open.directory(None), Path::new(DEFAULT_STATE_DIRECTORY));
}
