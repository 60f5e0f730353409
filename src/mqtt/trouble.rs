//! Why a session could not be made, or ended: one line that says what is wrong and what to do about it.
//!
//! The lines are for a technician on the phone. No secret is ever in them. What the platform's return codes mean comes
//! from the protocol notes (MQTT 3.1.1 section 3.2.2.3; unknown device or wrong token is CONNACK 5, a wrong client id
//! is CONNACK 2, and a wrong SNI or organisation closes the connection without any CONNACK).

use super::backoff::Pace;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no session. `Display` is the one line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The owner asked for new options; not a fault.
    #[error("reconnecting with the new settings")]
    Reload,

    // Files.
    /// The token file cannot be read, is empty or is no text.
    #[error("the token file {} cannot be used: {problem}; put the token there, readable for this service", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// Others may read the token file.
    #[error("the token file {} may be read by everybody (mode {mode:04o}); run: chmod o-rwx {}", path.display(), path.display())]
    TokenExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A CA, certificate or key file cannot be used.
    #[error("the {what} {} cannot be used: {problem}; put a PEM file there, readable for this service", path.display())]
    TlsFile {
        /// "CA file", "certificate file" or "key file".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no certificate authorities.
    #[error("this system trusts no certificate authority; install the package ca-certificates or set ca_file")]
    NoAuthorities,

    // The network.
    /// Name resolution failed.
    #[error("the name {host} does not resolve ({problem}); check the name and this host's DNS")]
    NameNotResolved {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        problem: String,
    },
    /// There is a host, but nothing listens.
    #[error("{address} refuses connections; check the port, and that the broker runs")]
    Refused {
        /// Host and port.
        address: String,
    },
    /// No answer to TCP at any address of the host.
    #[error("no answer from {address}; check the network, and that no firewall blocks the port")]
    NoAnswer {
        /// Host and port.
        address: String,
    },
    /// The system cannot reach the address, or the connection broke while it was made.
    #[error("{address} cannot be reached: {problem}; check the network and the route")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        problem: String,
    },
    /// The proxy cannot be reached or said no.
    #[error(
        "the proxy {proxy} does not connect to {address}: {problem}; check its address, that it runs, and that it allows CONNECT to that port"
    )]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// Host and port of the broker.
        address: String,
        /// What it answered, or why it could not be reached.
        problem: String,
    },
    /// The proxy wants a login: HTTP 407.
    #[error("the proxy {proxy} demands a user name and a password{}", if *sent { " other than these; check both" } else { ", and none are sent; let it pass this host without them, or use another proxy" })]
    ProxyLogin {
        /// Host and port of the proxy.
        proxy: String,
        /// Whether it was given a login.
        sent: bool,
    },

    // TLS.
    /// The broker's certificate is from an authority that is not trusted.
    #[error("the certificate of {host} is from an unknown authority; {}", if *own_ca { "check that ca_file holds the authority of this broker" } else { "set ca_file to the authority of this broker" })]
    UnknownAuthority {
        /// The broker.
        host: String,
        /// Whether only an own CA file is trusted.
        own_ca: bool,
    },
    /// The broker's certificate has expired.
    #[error("the certificate of {host} has expired; renew it at the broker")]
    CertificateExpired {
        /// The broker.
        host: String,
    },
    /// The broker's certificate begins in the future although this clock can be right.
    #[error("the certificate of {host} is not valid yet; check the broker's certificate and both clocks")]
    CertificateNotYetValid {
        /// The broker.
        host: String,
    },
    /// The certificate's dates do not fit, and the wall clock cannot be right.
    #[error("this host's clock is not set, so the certificate of {host} cannot be checked; set the clock (NTP, RTC)")]
    ClockNotSet {
        /// The broker.
        host: String,
    },
    /// The certificate is for another name.
    #[error("the certificate of the broker is not for the name {host}; use the name in the certificate as host")]
    WrongHostName {
        /// The name asked for.
        host: String,
    },
    /// Anything else against the broker's certificate.
    #[error("the certificate of {host} is not accepted: {problem}; check the broker's certificate, or give it another")]
    CertificateInvalid {
        /// The broker.
        host: String,
        /// What rustls said.
        problem: String,
    },
    /// The broker wants a client certificate and got none.
    #[error("{host} demands a client certificate; set cert_file and key_file")]
    ClientCertificateRequired {
        /// The broker.
        host: String,
    },
    /// The broker does not accept the client certificate.
    #[error(
        "{host} refuses this client certificate ({problem}); check that its authority is registered there and that it has not expired"
    )]
    ClientCertificateRefused {
        /// The broker.
        host: String,
        /// The TLS alert.
        problem: String,
    },
    /// The peer does not speak TLS.
    #[error("{address} does not speak TLS; use mqtt:// or another port")]
    NotTls {
        /// Host and port.
        address: String,
    },
    /// Any other failure of the handshake.
    #[error("TLS with {host} failed: {problem}; check that the port is one for TLS, and look into the broker's log")]
    Tls {
        /// The broker.
        host: String,
        /// What rustls or the system said.
        problem: String,
    },

    // CONNACK.
    /// CONNACK 1.
    #[error("the broker does not speak MQTT 3.1.1; allow that version there, or use another broker")]
    ProtocolVersionRefused,
    /// CONNACK 2.
    #[error("the broker refuses the client id {client_id}; check organisation, type and id")]
    ClientIdRefused {
        /// The client id.
        client_id: String,
    },
    /// CONNACK 3.
    #[error("the broker says that it is not available; wait, and if that does not help look into the broker's log")]
    BrokerUnavailable,
    /// CONNACK 4.
    #[error("the broker refuses user name or token; check both, then reload")]
    CredentialsRefused,
    /// CONNACK 5.
    #[error(
        "the broker does not authorise {client_id} {}; check that it is registered there, that username is its name there (on a plain broker its own), and that the token is its own, then reload",
        as_user(username.as_deref())
    )]
    NotAuthorised {
        /// The client id.
        client_id: String,
        /// The user name that was sent.
        username: Option<String>,
    },
    /// The connection stood, CONNECT went out, and the broker hung up.
    #[error("{address} closed the connection without an answer; check that the host name begins with the right organisation and that the port is the right one for {}", if *tls { "TLS" } else { "plain MQTT" })]
    ClosedWithoutConnack {
        /// Host and port.
        address: String,
        /// Whether TLS is used.
        tls: bool,
    },
    /// The connection stands, but CONNECT is not answered.
    #[error("{address} does not answer CONNECT within {} s; check that it is an MQTT broker, and that it is not overloaded", after.as_secs())]
    NoConnack {
        /// Host and port.
        address: String,
        /// How long was waited.
        after: Duration,
    },

    // A session that ended.
    /// SUBACK 0x80 for a subscription without which the session is useless.
    #[error("the broker refuses the subscription {filter}; allow this client to read it (ACL)")]
    SubscriptionRefused {
        /// The filter.
        filter: String,
    },
    /// The broker hung up while a SUBSCRIBE was unanswered.
    #[error(
        "the broker closed the connection right after subscribing to {filter}; check that its access rules (ACL) allow this client to read that topic"
    )]
    ClosedAfterSubscribe {
        /// The filter.
        filter: String,
    },
    /// The broker hung up while a fresh publish was unanswered.
    #[error(
        "the broker closed the connection right after a message to {topic}; check that its access rules (ACL) allow this client to write that topic"
    )]
    ClosedAfterPublish {
        /// The topic.
        topic: String,
    },
    /// Nothing was heard for one and a half keep-alives.
    #[error("nothing heard from the broker for {} s; check the network, and if this comes again lower keep_alive", after.as_secs())]
    PeerSilent {
        /// How long it was silent.
        after: Duration,
    },
    /// The system gave up an established session: the network is away, not the broker.
    #[error("the network to the broker broke off ({problem}); check this host's network: link, address, route, signal")]
    NetworkLost {
        /// What the system said.
        problem: String,
    },
    /// The peer closed an established session, without a word.
    #[error("the broker closed the connection ({problem}); if this comes again look into the broker's log")]
    Closed {
        /// By whom, as far as known.
        problem: String,
    },
    /// One session after another was ended by the peer shortly after it stood.
    #[error(
        "the broker ended {times} sessions shortly after they began; probably another client uses the client id {client_id}; find it with the broker's log, and give one of both an id of its own"
    )]
    DuplicateClientId {
        /// The client id.
        client_id: String,
        /// How many in a row.
        times: u32,
    },
    /// A packet over the limit came in.
    #[error("the broker sent a packet of {bytes} bytes, more than this client takes ({limit}); find out who sends it")]
    Oversized {
        /// Its size, without the fixed header.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer broke the protocol.
    #[error("what the peer sends is not MQTT 3.1.1: {problem}; check that host and port are those of an MQTT broker")]
    Protocol {
        /// What was wrong.
        problem: String,
    },
}

fn as_user(username: Option<&str>) -> String {
    match username {
        Some(username) => format!("with the user name {username:?}"),
        None => "without a user name".to_owned(),
    }
}

impl Trouble {
    /// How soon it makes sense to try again.
    pub fn pace(&self) -> Pace {
        match self {
            Self::ProtocolVersionRefused
            | Self::ClientIdRefused { .. }
            | Self::CredentialsRefused
            | Self::NotAuthorised { .. }
            | Self::ClientCertificateRequired { .. }
            | Self::ClientCertificateRefused { .. }
            | Self::SubscriptionRefused { .. }
            | Self::DuplicateClientId { .. } => Pace::Slow,
            _ => Pace::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests;
