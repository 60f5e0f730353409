//! What the store promises, proven on real files: damage at every byte, a disk that is really full, power cuts.
#![allow(clippy::unwrap_used)]

mod damage;
mod full_disk;
mod model;
mod outbox;
mod state;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of one's own, in memory where there is such a place: a sync to a disk takes longer than the test.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// The files in a folder, by name.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

/// Writes the files into a folder of their own.
fn restore(files: &[(PathBuf, Vec<u8>)]) -> TempDir {
    let dir = scratch();
    for (path, bytes) in files {
        fs::write(dir.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    dir
}

/// Every way in which these bytes are damaged here: cut at every offset, and one to eight bits flipped in every byte.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let cut = (0..bytes.len()).map(|at| (at, bytes[..at].to_vec()));
    let flipped = (0..bytes.len()).flat_map(move |at| {
        [0x01, 0x20, 0x80, 0xff].into_iter().map(move |mask| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= mask;
            (at, bytes)
        })
    });
    cut.chain(flipped)
}
