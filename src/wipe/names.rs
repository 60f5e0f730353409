//! What the file systems are called that are made anew: kept in the state folder from the request until each is made.
//!
//! `mkfs.ext4` first clears what it finds. When it fails then, or is killed, the UUID and the label stand nowhere else, and
//! the wish is soon gone. Only what root has written counts.

use std::io;
use std::path::{Path, PathBuf};

use super::state_folder::StateFolder;

/// The file in the state folder.
pub(super) const FILE: &str = "factory-reset.names";

/// By what a file system is known to fstab, and by what its device is known when the file system is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Of the device, in bytes.
    pub(super) size: u64,
    /// As mke2fs(8) takes it.
    pub(super) uuid: String,
    /// At most 16 bytes.
    pub(super) label: Vec<u8>,
}

/// What the file system on a device was called when it was last seen; nothing also when that cannot be read.
pub(super) fn of(folder: &StateFolder, device: &Path) -> Option<Name> {
    let noted = read(folder).into_iter().find(|(noted, _)| noted == device);
    noted.map(|(_, name)| name)
}

/// Keeps a name. What is kept already is not written again: that needs no room on the disk.
pub(super) fn note(folder: &StateFolder, device: &Path, name: &Name) -> io::Result<()> {
    let mut names = read(folder);
    if names.iter().any(|noted| noted.0 == device && noted.1 == *name) {
        return Ok(());
    }
    names.retain(|(noted, _)| noted != device);
    names.push((device.to_owned(), name.clone()));
    write(folder, &names)
}

/// The device is made: its file system says itself again what it is called.
pub(super) fn forget(folder: &StateFolder, device: &Path) -> io::Result<()> {
    let mut names = read(folder);
    let before = names.len();
    names.retain(|(noted, _)| noted != device);
    match names.len() {
        0 => folder.remove(FILE),
        left if left == before => Ok(()),
        _ => write(folder, &names),
    }
}

fn read(folder: &StateFolder) -> Vec<(PathBuf, Name)> {
    match folder.read(FILE) {
        Ok(Some(found)) if found.owner == nix::unistd::geteuid().as_raw() => {
            found.text.lines().filter_map(parse).collect()
        }
        _ => Vec::new(),
    }
}

fn write(folder: &StateFolder, names: &[(PathBuf, Name)]) -> io::Result<()> {
    let line = |(device, name): &(PathBuf, Name)| {
        let label: String = name.label.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {} {label} {}\n", name.size, name.uuid, device.display())
    };
    folder.replace(FILE, &names.iter().map(line).collect::<String>(), 0o644)
}

fn parse(line: &str) -> Option<(PathBuf, Name)> {
    let mut fields = line.splitn(4, ' ');
    let (size, uuid, label, device) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let byte = |at: usize| u8::from_str_radix(label.get(at..at + 2)?, 16).ok();
    let label: Option<Vec<u8>> = (0..label.len()).step_by(2).map(byte).collect();
    let name = Name {
        size: size.parse().ok()?,
        uuid: uuid.to_owned(),
        label: label?,
    };
    Some((PathBuf::from(device), name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_kept_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let name = |label: &[u8]| Name {
            size: 32 << 20,
            uuid: "abababab-abab-abab-abab-abababababab".to_owned(),
            label: label.to_vec(),
        };
        let (one, two) = (Path::new("/dev/disk/by-partlabel/my apps"), Path::new("/dev/sda4"));
        assert_eq!(of(&state, one), None);
        forget(&state, one).unwrap();
        note(&state, one, &name(b"my apps\xff")).unwrap();
        note(&state, two, &name(b"")).unwrap();
        assert_eq!(of(&state, one), Some(name(b"my apps\xff")));
        note(&state, one, &name(b"other")).unwrap();
        assert_eq!(of(&state, one), Some(name(b"other")));
        assert_eq!(of(&state, two), Some(name(b"")));
        forget(&state, one).unwrap();
        assert_eq!((of(&state, one), of(&state, two)), (None, Some(name(b""))));
        forget(&state, two).unwrap();
        assert!(!folder.path().join(FILE).exists());
    }
}
