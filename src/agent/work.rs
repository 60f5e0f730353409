//! A step in the making: the memory that is being changed, and what is to be done.

use std::borrow::Cow;
use std::time::Duration;

use super::durable::{Change, Durable, RebootPhase, RebootState};
use super::effect::{AckId, After, Effect, Level, OpId, OweId, PublishId, Say, Step, Topic};
use super::handled::{Key, Other, remember_other};
use super::{Agent, Disk, Now, SAVE_RETRY, Settings, Volatile, diagnostics, lifecycle, model, observation, outbox};
use crate::protocol::{ReqId, Response, ToService};

/// How many publishes may wait for their acknowledgement (the platform allows a device 10).
const MAX_IN_FLIGHT: usize = 8;

/// The longest pause between two attempts that were not answered.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

pub(super) struct Work<'a> {
    pub(super) settings: Cow<'a, Settings>,
    pub(super) now: Now,
    pub(super) disk: Disk<'a>,
    /// The durable memory as it will be.
    pub(super) d: Cow<'a, Durable>,
    /// What the disk has says that logind was asked, and not what came of it.
    pub(super) asked_on_disk: bool,
    /// The volatile memory as it will be.
    pub(super) v: Volatile,
    changed: bool,
    owe: Vec<(OweId, Vec<u8>)>,
    after: Vec<After>,
}

impl<'a> Work<'a> {
    pub(super) fn new(agent: &'a Agent, now: Now, disk: Disk<'a>) -> Self {
        let d = Cow::Borrowed(agent.volatile.unsaved.as_deref().unwrap_or(&agent.durable));
        let asked = |reboot: &RebootState| reboot.phase == RebootPhase::Asked;
        Work {
            asked_on_disk: agent.durable.reboot().is_some_and(asked),
            settings: Cow::Borrowed(&agent.settings),
            now,
            disk,
            d,
            v: agent.volatile.clone(),
            changed: false,
            owe: Vec::new(),
            after: Vec::new(),
        }
    }

    /// Changes the durable memory. When the disk refuses, the change is kept and tried again.
    pub(super) fn change(&mut self, change: Change) {
        self.d.to_mut().apply(&change);
        self.changed = true;
    }

    /// What this step owes counts only when it is on the disk.
    pub(super) fn save(&mut self) {
        self.changed = true;
    }

    /// Whether there is a change that the disk does not have.
    pub(super) fn unsaved(&self) -> bool {
        self.v.unsaved.is_some() || self.held()
    }

    /// Whether something waits until the disk works.
    fn held(&self) -> bool {
        self.v.reboot.is_held() || self.v.reset.is_held()
    }

    /// Whether it is time to try the disk again.
    pub(super) fn may_retry_save(&self) -> bool {
        self.v.retry_save_at.is_none_or(|at| self.now.boottime >= at)
    }

    /// Whether this step is written. What follows from that may be done in the same step: when the disk refuses, nothing
    /// of it has happened.
    pub(super) fn is_written(&self) -> bool {
        self.disk == Disk::Works && (self.changed || self.v.unsaved.is_some() && self.may_retry_save())
    }

    /// Whether the whole memory is on the disk once this step is done.
    pub(super) fn will_be_saved(&self) -> bool {
        self.disk == Disk::Works && (self.v.unsaved.is_none() || self.changed || self.may_retry_save())
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.after.push(After::Effect(effect));
    }

    pub(super) fn ack(&mut self, ack: AckId) {
        self.after.push(After::Ack(ack));
    }

    /// Asks logind for a reboot once this step is on the disk. `asked` must be in the durable memory.
    pub(super) fn start_reboot(&mut self) -> OpId {
        let op = OpId(self.v.ids.next());
        self.after.push(After::Reboot(op));
        op
    }

    pub(super) fn op(&mut self) -> OpId {
        OpId(self.v.ids.next())
    }

    /// What may only begin once this step is on the disk.
    pub(super) fn begin(&mut self, after: After) {
        self.after.push(after);
    }

    pub(super) fn say(&mut self, level: Level, topic: Topic, text: impl Into<String>) {
        self.effect(Effect::Say(Say {
            level,
            topic,
            text: text.into(),
        }));
    }

    pub(super) fn owe(&mut self, id: OweId, record: Vec<u8>) {
        self.owe.push((id, record));
    }

    pub(super) fn publish(&mut self, kind: ToService, payload: Vec<u8>) -> PublishId {
        let id = PublishId(self.v.ids.next());
        let topic = kind.topic(&self.settings.address);
        self.v.unacknowledged.insert(id);
        self.effect(Effect::Publish { id, topic, payload });
        id
    }

    /// Seconds of time since boot from now.
    pub(super) fn after(&self, wait: Duration) -> Duration {
        self.now.boottime + wait
    }

    /// The pause after so many attempts in a row (from 1): exponential, from 5 s to 15 min, the upper half of it jitter.
    pub(super) fn pause(&mut self, attempts: u32) -> Duration {
        let full = LONGEST_PAUSE.min(Duration::from_secs(5) * 2u32.saturating_pow((attempts - 1).min(16)));
        full / 2 + self.v.ids.jitter(full / 2)
    }

    /// Whether another publish may go out.
    pub(super) fn may_publish(&self) -> bool {
        self.v.subscribed
            && self.v.answers_in_flight.len()
                + self.v.outbox.in_flight()
                + self.v.observation.in_flight()
                + self.v.located.in_flight()
                + diagnostics::in_flight(self)
                < MAX_IN_FLIGHT
    }

    /// The same for what is in no hurry: it also waits for what nobody waits for any more, and the broker still has not
    /// acknowledged.
    pub(super) fn may_publish_more(&self) -> bool {
        self.may_publish() && self.v.unacknowledged.len() < MAX_IN_FLIGHT
    }

    /// Whether an answer of the memory of handled requests is still to reach the broker.
    pub(super) fn answers_owed(&self) -> bool {
        !self.v.repeat.is_empty()
            || self
                .d
                .handled
                .iter()
                .any(|handled| handled.answer.is_some() && !handled.delivered)
    }

    /// The broker has a publish.
    pub(super) fn published(&mut self, id: PublishId) {
        self.v.unacknowledged.remove(&id);
        if let Some(at) = self.v.answers_in_flight.iter().position(|(publish, ..)| *publish == id) {
            let (_, key, rc) = self.v.answers_in_flight.remove(at);
            if self
                .d
                .handled
                .iter()
                .any(|handled| handled.key == key && !handled.delivered)
            {
                self.change(Change::Delivered(key, rc));
            }
            if !self.answers_owed() {
                self.effect(Effect::ReleaseDelayLock);
            }
        }
        outbox::published(self, id);
        diagnostics::published(self, id);
        // A manage counts when the service has answered, not when the broker has it.
    }

    /// A publish is to be made again.
    pub(super) fn not_published(&mut self, id: PublishId) {
        self.v.unacknowledged.remove(&id);
        if let Some(at) = self.v.answers_in_flight.iter().position(|(publish, ..)| *publish == id) {
            let (_, key, _) = self.v.answers_in_flight.remove(at);
            if self
                .d
                .handled
                .iter()
                .any(|handled| handled.key == key && handled.delivered)
            {
                self.v.repeat.push(key);
            }
        }
        outbox::not_published(self, id);
        observation::not_published(self, id);
        model::not_published(self, id);
        diagnostics::not_published(self, id);
        lifecycle::not_published(self, id);
    }

    /// A publish that is never sent, for this reason: it is given up, or nothing else would get through.
    pub(super) fn publish_refused(&mut self, id: PublishId, reason: &str) {
        self.v.unacknowledged.remove(&id);
        let answer = self.v.answers_in_flight.iter().position(|(publish, ..)| *publish == id);
        let what = if let Some(at) = answer {
            let (_, key, rc) = self.v.answers_in_flight.remove(at);
            self.change(Change::Delivered(key, rc));
            "an answer was given up"
        } else if outbox::publish_refused(self, id) {
            "a record of the outbox was given up"
        } else if observation::publish_refused(self, id) {
            "the service hears no more of that change"
        } else if model::publish_refused(self, id) {
            "the next location is told in an hour"
        } else if diagnostics::publish_refused(self, id) {
            "the error codes are told again when other ones hold"
        } else if lifecycle::publish_refused(self, id) {
            "the next attempt to manage is in an hour"
        } else {
            "nobody waits for it any more"
        };
        self.say(Level::Error, Topic::Dropped, format!("{reason}; {what}"));
    }

    /// Publishes what is due, in the order that the protocol needs: answers, what must precede a manage, the manage,
    /// everything else.
    pub(super) fn pump(&mut self) {
        outbox::drop_outdated(self);
        self.pump_answers();
        outbox::send(self, true);
        lifecycle::send(self);
        observation::send(self);
        model::send(self);
        diagnostics::send(self);
        outbox::send(self, false);
    }

    fn pump_answers(&mut self) {
        let repeat = std::mem::take(&mut self.v.repeat);
        let due: Vec<_> = self
            .d
            .handled
            .iter()
            .filter(|handled| !handled.delivered || repeat.contains(&handled.key))
            .filter_map(|handled| Some((handled.key.clone(), handled.req_id.clone(), handled.answer.clone()?)))
            .collect();
        for (key, req_id, answer) in due {
            let flying = self
                .v
                .answers_in_flight
                .iter()
                .any(|(_, flying, rc)| *flying == key && *rc == answer.rc);
            let Some(req_id) = ReqId::new(req_id).filter(|_| !flying) else {
                continue;
            };
            if !self.may_publish() {
                if repeat.contains(&key) {
                    self.v.repeat.push(key);
                }
                continue;
            }
            let response = Response::new(req_id, answer.rc).message(answer.message.as_deref().unwrap_or_default());
            let id = self.publish(ToService::Response, response.to_payload());
            self.v.answers_in_flight.push((id, key, answer.rc));
        }
    }

    /// Remembers how a request was answered that did not change the host. Nothing is written for that alone: when the
    /// next run does not know of it, it comes to an answer of its own, as if the request had come later.
    pub(super) fn remember_other(&mut self, other: Other) {
        remember_other(&mut self.v.others, other);
    }

    /// How this request was answered, if it is one of the others that are remembered.
    pub(super) fn other(&self, key: &Key) -> Option<&Other> {
        let mut known = self.v.others.iter().chain(&self.d.others);
        known.find(|other| other.key == *key)
    }

    /// The latest answer to this request is to be sent once more.
    pub(super) fn answer_again(&mut self, key: Key) {
        if !self.v.repeat.contains(&key) {
            self.v.repeat.push(key);
        }
    }

    pub(super) fn finish(mut self) -> Step {
        let mut commit = None;
        let held = self.held();
        if let Disk::Refuses(_) = self.disk {
            diagnostics::disk_refused(&mut self);
            if self.changed {
                self.v.unsaved = Some(Box::new(self.d.into_owned()));
            }
            if self.v.unsaved.is_some() || held {
                self.v.retry_save_at = Some(self.now.boottime + SAVE_RETRY);
            }
        } else if self.is_written() {
            for other in std::mem::take(&mut self.v.others) {
                self.d.to_mut().apply(&Change::RememberOther(other));
            }
            if let Some(snapshot) = diagnostics::snapshot(&mut self) {
                self.d.to_mut().apply(&Change::Journal(Box::new(snapshot)));
            }
            self.v.unsaved = None;
            self.v.retry_save_at = self.v.retry_save_at.filter(|_| held);
            commit = Some(self.d.into_owned());
        }
        Step {
            owe: self.owe,
            commit,
            after: self.after,
            volatile: self.v,
        }
    }
}
