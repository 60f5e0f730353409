//! Firmware actions in the brain: the steps, what notifies mean, who is busy, and what a restart goes on with.

use std::sync::atomic::{AtomicU64, Ordering};

use iotdm::protocol::{Device, ReqId, ToService};
use iotdm::service::brain::{
    CANCEL_PATIENCE_MS, DEFAULT_FIRMWARE_TIMEOUT, Event, NewRequest, RefusalKind, Reply, RequestStep, Status,
};
use serde_json::{Value, json};

use crate::scene::{Outcome, START_MS, Scene, Sent, device, firmware, gw, outcome, published, reboot_of};

const URI: &str = "https://fw.example.com/2.raucb";

/// The topic's tail of the one request that was published, and its payload.
fn asked(sent: &[Sent]) -> (&str, &Value) {
    let [(_, topic, payload)] = sent else {
        panic!("expected one request: {sent:?}")
    };
    (topic.strip_prefix("iotdm-1/type/edge/id/gw-1/").unwrap(), payload)
}

fn req_id(sent: &[Sent]) -> ReqId {
    ReqId::new(asked(sent).1["reqId"].as_str().unwrap()).unwrap()
}

fn described() -> Value {
    json!([{"name": "uri", "value": URI}, {"name": "version", "value": "2.0"}])
}

pub fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.manage_firmware(&gw(), "m1");
    scene
}

pub fn begin(scene: &mut Scene, request: NewRequest) -> (String, Vec<Sent>) {
    match scene.create(request) {
        (Ok(Reply::Created { id }), sent) => (id, sent),
        other => panic!("{other:?}"),
    }
}

/// The device answers what it was asked; returns what it is asked next.
pub fn answer(scene: &mut Scene, sent: &[Sent], rc: u16) -> Vec<Sent> {
    published(&scene.respond(&gw(), &req_id(sent), rc, "").step)
}

pub fn notify(scene: &mut Scene, value: Value) -> Outcome {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let req_id = format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed));
    notify_with(scene, &value, &req_id)
}

fn notify_with(scene: &mut Scene, value: &Value, req_id: &str) -> Outcome {
    let payload = json!({"d": {"fields": [{"field": "mgmt.firmware", "value": value}]}, "reqId": req_id});
    scene.say(&gw(), ToService::Notify, payload)
}

#[test]
fn a_notify_that_the_broker_delivers_again_after_the_202_says_nothing_about_the_action() {
    let mut scene = scene();
    let (id, sent) = begin(&mut scene, firmware("download", &[gw()], json!([])));
    let sent = answer(&mut scene, &sent, 200);
    let failure = json!({"state": 0, "updateStatus": 5});
    assert_eq!(notify_with(&mut scene, &failure, "before").rc(), (200, None));
    assert!(answer(&mut scene, &sent, 202).is_empty());
    assert_eq!(
        notify_with(&mut scene, &failure, "before").rc(),
        (200, None),
        "answered again"
    );
    assert_eq!(scene.status(&id, &gw()).status, Status::InProgress);
    assert_eq!(scene.status(&id, &gw()).step, RequestStep::Working);
}

/// An action without parameters that the device has answered 202.
pub fn working(action: &str) -> (Scene, String) {
    let mut scene = scene();
    let (id, sent) = begin(&mut scene, firmware(action, &[gw()], json!([])));
    let sent = answer(&mut scene, &sent, 200);
    assert!(answer(&mut scene, &sent, 202).is_empty());
    assert_eq!(scene.status(&id, &gw()).step, RequestStep::Working);
    (scene, id)
}

fn observed(scene: &Scene) -> bool {
    let managed = scene.service.device(&gw()).unwrap().managed.as_ref().unwrap();
    managed.observed.contains("mgmt.firmware")
}

fn known(scene: &Scene) -> Value {
    let managed = scene.service.device(&gw()).unwrap().managed.clone().unwrap();
    Value::Object(managed.firmware)
}

#[test]
fn fws_01_each_step_waits_for_the_answer_to_the_one_before_it() {
    let mut scene = scene();
    let (id, sent) = begin(&mut scene, firmware("download", &[gw()], described()));
    let (topic, payload) = asked(&sent);
    assert_eq!(topic, "device/update");
    assert_eq!(
        payload["d"],
        json!({"fields": [{"field": "mgmt.firmware", "value": {"version": "2.0", "name": "", "uri": URI,
            "verifier": "", "state": 0, "updateStatus": 0, "updatedDateTime": ""}}]})
    );
    let sent = answer(&mut scene, &sent, 204);
    assert_eq!(asked(&sent).0, "observe");
    assert_eq!(asked(&sent).1["d"], json!({"fields": [{"field": "mgmt.firmware"}]}));
    assert_eq!(known(&scene)["uri"], URI);
    assert!(!observed(&scene));
    let sent = answer(&mut scene, &sent, 200);
    assert_eq!(asked(&sent).0, "mgmt/initiate/firmware/download");
    assert!(observed(&scene));
    assert!(answer(&mut scene, &sent, 202).is_empty());
    assert_eq!(notify(&mut scene, json!({"state": 1})).rc(), (200, None));
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
    let sent = published(&notify(&mut scene, json!({"state": 2})).step);
    assert_eq!(asked(&sent).0, "cancel");
    assert_eq!(asked(&sent).1["d"], json!({"fields": [{"field": "mgmt.firmware"}]}));
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::InProgress, false),
        "until the cancel is answered"
    );
    assert!(answer(&mut scene, &sent, 200).is_empty());
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
    assert!(!observed(&scene));
    let row = scene.status(&id, &gw());
    assert_eq!(
        (row.rc, row.message.as_deref(), row.accepted_ms),
        (Some(202), None, Some(START_MS))
    );
    assert_eq!(
        notify(&mut scene, json!({"state": 0})).rc().0,
        404,
        "nobody observes any more"
    );
    assert_eq!(known(&scene)["state"], 2);
}

#[test]
fn fws_01_any_other_code_ends_the_devices_part_with_the_code_and_message_kept() {
    for (good, bad, message, cancelled) in [
        (vec![], 200, "", false),
        (vec![], 409, "a download runs", false),
        (vec![204], 202, "", false),
        (vec![204], 404, "no such field", false),
        (vec![204, 200], 200, "", true),
        (vec![204, 200], 400, "uri: is missing", true),
        (vec![204, 200], 501, "", true),
        (vec![204, 200, 202], 500, "did not happen", true),
    ] {
        let mut scene = scene();
        let (id, mut sent) = begin(&mut scene, firmware("download", &[gw()], described()));
        let mut last = req_id(&sent);
        for rc in &good {
            sent = answer(&mut scene, &sent, *rc);
            if !sent.is_empty() {
                last = req_id(&sent);
            }
        }
        let sent = published(&scene.respond(&gw(), &last, bad, message).step);
        if cancelled {
            assert_eq!(asked(&sent).0, "cancel", "{good:?} {bad}");
            assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
            answer(&mut scene, &sent, 200);
        } else {
            assert!(sent.is_empty(), "nothing was observed: {sent:?}");
        }
        let row = scene.status(&id, &gw());
        assert_eq!((row.status, row.rc), (Status::Failure, Some(bad)), "{good:?} {bad}");
        let said = row.message.as_deref().unwrap();
        assert!(
            if message.is_empty() {
                said.contains(&bad.to_string())
            } else {
                said == message
            },
            "{said}"
        );
        assert!(!observed(&scene));
    }
}

#[test]
fn fws_01_an_answer_that_comes_twice_does_not_lead_on_twice() {
    let mut scene = scene();
    let (_, update) = begin(&mut scene, firmware("download", &[gw()], described()));
    let observe = answer(&mut scene, &update, 204);
    assert!(answer(&mut scene, &update, 204).is_empty());
    let initiate = answer(&mut scene, &observe, 200);
    assert!(answer(&mut scene, &observe, 404).is_empty(), "late and different");
    assert!(answer(&mut scene, &initiate, 202).is_empty());
    assert!(answer(&mut scene, &initiate, 202).is_empty());
    let cancel = published(&notify(&mut scene, json!({"state": 2})).step);
    assert!(
        answer(&mut scene, &initiate, 500).is_empty(),
        "it has said that it is done"
    );
    assert!(published(&notify(&mut scene, json!({"state": 2})).step).is_empty());
    assert!(answer(&mut scene, &cancel, 200).is_empty());
}

#[test]
fn fws_02_without_parameters_the_first_step_is_left_out() {
    for action in ["download", "update"] {
        let mut scene = scene();
        let (_, sent) = begin(&mut scene, firmware(action, &[gw()], json!([])));
        assert_eq!(asked(&sent).0, "observe");
        let sent = answer(&mut scene, &sent, 200);
        assert_eq!(asked(&sent).0, format!("mgmt/initiate/firmware/{action}"));
    }
    let mut scene = scene();
    let (_, sent) = begin(&mut scene, firmware("update", &[gw()], described()));
    assert_eq!(asked(&sent).0, "device/update", "an update may have them, too");
}

#[test]
fn fws_03_a_second_firmware_request_for_a_busy_device_is_refused_as_a_whole_and_names_it() {
    let (mut scene, id) = working("download");
    let other = device("edge/gw-2");
    scene.manage_firmware(&other, "o");
    let before = scene.service.rows();
    for action in ["download", "update"] {
        let (reply, sent) = scene.create(firmware(action, &[other.clone(), gw()], json!([])));
        let refusal = reply.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert!(
            refusal.message.contains("edge/gw-1 is busy with firmware/download") && refusal.message.contains(&id),
            "{refusal}"
        );
        assert!(sent.is_empty());
        assert_eq!(scene.service.rows(), before);
    }
    let (reply, _) = scene.create(reboot_of(&[gw()]));
    assert!(reply.is_ok(), "only firmware actions exclude each other");
}

#[test]
fn fws_03_an_override_calls_off_everything_in_progress_with_its_devices_first() {
    let (mut scene, first) = working("download");
    let (reboot, _) = scene.reboot(&[gw()]);
    let request = NewRequest {
        overrides: true,
        ..firmware("download", &[gw()], described())
    };
    let (second, sent) = begin(&mut scene, request);
    for id in [&first, &reboot] {
        let row = scene.status(id, &gw());
        assert_eq!(row.status, Status::Failure);
        assert!(row.message.as_deref().unwrap().contains("overrides"));
    }
    let tails: Vec<&str> = sent
        .iter()
        .map(|(_, topic, _)| topic.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(tails, ["cancel", "update"], "in this order");
    assert_eq!(sent[0].2.get("reqId"), None, "nobody waits for an answer to that");
    assert!(!observed(&scene));
    let sent = answer(&mut scene, &sent[1..], 204);
    let sent = answer(&mut scene, &sent, 200);
    assert_eq!(asked(&sent).0, "mgmt/initiate/firmware/download");
    assert_eq!(scene.stands(&second, &gw()), (Status::InProgress, false));
}

#[test]
fn fws_03_an_override_that_is_refused_calls_nothing_off() {
    let (mut scene, id) = working("download");
    let unknown = NewRequest {
        overrides: true,
        ..firmware("download", &[gw(), device("edge/unknown")], json!([]))
    };
    assert_eq!(scene.create(unknown).0.unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
}

#[test]
fn fws_04_obs_08_a_notify_of_any_shape_without_an_id_or_with_partial_values_is_understood() {
    let shapes = [
        json!({"d": {"fields": [{"field": "mgmt.firmware", "value": {"state": 2}}]}, "reqId": "n"}),
        json!({"d": {"fields": [{"field": "mgmt.firmware", "value": {"state": "2"}}]}}),
        json!({"d": {"field": "mgmt.firmware", "value": {"state": 2}}}),
        json!({"d": {"fields": [{"field": "mgmt.firmware.state", "value": 2}]}, "reqId": "n"}),
        json!({"d": {"fields": [{"field": "mgmt.firmware", "value": {"state": 2, "updateStatus": 0}}]}}),
    ];
    for shape in shapes {
        let (mut scene, id) = working("download");
        let said = scene.say(&gw(), ToService::Notify, shape.clone());
        assert_eq!(said.answers.len(), usize::from(shape.get("reqId").is_some()));
        let sent = published(&said.step);
        assert_eq!(asked(&sent).0, "cancel", "{shape}");
        answer(&mut scene, &sent, 200);
        assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
    }
}

#[test]
fn fws_04_codes_as_strings_lead_on_as_numbers_do() {
    let mut scene = scene();
    let (id, mut sent) = begin(&mut scene, firmware("download", &[gw()], described()));
    for rc in ["204", "200", "202"] {
        let payload = json!({"rc": rc, "reqId": asked(&sent).1["reqId"]});
        sent = published(&scene.say(&gw(), ToService::Response, payload).step);
    }
    assert_eq!(scene.status(&id, &gw()).step, RequestStep::Working);
}

#[test]
fn fws_01_what_notifies_say_of_a_download_ends_it_or_does_not() {
    let cases: [Case<'_>; 8] = [
        (&[json!({"state": 1})], None),
        (&[json!({"state": 1, "updateStatus": 0})], None),
        (&[json!({"state": 2})], Some(Ok(()))),
        (
            &[json!({"state": 1}), json!({"state": 2, "updateStatus": 0})],
            Some(Ok(())),
        ),
        (
            &[json!({"state": 1}), json!({"state": 0, "updateStatus": 3})],
            Some(Err("the download failed: connection lost (updateStatus 3)")),
        ),
        (
            &[json!({"state": 0, "updateStatus": 6})],
            Some(Err("the download failed: invalid URI (updateStatus 6)")),
        ),
        (
            &[json!({"state": 1}), json!({"updateStatus": 4})],
            Some(Err("the download failed: verification failed (updateStatus 4)")),
        ),
        (&[json!({"state": 1}), json!({"version": "2"})], None),
    ];
    ends("download", &cases);
}

#[test]
fn fws_01_what_notifies_say_of_an_update_ends_it_or_does_not() {
    let cases: [Case<'_>; 9] = [
        (&[json!({"updateStatus": 1})], None),
        (&[json!({"state": 0, "updateStatus": 1})], None),
        (&[json!({"state": 2, "updateStatus": 0})], None),
        (
            &[json!({"updateStatus": 1}), json!({"state": 0, "updateStatus": 0})],
            Some(Ok(())),
        ),
        (&[json!({"updateStatus": 1}), json!({"updateStatus": 0})], Some(Ok(()))),
        (&[json!({"state": 0})], Some(Ok(()))),
        (
            &[json!({"state": 0, "updateStatus": 1}), json!({"updateStatus": 0})],
            Some(Ok(())),
        ),
        (
            &[json!({"updateStatus": 1}), json!({"updateStatus": 2})],
            Some(Err("the update failed: out of memory (updateStatus 2)")),
        ),
        (
            &[json!({"state": 0, "updateStatus": 5})],
            Some(Err("the update failed: unsupported image (updateStatus 5)")),
        ),
    ];
    ends("update", &cases);
}

/// Notifies, and the end that they are: none, success, or failure with the reason.
type Case<'a> = (&'a [Value], Option<Result<(), &'a str>>);

fn ends(action: &str, cases: &[Case<'_>]) {
    for (notifies, end) in cases {
        let (mut scene, id) = working(action);
        let mut sent = Vec::new();
        for value in *notifies {
            let said = notify(&mut scene, value.clone());
            assert_eq!(said.rc(), (200, None));
            sent.extend(published(&said.step));
        }
        let row = scene.status(&id, &gw()).clone();
        match end {
            None => assert_eq!((row.step, sent.len()), (RequestStep::Working, 0), "{notifies:?}"),
            Some(end) => {
                assert_eq!(asked(&sent).0, "cancel", "{notifies:?}");
                answer(&mut scene, &sent, 200);
                let row = scene.status(&id, &gw());
                let expected = if end.is_ok() { Status::Success } else { Status::Failure };
                assert_eq!(
                    (row.status, row.message.as_deref()),
                    (expected, end.err()),
                    "{notifies:?}"
                );
            }
        }
    }
}

#[test]
fn fws_01_a_notify_before_the_202_is_known_and_ends_nothing() {
    let mut scene = scene();
    let (id, sent) = begin(&mut scene, firmware("download", &[gw()], json!([])));
    let sent = answer(&mut scene, &sent, 200);
    assert!(published(&notify(&mut scene, json!({"state": 0, "updateStatus": 3})).step).is_empty());
    assert_eq!(known(&scene), json!({"state": 0, "updateStatus": 3}));
    answer(&mut scene, &sent, 202);
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::InProgress, false),
        "it was about an earlier download"
    );
}

#[test]
fn obs_08_the_value_in_the_answer_to_an_observe_is_what_is_known() {
    for (d, state) in [
        (
            json!({"fields": [{"field": "mgmt.firmware", "value": {"state": 2, "version": "2.0"}}]}),
            json!(2),
        ),
        (
            json!({"fields": [{"field": "mgmt.firmware", "value": {"state": "soon"}}]}),
            json!(0),
        ),
        (json!("nonsense"), json!(0)),
        (Value::Null, json!(0)),
    ] {
        let mut scene = scene();
        let (_, sent) = begin(&mut scene, firmware("update", &[gw()], described()));
        let sent = answer(&mut scene, &sent, 204);
        let response = json!({"rc": 200, "reqId": asked(&sent).1["reqId"], "d": d});
        let sent = published(&scene.say(&gw(), ToService::Response, response).step);
        assert_eq!(asked(&sent).0, "mgmt/initiate/firmware/update", "whatever it says");
        assert_eq!(known(&scene)["state"], state, "{d}");
    }
}

#[test]
fn mng_15_a_manage_does_not_end_a_firmware_action() {
    let (mut scene, id) = working("update");
    notify(&mut scene, json!({"updateStatus": 1}));
    scene.manage_firmware(&gw(), "after the reboot");
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
    assert!(observed(&scene), "and the observation goes on");
    let sent = published(&notify(&mut scene, json!({"state": 0, "updateStatus": 0})).step);
    answer(&mut scene, &sent, 200);
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
}

#[test]
fn svc_01_the_parameters_of_a_firmware_action_are_checked_by_name() {
    let mut scene = scene();
    let other = device("other/gw");
    scene.manage_firmware(&other, "o");
    scene.manage(&device("edge/no-firmware"), "o");
    for (parameters, named) in [
        (json!([{"name": "url", "value": "x"}]), "parameters[0].name"),
        (json!([{"value": "x"}]), "parameters[0].name"),
        (json!([{"name": "uri"}]), "parameters[0].value"),
        (json!([{"name": "uri", "value": 7}]), "parameters[0].value"),
        (
            json!([{"name": "uri", "value": "x".repeat(5000)}]),
            "parameters[0].value",
        ),
        (
            json!([{"name": "uri", "value": "x"}, {"name": "uri", "value": "x"}]),
            "parameters[1].name",
        ),
        (json!(["uri"]), "parameters[0]"),
    ] {
        let refusal = scene.create(firmware("download", &[gw()], parameters)).0.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.message.starts_with(named), "{refusal}");
    }
    let mixed = scene.create(firmware("update", &[gw(), other.clone()], json!([]))).0;
    let mixed = mixed.unwrap_err();
    assert_eq!(mixed.kind, RefusalKind::Invalid);
    assert!(mixed.message.contains("differ in type"), "{mixed}");
    assert!(scene.create(firmware("download", &[gw(), other], json!([]))).0.is_ok());
    let refusal = scene
        .create(firmware("download", &[device("edge/no-firmware")], json!([])))
        .0;
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotSupported);
    assert!(refusal.message.contains("no firmware actions"), "{refusal}");
}

#[test]
fn svc_03_a_firmware_action_has_a_day_and_a_timeout_stops_the_observation() {
    let (mut scene, id) = working("update");
    let end = START_MS + i64::try_from(DEFAULT_FIRMWARE_TIMEOUT).unwrap() * 1000;
    assert_eq!(DEFAULT_FIRMWARE_TIMEOUT, 86_400);
    scene.now_ms = end - 1;
    scene.manage_firmware(&gw(), "renewed");
    scene.handle(Event::Deadline);
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
    scene.now_ms = end;
    let sent = published(&scene.handle(Event::Deadline));
    assert_eq!(scene.stands(&id, &gw()), (Status::TimedOut, true));
    assert_eq!(asked(&sent).0, "cancel");
    assert_eq!(asked(&sent).1.get("reqId"), None);
    assert_eq!(notify(&mut scene, json!({"state": 0, "updateStatus": 0})).rc().0, 404);
    assert_eq!(scene.stands(&id, &gw()), (Status::TimedOut, true));
}

#[test]
fn svc_03_a_cancel_that_stays_unanswered_ends_as_the_device_has_reported() {
    for (value, status) in [
        (json!({"state": 2}), Status::Success),
        (json!({"state": 0, "updateStatus": 3}), Status::Failure),
    ] {
        let (mut scene, id) = working("download");
        notify(&mut scene, value);
        assert_eq!(scene.service.next_deadline(), Some(START_MS + CANCEL_PATIENCE_MS));
        scene.now_ms += CANCEL_PATIENCE_MS;
        let said = outcome(scene.handle(Event::Deadline));
        assert!(said.text().contains("does not answer the cancel"), "{}", said.text());
        assert_eq!(scene.stands(&id, &gw()), (status, true));
        assert!(!observed(&scene));
        assert!(scene.service.next_deadline().is_none_or(|at| at > scene.now_ms));
    }
}

#[test]
fn svc_04_an_operator_who_cancels_ends_it_at_once_and_the_device_is_told() {
    for (rcs, told) in [
        (&[][..], false),
        (&[204], true),
        (&[204, 200], true),
        (&[204, 200, 202], true),
    ] {
        let mut scene = scene();
        let (id, mut sent) = begin(&mut scene, firmware("download", &[gw()], described()));
        for rc in rcs {
            sent = answer(&mut scene, &sent, *rc);
        }
        let sent = published(&scene.handle(Event::Cancel { id: id.clone() }));
        assert_eq!(!sent.is_empty(), told, "after {rcs:?}");
        assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
        assert!(!observed(&scene));
        assert!(
            scene.create(firmware("download", &[gw()], json!([]))).0.is_ok(),
            "not busy any more"
        );
    }
    let (mut scene, id) = working("download");
    let sent = published(&scene.handle(Event::Delete { id }));
    assert_eq!(asked(&sent).0, "cancel", "a deleted one, too");
    assert!(!observed(&scene));
}

#[test]
fn svc_02_unmanaged_meanwhile_is_a_failure_unless_the_device_has_said_how_it_ended() {
    let (mut scene, id) = working("download");
    let sent = published(&scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"})).step);
    assert!(sent.is_empty(), "nothing is sent to an unmanaged device");
    assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
    let (mut scene, id) = working("download");
    notify(&mut scene, json!({"state": 2}));
    scene.say(&gw(), ToService::Unmanage, json!({"reqId": "u"}));
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
}

#[test]
fn svc_02_what_the_device_notified_stands_in_its_row() {
    let (mut scene, id) = working("update");
    let words = |scene: &Scene| {
        let row = scene.status(&id, &gw());
        (
            row.state.map(|state| state as u8),
            row.update_status.map(|status| status as u8),
        )
    };
    assert_eq!(words(&scene), (None, None));
    notify(&mut scene, json!({"updateStatus": 1}));
    assert_eq!(words(&scene), (None, Some(1)));
    notify(&mut scene, json!({"state": 0, "updateStatus": 5}));
    assert_eq!(words(&scene), (Some(0), Some(5)));
}

/// The device as it lives through a restart of the service: what it was asked and has not answered.
pub fn restart(scene: &mut Scene) -> Vec<Sent> {
    let now_ms = scene.now_ms;
    let rows = scene.service.rows();
    *scene = Scene::unconnected(rows, now_ms, 8);
    published(&scene.handle(Event::Connected { session_present: true }))
}

#[test]
fn fws_01_a_service_that_is_killed_at_any_step_goes_on_with_it_and_repeats_no_initiate_that_was_answered() {
    for kill_at in 0..10 {
        let mut scene = scene();
        let (id, mut sent) = begin(&mut scene, firmware("download", &[gw()], described()));
        let mut initiated = Vec::new();
        let mut at = 0;
        let mut maybe_kill = |scene: &mut Scene, sent: &mut Vec<Sent>| {
            if at == kill_at {
                let again = restart(scene);
                assert_eq!(
                    again.iter().map(|sent| &sent.2).collect::<Vec<_>>(),
                    sent.iter().map(|sent| &sent.2).collect::<Vec<_>>(),
                    "the same again with the same id, or nothing (at {kill_at})"
                );
                *sent = again;
            }
            at += 1;
        };
        for rc in [204, 200, 202] {
            maybe_kill(&mut scene, &mut sent);
            if asked(&sent).0.starts_with("mgmt/initiate") {
                initiated.push(req_id(&sent));
            }
            sent = answer(&mut scene, &sent, rc);
        }
        maybe_kill(&mut scene, &mut sent);
        notify(&mut scene, json!({"state": 1}));
        maybe_kill(&mut scene, &mut sent);
        sent = published(&notify(&mut scene, json!({"state": 2})).step);
        maybe_kill(&mut scene, &mut sent);
        sent = answer(&mut scene, &sent, 200);
        maybe_kill(&mut scene, &mut sent);
        assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
        assert_eq!(initiated.len(), 1);
    }
}

#[test]
fn a_puback_that_comes_after_the_answer_does_not_count_for_the_next_step() {
    let mut scene = scene();
    let (id, update) = begin(&mut scene, firmware("download", &[gw()], described()));
    let observe = answer(&mut scene, &update, 204);
    scene.handle(Event::Published(update[0].0));
    assert_eq!(scene.status(&id, &gw()).sent_ms, None);
    let again = published(&scene.handle(Event::Connected { session_present: false }));
    assert_eq!(
        again[0].2, observe[0].2,
        "so it is published again after a lost session"
    );
    scene.handle(Event::Published(again[0].0));
    assert_eq!(scene.status(&id, &gw()).sent_ms, Some(START_MS));
}

#[test]
fn a_step_that_the_broker_refuses_ends_the_devices_part() {
    let mut scene = scene();
    let (id, sent) = begin(&mut scene, firmware("download", &[gw()], described()));
    let sent = answer(&mut scene, &sent, 204);
    let step = scene.handle(Event::PublishRefused(sent[0].0));
    assert!(published(&step).is_empty());
    assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
}

#[test]
fn two_devices_of_one_request_go_through_their_steps_by_themselves() {
    let mut scene = scene();
    let other: Device = device("edge/gw-2");
    scene.manage_firmware(&other, "o");
    let (id, sent) = begin(&mut scene, firmware("download", &[gw(), other.clone()], described()));
    assert_eq!(sent.len(), 2);
    let first = answer(&mut scene, &sent[..1], 204);
    assert_eq!(asked(&first).0, "observe");
    assert_eq!(scene.status(&id, &other).step, RequestStep::Update);
    let id_of_other = ReqId::new(sent[1].2["reqId"].as_str().unwrap()).unwrap();
    scene.respond(&other, &id_of_other, 501, "no firmware here");
    assert_eq!(scene.stands(&id, &other), (Status::Failure, true));
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
}
