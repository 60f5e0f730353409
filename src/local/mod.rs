//! What the local commands (`status`, `manage`, `unmanage`, `check`, `firmware`, `diag`) talk to: one JSON line each way over a
//! unix socket in the runtime folder. Root and the group `iotdm-agent` may use it; the file's mode says so. A file that
//! a command hands over follows its line: so it is read with the rights of whoever gave the command, and from where the
//! daemon's sandbox does not reach.
//!
//! It never decides anything: requests go to the daemon as [`Call`]s, and what comes back is written out.

mod client;
mod server;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use client::{ClientError, ask, hand_over};
pub use server::{Call, Inbox, Server, listen};

/// The longest line either side takes, in bytes.
pub const MAX_LINE: usize = 256 * 1024;

/// The socket's name within the runtime folder.
const SOCKET: &str = "control.sock";
/// The runtime folder, unless systemd names another (`$RUNTIME_DIRECTORY`).
const RUNTIME_DIRECTORY: &str = "/run/iotdm-agent";

/// Where the socket is.
pub fn socket_path(runtime_directory: Option<&Path>) -> PathBuf {
    runtime_directory.unwrap_or(Path::new(RUNTIME_DIRECTORY)).join(SOCKET)
}

/// What a local command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things stand.
    Status,
    /// Where the host is, and why the service is not told more.
    Location,
    /// Send a manage request; take the device back into management if need be.
    Manage,
    /// Take the device out of management.
    Unmanage,
    /// Look whether the agent has what it needs on this host.
    Check,
    /// Install the firmware image that follows this line.
    FirmwareInstall {
        /// Its name, for the log.
        name: String,
        /// Its length in bytes.
        size: u64,
    },
    /// The firmware on trial is good.
    FirmwareConfirm,
    /// The new firmware is not wanted.
    FirmwareRollback,
    /// Tell the service a log entry.
    DiagAddLog {
        /// 0 information, 1 warning, 2 error.
        severity: u8,
        /// The text.
        message: String,
        /// Anything else, base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
    },
    /// Have the service forget this device's log entries.
    DiagClearLogs,
    /// An error code holds until it is cleared.
    DiagAddError {
        /// Which.
        code: i64,
    },
    /// Error codes that were added by hand hold no more, and the service forgets all.
    DiagClearErrors,
    /// What the service is told of the journal, and what not.
    DiagStatus,
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It was done; for `status` and `check`, the result.
    Done(serde_json::Value),
    /// It was not done, for this reason.
    Failed(String),
}
