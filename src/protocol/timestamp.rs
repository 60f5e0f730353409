//! Timestamps as the service takes them: ISO 8601 (RFC 3339) with a zone, no microseconds.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Unix seconds as `2024-05-01T10:00:00Z`. `None` outside the years 0 to 9999.
pub fn format(unix_seconds: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(unix_seconds).ok()?;
    if !(0..=9999).contains(&at.year()) {
        return None;
    }
    at.format(&Rfc3339).ok()
}

/// Unix milliseconds as `2024-05-01T10:00:00.250Z`, whole seconds without a fraction. `None` outside the years 0 to
/// 9999.
pub fn format_ms(unix_ms: i64) -> Option<String> {
    let seconds = format(unix_ms.div_euclid(1000))?;
    Some(match unix_ms.rem_euclid(1000) {
        0 => seconds,
        ms => format!("{}.{ms:03}Z", seconds.trim_end_matches('Z')),
    })
}

/// The longest time that is read, in bytes: a fraction may have any number of digits.
const MAX_TEXT: usize = 64;

/// Unix milliseconds of an RFC 3339 text with a zone; what is finer than a millisecond is cut.
pub fn parse(text: &str) -> Option<i64> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_with_a_zone_and_read_back() {
        assert_eq!(format(1_714_557_600).as_deref(), Some("2024-05-01T10:00:00Z"));
        assert_eq!(parse("2024-05-01T12:00:00.5+02:00"), Some(1_714_557_600_500));
        assert_eq!(parse("2024-05-01T10:00:00"), None, "a time without a zone says nothing");
        assert_eq!(parse(""), None);
        assert_eq!(
            parse(&format!("2024-05-01T10:00:00.{}Z", "0".repeat(64))),
            None,
            "endless"
        );
        assert_eq!(format(i64::MAX), None);
        assert_eq!(format_ms(i64::MAX), None);
        assert_eq!(format_ms(1_714_557_600_000).as_deref(), Some("2024-05-01T10:00:00Z"));
        assert_eq!(
            format_ms(1_714_557_600_050).as_deref(),
            Some("2024-05-01T10:00:00.050Z")
        );
        assert_eq!(format_ms(-1).as_deref(), Some("1969-12-31T23:59:59.999Z"));
    }
}
