//! The device model in the brain: what is written, what is observed, and where a device is.

use iotdm::protocol::model::FieldValue;
use iotdm::protocol::{ReqId, ToService};
use iotdm::service::brain::{
    Change, DEFAULT_OBSERVE_TIMEOUT, DEFAULT_UPDATE_TIMEOUT, DeviceRow, Effect, Event, NewRequest, Refusal,
    RefusalKind, Reply, RequestStep, Status, Write,
};
use serde_json::{Value, json};

use crate::scene::{Outcome, START_MS, Scene, Sent, device, firmware, gw, outcome, published, reboot_of};

fn scene() -> Scene {
    let mut scene = Scene::new();
    let d = json!({"metadata": {"site": "south", "n": 1}, "deviceInfo": {"fwVersion": "1.0", "rack": "7"},
        "supports": {"deviceActions": true, "firmwareActions": true}});
    scene.say(&gw(), ToService::Manage, json!({"d": d, "reqId": "m1"}));
    scene
}

fn row(scene: &Scene) -> &DeviceRow {
    scene.service.device(&gw()).unwrap()
}

fn metadata(scene: &Scene) -> Value {
    row(scene).metadata.clone().into()
}

fn location(scene: &Scene) -> Value {
    row(scene).location.clone().map_or(Value::Null, Value::Object)
}

/// What an operator's call leads to, and what is published.
fn call(scene: &mut Scene, event: Event) -> (Result<Reply, Refusal>, Vec<Sent>) {
    let step = scene.handle(event);
    let reply = step.effects.iter().find_map(|effect| match effect {
        Effect::Reply(reply) => Some(reply.clone()),
        _ => None,
    });
    (reply.unwrap(), published(&step))
}

fn write(values: &Value) -> Event {
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
fn written(scene: &mut Scene, values: Value) -> (String, Sent) {
    match call(scene, write(&values)) {
        (Ok(Reply::Written { id: Some(id), .. }), sent) => (id, sent.into_iter().next().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn req_id(sent: &Sent) -> ReqId {
    ReqId::new(sent.2["reqId"].as_str().unwrap()).unwrap()
}

fn observe(fields: &[&str]) -> NewRequest {
    let parameters = fields.iter().map(|field| json!({"name": "field", "value": field}));
    NewRequest {
        action: "device/observe".into(),
        devices: vec![gw()],
        parameters: parameters.collect(),
        ..NewRequest::default()
    }
}

/// An observation that the device has agreed to.
fn observed(scene: &mut Scene, fields: &[&str]) -> String {
    let (reply, sent) = scene.create(observe(fields));
    let Ok(Reply::Created { id }) = reply else {
        panic!("{reply:?}")
    };
    scene.respond(&gw(), &req_id(&sent[0]), 200, "");
    id
}

fn notify(scene: &mut Scene, field: &str, value: Value, req_id: &str) -> Outcome {
    let d = json!({"fields": [{"field": field, "value": value}]});
    scene.say(&gw(), ToService::Notify, json!({"d": d, "reqId": req_id}))
}

fn locate(scene: &mut Scene, d: Value, req_id: &str) -> Outcome {
    scene.say(&gw(), ToService::Location, json!({"d": d, "reqId": req_id}))
}

#[test]
fn what_is_written_is_sent_whole_in_one_update_and_counts_when_it_is_answered_204() {
    let mut scene = scene();
    let values = json!({"deviceInfo": {"fwVersion": "1.0", "rack": "7", "description": "at the gate", "model": ""},
        "metadata": {"site": "north"}});
    let (id, (_, topic, payload)) = written(&mut scene, values);
    assert_eq!(topic, "iotdm-1/type/edge/id/gw-1/device/update");
    assert_eq!(
        payload["d"],
        json!({"fields": [
            {"field": "deviceInfo", "value": {"fwVersion": "1.0", "description": "at the gate", "rack": "7"}},
            {"field": "metadata", "value": {"site": "north"}}]})
    );
    assert_eq!(metadata(&scene), json!({"site": "south", "n": 1}), "not so yet");
    scene.advance(2);
    let said = scene.respond(&gw(), &ReqId::new(payload["reqId"].as_str().unwrap()).unwrap(), 204, "");
    assert_eq!(said.text(), "has taken over deviceInfo, metadata (204)");
    assert_eq!(metadata(&scene), json!({"site": "north"}));
    assert_eq!(
        Value::Object(row(&scene).device_info.clone()),
        json!({"fwVersion": "1.0", "description": "at the gate", "rack": "7"})
    );
    let status = scene.status(&id, &gw());
    assert_eq!(
        (status.status, status.rc, status.completed_ms),
        (Status::Success, Some(204), Some(START_MS + 2000))
    );
}

#[test]
fn any_other_answer_is_a_refusal_with_its_reason_and_changes_nothing() {
    for (rc, message, d, kept) in [
        (
            400,
            "d.fields[0].value: too deep",
            Value::Null,
            "d.fields[0].value: too deep",
        ),
        (
            404,
            "",
            json!({"fields": ["metadata"]}),
            "the device answered 404 for metadata",
        ),
        (
            404,
            "",
            json!({"fields": [{"field": "metadata"}]}),
            "the device answered 404 for metadata",
        ),
        (404, "", json!("nonsense"), "the device answered 404 to device/update"),
        (409, "busy", Value::Null, "busy"),
        (501, "metadata", Value::Null, "metadata"),
        (200, "", Value::Null, "the device answered 200 to device/update"),
    ] {
        let mut scene = scene();
        let (id, sent) = written(&mut scene, json!({"metadata": {"site": "north"}}));
        let answer = json!({"rc": rc, "message": message, "d": d, "reqId": sent.2["reqId"]});
        let said = scene.say(&gw(), ToService::Response, answer);
        assert!(
            said.text().starts_with(&format!("refused what was written ({rc})")),
            "{}",
            said.text()
        );
        let status = scene.status(&id, &gw());
        assert_eq!(
            (status.status, status.rc, status.message.as_deref()),
            (Status::Failure, Some(rc), Some(kept))
        );
        assert_eq!(metadata(&scene), json!({"site": "south", "n": 1}));
        scene.respond(&gw(), &req_id(&sent), 204, "");
        assert_eq!(metadata(&scene), json!({"site": "south", "n": 1}), "it has refused");
    }
}

#[test]
fn svc_03_an_update_times_out_and_a_device_that_takes_it_over_later_is_believed_once() {
    let mut scene = scene();
    let (id, sent) = written(&mut scene, json!({"metadata": {"site": "north"}}));
    scene.handle(Event::Published(sent.0));
    let limit = i64::try_from(DEFAULT_UPDATE_TIMEOUT).unwrap();
    assert_eq!(scene.service.next_deadline(), Some(START_MS + limit * 1000));
    scene.advance(limit);
    let said = outcome(scene.handle(Event::Deadline));
    assert!(
        said.text().starts_with("timed out: the device did not answer in time"),
        "{}",
        said.text()
    );
    let said = scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(said.text(), "has taken over after all what device/update wrote (204)");
    assert_eq!(metadata(&scene), json!({"site": "north"}));
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::TimedOut, true),
        "the operator was told so"
    );
    let newer = json!({"metadata": {"site": "east"}});
    scene.say(&gw(), ToService::Manage, json!({"d": newer, "reqId": "m2"}));
    scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(
        metadata(&scene),
        json!({"site": "east"}),
        "the broker delivers it again"
    );
}

#[test]
fn a_device_that_is_not_managed_is_not_asked_and_the_registry_alone_is_written() {
    let mut scene = scene();
    scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"}));
    let (reply, sent) = call(
        &mut scene,
        write(&json!({"metadata": {}, "location": {"latitude": 1, "longitude": 2}})),
    );
    let Ok(Reply::Written { id: None, row: shown }) = reply else {
        panic!("{reply:?}")
    };
    assert!(sent.is_empty());
    assert_eq!(*shown, *row(&scene));
    assert_eq!(metadata(&scene), json!({}));
    assert_eq!(location(&scene)["latitude"], 1.0);
    assert!(
        matches!(scene.changes.last(), Some(Change::PutDevice(_))),
        "and it is in the registry"
    );
}

#[test]
fn an_update_that_was_not_sent_before_the_unmanage_is_never_sent() {
    let mut scene = scene();
    scene.handle(Event::Disconnected);
    let (reply, sent) = call(&mut scene, write(&json!({"metadata": {}})));
    assert!(matches!(reply, Ok(Reply::Written { id: Some(_), .. })) && sent.is_empty());
    scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"}));
    assert!(published(&scene.handle(Event::Connected { session_present: false })).is_empty());
}

#[test]
fn what_cannot_be_written_is_refused_with_its_name_and_nothing_is_sent() {
    let deep = (0..8).fold(json!(1), |inner, _| json!({"a": inner}));
    let kib = |n: usize| "x".repeat(n * 1024);
    for (values, said) in [
        (json!({}), "body: has nothing to write"),
        (
            json!({"mgmt.firmware": {"state": 2}}),
            "mgmt.firmware: is written by firmware actions alone",
        ),
        (json!({"metadata.site": "north"}), "metadata.site: cannot be written"),
        (json!({"status": {}}), "status: cannot be written"),
        (json!({"metadata": []}), "metadata: must be an object"),
        (
            json!({"metadata": {"a": deep}}),
            "metadata: is nested 9 levels deep; at most 8",
        ),
        (
            json!({"metadata": {"a": kib(64)}}),
            "metadata: has 65544 bytes; at most 65536",
        ),
        (
            json!({"deviceInfo": {"description": 1}}),
            "deviceInfo.description: is a number; it must be a string",
        ),
        (
            json!({"deviceInfo": {"descripton": "x"}}),
            "deviceInfo.descripton: is unknown; there are serialNumber, ",
        ),
        (
            json!({"deviceInfo": {"description": kib(64)}}),
            "deviceInfo: has 65554 bytes; at most 65536",
        ),
        (json!({"location": {"latitude": 1}}), "location.longitude: is missing"),
        (
            json!({"location": {"latitude": 91, "longitude": 0}}),
            "location.latitude: is 91; it must be between -90 and 90",
        ),
        (
            json!({"location": {"latitude": "1", "longitude": 0}}),
            "location.latitude: is a string",
        ),
        (
            json!({"location": {"latitude": 1, "longitude": 0, "altitude": 5}}),
            "location.altitude: is unknown; there are lat",
        ),
        (
            json!({"location": {"latitude": 1, "longitude": 0, "measuredDateTime": "yesterday"}}),
            "location.measuredDateTime: is no time with a zone",
        ),
        (json!({"metadata": {}, "location": null}), "location: is null"),
    ] {
        let mut scene = scene();
        let before = row(&scene).clone();
        let (reply, sent) = call(&mut scene, write(&values));
        let refusal = reply.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid, "{values}");
        assert!(refusal.message.starts_with(said), "{}", refusal.message);
        assert!(sent.is_empty() && *row(&scene) == before, "{values}");
    }
    let mut scene = scene();
    let stranger = Write {
        device: device("edge/other"),
        values: Vec::new(),
        timeout: None,
    };
    assert_eq!(
        call(&mut scene, Event::Write(stranger)).0.unwrap_err().kind,
        RefusalKind::NotFound
    );
    let (reply, _) = scene.create(NewRequest {
        action: "device/update".into(),
        ..reboot_of(&[gw()])
    });
    assert!(reply.unwrap_err().message.contains("PUT"));
}

#[test]
fn what_is_too_large_for_one_message_is_refused() {
    let mut scene = scene();
    let large = |member: &str| {
        Value::Object(
            [(member.to_owned(), "\u{1}".repeat(10_000).into())]
                .into_iter()
                .collect(),
        )
    };
    assert!(large("a").to_string().len() < 65_536);
    let (reply, sent) = call(
        &mut scene,
        write(&json!({"metadata": large("a"), "deviceInfo": large("model")})),
    );
    assert!(
        matches!(reply, Ok(Reply::Written { .. })) && sent.len() == 1,
        "together they fit"
    );
    scene.respond(&gw(), &req_id(&sent[0]), 204, "");
    let most = "x".repeat(65_500);
    let (reply, sent) = call(
        &mut scene,
        write(&json!({"metadata": {"a": most}, "deviceInfo": {"model": most}})),
    );
    let refusal = reply.unwrap_err();
    assert!(
        refusal.message.contains("a message has at most 131072"),
        "{}",
        refusal.message
    );
    assert!(sent.is_empty());
}

#[test]
fn a_second_update_waits_for_the_end_of_the_first() {
    let mut scene = scene();
    let (id, sent) = written(&mut scene, json!({"metadata": {"site": "north"}}));
    let (reply, nothing) = call(&mut scene, write(&json!({"location": {"latitude": 1, "longitude": 2}})));
    let refusal = reply.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert!(
        refusal.message.contains(&id) && nothing.is_empty(),
        "{}",
        refusal.message
    );
    scene.reboot(&[gw()]);
    scene.respond(&gw(), &req_id(&sent), 204, "");
    let (next, sent) = written(&mut scene, json!({"metadata": {"site": "east"}}));
    scene.handle(Event::Cancel { id: next.clone() });
    assert_eq!(scene.stands(&next, &gw()), (Status::Failure, true));
    written(&mut scene, json!({"metadata": {"site": "west"}}));
    scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(
        metadata(&scene),
        json!({"site": "east"}),
        "called off, and taken over all the same"
    );
}

#[test]
fn a_manage_does_not_end_an_update_or_an_observation() {
    let mut scene = scene();
    let watching = observed(&mut scene, &["location"]);
    let (writing, sent) = written(&mut scene, json!({"metadata": {"site": "north"}}));
    scene.manage_firmware(&gw(), "m2");
    assert_eq!(scene.stands(&watching, &gw()), (Status::InProgress, false));
    assert_eq!(scene.stands(&writing, &gw()), (Status::InProgress, false));
    scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(metadata(&scene), json!({"site": "north"}), "what it says last counts");
    assert!(row(&scene).managed.as_ref().unwrap().observed.contains("location"));
}

#[test]
fn loc_04_the_location_that_was_measured_last_counts_in_whatever_order_they_come() {
    let mut scene = scene();
    let at = |latitude: i64, time: &str| json!({"latitude": latitude, "longitude": 0, "measuredDateTime": time});
    locate(&mut scene, at(1, "2024-05-01T09:00:00Z"), "l1");
    assert_eq!(
        locate(&mut scene, at(2, "2024-05-01T09:30:00Z"), "l2").text(),
        "is at latitude 2, longitude 0"
    );
    scene.advance(60);
    let late = locate(&mut scene, at(3, "2024-05-01T09:29:59Z"), "l3");
    assert_eq!(late.rc(), (200, None), "the device has done nothing wrong");
    assert!(
        late.text()
            .ends_with("nothing new, it was measured before the one that is known"),
        "{}",
        late.text()
    );
    assert_eq!(location(&scene)["latitude"], 2.0);
    locate(&mut scene, at(4, "2024-05-01T09:30:00Z"), "l4");
    assert_eq!(location(&scene)["latitude"], 4.0, "the same time: the later message");
    // A clock that is ahead does not hold for ever what was received today.
    locate(&mut scene, at(5, "2099-01-01T00:00:00Z"), "l5");
    scene.advance(60);
    locate(&mut scene, json!({"latitude": 6, "longitude": 0}), "l6");
    assert_eq!(
        location(&scene)["latitude"],
        6.0,
        "without a time it is as old as its receipt"
    );
    locate(&mut scene, at(7, "2024-05-01T10:01:30Z"), "l7");
    assert_eq!(location(&scene)["latitude"], 6.0, "and that was half a minute later");
}

#[test]
fn the_echo_of_a_location_that_an_operator_wrote_is_no_news() {
    for elevation in [None, Some(34.0)] {
        let mut scene = scene();
        let mut place = json!({"latitude": 52.52, "longitude": 13.405});
        if let Some(metres) = elevation {
            place["elevation"] = json!(metres);
        }
        let (_, sent) = written(&mut scene, json!({"location": place}));
        let value = sent.2["d"]["fields"][0]["value"].clone();
        assert_eq!(
            value["measuredDateTime"], "2024-05-01T10:00:00Z",
            "as the platform sends it: {value}"
        );
        scene.advance(1);
        scene.respond(&gw(), &req_id(&sent), 204, "");
        let kept = location(&scene);
        assert!(row(&scene).location_written);
        assert_eq!(kept["updatedDateTime"], "2024-05-01T10:00:01Z");
        scene.advance(60);
        for echo in [place.clone(), value.clone()] {
            let said = locate(&mut scene, echo, "echo");
            assert_eq!(said.rc(), (200, None));
            assert!(
                said.text().ends_with("nothing new, it repeats what an operator wrote"),
                "{}",
                said.text()
            );
            assert_eq!(location(&scene), kept);
            assert!(row(&scene).location_written);
        }
        let mut moved = place.clone();
        moved["latitude"] = json!(52.53);
        locate(&mut scene, moved, "moved");
        assert_eq!(location(&scene)["latitude"], 52.53);
        assert!(!row(&scene).location_written, "now the device says where it is");
        locate(&mut scene, place, "back");
        assert_eq!(location(&scene)["latitude"], 52.52);
    }
}

#[test]
fn a_device_that_knows_better_than_the_operator_tells_an_earlier_measurement_and_is_believed() {
    let mut scene = scene();
    let (_, sent) = written(&mut scene, json!({"location": {"latitude": 1, "longitude": 2}}));
    scene.advance(1);
    scene.respond(&gw(), &req_id(&sent), 204, "");
    let measured = json!({"latitude": 52, "longitude": 13, "measuredDateTime": "2024-05-01T09:00:00Z"});
    assert_eq!(
        locate(&mut scene, measured, "l").text(),
        "is at latitude 52, longitude 13"
    );
    assert_eq!(location(&scene)["latitude"], 52.0);
    assert!(!row(&scene).location_written);
}

#[test]
fn a_device_whose_measurement_is_what_was_written_has_measured_it() {
    let mut scene = scene();
    let (_, sent) = written(&mut scene, json!({"location": {"latitude": 1, "longitude": 2}}));
    scene.respond(&gw(), &req_id(&sent), 204, "");
    let measured = json!({"latitude": 1, "longitude": 2, "measuredDateTime": "2024-05-01T11:00:00Z"});
    locate(&mut scene, measured, "l");
    assert!(!row(&scene).location_written);
    assert_eq!(location(&scene)["measuredDateTime"], "2024-05-01T11:00:00Z");
}

#[test]
fn a_location_that_is_none_is_answered_400_and_changes_nothing() {
    let mut scene = scene();
    locate(&mut scene, json!({"latitude": 1, "longitude": 2}), "l1");
    let kept = location(&scene);
    for (d, said) in [
        (json!({"latitude": 1}), "d.longitude: is missing"),
        (json!({"latitude": 90.1, "longitude": 0}), "d.latitude: is 90.1"),
        (json!({"latitude": 0, "longitude": -181}), "d.longitude: is -181"),
        (json!({"latitude": "0", "longitude": 0}), "d.latitude: is a string"),
        (
            json!({"latitude": 0, "longitude": 0, "accuracy": -1}),
            "d.accuracy: is negative",
        ),
        (
            json!({"latitude": 0, "longitude": 0, "measuredDateTime": "2024-05-01"}),
            "d.measuredDateTime: is no time",
        ),
    ] {
        let answer = locate(&mut scene, d, "bad");
        let (rc, message) = answer.rc();
        assert_eq!(rc, 400);
        assert!(message.unwrap().starts_with(said), "{message:?}");
        assert_eq!(location(&scene), kept);
    }
}

#[test]
fn obs_08_every_attribute_can_be_observed_and_what_is_notified_is_merged_into_what_is_known() {
    let mut scene = scene();
    let fields = ["location", "metadata", "deviceInfo.fwVersion", "mgmt.firmware.state"];
    let (reply, sent) = scene.create(observe(&fields));
    let Ok(Reply::Created { id }) = reply else {
        panic!("{reply:?}")
    };
    let asked: Vec<Value> = fields.iter().map(|field| json!({"field": field})).collect();
    assert_eq!(sent[0].1, "iotdm-1/type/edge/id/gw-1/observe");
    assert_eq!(sent[0].2["d"], json!({"fields": asked}));
    let early = notify(&mut scene, "metadata", json!({"n": 2}), "early");
    assert_eq!(
        early.rc(),
        (404, Some("metadata is not observed")),
        "it has not agreed yet"
    );
    let values = json!([
        {"field": "location", "value": {"latitude": 1, "longitude": 2, "accuracy": 5}},
        {"field": "metadata", "value": {"site": "east", "deep": {"a": 1, "b": 2}}},
        {"field": "deviceInfo.fwVersion", "value": "1.1"},
        {"field": "mgmt.firmware.state", "value": "soon"},
        {"field": "deviceInfo", "value": {"model": "nobody asked"}}]);
    let answer = json!({"rc": 200, "reqId": sent[0].2["reqId"], "d": {"fields": values}});
    let said = scene.say(&gw(), ToService::Response, answer);
    let told: Vec<&str> = said.lines[0].values.iter().map(|told| told.field.as_str()).collect();
    assert_eq!(told, fields[..3], "what can be read");
    assert_eq!(
        metadata(&scene),
        json!({"site": "east", "deep": {"a": 1, "b": 2}}),
        "told whole"
    );
    assert_eq!(
        Value::Object(row(&scene).device_info.clone()),
        json!({"fwVersion": "1.1", "rack": "7"})
    );
    let status = scene.status(&id, &gw());
    assert_eq!(
        (status.status, status.step, status.rc),
        (Status::InProgress, RequestStep::Working, Some(200))
    );

    for (field, value) in [
        ("metadata", json!({"site": "west"})),
        ("metadata.deep.b", json!([3])),
        ("metadata.new.c", json!(true)),
        ("deviceInfo.fwVersion", json!("1.2")),
        ("deviceInfo", json!({"fwVersion": "1.3", "model": "x"})),
        ("mgmt.firmware.state", json!(2)),
        ("mgmt.firmware", json!({"version": "9"})),
        ("location", json!({"latitude": 3})),
        ("location.accuracy", json!(7)),
    ] {
        let said = notify(&mut scene, field, value.clone(), &format!("n {field} {value}"));
        assert_eq!(said.rc(), (200, None), "{field}");
        assert_eq!(
            said.lines[0].values,
            [FieldValue {
                field: field.into(),
                value
            }]
        );
    }
    assert_eq!(
        metadata(&scene),
        json!({"site": "west", "deep": {"a": 1, "b": [3]}, "new": {"c": true}})
    );
    assert_eq!(
        Value::Object(row(&scene).device_info.clone()),
        json!({"model": "x", "fwVersion": "1.3", "rack": "7"})
    );
    let managed = row(&scene).managed.clone().unwrap();
    assert_eq!(Value::Object(managed.firmware), json!({"state": 2, "version": "9"}));
    let place = location(&scene);
    assert_eq!(
        (&place["latitude"], &place["longitude"], &place["accuracy"]),
        (&json!(3.0), &json!(2.0), &json!(7.0))
    );
    let whole = json!({"latitude": 8, "longitude": 9});
    notify(&mut scene, "location", whole, "moved");
    assert!(
        location(&scene).get("accuracy").is_none(),
        "another place has another accuracy"
    );
}

#[test]
fn obs_08_a_notify_with_one_wrong_field_changes_nothing() {
    let mut scene = scene();
    observed(&mut scene, &["metadata", "deviceInfo", "location", "mgmt.firmware"]);
    let before = row(&scene).clone();
    let kib = "x".repeat(65 * 1024);
    for (field, value, rc) in [
        ("metadata", json!("text"), 400),
        ("metadata.site.street", json!("x"), 400),
        ("metadata", json!({"a": kib}), 400),
        ("deviceInfo.fwVersion", json!(1), 400),
        ("deviceInfo", json!({"extra": kib}), 400),
        ("deviceInfo.fwVersion.major", json!(1), 400),
        ("location.latitude", json!(91), 400),
        ("location", json!([1, 2]), 400),
        ("mgmt.firmware", json!({"extra": kib}), 400),
        ("mgmt.firmware.updateStatus", json!(7), 400),
        ("mgmt", json!({}), 404),
        ("mgmt.dormant", json!(true), 404),
        ("metadata.", json!(1), 404),
        ("metadataX", json!(1), 404),
        ("status", json!({}), 404),
        ("", json!(1), 404),
    ] {
        let fields = json!({"fields": [{"field": "metadata", "value": {"n": 2}}, {"field": field, "value": value}]});
        let said = scene.say(&gw(), ToService::Notify, json!({"d": fields, "reqId": "n"}));
        assert_eq!(said.rc().0, rc, "{field}");
        assert!(said.step.changes.is_empty() && *row(&scene) == before, "{field}");
        assert!(said.lines.iter().all(|line| line.values.is_empty()));
    }
}

#[test]
fn obs_08_a_part_of_a_location_that_nobody_knows_is_taken_and_leads_to_nothing() {
    let mut scene = scene();
    observed(&mut scene, &["location.accuracy"]);
    assert_eq!(notify(&mut scene, "location.accuracy", json!(5), "n").rc(), (200, None));
    assert_eq!(location(&scene), Value::Null);
    assert_eq!(notify(&mut scene, "location.accuracy", json!(-5), "n2").rc().0, 400);
}

#[test]
fn obs_08_what_has_gone_is_notified_as_null_and_is_gone() {
    let mut scene = scene();
    observed(&mut scene, &["metadata", "deviceInfo", "location"]);
    locate(
        &mut scene,
        json!({"latitude": 1, "longitude": 2, "elevation": 3, "accuracy": 4}),
        "l",
    );
    for (field, value) in [
        (
            "metadata",
            json!({"site": null, "a": {"b": 1, "c": 2}, "x.y": 3, "never": null}),
        ),
        ("metadata.a.b", Value::Null),
        ("metadata.nothing.there", Value::Null),
        ("metadata.x.y", json!(4)),
        ("metadata.n", Value::Null),
        ("deviceInfo", json!({"rack": null})),
        ("location.elevation", Value::Null),
    ] {
        assert_eq!(
            notify(&mut scene, field, value, &format!("n {field}")).rc(),
            (200, None),
            "{field}"
        );
    }
    assert_eq!(metadata(&scene), json!({"a": {"c": 2}, "x.y": 4}));
    assert_eq!(
        Value::Object(row(&scene).device_info.clone()),
        json!({"fwVersion": "1.0"})
    );
    assert!(location(&scene).get("elevation").is_none() && location(&scene)["accuracy"] == 4.0);
    let before = location(&scene);
    scene.advance(60);
    assert_eq!(notify(&mut scene, "location", json!({}), "empty").rc(), (200, None));
    assert_eq!(location(&scene), before, "it was not measured again");
}

#[test]
fn a_notify_that_is_delivered_again_is_answered_again_and_is_no_news() {
    let mut scene = scene();
    observed(&mut scene, &["metadata"]);
    notify(&mut scene, "metadata", json!({"n": 2}), "n1");
    notify(&mut scene, "metadata", json!({"n": 3}), "n2");
    let again = notify(&mut scene, "metadata", json!({"n": 2}), "n1");
    assert_eq!(again.rc(), (200, None));
    assert!(
        again.text().ends_with("nothing new, it came before"),
        "{}",
        again.text()
    );
    assert!(again.lines[0].values.is_empty());
    assert_eq!(metadata(&scene)["n"], 3);
}

#[test]
fn an_observation_lasts_until_the_operator_its_time_or_the_management_ends_it() {
    type End = fn(&mut Scene, &str) -> Vec<Sent>;
    let ends: [(End, Status, &str, usize); 3] = [
        (
            |scene, id| published(&scene.handle(Event::Cancel { id: id.to_owned() })),
            Status::Success,
            "ended by the operator",
            1,
        ),
        (
            |scene, _| {
                scene.advance(i64::try_from(DEFAULT_OBSERVE_TIMEOUT).unwrap());
                published(&scene.handle(Event::Deadline))
            },
            Status::TimedOut,
            "the time of the observation is over",
            1,
        ),
        (
            |scene, _| published(&scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"})).step),
            Status::Failure,
            "the device was unmanaged",
            0,
        ),
    ];
    for (end, status, message, cancels) in ends {
        let mut scene = scene();
        let id = observed(&mut scene, &["location", "metadata.site"]);
        let sent = end(&mut scene, &id);
        let row = scene.status(&id, &gw());
        assert_eq!((row.status, row.message.as_deref()), (status, Some(message)));
        assert_eq!(sent.len(), cancels, "{message}");
        for (_, topic, payload) in sent {
            assert_eq!(topic, "iotdm-1/type/edge/id/gw-1/cancel");
            let fields = json!({"fields": [{"field": "location"}, {"field": "metadata.site"}]});
            assert_eq!(payload, json!({"d": fields}), "nobody waits for an answer");
        }
        assert_eq!(
            notify(&mut scene, "location", json!({"latitude": 1, "longitude": 2}), "n")
                .rc()
                .0,
            404
        );
    }
}

#[test]
fn a_device_that_does_not_know_a_field_refuses_and_its_reason_is_kept() {
    let mut scene = scene();
    let (reply, sent) = scene.create(observe(&["deviceInfo.colour"]));
    let Ok(Reply::Created { id }) = reply else {
        panic!("{reply:?}")
    };
    let d = json!({"fields": [{"field": "deviceInfo.colour"}]});
    let answer = json!({"rc": 404, "reqId": sent[0].2["reqId"], "d": d});
    let said = scene.say(&gw(), ToService::Response, answer);
    assert!(published(&said.step).is_empty(), "there is nothing to cancel");
    let row = scene.status(&id, &gw());
    assert_eq!(
        (row.status, row.message.as_deref()),
        (Status::Failure, Some("the device answered 404 for deviceInfo.colour"))
    );
}

#[test]
fn what_two_observe_is_cancelled_when_the_second_ends() {
    let mut scene = scene();
    let first = observed(&mut scene, &["location", "metadata"]);
    let second = observed(&mut scene, &["location"]);
    let sent = published(&scene.handle(Event::Cancel { id: first }));
    assert_eq!(sent[0].2["d"], json!({"fields": [{"field": "metadata"}]}));
    let place = json!({"latitude": 1, "longitude": 2});
    assert_eq!(notify(&mut scene, "location", place, "n1").rc(), (200, None));
    assert_eq!(notify(&mut scene, "metadata", json!({}), "n2").rc().0, 404);
    let sent = published(&scene.handle(Event::Delete { id: second }));
    assert_eq!(sent[0].2["d"], json!({"fields": [{"field": "location"}]}));
}

#[test]
fn whoever_looks_on_at_a_firmware_action_neither_disturbs_it_nor_is_cut_off_by_its_end() {
    let mut scene = scene();
    let watching = observed(&mut scene, &["mgmt.firmware"]);
    let (reply, sent) = scene.create(NewRequest {
        overrides: true,
        ..firmware("download", &[gw()], json!([]))
    });
    let Ok(Reply::Created { id }) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        scene.stands(&watching, &gw()),
        (Status::InProgress, false),
        "it is not in the way"
    );
    let sent = published(&scene.respond(&gw(), &req_id(&sent[0]), 200, "").step);
    scene.respond(&gw(), &req_id(&sent[0]), 202, "");
    let said = notify(&mut scene, "mgmt.firmware", json!({"state": 2}), "n1");
    assert!(published(&said.step).is_empty(), "no cancel: somebody wants to know on");
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
    assert_eq!(
        notify(&mut scene, "mgmt.firmware", json!({"state": 0}), "n2").rc(),
        (200, None)
    );

    // The other way round: the observation ends while the action goes on.
    let (reply, sent) = scene.create(firmware("download", &[gw()], json!([])));
    assert!(reply.is_ok());
    let sent = published(&scene.respond(&gw(), &req_id(&sent[0]), 200, "").step);
    scene.respond(&gw(), &req_id(&sent[0]), 202, "");
    assert!(published(&scene.handle(Event::Cancel { id: watching })).is_empty());
    let said = notify(&mut scene, "mgmt.firmware", json!({"state": 2}), "n3");
    assert_eq!(
        published(&said.step)[0].2["d"],
        json!({"fields": [{"field": "mgmt.firmware"}]})
    );
}

#[test]
fn what_cannot_be_observed_is_refused_with_what_can() {
    let mut scene = scene();
    let names = |names: &[&str]| observe(names).parameters;
    for (parameters, said) in [
        (json!([]), "parameters: has 0 entries"),
        (
            vec![json!({"name": "field", "value": "location"}); 33].into(),
            "parameters: has 33 entries",
        ),
        (
            names(&["location", "location"]).into(),
            "parameters[1].value: location is given twice",
        ),
        (
            names(&["colour"]).into(),
            "parameters[0].value: is no attribute that can be observed; there are location",
        ),
        (names(&["metadata..a"]).into(), "parameters[0].value: is no attribute"),
        (names(&[""]).into(), "parameters[0].value: is no attribute"),
        (
            json!([{"name": "fields", "value": "location"}]),
            "parameters[0].name: must be \"field\"",
        ),
        (
            json!([{"name": "field", "value": 1}]),
            "parameters[0].value: is a number",
        ),
        (json!(["location"]), "parameters[0]: is a string"),
    ] {
        let parameters = parameters.as_array().unwrap().clone();
        let (reply, sent) = scene.create(NewRequest {
            parameters,
            ..observe(&[])
        });
        let refusal = reply.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.message.starts_with(said), "{}", refusal.message);
        assert!(sent.is_empty());
    }
    scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"}));
    let (reply, _) = scene.create(observe(&["location"]));
    assert_eq!(reply.unwrap_err().kind, RefusalKind::NotSupported);
}
