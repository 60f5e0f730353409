//! CONNACK that says no, and what a reload does about it.

use crate::connect::token_file;
use crate::owner::{CLIENT, Owner, options};
use crate::support::fake_broker::FakeBroker;
use crate::support::mosquitto::{Mosquitto, Setup};
use iotdm::mqtt::{TokenSource, Trouble};
use std::time::Duration;

#[tokio::test]
async fn con_09_a_refused_client_id_token_or_authorisation_is_told_and_not_tried_again_soon() {
    for (code, expected) in [
        (1, Trouble::ProtocolVersionRefused),
        (
            2,
            Trouble::ClientIdRefused {
                client_id: CLIENT.to_owned(),
            },
        ),
        (4, Trouble::CredentialsRefused),
        (
            5,
            Trouble::NotAuthorised {
                client_id: CLIENT.to_owned(),
                username: None,
            },
        ),
    ] {
        let broker = FakeBroker::start().await;
        let mut owner = Owner::start(options(broker.port));
        let mut peer = broker.accept().await;
        peer.connect().await;
        peer.connack(false, code).await;
        let (trouble, retry_in) = owner.trouble().await;
        assert_eq!(trouble, expected);
        assert!(retry_in >= Duration::from_secs(3600), "{retry_in:?}");
        assert!(
            !broker.somebody_waits(Duration::from_millis(300)).await,
            "it came again after CONNACK {code}"
        );
        // The owner says that something was repaired: at once.
        owner.session.reload(options(broker.port));
        broker.subscribed(false).await;
        owner.subscribed().await;
    }
}

#[tokio::test]
async fn con_09_a_broker_that_is_not_available_is_tried_again_soon() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.accept().await;
    peer.connect().await;
    peer.connack(false, 3).await;
    let (trouble, retry_in) = owner.trouble().await;
    assert_eq!(trouble, Trouble::BrokerUnavailable);
    assert!(retry_in <= Duration::from_millis(20), "{retry_in:?}");
    broker.subscribed(false).await;
    owner.subscribed().await;
}

#[tokio::test]
async fn con_09_a_rejected_token_is_told_and_the_new_one_is_read_at_reload() {
    let users = [("gw-1".to_owned(), "right".to_owned())];
    let broker = Mosquitto::start(&Setup {
        users: users.to_vec(),
        ..Setup::default()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(broker.port);
    options.username = Some("gw-1".to_owned());
    options.token = TokenSource::File(token_file(folder.path(), "wrong"));
    let mut owner = Owner::start(options.clone());
    let (trouble, _) = owner.trouble().await;
    assert_eq!(
        trouble,
        Trouble::NotAuthorised {
            client_id: CLIENT.to_owned(),
            username: Some("gw-1".to_owned()),
        }
    );
    assert!(!format!("{trouble} {trouble:?}").contains("wrong"));
    token_file(folder.path(), "right\n");
    owner.session.reload(options);
    owner.subscribed().await;
}

#[tokio::test]
async fn a_reload_of_a_standing_session_is_told_and_reconnects_with_what_the_files_say_now() {
    let broker = FakeBroker::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(broker.port);
    options.username = Some("use-token-auth".to_owned());
    options.token = TokenSource::File(token_file(folder.path(), "one"));
    let mut owner = Owner::start(options.clone());
    let (mut peer, connect) = broker.session(false).await;
    assert_eq!(connect.password, Some(b"one".to_vec()));
    peer.grant().await;
    owner.subscribed().await;
    owner.publish(1);
    token_file(folder.path(), "two");
    owner.session.reload(options);
    assert_eq!(owner.trouble().await, (Trouble::Reload, Duration::ZERO));
    let (mut peer, connect) = broker.session(true).await;
    assert_eq!(connect.password, Some(b"two".to_vec()));
    // What was on its way when the connection was given up still arrives.
    loop {
        match peer.next().await {
            crate::support::fake_broker::Packet::Publish { id, .. } => {
                peer.puback(id).await;
                break;
            }
            crate::support::fake_broker::Packet::Subscribe { id, .. } => peer.suback(id, &[1]).await,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(owner.ends(1).await, (vec![1], vec![]));
}
