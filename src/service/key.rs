//! The key of the REST face: a user and a token in a file that only its owner may read, made at first start.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::outside;

/// A user and a token for HTTP Basic authentication. The token shows up nowhere but in the file.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `a-<org>-<10 characters>`, as the platform's API keys are called.
    pub user: String,
    /// The secret.
    pub token: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the key file {} cannot be {what}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Others may read the secret.
    #[error("the key file {} may be read by others; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It has no user and token.
    #[error("the key file {} does not hold user = \"...\" and token = \"...\": {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
}

impl Key {
    /// The key in the file; made first when there is none.
    ///
    /// # Errors
    /// The file cannot be read or written, others may read it, or its content is no key.
    pub fn load_or_make(path: &Path, org: &str) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => Self::make(path, org),
            loaded => loaded,
        }
    }

    /// The key in the file.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or its content is no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |error| KeyError::File {
            path: path.to_owned(),
            what: "read",
            error,
        };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
        // A group is deliberate: that is how operators get to read it.
        if mode & 0o007 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| KeyError::Content {
            path: path.to_owned(),
            error: error.message().to_owned(),
        })
    }

    fn make(path: &Path, org: &str) -> Result<Self, KeyError> {
        let key = Key {
            user: format!("a-{org}-{}", &outside::secret()[..10]),
            token: outside::secret(),
        };
        let text = format!(
            "# The key of the REST face of iotdm serve. Whoever can read this can reboot devices and install firmware on them.\n\
             user = \"{}\"\ntoken = \"{}\"\n",
            key.user, key.token
        );
        write(path, text.as_bytes()).map_err(|error| KeyError::File {
            path: path.to_owned(),
            what: "written",
            error,
        })?;
        Ok(key)
    }

    /// What `Authorization: Basic` carries, hashed, so that comparing takes the same time whatever is wrong.
    pub fn digest(&self) -> [u8; 32] {
        digest(format!("{}:{}", self.user, self.token).as_bytes())
    }
}

/// Writes the file whole or not at all: half a key would be refused at every start.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What an interrupted start has left.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Its room may be what a full disk needs.
        let _ = fs::remove_file(&new);
        return written;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// True when these bytes (`user:token`) have this digest.
pub fn matches(given: &[u8], digest_of_key: &[u8; 32]) -> bool {
    let given = digest(given);
    let difference = given.iter().zip(digest_of_key).fold(0, |sum, (a, b)| sum | (a ^ b));
    difference == 0
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_made_once_with_mode_600_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        let made = Key::load_or_make(&path, "acme").unwrap();
        assert!(
            made.user.starts_with("a-acme-") && made.user.len() == 17,
            "{}",
            made.user
        );
        assert_eq!(made.token.len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::load_or_make(&path, "acme").unwrap(), made);
        assert!(!format!("{made:?}").contains(&made.token), "secrets stay out of logs");
    }

    #[test]
    fn what_an_interrupted_first_start_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        std::fs::write(folder.path().join("api-key.new"), "user = \"a-ac").unwrap();
        let made = Key::load_or_make(&path, "acme").unwrap();
        assert_eq!(Key::load(&path).unwrap(), made);
        let names = std::fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["api-key"]);
    }

    #[test]
    fn a_key_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        // A folder cannot be replaced by a file: the last step fails.
        std::fs::create_dir(&path).unwrap();
        assert!(write(&path, b"key").is_err());
        assert!(!folder.path().join("api-key.new").exists());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        Key::load_or_make(&path, "acme").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        let error = Key::load(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Key::load(&path).is_ok(), "a group may be let in on purpose");
    }

    #[test]
    fn a_file_that_holds_no_key_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-key");
        std::fs::write(&path, "user = \"a\"\ntokn = \"hunter2\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Key::load(&path).unwrap_err().to_string();
        assert!(error.contains("token = ") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn only_the_whole_key_matches() {
        let key = Key {
            user: "a".into(),
            token: "t".into(),
        };
        assert!(matches(b"a:t", &key.digest()));
        for wrong in [&b""[..], b"a:", b"a:T", b"a:tt", b":t"] {
            assert!(!matches(wrong, &key.digest()));
        }
    }
}
