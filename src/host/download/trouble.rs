//! What a try can end with instead of the file, and how soon it may be tried again.
//!
//! Reads the errors of the HTTP client by their causes, never by their text, except where a cause is only text (the
//! name service's answers in the C library, a proxy's refusal). No error of the client is shown as it is: it may hold
//! the address with its secrets.

use std::error::Error as StdError;
use std::io;

use nix::errno::Errno;

use super::disk::DiskTrouble;
use super::tls::TlsFiles;
use super::uri::Address;
use super::{Download, Failure, FailureKind};

/// Why a try brought no whole file.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Trying again cannot help.
    Final(Failure),
    /// The server, or what is between it and us.
    Server(String),
    /// This host has no network, or no clock, at the moment.
    Away(String),
}

impl Trouble {
    /// Final: the file cannot be had over this connection.
    pub(super) fn lost(text: impl Into<String>) -> Self {
        Self::Final(Failure::new(FailureKind::ConnectionLost, text))
    }

    /// Final: the address is wrong.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::Final(Failure::new(FailureKind::InvalidUri, text))
    }
}

impl From<DiskTrouble> for Failure {
    fn from(trouble: DiskTrouble) -> Self {
        let kind = match trouble {
            DiskTrouble::Busy { .. } | DiskTrouble::Stopping => FailureKind::ConnectionLost,
            _ => FailureKind::NoSpace,
        };
        Self::new(kind, trouble.to_string())
    }
}

impl From<DiskTrouble> for Trouble {
    fn from(trouble: DiskTrouble) -> Self {
        Self::Final(trouble.into())
    }
}

impl From<TlsFiles> for Trouble {
    fn from(problem: TlsFiles) -> Self {
        Self::lost(problem.to_string())
    }
}

/// What the name service said. The resolver puts it into the client's error.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotResolved {
    /// There is no such name.
    #[error("there is no host {0}; check the address of the firmware")]
    NoSuchHost(String),
    /// Nobody could be asked, or nobody knew.
    #[error("the name {host} cannot be resolved: {problem}")]
    NoAnswer { host: String, problem: String },
}

impl NotResolved {
    /// The C library's answers have no number in `io::Error`, only their English text.
    pub(super) fn from_lookup(host: &str, error: &io::Error) -> Self {
        let text = error.to_string();
        let no_such = error.raw_os_error().is_none()
            && [
                "Name or service not known",
                "No address associated with hostname",
                "Name does not resolve",
            ]
            .iter()
            .any(|answer| text.contains(answer));
        if no_such {
            return Self::NoSuchHost(host.to_owned());
        }
        let problem = text.rsplit(": ").next().unwrap_or_default().to_owned();
        Self::NoAnswer {
            host: host.to_owned(),
            problem,
        }
    }
}

/// What an error of the HTTP client means.
pub(super) fn of_client(error: &reqwest::Error, address: &Address, download: &Download) -> Trouble {
    let mut last = String::new();
    let mut tunnel = None;
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(problem) = inner.downcast_ref::<NotResolved>() {
            return match problem {
                NotResolved::NoSuchHost(_) => Trouble::invalid(problem.to_string()),
                NotResolved::NoAnswer { .. } => Trouble::Away(problem.to_string()),
            };
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(tls) = tls_error(io) {
                return super::tls::meaning(tls, address.host(), &download.tls, (download.clock_is_set)());
            }
            if io.raw_os_error().is_some() {
                return of_system(io, address, download);
            }
        }
        last = inner.to_string();
        if last.starts_with("tunnel error: ") {
            tunnel = Some(last.clone());
        }
        cause = inner.source();
    }
    match tunnel.as_deref() {
        Some("tunnel error: proxy authorization required") => {
            return Trouble::lost(
                "the proxy demands a user name and a password, and none are sent; let it pass this host without them, or use another proxy",
            );
        }
        Some(_) => {
            return Trouble::Server(format!("the proxy makes no connection to {}", address.host()));
        }
        None => {}
    }
    if error.is_timeout() {
        return Trouble::Server(format!("{} does not answer", asked(address, download)));
    }
    Trouble::Server(format!("the connection to {} ended: {last}", asked(address, download)))
}

/// The TLS error in an I/O error, which may be wrapped in another one.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<io::Error>() {
        Some(error) => tls_error(error),
        None => inner.downcast_ref(),
    }
}

fn of_system(error: &io::Error, address: &Address, download: &Download) -> Trouble {
    let who = asked(address, download);
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::EADDRNOTAVAIL) => {
            Trouble::Away(format!("there is no network to {who} ({error})"))
        }
        Some(Errno::ECONNREFUSED) => Trouble::Server(format!("{who} refuses connections")),
        Some(Errno::ETIMEDOUT) => Trouble::Server(format!("{who} does not answer")),
        _ => Trouble::Server(format!("the connection to {who} ended: {error}")),
    }
}

/// Whom we really speak to.
fn asked(address: &Address, download: &Download) -> String {
    match &download.proxy {
        Some(_) => format!("{} through the proxy", address.host()),
        None => address.host().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_host_is_told_apart_from_a_name_server_that_does_not_answer() {
        let lookup = |text: &str| {
            let error = io::Error::other(format!("failed to lookup address information: {text}"));
            NotResolved::from_lookup("h", &error)
        };
        for text in ["Name or service not known", "No address associated with hostname"] {
            assert!(matches!(lookup(text), NotResolved::NoSuchHost(_)), "{text}");
        }
        for text in [
            "Temporary failure in name resolution",
            "Non-recoverable failure in name resolution",
            "System error",
        ] {
            assert!(matches!(lookup(text), NotResolved::NoAnswer { problem, .. } if problem == text));
        }
        let system = NotResolved::from_lookup("h", &io::Error::from_raw_os_error(24));
        assert!(matches!(system, NotResolved::NoAnswer { .. }));
    }
}
