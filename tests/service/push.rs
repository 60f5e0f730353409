//! `iotdm firmware push` and `status`: the commands as processes, `iotdm serve`, a real mosquitto, scripted devices.

use std::path::PathBuf;

use iotdm::protocol::Request;
use reqwest::header::{ETAG, IF_RANGE, RANGE};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::place::{Gateway, Place, ended};
use crate::rest::http;
use crate::scene::device;
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::pki::{Authority, Pair, Validity};
use crate::support::{free_port, within};

const SIZE: usize = 900_000;

/// A bundle in a folder, and whom to trust.
pub struct Depot {
    authority: Authority,
    pair: Pair,
    bundle: PathBuf,
    content: Vec<u8>,
}

impl Depot {
    pub fn new() -> Self {
        let authority = Authority::new("push authority");
        let pair = authority.server(&["localhost"], Validity::Now);
        let bundle = authority.folder().join("fw-2.0.raucb");
        let content: Vec<u8> = (0..SIZE).map(|at| (at / 253 + at) as u8).collect();
        std::fs::write(&bundle, &content).unwrap();
        Depot {
            authority,
            pair,
            bundle,
            content,
        }
    }

    fn client(&self) -> Client {
        // The provider of the process is installed there.
        let _ = http();
        let ca = Certificate::from_pem(&std::fs::read(&self.authority.ca_file).unwrap()).unwrap();
        Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap()
    }

    /// The arguments that serve the bundle over TLS.
    pub fn arguments(&self) -> Vec<String> {
        let listen = format!("127.0.0.1:{}", free_port());
        let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
        [
            "--file",
            &path(&self.bundle),
            "--listen",
            &listen,
            "--public-host",
            "localhost",
            "--cert",
            &path(&self.pair.cert_file),
            "--key",
            &path(&self.pair.key_file),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

pub fn arguments<'a>(devices: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    let mut all = vec!["firmware", "push"];
    all.extend(devices);
    all.extend(more.iter().map(String::as_str));
    all
}

#[tokio::test]
async fn two_devices_fetch_a_bundle_with_a_cut_between_and_one_of_them_fails() {
    let depot = Depot::new();
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let mut good = Gateway::connect(broker.port).await;
    let mut bad = Gateway::connect_as(broker.port, device("edge/gw-2")).await;
    good.manage_firmware("m1", "1.0").await;
    bad.manage_firmware("m1", "1.0").await;
    place.knows(&["gw-1", "gw-2"]).await;

    let mut more = depot.arguments();
    more.extend(["--version".to_owned(), "2.0".to_owned()]);
    let mut command = place
        .command(&arguments(&["edge/gw-1", "edge/gw-2"], &more))
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
    let first = within("the first line", lines.next_line()).await.unwrap().unwrap();
    assert!(first.contains("fw-2.0.raucb (900000 bytes, sha256:"), "{first}");

    let (http, content) = (depot.client(), &depot.content);
    let verifier = format!(
        "sha256:{}",
        Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    );
    let works = async {
        let told = good.download_begins().await;
        assert_eq!(
            (&told["version"], &told["name"], &told["verifier"]),
            (&json!("2.0"), &json!("fw-2.0.raucb"), &json!(verifier))
        );
        let uri = told["uri"].as_str().unwrap();
        good.notify(json!({"state": 1})).await;
        let half = http.get(uri).header(RANGE, "bytes=0-449999").send().await.unwrap();
        assert_eq!(half.status(), StatusCode::PARTIAL_CONTENT);
        let etag = half.headers()[ETAG].clone();
        let mut body = half.bytes().await.unwrap().to_vec();
        let rest = http.get(uri).header(RANGE, "bytes=450000-").header(IF_RANGE, etag);
        body.extend(rest.send().await.unwrap().bytes().await.unwrap());
        assert!(body == *content);
        good.notify(json!({"state": 2})).await;
        good.is_cancelled().await;
        good.update_begins().await;
        good.notify(json!({"updateStatus": 1})).await;
        good
    };
    let fails = async {
        let told = bad.download_begins().await;
        bad.notify(json!({"state": 1})).await;
        let reason = "the digest is not the one that was announced";
        bad.logs_failure("download", 4, reason).await;
        // The newest error of its logs is an application's.
        let data = json!({"unit": "modbus.service", "cursor": "s=1"});
        bad.logs_error("no answer from 17", &data).await;
        bad.notify(json!({"state": 0, "updateStatus": 4})).await;
        bad.is_cancelled().await;
        told["uri"].as_str().unwrap().to_owned()
    };
    let (mut good, uri_of_bad) = tokio::join!(works, fails);
    let mut said = vec![first];
    let until = async |lines: &mut tokio::io::Lines<_>, said: &mut Vec<String>, part: &str| {
        while !said.iter().any(|line| line.contains(part)) {
            said.push(within(part, lines.next_line()).await.unwrap().unwrap());
        }
    };
    until(&mut lines, &mut said, "edge/gw-1  installing").await;
    good.manage_firmware("m2", "2.0").await;
    until(&mut lines, &mut said, "edge/gw-1  on trial, it runs 2.0").await;
    good.notify(json!({"state": 0, "updateStatus": 0})).await;
    good.is_cancelled().await;
    until(&mut lines, &mut said, "DEVICE").await;
    while let Some(line) = within("the end", lines.next_line()).await.unwrap() {
        said.push(line);
    }
    let (code, _, errors) = ended(within("the command", command.wait_with_output()).await.unwrap());
    assert_eq!((code, errors.as_str()), (1, ""), "one of them failed: {said:#?}");
    let has = |part: &str| assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:#?}");
    has("edge/gw-1  requested");
    has("edge/gw-1  done, it runs 2.0");
    let reason = "the digest is not the one that was announced (verification failed, updateStatus 4)";
    has(&format!("edge/gw-2  failed: {reason}"));
    let (_, out, _) = place.run(&["firmware", "status", "edge/gw-2"]).await;
    assert!(out.contains(&format!(": {reason} (request ")), "{out}");
    let table: Vec<Vec<&str>> = said
        .iter()
        .skip_while(|line| !line.starts_with("DEVICE"))
        .map(|line| line.split_whitespace().take(3).collect())
        .collect();
    assert_eq!(
        table,
        [
            ["DEVICE", "RESULT", "FIRMWARE"],
            ["edge/gw-1", "done", "2.0"],
            ["edge/gw-2", "failed", "1.0"],
        ]
    );
    assert!(
        http.get(uri_of_bad).send().await.is_err(),
        "the file server has ended with the command"
    );
}

#[tokio::test]
async fn fws_01_serve_is_killed_after_every_answer_and_every_notify_and_the_push_gets_to_its_end() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let mut serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage_firmware("m1", "1.0").await;
    place.knows(&["gw-1"]).await;
    let uri = "--uri=https://fw.example.com/2".to_owned();
    let push = arguments(&["edge/gw-1", "--json", "--timeout", "10m"], std::slice::from_ref(&uri)).join(" ");
    let mut command = place.command(&push.split(' ').collect::<Vec<_>>()).spawn().unwrap();
    let mut says = BufReader::new(command.stderr.take().unwrap()).lines();
    let mut asked = Vec::new();
    for download in [true, false] {
        let steps = if download { vec![204, 200, 202] } else { vec![200, 202] };
        for rc in steps {
            asked.push(gateway.answer(rc, "").await);
            serve = place.killed(serve).await;
        }
        let notifies = match download {
            true => [json!({"state": 1}), json!({"state": 2})],
            false => [json!({"updateStatus": 1}), json!({"state": 0, "updateStatus": 0})],
        };
        for value in notifies {
            gateway.notify(value).await;
            serve = place.killed(serve).await;
        }
        asked.push(gateway.answer(200, "").await);
        serve.kill().await;
        // The command asks again and again, and says so.
        let line = within("the command to miss the service", says.next_line())
            .await
            .unwrap()
            .unwrap();
        assert!(line.contains("still"), "{line}");
        serve = place.serve().await;
    }
    let (code, out, errors) = ended(within("the command", command.wait_with_output()).await.unwrap());
    assert_eq!(code, 0, "{out}{errors}");
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&rows[0]["result"], &rows[0]["fwVersion"]),
        (&json!("done"), &json!("1.0"))
    );
    let initiated = asked.iter().filter(|request| **request == Request::FirmwareDownload);
    assert_eq!(initiated.count(), 1);
    let kinds: Vec<_> = asked.iter().map(|request| request.kind().to_string()).collect();
    assert_eq!(
        kinds,
        [
            "device/update",
            "observe",
            "mgmt/initiate/firmware/download",
            "cancel",
            "observe",
            "mgmt/initiate/firmware/update",
            "cancel"
        ]
    );
}

#[tokio::test]
async fn ctrl_c_says_what_goes_on_at_the_devices_and_cancels_nothing() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage_firmware("m1", "1.0").await;
    place.knows(&["gw-1"]).await;
    let depot = Depot::new();
    let mut more = depot.arguments();
    let cert = more.iter().position(|argument| argument == "--cert").unwrap();
    more.truncate(cert);
    more.push("--http".to_owned());
    let mut command = place.command(&arguments(&["edge/gw-1"], &more)).spawn().unwrap();
    let told = gateway.download_begins().await;
    assert!(told["uri"].as_str().unwrap().starts_with("http://localhost:"), "{told}");
    gateway.notify(json!({"state": 1})).await;
    let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
    while !within("downloading", lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .contains("downloading 0 %")
    {}
    let pid = nix::unistd::Pid::from_raw(i32::try_from(command.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let (code, _, errors) = ended(within("the command", command.wait_with_output()).await.unwrap());
    assert_eq!(code, 1);
    for part in [
        "WITHOUT TLS",
        "nothing was cancelled",
        "edge/gw-1: downloading 0 %; request ",
        "--override",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }

    let (code, out, _) = place.run(&["firmware", "status", "edge/gw-1"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("firmware/download is under way since"), "{out}");
    let (_, out, _) = place.run(&["firmware", "status", "edge/gw-1", "--json"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            &status["fwVersion"],
            &status["firmware"]["state"],
            &status["request"]["step"]
        ),
        (&json!("1.0"), &json!(1), &json!("working"))
    );

    let uri = ["--uri".to_owned(), "https://fw.example.com/2".to_owned()];
    let (code, out, _) = place.run(&arguments(&["edge/gw-1"], &uri)).await;
    assert_eq!(code, 1);
    assert!(out.contains("edge/gw-1 is busy with firmware/download"), "{out}");
    let mut over = uri.to_vec();
    over.push("--override".to_owned());
    let command = place.command(&arguments(&["edge/gw-1"], &over)).spawn().unwrap();
    // The first thing that it hears is that nobody observes it any more, without an id.
    assert_eq!(gateway.receive_cancel().await, None);
    assert!(matches!(
        gateway.answer(409, "a download runs").await,
        Request::Update(_)
    ));
    let (code, out, _) = ended(within("the command", command.wait_with_output()).await.unwrap());
    assert_eq!(code, 1);
    assert!(
        out.contains("refused: the device answered 409: a download runs"),
        "{out}"
    );
}

#[tokio::test]
async fn nothing_begins_when_one_of_the_devices_cannot_take_it() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let _serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    let mut plain = Gateway::connect_as(broker.port, device("edge/plain")).await;
    gateway.manage_firmware("m1", "1.0").await;
    plain.manage("m1").await;
    place.knows(&["gw-1", "plain"]).await;
    let uri = ["--uri".to_owned(), "https://fw.example.com/2".to_owned()];
    let devices = ["edge/gw-1", "edge/plain", "edge/unknown"];
    let (code, out, errors) = place.run(&arguments(&devices, &uri)).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("edge/plain offers no firmware actions"), "{errors}");
    assert!(errors.contains("edge/unknown is not registered"), "{errors}");
    assert!(errors.contains("nothing has begun"), "{errors}");
    let (_, out, _) = place.run(&["firmware", "status", "edge/gw-1"]).await;
    assert!(out.contains("none is known"), "{out}");
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_refused_with_what_is_missing() {
    let place = Place::new(1);
    for (usage, named) in [
        (&["push"][..], "TYPE/ID"),
        (&["push", "a/b"], "--file"),
        (&["push", "a/b", "--file", "f"], "--public-host"),
        (&["push", "a/b", "--file", "f", "--public-host", "h"], "--cert"),
        (
            &["push", "a/b", "--file", "f", "--public-host", "h", "--cert", "c"],
            "--key",
        ),
        (
            &[
                "push",
                "a/b",
                "--file",
                "f",
                "--public-host",
                "h",
                "--http",
                "--verifier",
                "sha256:0",
            ],
            "--verifier",
        ),
        (&["push", "a/b", "--file", "f", "--uri", "u"], "--uri"),
        (&["push", "a/b", "--uri", "u", "--http"], "--http"),
        (&["status"], "TYPE/ID"),
    ] {
        let mut arguments = vec!["firmware"];
        arguments.extend(usage);
        let (code, _, errors) = place.run(&arguments).await;
        assert_eq!(code, 2, "{usage:?}: {errors}");
        assert!(errors.contains(named), "{usage:?}: {errors}");
    }
}
