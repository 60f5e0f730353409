//! Which part of the file a request is for (RFC 9110, section 14).

use std::ops::Range;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200: the whole file.
    All,
    /// 206: these bytes; never empty, never beyond the end.
    Part(Range<u64>),
    /// 416: nothing of it is in the file.
    Nothing,
}

/// Reads `Range` and `If-Range` for a file of this size and entity tag. What is not understood, more than one range, and
/// a range of a file that has changed get the whole file, as the RFC has it.
pub(super) fn wanted(range: Option<&str>, if_range: Option<&str>, etag: &str, size: u64) -> Wanted {
    // Only a strong comparison will do: a date, or a weak tag, is not the same.
    if if_range.is_some_and(|validator| validator.trim() != etag) {
        return Wanted::All;
    }
    let Some((unit, spec)) = range.and_then(|range| range.trim().split_once('=')) else {
        return Wanted::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Wanted::All;
    };
    if !unit.eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::All;
    }
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Wanted::All,
    };
    if part.is_empty() {
        Wanted::Nothing
    } else {
        Wanted::Part(part)
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are far beyond any file.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_has_them() {
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=40-", Wanted::Part(40..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-30", Wanted::Part(70..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("Bytes=5-6", Wanted::Part(5..7)),
            ("bytes=99-99999999999999999999999", Wanted::Part(99..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=6-5", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes", Wanted::All),
        ] {
            assert_eq!(wanted(Some(range), None, "\"t\"", 100), expected, "{range}");
        }
        assert_eq!(wanted(None, None, "\"t\"", 100), Wanted::All);
    }

    #[test]
    fn a_range_of_a_file_that_has_changed_gets_the_whole_file() {
        let range = Some("bytes=40-");
        assert_eq!(wanted(range, Some("\"t\""), "\"t\"", 100), Wanted::Part(40..100));
        for other in ["\"u\"", "W/\"t\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(wanted(range, Some(other), "\"t\"", 100), Wanted::All, "{other}");
        }
    }
}
