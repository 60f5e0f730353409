//! A data partition of its own is made anew: ext4 again, with the UUID and the label that it had.
//!
//! Both are noted with the wish before anything is written, so that a power cut in the middle of it is finished by the next
//! boot. Only a device that holds an ext4 file system, or did when it was noted, is touched, and never one that holds
//! anything of the system, of a slot, or of what must stay. That it is not in use the kernel says (`O_EXCL`), and mkfs.ext4
//! asks it again.
//! Facts: mke2fs(8); the ext4 documentation, "Super Block"; fstab(5), systemd.mount(5).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::FORMAT_UNIT;
use super::devices::{self, Device};
use super::ground::Ground;
use super::plan::Plan;
use super::state_folder::StateFolder;
use super::wish::{self, Name, Wish};

/// As long as systemd waits for the device of a mount.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(100);

/// What only a system has. A partition that holds one of them is none of an application's own.
const SYSTEM: [&str; 8] = [
    "/usr",
    "/etc",
    "/boot",
    "/boot/efi",
    "/var",
    "/var/lib",
    "/var/log",
    "/home",
];

/// Why a `format` line cannot be carried out, as far as that can be said while the file system is in use.
pub(super) fn problem(plan: &Plan, ground: &Ground, path: &Path) -> Option<String> {
    let device = match devices::number(path) {
        Some(device) => device,
        None => return Some("is no block device, or is not there".to_owned()),
    };
    if let Err(reason) = judge(plan, ground, device) {
        return Some(reason);
    }
    match File::open(path).and_then(|mut file| read_name(&mut file)) {
        Ok(Some(_)) => {}
        Ok(None) => return Some("holds no ext4 file system".to_owned()),
        // only root may look, and root does before anything happens
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Some(format!("cannot be read: {error}")),
    }
    fs::read_to_string("/etc/fstab")
        .ok()
        .and_then(|fstab| order(&fstab, device))
}

/// Makes every device anew that the plan names; those that an earlier boot has made are left alone. What came of it stands
/// in the wish.
pub(super) fn carry_out(folder: &StateFolder, wish: &Wish, plan: &Plan) -> io::Result<()> {
    let ground = Ground::look(plan);
    for line in &plan.formats {
        if wish.formatted.contains(&line.path) {
            continue;
        }
        let made = match ground.problems.first() {
            Some(problem) => Err(problem.clone()),
            None => make(folder, wish, plan, &ground, &line.path),
        };
        match made {
            Ok(()) => wish::note_formatted(folder, &line.path)?,
            Err(reason) => wish::note_unformatted(folder, &line.path, &reason)?,
        }
    }
    Ok(())
}

fn make(folder: &StateFolder, wish: &Wish, plan: &Plan, ground: &Ground, path: &Path) -> Result<(), String> {
    let Some(device) = awaited(path) else {
        return Err("is not there".to_owned());
    };
    judge(plan, ground, device)?;
    let mut opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_EXCL.bits())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(code) if code == nix::errno::Errno::EBUSY as i32 => {
                format!("is in use already: order its mount after {FORMAT_UNIT}")
            }
            _ => format!("cannot be opened: {error}"),
        })?;
    let found = read_name(&mut opened).map_err(|error| format!("cannot be read: {error}"))?;
    let noted = wish.names.iter().find(|(noted, _)| noted == path).map(|(_, name)| name);
    let name = match (noted, found) {
        (Some(noted), _) => noted.clone(),
        (None, Some(found)) => {
            wish::note_name(folder, path, &found).map_err(|error| format!("its UUID cannot be noted: {error}"))?;
            found
        }
        (None, None) => return Err("holds no ext4 file system".to_owned()),
    };
    drop(opened);
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-U", &name.uuid, "-L"])
        .arg(OsStr::from_bytes(&name.label))
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("mkfs.ext4 cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("mkfs.ext4: {}", said.trim().replace('\n', " ")));
    }
    File::open(path)
        .and_then(|device| device.sync_all())
        .map_err(|error| format!("is not written to the disk: {error}"))
}

/// The device, when it comes: early in a boot it may not be known yet.
fn awaited(path: &Path) -> Option<Device> {
    let begun = Instant::now();
    loop {
        match devices::number(path) {
            None if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            device => return device,
        }
    }
}

fn judge(plan: &Plan, ground: &Ground, device: Device) -> Result<(), String> {
    if let Some(what) = ground.is_system(device) {
        return Err(format!("is {what}"));
    }
    let held = ground.stays.kept.iter().filter(|((on, _), _)| *on == device);
    if let Some(why) = held.map(|(_, why)| why).min() {
        return Err(format!("holds what stays ({why})"));
    }
    let on_it = |path: &&str| fs::metadata(path).is_ok_and(|metadata| metadata.dev() == device);
    if let Some(path) = SYSTEM.iter().find(|path| on_it(path)) {
        return Err(format!("holds {path}"));
    }
    if ground.stays.declared.iter().any(|(declared, _)| *declared == device) {
        let mounts: Vec<_> = plan.mounts.iter().map(|line| line.path.display().to_string()).collect();
        return Err(format!(
            "is declared to be wiped as well, by one of: mount {}",
            mounts.join(", ")
        ));
    }
    if devices::is_divided(device) {
        return Err("is divided, or something else is made of it".to_owned());
    }
    Ok(())
}

/// The name of the ext4 file system on a device; `None`: there is another one, or none.
fn read_name(device: &mut File) -> io::Result<Option<Name>> {
    let mut block = [0_u8; 1024];
    device.seek(SeekFrom::Start(1024))?;
    match device.read_exact(&mut block) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(name_of(&block))
}

fn name_of(block: &[u8; 1024]) -> Option<Name> {
    const MAGIC: [u8; 2] = [0x53, 0xef];
    /// `INCOMPAT_EXTENTS`, in the first byte: ext4 has it, ext2 and ext3 have not.
    const EXTENTS: u8 = 0x40;
    if block[0x38..0x3a] != MAGIC || block[0x60] & EXTENTS == 0 {
        return None;
    }
    let hex: String = block[0x68..0x78].iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    let label: Vec<u8> = block[0x78..0x88]
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect();
    Some(Name {
        uuid: parts.join("-"),
        label,
    })
}

/// What is missing in `/etc/fstab` for the device to be free when it is made anew.
fn order(fstab: &str, device: Device) -> Option<String> {
    for line in fstab.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        let (Some(spec), Some(folder), Some(_), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if devices::number(&named(spec)) != Some(device) {
            continue;
        }
        let wanted = format!("x-systemd.after={FORMAT_UNIT}");
        if !options.split(',').any(|option| option == wanted) {
            return Some(format!(
                "is mounted on {folder} too early: add the option {wanted} in /etc/fstab"
            ));
        }
        if fields.nth(1).is_some_and(|pass| pass != "0") {
            return Some(format!(
                "is checked before it is mounted on {folder}, and not made anew before that: set the last field to 0 in \
                 /etc/fstab"
            ));
        }
    }
    None
}

/// The device file of the first field in fstab(5).
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ext4_is_known_by_its_super_block_and_nothing_else_is() {
        let mut block = [0; 1024];
        assert_eq!(name_of(&block), None);
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(name_of(&block), None, "ext2");
        block[0x60] = 0xc2;
        block[0x68..0x78].copy_from_slice(&[0xab; 16]);
        block[0x78..0x7c].copy_from_slice(b"apps");
        let name = name_of(&block).unwrap();
        assert_eq!(name.uuid, "abababab-abab-abab-abab-abababababab");
        assert_eq!(name.label, b"apps");
    }

    #[test]
    fn a_tag_of_fstab_is_a_link_below_dev_disk() {
        assert_eq!(named("PARTLABEL=app"), PathBuf::from("/dev/disk/by-partlabel/app"));
        assert_eq!(named("UUID=\"1-2\""), PathBuf::from("/dev/disk/by-uuid/1-2"));
        assert_eq!(named("/dev/sda4"), PathBuf::from("/dev/sda4"));
    }
}
