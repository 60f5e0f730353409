//! What a firmware must hash to: reading the service's `verifier`, and the digests of what was fetched.
//!
//! The protocol gives a verifier no syntax. Taken are the digests of SHA-256, SHA-384 and SHA-512 in hexadecimal, told
//! apart by their length or by a name before a colon. MD5 and SHA-1 are refused, because files can be forged to them,
//! and so is whatever is not recognised: a verifier is never ignored. Pure: no I/O here.

use std::fmt;

use sha2::{Digest, Sha256, Sha384, Sha512};

/// The digest that a firmware must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    /// SHA-256, 64 hexadecimal digits.
    Sha256([u8; 32]),
    /// SHA-384, 96 hexadecimal digits.
    Sha384([u8; 48]),
    /// SHA-512, 128 hexadecimal digits.
    Sha512([u8; 64]),
}

impl Verifier {
    /// Reads `<hex>` or `<algorithm>:<hex>`, in upper or lower case; `None` when the text is empty (nothing is
    /// demanded).
    ///
    /// # Errors
    /// A sentence for the technician when it is MD5, SHA-1 or not recognised; the download counts as failed
    /// verification then.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let (name, digits) = match text.split_once(':') {
            Some((name, digits)) => (name.trim().to_ascii_lowercase(), digits.trim()),
            None => (String::new(), text),
        };
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let algorithm = match (name.as_str(), digits.len()) {
            ("", 32) if is_hex => "md5",
            ("", 40) if is_hex => "sha1",
            ("", 64) => "sha256",
            ("", 96) => "sha384",
            ("", 128) => "sha512",
            (name, _) => name,
        };
        let verifier = match algorithm {
            "md5" | "sha1" | "sha-1" => {
                return Err(format!(
                    "the verifier is {}, to which other files can be made; give the SHA-256 of the firmware instead",
                    if algorithm == "md5" {
                        "an MD5 sum"
                    } else {
                        "a SHA-1 sum"
                    }
                ));
            }
            "sha256" | "sha-256" => bytes(digits).map(Self::Sha256),
            "sha384" | "sha-384" => bytes(digits).map(Self::Sha384),
            "sha512" | "sha-512" => bytes(digits).map(Self::Sha512),
            _ => None,
        };
        match verifier {
            Some(verifier) => Ok(Some(verifier)),
            None => Err(
                "the verifier is not understood; give the SHA-256 of the firmware as 64 hexadecimal digits".to_owned(),
            ),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "sha256:{}", hex(digest)),
            Self::Sha384(digest) => write!(f, "sha384:{}", hex(digest)),
            Self::Sha512(digest) => write!(f, "sha512:{}", hex(digest)),
        }
    }
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| {
            char::from(pair[at])
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        *byte = digit(0)? * 16 + digit(1)?;
    }
    Some(bytes)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a short text, in hexadecimal digits.
pub(super) fn sha256_of(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The digests of what was taken in so far: always SHA-256, and the one that the verifier is about.
#[derive(Debug, Clone)]
pub(super) struct Hashes {
    sha256: Sha256,
    other: Other,
    verifier: Option<Verifier>,
}

#[derive(Debug, Clone)]
enum Other {
    None,
    Sha384(Box<Sha384>),
    Sha512(Box<Sha512>),
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) sha256: [u8; 32],
    /// Whether it is what the verifier demands; true without one.
    pub(super) right: bool,
}

impl Hashes {
    pub(super) fn new(verifier: Option<Verifier>) -> Self {
        let other = match verifier {
            None | Some(Verifier::Sha256(_)) => Other::None,
            Some(Verifier::Sha384(_)) => Other::Sha384(Box::default()),
            Some(Verifier::Sha512(_)) => Other::Sha512(Box::default()),
        };
        Self {
            sha256: Sha256::new(),
            other,
            verifier,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        match &mut self.other {
            Other::None => {}
            Other::Sha384(hash) => hash.update(bytes),
            Other::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(super) fn digests(&self) -> Digests {
        let sha256: [u8; 32] = self.sha256.clone().finalize().into();
        let right = match (self.verifier, &self.other) {
            (None, _) => true,
            (Some(Verifier::Sha256(wanted)), _) => wanted == sha256,
            (Some(Verifier::Sha384(wanted)), Other::Sha384(hash)) => hash.clone().finalize()[..] == wanted[..],
            (Some(Verifier::Sha512(wanted)), Other::Sha512(hash)) => hash.clone().finalize()[..] == wanted[..],
            (Some(_), _) => false,
        };
        Digests { sha256, right }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn digest_of(content: &[u8], verifier: &str) -> Digests {
        let mut hashes = Hashes::new(Verifier::parse(verifier).unwrap());
        for piece in content.chunks(7) {
            hashes.update(piece);
        }
        hashes.digests()
    }

    #[test]
    fn fwd_05_digests_are_told_apart_by_length_or_name_in_any_case() {
        let content = b"the firmware of the year";
        let sums = [
            ("sha256", hex(&Sha256::digest(content))),
            ("sha384", hex(&Sha384::digest(content))),
            ("sha512", hex(&Sha512::digest(content))),
        ];
        for (name, sum) in &sums {
            for text in [
                sum.clone(),
                sum.to_uppercase(),
                format!("{name}:{sum}"),
                format!("{}:{}", name.to_uppercase(), sum.to_uppercase()),
                format!("  {sum}\n"),
            ] {
                assert!(digest_of(content, &text).right, "{text}");
                assert!(!digest_of(b"something else", &text).right, "{text}");
                assert_eq!(
                    Verifier::parse(&text).unwrap().unwrap().to_string(),
                    format!("{name}:{sum}")
                );
            }
        }
        assert_eq!(hex(&digest_of(content, "").sha256), sums[0].1);
        assert_eq!(hex(&digest_of(content, &sums[2].1).sha256), sums[0].1);
    }

    #[test]
    fn fwd_05_an_empty_verifier_demands_nothing() {
        for text in ["", "  ", "\n"] {
            assert_eq!(Verifier::parse(text), Ok(None));
        }
        assert!(digest_of(b"anything", "").right);
    }

    #[test]
    fn fwd_05_weak_and_unknown_verifiers_are_refused_with_what_to_give() {
        let digits = |count: usize| "0a".repeat(count / 2);
        for (text, reason) in [
            (digits(32), "MD5"),
            (format!("md5:{}", digits(32)), "MD5"),
            (format!("MD5:{}", digits(64)), "MD5"),
            (digits(40), "SHA-1"),
            (format!("sha1:{}", digits(40)), "SHA-1"),
            (format!("sha256:{}", digits(62)), "not understood"),
            (format!("sha384:{}", digits(64)), "not understood"),
            (format!("crc32:{}", digits(8)), "not understood"),
            (format!("{}x", &digits(64)[..63]), "not understood"),
            (digits(66), "not understood"),
            ("latest".to_owned(), "not understood"),
            (":".to_owned(), "not understood"),
            (format!("+{}", &digits(64)[..63]), "not understood"),
            ("ä".repeat(32), "not understood"),
        ] {
            let error = Verifier::parse(&text).unwrap_err();
            assert!(error.contains(reason) && error.contains("SHA-256"), "{text}: {error}");
        }
    }
}
