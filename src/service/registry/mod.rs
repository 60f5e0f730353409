//! The registry: what the service knows, in embedded SQLite, one writer.
//!
//! It decides nothing: the brain's changes go in, in one transaction a step, and the rows come out again after a
//! restart. Only diagnostics live here alone, because nobody wants every log of every device in memory; their bounds
//! are kept here too.
//!
//! Facts: SQLite write-ahead log (with `synchronous = FULL` a committed transaction survives a power cut), quotas of
//! the platform (500 KB of diagnostic logs for each device, 7 days).

mod commit;
mod diagnostics;
mod load;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::brain::Rows;

pub use diagnostics::{ErrorCode, Log, MAX_ERROR_CODES, MAX_LOG_AGE_MS, MAX_LOG_BYTES};

/// The schema that this version reads and writes.
const VERSION: i64 = 4;

/// The schemas: each makes the one before it into its own, beginning with nothing. One that was released stays as it is.
const SCHEMAS: [&str; VERSION as usize] = [FIRST, SECOND, THIRD, FOURTH];

/// 0.1: reboot and factory reset.
const FIRST: &str = "
CREATE TABLE devices (
    type_id TEXT NOT NULL, device_id TEXT NOT NULL,
    registered_ms INTEGER NOT NULL, last_seen_ms INTEGER NOT NULL,
    device_info TEXT NOT NULL, metadata TEXT NOT NULL, location TEXT, manages TEXT NOT NULL,
    -- the management; all NULL while unmanaged, but for dormant_ms, which is also NULL when it never ends
    since_ms INTEGER, manage_ms INTEGER, dormant_ms INTEGER, device_actions INTEGER, firmware_actions INTEGER,
    bundles TEXT, firmware TEXT, observed TEXT,
    PRIMARY KEY (type_id, device_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE requests (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, action TEXT NOT NULL, parameters TEXT NOT NULL,
    created_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE statuses (
    request INTEGER NOT NULL, type_id TEXT NOT NULL, device_id TEXT NOT NULL, req_id TEXT NOT NULL,
    status INTEGER NOT NULL, rc INTEGER, message TEXT,
    requested_ms INTEGER NOT NULL, sent_ms INTEGER, accepted_ms INTEGER, completed_ms INTEGER,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (request, type_id, device_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, type_id TEXT NOT NULL, device_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL, timestamp TEXT NOT NULL, severity INTEGER NOT NULL, message TEXT NOT NULL,
    data BLOB, req_id TEXT, bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX logs_of_device ON logs (type_id, device_id, id);
CREATE INDEX logs_by_age ON logs (received_ms);
CREATE TABLE error_codes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, type_id TEXT NOT NULL, device_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL, code INTEGER NOT NULL, req_id TEXT
) STRICT;
CREATE INDEX error_codes_of_device ON error_codes (type_id, device_id, id);
";

/// 0.2: firmware actions, which have steps.
const SECOND: &str = "
ALTER TABLE statuses ADD COLUMN step TEXT NOT NULL DEFAULT 'initiate';
ALTER TABLE statuses ADD COLUMN step_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE statuses ADD COLUMN outcome INTEGER;
ALTER TABLE statuses ADD COLUMN state INTEGER;
ALTER TABLE statuses ADD COLUMN update_status INTEGER;
UPDATE statuses SET step_ms = updated_ms;
UPDATE statuses SET step = 'working' WHERE accepted_ms IS NOT NULL;
";

/// With what an operator writes: a location that the device did not tell by itself.
const THIRD: &str = "
ALTER TABLE devices ADD COLUMN location_written INTEGER NOT NULL DEFAULT 0;
";

/// With the reason of a failed firmware action, which a device's log tells.
const FOURTH: &str = "
ALTER TABLE statuses ADD COLUMN initiated TEXT;
ALTER TABLE statuses ADD COLUMN reason TEXT;
UPDATE statuses SET initiated = req_id WHERE step = 'working';
";

/// Why the registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A newer version of this program has written it.
    #[error(
        "{path} has schema {found}, written by a newer iotdm; this one reads up to {VERSION}: install the newer one again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// A row that this program cannot have written.
    #[error("the registry is damaged: {0}; put the file aside and start again, or restore it from a backup")]
    Damaged(String),
    /// SQLite refuses: the disk is full, the file is no database, ...
    #[error("the registry cannot be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The open registry.
#[derive(Debug)]
pub struct Registry {
    connection: Connection,
}

impl Registry {
    /// Opens or makes the file, and reads every row that the brain works on.
    ///
    /// # Errors
    /// A newer schema, a damaged file, a disk that refuses.
    pub fn open(path: &Path) -> Result<(Self, Rows), RegistryError> {
        // SQLite would make it for all to read, and gives the files beside it the same mode. What refuses this, it says itself.
        let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > VERSION {
            return Err(RegistryError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        if found < VERSION {
            let transaction = connection.transaction()?;
            for schema in SCHEMAS.iter().skip(usize::try_from(found).unwrap_or(0)) {
                transaction.execute_batch(schema)?;
            }
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        let rows = load::rows(&connection)?;
        Ok((Registry { connection }, rows))
    }
}
