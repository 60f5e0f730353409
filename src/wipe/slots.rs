//! The devices of RAUC's slots, by RAUC's own configuration: in early boot nobody else can tell them.
//!
//! Facts: RAUC's "Reference", `system.conf`: sections `[slot.CLASS.INDEX]` with `device=`, `statusfile=` in `[system]`;
//! RAUC looks for it in `/etc`, `/run` and `/usr/lib`, and here all of them count.

use std::io;
use std::path::{Path, PathBuf};

/// Where RAUC looks for its configuration.
const FILES: [&str; 3] = [
    "/etc/rauc/system.conf",
    "/run/rauc/system.conf",
    "/usr/lib/rauc/system.conf",
];

/// What RAUC's configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// Each slot with its device.
    pub(super) devices: Vec<(String, PathBuf)>,
    /// Where RAUC notes what is in the slots.
    pub(super) status_files: Vec<PathBuf>,
}

/// Reads it; a host without RAUC has no slots.
pub(super) fn read() -> io::Result<Slots> {
    let mut slots = Slots::default();
    for file in FILES {
        match std::fs::read_to_string(file) {
            Ok(text) => parse(&text, &mut slots),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{file} cannot be read: {error}"))),
        }
    }
    Ok(slots)
}

fn parse(text: &str, slots: &mut Slots) {
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = Path::new(value.trim());
        match (section.strip_prefix("slot."), key.trim()) {
            (Some(slot), "device") => slots.devices.push((slot.to_owned(), value.to_owned())),
            (None, "statusfile" | "data-directory") if section == "system" && value.is_absolute() => {
                slots.status_files.push(value.to_owned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_status_file_are_found_where_rauc_has_them() {
        let mut slots = Slots::default();
        parse(
            "[system]\ncompatible=x\nstatusfile = /data/rauc.status\n# device=/dev/no\n[slot.rootfs.0]\n\
             device=/dev/sda2\ntype=ext4\n\n[ slot.rootfs.1 ]\n device = /dev/disk/by-partlabel/b\n[keyring]\npath=/x\n",
            &mut slots,
        );
        assert_eq!(slots.status_files, [PathBuf::from("/data/rauc.status")]);
        assert_eq!(
            slots.devices,
            [
                ("rootfs.0".to_owned(), PathBuf::from("/dev/sda2")),
                ("rootfs.1".to_owned(), PathBuf::from("/dev/disk/by-partlabel/b")),
            ]
        );
    }

    #[test]
    fn a_status_file_in_each_slot_is_no_path() {
        let mut slots = Slots::default();
        parse("[system]\nstatusfile=per-slot\n", &mut slots);
        assert_eq!(slots, Slots::default());
    }
}
