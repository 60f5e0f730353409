//! FWD-11: certificates, theirs and ours; and proxies.

use std::sync::{Arc, Mutex};

use iotdm::host::download::{FailureKind, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Secure, Server, Shelf};
use crate::support::pki::{Authority, Validity};
use crate::{Scene, assert_failure};

/// A server certificate for localhost, and no demand for one of the client.
pub fn localhost(authority: &Authority) -> Secure {
    secure(authority, &["localhost"], Validity::Now)
}

fn secure(authority: &Authority, names: &[&str], validity: Validity) -> Secure {
    Secure {
        pair: authority.server(names, validity),
        client_ca: None,
    }
}

fn trusting(authority: &Authority, server: &Server) -> Scene {
    let mut scene = Scene::at(server);
    scene.download.limits.allow_http = false;
    scene.download.tls.ca_file = Some(authority.ca_file.clone());
    scene
}

async fn serving(secure: Secure) -> (Server, Shelf) {
    let shelf = Shelf::new(500_000);
    let served = shelf.clone();
    (
        Server::secure(secure, move |request| served.reply(request)).await,
        shelf,
    )
}

#[tokio::test]
async fn fwd_11_a_server_is_believed_by_its_certificate_only() {
    let authority = Authority::new("test");
    let (server, shelf) = serving(localhost(&authority)).await;
    trusting(&authority, &server).brings(&shelf).await;

    let stranger = Authority::new("stranger");
    for (secure, word) in [
        (
            localhost(&stranger),
            "not signed by an authority of the configured CA file",
        ),
        (secure(&authority, &["localhost"], Validity::Past), "has expired"),
        (secure(&authority, &["localhost"], Validity::Future), "is not valid yet"),
        (
            secure(&authority, &["other.example"], Validity::Now),
            "for another host name",
        ),
    ] {
        let (server, _) = serving(secure).await;
        let scene = trusting(&authority, &server);
        assert_failure(&scene.fails().await, FailureKind::ConnectionLost, word);
        assert!(server.requests().is_empty());
        assert_eq!(scene.names(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn fwd_11_the_systems_authorities_do_not_know_the_test() {
    let authority = Authority::new("test");
    let (server, _) = serving(localhost(&authority)).await;
    let mut scene = trusting(&authority, &server);
    scene.download.tls.ca_file = None;
    let failure = scene.fails().await;
    assert_eq!(failure.kind, FailureKind::ConnectionLost);
    assert!(failure.text.contains("authority"), "{failure}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_clock_that_is_not_set_is_waited_for_and_named() {
    let authority = Authority::new("test");
    let (server, _) = serving(secure(&authority, &["localhost"], Validity::Future)).await;
    let mut scene = trusting(&authority, &server);
    scene.download.clock_is_set = || false;
    let began = std::time::Instant::now();
    let failure = scene.fails().await;
    assert_failure(
        &failure,
        FailureKind::ConnectionLost,
        "the clock of this device is not set",
    );
    assert!(
        began.elapsed() >= std::time::Duration::from_millis(900),
        "given up at once"
    );
}

#[tokio::test]
async fn fwd_11_a_client_certificate_is_shown_and_its_absence_explained() {
    let authority = Authority::new("test");
    let demanding = Secure {
        client_ca: Some(authority.ca_file.clone()),
        ..localhost(&authority)
    };
    let (server, shelf) = serving(demanding).await;
    let client = authority.client("gw-0001", Validity::Now);
    let mut scene = trusting(&authority, &server);
    scene.download.tls = Tls {
        ca_file: Some(authority.ca_file.clone()),
        cert_file: Some(client.cert_file),
        key_file: Some(client.key_file),
    };
    scene.brings(&shelf).await;

    let without = trusting(&authority, &server);
    assert_failure(
        &without.fails().await,
        FailureKind::ConnectionLost,
        "demands a client certificate",
    );
    let foreign = Authority::new("stranger");
    let foreign_client = foreign.client("gw-0001", Validity::Now);
    scene.download.tls.cert_file = Some(foreign_client.cert_file);
    scene.download.tls.key_file = Some(foreign_client.key_file);
    scene.download.uri = server.uri("/other");
    assert_failure(
        &scene.fails().await,
        FailureKind::ConnectionLost,
        "refuses the client certificate",
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_and_ports_without_tls_are_named() {
    let authority = Authority::new("test");
    let (server, _) = serving(localhost(&authority)).await;
    let mut scene = trusting(&authority, &server);
    scene.download.tls.ca_file = Some("/nonexistent/ca.pem".into());
    assert_failure(&scene.fails().await, FailureKind::ConnectionLost, "/nonexistent/ca.pem");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    scene.download.tls.ca_file = Some(authority.ca_file.clone());
    scene.download.uri = format!("https://localhost:{}/x", plain.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = plain.accept().await {
            assert_eq!(
                client.read_u8().await.unwrap(),
                22,
                "a handshake comes, and no plain text"
            );
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    assert_failure(&scene.fails().await, FailureKind::ConnectionLost, "does not speak TLS");
}

/// A proxy that tunnels, or answers as told. Remembers the first lines and logins.
async fn proxy(refusal: Option<&'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                seen.lock().unwrap().push(head);
                if let Some(refusal) = refusal {
                    let _ = client.write_all(format!("HTTP/1.1 {refusal}\r\n\r\n").as_bytes()).await;
                    return;
                }
                let mut server = TcpStream::connect(&target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, heads)
}

#[tokio::test]
async fn fwd_11_https_goes_through_a_proxy_and_is_verified_end_to_end() {
    let authority = Authority::new("test");
    let (server, shelf) = serving(localhost(&authority)).await;
    let (port, heads) = proxy(None).await;
    let mut scene = trusting(&authority, &server);
    scene.download.proxy = Some(format!("http://me:secret@127.0.0.1:{port}"));
    scene.brings(&shelf).await;
    let head = heads.lock().unwrap()[0].clone();
    assert!(
        head.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", server.port)),
        "{head}"
    );
    assert!(head.contains("proxy-authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
    assert!(!format!("{:?}", scene.download).contains("secret"));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_apart_from_the_server() {
    let authority = Authority::new("test");
    let (server, _) = serving(localhost(&authority)).await;
    for (refusal, word) in [
        (
            "407 Proxy Authentication Required",
            "the proxy demands a user name and a password",
        ),
        ("502 Bad Gateway", "the proxy makes no connection"),
    ] {
        let (port, _) = proxy(Some(refusal)).await;
        let mut scene = trusting(&authority, &server);
        scene.download.proxy = Some(format!("http://127.0.0.1:{port}"));
        scene.download.patience.first_answer = std::time::Duration::from_secs(1);
        assert_failure(&scene.fails().await, FailureKind::ConnectionLost, word);
    }
    let mut scene = trusting(&authority, &server);
    scene.download.patience.first_answer = std::time::Duration::from_secs(1);
    scene.download.proxy = Some(format!("http://127.0.0.1:{}", crate::support::free_port()));
    assert_failure(&scene.fails().await, FailureKind::ConnectionLost, "through the proxy");
    scene.download.proxy = Some("no address".to_owned());
    assert_failure(&scene.fails().await, FailureKind::ConnectionLost, "the proxy's address");
    assert!(server.requests().is_empty());
}
