//! The wish for a factory reset: a file that is there from the request to the end of the wipe, and how far it is.
//!
//! It is lines that are only ever added: the boot in which it was asked for, and each boot that worked on it. A line that
//! a power cut left half written is no line. Only what root has written counts.

use std::io;

use super::WISH;
use super::state_folder::StateFolder;

/// The wish, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The boot in which it was asked for.
    pub(super) asked_in: String,
    /// The boots that have worked on it, the latest last.
    pub(super) boots: Vec<String>,
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
    folder.replace(WISH, &format!("asked_in={boot}\n"), 0o600)
}

/// This boot works on it.
pub(super) fn note_boot(folder: &StateFolder, boot: &str) -> io::Result<()> {
    folder.append(WISH, &format!("boot={boot}"))
}

fn parse(text: &str) -> Option<Wish> {
    let (mut asked_in, mut boots) = (None, Vec::new());
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_once('=') {
            Some(("asked_in", id)) if is_boot_id(id) => asked_in = Some(id.to_owned()),
            Some(("boot", id)) if is_boot_id(id) && !boots.iter().any(|boot| boot == id) => boots.push(id.to_owned()),
            _ => {}
        }
    }
    Some(Wish {
        asked_in: asked_in?,
        boots,
    })
}

fn is_boot_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
