//! Observe, cancel, notify.

use std::time::Duration;

use iotdm::agent::{DownloadEnd, Event, Survey};
use iotdm::protocol::firmware::UpdateStatus;
use serde_json::json;

use crate::driver::{Driver, FULL};

fn observed(d: &str) -> Driver {
    let mut driver = Driver::managed();
    driver.describe("u1", "2.0");
    driver.request("observe", "o1", &format!(r#","d":{d}"#));
    driver
}

fn whole() -> Driver {
    observed(r#"{"fields":[{"field":"mgmt.firmware"}]}"#)
}

/// Brings the firmware to another state.
fn download(driver: &mut Driver, end: Option<DownloadEnd>) {
    let n = driver.surveys.len();
    driver.request("mgmt/initiate/firmware/download", &format!("d{n}"), "");
    let (op, _) = *driver.surveys.last().unwrap();
    driver.event(Event::Surveyed {
        op,
        found: Ok(Survey::default()),
    });
    if let Some(end) = end {
        let op = driver.downloads.last().unwrap().0;
        driver.event(Event::Downloaded { op, end });
    }
}

fn lost() -> Option<DownloadEnd> {
    Some(DownloadEnd::Failed {
        status: UpdateStatus::ConnectionLost,
        message: "lost".into(),
    })
}

#[test]
fn obs_01_observe_is_answered_with_the_value() {
    let driver = whole();
    let answer = driver.on("response").pop().unwrap().clone();
    assert_eq!(answer["rc"], 200);
    let field = &answer["d"]["fields"][0];
    assert_eq!(field["field"], "mgmt.firmware");
    assert_eq!(field["value"]["version"], "2.0");
    assert_eq!(field["value"]["state"], 0);
}

#[test]
fn obs_02_strings_and_objects_are_taken_and_several_fields_have_one_response() {
    let driver = observed(r#"{"fields":["mgmt.firmware.state",{"field":"mgmt.firmware.version"}]}"#);
    assert_eq!(driver.answers("o1"), [200]);
    let answer = driver.on("response").pop().unwrap().clone();
    assert_eq!(
        answer["d"]["fields"],
        json!([{"field": "mgmt.firmware.state", "value": 0}, {"field": "mgmt.firmware.version", "value": "2.0"}])
    );
}

#[test]
fn obs_03_an_unknown_field_is_404_named_without_a_value_and_nothing_is_observed() {
    for field in [
        "mgmt.firmwarex",
        "mgmt",
        "mgmt.firmware.nothing",
        "mgmt.firmware.",
        "battery",
    ] {
        let mut driver = observed(&format!(r#"{{"fields":["mgmt.firmware","{field}"]}}"#));
        let answer = driver.on("response").pop().unwrap().clone();
        assert_eq!(answer["rc"], 404, "{field}");
        assert_eq!(answer["d"]["fields"], json!([{"field": field}]));
        download(&mut driver, None);
        assert!(driver.on("notify").is_empty());
    }
}

#[test]
fn obs_04_nothing_is_notified_before_observe_and_after_cancel() {
    let mut driver = Driver::managed();
    driver.describe("u1", "2.0");
    download(&mut driver, lost());
    assert!(driver.on("notify").is_empty());
    let mut driver = whole();
    driver.request("cancel", "c1", r#","d":{"fields":["mgmt.firmware"]}"#);
    download(&mut driver, None);
    assert!(driver.on("notify").is_empty());
}

#[test]
fn obs_05_cancel_in_every_shape_is_200_twice() {
    for d in [
        r#","d":{"fields":["mgmt.firmware"]}"#,
        r#","d":{"fields":[{"field":"mgmt.firmware"}]}"#,
        r#","d":{"data":[{"field":"mgmt.firmware"}]}"#,
        r#","d":17"#,
        "",
    ] {
        let mut driver = whole();
        driver.request("cancel", "c1", d);
        driver.request("cancel", "c2", d);
        assert_eq!(
            (driver.answers("c1"), driver.answers("c2")),
            (vec![200], vec![200]),
            "{d}"
        );
        assert!(driver.on_disk().observed.is_empty(), "{d}");
    }
}

#[test]
fn obs_05_cancel_of_one_field_leaves_the_others() {
    let mut driver = observed(r#"{"fields":["mgmt.firmware","mgmt.firmware.state"]}"#);
    driver.request("cancel", "c1", r#","d":{"fields":["mgmt.firmware"]}"#);
    download(&mut driver, None);
    let notify = driver.on("notify")[0].clone();
    assert_eq!(
        notify["d"],
        json!({"fields": [{"field": "mgmt.firmware.state", "value": 1}]})
    );
}

#[test]
fn obs_06_what_changes_in_one_step_is_one_notify() {
    let mut driver = observed(r#"{"fields":["mgmt.firmware","mgmt.firmware.state"]}"#);
    download(&mut driver, None);
    driver.answer_notifies(200);
    let before = driver.on("notify").len();
    let op = driver.downloads.last().unwrap().0;
    driver.event(Event::Downloaded {
        op,
        end: lost().unwrap(),
    });
    let notifies = driver.on("notify");
    assert_eq!(notifies.len(), before + 1);
    assert_eq!(
        notifies.last().unwrap()["d"]["fields"],
        json!([{"field": "mgmt.firmware", "value": {"state": 0, "updateStatus": 3}},
               {"field": "mgmt.firmware.state", "value": 0}])
    );
}

#[test]
fn obs_07_the_observation_and_what_is_untold_survive_a_restart() {
    let mut driver = whole();
    download(&mut driver, None);
    driver.restart();
    driver.connect(true);
    driver.broker_has_all();
    driver.answer_manage(200);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 1})]);
    let op = driver.downloads.last().unwrap().0;
    driver.event(Event::Downloaded {
        op,
        end: DownloadEnd::Done,
    });
    assert_eq!(driver.answer_notifies(200).last().unwrap(), &json!({"state": 2}));
}

#[test]
fn what_changes_while_the_service_is_away_is_told_as_one() {
    let mut driver = whole();
    driver.event(Event::Disconnected);
    driver.published.clear();
    download(&mut driver, lost());
    driver.connect(true);
    assert_eq!(driver.answer_notifies(200), [json!({"updateStatus": 3})]);
}

#[test]
fn a_second_failure_like_the_first_is_told_again() {
    let mut driver = whole();
    download(&mut driver, lost());
    driver.answer_notifies(200);
    driver.event(Event::Disconnected);
    driver.published.clear();
    download(&mut driver, lost());
    driver.connect(true);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 0, "updateStatus": 3})]);
}

#[test]
fn a_notify_without_an_answer_is_made_again_and_one_that_is_refused_twice_ends_the_observation() {
    let mut driver = whole();
    download(&mut driver, None);
    driver.broker_has_all();
    driver.pass(Duration::from_secs(70));
    assert_eq!(driver.on("notify").len(), 2);
    let refuse = |driver: &mut Driver| {
        let req_id = driver.on("notify").last().unwrap()["reqId"]
            .as_str()
            .unwrap()
            .to_owned();
        driver.receive("iotdm-1/response", &format!(r#"{{"rc":404,"reqId":"{req_id}"}}"#));
    };
    refuse(&mut driver);
    driver.pass(Duration::from_secs(31));
    assert_eq!(driver.on("notify").len(), 3, "it may not have taken the manage in yet");
    refuse(&mut driver);
    driver.pass(Duration::from_secs(3600));
    assert_eq!(driver.on("notify").len(), 3);
    assert!(driver.on_disk().observed.is_empty());
}

#[test]
fn an_observation_that_cannot_be_written_down_is_500() {
    let mut driver = Driver::managed();
    driver.disk_full = true;
    driver.request("observe", "o1", r#","d":{"fields":["mgmt.firmware"]}"#);
    assert_eq!(driver.answers("o1"), [500]);
    assert!(driver.reason("o1").contains(FULL));
}

#[test]
fn upd_01_an_update_is_204_with_a_request_id_and_silent_without_one() {
    let mut driver = Driver::managed();
    driver.describe("u1", "2.0");
    assert_eq!(driver.answers("u1"), [204]);
    driver.published.clear();
    let d = r#"{"d":{"fields":[{"field":"mgmt.firmware","value":{"version":"3.0","uri":"https://fw/3"}}]}}"#;
    driver.receive("iotdm-1/device/update", d);
    assert!(driver.published.is_empty());
    assert_eq!(driver.on_disk().firmware.version.as_deref(), Some("3.0"));
}

#[test]
fn upd_03_an_unknown_field_is_404_with_its_name_and_nothing_is_applied() {
    let mut driver = Driver::managed();
    let d = r#","d":{"fields":[{"field":"mgmt.firmware","value":{"version":"2.0"}},{"field":"battery","value":1}]}"#;
    driver.request("device/update", "u1", d);
    let answer = driver.on("response").pop().unwrap().clone();
    assert_eq!(
        (answer["rc"].as_u64(), &answer["d"]["fields"]),
        (Some(404), &json!(["battery"]))
    );
    assert_eq!(driver.on_disk().firmware.version, None);
}

#[test]
fn upd_05_both_historic_shapes_of_an_update_are_taken() {
    let mut driver = Driver::managed();
    driver.request(
        "device/update",
        "u1",
        r#","d":{"field":"mgmt.firmware","value":{"version":"1.9"}}"#,
    );
    assert_eq!(driver.answers("u1"), [204]);
    assert_eq!(driver.on_disk().firmware.version.as_deref(), Some("1.9"));
}

#[test]
fn what_the_service_sets_itself_is_not_notified() {
    let mut driver = whole();
    driver.published.clear();
    driver.describe("u2", "3.0");
    assert!(driver.on("notify").is_empty());
    download(&mut driver, None);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 1})]);
}

#[test]
fn fwu_07_firmware_that_somebody_else_installed_is_told_by_manage_and_not_by_a_notify() {
    for mut driver in [Driver::managed(), whole()] {
        driver.event(Event::Disconnected);
        let mut settings = driver.agent.settings().clone();
        settings.device_info.fw_version = Some("3.0".into());
        driver.event(Event::Configured(Box::new(settings)));
        driver.host_reboots("boot-2");
        driver.connect(true);
        assert_eq!(driver.on("manage")[0]["d"]["deviceInfo"]["fwVersion"], "3.0");
        driver.answer_manage(200);
        driver.pass(Duration::from_secs(60));
        assert!(driver.on("notify").is_empty(), "nothing of mgmt.firmware has changed");
    }
}

#[test]
fn nothing_is_told_that_the_disk_does_not_have() {
    let mut driver = whole();
    download(&mut driver, None);
    driver.answer_notifies(200);
    driver.published.clear();
    driver.disk_full = true;
    let op = driver.downloads.last().unwrap().0;
    driver.event(Event::Downloaded {
        op,
        end: DownloadEnd::Done,
    });
    assert!(driver.on("notify").is_empty());
    driver.disk_full = false;
    driver.pass(Duration::from_secs(6));
    assert_eq!(driver.answer_notifies(200), [json!({"state": 2})]);
}

#[test]
fn a_failure_that_was_one_before_is_not_told_as_a_state_alone() {
    let mut driver = whole();
    for n in 0..2 {
        driver.published.clear();
        download(&mut driver, None);
        driver.answer_notifies(200);
        driver.published.clear();
        let op = driver.downloads.last().unwrap().0;
        let end = lost().unwrap();
        driver.event(Event::Downloaded { op, end });
        assert_eq!(
            driver.answer_notifies(200),
            [json!({"state": 0, "updateStatus": 3})],
            "{n}"
        );
    }
    // The beginning of the next one stays untold.
    driver.event(Event::Disconnected);
    download(&mut driver, lost());
    driver.published.clear();
    driver.connect(true);
    assert_eq!(driver.answer_notifies(200), [json!({"state": 0, "updateStatus": 3})]);
}
