//! A data partition of its own is made anew: ext4 again, with the UUID and the label that it had.
//!
//! Both are noted before anything is written and kept until it is made: a power cut in the middle of it is finished by the
//! next boot, and what failed in the middle by the next factory reset. What has the device's path in that boot may be another
//! device, such as somebody's USB disk: only the file system that was noted is made anew, or a device of its size that holds
//! nothing any more. And never one that holds anything of the system, of a slot, or of what must stay. That it is not in use
//! the kernel says (`O_EXCL`), and mkfs.ext4 asks it again.
//! Facts: mke2fs(8); blkid(8); the ext4 documentation, "Super Block"; fstab(5), systemd.mount(5).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::FORMAT_UNIT;
use super::devices::{self, Device};
use super::fstab;
use super::ground::Ground;
use super::names::{self, Name};
use super::plan::Plan;
use super::state_folder::StateFolder;
use super::wish::{self, Wish};

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

/// Why the device of a `format` line must not be made anew; nothing also when it is not known which one it is.
pub(super) fn refusal(plan: &Plan, ground: &Ground, path: &Path) -> Option<String> {
    judge(plan, ground, devices::number_by_name(path)?).err()
}

/// Why a `format` line cannot be carried out, as far as that can be said while the file system is in use.
pub(super) fn problem(plan: &Plan, ground: &Ground, path: &Path) -> Option<String> {
    let device = match devices::number(path) {
        Some(device) => device,
        None => return Some("is no block device, or is not there".to_owned()),
    };
    if let Err(reason) = judge(plan, ground, device) {
        return Some(reason);
    }
    if let Err(error) = Command::new("mkfs.ext4").arg("-V").stdin(Stdio::null()).output() {
        return Some(format!(
            "cannot be made anew: mkfs.ext4 cannot be started ({error}): apt install e2fsprogs"
        ));
    }
    match File::open(path).and_then(|mut file| read_name(&mut file)) {
        Ok(Some(_)) => {}
        Ok(None) => match StateFolder::open(&plan.state) {
            Ok(folder) => {
                if let Err(reason) = half_made(&folder, path) {
                    return Some(reason);
                }
            }
            Err(_) => return Some(NO_EXT4.to_owned()),
        },
        // only root may look, and root does before anything happens
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Some(format!("cannot be read: {error}")),
    }
    order(&fstab::read(), device)
}

const NO_EXT4: &str = "holds no ext4 file system";

/// What a device without an ext4 file system was called, when it is one that was not made to the end: it has the size that
/// was noted, and mkfs.ext4 has cleared it.
fn half_made(folder: &StateFolder, path: &Path) -> Result<Name, String> {
    let noted = names::of(folder, path).ok_or(NO_EXT4)?;
    let size = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0)));
    let size = size.map_err(|error| format!("cannot be read: {error}"))?;
    if size != noted.size {
        return Err(format!(
            "is another device than when the factory reset was asked for: it has {size} bytes, and that one had {}",
            noted.size
        ));
    }
    let output = Command::new("blkid")
        .args(["-p", "-o", "value", "-s", "TYPE"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{NO_EXT4}, and blkid cannot be started: {error}"))?;
    match output.status.code() {
        // it finds nothing
        Some(2) => Ok(noted),
        _ => {
            let kind = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let kind = if kind.is_empty() {
                "something else".to_owned()
            } else {
                kind
            };
            Err(format!("{NO_EXT4} any more, and {kind} instead"))
        }
    }
}

/// Keeps what the devices of the plan are called, as long as there is room for it.
pub(super) fn note_names(folder: &StateFolder, plan: &Plan) -> io::Result<()> {
    for line in &plan.formats {
        // one that cannot be read is told as a problem
        if let Ok(Some(name)) = File::open(&line.path).and_then(|mut file| read_name(&mut file)) {
            names::note(folder, &line.path, &name)?;
        }
    }
    Ok(())
}

/// Makes every device anew that the plan names; those that an earlier boot has made are left alone. What came of it stands
/// in the wish.
pub(super) fn carry_out(folder: &StateFolder, wish: &Wish, plan: &Plan) -> io::Result<()> {
    if plan.formats.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    // the links below /dev come one by one, those of the slots among them
    let devices: Vec<_> = plan.formats.iter().map(|line| awaited(&line.path)).collect();
    let ground = Ground::look(plan);
    for (line, device) in plan.formats.iter().zip(devices) {
        if wish.formatted.contains(&line.path) {
            // A name that stays is not used as long as there is a file system.
            let _ = names::forget(folder, &line.path);
            continue;
        }
        let made = match (ground.problems.first(), device) {
            (Some(problem), _) => Err(problem.clone()),
            (None, None) => Err("is not there".to_owned()),
            (None, Some(device)) => make(folder, plan, &ground, &line.path, device),
        };
        match made {
            Ok(()) => {
                wish::note_formatted(folder, &line.path)?;
                let _ = names::forget(folder, &line.path);
            }
            Err(reason) => wish::note_unformatted(folder, &line.path, &reason)?,
        }
    }
    wish::note_took(folder, begun.elapsed())
}

fn make(folder: &StateFolder, plan: &Plan, ground: &Ground, path: &Path, device: Device) -> Result<(), String> {
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
    let name = match (found, names::of(folder, path)) {
        (Some(found), Some(noted)) if found.uuid != noted.uuid => {
            return Err(format!(
                "holds another file system than when the factory reset was asked for: its UUID is {}, and was {}",
                found.uuid, noted.uuid
            ));
        }
        (Some(found), _) => {
            names::note(folder, path, &found).map_err(|error| format!("its UUID cannot be noted: {error}"))?;
            found
        }
        (None, _) => half_made(folder, path)?,
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
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        return Err(format!(
            "is not made ({}), and its UUID and label are kept: ask for the factory reset again. mkfs.ext4: {said}",
            output.status
        ));
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
    let size = device.seek(SeekFrom::End(0))?;
    Ok(name_of(&block, size))
}

fn name_of(block: &[u8; 1024], size: u64) -> Option<Name> {
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
        size,
        uuid: parts.join("-"),
        label,
    })
}

/// What is missing in `/etc/fstab` for the device to be free when it is made anew.
fn order(text: &str, device: Device) -> Option<String> {
    let wanted = format!("x-systemd.after={FORMAT_UNIT}");
    let of_it = fstab::entries(text).filter(|entry| devices::number(&entry.device) == Some(device));
    for entry in of_it {
        let folder = entry.folder.display();
        if !["nofail", "noauto", "x-systemd.automount"]
            .iter()
            .any(|option| entry.has(option))
        {
            return Some(format!(
                "would keep the host from booting while it is not made, and nobody could ask again: add the option nofail \
                 for {folder} in /etc/fstab"
            ));
        }
        if !entry.has(&wanted) {
            return Some(format!(
                "is mounted on {folder} too early: add the option {wanted} in /etc/fstab"
            ));
        }
        if entry.checked {
            return Some(format!(
                "is checked before it is mounted on {folder}, and not made anew before that: set the last field to 0 in \
                 /etc/fstab"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ext4_is_known_by_its_super_block_and_nothing_else_is() {
        let mut block = [0; 1024];
        assert_eq!(name_of(&block, 4096), None);
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(name_of(&block, 4096), None, "ext2");
        block[0x60] = 0xc2;
        block[0x68..0x78].copy_from_slice(&[0xab; 16]);
        block[0x78..0x7c].copy_from_slice(b"apps");
        let name = name_of(&block, 4096).unwrap();
        assert_eq!(name.uuid, "abababab-abab-abab-abab-abababababab");
        assert_eq!(name.label, b"apps");
    }
}
