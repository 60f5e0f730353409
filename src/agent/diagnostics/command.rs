//! What somebody on the host has to say (`iotdm-agent diag`).

use crate::protocol::diagnostics::Severity;

/// So large may the data of a log be, in bytes: a message has 128 KiB, and base64 makes four of three.
pub const LARGEST_DATA: usize = 64 * 1024;

/// A local command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiagCommand {
    /// One more log.
    AddLog {
        /// How bad it is.
        severity: Severity,
        /// The text; what is secret by its shape is taken out, and it is cut at 2048 bytes.
        text: String,
        /// Sent as it is, in base64: at most [`LARGEST_DATA`] bytes.
        data: Option<Vec<u8>>,
    },
    /// The service is to forget all logs; those that wait for it are dropped.
    ClearLogs,
    /// One more error code, until [`DiagCommand::ClearErrors`].
    AddError(i64),
    /// The service is to forget all error codes; what still holds by a rule is added again.
    ClearErrors,
}
