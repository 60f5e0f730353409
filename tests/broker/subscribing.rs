//! SUBSCRIBE and SUBACK.

use crate::owner::{FILTER, Owner, options};
use crate::support::fake_broker::{FakeBroker, Packet};
use crate::support::mosquitto::{Mosquitto, Setup};
use iotdm::mqtt::{Event, Options, Subscription, Trouble};

const NOTIFY: &str = "iot-2/type/edge/id/gw-1/notify";

fn with_optional(port: u16) -> Options {
    let mut options = options(port);
    options.subscriptions.insert(
        0,
        Subscription {
            filter: NOTIFY.to_owned(),
            required: false,
        },
    );
    options
}

#[tokio::test]
async fn sub_01_the_subscription_is_asked_for_at_qos_1_and_nothing_is_published_before_suback() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    owner.publish(1);
    let (mut peer, _) = broker.session(false).await;
    let Packet::Subscribe { id, filters } = peer.next().await else {
        panic!("SUBSCRIBE comes first")
    };
    assert_eq!(filters, [(FILTER.to_owned(), 1)]);
    owner.connected().await;
    peer.suback(id, &[1]).await;
    assert!(matches!(peer.next().await, Packet::Publish { qos: 1, .. }));
    assert!(matches!(owner.next().await, Event::Subscribed));
}

#[tokio::test]
async fn sub_01_a_session_that_the_broker_kept_is_subscribed_again() {
    let broker = FakeBroker::start().await;
    let _owner = Owner::start(options(broker.port));
    let (mut peer, _) = broker.session(true).await;
    assert_eq!(peer.grant().await, FILTER);
}

#[tokio::test]
async fn sub_02_required_subscriptions_come_before_optional_ones() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(with_optional(broker.port));
    let (mut peer, _) = broker.session(false).await;
    assert_eq!(peer.grant().await, FILTER);
    owner.subscribed().await;
    assert_eq!(peer.grant().await, NOTIFY);
}

#[tokio::test]
async fn sub_03_a_refused_required_subscription_ends_the_session_and_is_not_tried_again_soon() {
    let broker = FakeBroker::start().await;
    let options = options(broker.port);
    let slow = options.backoff.slow_first;
    let mut owner = Owner::start(options);
    let (mut peer, _) = broker.session(false).await;
    let Packet::Subscribe { id, .. } = peer.next().await else {
        panic!("SUBSCRIBE comes first")
    };
    peer.suback(id, &[0x80]).await;
    let (trouble, retry_in) = owner.trouble().await;
    assert_eq!(
        trouble,
        Trouble::SubscriptionRefused {
            filter: FILTER.to_owned()
        }
    );
    assert!(retry_in >= slow, "{retry_in:?}");
    assert_eq!(peer.next().await, Packet::End);
}

#[tokio::test]
async fn sub_03_a_refused_optional_subscription_is_told_and_the_session_stays() {
    // mosquitto 2.0.11 grants every subscription and filters at delivery, so the scripted broker says no.
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(with_optional(broker.port));
    let (mut peer, _) = broker.session(false).await;
    peer.grant().await;
    let Packet::Subscribe { id, .. } = peer.next().await else {
        panic!("the optional one is asked for")
    };
    peer.suback(id, &[0x80]).await;
    let refused = owner
        .find("a refused subscription", |event| match event {
            Event::SubscriptionRefused { filter } => Some(filter),
            _ => None,
        })
        .await;
    assert_eq!(refused, NOTIFY);
    owner.publish(1);
    assert!(matches!(peer.next().await, Packet::Publish { .. }));
}

#[tokio::test]
async fn sub_02_mosquitto_grants_a_gateways_subscriptions() {
    let broker = Mosquitto::start(&Setup::default()).await;
    Owner::ready(with_optional(broker.port)).await;
    broker.log_line(&format!("{FILTER} (QoS 1)")).await;
}

#[tokio::test]
async fn con_11_a_close_right_after_subscribe_is_told_as_a_probable_acl_fault() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(options(broker.port));
    for _ in 0..4 {
        // With the session kept the MQTT crate asks again by itself; there must still be only one SUBSCRIBE.
        let (mut peer, _) = broker.session(true).await;
        assert!(matches!(peer.next().await, Packet::Subscribe { .. }));
        drop(peer);
        let trouble = owner.trouble().await.0;
        assert_eq!(
            trouble,
            Trouble::ClosedAfterSubscribe {
                filter: FILTER.to_owned()
            }
        );
        assert!(trouble.to_string().contains("access rules"), "{trouble}");
    }
    let (mut peer, _) = broker.session(true).await;
    peer.grant().await;
    owner.subscribed().await;
    owner.publish(1);
    assert!(
        matches!(peer.next().await, Packet::Publish { .. }),
        "no second SUBSCRIBE was left over"
    );
}

#[tokio::test]
async fn con_11_an_optional_subscription_that_costs_the_connection_three_times_is_left_out() {
    let broker = FakeBroker::start().await;
    let mut owner = Owner::start(with_optional(broker.port));
    for _ in 0..3 {
        let mut peer = broker.subscribed(false).await;
        assert!(matches!(peer.next().await, Packet::Subscribe { .. }));
        drop(peer);
        assert_eq!(
            owner.trouble().await.0,
            Trouble::ClosedAfterSubscribe {
                filter: NOTIFY.to_owned()
            }
        );
    }
    let mut peer = broker.subscribed(false).await;
    owner.subscribed().await;
    owner.publish(1);
    assert!(matches!(peer.next().await, Packet::Publish { .. }));
}
