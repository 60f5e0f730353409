//! The house's one-way doors, kept by reading the source: who may use whom, and what only one room may use.
//!
//! The rooms are the folders of `src`; `docs/architecture.md` says what each is for. A path is followed whichever way it
//! is written (`crate::`, `super::`, `iotdm::`, in groups), so that a door does not depend on style. Reading stops at
//! paths: what a macro of another crate makes of them is not seen.
#![allow(clippy::unwrap_used)]

mod papers;
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use source::{crates, paths, sources, tokens};

/// A room, and the rooms that it may use besides itself. The longest name that fits a file counts.
const ROOMS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("agent", &["protocol"]),
    ("host", &[]),
    ("mqtt", &[]),
    ("store", &[]),
    ("config", &[]),
    ("local", &[]),
    ("wipe", &[]),
    (
        "daemon",
        &["protocol", "agent", "host", "mqtt", "store", "config", "local", "wipe"],
    ),
    ("service", &["protocol", "service/brain", "mqtt"]),
    ("service/brain", &["protocol"]),
    // The programs. A command of the agent reads a configuration and asks the daemon; it decides nothing.
    ("main", &["config", "daemon", "local"]),
    ("bin", &["service"]),
    // Reads the configuration for what must survive, and wipes; of the daemon it uses the environment only.
    ("bin/factory_reset", &["config", "daemon", "host", "wipe"]),
    ("lib", &[]),
];

/// Rooms without I/O, clock, environment and randomness: a function of what they are given.
const PURE: &[&str] = &["protocol", "agent", "service/brain"];

/// The only crates that those may use; none of them can reach outside.
const PURE_CRATES: &[&str] = &[
    "base64",
    "proptest",
    // finds patterns in texts, in linear time
    "regex_lite",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "time",
    // reads addresses; asks nobody
    "url",
    "uuid",
];

/// What those may not use of the standard library.
const OUTSIDE: &[&str] = &["env", "fs", "net", "os", "process", "thread"];

/// What only these places may name: it would bind others to a crate that is to be replaced in one place, or it is a door
/// to something that comes in from outside.
const OWNED: &[(&str, &[&str])] = &[
    ("rumqttc", &["mqtt"]),
    ("zbus", &["host"]),
    ("sd_notify", &["daemon", "bin/factory_reset.rs"]),
    ("rusqlite", &["service/registry"]),
    ("axum", &["service/bundle", "service/rest", "service/serve.rs"]),
    ("indicatif", &["service/cli"]),
    ("reqwest", &["service/cli", "host/download"]),
    ("std::env", &["daemon/environment.rs"]),
    ("std::time::SystemTime", &["host/clock.rs", "service/outside.rs"]),
];

/// The same for the end of a path, however it begins.
const OWNED_ENDS: &[(&str, &[&str])] = &[
    ("SystemTime", &["host/clock.rs", "service/outside.rs"]),
    ("now_utc", &[]),
    ("now_local", &[]),
    ("Uuid::new_v4", &["daemon", "service/outside.rs"]),
];

#[test]
fn the_doors_of_the_house_are_one_way() {
    let (files, mut violations) = (sources(), Vec::new());
    for file in &files {
        violations.extend(doors(&file.name, &file.text));
    }
    assert!(files.len() > 50, "only {} files were found", files.len());
    assert_none(&violations);
}

#[test]
fn what_is_pure_reaches_nothing_outside_and_what_has_an_owner_is_used_by_nobody_else() {
    let crates = crates();
    let (mut violations, mut seen) = (Vec::new(), BTreeSet::new());
    for file in sources() {
        violations.extend(reach(&file.name, &file.text, &crates));
        let paths = paths(&file.name, &file.text);
        seen.extend(OWNED.iter().map(|(what, _)| *what).filter(|what| {
            let owned: Vec<&str> = what.split("::").collect();
            paths.iter().any(|path| path.starts_with(&owned))
        }));
    }
    let known: BTreeSet<_> = OWNED.iter().map(|(what, _)| *what).collect();
    assert_eq!(seen, known, "an entry of OWNED that nobody uses guards nothing");
    assert_none(&violations);
}

#[test]
fn every_folder_and_program_of_the_source_is_a_known_room_and_every_known_room_exists() {
    let mut found = BTreeSet::new();
    for file in sources() {
        let room = room_of(&file.name);
        assert!(
            room.is_some(),
            "src/{}: no room of the house; add it to ROOMS in tests/house/main.rs with what it may use",
            file.name
        );
        found.extend(room);
    }
    let known: BTreeSet<_> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(found, known, "a room of ROOMS has no file any more");
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.name)
        .collect();
    assert!(silent.is_empty(), "these files have no //! at their top: {silent:?}");
}

#[test]
fn a_closed_door_is_seen_whichever_way_it_is_written() {
    for (file, text, to) in [
        ("agent/work.rs", "fn f() { crate::mqtt::start() }", "mqtt"),
        ("agent/work.rs", "use crate::{protocol::Rc, store};", "store"),
        (
            "agent/work.rs",
            "use crate::{protocol::{Rc, rc}, config::{self as c}};",
            "config",
        ),
        ("agent/work.rs", "use super::super::host;", "host"),
        (
            "agent/mod.rs",
            "mod tests { mod deep { use super::super::super::host::clock; } }",
            "host",
        ),
        ("store/tests/mod.rs", "use super::super::local;", "local"),
        ("protocol/rc.rs", "use crate::agent::Agent;", "agent"),
        ("service/brain/ids.rs", "use super::super::outside;", "service"),
        ("service/key.rs", "use crate::config;", "config"),
        ("daemon/run.rs", "use crate::service::brain;", "service/brain"),
        ("main.rs", "use iotdm::agent;", "agent"),
        ("mqtt/tls.rs", "use crate::*;", "everything"),
        ("mqtt/tls.rs", "use crate as house;", "everything"),
        ("mqtt/tls.rs", "use crate::{self as house};", "everything"),
        ("mqtt/tls.rs", "#[path = \"../agent/ids.rs\"] mod ids;", "another file"),
        ("mqtt/tls.rs", "include!(\"../agent/ids.rs\");", "another file"),
    ] {
        let found = doors(file, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].what.ends_with(to), "{text}: {}", found[0]);
        assert_eq!((found[0].file.as_str(), found[0].line), (file, 1));
    }
}

#[test]
fn an_open_door_a_comment_and_a_string_are_no_violations() {
    for (file, text) in [
        (
            "agent/work.rs",
            "//! [`crate::mqtt`]\nuse crate::protocol::{Rc, topic::{self, Address}};",
        ),
        (
            "agent/work.rs",
            "/* crate::mqtt /* crate::store */ */ fn f<'a>(x: &'a str) -> char { '{' }",
        ),
        (
            "agent/work.rs",
            "const A: &str = \"crate::mqtt \\\" crate::store\"; const B: &str = r#\"crate::\"store\"#;",
        ),
        (
            "agent/mod.rs",
            "mod tests { use super::*; use super::super::protocol; } pub(crate) struct A;",
        ),
        (
            "service/brain/ids.rs",
            "use super::step::Now; use crate::service::brain::rows;",
        ),
        ("service/shell.rs", "use super::brain::Event; use crate::mqtt;"),
        ("store/tests/state.rs", "use crate::store::{StateFile, Limits};"),
    ] {
        assert_none(&doors(file, text));
    }
}

#[test]
fn a_reach_outside_is_seen_whichever_way_it_is_written() {
    let crates = crates();
    for (file, text) in [
        ("protocol/json.rs", "use std::{fmt, fs::File};"),
        ("protocol/json.rs", "fn f() { ::std::net::TcpStream::connect(1); }"),
        ("agent/work.rs", "use std::time::Instant;"),
        ("agent/work.rs", "use std::time::{self, Duration};"),
        ("agent/work.rs", "fn f() { tokio::spawn(g()) }"),
        ("agent/ids.rs", "fn f() { uuid::Uuid::new_v4() }"),
        ("service/brain/mod.rs", "use tracing::info;"),
        ("config/mod.rs", "fn f() { std::env::var(\"A\") }"),
        ("config/mod.rs", "use std::env;"),
        ("daemon/run.rs", "use std::time::{Duration, SystemTime};"),
        ("daemon/run.rs", "use rumqttc::QoS;"),
        ("service/shell.rs", "use rusqlite::{Connection};"),
    ] {
        let found = reach(file, text, &crates);
        assert!(!found.is_empty(), "{file}: {text}");
    }
    for (file, text) in [
        (
            "agent/work.rs",
            "use std::time::Duration; use serde_json::Value; fn f(now: Now) { now.time::<u8>() }",
        ),
        (
            "protocol/json.rs",
            "use std::collections::{BTreeMap, HashMap}; use time::format_description::well_known;",
        ),
        ("host/clock.rs", "use std::time::SystemTime;"),
        ("main.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");"),
    ] {
        assert_none(&reach(file, text, &crates));
    }
}

/// What was found where.
#[derive(Debug)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

fn assert_none(violations: &[Violation]) {
    let lines: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert!(
        lines.is_empty(),
        "not as tests/house/main.rs has it (see docs/architecture.md):\n{}",
        lines.join("\n")
    );
}

/// Uses of rooms that the file's room may not use.
fn doors(file: &str, text: &str) -> Vec<Violation> {
    let Some(room) = room_of(file) else { return Vec::new() };
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).unwrap().1;
    let violation = |line, what: String| Violation {
        file: file.to_owned(),
        line,
        what,
    };
    let mut found = Vec::new();
    for path in paths(file, text) {
        if path.names.first().map(String::as_str) != Some("crate") {
            continue;
        }
        match room_of_module(&path.names[1..]) {
            None => found.push(violation(path.line, format!("{room} uses everything"))),
            Some(to) if to == room || allowed.contains(&to) => {}
            Some(to) => found.push(violation(path.line, format!("{room} must not use {to}"))),
        }
    }
    let tokens = tokens(text);
    for (at, token) in tokens.iter().enumerate() {
        let is = |ahead: usize, text: &str| tokens.get(at + ahead).is_some_and(|token| token.text == text);
        let path = token.text == "path" && is(1, "=") && at >= 2 && tokens[at - 2].text == "#";
        let include = token.text == "include" && is(1, "!");
        if path || include {
            found.push(violation(
                token.line,
                format!("{room} takes in the text of another file"),
            ));
        }
    }
    found
}

/// Uses of what lies outside, by rooms that may not.
fn reach(file: &str, text: &str, crates: &BTreeSet<String>) -> Vec<Violation> {
    let Some(room) = room_of(file) else { return Vec::new() };
    let pure = PURE.contains(&room);
    let may = |places: &[&str]| places.iter().any(|place| Path::new(file).starts_with(place));
    let mut found = Vec::new();
    let mut violation = |line, what: String| {
        found.push(Violation {
            file: file.to_owned(),
            line,
            what,
        });
    };
    for path in paths(file, text) {
        let names: Vec<&str> = path.names.iter().map(String::as_str).collect();
        let whole = names.join("::");
        for (what, places) in OWNED {
            let owned: Vec<&str> = what.split("::").collect();
            if path.starts_with(&owned) && !may(places) {
                violation(path.line, format!("{whole}: only {places:?} may use {what}"));
            }
        }
        for (what, places) in OWNED_ENDS {
            let owned: Vec<&str> = what.split("::").collect();
            if names.windows(owned.len()).any(|part| part == owned) && !may(places) {
                violation(path.line, format!("{whole}: only {places:?} may use {what}"));
            }
        }
        if !pure {
            continue;
        }
        let outside = match names.as_slice() {
            ["std" | "core", "time", rest @ ..] => rest != ["Duration"] && !rest.starts_with(&["Duration"]),
            ["std", module, ..] => OUTSIDE.contains(module),
            ["std"] => true,
            [name, ..] => crates.contains(*name) && !PURE_CRATES.contains(name),
            [] => false,
        };
        if outside {
            violation(path.line, format!("{room} is pure and must not use {whole}"));
        }
    }
    found
}

/// The room of a file below `src`.
fn room_of(file: &str) -> Option<&'static str> {
    let module = file.trim_end_matches(".rs");
    let fits = |room: &&str| Path::new(module).starts_with(room);
    ROOMS
        .iter()
        .map(|(room, _)| *room)
        .filter(fits)
        .max_by_key(|room| room.len())
}

/// The room of a module, named from the crate's root.
fn room_of_module(names: &[String]) -> Option<&'static str> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    room_of(&names.join("/")).filter(|room| !matches!(*room, "lib" | "main" | "bin"))
}
