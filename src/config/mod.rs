//! The configuration: fragments, merged inputs, validated settings.
//!
//! Every file is parsed on its own ([`fragment`]), later files win key by key ([`Inputs`]), and what remains is checked
//! as a whole ([`validate`]). So every error names the file, line and column that caused it, and all errors are told
//! at once. Reads files and nothing else: no environment, no network, no secret (a token is named by its path).
//! Facts: the protocol's rules for identifiers (CON-07, CON-08) and lifetime (MNG-03); `docs/configuration.md` is the
//! same for people.

mod error;
mod fragment;
mod keys;
mod settings;
mod units;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use error::{ConfigError, Problem};
pub use settings::{
    ClientCertificate, DEFAULT_FACTORY_RESET_UNIT, DEFAULT_STATE_DIRECTORY, Device, DeviceInfo, Diagnostics,
    ErrorCause, ErrorCode, FactoryReset, Firmware, FirmwareReboot, Kind, Location, LocationSource, Manage, Proxy,
    Reboot, Service, Settings, State, Token, Trial, Url, Window,
};

use fragment::{Located, parse};

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/iotdm-agent/config.toml";

/// The folder beside the configuration file whose `*.toml` files are read after it, in the order of their names.
pub const DROP_INS: &str = "conf.d";

/// A configuration that is free of errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub settings: Configuration,
    /// The files it was read from, in the order they were read; later ones win.
    pub files: Vec<PathBuf>,
    /// What is allowed but hardly meant, such as a token that goes over the wire in the clear.
    pub warnings: Vec<Problem>,
}

/// Whether this host has been given an identity yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Configuration {
    /// Everything that a session needs is there.
    Configured(Box<Settings>),
    /// A fresh installation: these keys are still to be set. Not an error.
    NotConfigured {
        /// The keys that have no default, such as `device.id`.
        missing: Vec<&'static str>,
    },
}

/// The merged inputs: for each key that some file sets, the value that won and where it stands.
type Inputs = BTreeMap<&'static str, Located>;

/// Reads `path`, then `conf.d/*.toml` beside it in the order of their names, and checks the whole.
///
/// `credentials` is systemd's credential folder (`$CREDENTIALS_DIRECTORY`): a file `token` in it is used when no
/// `token_file` is set.
///
/// # Errors
/// Everything that is wrong, all at once, in the order of files and lines.
pub fn load(path: &Path, credentials: Option<&Path>) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut inputs = Inputs::new();
    let mut failures = Vec::new();
    let files = files(path, &mut failures);
    for file in &files {
        match std::fs::read(file) {
            Ok(bytes) => inputs.append(&mut parse(file, &bytes, &mut problems)),
            Err(error) => failures.push((file.clone(), error)),
        }
    }
    let unreadable = failures.iter().any(|(_, error)| may_pass(error));
    problems.extend(
        failures
            .iter()
            .map(|(file, error)| Problem::file(file, format!("cannot be read: {error}"))),
    );
    let mut warnings = Vec::new();
    let settings = validate::settings(&inputs, credentials, &mut problems, &mut warnings);
    let order = |problem: &Problem| {
        (
            files.iter().position(|file| *file == problem.file),
            problem.line,
            problem.column,
        )
    };
    problems.sort_by_key(order);
    warnings.sort_by_key(order);
    if !problems.is_empty() {
        return Err(ConfigError { problems, unreadable });
    }
    Ok(Loaded {
        settings,
        files,
        warnings,
    })
}

/// Whether it may be otherwise at the next try, with nobody near. What is not there and what is closed is a person's
/// to mend.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    !matches!(error.kind(), NotFound | PermissionDenied | IsADirectory | NotADirectory)
}

fn files(path: &Path, failures: &mut Vec<(PathBuf, io::Error)>) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or_else(|| Path::new("")).join(DROP_INS);
    let mut drop_ins = Vec::new();
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => drop_ins.push(entry.path()),
                    Err(error) => failures.push((folder.clone(), error)),
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => failures.push((folder, error)),
    }
    drop_ins.retain(|file| {
        let hidden = file
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        file.extension().is_some_and(|extension| extension == "toml") && !hidden
    });
    drop_ins.sort();
    std::iter::once(path.to_path_buf()).chain(drop_ins).collect()
}
