//! What the configuration says of diagnostics, checked when it is made.

use std::fmt;
use std::time::Duration;

/// `diagnostics.max_per_minute` is at most this: the platform ends the connection of who sends more than a few messages
/// in a second.
pub const MAX_PER_MINUTE: u32 = 600;
/// Codes that are the agent's own; a rule or a hand cannot have them.
pub const OWN_CODES: std::ops::RangeInclusive<i64> = 9000..=9099;
/// An update of the firmware failed, and the slot that ran before was never left.
pub const UPDATE_FAILED: i64 = 9001;
/// An update of the firmware was rolled back: the host is back in the old slot.
pub const ROLLED_BACK: i64 = 9002;
/// The state folder's disk refuses to be written.
pub const DISK_REFUSES: i64 = 9003;
/// The clock is not set.
pub const CLOCK_NOT_SET: i64 = 9004;

/// So long may a pattern be, in bytes.
const LONGEST_PATTERN: usize = 500;
/// A pattern without any of these is found as it stands.
const SPECIAL: &[char] = &['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];
/// So much memory may a pattern take when it is compiled, in bytes.
const LARGEST_PATTERN: usize = 256 * 1024;
/// A rule's code stays at most so long after the last entry that matched.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// So many rules, and so many patterns of what is redacted.
const MOST: usize = 64;

/// How the journal is told, and which conditions have a code.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Logs in a minute, 1 to [`MAX_PER_MINUTE`]; a unit gets half of them.
    pub max_per_minute: u32,
    /// What is taken out of texts, besides what is always taken out.
    pub redact: Vec<Pattern>,
    /// Which conditions have a code.
    pub codes: Vec<Rule>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_per_minute: 30,
            redact: Vec::new(),
            codes: Vec::new(),
        }
    }
}

impl Settings {
    /// From the configuration.
    ///
    /// # Errors
    /// Says which number is out of its range.
    pub fn new(max_per_minute: u32, redact: Vec<Pattern>, codes: Vec<Rule>) -> Result<Self, String> {
        if !(1..=MAX_PER_MINUTE).contains(&max_per_minute) {
            return Err(format!(
                "max_per_minute is {max_per_minute}; it must be 1 to {MAX_PER_MINUTE}"
            ));
        }
        if redact.len() > MOST || codes.len() > MOST {
            return Err(format!(
                "at most {MOST} patterns in redact and {MOST} rules for error codes"
            ));
        }
        Ok(Settings {
            max_per_minute,
            redact,
            codes,
        })
    }

    /// The units whose failure has a code: these are to be watched.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        self.codes.iter().filter_map(|rule| match &rule.when {
            When::Failed { unit } => Some(unit.as_str()),
            When::Journal { .. } => None,
        })
    }
}

/// A regular expression (the syntax of the crate `regex-lite`, which is that of `regex` without Unicode classes).
#[derive(Clone)]
pub struct Pattern {
    text: String,
    how: How,
}

#[derive(Clone)]
enum How {
    /// It has no special characters: nothing is as fast as to look for it.
    Literal,
    Regex(regex_lite::Regex),
}

impl Pattern {
    /// From the configuration.
    ///
    /// # Errors
    /// When it is no regular expression, too long, or matches the empty text and so everything.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_PATTERN {
            return Err(format!("a pattern may have at most {LONGEST_PATTERN} bytes"));
        }
        let regex = regex_lite::RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build();
        let regex = regex.map_err(|error| format!("{text:?} is no regular expression: {error}"))?;
        if regex.is_match("") {
            return Err(format!("{text:?} matches the empty text, and so everything"));
        }
        let how = match text.contains(SPECIAL) {
            true => How::Regex(regex),
            false => How::Literal,
        };
        Ok(Pattern {
            text: text.to_owned(),
            how,
        })
    }

    /// Whether it is found anywhere in a text.
    pub fn is_in(&self, text: &str) -> bool {
        match &self.how {
            How::Literal => text.contains(&self.text),
            How::Regex(regex) => regex.is_match(text),
        }
    }

    /// The text with every place where it is found replaced.
    pub(super) fn replace(&self, text: &str, by: &str) -> Option<String> {
        if !self.is_in(text) {
            return None;
        }
        Some(match &self.how {
            How::Literal => text.replace(&self.text, by),
            How::Regex(regex) => regex.replace_all(text, regex_lite::NoExpand(by)).into_owned(),
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// A condition that has a code.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(super) code: i64,
    pub(super) when: When,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum When {
    /// While this unit is failed.
    Failed { unit: String },
    /// From an entry that matches until so long after the last one.
    Journal {
        pattern: Option<Pattern>,
        message_id: Option<String>,
        /// Only entries of this unit.
        unit: Option<String>,
        lasts: Duration,
    },
}

impl Rule {
    /// While a unit is failed.
    ///
    /// # Errors
    /// A code that it cannot have, or no unit.
    pub fn failed(code: i64, unit: &str) -> Result<Self, String> {
        if !unit.contains('.') {
            return Err(format!(
                "{unit:?} is no unit: give its whole name, such as modbus.service"
            ));
        }
        let unit = unit.to_owned();
        Ok(Rule {
            code: allowed_code(code)?,
            when: When::Failed { unit },
        })
    }

    /// From an entry of the journal in which `pattern` is found and that has this MESSAGE_ID (32 hexadecimal digits in
    /// lower case) until `lasts` after the last one; with `unit` only entries of that unit count.
    ///
    /// # Errors
    /// A code that it cannot have, neither pattern nor MESSAGE_ID, or a time that is none.
    pub fn journal(
        code: i64,
        pattern: Option<&str>,
        message_id: Option<&str>,
        unit: Option<&str>,
        lasts: Duration,
    ) -> Result<Self, String> {
        if pattern.is_none() && message_id.is_none() {
            return Err("a rule about the journal needs a pattern or a MESSAGE_ID".to_owned());
        }
        if lasts.is_zero() || lasts > LONGEST {
            return Err("lasts must be more than 0 and at most a year".to_owned());
        }
        Ok(Rule {
            code: allowed_code(code)?,
            when: When::Journal {
                pattern: pattern.map(Pattern::new).transpose()?,
                message_id: message_id.map(str::to_owned),
                unit: unit.map(str::to_owned),
                lasts,
            },
        })
    }

    /// The code.
    pub fn code(&self) -> i64 {
        self.code
    }
}

/// A code that a rule or a hand may have.
///
/// # Errors
/// Says why not.
pub fn allowed_code(code: i64) -> Result<i64, String> {
    if OWN_CODES.contains(&code) {
        let (from, to) = OWN_CODES.into_inner();
        return Err(format!(
            "error codes {from} to {to} are the agent's own; {code} is one of them"
        ));
    }
    if i32::try_from(code).is_err() {
        return Err(format!("error code {code} does not fit into 32 bits"));
    }
    Ok(code)
}
