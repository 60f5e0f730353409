//! TLS for downloads: whom to trust, what to show, and what a failure means for the person who has to repair it.
//!
//! The files are read anew for every try, so that a renewed certificate is taken up. Verification is always on. No
//! process-wide provider is installed: ring is passed explicitly.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

use super::trouble::Trouble;

/// The PEM files for https.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Trust only the authorities in this file. `None`: those of the system's store.
    pub ca_file: Option<PathBuf>,
    /// The client certificate chain; its key may be in the same file.
    pub cert_file: Option<PathBuf>,
    /// The private key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// A file that cannot be used, or no authorities at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsFiles {
    #[error("the {what} {path} cannot be used: {problem}")]
    File {
        what: &'static str,
        path: PathBuf,
        problem: String,
    },
    #[error(
        "no certificate authority is known, so no https server can be trusted; install the package ca-certificates \
         or name a CA file"
    )]
    NoAuthorities,
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] Error),
}

impl TlsFiles {
    fn file(what: &'static str, path: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            what,
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// The configuration of one try: TLS 1.2 and 1.3. Blocks on the disk.
pub(super) fn client_config(files: &Tls) -> Result<ClientConfig, TlsFiles> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(authorities(files.ca_file.as_deref())?);
    match (&files.cert_file, &files.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (None, Some(key_file)) => Err(TlsFiles::file(
            "key file",
            key_file,
            "there is no certificate file to it",
        )),
        (Some(cert_file), key_file) => {
            let key_file = key_file.as_ref().unwrap_or(cert_file);
            let chain = certificates("certificate file", cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| TlsFiles::file("key file", key_file, pem_problem(error, "it holds no private key")))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let problem = match error {
                    Error::InconsistentKeys(_) => "it is not the key of the certificate".to_owned(),
                    other => other.to_string(),
                };
                TlsFiles::file("key file", key_file, problem)
            })
        }
    }
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, TlsFiles> {
    let mut store = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates("CA file", path)? {
                store
                    .add(certificate)
                    .map_err(|error| TlsFiles::file("CA file", path, error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::debug!(%error, "a certificate of the system's store is left out");
            }
            store.add_parsable_certificates(found.certs);
        }
    }
    if store.is_empty() {
        return Err(TlsFiles::NoAuthorities);
    }
    Ok(store)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFiles> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsFiles::file(what, path, pem_problem(error, "it holds no certificate")))?;
    if found.is_empty() {
        return Err(TlsFiles::file(what, path, "it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn pem_problem(error: PemError, nothing: &str) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => format!("{nothing} in PEM form"),
        other => format!("it is not valid PEM ({other:?})"),
    }
}

/// What a TLS error with this host means. `clock_is_set`: whether the wall clock can be right. `shown`: whether we have
/// a client certificate.
pub(super) fn meaning(error: &Error, host: &str, files: &Tls, clock_is_set: bool) -> Trouble {
    let lost = |text: String| Trouble::lost(format!("{host}: {text}"));
    match error {
        Error::InvalidCertificate(problem) => {
            use CertificateError as C;
            match problem {
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }
                    if !clock_is_set =>
                {
                    Trouble::Away(format!(
                        "the clock of this device is not set, so the certificate of {host} cannot be checked"
                    ))
                }
                C::UnknownIssuer => lost(
                    match files.ca_file {
                        Some(_) => "its certificate is not signed by an authority of the configured CA file",
                        None => "its certificate is not signed by an authority of the system's store",
                    }
                    .to_owned(),
                ),
                C::Expired | C::ExpiredContext { .. } => lost("its certificate has expired".to_owned()),
                C::NotValidYet | C::NotValidYetContext { .. } => lost("its certificate is not valid yet".to_owned()),
                C::NotValidForName | C::NotValidForNameContext { .. } => {
                    lost("its certificate is for another host name".to_owned())
                }
                other => lost(format!("its certificate is not valid ({other})")),
            }
        }
        Error::AlertReceived(alert) => {
            use AlertDescription as A;
            match alert {
                A::CertificateRequired => lost("it demands a client certificate".to_owned()),
                A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::DecryptError
                    if files.cert_file.is_some() =>
                {
                    lost(format!("it refuses the client certificate ({alert:?})"))
                }
                // TLS 1.2 has no word of its own for a missing certificate.
                A::HandshakeFailure | A::BadCertificate if files.cert_file.is_none() => lost(format!(
                    "it ended the TLS handshake ({alert:?}); it may demand a client certificate"
                )),
                A::UnrecognisedName => lost("it does not know that host name".to_owned()),
                A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => {
                    lost(format!("it speaks no TLS that is safe ({alert:?})"))
                }
                other => Trouble::Server(format!("{host} ended the TLS connection ({other:?})")),
            }
        }
        Error::InvalidMessage(_) => lost("it does not speak TLS on that port".to_owned()),
        other => Trouble::Server(format!("TLS with {host} failed: {other}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_out_of_its_time_is_waited_for_only_while_the_clock_is_not_set() {
        for problem in [CertificateError::Expired, CertificateError::NotValidYet] {
            let error = Error::InvalidCertificate(problem);
            let meaning = |clock_is_set| meaning(&error, "h", &Tls::default(), clock_is_set);
            assert!(matches!(meaning(false), Trouble::Away(text) if text.contains("clock")));
            assert!(matches!(meaning(true), Trouble::Final(failure) if failure.text.contains("certificate")));
        }
        let other = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(matches!(
            meaning(&other, "h", &Tls::default(), false),
            Trouble::Final(_)
        ));
    }

    #[test]
    fn an_alert_about_a_certificate_is_about_ours_only_when_we_showed_one() {
        let alert = Error::AlertReceived(AlertDescription::BadCertificate);
        let text = |cert_file: Option<PathBuf>| {
            let files = Tls {
                cert_file,
                ..Tls::default()
            };
            match meaning(&alert, "h", &files, true) {
                Trouble::Final(failure) => failure.text,
                other => panic!("{other:?}"),
            }
        };
        assert!(text(Some("c".into())).contains("refuses the client certificate"));
        assert!(text(None).contains("may demand a client certificate"));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let junk = folder.path().join("junk.pem");
        std::fs::write(&junk, "not a certificate").unwrap();
        let absent = folder.path().join("absent.pem");
        for path in [junk, absent] {
            let ca = Tls {
                ca_file: Some(path.clone()),
                ..Tls::default()
            };
            let error = client_config(&ca).unwrap_err().to_string();
            assert!(
                error.contains("CA file") && error.contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        let key = Tls {
            key_file: Some("k.pem".into()),
            ..Tls::default()
        };
        assert!(
            client_config(&key)
                .unwrap_err()
                .to_string()
                .contains("no certificate file")
        );
    }
}
