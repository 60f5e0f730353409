//! The wish for a factory reset: a file that is there from the request to the end of the wipe, and how far it is.
//!
//! It is lines that are only ever added: the boot in which it was asked for, each boot that worked on it, and for a device
//! that is made anew whether it was made, and how long that took. A line that a power cut left half written is no line. Only what root has written
//! counts.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::WISH;
use super::state_folder::StateFolder;

/// The wish, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The boot in which it was asked for.
    pub(super) asked_in: String,
    /// The boots that have worked on it, the latest last.
    pub(super) boots: Vec<String>,
    /// The devices that are made.
    pub(super) formatted: Vec<PathBuf>,
    /// The devices that could not be made, and why.
    pub(super) unformatted: Vec<(PathBuf, String)>,
    /// How long that took in the latest boot.
    pub(super) took: Duration,
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

/// The device is made anew.
pub(super) fn note_formatted(folder: &StateFolder, device: &Path) -> io::Result<()> {
    folder.append(WISH, &format!("formatted={}", device.display()))
}

/// The device is not made anew, and why.
pub(super) fn note_unformatted(folder: &StateFolder, device: &Path, reason: &str) -> io::Result<()> {
    let reason: String = reason.replace('\n', " ").chars().take(300).collect();
    folder.append(WISH, &format!("unformatted={}: {reason}", device.display()))
}

/// All of them together took so long in this boot.
pub(super) fn note_took(folder: &StateFolder, took: Duration) -> io::Result<()> {
    folder.append(WISH, &format!("took_ms={}", took.as_millis()))
}

fn parse(text: &str) -> Option<Wish> {
    let (mut asked_in, mut boots) = (None, Vec::new());
    let (mut formatted, mut unformatted, mut took) = (Vec::new(), Vec::new(), Duration::ZERO);
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once('=') {
            Some(("asked_in", id)) if is_boot_id(id) => asked_in = Some(id.to_owned()),
            Some(("boot", id)) if is_boot_id(id) && !boots.iter().any(|boot| boot == id) => {
                boots.push(id.to_owned());
                took = Duration::ZERO;
            }
            Some(("took_ms", number)) => took = number.parse().map(Duration::from_millis).unwrap_or(took),
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
        formatted,
        unformatted,
        took,
    })
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
            "asked_in={ID}\nboot={ID}\ntook_ms=1500\ntook_ms=\nformatted=/dev/sd\nboot=01234\nformatted=/dev/sda4\nbo"
        ))
        .unwrap();
        assert_eq!(wish.asked_in, ID);
        assert_eq!(wish.boots, [ID]);
        assert_eq!(wish.took, Duration::from_millis(1500));
        let later = format!(
            "asked_in={ID}\nboot={ID}\ntook_ms=1500\nboot={}\n",
            ID.replace('0', "f")
        );
        assert_eq!(parse(&later).unwrap().took, Duration::ZERO, "of another boot");
        assert_eq!(wish.formatted.last().unwrap(), Path::new("/dev/sda4"));
        assert_eq!(parse(&format!("asked_in={ID}")), None);
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        leave(&state, ID).unwrap();
        let device = Path::new("/dev/disk/by-partlabel/my apps");
        note_unformatted(&state, device, "mkfs:\nno").unwrap();
        note_formatted(&state, device).unwrap();
        let Left::Wish(wish) = read(&state) else {
            panic!("a wish")
        };
        assert_eq!(wish.unformatted, [(device.to_owned(), "mkfs: no".to_owned())]);
        assert_eq!(wish.formatted, [device]);
    }
}
