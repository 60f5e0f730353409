//! What the agent and the fall-back outside of it tell each other, by two small files in the state folder: `trial`
//! (which slot must have been decided on, until when) and `fallback` (why that slot was left).

use std::io;
use std::path::{Path, PathBuf};

use crate::agent::effect::Marker;

/// A reason is a line, not a text.
const NOTE_CHARACTERS: usize = 300;

/// Writes the marker so that it survives a power cut, or removes it together with an old note.
pub(super) async fn write(folder: &Path, marker: Option<Marker>) -> io::Result<()> {
    let folder = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || match marker {
        Some(marker) => put(&folder, &marker),
        None => remove(&folder.join("trial")).and(remove(&folder.join("fallback"))),
    });
    written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn put(folder: &Path, marker: &Marker) -> io::Result<()> {
    let text = format!("slot={}\ndeadline={}\n", marker.slot, marker.deadline.as_secs());
    let path = folder.join("trial");
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    // A new trial: what was said of an earlier one is not about it.
    remove(&folder.join("fallback"))?;
    let new: PathBuf = folder.join("trial.new");
    std::fs::write(&new, text)?;
    std::fs::File::open(&new)?.sync_all()?;
    std::fs::rename(&new, &path)?;
    std::fs::File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Why the fall-back left the slot on trial, if it did.
pub(super) fn note(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("fallback")).ok()?;
    let line: String = text.lines().next()?.chars().take(NOTE_CHARACTERS).collect();
    Some(line).filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_marker_is_what_the_fall_back_reads_and_goes_with_its_note() {
        let folder = tempfile::tempdir().unwrap();
        let marker = Marker {
            slot: "rootfs.1".into(),
            deadline: Duration::from_secs(2100),
        };
        write(folder.path(), Some(marker)).await.unwrap();
        let text = std::fs::read_to_string(folder.path().join("trial")).unwrap();
        assert_eq!(text, "slot=rootfs.1\ndeadline=2100\n");
        assert_eq!(note(folder.path()), None);
        std::fs::write(folder.path().join("fallback"), "nobody decided\nmore\n").unwrap();
        assert_eq!(note(folder.path()).as_deref(), Some("nobody decided"));
        write(folder.path(), None).await.unwrap();
        write(folder.path(), None).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
