//! `[diagnostics]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Check;
use crate::config::fragment::{Located, Table, Value};
use crate::config::settings::{Diagnostics, ErrorCause, ErrorCode};
use crate::config::units;

/// The agent's own codes.
const RESERVED: RangeInclusive<i32> = 9000..=9099;
const MAX_RULES: usize = 64;
const MAX_PER_MINUTE: f64 = 600.0;
const LASTS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);
const LASTS_DEFAULT: Duration = Duration::from_secs(3600);
const KEY: &str = "diagnostics.error_code";

impl Check<'_> {
    pub(super) fn diagnostics(&mut self) -> Diagnostics {
        let per_minute = self.number("diagnostics.max_per_minute", 1.0..=MAX_PER_MINUTE, "entries");
        if per_minute.is_some_and(|per_minute| per_minute.fract() != 0.0) {
            self.wrong(
                "diagnostics.max_per_minute",
                "must be a whole number",
                "30 is the default",
            );
        }
        Diagnostics {
            journal: self.truth("diagnostics.journal").unwrap_or(true),
            priority: self.text("diagnostics.priority", units::priority).unwrap_or(3),
            units: self.list("diagnostics.units", units::unit_name),
            exclude_units: self.list("diagnostics.exclude_units", units::unit_name),
            message_ids: self.list("diagnostics.message_ids", units::message_id),
            // 1 to 600, and whole
            max_per_minute: per_minute.map_or(30, |per_minute| per_minute as u32),
            redact: self.list("diagnostics.redact", units::pattern),
            error_codes: self.error_codes(),
        }
    }

    fn error_codes(&mut self) -> Vec<ErrorCode> {
        let Some(Located {
            value: Value::Tables(tables),
            ..
        }) = self.inputs.get(KEY)
        else {
            return Vec::new();
        };
        if tables.len() > MAX_RULES {
            self.wrong(
                KEY,
                format!("is there {} times", tables.len()),
                format!("at most {MAX_RULES} are allowed"),
            );
        }
        tables.iter().filter_map(|table| self.error_code(table)).collect()
    }

    fn error_code(&mut self, table: &Table) -> Option<ErrorCode> {
        let code = self.code(table);
        let unit = self.member(table, "unit", units::unit_name);
        let message = self.member(table, "message", units::pattern);
        let message_id = self.member(table, "message_id", units::message_id);
        let lasts = self.member(table, "lasts", |text| {
            let lasts = units::duration(text)?;
            let (least, most) = (units::show(*LASTS.start()), units::show(*LASTS.end()));
            match LASTS.contains(&lasts) {
                true => Ok(lasts),
                false => Err(format!("{} is out of range: {least} to {most}", units::show(lasts))),
            }
        });
        let has = |key: &str| table.keys.contains_key(key);
        let cause = if has("message") || has("message_id") {
            ErrorCause::Logged {
                unit,
                message,
                message_id,
                lasts: lasts.unwrap_or(LASTS_DEFAULT),
            }
        } else if has("unit") {
            if let Some(located) = table.keys.get("lasts") {
                let hint = "it is for entries of the journal: remove it, or add message or message_id";
                self.tell(
                    located,
                    "lasts",
                    "has no effect: the code holds while the unit is failed",
                    hint,
                );
            }
            ErrorCause::Failed(unit?)
        } else {
            let hint = "add unit (while it is failed), or message or message_id (after such an entry of the journal)";
            let problem = table
                .place
                .problem(KEY, "does not say when it holds", Some(hint.to_owned()));
            self.problems.push(problem);
            return None;
        };
        Some(ErrorCode { code: code?, cause })
    }

    fn code(&mut self, table: &Table) -> Option<i32> {
        let Some(located) = table.keys.get("code") else {
            let hint = Some("add code = 42, or what number stands for it at the service".to_owned());
            self.problems.push(table.place.problem(KEY, "has no code", hint));
            return None;
        };
        let Value::Number(number) = located.value else {
            return None;
        };
        let hint = "take another number";
        if number.fract() != 0.0 || !(1.0..=f64::from(i32::MAX)).contains(&number) {
            self.tell(located, "code", "must be a whole number, 1 to 2147483647", hint);
            return None;
        }
        // within i32 by the line above
        let code = number as i32;
        if RESERVED.contains(&code) {
            self.tell(located, "code", "is one of the agent's own, 9000 to 9099", hint);
            return None;
        }
        Some(code)
    }

    /// The value of a string key in a table as `read` understands it; what it says otherwise is the problem.
    fn member<T>(&mut self, table: &Table, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Located {
            value: Value::Text(text),
            place,
        } = table.keys.get(key)?
        else {
            return None;
        };
        let read = read(text);
        read.map_err(|told| self.problems.push(place.problem(&format!("{KEY}.{key}"), told, None)))
            .ok()
    }

    fn tell(&mut self, at: &Located, key: &str, message: &str, hint: &str) {
        let problem = at
            .place
            .problem(&format!("{KEY}.{key}"), message, Some(hint.to_owned()));
        self.problems.push(problem);
    }
}
