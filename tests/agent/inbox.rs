use iotdm::agent::{DownloadEnd, Event, Settings};
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
fn env_02_an_update_without_an_id_that_may_have_been_delivered_before_is_not_done() {
    let mut driver = Driver::managed();
    for (tail, d) in [
        ("device/update", r#"{"fields":[{"field":"metadata.a","value":1}]}"#),
        ("observe", r#"{"fields":["metadata"]}"#),
    ] {
        let ack = driver.deliver(
            &format!("iotdm-1/{tail}"),
            format!(r#"{{"d":{d}}}"#).as_bytes(),
            false,
            true,
        );
        assert_eq!(driver.acked.last(), Some(&ack));
        assert!(driver.said.last().unwrap().1.contains("without reqId"), "{tail}");
    }
    assert!(driver.on_disk().written.is_empty() && driver.on_disk().observed.is_empty());
}

#[test]
fn env_07_an_update_that_is_delivered_again_does_not_undo_what_came_after_it() {
    let mut driver = Driver::managed();
    driver.describe("u1", "2.0");
    driver.describe("u2", "3.0");
    driver.download("d1");
    driver.surveyed(crate::firmware::slots("rootfs.0"));
    let op = driver.downloads.last().unwrap().0;
    driver.event(Event::Downloaded {
        op,
        end: DownloadEnd::Done,
    });
    driver.broker_has_all();
    driver.write("m1", r#"{"field":"metadata.site","value":"north"}"#);
    driver.write("m2", r#"{"field":"metadata.site","value":"east"}"#);
    driver.broker_has_all();
    let discarded = driver.discarded;
    for _ in 0..2 {
        driver.published.clear();
        driver.describe("u1", "2.0");
        driver.write("m1", r#"{"field":"metadata.site","value":"north"}"#);
        assert_eq!((driver.answers("u1"), driver.answers("m1")), (vec![204], vec![204]));
        let durable = driver.on_disk();
        assert_eq!(
            (durable.firmware.version.as_deref(), durable.firmware.state),
            (Some("3.0"), 2)
        );
        assert_eq!(durable.written.metadata["site"].value, Some("east".into()));
        assert_eq!(driver.discarded, discarded, "the image stays");
        driver.restart();
        driver.connect(true);
        driver.answer_manage(200);
    }
}

#[test]
fn env_07_an_observe_that_is_delivered_again_after_its_cancel_observes_nothing() {
    let mut driver = Driver::managed();
    let observe = r#","d":{"fields":["metadata","metadata"]}"#;
    driver.request("observe", "o1", observe);
    driver.write("m1", r#"{"field":"metadata.site","value":"north"}"#);
    driver.request("observe", "o1", observe);
    let answers = driver.on("response");
    assert_eq!(
        answers.last().unwrap()["d"]["fields"],
        serde_json::json!([{"field": "metadata", "value": {"site": "north"}}]),
        "as long as it is observed the answer has the value of now"
    );
    driver.request("cancel", "c1", observe);
    driver.broker_has_all();
    driver.request("observe", "o1", observe);
    assert_eq!(driver.answers("o1"), [200, 200, 200]);
    assert!(driver.on_disk().observed.is_empty());
    driver.request("observe", "o2", observe);
    driver.request("cancel", "c1", observe);
    assert_eq!(driver.answers("c1"), [200, 200]);
    assert_eq!(
        driver.on_disk().observed.len(),
        1,
        "nor does an old cancel end a new observation"
    );
}

#[test]
fn env_07_a_refusal_stays_one_and_is_written_down_with_what_is_written_next() {
    let mut driver = Driver::described();
    driver.download("d1");
    driver.surveyed(crate::firmware::slots("rootfs.0"));
    driver.broker_has_all();
    let describe = |driver: &mut Driver| driver.write("w1", r#"{"field":"mgmt.firmware","value":{"version":"9"}}"#);
    let commits = driver.commits;
    describe(&mut driver);
    driver.write("w2", r#"{"field":"battery","value":1}"#);
    driver.broker_has_all();
    assert_eq!((driver.answers("w1"), driver.answers("w2")), (vec![409], vec![404]));
    assert_eq!(driver.commits, commits, "for a refusal alone nothing is written");
    let reason = driver.reason("w1");
    let op = driver.downloads.last().unwrap().0;
    driver.event(Event::Downloaded {
        op,
        end: DownloadEnd::Done,
    });
    for _ in 0..2 {
        driver.published.clear();
        describe(&mut driver);
        assert_eq!((driver.answers("w1"), driver.reason("w1")), (vec![409], reason.clone()));
        assert_eq!(driver.on_disk().firmware.state, 2);
        driver.restart();
        driver.connect(true);
        driver.answer_manage(200);
    }
}

#[test]
fn env_07_many_updates_push_no_reboot_out_of_the_memory() {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(iotdm::agent::RebootOutcome::Refused {
        rc: iotdm::protocol::Rc::INTERNAL,
        message: "blocked".into(),
    });
    driver.broker_has_all();
    for n in 0..600 {
        driver.write(&format!("m{n}"), &format!(r#"{{"field":"metadata.site","value":{n}}}"#));
        driver.broker_has_all();
        driver.published.clear();
    }
    driver.ask_reboot("r1");
    assert_eq!((driver.answers("r1"), driver.reboots.len()), (vec![500], 1));
    assert_eq!(driver.on_disk().others.len(), 256);
    assert!(driver.disk.len() < 64 * 1024, "{}", driver.disk.len());
}

#[test]
fn env_04_bad_input_gets_400_when_it_can_be_answered_and_changes_nothing() {
    let mut driver = Driver::managed();
    let commits = driver.commits;
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
    assert_eq!(driver.commits, commits, "bad input never reaches the disk");
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
fn what_is_not_built_is_answered_501_and_cancel_of_nothing_200() {
    let mut driver = Driver::managed();
    for (tail, d, rc) in [
        ("mgmt/custom/bundle-v1/act", "null", 501),
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
