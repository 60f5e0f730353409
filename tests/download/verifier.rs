//! FWD-05: what the description demands, and what has come.

use iotdm::host::download::{FailureKind, Verifier};
use sha2::{Digest, Sha512};

use crate::server::{Server, Shelf};
use crate::{Scene, assert_failure};

pub fn of(text: &str) -> Option<Verifier> {
    Verifier::parse(text).unwrap()
}

#[tokio::test]
async fn fwd_05_the_right_verifier_is_right_in_every_form_and_a_wrong_one_ends_it() {
    let shelf = Shelf::new(200_000);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let sha512: String = Sha512::digest(&shelf.content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for text in [
        shelf.sha256(),
        shelf.sha256().to_uppercase(),
        format!("sha256:{}", shelf.sha256()),
        sha512.clone(),
        String::new(),
    ] {
        let mut scene = Scene::at(&server);
        scene.download.verifier = of(&text);
        scene.brings(&shelf).await;
    }
    let asked = server.requests().len();
    for text in [
        Shelf::seeded(9, 9).sha256(),
        sha512.replace(|c: char| c.is_ascii_digit(), "0"),
    ] {
        let mut scene = Scene::at(&server);
        scene.download.verifier = of(&text);
        let failure = scene.fails().await;
        assert_failure(&failure, FailureKind::VerificationFailed, &text);
        assert!(failure.text.contains(&shelf.sha256()), "{failure}");
        assert_eq!(scene.names(), Vec::<String>::new());
    }
    assert_eq!(
        server.requests().len(),
        asked + 2,
        "what came in one piece is not asked for again"
    );
}

#[tokio::test]
async fn fwd_05_pieces_that_do_not_fit_together_are_fetched_once_more_as_one() {
    // The same validator for another content: a server behind a load balancer that lies.
    let (old, shelf) = (Shelf::seeded(300_000, 1), Shelf::seeded(300_000, 2));
    let (served, mut lying) = (shelf.clone(), shelf.clone());
    lying.etag = old.etag.clone();
    let server = Server::start(move |request| match request.number {
        0 => old.reply(request).cut(100_000),
        _ => lying.reply(request),
    })
    .await;
    let mut scene = Scene::at(&server);
    scene.download.verifier = of(&served.sha256());
    scene.brings(&shelf).await;
    let from: Vec<_> = server.requests().iter().map(|request| request.from()).collect();
    assert_eq!(from, [None, Some(100_000), None]);
}

#[tokio::test]
async fn fwd_05_and_only_once() {
    let shelf = Shelf::new(300_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => served.reply(request).cut(100_000),
        _ => served.reply(request),
    })
    .await;
    let mut scene = Scene::at(&server);
    scene.download.verifier = of(&Shelf::seeded(9, 9).sha256());
    assert_failure(
        &scene.fails().await,
        FailureKind::VerificationFailed,
        "not the one that was meant",
    );
    assert_eq!(server.requests().len(), 3);
    assert_eq!(scene.names(), Vec::<String>::new());
}
