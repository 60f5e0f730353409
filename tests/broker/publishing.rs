//! PUBLISH in our direction.

use crate::owner::{Owner, RESPONSE, options};
use crate::support::fake_broker::{FakeBroker, Packet, Peer};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;
use iotdm::mqtt::{Event, MAX_OUTSTANDING, MAX_PAYLOAD, NotAccepted, PublishId, Trouble, Turn};
use std::time::{Duration, Instant};

async fn publish(peer: &mut Peer) -> (u16, Vec<u8>, bool) {
    match peer.next().await {
        Packet::Publish {
            id,
            payload,
            dup,
            qos: 1,
            retain: false,
            ..
        } => (id, payload, dup),
        other => panic!("expected a QoS 1 publish that is not retained, got {other:?}"),
    }
}

#[tokio::test]
async fn con_16_a_publish_is_qos_1_and_not_retained_and_its_puback_is_told() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.publish(41);
    let (id, payload, dup) = publish(&mut peer).await;
    assert_eq!((payload.as_slice(), dup), (&b"41"[..], false));
    peer.puback(id).await;
    assert_eq!(owner.ends(1).await, (vec![41], vec![]));
}

#[tokio::test]
async fn con_14_a_payload_over_131072_bytes_is_never_sent_and_one_of_131072_is() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut owner = Owner::ready(options(broker.port)).await;
    let refused = owner
        .session
        .publish(PublishId(1), RESPONSE.to_owned(), vec![b'x'; MAX_PAYLOAD + 1]);
    assert_eq!(refused, Err(NotAccepted::TooLarge(131_073)));
    owner
        .session
        .publish(PublishId(2), RESPONSE.to_owned(), vec![b'x'; MAX_PAYLOAD])
        .unwrap();
    assert_eq!(owner.ends(1).await, (vec![2], vec![]));
    let line = broker.log_line("Received PUBLISH").await;
    assert!(line.contains("q1, r0") && line.contains("(131072 bytes)"), "{line}");
    assert_eq!(broker.log_count("Received PUBLISH"), 1);
}

#[tokio::test]
async fn con_15_no_more_than_eight_publishes_are_unacknowledged() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    for id in 0..20 {
        owner.publish(id);
    }
    let mut unacknowledged = Vec::new();
    for _ in 0..8 {
        unacknowledged.push(publish(&mut peer).await.0);
    }
    let ninth = tokio::time::timeout(Duration::from_millis(200), peer.next()).await;
    assert!(ninth.is_err(), "{ninth:?}");
    // One acknowledgement lets one more go, in order.
    for next in 8..20u64 {
        peer.puback(unacknowledged.remove(0)).await;
        let (id, payload, _) = publish(&mut peer).await;
        assert_eq!(payload, next.to_string().into_bytes());
        unacknowledged.push(id);
    }
    for id in unacknowledged {
        peer.puback(id).await;
    }
    assert_eq!(owner.ends(20).await.0.len(), 20);
}

#[tokio::test]
async fn what_is_first_passes_what_is_last_and_waits_behind_everything_else() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    let waiting = [
        Turn::Last,
        Turn::InOrder,
        Turn::Last,
        Turn::Last,
        Turn::First,
        Turn::First,
    ];
    for (id, turn) in (0..).zip([Turn::Last; 8].into_iter().chain(waiting)) {
        let (topic, payload) = (RESPONSE.to_owned(), u64::to_string(&id).into_bytes());
        owner.session.publish_in(turn, PublishId(id), topic, payload).unwrap();
    }
    let mut unacknowledged = std::collections::VecDeque::new();
    for _ in 0..8 {
        unacknowledged.push_back(publish(&mut peer).await.0);
    }
    for next in [8, 9, 12, 13, 10, 11] {
        peer.puback(unacknowledged.pop_front().unwrap()).await;
        let (id, payload, _) = publish(&mut peer).await;
        assert_eq!(String::from_utf8(payload).unwrap(), next.to_string());
        unacknowledged.push_back(id);
    }
}

#[tokio::test]
async fn con_15_the_rate_is_kept() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut options = options(broker.port);
    options.publishes_per_second = Some(5);
    let mut owner = Owner::ready(options).await;
    let began = Instant::now();
    for id in 0..11 {
        owner.publish(id);
    }
    assert_eq!(owner.ends(11).await.0, (0..11).collect::<Vec<_>>());
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_full_queue_and_a_bad_topic_are_refused_at_once() {
    let owner = Owner::start(options(crate::support::free_port()));
    for id in 0..MAX_OUTSTANDING as u64 {
        owner.publish(id);
    }
    assert_eq!(
        owner.session.publish(PublishId(99), RESPONSE.to_owned(), vec![]),
        Err(NotAccepted::Full)
    );
    for topic in ["", "a/+", "a/#", "a\0b"] {
        assert_eq!(
            owner.session.publish(PublishId(1), topic.to_owned(), vec![]),
            Err(NotAccepted::Topic)
        );
    }
}

#[tokio::test]
async fn con_11_a_close_right_after_a_publish_names_its_topic_and_the_third_time_it_is_given_up() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(true).await;
    owner.subscribed().await;
    owner.publish(1);
    owner.publish(2);
    for strike in 1..=3 {
        // From the second time on it comes before SUBSCRIBE, as a repetition.
        let (_, payload, dup) = publish(&mut peer).await;
        assert_eq!((payload.as_slice(), dup), (&b"1"[..], strike > 1));
        drop(peer);
        assert_eq!(
            owner.trouble().await.0,
            Trouble::ClosedAfterPublish {
                topic: RESPONSE.to_owned()
            }
        );
        peer = broker.session(true).await.0;
        owner.connected().await;
    }
    peer.grant().await;
    // The second message, which was behind the first, is given back and not lost.
    owner.publish(3);
    let (id, payload, dup) = publish(&mut peer).await;
    assert_eq!((payload.as_slice(), dup), (&b"3"[..], false));
    peer.puback(id).await;
    assert_eq!(owner.refused, [1]);
    assert_eq!(owner.ends(2).await, (vec![3], vec![2]));
}

#[tokio::test]
async fn a_stop_sends_what_is_queued_waits_for_the_pubacks_and_disconnects() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    for id in 0..10 {
        owner.publish(id);
    }
    let stop = tokio::spawn(owner.session.stop());
    for _ in 0..10 {
        let (id, ..) = publish(&mut peer).await;
        peer.puback(id).await;
    }
    assert_eq!(peer.next().await, Packet::Disconnect);
    within("the stop", stop).await.unwrap();
    let mut published = 0;
    while let Some(event) = owner.events.recv().await {
        published += usize::from(matches!(event, Event::Published(_)));
    }
    assert_eq!(published, 10);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_for_a_broker_that_acknowledges_nothing() {
    let broker = FakeBroker::start().await;
    let mut options = options(broker.port);
    options.limits.stop = Duration::from_millis(300);
    let mut owner = Owner::start(options);
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    owner.publish(1);
    publish(&mut peer).await;
    let began = Instant::now();
    let stop = tokio::spawn(owner.session.stop());
    assert_eq!(peer.next().await, Packet::Disconnect);
    within("the stop", stop).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
