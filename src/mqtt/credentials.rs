//! Token, CA and client certificate, read from their files at every connection so that a renewed file is taken up.
//!
//! Never prints what it reads. Installs no process-wide TLS provider: ring is passed explicitly.

use super::options::{Options, TlsFiles, TokenSource};
use super::trouble::Trouble;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// The largest token that is read, in bytes. MQTT allows 65,535.
const MAX_TOKEN: u64 = 65_535;

/// What one connection authenticates with.
pub(super) struct Credentials {
    pub(super) token: Option<Vec<u8>>,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Credentials {
    /// Reads all files. Blocks on the disk: call it where that is allowed.
    pub(super) fn read(options: &Options) -> Result<Self, Trouble> {
        let token = match &options.token {
            TokenSource::None => None,
            TokenSource::File(path) => Some(read_token(path)?),
        };
        let tls = match &options.broker.tls {
            None => None,
            Some(files) => Some(client_config(files)?),
        };
        Ok(Self { token, tls })
    }
}

fn read_token(path: &Path) -> Result<Vec<u8>, Trouble> {
    let trouble = |problem: String| Trouble::TokenFile {
        path: path.to_owned(),
        problem,
    };
    let file = std::fs::File::open(path).map_err(|error| trouble(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| trouble(error.to_string()))?;
    if !metadata.is_file() {
        return Err(trouble("it is not a file".to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(Trouble::TokenExposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut token = Vec::new();
    file.take(MAX_TOKEN + 2)
        .read_to_end(&mut token)
        .map_err(|error| trouble(error.to_string()))?;
    if token.ends_with(b"\n") {
        token.pop();
    }
    if token.is_empty() {
        return Err(trouble("it is empty".to_owned()));
    }
    if token.len() as u64 > MAX_TOKEN {
        return Err(trouble(format!("it is longer than {MAX_TOKEN} bytes")));
    }
    Ok(token)
}

/// The TLS configuration of one connection: TLS 1.2 and 1.3, ring, verification always on.
pub(super) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, Trouble> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Trouble::Tls {
            host: String::new(),
            problem: error.to_string(),
        })?
        .with_root_certificates(authorities(files.ca_file.as_deref())?);
    let config = match (&files.cert_file, &files.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert_file), key_file) => {
            // A certificate file may hold its key too.
            let key_file = key_file.as_ref().unwrap_or(cert_file);
            let chain = certificates("certificate file", cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| Trouble::TlsFile {
                what: "key file",
                path: key_file.clone(),
                problem: pem_problem(error, "it holds no private key"),
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| Trouble::TlsFile {
                    what: "key file",
                    path: key_file.clone(),
                    problem: match error {
                        rustls::Error::InconsistentKeys(_) => "it is not the key of the certificate".to_owned(),
                        other => other.to_string(),
                    },
                })?
        }
        (None, Some(key_file)) => {
            return Err(Trouble::TlsFile {
                what: "key file",
                path: key_file.clone(),
                problem: "cert_file is not set".to_owned(),
            });
        }
    };
    Ok(Arc::new(config))
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, Trouble> {
    let mut store = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates("CA file", path)? {
                store.add(certificate).map_err(|error| Trouble::TlsFile {
                    what: "CA file",
                    path: path.to_owned(),
                    problem: error.to_string(),
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::debug!(%error, "a certificate of the system's store is left out");
            }
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(Trouble::NoAuthorities);
            }
        }
    }
    Ok(store)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let trouble = |problem: String| Trouble::TlsFile {
        what,
        path: path.to_owned(),
        problem,
    };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| trouble(pem_problem(error, "it holds no certificate")))?;
    if found.is_empty() {
        return Err(trouble("it holds no certificate in PEM form".to_owned()));
    }
    Ok(found)
}

fn pem_problem(error: rustls::pki_types::pem::Error, nothing: &str) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => format!("{nothing} in PEM form"),
        other => format!("it is not valid PEM ({other:?})"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn token_file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_loses_exactly_one_trailing_newline() {
        for (content, token) in [
            (&b"secret\n"[..], &b"secret"[..]),
            (b"secret", b"secret"),
            (b"a\n\n", b"a\n"),
            (b" a ", b" a "),
        ] {
            let (_folder, path) = token_file(content, 0o640);
            assert_eq!(read_token(&path).unwrap(), token);
        }
    }

    #[test]
    fn a_token_that_others_may_touch_is_refused_with_the_remedy() {
        for mode in [0o644, 0o602, 0o601] {
            let (_folder, path) = token_file(b"secret", mode);
            let trouble = read_token(&path).unwrap_err();
            assert_eq!(
                trouble,
                Trouble::TokenExposed {
                    path: path.clone(),
                    mode
                }
            );
            assert!(trouble.to_string().contains("chmod o-rwx"), "{trouble}");
        }
    }

    #[test]
    fn an_empty_or_missing_or_odd_token_file_is_named() {
        let (folder, path) = token_file(b"\n", 0o600);
        for path in [path, folder.path().join("absent"), folder.path().to_owned()] {
            let trouble = read_token(&path).unwrap_err();
            assert!(trouble.to_string().contains(path.to_str().unwrap()), "{trouble}");
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let (_folder, path) = token_file(b"not a certificate", 0o644);
        let files = TlsFiles {
            ca_file: Some(path.clone()),
            ..TlsFiles::default()
        };
        let trouble = client_config(&files).unwrap_err();
        assert_eq!(
            trouble,
            Trouble::TlsFile {
                what: "CA file",
                path,
                problem: "it holds no certificate in PEM form".into()
            }
        );
    }
}
