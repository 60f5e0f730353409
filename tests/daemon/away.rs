//! The broker goes away, restarts, forgets; requests wait for the agent, and what the agent owes waits for the broker.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::bus::Answer;
use crate::scene::Scene;
use crate::service::story;
use crate::support::mosquitto::Setup;
use crate::support::within;

/// An agent that owes the answer to a reboot, refused while the broker was away. The broker is still away.
async fn owing(setup: &Setup) -> (Scene, crate::agent::Agent) {
    let mut scene = Scene::with(setup, "").await;
    let agent = scene.agent().await;
    let permit = Arc::new(Notify::new());
    let refused = Answer::Text("no".to_owned());
    scene
        .login1
        .answer("CanReboot", Answer::Hold(permit.clone(), Box::new(refused.clone())));
    scene.reboot("owed").await;
    within("the call", scene.login1.called("CanReboot", 1)).await;
    // The request is acknowledged: the agent alone knows of it now.
    let answered = |status: &serde_json::Value| status["agent"]["busy"] == "reboot asked";
    scene.host.status_with("asked", answered).await;
    scene.broker.log_line("Received PUBACK from g:acme:edge:gw-1").await;
    if setup.persistence {
        scene.broker.stop();
    } else {
        scene.broker.kill();
    }
    agent
        .notes
        .line("STATUS=the service asks for a reboot; not connected")
        .await;
    scene.login1.answer("CanReboot", refused);
    permit.notify_one();
    agent.log.line("the reboot was refused").await;
    assert_eq!(scene.host.status().await["agent"]["answers_owed"], 1);
    (scene, agent)
}

#[tokio::test]
async fn con_10_a_broker_that_comes_back_without_its_memory_gets_what_is_owed_and_a_manage() {
    let (mut scene, agent) = owing(&Setup::default()).await;
    scene.relaunch(&agent).await;
    assert_eq!(scene.service.answer("owed", 1).await.0, 500);
    scene.service.managed("gw-1", 2).await;
    scene.still_answers("after").await;
    let owed = scene.host.status().await;
    assert_eq!(owed["agent"]["answers_owed"], 0);
}

#[tokio::test]
async fn con_10_a_broker_that_comes_back_with_its_memory_gets_what_is_owed() {
    let setup = Setup {
        persistence: true,
        ..Setup::default()
    };
    let (mut scene, agent) = owing(&setup).await;
    scene.relaunch(&agent).await;
    assert_eq!(scene.service.answer("owed", 1).await.0, 500);
    scene.still_answers("after").await;
    assert_eq!(scene.service.manages("gw-1"), 1, "mng_09: the session was kept");
}

#[tokio::test]
async fn con_10_an_agent_killed_while_it_owes_an_answer_gives_it_in_its_next_run() {
    let (mut scene, agent) = owing(&Setup::default()).await;
    agent.kill().await;
    let agent = scene.host.start();
    agent.notes.line("STATUS=not connected").await;
    assert_eq!(scene.host.status().await["agent"]["answers_owed"], 1);
    scene.relaunch(&agent).await;
    assert_eq!(scene.service.answer("owed", 1).await.0, 500);
    scene.service.managed("gw-1", 2).await;
    assert_eq!(
        story(&scene.service.said_by("gw-1")),
        ["manage", "response 500", "manage"],
        "what is owed comes first"
    );
}

#[tokio::test]
async fn con_10_answers_that_need_no_disk_survive_a_kill_too() {
    let (broker, host) = crate::scene::with_fake_broker().await;
    let agent = host.start();
    let mut peer = crate::scene::managed(&broker).await;
    for id in 2..12 {
        let payload = format!("{{\"reqId\": \"{id}\"}}");
        peer.publish(crate::scene::RESET, payload.as_bytes(), id).await;
    }
    // All are acknowledged to the broker; it acknowledges no answer.
    let mut acknowledged = 0;
    while acknowledged < 10 {
        match peer.next().await {
            crate::support::fake_broker::Packet::PubAck(id) if id > 1 => acknowledged += 1,
            crate::support::fake_broker::Packet::Subscribe { id, .. } => peer.suback(id, &[1]).await,
            _ => {}
        }
    }
    agent.kill().await;
    let _agent = host.start();
    let mut peer = broker.subscribed(true).await;
    let mut answered = Vec::new();
    while answered.len() < 10 {
        let (_, response, id) = crate::scene::next_publish(&mut peer).await;
        peer.puback(id).await;
        answered.push(response["reqId"].as_str().unwrap().to_owned());
    }
    // No manage among them: it would overtake an answer.
    let expected: Vec<_> = (2..12).map(|id: u16| id.to_string()).collect();
    assert_eq!(answered, expected);
}

#[tokio::test]
async fn con_10_the_agent_comes_back_from_a_broker_that_hangs_and_returns() {
    let scene = Scene::new().await;
    let text = scene.host.configuration(&scene.url(), "keep_alive = \"5s\"", "");
    scene.host.configure(&text);
    let agent = scene.agent().await;
    scene.broker.freeze();
    let line = agent.notes.line("STATUS=not connected").await;
    assert!(line.contains("nothing heard from the broker for 7 s"), "{line}");
    scene.broker.thaw();
    let from = agent.notes.len();
    agent.notes.line_from(from, "STATUS=managed").await;
    scene.still_answers("after").await;
}

#[tokio::test]
async fn con_17_requests_that_waited_for_the_agent_are_handled_before_the_subscription_is_confirmed() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    agent.kill().await;
    scene.login1.answer("CanReboot", Answer::Text("challenge".to_owned()));
    scene.reboot("first").await;
    for number in 0..5 {
        scene
            .service
            .request("gw-1", "mgmt/initiate/firmware/download", &format!("waited-{number}"))
            .await;
    }
    let _agent = scene.host.start();
    for number in 0..5 {
        assert_eq!(scene.service.answer(&format!("waited-{number}"), 1).await.0, 501);
    }
    assert_eq!(scene.service.answer("first", 1).await.0, 500);
    scene.service.managed("gw-1", 2).await;
}

#[tokio::test]
async fn con_17_a_request_that_comes_between_connack_and_suback_is_handled_and_acknowledged() {
    let (broker, host) = crate::scene::with_fake_broker().await;
    let _agent = host.start();
    let (mut peer, _) = broker.session(true).await;
    peer.publish(crate::scene::RESET, br#"{"reqId": "early"}"#, 9).await;
    let mut subscribe = None;
    let mut acknowledged = false;
    while subscribe.is_none() || !acknowledged {
        match peer.next().await {
            crate::support::fake_broker::Packet::Subscribe { id, .. } => subscribe = Some(id),
            crate::support::fake_broker::Packet::PubAck(id) => acknowledged = id == 9,
            other => panic!("{other:?} before the subscription stands"),
        }
    }
    peer.suback(subscribe.unwrap(), &[1]).await;
    let (_, response, _) = crate::scene::next_publish(&mut peer).await;
    assert_eq!((&response["reqId"], &response["rc"]), (&"early".into(), &501.into()));
}

#[tokio::test]
async fn mng_09_mng_11_a_short_loss_of_the_connection_sends_no_manage_and_none_during_a_reboot() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.reboot("one").await;
    assert_eq!(scene.service.answer("one", 1).await.0, 202);
    for _ in 0..2 {
        agent.reload().await;
        let from = agent.notes.len();
        scene.still_answers(&format!("after-{from}")).await;
    }
    assert_eq!(scene.service.manages("gw-1"), 1);
}
