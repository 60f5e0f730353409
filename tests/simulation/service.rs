//! The shell around the service's brain, which may die between its transaction and its effects, and the operator.

use std::collections::BTreeMap;

use iotdm::protocol::Device;
use iotdm::service::brain::{
    AckToken, Action, Change, DeviceRow, Effect, Event, Incoming, NewRequest, Now, PublishId, Refusal, RefusalKind,
    Reply, RequestRow, RequestStep, Rows, Service, Status, StatusRow,
};

use crate::broker::Who;
use crate::client::Told;
use crate::counts::Thing;
use crate::device::{DEVICE, START};
use crate::world::{Happening, World, note};

/// The service's process and its registry.
pub struct Operator {
    service: Option<Service>,
    deadlines: u64,
    devices: BTreeMap<Device, DeviceRow>,
    requests: BTreeMap<i64, RequestRow>,
    statuses: BTreeMap<(i64, Device), StatusRow>,
    /// The id on the wire of the action itself.
    initiated: BTreeMap<i64, String>,
}

impl Operator {
    pub fn new() -> Self {
        Operator {
            service: None,
            deadlines: 0,
            devices: BTreeMap::new(),
            requests: BTreeMap::new(),
            statuses: BTreeMap::new(),
            initiated: BTreeMap::new(),
        }
    }

    /// The youngest request for such an action, and how the device stands with it.
    pub fn youngest(&self, action: impl Fn(Action) -> bool) -> Option<(&RequestRow, &StatusRow)> {
        let request = self.requests.values().rev().find(|row| action(row.action))?;
        let status = self.statuses.values().find(|row| row.request == request.number)?;
        Some((request, status))
    }

    fn rows(&self) -> Rows {
        Rows {
            devices: self.devices.values().cloned().collect(),
            requests: self.requests.values().cloned().collect(),
            statuses: self.statuses.values().cloned().collect(),
        }
    }

    /// The device as the registry has it.
    pub fn device(&self) -> Option<&DeviceRow> {
        self.devices.values().next()
    }

    /// What an operator's observations are of, as far as the device has agreed.
    pub fn observed(&self) -> Vec<String> {
        let managed = self.devices.values().filter_map(|row| row.managed.as_ref());
        managed.flat_map(|managed| managed.observed.iter().cloned()).collect()
    }

    /// Whether a request could be made now.
    pub fn may_ask(&self) -> bool {
        self.service.is_some() && self.devices.values().any(|row| row.managed.is_some())
    }
}

impl World {
    pub fn service_starts(&mut self) {
        if self.operator.service.is_some() {
            return;
        }
        note!(self, "the service starts");
        let rows = self.operator.rows();
        self.operator.service = Some(Service::restore(self.random.bytes(), rows));
        self.client_starts(Who::Service);
        self.plan_service_deadline();
    }

    /// SIGKILL; started again after a while.
    pub fn service_is_killed(&mut self) {
        if self.operator.service.take().is_none() {
            return;
        }
        note!(self, "the service is killed");
        self.counts.add(Thing::ServiceKilled);
        self.client_dies(Who::Service, true);
        let delay = self.random.skewed(200, 240_000);
        self.at(self.now + delay, Happening::ServiceStarts);
    }

    pub fn service_is_told(&mut self, told: Told) {
        let event = match told {
            // Only with its subscription is the service connected.
            Told::Connected { .. } => return,
            Told::Subscribed { session_present } => Event::Connected { session_present },
            Told::Disconnected => Event::Disconnected,
            Told::Published(id) => Event::Published(PublishId(id)),
            Told::NotPublished(id) => Event::NotPublished(PublishId(id)),
            Told::Message { message, token, .. } => Event::Message(Incoming {
                topic: message.topic.to_string(),
                payload: message.payload.to_vec(),
                retained: false,
                ack: AckToken(token),
            }),
        };
        self.service_handles(event);
    }

    /// An operator asks for a reboot or a factory reset.
    pub fn operator_asks(&mut self, action: &str, timeout: u64) {
        self.service_handles(Event::Create(NewRequest {
            action: action.to_owned(),
            devices: vec![DEVICE.parse().expect("a name")],
            timeout: Some(timeout),
            ..NewRequest::default()
        }));
    }

    pub fn service_deadline(&mut self, number: u64) {
        if number == self.operator.deadlines {
            self.service_handles(Event::Deadline);
        }
    }

    fn service_dies(&mut self) -> bool {
        let dies = !self.quiet && self.random.one_in(self.plan.service_death);
        if dies {
            self.counts.add(Thing::ServiceKilledInStep);
            self.service_is_killed();
        }
        dies
    }

    pub fn service_handles(&mut self, event: Event) {
        let now = Now {
            unix_ms: i64::try_from(START * 1000 + self.now).expect("not that long"),
        };
        let Some(service) = &mut self.operator.service else {
            return;
        };
        let step = service.handle(now, event);
        if self.service_dies() {
            return;
        }
        for change in step.changes {
            self.service_commits(change);
        }
        for effect in step.effects {
            if self.service_dies() {
                return;
            }
            match effect {
                Effect::Publish { id, topic, payload } => {
                    let message = self.message(&topic, &payload);
                    self.publish(Who::Service, id.0, message);
                }
                Effect::Ack(token) => self.acknowledge(Who::Service, token.0),
                Effect::Reply(reply) => {
                    note!(self, "operator: {reply:?}");
                    match reply {
                        Ok(Reply::Written { id: None, .. }) => self.counts.add(Thing::WroteAlone),
                        Err(Refusal {
                            kind: RefusalKind::Conflict,
                            ..
                        }) => self.counts.add(Thing::Conflict),
                        _ => {}
                    }
                }
                Effect::Say(line) => note!(self, "service: {}", line.text),
            }
        }
        self.plan_service_deadline();
    }

    fn service_commits(&mut self, change: Change) {
        match change {
            Change::PutDevice(row) => {
                self.place_is_put(&row);
                self.operator.devices.insert(row.device.clone(), *row);
            }
            Change::DeleteDevice(device) => drop(self.operator.devices.remove(&device)),
            Change::PutRequest(row) => drop(self.operator.requests.insert(row.number, row)),
            Change::PutStatus(row) => {
                let key = (row.request, row.device.clone());
                let before = self.operator.statuses.insert(key, row.clone());
                if matches!(row.step, RequestStep::Initiate | RequestStep::Working) {
                    let req_id = row.req_id.as_str().to_owned();
                    self.operator.initiated.insert(row.request, req_id);
                }
                if before.is_some_and(|before| before.status == Status::InProgress) && row.is_complete() {
                    let action = self.operator.requests[&row.request].action;
                    match self.operator.initiated.get(&row.request).cloned() {
                        Some(req_id) if action.is_firmware() => self.check_firmware_status(&row, &req_id),
                        _ if action.is_firmware() => {}
                        _ if matches!(action, Action::Update | Action::Observe) => self.check_attributes_status(&row),
                        _ => self.check_status(&row),
                    }
                }
            }
            Change::DeleteRequest(number) => {
                self.operator.requests.remove(&number);
                self.operator.statuses.retain(|(request, _), _| *request != number);
            }
            Change::AddLog(entry) => {
                self.log_received(&entry.message);
                self.diagnostic_log_received(&entry);
            }
            Change::AddErrorCode(row) => self.code_received(&row),
            Change::ClearErrorCodes(_) => self.codes_cleared(),
            Change::ClearLogs(_) | Change::DeleteLog(..) => {}
        }
    }

    fn plan_service_deadline(&mut self) {
        self.operator.deadlines += 1;
        let number = self.operator.deadlines;
        let deadline = self.operator.service.as_ref().and_then(Service::next_deadline);
        if let Some(at) = deadline {
            let at = u64::try_from(at).unwrap_or(0).saturating_sub(START * 1000);
            self.at(at, Happening::ServiceDeadline { number });
        }
    }

    /// Long after the last fault every request has ended, and the device is managed.
    pub fn check_operator_settled(&self) {
        let managed = self.operator.devices.values().all(|row| row.managed.is_some());
        assert!(
            managed && !self.operator.devices.is_empty(),
            "the service does not have the device as managed"
        );
        for row in self.operator.statuses.values() {
            self.check_ended(row, self.operator.requests[&row.request].action);
        }
        let rows = self.operator.service.as_ref().expect("the service runs").rows();
        assert_eq!(
            rows,
            self.operator.rows(),
            "what the service knows is what it has written"
        );
    }
}
