//! Reading the source: its files, the words in them, and the paths that they use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file of the program.
pub(super) struct Source {
    /// Below `src`.
    pub(super) name: String,
    pub(super) text: String,
}

/// All files of the program.
pub(super) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::<PathBuf>::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    let source = |path: PathBuf| Source {
        name: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    found.into_iter().map(source).collect()
}

/// The crates of Cargo.toml by the names that the source knows them by.
pub(super) fn crates() -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(manifest).unwrap().parse().unwrap();
    let tables = ["dependencies", "dev-dependencies"];
    let names = tables
        .iter()
        .flat_map(|table| manifest[*table].as_table().unwrap().keys());
    names.map(|name| name.replace('-', "_")).collect()
}

/// A path as the source uses it, with `super` and `iotdm` resolved to `crate`.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) line: usize,
    pub(super) names: Vec<String>,
}

impl Used {
    pub(super) fn starts_with(&self, names: &[&str]) -> bool {
        self.names.len() >= names.len() && self.names.iter().zip(names).all(|(a, b)| a == b)
    }
}

/// Every path that a file uses and that leads out of the module it stands in.
pub(super) fn paths(file: &str, text: &str) -> Vec<Used> {
    let tokens = tokens(text);
    let module = module_of(file);
    let mut found = Vec::new();
    // How many inline modules are open, by the depth of braces at which each began.
    let (mut inline, mut depth, mut at) = (Vec::new(), 0, 0);
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token: &Token| token.text == text);
    while at < tokens.len() {
        let token = &tokens[at];
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.pop_if(|began| *began == depth);
            }
            "mod" if is(at + 2, "{") => inline.push(depth),
            _ => {}
        }
        let within = at > 0 && (tokens[at - 1].text == "::" || tokens[at - 1].text == ".") && !rooted(&tokens, at - 1);
        let begins = token.word && !within && (is(at + 1, "::") || is(at.wrapping_sub(1), "use") || is(at + 1, "as"));
        if begins {
            let mut trees = Vec::new();
            tree(&tokens, at, &[], &mut trees);
            found.extend(trees.into_iter().filter_map(|names| {
                let names = resolve(&module, inline.len(), names)?;
                Some(Used {
                    line: token.line,
                    names,
                })
            }));
        }
        at += 1;
    }
    found
}

/// `::std::fs`: a `::` with no path before it.
fn rooted(tokens: &[Token], colons: usize) -> bool {
    tokens[colons].text == "::" && (colons == 0 || !(tokens[colons - 1].word || tokens[colons - 1].text == ">"))
}

/// Every path of the tree that begins at `at`; returns where it ends.
fn tree(tokens: &[Token], mut at: usize, before: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let mut names = before.to_vec();
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    loop {
        if is(at, "{") {
            at += 1;
            while at < tokens.len() && !is(at, "}") {
                at = tree(tokens, at, &names, out);
                while at < tokens.len() && !is(at, ",") && !is(at, "}") {
                    at += 1;
                }
                at += usize::from(is(at, ","));
            }
            return at + 1;
        }
        match tokens.get(at) {
            Some(token) if token.word => names.push(token.text.clone()),
            Some(token) if token.text == "*" => names.push("*".to_owned()),
            _ => break,
        }
        at += 1;
        if !is(at, "::") {
            break;
        }
        at += 1;
    }
    if names.last().is_some_and(|name| name == "self") && names.len() > 1 {
        names.pop();
    }
    out.push(names);
    at
}

/// From the crate's root, when it leads there; as it is, when it leads to another crate; nothing when it stays inside.
fn resolve(module: &[String], inline: usize, names: Vec<String>) -> Option<Vec<String>> {
    let root = |rest: &[String]| Some([&["crate".to_owned()], rest].concat());
    match names.first()?.as_str() {
        "crate" | "iotdm" => root(&names[1..]),
        "self" => None,
        "super" => {
            let up = names.iter().take_while(|name| *name == "super").count();
            let up = up.checked_sub(inline).filter(|up| *up > 0)?;
            let stays = module.len().checked_sub(up).expect("the source compiles");
            root(&[&module[..stays], &names[up + inline..]].concat())
        }
        _ => Some(names),
    }
}

fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

#[derive(Debug)]
pub(super) struct Token {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) word: bool,
}

/// Words, `::` and single characters; without comments, strings, characters and lifetimes.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let end = skipped(rest);
        let length = end.unwrap_or_else(|| match first {
            ':' if rest.starts_with("::") => 2,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        });
        if end.is_none() && !first.is_whitespace() {
            found.push(Token {
                line,
                text: rest[..length].to_owned(),
                word: is_word(first) && !first.is_ascii_digit(),
            });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment, string, character or lifetime that `text` begins with.
fn skipped(text: &str) -> Option<usize> {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        let (mut depth, mut at) = (0, 0);
        while at < text.len() {
            match &text.as_bytes()[at..(at + 2).min(text.len())] {
                b"/*" => (depth, at) = (depth + 1, at + 2),
                b"*/" => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        return Some(at);
    }
    let prefix = text.find(|c: char| !"bcr".contains(c)).unwrap_or(text.len());
    if prefix <= 2 && text[prefix..].starts_with(['"', '#']) && (prefix == 0 || text[..prefix].contains('r')) {
        let hashes = text[prefix..].bytes().take_while(|byte| *byte == b'#').count();
        if prefix > 0 && text[prefix + hashes..].starts_with('"') {
            return Some(until(prefix + hashes + 1, &format!("\"{}", "#".repeat(hashes))));
        }
    }
    if prefix <= 1 && text[prefix..].starts_with('"') {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(prefix + 1) {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => return Some(at + 1),
                _ => escaped = false,
            }
        }
        return Some(text.len());
    }
    if prefix <= 1 && text[prefix..].starts_with('\'') {
        let inside = &text[prefix + 1..];
        if inside.starts_with('\\') {
            return Some(until(prefix + 3, "'"));
        }
        let character = inside.chars().next()?;
        let after = prefix + 1 + character.len_utf8();
        return Some(if text[after..].starts_with('\'') {
            after + 1
        } else {
            prefix + 1
        });
    }
    None
}
