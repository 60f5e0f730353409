//! One file: from bytes to located values. Knows names and types, not meaning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value as Json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Inputs;
use super::error::Problem;
use super::keys::{self, Found, Holds};

/// How large the metadata may be as JSON; the protocol sets no limit of its own.
const METADATA_BYTES: usize = 64 * 1024;
/// How deep the metadata may be nested, itself counted.
const METADATA_LEVELS: usize = 8;

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value of the type that its key wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Truth(bool),
    Number(f64),
    /// Each string with its own place.
    List(Vec<(String, Place)>),
    Table(Map<String, Json>),
    Tables(Vec<Table>),
}

/// One table of a list of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) place: Place,
    pub(super) keys: BTreeMap<&'static str, Located>,
}

/// A place in a file; line and column from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    pub(super) fn problem(&self, key: &str, message: impl Into<String>, hint: Option<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: Some(self.line),
            column: Some(self.column),
            key: Some(key.to_owned()),
            message: message.into(),
            hint,
        }
    }
}

/// Reads one file. What is wrong goes to `problems`; what is right is returned.
pub(super) fn parse(file: &Path, bytes: &[u8], problems: &mut Vec<Problem>) -> Inputs {
    let mut inputs = Inputs::new();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let (line, column) = position(&good, good.len());
            let mut problem = Problem::file(file, "is not UTF-8 text".to_owned());
            (problem.line, problem.column) = (Some(line), Some(column));
            problems.push(problem);
            return inputs;
        }
    };
    match DeTable::parse(text) {
        Ok(table) => Reader {
            file,
            text,
            problems,
            inputs: &mut inputs,
        }
        .section("", table.get_ref()),
        Err(error) => {
            let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
            let mut problem = Problem::file(file, format!("is not valid TOML: {}", error.message()));
            (problem.line, problem.column) = (Some(line), Some(column));
            problem.hint =
                Some("a string stands in double quotes, a section in [brackets] on a line of its own".into());
            problems.push(problem);
        }
    }
    inputs
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
    inputs: &'a mut Inputs,
}

impl Reader<'_> {
    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            match (keys::find(&path), value.get_ref()) {
                (Found::Key(key, holds), _) => self.key(key, holds, value),
                (Found::Section, DeValue::Table(inner)) => self.section(&path, inner),
                (Found::Section, other) => {
                    let hint = format!("write [{path}] on a line of its own and its keys below it");
                    self.wrong(value, &path, format!("is a section, not {}", named(other)), Some(hint));
                }
                (Found::Unknown, _) => {
                    self.wrong(
                        name,
                        &path,
                        "unknown key".to_owned(),
                        keys::hint(section, name.get_ref()),
                    );
                }
            }
        }
    }

    fn key(&mut self, key: &'static str, holds: Holds, value: &Spanned<DeValue<'_>>) {
        if let Some(located) = self.located(key, holds, value) {
            self.inputs.insert(key, located);
        }
    }

    /// The value of a key; nothing when it is wrong, which is told then.
    fn located(&mut self, key: &str, holds: Holds, value: &Spanned<DeValue<'_>>) -> Option<Located> {
        let read = match (holds, value.get_ref()) {
            (Holds::Text | Holds::Duration | Holds::Size, DeValue::String(text)) => Ok(Value::Text(text.to_string())),
            (Holds::Duration, DeValue::Integer(number)) if number.as_str() == "0" => Ok(Value::Text("0".to_owned())),
            (Holds::Truth, DeValue::Boolean(truth)) => Ok(Value::Truth(*truth)),
            (Holds::List, DeValue::Array(items)) => match self.list(key, items) {
                Some(list) => Ok(Value::List(list)),
                None => return None,
            },
            (Holds::Tables(keys), DeValue::Array(items)) => match self.tables(key, keys, items) {
                Some(tables) => Ok(Value::Tables(tables)),
                None => return None,
            },
            (Holds::Number, number @ (DeValue::Integer(_) | DeValue::Float(_))) => match json(number, 0) {
                Ok(number) => Ok(Value::Number(number.as_f64().unwrap_or_default())),
                Err(_) => {
                    let text = &self.text[value.span()];
                    let told = format!("{text} is no number to work with");
                    Err((told, "write it in digits, such as 48.137"))
                }
            },
            (Holds::Table, DeValue::Table(table)) => metadata(table).map(Value::Table),
            (Holds::Text, other) => Err((
                format!("must be a string, not {}", named(other)),
                "put it in double quotes",
            )),
            (Holds::Duration, other) => Err((
                format!("must be a duration, not {}", named(other)),
                "write a number and a unit, such as \"60s\", \"30m\", \"24h\", \"7d\"",
            )),
            (Holds::Size, other) => Err((
                format!("must be a size, not {}", named(other)),
                "write a number and a unit, such as \"500KiB\", \"64MiB\", \"2GiB\"",
            )),
            (Holds::List, other) => Err((
                format!("must be a list, not {}", named(other)),
                "write [\"one\", \"two\"], or [] for none",
            )),
            (Holds::Number, other) => Err((
                format!("must be a number, not {}", named(other)),
                "write it without quotes, with a point and no comma",
            )),
            (Holds::Truth, other) => Err((
                format!("must be true or false, not {}", named(other)),
                "write it without quotes",
            )),
            (Holds::Table, other) => Err((
                format!("must be a table, not {}", named(other)),
                "write { name = \"value\" }",
            )),
            (Holds::Tables(_), other) => {
                let hint = Some(format!("write [[{key}]] on a line of its own and its keys below it"));
                self.wrong(
                    value,
                    key,
                    format!("must be a list of tables, not {}", named(other)),
                    hint,
                );
                return None;
            }
        };
        match read {
            Ok(read) => Some(Located {
                value: read,
                place: self.place(value.span().start),
            }),
            Err((message, hint)) => {
                self.wrong(value, key, message, Some(hint.to_owned()));
                None
            }
        }
    }

    /// The tables of a list; nothing when something in them is wrong, which is told then.
    fn tables(&mut self, key: &str, keys: &'static [(&'static str, Holds)], items: &DeArray<'_>) -> Option<Vec<Table>> {
        let mut tables = Some(Vec::new());
        for item in items.iter() {
            let DeValue::Table(members) = item.get_ref() else {
                let told = format!("must be a list of tables, and holds {}", named(item.get_ref()));
                self.wrong(item, key, told, Some(format!("write [[{key}]] for each")));
                tables = None;
                continue;
            };
            let mut table = Table {
                place: self.place(item.span().start),
                keys: BTreeMap::new(),
            };
            for (name, value) in members {
                let path = format!("{key}.{}", name.get_ref());
                let known = keys.iter().find(|(key, _)| *key == name.get_ref().as_ref());
                let located = match known {
                    Some((name, holds)) => self.located(&path, *holds, value).map(|located| (*name, located)),
                    None => {
                        let hint = keys::hint_in_table(key, keys, name.get_ref());
                        self.wrong(name, &path, "unknown key".to_owned(), Some(hint));
                        None
                    }
                };
                match located {
                    Some((name, located)) => drop(table.keys.insert(name, located)),
                    None => tables = None,
                }
            }
            if let Some(tables) = &mut tables {
                tables.push(table);
            }
        }
        tables
    }

    /// The strings of a list; nothing when one of them is none, which is told then.
    fn list(&mut self, key: &str, items: &DeArray<'_>) -> Option<Vec<(String, Place)>> {
        let mut strings = Some(Vec::new());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    let place = self.place(item.span().start);
                    strings
                        .iter_mut()
                        .for_each(|list| list.push((text.to_string(), place.clone())));
                }
                other => {
                    let told = format!("must be a list of strings, and holds {}", named(other));
                    self.wrong(item, key, told, Some("put it in double quotes".to_owned()));
                    strings = None;
                }
            }
        }
        strings
    }

    fn wrong<T>(&mut self, at: &Spanned<T>, key: &str, message: String, hint: Option<String>) {
        let problem = self.place(at.span().start).problem(key, message, hint);
        self.problems.push(problem);
    }

    fn place(&self, offset: usize) -> Place {
        let (line, column) = position(self.text, offset);
        Place {
            file: self.file.to_path_buf(),
            line,
            column,
        }
    }
}

/// Line and column (in characters) of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

type Refused = (String, &'static str);

fn metadata(table: &DeTable<'_>) -> Result<Map<String, Json>, Refused> {
    let object = object(table, METADATA_LEVELS)?;
    let size = serde_json::to_vec(&object).map_or(usize::MAX, |json| json.len());
    if size > METADATA_BYTES {
        return Err((
            format!("is {size} bytes long as JSON"),
            "at most 65536 bytes are allowed",
        ));
    }
    Ok(object)
}

fn object(table: &DeTable<'_>, levels: usize) -> Result<Map<String, Json>, Refused> {
    table
        .iter()
        .map(|(name, value)| Ok((name.get_ref().to_string(), json(value.get_ref(), levels - 1)?)))
        .collect()
}

/// TOML as JSON; `levels` is how many more tables and lists may be opened.
fn json(value: &DeValue<'_>, levels: usize) -> Result<Json, Refused> {
    Ok(match value {
        DeValue::Table(_) | DeValue::Array(_) if levels == 0 => {
            return Err(("is nested too deep".to_owned(), "at most 8 levels are allowed"));
        }
        DeValue::Table(table) => Json::Object(object(table, levels)?),
        DeValue::Array(list) => Json::Array(
            list.iter()
                .map(|item| json(item.get_ref(), levels - 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Boolean(truth) => Json::Bool(*truth),
        DeValue::Datetime(date) => Json::String(date.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Json::Number(number.into()),
            Err(_) => return Err((format!("holds {number}, which is too large"), "write it as a string")),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Json::Number(number),
            None => return Err((format!("holds {number}, which JSON cannot say"), "write it as a string")),
        },
    })
}
