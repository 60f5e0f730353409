//! A disk that is really full.

use std::time::Duration;

use crate::agent::Host;
use crate::scene::Scene;
use crate::small_disk::SmallDisk;
use crate::support::within;

async fn on_a_small_disk() -> (Scene, SmallDisk) {
    let mut scene = Scene::new().await;
    let disk = SmallDisk::mount("256k");
    scene.host.state = Some(disk.path.join("state"));
    (scene, disk)
}

async fn trouble(host: &Host) -> serde_json::Value {
    host.status().await["disk_trouble"].clone()
}

#[tokio::test]
async fn on_a_full_disk_a_hundred_requests_are_refused_with_the_reason_and_it_recovers_by_itself() {
    let (scene, disk) = on_a_small_disk().await;
    let agent = scene.agent().await;
    disk.fill();
    for number in 0..100 {
        scene.reboot(&format!("full-{number}")).await;
    }
    scene
        .service
        .request("gw-1", "mgmt/initiate/device/factory_reset", "else")
        .await;
    let all = async {
        // The agent sends five messages a second at most.
        for number in 0..100 {
            while scene.service.answers(&format!("full-{number}")).is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let (rc, message) = scene.service.answers(&format!("full-{number}"))[0].clone();
            assert_eq!(rc, 500);
            assert!(message.starts_with("state disk full"), "{message}");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    assert_eq!(
        scene.service.answer("else", 1).await.0,
        501,
        "what needs no disk is answered"
    );
    assert!(scene.login1.calls().is_empty(), "nothing was done");
    let told = trouble(&scene.host).await;
    assert!(told.as_str().unwrap().starts_with("state disk full"), "{told}");
    assert!(scene.host.told(&["status"]).await.contains("disk: state disk full"));
    assert_eq!(agent.log.count("the state disk takes what is written again"), 0);
    assert_eq!(agent.log.count("the agent goes on and tries again"), 1, "said once");
    // Every request was acknowledged: another client finds nothing in the queue.
    assert_eq!(scene.broker.log_count("Received PUBACK from g:acme:edge:gw-1"), 102);
    // Local commands say it, too.
    let (code, text) = crate::agent::failure(&scene.host.run(&["unmanage"]).await);
    assert!(code == 1 && text.contains("state disk full"), "{text}");

    disk.make_room();
    let recovered = |status: &serde_json::Value| status["disk_trouble"].is_null();
    scene.host.status_with("the end of the trouble", recovered).await;
    agent.log.line("the state disk takes what is written again").await;
    scene.reboot("room").await;
    assert_eq!(scene.service.answer("room", 1).await.0, 202);
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
}

#[tokio::test]
async fn it_starts_and_works_with_a_disk_that_is_full() {
    let (scene, disk) = on_a_small_disk().await;
    let agent = scene.agent().await;
    scene.reboot("first").await;
    assert_eq!(scene.service.answer("first", 1).await.0, 202);
    assert_eq!(agent.stop().await, 0);
    disk.fill();
    scene.host.boot();
    let agent = scene.agent().await;
    scene.still_answers("else").await;
    // What is known from before the disk was full is known.
    scene.reboot("first").await;
    assert_eq!(scene.service.answer("first", 2).await.0, 202);
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
    disk.make_room();
    let recovered = |status: &serde_json::Value| status["disk_trouble"].is_null();
    scene.host.status_with("the end of the trouble", recovered).await;
    agent.kill().await;
    // And what happened meanwhile is on the disk.
    let _agent = scene.agent().await;
    scene.reboot("first").await;
    assert_eq!(scene.service.answer("first", 3).await.0, 202);
    assert_eq!(scene.login1.count("RebootWithFlags"), 1);
}

#[tokio::test]
async fn an_answer_that_the_full_disk_did_not_take_is_written_when_there_is_room() {
    let disk = SmallDisk::mount("256k");
    let (broker, mut host) = crate::scene::with_fake_broker().await;
    host.state = Some(disk.path.join("state"));
    let agent = host.start();
    let mut peer = crate::scene::managed(&broker).await;
    disk.fill();
    peer.publish(crate::scene::RESET, br#"{"reqId": "owed"}"#, 2).await;
    let (_, response, _) = crate::scene::next_publish(&mut peer).await;
    assert_eq!(response["reqId"], "owed");
    // No acknowledgement.
    let full = |status: &serde_json::Value| status["disk_trouble"].is_string();
    host.status_with("the trouble", full).await;
    disk.make_room();
    let recovered = |status: &serde_json::Value| status["disk_trouble"].is_null();
    host.status_with("the end of the trouble", recovered).await;
    agent.kill().await;
    let _agent = host.start();
    let mut peer = broker.subscribed(true).await;
    let (_, response, _) = within("the answer", crate::scene::next_publish(&mut peer)).await;
    assert_eq!(response["reqId"], "owed");
}
