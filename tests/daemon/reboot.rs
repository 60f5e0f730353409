//! A remote reboot from the request to the next boot, and every way in which it does not happen after all.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::agent::Host;
use crate::bus::{Answer, PrivateBus, Scripted, login1};
use crate::scene::{REBOOT, Scene, managed, next_publish};
use crate::service::{Service, story};
use crate::support::fake_broker::FakeBroker;
use crate::support::within;

/// Returns when the agent lets go of the lock.
pub(crate) async fn released(lock: UnixStream) {
    lock.set_nonblocking(true).unwrap();
    let lock = tokio::net::UnixStream::from_std(lock).unwrap();
    let gone = async {
        loop {
            lock.readable().await.unwrap();
            match lock.try_read(&mut [0; 1]) {
                Ok(0) => return,
                Ok(_) => panic!("nobody writes into a lock"),
                Err(_) => {}
            }
        }
    };
    within("the end of the delay lock", gone).await;
}

fn is_held(lock: &UnixStream) -> bool {
    lock.set_nonblocking(true).unwrap();
    let mut lock = lock;
    matches!(lock.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn reb_01_the_delay_lock_is_held_until_the_broker_has_acknowledged_the_202() {
    let bus = PrivateBus::start();
    let login1 = login1(&bus).await;
    let broker = FakeBroker::start().await;
    let host = Host::new("gw-1", bus.address());
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    let _agent = host.start();
    let mut peer = managed(&broker).await;
    peer.publish(REBOOT, br#"{"reqId": "one"}"#, 2).await;
    let (topic, response, id) = next_publish(&mut peer).await;
    assert_eq!(topic, "iotdevice-1/type/edge/id/gw-1/response");
    assert_eq!(response["rc"], 202);
    let lock = login1.locks().pop().expect("a delay lock was taken");
    let calls = login1.calls();
    let inhibit = calls
        .iter()
        .position(|call| call.starts_with("Inhibit(shutdown"))
        .unwrap();
    let reboot = calls.iter().position(|call| call == "RebootWithFlags(0)").unwrap();
    assert!(inhibit < reboot, "{calls:?}");
    // The agent has had time for more: it has answered another question meanwhile.
    assert_eq!(host.status().await["agent"]["busy"], "reboot accepted");
    assert!(is_held(&lock));
    peer.puback(id).await;
    released(lock).await;
}

#[tokio::test]
async fn reb_02_reb_04_env_07_a_reboot_is_answered_done_once_and_proven_by_the_boot_id() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 1).await.0, 202);
    agent
        .notes
        .line("STATUS=going down: logind accepted the reboot; managed")
        .await;
    released(scene.login1.locks().pop().unwrap()).await;
    assert_eq!(scene.login1.count("RebootWithFlags(0)"), 1);
    // The same request again, before the host is down.
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 2).await.0, 202);
    assert_eq!(agent.stop().await, 0);

    scene.host.boot();
    let agent = scene.host.start();
    scene.service.managed("gw-1", 2).await;
    agent.managed().await;
    agent.log.line("the host has rebooted, as it was asked to").await;
    assert_eq!(
        story(&scene.service.said_by("gw-1")),
        ["manage", "response 202", "response 202", "manage"],
        "the broker had the 202, so it is not sent again"
    );
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 3).await.0, 202);
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
    // Another request is another reboot.
    scene.reboot("two").await;
    assert_eq!(scene.service.answer("two", 1).await.0, 202);
    assert_eq!(scene.login1.count("RebootWithFlags"), 2);
}

#[tokio::test]
async fn reb_06_a_reboot_that_is_called_off_is_told_as_500_logged_and_then_managed_again() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 1).await.0, 202);
    // A local manage now would look like the end of the reboot.
    let output = scene.host.run(&["manage"]).await;
    let (code, text) = crate::agent::failure(&output);
    assert!(code == 1 && text.contains("a reboot is under way"), "{text}");
    scene.login1.prepare_for_shutdown(true).await;
    call_off(&scene.login1, &scene.service, "one", 2).await;
    let (rc, message) = scene.service.answer("one", 2).await;
    assert_eq!(rc, 500);
    assert!(message.contains("did not happen"), "{message}");
    scene.service.managed("gw-1", 2).await;
    assert_eq!(
        story(&scene.service.said_by("gw-1")),
        ["manage", "response 202", "response 500", "log", "manage"]
    );
    let log = &scene.service.said_by("gw-1")[3].json["d"];
    assert_eq!(
        (&log["severity"], log["message"].as_str()),
        (&2.into(), Some(message.as_str()))
    );
    agent.log.line("the reboot did not happen").await;
    let status = scene
        .host
        .status_with("an end", |status| status["agent"]["busy"] == "none")
        .await;
    assert_eq!(status["agent"]["managed"], true);
}

/// logind calls the shutdown off, until the agent has said so. Its ear may not be open at once.
pub(crate) async fn call_off(login1: &Scripted, service: &Service, req_id: &str, answers: usize) {
    let told = async {
        while service.answers(req_id).len() < answers {
            login1.prepare_for_shutdown(false).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("an answer after the shutdown was called off", told).await;
}

#[tokio::test]
async fn reb_06_logind_that_dies_with_the_request_is_waited_for_in_silence_and_the_outcome_told() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.login1.answer("RebootWithFlags", Answer::Vanish);
    scene.reboot("one").await;
    agent.log.line("it is not known whether logind got the request").await;
    agent.notes.line("STATUS=waiting whether the host goes down").await;
    scene.still_answers("else").await;
    assert!(scene.service.answers("one").is_empty());
    assert_eq!(scene.service.manages("gw-1"), 1);
    let again = login1(&scene.bus).await;
    call_off(&again, &scene.service, "one", 1).await;
    assert_eq!(scene.service.answer("one", 1).await.0, 500);
    scene.service.managed("gw-1", 2).await;
    assert_eq!(again.count("RebootWithFlags"), 0);
}

#[tokio::test]
async fn reb_02_a_host_that_went_down_with_a_logind_that_said_nothing_has_rebooted() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.login1.answer("RebootWithFlags", Answer::Vanish);
    scene.reboot("one").await;
    agent.log.line("it is not known whether logind got the request").await;
    agent.kill().await;
    scene.host.boot();
    let _agent = scene.host.start();
    scene.service.managed("gw-1", 2).await;
    assert_eq!(
        story(&scene.service.said_by("gw-1")),
        ["manage", "response 202", "manage"]
    );
}

#[tokio::test]
async fn reb_01_two_requests_for_one_reboot_are_both_answered() {
    let scene = Scene::new().await;
    let _agent = scene.agent().await;
    let permit = std::sync::Arc::new(tokio::sync::Notify::new());
    scene
        .login1
        .answer("RebootWithFlags", Answer::Hold(permit.clone(), Box::new(Answer::Done)));
    scene.reboot("one").await;
    within("the call", scene.login1.called("RebootWithFlags", 1)).await;
    scene.reboot("two").await;
    scene.still_answers("else").await;
    permit.notify_one();
    for req_id in ["one", "two"] {
        assert_eq!(scene.service.answer(req_id, 1).await.0, 202);
    }
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
}
