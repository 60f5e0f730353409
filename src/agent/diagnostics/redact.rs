//! What must not leave the host is taken out of texts: passwords, tokens, keys.
//!
//! It knows shapes and no secrets: a password that stands alone in a sentence is not recognised; that is what the
//! configuration's patterns are for. Where a shape may be harmless, too, it goes.

use regex_lite::{Captures, Regex};
use std::borrow::Cow;
use std::sync::LazyLock;

use super::settings::Pattern;

/// What stands in its place.
const REDACTED: &str = "[redacted]";

/// Names whose values are secret, also at the end of a longer name (`client_secret`, `X-Auth-Token`).
const VALUES: &str = r#"(?i)((?:password|passwd|passphrase|passwort|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)\\?["']?\s*[=:]\s*)(?:\\"[^"\\]*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s&]+)"#;

/// Patterns, and what is put in the place of each; `${1}` stays.
static DEFAULTS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        // Whole blocks first: what is cut off in the middle goes to its end.
        (
            r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
            REDACTED,
        ),
        // https://user:password@host, also where the password has an @ or a / of its own: to the last @ of the word
        (r"(?i)([a-z][a-z0-9+.-]*://[^\s/:]*:)\S+@", "${1}[redacted]@"),
        // https://token@host
        (r"(?i)(https?://)[^\s/:@]{16,}@", "${1}[redacted]@"),
        // Digest has its secrets in several places.
        (
            r#"(?i)((?:proxy-)?authorization\\?["']?\s*[=:]\s*\\?["']?digest\s+)[^\r\n]+"#,
            "${1}[redacted]",
        ),
        (
            r#"(?i)((?:proxy-)?authorization\\?["']?\s*[=:]\s*\\?["']?(?:(?:basic|bearer|digest|negotiate|token|apikey)\s+)?)[^\s"'\\]+"#,
            "${1}[redacted]",
        ),
        // the platform's user name, and its password after it, unless that is gone already
        (
            r#"(?i)(use-token-auth["']?[\s:,/=]+(?:(?:with\s+)?password[\s:=]+)?)[^\s"'\[][^\s"']*"#,
            "${1}[redacted]",
        ),
        // a JSON web token
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", REDACTED),
        (VALUES, "${1}[redacted]"),
    ];
    let compile = |(pattern, by)| (Regex::new(pattern).expect("a pattern of our own"), by);
    patterns.into_iter().map(compile).collect()
});

/// `Bearer ...` without a header's name. The word after it may be one of a sentence: "basic authentication failed".
static SCHEMES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\b(bearer|basic)(\s+)([a-z0-9._~+/-]{8,}=*)").expect("a pattern of our own"));

/// The text without what is secret.
pub(super) fn redact(text: &str, more: &[Pattern]) -> String {
    let mut text = Cow::Borrowed(text);
    for (pattern, by) in DEFAULTS.iter() {
        if let Cow::Owned(new) = pattern.replace_all(&text, *by) {
            text = Cow::Owned(new);
        }
    }
    let scheme = |found: &Captures<'_>| match is_random(&found[3]) {
        true => format!("{}{}{REDACTED}", &found[1], &found[2]),
        false => found[0].to_owned(),
    };
    if let Cow::Owned(new) = SCHEMES.replace_all(&text, scheme) {
        text = Cow::Owned(new);
    }
    for pattern in more {
        if let Some(new) = pattern.replace(&text, REDACTED) {
            text = Cow::Owned(new);
        }
    }
    text.into_owned()
}

/// Whether this is no word of a language.
fn is_random(word: &str) -> bool {
    let odd = |c: char| !c.is_ascii_lowercase() && c != '.' && c != '-';
    word.chars().skip(1).any(odd)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_secret_by_its_shape_is_taken_out_and_the_rest_stays() {
        for (text, redacted) in [
            (
                "GET https://joe:hunter2@example.com/a?b=1 failed",
                "GET https://joe:[redacted]@example.com/a?b=1 failed",
            ),
            (
                "mqtts://use-token-auth:p@ss:word@h:8883/",
                "mqtts://use-token-auth:[redacted]@h:8883/",
            ),
            (
                "to mqtts://u:ab/cd@h failed, as mqtts://u@corp:a/b@h:8883/x",
                "to mqtts://u:[redacted]@h failed, as mqtts://u@corp:[redacted]@h:8883/x",
            ),
            (
                "https://ghp_16C7e42F292c6912E7@h:1/a@b",
                "https://[redacted]@h:[redacted]@b",
            ),
            (
                "clone https://ghp_16C7e42F292c6912E7@github.com/x",
                "clone https://[redacted]@github.com/x",
            ),
            ("url=http://h/?token=abc&x=1", "url=http://h/?token=[redacted]&x=1"),
            (
                "login with password: hunter2 failed",
                "login with password: [redacted] failed",
            ),
            ("PASSWORD = 'two words' rejected", "PASSWORD = [redacted] rejected"),
            (
                r#"{"client_secret":"a\"b","user":"joe"}"#,
                r#"{"client_secret":[redacted],"user":"joe"}"#,
            ),
            (
                r#"body "{\"password\":\"x y\",\"a\":1}""#,
                r#"body "{\"password\":[redacted],\"a\":1}""#,
            ),
            (
                "X-Auth-Token: 0123 api-key=k apikey:k",
                "X-Auth-Token: [redacted] api-key=[redacted] apikey:[redacted]",
            ),
            (
                "> Authorization: Bearer abc.def sent",
                "> Authorization: Bearer [redacted] sent",
            ),
            ("Authorization: opaque rejected", "Authorization: [redacted] rejected"),
            (
                "Proxy-Authorization: Digest username=\"joe\", response=\"ab\"\nnext",
                "Proxy-Authorization: Digest [redacted]\nnext",
            ),
            (
                "sent basic dXNlcjpwYXNz0A== to the proxy",
                "sent basic [redacted] to the proxy",
            ),
            (
                "use-token-auth with password abcDEF refused",
                "use-token-auth with password [redacted] refused",
            ),
            (
                "key -----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY----- end",
                "key [redacted] end",
            ),
            ("key -----BEGIN PRIVATE KEY-----\nMIIE\nabc", "key [redacted]"),
            (
                "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_ from it",
                "got [redacted] from it",
            ),
        ] {
            assert_eq!(redact(text, &[]), redacted);
        }
    }

    #[test]
    fn an_ordinary_line_is_left_as_it_is() {
        for text in [
            "Failed password for root from 10.0.0.1 port 22 ssh2",
            "basic authentication failed",
            "bearer certificate expired",
            "open http://10.0.0.1:8080/a: connection refused (ssh://git@host)",
            "",
        ] {
            assert_eq!(redact(text, &[]), text);
        }
    }

    #[test]
    fn the_configurations_patterns_are_taken_out_too() {
        let more = [Pattern::new(r"PIN \d+").unwrap(), Pattern::new("swordfish").unwrap()];
        assert_eq!(redact("PIN 1234, swordfish", &more), "[redacted], [redacted]");
    }
}
