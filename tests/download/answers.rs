//! What servers answer: refusals, troubles that pass, redirects, odd bodies.

use std::time::{Duration, Instant};

use iotdm::host::download::{FailureKind, Progress};

use crate::server::{Reply, Server, Shelf};
use crate::support::{free_port, within};
use crate::{Scene, assert_failure};

#[tokio::test]
async fn a_file_comes_whole_with_its_mode_and_its_progress() {
    let shelf = Shelf::new(3_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let scene = Scene::at(&server);
    let (result, told) = scene.watched().await;
    scene.has(&shelf, &result.unwrap());
    let total = Some(3_000_000);
    assert_eq!(told.first(), Some(&Progress { received: 0, total }));
    assert_eq!(
        told.last(),
        Some(&Progress {
            received: 3_000_000,
            total
        })
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&scene.download.file).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o640);
    let request = &server.requests()[0];
    assert_eq!(request.target, "/fw/bundle");
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("range"), None);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let shelf = Shelf::new(0);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    Scene::at(&server).brings(&shelf).await;
}

#[tokio::test]
async fn fwd_04_a_refusal_ends_it_at_once_as_an_invalid_uri_and_leaves_nothing() {
    for status in [
        "404 Not Found",
        "403 Forbidden",
        "401 Unauthorized",
        "410 Gone",
        "204 No Content",
    ] {
        let server = Server::start(move |_| Reply::status(status)).await;
        let scene = Scene::new(&server.uri("/fw/bundle?sig=secret").replace("//", "//me:secret@"));
        let failure = scene.fails().await;
        assert_failure(&failure, FailureKind::InvalidUri, status);
        assert!(failure.text.contains("/fw/bundle"), "{failure}");
        assert_eq!(scene.names(), Vec::<String>::new());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn fwd_04_an_address_that_is_none_is_an_invalid_uri_and_nobody_is_asked() {
    for (uri, word) in [
        ("ftp://localhost/x", "ftp"),
        ("garbage", "no URI"),
        ("", "no URI"),
        ("file:///etc/passwd", "file"),
    ] {
        assert_failure(&Scene::new(uri).fails().await, FailureKind::InvalidUri, word);
    }
    let server = Server::start(|_| Reply::status("200 OK")).await;
    let mut scene = Scene::at(&server);
    scene.download.limits.allow_http = false;
    assert_failure(&scene.fails().await, FailureKind::InvalidUri, "firmware.allow_http");
    scene.download.limits.allow_http = true;
    scene.download.limits.allow_hosts = vec!["fw.example.com".to_owned()];
    assert_failure(&scene.fails().await, FailureKind::InvalidUri, "firmware.allow_hosts");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_half_way_ends_it_too() {
    let shelf = Shelf::new(100_000);
    let server = Server::start(move |request| match request.number {
        0 => shelf.reply(request).cut(40_000),
        _ => Reply::status("404 Not Found"),
    })
    .await;
    let scene = Scene::at(&server);
    assert_failure(&scene.fails().await, FailureKind::InvalidUri, "404");
    assert_eq!(server.requests().len(), 2);
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[tokio::test]
async fn errors_of_the_server_are_waited_out() {
    let shelf = Shelf::new(100_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => Reply::status("500 Internal Server Error"),
        1 => Reply::status("503 Service Unavailable"),
        2 => Reply::status("429 Too Many Requests"),
        3 => served.reply(request).cut(50_000),
        4 => Reply::status("502 Bad Gateway"),
        _ => served.reply(request),
    })
    .await;
    Scene::at(&server).brings(&shelf).await;
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn fwd_04_a_server_that_never_gets_well_is_given_up_within_the_time_of_trouble() {
    let server = Server::start(|_| Reply::status("500 Internal Server Error")).await;
    let mut scene = Scene::at(&server);
    scene.download.patience.trouble = Duration::from_secs(1);
    let failure = scene.fails().await;
    assert_failure(&failure, FailureKind::ConnectionLost, "500");
    assert!(server.requests().len() > 5);
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[tokio::test]
async fn fwd_04_a_server_that_never_says_a_word_or_refuses_is_given_up_soon() {
    let server = Server::start(|_| Reply::silence()).await;
    let began = Instant::now();
    let mut scene = Scene::at(&server);
    scene.download.patience.first_answer = Duration::from_secs(1);
    let failure = scene.fails().await;
    assert_failure(&failure, FailureKind::ConnectionLost, "does not answer");
    // The first answer was awaited for one second in all, not for each try.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());

    scene.download.uri = format!("http://localhost:{}/x", free_port());
    let failure = scene.fails().await;
    assert_failure(&failure, FailureKind::ConnectionLost, "refuses connections");
}

#[tokio::test]
async fn a_stall_is_noticed_and_gone_on_behind() {
    let shelf = Shelf::new(1_000_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => served.reply(request).stall(400_000),
        1 => served.reply(request).stall(0),
        _ => served.reply(request),
    })
    .await;
    let mut scene = Scene::at(&server);
    scene.download.patience.silence = Duration::from_millis(500);
    scene.brings(&shelf).await;
    let from: Vec<_> = server.requests().iter().map(|request| request.from()).collect();
    assert_eq!(from, [None, Some(400_000), Some(400_000)]);
}

#[tokio::test]
async fn a_server_that_trickles_is_given_up_although_it_never_stops() {
    // 200 bytes with each try, which stalls then: under the pace that makes good for its time.
    let shelf = Shelf::new(1_000_000);
    let server = Server::start(move |request| shelf.reply(request).stall(200)).await;
    let mut scene = Scene::at(&server);
    scene.download.patience.trouble = Duration::from_secs(2);
    scene.download.patience.silence = Duration::from_millis(500);
    assert_failure(&scene.fails().await, FailureKind::ConnectionLost, "stopped sending");
}

#[tokio::test]
async fn fwd_11_redirects_are_followed_ten_times_and_no_more() {
    let authority = crate::support::pki::Authority::new("test");
    let chain = |length: usize| {
        let secure = crate::tls::localhost(&authority);
        Server::secure(secure, move |request| {
            let at: usize = request.target.trim_start_matches('/').parse().unwrap();
            if at == length {
                return Shelf::new(1000).reply(request);
            }
            Reply::redirect(&format!("/{}", at + 1))
        })
    };
    let ten = chain(10).await;
    let mut scene = Scene::new(&ten.uri("/0"));
    scene.download.tls.ca_file = Some(authority.ca_file.clone());
    scene.brings(&Shelf::new(1000)).await;

    let eleven = chain(11).await;
    scene.download.uri = eleven.uri("/0");
    assert_failure(&scene.fails().await, FailureKind::InvalidUri, "more than 10 times");
    assert_eq!(eleven.requests().len(), 11);
}

#[tokio::test]
async fn fwd_11_a_redirect_to_http_or_to_a_foreign_host_is_not_followed() {
    let target = Server::start(|request| Shelf::new(10).reply(request)).await;
    let to = target.uri("/x?sig=secret");
    let server = Server::start(move |_| Reply::redirect(&to)).await;
    let failure = Scene::at(&server).fails().await;
    assert_failure(&failure, FailureKind::InvalidUri, "never followed to http");

    let server = Server::start(move |_| Reply::redirect("https://evil.example/x?sig=secret")).await;
    let mut scene = Scene::at(&server);
    scene.download.limits.allow_hosts = vec!["localhost".to_owned()];
    assert_failure(&scene.fails().await, FailureKind::InvalidUri, "firmware.allow_hosts");
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn a_body_without_length_is_taken_only_when_its_end_can_be_told() {
    let shelf = Shelf::new(50_000);
    let content = shelf.content.clone();
    let untold = move |_: &crate::server::Request| Reply::new("200 OK", &[], &content);

    // Nobody could tell whether all of it has come.
    let server = Server::start(untold.clone()).await;
    let scene = Scene::at(&server);
    assert_failure(
        &scene.fails().await,
        FailureKind::ConnectionLost,
        "how long the file is",
    );
    assert_eq!(server.requests().len(), 1);

    // The verifier tells.
    let mut scene = Scene::at(&server);
    scene.download.verifier = crate::verifier::of(&shelf.sha256());
    scene.brings(&shelf).await;

    // And when it is cut each time, it is not right.
    let cut = move |request: &crate::server::Request| untold(request).cut(20_000);
    let server = Server::start(cut).await;
    let mut scene = Scene::at(&server);
    scene.download.verifier = crate::verifier::of(&shelf.sha256());
    assert_failure(&scene.fails().await, FailureKind::VerificationFailed, "20000 bytes");
    assert_eq!(scene.names(), Vec::<String>::new());
    assert_eq!(
        server.requests().len(),
        2,
        "it may have been cut, so it was asked for once more"
    );
}

#[tokio::test]
async fn a_chunked_body_is_whole_only_with_its_last_chunk() {
    let shelf = Shelf::new(50_000);
    let content = shelf.content.clone();
    let server = Server::start(move |request| {
        let mut body = Vec::new();
        for chunk in content.chunks(7_000) {
            body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        let reply = Reply::new("200 OK", &[("Transfer-Encoding", "chunked".to_owned())], &body);
        match request.number {
            0 => reply.cut(30_000),
            // All of the content, but not the end.
            1 => reply.cut(body.len() - 5),
            _ => reply,
        }
    })
    .await;
    Scene::at(&server).brings(&shelf).await;
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn fwd_11_a_file_of_unknown_length_that_has_all_come_is_known_by_the_range_behind_its_end() {
    let shelf = Shelf::new(50_000);
    let served = shelf.clone();
    let server = Server::start(move |request| match request.number {
        0 => {
            let headers = [
                ("Transfer-Encoding", "chunked".to_owned()),
                ("ETag", served.etag.clone().unwrap()),
            ];
            let body = [b"c350\r\n", &served.content[..], b"\r\n"].concat();
            Reply::new("200 OK", &headers, &body)
        }
        _ => served.reply(request),
    })
    .await;
    Scene::at(&server).brings(&shelf).await;
    let from: Vec<_> = server.requests().iter().map(|request| request.from()).collect();
    assert_eq!(from, [None, Some(50_000)]);
}

#[tokio::test]
async fn what_was_packed_on_the_way_is_refused() {
    let server = Server::start(|_| {
        let headers = [
            ("Content-Encoding", "gzip".to_owned()),
            ("Content-Length", "3".to_owned()),
        ];
        Reply::new("200 OK", &headers, b"abc")
    })
    .await;
    assert_failure(&Scene::at(&server).fails().await, FailureKind::InvalidUri, "packed");
}

#[tokio::test]
async fn the_login_of_the_address_is_sent_and_shown_to_nobody_else() {
    let shelf = Shelf::new(100);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let scene = Scene::new(&server.uri("/x?sig=secret").replace("//", "//me:secret@"));
    scene.brings(&shelf).await;
    let request = &server.requests()[0];
    assert_eq!(request.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(request.target, "/x?sig=secret");
    let note = std::fs::read_to_string(scene.note()).unwrap();
    assert!(
        !note.contains("secret") && !format!("{:?}", scene.download).contains("secret"),
        "{note}"
    );
}

#[tokio::test]
async fn a_bandwidth_limit_is_kept_on_average() {
    let shelf = Shelf::new(300_000);
    let served = shelf.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let mut scene = Scene::at(&server);
    scene.download.limits.bytes_per_second = Some(400_000);
    let began = Instant::now();
    scene.brings(&shelf).await;
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_dropped_download_leaves_nothing_running_and_can_be_begun_again_at_once() {
    let shelf = Shelf::new(2_000_000);
    let served = shelf.clone();
    let mut server = Server::start(move |request| match request.number {
        0 => served.reply(request).stall(1_500_000),
        _ => served.reply(request),
    })
    .await;
    let mut scene = Scene::at(&server);
    scene.download.patience.silence = Duration::from_secs(600);
    {
        let mut download = std::pin::pin!(scene.download.run(|_| {}));
        tokio::select! {
            result = &mut download => panic!("{result:?}"),
            () = within("the stall", server.has_stalled(1)) => {}
        }
    }
    within("the end of the connection", server.is_left_alone()).await;
    scene.brings(&shelf).await;
    // Begun while the last write of the dropped one may be under way.
    scene.download.uri = server.uri("/other");
    scene.brings(&shelf).await;
}
