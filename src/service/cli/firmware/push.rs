//! `iotdm firmware push`: takes devices through download and update, shows how far each is, and sums up.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::super::client::{CallError, Client};
use super::super::output::{self, Output, plain};
use super::Push;
use super::device::{Ended, One, Work, version_in};
use super::show::Progress;
use super::source::Source;
use crate::protocol::Device;

/// How many devices are in work at a time; the others wait for their turn.
const IN_PARALLEL: usize = 100;
/// How often the service is asked how a device stands, when there are few of them.
const POLL: Duration = Duration::from_millis(300);
/// How much less often for each device that is in work.
const POLL_EACH: Duration = Duration::from_millis(15);

pub(super) async fn push(client: &Client, output: &mut Output, push: &Push) -> Result<ExitCode, CallError> {
    if let Err(usage) = check(push) {
        output::error(&usage);
        return Ok(ExitCode::from(2));
    }
    let Some(before) = look_at(client, &push.devices).await? else {
        return Ok(ExitCode::FAILURE);
    };
    let source = Source::open(push).await?;
    if !output.is_json() {
        output.line(&format!("installing {}", plain(&source.in_words())))?;
    }
    let progress = Progress::new(output, &push.devices);
    let busy = u32::try_from(push.devices.len().min(IN_PARALLEL)).unwrap_or(u32::MAX);
    let work = Work {
        client,
        push,
        source: &source,
        progress: &progress,
        poll: POLL.max(POLL_EACH * busy),
    };
    let mut ended: Vec<Option<Ended>> = push.devices.iter().map(|_| None).collect();
    let devices = push.devices.iter().zip(before).enumerate();
    let ones = devices.map(|(index, (device, before))| One {
        work: &work,
        index,
        device,
        before,
    });
    let mut ends = stream::iter(ones)
        .map(|one| async move { (one.index, one.install().await) })
        .buffer_unordered(IN_PARALLEL);
    let interrupted = loop {
        tokio::select! {
            end = ends.next() => match end {
                Some((index, end)) => ended[index] = Some(end),
                None => break false,
            },
            _ = tokio::signal::ctrl_c() => break true,
        }
    };
    drop(ends);
    progress.stop();
    if interrupted {
        tell_what_goes_on(push, &progress, &ended);
    }
    let all = ended.iter().flatten().filter(|end| end.done).count() == push.devices.len();
    print(output, &push.devices, &ended)?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the command line's own rules cannot say.
fn check(push: &Push) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = push.devices.iter().find(|device| !seen.insert(*device)) {
        return Err(format!("{twice} is given twice"));
    }
    if let Some(uri) = &push.uri {
        let url = reqwest::Url::parse(uri).map_err(|error| format!("--uri: {uri} is no URI: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(format!("--uri: {uri} is neither https:// nor http://"));
        }
    }
    Ok(())
}

/// What the devices run now; `None` when one of them cannot be asked. Nothing has begun then.
async fn look_at(client: &Client, devices: &[Device]) -> Result<Option<Vec<Option<String>>>, CallError> {
    let mut runs = Vec::new();
    let mut refused = false;
    for device in devices {
        let problem = match client.device(device, "").await {
            Ok(shown) => {
                runs.push(version_in(&shown));
                let mgmt = client.mgmt(device).await?;
                if mgmt.is_null() {
                    Some(format!("{device} is not managed"))
                } else if mgmt["supports"]["firmwareActions"] != true {
                    let hint = "iotdm-agent check, run there, says why";
                    Some(format!("{device} offers no firmware actions; {hint}"))
                } else {
                    None
                }
            }
            Err(error) if error.is_not_found() => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        if let Some(problem) = problem {
            refused = true;
            output::error(&problem);
        }
    }
    if refused {
        output::error("nothing has begun at any device");
    }
    Ok((!refused).then_some(runs))
}

/// After Ctrl-C: nothing is cancelled silently, and nothing goes on silently.
fn tell_what_goes_on(push: &Push, progress: &Progress<'_>, ended: &[Option<Ended>]) {
    output::error("interrupted; nothing was cancelled at any device:");
    for (index, device) in push.devices.iter().enumerate() {
        let Some(state) = progress.state(index).filter(|_| ended[index].is_none()) else {
            continue;
        };
        let words = plain(&state.phase.in_words());
        output::error(&match &state.request {
            None => format!("  {device}: nothing has begun"),
            Some(request) => format!("  {device}: {words}; request {request} goes on"),
        });
    }
    if push.file.is_some() {
        output::error("downloads that are not done have lost their server: the devices try again, and fail in the end");
    }
    output::error("a device that has downloaded does not install by itself: push again, with --override if it is busy");
    output::error("iotdm firmware status TYPE/ID shows how one stands");
}

fn result(ended: Option<&Ended>) -> &'static str {
    match ended {
        None => "interrupted",
        Some(ended) if ended.done => "done",
        Some(_) => "failed",
    }
}

fn print(output: &mut Output, devices: &[Device], ended: &[Option<Ended>]) -> Result<(), CallError> {
    let rows = devices.iter().zip(ended.iter().map(Option::as_ref));
    if output.is_json() {
        let rows: Vec<Value> = rows.map(|(device, ended)| object(device, ended)).collect();
        return Ok(output.value(&rows.into())?);
    }
    let heading = ["DEVICE", "RESULT", "FIRMWARE", "TIME", "REASON"];
    let mut table = vec![heading.map(String::from).to_vec()];
    table.extend(rows.map(|(device, ended)| {
        let version = ended.and_then(|ended| ended.fw_version.as_deref());
        vec![
            device.to_string(),
            result(ended).to_owned(),
            plain(version.unwrap_or("-")),
            ended.map_or("-".into(), |ended| span(ended.took)),
            ended.map_or(String::new(), |ended| plain(&ended.reason)),
        ]
    }));
    Ok(output.table(&table)?)
}

fn object(device: &Device, ended: Option<&Ended>) -> Value {
    let mut object = json!({
        "typeId": device.type_id(),
        "deviceId": device.device_id(),
        "result": result(ended),
    });
    if let Some(ended) = ended {
        object["fwVersion"] = ended.fw_version.clone().into();
        object["seconds"] = ended.took.as_secs().into();
        object["reason"] = ended.reason.clone().into();
        object["downloadRequest"] = ended.download.clone().into();
        object["updateRequest"] = ended.update.clone().into();
    }
    object
}

/// `42s`, `3m 07s`, `2h 05m`
fn span(took: Duration) -> String {
    match took.as_secs() {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m {:02}s", s / 60, s % 60),
        s => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_readable() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (187, "3m 07s"), (7_500, "2h 05m")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
