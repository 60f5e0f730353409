//! Any tree, any plan, against the rules in a few lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::place::{ASKED, NEXT, Place, strings};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Folder,
    File,
    /// To the path with this number, or to somewhere outside.
    Link(usize),
    /// Another name of the file with this number.
    HardLink(usize),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Folder),
        4 => Just(Kind::File),
        1 => (0..40_usize).prop_map(Kind::Link),
        1 => (0..40_usize).prop_map(Kind::HardLink),
    ]
}

/// A tree: each path with the inode that it names. Folders and links have one of their own.
#[derive(Debug, Default)]
struct Tree {
    paths: Vec<PathBuf>,
    inodes: BTreeMap<PathBuf, (usize, Kind)>,
}

impl Tree {
    fn grow(nodes: &[(usize, u8, Kind)]) -> Self {
        let mut tree = Self::default();
        for (number, (parent, name, kind)) in nodes.iter().enumerate() {
            let folders: Vec<_> = tree
                .paths
                .iter()
                .filter(|path| matches!(tree.inodes[*path].1, Kind::Folder))
                .collect();
            let parent = match folders.len() {
                0 => PathBuf::new(),
                count => folders[parent % count].clone(),
            };
            let path = parent.join(format!("{name}"));
            if tree.inodes.contains_key(&path) {
                continue;
            }
            let files: Vec<_> = tree
                .inodes
                .values()
                .filter(|(_, kind)| matches!(kind, Kind::File))
                .collect();
            let node = match kind {
                Kind::HardLink(_) if files.is_empty() => (number, Kind::File),
                Kind::HardLink(which) => *files[which % files.len()],
                kind => (number, *kind),
            };
            tree.inodes.insert(path.clone(), node);
            tree.paths.push(path);
        }
        tree
    }

    fn plant(&self, top: &Path) {
        let mut first: BTreeMap<usize, PathBuf> = BTreeMap::new();
        for path in &self.paths {
            let (inode, kind) = self.inodes[path];
            let here = top.join(path);
            match kind {
                Kind::Folder => std::fs::create_dir(&here).unwrap(),
                Kind::Link(which) => {
                    let target = match which % 3 {
                        0 => PathBuf::from("/etc"),
                        1 => PathBuf::from("nowhere"),
                        _ => PathBuf::from("..").join(&self.paths[which % self.paths.len()]),
                    };
                    std::os::unix::fs::symlink(target, &here).unwrap();
                }
                Kind::File | Kind::HardLink(_) => match first.get(&inode) {
                    Some(name) => std::fs::hard_link(name, &here).unwrap(),
                    None => {
                        std::fs::write(&here, format!("{inode}")).unwrap();
                        first.insert(inode, here);
                    }
                },
            }
        }
    }

    /// What is left after a reset.
    fn left(&self, wipes: &BTreeSet<PathBuf>, keeps: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let kept: BTreeSet<usize> = keeps.iter().map(|path| self.inodes[path].0).collect();
        let stays = |path: &PathBuf| {
            let is_folder = matches!(self.inodes[path].1, Kind::Folder);
            let wiped = wipes
                .iter()
                .any(|wipe| path.starts_with(wipe) && !(path == wipe && is_folder));
            let held = path
                .ancestors()
                .any(|above| self.inodes.get(above).is_some_and(|(inode, _)| kept.contains(inode)));
            !wiped || held
        };
        let left: BTreeSet<PathBuf> = self.paths.iter().filter(|path| stays(path)).cloned().collect();
        left.iter()
            .flat_map(|path| path.ancestors().map(Path::to_owned))
            .filter(|path| !path.as_os_str().is_empty())
            .collect()
    }
}

fn below(top: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut left) = (BTreeSet::new(), vec![top.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.path().strip_prefix(top).unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn whatever_the_tree_and_the_plan_exactly_what_is_named_goes() {
    let place = Place::with("", "mkdir T/data/tree");
    let top = place.path("T/data/tree");
    let nodes = prop::collection::vec((0..40_usize, 0..6_u8, kind()), 1..40);
    let picked = (
        prop::collection::vec(0..40_usize, 1..4),
        prop::collection::vec(0..40_usize, 0..4),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let gone = std::cell::Cell::new(0_usize);
    runner
        .run(&(nodes, picked), |(nodes, (wipes, keeps))| {
            let tree = Tree::grow(&nodes);
            let pick = |which: &usize| tree.paths[which % tree.paths.len()].clone();
            let mut named: BTreeSet<PathBuf> = BTreeSet::new();
            // rather something near the top, with something in it
            let high = |which: &usize| tree.paths[which % tree.paths.len().div_ceil(4)].clone();
            for wipe in wipes.iter().map(high) {
                if !named
                    .iter()
                    .any(|other| wipe.starts_with(other) || other.starts_with(&wipe))
                {
                    named.insert(wipe);
                }
            }
            let in_wipe = |keep: &PathBuf| named.iter().any(|wipe| keep.starts_with(wipe) && keep != wipe);
            let kept: BTreeSet<PathBuf> = keeps.iter().map(pick).filter(in_wipe).collect();
            // what is named itself and kept under another name is refused, which is tested elsewhere
            let inode = |path: &PathBuf| tree.inodes[path].0;
            prop_assume!(
                !named
                    .iter()
                    .any(|wipe| kept.iter().any(|keep| inode(keep) == inode(wipe)))
            );

            std::fs::remove_dir_all(&top).unwrap();
            std::fs::create_dir(&top).unwrap();
            tree.plant(&top);
            let mut plan = "mount T/data\n".to_owned();
            for wipe in &named {
                plan.push_str(&format!("wipe T/data/tree/{}\n", wipe.display()));
            }
            for keep in &kept {
                plan.push_str(&format!("keep T/data/tree/{}\n", keep.display()));
            }
            place.plan(&plan);
            place.done(ASKED, "request");
            prop_assert_eq!(below(&top).len(), tree.paths.len());
            place.done(NEXT, "wipe");
            let left = below(&top);
            prop_assert_eq!(&left, &tree.left(&named, &kept), "{}", plan);
            let report = place.report();
            prop_assert!(strings(&report["failed"]).is_empty(), "{}", report);
            gone.set(gone.get() + tree.paths.len() - left.len());
            Ok(())
        })
        .unwrap();
    place.assert_identity();
    assert!(gone.get() > 150, "{} are not many", gone.get());
}
