//! Going on: behind a cut, after a restart, with a file that has changed meanwhile, with a finished file.

use iotdm::host::download::{Download, FailureKind};
use proptest::prelude::*;

use crate::server::{Reply, Server, Shelf};
use crate::support::within;
use crate::{Scene, assert_failure};

fn from(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(|request| request.from()).collect()
}

#[tokio::test]
async fn fwd_11_it_goes_on_behind_a_cut_with_range_and_if_range() {
    let shelf = Shelf::new(1_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => served.reply(request).cut(300_000),
        1 => served.reply(request).cut(1),
        2 => served.reply(request).cut(0),
        _ => served.reply(request),
    })
    .await;
    Scene::at(&server).brings(&shelf).await;
    assert_eq!(from(&server), [None, Some(300_000), Some(300_001), Some(300_001)]);
    let condition = server.requests()[1].header("if-range").map(str::to_owned);
    assert_eq!(condition, shelf.etag);
}

#[tokio::test]
async fn fwd_11_a_file_that_changes_half_way_is_fetched_anew() {
    let (old, new) = (Shelf::seeded(500_000, 1), Shelf::seeded(400_000, 2));
    let served = new.clone();
    let server = Server::start(move |request| match request.number {
        0 => old.reply(request).cut(300_000),
        1 => served.reply(request).cut(100_000),
        _ => served.reply(request),
    })
    .await;
    Scene::at(&server).brings(&new).await;
    assert_eq!(from(&server), [None, Some(300_000), Some(100_000)]);
}

#[tokio::test]
async fn fwd_11_a_server_that_sends_another_part_than_the_one_asked_for_is_not_believed() {
    let shelf = Shelf::new(500_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => served.reply(request).cut(300_000),
        // The range counted from what was asked before, as some do.
        1 => Reply::new(
            "206 Partial Content",
            &[
                ("Content-Range", "bytes 0-499999/500000".to_owned()),
                ("Content-Length", "500000".to_owned()),
            ],
            &served.content,
        ),
        _ => served.reply(request),
    })
    .await;
    Scene::at(&server).brings(&shelf).await;
    assert_eq!(from(&server), [None, Some(300_000), None]);
}

#[tokio::test]
async fn without_ranges_or_a_strong_validator_it_begins_anew() {
    let deaf = Shelf::new(500_000);
    let weak = Shelf {
        etag: Some("W/\"1\"".to_owned()),
        ..deaf.clone()
    };
    for (shelf, ranges) in [(deaf.clone(), false), (weak, true), (deaf.without_etag(), true)] {
        let served = shelf.clone();
        let server = Server::start(move |request| {
            let reply = match ranges {
                true => served.reply(request),
                false => served.whole(vec![("ETag", served.etag.clone().unwrap())]),
            };
            match request.number {
                0 => reply.cut(300_000),
                _ => reply,
            }
        })
        .await;
        Scene::at(&server).brings(&shelf).await;
        assert_eq!(server.requests().len(), 2);
        assert_eq!(server.requests()[1].from().is_some(), !ranges);
    }
}

#[tokio::test]
async fn a_download_that_begins_anew_again_and_again_ends_before_twice_its_size() {
    let shelf = Shelf::new(1_000_000).without_etag();
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request).cut(400_000)).await;
    let scene = Scene::at(&server);
    assert_failure(
        &scene.fails().await,
        FailureKind::ConnectionLost,
        "more is not spent on it",
    );
    // A third try for all of it could end above 2,000,000 bytes.
    assert_eq!(server.requests().len(), 3);
    assert_eq!(
        scene.names(),
        Vec::<String>::new(),
        "nothing that could be gone on with"
    );
}

#[tokio::test]
async fn what_was_given_up_is_gone_on_with_when_it_is_asked_for_again() {
    let shelf = Shelf::new(1_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => served.reply(request).cut(700_000),
        1..10 => Reply::status("500 Internal Server Error"),
        _ => served.reply(request),
    })
    .await;
    let mut scene = Scene::at(&server);
    scene.download.patience.trouble = std::time::Duration::from_millis(300);
    scene.download.patience.first_pause = std::time::Duration::from_millis(100);
    scene.download.patience.longest_pause = std::time::Duration::from_millis(100);
    let failure = scene.fails().await;
    assert_failure(&failure, FailureKind::ConnectionLost, "given up after");
    assert_eq!(scene.names(), ["bundle.part", "bundle.part.json"]);
    let asked = server.requests().len();
    assert!(asked < 10, "{asked}");
    // With a clean account: what the first one spent is not held against it.
    scene.download.patience.trouble = std::time::Duration::from_secs(10);
    scene.brings(&shelf).await;
    assert_eq!(from(&server).last(), Some(&Some(700_000)));
}

#[tokio::test]
async fn fwd_06_what_lies_behind_the_last_sync_is_not_believed_and_a_damaged_note_means_anew() {
    let shelf = Shelf::new(1_000_000);
    // What is done to the part and the note, and from where it must be gone on then.
    type Damage = (fn(&Scene), Option<usize>);
    let cases: [Damage; 6] = [
        (|_| {}, Some(700_000)),
        (
            |scene| {
                let mut bytes = std::fs::read(scene.part()).unwrap();
                bytes.extend([0; 100_000]);
                std::fs::write(scene.part(), bytes).unwrap();
            },
            Some(700_000),
        ),
        (
            |scene| {
                let part = std::fs::OpenOptions::new().write(true).open(scene.part()).unwrap();
                part.set_len(600_000).unwrap();
            },
            None,
        ),
        (|scene| std::fs::write(scene.note(), "{").unwrap(), None),
        (|scene| std::fs::remove_file(scene.note()).unwrap(), None),
        (|scene| std::fs::remove_file(scene.part()).unwrap(), None),
    ];
    for (number, (damage, expected)) in cases.into_iter().enumerate() {
        let served = shelf.clone();
        let server = Server::start(move |request| match request.number {
            0 => served.reply(request).cut(700_000),
            1 => Reply::silence(),
            _ => served.reply(request),
        })
        .await;
        let mut scene = Scene::at(&server);
        scene.download.patience.trouble = std::time::Duration::from_millis(500);
        assert_failure(&scene.fails().await, FailureKind::ConnectionLost, "given up");
        damage(&scene);
        let asked = server.requests().len();
        scene.brings(&shelf).await;
        assert_eq!(from(&server)[asked], expected, "case {number}");
    }
}

#[tokio::test]
async fn fwd_07_a_finished_file_is_hashed_again_and_taken_without_the_network() {
    let shelf = Shelf::new(1_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let mut scene = Scene::at(&server);
    scene.download.verifier = crate::verifier::of(&shelf.sha256());
    scene.brings(&shelf).await;
    scene.brings(&shelf).await;
    assert_eq!(server.requests().len(), 1);

    // A flipped bit is found, and repaired by fetching it again.
    let mut bytes = shelf.content.clone();
    bytes[500_000] ^= 1;
    std::fs::write(&scene.download.file, &bytes).unwrap();
    scene.brings(&shelf).await;
    assert_eq!(server.requests().len(), 2);

    // So is one that is too short, or too long.
    for content in [&shelf.content[1..], &[&shelf.content[..], b"x"].concat()] {
        std::fs::write(&scene.download.file, content).unwrap();
        scene.brings(&shelf).await;
    }
    assert_eq!(server.requests().len(), 4);

    // Another description is another download.
    scene.download.verifier = None;
    scene.brings(&shelf).await;
    scene.download.uri = server.uri("/fw/other");
    scene.brings(&shelf).await;
    assert_eq!(server.requests().len(), 6);

    // And without a network the finished one is as good.
    drop(server);
    scene.brings(&shelf).await;
}

#[tokio::test]
async fn a_crash_between_the_last_byte_and_the_name_costs_no_network() {
    let shelf = Shelf::new(1_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let scene = Scene::at(&server);
    scene.brings(&shelf).await;
    std::fs::rename(&scene.download.file, scene.part()).unwrap();
    scene.brings(&shelf).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn discard_removes_all_there_is() {
    let shelf = Shelf::new(100_000);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let scene = Scene::at(&server);
    Download::discard(&scene.download.file).await.unwrap();
    scene.brings(&shelf).await;
    Download::discard(&scene.download.file).await.unwrap();
    assert_eq!(scene.names(), Vec::<String>::new());
    for name in [scene.part(), scene.note(), scene.download.file.clone()] {
        std::fs::write(name, "x").unwrap();
    }
    Download::discard(&scene.download.file).await.unwrap();
    assert_eq!(scene.names(), Vec::<String>::new());
    Download::discard("/nonexistent/bundle".as_ref()).await.unwrap();
}

/// What becomes of one answer.
#[derive(Debug, Clone)]
enum Step {
    /// The connection ends after this many bytes of the body, or at its end.
    Cut(usize),
    /// It says nothing more after this many bytes, and the agent is stopped and started.
    Restart(usize),
    Error,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..6000).prop_map(Step::Cut),
        1 => (0usize..6000).prop_map(Step::Restart),
        1 => Just(Step::Error),
    ];
    proptest::collection::vec(step, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No verifier helps: what comes out is right because the ranges are.
    #[test]
    fn fwd_11_whatever_is_cut_wherever_the_file_is_the_same(size in 0usize..5000, steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shelf = Shelf::new(size);
            let (served, script) = (shelf.clone(), steps.clone());
            let mut server = Server::start(move |request| {
                let reply = served.reply(request);
                let body = reply.body();
                match script.get(request.number) {
                    None => reply,
                    Some(Step::Cut(at)) => reply.cut((*at).min(body)),
                    Some(Step::Restart(at)) => reply.stall((*at).min(body)),
                    Some(Step::Error) => Reply::status("503 Service Unavailable"),
                }
            })
            .await;
            let mut scene = Scene::at(&server);
            scene.download.patience.silence = std::time::Duration::from_secs(600);
            let mut restarts = 0;
            let fetched = loop {
                tokio::select! {
                    biased;
                    result = scene.run() => break result.unwrap(),
                    () = within("a stall or the end", server.has_stalled(restarts + 1)) => restarts += 1,
                }
            };
            scene.has(&shelf, &fetched);
        });
    }
}
