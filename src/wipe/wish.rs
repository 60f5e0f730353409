//! The wish for a factory reset: a file that is there from the request to the end of the wipe, and how far it is.
//!
//! It is lines that are only ever added: the boot in which it was asked for, each boot that worked on it, and for a device
//! that is made anew what it is called, and whether it was made. A line that a power cut left half written is no line.
//! Only what root has written counts.

use std::io;
use std::path::{Path, PathBuf};

use super::WISH;
use super::state_folder::StateFolder;

/// The wish, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The boot in which it was asked for.
    pub(super) asked_in: String,
    /// The boots that have worked on it, the latest last.
    pub(super) boots: Vec<String>,
    /// The file systems that are made anew, as they were.
    pub(super) names: Vec<(PathBuf, Name)>,
    /// The devices that are made.
    pub(super) formatted: Vec<PathBuf>,
    /// The devices that could not be made, and why.
    pub(super) unformatted: Vec<(PathBuf, String)>,
}

/// By what a file system is known to fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// As mke2fs(8) takes it.
    pub(super) uuid: String,
    /// At most 16 bytes.
    pub(super) label: Vec<u8>,
}

/// What lies under the wish's name.
#[derive(Debug)]
pub(super) enum Left {
    Nothing,
    Wish(Wish),
    /// Something else, in words.
    Odd(String),
}

pub(super) fn read(folder: &StateFolder) -> Left {
    match folder.read(WISH) {
        Ok(None) => Left::Nothing,
        Ok(Some(found)) if found.owner != nix::unistd::geteuid().as_raw() => {
            Left::Odd(format!("the wish was written by user {}, not by root", found.owner))
        }
        Ok(Some(found)) => parse(&found.text).map_or_else(
            || Left::Odd("the wish does not say in which boot it was left".to_owned()),
            Left::Wish,
        ),
        Err(error) => Left::Odd(format!("the wish cannot be read: {error}")),
    }
}

pub(super) fn leave(folder: &StateFolder, boot: &str) -> io::Result<()> {
    folder.replace(WISH, &format!("asked_in={boot}\n"), 0o644)
}

/// This boot works on it.
pub(super) fn note_boot(folder: &StateFolder, boot: &str) -> io::Result<()> {
    folder.append(WISH, &format!("boot={boot}"))
}

/// What the file system on a device is called, before it is made anew.
pub(super) fn note_name(folder: &StateFolder, device: &Path, name: &Name) -> io::Result<()> {
    let label: String = name.label.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.append(WISH, &format!("name={} {label} {}", name.uuid, device.display()))
}

/// The device is made anew.
pub(super) fn note_formatted(folder: &StateFolder, device: &Path) -> io::Result<()> {
    folder.append(WISH, &format!("formatted={}", device.display()))
}

/// The device is not made anew, and why.
pub(super) fn note_unformatted(folder: &StateFolder, device: &Path, reason: &str) -> io::Result<()> {
    let reason: String = reason.replace('\n', " ").chars().take(300).collect();
    folder.append(WISH, &format!("unformatted={}: {reason}", device.display()))
}

fn parse(text: &str) -> Option<Wish> {
    let (mut asked_in, mut boots) = (None, Vec::new());
    let (mut names, mut formatted, mut unformatted) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once('=') {
            Some(("asked_in", id)) if is_boot_id(id) => asked_in = Some(id.to_owned()),
            Some(("boot", id)) if is_boot_id(id) && !boots.iter().any(|boot| boot == id) => boots.push(id.to_owned()),
            Some(("name", name)) => names.extend(parse_name(name)),
            Some(("formatted", device)) => formatted.push(PathBuf::from(device)),
            Some(("unformatted", told)) => {
                let told = told.split_once(": ");
                unformatted.extend(told.map(|(device, reason)| (PathBuf::from(device), reason.to_owned())));
            }
            _ => {}
        }
    }
    Some(Wish {
        asked_in: asked_in?,
        boots,
        names,
        formatted,
        unformatted,
    })
}

fn parse_name(text: &str) -> Option<(PathBuf, Name)> {
    let mut fields = text.splitn(3, ' ');
    let (uuid, label, device) = (fields.next()?, fields.next()?, fields.next()?);
    let byte = |at: usize| u8::from_str_radix(label.get(at..at + 2)?, 16).ok();
    let label: Option<Vec<u8>> = (0..label.len()).step_by(2).map(byte).collect();
    Some((
        PathBuf::from(device),
        Name {
            uuid: uuid.to_owned(),
            label: label?,
        },
    ))
}

fn is_boot_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn half_a_line_is_no_line_and_what_comes_after_it_counts() {
        let wish = parse(&format!(
            "asked_in={ID}\nboot={ID}\nformatted=/dev/sd\nboot=01234\nformatted=/dev/sda4\nbo"
        ))
        .unwrap();
        assert_eq!(wish.asked_in, ID);
        assert_eq!(wish.boots, [ID]);
        assert_eq!(wish.formatted.last().unwrap(), Path::new("/dev/sda4"));
        assert_eq!(parse(&format!("asked_in={ID}")), None);
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        leave(&state, ID).unwrap();
        let name = Name {
            uuid: "abababab-abab-abab-abab-abababababab".to_owned(),
            label: b"my apps\xff".to_vec(),
        };
        let device = Path::new("/dev/disk/by-partlabel/my apps");
        note_name(&state, device, &name).unwrap();
        note_unformatted(&state, device, "mkfs:\nno").unwrap();
        note_formatted(&state, device).unwrap();
        let Left::Wish(wish) = read(&state) else {
            panic!("a wish")
        };
        assert_eq!(wish.names, [(device.to_owned(), name)]);
        assert_eq!(wish.unformatted, [(device.to_owned(), "mkfs: no".to_owned())]);
        assert_eq!(wish.formatted, [device]);
    }
}
