//! A download in a process of its own: to be killed, or put into a network of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, Shelf};
use crate::support::within;
use crate::{Scene, quick};

/// What this process is to do, when it is the child.
const TASK: &str = "IOTDM_TEST_DOWNLOAD";
const NAME: &str = "child::a_process_of_its_own_does_as_it_is_told";

/// Starts this test binary again with a task, below `wrapper` (a program with its arguments).
pub fn start(wrapper: &[&str], task: &Value) -> Child {
    let binary = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&binary);
            command
        }
    };
    command
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(TASK, task.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How it ended: `{"size": ...}` or `{"kind": ..., "text": ...}`.
pub async fn end(child: Child) -> Value {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = within("the end of the child", output).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("ended: "));
    serde_json::from_str(line.unwrap_or_else(|| panic!("it did not end: {text}")).1).unwrap()
}

#[allow(clippy::disallowed_methods, clippy::print_stdout)] // how it is told what to do, and tells how it ended
#[test]
fn a_process_of_its_own_does_as_it_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Ok(task) = std::env::var(TASK) {
        let ended = runtime.block_on(obey(&serde_json::from_str(&task).unwrap()));
        println!("ended: {ended}");
        return;
    }
    runtime.block_on(async {
        let shelf = Shelf::new(1000);
        let served = shelf.clone();
        let server = Server::start(move |request| served.reply(request)).await;
        let scene = Scene::at(&server);
        let task = json!({"uri": scene.download.uri, "file": scene.download.file});
        assert_eq!(end(start(&[], &task)).await, json!({"size": 1000}));
        assert_eq!(std::fs::read(&scene.download.file).unwrap(), shelf.content);
    });
}

async fn obey(task: &Value) -> Value {
    let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
    let mut scene = Scene::new(&text("uri"));
    scene.download.file = Path::new(&text("file")).to_owned();
    scene.download.patience = quick();
    if let Some(seconds) = task["silence"].as_u64() {
        scene.download.patience.silence = Duration::from_secs(seconds);
    }
    // A server in the same network, which is away for longer than all trouble that would be borne.
    let mut server = None;
    if task["network"] == "comes back" {
        let shelf = Shelf::new(1000);
        let started = Server::start(move |request| shelf.reply(request)).await;
        scene.download.uri = format!("http://127.0.0.1:{}/x", started.port);
        scene.download.patience.first_answer = Duration::from_millis(300);
        scene.download.patience.away_at_first = Duration::from_secs(60);
        server = Some(started);
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let up = tokio::process::Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status();
            assert!(up.await.unwrap().success());
        });
    }
    let ended = match scene.run().await {
        Ok(fetched) => json!({"size": fetched.size}),
        Err(failure) => json!({"kind": format!("{:?}", failure.kind), "text": failure.text}),
    };
    drop(server);
    ended
}

#[tokio::test]
async fn fwd_06_a_killed_download_is_gone_on_with_behind_what_was_synced() {
    const MIB: usize = 1024 * 1024;
    let shelf = Shelf::new(40 * MIB);
    let served = shelf.clone();
    let mut server = Server::start(move |request| match request.number {
        0 => served.reply(request).stall(36 * MIB),
        _ => served.reply(request),
    })
    .await;
    let scene = Scene::at(&server);
    let task = json!({"uri": scene.download.uri, "file": scene.download.file, "silence": 600});
    let mut child = start(&[], &task);
    within("the stall", server.has_stalled(1)).await;
    // The note is written by a thread of the child, some moments after the bytes have come.
    let synced = within("the first sync", async {
        loop {
            let note: Option<Value> = std::fs::read(scene.note())
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(synced) = note
                .and_then(|note| note["synced"].as_u64())
                .filter(|synced| *synced > 0)
            {
                break synced;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        scene.names(),
        ["bundle.part", "bundle.part.json"],
        "it has no name before it is whole"
    );
    assert!(synced >= 32 * MIB as u64, "{synced}");
    // What a power cut may leave behind the last sync.
    let part = std::fs::OpenOptions::new().write(true).open(scene.part()).unwrap();
    let length = part.metadata().unwrap().len();
    part.set_len(synced).unwrap();
    part.set_len(length + 5).unwrap();
    scene.brings(&shelf).await;
    assert_eq!(server.requests()[1].from(), Some(usize::try_from(synced).unwrap()));
}

#[tokio::test]
async fn fwd_06_a_download_that_is_killed_anywhere_is_whole_or_not_there() {
    let shelf = Shelf::new(300_000);
    for at in [0, 1, 150_000, 299_999, 300_000] {
        let served = shelf.clone();
        let mut server = Server::start(move |request| match request.number {
            0 => served.reply(request).stall(at),
            _ => served.reply(request),
        })
        .await;
        let scene = Scene::at(&server);
        let task = json!({"uri": scene.download.uri, "file": scene.download.file, "silence": 600});
        let mut child = start(&[], &task);
        within("the stall", server.has_stalled(1)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        if scene.download.file.exists() {
            assert!(std::fs::read(&scene.download.file).unwrap() == shelf.content);
        }
        scene.brings(&shelf).await;
    }
}
