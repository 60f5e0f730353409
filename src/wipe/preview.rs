//! What a factory reset would do now, without doing it: the walk of the wipe, counting only.

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::fstab;
use super::ground::{Ground, Target, is_link};
use super::mkfs;
use super::plan::{Line, Plan};
use super::tree::{Mode, Tally, Walk};

/// What would go and what would stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// What the plan's lines lead to, in its order.
    pub goes: Vec<Going>,
    /// What stays of it; at most some dozens are named.
    pub stays: Vec<Staying>,
    /// Because of these the factory reset is refused.
    pub problems: Vec<String>,
}

/// A path of the plan that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Going {
    /// As the plan names it.
    pub path: PathBuf,
    /// What is there.
    pub kind: Kind,
    /// Whatever is no folder.
    pub files: u64,
    /// Folders in it; it stays itself.
    pub folders: u64,
    /// The room that comes free, in bytes.
    pub bytes: u64,
}

/// What is found under a path of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All that is in it goes.
    Folder,
    /// A file, or something else that is no folder.
    File,
    /// A symbolic link: it goes, what it leads to does not.
    Link,
    /// Nothing is there.
    Missing,
    /// A file system that is made anew.
    Device,
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staying {
    /// The file, or the folder with everything in it.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl Plan {
    /// Which of its `format` lines name a device that holds the system, a slot, or what must stay. This can be seen in
    /// the agent's sandbox and without root, too; everything else about the host only root tells ([`Plan::preview`]).
    pub fn refused_formats(&self) -> Vec<String> {
        if self.formats.is_empty() {
            return Vec::new();
        }
        let ground = Ground::look(self);
        let refused = |line: &Line| {
            let reason = mkfs::refusal(self, &ground, &line.path)?;
            Some(format_problem(line, &reason))
        };
        self.formats.iter().filter_map(refused).collect()
    }

    /// The declared file systems that a boot does not wait for (`nofail` in `/etc/fstab`): unless the wipe is told to come
    /// after them, it may find them not mounted, and then nothing of them is wiped.
    pub fn not_awaited(&self) -> Vec<&Path> {
        let text = fstab::read();
        let mounts = self.mounts.iter().map(|line| line.path.as_path());
        mounts.filter(|mount| fstab::is_not_awaited(&text, mount)).collect()
    }

    /// What a factory reset would do now. Changes nothing; reads every folder that would go, so only root sees it all.
    pub fn preview(&self) -> Preview {
        let ground = Ground::look(self);
        let mut preview = Preview {
            problems: problems(self, &ground),
            ..Preview::default()
        };
        for wipe in &self.wipes {
            let Ok(target) = ground.target(self, &wipe.path) else {
                continue;
            };
            let (kind, tally) = carry_out(Mode::Count, &ground, &wipe.path, target);
            preview.goes.push(Going {
                path: wipe.path.clone(),
                kind,
                files: tally.files,
                folders: tally.folders,
                bytes: tally.bytes,
            });
            let named = tally.stays.lines.into_iter().chain(tally.failed.lines);
            preview.stays.extend(named.map(|(path, why)| Staying { path, why }));
            let more = tally.stays.more + tally.failed.more;
            if more > 0 {
                preview.stays.push(Staying {
                    path: wipe.path.clone(),
                    why: format!("{more} more in it stay"),
                });
            }
        }
        for format in &self.formats {
            preview.goes.push(Going {
                path: format.path.clone(),
                kind: Kind::Device,
                files: 0,
                folders: 0,
                bytes: 0,
            });
        }
        preview
    }
}

/// Why the plan cannot be carried out on this host, or not as it says.
pub(super) fn problems(plan: &Plan, ground: &Ground) -> Vec<String> {
    let mut problems = ground.problems.clone();
    for (line, mount) in plan.mounts.iter().zip(&ground.mounts) {
        if let Err(reason) = mount {
            problems.push(format!("{}: mount {}: {reason}", line.at, line.path.display()));
        }
    }
    for wipe in &plan.wipes {
        let mounted = plan
            .mount_of(&wipe.path)
            .is_some_and(|mount| ground.mounts[mount].is_ok());
        match ground.target(plan, &wipe.path) {
            Err(reason) if mounted => {
                problems.push(format!("{}: wipe {}: {reason}", wipe.at, wipe.path.display()));
            }
            _ => {}
        }
    }
    for line in &plan.formats {
        if let Some(reason) = mkfs::problem(plan, ground, &line.path) {
            problems.push(format_problem(line, &reason));
        }
    }
    problems
}

fn format_problem(line: &Line, reason: &str) -> String {
    format!("{}: format {}: it {reason}", line.at, line.path.display())
}

/// Empties or counts what a `wipe` line leads to.
pub(super) fn carry_out(mode: Mode, ground: &Ground, path: &Path, target: Target) -> (Kind, Tally) {
    match target {
        Target::Missing => (Kind::Missing, Tally::default()),
        Target::Folder(folder, is_root) => (
            Kind::Folder,
            Walk::new(mode, &ground.stays, path, is_root).empty(folder),
        ),
        Target::Entry(folder, stat) => {
            let kind = if is_link(&stat) { Kind::Link } else { Kind::File };
            // a path of the plan is text that had no NUL
            let name = path
                .file_name()
                .and_then(|name| CString::new(name.as_bytes()).ok())
                .unwrap_or_default();
            (
                kind,
                Walk::new(mode, &ground.stays, path, false).single(&folder, &name, &stat),
            )
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "refused: {problem}")?;
        }
        for Going { path, kind, .. } in &self.goes {
            writeln!(f, "wiped:   {}{}", path.display(), self.what(path, *kind))?;
        }
        for Staying { path, why } in &self.stays {
            writeln!(f, "stays:   {} ({why})", path.display())?;
        }
        Ok(())
    }
}

impl Preview {
    fn what(&self, path: &Path, kind: Kind) -> String {
        let Some(going) = self.goes.iter().find(|going| going.path == path) else {
            return String::new();
        };
        let amount = || {
            format!(
                "{} files, {} folders, {}",
                going.files,
                going.folders,
                size(going.bytes)
            )
        };
        match kind {
            Kind::Folder => format!("/*: {}", amount()),
            Kind::File => format!(": a file, {}", size(going.bytes)),
            Kind::Link => ": a symbolic link; what it leads to stays".to_owned(),
            Kind::Missing => ": nothing is there".to_owned(),
            Kind::Device => ": made anew, with the same UUID and label".to_owned(),
        }
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
