//! The broker restarts, dies, freezes, comes back; or another client takes our place.

use crate::owner::{CLIENT, Owner, REQUEST, options};
use crate::support::fake_broker::{FakeBroker, Packet};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;
use iotdm::mqtt::Trouble;
use std::time::{Duration, Instant};

#[tokio::test]
async fn con_10_what_was_in_flight_is_sent_again_in_order_and_marked_dup_when_the_session_is_kept() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    for id in 0..3 {
        owner.publish(id);
        assert!(matches!(peer.next().await, Packet::Publish { dup: false, .. }));
    }
    drop(peer);
    owner.trouble().await;
    owner.publish(3);
    let (mut peer, _) = broker.session(true).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        match peer.next().await {
            Packet::Publish { payload, dup, id, .. } => {
                seen.push((payload, dup));
                peer.puback(id).await;
            }
            Packet::Subscribe { id, .. } => peer.suback(id, &[1]).await,
            other => panic!("{other:?}"),
        }
    }
    let expected = [(b"0", true), (b"1", true), (b"2", true), (b"3", false)];
    assert_eq!(seen, expected.map(|(payload, dup)| (payload.to_vec(), dup)));
    assert_eq!(owner.ends(4).await, (vec![0, 1, 2, 3], vec![]));
}

#[tokio::test]
async fn con_10_what_was_in_flight_is_given_back_when_the_broker_forgot_the_session() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    for id in 0..12 {
        owner.publish(id);
    }
    let mut packet_ids = Vec::new();
    for _ in 0..8 {
        let Packet::Publish { id, .. } = peer.next().await else {
            panic!("a publish")
        };
        packet_ids.push(id);
    }
    peer.puback(packet_ids[0]).await;
    assert_eq!(owner.ends(1).await.0, [0]);
    drop(peer);
    owner.trouble().await;
    let mut peer = broker.subscribed(false).await;
    // Seven were sent and are unanswered, the ninth was handed over when the first was acknowledged.
    assert_eq!(owner.ends(8).await, (vec![], (1..9).collect()));
    // The others were never sent and are not given back: they follow now, in order.
    for id in 9..12u64 {
        let Packet::Publish {
            payload, dup: false, ..
        } = peer.next().await
        else {
            panic!("a fresh publish")
        };
        assert_eq!(payload, id.to_string().into_bytes());
    }
}

#[tokio::test]
async fn con_10_messages_given_while_the_broker_is_away_arrive_when_it_is_back() {
    for persistence in [false, true] {
        let mut broker = Mosquitto::start(&Setup {
            persistence,
            ..Setup::default()
        })
        .await;
        let mut owner = Owner::ready(options(broker.port)).await;
        broker.stop();
        owner.trouble().await;
        for id in 0..20 {
            owner.publish(id);
        }
        // Several attempts fail meanwhile.
        for _ in 0..3 {
            assert!(matches!(owner.trouble().await.0, Trouble::Refused { .. }));
        }
        broker.launch().await;
        assert_eq!(owner.connected().await, persistence);
        assert_eq!(owner.ends(20).await, ((0..20).collect(), vec![]));
    }
}

#[tokio::test]
async fn con_10_a_broker_killed_with_publishes_in_flight_loses_none_of_them_silently() {
    for persistence in [false, true] {
        let mut broker = Mosquitto::start(&Setup {
            persistence,
            ..Setup::default()
        })
        .await;
        let mut owner = Owner::start(options(broker.port));
        owner.subscribed().await;
        if persistence {
            // The session is on disk before the kill.
            broker.log_line("Saving in-memory database").await;
        }
        broker.freeze();
        for id in 0..12 {
            owner.publish(id);
        }
        broker.kill();
        let trouble = owner.trouble().await.0;
        assert!(!matches!(trouble, Trouble::PeerSilent { .. }), "{trouble}");
        broker.launch().await;
        let session_present = owner.connected().await;
        assert_eq!(session_present, persistence);
        let (published, given_back) = owner.ends(12).await;
        let mut all: Vec<_> = published.iter().chain(&given_back).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>(), "each has exactly one end");
        assert_eq!(given_back.is_empty(), persistence, "{given_back:?}");
        // What was given back is sent again by its owner, and arrives.
        for id in &given_back {
            owner.publish(*id);
        }
        assert_eq!(owner.ends(given_back.len()).await.0, given_back);
    }
}

#[tokio::test]
async fn con_06_dead_peer_is_noticed_within_one_and_a_half_keep_alives() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let mut options = options(broker.port);
    options.keep_alive = Duration::from_secs(2);
    let mut owner = Owner::ready(options).await;
    // A ping has been answered: the peer lives.
    broker.log_line(&format!("Sending PINGRESP to {CLIENT}")).await;
    broker.freeze();
    let frozen = Instant::now();
    let trouble = owner.trouble().await.0;
    let noticed = frozen.elapsed();
    assert_eq!(
        trouble,
        Trouble::PeerSilent {
            after: Duration::from_secs(3)
        }
    );
    // 3 s; what is more is the machine's, and less than the operating system would take by far
    assert!(noticed <= Duration::from_secs(10), "{noticed:?}");
    broker.thaw();
    assert!(owner.connected().await);
}

#[tokio::test]
async fn con_06_a_large_message_that_trickles_in_is_no_dead_peer() {
    let broker = FakeBroker::start().await;
    let mut options = options(broker.port);
    options.keep_alive = Duration::from_secs(2);
    let mut owner = Owner::start(options);
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    // 5 s for one message; no ping is answered meanwhile, because the answer would come behind it.
    let topic = REQUEST.as_bytes();
    let length = u8::try_from(2 + topic.len() + 2 + 20).unwrap();
    peer.send(&[0x32, length, 0, u8::try_from(topic.len()).unwrap()]).await;
    peer.send(topic).await;
    peer.send(&[0, 9]).await;
    for byte in 0..20 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        peer.send(&[byte]).await;
    }
    let message = owner.next().await;
    let iotdm::mqtt::Event::Message(message) = message else {
        panic!("{message:?}")
    };
    assert_eq!(message.payload, (0..20).collect::<Vec<u8>>());
    let mut pings = 0;
    owner.session.ack(message.ack);
    loop {
        match peer.read().await {
            Packet::PingReq => pings += 1,
            Packet::PubAck(9) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(pings >= 2, "{pings} pings");
}

#[tokio::test]
async fn con_12_a_second_client_with_the_same_id_is_detected_and_both_slow_down() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let (mut one, mut two) = (Owner::start(options(broker.port)), Owner::start(options(broker.port)));
    let detected = async |owner: &mut Owner| loop {
        let (trouble, retry_in) = owner.trouble().await;
        if let Trouble::DuplicateClientId { client_id, times } = &trouble {
            assert_eq!((client_id.as_str(), *times), (CLIENT, 3));
            assert!(retry_in >= Duration::from_secs(3600), "{retry_in:?}");
            return;
        }
    };
    // One of them steps back for long, and the other has the place.
    within("a duplicate that is noticed", async {
        tokio::select! {
            () = detected(&mut one) => two.subscribed().await,
            () = detected(&mut two) => one.subscribed().await,
        }
    })
    .await;
}

#[tokio::test]
async fn con_12_a_broker_that_restarts_several_times_is_no_second_client() {
    let mut broker = Mosquitto::start(&Setup::default()).await;
    let mut owner = Owner::ready(options(broker.port)).await;
    for _ in 0..4 {
        broker.stop();
        let mut refused = false;
        while !refused {
            let trouble = owner.trouble().await.0;
            assert!(!matches!(trouble, Trouble::DuplicateClientId { .. }), "{trouble}");
            refused = matches!(trouble, Trouble::Refused { .. });
        }
        broker.launch().await;
        owner.subscribed().await;
    }
}

#[tokio::test]
async fn con_10_the_backoff_grows_with_failures_and_is_reset_only_by_a_stable_session() {
    let broker = FakeBroker::start().await;
    let mut options = options(broker.port);
    options.backoff.first = Duration::from_millis(10);
    options.backoff.max = Duration::from_secs(10);
    options.stable_after = Duration::from_secs(3600);
    let mut owner = Owner::start(options.clone());
    // Without a session the bound doubles each time.
    let mut waits = Vec::new();
    for _ in 0..8 {
        let mut peer = broker.accept().await;
        peer.connect().await;
        drop(peer);
        waits.push(owner.trouble().await.1);
    }
    for (failures, wait) in waits.iter().enumerate() {
        assert!(*wait <= Duration::from_millis(10 << failures), "{waits:?}");
    }
    assert!(
        waits.iter().max() > Some(&Duration::from_millis(100)),
        "it grows: {waits:?}"
    );
    // A session that does not last changes nothing about that.
    drop(broker.subscribed(false).await);
    let wait = owner.trouble().await.1;
    assert!(wait > Duration::from_millis(10), "{wait:?} after a short session");
    options.stable_after = Duration::ZERO;
    owner.session.reload(options);
    for _ in 0..8 {
        let peer = broker.subscribed(false).await;
        owner.subscribed().await;
        drop(peer);
        let wait = owner.trouble().await.1;
        assert!(wait <= Duration::from_millis(10), "{wait:?} after a stable session");
    }
}

#[tokio::test]
async fn a_close_in_the_quiet_is_told_as_such() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    let peer = broker.subscribed(false).await;
    owner.subscribed().await;
    drop(peer);
    let trouble = owner.trouble().await.0;
    assert!(matches!(trouble, Trouble::Closed { .. }), "{trouble}");
}
