//! The table of `docs/conformance.md` against the tests: what it calls covered has a test, and every test that is named
//! after a row has its row.
//!
//! A test belongs to the rows whose ids its name begins with (`reb_04_env_07_...` to REB-04 and ENV-07). Nothing is listed by hand, so the
//! table changes only when what it says changes. It says nothing about how good a test is.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The areas of the checklist and how many rows each has, so that none gets lost.
const AREAS: &[(&str, usize)] = &[
    ("CON", 17),
    ("SUB", 5),
    ("TOP", 3),
    ("ENV", 8),
    ("MNG", 15),
    ("UNM", 2),
    ("LOC", 4),
    ("DIA", 5),
    ("UPD", 5),
    ("OBS", 8),
    ("REB", 6),
    ("RST", 2),
    ("FWD", 11),
    ("FWU", 7),
    ("FWS", 4),
    ("DME", 5),
    ("GWY", 6),
    ("SVC", 6),
    ("MON", 1),
];

/// Areas, or single rows of one, in which nothing of priority 1 and 2 may wait for a later version.
const FINISHED: &[&str] = &[
    "CON", "SUB", "TOP", "ENV", "MNG", "UNM", "LOC", "DIA", "UPD", "OBS", "REB", "RST", "FWD", "FWU", "FWS", "SVC",
];

#[test]
fn every_row_of_the_checklist_stands_in_the_table_once_and_in_order() {
    let expected: Vec<String> = AREAS
        .iter()
        .flat_map(|(area, count)| (1..=*count).map(move |number| format!("{area}-{number:02}")))
        .collect();
    let found: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_row_is_covered_or_says_why_not() {
    let tests = tests();
    let mut wrong = Vec::new();
    for row in rows() {
        let count = tests.get(&row.id).map_or(0, Vec::len);
        if row.behaviour.is_empty() || !["1", "2", "3"].contains(&row.priority.as_str()) {
            wrong.push(format!(
                "{}: needs a priority of 1 to 3 and the behaviour in words",
                row.id
            ));
        }
        if !["agent", "service"].contains(&row.who.as_str()) {
            wrong.push(format!(
                "{}: is about the agent or the service, not {:?}",
                row.id, row.who
            ));
        }
        match row.status.as_str() {
            "covered" if count == 0 => wrong.push(format!(
                "{}: is called covered, but no test's name begins with {}_",
                row.id,
                prefix(&row.id)
            )),
            "covered" => {}
            "later" | "out of scope" if row.reason.is_empty() => {
                wrong.push(format!("{}: \"{}: \" needs its reason", row.id, row.status));
            }
            "later" if row.priority != "3" && FINISHED.iter().any(|finished| row.id.starts_with(finished)) => {
                wrong.push(format!("{}: must be covered, or out of scope with the reason", row.id));
            }
            // What is not built yet may have tests of the parts that are.
            "later" => {}
            "out of scope" if count > 0 => wrong.push(format!("{}: is out of scope and has tests", row.id)),
            "out of scope" => {}
            other => wrong.push(format!(
                "{}: {other:?} is none of \"covered\", \"later: why\", \"out of scope: why\"",
                row.id
            )),
        }
    }
    assert!(wrong.is_empty(), "docs/conformance.md:\n{}", wrong.join("\n"));
}

#[test]
fn a_test_that_is_named_after_a_row_has_its_row_and_is_run() {
    let known: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let tests = tests();
    assert!(
        tests.len() > 30,
        "only {} rows have tests: are they still found?",
        tests.len()
    );
    let mut wrong = Vec::new();
    for (id, tests) in &tests {
        for test in tests {
            let place = format!("{}:{}: {}", test.file.display(), test.line, test.name);
            if !known.contains(id) {
                wrong.push(format!("{place}: there is no row {id}"));
            }
            if !test.runs {
                wrong.push(format!("{place}: is named like a test and is none, or is ignored"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_this_test_reads_what_it_should() {
    let text = "| CON-01 | 1 | agent | does it | covered |\n| a | b |\n| SUB-02 | 2 | service | `a` | later: why: so |";
    let rows = parse(text);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].status.as_str(), rows[0].reason.as_str()), ("covered", ""));
    assert_eq!((rows[1].status.as_str(), rows[1].reason.as_str()), ("later", "why: so"));
    let source = "#[tokio::test]\n// why\nasync fn con_06_a() {}\n\nfn con_07_sub_01_b() {}\n#[test]\n#[ignore]\nfn con_08_c(x in 1..2) {}";
    let found: Vec<_> = tests_of(Path::new("a.rs"), source);
    let runs: Vec<_> = found
        .iter()
        .map(|(id, test)| (id.as_str(), test.line, test.runs))
        .collect();
    assert_eq!(
        runs,
        [
            ("CON-06", 3, true),
            ("CON-07", 5, false),
            ("SUB-01", 5, false),
            ("CON-08", 8, false)
        ]
    );
    assert!(
        tests_of(
            Path::new("a.rs"),
            "fn reads_01_things() {} fn con_6_a() {} fn con_061_a() {}"
        )
        .is_empty()
    );
}

/// A row of the table.
struct Row {
    id: String,
    priority: String,
    who: String,
    behaviour: String,
    status: String,
    reason: String,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    parse(&std::fs::read_to_string(path).unwrap())
}

fn parse(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [id, priority, who, behaviour, status] = cells[..] else {
            return None;
        };
        if !is_id(id) {
            return None;
        }
        let (status, reason) = status.split_once(": ").unwrap_or((status, ""));
        Some(Row {
            id: id.to_owned(),
            priority: priority.to_owned(),
            who: who.to_owned(),
            behaviour: behaviour.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
        })
    };
    text.lines().filter_map(row).collect()
}

/// `CON-06`.
fn is_id(text: &str) -> bool {
    matches!(text.as_bytes(), [area @ .., b'-', a, b]
        if area.len() == 3 && area.iter().all(u8::is_ascii_uppercase) && a.is_ascii_digit() && b.is_ascii_digit())
}

/// `con_06`.
fn prefix(id: &str) -> String {
    id.to_lowercase().replace('-', "_")
}

struct Test {
    file: PathBuf,
    line: usize,
    name: String,
    /// Has a test attribute, and none that keeps it from running.
    runs: bool,
}

/// All functions whose names begin with an id, by id.
fn tests() -> BTreeMap<String, Vec<Test>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut found: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!()) {
                let text = std::fs::read_to_string(&path).unwrap();
                for (id, test) in tests_of(path.strip_prefix(root).unwrap(), &text) {
                    found.entry(id).or_default().push(test);
                }
            }
        }
    }
    found
}

fn tests_of(file: &Path, text: &str) -> Vec<(String, Test)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words = line.trim_start_matches("pub ").trim_start_matches("async ");
        let Some(name) = words.strip_prefix("fn ") else {
            continue;
        };
        let name = name.split(['(', '<']).next().unwrap_or_default();
        let ids = ids(name);
        if ids.is_empty() {
            continue;
        }
        let above: Vec<&str> = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//") || line.ends_with(")]"))
            .copied()
            .collect();
        let has = |what: &str| above.iter().any(|line| line.starts_with("#[") && line.contains(what));
        let runs = (has("test]") || has("test(")) && !has("ignore");
        found.extend(ids.into_iter().map(|id| {
            let test = Test {
                file: file.to_owned(),
                line: at + 1,
                name: name.to_owned(),
                runs,
            };
            (id, test)
        }));
    }
    found
}

/// The ids that a name begins with: `reb_04_env_07_...` is about both.
fn ids(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = name;
    while let Some((id, after)) = rest.split_at_checked(6) {
        let id = id.to_uppercase().replace('_', "-");
        let Some(after) = after.strip_prefix('_').filter(|_| is_id(&id)) else {
            break;
        };
        found.push(id);
        rest = after;
    }
    found
}
