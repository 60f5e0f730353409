//! What somebody on the device may ask for: install a file, end a trial as good, go back.
//!
//! The same checks and the same machine as for the service; only nobody waits for a response.

use super::record::{Firmware as Record, Phase};
use super::{Operation, Waiting, judge, start_download, update};
use crate::agent::Disk;
use crate::agent::effect::{CommandId, Effect, Level, Purpose, Reply, Topic};
use crate::agent::observation;
use crate::agent::work::Work;
use crate::protocol::firmware::{FirmwareState, UpdateStatus};

fn reply(work: &mut Work<'_>, command: CommandId, reply: Reply) {
    work.effect(Effect::Reply(command, reply));
}

fn refuse(work: &mut Work<'_>, command: CommandId, reason: &str) {
    reply(work, command, Reply::Failed(reason.to_owned()));
}

/// The image lies in the state folder already; from here on it is a download without a network.
pub(in crate::agent) fn install_file(work: &mut Work<'_>, command: CommandId, name: &str) {
    let record = Record {
        name: Some(name.to_owned()),
        uri: Some(format!("file:{name}")),
        local: true,
        ..Record::default()
    };
    if work.d.firmware.is(FirmwareState::Downloading) {
        return refuse(work, command, "a download is under way: wait for its end");
    }
    if work.v.firmware.waiting.is_some() {
        return refuse(
            work,
            command,
            "another firmware request is about to begin: try again in a minute",
        );
    }
    if let Disk::Refuses(reason) = work.disk {
        return refuse(work, command, reason);
    }
    // Whether it could be installed if it were there.
    let there = record.with(FirmwareState::Downloaded, UpdateStatus::Success);
    if let Err((_, reason)) = judge(work, &there, Operation::Update) {
        return refuse(work, command, &reason);
    }
    work.say(
        Level::Info,
        Topic::Update,
        format!("somebody on the device installs {name}"),
    );
    work.v.firmware.trouble = None;
    let record = record.with(FirmwareState::Downloading, UpdateStatus::Success);
    observation::set_firmware(work, record, false);
    start_download(work);
    let begun = "the image is checked and installed; \"iotdm-agent firmware status\" shows how far it is";
    reply(work, command, Reply::Begun(begun));
}

/// The image was handed over and checked.
pub(super) fn begin_update(work: &mut Work<'_>) {
    let op = work.op();
    work.effect(Effect::Survey(op, Purpose::Install));
    work.v.firmware.waiting = Some(Waiting {
        op,
        operation: Operation::Update,
        key: None,
        req_id: None,
        acks: Vec::new(),
    });
}

pub(in crate::agent) fn confirm_command(work: &mut Work<'_>, command: CommandId) {
    if !update::on_trial(work) {
        return refuse(work, command, "no firmware is on trial");
    }
    let text = "somebody on the device says that the new firmware is good";
    work.say(Level::Info, Topic::Update, text);
    work.v.firmware.update.confirmed = true;
    let begun = "the new firmware is marked good, whatever it still lacks";
    reply(work, command, Reply::Begun(begun));
}

pub(in crate::agent) fn roll_back_command(work: &mut Work<'_>, command: CommandId) {
    const ASKED: &str = "somebody on the device did not want it";
    if update::on_trial(work) {
        update::roll_back(work, ASKED);
        let begun = "the host goes back to the old firmware and reboots";
        return reply(work, command, Reply::Begun(begun));
    }
    match work.d.update() {
        Some(update)
            if update.phase == Phase::Installed
                && update.boot_id == work.settings.boot_id
                && update.reboot.is_none() =>
        {
            update::call_off(work, ASKED);
            let begun = "the old firmware stays the one to boot";
            reply(work, command, Reply::Begun(begun));
        }
        Some(update) if update.phase == Phase::Installing => {
            refuse(work, command, "firmware is being installed: wait until it is written");
        }
        Some(update) if update.reboot.is_some() => refuse(work, command, "the host is about to reboot already"),
        Some(update) if update.phase == Phase::RollingBack => {
            refuse(work, command, "the old firmware is on its way back already");
        }
        Some(_) => refuse(
            work,
            command,
            "the outcome of the update is being established: try again in a minute",
        ),
        None => refuse(work, command, "no firmware is on trial, and none waits for its reboot"),
    }
}
