//! Whose memory this is: that of one device, at one service.
//!
//! What one service was told, another does not know; what one device was asked, nobody asked another. So the memory says
//! whose it is, and that is compared with the configuration at the start and whenever it is read anew. A memory that
//! does not say it is of an older version: it is this device's, at this service.
//!
//! What the host does is the host's, whoever it is to the service: a reboot, a reset or an update that was asked for as
//! another device goes on, a download and its image stay. Its answers are dropped; what became of it is told as any
//! trouble of the host is. The count of short boots and the position in the journal stay, too.

use super::durable::Change;
use super::effect::{Effect, Level, Topic};
use super::work::Work;
use super::{diagnostics, firmware, lifecycle, model, observation, outbox, reset};

pub(super) fn compare(work: &mut Work<'_>) {
    let (identity, service) = (work.settings.identity.clone(), work.settings.service.clone());
    let differs = |known: &Option<String>, now: &str| known.as_ref().filter(|known| *known != now).cloned();
    let other_device = differs(&work.d.identity, &identity);
    let other_service = differs(&work.d.service, &service);
    match (&other_device, &other_service) {
        (Some(before), _) => another_device(work, before),
        (None, Some(before)) => {
            let text = format!(
                "the service is {service} now, and was {before}: it is told anew that it manages this device, where it is, and which error codes hold; what is observed is for it to say"
            );
            work.say(Level::Warning, Topic::Manage, text);
        }
        (None, None) => {}
    }
    if other_device.is_some() || other_service.is_some() {
        lifecycle::forget(work);
        observation::forget_all(work);
        model::forget(work);
        diagnostics::doubt(work);
        outbox::begin_anew(work);
    }
    let strangers = outbox::drop_strangers(work);
    if strangers > 0 {
        let text = format!("{strangers} records of the outbox belong to another device: they were dropped");
        work.say(Level::Warning, Topic::Dropped, text);
    }
    if work.d.identity.as_ref() != Some(&identity) || work.d.service.as_ref() != Some(&service) {
        work.change(Change::BelongsTo { identity, service });
    }
}

fn another_device(work: &mut Work<'_>, before: &str) {
    // Nobody waits for those that were about to begin; they are not acknowledged.
    reset::disconnected(work);
    firmware::disconnected(work);
    let owed = |handled: &&super::handled::Handled| handled.answer.is_some() && !handled.delivered;
    let owed = work.d.handled.iter().filter(owed).count();
    let (answers, logs) = outbox::drop_all(work);
    let requests = work.d.handled.len() + work.d.others.len() + work.v.others.len();
    let mut dropped = vec![
        counted(owed + answers, "answer"),
        counted(logs, "log"),
        format!("the memory of {}", counted(requests, "request")),
    ];
    let written: Vec<_> = work.d.written.by_name().keys().cloned().collect();
    if !written.is_empty() {
        dropped.push(format!("what the service had written ({})", model::names(&written)));
    }
    let text = format!(
        "this device is {} now, and was {before}: what belonged to that is dropped, {}",
        work.settings.identity,
        dropped.join(", ")
    );
    work.say(Level::Warning, Topic::Dropped, text);
    work.change(Change::AnotherDevice);
    work.v.repeat.clear();
    work.v.others.clear();
    work.v.answers_in_flight.clear();
    work.effect(Effect::ReleaseDelayLock);
}

fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
