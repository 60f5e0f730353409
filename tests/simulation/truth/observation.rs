//! What is notified: nothing that nobody observes, nothing that is not so, nothing before manage.

use std::collections::{BTreeMap, BTreeSet};

use iotdm::protocol::{Report, Request, Response, ToDevice, ToService};
use serde_json::Value;

use super::request_id;
use crate::broker::Message;
use crate::counts::Thing;
use crate::world::World;

/// A request to observe or to cancel.
#[derive(Debug, Clone)]
struct Asked {
    observe: bool,
    /// None of them to cancel is all of them.
    fields: Vec<String>,
    /// The run of the agent that it reached.
    run: u64,
}

/// The record of it.
#[derive(Debug, Default)]
pub struct Observation {
    /// By their ids.
    asked: BTreeMap<String, Asked>,
    /// What was last answered: these are observed.
    observed: BTreeSet<String>,
    /// The process died before the disk had their cancel: it is forgotten.
    forgotten: BTreeSet<String>,
    /// Something went with a session, or somebody other than the service has ended it.
    pub broken: bool,
}

impl Observation {
    fn cancelled(&self, fields: &[String]) -> Vec<String> {
        match fields {
            [] => self.observed.union(&self.forgotten).cloned().collect(),
            fields => fields.to_vec(),
        }
    }
}

impl World {
    /// A request to observe or to cancel reaches the agent.
    pub fn observe_arrives(&mut self, message: &Message, dup: bool) {
        let Ok((_, kind @ (ToDevice::Observe | ToDevice::Cancel))) = ToDevice::parse(&message.topic) else {
            return;
        };
        let fields = match Request::parse(&kind, &message.payload) {
            Ok((Request::Observe(fields) | Request::Cancel(fields), _)) => fields,
            _ => return,
        };
        let observe = kind == ToDevice::Observe;
        if let Some(req_id) = request_id(&message.payload) {
            let run = self.agent_run();
            let asked = Asked { observe, fields, run };
            self.truth.observation.asked.insert(req_id, asked);
        } else if !observe && !dup {
            // Nobody waits for an answer: from now on nothing is notified. One that may have been delivered before is not
            // used: it could end what was observed after it.
            let truth = &mut self.truth.observation;
            for field in truth.cancelled(&fields) {
                truth.observed.remove(&field);
            }
        }
    }

    /// Whether the disk says that this is observed.
    fn observed_on_disk(&self, field: &str) -> bool {
        let mut observed = self.device.disk.durable.observed.iter();
        observed.any(|observed| observed.field == field)
    }

    /// The agent hands an answer to its session.
    pub fn observe_answered(&mut self, response: &Response) {
        let asked = self.truth.observation.asked.get(response.req_id.as_str());
        let Some(asked) = asked.filter(|_| response.rc.0 == 200).cloned() else {
            return;
        };
        if asked.observe {
            for field in asked.fields {
                self.truth.observation.forgotten.remove(&field);
                self.truth.observation.observed.insert(field);
            }
            return;
        }
        for field in self.truth.observation.cancelled(&asked.fields) {
            // The record of the answer may outlive a step that the disk refused, or that a crash cut short.
            let forgotten = self.observed_on_disk(&field) && asked.run != self.agent_run();
            let truth = &mut self.truth.observation;
            truth.observed.remove(&field);
            truth.forgotten.remove(&field);
            if forgotten {
                truth.forgotten.insert(field);
            }
        }
    }

    /// The process dies with something that the disk did not take.
    pub fn observation_died(&mut self) {
        let truth = &mut self.truth.observation;
        for observed in &self.device.disk.durable.observed {
            if !truth.observed.contains(&observed.field) {
                truth.forgotten.insert(observed.field.clone());
            }
        }
    }

    /// The agent hands a notify to its session.
    pub fn check_notify(&mut self, message: &Message) {
        self.counts.add(Thing::Notified);
        let process = self.device.process.as_ref().expect("it publishes");
        assert!(process.agent.status().managed, "notified before manage is answered");
        let (report, _) = Report::parse(ToService::Notify, &message.payload).expect("the agent's own notify");
        let Report::Notify(fields) = report else {
            panic!("a notify is a notify")
        };
        for field in fields {
            let name = field.field.as_str();
            assert!(self.observed_on_disk(name), "{name} is notified, and not observed");
            let truth = &self.truth.observation;
            assert!(
                truth.observed.contains(name) || truth.forgotten.contains(name),
                "{name} is notified, and nobody observes it"
            );
            let present = self.present(name);
            if name != "mgmt.firmware" {
                self.counts.add(Thing::NotifiedModel);
            }
            match (name, &field.value) {
                ("metadata" | "deviceInfo" | "mgmt.firmware", Value::Object(members)) => {
                    for (member, value) in members {
                        let so = present.get(member).unwrap_or(&Value::Null);
                        assert_eq!(value, so, "{name}.{member} is told, and is not so");
                    }
                }
                (name, value) => {
                    assert_eq!(*value, present, "{name} is told, and is not so");
                    assert!(
                        name != "location" || !self.place_is_the_services(),
                        "UPD-04: it is told back"
                    );
                }
            }
        }
    }
}
