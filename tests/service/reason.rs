//! Why a firmware action failed: the device notifies a code, and its log has the words, whichever comes first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::protocol::{Device, ToService};
use iotdm::service::brain::{Change, Status};
use serde_json::{Value, json};

use crate::firmware::{answer, notify, restart, working};
use crate::scene::{Scene, Sent, device, gw, published};

const REASON: &str = "the firmware was not updated: modbus.service has failed";
const BOTH: &str = "the firmware was not updated: modbus.service has failed (unsupported image, updateStatus 5)";
const CODE: &str = "the update failed: unsupported image (updateStatus 5)";

fn log(scene: &mut Scene, device: &Device, message: &str, data: Option<&str>) {
    let mut d = json!({"message": message, "severity": 2});
    if let Some(data) = data {
        d["data"] = STANDARD.encode(data).into();
    }
    let said = scene.say(device, ToService::AddLog, json!({"d": d, "reqId": "l"}));
    assert_eq!(said.rc(), (200, None));
}

/// An error of an application, as it comes out of the device's journal.
fn journal(scene: &mut Scene) {
    let data = json!({"unit": "modbus.service", "cursor": "s=1", "count": 1});
    log(scene, &gw(), "no answer from 17", Some(&data.to_string()));
}

/// What the agent logs of a failed action.
fn failure(scene: &mut Scene, request: &str) {
    let data = json!({"firmware": "update", "updateStatus": 5, "reqId": request});
    log(scene, &gw(), REASON, Some(&data.to_string()));
}

/// An update that the device has answered 202, and the id on the wire that it was asked for with.
fn update() -> (Scene, String, String) {
    let (scene, id) = working("update");
    let asked = scene.status(&id, &gw()).req_id.as_str().to_owned();
    (scene, id, asked)
}

fn fails(scene: &mut Scene) -> Vec<Sent> {
    notify(scene, json!({"updateStatus": 1}));
    published(&notify(scene, json!({"state": 0, "updateStatus": 5})).step)
}

fn message<'a>(scene: &'a Scene, id: &str) -> Option<&'a str> {
    scene.status(id, &gw()).message.as_deref()
}

#[test]
fn the_reason_that_is_logged_before_the_notify_is_the_message_also_after_a_restart() {
    let (mut scene, id, asked) = update();
    journal(&mut scene);
    failure(&mut scene, &asked);
    journal(&mut scene);
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::InProgress, false),
        "a log ends nothing"
    );
    restart(&mut scene);
    let sent = fails(&mut scene);
    answer(&mut scene, &sent, 200);
    assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
    assert_eq!(message(&scene, &id), Some(BOTH));
    assert_eq!(scene.status(&id, &gw()).reason.as_deref(), Some(REASON));
}

#[test]
fn the_reason_that_is_logged_after_the_notify_is_the_message_from_then_on_however_late() {
    for complete in [false, true] {
        let (mut scene, id, asked) = update();
        let sent = fails(&mut scene);
        journal(&mut scene);
        if complete {
            answer(&mut scene, &sent, 200);
            assert_eq!(message(&scene, &id), Some(CODE));
            restart(&mut scene);
            scene.advance(600);
        }
        journal(&mut scene);
        failure(&mut scene, &asked);
        journal(&mut scene);
        if !complete {
            answer(&mut scene, &sent, 200);
        }
        assert_eq!(message(&scene, &id), Some(BOTH));
        assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
    }
}

#[test]
fn a_failure_that_is_told_again_or_late_is_no_reason_of_the_next_update() {
    let (mut scene, first, asked) = update();
    let sent = fails(&mut scene);
    answer(&mut scene, &sent, 200);
    let (second, sent) = crate::firmware::begin(&mut scene, crate::scene::firmware("update", &[gw()], json!([])));
    let sent = answer(&mut scene, &sent, 200);
    answer(&mut scene, &sent, 202);
    failure(&mut scene, &asked);
    assert_eq!(message(&scene, &first), Some(BOTH));
    let sent = fails(&mut scene);
    failure(&mut scene, &asked);
    answer(&mut scene, &sent, 200);
    assert_eq!(message(&scene, &second), Some(CODE));
}

#[test]
fn a_device_that_says_nothing_of_a_request_in_its_logs_keeps_the_protocols_code() {
    let (_, _, asked) = update();
    let other = json!({"firmware": "update", "updateStatus": 4, "reqId": asked}).to_string();
    let garbage: [Option<&str>; 7] = [
        None,
        Some("\u{0}\u{1}"),
        Some("[]"),
        Some(r#"{"firmware":"update","updateStatus":5}"#),
        Some(r#"{"firmware":"update","updateStatus":5,"reqId":"nobody's"}"#),
        Some(r#"{"firmware":"update","updateStatus":5,"reqId":""}"#),
        Some(&other),
    ];
    for data in garbage {
        let (mut scene, id, again) = update();
        assert_eq!(again, asked);
        let sent = fails(&mut scene);
        log(&mut scene, &gw(), "something is wrong", data);
        answer(&mut scene, &sent, 200);
        assert_eq!(message(&scene, &id), Some(CODE), "{data:?}");
    }
}

#[test]
fn a_log_changes_no_message_of_an_update_that_went_well_was_cancelled_or_is_another_devices() {
    let (mut scene, id, asked) = update();
    let sent = published(&notify(&mut scene, json!({"state": 0})).step);
    failure(&mut scene, &asked);
    answer(&mut scene, &sent, 200);
    failure(&mut scene, &asked);
    assert_eq!((message(&scene, &id), &scene.status(&id, &gw()).reason), (None, &None));

    let (mut scene, id, asked) = update();
    notify(&mut scene, json!({"updateStatus": 1}));
    scene.handle(iotdm::service::brain::Event::Cancel { id: id.clone() });
    failure(&mut scene, &asked);
    assert_eq!(message(&scene, &id), Some("cancelled by the operator"));

    let (mut scene, id, asked) = update();
    let data: Value = json!({"firmware": "update", "updateStatus": 5, "reqId": asked});
    log(&mut scene, &device("edge/other"), REASON, Some(&data.to_string()));
    let sent = fails(&mut scene);
    answer(&mut scene, &sent, 200);
    assert_eq!(message(&scene, &id), Some(CODE));
}

#[test]
fn a_reason_of_any_length_is_kept_with_the_code_behind_it_and_the_log_is_kept_too() {
    let (mut scene, id, asked) = update();
    let sent = fails(&mut scene);
    let data = json!({"firmware": "update", "updateStatus": 5, "reqId": asked}).to_string();
    log(&mut scene, &gw(), &"\u{e9}".repeat(5000), Some(&data));
    answer(&mut scene, &sent, 200);
    let said = message(&scene, &id).unwrap();
    assert!(said.chars().count() <= 1000 && said.ends_with("(unsupported image, updateStatus 5)"));
    assert!(scene.changes.iter().any(|change| matches!(change, Change::AddLog(_))));
}
