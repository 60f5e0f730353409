//! On which file system does a path live, and how much room is there.
//!
//! Answers one question: would this path be lost when another RAUC slot boots? It would be on the file system of `/`
//! and on a slot's device. Mounts nothing, changes nothing.
//! Facts: `st_dev` of `stat(2)`; `statvfs(3)`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Where a path lives, as far as an update is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On the same file system as `/`: it belongs to the booted slot.
    Root,
    /// On the device of this slot.
    Slot(String),
    /// On a file system of its own: it outlives a slot.
    Elsewhere,
}

/// A block device by its number, as `stat(2)` has it.
pub type DeviceNumber = u64;

/// Says where `path` lives. A path that does not exist yet lives where its nearest existing parent does.
///
/// `slots` are the names of the RAUC slots and the numbers of their devices.
///
/// # Errors
/// When not even `/` can be looked at.
pub fn placement(path: &Path, slots: &[(String, DeviceNumber)]) -> io::Result<Placement> {
    Ok(judge(file_system(path)?, file_system(Path::new("/"))?, slots))
}

/// The bytes that an unprivileged user may still write on the file system of `path`, which must exist.
///
/// # Errors
/// When `path` cannot be looked at.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    // the types differ between architectures
    #[allow(clippy::useless_conversion)]
    let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
    Ok(blocks.saturating_mul(size))
}

fn judge(path: DeviceNumber, root: DeviceNumber, slots: &[(String, DeviceNumber)]) -> Placement {
    if path == root {
        return Placement::Root;
    }
    match slots.iter().find(|(_, number)| *number == path) {
        Some((name, _)) => Placement::Slot(name.clone()),
        None => Placement::Elsewhere,
    }
}

fn file_system(path: &Path) -> io::Result<DeviceNumber> {
    for parent in path.ancestors() {
        match std::fs::metadata(parent) {
            Ok(meta) => return Ok(meta.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_booted_slot_is_where_root_is_and_the_other_is_known_by_its_number() {
        let slots = [("rootfs.0".to_owned(), 10), ("rootfs.1".to_owned(), 11)];
        assert_eq!(judge(10, 10, &slots), Placement::Root);
        assert_eq!(judge(11, 10, &slots), Placement::Slot("rootfs.1".to_owned()));
        assert_eq!(judge(12, 10, &slots), Placement::Elsewhere);
    }

    #[test]
    fn what_does_not_exist_yet_lives_with_its_parent() {
        assert_eq!(placement(Path::new("/nonexistent/a/b"), &[]).unwrap(), Placement::Root);
        assert_eq!(
            placement(Path::new("/proc/self/status"), &[]).unwrap(),
            Placement::Elsewhere
        );
    }

    #[test]
    fn free_space_is_that_of_the_path() {
        assert_eq!(free_space(Path::new("/proc")).unwrap(), 0);
        assert!(free_space(tempfile::tempdir().unwrap().path()).unwrap() > 0);
        assert!(free_space(Path::new("/nonexistent")).is_err());
    }
}
