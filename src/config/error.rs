//! What is wrong with a configuration: where it stands, and what would be right.
//!
//! A problem never quotes the line it stands on: a password that was put there by mistake must not reach a log.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, or looks wrong, in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file it stands in.
    pub file: PathBuf,
    /// Its line, from 1; absent when it concerns the whole file.
    pub line: Option<usize>,
    /// Its column in characters, from 1.
    pub column: Option<usize>,
    /// The key with its section, such as `service.keep_alive`.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Problem {
    pub(super) fn file(file: &Path, message: String) -> Self {
        Self {
            file: file.to_path_buf(),
            line: None,
            column: None,
            key: None,
            message,
            hint: None,
        }
    }
}

/// `file:line:column: key: message`, and on a second line what would be right.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    {hint}"),
            None => Ok(()),
        }
    }
}

/// The configuration is refused. Holds every problem, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// What is wrong, in the order of files and lines. Never empty.
    pub problems: Vec<Problem>,
    /// A file or a folder is there and could not be read, as with a broken disk: the next try may go better.
    pub unreadable: bool,
}
