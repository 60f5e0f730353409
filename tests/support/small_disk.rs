//! A disk that is really full: a small tmpfs in a mount namespace of its own, reached through /proc.

// Every test binary uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A small file system that only this test sees. It ends with the shell that holds the namespace.
pub struct SmallDisk {
    shell: Child,
    _mount_point: tempfile::TempDir,
    /// Its root, as this process reaches it.
    pub path: PathBuf,
}

impl SmallDisk {
    /// `size` as tmpfs(5) takes it, such as `256k`.
    pub fn mount(size: &str) -> Self {
        let mount_point = tempfile::tempdir().unwrap();
        let namespace = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
        let mount = "mount -t tmpfs -o size=\"$1\" small \"$2\" && echo mounted && read _";
        let mut shell = Command::new("unshare")
            .args([namespace, "sh", "-c", mount, "sh", size])
            .arg(mount_point.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) is part of util-linux, which every Debian has");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "mounted\n", "mount namespaces are allowed here");
        let root = PathBuf::from(format!("/proc/{}/root", shell.id()));
        let path = root.join(mount_point.path().strip_prefix("/").unwrap());
        Self {
            shell,
            _mount_point: mount_point,
            path,
        }
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path.join("filler"))
            .unwrap();
        for size in [4096, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
