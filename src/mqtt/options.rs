//! What a session needs to know: where the broker is, who we are, what we subscribe to, and how patient we are.
//!
//! Nothing here is read from disk; files are named and read anew at every connection (`credentials`).

use super::backoff::Backoff;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Everything one session needs. Replaced as a whole by [`Session::reload`](super::Session::reload).
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the broker is and how to reach it.
    pub broker: Broker,
    /// The stable client id. Never empty: the session is persistent.
    pub client_id: String,
    /// The user name of CONNECT.
    pub username: Option<String>,
    /// Where the password of CONNECT comes from.
    pub token: TokenSource,
    /// Keep-alive of CONNECT, in whole seconds, at least 2 s and at most 65,535 s (clamped). A peer that says nothing
    /// for one and a half of it is given up.
    pub keep_alive: Duration,
    /// Subscribed in this order after every CONNACK, at QoS 1.
    pub subscriptions: Vec<Subscription>,
    /// A session that lived this long resets the backoff.
    pub stable_after: Duration,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// The limits of the steps of connecting and leaving.
    pub limits: Limits,
    /// At most this many publishes a second (`None`: no limit). The platform allows a device 5 to 10.
    pub publishes_per_second: Option<u32>,
    /// Whether the wall clock can be right. When it cannot, a certificate that is "not yet valid" or "expired" is
    /// reported as a clock that is not set.
    pub wall_clock_plausible: fn() -> bool,
}

impl Options {
    /// Options with the defaults for a device: keep-alive 60 s, stable after 60 s, the default backoff and limits, no
    /// credentials, no subscriptions, no rate limit.
    pub fn new(broker: Broker, client_id: impl Into<String>) -> Self {
        Self {
            broker,
            client_id: client_id.into(),
            username: None,
            token: TokenSource::None,
            keep_alive: Duration::from_secs(60),
            subscriptions: Vec::new(),
            stable_after: Duration::from_secs(60),
            backoff: Backoff::default(),
            limits: Limits::default(),
            publishes_per_second: None,
            wall_clock_plausible: || true,
        }
    }

    /// Keep-alive as it goes over the wire, in seconds.
    pub(super) fn keep_alive_secs(&self) -> u16 {
        u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX).max(2)
    }
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Host name or IP address (IPv6 without brackets). With TLS it is also the name that the certificate must carry,
    /// and the SNI.
    pub host: String,
    /// Any port.
    pub port: u16,
    /// `None`: plain TCP (`mqtt://`). `Some`: TLS (`mqtts://`).
    pub tls: Option<TlsFiles>,
    /// An HTTP proxy to tunnel through with CONNECT.
    pub proxy: Option<Proxy>,
}

/// The PEM files of a TLS connection; read anew at every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Trust only the authorities in this file. `None`: those of the system's store.
    pub ca_file: Option<PathBuf>,
    /// The client certificate chain, with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The private key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// Where the token (the password of CONNECT) comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// No password.
    None,
    /// The content of a file, without one trailing newline. Refused when others may read it.
    File(PathBuf),
}

/// One subscription, at QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter.
    pub filter: String,
    /// When the broker refuses a required one, the session is useless and ends; an optional one is only reported.
    pub required: bool,
}

/// An HTTP proxy that understands CONNECT. Its `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or IP address of the proxy.
    pub host: String,
    /// Port of the proxy.
    pub port: u16,
    /// User name and password for basic authentication.
    pub login: Option<(String, String)>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self}, login: {})", self.login.is_some())
    }
}

/// What is wrong with the address of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProxy {
    /// Only `http://` proxies are spoken to.
    #[error("a proxy is given as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")]
    Scheme,
    /// No host between scheme and port.
    #[error("the proxy has no host name")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the proxy's port is not a number from 1 to 65535")]
    Port,
    /// A `%` not followed by two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the proxy's user name or password is badly percent-encoded")]
    Login,
}

impl FromStr for Proxy {
    type Err = BadProxy;

    /// Reads `http://[USER[:PASSWORD]@]HOST[:PORT][/]`; the port defaults to 80.
    fn from_str(url: &str) -> Result<Self, BadProxy> {
        let rest = url.strip_prefix("http://").ok_or(BadProxy::Scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let login = match login {
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                Some((percent_decoded(user)?, percent_decoded(password)?))
            }
            None => None,
        };
        let (host, port) = if let Some(v6) = address.strip_prefix('[') {
            let (host, port) = v6.split_once(']').ok_or(BadProxy::Host)?;
            let port = if port.is_empty() {
                None
            } else {
                Some(port.strip_prefix(':').ok_or(BadProxy::Port)?)
            };
            (host, port)
        } else {
            match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(BadProxy::Host);
        }
        let port = match port {
            None => 80,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadProxy::Port)?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            login,
        })
    }
}

fn percent_decoded(text: &str) -> Result<String, BadProxy> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || {
                bytes
                    .next()
                    .and_then(|digit| char::from(digit).to_digit(16))
                    .ok_or(BadProxy::Login)
            };
            let value = digit()? * 16 + digit()?;
            decoded.push(u8::try_from(value).map_err(|_| BadProxy::Login)?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map_err(|_| BadProxy::Login)
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// How long each step may take. The defaults are for slow mobile links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Resolving the host name.
    pub resolve: Duration,
    /// TCP to one address; the next address is tried after it.
    pub per_address: Duration,
    /// The proxy's answer to CONNECT, and the TLS handshake, each.
    pub handshake: Duration,
    /// CONNACK after CONNECT.
    pub connack: Duration,
    /// How often [`Event::Progress`](super::Event::Progress) comes.
    pub progress: Duration,
    /// How long [`Session::stop`](super::Session::stop) waits for outstanding acknowledgements.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(15),
            per_address: Duration::from_secs(10),
            handshake: Duration::from_secs(30),
            connack: Duration::from_secs(30),
            progress: Duration::from_secs(10),
            stop: Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_address_is_read_with_and_without_login() {
        let proxy: Proxy = "http://proxy.example.com:3128".parse().unwrap();
        assert_eq!(
            proxy,
            Proxy {
                host: "proxy.example.com".into(),
                port: 3128,
                login: None
            }
        );
        let proxy: Proxy = "http://me:s%40cret%2F@10.0.0.1:8080/".parse().unwrap();
        assert_eq!(proxy.login, Some(("me".into(), "s@cret/".into())));
        let proxy: Proxy = "http://[::1]:3128".parse().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 3128));
        assert_eq!("http://proxy".parse::<Proxy>().unwrap().port, 80);
    }

    #[test]
    fn a_bad_proxy_address_says_what_is_wrong() {
        for (url, wrong) in [
            ("https://proxy:1", BadProxy::Scheme),
            ("proxy:3128", BadProxy::Scheme),
            ("http://:3128", BadProxy::Host),
            ("http://proxy/path", BadProxy::Host),
            ("http://proxy:0", BadProxy::Port),
            ("http://proxy:99999", BadProxy::Port),
            ("http://[::1]3128", BadProxy::Port),
            ("http://a%2:b@proxy:1", BadProxy::Login),
        ] {
            assert_eq!(url.parse::<Proxy>(), Err(wrong), "{url}");
        }
    }

    #[test]
    fn a_proxy_never_shows_its_password() {
        let proxy: Proxy = "http://me:secret@proxy:3128".parse().unwrap();
        assert!(!format!("{proxy:?} {proxy}").contains("secret"));
    }

    #[test]
    fn keep_alive_is_clamped_to_what_the_wire_carries() {
        let broker = Broker {
            host: "h".into(),
            port: 1,
            tls: None,
            proxy: None,
        };
        let mut options = Options::new(broker, "d:a:b:c");
        for (given, wire) in [(0, 2), (1, 2), (60, 60), (65_535, 65_535), (70_000, 65_535)] {
            options.keep_alive = Duration::from_secs(given);
            assert_eq!(options.keep_alive_secs(), wire);
        }
    }
}
