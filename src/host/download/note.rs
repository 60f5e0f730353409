//! The note beside a download: what it is, how far it surely is on the disk, what was spent on it.
//!
//! A JSON file, replaced as a whole. One that is missing or damaged means that the download starts anew. Members are
//! only ever added: an agent of another version may read it. The address itself is not in it, because it may carry
//! secrets; its SHA-256 tells whether it is the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::patience::Spent;
use super::verifier::{Digests, hex, sha256_of};
use super::{Download, uri};

/// No note is longer, in bytes.
const MAX: u64 = 64 * 1024;

/// What the note says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    /// The address as it may be shown; for people.
    uri: String,
    /// The SHA-256 of the address.
    uri_sha256: String,
    /// The verifier as `algorithm:hex`.
    verifier: Option<String>,
    /// The strong validator of the file that the server has.
    pub(super) etag: Option<String>,
    /// The length of the whole file, when the server told it.
    pub(super) total: Option<u64>,
    /// This many bytes of the file are on the disk, whatever happens to the power.
    pub(super) synced: u64,
    /// Set when the file is whole and right.
    sha256: Option<String>,
    /// The pieces did not fit together once; it was begun anew because of that.
    pub(super) begun_anew: bool,
    pub(super) spent: Spent,
}

impl Note {
    pub(super) fn of(download: &Download) -> Self {
        Self {
            uri: uri::shown(&download.uri),
            uri_sha256: sha256_of(download.uri.trim()),
            verifier: download.verifier.map(|verifier| verifier.to_string()),
            ..Self::default()
        }
    }

    /// Whether it speaks of the same download as `other`.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.uri_sha256 == other.uri_sha256 && self.verifier == other.verifier
    }

    /// How much of what is on the disk can be gone on with.
    pub(super) fn usable(&self) -> u64 {
        if self.etag.is_some() || self.is_whole() {
            self.synced
        } else {
            0
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.sha256.is_some()
    }

    /// Whether it is the note of a whole file with this size and these digests.
    pub(super) fn fits(&self, size: u64, digests: &Digests) -> bool {
        digests.right && self.synced == size && self.sha256.as_deref() == Some(&hex(&digests.sha256))
    }

    pub(super) fn set_whole(&mut self, digests: &Digests) {
        self.sha256 = Some(hex(&digests.sha256));
    }

    /// Forgets the file, not what was spent on it.
    pub(super) fn forget_file(&mut self) {
        (self.etag, self.total, self.synced, self.sha256) = (None, None, 0, None);
    }

    /// What was spent is not held against the next download of the same.
    pub(super) fn clear_account(&mut self) {
        (self.spent, self.begun_anew) = (Spent::default(), false);
    }

    /// The note at `path`; none when there is none that can be read.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Replaces the note at `path`. It is on the disk when this returns.
    pub(super) fn save(&self, path: &Path, temporary: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(super::part::MODE)
            .open(temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        super::part::sync_folder(path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        let mut download = Download::new("https://me:secret@host/file?sig=secret", folder.path().join("file"));
        let mut note = Note::of(&download);
        note.etag = Some("\"1\"".to_owned());
        note.synced = 17;
        note.spent.bytes = 18;
        note.save(&path, &folder.path().join("temporary")).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        let read = Note::read(&path).unwrap();
        assert_eq!(read, note);
        assert!(read.is_of(&Note::of(&download)));
        assert_eq!(read.usable(), 17);

        download.uri = "https://me:secret@host/file?sig=other".to_owned();
        assert!(!read.is_of(&Note::of(&download)));
    }

    #[test]
    fn a_note_of_another_version_is_understood_as_far_as_it_goes_and_a_damaged_one_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Note::read(&path)
        };
        let note = read(r#"{"synced": 5, "etag": "\"1\"", "mirror": {"of": 2}, "spent": {"bytes": 7, "ideas": 1}}"#);
        let note = note.unwrap();
        assert_eq!((note.usable(), note.spent.bytes), (5, 7));
        assert_eq!(
            read(r#"{"synced": 5}"#).unwrap().usable(),
            0,
            "without a validator nothing can be resumed"
        );
        for damaged in ["", "{", "\0\0\0\0", r#"{"synced": -1}"#] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
        assert_eq!(Note::read(&folder.path().join("missing")), None);
    }
}
