//! What systemd and D-Bus put into the environment: the one place where it is read.

use std::env;
use std::path::PathBuf;

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CREDENTIALS_DIRECTORY` (systemd.exec(5)).
    pub credentials: Option<PathBuf>,
    /// `STATE_DIRECTORY`: the first of them, if there are more.
    pub state_directory: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY`: the first of them, if there are more.
    pub runtime_directory: Option<PathBuf>,
    /// `IOTDM_BOOT_ID`, which the unit sets to `%b`.
    pub boot_id: Option<String>,
    /// `IOTDM_JOURNAL_DIRECTORY`: where the journal's files are, where journald does not write them (for tests).
    pub journal_directory: Option<PathBuf>,
    /// Whether stderr is the journal's (`JOURNAL_STREAM`).
    pub journal: bool,
}

impl Environment {
    /// Reads it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn read() -> Self {
        let first = |name| {
            let value = env::var_os(name)?;
            // systemd separates several folders by colons.
            let text = value.into_string().ok()?;
            text.split(':')
                .next()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        Environment {
            credentials: env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            state_directory: first("STATE_DIRECTORY"),
            runtime_directory: first("RUNTIME_DIRECTORY"),
            boot_id: env::var("IOTDM_BOOT_ID").ok(),
            journal_directory: env::var_os("IOTDM_JOURNAL_DIRECTORY").map(PathBuf::from),
            journal: env::var_os("JOURNAL_STREAM").is_some(),
        }
    }
}
