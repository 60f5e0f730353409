//! A service's brain with a clock that stands still, and what devices and operators do to it.

use iotdm::protocol::{Address, Device, Rc, ReqId, Response, ToDevice, ToService};
use iotdm::service::brain::{
    AckToken, Change, Effect, Event, Incoming, NewRequest, Now, PublishId, Refusal, Reply, Rows, Service, Status,
    StatusRow, Step, WatchLine,
};
use serde_json::{Value, json};

pub const START_MS: i64 = 1_714_557_600_000;

pub struct Scene {
    pub service: Service,
    pub now_ms: i64,
    next_ack: u64,
    /// Every change so far.
    pub changes: Vec<Change>,
}

/// A request as it was published: its id, topic and payload.
pub type Sent = (PublishId, String, Value);

/// What a message led to.
#[derive(Debug)]
pub struct Outcome {
    pub step: Step,
    pub answers: Vec<(String, Response)>,
    pub lines: Vec<WatchLine>,
}

impl Outcome {
    /// The return code and message of the one answer.
    pub fn rc(&self) -> (u16, Option<&str>) {
        let [(_, answer)] = self.answers.as_slice() else {
            panic!("expected one answer, got {:?}", self.answers)
        };
        (answer.rc.0, answer.message.as_deref())
    }

    pub fn text(&self) -> &str {
        &self.lines.last().expect("something was said").text
    }
}

pub fn device(name: &str) -> Device {
    name.parse().unwrap()
}

pub fn gw() -> Device {
    device("edge/gw-1")
}

impl Scene {
    pub fn new() -> Self {
        Self::restored(Rows::default())
    }

    pub fn restored(rows: Rows) -> Self {
        let mut scene = Self::unconnected(rows, START_MS, 7);
        scene.handle(Event::Connected { session_present: true });
        scene
    }

    /// As after a start at this time with a seed of its own, before the session is up.
    pub fn unconnected(rows: Rows, now_ms: i64, seed: u8) -> Self {
        Scene {
            service: Service::restore([seed; 32], rows),
            now_ms,
            next_ack: 0,
            changes: Vec::new(),
        }
    }

    pub fn handle(&mut self, event: Event) -> Step {
        let step = self.service.handle(Now { unix_ms: self.now_ms }, event);
        self.changes.extend(step.changes.clone());
        step
    }

    pub fn advance(&mut self, seconds: i64) {
        self.now_ms += seconds * 1000;
    }

    /// A device publishes these bytes.
    pub fn raw(&mut self, topic: &str, payload: &[u8]) -> Outcome {
        self.next_ack += 1;
        let ack = AckToken(self.next_ack);
        let step = self.handle(Event::Message(Incoming {
            topic: topic.to_owned(),
            payload: payload.to_vec(),
            retained: false,
            ack,
        }));
        assert_eq!(
            step.effects
                .iter()
                .filter(|effect| **effect == Effect::Ack(ack))
                .count(),
            1,
            "every message is acknowledged once: {step:?}"
        );
        outcome(step)
    }

    pub fn say(&mut self, device: &Device, kind: ToService, payload: Value) -> Outcome {
        let topic = kind.topic(&Address::Device(device.clone()));
        self.raw(&topic, payload.to_string().as_bytes())
    }

    pub fn manage(&mut self, device: &Device, req_id: &str) -> Outcome {
        let d = json!({"lifetime": 86400, "supports": {"deviceActions": true}, "deviceInfo": {"fwVersion": "1.0"}});
        self.say(device, ToService::Manage, json!({"d": d, "reqId": req_id}))
    }

    /// Becomes managed and takes firmware actions as well.
    pub fn manage_firmware(&mut self, device: &Device, req_id: &str) -> Outcome {
        let supports = json!({"deviceActions": true, "firmwareActions": true});
        let d = json!({"lifetime": 86400, "supports": supports, "deviceInfo": {"fwVersion": "1.0"}});
        self.say(device, ToService::Manage, json!({"d": d, "reqId": req_id}))
    }

    pub fn respond(&mut self, device: &Device, req_id: &ReqId, rc: u16, message: &str) -> Outcome {
        let response = Response::new(req_id.clone(), Rc(rc)).message(message);
        let topic = ToService::Response.topic(&Address::Device(device.clone()));
        self.raw(&topic, &response.to_payload())
    }

    pub fn create(&mut self, request: NewRequest) -> (Result<Reply, Refusal>, Vec<Sent>) {
        let step = self.handle(Event::Create(request));
        let sent = published(&step);
        let mut replies = step.effects.into_iter().filter_map(|effect| match effect {
            Effect::Reply(reply) => Some(reply),
            _ => None,
        });
        let reply = replies.next().expect("a call is answered");
        assert!(replies.next().is_none(), "a call is answered once");
        (reply, sent)
    }

    /// Asks for a reboot of these devices and returns the request's id and what was published.
    pub fn reboot(&mut self, devices: &[Device]) -> (String, Vec<Sent>) {
        let (reply, sent) = self.create(reboot_of(devices));
        match reply {
            Ok(Reply::Created { id }) => (id, sent),
            other => panic!("{other:?}"),
        }
    }

    pub fn status(&self, id: &str, device: &Device) -> &StatusRow {
        let request = self.service.request(id).expect("the request is kept");
        self.service.status(request, device).expect("the device is in it")
    }

    pub fn stands(&self, id: &str, device: &Device) -> (Status, bool) {
        let row = self.status(id, device);
        (row.status, row.is_complete())
    }
}

pub fn reboot_of(devices: &[Device]) -> NewRequest {
    NewRequest {
        action: "device/reboot".into(),
        devices: devices.to_vec(),
        ..NewRequest::default()
    }
}

/// A firmware action with these parameters.
pub fn firmware(action: &str, devices: &[Device], parameters: Value) -> NewRequest {
    NewRequest {
        action: format!("firmware/{action}"),
        devices: devices.to_vec(),
        parameters: parameters.as_array().unwrap().clone(),
        ..NewRequest::default()
    }
}

/// The requests among what is published.
pub fn published(step: &Step) -> Vec<Sent> {
    let requests = step.effects.iter().filter_map(|effect| match effect {
        Effect::Publish { id, topic, payload } => match ToDevice::parse(topic).unwrap() {
            (_, ToDevice::Response) => None,
            _ => Some((*id, topic.clone(), serde_json::from_slice(payload).unwrap())),
        },
        _ => None,
    });
    requests.collect()
}

pub fn outcome(step: Step) -> Outcome {
    let mut answers = Vec::new();
    let mut lines = Vec::new();
    for effect in &step.effects {
        match effect {
            Effect::Publish { topic, payload, .. } => {
                if let (Address::Device(device), ToDevice::Response) = ToDevice::parse(topic).unwrap() {
                    answers.push((device.to_string(), Response::parse(payload).unwrap()));
                }
            }
            Effect::Say(line) => lines.push(line.clone()),
            _ => {}
        }
    }
    Outcome { step, answers, lines }
}
