//! What the commands print: lines on standard output, errors on standard error.

use std::io::{self, Write};

use serde_json::Value;

/// Standard output, as text or as JSON.
#[derive(Debug)]
pub(super) struct Output {
    json: bool,
    /// Nobody reading it any more is no error.
    unread: bool,
}

impl Output {
    /// Of a command that is for what it prints, and over when nobody reads that any more.
    pub(super) fn new(json: bool) -> Self {
        Output { json, unread: false }
    }

    /// Of a command that does something: it goes on to its end, read or not.
    pub(super) fn of_deed(json: bool) -> Self {
        Output { json, unread: true }
    }

    /// Whether JSON is wanted.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(error) if self.unread && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// One JSON value on one line.
    pub(super) fn value(&mut self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// Rows of cells in columns that are as wide as they have to be.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) -> io::Result<()> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell: &String| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// A timestamp without its fraction.
pub(super) fn seconds(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, fraction)) if fraction.ends_with('Z') => format!("{seconds}Z"),
        _ => plain(text),
    }
}

/// How much time a number of milliseconds is, for a person: `45 s`, `12 min`, `3 h`, `5 days`. Never negative.
pub(super) fn age(ms: i64) -> String {
    let seconds = (ms / 1000).max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// One line on standard error.
pub(super) fn error(text: &str) {
    // There is nowhere to tell it when that fails.
    let _ = writeln!(io::stderr(), "iotdm: {text}");
}

/// A question on standard error; the answer is typed behind it.
pub(super) fn ask(text: &str) {
    let mut to = io::stderr();
    // Whoever does not see it does not answer it.
    let _ = write!(to, "{text}").and_then(|()| to.flush());
}

/// A device's text as one line without control characters: it may say anything.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
