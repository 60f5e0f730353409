//! What is notified: nothing that nobody observes, nothing that is not so, nothing before manage.

use iotdm::protocol::{Report, Request, Response, ToDevice, ToService};

use super::request_id;
use crate::broker::Message;
use crate::counts::Thing;
use crate::world::World;

/// The record of it.
#[derive(Debug, Default)]
pub struct Observation {
    /// Requests to observe (true) and to cancel (false), by their ids.
    asked: std::collections::BTreeMap<String, bool>,
    /// What was last answered: observed, or no longer.
    observed: bool,
    /// A cancel was answered, and the disk does not have it.
    unsaved: bool,
    /// The process has died since: it is forgotten.
    forgotten: bool,
}

impl World {
    /// A request to observe or to cancel reaches the agent.
    pub fn observe_arrives(&mut self, message: &Message) {
        let Ok((_, kind @ (ToDevice::Observe | ToDevice::Cancel))) = ToDevice::parse(&message.topic) else {
            return;
        };
        if let Some(req_id) = request_id(&message.payload) {
            self.truth.observation.asked.insert(req_id, kind == ToDevice::Observe);
        } else if kind == ToDevice::Cancel && Request::parse(&kind, &message.payload).is_ok() {
            // Nobody waits for an answer: from now on nothing is notified.
            self.truth.observation.observed = false;
        }
    }

    /// The agent hands an answer to its session.
    pub fn observe_answered(&mut self, response: &Response) {
        let asked = self.truth.observation.asked.get(response.req_id.as_str());
        if let Some(observe) = asked.copied().filter(|_| response.rc.0 == 200) {
            self.truth.observation.observed = observe;
            self.truth.observation.forgotten = false;
            self.truth.observation.unsaved = !observe && !self.device.disk.durable.observed.is_empty();
        }
    }

    /// The process dies with something that the disk did not take.
    pub fn observation_died(&mut self) {
        self.truth.observation.forgotten |= self.truth.observation.unsaved;
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
