//! What the agent tells the service: a 202 is the truth, a refusal is one, and no manage comes in between.

use iotdm::protocol::{Response, ToDevice, ToService};

use super::request_id;
use crate::broker::Message;
use crate::counts::Thing;
use crate::logind::How;
use crate::world::{World, note};

impl World {
    /// The agent hands a message to its session.
    pub fn check_published(&mut self, message: &Message) {
        let boot = self.device.boot;
        match ToService::parse(&message.topic) {
            Ok((_, ToService::Manage)) => {
                for (req_id, request) in &self.truth.requests {
                    assert!(
                        !request.ends_with_manage()
                            || request.handled_in != Some(boot)
                            || request.answered != Some(202),
                        "a manage between the 202 of {req_id} and its reboot"
                    );
                }
                assert!(
                    self.device.disk.durable.reset().is_none() || self.agent_is_unsaved(),
                    "a manage before the outcome of a reset is known"
                );
                self.truth.managed_at = self.now;
                let managed = self
                    .device
                    .process
                    .as_ref()
                    .is_some_and(|process| process.agent.status().managed);
                if managed {
                    self.counts.add(Thing::Renewed);
                }
            }
            Ok((_, ToService::Response)) => {
                let response = Response::parse(&message.payload).expect("the agent's own response");
                self.check_answer(&response);
            }
            Ok((_, ToService::Notify)) => self.check_notify(message),
            Ok(_) => {}
            Err(error) => panic!("published on no topic of the protocol: {error}"),
        }
    }

    fn check_answer(&mut self, response: &Response) {
        let (boot, rc) = (self.device.boot, response.rc.0);
        let text = response.message.as_deref().unwrap_or_default();
        note!(self, "  answers {rc} to {}: {text}", response.req_id);
        for (words, thing) in [
            ("did not happen", Thing::DidNotHappen),
            ("not executed", Thing::NotExecuted),
            ("in a row", Thing::LoopBreaker),
        ] {
            if text.contains(words) {
                self.counts.add(thing);
            }
        }
        self.observe_answered(response);
        let unsaved = self.agent_is_unsaved();
        let request = self
            .truth
            .requests
            .get_mut(response.req_id.as_str())
            .expect("only requests are answered");
        request.answered = Some(rc);
        request.refused |= rc != 202;
        if rc == 202 {
            let rebooted = request.handled_in.is_some_and(|first| first < boot);
            assert!(
                !request.reboot || rebooted || self.truth.accepted_in == Some(boot),
                "202 although logind has not accepted"
            );
            assert!(
                request.on_disk == Some(202) || unsaved,
                "202 before that is on the disk"
            );
        } else {
            assert!(
                !request.reboot || request.handled_in.is_none_or(|first| first == boot) || request.on_disk == Some(rc),
                "{rc} although the host has rebooted"
            );
            let coming = self
                .device
                .logind
                .going
                .as_ref()
                .filter(|going| going.how == How::InTime);
            assert!(
                coming.is_none_or(|going| !going.requests.iter().any(|it| it == response.req_id.as_str())),
                "{rc} although logind is about to reboot the host for it"
            );
        }
    }

    /// The delay lock is let go of in good order.
    pub fn check_release(&mut self) {
        let known = self.device.logind.going.as_ref().is_some_and(|going| going.agent_knows);
        if self.agent_is_unsaved() || !known {
            return;
        }
        for req_id in self.requests_of_reboot() {
            let at_broker = self.truth.requests[&req_id].at_broker;
            assert_eq!(
                at_broker,
                Some(202),
                "the host may go down, and the broker does not have the 202"
            );
        }
    }

    /// The broker has taken a message for the service.
    pub fn broker_has(&mut self, message: &Message) {
        match ToService::parse(&message.topic) {
            Ok((_, ToService::Response)) => {
                let response = Response::parse(&message.payload).expect("the agent's own response");
                let request = self.truth.requests.get_mut(response.req_id.as_str());
                let request = request.expect("only requests are answered");
                let before = request.at_broker.replace(response.rc.0);
                let happened = request.ends_with_manage()
                    && response.rc.0 == 202
                    && request.handled_in.is_some_and(|first| first < message.boot);
                // A service that has had an answer is past this: the request is accepted, or over (a reboot that did
                // not happen, of which a power cut took the record, and which the next boot then takes for done).
                assert!(
                    !happened || before.is_some() || self.truth.managed_in != message.boot,
                    "the first 202 follows the manage that should have completed it"
                );
                let failed = request.reset
                    && response.rc.0 != 202
                    && before == Some(202)
                    && !request.refused_at_broker
                    && request.handled_in.is_some_and(|first| first < message.boot);
                // Over, and on a full disk not written down; then the run was killed, and the next one cannot read the report.
                // It says so, and the service is past it.
                let unknown = response
                    .message
                    .as_deref()
                    .is_some_and(|text| text.starts_with("it is not known"));
                assert!(
                    !failed || unknown || self.truth.managed_in != message.boot,
                    "the 500 follows the manage that has completed it"
                );
                request.refused_at_broker |= response.rc.0 != 202;
            }
            // One that is sent again with DUP may come after the 202 of a later request; the service knows it.
            Ok((_, ToService::Manage)) if self.truth.manages.insert(message.number) => {
                self.truth.managed_in = message.boot;
                for (req_id, request) in &self.truth.requests {
                    assert!(
                        !request.ends_with_manage()
                            || request.handled_in != Some(message.boot)
                            || request.at_broker != Some(202),
                        "the service takes {req_id} for complete"
                    );
                }
            }
            _ => {}
        }
    }

    /// A message went with a session of the broker.
    pub fn lost(&mut self, message: &Message) {
        self.counts.add(Thing::MessageLost);
        self.truth.interrupted = true;
        self.truth.observation.broken = true;
        if ToDevice::parse(&message.topic).is_ok()
            && let Some(req_id) = request_id(&message.payload)
            && let Some(request) = self.truth.requests.get_mut(&req_id)
        {
            request.gone = true;
        }
        if let Ok((_, ToService::Response)) = ToService::parse(&message.topic)
            && let Ok(response) = Response::parse(&message.payload)
            && let Some(request) = self.truth.requests.get_mut(response.req_id.as_str())
        {
            request.lost = true;
        }
        if let Ok((_, ToService::Response)) = ToService::parse(&message.topic)
            && let Ok(response) = Response::parse(&message.payload)
        {
            self.answer_lost(&response);
        }
    }
}
