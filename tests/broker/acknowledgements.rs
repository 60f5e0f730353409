//! PUBACK in our direction, and packets that cannot be acknowledged.

use crate::owner::{CLIENT, Owner, REQUEST, options};
use crate::support::fake_broker::{FakeBroker, Packet};
use crate::support::mosquitto::{Mosquitto, Setup};
use iotdm::mqtt::{Event, Trouble};
use std::time::Duration;

#[tokio::test]
async fn con_17_a_request_is_acknowledged_only_when_its_owner_says_so() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut owner = Owner::ready(options(broker.port)).await;
    broker.publish(REQUEST, b"once", &[]).await;
    let first = owner.message().await;
    assert!(!first.dup);
    // The owner dies before it has acknowledged: the request comes again.
    drop(owner);
    let mut owner = Owner::start(options(broker.port));
    let again = owner.message().await;
    assert_eq!((again.payload.as_slice(), again.dup), (&b"once"[..], true));
    owner.session.ack(again.ack);
    broker.log_line("Received PUBACK from g:acme:edge:gw-1").await;
    drop(owner);
    // Acknowledged: not again. The next message proves that nothing was in front of it.
    let mut owner = Owner::start(options(broker.port));
    broker.publish(REQUEST, b"next", &[]).await;
    assert_eq!(owner.message().await.payload, b"next");
}

#[tokio::test]
async fn acknowledgements_leave_in_arrival_order_whatever_order_the_owner_gives_them_in() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    let mut tokens = Vec::new();
    for id in [11, 12, 13, 14] {
        peer.publish(REQUEST, b"x", id).await;
        tokens.push(owner.message().await.ack);
    }
    for at in [3, 1, 2] {
        owner.session.ack(tokens[at]);
    }
    let early = tokio::time::timeout(Duration::from_millis(200), peer.next()).await;
    assert!(early.is_err(), "{early:?} before the first was acknowledged");
    owner.session.ack(tokens[0]);
    for id in [11, 12, 13, 14] {
        assert_eq!(peer.next().await, Packet::PubAck(id));
    }
}

#[tokio::test]
async fn an_acknowledgement_for_an_earlier_connection_does_not_confirm_a_new_message_with_the_same_id() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    peer.publish(REQUEST, b"first", 1).await;
    let first = owner.message().await;
    drop(peer);
    owner.trouble().await;
    let mut peer = broker.subscribed(false).await;
    peer.publish(REQUEST, b"second", 1).await;
    let second = owner.message().await;
    assert_eq!(second.payload, b"second");
    owner.session.ack(first.ack);
    let stale = tokio::time::timeout(Duration::from_millis(200), peer.next()).await;
    assert!(stale.is_err(), "{stale:?}");
    owner.session.ack(second.ack);
    assert_eq!(peer.next().await, Packet::PubAck(1));
}

#[tokio::test]
async fn messages_read_ahead_when_the_connection_breaks_never_disturb_the_next_one() {
    let broker = FakeBroker::start().await;
    let mut options = options(broker.port);
    options.stable_after = Duration::ZERO;
    let mut owner = Owner::start(options);
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    for round in 0..20u16 {
        // Some of these are read and some are not when the connection is gone.
        for id in 1..=20 {
            peer.publish(REQUEST, b"old", id).await;
        }
        drop(peer);
        owner.trouble().await;
        peer = broker.subscribed(true).await;
        owner.subscribed().await;
        peer.publish(REQUEST, format!("new {round}").as_bytes(), 5).await;
        let message = owner.message().await;
        assert_eq!(message.payload, format!("new {round}").into_bytes());
        owner.session.ack(message.ack);
        assert_eq!(peer.next().await, Packet::PubAck(5), "round {round}");
    }
}

#[tokio::test]
async fn a_request_of_one_mebibyte_is_received() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut owner = Owner::ready(options(broker.port)).await;
    broker.publish(REQUEST, &vec![b'['; 1024 * 1024], &[]).await;
    let message = owner.message().await;
    assert_eq!(message.payload.len(), 1024 * 1024);
    owner.session.ack(message.ack);
    broker.log_line("Received PUBACK from g:acme:edge:gw-1").await;
}

#[tokio::test]
async fn an_oversized_packet_twice_in_a_row_drops_the_queue_and_the_session_goes_on() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut owner = Owner::ready(options(broker.port)).await;
    broker.publish(REQUEST, &vec![b'['; 2 * 1024 * 1024], &[]).await;
    broker.publish(REQUEST, b"behind it", &[]).await;
    for _ in 0..2 {
        let trouble = owner.trouble().await.0;
        assert!(
            matches!(trouble, Trouble::Oversized { bytes, .. } if bytes > 2 * 1024 * 1024),
            "{trouble}"
        );
    }
    owner
        .find("the loud end of the queue", |event| {
            matches!(event, Event::QueueDropped).then_some(())
        })
        .await;
    assert!(!owner.connected().await, "the broker forgot the session");
    owner.subscribed().await;
    broker.publish(REQUEST, b"afterwards", &[]).await;
    assert_eq!(owner.message().await.payload, b"afterwards");
    // And it is persistent again.
    let ours = broker
        .log()
        .into_iter()
        .filter(|line| line.contains("New client connected") && line.contains(CLIENT));
    let clean: Vec<bool> = ours.map(|line| line.contains("c1")).collect();
    assert_eq!(clean, [false, false, true, false]);
}

#[tokio::test]
async fn a_flood_that_the_owner_does_not_read_is_held_back_and_nothing_is_lost() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    for id in 1..=500u16 {
        peer.publish(REQUEST, &id.to_be_bytes(), id).await;
    }
    for id in 1..=500u16 {
        let message = owner.message().await;
        assert_eq!(message.payload, id.to_be_bytes());
        owner.session.ack(message.ack);
    }
    for id in 1..=500u16 {
        assert_eq!(peer.next().await, Packet::PubAck(id));
    }
}
