//! The brain, rule by rule.

use iotdm::protocol::{Address, ReqId, ToService};
use iotdm::service::brain::{
    AckToken, Change, Effect, Event, Incoming, MAX_REQUEST_DEVICES, MAX_REQUESTS, NewRequest, RefusalKind, Reply, Rows,
    Status, WINDOW,
};
use serde_json::{Value, json};

use crate::scene::{START_MS, Scene, device, firmware, gw, outcome, published, reboot_of};

fn req_id(message: &Value) -> ReqId {
    ReqId::new(message["reqId"].as_str().unwrap()).unwrap()
}

#[test]
fn mng_12_a_lifetime_of_1_to_3599_is_refused_and_a_longer_one_sets_when_the_device_becomes_dormant() {
    for lifetime in [1, 60, 3599, -1] {
        let mut scene = Scene::new();
        let outcome = scene.say(
            &gw(),
            ToService::Manage,
            json!({"d": {"lifetime": lifetime}, "reqId": "m"}),
        );
        let (rc, message) = outcome.rc();
        assert_eq!(rc, 400);
        assert!(message.unwrap().starts_with("d.lifetime: "), "{message:?}");
        assert!(scene.service.device(&gw()).is_none(), "bad input changes nothing");
    }
    let mut scene = Scene::new();
    let outcome = scene.say(&gw(), ToService::Manage, json!({"d": {"lifetime": 3600}, "reqId": "m"}));
    assert_eq!(outcome.rc(), (200, None));
    let managed = scene.service.device(&gw()).unwrap().managed.clone().unwrap();
    assert_eq!(managed.dormant_ms, Some(START_MS + 3_600_000));
    for d in [json!({"lifetime": 0}), json!({})] {
        scene.say(&gw(), ToService::Manage, json!({"d": d, "reqId": "n"}));
        let managed = scene.service.device(&gw()).unwrap().managed.clone().unwrap();
        assert_eq!(managed.dormant_ms, None);
        assert_eq!(scene.service.next_deadline(), None);
    }
}

#[test]
fn mng_13_a_dormant_device_is_unmanaged_and_requests_for_it_are_refused() {
    let mut scene = Scene::new();
    scene.say(
        &gw(),
        ToService::Manage,
        json!({"d": {"lifetime": 3600, "supports": {"deviceActions": true}}, "reqId": "m"}),
    );
    let (id, _) = scene.reboot(&[gw()]);
    assert_eq!(scene.service.next_deadline(), Some(START_MS + 3_600_000));
    scene.advance(3599);
    assert!(scene.handle(Event::Deadline).changes.is_empty(), "not yet");
    scene.advance(1);
    let said = outcome(scene.handle(Event::Deadline));
    assert!(said.lines.iter().any(|line| line.operation == "dormant"));
    assert_eq!(scene.service.device(&gw()).unwrap().managed, None);
    assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true), "dormant meanwhile");
    let (reply, sent) = scene.create(reboot_of(&[gw()]));
    assert_eq!(reply.unwrap_err().kind, RefusalKind::NotSupported);
    assert!(sent.is_empty());
    assert_eq!(scene.service.next_deadline(), None);
}

#[test]
fn mng_13_another_manage_in_time_renews_the_lifetime() {
    let mut scene = Scene::new();
    for n in 0..5 {
        scene.manage(&gw(), &format!("m{n}"));
        scene.advance(80_000);
        scene.handle(Event::Deadline);
        assert!(scene.service.device(&gw()).unwrap().managed.is_some());
    }
    let managed = scene.service.device(&gw()).unwrap().managed.clone().unwrap();
    assert_eq!(managed.since_ms, START_MS, "managed since the first one");
}

#[test]
fn mng_14_metadata_and_device_info_are_replaced_when_present_and_untouched_when_absent() {
    let mut scene = Scene::new();
    let full = json!({"metadata": {"a": 1, "b": 2}, "deviceInfo": {"fwVersion": "1", "model": "x"}});
    scene.say(&gw(), ToService::Manage, json!({"d": full, "reqId": "1"}));
    scene.say(&gw(), ToService::Manage, json!({"reqId": "2"}));
    let row = scene.service.device(&gw()).unwrap();
    assert_eq!(Value::Object(row.metadata.clone()), json!({"a": 1, "b": 2}));
    assert_eq!(
        Value::Object(row.device_info.clone()),
        json!({"fwVersion": "1", "model": "x"})
    );
    scene.say(
        &gw(),
        ToService::Manage,
        json!({"d": {"metadata": {"c": 3}, "deviceInfo": {"fwVersion": "2"}}, "reqId": "3"}),
    );
    let row = scene.service.device(&gw()).unwrap();
    assert_eq!(
        Value::Object(row.metadata.clone()),
        json!({"c": 3}),
        "replaced, not merged"
    );
    assert_eq!(Value::Object(row.device_info.clone()), json!({"fwVersion": "2"}));
}

#[test]
fn mng_14_what_is_too_large_or_too_deep_is_refused_and_nothing_of_it_is_taken() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    let before = scene.service.rows();
    let deep = (0..8).fold(json!(1), |value, _| json!([value]));
    let large = json!("x".repeat(64 * 1024));
    for (attribute, value) in [
        ("metadata", &deep),
        ("metadata", &large),
        ("deviceInfo", &deep),
        ("deviceInfo", &large),
    ] {
        let d = json!({"lifetime": 0, "metadata": {}, attribute: {"extra": value}});
        let said = scene.say(&gw(), ToService::Manage, json!({"d": d, "reqId": "m2"}));
        let (rc, reason) = said.rc();
        assert_eq!(rc, 400, "{attribute}");
        assert!(reason.unwrap().starts_with(&format!("d.{attribute}: ")), "{reason:?}");
        assert_eq!(scene.service.rows(), before, "{attribute}");
    }
}

#[test]
fn mng_15_a_manage_completes_a_reboot_that_was_answered_202_and_no_other() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    let (accepted, sent) = scene.reboot(&[gw()]);
    let accepted_id = req_id(&sent[0].2);
    let (waiting, _) = scene.reboot(&[gw()]);
    scene.respond(&gw(), &accepted_id, 202, "");
    scene.advance(30);
    let outcome = scene.manage(&gw(), "m2");
    assert_eq!(outcome.rc(), (200, None));
    assert_eq!(scene.stands(&accepted, &gw()), (Status::Success, true));
    assert_eq!(
        scene.stands(&waiting, &gw()),
        (Status::InProgress, false),
        "nobody has answered it 202 yet"
    );
    let row = scene.status(&accepted, &gw());
    assert_eq!(
        (row.requested_ms, row.accepted_ms, row.completed_ms, row.rc),
        (START_MS, Some(START_MS), Some(START_MS + 30_000), Some(202))
    );
}

#[test]
fn mng_15_a_manage_that_the_broker_delivers_again_after_the_202_completes_nothing() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    let (id, sent) = scene.reboot(&[gw()]);
    scene.respond(&gw(), &req_id(&sent[0].2), 202, "");
    let outcome = scene.manage(&gw(), "m1");
    assert_eq!(outcome.rc(), (200, None), "answered again");
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
    scene.manage(&gw(), "m2");
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
}

#[test]
fn mng_15_a_202_that_is_delivered_again_after_boot_precedes_the_manage_and_the_reboot_is_complete() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    let (id, sent) = scene.reboot(&[gw()]);
    let reboot = req_id(&sent[0].2);
    scene.respond(&gw(), &reboot, 202, "");
    scene.respond(&gw(), &reboot, 202, "");
    scene.manage(&gw(), "m2");
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
    let outcome = scene.respond(&gw(), &reboot, 202, "");
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
    assert!(outcome.text().contains("is over"), "{}", outcome.text());
}

#[test]
fn unm_02_after_unmanage_nothing_is_sent_and_location_and_diagnostics_are_still_taken() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    let (id, _) = scene.reboot(&[gw()]);
    assert_eq!(
        scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"})).rc(),
        (200, None)
    );
    assert_eq!(scene.service.device(&gw()).unwrap().managed, None);
    let row = scene.status(&id, &gw());
    assert_eq!(
        (row.status, row.message.as_deref()),
        (Status::Failure, Some("the device was unmanaged"))
    );
    let (reply, sent) = scene.create(reboot_of(&[gw()]));
    assert_eq!(reply.unwrap_err().kind, RefusalKind::NotSupported);
    assert!(sent.is_empty());
    let kept = [
        (ToService::Location, json!({"latitude": 1, "longitude": 2})),
        (ToService::AddErrorCode, json!({"errorCode": 42})),
        (ToService::AddLog, json!({"message": "x", "severity": 1})),
    ];
    for (kind, d) in kept {
        let outcome = scene.say(&gw(), kind, json!({"d": d, "reqId": "x"}));
        assert_eq!(outcome.rc(), (200, None), "{kind}");
    }
    for kind in [ToService::ClearErrorCodes, ToService::ClearLogs] {
        assert_eq!(
            scene.say(&gw(), kind, json!({"reqId": "x"})).rc(),
            (200, None),
            "{kind}"
        );
    }
    let notify = json!({"d": {"fields": [{"field": "mgmt.firmware", "value": {"state": 1}}]}, "reqId": "n"});
    assert_eq!(scene.say(&gw(), ToService::Notify, notify).rc().0, 404);
}

#[test]
fn unm_02_a_request_that_was_not_sent_before_the_unmanage_is_never_sent() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    scene.handle(Event::Disconnected);
    let (_, sent) = scene.reboot(&[gw()]);
    assert!(sent.is_empty(), "there is no connection");
    scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"}));
    let step = scene.handle(Event::Connected { session_present: false });
    assert!(published(&step).is_empty());
}

#[test]
fn loc_04_an_omitted_member_deletes_the_stored_one_and_a_missing_time_is_that_of_receipt() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let full = json!({"latitude": 1.5, "longitude": 2.5, "elevation": 0, "accuracy": 5,
        "measuredDateTime": "2024-01-01T00:00:00Z", "updatedDateTime": "2000-01-01T00:00:00Z"});
    scene.say(&gw(), ToService::Location, json!({"d": full, "reqId": "1"}));
    let stored = scene.service.device(&gw()).unwrap().location.clone().unwrap();
    assert_eq!(
        Value::Object(stored),
        json!({"longitude": 2.5, "latitude": 1.5, "elevation": 0.0, "accuracy": 5.0,
            "measuredDateTime": "2024-01-01T00:00:00Z", "updatedDateTime": "2024-05-01T10:00:00Z"})
    );
    let bare = json!({"d": {"latitude": 3, "longitude": 4}, "reqId": "2"});
    scene.say(&gw(), ToService::Location, bare);
    let stored = scene.service.device(&gw()).unwrap().location.clone().unwrap();
    assert_eq!(
        Value::Object(stored),
        json!({"longitude": 4.0, "latitude": 3.0,
            "measuredDateTime": "2024-05-01T10:00:00Z", "updatedDateTime": "2024-05-01T10:00:00Z"})
    );
    let bad = json!({"d": {"latitude": 91, "longitude": 4}, "reqId": "3"});
    let outcome = scene.say(&gw(), ToService::Location, bad);
    assert_eq!(outcome.rc().0, 400);
    assert!(outcome.rc().1.unwrap().starts_with("d.latitude"));
}

#[test]
fn dia_05_severity_3_is_refused_and_an_entry_goes_to_the_registry_with_its_time() {
    let mut scene = Scene::new();
    let bad = scene.say(
        &gw(),
        ToService::AddLog,
        json!({"d": {"message": "x", "severity": 3}, "reqId": "1"}),
    );
    assert_eq!(bad.rc().0, 400);
    assert!(bad.rc().1.unwrap().starts_with("d.severity"));
    assert!(bad.step.changes.is_empty());
    let good = json!({"d": {"message": "x", "severity": 2, "data": "aGk="}, "reqId": "2"});
    let good = scene.say(&gw(), ToService::AddLog, good);
    let log = good.step.changes.iter().find_map(|change| match change {
        Change::AddLog(row) => Some(row),
        _ => None,
    });
    let log = log.expect("stored");
    assert_eq!((log.severity, log.data.as_deref()), (2, Some(&b"hi"[..])));
    assert_eq!(log.timestamp, "2024-05-01T10:00:00Z");
}

/// A managed device whose firmware is observed, as a firmware action leaves it.
fn observed() -> Scene {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let mut rows: Rows = scene.service.rows();
    let managed = rows.devices[0].managed.as_mut().unwrap();
    managed.observed.insert("mgmt.firmware".into());
    Scene::restored(rows)
}

#[test]
fn obs_08_both_shapes_of_notify_are_merged_into_what_is_known() {
    let mut scene = observed();
    let fields =
        json!({"d": {"fields": [{"field": "mgmt.firmware", "value": {"version": "2", "state": 1}}]}, "reqId": "1"});
    assert_eq!(scene.say(&gw(), ToService::Notify, fields).rc(), (200, None));
    let single = json!({"d": {"field": "mgmt.firmware", "value": {"updateStatus": "1"}}});
    let outcome = scene.say(&gw(), ToService::Notify, single);
    assert!(outcome.answers.is_empty(), "without a reqId nobody wants an answer");
    let dotted = json!({"d": {"fields": [{"field": "mgmt.firmware.state", "value": 2}]}, "reqId": "3"});
    assert_eq!(scene.say(&gw(), ToService::Notify, dotted).rc(), (200, None));
    let managed = scene.service.device(&gw()).unwrap().managed.clone().unwrap();
    assert_eq!(
        Value::Object(managed.firmware),
        json!({"version": "2", "state": 2, "updateStatus": 1})
    );
}

#[test]
fn obs_08_what_is_not_observed_is_answered_404_and_what_is_wrong_400_and_neither_changes_anything() {
    let notify = |field: &str, value: Value| {
        json!({"d": {"fields": [
            {"field": "mgmt.firmware", "value": {"state": 2}}, {"field": field, "value": value}]}, "reqId": "n"})
    };
    let mut scene = observed();
    for (field, value, rc) in [
        ("location", json!({}), 404),
        ("mgmt.firmwareX", json!(1), 404),
        ("mgmt.firmware", json!({"state": 9}), 400),
        ("mgmt.firmware", json!(7), 400),
    ] {
        let outcome = scene.say(&gw(), ToService::Notify, notify(field, value));
        assert_eq!(outcome.rc().0, rc, "{field}");
        assert!(outcome.step.changes.is_empty());
    }
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let outcome = scene.say(&gw(), ToService::Notify, notify("mgmt.firmware", json!({})));
    assert_eq!(outcome.rc(), (404, Some("mgmt.firmware is not observed")));
}

#[test]
fn svc_01_a_request_is_answered_with_its_id_and_published_with_another_for_each_device() {
    let mut scene = Scene::new();
    let devices = [gw(), device("edge/gw-2")];
    for (n, device) in devices.iter().enumerate() {
        scene.manage(device, &format!("m{n}"));
    }
    let (id, sent) = scene.reboot(&devices);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].1, "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/reboot");
    assert_eq!(sent[1].1, "iotdm-1/type/edge/id/gw-2/mgmt/initiate/device/reboot");
    assert_ne!(req_id(&sent[0].2), req_id(&sent[1].2));
    assert_ne!(req_id(&sent[0].2).as_str(), id);
    let reset = NewRequest {
        action: "device/factoryReset".into(),
        ..reboot_of(&[gw()])
    };
    let (_, sent) = scene.create(reset);
    assert_eq!(
        sent[0].1, "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/factory_reset",
        "snake case on the wire"
    );
}

#[test]
fn svc_01_what_is_wrong_with_a_request_is_told_apart_and_nothing_is_sent() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let plain = device("edge/plain");
    scene.say(&plain, ToService::Manage, json!({"reqId": "p"}));
    let many: Vec<_> = (0..=MAX_REQUEST_DEVICES).map(|n| device(&format!("t/d{n}"))).collect();
    let with = |action: &str| NewRequest {
        action: action.into(),
        ..reboot_of(&[gw()])
    };
    let timeout = |seconds| NewRequest {
        timeout: Some(seconds),
        ..reboot_of(&[gw()])
    };
    let cases = [
        (reboot_of(&[]), RefusalKind::Invalid),
        (reboot_of(&many), RefusalKind::Invalid),
        (reboot_of(&[gw(), gw()]), RefusalKind::Invalid),
        (with("device/dance"), RefusalKind::Invalid),
        (with(""), RefusalKind::Invalid),
        (timeout(0), RefusalKind::Invalid),
        (timeout(u64::MAX), RefusalKind::Invalid),
        (reboot_of(&[gw(), device("edge/unknown")]), RefusalKind::NotFound),
        (reboot_of(&[gw(), plain]), RefusalKind::NotSupported),
        (with("firmware/install"), RefusalKind::Invalid),
        (with("com.example-v1/install"), RefusalKind::NotBuilt),
    ];
    for (request, kind) in cases {
        let before = scene.service.rows();
        let (reply, sent) = scene.create(request.clone());
        assert_eq!(
            reply.unwrap_err().kind,
            kind,
            "{} {:?}",
            request.action,
            request.timeout
        );
        assert!(sent.is_empty());
        assert_eq!(scene.service.rows(), before);
    }
}

#[test]
fn svc_02_a_device_stands_with_a_request_as_its_answers_say() {
    for (answers, expected, rc, message) in [
        (vec![], Status::InProgress, None, None),
        (vec![(202, "")], Status::InProgress, Some(202), None),
        (
            vec![(500, "blocked by apt")],
            Status::Failure,
            Some(500),
            Some("blocked by apt"),
        ),
        (
            vec![(501, "")],
            Status::Failure,
            Some(501),
            Some("the device answered 501"),
        ),
        (
            vec![(200, "")],
            Status::Failure,
            Some(200),
            Some("the device answered 200"),
        ),
        (
            vec![(202, ""), (500, "did not happen")],
            Status::Failure,
            Some(500),
            Some("did not happen"),
        ),
        (vec![(202, ""), (202, "")], Status::InProgress, Some(202), None),
        (vec![(500, "no"), (202, "")], Status::Failure, Some(500), Some("no")),
    ] {
        let mut scene = Scene::new();
        scene.manage(&gw(), "m");
        let (id, sent) = scene.reboot(&[gw()]);
        for (rc, message) in &answers {
            scene.respond(&gw(), &req_id(&sent[0].2), *rc, message);
        }
        let row = scene.status(&id, &gw());
        assert_eq!(
            (row.status, row.rc, row.message.as_deref()),
            (expected, rc, message),
            "{answers:?}"
        );
        assert_eq!(row.is_complete(), expected != Status::InProgress);
        assert_eq!(row.is_complete(), row.completed_ms.is_some());
    }
}

#[test]
fn svc_02_the_answer_of_another_device_with_the_same_request_id_changes_nothing() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let other = device("edge/gw-2");
    scene.manage(&other, "m");
    let (id, sent) = scene.reboot(&[gw()]);
    let outcome = scene.respond(&other, &req_id(&sent[0].2), 202, "");
    assert_eq!(scene.status(&id, &gw()).accepted_ms, None);
    assert!(outcome.text().contains("not known"), "{}", outcome.text());
    assert!(outcome.answers.is_empty(), "an answer is not answered");
}

#[test]
fn svc_03_a_timeout_ends_the_request_and_late_answers_do_not_change_it() {
    for answered in [None, Some(202)] {
        let mut scene = Scene::new();
        scene.manage(&gw(), "m");
        let (reply, sent) = scene.create(NewRequest {
            timeout: Some(600),
            ..reboot_of(&[gw()])
        });
        let Ok(Reply::Created { id }) = reply else { panic!() };
        let reboot = req_id(&sent[0].2);
        if let Some(rc) = answered {
            scene.respond(&gw(), &reboot, rc, "");
        }
        assert_eq!(scene.service.next_deadline(), Some(START_MS + 600_000));
        scene.advance(600);
        scene.handle(Event::Deadline);
        assert_eq!(scene.stands(&id, &gw()), (Status::TimedOut, true));
        let row = scene.status(&id, &gw()).clone();
        scene.respond(&gw(), &reboot, 202, "");
        scene.respond(&gw(), &reboot, 500, "late");
        scene.manage(&gw(), "m2");
        assert_eq!(*scene.status(&id, &gw()), row);
    }
}

#[test]
fn svc_03_a_request_whose_time_is_over_before_it_could_be_sent_is_never_sent() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    scene.handle(Event::Disconnected);
    let (reply, _) = scene.create(NewRequest {
        action: "device/factoryReset".into(),
        timeout: Some(60),
        ..reboot_of(&[gw()])
    });
    let Ok(Reply::Created { id }) = reply else { panic!() };
    scene.advance(60);
    let step = scene.handle(Event::Connected { session_present: true });
    assert!(published(&step).is_empty(), "nobody waits for it any more");
    // The shell holds this back while agents come back: then what they say comes before it.
    let step = scene.handle(Event::Deadline);
    assert!(published(&step).is_empty());
    let row = scene.status(&id, &gw());
    assert_eq!(
        (row.status, row.message.as_deref()),
        (Status::TimedOut, Some("the request never reached the broker"))
    );
    assert!(published(&scene.handle(Event::Connected { session_present: false })).is_empty());
}

#[test]
fn svc_03_the_next_step_of_a_request_whose_time_is_over_is_not_sent_but_a_cancel_is() {
    for agreed in [false, true] {
        let mut scene = Scene::new();
        scene.manage_firmware(&gw(), "m");
        let (reply, sent) = scene.create(NewRequest {
            timeout: Some(600),
            ..firmware("download", &[gw()], json!([]))
        });
        let Ok(Reply::Created { id }) = reply else { panic!() };
        let mut asked = sent[0].clone();
        if agreed {
            let said = scene.respond(&gw(), &req_id(&asked.2), 200, "");
            asked = published(&said.step)[0].clone();
        }
        scene.advance(600);
        let said = match agreed {
            false => scene.respond(&gw(), &req_id(&asked.2), 200, ""),
            true => scene.respond(&gw(), &req_id(&asked.2), 400, "no uri"),
        };
        let sent: Vec<String> = published(&said.step).into_iter().map(|(_, topic, _)| topic).collect();
        if agreed {
            assert_eq!(sent, ["iotdm-1/type/edge/id/gw-1/cancel"]);
            continue;
        }
        assert!(sent.is_empty(), "{sent:?}");
        scene.handle(Event::Deadline);
        let row = scene.status(&id, &gw());
        let why = "its time was over before the device could be asked for the next step";
        assert_eq!((row.status, row.message.as_deref()), (Status::TimedOut, Some(why)));
    }
}

#[test]
fn a_device_that_is_forgotten_is_gone_until_it_says_something() {
    let mut scene = Scene::new();
    let forget = Event::Forget { device: gw() };
    let refused = |step: &iotdm::service::brain::Step| match step.effects.as_slice() {
        [Effect::Reply(Err(refusal))] => refusal.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&scene.handle(forget.clone())), RefusalKind::NotFound);
    scene.manage(&gw(), "m");
    let (id, sent) = scene.reboot(&[gw()]);
    assert_eq!(refused(&scene.handle(forget.clone())), RefusalKind::Conflict);
    scene.respond(&gw(), &req_id(&sent[0].2), 500, "");
    let step = scene.handle(forget);
    assert!(step.effects.contains(&Effect::Reply(Ok(Reply::Forgotten))));
    assert!(scene.service.device(&gw()).is_none());
    assert_eq!(scene.service.next_deadline(), None, "its lifetime is forgotten, too");
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::Failure, true),
        "what was asked of it is still told"
    );
    let (reply, _) = scene.create(reboot_of(&[gw()]));
    assert_eq!(reply.unwrap_err().kind, RefusalKind::NotFound);
    scene.manage(&gw(), "m");
    let row = scene.service.device(&gw()).unwrap();
    assert!(row.managed.is_some() && row.manages.len() == 1);
}

#[test]
fn svc_04_cancel_ends_what_is_in_progress_and_delete_clears_a_request() {
    let mut scene = Scene::new();
    let other = device("edge/gw-2");
    scene.manage(&gw(), "m");
    scene.manage(&other, "m");
    let (id, sent) = scene.reboot(&[gw(), other.clone()]);
    scene.respond(&gw(), &req_id(&sent[0].2), 202, "");
    scene.manage(&gw(), "m2");
    let step = scene.handle(Event::Cancel { id: id.clone() });
    assert!(step.effects.contains(&Effect::Reply(Ok(Reply::Cancelled))));
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::Success, true),
        "what is done stays done"
    );
    assert_eq!(scene.stands(&id, &other), (Status::Failure, true));
    assert!(scene.service.is_complete(scene.service.request(&id).unwrap()));
    assert_eq!(
        scene.service.next_deadline(),
        Some(START_MS + 86_400_000),
        "only lifetimes"
    );
    let step = scene.handle(Event::Delete { id: id.clone() });
    assert!(step.effects.contains(&Effect::Reply(Ok(Reply::Deleted))));
    assert!(scene.service.request(&id).is_none());
    for event in [Event::Cancel { id: id.clone() }, Event::Delete { id }] {
        let step = scene.handle(event);
        let [Effect::Reply(Err(refusal))] = step.effects.as_slice() else {
            panic!("{step:?}")
        };
        assert_eq!(refusal.kind, RefusalKind::NotFound);
    }
}

#[test]
fn svc_04_a_puback_for_a_deleted_request_does_not_count_for_the_next() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let (first, sent) = scene.reboot(&[gw()]);
    scene.handle(Event::Delete { id: first });
    let (second, again) = scene.reboot(&[gw()]);
    assert_ne!(req_id(&sent[0].2), req_id(&again[0].2));
    scene.handle(Event::Published(sent[0].0));
    assert_eq!(scene.status(&second, &gw()).sent_ms, None);
    scene.handle(Event::Published(again[0].0));
    assert_eq!(scene.status(&second, &gw()).sent_ms, Some(START_MS));
}

#[test]
fn svc_04_the_oldest_complete_requests_make_room_and_what_is_in_progress_does_not() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let (first, _) = scene.reboot(&[gw()]);
    let (second, _) = scene.reboot(&[gw()]);
    scene.handle(Event::Cancel { id: second.clone() });
    for _ in 2..MAX_REQUESTS {
        scene.reboot(&[gw()]);
    }
    assert_eq!(scene.service.request_count(), MAX_REQUESTS);
    scene.reboot(&[gw()]);
    assert_eq!(scene.service.request_count(), MAX_REQUESTS);
    assert!(scene.service.request(&second).is_none(), "complete");
    assert!(scene.service.request(&first).is_some(), "in progress");
    let (reply, _) = scene.create(reboot_of(&[gw()]));
    assert_eq!(reply.unwrap_err().kind, RefusalKind::Busy);
}

#[test]
fn svc_05_what_defective_sdks_send_is_dropped_or_answered_and_never_harms() {
    let topic = |kind: ToService| kind.topic(&Address::Device(gw()));
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let (id, sent) = scene.reboot(&[gw()]);
    let reboot = req_id(&sent[0].2);
    let before = scene.service.rows();
    let unquoted = format!("{{\"rc\":202,\"reqId\":{reboot}}}");
    let outcome = scene.raw(&topic(ToService::Response), unquoted.as_bytes());
    assert!(outcome.answers.is_empty() && outcome.text().contains("cannot be used"));
    for (name, payload) in [
        ("response", &b"{\"rc\":202,\"reqId\":\"x\"}"[..]),
        ("iotdevice-1/response", b"{\"rc\":202,\"reqId\":\"x\"}"),
        ("iotdevice-1/mgmt/manage", b"{\"reqId\":\"x\"}"),
        ("iotdevice-1/type/a b/id/c/mgmt/manage", b"{\"reqId\":\"x\"}"),
    ] {
        let outcome = scene.raw(name, payload);
        assert!(
            outcome.answers.is_empty() && outcome.lines[0].operation == "ignored",
            "{name}"
        );
    }
    assert_eq!(scene.service.rows(), before);
    let as_text = format!("{{\"rc\":\"202\",\"reqId\":\"{reboot}\",\"message\":\"\"}}");
    scene.raw(&topic(ToService::Response), as_text.as_bytes());
    assert!(scene.status(&id, &gw()).accepted_ms.is_some(), "rc as a string");
    let numbers =
        json!({"d": {"supports": {"deviceActions": 1, "firmwareActions": 0}, "deviceInfo": {}}, "reqId": "n"});
    assert_eq!(scene.say(&gw(), ToService::Manage, numbers).rc(), (200, None));
    assert!(
        scene
            .service
            .device(&gw())
            .unwrap()
            .managed
            .clone()
            .unwrap()
            .device_actions
    );
}

#[test]
fn svc_05_what_is_malformed_is_answered_400_under_the_id_that_can_be_read_or_else_dropped() {
    let topic = ToService::Manage.topic(&Address::Device(gw()));
    let mut scene = Scene::new();
    let outcome = scene.raw(&topic, b"{\"reqId\":\"a\",\"d\":{\"lifetime\":\"soon\"}}");
    assert_eq!(
        outcome.rc(),
        (400, Some("d.lifetime: is a string; it must be an integer"))
    );
    assert_eq!(outcome.answers[0].1.req_id.as_str(), "a");
    let outcome = scene.raw(&topic, b"{\"reqId\":\"a\",\"d\":");
    assert_eq!(outcome.rc().0, 400, "cut off after the id");
    let outcome = scene.raw(&topic, b"nonsense");
    assert!(outcome.answers.is_empty());
    assert!(outcome.text().contains("cannot be answered"), "{}", outcome.text());
    let outcome = scene.raw("iotdevice-1/type/edge/id/gw-1/mgmt/managed", b"{\"reqId\":\"a\"}");
    assert_eq!(outcome.rc().0, 404, "an operation that the first draft had");
    assert_eq!(scene.service.device_count(), 0);
}

#[test]
fn svc_06_identity_comes_from_the_topic_only() {
    let mut scene = Scene::new();
    let lie = json!({"d": {"typeId": "other", "deviceId": "other", "clientId": "g:acme:other:other"}, "reqId": "m"});
    let outcome = scene.say(&gw(), ToService::Manage, lie);
    assert_eq!(outcome.answers[0].0, "edge/gw-1");
    assert!(scene.service.device(&gw()).unwrap().managed.is_some());
    assert!(scene.service.device(&device("other/other")).is_none());
}

#[test]
fn a_retained_message_is_acknowledged_and_nothing_follows_from_it() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let (id, sent) = scene.reboot(&[gw()]);
    scene.respond(&gw(), &req_id(&sent[0].2), 202, "");
    let step = scene.handle(Event::Message(Incoming {
        topic: ToService::Manage.topic(&Address::Device(gw())),
        payload: b"{\"reqId\":\"old\"}".to_vec(),
        retained: true,
        ack: AckToken(99),
    }));
    assert!(step.changes.is_empty());
    assert_eq!(step.effects.last(), Some(&Effect::Ack(AckToken(99))));
    assert!(outcome(step).answers.is_empty());
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
}

#[test]
fn a_request_is_a_row_before_it_is_a_message_and_is_published_until_its_puback_is_recorded() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let step = scene.handle(Event::Create(reboot_of(&[gw()])));
    assert!(step.changes.iter().any(|change| matches!(change, Change::PutStatus(_))));
    let first = published(&step);
    let same = |sent: &[(_, String, Value)]| sent.len() == 1 && sent[0].2 == first[0].2 && sent[0].1 == first[0].1;

    let step = scene.handle(Event::Connected { session_present: true });
    assert!(published(&step).is_empty(), "the session still has it");
    let step = scene.handle(Event::Connected { session_present: false });
    assert!(same(&published(&step)), "the session lost it");
    let lost = published(&step)[0].0;
    let step = scene.handle(Event::NotPublished(lost));
    assert!(same(&published(&step)));
    let last = published(&step)[0].0;

    let mut restarted = Scene::restored(scene.service.rows());
    let step = restarted.handle(Event::Connected { session_present: false });
    assert!(same(&published(&step)), "after a restart");

    let step = scene.handle(Event::Published(last));
    assert!(matches!(step.changes.as_slice(), [Change::PutStatus(row)] if row.sent_ms == Some(START_MS)));
    let step = scene.handle(Event::Connected { session_present: false });
    assert!(published(&step).is_empty(), "the broker has it");
}

#[test]
fn requests_go_out_a_bounded_number_at_a_time_and_all_of_them_in_the_end() {
    let mut scene = Scene::new();
    let devices: Vec<_> = (0..300).map(|n| device(&format!("edge/d{n}"))).collect();
    for device in &devices {
        scene.manage(device, "m");
    }
    let (_, mut sent) = scene.reboot(&devices);
    assert_eq!(sent.len(), WINDOW);
    let mut topics = Vec::new();
    while let Some((id, topic, _)) = sent.pop() {
        topics.push(topic);
        sent.extend(published(&scene.handle(Event::Published(id))));
        assert!(sent.len() <= WINDOW);
    }
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), devices.len());
}

#[test]
fn a_request_that_the_broker_refuses_has_failed_and_is_not_published_again() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    let (id, sent) = scene.reboot(&[gw()]);
    let step = scene.handle(Event::PublishRefused(sent[0].0));
    assert!(published(&step).is_empty());
    assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
    assert!(published(&scene.handle(Event::Connected { session_present: false })).is_empty());
}

#[test]
fn nothing_is_published_before_the_session_is_up() {
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    scene.handle(Event::Disconnected);
    let (id, sent) = scene.reboot(&[gw()]);
    assert!(sent.is_empty());
    let step = scene.handle(Event::Connected { session_present: true });
    assert_eq!(published(&step).len(), 1);
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
}
