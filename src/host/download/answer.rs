//! What a server's answer means for a download that has some bytes already: the rest, all of it anew, or nothing.
//!
//! Facts: RFC 9110, ranges (14), If-Range (13.1.5), validators (8.8); RFC 9112, lengths of bodies (6.3).

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, TRANSFER_ENCODING};
use reqwest::{StatusCode, Version};

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
    /// The length of the body, when it is told.
    pub(super) length: Option<u64>,
}

/// What was asked for, and what is known of the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    /// Bytes that are there; above zero the rest was asked for.
    pub(super) from: u64,
    pub(super) etag: Option<&'a str>,
    pub(super) total: Option<u64>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The whole file comes. `total`: its length. `ends`: an end of the body before its time would be noticed.
    Whole {
        total: Option<u64>,
        etag: Option<String>,
        ends: bool,
    },
    /// The bytes from `from` on come.
    Rest { total: Option<u64> },
    /// All bytes are there already.
    Complete,
    /// It lies elsewhere.
    Redirect(String),
    /// What is there does not fit: begin anew.
    Anew(String),
    /// Later, perhaps.
    Later(String),
    /// No, for good.
    No(String),
}

/// Reads the head of an answer.
pub(super) fn read(head: &Head, asked: &Asked) -> Answer {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    if head.status.is_success()
        && let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    {
        return Answer::No(format!(
            "it sends the file packed ({encoding}), which was not asked for"
        ));
    }
    match head.status {
        StatusCode::OK => {
            let chunked = head.version >= Version::HTTP_11
                && text(TRANSFER_ENCODING).is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
            Answer::Whole {
                total: head.length,
                etag: text(ETAG).filter(|etag| is_strong(etag)).map(str::to_owned),
                ends: head.length.is_some() || chunked,
            }
        }
        StatusCode::PARTIAL_CONTENT => rest(text(CONTENT_RANGE), text(ETAG), asked),
        StatusCode::RANGE_NOT_SATISFIABLE if asked.from > 0 => match text(CONTENT_RANGE).and_then(unsatisfied) {
            Some(total) if total == asked.from => Answer::Complete,
            _ => Answer::Anew("it has fewer bytes than it had".to_owned()),
        },
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => match text(LOCATION) {
            Some(location) => Answer::Redirect(location.to_owned()),
            None => Answer::No(format!("it answers {} without an address", head.status)),
        },
        // These say themselves that they are about the moment, not about the address.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Answer::Later(format!("it answers {}", head.status))
        }
        status if status.is_server_error() => Answer::Later(format!("it answers {status}")),
        status => Answer::No(format!("it answers {status}")),
    }
}

fn rest(range: Option<&str>, etag: Option<&str>, asked: &Asked) -> Answer {
    let Some((first, total)) = range.and_then(satisfied) else {
        return Answer::Anew("it sends a part of the file and does not say which".to_owned());
    };
    if asked.from == 0 || first != asked.from {
        return Answer::Anew(format!(
            "it sends the part from byte {first} on, which was not asked for"
        ));
    }
    if matches!((total, asked.total), (Some(is), Some(was)) if is != was) {
        return Answer::Anew("its file has another length than before".to_owned());
    }
    if etag.is_some() && etag != asked.etag {
        return Answer::Anew("its file is another one than before".to_owned());
    }
    Answer::Rest {
        total: total.or(asked.total),
    }
}

/// A validator that changes with every byte. Weak ones (`W/"..."`) do not.
fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

/// `bytes FIRST-LAST/TOTAL`, with `*` for a total that is not known. Both numbers must make sense.
fn satisfied(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = range.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// `bytes */TOTAL`
fn unsatisfied(range: &str) -> Option<u64> {
    let total = range.trim().strip_prefix("bytes")?.trim_start().strip_prefix("*/")?;
    total.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use reqwest::header::HeaderName;

    fn answer(status: u16, headers: &[(&'static str, &str)], length: Option<u64>, asked: Asked) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let head = Head {
            status: StatusCode::from_u16(status).unwrap(),
            version: Version::HTTP_11,
            headers: &map,
            length,
        };
        read(&head, &asked)
    }

    const HALF: Asked = Asked {
        from: 50,
        etag: Some("\"1\""),
        total: Some(100),
    };

    #[test]
    fn fwd_11_only_the_very_rest_of_the_very_same_file_is_gone_on_with() {
        let of = |range: &str, etag: &str| answer(206, &[("content-range", range), ("etag", etag)], Some(50), HALF);
        assert_eq!(of("bytes 50-99/100", "\"1\""), Answer::Rest { total: Some(100) });
        assert_eq!(of("bytes 50-69/100", "\"1\""), Answer::Rest { total: Some(100) });
        assert_eq!(of("bytes 50-99/*", "\"1\""), Answer::Rest { total: Some(100) });
        for (range, etag) in [
            ("bytes 0-99/100", "\"1\""),
            ("bytes 49-99/100", "\"1\""),
            ("bytes 0-49/100", "\"1\""),
            ("bytes 50-100/101", "\"1\""),
            ("bytes 50-99/100", "\"2\""),
            ("bytes 50-99/100", "W/\"1\""),
            ("bytes 99-50/100", "\"1\""),
            ("bytes 50-100/100", "\"1\""),
            ("pages 50-99/100", "\"1\""),
            ("bytes 50-99", "\"1\""),
            ("", "\"1\""),
        ] {
            assert!(matches!(of(range, etag), Answer::Anew(_)), "{range} {etag}");
        }
        assert!(matches!(answer(206, &[], Some(50), HALF), Answer::Anew(_)));
        let unasked = answer(206, &[("content-range", "bytes 0-99/100")], Some(100), Asked::default());
        assert!(matches!(unasked, Answer::Anew(_)));
    }

    #[test]
    fn fwd_11_a_range_behind_the_end_means_that_all_is_there_or_that_the_file_has_changed() {
        let of = |range: &str| answer(416, &[("content-range", range)], Some(0), HALF);
        assert_eq!(of("bytes */50"), Answer::Complete);
        assert!(matches!(of("bytes */40"), Answer::Anew(_)));
        assert!(matches!(of("bytes */100"), Answer::Anew(_)));
        assert!(matches!(of(""), Answer::Anew(_)));
        assert!(matches!(answer(416, &[], None, Asked::default()), Answer::No(_)));
    }

    #[test]
    fn only_a_strong_validator_is_kept() {
        for (etag, kept) in [
            ("\"1\"", true),
            ("\"\"", true),
            ("W/\"1\"", false),
            ("1", false),
            ("\"", false),
        ] {
            let Answer::Whole { etag: found, .. } = answer(200, &[("etag", etag)], Some(100), Asked::default()) else {
                panic!("{etag}");
            };
            assert_eq!(found.is_some(), kept, "{etag}");
        }
    }

    #[test]
    fn a_body_without_length_shows_its_end_only_when_it_is_chunked() {
        let ends = |headers: &[(&'static str, &str)], length| match answer(200, headers, length, Asked::default()) {
            Answer::Whole { ends, .. } => ends,
            other => panic!("{other:?}"),
        };
        assert!(ends(&[], Some(1)));
        assert!(ends(&[("transfer-encoding", "chunked")], None));
        assert!(!ends(&[], None));
    }

    #[test]
    fn fwd_04_4xx_is_for_good_and_5xx_and_too_many_requests_are_not() {
        for status in [204, 300, 304, 400, 401, 403, 404, 410, 451] {
            assert!(matches!(answer(status, &[], None, HALF), Answer::No(_)), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(answer(status, &[], None, HALF), Answer::Later(_)), "{status}");
        }
        assert!(matches!(answer(302, &[], None, HALF), Answer::No(_)));
        assert_eq!(
            answer(308, &[("location", "/x")], None, HALF),
            Answer::Redirect("/x".to_owned())
        );
        assert!(matches!(
            answer(200, &[("content-encoding", "gzip")], Some(1), HALF),
            Answer::No(_)
        ));
    }
}
