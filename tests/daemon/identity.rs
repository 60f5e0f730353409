//! Who the agent is to the broker: refused, taken over, with a new token, with certificates that do not fit.

use crate::agent::{Host, TOKEN};
use crate::scene::{Scene, next_publish, with_fake_broker};
use crate::support::fake_broker::FakeBroker;
use crate::support::mosquitto::{Mosquitto, ServerTls, Setup};
use crate::support::pki::{Authority, Pair, Validity};
use crate::support::within;

fn with_password(password: &str) -> Setup {
    Setup {
        users: vec![("gw-1".into(), password.into())],
        ..Setup::default()
    }
}

fn host_for(broker: &Mosquitto) -> Host {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    host
}

#[tokio::test]
async fn con_09_a_refused_token_is_told_with_what_to_do_and_not_tried_again_for_minutes() {
    let broker = Mosquitto::start(&with_password("another")).await;
    let host = host_for(&broker);
    let agent = host.start();
    let line = agent.notes.line("STATUS=not connected").await;
    assert!(
        line.contains("with the user name \"gw-1\"; check that it is registered")
            && line.contains("the token is its own"),
        "{line}"
    );
    let status = host.status().await;
    assert_eq!(status["connection"]["state"], "disconnected");
    assert!(
        status["connection"]["next_attempt_in_seconds"].as_u64().unwrap() > 200,
        "{status}"
    );
    let told = host.told(&["status"]).await;
    assert!(
        told.contains("next attempt: in") && told.contains("trouble: the broker does not authorise"),
        "{told}"
    );
    assert_eq!(broker.log_count("not authorised"), 1, "{:#?}", broker.log());
}

#[tokio::test]
async fn a_new_token_in_the_file_is_used_after_a_reload_without_waiting() {
    let broker = Mosquitto::start(&with_password("the-new-one")).await;
    let host = host_for(&broker);
    let agent = host.start();
    agent
        .notes
        .line("STATUS=not connected: the broker does not authorise")
        .await;
    host.set_token("the-new-one\n");
    agent.reload().await;
    agent.notes.line("STATUS=connected").await;
    for line in agent.log.all().into_iter().chain(agent.notes.all()) {
        assert!(!line.contains("the-new-one"), "{line}");
    }
}

#[tokio::test]
async fn a_token_file_that_is_missing_or_open_to_all_is_told_with_the_command_that_mends_it() {
    let broker = Mosquitto::start(&with_password(TOKEN)).await;
    let host = host_for(&broker);
    std::fs::remove_file(host.path("token")).unwrap();
    let agent = host.start();
    let line = agent.notes.line("STATUS=not connected: the token file").await;
    assert!(line.contains(host.path("token").to_str().unwrap()), "{line}");
    assert!(line.contains("No such file"), "{line}");
    // It is looked for again without being told.
    host.set_token(TOKEN);
    agent.notes.line("STATUS=connected").await;
}

#[tokio::test]
async fn con_12_a_second_client_with_the_same_id_is_suspected_and_not_fought() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    let mut other = tokio::process::Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &scene.broker.port.to_string()])
        .args(["-i", "g:acme:edge:gw-1", "-c", "-q", "1", "-t", "somewhere/else"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = agent
        .notes
        .line("probably another client uses the client id g:acme:edge:gw-1")
        .await;
    assert!(line.starts_with("STATUS=not connected"), "{line}");
    let status = scene.host.status().await;
    assert!(
        status["connection"]["next_attempt_in_seconds"].as_u64().unwrap() > 200,
        "{status}"
    );
    other.kill().await.unwrap();
    // A person has stopped the other one, and says so.
    agent.reload().await;
    scene.still_answers("after").await;
}

#[tokio::test]
async fn after_a_reload_with_another_url_the_other_service_gets_nothing_that_was_for_the_first() {
    let (first, host) = with_fake_broker().await;
    let agent = host.start();
    let mut peer = first.subscribed(false).await;
    let (_, unacknowledged, _) = next_publish(&mut peer).await;
    let second = FakeBroker::start().await;
    host.configure_for(&format!("mqtt://127.0.0.1:{}", second.port), "");
    let (_, mut peer) = tokio::join!(agent.reload(), second.subscribed(true));
    let (topic, manage, _) = next_publish(&mut peer).await;
    assert!(topic.ends_with("/mgmt/manage"), "{topic}");
    assert_ne!(manage["reqId"], unacknowledged["reqId"]);
    agent.log.line("the service is mqtt://127.0.0.1:").await;
}

async fn tls_broker(pair: &Pair) -> Mosquitto {
    Mosquitto::start(&Setup {
        tls: Some(ServerTls {
            cert_file: pair.cert_file.clone(),
            key_file: pair.key_file.clone(),
            client_ca: None,
            version: None,
        }),
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn con_03_a_certificate_that_does_not_fit_is_told_in_words_in_the_status() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let cases = [
        (ours.server(&["localhost"], Validity::Now), "STATUS=connected"),
        (
            theirs.server(&["localhost"], Validity::Now),
            "is from an unknown authority; check that ca_file holds the authority of this broker",
        ),
        (
            ours.server(&["localhost"], Validity::Past),
            "the certificate of localhost has expired",
        ),
        (
            ours.server(&["elsewhere.example.com"], Validity::Now),
            "the certificate of the broker is not for the name localhost",
        ),
    ];
    for (pair, words) in cases {
        let broker = tls_broker(&pair).await;
        let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
        let ca = format!("ca_file = \"{}\"", ours.ca_file.display());
        host.configure(&host.configuration(&format!("mqtts://localhost:{}", broker.port), &ca, ""));
        let agent = host.start();
        agent.notes.line(words).await;
        if words != "STATUS=connected" {
            assert!(host.told(&["status"]).await.contains(words));
            let output = host.run(&["check"]).await;
            let told = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.code() == Some(1) && told.contains(words), "{told}");
        }
    }
}

#[tokio::test]
async fn a_manage_that_is_refused_says_what_the_service_said_and_what_to_do() {
    let scene = Scene::new().await;
    scene.service.answer_with(Some(404));
    let agent = scene.host.start();
    let line = agent.log.line("the service refused manage with rc 404").await;
    assert!(line.contains("register the device at the service"), "{line}");
    agent
        .notes
        .line("STATUS=connected, and manage was refused: rc 404")
        .await;
    let told = scene.host.told(&["status"]).await;
    assert!(told.contains("refused: rc 404") && told.contains("not yet"), "{told}");
    scene.service.answer_with(Some(200));
    within("manage", agent.reload()).await;
    agent.managed().await;
}
