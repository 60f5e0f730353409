//! The whole of it: `iotdm serve` as a process, a real mosquitto, a scripted device, and the commands.

use std::os::unix::fs::PermissionsExt;

use iotdm::protocol::{Rc, ToService};
use iotdm::service::key::Key;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::place::{Gateway, Place, ended};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;

#[tokio::test]
async fn a_device_becomes_managed_and_reboots_and_every_step_is_told() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let (code, out, _) = place.run(&["ls"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("no device"), "{out}");

    let mut watcher = place.command(&["watch"]).spawn().unwrap();
    let mut says = BufReader::new(watcher.stderr.take().unwrap()).lines();
    within("watch to begin", says.next_line()).await.unwrap().unwrap();
    let mut watched = BufReader::new(watcher.stdout.take().unwrap()).lines();

    let mut gateway = Gateway::connect(broker.port).await;
    assert_eq!(gateway.manage("m1").await.rc, Rc::OK);
    let (_, out, _) = place.run(&["ls"]).await;
    let row: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[2], row[3]), ("edge/gw-1", "1.2", "device"), "{out}");
    let (_, out, _) = place.run(&["ls", "--json"]).await;
    let devices: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(devices[0]["deviceId"], "gw-1");

    let command = place
        .command(&["reboot", "edge/gw-1", "--wait", "--timeout", "10m"])
        .spawn()
        .unwrap();
    let reboot = gateway.reboot_request().await;
    gateway.respond(&reboot, 202, "").await;
    assert_eq!(gateway.manage("m2").await.rc, Rc::OK);
    let (code, out, errors) = ended(within("the command", command.wait_with_output()).await.unwrap());
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
            "accepted (202): the device is going down"
        ]
    );
    assert!(steps[3].starts_with("managed again: it is back, "), "{out}");

    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains("is complete")) {
        lines.push(within("a line of watch", watched.next_line()).await.unwrap().unwrap());
    }
    let said = |part: &str| {
        lines
            .iter()
            .any(|line| line.contains("edge/gw-1") && line.contains(part))
    };
    assert!(
        said("is managed (for 24 h, firmware 1.2, takes device actions)"),
        "{lines:?}"
    );
    assert!(said("is asked for device/reboot (timeout 10 min)"), "{lines:?}");
    assert!(said("accepted device/reboot (202)"), "{lines:?}");
    watcher.kill().await.unwrap();
}

#[tokio::test]
async fn a_device_that_refuses_or_does_not_answer_is_told_plainly() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;

    let command = place.command(&["reboot", "edge/gw-1", "--wait"]).spawn().unwrap();
    let reboot = gateway.reboot_request().await;
    gateway.respond(&reboot, 500, "blocked by apt: an upgrade runs").await;
    let (code, out, _) = ended(within("the command", command.wait_with_output()).await.unwrap());
    assert_eq!(code, 1);
    assert!(
        out.contains("refused: the device answered 500: blocked by apt: an upgrade runs"),
        "{out}"
    );

    let arguments = ["reboot", "edge/gw-1", "--wait", "--timeout", "1s", "--json"];
    let (code, out, _) = place.run(&arguments).await;
    assert_eq!(code, 1);
    let row: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&row["status"], &row["complete"]), (&json!(3), &json!(true)));
    assert!(
        row["message"].as_str().unwrap().contains("did not answer in time"),
        "{row}"
    );

    let (code, _, errors) = place.run(&["reboot", "edge/unknown"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("edge/unknown is not registered"), "{errors}");
}

#[tokio::test]
async fn serve_is_killed_between_the_202_and_the_manage_and_the_request_completes() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    let command = place.command(&["reboot", "edge/gw-1", "--wait"]).spawn().unwrap();
    let reboot = gateway.reboot_request().await;
    gateway.respond(&reboot, 202, "").await;
    serve.logged("accepted device/reboot (202)").await;
    serve.kill().await;
    // The broker keeps this for the service's session.
    gateway
        .publish_acknowledged(ToService::Manage, Gateway::manage_payload("m2"))
        .await;
    let _serve = place.serve().await;
    assert_eq!(gateway.answer_to("m2", None).await.rc, Rc::OK);
    let (code, out, errors) = ended(within("the command", command.wait_with_output()).await.unwrap());
    assert_eq!(code, 0, "{out}{errors}");
    assert!(out.contains("managed again: it is back"), "{out}");
}

#[tokio::test]
async fn serve_is_killed_before_the_202_is_acknowledged_and_the_request_completes() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    let (code, out, _) = place.run(&["reboot", "edge/gw-1", "--json"]).await;
    assert_eq!(code, 0);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["reqId"].is_string());
    let reboot = gateway.reboot_request().await;
    serve.kill().await;
    gateway.respond(&reboot, 202, "").await;
    gateway
        .publish_acknowledged(ToService::Manage, Gateway::manage_payload("m2"))
        .await;
    let serve = place.serve().await;
    serve.logged("is back: device/reboot is complete").await;
}

#[tokio::test]
async fn a_request_whose_puback_is_not_recorded_is_published_again_after_a_restart_with_the_same_id() {
    let mut broker = Mosquitto::start(&Setup {
        persistence: true,
        ..Setup::default()
    })
    .await;
    let place = Place::new(broker.port);
    let serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    // The request lies in a socket that nobody reads, and is gone with it.
    broker.freeze();
    let (code, _, errors) = place.run(&["reboot", "edge/gw-1"]).await;
    assert_eq!(code, 0, "{errors}");
    serve.kill().await;
    broker.kill();
    broker.launch().await;
    let serve = place.serve().await;
    let first = gateway.reboot_request().await;
    gateway.respond(&first, 202, "").await;
    gateway.publish(ToService::Manage, Gateway::manage_payload("m2"));
    assert_eq!(gateway.answer_to("m2", Some(&first)).await.rc, Rc::OK);
    serve.logged("is back: device/reboot is complete").await;
}

#[tokio::test]
async fn a_request_made_while_the_broker_is_away_goes_out_when_it_is_back() {
    let mut broker = Mosquitto::start(&Setup {
        persistence: true,
        ..Setup::default()
    })
    .await;
    let place = Place::new(broker.port);
    let serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    broker.stop();
    serve.logged("no connection to the broker").await;
    let (code, _, errors) = place.run(&["reboot", "edge/gw-1"]).await;
    assert_eq!(code, 0, "{errors}");
    broker.launch().await;
    gateway.reboot_request().await;
}

#[tokio::test]
async fn what_cannot_be_written_is_neither_acknowledged_nor_answered_and_comes_again_to_the_next_start() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let mut serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    let registry = rusqlite::Connection::open(place.folder.path().join("state/registry.sqlite")).unwrap();
    registry.execute_batch("BEGIN IMMEDIATE").unwrap();
    gateway
        .publish_acknowledged(ToService::Manage, Gateway::manage_payload("m1"))
        .await;
    let status = within("the end of serve", serve.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    serve.logged("the registry cannot be used").await;
    registry.execute_batch("ROLLBACK").unwrap();
    let _serve = place.serve().await;
    assert_eq!(gateway.answer_to("m1", None).await.rc, Rc::OK);
}

#[tokio::test]
async fn svc_06_with_the_documented_access_control_list_no_device_speaks_for_another() {
    let acl = include_str!("../../config/examples/mosquitto.acl");
    let user = |name: &str| (name.to_owned(), format!("{name}-secret"));
    let broker = Mosquitto::start(&Setup {
        users: vec![user("iotdm"), user("gw-1"), user("gw-2")],
        acl: Some(acl.to_owned()),
        ..Setup::default()
    })
    .await;
    let place = Place::with_token(broker.port, Some("iotdm-secret\n"));
    let serve = place.serve().await;
    let login = ["-u", "gw-2", "-P", "gw-2-secret"];
    let manage = Gateway::manage_payload("m");
    for id in ["gw-1", "gw-2"] {
        let topic = format!("iotdevice-1/type/edge/id/{id}/mgmt/manage");
        broker.publish(&topic, &manage, &login).await;
    }
    serve.logged("is managed").await;
    let (_, out, _) = place.run(&["ls"]).await;
    assert!(out.contains("edge/gw-2") && !out.contains("edge/gw-1"), "{out}");

    let stranger = Place::with_token(broker.port, Some("hunter2"));
    let refused = stranger.launch();
    let line = refused.logged("no connection to the broker").await;
    assert!(line.contains("token") && !line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_second_instance_refuses_to_start_and_says_so() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let serve = place.serve().await;
    let (code, _, errors) = place
        .run(&["serve", "--config", place.settings().to_str().unwrap()])
        .await;
    assert_eq!(code, 1);
    let pid = serve.child.id().unwrap();
    assert!(
        errors.contains(&format!("another iotdm serve (process {pid})")),
        "{errors}"
    );
}

#[tokio::test]
async fn sigterm_ends_it_cleanly_and_the_next_start_knows_everything() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let mut serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(serve.child.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = within("the end of serve", serve.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    broker.log_line("Client a:acme:iotdm disconnected").await;
    let (code, _, errors) = place.run(&["ls"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("is iotdm serve running?"), "{errors}");
    let _serve = place.serve().await;
    let (_, out, _) = place.run(&["ls"]).await;
    assert!(out.contains("edge/gw-1"), "{out}");
}

#[tokio::test]
async fn what_cannot_start_says_why_and_with_which_exit_code() {
    let place = Place::new(1);
    let path = place.settings();
    let serve = ["serve", "--config", path.to_str().unwrap()];
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("org =", "organisation =")).unwrap();
    let (code, _, errors) = place.run(&serve).await;
    assert_eq!(code, 78);
    assert!(errors.contains("line 2") && errors.contains("organisation"), "{errors}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let text: Vec<&str> = good
        .lines()
        .map(|line| {
            if line.starts_with("listen") {
                listen.as_str()
            } else {
                line
            }
        })
        .collect();
    let text = text.join("\n");
    std::fs::write(&path, &text).unwrap();
    let (code, _, errors) = place.run(&serve).await;
    assert_eq!(code, 1);
    assert!(
        errors.contains("cannot listen on") && !errors.contains("in the clear"),
        "{errors}"
    );
    // An address that is nobody's (RFC 5737), so that no network is listened to.
    std::fs::write(&path, text.replace(&listen, "listen = \"192.0.2.1:8480\"")).unwrap();
    let (code, _, errors) = place.run(&serve).await;
    assert_eq!(code, 1);
    assert!(
        errors.contains("cannot listen on") && errors.contains("in the clear"),
        "{errors}"
    );
}

#[tokio::test]
async fn the_commands_teach_and_refuse_what_is_no_device() {
    let place = Place::new(1);
    let (code, out, _) = place.run(&["--help"]).await;
    assert_eq!(code, 0);
    for command in [
        "serve",
        "ls",
        "show",
        "watch",
        "set",
        "observe",
        "reboot",
        "factory-reset",
        "forget",
        "firmware",
    ] {
        assert!(out.contains(command), "{out}");
    }
    for usage in [
        &["reboot"][..],
        &["reboot", "gw-1"],
        &["reboot", "a/b", "--timeout", "soon"],
        &["reboot", "a/b", "--yes"],
        &["factory-reset", "--yes"],
        &["factory-reset", "gw-1", "--yes"],
        &["factory-reset", "a/b", "--yes", "--timeout", "0s"],
        &[],
    ] {
        assert_eq!(place.run(usage).await.0, 2, "{usage:?}");
    }
    let (_, _, errors) = place.run(&["reboot", "gw-1"]).await;
    assert!(errors.contains("TYPE/ID"), "{errors}");
    let (code, _, errors) = place.run(&["ls"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("api-key") && errors.contains("--key-file"), "{errors}");
}

#[tokio::test]
async fn a_command_that_nobody_reads_goes_on_and_its_exit_code_is_how_it_ended() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    let mut reboot = place.command(&["reboot", "edge/gw-1", "--wait"]).spawn().unwrap();
    drop(reboot.stdout.take());
    let asked = gateway.reboot_request().await;
    gateway.respond(&asked, 500, "blocked by apt").await;
    let status = within("the command", reboot.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1), "the reboot was refused");
    let mut ls = place.command(&["ls"]).spawn().unwrap();
    drop(ls.stdout.take());
    let status = within("the command", ls.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "whoever read it has enough of it");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_told_apart_from_a_service_that_is_not_there() {
    let place = Place::new(1);
    std::fs::create_dir(place.folder.path().join("state")).unwrap();
    Key::load_or_make(&place.folder.path().join("state/api-key"), "acme").unwrap();
    let (code, _, errors) = place.run(&["reboot", "edge/gw-1"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("no service answers"), "{errors}");
    let lost = TcpListener::bind(place.api.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let server = tokio::spawn(async move {
        // The first call is read, and that is all; the answer to the second is cut off.
        for answer in ["", "HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{\"reqId\":"] {
            let (mut call, _) = lost.accept().await.unwrap();
            let mut bytes = [0; 4096];
            assert!(call.read(&mut bytes).await.unwrap() > 0);
            call.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    for _ in 0..2 {
        let (code, _, errors) = place.run(&["factory-reset", "edge/gw-1", "--yes"]).await;
        assert_eq!(code, 1);
        assert!(
            errors.contains("the request may be registered") && errors.contains("before you repeat it"),
            "{errors}"
        );
    }
    server.await.unwrap();
}

#[tokio::test]
async fn sighup_reads_the_credentials_anew_and_connects_at_once() {
    let broker = Mosquitto::start(&Setup {
        users: vec![("iotdm".into(), "right".into())],
        ..Setup::default()
    })
    .await;
    let place = Place::with_token(broker.port, Some("wrong"));
    let mut serve = place.launch();
    serve.logged("no connection to the broker").await;
    std::fs::write(place.folder.path().join("token"), "right").unwrap();
    let id = i32::try_from(serve.child.id().unwrap()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGHUP).unwrap();
    serve.logged("ready: ").await;
    assert!(serve.child.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn the_registry_and_the_key_are_for_their_owner_alone_also_in_a_folder_that_was_there_before() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let state = place.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let _serve = place.serve().await;
    for name in [
        "registry.sqlite",
        "registry.sqlite-wal",
        "registry.sqlite-shm",
        "api-key",
    ] {
        let mode = std::fs::metadata(state.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_device_is_forgotten_when_its_id_is_typed_and_comes_back_with_its_next_manage() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage("m1").await;
    let (code, _, errors) = place.run(&["forget", "edge/gw-1"]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("--yes"), "{errors}");
    let (code, _, errors) = place.run_at_terminal(&["forget", "edge/gw-1"], "gw-2\n").await;
    assert_eq!(code, 1);
    assert!(errors.contains("edge/gw-1 is not forgotten"), "{errors}");
    let (code, out, _) = place.run_at_terminal(&["forget", "edge/gw-1"], "gw-1\n").await;
    assert_eq!(code, 0);
    assert!(out.starts_with("edge/gw-1 is forgotten"), "{out}");
    let (_, out, _) = place.run(&["ls"]).await;
    assert!(!out.contains("gw-1"), "{out}");
    let (code, _, errors) = place.run(&["forget", "edge/gw-1", "--yes"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("is not registered"), "{errors}");
    gateway.manage("m2").await;
    let (_, out, _) = place.run(&["ls"]).await;
    assert!(out.contains("edge/gw-1"), "{out}");
}
