//! Observe, cancel, notify.

use std::time::Duration;

use iotdm::agent::{CommandId, DownloadEnd, Event, Survey};
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

#[test]
fn obs_04_nobody_observes_a_device_that_is_not_managed() {
    let mut driver = whole();
    driver.event(Event::Unmanage(CommandId(1)));
    let req_id = driver.on("unmanage")[0]["reqId"].clone();
    driver.receive("iotdm-1/response", &json!({"rc": 200, "reqId": req_id}).to_string());
    driver.restart();
    driver.event(Event::Manage(CommandId(2)));
    driver.connect(false);
    driver.answer_manage(200);
    download(&mut driver, None);
    assert_eq!(driver.downloads.len(), 1);
    assert!(driver.on("notify").is_empty());
}

#[test]
fn an_unmanage_that_is_taken_back_before_the_service_has_answered_it_ends_no_observation() {
    for connected in [false, true] {
        let mut driver = whole();
        if !connected {
            driver.event(Event::Disconnected);
        }
        driver.event(Event::Unmanage(CommandId(1)));
        driver.event(Event::Disconnected);
        driver.restart();
        driver.event(Event::Manage(CommandId(2)));
        driver.connect(true);
        driver.answer_manage(200);
        download(&mut driver, None);
        assert_eq!(driver.on("notify").len(), 1, "the service may not know of the unmanage");
        // If it does, it does not observe the device any more, and says so.
        driver.answer_notifies(404);
        driver.pass(Duration::from_secs(60));
        driver.answer_notifies(404);
        let op = driver.downloads.last().unwrap().0;
        let end = lost().unwrap();
        driver.published.clear();
        driver.event(Event::Downloaded { op, end });
        driver.pass(Duration::from_secs(3600));
        assert!(driver.on("notify").is_empty());
    }
}

#[test]
fn obs_01_every_attribute_is_answered_with_its_value_in_one_response() {
    let mut driver = Driver::managed();
    driver.write("m1", r#"{"field":"metadata","value":{"site":"north"}}"#);
    let d = r#","d":{"fields":["metadata",{"field":"metadata.site"},"deviceInfo.fwVersion","location","deviceInfo.model"]}"#;
    driver.request("observe", "o1", d);
    assert_eq!(
        driver.on("response").last().unwrap()["d"]["fields"],
        json!([{"field": "metadata", "value": {"site": "north"}}, {"field": "metadata.site", "value": "north"},
               {"field": "deviceInfo.fwVersion", "value": "1.0"}, {"field": "location", "value": {}},
               {"field": "deviceInfo.model", "value": null}])
    );
}

#[test]
fn obs_03_a_member_that_does_not_exist_is_404() {
    for field in [
        "metadata.nothing",
        "metadata.",
        "metadatax",
        "deviceInfo.colour",
        "location.altitude",
        "location.updatedDateTime",
        "deviceinfo",
    ] {
        let mut driver = observed(&format!(r#"{{"fields":["deviceInfo","{field}"]}}"#));
        let answer = driver.on("response").pop().unwrap().clone();
        assert_eq!(
            (&answer["rc"], &answer["d"]["fields"]),
            (&json!(404), &json!([{"field": field}]))
        );
        driver.write("m1", r#"{"field":"metadata.nothing","value":1}"#);
        assert!(driver.on_disk().observed.is_empty());
    }
}

#[test]
fn what_the_service_writes_is_not_notified_to_it_and_what_wins_over_it_is() {
    let mut driver = Driver::managed();
    let mut settings = driver.agent.settings().clone();
    settings.metadata = json!({"site": "south", "rack": 4}).as_object().cloned();
    driver.event(Event::Configured(Box::new(settings.clone())));
    driver.answer_manage(200);
    driver.request(
        "observe",
        "o1",
        r#","d":{"fields":["metadata","metadata.site","metadata.rack"]}"#,
    );
    driver.write("m1", r#"{"field":"metadata","value":{"site":"north","rack":4}}"#);
    driver.broker_has_all();
    driver.pass(Duration::from_secs(60));
    assert!(driver.on("notify").is_empty());
    settings.metadata = json!({"site": "west"}).as_object().cloned();
    driver.event(Event::Configured(Box::new(settings)));
    assert_eq!(driver.on("notify").len(), 1, "one for all that has changed");
    assert_eq!(
        driver.on("notify")[0]["d"]["fields"],
        json!([{"field": "metadata", "value": {"site": "west", "rack": null}},
               {"field": "metadata.site", "value": "west"}, {"field": "metadata.rack", "value": null}])
    );
}

#[test]
fn obs_07_what_the_host_says_anew_after_a_restart_is_notified_after_the_manage() {
    let mut driver = observed(r#"{"fields":["deviceInfo.fwVersion","deviceInfo"]}"#);
    driver.broker_has_all();
    let mut settings = driver.agent.settings().clone();
    settings.device_info.fw_version = Some("2.0".into());
    driver.starts_with(settings);
    driver.connect(true);
    assert_eq!(driver.order(), ["manage"]);
    driver.answer_manage(200);
    assert_eq!(driver.order(), ["manage", "notify"]);
    assert_eq!(
        driver.on("notify")[0]["d"]["fields"],
        json!([{"field": "deviceInfo.fwVersion", "value": "2.0"}, {"field": "deviceInfo", "value": {"fwVersion": "2.0"}}])
    );
    driver.answer_notifies(200);
    driver.restart();
    driver.connect(true);
    driver.answer_manage(200);
    assert!(driver.on("notify").is_empty(), "it was told");
}

#[test]
fn obs_06_an_object_under_a_dotted_name_is_notified_whole_and_an_attribute_by_its_members() {
    let mut driver = Driver::managed();
    let mut settings = driver.agent.settings().clone();
    let mut configure = |driver: &mut Driver, metadata: serde_json::Value| {
        settings.metadata = metadata.as_object().cloned();
        driver.event(Event::Configured(Box::new(settings.clone())));
        driver.answer_manage(200);
    };
    configure(
        &mut driver,
        json!({"site": "south", "a": {"x": 1, "y": 2, "b": {"p": 1, "q": 2}}}),
    );
    let d = r#","d":{"fields":["metadata","metadata.a","metadata.a.b"]}"#;
    driver.request("observe", "o1", d);
    driver.broker_has_all();
    configure(&mut driver, json!({"a": {"x": 1, "y": 3, "b": {"p": 1}}}));
    let a = json!({"x": 1, "y": 3, "b": {"p": 1}});
    assert_eq!(
        driver.on("notify")[0]["d"]["fields"],
        json!([{"field": "metadata", "value": {"a": a, "site": null}}, {"field": "metadata.a", "value": a},
               {"field": "metadata.a.b", "value": {"p": 1}}]),
        "a service replaces what it has at a dotted name"
    );
}

#[test]
fn what_changes_again_while_its_notify_is_on_its_way_is_told_after_it_and_what_changed_back_is_not() {
    let mut driver = observed(r#"{"fields":["deviceInfo.description"]}"#);
    driver.broker_has_all();
    let say = |driver: &mut Driver, text: &str| {
        let mut settings = driver.agent.settings().clone();
        settings.configured_info.description = Some(text.into());
        driver.event(Event::Configured(Box::new(settings)));
    };
    say(&mut driver, "a");
    say(&mut driver, "b");
    assert_eq!(driver.answer_notifies(200), [json!("a"), json!("b")]);
    driver.published.clear();
    driver.event(Event::Disconnected);
    say(&mut driver, "c");
    say(&mut driver, "b");
    driver.connect(true);
    assert!(driver.on("notify").is_empty());
}

#[test]
fn what_the_service_writes_while_a_notify_is_on_its_way_is_not_told_back_when_that_is_answered() {
    let mut driver = observed(r#"{"fields":["metadata","mgmt.firmware.version","mgmt.firmware.state"]}"#);
    driver.broker_has_all();
    let mut settings = driver.agent.settings().clone();
    settings.metadata = json!({"site": "south"}).as_object().cloned();
    driver.event(Event::Configured(Box::new(settings)));
    driver.answer_manage(200);
    assert_eq!(driver.on("notify").len(), 1);
    driver.write("w1", r#"{"field":"metadata","value":{"site":"north"}}"#);
    driver.answer_notifies(200);
    driver.pass(Duration::from_secs(60));
    assert_eq!(
        driver.on("notify").len(),
        1,
        "it was there first, and the service knows"
    );
    // Firmware: what changes after the service has written counts, whatever the notify before covered.
    let mut driver = whole();
    download(&mut driver, lost());
    assert_eq!(driver.on("notify").len(), 1);
    driver.describe("w2", "3.0");
    download(&mut driver, lost());
    let told = driver.answer_notifies(200);
    let last = told.last().unwrap();
    assert_eq!((told.len() > 1, &last["updateStatus"]), (true, &json!(3)), "{told:?}");
}

#[test]
fn one_observe_has_at_most_64_fields_and_unknown_names_come_back_cut() {
    let mut driver = Driver::managed();
    let fields = |count: usize, name: &str| {
        let fields = (0..count).map(|n| format!(r#""{n}{name}""#)).collect::<Vec<_>>();
        format!(r#","d":{{"fields":[{}]}}"#, fields.join(","))
    };
    driver.request("observe", "o1", &fields(65, "x"));
    assert_eq!(driver.answers("o1"), [400]);
    assert!(driver.reason("o1").contains("at most 64"), "{}", driver.reason("o1"));
    driver.request("observe", "o2", &fields(64, &"x".repeat(1000)));
    let answer = driver.on("response").pop().unwrap().clone();
    let names = answer["d"]["fields"].as_array().unwrap();
    assert_eq!((&answer["rc"], names.len()), (&json!(404), 32));
    let length = names.iter().map(|name| name["field"].as_str().unwrap().len()).max();
    assert_eq!(length, Some(100));
    assert!(answer["message"].as_str().unwrap().len() < 1000);
}

#[test]
fn observed_fields_are_bounded_in_number_and_a_notify_in_size() {
    let mut driver = Driver::managed();
    let members: Vec<_> = (0..40).map(|n| format!(r#""m{n}":{n}"#)).collect();
    driver.write(
        "m1",
        &format!(r#"{{"field":"metadata","value":{{{}}}}}"#, members.join(",")),
    );
    let names = |range: std::ops::Range<usize>| {
        range
            .map(|n| format!(r#""metadata.m{n}""#))
            .collect::<Vec<_>>()
            .join(",")
    };
    for (req_id, range, rc) in [
        ("o1", 0..33, 400),
        ("o2", 0..20, 200),
        ("o3", 20..33, 400),
        ("o4", 20..32, 200),
        ("o5", 0..9, 200),
    ] {
        driver.request("observe", req_id, &format!(r#","d":{{"fields":[{}]}}"#, names(range)));
        driver.broker_has_all();
        assert_eq!(driver.answers(req_id), [rc], "{req_id}");
    }
    assert_eq!(driver.on_disk().observed.len(), 32);
    driver.request("cancel", "c1", "");

    let mut settings = driver.agent.settings().clone();
    settings.metadata = json!({"a": {"b": {"c": "small"}}}).as_object().cloned();
    driver.event(Event::Configured(Box::new(settings.clone())));
    driver.request(
        "observe",
        "o6",
        r#","d":{"fields":["metadata.a","metadata.a.b","metadata.a.b.c"]}"#,
    );
    driver.broker_has_all();
    driver.answer_manage(200);
    driver.published.clear();
    settings.metadata = json!({"a": {"b": {"c": "x".repeat(50_000)}}}).as_object().cloned();
    driver.event(Event::Configured(Box::new(settings)));
    assert_eq!(driver.answer_notifies(200).len(), 3, "one after the other");
    let largest = driver.on("notify").iter().map(|notify| notify.to_string().len()).max();
    assert!(largest < Some(64 * 1024), "{largest:?}");
    driver.request("observe", "o7", r#","d":{"fields":["metadata.a","metadata.a.b"]}"#);
    assert_eq!(driver.answers("o7"), [400]);
}

#[test]
fn obs_04_what_is_cancelled_while_an_unmanage_is_not_answered_stays_cancelled_when_it_is_taken_back() {
    let mut driver = whole();
    driver.event(Event::Unmanage(CommandId(1)));
    driver.receive("iotdm-1/cancel", r#"{"d":{"fields":[{"field":"mgmt.firmware"}]}}"#);
    driver.event(Event::Manage(CommandId(2)));
    driver.answer_manage(200);
    download(&mut driver, None);
    assert_eq!(driver.downloads.len(), 1);
    assert!(driver.on("notify").is_empty());
}
