//! Block devices by their numbers, and which of them consist of which.
//!
//! Facts: `/sys/dev/block/MAJOR:MINOR`: `slaves` are the devices that one is made of (device-mapper, RAID); a partition has
//! a file `partition`, and the folder above it is the disk.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, makedev, minor};

/// A block device by its number, as `stat(2)` has it.
pub(super) type Device = u64;

/// The number of a device file, through links.
pub(super) fn number(path: &Path) -> Option<Device> {
    let metadata = fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| metadata.rdev())
}

/// Everything that `device` is made of, however deep: what is below a mapped device, and the disk of a partition.
pub(super) fn consists_of(device: Device) -> Vec<Device> {
    let (mut found, mut left) = (Vec::new(), vec![device]);
    while let Some(device) = left.pop() {
        let shown = shown(device);
        let mut below: Vec<Device> = fs::read_dir(shown.join("slaves"))
            .into_iter()
            .flatten()
            .filter_map(|entry| parse(&fs::read_to_string(entry.ok()?.path().join("dev")).ok()?))
            .collect();
        if shown.join("partition").exists() {
            below.extend(
                fs::read_to_string(shown.join("../dev"))
                    .ok()
                    .and_then(|text| parse(&text)),
            );
        }
        for device in below {
            if !found.contains(&device) {
                found.push(device);
                left.push(device);
            }
        }
    }
    found
}

/// Whether it has partitions, or something else is made of it.
pub(super) fn is_divided(device: Device) -> bool {
    let entries = |path: PathBuf| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let shown = shown(device);
    entries(shown.join("holders")).next().is_some() || entries(shown).any(|path| path.join("partition").exists())
}

fn shown(device: Device) -> PathBuf {
    // through the link: the disk is above the real folder
    let path = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    fs::canonicalize(&path).unwrap_or(path)
}

fn parse(text: &str) -> Option<Device> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse("259:3\n"), Some(makedev(259, 3)));
        for junk in ["", "8", "8:", "x:y"] {
            assert_eq!(parse(junk), None);
        }
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        for path in ["/dev/null", "/etc", "/nonexistent"] {
            assert_eq!(number(Path::new(path)), None);
        }
    }
}
