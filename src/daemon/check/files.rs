//! Are the files where they outlive an update, readable for the service, and closed to others?

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Environment, Finding, Severity};
use crate::config::{ClientCertificate, Settings};
use crate::daemon::firmware::support::lost;
use crate::host::mounts;
use crate::host::rauc::Slot;

/// Less room than this for the state is worth a warning, in bytes.
const LITTLE_ROOM: u64 = 16 * 1024 * 1024;

pub(super) fn look(
    config: &Path,
    settings: Option<&Settings>,
    environment: &Environment,
    state: PathBuf,
    slots: &[Slot],
    findings: &mut Vec<Finding>,
) {
    findings.push(writable(&state));
    findings.extend(room(&state));
    let mut kept = vec![("configuration", config.to_owned()), ("state", state)];
    if let Some(settings) = settings {
        let service = &settings.service;
        let mut files: Vec<(&str, PathBuf)> = Vec::new();
        files.extend(service.token.iter().map(|token| ("token", token.path().to_owned())));
        files.extend(service.ca_file.iter().map(|path| ("CA", path.clone())));
        files.extend(pair(service.certificate.as_ref(), "client certificate", "key"));
        let firmware = &settings.firmware;
        if firmware.enabled {
            files.extend(firmware.ca_file.iter().map(|path| ("update server's CA", path.clone())));
            files.extend(pair(
                firmware.certificate.as_ref(),
                "update server's client certificate",
                "update server's key",
            ));
        }
        findings.extend(files.iter().map(|(what, path)| readable(what, path)));
        kept.extend(
            files
                .into_iter()
                .filter(|(_, path)| !environment.credentials.as_ref().is_some_and(|c| path.starts_with(c))),
        );
    }
    findings.extend(placement(&kept, slots));
}

fn pair<'a>(files: Option<&ClientCertificate>, certificate: &'a str, key: &'a str) -> Vec<(&'a str, PathBuf)> {
    files.map_or_else(Vec::new, |files| {
        vec![(certificate, files.cert_file.clone()), (key, files.key_file.clone())]
    })
}

fn readable(what: &str, path: &Path) -> Finding {
    let shown = path.display();
    match File::open(path).and_then(|file| file.metadata()) {
        Err(error) => Finding::new(
            "configuration",
            "files",
            Severity::Error,
            format!("the {what} file {shown} cannot be read: {error}"),
        )
        .hint(format!("chgrp iotdm-agent {shown}; chmod 640 {shown}")),
        Ok(metadata) if (what == "token" || what.ends_with("key")) && metadata.permissions().mode() & 0o007 != 0 => {
            Finding::new(
                "configuration",
                "files",
                Severity::Error,
                format!("the {what} file {shown} is open to every user"),
            )
            .hint(format!("chmod o= {shown}"))
        }
        Ok(_) => Finding::new(
            "configuration",
            "files",
            Severity::Ok,
            format!("the {what} file {shown} can be read"),
        ),
    }
}

fn writable(folder: &Path) -> Finding {
    let shown = folder.display();
    // Only asked, nothing is written: the running agent owns what is in there.
    match nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK) {
        Ok(()) => Finding::new(
            "state",
            "state-writable",
            Severity::Ok,
            format!("the state folder {shown} can be written"),
        ),
        Err(error) => Finding::new(
            "state",
            "state-writable",
            Severity::Error,
            format!("the state folder {shown} cannot be written: {error}"),
        )
        .hint("it belongs to the user iotdm-agent, mode 0700; a read-only disk is told by mount(8)"),
    }
}

fn room(folder: &Path) -> Option<Finding> {
    let free = mounts::free_space(folder).ok()?;
    let text = format!("{} MiB free for the state", free / (1024 * 1024));
    Some(if free < LITTLE_ROOM {
        Finding::new("state", "state-room", Severity::Warning, text)
            .hint("without room, requests that need the disk are refused")
    } else {
        Finding::new("state", "state-room", Severity::Ok, text)
    })
}

/// What an update of the root file system would take away.
fn placement(kept: &[(&str, PathBuf)], slots: &[Slot]) -> Vec<Finding> {
    let lost = lost(kept, slots);
    if lost.is_empty() {
        return vec![Finding::new(
            "state",
            "outlives-a-slot",
            Severity::Ok,
            "state and identity outlive an update of the root file system",
        )];
    }
    let text = format!("on the root file system: {}", lost.join(", "));
    vec![if slots.is_empty() {
        Finding::new(
            "state",
            "outlives-a-slot",
            Severity::Note,
            format!("{text}; without RAUC slots that is fine"),
        )
    } else {
        Finding::new(
            "state",
            "outlives-a-slot",
            Severity::Warning,
            format!("{text}; an update would lose them, so firmware requests are refused (501)"),
        )
        .hint("move them to a file system of their own, for example by a bind mount")
    }]
}
