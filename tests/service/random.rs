//! Random events for the brain: well-formed messages of a few devices, damaged ones, noise, and operators.

use std::collections::BTreeSet;

use iotdm::protocol::diagnostics::LogEntry;
use iotdm::protocol::model::FieldValue;
use iotdm::protocol::{Address, Device, ReqId, ToService};
use iotdm::service::brain::{
    Action, Change, Diagnose, Diagnosis, Effect, Event, NewRequest, PublishId, RequestStep, Service, StatusRow, Write,
};
use proptest::prelude::*;
use serde_json::json;

use crate::scene::{Scene, device, published};

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Act {
    /// A device publishes a well-formed message.
    Say(usize, ToService, u8),
    /// A device answers one of the requests that it was sent.
    Respond(usize, usize, u16),
    /// A device answers what it was last asked as it should.
    Agree(usize),
    /// A well-formed message with one byte changed, or cut.
    Damaged(usize, ToService, usize, u8, bool),
    /// Anything on any topic.
    Noise(String, Vec<u8>),
    /// An operator asks for an action on some devices.
    Create(&'static str, Vec<usize>, u64, bool, bool),
    /// An operator writes attributes of a device.
    Write(usize, u8),
    /// An operator observes a field of a device.
    Observe(usize, usize),
    /// An operator changes logs or error codes of a device.
    Diagnose(usize, u8),
    /// An operator has a device forgotten.
    Forget(usize),
    Cancel(usize),
    Delete(usize),
    Published(u64),
    NotPublished(u64),
    Connected(bool),
    Disconnected,
    /// Seconds pass, and whatever is due is handled.
    Wait(u32),
}

/// What is observed; the last is nothing that can be.
const FIELDS: [&str; 5] = ["mgmt.firmware", "location", "metadata", "metadata.n", "colour"];

fn devices() -> Vec<Device> {
    ["edge/gw-1", "edge/gw-2", "other/gw-1"].map(device).to_vec()
}

fn kinds() -> impl Strategy<Value = ToService> {
    prop::sample::select(ToService::ALL.to_vec())
}

pub fn acts(count: usize) -> impl Strategy<Value = Vec<Act>> {
    let noise_topic = prop_oneof![
        Just("iotdevice-1/type/edge/id/gw-1/mgmt/manage".to_owned()),
        Just("iotdevice-1/type/edge/id/gw-1/response".to_owned()),
        Just("iotdevice-1/type/edge/id/gw-1/x".to_owned()),
        Just("iotdevice-1/mgmt/manage".to_owned()),
        ".{0,40}",
    ];
    let actions = prop::sample::select(vec![
        "device/reboot",
        "device/factoryReset",
        "firmware/download",
        "firmware/update",
        "a/b",
        "",
    ]);
    let act = prop_oneof![
        8 => (0..3usize, kinds(), any::<u8>()).prop_map(|(who, kind, n)| Act::Say(who, kind, n)),
        4 => (0..3usize, 0..20usize, prop::sample::select(vec![202u16, 202, 202, 200, 500, 501, 404]))
            .prop_map(|(who, which, rc)| Act::Respond(who, which, rc)),
        6 => (0..3usize).prop_map(Act::Agree),
        2 => (0..3usize, kinds(), any::<usize>(), any::<u8>(), any::<bool>())
            .prop_map(|(who, kind, at, byte, cut)| Act::Damaged(who, kind, at, byte, cut)),
        1 => (noise_topic, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(topic, bytes)| Act::Noise(topic, bytes)),
        4 => (actions, prop::collection::vec(0..3usize, 0..3), prop::sample::select(vec![0u64, 60, 3600, 7200]), any::<bool>(), any::<bool>())
            .prop_map(|(action, who, timeout, described, overrides)| Act::Create(action, who, timeout, described, overrides)),
        2 => (0..3usize, any::<u8>()).prop_map(|(who, n)| Act::Write(who, n)),
        2 => (0..3usize, 0..FIELDS.len()).prop_map(|(who, field)| Act::Observe(who, field)),
        1 => (0..3usize, any::<u8>()).prop_map(|(who, n)| Act::Diagnose(who, n)),
        1 => (0..3usize).prop_map(Act::Forget),
        1 => (0..8usize).prop_map(Act::Cancel),
        1 => (0..8usize).prop_map(Act::Delete),
        3 => (0..40u64).prop_map(Act::Published),
        1 => (0..40u64).prop_map(Act::NotPublished),
        1 => any::<bool>().prop_map(Act::Connected),
        1 => Just(Act::Disconnected),
        2 => prop::sample::select(vec![0u32, 1, 60, 3600, 90_000]).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, count)
}

/// A well-formed message; every eighth has no request id.
pub fn well_formed(kind: ToService, n: u8) -> Vec<u8> {
    let d = match kind {
        ToService::Manage if n.is_multiple_of(5) => json!({"lifetime": u32::from(n) * 100}),
        ToService::Manage => json!({
            "lifetime": 3600 + u32::from(n),
            "supports": {"deviceActions": !n.is_multiple_of(3), "firmwareActions": true, "b": true},
            "metadata": {"n": f64::from(n) / 3.0, "s": "\u{e9}"},
            "deviceInfo": {"fwVersion": n.to_string()},
        }),
        ToService::Location => json!({"latitude": f64::from(n) / 2.9, "longitude": f64::from(n) / -1.7}),
        ToService::AddErrorCode => json!({"errorCode": n}),
        ToService::AddLog => json!({"message": "m", "severity": n % 4, "data": "aGk="}),
        ToService::Notify => match n % 4 {
            0 => json!({"fields": [{"field": "location", "value": {"latitude": n / 3}}]}),
            1 => json!({"fields": [{"field": "metadata.n", "value": n}]}),
            _ => json!({"fields": [{"field": "mgmt.firmware",
                "value": {"state": n % 3, "updateStatus": n % 7}}]}),
        },
        _ => json!({}),
    };
    let mut message = json!({"d": d});
    if !n.is_multiple_of(8) {
        message["reqId"] = format!("r{}", n / 2).into();
    }
    if kind == ToService::Response {
        message["rc"] = 202.into();
    }
    message.to_string().into_bytes()
}

/// The request ids that a device has seen.
fn sent_to(service: &Service, device: &Device) -> Vec<ReqId> {
    let rows = service.rows().statuses;
    rows.into_iter()
        .filter(|row| row.device == *device)
        .map(|row| row.req_id)
        .collect()
}

fn request_id(service: &Service, which: usize) -> String {
    let requests = service.rows().requests;
    requests.get(which).map_or("none".to_owned(), |row| row.id.clone())
}

/// A device has one firmware action and one update in progress at most, and is observed for what somebody wants to know.
fn check_rows(service: &Service) {
    let rows = service.rows();
    let firmware = |row: &&StatusRow| {
        let request = rows.requests.iter().find(|request| request.number == row.request);
        request.unwrap().action.is_firmware() && !row.is_complete()
    };
    for device in &rows.devices {
        let open: Vec<&StatusRow> = rows
            .statuses
            .iter()
            .filter(|row| row.device == device.device)
            .filter(firmware)
            .collect();
        assert!(open.len() <= 1, "{open:?}");
        let working = open.first().is_some_and(|row| row.step >= RequestStep::Initiate);
        let observed = device.managed.as_ref().map(|managed| managed.observed.clone());
        let mut wanted: BTreeSet<String> = working.then(|| FIELDS[0].to_owned()).into_iter().collect();
        let mut updates = 0;
        for row in rows
            .statuses
            .iter()
            .filter(|row| row.device == device.device && !row.is_complete())
        {
            let request = rows
                .requests
                .iter()
                .find(|request| request.number == row.request)
                .unwrap();
            updates += usize::from(request.action == Action::Update);
            if request.action == Action::Observe && row.step == RequestStep::Working {
                wanted.insert(request.parameters[0]["value"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(observed.unwrap_or_default(), wanted, "{:?}", device.device);
        assert!(updates <= 1);
    }
}

/// Lets it happen, and checks what must hold after every step.
pub fn perform(scene: &mut Scene, act: &Act) {
    act_out(scene, act);
    check_rows(&scene.service);
}

fn act_out(scene: &mut Scene, act: &Act) {
    let devices = devices();
    let topic = |who: usize, kind: ToService| kind.topic(&Address::Device(devices[who].clone()));
    match act {
        Act::Say(who, kind, n) => {
            let payload = well_formed(*kind, *n);
            let outcome = scene.raw(&topic(*who, *kind), &payload);
            let wanted = usize::from(*kind != ToService::Response && !n.is_multiple_of(8));
            assert_eq!(outcome.answers.len(), wanted, "{outcome:?}");
        }
        Act::Respond(who, which, rc) => {
            if let Some(req_id) = sent_to(&scene.service, &devices[*who]).get(*which) {
                assert!(scene.respond(&devices[*who], req_id, *rc, "").answers.is_empty());
            }
        }
        Act::Agree(who) => {
            let rows = scene.service.rows().statuses;
            let open = rows
                .into_iter()
                .find(|row| row.device == devices[*who] && !row.is_complete());
            if let Some(row) = open {
                let rc = match row.step {
                    RequestStep::Update => 204,
                    RequestStep::Observe | RequestStep::Cancel => 200,
                    RequestStep::Initiate | RequestStep::Working => 202,
                };
                scene.respond(&row.device, &row.req_id, rc, "");
            }
        }
        Act::Damaged(who, kind, at, byte, cut) => {
            let mut payload = well_formed(*kind, *byte);
            let at = at % payload.len();
            if *cut {
                payload.truncate(at);
            } else {
                payload[at] = *byte;
            }
            assert!(scene.raw(&topic(*who, *kind), &payload).answers.len() <= 1);
        }
        Act::Noise(topic, payload) => assert!(scene.raw(topic, payload).answers.len() <= 1),
        Act::Create(action, who, timeout, described, overrides) => {
            let described = described.then(|| json!({"name": "uri", "value": "https://fw.example.com/2"}));
            let request = NewRequest {
                parameters: described.into_iter().collect(),
                overrides: *overrides,
                action: (*action).to_owned(),
                devices: who.iter().map(|who| devices[*who].clone()).collect(),
                timeout: (*timeout > 0).then_some(*timeout),
            };
            // Refused or not: it is answered once, which create() checks.
            let _ = scene.create(request);
        }
        Act::Write(who, n) => {
            let value = match n % 6 {
                0 => ("location", json!({"latitude": n / 3, "longitude": 1})),
                1 => ("deviceInfo", json!({"description": n.to_string()})),
                2 => ("metadata", json!({"n": n})),
                3 => ("metadata.n", json!(n)),
                4 => ("metadata.n", json!(null)),
                _ => ("metadata", json!(n)),
            };
            let step = scene.handle(Event::Write(Write {
                device: devices[*who].clone(),
                values: vec![FieldValue {
                    field: value.0.to_owned(),
                    value: value.1,
                }],
                timeout: n.is_multiple_of(3).then_some(60),
            }));
            let replies = step.effects.iter().filter(|effect| matches!(effect, Effect::Reply(_)));
            assert_eq!(replies.count(), 1, "a call is answered once");
        }
        Act::Diagnose(who, n) => {
            let change = match n % 5 {
                0 => Diagnosis::AddLog(LogEntry::parse("", json!({"message": "m", "severity": n % 3})).unwrap()),
                1 => Diagnosis::DeleteLog(i64::from(*n)),
                2 => Diagnosis::ClearLogs,
                3 => Diagnosis::AddErrorCode(i64::from(*n), None),
                _ => Diagnosis::ClearErrorCodes,
            };
            let device = devices[*who].clone();
            let step = scene.handle(Event::Diagnose(Diagnose { device, change }));
            let replies = step.effects.iter().filter(|effect| matches!(effect, Effect::Reply(_)));
            assert_eq!(replies.count(), 1, "a call is answered once");
        }
        Act::Observe(who, field) => {
            let _ = scene.create(NewRequest {
                action: "device/observe".into(),
                devices: vec![devices[*who].clone()],
                parameters: vec![json!({"name": "field", "value": FIELDS[*field]})],
                ..NewRequest::default()
            });
        }
        Act::Forget(who) => {
            let device = devices[*who].clone();
            let step = scene.handle(Event::Forget { device });
            let replies = step.effects.iter().filter(|effect| matches!(effect, Effect::Reply(_)));
            assert_eq!(replies.count(), 1, "a call is answered once");
        }
        Act::Cancel(which) => {
            let id = request_id(&scene.service, *which);
            scene.handle(Event::Cancel { id });
        }
        Act::Delete(which) => {
            let id = request_id(&scene.service, *which);
            scene.handle(Event::Delete { id });
        }
        Act::Published(id) if id % 10 == 9 => {
            scene.handle(Event::PublishRefused(PublishId(*id)));
        }
        Act::Published(id) => {
            scene.handle(Event::Published(PublishId(*id)));
        }
        Act::NotPublished(id) => {
            scene.handle(Event::NotPublished(PublishId(*id)));
        }
        Act::Connected(session_present) => {
            let step = scene.handle(Event::Connected {
                session_present: *session_present,
            });
            let sent = published(&step);
            let open = scene.service.rows().statuses;
            let open = open
                .iter()
                .filter(|row| !row.is_complete() && row.sent_ms.is_none())
                .count();
            if *session_present {
                assert!(sent.len() <= open);
            } else {
                let wanted = open.min(iotdm::service::brain::WINDOW);
                assert_eq!(sent.len(), wanted, "everything without a PUBACK goes out again");
            }
        }
        Act::Disconnected => {
            assert!(published(&scene.handle(Event::Disconnected)).is_empty());
        }
        Act::Wait(seconds) => {
            scene.advance(i64::from(*seconds));
            scene.handle(Event::Deadline);
            assert!(scene.service.next_deadline().is_none_or(|at| at > scene.now_ms));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_events_make_the_brain_panic_and_a_request_id_is_answered_at_most_once(acts in acts(80)) {
        let mut scene = Scene::new();
        for act in &acts {
            perform(&mut scene, act);
        }
        // What the changes say is what the brain knows.
        let mut replayed = std::collections::BTreeMap::new();
        for change in &scene.changes {
            match change {
                Change::PutDevice(row) => drop(replayed.insert(row.device.clone(), (**row).clone())),
                Change::DeleteDevice(device) => drop(replayed.remove(device)),
                _ => {}
            }
        }
        let devices = scene.service.rows().devices;
        prop_assert_eq!(replayed.into_values().collect::<Vec<_>>(), devices);
    }

    #[test]
    fn any_bytes_on_any_topic_are_acknowledged_and_answered_at_most_once(
        topic in ".{0,60}",
        kind in prop::sample::select(ToService::ALL.to_vec()),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in ".{0,200}",
    ) {
        let mut scene = Scene::new();
        let known = kind.topic(&Address::Device(device("edge/gw-1")));
        for topic in [topic.as_str(), &known] {
            for payload in [&bytes[..], text.as_bytes()] {
                let outcome = scene.raw(topic, payload);
                prop_assert!(outcome.answers.len() <= 1);
            }
        }
    }
}
