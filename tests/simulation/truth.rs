//! What really happened, seen from outside the brains, and the promises that are measured against it.

mod answers;
mod boots;
mod diagnostics;
mod firmware;
mod located;
mod model;
mod observation;
mod reset;
mod settled;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use iotdm::agent::durable::RebootPhase;
use iotdm::agent::{AckId, After, Durable, Effect, Event, OweId, Step, Verdict};
use iotdm::protocol::{Address, ReqId, ToDevice, json};

use crate::broker::Message;
use crate::counts::Thing;
use crate::world::World;

/// More steps than this in a second are a busy loop; a hundred answers that have waited for a connection are none.
const MAX_STEPS: u32 = 1000;

/// A request as the device got it.
#[derive(Debug, Default)]
pub struct Request {
    /// How often it reached the agent.
    delivered: u32,
    /// The boot in which it last did.
    delivered_in: u32,
    /// The boot in which it first was on the disk.
    handled_in: Option<u32>,
    /// The answer on the disk.
    on_disk: Option<u16>,
    /// The answer that was last handed to the session.
    answered: Option<u16>,
    /// The answer that last reached the broker.
    at_broker: Option<u16>,
    /// What it asks for.
    reboot: bool,
    /// The same.
    reset: bool,
    /// The boot in which the wish for its wipe was left.
    wished: Option<u32>,
    /// It went with a session before the agent had acknowledged it.
    gone: bool,
    /// The agent has taken it, in a step that was not cut short.
    taken: bool,
    /// The broker has its acknowledgement.
    acknowledged: bool,
    /// The agent has once answered something other than 202.
    refused: bool,
    /// It was refused, and a crash made the agent forget the answer.
    forgotten: bool,
    /// The broker has once got something other than 202.
    refused_at_broker: bool,
    /// An answer was lost between broker and service.
    lost: bool,
    /// How many reboots it caused.
    reboots: u32,
}

impl Request {
    /// The next manage completes it.
    fn ends_with_manage(&self) -> bool {
        self.reboot || self.reset
    }
}

/// The record.
#[derive(Debug, Default)]
pub struct Truth {
    pub requests: BTreeMap<String, Request>,
    /// Reboot requests as the broker delivered them.
    pub seen: Vec<Message>,
    /// Answers that are in the outbox on the disk.
    pub owed: BTreeMap<OweId, String>,
    /// The boot in which the agent last heard from logind that a reboot is accepted.
    pub accepted_in: Option<u32>,
    /// The boot of the last manage that reached the broker.
    managed_in: u32,
    /// Log entries that are in the outbox together with the end of a reboot that did not happen.
    logs_written: u32,
    /// Log entries that reached the service.
    logs_received: u32,
    /// When the agent last published a manage.
    managed_at: u64,
    /// Every manage that reached the broker.
    manages: BTreeSet<u64>,
    /// Messages without a request id that were executed.
    executed: BTreeSet<u64>,
    /// A reboot is on the disk.
    reboot_on_disk: bool,
    /// Reboots in a row that ended a short boot.
    short_boots: u32,
    pub firmware: firmware::Firmware,
    pub observation: observation::Observation,
    pub reset: reset::Reset,
    pub diagnostics: diagnostics::Diagnostics,
    pub model: model::Model,
    pub located: located::Located,
    /// What the agent was last told of the boot's health, and since when it is so.
    pub told_health: Option<(Verdict, u64)>,
    /// The boot in which somebody on the device said that the slot on trial is good.
    pub confirmed_in: Option<u32>,
    /// Requests that wait for a look at the host and their acknowledgement, by it.
    held: BTreeMap<AckId, String>,
    /// Steps in this second.
    steps: (u64, u32),
    /// Something was lost with a session, or somebody took the device out of management.
    pub interrupted: bool,
}

fn request_id(payload: &[u8]) -> Option<String> {
    let envelope = json::envelope(payload);
    let req_id = envelope.map_or_else(|malformed| malformed.req_id, |envelope| envelope.req_id);
    req_id.map(|req_id: ReqId| req_id.as_str().to_owned())
}

fn is_firmware(topic: &str) -> bool {
    let parsed = ToDevice::parse(topic);
    matches!(parsed, Ok((_, ToDevice::FirmwareDownload | ToDevice::FirmwareUpdate)))
}

fn is_reset(topic: &str) -> bool {
    matches!(ToDevice::parse(topic), Ok((Address::Device(_), ToDevice::FactoryReset)))
}

/// What is acknowledged after a look at the host.
fn may_wait(topic: &str) -> bool {
    is_firmware(topic) || is_reset(topic)
}

fn is_reboot(topic: &str) -> bool {
    matches!(ToDevice::parse(topic), Ok((Address::Device(_), ToDevice::Reboot)))
}

impl World {
    pub fn count_steps(&mut self) {
        let second = self.now / 1000;
        let (last, steps) = self.truth.steps;
        self.truth.steps = (second, if last == second { steps + 1 } else { 1 });
        assert!(
            self.truth.steps.1 <= MAX_STEPS,
            "more than {MAX_STEPS} steps in a second"
        );
    }

    /// A request reaches the agent.
    pub fn request_arrives(&mut self, message: &Message) {
        let reboot = is_reboot(&message.topic);
        if let Ok((_, ToDevice::Response)) = ToDevice::parse(&message.topic) {
            return;
        }
        if (reboot || may_wait(&message.topic)) && self.truth.seen.len() < 16 {
            self.truth.seen.push(message.clone());
        }
        let Some(req_id) = request_id(&message.payload) else {
            return;
        };
        let boot = self.device.boot;
        let request = self.truth.requests.entry(req_id).or_default();
        let reset = is_reset(&message.topic);
        if request.delivered > 0 && (reboot || reset) {
            self.counts.add(Thing::Redelivered);
            if request.delivered_in != boot {
                self.counts.add(Thing::RedeliveredAfterBoot);
            }
        }
        request.delivered += 1;
        request.reboot = reboot;
        request.reset = reset;
        request.gone = false;
        request.forgotten = false;
        request.delivered_in = boot;
    }

    /// The disk has taken the durable memory.
    pub fn committed(&mut self, durable: &Durable, message: Option<u64>) {
        let boot = self.device.boot;
        for handled in durable.handled.iter() {
            let request = self.truth.requests.entry(handled.req_id.clone()).or_default();
            let is_reboot = handled.key.op == "reboot";
            let refusal = handled.answer.as_ref().is_some_and(|answer| answer.rc.0 != 202);
            if request.handled_in.is_none() && !refusal {
                // Whatever it was refused for before a crash, it is carried out now.
                request.answered = None;
            }
            let first = *request.handled_in.get_or_insert(boot);
            let rc = handled.answer.as_ref().map(|answer| answer.rc.0);
            if rc == request.on_disk {
                continue;
            }
            request.on_disk = rc;
            match rc {
                _ if !is_reboot => {}
                Some(202) => assert!(
                    first < boot || self.truth.accepted_in == Some(boot),
                    "202 although logind has not accepted"
                ),
                Some(_) => assert!(first == boot, "a refusal although the host has rebooted"),
                None => {}
            }
        }
        let before = std::mem::replace(&mut self.truth.reboot_on_disk, durable.reboot().is_some());
        let Some(reboot) = durable.reboot() else { return };
        if reboot.requests.len() > 1 {
            self.counts.add(Thing::Joined);
        }
        if !before && reboot.requests.is_empty() && durable.update().is_none() {
            self.counts.add(Thing::NoReqId);
            let number = message.expect("a reboot begins with a message");
            assert!(self.truth.executed.insert(number), "a message is executed twice");
        }
    }

    /// A step is on the disk as a whole.
    pub fn written(&mut self, step: &Step) {
        let did_not_happen = |record: &[u8]| String::from_utf8_lossy(record).contains("did not happen");
        let logs = step.owe.iter().filter(|(_, record)| did_not_happen(record)).count();
        self.truth.logs_written += logs as u32;
        self.reports_written(step);
    }

    /// The broker has the acknowledgement of a message to the agent.
    pub fn acknowledged(&mut self, message: &Message) {
        if (is_reboot(&message.topic) || may_wait(&message.topic))
            && let Some(req_id) = request_id(&message.payload)
            && let Some(request) = self.truth.requests.get_mut(&req_id)
        {
            request.acknowledged = true;
        }
    }

    /// The service has a log entry.
    pub fn log_received(&mut self, text: &str) {
        self.truth.logs_received += 1;
        self.report_received(text);
    }

    /// Answers that the outbox on the disk has now.
    pub fn owed(&mut self, id: OweId, event: &Event, record: &[u8]) {
        // A log entry that is owed again in the same step is none.
        let response = String::from_utf8_lossy(record).contains(r#""kind":"response""#);
        if let Event::Message(message) = event
            && response
            && let Some(req_id) = request_id(&message.payload)
        {
            self.truth.owed.insert(id, req_id);
        }
    }

    /// The agent has handled a message and goes on to acknowledge it.
    pub fn check_acknowledged(&mut self, event: &Event, step: &Step) {
        let Event::Message(message) = event else { return };
        let acks = step.after.iter().filter(|after| **after == After::Ack(message.ack));
        let acks = acks.count();
        if may_wait(&message.topic) {
            if acks == 0 {
                let req_id = request_id(&message.payload).unwrap_or_default();
                self.truth.held.insert(message.ack, req_id);
                return;
            }
        } else {
            assert_eq!(acks, 1, "a message is acknowledged once, full disk or not");
            if !is_reboot(&message.topic) {
                return;
            }
        }
        let begins = |after: &After| matches!(after, After::Reboot(_) | After::Effect(Effect::SurveyReset(_)));
        let reboots = step.after.iter().any(begins);
        match request_id(&message.payload) {
            Some(req_id) => {
                self.truth.requests.entry(req_id.clone()).or_default().taken = true;
                let on_disk = self
                    .device
                    .disk
                    .durable
                    .handled
                    .iter()
                    .any(|handled| handled.req_id == req_id);
                assert!(
                    on_disk || !step.owe.is_empty() || self.agent_is_unsaved() || is_firmware(&message.topic),
                    "acknowledged, and nowhere on the disk"
                );
            }
            None if message.dup => {
                self.counts.add(Thing::DupNotExecuted);
                assert!(!reboots, "executed although nobody knows whether it was before");
            }
            None => {}
        }
    }

    /// The agent acknowledges a request that has waited for a look at the host.
    pub fn request_is_taken(&mut self, ack: AckId) {
        if let Some(req_id) = self.truth.held.remove(&ack)
            && let Some(request) = self.truth.requests.get_mut(&req_id)
        {
            request.taken = true;
        }
    }

    /// The connection is gone, and with it everything that was to be acknowledged on it.
    pub fn nothing_is_held(&mut self) {
        for req_id in std::mem::take(&mut self.truth.held).into_values() {
            self.counts.add(Thing::HeldAck);
            // It comes again, unless the broker has lost its session meanwhile.
            if let Some(request) = self.truth.requests.get_mut(&req_id) {
                request.gone = true;
            }
        }
    }

    pub fn agent_is_unsaved(&self) -> bool {
        let process = self.device.process.as_ref();
        process.is_some_and(|process| process.agent.status().unsaved)
    }

    /// The agent goes on to ask logind.
    pub fn check_reboot(&mut self) {
        let reboot = self.device.disk.durable.reboot();
        let boot_id = format!("boot-{}", self.device.boot);
        assert!(
            reboot.is_some_and(|reboot| reboot.phase == RebootPhase::Asked && reboot.boot_id == boot_id),
            "logind is asked, and that is not on the disk"
        );
        assert!(
            self.device.host.rauc.installing.is_none(),
            "logind is asked while RAUC installs"
        );
        self.truth.accepted_in = None;
    }

    /// The requests of the reboot that is on the disk.
    pub fn requests_of_reboot(&self) -> Vec<String> {
        let durable = &self.device.disk.durable;
        let keys = durable
            .reboot()
            .map(|reboot| reboot.requests.as_slice())
            .unwrap_or_default();
        let of_reboot = durable.handled.iter().filter(|handled| keys.contains(&handled.key));
        of_reboot.map(|handled| handled.req_id.clone()).collect()
    }

    /// The process is gone. A refusal that did nothing and that the disk did not take is gone with it.
    pub fn process_died(&mut self) {
        self.device.disk.process_died();
        self.truth.held.clear();
        self.observation_died();
        self.diagnostics_died();
        self.model_died();
        let owed: BTreeSet<&String> = self.truth.owed.values().collect();
        for (req_id, request) in &mut self.truth.requests {
            let handled = request.handled_in.is_some();
            let kept = handled || owed.contains(req_id);
            if !kept && !request.forgotten && (request.answered.is_none() || request.answered != request.at_broker) {
                request.forgotten = true;
                self.counts.add(Thing::RefusalForgotten);
            }
            // Told while the disk refused: the next run knows only what was before.
            request.forgotten |= handled && request.answered.is_some() && request.answered != request.on_disk;
        }
    }

    /// An outbox record is taken off the disk.
    pub fn check_settle(&mut self, id: OweId) {
        if let Some(req_id) = self.truth.owed.remove(&id) {
            let request = &self.truth.requests[&req_id];
            let carried_out = request.handled_in.is_some();
            assert!(
                carried_out || request.at_broker.is_some(),
                "forgotten before the broker had it: {id:?} {req_id} {request:?}"
            );
        }
    }
}
