//! Try after try, until the file is there or the patience is at its end.

use std::time::Duration;

use super::attempt::{Attempt, Whole};
use super::desk::Desk;
use super::meter::Meter;
use super::part::Part;
use super::patience::jitter;
use super::trouble::Trouble;
use super::uri::Address;
use super::verifier::hex;
use super::{Download, Failure, FailureKind, Fetched, Progress};

/// A try that brought this many bytes was no failure.
const ENOUGH: u64 = 64 * 1024;

/// What a try that brought no whole file came to.
struct Missed {
    /// Whether it was for want of a network.
    is_away: bool,
    problem: String,
    waited: Duration,
    brought: u64,
}

/// Fetches the file at `address` onto the desk, and gives it its name.
pub(super) async fn fetch<F: FnMut(Progress) + Send>(
    download: &Download,
    address: &Address,
    desk: &mut Desk,
    meter: &mut Meter<F>,
) -> Result<Fetched, Failure> {
    let (mut tries, mut failures, mut last_problem) = (0, 0, None);
    loop {
        let spent = desk.part().await?.note.spent;
        let mut attempt = Attempt {
            download,
            address,
            desk,
            meter,
            allowance: download.patience.trouble_left(&spent),
            waited: Duration::ZERO,
            brought: 0,
            cut_short: false,
        };
        let result = attempt.run().await;
        let (waited, brought, cut_short) = (attempt.waited, attempt.brought, attempt.cut_short);
        let (is_away, problem) = match result {
            Ok(whole) => match conclude(download, whole, desk).await? {
                Some(fetched) => {
                    meter.tell(fetched.size, Some(fetched.size));
                    return Ok(fetched);
                }
                None => (
                    false,
                    "the pieces that came do not match the verifier; begun anew".to_owned(),
                ),
            },
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Away(problem)) => (true, problem),
            Err(Trouble::Server(problem)) => (false, problem),
        };
        // A try that had no time left says nothing about the server.
        let problem = last_problem.take().filter(|_| cut_short).unwrap_or(problem);
        // A server that hangs up after a few bytes each time is not asked more and more often.
        failures = if brought >= ENOUGH { 1 } else { failures + 1 };
        tries += 1;
        let missed = Missed {
            is_away,
            problem,
            waited,
            brought,
        };
        let most = download.patience.pause(failures, jitter(download.seed, tries));
        let pause = book(download, desk.part().await?, &missed, most).map_err(|text| {
            Failure::new(
                FailureKind::ConnectionLost,
                format!("given up after {tries} tries: {text}"),
            )
        })?;
        let received = desk.part().await?.length();
        tracing::info!(
            uri = %address,
            received,
            pause_ms = pause.as_millis(),
            problem = missed.problem,
            "the download is interrupted and will be tried again"
        );
        last_problem = Some(missed.problem);
        desk.run(Part::sync).await?;
        tokio::time::sleep(pause).await;
    }
}

/// Books a try and the pause after it, which is at most `most`; says why there will be no other try.
fn book(download: &Download, part: &mut Part, missed: &Missed, most: Duration) -> Result<Duration, String> {
    let patience = &download.patience;
    let spent = &mut part.note.spent;
    let left = if missed.is_away {
        spent.add_away(missed.waited);
        patience.away_left(spent)
    } else {
        spent.add_trouble(missed.waited, missed.brought, patience);
        patience.trouble_left(spent)
    };
    if left <= patience.first_pause / 2 {
        return Err(missed.problem.clone());
    }
    // Time stays left for the try after it.
    let pause = most.min(left / 2);
    if missed.is_away {
        spent.add_away(pause);
    } else {
        spent.add_trouble(pause, 0, patience);
    }
    let missing = match (&part.note.etag, part.note.total) {
        (Some(_), Some(total)) => total.saturating_sub(part.length()),
        (None, Some(total)) => total,
        (_, None) => 0,
    };
    let size = part.note.total.unwrap_or(download.limits.max_size);
    part.afford(missing, size)
        .map_err(|dear| format!("{dear}; the last trouble was: {}", missed.problem))?;
    Ok(pause)
}

/// Checks what has come and gives it its name; `None` when it has to be fetched anew.
async fn conclude(download: &Download, whole: Whole, desk: &mut Desk) -> Result<Option<Fetched>, Failure> {
    let part = desk.part().await?;
    let digests = part.digests();
    if digests.right {
        return Ok(Some(desk.run(Part::finish).await?));
    }
    let size = part.length();
    if whole.pieced && !part.note.begun_anew && part.afford(size, size).is_ok() {
        part.note.begun_anew = true;
        part.start_over()?;
        return Ok(None);
    }
    let wanted = download
        .verifier
        .map(|verifier| verifier.to_string())
        .unwrap_or_default();
    Err(Failure::new(
        FailureKind::VerificationFailed,
        format!(
            "the firmware is not the one that was meant: its verifier is {wanted}, what came has {size} bytes and \
             sha256:{}; check the verifier and the file on the server",
            hex(&digests.sha256)
        ),
    ))
}
