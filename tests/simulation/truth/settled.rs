//! How requests end, and how everything stands long after the last fault.

use iotdm::service::brain::{Action, Status, StatusRow};

use super::Request;
use super::firmware::End;
use crate::broker::Who;
use crate::counts::Thing;
use crate::device::START;
use crate::world::{World, note};

impl World {
    /// The service takes a request for complete.
    pub fn check_status(&mut self, row: &StatusRow) {
        note!(self, "service: {} is {:?}, {:?}", row.req_id, row.status, row.message);
        match row.status {
            Status::Success => {
                self.counts.add(Thing::Success);
                let request = self.truth.requests.get(row.req_id.as_str());
                let rebooted = |request: &Request| {
                    request.handled_in.is_some_and(|first| match request.reset {
                        true => self.has_reset(first),
                        false => first < self.device.boot,
                    })
                };
                assert!(
                    request.is_some_and(|request| rebooted(request) || request.lost),
                    "success without what was asked for"
                );
            }
            Status::Failure => self.counts.add(Thing::Failure),
            Status::TimedOut => self.counts.add(Thing::TimedOut),
            Status::InProgress => {}
        }
    }

    /// The service takes a firmware action for complete; `req_id` is the id that the action itself had on the wire.
    pub fn check_firmware_status(&mut self, row: &StatusRow, req_id: &str) {
        note!(self, "service: {req_id} is {:?}, {:?}", row.status, row.message);
        let end = self.end_of(req_id);
        let requested = u64::try_from(row.requested_ms)
            .unwrap_or(0)
            .saturating_sub(START * 1000);
        let meddled = self.truth.firmware.meddled.is_some_and(|at| at >= requested);
        let told = row.message.as_deref().unwrap_or_default();
        match row.status {
            Status::Success => {
                self.counts.add(Thing::FirmwareDone);
                assert!(
                    meddled || end == Some(End::Success),
                    "the service has a success that is none"
                );
            }
            Status::Failure => {
                self.counts.add(Thing::FirmwareFailed);
                if told.contains("updateStatus") {
                    assert!(
                        meddled || end == Some(End::Failure),
                        "the service has a failure that is none"
                    );
                }
            }
            Status::TimedOut | Status::InProgress => {}
        }
    }

    /// How a request has ended.
    pub fn check_ended(&self, row: &StatusRow, action: Action) {
        if action == Action::Observe {
            // It goes on, or was lost on its way, for as long as it was asked for.
            return;
        }
        assert!(row.is_complete(), "still in progress: {row:?}");
        if action.is_firmware() {
            return;
        }
        let request = self.truth.requests.get(row.req_id.as_str());
        let accepted = request.is_some_and(|request| request.answered == Some(202) && !request.refused);
        let overridden = row
            .message
            .as_deref()
            .is_some_and(|message| message.contains("overrides"));
        if accepted && !overridden && !self.truth.interrupted {
            assert_ne!(row.status, Status::Failure, "it was accepted and has happened: {row:?}");
        }
    }

    /// Long after the last fault.
    pub fn check_settled(&mut self) {
        let process = self.device.process.as_ref().expect("the agent runs");
        let status = process.agent.status();
        assert!(
            status.managed && status.subscribed,
            "not managed in the end: {status:?}"
        );
        assert!(
            !status.unsaved && status.busy == "none",
            "not settled in the end: {status:?}"
        );
        assert_eq!((status.owed, status.answers_owed), (0, 0), "something is still owed");
        assert_eq!(*process.agent.durable(), *self.device.disk.durable);
        assert!(self.device.disk.outbox_is_empty(), "records are left in the outbox");
        for client in &self.clients {
            assert!(client.is_idle(), "something waits in a session: {client:?}");
        }
        for who in [Who::Agent, Who::Service] {
            let session = self.broker.session(who);
            assert!(session.queue.is_empty(), "not acknowledged: {session:?}");
        }
        self.check_operator_settled();
        self.check_firmware_settled();
        self.check_reset_settled();
        self.check_diagnostics_settled();
        self.check_model_settled();
        let (written, received) = (self.truth.logs_written, self.truth.logs_received);
        assert!(
            received >= written,
            "{written} log entries were written, {received} received"
        );
        for (req_id, request) in &self.truth.requests {
            assert!(
                request.taken || !request.acknowledged,
                "{req_id} was acknowledged, and nothing else"
            );
            let answered = request.answered.is_some() && request.answered == request.at_broker;
            assert!(
                answered || request.forgotten || request.gone,
                "{req_id} was not answered: {request:?}"
            );
            if let Some(first) = request.handled_in.filter(|_| request.ends_with_manage()) {
                assert!(
                    request.answered == request.on_disk || request.forgotten,
                    "{req_id}: {request:?}"
                );
                if request.answered == Some(202) {
                    assert!(first < self.device.boot, "{req_id}: 202, and no reboot");
                }
            }
        }
    }
}
