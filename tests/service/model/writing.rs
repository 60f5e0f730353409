//! What an operator writes: sent, answered, refused, late.

use iotdm::protocol::{ReqId, ToService};
use iotdm::service::brain::{Change, DEFAULT_UPDATE_TIMEOUT, Event, NewRequest, RefusalKind, Reply, Status, Write};
use serde_json::{Value, json};

use super::{call, locate, location, metadata, observed, req_id, row, scene, write, written};
use crate::scene::{START_MS, Scene, Sent, device, gw, outcome, published, reboot_of};

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
fn what_the_device_says_that_it_keeps_is_not_taken_for_written() {
    let mut scene = scene();
    let told = json!({"metadata": {"site": "south"}, "deviceInfo": {"fwVersion": "1.1", "serialNumber": "S"}});
    scene.say(&gw(), ToService::Manage, json!({"d": told, "reqId": "m2"}));
    let info = json!({"fwVersion": "9", "model": "9", "description": "at the gate"});
    let (id, sent) = written(&mut scene, json!({"deviceInfo": info, "metadata.site": "north"}));
    let kept = "kept by the device: deviceInfo.fwVersion, deviceInfo.model, deviceInfo.serialNumber";
    let said = scene.respond(&gw(), &req_id(&sent), 204, kept);
    assert!(
        said.text().contains("deviceInfo.fwVersion, deviceInfo.model"),
        "{}",
        said.text()
    );
    let expected = json!({"fwVersion": "1.1", "serialNumber": "S", "description": "at the gate"});
    assert_eq!(Value::Object(row(&scene).device_info.clone()), expected);
    assert_eq!(metadata(&scene), json!({"site": "north"}));
    let status = scene.status(&id, &gw());
    assert_eq!(
        (status.status, status.message.as_deref()),
        (Status::Success, Some(kept))
    );

    let (_, sent) = written(&mut scene, json!({"deviceInfo.fwVersion": "9"}));
    let said = scene.respond(&gw(), &req_id(&sent), 204, "kept by the device: deviceInfo.fwVersion");
    assert!(
        said.text().starts_with("has taken over nothing (204)"),
        "{}",
        said.text()
    );
    assert_eq!(Value::Object(row(&scene).device_info.clone()), expected);
    // whatever else an agent says with its 204 means nothing
    let (id, sent) = written(&mut scene, json!({"deviceInfo.fwVersion": "9"}));
    scene.respond(&gw(), &req_id(&sent), 204, "thank you");
    assert_eq!(row(&scene).device_info["fwVersion"], "9");
    assert_eq!(scene.status(&id, &gw()).message, None);
}

#[test]
fn a_member_that_is_written_alone_is_sent_alone_and_leaves_the_others_as_the_device_has_them() {
    let mut scene = scene();
    let values = json!({"metadata.site": "north", "metadata.n": null, "deviceInfo.description": "at the gate",
        "deviceInfo.rack": null, "deviceInfo.model": ""});
    let (_, sent) = written(&mut scene, values);
    assert_eq!(
        sent.2["d"],
        json!({"fields": [
            {"field": "metadata.site", "value": "north"}, {"field": "metadata.n", "value": null},
            {"field": "deviceInfo.description", "value": "at the gate"}, {"field": "deviceInfo.rack", "value": null},
            {"field": "deviceInfo.model", "value": null}]})
    );
    assert_eq!(metadata(&scene), json!({"site": "south", "n": 1}), "not so yet");
    // The device has got a newer configuration meanwhile.
    let d =
        json!({"metadata": {"site": "south", "n": 2, "new": true}, "deviceInfo": {"fwVersion": "1.1", "rack": "7"}});
    scene.say(&gw(), ToService::Manage, json!({"d": d, "reqId": "m2"}));
    let said = scene.respond(&gw(), &req_id(&sent), 204, "");
    assert!(
        said.text()
            .starts_with("has taken over metadata.site, metadata.n, deviceInfo."),
        "{}",
        said.text()
    );
    assert_eq!(metadata(&scene), json!({"site": "north", "new": true}));
    assert_eq!(
        Value::Object(row(&scene).device_info.clone()),
        json!({"fwVersion": "1.1", "description": "at the gate"})
    );
}

#[test]
fn what_has_grown_too_large_together_is_left_to_the_next_manage() {
    let mut scene = scene();
    let (_, sent) = written(&mut scene, json!({"metadata.a": "x".repeat(40_000)}));
    let d = json!({"metadata": {"b": "x".repeat(40_000)}});
    scene.say(&gw(), ToService::Manage, json!({"d": d, "reqId": "m2"}));
    scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(metadata(&scene), d["metadata"]);
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
    }
}

/// What the device says of itself later stands, also when the broker delivers its answer to the update once more.
fn newer_stands(scene: &mut Scene, sent: &Sent) {
    let newer = json!({"metadata": {"site": "east"}});
    scene.say(&gw(), ToService::Manage, json!({"d": newer, "reqId": "m2"}));
    scene.respond(&gw(), &req_id(sent), 204, "");
    assert_eq!(metadata(scene), json!({"site": "east"}));
}

#[test]
fn a_device_that_refused_a_write_and_takes_it_over_when_it_is_delivered_again_is_believed_once() {
    let mut scene = scene();
    let (id, sent) = written(&mut scene, json!({"metadata": {"site": "north"}}));
    scene.respond(&gw(), &req_id(&sent), 500, "state disk full");
    assert_eq!(metadata(&scene), json!({"site": "south", "n": 1}));
    let said = scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(said.text(), "has taken over after all what device/update wrote (204)");
    assert_eq!(metadata(&scene), json!({"site": "north"}));
    let status = scene.status(&id, &gw());
    assert_eq!(
        (status.status, status.message.as_deref(), status.rc),
        (Status::Failure, Some("state disk full"), Some(204)),
        "the operator was told so"
    );
    newer_stands(&mut scene, &sent);
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
    newer_stands(&mut scene, &sent);
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
        (
            json!({"metadata.site.street": "north"}),
            "metadata.site.street: is too deep: metadata is written whole, or a member of it",
        ),
        (json!({"metadata.": 1}), "metadata.: cannot be written"),
        (json!({"location.latitude": 1}), "location.latitude: cannot be written"),
        (
            json!({"mgmt.firmware.state": 1}),
            "mgmt.firmware.state: cannot be written",
        ),
        (
            json!({"metadata": {}, "metadata.site": "north"}),
            "metadata.site: is given twice, as metadata is given, too",
        ),
        (
            json!({"metadata.a": deep}),
            "metadata: is nested 9 levels deep; at most 8",
        ),
        (
            json!({"metadata.a": kib(64)}),
            "metadata: has 65565 bytes; at most 65536",
        ),
        (
            json!({"deviceInfo.descripton": "x"}),
            "deviceInfo.descripton: is unknown; there are serialNumber, ",
        ),
        (
            json!({"deviceInfo.description": 1}),
            "deviceInfo.description: is a number; it must be a string",
        ),
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
fn a_manage_or_location_that_is_delivered_again_does_not_undo_what_was_written_after_it() {
    let mut scene = scene();
    let d = json!({"metadata": {"site": "south"}, "deviceInfo": {"fwVersion": "1.0"}});
    let manage = json!({"d": d, "reqId": "m2"});
    scene.say(&gw(), ToService::Manage, manage.clone());
    locate(&mut scene, json!({"latitude": 1, "longitude": 2}), "l1");
    let values = json!({"metadata": {"site": "north"}, "deviceInfo": {"fwVersion": "1.0", "description": "at the gate"},
        "location": {"latitude": 5, "longitude": 6}});
    let (_, sent) = written(&mut scene, values);
    scene.respond(&gw(), &req_id(&sent), 204, "");
    let before = row(&scene).clone();
    // The broker keeps the order: what comes again is followed by all that came after it.
    let again = scene.say(&gw(), ToService::Manage, manage);
    assert_eq!(again.rc(), (200, None), "answered again");
    let again = locate(&mut scene, json!({"latitude": 1, "longitude": 2}), "l1");
    assert_eq!(again.rc(), (200, None));
    assert!(
        again.text().ends_with("nothing new, it came before"),
        "{}",
        again.text()
    );
    scene.respond(&gw(), &req_id(&sent), 204, "");
    assert_eq!(metadata(&scene), json!({"site": "north"}));
    let now = row(&scene);
    assert_eq!(
        (&now.device_info, &now.location, now.location_written),
        (&before.device_info, &before.location, true)
    );
    locate(&mut scene, json!({"latitude": 1, "longitude": 2}), "l2");
    assert_eq!(
        location(&scene)["latitude"],
        1.0,
        "another one of the same place is news"
    );
}
