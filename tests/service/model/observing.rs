//! What is observed, what is told of it, and how an observation ends.

use iotdm::protocol::ToService;
use iotdm::protocol::model::FieldValue;
use iotdm::service::brain::{DEFAULT_OBSERVE_TIMEOUT, Event, NewRequest, RefusalKind, Reply, RequestStep, Status};
use serde_json::{Value, json};

use super::{locate, location, metadata, notify, observe, observed, req_id, row, scene};
use crate::scene::{Scene, Sent, firmware, gw, published};

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
    let deep = (0..8).fold(json!(1), |value, _| json!({"a": value}));
    let path = |segments: usize| format!("metadata{}", ".a".repeat(segments));
    let firmware = format!("mgmt.firmware{}", ".a".repeat(130));
    for (field, value, rc) in [
        (path(9).as_str(), json!(1), 400),
        (path(8).as_str(), json!({"a": 1}), 400),
        (path(60_000).as_str(), json!(1), 400),
        (format!("metadata.{}", "x".repeat(248)).as_str(), json!(1), 400),
        (firmware.as_str(), json!(1), 400),
        ("metadata", json!({"a": deep}), 400),
        ("deviceInfo", json!({"a": deep}), 400),
        ("deviceInfo.a", deep.clone(), 400),
        ("mgmt.firmware.a", deep.clone(), 400),
        (
            "location.measuredDateTime",
            json!(format!("2024-05-01T10:00:00.{}Z", "0".repeat(60_000))),
            400,
        ),
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
        let name: String = field.chars().take(60).collect();
        assert_eq!(said.rc().0, rc, "{name}");
        assert!(said.step.changes.is_empty() && *row(&scene) == before, "{name}");
        assert!(said.lines.iter().all(|line| line.values.is_empty()));
    }
}

#[test]
fn a_name_of_a_field_has_8_members_and_256_bytes_at_most() {
    let mut scene = scene();
    observed(&mut scene, &["metadata"]);
    let at_most = format!("metadata.{}", "x".repeat(247));
    assert_eq!(notify(&mut scene, &at_most, json!(1), "n1").rc(), (200, None));
    assert_eq!(
        notify(&mut scene, "metadata.1.2.3.4.5.6.7.8", json!(1), "n2").rc(),
        (200, None)
    );
    let said = notify(&mut scene, "metadata.1.2.3.4.5.6.7.8.9", json!(1), "n3");
    let reason = "metadata.1.2.3.4.5.6.7.8.9: names a member 9 levels down; at most 8";
    assert_eq!(said.rc(), (400, Some(reason)));
    let said = notify(&mut scene, &format!("{at_most}x"), json!(1), "n4");
    assert!(
        said.rc().1.unwrap().ends_with("...: has 257 bytes; at most 256"),
        "{:?}",
        said.rc()
    );
    let (reply, _) = scene.create(observe(&["metadata.1.2.3.4.5.6.7.8.9"]));
    assert_eq!(reply.unwrap_err().kind, RefusalKind::Invalid);
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
