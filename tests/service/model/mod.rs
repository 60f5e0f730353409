//! The device model in the brain: what is written, where a device is, what is observed.

mod location;
mod observing;
mod writing;

use iotdm::protocol::model::FieldValue;
use iotdm::protocol::{ReqId, ToService};
use iotdm::service::brain::{DeviceRow, Effect, Event, NewRequest, Refusal, Reply, Write};
use serde_json::{Value, json};

use crate::scene::{Outcome, Scene, Sent, gw, published};

pub fn scene() -> Scene {
    let mut scene = Scene::new();
    let d = json!({"metadata": {"site": "south", "n": 1}, "deviceInfo": {"fwVersion": "1.0", "rack": "7"},
        "supports": {"deviceActions": true, "firmwareActions": true}});
    scene.say(&gw(), ToService::Manage, json!({"d": d, "reqId": "m1"}));
    scene
}

pub fn row(scene: &Scene) -> &DeviceRow {
    scene.service.device(&gw()).unwrap()
}

pub fn metadata(scene: &Scene) -> Value {
    row(scene).metadata.clone().into()
}

pub fn location(scene: &Scene) -> Value {
    row(scene).location.clone().map_or(Value::Null, Value::Object)
}

/// What an operator's call leads to, and what is published.
pub fn call(scene: &mut Scene, event: Event) -> (Result<Reply, Refusal>, Vec<Sent>) {
    let step = scene.handle(event);
    let reply = step.effects.iter().find_map(|effect| match effect {
        Effect::Reply(reply) => Some(reply.clone()),
        _ => None,
    });
    (reply.unwrap(), published(&step))
}

pub fn write(values: &Value) -> Event {
    let values = values.as_object().unwrap().iter();
    Event::Write(Write {
        device: gw(),
        values: values
            .map(|(field, value)| FieldValue {
                field: field.clone(),
                value: value.clone(),
            })
            .collect(),
        timeout: None,
    })
}

/// Writes to a managed device: the request's id and what the device is sent.
pub fn written(scene: &mut Scene, values: Value) -> (String, Sent) {
    match call(scene, write(&values)) {
        (Ok(Reply::Written { id: Some(id), .. }), sent) => (id, sent.into_iter().next().unwrap()),
        other => panic!("{other:?}"),
    }
}

pub fn req_id(sent: &Sent) -> ReqId {
    ReqId::new(sent.2["reqId"].as_str().unwrap()).unwrap()
}

pub fn observe(fields: &[&str]) -> NewRequest {
    let parameters = fields.iter().map(|field| json!({"name": "field", "value": field}));
    NewRequest {
        action: "device/observe".into(),
        devices: vec![gw()],
        parameters: parameters.collect(),
        ..NewRequest::default()
    }
}

/// An observation that the device has agreed to.
pub fn observed(scene: &mut Scene, fields: &[&str]) -> String {
    let (reply, sent) = scene.create(observe(fields));
    let Ok(Reply::Created { id }) = reply else {
        panic!("{reply:?}")
    };
    scene.respond(&gw(), &req_id(&sent[0]), 200, "");
    id
}

pub fn notify(scene: &mut Scene, field: &str, value: Value, req_id: &str) -> Outcome {
    let d = json!({"fields": [{"field": field, "value": value}]});
    scene.say(&gw(), ToService::Notify, json!({"d": d, "reqId": req_id}))
}

pub fn locate(scene: &mut Scene, d: Value, req_id: &str) -> Outcome {
    scene.say(&gw(), ToService::Location, json!({"d": d, "reqId": req_id}))
}
