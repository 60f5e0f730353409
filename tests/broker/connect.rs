//! CONNECT and what can go wrong before CONNACK.

use crate::owner::{CLIENT, Owner, REQUEST, options};
use crate::support::fake_broker::{Connect, FakeBroker};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::{free_port, within};
use iotdm::mqtt::{Event, TokenSource, Trouble};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn token_file(folder: &Path, token: &str) -> PathBuf {
    let path = folder.join("token");
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test]
async fn con_01_connect_carries_client_id_user_name_and_the_token_as_password() {
    let broker = FakeBroker::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(broker.port);
    options.username = Some("use-token-auth".to_owned());
    options.token = TokenSource::File(token_file(folder.path(), "s3cr3t\n"));
    options.keep_alive = Duration::from_secs(73);
    let _owner = Owner::start(options);
    let (_peer, connect) = broker.session(false).await;
    assert_eq!(
        connect,
        Connect {
            protocol: "MQTT".to_owned(),
            level: 4,
            clean: false,
            will: false,
            keep_alive: 73,
            client_id: CLIENT.to_owned(),
            username: Some("use-token-auth".to_owned()),
            password: Some(b"s3cr3t".to_vec()),
        }
    );
}

#[tokio::test]
async fn con_01_a_token_file_that_others_may_read_is_refused_and_nothing_is_sent() {
    let broker = FakeBroker::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = token_file(folder.path(), "s3cr3t");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut options = options(broker.port);
    options.token = TokenSource::File(path.clone());
    let mut owner = Owner::start(options);
    assert_eq!(
        owner.trouble().await.0,
        Trouble::TokenExposed {
            path: path.clone(),
            mode: 0o644
        }
    );
    // Repaired: taken up without a restart.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(broker.session(false).await.1.password, Some(b"s3cr3t".to_vec()));
}

#[tokio::test]
async fn con_17_the_session_outlives_the_connection_and_a_request_waits_for_us() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut owner = Owner::start(options(broker.port));
    assert!(!owner.connected().await);
    owner.subscribed().await;
    owner.session.stop().await;
    broker.publish(REQUEST, b"while away", &[]).await;
    let mut owner = Owner::start(options(broker.port));
    assert!(owner.connected().await);
    let message = owner.message().await;
    assert_eq!(
        (message.topic.as_str(), message.payload.as_slice()),
        (REQUEST, &b"while away"[..])
    );
    assert!(!message.retained);
}

#[tokio::test]
async fn con_17_a_request_that_comes_before_suback_is_delivered_and_can_be_acknowledged() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let (mut peer, _) = broker.session(true).await;
    peer.publish(REQUEST, b"early", 7).await;
    assert!(matches!(owner.next().await, Event::Connected { session_present: true }));
    let Event::Message(message) = owner.next().await else {
        panic!("the message comes before Subscribed")
    };
    owner.session.ack(message.ack);
    let (mut subscribed, mut acknowledged) = (false, false);
    while !(subscribed && acknowledged) {
        match peer.next().await {
            crate::support::fake_broker::Packet::Subscribe { id, .. } => {
                peer.suback(id, &[1]).await;
                subscribed = true;
            }
            crate::support::fake_broker::Packet::PubAck(7) => acknowledged = true,
            other => panic!("{other:?}"),
        }
    }
    owner.subscribed().await;
}

#[tokio::test]
async fn a_retained_message_is_marked() {
    let broker = Mosquitto::start(&Setup::default()).await;
    broker.publish(REQUEST, b"old", &["-r"]).await;
    let mut owner = Owner::start(options(broker.port));
    assert!(owner.message().await.retained);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told_as_refused() {
    let port = free_port();
    let mut owner = Owner::start(options(port));
    assert_eq!(
        owner.trouble().await.0,
        Trouble::Refused {
            address: format!("127.0.0.1:{port}")
        }
    );
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let mut options = options(1883);
    options.broker.host = "no-such-host.invalid".to_owned();
    let trouble = Owner::start(options).trouble().await.0;
    assert!(
        matches!(&trouble, Trouble::NameNotResolved { host, .. } if host == "no-such-host.invalid"),
        "{trouble}"
    );
}

#[tokio::test]
async fn con_04_a_close_without_connack_points_at_the_organisation_and_the_port() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    broker.accept().await.connect().await;
    let trouble = owner.trouble().await.0;
    assert_eq!(
        trouble,
        Trouble::ClosedWithoutConnack {
            address: format!("127.0.0.1:{}", broker.port),
            tls: false
        }
    );
}

#[tokio::test]
async fn a_broker_that_does_not_answer_connect_is_given_up_after_the_limit() {
    let broker = FakeBroker::start().await;
    let mut options = options(broker.port);
    options.limits.connack = Duration::from_millis(300);
    let mut owner = Owner::start(options);
    let _silent = broker.accept().await;
    let trouble = owner.trouble().await.0;
    assert!(
        matches!(trouble, Trouble::NoConnack { after, .. } if after == Duration::from_millis(300)),
        "{trouble}"
    );
}

#[tokio::test]
async fn something_that_is_no_broker_is_told_so() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    broker.accept().await.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let trouble = owner.trouble().await.0;
    assert!(matches!(trouble, Trouble::Protocol { .. }), "{trouble}");
}

#[tokio::test]
async fn a_reload_does_not_wait_for_a_connect_that_hangs() {
    let (hanging, good) = (FakeBroker::start().await, FakeBroker::start().await);
    let mut owner = Owner::start(options(hanging.port));
    let mut peer = hanging.accept().await;
    peer.connect().await;
    owner.session.reload(options(good.port));
    good.subscribed(false).await;
    owner.subscribed().await;
}

#[tokio::test]
async fn the_task_shows_that_it_is_alive_while_connecting_while_connected_and_while_waiting() {
    let broker = FakeBroker::start().await;
    let mut options = options(broker.port);
    options.limits.progress = Duration::from_millis(20);
    options.backoff.first = Duration::from_secs(3600);
    options.backoff.max = Duration::from_secs(3600);
    let mut owner = Owner::start(options);
    let mut peer = broker.accept().await;
    peer.connect().await;
    let progress = |event| matches!(event, Event::Progress).then_some(());
    owner.find("progress while connecting", progress).await;
    peer.connack(false, 0).await;
    peer.grant().await;
    owner.subscribed().await;
    owner.find("progress while connected", progress).await;
    drop(peer);
    owner.trouble().await;
    owner.find("progress while waiting", progress).await;
    owner.find("more progress while waiting", progress).await;
}

#[tokio::test]
async fn a_session_whose_handle_is_dropped_leaves() {
    let broker = FakeBroker::start().await;
    let owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    drop(owner.session);
    assert_eq!(peer.next().await, crate::support::fake_broker::Packet::Disconnect);
    let mut events = owner.events;
    within("the end of the events", async {
        while events.recv().await.is_some() {}
    })
    .await;
}
