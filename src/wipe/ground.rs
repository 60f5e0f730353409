//! The host as the plan finds it: the declared file systems, opened and judged, and what stays, known by its inode.
//!
//! Nothing is changed here. A path is followed through no link and, below a declared file system, over no mount.
//! Facts: `openat2(2)`: with `RESOLVE_NO_XDEV` a mount point cannot be opened from its parent, bind mounts included; a file
//! system on a block device has that device's number as `st_dev`, all others a number with major 0.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major};

use super::devices::{self, Device};
use super::mounts::{self, Mount};
use super::plan::{Line, Plan};
use super::slots;

/// More than this in configuration and state together is something else than those.
const PROTECTED_FILES: usize = 20_000;
/// What a host is known by: its id, and the key that opens what `LoadCredentialEncrypted=` names (systemd-creds(1)).
const OF_THE_HOST: [&str; 2] = ["/etc/machine-id", "/var/lib/systemd/credential.secret"];
/// As the kernel has it (path_resolution(7)).
const LINKS: usize = 40;

/// A file by device and inode: the same under every name and in every bind mount.
pub(super) type Identity = (Device, u64);

/// What was found.
#[derive(Debug)]
pub(super) struct Ground {
    /// Why nothing at all may be wiped.
    pub(super) problems: Vec<String>,
    /// The declared file systems in the order of the plan, or why nothing is wiped of one.
    pub(super) mounts: Vec<Result<OwnedFd, String>>,
    /// What stays.
    pub(super) stays: Stays,
    /// A sandbox takes `openat2(2)` away (systemd's `RestrictSUIDSGID=`): nothing can be wiped, and not all be looked at.
    pub(super) blind: bool,
    /// Devices that hold the system, each with what it is.
    pub(super) system: Vec<(Device, System)>,
}

/// What a device is of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum System {
    /// What `/` is mounted from.
    Root,
    /// A slot of RAUC's, by its name.
    Slot(String),
    /// A device that one of these consists of.
    PartOf(Box<System>),
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            System::Root => write!(f, "the root file system"),
            System::Slot(name) => write!(f, "slot {name}"),
            System::PartOf(whole) => write!(f, "part of {whole}"),
        }
    }
}

/// What stays, and where a wipe ends.
#[derive(Debug, Default)]
pub(super) struct Stays {
    /// Why each of these stays.
    pub(super) kept: HashMap<Identity, String>,
    /// The roots of declared file systems: a wipe that comes to one leaves it to its own lines.
    pub(super) declared: HashSet<Identity>,
    /// What is mounted a second time elsewhere, and where: who removed it would break that mount.
    pub(super) bound: HashMap<Identity, Vec<PathBuf>>,
}

/// What a `wipe` line leads to.
#[derive(Debug)]
pub(super) enum Target {
    /// Its content goes. Whether it is the root of its file system.
    Folder(OwnedFd, bool),
    /// A file or a link: the folder that holds it.
    Entry(OwnedFd, FileStat),
    /// Nothing is there.
    Missing,
}

impl Ground {
    /// Looks at the host.
    pub(super) fn look(plan: &Plan) -> Self {
        let mut ground = Ground {
            problems: Vec::new(),
            mounts: Vec::new(),
            stays: Stays::default(),
            blind: is_blind(),
            system: Vec::new(),
        };
        if let Err(reason) = ground.find_system() {
            ground.problems.push(reason);
        }
        let mounts = mounts::read().unwrap_or_else(|error| {
            ground.problems.push(format!("what is mounted cannot be read: {error}"));
            Vec::new()
        });
        ground.find_bound(&mounts);
        let is_root = nix::unistd::geteuid().is_root();
        for path in &plan.protected {
            if let Err(error) = ground.protect(path) {
                // who is not root wipes nothing, and need not see everything
                if error.kind() == io::ErrorKind::PermissionDenied && !is_root {
                    continue;
                }
                ground.problems.push(format!(
                    "{} must stay and cannot be found ({error}), so nothing can be wiped",
                    path.display()
                ));
            }
        }
        for path in &plan.protected {
            if let Err(reason) = ground.protect_under_overlay(&mounts, path) {
                ground.problems.push(reason);
            }
        }
        for mount in &plan.mounts {
            let opened = match ground.blind {
                false => ground.open_mount(&mount.path),
                true => Err(ground.blind_look(&mount.path)),
            };
            if let Ok(Ok(stat)) = opened.as_ref().map(fstat) {
                ground.stays.declared.insert(identity(&stat));
            }
            ground.mounts.push(opened);
        }
        for keep in &plan.keeps {
            if let Err(reason) = ground.keep(plan, keep) {
                ground
                    .problems
                    .push(format!("{}: keep {}: {reason}", keep.at, keep.path.display()));
            }
        }
        ground
    }

    /// Opens what a `wipe` line names.
    pub(super) fn target(&self, plan: &Plan, wipe: &Path) -> Result<Target, String> {
        let mount = plan.mount_of(wipe).ok_or("it lies below no declared file system")?;
        let top = self.mounts[mount].as_ref().map_err(Clone::clone)?;
        let below = below(wipe, &plan.mounts[mount].path);
        let mut here = top.try_clone().map_err(|error| error.to_string())?;
        let mut left = below.components();
        loop {
            let stat = fstat(&here).map_err(in_words)?;
            if let Some(why) = self.stays.kept.get(&identity(&stat)) {
                return Err(format!("it lies in what stays ({why})"));
            }
            let Some(name) = left.next() else {
                return Ok(Target::Folder(here, below.as_os_str().is_empty()));
            };
            let name = Path::new(name.as_os_str());
            match open_below(&here, name) {
                Ok(folder) => here = folder,
                Err(Errno::ENOENT) => return Ok(Target::Missing),
                Err(Errno::EXDEV) => {
                    return Err(format!(
                        "another file system is mounted on {}: give it a 'mount' line of its own",
                        name.display()
                    ));
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let stat = look_at(&here, name).map_err(in_words)?;
                    if left.next().is_some() {
                        return match is_link(&stat) {
                            true => Err(format!(
                                "{} on the way is a symbolic link: name the real path",
                                name.display()
                            )),
                            false => Ok(Target::Missing),
                        };
                    }
                    if let Some(why) = self.stays.kept.get(&identity(&stat)) {
                        return Err(format!("it stays ({why})"));
                    }
                    return Ok(Target::Entry(here, stat));
                }
                Err(error) => return Err(in_words(error)),
            }
        }
    }

    /// Root's device and the slots', with whatever they consist of.
    fn find_system(&mut self) -> Result<(), String> {
        let root = fs::metadata("/").map_err(|error| format!("/ cannot be looked at: {error}"))?;
        self.system.push((root.dev(), System::Root));
        let slots = slots::read().map_err(|error| error.to_string())?;
        for (name, device) in slots.devices {
            // a slot whose device is not there cannot be mounted either
            if let Some(number) = devices::number_by_name(&device) {
                self.system.push((number, System::Slot(name)));
            }
        }
        for (device, what) in self.system.clone() {
            let parts = devices::consists_of(device);
            let part_of = || System::PartOf(Box::new(what.clone()));
            self.system.extend(parts.into_iter().map(|part| (part, part_of())));
        }
        // not of the agent's configuration, and not everywhere there
        for path in slots
            .status_files
            .iter()
            .map(PathBuf::as_path)
            .chain(OF_THE_HOST.map(Path::new))
        {
            match self.protect(path) {
                Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Err(format!("{} cannot be looked at: {error}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What `device` is of the system, if it is.
    pub(super) fn is_system(&self, device: Device) -> Option<&System> {
        let parts = devices::consists_of(device);
        let hit = |(number, what): &(Device, System)| {
            // parts of the system may carry other things as well, such as a volume group
            *number == device || (parts.contains(number) && !matches!(what, System::PartOf(_)))
        };
        self.system.iter().find(|entry| hit(entry)).map(|(_, what)| what)
    }

    /// Folders and files that are mounted elsewhere, too.
    fn find_bound(&mut self, mounts: &[Mount]) {
        for mount in mounts.iter().filter(|mount| mount.root != Path::new("/")) {
            // one that is hidden by a later mount is not looked at, and that one is
            if let Ok(metadata) = fs::symlink_metadata(&mount.point) {
                let identity = (metadata.dev(), metadata.ino());
                self.stays.bound.entry(identity).or_default().push(mount.point.clone());
            }
        }
    }

    /// On an overlay a file has another identity than where it is really kept.
    fn protect_under_overlay(&mut self, mounts: &[Mount], path: &Path) -> Result<(), String> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let Some(upper) = mounts::of(mounts, &real).and_then(|mount| mount.upper.as_ref()) else {
            return Ok(());
        };
        // all of it: what is kept there is the system's
        self.protect(upper).map_err(|error| {
            format!(
                "{} must stay and lies on an overlay, and where that keeps its files cannot be looked at ({}: {error})",
                path.display(),
                upper.display()
            )
        })
    }

    /// A path and all below it stays; every link on the way to it, too.
    fn protect(&mut self, path: &Path) -> io::Result<()> {
        let why = format!("{} always stays", path.display());
        let (mut here, mut links) = (PathBuf::from("/"), 0);
        let mut left: Vec<PathBuf> = parts(path);
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let metadata = fs::symlink_metadata(&next)?;
            if metadata.is_symlink() {
                links += 1;
                if links > LINKS {
                    return Err(Errno::ELOOP.into());
                }
                self.stays.kept.insert((metadata.dev(), metadata.ino()), why.clone());
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                left.extend(parts(&target));
            } else {
                here = next;
            }
        }
        let mut folders = vec![here];
        while let Some(path) = folders.pop() {
            let metadata = fs::symlink_metadata(&path)?;
            self.stays.kept.insert((metadata.dev(), metadata.ino()), why.clone());
            if self.stays.kept.len() > PROTECTED_FILES {
                return Err(io::Error::other("there is too much in it"));
            }
            if metadata.is_dir() {
                for entry in fs::read_dir(&path)? {
                    folders.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, plan: &Plan, keep: &Line) -> Result<(), String> {
        let Some(mount) = plan.mount_of(&keep.path) else {
            return Ok(());
        };
        // nothing of it is wiped
        let Ok(top) = &self.mounts[mount] else { return Ok(()) };
        let below = below(&keep.path, &plan.mounts[mount].path);
        if below.as_os_str().is_empty() {
            return Ok(());
        }
        match look_at(top, &below) {
            Ok(stat) => {
                let why = format!("{}: keep", keep.at);
                self.stays.kept.entry(identity(&stat)).or_insert(why);
                Ok(())
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(Errno::ELOOP) => Err("goes through a symbolic link: name the real path".to_owned()),
            Err(error) => Err(in_words(error)),
        }
    }

    /// A declared file system that may be wiped of.
    fn open_mount(&self, path: &Path) -> Result<OwnedFd, String> {
        let root = nix::fcntl::open(
            "/",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(in_words)?;
        let relative = below(path, Path::new("/"));
        let open_folder = |path: &Path, flags| {
            open(&root, path, flags | OFlag::O_DIRECTORY, ResolveFlag::empty()).map_err(|error| match error {
                Errno::ENOENT => "is not there".to_owned(),
                Errno::ENOTDIR => "is no folder".to_owned(),
                Errno::ELOOP => "goes through a symbolic link: name the real path".to_owned(),
                error => in_words(error),
            })
        };
        let opened = open_folder(&relative, OFlag::O_RDONLY)?;
        let parent = match relative.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => open_folder(parent, OFlag::O_PATH)?,
            _ => root.try_clone().map_err(|error| error.to_string())?,
        };
        let name = Path::new(relative.file_name().unwrap_or(OsStr::new(".")));
        match open(
            &parent,
            name,
            OFlag::O_PATH | OFlag::O_NOFOLLOW,
            ResolveFlag::RESOLVE_NO_XDEV,
        ) {
            Err(Errno::EXDEV) => {}
            Ok(_) => return Err("is not mounted".to_owned()),
            Err(error) => return Err(in_words(error)),
        }
        self.judge_mount(identity(&fstat(&opened).map_err(in_words)?).0)?;
        Ok(opened)
    }

    fn judge_mount(&self, device: Device) -> Result<(), String> {
        if let Some(what) = self.is_system(device) {
            return Err(format!("is {what}: nothing of it is ever wiped"));
        }
        if major(device) == 0 {
            return Err("is no file system on a disk of its own".to_owned());
        }
        Ok(())
    }

    /// As much as can be said of a declared file system without `openat2(2)`.
    fn blind_look(&self, path: &Path) -> String {
        let found = fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => error.to_string(),
        });
        match found.and_then(|metadata| self.judge_mount(metadata.dev())) {
            Ok(()) => BLIND.to_owned(),
            Err(reason) => reason,
        }
    }
}

/// Said of what seems to be right, and can only be told outside of the sandbox.
pub(super) const BLIND: &str = "cannot be looked at closely here: this sandbox has no openat2(2)";

fn is_blind() -> bool {
    let root = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let tried = root.map(|root| open(root, Path::new("."), OFlag::O_PATH, ResolveFlag::empty()));
    matches!(tried, Ok(Err(Errno::ENOSYS)))
}

/// Opens a folder below another one: through no link, and on the same file system.
pub(super) fn open_below(folder: impl AsFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    open(folder, name, flags, ResolveFlag::RESOLVE_NO_XDEV)
}

fn open(folder: impl AsFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(folder, path, how)
}

/// Looks at what a path below a folder names, be it a link, on whichever file system.
fn look_at(folder: impl AsFd, path: &Path) -> Result<FileStat, Errno> {
    fstat(open(
        folder,
        path,
        OFlag::O_PATH | OFlag::O_NOFOLLOW,
        ResolveFlag::empty(),
    )?)
}

// the types differ between architectures
#[allow(clippy::useless_conversion)]
pub(super) fn identity(stat: &FileStat) -> Identity {
    (Device::from(stat.st_dev), u64::from(stat.st_ino))
}

pub(super) fn is_folder(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFDIR
}

pub(super) fn is_link(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFLNK
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// The names of a path, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = |part: Component| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}

/// `path` as seen from `top`, which it lies in.
fn below(path: &Path, top: &Path) -> PathBuf {
    path.strip_prefix(top).map(Path::to_owned).unwrap_or_default()
}

/// What the kernel said, for people.
pub(super) fn in_words(error: Errno) -> String {
    error.desc().to_owned()
}
