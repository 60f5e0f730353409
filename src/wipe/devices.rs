//! Block devices by their numbers, and which of them consist of which.
//!
//! Facts: `/sys/dev/block/MAJOR:MINOR`: `slaves` are the devices that one is made of (device-mapper, RAID); a partition has
//! a file `partition`, and the folder above it is the disk. `/sys/class/block/NAME/dev` has the number of what the kernel
//! calls NAME; `/run/udev/data/bMAJOR:MINOR` a line `S:LINK` for each link below `/dev`.

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

/// The same, also where `/dev` is hidden (systemd's `PrivateDevices=`): by the kernel's name for it, and by the links
/// that udev has made. That it is there says nothing about whether it can be opened.
pub fn number_by_name(path: &Path) -> Option<u64> {
    let known = || {
        let name = path.strip_prefix("/dev").ok()?.to_str()?;
        // a slash in a kernel's name is an exclamation mark there
        let shown = Path::new("/sys/class/block").join(name.replace('/', "!")).join("dev");
        let by_kernel = fs::read_to_string(shown).ok().and_then(|text| parse(&text));
        by_kernel.or_else(|| linked(Path::new("/run/udev/data"), name))
    };
    number(path).or_else(known)
}

/// Which device has a link of this name below `/dev`, by udev's database.
fn linked(database: &Path, name: &str) -> Option<Device> {
    let entries = fs::read_dir(database).ok()?.flatten();
    entries.into_iter().find_map(|entry| {
        let file = entry.file_name();
        let device = parse(file.to_str()?.strip_prefix('b')?)?;
        let text = fs::read_to_string(entry.path()).ok()?;
        let has = text.lines().any(|line| line.strip_prefix("S:") == Some(name));
        has.then_some(device)
    })
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_link_is_found_in_udevs_database_and_a_kernels_name_in_sys() {
        let database = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(database.path().join(name), text).unwrap();
        put(
            "b8:4",
            "S:disk/by-partlabel/app\nS:disk/by-uuid/1-2\nE:ID_FS_TYPE=ext4\n",
        );
        put(
            "b8:5",
            "E:DEVLINKS=/dev/disk/by-partlabel/data\nS:disk/by-partlabel/app2\n",
        );
        put("b254:0", "S:mapper/vg-app\nS:disk/by-id/dm-name-vg-app\n");
        put("c1:3", "S:disk/by-partlabel/data\n");
        let found = |name: &str| linked(database.path(), name);
        assert_eq!(found("disk/by-partlabel/app"), Some(makedev(8, 4)));
        assert_eq!(found("disk/by-partlabel/app2"), Some(makedev(8, 5)));
        assert_eq!(found("mapper/vg-app"), Some(makedev(254, 0)));
        assert_eq!(found("disk/by-partlabel/data"), None);
        for path in ["/dev/null", "/etc", "/dev/../etc", "/dev"] {
            assert_eq!(number_by_name(Path::new(path)), None, "{path}");
        }
    }

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
