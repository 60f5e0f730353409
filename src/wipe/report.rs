//! What a wipe has left for whoever tells it: one small file in the state folder.
//!
//! It is written by root into a folder of the unprivileged agent, and read and removed there by the agent. Members that
//! this version does not know are ignored.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::WISH;
use super::state_folder::{Found, StateFolder};

/// The file in the state folder.
pub const FILE: &str = "factory-reset.report";

/// What has become of a factory reset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The boot in which the wipe ended: 32 hex digits.
    pub id: String,
    /// The boot in which it was asked for: 32 hex digits, or empty when that cannot be known.
    pub asked_in: String,
    /// How long the wipe and the devices that were made anew took in the boot in which it ended, in seconds.
    pub seconds: f64,
    /// How many files (all but folders) it removed in that boot.
    pub files: u64,
    /// The room on the disk that those had, in bytes.
    pub bytes: u64,
    /// The paths and devices of the plan that are wiped.
    pub wiped: Vec<String>,
    /// What could not be wiped, each with the reason. Empty: all is wiped.
    pub failed: Vec<String>,
    /// In how many boots it was worked on: 1 when nothing interrupted it.
    pub boots: u32,
}

impl Report {
    /// What could not be wiped, in one line; nothing when all is wiped.
    pub fn failure(&self) -> Option<String> {
        (!self.failed.is_empty()).then(|| self.failed.join("; "))
    }

    /// How much was wiped, how long it took, and what: in one line. The paths come last, for whoever has room for no more.
    pub fn text(&self) -> String {
        let wiped = match self.wiped.as_slice() {
            [] => "nothing".to_owned(),
            wiped => wiped.join(", "),
        };
        let boots = match self.boots {
            0 | 1 => String::new(),
            boots => format!(" (in {boots} boots; the figures are those of the last one)"),
        };
        format!(
            "wiped {} files, {}, in {:.1} s{boots}: {wiped}",
            self.files,
            super::preview::size(self.bytes),
            self.seconds
        )
    }
}

/// Reads the report, if there is one. What lies under its name and is none counts as an error. The wish that it is the
/// end of goes, if the program died between the two: or a later boot would wipe once more.
///
/// # Errors
/// When the folder or the file cannot be read, or holds something else.
pub fn read(state_directory: &Path) -> io::Result<Option<Report>> {
    let folder = match StateFolder::open(state_directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let Some(Found { text, .. }) = folder.read(FILE)? else {
        return Ok(None);
    };
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} is no report: {error}")))?;
    let its_own = |wish: Found| wish.text.lines().next() == Some(&format!("asked_in={}", report.asked_in));
    if folder.read(WISH)?.is_some_and(its_own) {
        folder.remove(WISH)?;
    }
    Ok(Some(report))
}

/// Removes the report: it is told. That there is none is fine.
///
/// # Errors
/// When it cannot be removed for good.
pub fn discard(state_directory: &Path) -> io::Result<()> {
    StateFolder::open(state_directory)?.remove(FILE)
}

pub(super) fn write(folder: &StateFolder, report: &Report) -> io::Result<()> {
    let mut text = serde_json::to_string(report).map_err(io::Error::other)?;
    text.push('\n');
    folder.replace(FILE, &text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_come_before_a_list_that_may_be_cut() {
        let mut report = Report {
            id: String::new(),
            asked_in: String::new(),
            seconds: 12.34,
            files: 7,
            bytes: 4096,
            wiped: (0..100).map(|number| format!("/data/app-{number}")).collect(),
            failed: Vec::new(),
            boots: 1,
        };
        let text = report.text();
        let begin = "wiped 7 files, 4.0 KiB, in 12.3 s: /data/app-0, /data/app-1, ";
        assert!(text.starts_with(begin) && text.ends_with("/data/app-99"), "{text}");
        report.boots = 3;
        report.wiped.clear();
        assert_eq!(
            report.text(),
            "wiped 7 files, 4.0 KiB, in 12.3 s (in 3 boots; the figures are those of the last one): nothing"
        );
    }
}
