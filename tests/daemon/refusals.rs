//! Every way in which a reboot is refused: the service hears who and why, and nothing happens.

use crate::agent::Host;
use crate::bus::{Answer, Scripted, block_lock, login1};
use crate::reboot::released;
use crate::scene::Scene;
use crate::service::Service;
use crate::support::mosquitto::{Mosquitto, Setup};

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
