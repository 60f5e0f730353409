//! `/etc/fstab`, as far as the plan hangs on it: which device is mounted where, and with which options.
//!
//! It is read to warn beforehand; whether a wipe is allowed is never concluded from it.
//! Facts: fstab(5), systemd.mount(5).

use std::path::{Path, PathBuf};

use super::{WIPE_UNIT, mounts};

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The device file.
    pub(super) device: PathBuf,
    /// Where it is mounted.
    pub(super) folder: PathBuf,
    options: &'a str,
    /// Whether the file system is checked before it is mounted.
    pub(super) checked: bool,
}

impl Entry<'_> {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }
}

/// The file's text; empty when there is none.
pub(super) fn read() -> String {
    std::fs::read_to_string("/etc/fstab").unwrap_or_default()
}

/// Its lines.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (spec, folder, _, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Entry {
            device: named(spec),
            folder: mounts::path(folder.as_bytes()),
            options,
            checked: fields.nth(1).is_some_and(|pass| pass != "0"),
        })
    })
}

/// Whether the boot does not wait for what is mounted on `folder`, and the wipe is not told to by an option there.
pub(super) fn is_not_awaited(text: &str, folder: &Path) -> bool {
    let before = format!("x-systemd.before={WIPE_UNIT}");
    let mut on_it = entries(text).filter(|entry| entry.folder == folder);
    on_it.any(|entry| entry.has("nofail") && !entry.has(&before))
}

/// The device file of the first field.
fn named(spec: &str) -> PathBuf {
    let links = [
        ("PARTLABEL=", "by-partlabel"),
        ("PARTUUID=", "by-partuuid"),
        ("LABEL=", "by-label"),
        ("UUID=", "by-uuid"),
    ];
    for (tag, folder) in links {
        if let Some(value) = spec.strip_prefix(tag) {
            return Path::new("/dev/disk").join(folder).join(value.trim_matches('"'));
        }
    }
    PathBuf::from(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_fstab_is_a_link_below_dev_disk() {
        assert_eq!(named("PARTLABEL=app"), PathBuf::from("/dev/disk/by-partlabel/app"));
        assert_eq!(named("UUID=\"1-2\""), PathBuf::from("/dev/disk/by-uuid/1-2"));
        assert_eq!(named("/dev/sda4"), PathBuf::from("/dev/sda4"));
    }

    #[test]
    fn what_the_boot_does_not_wait_for_is_known() {
        let text = "# /data\n\nLABEL=a /data ext4 noatime,nofail 0 2\n/dev/sdb /srv/my\\040data ext4 nofail\n\
                    /dev/sdc /told ext4 nofail,x-systemd.before=iotdm-agent-wipe.service 0 0\n\
                    /dev/sdd /plain ext4 nofailure 0 0\n";
        for (folder, expected) in [
            ("/data", true),
            ("/data/app", false),
            ("/srv/my data", true),
            ("/told", false),
            ("/plain", false),
        ] {
            assert_eq!(is_not_awaited(text, Path::new(folder)), expected, "{folder}");
        }
        let checked: Vec<_> = entries(text).map(|entry| entry.checked).collect();
        assert_eq!(checked, [true, false, false, false]);
    }
}
