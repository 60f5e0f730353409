//! Firmware: described, downloaded, installed into the other slot, on trial, and one truthful outcome
//! (protocol: "firmware actions"; RAUC's slots and boot chooser).
//!
//! Here are the requests of the service and the download. `update` installs and keeps the trial; `outcome` decides
//! after every start what has become of an update; `local` is what somebody on the device may ask for; `record` is what
//! is remembered.
//!
//! A request is acknowledged when it is on the disk that it will be carried out, or when it was refused. Between its
//! arrival and that, the host is looked at; the request is not remembered then, and would be delivered again.

mod local;
pub mod outcome;
pub mod record;
mod update;

use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

pub(super) use local::{confirm_command, install_file, roll_back_command};
pub(super) use update::{
    before_reboot, configured, deadline, health, inhibitors_changed, installed, is_unclear, marked, reboot_failed,
    reboot_wanted, recover, service_answered, waiting_for, window,
};

use super::Disk;
use super::durable::{Change, Exclusive, Wish};
use super::effect::{AckId, After, Effect, Image, Level, OpId, Purpose, Topic};
use super::event::{DownloadEnd, Survey};
use super::handled::{Answer, Handled, Key, find};
use super::inbox::NOT_MANAGED;
use super::work::Work;
use super::{observation, outbox};
use crate::protocol::diagnostics::{LogEntry, Severity};
use crate::protocol::firmware::{self as wire, FirmwareState, UpdateStatus};
use crate::protocol::{Malformed, Rc, ReqId, Response, timestamp};
use record::Firmware as Record;

/// When a written slot is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenToReboot {
    /// At once.
    #[default]
    Now,
    /// At a time of day: see [`super::Event::Window`].
    Window,
    /// When somebody reboots the host.
    Manual,
}

/// What the configuration and the host say about firmware.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Why firmware cannot be updated here, in words for the service.
    pub supported: Result<(), String>,
    /// Whether the agent marks the slot of an ordinary boot as good.
    pub mark_good: bool,
    /// Whether images may come over plain http.
    pub allow_http: bool,
    /// When a written slot is booted.
    pub reboot: WhenToReboot,
    /// How long a new slot has to prove itself, from its boot.
    pub trial: Duration,
    /// Units that must be active then.
    pub units: Vec<String>,
    /// Whether the service must be reached then, if it had been reached before the update.
    pub require_service: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            supported: Err("firmware updates are switched off in the device's configuration".into()),
            mark_good: false,
            allow_http: false,
            reboot: WhenToReboot::Now,
            trial: Duration::from_secs(30 * 60),
            units: Vec::new(),
            require_service: true,
        }
    }
}

/// What the service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Download,
    Update,
}

impl Operation {
    /// Its name in the memory of handled requests.
    fn name(self) -> &'static str {
        match self {
            Operation::Download => "firmware_download",
            Operation::Update => "firmware_update",
        }
    }

    fn topic(self) -> Topic {
        match self {
            Operation::Download => Topic::Download,
            Operation::Update => Topic::Update,
        }
    }
}

/// A request that waits for a look at the host.
#[derive(Debug, Clone)]
struct Waiting {
    op: OpId,
    operation: Operation,
    key: Option<Key>,
    req_id: Option<ReqId>,
    /// The same request may come again while it waits. Nobody acknowledges what was asked for on the device.
    acks: Vec<AckId>,
}

/// The volatile part of it.
#[derive(Debug, Clone, Default)]
pub struct Firmware {
    waiting: Option<Waiting>,
    download: Option<OpId>,
    /// The image is to go as soon as the disk has that it is not needed any more.
    discard: bool,
    /// What was said of the last request that was refused or failed, for those who ask; until the next one begins.
    trouble: Option<String>,
    update: update::Running,
}

/// What the service says that is to be installed.
pub(super) fn described(value: Value) -> Result<Record, Malformed> {
    wire::Firmware::parse("mgmt.firmware", value).map(Record::described)
}

/// Whether another image may be described now.
pub(super) fn may_describe(work: &Work<'_>) -> Result<(), (Rc, String)> {
    let busy = |what: &str| Err((Rc::CONFLICT, format!("{what}; the description stays as it is")));
    if work.d.firmware.is(FirmwareState::Downloading) {
        return busy("firmware is being downloaded");
    }
    if work.d.update().is_some() {
        return busy("firmware is being installed, or on trial");
    }
    Ok(())
}

/// This is to be installed, says the service.
pub(super) fn describe(work: &mut Work<'_>, described: Record) {
    work.v.firmware.trouble = None;
    let record = if described.same_image(&work.d.firmware) && work.d.firmware.is(FirmwareState::Downloaded) {
        // The image is there already.
        described.with(FirmwareState::Downloaded, UpdateStatus::Success)
    } else {
        if !described.same_image(&work.d.firmware) {
            work.effect(Effect::Discard);
        }
        described
    };
    observation::set_firmware(work, record, true);
}

/// The service asks for a download or an update.
pub(super) fn request(work: &mut Work<'_>, operation: Operation, ack: AckId, req_id: Option<ReqId>, dup: bool) {
    let key = req_id.as_ref().map(|req_id| Key::new(operation.name(), req_id));
    if let Some(waiting) = &mut work.v.firmware.waiting
        && key.is_some()
        && waiting.key == key
    {
        waiting.acks.push(ack);
        return;
    }
    if let Some(key) = &key
        && find(&work.d.handled, key).is_some()
    {
        work.ack(ack);
        let text = "a firmware request was delivered again; it is answered again and not carried out again";
        work.say(Level::Info, operation.topic(), text);
        return work.answer_again(key.clone());
    }
    if key.is_none() && dup {
        work.ack(ack);
        let text = "a firmware request without reqId was delivered again and not carried out: nobody can tell whether it was before";
        return work.say(Level::Warning, operation.topic(), text);
    }
    let refusal = judge(work, &work.d.firmware, operation)
        .err()
        .or_else(|| match work.disk {
            Disk::Refuses(reason) => Some((Rc::INTERNAL, reason.to_owned())),
            Disk::Works => None,
        });
    if let Some((rc, reason)) = refusal {
        work.ack(ack);
        return refuse(work, operation, key, req_id, rc, &reason);
    }
    if work.v.firmware.waiting.is_some() {
        work.ack(ack);
        let reason = "busy: another firmware request is about to begin";
        return refuse(work, operation, key, req_id, Rc::BAD_REQUEST, reason);
    }
    let op = work.op();
    let purpose = match operation {
        Operation::Download => Purpose::Download,
        Operation::Update => Purpose::Install,
    };
    work.effect(Effect::Survey(op, purpose));
    work.v.firmware.waiting = Some(Waiting {
        op,
        operation,
        key,
        req_id,
        acks: vec![ack],
    });
}

/// Whether it can be carried out, as far as that is known without a look at the host (protocol: answers to "initiate
/// firmware download" and "initiate firmware update").
fn judge(work: &Work<'_>, firmware: &Record, operation: Operation) -> Result<(), (Rc, String)> {
    let refuse = |rc: Rc, reason: &str| Err((rc, reason.to_owned()));
    if work.d.wish != Wish::Managed && !firmware.local {
        return refuse(Rc::BAD_REQUEST, NOT_MANAGED);
    }
    if let Err(reason) = &work.settings.firmware.supported {
        return refuse(Rc::NOT_IMPLEMENTED, reason);
    }
    if let Some(Exclusive::Unknown(_)) = &work.d.exclusive {
        let reason = "busy: a newer version of the agent began something that this version does not know";
        return refuse(Rc::INTERNAL, reason);
    }
    if work.d.update().is_some() {
        return refuse(Rc::BAD_REQUEST, "an update is under way already");
    }
    if work.d.reset().is_some() {
        return refuse(Rc::INTERNAL, "busy: a factory reset is under way");
    }
    let downloaded = firmware.is(FirmwareState::Downloaded);
    match operation {
        _ if firmware.is(FirmwareState::Downloading) => {
            refuse(Rc::BAD_REQUEST, "a download is under way: wait for its end")
        }
        Operation::Download if downloaded => refuse(
            Rc::BAD_REQUEST,
            "the image is downloaded already: ask for the update, or describe another image first",
        ),
        Operation::Download => usable(firmware.uri.as_deref(), work.settings.firmware.allow_http)
            .map_err(|reason| (Rc::BAD_REQUEST, reason)),
        Operation::Update if !downloaded => {
            refuse(Rc::BAD_REQUEST, "no image is downloaded: ask for the download first")
        }
        Operation::Update if matches!(work.d.exclusive, Some(Exclusive::Reboot { .. })) => {
            refuse(Rc::INTERNAL, "busy: the host is about to reboot")
        }
        Operation::Update => Ok(()),
    }
}

fn usable(uri: Option<&str>, allow_http: bool) -> Result<(), String> {
    let Some(uri) = uri else {
        return Err("mgmt.firmware.uri is missing: describe the image first".into());
    };
    let url = Url::parse(uri).map_err(|error| format!("mgmt.firmware.uri is no address: {error}"))?;
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_http => Ok(()),
        "http" => Err("mgmt.firmware.uri: this device takes firmware over https only".into()),
        other => Err(format!("mgmt.firmware.uri: {other} is not supported; use https")),
    }
}

/// Refused, and remembered, so that it stays refused when it is delivered again after the reason is gone. Where the
/// device cannot do it at all, or the disk refuses, there is nothing to remember.
fn refuse(work: &mut Work<'_>, operation: Operation, key: Option<Key>, req_id: Option<ReqId>, rc: Rc, reason: &str) {
    let what = match operation {
        Operation::Download => "a firmware download",
        Operation::Update => "a firmware update",
    };
    let text = format!("{what} was asked for and refused: {reason}");
    work.v.firmware.trouble = Some(text.clone());
    work.say(Level::Warning, operation.topic(), text);
    let (Some(key), Some(req_id)) = (key, req_id) else {
        return;
    };
    if rc == Rc::NOT_IMPLEMENTED || work.d.wish != Wish::Managed || work.disk != Disk::Works {
        outbox::owe_response(work, &Response::new(req_id, rc).message(reason), Some(key));
    } else {
        work.change(Change::Remember(Handled::new(
            key,
            &req_id,
            Some(Answer::new(rc, reason)),
        )));
    }
}

/// A look at the host is done.
pub(super) fn surveyed(work: &mut Work<'_>, op: OpId, found: &Result<Survey, String>) {
    let Some(waiting) = work.v.firmware.waiting.take_if(|waiting| waiting.op == op) else {
        return update::surveyed(work, op, found);
    };
    for ack in &waiting.acks {
        work.ack(*ack);
    }
    let verdict = judge(work, &work.d.firmware, waiting.operation).and_then(|()| match (work.disk, found) {
        (Disk::Refuses(reason), _) => Err((Rc::INTERNAL, reason.to_owned())),
        (Disk::Works, Err(reason)) => Err((Rc::INTERNAL, reason.clone())),
        (Disk::Works, Ok(survey)) if survey.installing => {
            Err((Rc::INTERNAL, "busy: RAUC is installing something else".to_owned()))
        }
        (Disk::Works, Ok(survey)) if !survey.problems.is_empty() => Err((Rc::INTERNAL, survey.problems.join("; "))),
        (Disk::Works, Ok(survey)) => Ok(survey),
    });
    let begun = verdict.and_then(|survey| match waiting.operation {
        Operation::Download => {
            begin_download(work);
            Ok(())
        }
        Operation::Update => update::begin(work, survey, waiting.key.as_ref()).map_err(|reason| (Rc::INTERNAL, reason)),
    });
    if begun.is_ok() {
        work.v.firmware.trouble = None;
    }
    match (begun, waiting.key, waiting.req_id) {
        (Ok(()), Some(key), Some(req_id)) => {
            let accepted = Answer::new(Rc::ACCEPTED, "");
            work.change(Change::Remember(Handled::new(key, &req_id, Some(accepted))));
        }
        (Ok(()), ..) => {}
        (Err((rc, reason)), key, req_id) => {
            if work.d.firmware.local {
                let mut record = work.d.firmware.clone();
                record.local = false;
                observation::set_firmware(work, record, false);
            }
            refuse(work, waiting.operation, key, req_id, rc, &reason);
        }
    }
}

/// Nobody waits for an acknowledgement on a connection that is gone: the request will be delivered again.
pub(super) fn disconnected(work: &mut Work<'_>) {
    work.v.firmware.waiting.take_if(|waiting| !waiting.acks.is_empty());
}

fn begin_download(work: &mut Work<'_>) {
    let record = work.d.firmware.with(FirmwareState::Downloading, UpdateStatus::Success);
    observation::set_firmware(work, record, false);
    work.say(Level::Info, Topic::Download, "the service asks for a firmware download");
    start_download(work);
}

/// Begins, or goes on after a restart.
fn start_download(work: &mut Work<'_>) {
    let Some(image) = image(work) else { return };
    let op = work.op();
    work.v.firmware.download = Some(op);
    work.begin(After::Download(op, image));
}

/// What the description says is to be fetched.
fn image(work: &Work<'_>) -> Option<Image> {
    Some(Image {
        uri: work.d.firmware.uri.clone()?,
        verifier: work.d.firmware.verifier.clone(),
    })
}

/// A download has come to its end.
pub(super) fn downloaded(work: &mut Work<'_>, op: OpId, end: &DownloadEnd) {
    if work.v.firmware.download != Some(op) {
        return;
    }
    work.v.firmware.download = None;
    match end {
        DownloadEnd::Done => {
            let record = work.d.firmware.with(FirmwareState::Downloaded, UpdateStatus::Success);
            observation::set_firmware(work, record, false);
            let text = "the firmware is there, and RAUC accepts it";
            work.say(Level::Info, Topic::Download, text);
            if work.d.firmware.local {
                local::begin_update(work);
            }
        }
        DownloadEnd::Failed { status, message } => {
            let mut record = work.d.firmware.with(FirmwareState::Idle, *status);
            record.local = false;
            observation::set_firmware(work, record, false);
            tell(
                work,
                Topic::Download,
                &format!("the firmware could not be taken: {message}"),
            );
        }
    }
}

/// The image is not needed any more.
fn discard(work: &mut Work<'_>) {
    work.v.firmware.discard = true;
}

pub(super) fn due(work: &mut Work<'_>) {
    update::go_on(work);
    // Before that is on the disk, the next run would take it for whole.
    if work.v.firmware.discard && work.will_be_saved() {
        work.v.firmware.discard = false;
        work.effect(Effect::Discard);
    }
}

/// A failure, to the local log and to the service. Its `data` says whose reason this is: `firmware` (`download` or
/// `update`), `updateStatus` as it is notified, and `reqId`, that of the service's last request for it.
fn tell(work: &mut Work<'_>, topic: Topic, text: &str) {
    let (what, operation) = match topic {
        Topic::Update => ("update", Operation::Update),
        _ => ("download", Operation::Download),
    };
    let mut data = Map::new();
    data.insert("firmware".into(), what.into());
    data.insert("updateStatus".into(), work.d.firmware.update_status.into());
    if let Some(request) = accepted(&work.d.handled, operation) {
        data.insert("reqId".into(), request.req_id.as_str().into());
    }
    let entry = LogEntry {
        message: text.to_owned(),
        severity: Severity::Error,
        timestamp: work.now.wall.and_then(timestamp::format),
        data: Some(Value::Object(data).to_string().into_bytes()),
        extra: Map::new(),
    };
    outbox::owe_log(work, &entry, false);
    work.v.firmware.trouble = Some(text.to_owned());
    work.say(Level::Error, topic, text);
}

/// What was said of the last request that was refused or failed, since the agent started.
pub(super) fn trouble(work: &Work<'_>) -> Option<String> {
    work.v.firmware.trouble.clone()
}

/// The last request of this kind that was answered 202.
fn accepted(handled: &[Handled], operation: Operation) -> Option<&Handled> {
    handled.iter().rev().find(|handled| {
        let rc = handled.answer.as_ref().map(|answer| answer.rc);
        handled.key.op == operation.name() && rc == Some(Rc::ACCEPTED)
    })
}
