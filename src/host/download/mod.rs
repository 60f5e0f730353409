//! Fetching a firmware bundle over https into a file, through whatever the network does, until it is right or cannot be.
//!
//! Never gives a file its name before it is whole, has the demanded digest and is on the disk. Never speaks plain http
//! where that is not configured, never follows a redirect to it, and never looks away from a certificate. Knows nothing
//! of slots, signatures or the protocol: what a bundle is worth is RAUC's to say.
//! Facts: RFC 9110 and 9112; the protocol's firmware actions for what each kind of failure is called.
//!
//! While it grows the file is `FILE.part`, with a note beside it in `FILE.part.json`; [`Download::run`] goes on with it
//! after a restart of the agent or of the host. The note stays beside the finished file, so that the same download asked
//! again needs no network.

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
mod trouble;
mod uri;
mod verifier;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attempt::{Attempt, Whole};
use desk::{Desk, Opened};
use disk::DiskTrouble;
use meter::Meter;
use tokio::time::Instant;
use trouble::Trouble;
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
    /// Fetches the file, or goes on with what an earlier run left of it. A finished file of the same address and verifier
    /// is hashed again and taken without the network.
    ///
    /// `progress` is called at most four times a second, and at the end; it must not take long. To cancel, drop the
    /// future: the connection is closed, and what is there is kept.
    ///
    /// # Errors
    /// Gives up at once when trying again cannot help, else within [`Patience`] and twice the size in bytes. What can be
    /// gone on with stays on the disk after [`FailureKind::ConnectionLost`]; after any other failure nothing does.
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
            Err(trouble) => return Err(failure_of(trouble)),
        };
        let result = self.fetch(&address, &mut desk, &mut meter).await;
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

    /// Try after try.
    async fn fetch<F: FnMut(Progress) + Send>(
        &self,
        address: &Address,
        desk: &mut Desk,
        meter: &mut Meter<F>,
    ) -> Result<Fetched, Failure> {
        let (mut tries, mut failures, mut last_problem) = (0, 0, None);
        loop {
            let spent = desk.part().await.map_err(failure_of)?.note.spent;
            let mut attempt = Attempt {
                download: self,
                address,
                desk,
                meter,
                allowance: self.patience.trouble_left(&spent),
                waited: Duration::ZERO,
                brought: 0,
                cut_short: false,
            };
            let result = attempt.run().await;
            let (waited, brought, cut_short) = (attempt.waited, attempt.brought, attempt.cut_short);
            let trouble = match result {
                Ok(whole) => match self.conclude(whole, desk).await? {
                    Some(fetched) => {
                        meter.tell(fetched.size, Some(fetched.size));
                        return Ok(fetched);
                    }
                    None => Trouble::Server("the pieces that came do not match the verifier; begun anew".to_owned()),
                },
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(trouble) => trouble,
            };
            // A server that hangs up after a few bytes each time is not asked more and more often.
            failures = if brought >= ENOUGH { 1 } else { failures + 1 };
            tries += 1;
            let part = desk.part().await.map_err(failure_of)?;
            let (is_away, problem) = match trouble {
                Trouble::Away(problem) => (true, problem),
                Trouble::Server(problem) => (false, problem),
                Trouble::Final(failure) => return Err(failure),
            };
            let left = if is_away {
                part.note.spent.add_away(waited);
                self.patience.away_left(&part.note.spent)
            } else {
                part.note.spent.add_trouble(waited, brought, &self.patience);
                self.patience.trouble_left(&part.note.spent)
            };
            let problem = last_problem.take().filter(|_| cut_short).unwrap_or(problem);
            if left <= self.patience.first_pause / 2 {
                return Err(Failure::new(
                    FailureKind::ConnectionLost,
                    format!("given up after {} tries: {problem}", tries),
                ));
            }
            let (length, size) = (part.length(), part.note.total.unwrap_or(self.limits.max_size));
            let missing = match (&part.note.etag, part.note.total) {
                (Some(_), Some(total)) => total.saturating_sub(length),
                (None, Some(total)) => total,
                (_, None) => 0,
            };
            part.afford(missing, size).map_err(|dear| {
                Failure::new(
                    FailureKind::ConnectionLost,
                    format!("{dear}; the last trouble was: {problem}"),
                )
            })?;
            // Time is left for one more try.
            let pause = self
                .patience
                .pause(failures, patience::jitter(self.seed, tries))
                .min(left / 2);
            if is_away {
                part.note.spent.add_away(pause);
            } else {
                part.note.spent.add_trouble(pause, 0, &self.patience);
            }
            tracing::info!(uri = %address, received = length, pause_ms = pause.as_millis(), problem, "the download is interrupted and will be tried again");
            last_problem = Some(problem);
            desk.run(part::Part::sync).await.map_err(failure_of)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Checks what has come and gives it its name; `None` when it has to be fetched anew.
    async fn conclude(&self, whole: Whole, desk: &mut Desk) -> Result<Option<Fetched>, Failure> {
        let part = desk.part().await.map_err(failure_of)?;
        let digests = part.digests();
        if digests.right {
            return desk.run(part::Part::finish).await.map(Some).map_err(failure_of);
        }
        let size = part.length();
        if whole.pieced && !part.note.begun_anew && part.afford(size, size).is_ok() {
            part.note.begun_anew = true;
            part.start_over().map_err(failure_of)?;
            return Ok(None);
        }
        let wanted = self.verifier.map(|verifier| verifier.to_string()).unwrap_or_default();
        Err(Failure::new(
            FailureKind::VerificationFailed,
            format!(
                "the firmware is not the one that was meant: its verifier is {wanted}, what came has {} bytes and sha256:{}; check the verifier and the file on the server",
                size,
                verifier::hex(&digests.sha256)
            ),
        ))
    }
}

/// A try that brought this many bytes was no failure.
const ENOUGH: u64 = 64 * 1024;

fn failure_of(trouble: DiskTrouble) -> Failure {
    match Trouble::from(trouble) {
        Trouble::Final(failure) => failure,
        Trouble::Server(text) | Trouble::Away(text) => Failure::new(FailureKind::ConnectionLost, text),
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
