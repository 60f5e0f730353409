//! `iotdm-agent check`, beside a running agent and without one.

use serde_json::Value;

use crate::agent::{Host, give};
use crate::bus::{Answer, PrivateBus, block_lock, login1};
use crate::scene::Scene;
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
    for name in ["etc", "etc/config.toml", "run", "run/control.sock", "state", "token"] {
        let path = host.path(name);
        if path.exists() {
            give(&path, SOMEBODY);
        }
    }
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
