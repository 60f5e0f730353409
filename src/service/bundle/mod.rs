//! A firmware bundle offered to devices over HTTP: `iotdm firmware push --file` is its own file server for as long as it
//! runs.
//!
//! Every device gets a path of its own that nobody can guess, so that what was fetched can be counted for each. There
//! is nothing else to see: no list, no other file. Resuming works (`Range`, `If-Range`, a strong `ETag`).
//!
//! Facts: HTTP semantics (RFC 9110: ranges, validators), TLS 1.2 and 1.3 as rustls has them.

mod door;
mod range;
mod server;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use door::Tls;
pub use server::{Offer, Server};

/// How much is read from the file at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// Why a bundle cannot be offered, for whoever typed the command.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bundle cannot be read.
    #[error("the bundle {} cannot be read: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is nothing in it, or it is no file.
    #[error("{} is no bundle: it is empty, or no file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The certificate or its key.
    #[error("{}: {problem}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {error}; choose another --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// A file that is open for as long as it is offered: replacing it does not change what devices get.
#[derive(Debug, Clone)]
pub struct Bundle {
    file: Arc<File>,
    /// Its name, made fit for a URI.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of its content, in lower-case hexadecimal digits.
    pub sha256: String,
}

impl Bundle {
    /// Opens the file and reads it once, for its digest. Blocks.
    ///
    /// # Errors
    /// It cannot be read, is empty, or is no file.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let unreadable = |error| BundleError::File {
            path: path.to_owned(),
            error,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(BundleError::Empty { path: path.to_owned() });
        }
        let (mut digest, mut size) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk).map_err(unreadable)? {
                0 => break,
                read => {
                    digest.update(&chunk[..read]);
                    size += read as u64;
                }
            }
        }
        if size == 0 {
            return Err(BundleError::Empty { path: path.to_owned() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Bundle {
            file: Arc::new(file),
            name: name.chars().map(plain).collect(),
            size,
            sha256: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

/// What needs no escape in a URI stays.
fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
        c
    } else {
        '-'
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bundle_is_known_by_its_digest_and_has_a_name_that_fits_a_uri() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my bundle/2.raucb".replace('/', "+"));
        std::fs::write(&path, "abc").unwrap();
        let bundle = Bundle::open(&path).unwrap();
        assert_eq!((bundle.name.as_str(), bundle.size), ("my-bundle-2.raucb", 3));
        assert_eq!(
            bundle.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_is_no_bundle_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        for path in [empty.as_path(), folder.path(), Path::new("/nowhere/at/all")] {
            let error = Bundle::open(path).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
