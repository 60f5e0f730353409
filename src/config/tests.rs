//! Whole configurations: what is accepted, and the exact words of every refusal.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;

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
    assert_eq!(bare.state.directory(None), full.state.directory(None));
}

#[test]
fn the_examples_are_complete() {
    for entry in std::fs::read_dir(project("config/examples")).unwrap() {
        let path = entry.unwrap().path();
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
    for (key, _) in keys::KEYS {
        let (section, name) = key.rsplit_once('.').unwrap();
        let (_, rest) = text
            .split_once(&format!("## [{section}]\n"))
            .unwrap_or_else(|| panic!("no section {section}"));
        let rest = rest.split("\n## ").next().unwrap();
        assert!(rest.contains(&format!("| `{name}` |")), "{key} is not explained");
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
        "enabled = true\n",
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
config.toml:17:2: firmware: [firmware] is not supported by this version
    remove it until a version that has it is installed";
    assert_eq!(etc.refusal(), expected);
}

#[test]
fn con_07_quickstart_is_refused_with_the_reason() {
    let told = Etc::new("device.org = \"quickstart\"").refusal();
    assert!(told.contains("no device management"), "{told}");
}

#[test]
fn con_08_ids_are_refused_outside_of_their_alphabet_and_length() {
    let longest = "x".repeat(36);
    for good in ["a", "A-Z_0.9", longest.as_str()] {
        assert_eq!(
            with("")
                .drop_in("1.toml", &format!("device.id = {good:?}"))
                .settings()
                .device
                .id,
            good
        );
    }
    let too_long = "x".repeat(37);
    for bad in ["", "a b", "a/b", "a+", "#", "ä", "a:b", too_long.as_str()] {
        for key in ["org", "type", "id"] {
            let told = Etc::new(&format!("device.{key} = {bad:?}")).refusal();
            assert!(told.contains("1 to 36 characters"), "{bad}: {told}");
        }
    }
}

#[test]
fn mng_03_a_lifetime_is_zero_or_at_least_an_hour() {
    for (text, seconds) in [
        ("\"0\"", 0),
        ("0", 0),
        ("\"0s\"", 0),
        ("\"1h\"", 3600),
        ("\"3600s\"", 3600),
        ("\"30d\"", 2_592_000),
    ] {
        assert_eq!(
            with(&format!("[manage]\nlifetime = {text}")).settings().manage.lifetime,
            seconds
        );
    }
    for text in ["\"1s\"", "\"59m\"", "\"3599s\"", "3600", "-1", "\"50000d\""] {
        assert!(with(&format!("[manage]\nlifetime = {text}")).load().is_err(), "{text}");
    }
}

#[test]
fn con_06_the_keep_alive_has_a_range() {
    for (text, good) in [
        ("4s", false),
        ("5s", true),
        ("20m", true),
        ("1201s", false),
        ("0", false),
    ] {
        assert_eq!(with(&format!("keep_alive = {text:?}")).load().is_ok(), good, "{text}");
    }
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
fn metadata_has_a_size_a_depth_and_only_what_json_can_say() {
    let nested = |levels: usize| format!("manage.metadata = {}1{}", "{ a = ".repeat(levels), " }".repeat(levels));
    assert!(Etc::new(&nested(8)).load().is_ok());
    assert!(
        Etc::new(&nested(9))
            .refusal()
            .contains("manage.metadata: is nested too deep\n    at most 8 levels")
    );
    let sized = |bytes: usize| {
        format!(
            "manage.metadata = {{ a = \"{}\" }}",
            "x".repeat(bytes - r#"{"a":""}"#.len())
        )
    };
    assert!(Etc::new(&sized(65_536)).load().is_ok());
    assert!(
        Etc::new(&sized(65_537))
            .refusal()
            .contains("is 65537 bytes long as JSON\n    at most 65536 bytes")
    );
    for unsayable in ["nan", "inf", "99999999999999999999"] {
        assert!(
            Etc::new(&format!("manage.metadata = {{ a = {unsayable} }}"))
                .refusal()
                .contains("write it as a string")
        );
    }
    assert!(
        Etc::new("manage.metadata = 5")
            .refusal()
            .contains("must be a table, not a number")
    );
}

#[test]
fn a_token_that_everybody_can_read_is_refused() {
    let etc = with("");
    let token = etc.file("token", "s3cret", 0o644);
    let etc = etc.drop_in("1.toml", &format!("service.token_file = {token:?}"));
    assert_eq!(
        etc.refusal(),
        "conf.d/1.toml:1:22: service.token_file: every user of this host can read or change token\n    \
         run: chown root:iotdm-agent token && chmod 0640 token"
    );
    for mode in [0o640, 0o600, 0o400, 0o440] {
        etc.file("token", "s3cret", mode);
        let loaded = etc.load().unwrap();
        assert_eq!(loaded.warnings, [], "{mode:o}");
        assert!(!format!("{loaded:?}").contains("s3cret"));
    }
}

#[test]
fn a_private_key_that_everybody_can_read_is_refused_but_a_certificate_may_be_public() {
    let etc = with("");
    let cert = etc.file("cert.pem", "", 0o644);
    let key = etc.file("key.pem", "", 0o644);
    let etc = etc.drop_in(
        "1.toml",
        &format!("service.cert_file = {cert:?}\nservice.key_file = {key:?}"),
    );
    let told = etc.refusal();
    assert!(
        told.starts_with("conf.d/1.toml:2:20: service.key_file: every user") && !told.contains("cert_file"),
        "{told}"
    );
    etc.file("key.pem", "", 0o640);
    assert_eq!(etc.load().unwrap().warnings, []);
}

#[test]
fn a_file_that_is_not_there_yet_is_a_warning_and_a_folder_is_an_error() {
    let etc = with("token_file = \"/nonexistent/token\"\nca_file = \"/nonexistent/ca.pem\"");
    let warnings = etc.load().unwrap().warnings;
    let keys: Vec<_> = warnings
        .iter()
        .map(|w| (w.key.as_deref().unwrap(), w.line.unwrap()))
        .collect();
    assert_eq!(keys, [("service.token_file", 7), ("service.ca_file", 8)]);
    assert!(with("ca_file = \"/etc\"").refusal().contains("/etc is not a file"));
}

#[test]
fn the_systemd_credential_is_used_when_no_token_file_is_set() {
    let etc = with("");
    let credentials = tempfile::tempdir().unwrap();
    let token = |etc: &Etc| match load(&etc.path(), Some(credentials.path())).unwrap() {
        Loaded {
            settings: Configuration::Configured(settings),
            warnings,
            ..
        } => (settings.service.token, warnings.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(token(&etc), (None, 1), "nothing to log in with is a warning");
    // Debian 13 makes credentials 0440 root:root with an ACL, 12 makes them 0400 and the user's own
    let file = credentials.path().join("token");
    std::fs::write(&file, "s3cret").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(token(&etc), (Some(Token::Credential(file)), 0));
    let own = etc.file("token", "s3cret", 0o600);
    let etc = etc.drop_in("1.toml", &format!("service.token_file = {own:?}"));
    assert_eq!(token(&etc), (Some(Token::File(own)), 1), "two sources are a warning");
}

#[test]
fn a_key_needs_its_certificate_and_the_other_way_round() {
    assert!(
        with("cert_file = \"/nonexistent/c\"")
            .refusal()
            .contains("service.cert_file: needs service.key_file")
    );
    assert!(
        with("key_file = \"/nonexistent/k\"")
            .refusal()
            .contains("service.key_file: needs service.cert_file")
    );
}

#[test]
fn a_token_in_the_clear_and_tls_files_without_tls_are_warned_about() {
    let warnings = |host: &str| {
        let more = "[service]\ntoken_file = \"/nonexistent/t\"\nca_file = \"/nonexistent/ca\"\n";
        let text = format!("device = {{ org = \"a\", type = \"b\", id = \"c\" }}\n{more}url = \"mqtt://{host}\"\n");
        let warnings = Etc::new(&text).load().unwrap().warnings;
        warnings
            .iter()
            .filter(|w| !w.message.contains("cannot be read"))
            .map(Problem::to_string)
            .collect::<Vec<_>>()
    };
    let open = warnings("broker.example.com");
    assert!(open.iter().any(|told| told.contains("in the clear")), "{open:?}");
    assert!(
        open.iter().any(|told| told.contains("service.ca_file: has no effect")),
        "{open:?}"
    );
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert!(
            !warnings(host).iter().any(|told| told.contains("in the clear")),
            "{host}"
        );
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for text in [
        "service.token = \"s3cret\"",
        "service.password = \"s3cret\"",
        "service.url = \"mqtts://me:s3cret@broker\"",
        "service.proxy = \"http://me:s3cret@proxy:3128\"",
        "service.token_file = \"s3cret\"",
        "[service]\nurl = s3cret",
    ] {
        let told = Etc::new(text).refusal();
        assert!(!told.contains("s3cret"), "{told}");
    }
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
