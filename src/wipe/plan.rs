//! The plan: `*.conf` in one folder, a word and a path on each line.
//!
//! Reading it looks at nothing but those files; whether the host is as they say is [`Plan::check`]'s business. A file that
//! somebody else than root could have written is refused: root deletes what it says. The unprivileged agent judges as root
//! would; only where its own user owns the configuration, too, as in a rehearsal without root, are its files good enough.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// No plan is longer; a longer file is none.
const FILE_BYTES: u64 = 64 * 1024;

/// What is wiped and what stays. Free of contradictions in itself; see [`Plan::check`] for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) mounts: Vec<Line>,
    pub(super) wipes: Vec<Line>,
    pub(super) keeps: Vec<Line>,
    pub(super) formats: Vec<Line>,
    /// What survives whatever the plan says.
    pub(super) protected: Vec<PathBuf>,
    /// The state folder.
    pub(super) state: PathBuf,
}

/// A path of the plan, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Absolute, of plain names only.
    pub(super) path: PathBuf,
    /// `FILE:LINE`, for messages.
    pub(super) at: String,
}

impl Plan {
    /// Reads every `*.conf` of `folder` in the order of the names. `protected` are the files and folders that survive
    /// whatever the plan says: configuration, and what the device is known by; the state folder `state` does, too.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with file and line; a plan that wipes nothing is wrong, too.
    pub fn read(folder: &Path, state: &Path, protected: &[PathBuf]) -> Result<Self, Vec<String>> {
        let mut plan = Plan {
            mounts: Vec::new(),
            wipes: Vec::new(),
            keeps: Vec::new(),
            formats: Vec::new(),
            protected: protected
                .iter()
                .map(PathBuf::as_path)
                .chain([state])
                .map(Path::to_owned)
                .collect(),
            state: state.to_owned(),
        };
        let mut problems = Vec::new();
        match files(folder) {
            Ok(files) => {
                let own = own(folder);
                for file in files {
                    match text(&file, own) {
                        Ok(text) => plan.add(&file, &text, &mut problems),
                        Err(reason) => problems.push(format!("{}: {reason}", file.display())),
                    }
                }
            }
            Err(reason) => problems.push(format!("{}: {reason}", folder.display())),
        }
        plan.judge(&mut problems);
        if problems.is_empty() && plan.wipes.is_empty() && plan.formats.is_empty() {
            problems.push(format!(
                "{} names nothing to wipe: say there what a factory reset wipes (man iotdm-agent-factory-reset)",
                folder.display()
            ));
        }
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    /// The paths whose content goes, and the devices that are made anew, as the plan names them.
    pub fn targets(&self) -> impl Iterator<Item = &Path> {
        self.wipes.iter().chain(&self.formats).map(|line| line.path.as_path())
    }

    fn add(&mut self, file: &Path, text: &str, problems: &mut Vec<String>) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = format!("{}:{}", file.display(), number + 1);
            let (word, path) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let lines = match word {
                "mount" => &mut self.mounts,
                "wipe" => &mut self.wipes,
                "keep" => &mut self.keeps,
                "format" => &mut self.formats,
                _ => {
                    problems.push(format!("{at}: no word '{word}': mount, wipe, keep, format are known"));
                    continue;
                }
            };
            match checked(path.trim()) {
                Ok(path) if lines.iter().any(|line| line.path == path) => {
                    problems.push(format!("{at}: {word} {} stands there twice", path.display()));
                }
                Ok(path) => lines.push(Line { path, at }),
                Err(reason) => problems.push(format!("{at}: {word} {}: {reason}", path.trim())),
            }
        }
    }

    /// What the lines say of each other.
    fn judge(&self, problems: &mut Vec<String>) {
        for wipe in &self.wipes {
            let Some(mount) = self.mount_of(&wipe.path) else {
                problems.push(format!(
                    "{}: wipe {}: below no declared file system: add its 'mount' line",
                    wipe.at,
                    wipe.path.display()
                ));
                continue;
            };
            let outer = self.wipes.iter().find(|outer| {
                outer.path != wipe.path
                    && wipe.path.starts_with(&outer.path)
                    && self.mount_of(&outer.path) == Some(mount)
            });
            if let Some(outer) = outer {
                problems.push(format!(
                    "{}: wipe {}: 'wipe {}' ({}) takes it already",
                    wipe.at,
                    wipe.path.display(),
                    outer.path.display(),
                    outer.at
                ));
            }
        }
        for keep in &self.keeps {
            let below = |wipe: &Line| keep.path != wipe.path && keep.path.starts_with(&wipe.path);
            if !self.wipes.iter().any(below) {
                problems.push(format!(
                    "{}: keep {}: below no 'wipe', so it stays anyway",
                    keep.at,
                    keep.path.display()
                ));
            }
        }
        for format in &self.formats {
            if !format.path.starts_with("/dev") {
                problems.push(format!(
                    "{}: format {}: no device below /dev",
                    format.at,
                    format.path.display()
                ));
            }
        }
    }

    /// The declared file system that a path lies on: the nearest.
    pub(super) fn mount_of(&self, path: &Path) -> Option<usize> {
        let holds = |(_, mount): &(usize, &Line)| path.starts_with(&mount.path);
        let depth = |(_, mount): &(usize, &Line)| mount.path.components().count();
        let nearest = self.mounts.iter().enumerate().filter(holds).max_by_key(depth);
        nearest.map(|(number, _)| number)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    trusted(&fs::metadata(folder).map_err(unreadable)?, own(folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if file.extension().is_some_and(|extension| extension == "conf") && !hidden {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn text(file: &Path, own: Option<u32>) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    let opened = File::open(file).map_err(unreadable)?;
    trusted(&opened.metadata().map_err(unreadable)?, own)?;
    let mut bytes = Vec::new();
    let read = opened.take(FILE_BYTES + 1).read_to_end(&mut bytes);
    if read.map_err(unreadable)? as u64 > FILE_BYTES {
        return Err(format!("has more than {FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())
}

/// The user who reads this, if the configuration that the plan lies beside is that user's.
fn own(folder: &Path) -> Option<u32> {
    let own = nix::unistd::geteuid().as_raw();
    let configuration = fs::metadata(folder.parent()?).ok()?;
    (configuration.uid() == own).then_some(own)
}

/// Only who may delete everything anyway may say what is deleted.
fn trusted(metadata: &fs::Metadata, own: Option<u32>) -> Result<(), String> {
    if metadata.uid() != 0 && Some(metadata.uid()) != own {
        return Err(format!("belongs to user {}, not to root", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "others than root may write it: chmod go-w (mode {:o})",
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

/// An absolute path of plain names.
fn checked(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is missing".to_owned());
    }
    if let Some(odd) = text.chars().find(|c| "*?[]{}\"'\\".contains(*c) || c.is_control()) {
        return Err(format!(
            "{odd:?} is not understood: a path is taken as it stands, without patterns and quotes"
        ));
    }
    if !text.starts_with('/') {
        return Err("the path must begin with /".to_owned());
    }
    let path = Path::new(text);
    if text.split('/').any(|name| name == "." || name == "..") {
        return Err("a path has no '.' and no '..'".to_owned());
    }
    // without slashes that mean nothing
    let path: PathBuf = path.components().collect();
    if path.components().all(|part| part == Component::RootDir) {
        return Err("never the root file system".to_owned());
    }
    Ok(path)
}
