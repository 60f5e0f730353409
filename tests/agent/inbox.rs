use iotdm::agent::Settings;
use iotdm::protocol::Address;

use crate::driver::{Driver, settings};

const UPDATE: &str = "iotdm-1/device/update";
const REBOOT: &str = "iotdm-1/mgmt/initiate/device/reboot";

#[test]
fn env_02_a_request_without_an_id_is_done_and_not_answered() {
    let mut driver = Driver::managed();
    let ack = driver.receive(REBOOT, "{}");
    assert_eq!(driver.reboots.len(), 1);
    assert!(driver.published.is_empty());
    assert_eq!(driver.acked.last(), Some(&ack));
    driver.receive(UPDATE, r#"{"d":{"fields":[{"field":"location","value":{}}]}}"#);
    assert!(driver.published.is_empty());
}

#[test]
fn env_02_a_request_without_an_id_that_may_have_been_delivered_before_is_not_done() {
    let mut driver = Driver::managed();
    driver.deliver(REBOOT, b"{}", false, true);
    assert!(driver.reboots.is_empty());
    assert!(driver.said.last().unwrap().1.contains("without reqId"));
}

#[test]
fn env_04_bad_input_gets_400_when_it_can_be_answered_and_changes_nothing() {
    let mut driver = Driver::managed();
    let deep = format!(r#"{{"reqId":"deep","d":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let large = format!(r#"{{"reqId":"large","d":"{}"}}"#, "x".repeat(200_000));
    for (payload, req_id) in [
        (r#"{"reqId":"a"}"#, Some("a")),
        (r#"{"reqId":"b","d":[]}"#, Some("b")),
        (r#"{"reqId":"c","d":{"fields":"x"}}"#, Some("c")),
        (r#"{"reqId":"d","d":{"fields":[7]}}"#, Some("d")),
        (r#"{"reqId":"e","d":{"fields":[{"field":"location"}]}}"#, Some("e")),
        (r#"{"reqId":"f","d":{},"d":{}}"#, Some("f")),
        (r#"{"reqId":"g","d":"#, Some("g")),
        (deep.as_str(), Some("deep")),
        (large.as_str(), Some("large")),
        (r#"{"reqId":7}"#, None),
        ("not JSON", None),
        ("", None),
        (&"[".repeat(131_072), None),
    ] {
        let ack = driver.receive(UPDATE, payload);
        driver.broker_has_all();
        match req_id {
            Some(req_id) => {
                assert_eq!(driver.answers(req_id), [400], "{req_id}");
                assert!(!driver.reason(req_id).is_empty());
            }
            None => assert!(driver.on("response").is_empty(), "{payload:.40}"),
        }
        assert_eq!(driver.acked.last(), Some(&ack));
        driver.published.clear();
    }
    driver.deliver(UPDATE, b"\xff\xfe\x00", false, false);
    assert!(driver.published.is_empty() && driver.reboots.is_empty());
    assert_eq!(driver.commits, 0, "bad input never reaches the disk");
}

#[test]
fn env_05_a_response_to_an_unknown_request_is_ignored_and_logged() {
    let mut driver = Driver::managed();
    let ack = driver.receive("iotdm-1/response", r#"{"rc":500,"reqId":"who?"}"#);
    assert!(driver.published.is_empty());
    assert!(driver.said.last().unwrap().1.contains("unknown request"));
    assert_eq!(driver.acked.last(), Some(&ack));
    driver.receive("iotdm-1/response", "nonsense");
    assert!(driver.agent.status().managed);
}

#[test]
fn env_06_a_numeric_string_as_rc_counts() {
    let mut driver = Driver::new();
    driver.connect(false);
    let req_id = driver.on("manage")[0]["reqId"].as_str().unwrap().to_owned();
    driver.receive("iotdm-1/response", &format!(r#"{{"rc":"200","reqId":"{req_id}"}}"#));
    assert!(driver.agent.status().managed);
}

#[test]
fn top_03_an_unknown_operation_is_answered_501() {
    let mut driver = Driver::managed();
    driver.receive("iotdm-1/mgmt/initiate/device/dance", r#"{"reqId":"a"}"#);
    assert_eq!(driver.answers("a"), [501]);
    driver.receive("iotdm-1/mgmt/initiate/device/dance", "{}");
    assert_eq!(driver.on("response").len(), 1);
}

#[test]
fn what_is_not_built_yet_is_answered_501_and_cancel_of_nothing_200() {
    let mut driver = Driver::managed();
    for (tail, d, rc) in [
        ("mgmt/custom/bundle-v1/act", "null", 501),
        ("device/update", r#"{"fields":[{"field":"metadata","value":{}}]}"#, 501),
        ("cancel", r#"{"data":[{"field":"mgmt.firmware"}]}"#, 200),
    ] {
        driver.receive(&format!("iotdm-1/{tail}"), &format!(r#"{{"reqId":"{tail}","d":{d}}}"#));
        driver.broker_has_all();
        assert_eq!(driver.answers(tail), [rc], "{tail}");
        driver.published.clear();
    }
    assert!(driver.reboots.is_empty());
}

#[test]
fn retained_requests_are_never_executed() {
    let mut driver = Driver::managed();
    let ack = driver.deliver(REBOOT, br#"{"reqId":"old"}"#, true, false);
    assert!(driver.reboots.is_empty() && driver.published.is_empty());
    assert_eq!(driver.acked.last(), Some(&ack));
}

#[test]
fn top_02_a_gateway_uses_only_the_long_form_and_answers_only_for_itself() {
    let address = Address::Device("edge/gw-1".parse().unwrap());
    let mut driver = Driver::with(Settings {
        address,
        ..settings("boot-1")
    });
    driver.connect(false);
    assert_eq!(driver.published[0].1, "iotdevice-1/type/edge/id/gw-1/mgmt/manage");
    for foreign in [REBOOT, "iotdm-1/type/edge/id/gw-2/mgmt/initiate/device/reboot"] {
        driver.receive(foreign, r#"{"reqId":"a"}"#);
        assert!(driver.reboots.is_empty());
    }
    driver.receive(
        "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/reboot",
        r#"{"reqId":"a"}"#,
    );
    assert_eq!(driver.reboots.len(), 1);
    assert!(
        driver
            .published
            .iter()
            .all(|(_, topic, _)| topic.starts_with("iotdevice-1/type/edge/id/gw-1/"))
    );
}

#[test]
fn sub_05_what_the_broker_refused_is_logged() {
    let mut driver = Driver::managed();
    let topic = "iot-2/type/edge/id/gw-1/notify";
    driver.receive(
        topic,
        r#"{"Request":"Publish","Topic":"iotdevice-1/type/t/id/d/x","RC":180,"Message":"not authorized"}"#,
    );
    assert!(driver.said.last().unwrap().1.contains("180: not authorized"));
    driver.receive(topic, r#"{"Request":"Subscribe"}"#);
    driver.receive(topic, "nonsense");
    assert!(driver.said.last().unwrap().1.contains("the broker refused"));
}

#[test]
fn con_17_a_request_that_arrives_before_the_subscription_stands_is_handled() {
    let mut driver = Driver::new();
    driver.event(iotdm::agent::Event::Connected { session_present: true });
    driver.ask_reboot("early");
    assert_eq!(driver.reboots.len(), 1);
    driver.event(iotdm::agent::Event::Subscribed);
    assert!(driver.on("manage").is_empty(), "a reboot is under way");
}
