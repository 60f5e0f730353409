//! What is notified: nothing that nobody observes, nothing that is not so, nothing before manage.

use std::collections::BTreeMap;

use iotdm::protocol::{Report, Request, Response, ToDevice, ToService};

use super::request_id;
use crate::broker::Message;
use crate::counts::Thing;
use crate::world::World;

/// The record of it.
#[derive(Debug, Default)]
pub struct Observation {
    /// Requests to observe (true) and to cancel (false), by their ids, and the run of the agent that they reached.
    asked: BTreeMap<String, (bool, u64)>,
    /// What was last answered: observed, or no longer.
    observed: bool,
    /// The process died before the disk had a cancel: it is forgotten.
    forgotten: bool,
}

impl World {
    /// A request to observe or to cancel reaches the agent.
    pub fn observe_arrives(&mut self, message: &Message, dup: bool) {
        let Ok((_, kind @ (ToDevice::Observe | ToDevice::Cancel))) = ToDevice::parse(&message.topic) else {
            return;
        };
        if let Some(req_id) = request_id(&message.payload) {
            let run = self.agent_run();
            let asked = (kind == ToDevice::Observe, run);
            self.truth.observation.asked.insert(req_id, asked);
        } else if kind == ToDevice::Cancel && !dup && Request::parse(&kind, &message.payload).is_ok() {
            // Nobody waits for an answer: from now on nothing is notified. One that may have been delivered before is not
            // used: it could end what was observed after it.
            self.truth.observation.observed = false;
        }
    }

    /// The agent hands an answer to its session.
    pub fn observe_answered(&mut self, response: &Response) {
        let asked = self.truth.observation.asked.get(response.req_id.as_str());
        if let Some((observe, run)) = asked.copied().filter(|_| response.rc.0 == 200) {
            // The record of the answer may outlive a step that the disk refused, or that a crash cut short.
            let on_disk = !self.device.disk.durable.observed.is_empty();
            self.truth.observation.observed = observe;
            self.truth.observation.forgotten = !observe && on_disk && run != self.agent_run();
        }
    }

    /// The process dies with something that the disk did not take.
    pub fn observation_died(&mut self) {
        let on_disk = !self.device.disk.durable.observed.is_empty();
        self.truth.observation.forgotten |= on_disk && !self.truth.observation.observed;
    }

    /// The agent hands a notify to its session.
    pub fn check_notify(&mut self, message: &Message) {
        self.counts.add(Thing::Notified);
        let truth = &self.truth.observation;
        assert!(truth.observed || truth.forgotten, "notified, and nobody observes");
        let process = self.device.process.as_ref().expect("it publishes");
        assert!(process.agent.status().managed, "notified before manage is answered");
        let (report, _) = Report::parse(ToService::Notify, &message.payload).expect("the agent's own notify");
        let Report::Notify(fields) = report else {
            panic!("a notify is a notify")
        };
        let durable = &self.device.disk.durable;
        let firmware = durable.firmware.value();
        for field in fields {
            assert!(
                durable.observed.iter().any(|observed| observed.field == field.field),
                "{} is notified, and not observed",
                field.field
            );
            assert_eq!(field.field, "mgmt.firmware");
            for (member, value) in field.value.as_object().expect("an object") {
                assert_eq!(
                    Some(value),
                    firmware.get(member),
                    "{member} is told, and is not on the disk"
                );
            }
        }
    }
}
