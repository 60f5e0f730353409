//! Fetching a firmware bundle over https into a file, through whatever the network does, until it is right or cannot
//! be.
//!
//! Never gives a file its name before it is whole, has the demanded digest and is on the disk. Never speaks plain http
//! where that is not configured, never follows a redirect to it, and never looks away from a certificate. Knows nothing
//! of slots, signatures or the protocol: what a bundle is worth is RAUC's to say.
//! Facts: RFC 9110 and 9112; the protocol's firmware actions for what each kind of failure is called.
//!
//! While it grows the file is `FILE.part`, with a note beside it in `FILE.part.json`; [`Download::run`] goes on with it
//! after a restart of the agent or of the host. The note stays beside the finished file, so that the same download
//! asked again needs no network.

mod answer;
mod attempt;
mod client;
mod desk;
mod disk;
mod meter;
mod note;
mod part;
mod patience;
mod tls;
mod tries;
mod trouble;
mod uri;
mod verifier;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use desk::{Desk, Opened};
use meter::Meter;
use tokio::time::Instant;
use uri::Address;

pub use patience::Patience;
pub use tls::Tls;
pub use uri::{acceptable, shown};
pub use verifier::Verifier;

/// What may be fetched from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_size: u64,
    /// So many bytes of the file system stay free.
    pub reserve: u64,
    /// Whether plain http is spoken at all.
    pub allow_http: bool,
    /// Only these hosts are asked, also by redirects; empty: any.
    pub allow_hosts: Vec<String>,
    /// No faster than this, in bytes a second, on average.
    pub bytes_per_second: Option<u64>,
}

impl Default for Limits {
    /// 2 GiB, 64 MiB stay free, https from any host, as fast as it goes.
    fn default() -> Self {
        Self {
            max_size: 2 << 30,
            reserve: 64 << 20,
            allow_http: false,
            allow_hosts: Vec::new(),
            bytes_per_second: None,
        }
    }
}

/// One file to be fetched. Its `Debug` shows no secrets.
#[derive(Clone)]
pub struct Download {
    /// Where it is. User and password in it are sent as basic authentication.
    pub uri: String,
    /// The finished file. Its folder must exist; the other files of the download lie beside it.
    pub file: PathBuf,
    /// What it must hash to.
    pub verifier: Option<Verifier>,
    /// What is allowed.
    pub limits: Limits,
    /// Whom to trust, and what to show.
    pub tls: Tls,
    /// `http://[USER:PASSWORD@]HOST:PORT`; without it: direct, whatever the environment says.
    pub proxy: Option<String>,
    /// How long to try.
    pub patience: Patience,
    /// Whether the wall clock can be right. While it cannot, a certificate out of its time is waited for.
    pub clock_is_set: fn() -> bool,
    /// Feeds the jitter of the pauses: something that differs between devices.
    pub seed: u64,
}

impl Download {
    /// A download with the defaults: no verifier, the default limits and patience, the system's authorities, no proxy.
    pub fn new(uri: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self {
            uri: uri.into(),
            file: file.into(),
            verifier: None,
            limits: Limits::default(),
            tls: Tls::default(),
            proxy: None,
            patience: Patience::default(),
            clock_is_set: || true,
            seed: 0,
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("uri", &shown(&self.uri))
            .field("file", &self.file)
            .field("verifier", &self.verifier)
            .field("limits", &self.limits)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy.as_deref().map(shown))
            .finish_non_exhaustive()
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file that have come. It falls back when the download has to begin anew.
    pub received: u64,
    /// The length of the file, when the server told it.
    pub total: Option<u64>,
}

/// A file that is whole, right, and on the disk under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// In bytes.
    pub size: u64,
    /// Its SHA-256, whatever the verifier was.
    pub sha256: [u8; 32],
}

/// What a failure is called in `mgmt.firmware.updateStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 2: it has no room, or the disk does not work.
    NoSpace,
    /// 3: the file cannot be had over this connection.
    ConnectionLost,
    /// 4: the file is not the one that was meant.
    VerificationFailed,
    /// 6: the address is wrong, or not allowed.
    InvalidUri,
}

/// Why there is no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// For the service.
    pub kind: FailureKind,
    /// For the technician: what happened and what to do. Without secrets.
    pub text: String,
}

impl Failure {
    fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl Download {
    /// Fetches the file, or goes on with what an earlier run left of it. A finished file of the same address and
    /// verifier is hashed again and taken without the network.
    ///
    /// `progress` is called at most four times a second, and at the end; it must not take long. To cancel, drop the
    /// future: the connection is closed, and what is there is kept.
    ///
    /// # Errors
    /// Gives up at once when trying again cannot help, else within [`Patience`] and twice the size in bytes. What can
    /// be gone on with stays on the disk after [`FailureKind::ConnectionLost`]; after any other failure nothing does.
    pub async fn run(&self, progress: impl FnMut(Progress) + Send) -> Result<Fetched, Failure> {
        let address = match Address::parse(&self.uri, &self.limits) {
            Ok(address) => address,
            Err(problem) => {
                if let Err(error) = Self::discard(&self.file).await {
                    tracing::warn!(%error, "what is left of an earlier download cannot be removed");
                }
                return Err(Failure::new(FailureKind::InvalidUri, problem));
            }
        };
        let mut meter = Meter::new(progress, self.limits.bytes_per_second);
        let mut desk = match Desk::open(self).await {
            Ok(Opened::Finished(fetched)) => {
                meter.tell(fetched.size, Some(fetched.size));
                return Ok(fetched);
            }
            Ok(Opened::Part(desk)) => desk,
            Err(trouble) => return Err(trouble.into()),
        };
        let result = tries::fetch(self, &address, &mut desk, &mut meter).await;
        if let Err(failure) = &result {
            let resumable = failure.kind == FailureKind::ConnectionLost;
            let part = desk.close().await;
            let left = desk::blocking(move || match part {
                Some(part) if resumable => part.keep(),
                Some(part) => part.remove(),
                None => Ok(()),
            });
            if let Ok(Err(error)) | Err(error) = left.await {
                tracing::warn!(%error, "what is left of the download cannot be put in order");
            }
        }
        result
    }

    /// Removes the finished file at `file`, and what there is of an unfinished one. That there is nothing is fine.
    ///
    /// # Errors
    /// When the disk refuses, or a download that was not cancelled still writes there.
    pub async fn discard(file: &Path) -> io::Result<()> {
        let deadline = Instant::now() + desk::LET_GO;
        loop {
            let file = file.to_owned();
            let removed = tokio::task::spawn_blocking(move || part::discard(&file)).await;
            if removed.map_err(|_| io::Error::other("the agent is stopping"))?? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "a download still writes it",
                ));
            }
            tokio::time::sleep(desk::LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_can_be_a_task() {
        fn may_be_a_task<T: Send>(_: T) {}
        may_be_a_task(Download::new("https://host/file", "file").run(|_| {}));
    }
}
