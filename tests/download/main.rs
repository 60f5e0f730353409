//! Downloads against a scripted HTTP server: what networks, servers, disks and wrong descriptions do to them.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod answers;
mod away;
mod child;
mod disk;
mod resume;
mod server;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod verifier;

use std::path::{Path, PathBuf};
use std::time::Duration;

use iotdm::host::download::{Download, Failure, FailureKind, Fetched, Limits, Patience, Progress};

use server::{Server, Shelf};

/// A folder for one download, and the download of `path` from `server`, with the patience of a test.
struct Scene {
    folder: tempfile::TempDir,
    download: Download,
}

impl Scene {
    fn new(uri: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut download = Download::new(uri, folder.path().join("bundle"));
        download.limits = Limits {
            allow_http: true,
            max_size: 64 << 20,
            reserve: 1 << 20,
            ..Limits::default()
        };
        download.patience = quick();
        Self { folder, download }
    }

    fn at(server: &Server) -> Self {
        Self::new(&server.uri("/fw/bundle"))
    }

    async fn run(&self) -> Result<Fetched, Failure> {
        support::within("the end of the download", self.download.run(|_| {})).await
    }

    /// Runs it, and remembers what was told.
    async fn watched(&self) -> (Result<Fetched, Failure>, Vec<Progress>) {
        let mut told = Vec::new();
        let result = support::within("the end of the download", self.download.run(|step| told.push(step))).await;
        (result, told)
    }

    async fn fails(&self) -> Failure {
        self.run().await.expect_err("the download fails")
    }

    /// It ends with exactly this file, and nothing else but the note lies beside it.
    async fn brings(&self, shelf: &Shelf) {
        let fetched = self.run().await.unwrap();
        self.has(shelf, &fetched);
    }

    fn has(&self, shelf: &Shelf, fetched: &Fetched) {
        assert!(
            std::fs::read(&self.download.file).unwrap() == shelf.content,
            "the file is another one"
        );
        assert_eq!(fetched.size, shelf.content.len() as u64);
        let sha256: String = fetched.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256, shelf.sha256());
        assert_eq!(self.names(), ["bundle", "bundle.part.json"]);
    }

    /// The files of the folder.
    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("bundle.part")
    }

    fn note(&self) -> PathBuf {
        self.folder.path().join("bundle.part.json")
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Short pauses; but patience with a busy machine. Tests of silence shorten what they wait for.
fn quick() -> Patience {
    Patience {
        first_answer: Duration::from_secs(10),
        silence: Duration::from_secs(5),
        trouble: Duration::from_secs(10),
        away_at_first: Duration::from_secs(1),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
        ..Patience::default()
    }
}

/// A kind, a word that the technician must read, and nothing that is secret.
fn assert_failure(failure: &Failure, kind: FailureKind, word: &str) {
    assert_eq!(failure.kind, kind, "{failure}");
    assert!(failure.text.contains(word), "{failure}");
    assert!(!failure.text.contains("secret"), "{failure}");
}
