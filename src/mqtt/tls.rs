//! What a TLS failure means for the person who has to repair it.
//!
//! rustls reports the broker's certificate as `CertificateError`s and the broker's opinion of ours as alerts. Under
//! TLS 1.3 a refused or missing client certificate comes only *after* our side of the handshake is done, as an alert on
//! the first read.

use super::options::Options;
use super::trouble::Trouble;
use super::wire::hung_up;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// A handshake that failed: a TLS error inside an I/O error, or the connection itself.
pub(super) fn handshake_trouble(error: &io::Error, options: &Options) -> Trouble {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => trouble(tls, options),
        None if hung_up(error.kind()) => Trouble::ClosedWithoutConnack {
            address: super::options::authority(&options.broker.host, options.broker.port),
            tls: true,
        },
        None if error.raw_os_error().is_some() => Trouble::Unreachable {
            address: super::options::authority(&options.broker.host, options.broker.port),
            problem: error.to_string(),
        },
        None => Trouble::Tls {
            host: options.broker.host.clone(),
            problem: error.to_string(),
        },
    }
}

/// A TLS error, before or after the handshake.
pub(super) fn trouble(error: &Error, options: &Options) -> Trouble {
    let host = options.broker.host.clone();
    let own_ca = options.broker.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some());
    let has_certificate = options.broker.tls.as_ref().is_some_and(|tls| tls.cert_file.is_some());
    match error {
        Error::InvalidCertificate(problem) => {
            use CertificateError as C;
            match problem {
                C::UnknownIssuer => Trouble::UnknownAuthority { host, own_ca },
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }
                    if !(options.wall_clock_plausible)() =>
                {
                    Trouble::ClockNotSet { host }
                }
                C::Expired | C::ExpiredContext { .. } => Trouble::CertificateExpired { host },
                C::NotValidYet | C::NotValidYetContext { .. } => Trouble::CertificateNotYetValid { host },
                C::NotValidForName | C::NotValidForNameContext { .. } => Trouble::WrongHostName { host },
                other => Trouble::CertificateInvalid {
                    host,
                    problem: other.to_string(),
                },
            }
        }
        Error::AlertReceived(alert) => {
            use AlertDescription as A;
            match alert {
                A::CertificateRequired => Trouble::ClientCertificateRequired { host },
                A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::DecryptError
                    if has_certificate =>
                {
                    Trouble::ClientCertificateRefused {
                        host,
                        problem: format!("{alert:?}"),
                    }
                }
                // TLS 1.2 has no word of its own for a missing certificate.
                A::HandshakeFailure | A::BadCertificate if !has_certificate => Trouble::Tls {
                    host,
                    problem: format!("it ended the handshake ({alert:?}); it may demand a client certificate"),
                },
                A::UnrecognisedName => Trouble::Tls {
                    host: host.clone(),
                    problem: format!("it does not know the name {host}; check the host name"),
                },
                other => Trouble::Tls {
                    host,
                    problem: format!("it ended the handshake ({other:?})"),
                },
            }
        }
        Error::InvalidMessage(_) => Trouble::NotTls {
            address: super::options::authority(&options.broker.host, options.broker.port),
        },
        other => Trouble::Tls {
            host,
            problem: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Broker, TlsFiles};
    use super::*;

    fn options(plausible: fn() -> bool, cert: bool) -> Options {
        let tls = TlsFiles {
            ca_file: None,
            cert_file: cert.then(|| "c".into()),
            key_file: None,
        };
        let mut options = Options::new(
            Broker {
                host: "b".into(),
                port: 8883,
                tls: Some(tls),
                proxy: None,
            },
            "d:a:b:c",
        );
        options.wall_clock_plausible = plausible;
        options
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_means_a_clock_that_is_not_set_when_the_clock_cannot_be_right() {
        let early = Error::InvalidCertificate(CertificateError::NotValidYet);
        assert_eq!(
            trouble(&early, &options(|| false, false)),
            Trouble::ClockNotSet { host: "b".into() }
        );
        assert_eq!(
            trouble(&early, &options(|| true, false)),
            Trouble::CertificateNotYetValid { host: "b".into() }
        );
        let late = Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(
            trouble(&late, &options(|| false, false)),
            Trouble::ClockNotSet { host: "b".into() }
        );
        assert_eq!(
            trouble(&late, &options(|| true, false)),
            Trouble::CertificateExpired { host: "b".into() }
        );
    }

    #[test]
    fn an_alert_about_a_certificate_is_about_ours_only_when_we_sent_one() {
        let alert = Error::AlertReceived(AlertDescription::UnknownCA);
        assert!(matches!(
            trouble(&alert, &options(|| true, true)),
            Trouble::ClientCertificateRefused { .. }
        ));
        assert!(matches!(trouble(&alert, &options(|| true, false)), Trouble::Tls { .. }));
    }
}
