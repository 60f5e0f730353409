//! Where devices fetch the bundle, and the parameters of a download that tell them.

use serde_json::{Value, json};

use super::Push;
use crate::protocol::firmware::Firmware;
use crate::service::bundle::{Bundle, BundleError, Offer, Server, Tls};
use crate::service::cli::output;

/// The bundle as devices are told of it.
#[derive(Debug)]
pub(super) struct Source {
    /// Everything but the place.
    parameters: Vec<Value>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The same for all.
    Uri(String),
    /// This process serves it.
    Served {
        /// `https://host:port`
        base: String,
        server: Server,
    },
}

impl Source {
    /// Opens the bundle and serves it, when it is a file.
    pub(super) async fn open(push: &Push) -> Result<Self, BundleError> {
        let mut parameters = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            parameters.extend(value.map(|value| json!({"name": name, "value": value})));
        };
        add("version", push.version.clone());
        let place = match (&push.file, &push.uri) {
            (Some(path), _) => {
                let bundle = Bundle::open(path)?;
                add("name", Some(push.name.clone().unwrap_or_else(|| bundle.name.clone())));
                add("verifier", Some(format!("sha256:{}", bundle.sha256)));
                let tls = push.cert.clone().zip(push.key.clone());
                let tls = tls.map(|(cert_file, key_file)| Tls { cert_file, key_file });
                let server = Server::start(bundle, push.devices.len(), push.listen, tls.as_ref()).await?;
                if tls.is_none() {
                    output::error(&format!(
                        "WARNING: {} serves the bundle WITHOUT TLS: anybody on the way can read it and put another in \
                         its place; this is for a lab only, and agents refuse it unless their allow_http is set",
                        server.address
                    ));
                }
                let host = push.public_host.as_deref().unwrap_or_default();
                let scheme = if tls.is_none() { "http" } else { "https" };
                let base = format!("{scheme}://{}", authority(host, server.address.port()));
                Place::Served { base, server }
            }
            (None, uri) => {
                add("name", push.name.clone());
                add("verifier", push.verifier.clone());
                Place::Uri(uri.clone().unwrap_or_default())
            }
        };
        Ok(Source { parameters, place })
    }

    /// The parameters for the device at this place of the command line.
    pub(super) fn parameters(&self, index: usize) -> Vec<Value> {
        let uri = match &self.place {
            Place::Uri(uri) => uri.clone(),
            Place::Served { base, server } => {
                let path = server.offers().get(index).map_or("/", |offer| offer.path.as_str());
                format!("{base}{path}")
            }
        };
        let mut parameters = vec![json!({"name": "uri", "value": uri})];
        parameters.extend(self.parameters.clone());
        parameters
    }

    /// Whether this is what a device was told of: the same digest, whatever the address. Without a digest all must be the
    /// same; a device does not fetch that again.
    pub(super) fn is(&self, index: usize, known: &Firmware) -> bool {
        let parameters = self.parameters(index);
        let told = |name: &str| {
            let parameter = parameters.iter().find(|parameter| parameter["name"] == name);
            let value = parameter.and_then(|parameter| parameter["value"].as_str());
            value.unwrap_or_default()
        };
        match digest(told("verifier")) {
            Some(digest_told) => digest(known.verifier.as_deref().unwrap_or_default()) == Some(digest_told),
            None => [
                ("uri", &known.uri),
                ("name", &known.name),
                ("version", &known.version),
                ("verifier", &known.verifier),
            ]
            .into_iter()
            .all(|(name, known)| told(name) == known.as_deref().unwrap_or_default()),
        }
    }

    /// What that device fetches from this process.
    pub(super) fn offer(&self, index: usize) -> Option<&Offer> {
        match &self.place {
            Place::Uri(_) => None,
            Place::Served { server, .. } => server.offers().get(index),
        }
    }

    /// What is served, in words.
    pub(super) fn in_words(&self) -> String {
        match &self.place {
            Place::Uri(uri) => uri.clone(),
            Place::Served { base, server } => {
                let bundle = server.bundle();
                format!(
                    "{} ({} bytes, sha256:{}), served at {base} by this process",
                    bundle.name, bundle.size, bundle.sha256
                )
            }
        }
    }
}

/// A verifier's SHA-2 digest, in lower-case digits. Weaker ones do not tell one image from another.
fn digest(verifier: &str) -> Option<String> {
    let digits = verifier.trim().rsplit(':').next().unwrap_or_default();
    let is_one = matches!(digits.len(), 64 | 96 | 128) && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_one.then(|| digits.to_ascii_lowercase())
}

/// The host with the port, unless it has one of its own.
fn authority(host: &str, port: u16) -> String {
    let has_port = match host.rsplit_once(':') {
        // The colons of a bare IPv6 address are no port.
        Some((name, port)) => (!name.contains(':') || name.ends_with(']')) && port.parse::<u16>().is_ok(),
        None => false,
    };
    match has_port {
        true => host.to_owned(),
        false if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_digest_or_by_all_that_is_said_of_it() {
        let source = |verifier: Option<&str>| {
            let mut parameters = vec![json!({"name": "version", "value": "2"})];
            parameters.extend(verifier.map(|verifier| json!({"name": "verifier", "value": verifier})));
            Source {
                parameters,
                place: Place::Uri("https://fw/new".into()),
            }
        };
        let known = |uri: &str, version: &str, verifier: &str| Firmware {
            uri: Some(uri.into()),
            version: Some(version.into()),
            name: Some(String::new()),
            verifier: Some(verifier.into()),
            ..Firmware::default()
        };
        let (one, other) = ("0a".repeat(32), "0b".repeat(32));
        let by_digest = source(Some(&format!("sha256:{one}")));
        assert!(by_digest.is(0, &known("https://fw/old", "1", &one.to_uppercase())));
        assert!(!by_digest.is(0, &known("https://fw/new", "2", &other)));
        assert!(!by_digest.is(0, &known("https://fw/new", "2", "")));
        for verifier in [None, Some("md5:0a0a")] {
            let by_all = source(verifier);
            let verifier = verifier.unwrap_or_default();
            assert!(by_all.is(0, &known("https://fw/new", "2", verifier)));
            assert!(!by_all.is(0, &known("https://fw/new", "1", verifier)));
            assert!(!by_all.is(0, &known("https://fw/old", "2", verifier)));
            assert!(!by_all.is(0, &known("https://fw/new", "2", &one)));
        }
    }

    #[test]
    fn a_host_gets_the_port_unless_it_has_one() {
        for (host, expected) in [
            ("fw.example.com", "fw.example.com:8443"),
            ("fw.example.com:443", "fw.example.com:443"),
            ("192.0.2.1", "192.0.2.1:8443"),
            ("::1", "[::1]:8443"),
            ("[::1]", "[::1]:8443"),
            ("[::1]:443", "[::1]:443"),
        ] {
            assert_eq!(authority(host, 8443), expected);
        }
    }
}
