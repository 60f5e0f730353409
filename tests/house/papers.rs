//! What is written for people against the program: message ids, commands, keys.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::source::sources;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every run of 32 hexadecimal digits that stands alone.
fn message_ids(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() == 32 && word.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)))
        .map(str::to_owned)
        .collect()
}

/// The long options and subcommands that `--help` of a program tells, and those of its subcommands.
fn told_by_help(program: &str) -> BTreeSet<String> {
    let help = |arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg("--help").output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?} --help: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let options = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.len() > 3 && word.starts_with("--"))
            .map(str::to_owned)
            .collect()
    };
    let top = help(&[]);
    let (_, commands) = top.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let names = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut told: BTreeSet<String> = options(&top).into_iter().collect();
    for name in names.filter(|name| !name.is_empty() && *name != "help") {
        told.insert(name.to_owned());
        told.extend(options(&help(&[name])));
    }
    told
}

/// A man page as the words that its reader sees.
fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\(aq", "'").replace("\\&", "")
}

#[test]
fn every_message_id_is_in_the_catalog_and_in_the_operators_table_and_none_is_there_without_it() {
    let logged: BTreeSet<_> = sources()
        .iter()
        .filter(|file| file.name.ends_with("daemon/logging.rs"))
        .flat_map(|file| message_ids(&file.text))
        .collect();
    assert!(
        logged.len() > 10,
        "message ids are no longer found in the source: {logged:?}"
    );
    let catalog = read("packaging/catalog/iotdm-agent.catalog");
    let heads: BTreeSet<_> = catalog
        .lines()
        .filter_map(|line| line.strip_prefix("-- ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(heads, logged, "packaging/catalog/iotdm-agent.catalog");
    assert_eq!(message_ids(&read("docs/operations.md")), logged, "docs/operations.md");
}

#[test]
fn every_command_and_option_is_in_its_man_page() {
    for (program, page) in [
        (env!("CARGO_BIN_EXE_iotdm-agent"), "packaging/man/iotdm-agent.8"),
        (env!("CARGO_BIN_EXE_iotdm"), "packaging/man/iotdm.1"),
    ] {
        let text = plain(&read(page));
        let words: BTreeSet<_> = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
        let told = told_by_help(program);
        assert!(told.contains("--json") && told.len() > 6, "{program}: {told:?}");
        let missing: Vec<_> = told.iter().filter(|word| !words.contains(word.as_str())).collect();
        assert!(missing.is_empty(), "{page} says nothing of {missing:?}");
    }
}

#[test]
fn every_key_of_the_shipped_configuration_is_in_the_man_page() {
    let shipped = read("config/config.toml");
    let keys: BTreeSet<_> = shipped
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(" = ").map(|(key, _)| key))
        .filter(|key| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    assert!(keys.len() > 20 && keys.contains("keep_alive"), "{keys:?}");
    let page = plain(&read("packaging/man/iotdm-agent.toml.5"));
    for key in keys {
        assert!(
            page.contains(&format!(".B {key}\n")),
            "packaging/man/iotdm-agent.toml.5 says nothing of {key}"
        );
    }
}

#[test]
fn every_link_in_what_is_written_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut count, mut broken) = (0, Vec::new());
    for folder in ["", "docs", "docs/decisions"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for link in text
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split([')', '#']).next())
            {
                count += 1;
                if !link.contains("://") && !path.with_file_name(link).exists() {
                    broken.push(format!("{}: {link}", path.display()));
                }
            }
        }
    }
    assert!(count > 15, "only {count} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
