//! What happened, in words for a person.

use crate::protocol::Report;
use crate::protocol::diagnostics::Severity;
use crate::protocol::firmware::{FirmwareState, UpdateStatus};
use crate::protocol::manage::Manage;

/// The longest text of a line, in characters.
const MAX_TEXT: usize = 500;

/// One line without control characters, cut to a readable length.
pub(super) fn clean(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        clean.push_str("...");
    }
    clean
}

/// `, the reason`, or nothing.
pub(super) fn ending(reason: Option<&str>) -> String {
    match reason {
        Some(reason) if !reason.is_empty() => format!(", {reason}"),
        _ => String::new(),
    }
}

/// What a device reports.
pub(super) fn report(report: &Report) -> String {
    match report {
        Report::Manage(content) => manage(content),
        Report::Unmanage => "is no longer managed".into(),
        Report::Location(at) => format!("is at latitude {}, longitude {}", at.latitude, at.longitude),
        Report::AddErrorCode(code) => format!("has error code {code}"),
        Report::ClearErrorCodes => "cleared its error codes".into(),
        Report::AddLog(entry) => {
            format!("logged ({}): {}", severity(entry.severity), entry.message)
        }
        Report::ClearLogs => "cleared its logs".into(),
        Report::Notify(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} = {}", field.field, field.value))
                .collect();
            format!("notified {}", fields.join(", "))
        }
    }
}

/// How bad a log is, in words.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Information => "information",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn manage(manage: &Manage) -> String {
    let mut facts = Vec::new();
    match manage.lifetime {
        None | Some(0) => facts.push("never dormant".to_owned()),
        Some(seconds) => facts.push(format!("for {}", span(seconds))),
    }
    if let Some(version) = manage.device_info.as_ref().and_then(|info| info.fw_version.as_deref()) {
        facts.push(format!("firmware {version}"));
    }
    let supports = manage.supports.clone().unwrap_or_default();
    let mut takes = Vec::new();
    if supports.device_actions {
        takes.push("device actions");
    }
    if supports.firmware_actions {
        takes.push("firmware actions");
    }
    match takes.as_slice() {
        [] => facts.push("takes no actions".into()),
        takes => facts.push(format!("takes {}", takes.join(" and "))),
    }
    format!("is managed ({})", facts.join(", "))
}

/// `mgmt.firmware.state` in words.
pub fn state_in_words(state: FirmwareState) -> &'static str {
    match state {
        FirmwareState::Idle => "idle",
        FirmwareState::Downloading => "downloading",
        FirmwareState::Downloaded => "downloaded",
    }
}

/// `mgmt.firmware.updateStatus` in words.
pub fn update_status_in_words(status: UpdateStatus) -> &'static str {
    match status {
        UpdateStatus::Success => "success",
        UpdateStatus::InProgress => "in progress",
        UpdateStatus::OutOfMemory => "out of memory",
        UpdateStatus::ConnectionLost => "connection lost",
        UpdateStatus::VerificationFailed => "verification failed",
        UpdateStatus::UnsupportedImage => "unsupported image",
        UpdateStatus::InvalidUri => "invalid URI",
    }
}

/// Seconds as a person says them: `24 h`, `90 min`, `3601 s`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        s if s >= 3600 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_bounded_length() {
        assert_eq!(clean("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(clean(&"x".repeat(1000)).len(), MAX_TEXT + 3);
        assert_eq!(clean(&"x".repeat(MAX_TEXT)).len(), MAX_TEXT);
    }

    #[test]
    fn spans_are_said_in_the_largest_unit_that_fits() {
        assert_eq!(
            [span(86_400), span(5_400), span(3_601)],
            ["24 h", "90 min", "3601 s"].map(String::from)
        );
    }
}
