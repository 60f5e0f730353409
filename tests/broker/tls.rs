//! TLS: what is accepted, what is not, and what is said then.

use crate::connect::token_file;
use crate::owner::{CLIENT, Owner, options, tls_options};
use crate::support::mosquitto::{Mosquitto, ServerTls, Setup};
use crate::support::pki::{Authority, Pair, Validity};
use crate::support::within;
use iotdm::mqtt::{TlsFiles, TokenSource, Trouble};
use std::time::Duration;
use tokio_rustls::rustls;

fn server_tls(pair: &Pair) -> ServerTls {
    ServerTls {
        cert_file: pair.cert_file.clone(),
        key_file: pair.key_file.clone(),
        client_ca: None,
        version: None,
    }
}

async fn broker(tls: ServerTls) -> Mosquitto {
    Mosquitto::start(&Setup {
        tls: Some(tls),
        ..Setup::default()
    })
    .await
}

fn trusting(authority: &Authority) -> TlsFiles {
    TlsFiles {
        ca_file: Some(authority.ca_file.clone()),
        ..TlsFiles::default()
    }
}

fn with_client(mut files: TlsFiles, client: &Pair) -> TlsFiles {
    files.cert_file = Some(client.cert_file.clone());
    files.key_file = Some(client.key_file.clone());
    files
}

#[tokio::test]
async fn con_03_tls_1_2_and_1_3_with_an_own_ca_by_name_and_by_address() {
    let authority = Authority::new("test");
    let server = authority.server(&["localhost", "127.0.0.1"], Validity::Now);
    for version in ["tlsv1.2", "tlsv1.3"] {
        let broker = broker(ServerTls {
            version: Some(version),
            ..server_tls(&server)
        })
        .await;
        Owner::ready(tls_options(broker.port, trusting(&authority))).await;
        let mut options = tls_options(broker.port, trusting(&authority));
        options.broker.host = "127.0.0.1".to_owned();
        Owner::ready(options).await;
    }
}

#[tokio::test]
async fn con_03_a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let broker = broker(server_tls(&authority.server(&["localhost"], Validity::Now))).await;
    let trouble = Owner::start(tls_options(broker.port, trusting(&other)))
        .trouble()
        .await
        .0;
    assert_eq!(
        trouble,
        Trouble::UnknownAuthority {
            host: "localhost".to_owned(),
            own_ca: true
        }
    );
}

#[tokio::test]
async fn con_03_the_systems_store_is_used_without_an_own_ca_and_does_not_know_a_private_one() {
    let authority = Authority::new("test");
    let broker = broker(server_tls(&authority.server(&["localhost"], Validity::Now))).await;
    let trouble = Owner::start(tls_options(broker.port, TlsFiles::default()))
        .trouble()
        .await
        .0;
    assert_eq!(
        trouble,
        Trouble::UnknownAuthority {
            host: "localhost".to_owned(),
            own_ca: false
        }
    );
    assert!(trouble.to_string().contains("set ca_file"), "{trouble}");
}

#[tokio::test]
async fn con_03_a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("test");
    let broker = broker(server_tls(&authority.server(&["broker.example.com"], Validity::Now))).await;
    let trouble = Owner::start(tls_options(broker.port, trusting(&authority)))
        .trouble()
        .await
        .0;
    assert_eq!(
        trouble,
        Trouble::WrongHostName {
            host: "localhost".to_owned()
        }
    );
}

#[tokio::test]
async fn con_03_an_expired_certificate_is_refused() {
    let authority = Authority::new("test");
    let broker = broker(server_tls(&authority.server(&["localhost"], Validity::Past))).await;
    let trouble = Owner::start(tls_options(broker.port, trusting(&authority)))
        .trouble()
        .await
        .0;
    assert_eq!(
        trouble,
        Trouble::CertificateExpired {
            host: "localhost".to_owned()
        }
    );
}

#[tokio::test]
async fn con_03_a_certificate_of_the_future_means_a_clock_that_is_not_set_when_the_clock_cannot_be_right() {
    let authority = Authority::new("test");
    let broker = broker(server_tls(&authority.server(&["localhost"], Validity::Future))).await;
    let mut options = tls_options(broker.port, trusting(&authority));
    let trouble = Owner::start(options.clone()).trouble().await.0;
    assert_eq!(
        trouble,
        Trouble::CertificateNotYetValid {
            host: "localhost".to_owned()
        }
    );
    options.wall_clock_plausible = || false;
    let trouble = Owner::start(options).trouble().await.0;
    assert_eq!(
        trouble,
        Trouble::ClockNotSet {
            host: "localhost".to_owned()
        }
    );
}

#[tokio::test]
async fn con_05_a_client_certificate_is_enough_where_the_broker_takes_it() {
    let authority = Authority::new("test");
    let server = authority.server(&["localhost"], Validity::Now);
    let client = authority.client("gw-1", Validity::Now);
    let tls = ServerTls {
        client_ca: Some(authority.ca_file.clone()),
        ..server_tls(&server)
    };
    let broker = broker(tls).await;
    Owner::ready(tls_options(broker.port, with_client(trusting(&authority), &client))).await;
    broker.log_line("u'gw-1'").await;
}

#[tokio::test]
async fn con_05_a_missing_client_certificate_is_told_under_tls_1_2_and_1_3() {
    let authority = Authority::new("test");
    let server = authority.server(&["localhost"], Validity::Now);
    for version in ["tlsv1.2", "tlsv1.3"] {
        let broker = broker(ServerTls {
            client_ca: Some(authority.ca_file.clone()),
            version: Some(version),
            ..server_tls(&server)
        })
        .await;
        let trouble = Owner::start(tls_options(broker.port, trusting(&authority)))
            .trouble()
            .await
            .0;
        assert_eq!(
            trouble,
            Trouble::ClientCertificateRequired {
                host: "localhost".to_owned()
            },
            "{version}"
        );
    }
}

#[tokio::test]
async fn con_05_a_wrong_client_certificate_is_told_under_tls_1_2_and_1_3_and_its_renewal_is_taken_up_at_reload() {
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let server = authority.server(&["localhost"], Validity::Now);
    let good = authority.client("gw-1", Validity::Now);
    for version in ["tlsv1.2", "tlsv1.3"] {
        let broker = broker(ServerTls {
            client_ca: Some(authority.ca_file.clone()),
            version: Some(version),
            ..server_tls(&server)
        })
        .await;
        for bad in [
            other.client("gw-1", Validity::Now),
            authority.client("gw-1", Validity::Past),
        ] {
            let options = tls_options(broker.port, with_client(trusting(&authority), &bad));
            let mut owner = Owner::start(options.clone());
            let (trouble, retry_in) = owner.trouble().await;
            assert!(
                matches!(trouble, Trouble::ClientCertificateRefused { .. }),
                "{version}: {trouble:?}"
            );
            assert!(retry_in >= Duration::from_secs(3600), "{retry_in:?}");
            // The same files hold a good certificate now.
            std::fs::copy(&good.cert_file, &bad.cert_file).unwrap();
            std::fs::copy(&good.key_file, &bad.key_file).unwrap();
            owner.session.reload(options);
            owner.subscribed().await;
        }
    }
}

#[tokio::test]
async fn con_05_certificate_and_token_go_out_together() {
    let authority = Authority::new("test");
    let server = authority.server(&["localhost"], Validity::Now);
    let client = authority.client("g:edge:gw-1", Validity::Now);
    // mosquitto with a password file and a client certificate, but the name taken from CONNECT: both are demanded.
    let setup = Setup {
        users: vec![("use-token-auth".to_owned(), "s3cr3t".to_owned())],
        tls: Some(server_tls(&server)),
        more: format!("cafile {}\nrequire_certificate true\n", authority.ca_file.display()),
        ..Setup::default()
    };
    let broker = Mosquitto::start(&setup).await;
    let mut options = tls_options(broker.port, with_client(trusting(&authority), &client));
    options.username = Some("use-token-auth".to_owned());
    let mut owner = Owner::start(options.clone());
    let trouble = owner.trouble().await.0;
    assert_eq!(
        trouble,
        Trouble::NotAuthorised {
            client_id: CLIENT.to_owned(),
            username: Some("use-token-auth".to_owned()),
        },
        "without the token"
    );
    options.token = TokenSource::File(token_file(authority.folder(), "s3cr3t"));
    owner.session.reload(options);
    owner.subscribed().await;
}

#[tokio::test]
async fn a_key_that_belongs_to_another_certificate_is_told_before_anything_is_sent() {
    let authority = Authority::new("test");
    let mut client = authority.client("gw-1", Validity::Now);
    client.key_file = authority.client("gw-2", Validity::Now).key_file;
    let trouble = Owner::start(tls_options(1, with_client(trusting(&authority), &client)))
        .trouble()
        .await
        .0;
    assert!(
        trouble.to_string().contains("it is not the key of the certificate"),
        "{trouble}"
    );
}

#[tokio::test]
async fn con_03_tls_to_a_plain_port_and_plain_to_a_tls_port_are_told() {
    let authority = Authority::new("test");
    let plain = Mosquitto::start(&Setup::default()).await;
    let trouble = Owner::start(tls_options(plain.port, trusting(&authority)))
        .trouble()
        .await
        .0;
    // mosquitto hangs up on what is no MQTT; others answer in plain text.
    assert!(
        matches!(&trouble, Trouble::NotTls { .. } | Trouble::ClosedWithoutConnack { .. }),
        "{trouble:?}"
    );
    let tls = broker(server_tls(&authority.server(&["localhost"], Validity::Now))).await;
    let trouble = Owner::start(options(tls.port)).trouble().await.0;
    assert!(
        matches!(
            &trouble,
            Trouble::ClosedWithoutConnack { tls: false, .. } | Trouble::Protocol { .. }
        ),
        "{trouble:?}"
    );
}

#[tokio::test]
async fn con_03_a_peer_that_answers_in_plain_text_does_not_speak_tls() {
    let peer = crate::support::fake_broker::FakeBroker::start().await;
    let authority = Authority::new("test");
    let mut owner = Owner::start(tls_options(peer.port, trusting(&authority)));
    peer.accept().await.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let trouble = owner.trouble().await.0;
    assert_eq!(
        trouble,
        Trouble::NotTls {
            address: format!("localhost:{}", peer.port)
        }
    );
}

#[tokio::test]
async fn con_04_sni_is_the_host_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Authority::new("test");
    let _owner = Owner::start(tls_options(listener.local_addr().unwrap().port(), trusting(&authority)));
    let (stream, _) = within("a connection", listener.accept()).await.unwrap();
    let acceptor = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let hello = within("a ClientHello", acceptor).await.unwrap();
    assert_eq!(hello.client_hello().server_name(), Some("localhost"));
}

#[tokio::test]
async fn a_broker_that_accepts_tcp_and_says_nothing_during_tls_is_given_up_after_the_limit() {
    let peer = crate::support::fake_broker::FakeBroker::start().await;
    let authority = Authority::new("test");
    let mut options = tls_options(peer.port, trusting(&authority));
    options.limits.handshake = Duration::from_millis(300);
    let mut owner = Owner::start(options);
    let _silent = peer.accept().await;
    let trouble = owner.trouble().await.0;
    assert!(matches!(trouble, Trouble::Tls { .. }), "{trouble:?}");
}

#[tokio::test]
async fn con_06_a_frozen_broker_is_noticed_through_tls() {
    let authority = Authority::new("test");
    let broker = broker(server_tls(&authority.server(&["localhost"], Validity::Now))).await;
    let mut options = tls_options(broker.port, trusting(&authority));
    options.keep_alive = Duration::from_secs(2);
    let mut owner = Owner::ready(options).await;
    broker.freeze();
    assert!(matches!(owner.trouble().await.0, Trouble::PeerSilent { .. }));
    broker.thaw();
    owner.subscribed().await;
}

#[tokio::test]
async fn a_tls_broker_that_restarts_is_found_again() {
    let authority = Authority::new("test");
    let mut broker = broker(server_tls(&authority.server(&["localhost"], Validity::Now))).await;
    let mut owner = Owner::ready(tls_options(broker.port, trusting(&authority))).await;
    broker.kill();
    let trouble = owner.trouble().await.0;
    assert!(matches!(trouble, Trouble::Closed { .. }), "{trouble:?}");
    broker.launch().await;
    owner.subscribed().await;
}
