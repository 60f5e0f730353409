//! Factory reset: the brain, and `iotdm factory-reset` with a real service, a real mosquitto and a scripted device.

use iotdm::protocol::Device;
use iotdm::protocol::{Rc, ReqId, Request, ToService};
use iotdm::service::brain::{
    DEFAULT_RESET_TIMEOUT, DEFAULT_TIMEOUT, Effect, Event, NewRequest, RefusalKind, Reply, Status,
};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::place::{Gateway, Place, Serve, ended};
use crate::scene::{START_MS, Scene, Sent, device, gw, reboot_of};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;

fn reset_of(devices: &[Device]) -> NewRequest {
    NewRequest {
        action: "device/factoryReset".into(),
        ..reboot_of(devices)
    }
}

/// A scene in which these devices are asked to reset themselves: the request's id and what was published.
fn reset(devices: &[Device]) -> (Scene, String, Vec<Sent>) {
    let mut scene = Scene::new();
    for device in devices {
        scene.manage(device, "m1");
    }
    let (reply, sent) = scene.create(reset_of(devices));
    let Ok(Reply::Created { id }) = reply else {
        panic!("{reply:?}")
    };
    (scene, id, sent)
}

fn req_id(sent: &Sent) -> ReqId {
    ReqId::new(sent.2["reqId"].as_str().unwrap()).unwrap()
}

#[test]
fn rst_01_the_name_in_rest_is_camel_case_and_the_topic_snake_case() {
    let (mut scene, _, sent) = reset(&[gw()]);
    let [(_, topic, payload)] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(topic, "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/factory_reset");
    assert_eq!(
        payload.as_object().unwrap().len(),
        1,
        "a reqId and nothing else: {payload}"
    );
    let (reply, sent) = scene.create(NewRequest {
        action: "device/factory_reset".into(),
        ..reboot_of(&[gw()])
    });
    let refusal = reply.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert!(refusal.message.contains("device/factoryReset"), "{}", refusal.message);
    assert!(sent.is_empty());
}

#[test]
fn mng_15_a_reset_that_was_answered_202_is_complete_with_the_next_manage() {
    let (mut scene, id, sent) = reset(&[gw()]);
    scene.manage(&gw(), "m2");
    assert_eq!(
        scene.stands(&id, &gw()),
        (Status::InProgress, false),
        "not accepted yet"
    );
    scene.advance(1);
    scene.respond(&gw(), &req_id(&sent[0]), 202, "");
    scene.advance(180);
    // After the boot the 202 may come again before the manage, and the log is told.
    scene.respond(&gw(), &req_id(&sent[0]), 202, "");
    let log = json!({"d": {"message": "the factory reset wiped /data/app", "severity": 0}, "reqId": "l"});
    scene.say(&gw(), ToService::AddLog, log);
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
    let outcome = scene.manage(&gw(), "m3");
    assert!(
        outcome
            .lines
            .iter()
            .any(|line| line.text == "is back: device/factoryReset is complete")
    );
    assert_eq!(scene.stands(&id, &gw()), (Status::Success, true));
    let row = scene.status(&id, &gw());
    assert_eq!(
        (row.accepted_ms, row.completed_ms, row.rc, row.message.as_deref()),
        (Some(START_MS + 1_000), Some(START_MS + 181_000), Some(202), None)
    );
}

#[test]
fn a_reset_that_is_refused_or_fails_after_its_202_stays_failed_when_the_device_is_managed_again() {
    for (answers, rc, message, said) in [
        (
            &[(501, "factory-reset.target pulls in nothing")][..],
            501,
            "factory-reset.target pulls in nothing",
            "refused device/factoryReset (501)",
        ),
        (
            &[(500, "busy: firmware is installed")],
            500,
            "busy: firmware is installed",
            "refused device/factoryReset (500)",
        ),
        (
            &[(202, ""), (500, "/data/app/x: read-only file system")],
            500,
            "/data/app/x: read-only file system",
            "accepted device/factoryReset, but it did not succeed (500)",
        ),
        (
            // The 202 again after the boot, and then what came of it.
            &[(202, ""), (202, ""), (500, "nothing was wiped")],
            500,
            "nothing was wiped",
            "accepted device/factoryReset, but it did not succeed (500)",
        ),
    ] {
        let (mut scene, id, sent) = reset(&[gw()]);
        let mut last = String::new();
        for (rc, message) in answers {
            last = scene.respond(&gw(), &req_id(&sent[0]), *rc, message).text().to_owned();
        }
        assert!(last.starts_with(said) && last.ends_with(message), "{last}");
        scene.manage(&gw(), "m2");
        scene.respond(&gw(), &req_id(&sent[0]), 202, "");
        scene.manage(&gw(), "m3");
        let row = scene.status(&id, &gw());
        assert_eq!(
            (row.status, row.rc, row.message.as_deref()),
            (Status::Failure, Some(rc), Some(message))
        );
    }
}

#[test]
fn a_reset_may_take_longer_than_a_reboot_and_times_out_when_nothing_final_comes() {
    for accepted in [false, true] {
        let (mut scene, id, sent) = reset(&[gw()]);
        if accepted {
            scene.respond(&gw(), &req_id(&sent[0]), 202, "");
        }
        let limit = i64::try_from(DEFAULT_RESET_TIMEOUT).unwrap();
        assert_eq!(scene.service.next_deadline(), Some(START_MS + limit * 1000));
        assert!(scene.now_ms + i64::try_from(DEFAULT_TIMEOUT).unwrap() * 1000 < START_MS + limit * 1000);
        scene.advance(limit - 1);
        scene.handle(Event::Deadline);
        assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
        scene.advance(1);
        scene.handle(Event::Deadline);
        assert_eq!(scene.stands(&id, &gw()), (Status::TimedOut, true));
        let message = scene.status(&id, &gw()).message.clone().unwrap();
        let expected = match accepted {
            true => "the device answered 202, but no manage came in time",
            false => "the request never reached the broker",
        };
        assert_eq!(message, expected);
        scene.manage(&gw(), "m2");
        assert_eq!(scene.stands(&id, &gw()), (Status::TimedOut, true), "too late");
    }
}

#[test]
fn each_of_two_devices_has_an_end_of_its_own_and_the_request_is_complete_with_the_last() {
    let other = device("edge/gw-2");
    let (mut scene, id, sent) = reset(&[gw(), other.clone()]);
    assert_eq!(sent.len(), 2);
    assert_ne!(req_id(&sent[0]), req_id(&sent[1]));
    for (device, sent) in [gw(), other.clone()].iter().zip(&sent) {
        scene.respond(device, &req_id(sent), 202, "");
    }
    scene.manage(&other, "m2");
    assert_eq!(scene.stands(&id, &other), (Status::Success, true));
    assert_eq!(scene.stands(&id, &gw()), (Status::InProgress, false));
    assert!(!scene.service.is_complete(scene.service.request(&id).unwrap()));
    scene.respond(&gw(), &req_id(&sent[0]), 500, "the host is still up");
    scene.manage(&gw(), "m2");
    assert_eq!(scene.stands(&id, &gw()), (Status::Failure, true));
    assert!(scene.service.is_complete(scene.service.request(&id).unwrap()));
}

#[test]
fn a_cancelled_reset_has_failed_for_the_books_and_what_the_device_says_later_changes_nothing() {
    let (mut scene, id, sent) = reset(&[gw()]);
    scene.respond(&gw(), &req_id(&sent[0]), 202, "");
    let step = scene.handle(Event::Cancel { id: id.clone() });
    assert!(step.effects.contains(&Effect::Reply(Ok(Reply::Cancelled))));
    let row = scene.status(&id, &gw()).clone();
    assert_eq!(
        (row.status, row.message.as_deref()),
        (Status::Failure, Some("cancelled by the operator"))
    );
    scene.respond(&gw(), &req_id(&sent[0]), 202, "");
    scene.manage(&gw(), "m2");
    assert_eq!(*scene.status(&id, &gw()), row);
}

/// A broker, a service, and a managed device.
struct Live {
    broker: Mosquitto,
    place: Place,
    serve: Serve,
    gateway: Gateway,
}

impl Live {
    async fn new() -> Self {
        let broker = Mosquitto::start(&Setup {
            persistence: true,
            ..Setup::default()
        })
        .await;
        let place = Place::new(broker.port);
        let serve = place.serve().await;
        let mut gateway = Gateway::connect(broker.port).await;
        assert_eq!(gateway.manage("m1").await.rc, Rc::OK);
        Live {
            broker,
            place,
            serve,
            gateway,
        }
    }

    /// The command, which follows the request, and the request as the device has it.
    async fn begun(&mut self, more: &[&str]) -> (Child, ReqId) {
        let arguments = [&["factory-reset", "edge/gw-1", "--yes", "--wait"], more].concat();
        let command = self.place.command(&arguments).spawn().unwrap();
        let request = self.gateway.asked_for(&Request::FactoryReset).await;
        (command, request)
    }

    /// Nothing was asked of the device until now: what is asked next is the first that it sees.
    async fn nothing_was_asked(&mut self) {
        assert_eq!(self.place.run(&["reboot", "edge/gw-1"]).await.0, 0);
        let reboot = self.gateway.reboot_request().await;
        self.gateway.respond(&reboot, 500, "only a test").await;
    }
}

async fn end(command: Child) -> (i32, String, String) {
    ended(within("the command", command.wait_with_output()).await.unwrap())
}

#[tokio::test]
async fn rst_01_a_device_resets_itself_and_every_step_is_told() {
    let mut live = Live::new().await;
    let (command, reset) = live.begun(&[]).await;
    live.gateway.respond(&reset, 202, "").await;
    live.serve.logged("accepted device/factoryReset (202)").await;
    assert_eq!(live.gateway.manage("m2").await.rc, Rc::OK);
    let (code, out, errors) = end(command).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    let steps: Vec<&str> = out
        .lines()
        .map(|line| line.split_once("edge/gw-1  ").unwrap().1)
        .collect();
    assert_eq!(
        steps[..3],
        [
            "requested",
            "sent: the broker has the request",
            "accepted (202): the device resets itself and comes back"
        ]
    );
    assert!(steps[3].starts_with("managed again: it is reset and back, "), "{out}");
    live.serve
        .logged("is asked for device/factoryReset (timeout 2 h)")
        .await;
}

#[tokio::test]
async fn a_reset_that_is_refused_or_fails_after_its_202_is_told_with_the_device_s_reason() {
    let mut live = Live::new().await;
    let (command, reset) = live.begun(&[]).await;
    let reason = "factory-reset.target pulls in nothing";
    live.gateway.respond(&reset, 501, reason).await;
    let (code, out, _) = end(command).await;
    assert_eq!(code, 1);
    assert!(
        out.contains(&format!("refused: the device answered 501: {reason}")),
        "{out}"
    );

    let (command, reset) = live.begun(&["--timeout", "10m"]).await;
    live.gateway.respond(&reset, 202, "").await;
    live.gateway.respond(&reset, 500, "/data/app: it is not mounted").await;
    live.gateway.manage("m2").await;
    let (code, out, _) = end(command).await;
    assert_eq!(code, 1);
    assert!(
        out.contains("did not succeed: after its 202 the device answered 500: /data/app: it is not mounted"),
        "{out}"
    );
    assert!(!out.contains("managed again"), "{out}");

    let (command, reset) = live.begun(&["--json"]).await;
    live.gateway.respond(&reset, 202, "").await;
    live.gateway.respond(&reset, 500, "nothing was wiped").await;
    let (code, out, _) = end(command).await;
    assert_eq!(code, 1);
    let row: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&row["status"], &row["rc"], &row["message"]),
        (&json!(2), &json!(500), &json!("nothing was wiped"))
    );
    assert!(row["id"].is_string() && row["accepted"].is_string(), "{row}");
}

#[tokio::test]
async fn without_wait_it_ends_when_the_service_has_the_request() {
    let mut live = Live::new().await;
    let (code, out, errors) = live.place.run(&["factory-reset", "edge/gw-1", "--yes"]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        out.starts_with("the factory reset of edge/gw-1 is requested ("),
        "{out}"
    );
    live.gateway.asked_for(&Request::FactoryReset).await;
    let (code, out, _) = live.place.run(&["factory-reset", "edge/gw-1", "--yes", "--json"]).await;
    assert_eq!(code, 0);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["reqId"].is_string(), "{out}");
    let (code, _, errors) = live.place.run(&["factory-reset", "edge/unknown", "--yes"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("edge/unknown is not registered"), "{errors}");
}

#[tokio::test]
async fn the_device_s_id_typed_at_a_terminal_lets_the_reset_go_on() {
    let mut live = Live::new().await;
    let (code, out, errors) = live
        .place
        .run_at_terminal(&["factory-reset", "edge/gw-1"], "gw-1\n")
        .await;
    assert_eq!(code, 0, "{errors}");
    assert!(out.starts_with("the factory reset of edge/gw-1 is requested"), "{out}");
    assert!(
        errors.contains("nothing brings it back") && errors.ends_with("Type the device's id (gw-1) to go on: "),
        "{errors}"
    );
    live.gateway.asked_for(&Request::FactoryReset).await;
}

#[tokio::test]
async fn whatever_else_is_typed_or_nothing_at_all_asks_nothing_of_the_device() {
    let mut live = Live::new().await;
    for (typed, said) in [
        ("gw-2\n", "\"gw-2\" is not \"gw-1\": nothing is asked of edge/gw-1"),
        ("yes\n", "\"yes\" is not \"gw-1\""),
        ("edge/gw-1\n", "\"edge/gw-1\" is not \"gw-1\""),
        ("\n", "nothing was typed: nothing is asked of edge/gw-1"),
        // The end of the input.
        ("\u{4}", "nothing was typed: nothing is asked of edge/gw-1"),
        // What a terminal would act on is not printed as it is.
        ("\u{7}\n", "\"\\u{7}\" is not \"gw-1\""),
    ] {
        let (code, out, errors) = live
            .place
            .run_at_terminal(&["factory-reset", "edge/gw-1", "--wait"], typed)
            .await;
        assert_eq!((code, out.as_str()), (1, ""), "{typed:?}");
        assert!(errors.contains(said), "{typed:?}: {errors}");
    }
    live.nothing_was_asked().await;
}

#[tokio::test]
async fn without_a_terminal_and_without_yes_it_is_wrong_usage_that_says_what_to_add() {
    let mut live = Live::new().await;
    for arguments in [
        &["factory-reset", "edge/gw-1"][..],
        &["factory-reset", "edge/gw-1", "--wait", "--json"],
    ] {
        let (code, out, errors) = live.place.run(arguments).await;
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains("no terminal; add --yes"), "{errors}");
    }
    live.nothing_was_asked().await;
}

#[tokio::test]
async fn a_reset_that_is_delivered_again_and_again_is_one_request_with_one_end() {
    let mut live = Live::new().await;
    // The request lies in a socket that nobody reads, and is gone with it: the service sends it again.
    live.broker.freeze();
    let (code, _, errors) = live.place.run(&["factory-reset", "edge/gw-1", "--yes"]).await;
    assert_eq!(code, 0, "{errors}");
    live.serve.kill().await;
    live.broker.kill();
    live.broker.launch().await;
    let serve = live.place.serve().await;
    let reset = live.gateway.asked_for(&Request::FactoryReset).await;
    live.gateway.respond(&reset, 202, "").await;
    serve.logged("accepted device/factoryReset (202)").await;
    let serve = live.place.killed(serve).await;
    // After its boot the device says the 202 again, as it does not know that the service has it.
    live.gateway.respond(&reset, 202, "").await;
    live.gateway.publish(ToService::Manage, Gateway::manage_payload("m2"));
    assert_eq!(live.gateway.answer_to("m2", Some(&reset)).await.rc, Rc::OK);
    serve.logged("is back: device/factoryReset is complete").await;
    live.gateway.respond(&reset, 202, "").await;
    serve.logged("answered 202 to device/factoryReset, which is over").await;
    live.gateway.respond(&reset, 500, "too late").await;
    serve
        .logged("answered 500, too late to device/factoryReset, which is over")
        .await;
}
