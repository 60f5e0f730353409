//! Spans of time as people write them: `90s`, `10m`, `24h`, `7d`.

use std::time::Duration;

/// Reads a whole number with a unit: s, m, h or d.
///
/// # Errors
/// Says how a span is written.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time; write for example 90s, 10m, 24h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "s",
            "10",
            "1.5h",
            "-1s",
            "10 m",
            "9\u{e9}",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(parse(text).is_err_and(|error| error.contains("for example")), "{text}");
        }
    }
}
