//! Whole configurations: what is accepted, and the exact words of every refusal.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;

mod diagnostics;
mod firmware;
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
fn an_error_in_a_drop_in_names_the_drop_in() {
    let etc = with("").drop_in("10-site.toml", "# ours\n\n[service]\n  keepalive = \"10s\"\n");
    assert_eq!(
        etc.refusal(),
        "conf.d/10-site.toml:4:3: service.keepalive: unknown key\n    did you mean keep_alive?"
    );
}

#[test]
fn a_value_that_a_later_file_replaces_is_not_judged() {
    let etc = with("keep_alive = \"1s\"").drop_in("10.toml", "service.keep_alive = \"10s\"");
    assert_eq!(etc.settings().service.keep_alive, Duration::from_secs(10));
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_lines() {
    let etc = Etc::new(concat!(
        "[device]\n",
        "org = \"quickstart\"\n",
        "type = \"edge gateway\"\n",
        "id = 7\n",
        "kind = \"router\"\n",
        "[service]\n",
        "url = \"https://broker\"\n",
        "keep_alive = 60\n",
        "cert_file = \"cert.pem\"\n",
        "[manage]\n",
        "lifetime = \"30m\"\n",
        "[manage.device_info]\n",
        "serial_number = \"1\"\n",
        "model = \"\"\n",
        "[reboot]\n",
        "enabled = \"yes\"\n",
        "[firmware]\n",
        "max_size = 2048\n",
        "allow_hosts = \"updates.example.com\"\n",
        "reboot = \"window\"\n",
        "[firmware.trial]\n",
        "timeout = \"1m\"\n",
        "units = [\n",
        "  \"modbus\",\n",
        "  \"web@.service\",\n",
        "]\n",
        "[location]\n",
        "source = \"fixed\"\n",
        "gpsd = \"localhost\"\n",
        "min_interval = \"1s\"\n",
        "max_interval = \"5s\"\n",
        "min_distance = \"far\"\n",
        "decimals = 2.5\n",
        "[location.fixed]\n",
        "latitude = 91\n",
        "longitude = inf\n",
    ));
    let expected = "\
config.toml:2:7: device.org: \"quickstart\" has no device management: use the organisation that the device is registered in
config.toml:3:8: device.type: must be 1 to 36 characters out of letters, digits, _ . - (no umlauts, no spaces)
config.toml:4:6: device.id: must be a string, not a number
    put it in double quotes
config.toml:5:8: device.kind: must be \"gateway\" or \"device\", as the device is registered
config.toml:7:7: service.url: write mqtts://HOST:PORT (TLS) or mqtt://HOST:PORT (in the clear)
config.toml:8:14: service.keep_alive: must be a duration, not a number
    write a number and a unit, such as \"60s\", \"30m\", \"24h\", \"7d\"
config.toml:9:13: service.cert_file: must be an absolute path, beginning with /
config.toml:9:13: service.cert_file: needs service.key_file as well
    a certificate is no use without its key
config.toml:11:12: manage.lifetime: 30m is too short: the service takes 0 (never dormant) or at least 1h
config.toml:13:1: manage.device_info.serial_number: unknown key
    did you mean serialNumber?
config.toml:14:9: manage.device_info.model: must not be empty: remove the line
config.toml:16:11: reboot.enabled: must be true or false, not a string
    write it without quotes
config.toml:18:12: firmware.max_size: must be a size, not a number
    write a number and a unit, such as \"500KiB\", \"64MiB\", \"2GiB\"
config.toml:19:15: firmware.allow_hosts: must be a list, not a string
    write [\"one\", \"two\"], or [] for none
config.toml:20:10: firmware.reboot: needs firmware.window as well
    add a line such as window = \"02:00-04:00\"
config.toml:22:11: firmware.trial.timeout: 1m is out of range: 2m to 24h
config.toml:24:3: firmware.trial.units: \"modbus\" is no unit: write its whole name, such as \"modbus.service\"
config.toml:25:3: firmware.trial.units: \"web@.service\" is a template: name one of its instances
config.toml:28:10: location.source: needs to know where
    add [location.fixed] with latitude and longitude, in decimal degrees
config.toml:29:8: location.gpsd: the port is missing: write HOST:PORT
config.toml:30:16: location.min_interval: 1s is out of range: 10s to 1d
config.toml:31:16: location.max_interval: 5s is out of range: 1m to 30d
config.toml:32:16: location.min_distance: must be a number, not a string
    write it without quotes, with a point and no comma
config.toml:33:12: location.decimals: must be a whole number
    5 is about a metre
config.toml:35:12: location.fixed.latitude: 91 is out of range: -90 to 90 degrees
    see docs/configuration.md
config.toml:36:13: location.fixed.longitude: inf is no number to work with
    write it in digits, such as 48.137";
    assert_eq!(etc.refusal(), expected);
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
fn a_wrong_value_is_refused_even_before_there_is_an_identity() {
    assert!(Etc::new("[manage]\nlifetime = \"1m\"").load().is_err());
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    assert_eq!(
        Etc::new("[device]\norg = acme\n").refusal(),
        "config.toml:2:7: is not valid TOML: string values must be quoted, expected literal string\n    \
         a string stands in double quotes, a section in [brackets] on a line of its own"
    );
    assert!(
        Etc::new("[device]\nid = \"a\"\nid = \"b\"\n")
            .refusal()
            .starts_with("config.toml:3:1: is not valid TOML: dup")
    );
    assert!(
        Etc::new("[device\n")
            .refusal()
            .starts_with("config.toml:1:8: is not valid TOML")
    );
    let etc = Etc::new("");
    std::fs::write(etc.path(), b"# gr\xc3\xbc\xc3\x9fe\n# gr\xfc\xdfe\n").unwrap();
    assert_eq!(etc.refusal(), "config.toml:2:5: is not UTF-8 text");
}

#[test]
fn a_section_that_is_no_table_and_a_table_that_is_no_section_say_so() {
    assert_eq!(
        Etc::new("device = \"gw\"\n[[service]]\nurl = 1\n").refusal(),
        "config.toml:1:10: device: is a section, not a string\n    \
         write [device] on a line of its own and its keys below it\n\
         config.toml:2:1: service: is a section, not a list\n    \
         write [service] on a line of its own and its keys below it"
    );
}

#[test]
fn a_missing_file_is_named() {
    let told = load(Path::new("/nonexistent/config.toml"), None)
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "/nonexistent/config.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn columns_count_characters_not_bytes() {
    let told = Etc::new("manage = { metadata = { \"größe\" = 1 }, lifetime = true }").refusal();
    assert!(
        told.starts_with("config.toml:1:51: manage.lifetime: must be a duration, not true or false"),
        "{told}"
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
