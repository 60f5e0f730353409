//! Whatever comes over the wire: it is answered as the protocol says, and the agent goes on.

use serde_json::json;

use crate::scene::{REBOOT, RESET, RESPONSE, Scene};

/// What is sent, where to, and the answer that must come to the request id in it.
struct Bad {
    what: &'static str,
    topic: &'static str,
    payload: Vec<u8>,
    answer: Option<(&'static str, u64)>,
}

const UPDATE: &str = "iotdm-1/type/edge/id/gw-1/device/update";
const OBSERVE: &str = "iotdm-1/type/edge/id/gw-1/observe";
const CUSTOM: &str = "iotdm-1/type/edge/id/gw-1/mgmt/custom/acme-v1/blink";

fn bad_input() -> Vec<Bad> {
    let bad = |what, topic, payload: &[u8], answer| Bad {
        what,
        topic,
        payload: payload.to_vec(),
        answer,
    };
    let nested = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let nested_object = [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
    vec![
        bad("nothing at all", REBOOT, b"", None),
        bad("not JSON", REBOOT, b"reboot, please", None),
        bad("an array", REBOOT, b"[\"reqId\", \"a-1\"]", None),
        bad("a string", REBOOT, b"\"a-2\"", None),
        bad("cut off", REBOOT, b"{\"reqId\": \"a-3\"", Some(("a-3", 400))),
        bad("two documents", RESET, b"{\"reqId\": \"a-4\"}{}", Some(("a-4", 400))),
        bad("128 KiB of brackets", REBOOT, &b"[".repeat(131_072), None),
        bad("nesting 10,000 deep", REBOOT, &nested, None),
        bad("objects 10,000 deep", OBSERVE, &nested_object, None),
        bad("invalid UTF-8", REBOOT, b"{\"reqId\": \"\xff\xfe\"}", None),
        bad("a NUL in a name", RESET, b"{\"req\\u0000Id\": 1}", None),
        bad("a reqId that is a number", REBOOT, b"{\"reqId\": 7}", None),
        bad("an empty reqId", REBOOT, b"{\"reqId\": \"\"}", None),
        bad("missing d", UPDATE, b"{\"reqId\": \"b-1\"}", Some(("b-1", 400))),
        bad(
            "d of a wrong type",
            UPDATE,
            b"{\"reqId\": \"b-2\", \"d\": 5}",
            Some(("b-2", 400)),
        ),
        bad(
            "fields of a wrong type",
            UPDATE,
            b"{\"reqId\": \"b-3\", \"d\": {\"fields\": \"location\"}}",
            Some(("b-3", 400)),
        ),
        bad(
            "missing d in observe",
            OBSERVE,
            b"{\"reqId\": \"b-4\"}",
            Some(("b-4", 400)),
        ),
        bad(
            "duplicate members",
            RESET,
            b"{\"reqId\": \"b-5\", \"d\": {\"a\": 1, \"a\": 2}}",
            Some(("b-5", 400)),
        ),
        bad(
            "an unknown custom action",
            CUSTOM,
            b"{\"reqId\": \"b-6\", \"d\": {\"fields\": []}}",
            Some(("b-6", 501)),
        ),
        bad(
            "an unknown operation",
            "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/explode",
            b"{\"reqId\": \"b-7\"}",
            Some(("b-7", 501)),
        ),
        bad(
            "an unknown operation without reqId",
            "iotdm-1/type/edge/id/gw-1/nonsense",
            b"{}",
            None,
        ),
        bad(
            "an answer to nothing",
            RESPONSE,
            b"{\"rc\": 200, \"reqId\": \"never-asked\"}",
            None,
        ),
        bad("an answer without rc", RESPONSE, b"{\"reqId\": \"never-asked\"}", None),
        bad("an answer that is none", RESPONSE, b"\x00\x01\x02", None),
        bad("a request without reqId", RESET, b"{}", None),
    ]
}

#[tokio::test]
async fn env_04_bad_input_is_answered_400_where_it_can_be_and_never_stops_the_agent() {
    let scene = Scene::new().await;
    let mut agent = scene.agent().await;
    let pid = agent.pid();
    for (number, bad) in bad_input().into_iter().enumerate() {
        scene.service.publish(bad.topic, &bad.payload).await;
        // In order: what comes after it is handled after it.
        scene.still_answers(&format!("after-{number}")).await;
        if let Some((req_id, rc)) = bad.answer {
            let (answer, message) = scene.service.answer(req_id, 1).await;
            assert_eq!(answer, rc, "{}: {message}", bad.what);
            assert!(!message.is_empty(), "{}: no reason", bad.what);
        }
    }
    let answered = bad_input().iter().filter(|bad| bad.answer.is_some()).count();
    let answers = scene
        .service
        .said_by("gw-1")
        .iter()
        .filter(|said| said.tail() == "response")
        .count();
    assert_eq!(answers, answered + bad_input().len(), "an answer that nobody asked for");
    assert!(scene.login1.calls().is_empty(), "bad input asked logind for something");
    assert!(agent.runs());
    assert_eq!(agent.pid(), pid);
    assert_eq!(scene.broker.log_count("g:acme:edge:gw-1 disconnected"), 0);
    assert_eq!(scene.broker.log_count("g:acme:edge:gw-1 closed"), 0);
}

#[tokio::test]
async fn a_retained_request_is_never_executed_and_a_fresh_one_is() {
    let scene = Scene::new().await;
    scene.broker.publish(REBOOT, br#"{"reqId": "old"}"#, &["-r"]).await;
    let agent = scene.agent().await;
    agent.log.line("a retained message").await;
    scene.still_answers("fresh").await;
    assert!(scene.login1.calls().is_empty());
    assert!(scene.service.answers("old").is_empty());
}

#[tokio::test]
async fn env_02_a_reboot_without_req_id_is_done_once_and_answered_to_nobody() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.service.publish(REBOOT, "{}").await;
    crate::support::within("the call", scene.login1.called("RebootWithFlags", 1)).await;
    agent.log.line("logind accepted the reboot").await;
    scene.service.publish(REBOOT, "{}").await;
    scene.still_answers("else").await;
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
    agent.kill().await;
    scene.host.boot();
    let _agent = scene.agent().await;
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
    assert_eq!(
        crate::service::story(&scene.service.said_by("gw-1")),
        ["manage", "response 501", "manage"]
    );
}

#[tokio::test]
async fn env_04_a_request_of_1_mib_is_answered_400_when_its_req_id_can_be_read() {
    let scene = Scene::new().await;
    let _agent = scene.agent().await;
    let filler = "x".repeat(1024 * 1024 - 100);
    let payload = json!({"reqId": "large", "d": {"filler": filler}}).to_string();
    scene.broker.publish(RESET, payload.as_bytes(), &[]).await;
    let (rc, message) = scene.service.answer("large", 1).await;
    assert_eq!(rc, 400);
    assert!(message.contains("128 KiB") || message.contains("131072"), "{message}");
    let unreadable = vec![b'['; 1024 * 1024];
    scene.broker.publish(RESET, &unreadable, &[]).await;
    scene.still_answers("after").await;
    assert_eq!(scene.broker.log_count("g:acme:edge:gw-1 closed"), 0);
}

#[tokio::test]
async fn a_packet_too_large_to_receive_is_dropped_with_the_queue_loudly_and_the_agent_goes_on() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.broker.publish(RESET, &vec![b'x'; 2 * 1024 * 1024], &[]).await;
    let line = agent.log.line("the broker's queue for this device was dropped").await;
    assert!(line.contains("ERROR"), "{line}");
    scene.service.managed("gw-1", 2).await;
    scene.still_answers("after").await;
}
