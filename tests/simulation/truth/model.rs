//! The last word counts, on the device and at the service: of the writes that the agent has carried out, and of the
//! changes of the configuration that it has read.

use std::collections::BTreeSet;

use iotdm::agent::handled::Key;
use iotdm::agent::model::Written;
use iotdm::agent::{Durable, Event, Step};
use iotdm::protocol::model::FieldValue;
use iotdm::protocol::{ReqId, Request, Response, ToDevice};
use iotdm::service::brain::{DeviceRow, RequestStep, Status, StatusRow};
use serde_json::Value;

use super::request_id;
use super::words::{Said, device_info, place};
use crate::broker::Message;
use crate::counts::Thing;
use crate::world::{World, note};

/// A write of the service that reaches the agent.
#[derive(Debug)]
pub struct Write {
    req_id: String,
    fields: Vec<FieldValue>,
    /// It was carried out before, and that is remembered.
    known: bool,
    measured: bool,
}

/// The record of it.
#[derive(Debug, Default)]
pub struct Model {
    /// The configuration that the disk agrees with.
    configuration: Option<Said>,
    /// Who said last what each member is.
    last_word: Said,
    /// Writes that this run has answered; the disk may not know them.
    known: BTreeSet<String>,
    /// Writes that have changed something.
    changed: BTreeSet<String>,
    /// Writes that were answered 204.
    taken_over: BTreeSet<String>,
    /// Some of them as the broker delivered them.
    seen: Vec<Message>,
    /// The location was written at the service alone: the device was not managed.
    place_alone: bool,
    /// The service has not heard of a write that was carried out.
    unheard: bool,
}

fn words(written: &Written) -> usize {
    written.metadata.len() + written.device_info.len() + usize::from(written.location.is_some())
}

/// How a step answers a request.
fn answered_with(step: &Step, req_id: &str) -> Option<u16> {
    step.owe.iter().find_map(|(_, record)| {
        let record: Value = serde_json::from_slice(record).ok()?;
        let response = Response::parse(record["payload"].as_str()?.as_bytes()).ok()?;
        (response.req_id.as_str() == req_id).then_some(response.rc.0)
    })
}

impl World {
    /// Whether the agent has read the configuration as it is, and the disk agrees.
    pub fn configuration_is_read(&self) -> bool {
        self.truth.model.configuration == Some(Said::by_configuration(&self.device.settings))
    }

    /// A write that was carried out before and is remembered, so that it must change nothing any more.
    pub fn draw_write(&mut self) -> Option<Message> {
        let known = |message: &&Message| self.is_on_disk(&request_id(&message.payload).unwrap_or_default());
        let known: Vec<_> = self.truth.model.seen.iter().filter(known).cloned().collect();
        let last = known.len().checked_sub(1)?;
        Some(known[self.random.between(0, last as u64) as usize].clone())
    }

    fn is_on_disk(&self, req_id: &str) -> bool {
        let key = ReqId::new(req_id.to_owned()).map(|req_id| Key::new("update", &req_id));
        let mut others = self.device.disk.durable.others.iter();
        key.is_some_and(|key| others.any(|other| other.key == key))
    }

    /// A message reaches the agent: perhaps it writes, or answers a location.
    pub fn model_arrives(&mut self, message: &Message) {
        match ToDevice::parse(&message.topic) {
            Ok((_, ToDevice::Update)) if self.plan.model && self.truth.model.seen.len() < 16 => {
                self.truth.model.seen.push(message.clone());
            }
            Ok((_, ToDevice::Response)) => {
                let req_id = request_id(&message.payload).unwrap_or_default();
                self.truth.located.answered(&req_id);
            }
            _ => {}
        }
    }

    pub fn model_died(&mut self) {
        self.truth.model.known.clear();
        self.truth.located.died();
    }

    /// What an event wants written, seen before the step.
    pub fn write_of(&mut self, event: &Event) -> Option<Write> {
        let Event::Message(message) = event else { return None };
        if !self.plan.model {
            return None;
        }
        let (_, kind @ ToDevice::Update) = ToDevice::parse(&message.topic).ok()? else {
            return None;
        };
        let (Request::Update(fields), req_id) = Request::parse(&kind, &message.payload).ok()? else {
            return None;
        };
        let req_id = req_id?.as_str().to_owned();
        let known = self.truth.model.known.contains(&req_id) || self.is_on_disk(&req_id);
        if known {
            self.counts.add(Thing::WroteAgain);
        }
        let places = fields.iter().any(|field| field.field == "location");
        if places {
            self.truth.located.excuse();
        }
        let measured = places && self.is_measured();
        Some(Write {
            req_id,
            fields,
            known,
            measured,
        })
    }

    /// A step is on the disk, or the disk has refused it.
    pub fn model_committed(
        &mut self,
        before: &Durable,
        step: &Step,
        event: &Event,
        write: Option<Write>,
        refused: bool,
    ) {
        let reads = matches!(event, Event::Started | Event::Configured(_));
        if !self.plan.model || (step.commit.is_none() && !reads && write.is_none()) {
            return;
        }
        let settings = &self.device.settings;
        let after = self.device.disk.durable.clone();
        let truth = &mut self.truth.model;
        // With what the disk refused earlier it agrees later.
        let unsaved = self.device.process.as_ref().filter(|_| reads);
        let unsaved = unsaved.is_some_and(|process| process.agent.status().unsaved);
        if step.commit.is_some() || (reads && !refused && !unsaved) {
            let now = Said::by_configuration(settings);
            match truth.configuration.replace(now.clone()) {
                Some(then) => truth.last_word.edited(&then, &now),
                None => truth.last_word = now,
            }
            if reads && words(&after.written) < words(&before.written) {
                self.counts.add(Thing::WordReplaced);
            }
        }
        if let Some(write) = write {
            let agrees = truth.configuration == Some(Said::by_configuration(settings));
            let rc = answered_with(step, &write.req_id);
            let done = rc == Some(204) && !write.known;
            let mut said = truth.last_word.clone();
            if done {
                said.written(settings, &write.fields, write.measured);
                truth.taken_over.insert(write.req_id.clone());
            }
            if rc == Some(204) {
                truth.known.insert(write.req_id.clone());
            }
            if !write.known && !done {
                self.counts.add(Thing::WriteRefused);
            }
            if step.commit.is_some() {
                truth.last_word = said;
            } else {
                assert!(
                    !agrees || said == truth.last_word,
                    "204 for a write that the disk does not have"
                );
            }
            if before.written != after.written && done {
                let first = truth.changed.insert(write.req_id);
                assert!(first, "a write has changed something twice");
            }
        }
        // A measured one replaces it, or did before the disk took that; the receiver may have been switched off since.
        let measures = settings.tracking.is_some() || self.truth.located.unsaved;
        if before.written.location.is_some() && after.written.location.is_none() && measures {
            truth.last_word.place = settings.location.as_ref().map(|fixed| place(&fixed.to_object()));
        }
        if step.commit.is_some() {
            let present = Said::present(settings, &after.written);
            assert_eq!(present, truth.last_word, "the disk does not have the last word");
        }
    }

    /// The value of an attribute or of one of its members, as the agent has it now; `null` where there is none.
    pub fn present(&self, field: &str) -> Value {
        let process = self.device.process.as_ref().expect("the agent runs");
        let (settings, durable) = (process.agent.settings(), process.agent.durable());
        if field == "mgmt.firmware" {
            return durable.firmware.value();
        }
        let (attribute, name) = field.split_once('.').unwrap_or((field, ""));
        let object = match attribute {
            "metadata" => Said::present(settings, &durable.written).metadata,
            "deviceInfo" => device_info(settings, &Said::present(settings, &durable.written)),
            _ => process
                .agent
                .status()
                .location
                .map(|status| status.value)
                .unwrap_or_default(),
        };
        match name {
            "" => object.into(),
            name => object.get(name).cloned().unwrap_or_default(),
        }
    }

    /// The operator is told how a write, or an observation, has ended.
    pub fn check_attributes_status(&mut self, row: &StatusRow) {
        note!(self, "service: {} is {:?}, {:?}", row.req_id, row.status, row.message);
        let req_id = row.req_id.as_str();
        let truth = &self.truth.model;
        if row.step == RequestStep::Update && row.status == Status::Success {
            assert!(
                truth.taken_over.contains(req_id),
                "the operator is told 204, and the device has not taken it over"
            );
            self.counts.add(Thing::WroteThrough);
        }
    }

    /// The registry has a device otherwise.
    pub fn place_is_put(&mut self, row: &DeviceRow) {
        let before = self.operator.device().and_then(|before| before.location.as_ref());
        let truth = &mut self.truth.model;
        if !row.location_written {
            truth.place_alone = false;
        } else if before != row.location.as_ref() {
            truth.place_alone = row.managed.is_none();
        }
    }

    /// An answer went with a session of the service.
    pub fn answer_lost(&mut self, response: &Response) {
        let truth = &mut self.truth.model;
        truth.unheard |= truth.taken_over.contains(response.req_id.as_str());
    }

    /// Long after the last fault: the last word counts on the device, and is what the service knows and observes.
    pub fn check_model_settled(&mut self) {
        if !self.plan.model {
            return;
        }
        let settings = &self.device.settings;
        let durable = self.device.disk.durable.clone();
        let present = Said::present(settings, &durable.written);
        assert!(self.configuration_is_read(), "the configuration is not read in the end");
        assert_eq!(present, self.truth.model.last_word, "the last word does not count");
        for observed in durable
            .observed
            .iter()
            .filter(|observed| observed.field != "mgmt.firmware")
        {
            let now = self.present(&observed.field);
            let nowhere = observed.field.starts_with("location") && self.place_source() == "none";
            assert!(
                nowhere || observed.told == now,
                "{} is observed, and not told: {} for {now}",
                observed.field,
                observed.told
            );
        }
        if self.truth.model.unheard {
            return self.counts.add(Thing::WriteUnheard);
        }
        let row = self.operator.device().expect("the service knows the device");
        assert_eq!(row.metadata, present.metadata, "the service has other metadata");
        let info = device_info(settings, &present);
        assert_eq!(row.device_info, info, "the service has another deviceInfo");
        if self.place_source() != "none" && !self.truth.model.place_alone && !self.truth.located.unsaved {
            let here = self.present("location");
            let there = row.location.as_ref().map(place);
            assert_eq!(there, here.as_object().map(place), "the service has another location");
            self.counts.add(Thing::PlaceSettled);
        }
        if !self.truth.observation.broken {
            for field in self.operator.observed() {
                let observed = durable.observed.iter().any(|observed| observed.field == field);
                assert!(observed, "the service observes {field}, and the device does not know");
                self.counts.add(Thing::ObservedSettled);
            }
        }
        self.counts.add(Thing::ModelSettled);
    }
}
