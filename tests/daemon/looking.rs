//! `iotdm-agent check`, beside a running agent and without one.

use serde_json::Value;

use crate::agent::{Host, give};
use crate::bus::{Answer, PrivateBus, block_lock, login1};
use crate::scene::{REBOOT, Scene, next_publish, with_fake_broker};
use crate::support::fake_broker::Packet;
use crate::support::within;

/// The user `nobody` looks when no agent runs; root would look as the service's user, which this machine may not have.
const SOMEBODY: u32 = 65_534;

fn finding<'a>(findings: &'a Value, id: &str) -> &'a Value {
    let all = findings.as_array().unwrap();
    all.iter()
        .find(|finding| finding["id"] == id)
        .unwrap_or_else(|| panic!("no {id} in {findings:#}"))
}

/// Everything of the host belongs to the one who looks.
fn belongs_to_somebody(host: &Host) {
    for name in [
        "etc",
        "etc/config.toml",
        "run",
        "run/control.sock",
        "state",
        "state/lock",
        "token",
    ] {
        let path = host.path(name);
        if path.exists() {
            give(&path, SOMEBODY);
        }
    }
}

/// What `check` beside a running agent says about the broker: severity, text and hint.
async fn told_of_the_broker(host: &Host) -> (String, String) {
    let output = within("check", host.run(&["check", "--json"])).await;
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    of_the_broker(&findings)
}

fn of_the_broker(findings: &Value) -> (String, String) {
    let broker = finding(findings, "broker");
    let said = |key: &str| broker[key].as_str().unwrap_or_default().to_owned();
    (said("severity"), format!("{}\n{}", said("text"), said("hint")))
}

async fn look(host: &Host) -> (i32, Value) {
    let output = host.run_as(Some(SOMEBODY), &["check", "--json"]).await;
    let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().unwrap(), findings)
}

#[tokio::test]
async fn check_ten_times_beside_a_running_agent_disturbs_nobody() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    for number in 0..10 {
        if number == 5 {
            // Something waits for the agent while check looks.
            scene
                .service
                .request("gw-1", "mgmt/initiate/firmware/update", "waiting")
                .await;
        }
        let output = scene.host.run(&["check", "--json"]).await;
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let broker = finding(&findings, "broker");
        assert_eq!(broker["severity"], "ok", "{broker}");
        assert!(
            broker["text"].as_str().unwrap().contains("the running agent was asked"),
            "{broker}"
        );
    }
    assert_eq!(scene.service.answer("waiting", 1).await.0, 501);
    let mut all = Vec::new();
    for part in [
        "New client connected",
        "already connected",
        "disconnected",
        "closed its connection",
    ] {
        all.push(scene.broker.log_count(part));
    }
    assert_eq!(
        all,
        [2, 0, 0, 0],
        "the agent and the service: {:#?}",
        scene.broker.log()
    );
    assert_eq!(agent.log.count("connected to the service"), 1);
}

#[tokio::test]
async fn check_without_an_agent_tries_the_broker_and_loses_nothing_that_waits_there() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    agent.kill().await;
    scene.still_waits("waiting").await;
    belongs_to_somebody(&scene.host);
    for _ in 0..3 {
        let (code, findings) = look(&scene.host).await;
        let broker = finding(&findings, "broker");
        assert_eq!((code, &broker["severity"]), (0, &"ok".into()), "{findings:#}");
        assert!(
            broker["text"].as_str().unwrap().contains("lets g:acme:edge:gw-1 in"),
            "{broker}"
        );
        assert!(broker["hint"].as_str().unwrap().contains("repetition"), "{broker}");
    }
    for id in [
        "config-valid",
        "clock",
        "system-bus",
        "reboot",
        "files",
        "state-writable",
        "state-room",
    ] {
        finding(&look(&scene.host).await.1, id);
    }
    let _agent = scene.host.start();
    assert_eq!(scene.service.answer("waiting", 1).await.0, 501);
}

#[tokio::test]
async fn check_without_an_agent_says_that_what_waits_becomes_a_repetition_and_so_it_does() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    agent.kill().await;
    scene.broker.publish(REBOOT, b"{}", &[]).await;
    belongs_to_somebody(&scene.host);
    let (_, text) = of_the_broker(&look(&scene.host).await.1);
    assert!(text.contains("without reqId among it is not carried out"), "{text}");
    let agent = scene.host.start();
    agent
        .log
        .line("a reboot request without reqId was delivered again and not executed")
        .await;
}

#[tokio::test]
async fn check_finds_what_is_wrong_and_ends_with_1() {
    let bus = PrivateBus::start();
    let login1 = login1(&bus).await;
    login1
        .answer("CanReboot", Answer::Text("challenge".to_owned()))
        .answer("ListInhibitors", Answer::Locks(vec![block_lock("backup", "nightly")]));
    let host = Host::new("gw-1", bus.address());
    let port = crate::support::free_port();
    host.configure_for(&format!("mqtt://127.0.0.1:{port}"), "");
    belongs_to_somebody(&host);
    std::fs::remove_file(host.path("token")).unwrap();
    let (code, findings) = look(&host).await;
    assert_eq!(code, 1);
    for (id, words) in [
        ("files", "token"),
        ("broker", "token"),
        ("reboot", "can only be told while it runs"),
        ("reboot-blocked", "backup"),
    ] {
        let finding = finding(&findings, id);
        assert_ne!(finding["severity"], "ok", "{finding}");
        assert!(finding["text"].as_str().unwrap().contains(words), "{finding}");
    }
    host.set_token("some");
    belongs_to_somebody(&host);
    give(&host.path("state"), 0);
    let (code, findings) = look(&host).await;
    assert_eq!(code, 1);
    let broker = finding(&findings, "broker");
    assert!(
        broker["text"].as_str().unwrap().contains("refuses connections"),
        "{broker}"
    );
    assert_eq!(finding(&findings, "state-writable")["severity"], "error");
    let output = host.run_as(Some(SOMEBODY), &["check"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    for words in ["configuration:", "service:", "host:", "state:", "ERROR", "errors, "] {
        assert!(told.contains(words), "no {words:?} in\n{told}");
    }
}

#[tokio::test]
async fn check_of_a_wrong_or_missing_configuration_names_the_place() {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    host.configure("[device]\norg = \"quickstart\"\n\n[servise]\n");
    belongs_to_somebody(&host);
    let (code, findings) = look(&host).await;
    assert_eq!(code, 1);
    let problems: Vec<_> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["id"] == "config-valid")
        .map(|finding| finding["text"].as_str().unwrap())
        .collect();
    assert!(
        problems.iter().any(|text| text.contains("config.toml:2")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|text| text.contains("config.toml:4")),
        "{problems:?}"
    );
}

#[tokio::test]
async fn check_beside_an_agent_that_cannot_connect_tells_the_agents_trouble() {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    host.configure_for(&format!("mqtt://127.0.0.1:{}", crate::support::free_port()), "");
    let agent = host.start();
    agent.notes.line("STATUS=not connected").await;
    let output = within("check", host.run(&["check", "--json"])).await;
    assert_eq!(output.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        finding(&findings, "broker")["text"]
            .as_str()
            .unwrap()
            .contains("refuses connections")
    );
    assert_eq!(finding(&findings, "system-bus")["severity"], "error");
}

#[tokio::test]
async fn check_beside_an_agent_that_may_not_reboot_names_the_rule_that_is_missing() {
    let scene = Scene::new().await;
    let _agent = scene.agent().await;
    scene.login1.answer("CanReboot", Answer::Text("challenge".to_owned()));
    let output = scene.host.run(&["check"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("polkit does not let the agent reboot") && told.contains("60-iotdm-agent.rules"),
        "{told}"
    );
}

#[tokio::test]
async fn check_before_the_first_reload_tries_the_broker_with_what_is_written() {
    let scene = Scene::new().await;
    scene.host.configure("");
    let agent = scene.host.start();
    agent.notes.line("STATUS=not configured").await;
    let nobody_listens = format!("mqtt://127.0.0.1:{}", crate::support::free_port());
    scene.host.configure_for(&nobody_listens, "");
    let (severity, text) = told_of_the_broker(&scene.host).await;
    assert_eq!(severity, "error", "{text}");
    assert!(text.contains("refuses connections"), "{text}");

    scene.host.configure_for(&scene.url(), "");
    for _ in 0..2 {
        let (severity, text) = told_of_the_broker(&scene.host).await;
        assert_eq!(severity, "ok", "{text}");
        assert!(
            text.contains("lets g:acme:edge:gw-1 in") && text.contains("reload"),
            "{text}"
        );
    }
    agent.reload().await;
    agent.managed().await;
    let (_, text) = told_of_the_broker(&scene.host).await;
    assert!(text.contains("the running agent was asked"), "{text}");
    let counts = ["as g:acme:edge:gw-1", "already connected"].map(|part| scene.broker.log_count(part));
    assert_eq!(counts, [3, 0], "two looks and the agent: {:#?}", scene.broker.log());
}

#[tokio::test]
async fn a_reload_ends_the_look_at_the_broker_before_the_agent_connects_itself() {
    let (broker, host) = with_fake_broker().await;
    let written = std::fs::read_to_string(host.path("etc/config.toml")).unwrap();
    host.configure("");
    let agent = host.start();
    agent.notes.line("STATUS=not configured").await;
    host.configure(&written);
    let first = host.start_command(&["check", "--json"]);
    let mut look = broker.accept().await;
    look.connect().await;
    let (severity, text) = told_of_the_broker(&host).await;
    assert_eq!(severity, "warning", "{text}");
    assert!(text.contains("another check"), "{text}");
    // It waits for CONNACK, and the agent becomes configured.
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    assert_eq!(look.next().await, Packet::End);
    let mut peer = broker.subscribed(false).await;
    let output = within("the first check", first).await.unwrap();
    let (severity, text) = of_the_broker(&serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!(severity, "warning", "{text}");
    assert!(text.contains("connects itself"), "{text}");
    assert_eq!(
        next_publish(&mut peer).await.0,
        "iotdevice-1/type/edge/id/gw-1/mgmt/manage"
    );
}

#[tokio::test]
async fn check_says_nothing_good_of_settings_that_were_never_tried() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    let elsewhere = format!("mqtt://127.0.0.1:{}", crate::support::free_port());
    let same = std::fs::read_to_string(scene.host.path("etc/config.toml")).unwrap();
    let not_tried = async || {
        let (severity, text) = told_of_the_broker(&scene.host).await;
        assert_eq!(severity, "warning", "{text}");
        assert!(text.contains("not tried yet") && text.contains("reload"), "{text}");
    };
    let tried = async || {
        let (severity, text) = told_of_the_broker(&scene.host).await;
        assert_eq!(severity, "ok", "{text}");
    };
    tried().await;
    scene.host.configure_for(&elsewhere, "");
    not_tried().await;
    scene.host.configure(&same);
    tried().await;
    scene.host.set_token("another");
    not_tried().await;
    agent.reload().await;
    let connected = |status: &Value| status["connection"]["state"] == "connected";
    scene.host.status_with("connected again", connected).await;
    tried().await;
    assert_eq!(scene.broker.log_count("already connected"), 0);
}

#[tokio::test]
async fn check_does_not_blame_new_settings_for_the_trouble_of_the_old_ones() {
    let scene = Scene::new().await;
    let nobody_listens = format!("mqtt://127.0.0.1:{}", crate::support::free_port());
    scene.host.configure_for(&nobody_listens, "");
    let agent = scene.host.start();
    agent.notes.line("STATUS=not connected").await;
    let (severity, _) = told_of_the_broker(&scene.host).await;
    assert_eq!(severity, "error");
    scene.host.configure_for(&scene.url(), "");
    let (severity, text) = told_of_the_broker(&scene.host).await;
    assert_eq!(severity, "warning", "{text}");
    assert!(text.contains("not tried yet"), "{text}");
    agent.reload().await;
    let (severity, text) = told_of_the_broker(&scene.host).await;
    assert_ne!(severity, "error", "{text}");
    agent.managed().await;
    assert_eq!(told_of_the_broker(&scene.host).await.0, "ok");
}

#[tokio::test]
async fn check_opens_no_second_session_beside_an_agent_that_has_no_socket() {
    let scene = Scene::new().await;
    std::fs::remove_dir(scene.host.path("run")).unwrap();
    let agent = scene.agent().await;
    belongs_to_somebody(&scene.host);
    let (_, findings) = look(&scene.host).await;
    let (severity, text) = of_the_broker(&findings);
    assert_eq!(severity, "warning", "{text}");
    assert!(text.contains(&format!("process {}", agent.pid())), "{text}");
    // A user who may not look whether an agent runs does not try either.
    give(&scene.host.path("state/lock"), 0);
    let (severity, text) = of_the_broker(&look(&scene.host).await.1);
    assert_eq!(severity, "warning", "{text}");
    assert!(text.contains("cannot be told"), "{text}");
    assert_eq!(
        scene.broker.log_count("as g:acme:edge:gw-1"),
        1,
        "{:#?}",
        scene.broker.log()
    );
}

#[tokio::test]
async fn check_opens_no_second_session_while_an_agent_says_its_last_words() {
    let (broker, host) = with_fake_broker().await;
    let mut agent = host.start();
    let mut peer = broker.subscribed(false).await;
    // It waits for the acknowledgement of manage.
    next_publish(&mut peer).await;
    belongs_to_somebody(&host);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let gone = async {
        while host.socket().exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("the end of the socket", gone).await;
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    let (severity, text) = of_the_broker(&look(&host).await.1);
    assert_eq!(severity, "warning", "{text}");
    assert!(!broker.somebody_waits(std::time::Duration::ZERO).await);
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(agent.end().await, 0);
}
