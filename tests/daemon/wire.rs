//! What goes over the wire, packet by packet: connect, subscribe, manage, and nothing else.

use crate::agent::{Host, TOKEN};
use crate::bus::Answer;
use crate::reboot::call_off;
use crate::scene::{RESET, managed, next_publish, with_fake_broker};
use crate::support::fake_broker::{FakeBroker, Packet};
use crate::support::mosquitto::Setup;
use crate::support::within;

#[tokio::test]
async fn con_01_con_17_a_gateway_connects_with_its_id_and_token_and_a_session_that_stays() {
    let (broker, host) = with_fake_broker().await;
    let _agent = host.start();
    let (_, connect) = broker.session(false).await;
    assert_eq!(connect.client_id, "g:acme:edge:gw-1");
    assert_eq!(connect.username.as_deref(), Some("gw-1"));
    assert_eq!(connect.password.as_deref(), Some(TOKEN.as_bytes()));
    assert_eq!((connect.protocol.as_str(), connect.level), ("MQTT", 4));
    assert_eq!(connect.keep_alive, 60);
    assert!(!connect.clean && !connect.will, "{connect:?}");
}

#[tokio::test]
async fn sub_02_mng_01_top_02_a_gateway_subscribes_to_itself_and_then_says_manage_in_the_long_form() {
    let (broker, host) = with_fake_broker().await;
    let _agent = host.start();
    let (mut peer, _) = broker.session(false).await;
    let mut filters = Vec::new();
    let (topic, manage) = loop {
        match peer.next().await {
            Packet::Subscribe { id, filters: more } => {
                peer.suback(id, &vec![1; more.len()]).await;
                filters.extend(more);
            }
            Packet::Publish {
                topic,
                payload,
                qos,
                retain,
                ..
            } => {
                assert_eq!((qos, retain), (1, false));
                let manage: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                break (topic, manage);
            }
            other => panic!("{other:?}"),
        }
    };
    let own = ("iotdm-1/type/edge/id/gw-1/#".to_owned(), 1);
    assert_eq!(filters.first(), Some(&own), "it stands before manage");
    assert_eq!(topic, "iotdevice-1/type/edge/id/gw-1/mgmt/manage");
    assert_eq!(manage["d"]["lifetime"], 86_400);
    assert_eq!(manage["d"]["supports"]["firmwareActions"], false);
    if filters.len() == 1 {
        match peer.next().await {
            Packet::Subscribe { filters: more, .. } => filters.extend(more),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(filters[1..], [("iot-2/type/edge/id/gw-1/notify".to_owned(), 1)]);
}

#[tokio::test]
async fn con_01_sub_01_a_device_connects_as_such_and_uses_the_short_form() {
    let broker = FakeBroker::start().await;
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    let text = host.configuration(&format!("mqtt://127.0.0.1:{}", broker.port), "", "");
    let text = text.replace("[service]", "kind = \"device\"\n[service]");
    host.configure(&text.replace("username = \"gw-1\"\n", ""));
    let _agent = host.start();
    let (mut peer, connect) = broker.session(false).await;
    assert_eq!(connect.client_id, "d:acme:edge:gw-1");
    assert_eq!(connect.username.as_deref(), Some("use-token-auth"));
    match peer.next().await {
        Packet::Subscribe { id, filters } => {
            assert_eq!(filters, [("iotdm-1/#".to_owned(), 1)]);
            peer.suback(id, &[1]).await;
        }
        other => panic!("{other:?}"),
    }
    let (topic, ..) = next_publish(&mut peer).await;
    assert_eq!(topic, "iotdevice-1/mgmt/manage");
    peer.publish("iotdm-1/mgmt/initiate/device/factory_reset", br#"{"reqId": "one"}"#, 1)
        .await;
    let (topic, response, _) = next_publish(&mut peer).await;
    assert_eq!((topic.as_str(), &response["rc"]), ("iotdevice-1/response", &501.into()));
}

#[tokio::test]
async fn requests_are_acknowledged_in_the_order_of_their_arrival_and_after_a_reconnect_not_at_all() {
    let (broker, host) = with_fake_broker().await;
    let _agent = host.start();
    let mut peer = managed(&broker).await;
    for id in [7, 5, 6] {
        let payload = format!("{{\"reqId\": \"{id}\"}}");
        peer.publish(RESET, payload.as_bytes(), id).await;
    }
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 4 {
        match peer.next().await {
            Packet::PubAck(id) => acknowledged.push(id),
            Packet::Subscribe { id, .. } => peer.suback(id, &[1]).await,
            Packet::Publish { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acknowledged, [1, 7, 5, 6]);
}

#[tokio::test]
async fn top_01_con_16_an_acl_denies_nothing_of_a_whole_life_and_nothing_is_retained() {
    let acl = "\
        pattern write iotdevice-1/type/+/id/%u/#\n\
        pattern read iotdm-1/type/+/id/%u/#\n\
        pattern read iot-2/type/+/id/%u/#\n\
        user service\ntopic readwrite #\n";
    let setup = Setup {
        users: vec![("gw-1".into(), TOKEN.into()), ("service".into(), "hers".into())],
        acl: Some(acl.to_owned()),
        ..Setup::default()
    };
    let bus = crate::bus::PrivateBus::start();
    let login1 = crate::bus::login1(&bus).await;
    let broker = crate::support::mosquitto::Mosquitto::start(&setup).await;
    let host = Host::new("gw-1", bus.address());
    std::fs::write(host.path("hers"), "hers").unwrap();
    std::fs::set_permissions(host.path("hers"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let service = crate::service::Service::start_as(broker.port, Some(("service", &host.path("hers")))).await;
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    let agent = host.start();
    agent.managed().await;
    // A refusal, an acceptance that comes to nothing (with a log entry), nonsense, unmanage and manage.
    login1.answer("CanReboot", Answer::Text("no".to_owned()));
    service.reboot("gw-1", "refused").await;
    service.answer("refused", 1).await;
    login1.answer("CanReboot", Answer::Text("yes".to_owned()));
    service.reboot("gw-1", "accepted").await;
    service.answer("accepted", 1).await;
    call_off(&login1, &service, "accepted", 2).await;
    service.managed("gw-1", 2).await;
    service.request("gw-1", "no/such/operation", "nonsense").await;
    assert_eq!(service.answer("nonsense", 1).await.0, 501);
    host.told(&["unmanage"]).await;
    host.told(&["manage"]).await;
    let all = service.said();
    let mut tails: Vec<_> = all.iter().map(|said| said.tail().to_owned()).collect();
    tails.sort();
    tails.dedup();
    assert_eq!(tails, ["add/diag/log", "mgmt/manage", "mgmt/unmanage", "response"]);
    for said in &all {
        assert!(
            said.topic.starts_with("iotdevice-1/type/edge/id/gw-1/"),
            "{}",
            said.topic
        );
    }
    assert_eq!(broker.log_count("Denied"), 0);
    assert_eq!(broker.log_count("g:acme:edge:gw-1 disconnected"), 0);
    let published = "Received PUBLISH from g:acme:edge:gw-1 (d0, q1, r0";
    assert_eq!(
        broker.log_count("Received PUBLISH from g:acme:edge:gw-1"),
        broker.log_count(published),
        "at QoS 1 and never retained"
    );
    assert_eq!(broker.log_count(published), all.len());
    within("the end", agent.stop()).await;
}
