//! The local commands: what they print, how they end, who may use them.

use std::os::unix::fs::PermissionsExt;

use crate::agent::{Host, failure};
use crate::scene::Scene;
use crate::service::story;

/// No user of the system.
const SOMEBODY: u32 = 54_321;

#[tokio::test]
async fn status_says_how_things_stand_for_people_and_for_scripts() {
    let scene = Scene::new().await;
    let _agent = scene.agent().await;
    let told = scene.host.told(&["status"]).await;
    for line in [
        "state: managed",
        "device: edge/gw-1",
        &format!("service: {}", scene.url()),
        "connection: connected for",
        "managed: yes, last confirmed 20",
        "version: ",
    ] {
        assert!(told.contains(line), "no {line:?} in\n{told}");
    }
    let status = scene.host.status().await;
    assert_eq!(status["summary"], "managed");
    assert_eq!(status["client_id"], "g:acme:edge:gw-1");
    assert_eq!(status["connection"]["state"], "connected");
    assert_eq!(status["agent"]["managed"], true);
    assert_eq!(status["agent"]["busy"], "none");
    assert_eq!(status["boot_id"], format!("{:032x}", 1));
    assert_eq!(status["state_directory"], scene.host.state().to_str().unwrap());
    assert_eq!(
        status["configuration_files"][0],
        scene.host.path("etc/config.toml").to_str().unwrap()
    );
}

#[tokio::test]
async fn unm_01_unmanage_is_said_to_the_service_and_stays_after_restart_and_reboot_until_manage() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    let told = scene.host.told(&["unmanage"]).await;
    assert!(told.contains("the service no longer manages this device"), "{told}");
    agent
        .notes
        .line("STATUS=connected; the device is out of management")
        .await;
    scene.reboot("one").await;
    let (rc, message) = scene.service.answer("one", 1).await;
    assert!(rc == 400 && message.contains("not managed"), "{rc} {message}");
    assert_eq!(agent.stop().await, 0);
    scene.host.boot();
    let agent = scene.host.start();
    agent
        .notes
        .line("STATUS=connected; the device is out of management")
        .await;
    let told = scene.host.told(&["status"]).await;
    assert!(told.contains("iotdm-agent manage takes it back"), "{told}");
    let told = scene.host.told(&["unmanage", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told).unwrap()["rc"], 200);
    let told = scene.host.told(&["manage"]).await;
    assert!(told.contains("the service manages this device"), "{told}");
    agent.managed().await;
    assert_eq!(
        story(&scene.service.said_by("gw-1")),
        ["manage", "unmanage", "response 400", "manage"],
        "none at stop, none at start"
    );
}

#[tokio::test]
async fn unm_01_unmanage_without_a_connection_is_written_down_and_said_later() {
    let mut scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.broker.kill();
    agent.notes.line("STATUS=not connected").await;
    let told = scene.host.told(&["unmanage"]).await;
    assert!(
        told.contains("the service will be told as soon as it is reached"),
        "{told}"
    );
    agent.kill().await;
    let agent = scene.host.start();
    scene.relaunch(&agent).await;
    scene
        .service
        .until("unmanage", |said| {
            said.iter().any(|said| said.tail() == "mgmt/unmanage")
        })
        .await;
    let gone = |status: &serde_json::Value| status["agent"]["wish"] == "unmanaged";
    scene.host.status_with("unmanaged", gone).await;
    assert_eq!(scene.service.manages("gw-1"), 1);
}

#[tokio::test]
async fn manage_that_loses_its_connection_is_not_left_waiting() {
    let mut scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.service.answer_with(None);
    let manage = scene.host.start_command(&["manage"]);
    scene.service.managed("gw-1", 2).await;
    scene.broker.kill();
    agent.notes.line("STATUS=not connected").await;
    let output = crate::support::within("the command", manage).await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && told.contains("as soon as it is reached"),
        "{told}"
    );
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_group_and_others_are_told_so() {
    let scene = Scene::new().await;
    let _agent = scene.agent().await;
    let mode = std::fs::metadata(scene.host.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    for command in ["status", "manage", "unmanage", "check"] {
        let (code, text) = failure(&scene.host.run_as(Some(SOMEBODY), &[command]).await);
        assert_eq!(code, 1, "{command}");
        assert!(
            text.contains("only root and the group iotdm-agent") && text.contains("sudo"),
            "{text}"
        );
    }
    assert_eq!(scene.service.manages("gw-1"), 1);
    assert_eq!(
        scene.broker.log_count("already connected"),
        0,
        "check went to the broker itself"
    );
}

#[tokio::test]
async fn without_an_agent_the_commands_say_so_and_what_to_do() {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    for command in ["status", "manage", "unmanage"] {
        for json in [&[command][..], &[command, "--json"]] {
            let (code, text) = failure(&host.run(json).await);
            assert_eq!(code, 1, "{command}");
            assert!(
                text.contains("the agent is not running") && text.contains("systemctl start"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_understood_ends_with_2_and_help_with_0() {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    for wrong in [&["explode"][..], &["status", "--loud"], &["run", "--json"]] {
        let (code, text) = failure(&host.run(wrong).await);
        assert_eq!(code, 2, "{wrong:?}");
        assert!(text.contains("Usage"), "{text}");
    }
    assert!(host.told(&["status", "--help"]).await.contains("--json"));
}

#[tokio::test]
async fn a_socket_left_behind_by_a_killed_agent_is_in_nobodys_way() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    agent.kill().await;
    assert!(scene.host.socket().exists());
    let (code, text) = failure(&scene.host.run(&["status"]).await);
    assert!(code == 1 && text.contains("not running"), "{text}");
    let agent = scene.agent().await;
    scene.host.told(&["status"]).await;
    assert_eq!(agent.stop().await, 0);
    assert!(!scene.host.socket().exists());
}
