//! The two halves of a factory reset: the wish is left, and in the next boot it is fulfilled.
//!
//! A power cut anywhere leaves the wish, and the next boot goes on. The wish goes last, and it goes also when the wipe
//! failed: nothing is wiped again and again. Reads no clock but the one for intervals.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ground::Ground;
use super::plan::Plan;
use super::report::{self, Report};
use super::state_folder::StateFolder;
use super::tree::Mode;
use super::wish::{self, Left, Wish};
use super::{FORMAT_UNIT, WISH, mkfs, names, preview};

/// The boot waits for no longer than this; less than what systemd gives the unit (`TimeoutStartSec=`), so that it is told.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// In more boots than these it is not tried: something in it brings the host down.
const BOOTS: usize = 5;
/// The longest reason in a report, in characters, and how many there are.
const REASON: usize = 300;
const REASONS: usize = 20;

/// What [`carry_out`] has done.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// No factory reset is asked for.
    NotAsked,
    /// It is over, for better or worse: see [`Report::failed`].
    Over(Report),
}

/// Why nothing was done. The wish is as it was.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// The host has not rebooted since.
    #[error("the factory reset was asked for in this boot: it takes place in the next one")]
    SameBoot,
    /// A factory reset cannot begin: the reasons.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The state folder does not do what it should.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// As a verb.
        what: &'static str,
        /// The folder or the file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Leaves the wish for a factory reset, which the next boot fulfils. `boot` is the id of this boot.
///
/// # Errors
/// When the host is not as the plan says, or the wish cannot be written.
pub fn request(state: &Path, boot: &str, plan: &Plan) -> Result<(), WipeError> {
    let problems = preview::problems(plan, &Ground::look(plan));
    if !problems.is_empty() {
        return Err(WipeError::Refused(problems));
    }
    let folder = open(state)?;
    mkfs::note_names(&folder, plan).map_err(failed("write", &state.join(names::FILE)))?;
    match wish::read(&folder) {
        Left::Wish(Wish { asked_in, boots, .. }) if asked_in == boot && boots.is_empty() => Ok(()),
        _ => wish::leave(&folder, boot).map_err(failed("write", state)),
    }
}

/// Whether a factory reset was asked for in the boot `boot`, and is to be fulfilled by the next one.
///
/// # Errors
/// When the state folder cannot be read.
pub fn is_asked(state: &Path, boot: &str) -> Result<bool, WipeError> {
    Ok(matches!(wish::read(&open(state)?), Left::Wish(wish) if wish.asked_in == boot))
}

/// Takes the wish back: the host will not reboot. That there is none is fine.
///
/// # Errors
/// When it cannot be removed: then the next boot fulfils it.
pub fn withdraw(state: &Path) -> Result<(), WipeError> {
    open(state)?.remove(WISH).map_err(failed("remove", state))
}

/// Makes the devices anew that the plan names, if a factory reset is asked for: before they are mounted, and before
/// [`carry_out`], which tells what came of it. `plan` is asked for only then.
///
/// # Errors
/// When nothing could be done, or not be noted.
pub fn format(state: &Path, boot: &str, plan: impl FnOnce() -> Result<Plan, Vec<String>>) -> Result<(), WipeError> {
    let folder = open(state)?;
    match wish::read(&folder) {
        Left::Nothing => Ok(()),
        Left::Odd(reason) => Err(WipeError::Refused(vec![reason])),
        Left::Wish(wish) if wish.asked_in == boot => Err(WipeError::SameBoot),
        Left::Wish(wish) => {
            begin(&folder, boot, &wish).map_err(|reason| WipeError::Refused(vec![reason]))?;
            let plan = plan().map_err(WipeError::Refused)?;
            mkfs::carry_out(&folder, &wish, &plan).map_err(failed("write", &state.join(WISH)))
        }
    }
}

/// Fulfils the wish, if there is one, and leaves the report. `plan` is asked for only then.
///
/// # Errors
/// When nothing could be done; what failed on the way is in the report instead.
pub fn carry_out(
    state: &Path,
    boot: &str,
    plan: impl FnOnce() -> Result<Plan, Vec<String>>,
) -> Result<Outcome, WipeError> {
    let (begun, mut formatting) = (Instant::now(), Duration::ZERO);
    let folder = open(state)?;
    let mut report = Report {
        id: boot.to_owned(),
        asked_in: String::new(),
        seconds: 0.0,
        files: 0,
        bytes: 0,
        wiped: Vec::new(),
        failed: Vec::new(),
        boots: 1,
    };
    match wish::read(&folder) {
        Left::Nothing => return Ok(Outcome::NotAsked),
        Left::Odd(reason) => report.failed.push(format!("{reason}; nothing was wiped")),
        Left::Wish(wish) if wish.asked_in == boot => return Err(WipeError::SameBoot),
        Left::Wish(wish) => {
            report.asked_in.clone_from(&wish.asked_in);
            formatting = wish.took;
            let before = wish.boots.iter().filter(|id| *id != boot).count();
            report.boots = u32::try_from(before + 1).unwrap_or(u32::MAX);
            match begin(&folder, boot, &wish) {
                Err(reason) => report.failed.push(reason),
                Ok(()) => match plan() {
                    Ok(plan) => wipe(&plan, &wish, begun + LIMIT, &mut report),
                    Err(reasons) => {
                        report.failed.push("nothing was wiped".to_owned());
                        report.failed.extend(reasons);
                    }
                },
            }
        }
    }
    report.seconds = ((begun.elapsed() + formatting).as_secs_f64() * 10.0).round() / 10.0;
    bound(&mut report.failed);
    // Whoever cannot be told must still not be wiped again at every boot.
    let told = report::write(&folder, &report).map_err(failed("write", &state.join(report::FILE)));
    folder.remove(WISH).map_err(failed("remove", &state.join(WISH)))?;
    told?;
    Ok(Outcome::Over(report))
}

/// This boot is counted before anything is wiped.
fn begin(folder: &StateFolder, boot: &str, wish: &Wish) -> Result<(), String> {
    if wish.boots.iter().any(|id| id == boot) {
        return Ok(());
    }
    if wish.boots.len() >= BOOTS {
        return Err(format!("given up: {BOOTS} boots have not come to its end"));
    }
    match wish::note_boot(folder, boot) {
        Ok(()) => Ok(()),
        // the disk is full, which a wipe mends
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Ok(()),
        Err(error) => Err(format!("nothing was wiped: the wish cannot be written ({error})")),
    }
}

fn wipe(plan: &Plan, wish: &Wish, until: Instant, report: &mut Report) {
    let ground = Ground::look(plan);
    if !ground.problems.is_empty() {
        report.failed.push("nothing was wiped".to_owned());
        report.failed.extend(ground.problems);
        return;
    }
    for (line, mount) in plan.mounts.iter().zip(&ground.mounts) {
        if let Err(reason) = mount {
            report
                .failed
                .push(format!("nothing was wiped of {}: it {reason}", line.path.display()));
        }
    }
    for wipe in &plan.wipes {
        let path = wipe.path.display();
        let target = match ground.target(plan, &wipe.path) {
            Ok(target) => target,
            Err(reason) => {
                report.failed.push(format!("{path}: {reason}"));
                continue;
            }
        };
        let (_, tally) = preview::carry_out(Mode::Remove(until), &ground, &wipe.path, target);
        report.files += tally.files;
        report.bytes += tally.bytes;
        if tally.failed.is_empty() {
            report.wiped.push(path.to_string());
        }
        let failed = tally.failed.lines.iter();
        report
            .failed
            .extend(failed.map(|(path, why)| format!("{}: {why}", path.display())));
        if tally.failed.more > 0 {
            report.failed.push(format!("{path}: {} more in it", tally.failed.more));
        }
    }
    for device in plan.formats.iter().map(|line| &line.path) {
        if wish.formatted.contains(device) {
            report.wiped.push(device.display().to_string());
            continue;
        }
        let told = wish.unformatted.iter().rev().find(|(told, _)| told == device);
        let reason = told.map_or_else(
            || format!("{FORMAT_UNIT} has not made it anew"),
            |(_, reason)| reason.clone(),
        );
        report.failed.push(format!("{}: {reason}", device.display()));
    }
    for (line, mount) in plan.mounts.iter().zip(&ground.mounts) {
        let Ok(mount) = mount else { continue };
        if let Err(error) = nix::unistd::syncfs(mount) {
            report
                .failed
                .push(format!("{} is not written to the disk: {error}", line.path.display()));
        }
    }
}

fn bound(reasons: &mut Vec<String>) {
    if let Some(more) = reasons.len().checked_sub(REASONS).filter(|more| *more > 0) {
        reasons.truncate(REASONS);
        reasons.push(format!("and {more} more"));
    }
    for reason in reasons {
        if let Some((end, _)) = reason.char_indices().nth(REASON) {
            reason.truncate(end);
        }
    }
}

fn open(state: &Path) -> Result<StateFolder, WipeError> {
    StateFolder::open(state).map_err(failed("open", state))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WipeError {
    let path = path.to_owned();
    move |error| WipeError::Io { what, path, error }
}
