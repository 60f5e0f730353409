//! A remote reboot from the request to the next boot, and every way in which it is refused or does not happen.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::agent::Host;
use crate::bus::{Answer, PrivateBus, Scripted, block_lock, login1};
use crate::scene::{REBOOT, Scene, managed, next_publish};
use crate::service::{Service, story};
use crate::support::fake_broker::FakeBroker;
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;

/// Returns when the agent lets go of the lock.
async fn released(lock: UnixStream) {
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
    agent.notes.line("STATUS=going down: logind accepted the reboot; managed").await;
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
    agent.log.line("the host has rebooted, as the service asked").await;
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

/// What a logind says, and what the service must hear then.
struct Refusal {
    what: &'static str,
    answers: Vec<(&'static str, Answer)>,
    rc: u64,
    words: &'static [&'static str],
}

fn refusals() -> Vec<Refusal> {
    let locked = || Answer::Locks(vec![block_lock("backup", "the nightly run")]);
    let appears = || Answer::Then(Box::new(Answer::Locks(Vec::new())), Box::new(locked()));
    let can = |text: &str| ("CanReboot", Answer::Text(text.to_owned()));
    let refusal = |what, answers, rc, words| Refusal {
        what,
        answers,
        rc,
        words,
    };
    vec![
        refusal(
            "a block lock",
            vec![("ListInhibitors", locked())],
            500,
            &["backup", "the nightly run", "pid 321"],
        ),
        refusal(
            "no polkit rule",
            vec![can("challenge")],
            500,
            &["polkit", "60-iotdm-agent.rules"],
        ),
        refusal(
            "polkit forbids",
            vec![can("no")],
            500,
            &["polkit", "60-iotdm-agent.rules"],
        ),
        refusal("a host that cannot", vec![can("na")], 501, &["cannot be rebooted"]),
        refusal(
            "no polkit",
            vec![(
                "CanReboot",
                Answer::Error("org.freedesktop.DBus.Error.AccessDenied", "Permission denied"),
            )],
            500,
            &["polkitd"],
        ),
        refusal(
            "Debian 12: a lock that came in between, somebody logged in",
            vec![
                ("ListInhibitors", appears()),
                (
                    "RebootWithFlags",
                    Answer::Error("System.Error.ESTALE", "Stale file handle"),
                ),
            ],
            500,
            &["backup", "the nightly run"],
        ),
        refusal(
            "Debian 12: a lock that came in between",
            vec![
                ("ListInhibitors", appears()),
                (
                    "RebootWithFlags",
                    Answer::Error(
                        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
                        "Interactive authentication required.",
                    ),
                ),
            ],
            500,
            &["backup"],
        ),
        refusal(
            "Debian 13: a lock that came in between",
            vec![
                ("ListInhibitors", appears()),
                (
                    "RebootWithFlags",
                    Answer::Error(
                        "org.freedesktop.DBus.Error.AccessDenied",
                        "Access denied due to active block inhibitor",
                    ),
                ),
            ],
            500,
            &["backup"],
        ),
        refusal(
            "a rule missing for multiple sessions",
            vec![(
                "RebootWithFlags",
                Answer::Error(
                    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
                    "Interactive authentication required.",
                ),
            )],
            500,
            &["polkit", "reboot-multiple-sessions"],
        ),
    ]
}

/// A healthy logind again.
fn healthy(login1: &Scripted) {
    login1
        .answer("ListInhibitors", Answer::Locks(Vec::new()))
        .answer("CanReboot", Answer::Text("yes".to_owned()))
        .answer("RebootWithFlags", Answer::Done);
}

#[tokio::test]
async fn reb_03_a_refusal_of_debian_12_or_13_is_answered_with_who_and_why_and_nothing_happens() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    for (number, refusal) in refusals().into_iter().enumerate() {
        healthy(&scene.login1);
        for (member, answer) in refusal.answers {
            scene.login1.answer(member, answer);
        }
        let req_id = format!("refused-{number}");
        scene.reboot(&req_id).await;
        let (rc, message) = scene.service.answer(&req_id, 1).await;
        assert_eq!(rc, refusal.rc, "{}: {message}", refusal.what);
        for word in refusal.words {
            assert!(message.contains(word), "{}: no {word:?} in {message:?}", refusal.what);
        }
        // It stays refused, even when it would be possible now.
        healthy(&scene.login1);
        let asked = scene.login1.count("ListInhibitors");
        scene.reboot(&req_id).await;
        assert_eq!(
            scene.service.answer(&req_id, 2).await,
            (rc, message),
            "{}",
            refusal.what
        );
        assert_eq!(scene.login1.count("ListInhibitors"), asked, "{}", refusal.what);
        for lock in scene.login1.locks() {
            released(lock).await;
        }
    }
    assert_eq!(
        scene.service.manages("gw-1"),
        1,
        "a manage would mean that it has rebooted"
    );
    assert_eq!(scene.host.status().await["agent"]["busy"], "none");
    assert_eq!(agent.log.count("the reboot was refused"), refusals().len());
    scene.reboot("allowed").await;
    assert_eq!(scene.service.answer("allowed", 1).await.0, 202);
}

#[tokio::test]
async fn reb_03_a_reboot_that_is_switched_off_is_answered_501_and_not_promised() {
    let scene = Scene::with(&Setup::default(), "[reboot]\nenabled = false").await;
    let _agent = scene.agent().await;
    let manage = &scene.service.said_by("gw-1")[0];
    assert_eq!(manage.json["d"]["supports"]["deviceActions"], false);
    scene.reboot("one").await;
    let (rc, message) = scene.service.answer("one", 1).await;
    assert_eq!(rc, 501);
    assert!(message.contains("[reboot] enabled = false"), "{message}");
    assert!(scene.login1.calls().is_empty());
}

#[tokio::test]
async fn reb_03_an_older_logind_without_flags_is_asked_the_old_way() {
    let scene = Scene::new().await;
    let unknown = Answer::Error(
        "org.freedesktop.DBus.Error.UnknownMethod",
        "Unknown method RebootWithFlags",
    );
    scene
        .login1
        .answer("RebootWithFlags", unknown)
        .answer("Reboot", Answer::Done);
    let _agent = scene.agent().await;
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 1).await.0, 202);
    assert_eq!(scene.login1.count("Reboot(false)"), 1);
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
async fn reb_03_logind_that_dies_before_the_request_is_a_refusal() {
    let scene = Scene::new().await;
    let _agent = scene.agent().await;
    scene.login1.answer("CanReboot", Answer::Vanish);
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 1).await.0, 500);
    scene.reboot("two").await;
    let (rc, message) = scene.service.answer("two", 1).await;
    assert!(rc == 500 && message.contains("login1"), "{rc} {message}");
    let _again = login1(&scene.bus).await;
    scene.reboot("three").await;
    assert_eq!(scene.service.answer("three", 1).await.0, 202);
}

#[tokio::test]
async fn reb_03_a_host_without_a_bus_answers_500_and_says_what_is_missing() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let service = Service::start(broker.port).await;
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    let agent = host.start();
    agent.managed().await;
    service.reboot("gw-1", "one").await;
    let (rc, message) = service.answer("one", 1).await;
    assert_eq!(rc, 500);
    assert!(message.contains("dbus.service"), "{message}");
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
