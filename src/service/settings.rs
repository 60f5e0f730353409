//! The settings of `iotdm serve`: one TOML file, read once at start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::span;
use crate::mqtt::{Broker, Options, Subscription, TlsFiles, TokenSource};
use crate::protocol::names::check_name;
use crate::protocol::topic;

/// Validated settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The organisation.
    pub org: String,
    /// The session to the broker.
    pub mqtt: Options,
    /// The broker's address as it was written, for people.
    pub broker_url: String,
    /// Where the REST face listens.
    pub listen: SocketAddr,
    /// The key of the REST face.
    pub key_file: PathBuf,
    /// The state folder.
    pub state: PathBuf,
}

/// Why the settings are refused, in words for whoever wrote them.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", file.display())]
pub struct SettingsError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong and what would be right; several lines when the place in the file is shown.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    service: ServiceTable,
    broker: BrokerTable,
    #[serde(default)]
    api: ApiTable,
    #[serde(default)]
    state: StateTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    org: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokerTable {
    url: String,
    username: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    keep_alive: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ApiTable {
    listen: Option<SocketAddr>,
    key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct StateTable {
    directory: Option<PathBuf>,
}

/// Where the state is unless the settings say otherwise.
pub const STATE: &str = "/var/lib/iotdm";
/// The key's file in the state folder.
pub const KEY_FILE: &str = "api-key";
/// Where the REST face listens unless the settings say otherwise.
pub const LISTEN: &str = "127.0.0.1:8480";

impl Settings {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, has unknown keys, or a value is wrong.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let refused = |message: String| SettingsError {
            file: file.to_owned(),
            message,
        };
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text).map_err(refused)
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Says which key is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let org = document.service.org;
        check_name(&org).map_err(|error| format!("service.org: {error}"))?;
        let table = document.broker;
        let tls_files = [&table.ca_file, &table.cert_file, &table.key_file];
        let (tls, host, port) = address(&table.url)?;
        if !tls && tls_files.iter().any(|file| file.is_some()) {
            return Err("broker.url: is mqtt://, but certificates need mqtts://".into());
        }
        if table.cert_file.is_some() != table.key_file.is_some() {
            return Err("broker: cert_file and key_file belong together; one of them is missing".into());
        }
        if table.token_file.is_some() && table.username.is_none() {
            return Err("broker.username: is missing, but there is a token_file".into());
        }
        let broker = Broker {
            host,
            port,
            tls: tls.then_some(TlsFiles {
                ca_file: table.ca_file,
                cert_file: table.cert_file,
                key_file: table.key_file,
            }),
            proxy: None,
        };
        let mut mqtt = Options::new(broker, format!("a:{org}:iotdm"));
        mqtt.username = table.username;
        mqtt.token = table.token_file.map_or(TokenSource::None, TokenSource::File);
        mqtt.keep_alive = match table.keep_alive {
            None => Duration::from_secs(60),
            Some(text) => span::parse(&text)
                .ok()
                .filter(|span| (5..=3600).contains(&span.as_secs()))
                .ok_or_else(|| format!("broker.keep_alive: {text:?} is not between 5s and 1h"))?,
        };
        mqtt.subscriptions = vec![Subscription {
            filter: topic::service_filter(),
            required: true,
        }];
        let state = document.state.directory.unwrap_or_else(|| STATE.into());
        let listen = match document.api.listen {
            Some(listen) => listen,
            None => LISTEN.parse().map_err(|error| format!("api.listen: {error}"))?,
        };
        Ok(Settings {
            org,
            mqtt,
            broker_url: table.url,
            listen,
            key_file: document.api.key_file.unwrap_or_else(|| state.join(KEY_FILE)),
            state,
        })
    }
}

impl Settings {
    /// What is allowed and hardly meant.
    pub fn warning(&self) -> Option<String> {
        let listen = self.listen;
        // An IPv4 address may be written as IPv6.
        (!listen.ip().to_canonical().is_loopback()).then(|| {
            format!(
                "api.listen = \"{listen}\" is not a loopback address, and the REST face has no TLS: its key, which reboots, \
                 resets and updates every device, crosses the network in the clear; listen on {LISTEN} behind a TLS proxy"
            )
        })
    }
}

/// TLS, host and port of `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
fn address(url: &str) -> Result<(bool, String, u16), String> {
    let wrong = || format!("broker.url: {url:?} is not mqtt://HOST:PORT or mqtts://HOST:PORT");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (tls, default_port) = match scheme {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or_else(wrong)?,
        None => rest.find(':').map_or((rest, ""), |at| rest.split_at(at)),
    };
    let port = match port {
        "" => default_port,
        port => port
            .strip_prefix(':')
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?,
    };
    if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong());
    }
    Ok((tls, host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SMALL: &str = "[service]\norg = \"acme\"\n[broker]\nurl = \"mqtt://localhost\"\n";

    #[test]
    fn little_is_enough() {
        let settings = Settings::parse(SMALL).unwrap();
        assert_eq!(settings.mqtt.client_id, "a:acme:iotdm");
        assert_eq!(
            (settings.mqtt.broker.host.as_str(), settings.mqtt.broker.port),
            ("localhost", 1883)
        );
        assert_eq!(settings.listen.to_string(), LISTEN);
        assert_eq!(settings.key_file, Path::new("/var/lib/iotdm/api-key"));
        assert_eq!(settings.mqtt.subscriptions[0].filter, "iotdevice-1/type/+/id/+/#");
    }

    #[test]
    fn the_example_is_complete_and_what_it_leaves_out_is_as_it_says() {
        let text = include_str!("../../config/examples/serve.toml");
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.mqtt.username.as_deref(), Some("iotdm"));
        // a section or a key that is commented out begins without a blank
        let line = |line: &str| match line.strip_prefix('#') {
            Some(left_out) if !left_out.starts_with(' ') => left_out.to_owned(),
            _ => line.to_owned(),
        };
        let full: Vec<_> = text.lines().map(line).collect();
        let full = Settings::parse(&full.join("\n")).unwrap();
        assert_eq!(
            (full.listen, full.key_file, full.state),
            (settings.listen, settings.key_file, settings.state)
        );
    }

    #[test]
    fn everything_can_be_said() {
        let settings = Settings::parse(
            r#"
            [service]
            org = "acme"
            [broker]
            url = "mqtts://[::1]:8884"
            username = "iotdm"
            token_file = "/t"
            ca_file = "/ca"
            cert_file = "/c"
            key_file = "/k"
            keep_alive = "30s"
            [api]
            listen = "127.0.0.1:1"
            key_file = "/a"
            [state]
            directory = "/s"
            "#,
        )
        .unwrap();
        assert_eq!(
            (settings.mqtt.broker.host.as_str(), settings.mqtt.broker.port),
            ("::1", 8884)
        );
        assert_eq!(settings.mqtt.token, TokenSource::File("/t".into()));
        assert_eq!(settings.mqtt.keep_alive, Duration::from_secs(30));
        assert_eq!(settings.state, Path::new("/s"));
    }

    #[test]
    fn a_rest_face_that_a_network_reaches_is_warned_of() {
        let warning = |listen: &str| {
            let text = format!("{SMALL}[api]\nlisten = \"{listen}\"\n");
            Settings::parse(&text).unwrap().warning()
        };
        assert_eq!(Settings::parse(SMALL).unwrap().warning(), None);
        for listen in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(warning(listen), None, "{listen}");
        }
        for listen in ["0.0.0.0:8480", "[::]:8480", "192.0.2.1:8480", "[::ffff:192.0.2.1]:8480"] {
            let warning = warning(listen).unwrap();
            assert!(
                warning.contains(listen) && warning.contains("in the clear"),
                "{warning}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let broker = |lines: &str| format!("[service]\norg = \"acme\"\n[broker]\n{lines}\n");
        for (text, named) in [
            (SMALL.replace("acme", "a/b"), "service.org"),
            (SMALL.replace("org", "orgg"), "orgg"),
            (SMALL.replace("localhost", ""), "broker.url"),
            (SMALL.replace("mqtt:", "http:"), "broker.url"),
            (SMALL.replace("localhost", "localhost:0"), "broker.url"),
            (SMALL.replace("localhost", "me@host"), "broker.url"),
            (broker("url = \"mqtt://h\"\nca_file = \"/ca\""), "mqtts://"),
            (broker("url = \"mqtts://h\"\ncert_file = \"/c\""), "key_file"),
            (broker("url = \"mqtt://h\"\ntoken_file = \"/t\""), "broker.username"),
            (broker("url = \"mqtt://h\"\nkeep_alive = \"1s\""), "broker.keep_alive"),
            (format!("{SMALL}[api]\nlisten = \"8480\""), "listen"),
            ("[service]\norg = \"acme\"\n".into(), "broker"),
        ] {
            let error = Settings::parse(&text).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
