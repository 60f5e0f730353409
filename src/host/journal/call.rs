//! journalctl: how it is called for what, and what its first line or its last words say.
//!
//! - `--merge`: without it following asks the kernel for the boot id, which the sandbox hides (`ProcSubset=pid`).
//! - `--no-tail`: following alone begins with the last ten lines, also behind a cursor.
//! - `--all`: without it a field of 4 kB and more is null.
//! - `--cursor`, never `--after-cursor`: in systemd 252 the latter loses the first entry that matches when the entry at the
//!   cursor does not. The entry at the cursor comes, too, then; it is left out here.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::damage::{Complaints, Damage};
use super::entry::FIELDS;
use super::lines::{Line, Lines};
use super::{Options, cursor};

/// How long one look may take. It opens every file of the journal, on a slow disk.
const LIMIT: Duration = Duration::from_secs(20);
/// The most of what it says on its standard error that is repeated, in bytes.
const WORDS: usize = 300;

/// A journalctl that runs; it is killed when this is dropped.
pub(super) struct Running {
    pub(super) stdout: ChildStdout,
    /// What it says about files that it cannot read.
    pub(super) damage: mpsc::Receiver<Damage>,
    child: Child,
    words: JoinHandle<String>,
}

/// An entry, as far as it says where the journal stands.
#[derive(Debug, Deserialize)]
pub(super) struct Mark {
    #[serde(rename = "__CURSOR")]
    pub(super) cursor: String,
    #[serde(rename = "_MACHINE_ID", default)]
    pub(super) machine: Option<String>,
    #[serde(rename = "_BOOT_ID", default)]
    pub(super) boot: Option<String>,
}

/// Follows this boot, from the entry at the cursor on, if there is one.
pub(super) fn follow(options: &Options, from: Option<&str>) -> Result<Running, String> {
    let mut command = entries(options, from);
    command.args(["--follow", "--no-tail"]);
    command.args(matches(options, &[format!("_BOOT_ID={}", options.boot_id)]));
    run(command)
}

/// Everything from the entry at the cursor on that these machines logged, in whatever boot; it ends.
pub(super) fn catch_up(options: &Options, from: &str, machines: &[String]) -> Result<Running, String> {
    let mut command = entries(options, Some(from));
    let machines: Vec<_> = machines.iter().map(|id| format!("_MACHINE_ID={id}")).collect();
    command.args(matches(options, &machines));
    run(command)
}

/// What the journal has at a position.
pub(super) enum At {
    /// The entry there, or the first one after it, of any priority and boot.
    Entry(Mark),
    /// Nothing from there on.
    Nothing,
    /// It is no position.
    NoCursor,
}

/// Looks at a position.
pub(super) async fn at(options: &Options, from: &str) -> Result<At, String> {
    if !cursor::is_plausible(from) {
        return Ok(At::NoCursor);
    }
    let mut command = base(options);
    command
        .arg("--output-fields=_MACHINE_ID")
        .arg(format!("--cursor={from}"));
    // After the clock was set back journalctl 252 begins with what other sequences have of the boot, by the clock.
    let is_there = |mark: &Mark| cursor::same(&mark.cursor, from) || !cursor::is_read(&mark.cursor, from);
    match first(command, is_there).await {
        Ok(Some(mark)) => Ok(At::Entry(mark)),
        Ok(None) => Ok(At::Nothing),
        Err(error) if error.contains("Failed to seek to cursor: Invalid argument") => Ok(At::NoCursor),
        Err(error) => Err(error),
    }
}

/// The last entry of this boot: of those that are followed, or of any priority.
pub(super) async fn last(options: &Options, followed: bool) -> Result<Option<Mark>, String> {
    let boot = [format!("_BOOT_ID={}", options.boot_id)];
    let mut command = base(options);
    command.args(["--output-fields=_MACHINE_ID", "--lines=1"]);
    match followed {
        true => command.args(matches(options, &boot)),
        false => command.args(boot),
    };
    first(command, |_| true).await
}

/// Whether the journal can be read by this process, and has this boot in it; if not, why, and what to do.
///
/// # Errors
/// A text for the technician.
pub async fn readable(options: &Options) -> Result<(), String> {
    let mut command = base(options);
    command.args(["--output-fields=_MACHINE_ID", "--lines=1"]);
    match first(command, |_| true).await? {
        None => Err("the journal is empty, or may not be read: \
            is the user in the group systemd-journal (SupplementaryGroups= of the unit)?"
            .to_owned()),
        Some(mark) if mark.boot.as_ref() == Some(&options.boot_id) => Ok(()),
        Some(_) => match last(options, false).await? {
            Some(_) => Ok(()),
            None => Err(format!(
                "the journal has no entry of this boot ({}): is systemd-journald running?",
                options.boot_id
            )),
        },
    }
}

fn base(options: &Options) -> Command {
    let mut command = Command::new(&options.journalctl);
    command.env_clear().env("LC_ALL", "C.UTF-8");
    command.args(["--merge", "--no-pager", "--quiet", "--output=json"]);
    if let Some(directory) = &options.directory {
        command.arg("--directory").arg(directory);
    }
    command
}

fn entries(options: &Options, from: Option<&str>) -> Command {
    let mut command = base(options);
    // Damage in the middle of a file is told at this level only.
    command.env("SYSTEMD_LOG_LEVEL", "debug");
    command.arg("--all").arg(format!("--output-fields={FIELDS}"));
    command.args(from.map(|cursor| format!("--cursor={cursor}")));
    command
}

/// What is followed, each time with one of these: matches of one field are alternatives, of several fields all count, and
/// what stands around a `+` are alternatives again.
fn matches(options: &Options, with: &[String]) -> Vec<String> {
    let priorities = (0..=options.priority.min(7)).map(|priority| format!("PRIORITY={priority}"));
    let mut matches: Vec<_> = with.iter().cloned().chain(priorities).collect();
    let mut ids = options.message_ids.iter().chain(&options.watched_ids).peekable();
    if ids.peek().is_some() {
        matches.push("+".to_owned());
        matches.extend_from_slice(with);
        matches.extend(ids.map(|id| format!("MESSAGE_ID={id}")));
    }
    matches
}

fn run(mut command: Command) -> Result<Running, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| {
        format!(
            "{} cannot be started: {error}",
            command.as_std().get_program().display()
        )
    })?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("journalctl has no output".to_owned());
    };
    let (notices, damage) = mpsc::channel(16);
    let words = tokio::spawn(last_words(stderr, notices));
    Ok(Running {
        stdout,
        damage,
        child,
        words,
    })
}

impl Running {
    /// Why it has ended, or is to end now.
    pub(super) async fn end(mut self) -> Result<(), String> {
        let _ = self.child.start_kill();
        let status = self.child.wait().await.map_err(|error| error.to_string())?;
        let words = timeout(Duration::from_secs(1), self.words).await;
        let words = words.ok().and_then(Result::ok).unwrap_or_default();
        match status.success() {
            true => Ok(()),
            false => Err(told(&words, &status.to_string())),
        }
    }

    /// Waits for its end: its output is over.
    pub(super) async fn ended(mut self) -> Result<(), String> {
        match timeout(LIMIT, self.child.wait()).await {
            Ok(_) => self.end().await,
            Err(_) => Err("journalctl does not end".to_owned()),
        }
    }
}

/// Its last words, and what they mean.
fn told(words: &str, status: &str) -> String {
    if words.contains("Permission denied") || words.contains("insufficient permissions") {
        return format!(
            "the journal may not be read: the user is not in the group systemd-journal \
             (SupplementaryGroups= of the unit); journalctl says: {words}"
        );
    }
    match words {
        "" => format!("journalctl ended: {status}"),
        words => format!("journalctl ended ({status}): {words}"),
    }
}

/// Reads to the end, hands on what is said about damage, and keeps the last line that is no idle talk.
async fn last_words(from: impl AsyncRead + Unpin, damage: mpsc::Sender<Damage>) -> String {
    let (mut lines, mut kept) = (BufReader::new(from).take(0), String::new());
    let mut complaints = Complaints::default();
    loop {
        // A line without end is read in pieces.
        lines.set_limit(1024);
        let mut line = Vec::new();
        match lines.read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return kept,
        }
        let line = String::from_utf8_lossy(&line);
        let line = &line.trim()[..line.trim().floor_char_boundary(WORDS)];
        if let Some(notice) = complaints.news(line, Instant::now()) {
            let _ = damage.try_send(notice);
        }
        if ["Failed", "No journal", "Journal file", "Unknown", "Invalid"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            kept = line.to_owned();
        }
    }
}

/// The first entry that is wanted.
async fn first(command: Command, wanted: impl Fn(&Mark) -> bool) -> Result<Option<Mark>, String> {
    let work = async {
        let mut running = run(command)?;
        let mut lines = Lines::default();
        loop {
            match running.stdout.read(lines.space()).await {
                Ok(0) => return running.ended().await.map(|()| None),
                Ok(count) => lines.filled(count),
                Err(error) => return Err(error.to_string()),
            }
            while let Some(line) = lines.next() {
                let mark = match line {
                    Line::Whole(line) => serde_json::from_slice::<Mark>(line).ok(),
                    _ => None,
                };
                let mark = mark.filter(|mark| cursor::is_plausible(&mark.cursor));
                let mark = mark.ok_or("journalctl does not print entries")?;
                if wanted(&mark) {
                    return Ok(Some(mark));
                }
            }
        }
    };
    match timeout(LIMIT, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("journalctl took longer than {} s", LIMIT.as_secs())),
    }
}
