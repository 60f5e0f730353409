//! A RAUC bundle as a value: described, then built by the script beside this file, which keeps it for the next time.

use std::path::Path;
use std::process::Command;

use crate::harness::succeeded;

/// What is in a bundle. Made for one suite: RAUC would not mind, but the Debian in it is of that suite.
pub(crate) struct Bundle {
    suite: String,
    arguments: Vec<String>,
    files: Vec<tempfile::NamedTempFile>,
}

impl Bundle {
    /// A root file system of this version, without the package.
    pub(crate) fn new(suite: &str, version: &str) -> Self {
        let arguments = vec!["--version".to_owned(), version.to_owned()];
        Self {
            suite: suite.to_owned(),
            arguments,
            files: Vec::new(),
        }
    }

    /// A tiny file system in place of a root: quick to build and to write, and its slot does not boot.
    pub(crate) fn small(suite: &str, version: &str) -> Self {
        Self::new(suite, version).with(&["--small"])
    }

    /// For a machine: with a kernel in it, and in the verity format.
    pub(crate) fn machine(self) -> Self {
        self.with(&["--machine"])
    }

    /// With a package in it.
    pub(crate) fn deb(self, package: &Path) -> Self {
        self.with(&["--deb", &package.to_string_lossy()])
    }

    /// Changed by a shell script that runs in its root.
    pub(crate) fn script(self, script: &str) -> Self {
        self.with_file("--script", script)
    }

    /// Written by this shell script in place of RAUC; it finds `RAUC_IMAGE_NAME` and `RAUC_SLOT_DEVICE`.
    pub(crate) fn hook(self, script: &str) -> Self {
        self.with_file("--hook", script)
    }

    /// With more options of the script: `--unsigned`, `--key foreign`, `--compatible X`, `--size 1G`.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.arguments.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    fn with_file(mut self, option: &str, content: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), content).expect("it can be written");
        self = self.with(&[option, &file.path().to_string_lossy()]);
        self.files.push(file);
        self
    }

    /// Builds it, or finds it; the file is gone when the value is dropped.
    pub(crate) fn build(self) -> tempfile::TempPath {
        let path = tempfile::Builder::new()
            .suffix(".raucb")
            .tempfile()
            .expect("a temporary file can be made")
            .into_temp_path();
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/gateway"))
            .args(["bundle", &self.suite])
            .arg::<&Path>(&path)
            .args(&self.arguments)
            .output();
        succeeded(output, "bundle");
        path
    }
}
