//! Through an HTTP proxy with CONNECT.

use crate::owner::{Owner, options, tls_options};
use crate::support::mosquitto::{Mosquitto, ServerTls, Setup};
use crate::support::pki::{Authority, Validity};
use crate::support::{free_port, within};
use base64::Engine;
use iotdm::mqtt::{Proxy, TlsFiles, Trouble};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A proxy that tunnels to whatever it is asked for, and remembers the requests.
struct TestProxy {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestProxy {
    /// `login`: what it demands as basic authentication.
    async fn start(login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen), login));
            }
        });
        Self { port, requests }
    }

    fn address(&self) -> Proxy {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }
}

async fn serve(mut client: TcpStream, seen: Arc<Mutex<Vec<String>>>, login: Option<&str>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let target = request.split(' ').nth(1).unwrap().to_owned();
    let welcome = login.is_none_or(|login| {
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        request.contains(&format!("\r\nProxy-Authorization: Basic {login}\r\n"))
    });
    seen.lock().unwrap().push(request);
    if !welcome {
        client
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await
            .unwrap();
        return;
    }
    match TcpStream::connect(&target).await {
        Ok(mut server) => {
            client
                .write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
                .await
                .unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        Err(_) => client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.unwrap(),
    }
}

#[tokio::test]
async fn a_session_goes_through_a_proxy_and_the_name_is_resolved_there() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let proxy = TestProxy::start(None).await;
    let mut options = options(broker.port);
    options.broker.host = "localhost".to_owned();
    options.broker.proxy = Some(proxy.address());
    Owner::ready(options).await;
    let request = proxy.requests.lock().unwrap()[0].clone();
    let target = format!("localhost:{}", broker.port);
    assert_eq!(request, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
}

#[tokio::test]
async fn con_03_tls_goes_through_a_proxy_and_is_verified_end_to_end() {
    let authority = Authority::new("test");
    let server = authority.server(&["localhost"], Validity::Now);
    let tls = ServerTls {
        cert_file: server.cert_file,
        key_file: server.key_file,
        client_ca: None,
        version: None,
    };
    let broker = Mosquitto::start(&Setup {
        tls: Some(tls),
        ..Setup::default()
    })
    .await;
    let proxy = TestProxy::start(None).await;
    let files = TlsFiles {
        ca_file: Some(authority.ca_file.clone()),
        ..TlsFiles::default()
    };
    let mut options = tls_options(broker.port, files);
    options.broker.proxy = Some(proxy.address());
    Owner::ready(options).await;
    assert_eq!(proxy.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_proxy_gets_the_login_of_its_url_and_its_refusal_is_told() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let proxy = TestProxy::start(Some("me:s@cret")).await;
    let mut options = options(broker.port);
    options.broker.proxy = Some(proxy.address());
    let mut owner = Owner::start(options.clone());
    let trouble = owner.trouble().await.0;
    let proxy_address = format!("127.0.0.1:{}", proxy.port);
    assert_eq!(
        trouble,
        Trouble::ProxyLogin {
            proxy: proxy_address,
            sent: false
        }
    );
    options.broker.proxy = Some(format!("http://me:s%40cret@127.0.0.1:{}", proxy.port).parse().unwrap());
    owner.session.reload(options);
    owner.subscribed().await;
}

#[tokio::test]
async fn a_proxy_that_cannot_reach_the_broker_and_one_that_is_away_are_told_apart_from_the_broker() {
    let proxy = TestProxy::start(None).await;
    let mut options = options(free_port());
    options.broker.proxy = Some(proxy.address());
    let mut owner = Owner::start(options.clone());
    let trouble = owner.trouble().await.0;
    assert!(
        matches!(&trouble, Trouble::Proxy { problem, .. } if problem.contains("502")),
        "{trouble}"
    );
    options.broker.proxy = Some(format!("http://127.0.0.1:{}", free_port()).parse().unwrap());
    owner.session.reload(options);
    within("the proxy that is away", async {
        loop {
            let trouble = owner.trouble().await.0;
            assert!(matches!(trouble, Trouble::Proxy { .. }), "{trouble}");
            if trouble.to_string().contains("refuses connections") {
                break;
            }
        }
    })
    .await;
}
