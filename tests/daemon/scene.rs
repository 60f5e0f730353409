//! Everything that a test usually needs: broker, bus with logind, service, host.

use nix::sys::signal::Signal;

use crate::agent::{Agent, Host};
use crate::bus::{PrivateBus, Scripted, login1};
use crate::service::Service;
use crate::support::fake_broker::{FakeBroker, Packet, Peer};
use crate::support::mosquitto::{Mosquitto, Setup};

/// Requests for the device `gw-1`.
pub(crate) const REBOOT: &str = "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/reboot";
pub(crate) const RESET: &str = "iotdm-1/type/edge/id/gw-1/mgmt/initiate/device/factory_reset";
pub(crate) const RESPONSE: &str = "iotdm-1/type/edge/id/gw-1/response";

pub(crate) struct Scene {
    pub(crate) host: Host,
    pub(crate) broker: Mosquitto,
    pub(crate) service: Service,
    pub login1: Scripted,
    pub(crate) bus: PrivateBus,
}

impl Scene {
    /// A configured host whose agent does not run yet.
    pub(crate) async fn new() -> Self {
        Self::with(&Setup::default(), "").await
    }

    /// With a broker of one's own and more lines of configuration.
    pub(crate) async fn with(setup: &Setup, more: &str) -> Self {
        let bus = PrivateBus::start();
        let login1 = login1(&bus).await;
        let broker = Mosquitto::start(setup).await;
        let service = Service::start(broker.port).await;
        let host = Host::new("gw-1", bus.address());
        host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), more);
        Self {
            host,
            broker,
            service,
            login1,
            bus,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.broker.port)
    }

    /// The agent, as soon as it is managed.
    pub(crate) async fn agent(&self) -> Agent {
        let agent = self.host.start();
        agent.managed().await;
        agent
    }

    /// Starts a broker that was away. The agent does not see it before the service does, or nobody would hear the agent.
    pub(crate) async fn relaunch(&mut self, agent: &Agent) {
        agent.signal(Signal::SIGSTOP);
        let subscriptions = self.service.subscriptions();
        self.broker.launch().await;
        self.service.subscribed(subscriptions + 1).await;
        agent.signal(Signal::SIGCONT);
    }

    /// Asks this scene's device for a reboot.
    pub(crate) async fn reboot(&self, req_id: &str) {
        self.service.reboot(&self.host.id, req_id).await;
    }

    /// A request that no agent is there to take.
    pub(crate) async fn still_waits(&self, req_id: &str) {
        self.service
            .request(&self.host.id, "mgmt/initiate/device/factory_reset", req_id)
            .await;
    }

    /// The agent still does its work: a fresh request is answered.
    pub(crate) async fn still_answers(&self, req_id: &str) {
        self.service
            .request(&self.host.id, "mgmt/initiate/device/factory_reset", req_id)
            .await;
        assert_eq!(self.service.answer(req_id, 1).await.0, 501);
    }
}

/// A host without a bus, configured for a broker that does what the test says.
pub(crate) async fn with_fake_broker() -> (FakeBroker, Host) {
    let broker = FakeBroker::start().await;
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    (broker, host)
}

/// A fresh session of the agent, as soon as its manage is answered. The service's packet id is 1.
pub(crate) async fn managed(broker: &FakeBroker) -> Peer {
    let mut peer = broker.subscribed(false).await;
    let (topic, manage, id) = next_publish(&mut peer).await;
    assert_eq!(topic, "iotdevice-1/type/edge/id/gw-1/mgmt/manage");
    peer.puback(id).await;
    let answer = serde_json::json!({"rc": 200, "reqId": manage["reqId"]}).to_string();
    peer.publish(RESPONSE, answer.as_bytes(), 1).await;
    peer
}

/// The agent's next publish: topic, payload, packet id. Subscriptions are granted on the way.
pub(crate) async fn next_publish(peer: &mut Peer) -> (String, serde_json::Value, u16) {
    loop {
        match peer.next().await {
            Packet::Subscribe { id, filters } => peer.suback(id, &vec![1; filters.len()]).await,
            Packet::Publish { topic, payload, id, .. } => {
                return (topic, serde_json::from_slice(&payload).unwrap(), id);
            }
            Packet::PubAck(_) => {}
            other => panic!("not expected: {other:?}"),
        }
    }
}
