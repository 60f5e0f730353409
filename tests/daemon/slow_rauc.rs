//! RAUC at the agent's start: slow, as on a slow host in the middle of its boot, or silent. The device is managed all the
//! same, and says of firmware what is true at the time. A bus that hangs is in `life`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::agent::Host;
use crate::bus::{Answer, Scripted};
use crate::scene::Scene;
use crate::small_disk::SmallDisk;
use crate::support::within;

const RAUC: &str = "de.pengutronix.rauc";
const ASKED: &str = "GetSlotStatus";
/// The agent feeds the watchdog three times in this, in microseconds: so it shows that it lives, and that time passes.
const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "3000000");
/// The agent waits 20 s before it asks a silent RAUC again.
const ASKED_AGAIN: Duration = Duration::from_secs(40);

/// A host that could be updated: two slots, and nothing of its own on the file system of `/`.
struct Updatable {
    scene: Scene,
    rauc: Scripted,
    /// RAUC answers nobody before this.
    permit: Arc<Notify>,
    _disk: SmallDisk,
}

impl Updatable {
    /// RAUC is on the bus, and does not answer yet.
    async fn new() -> Self {
        let disk = SmallDisk::mount("8m");
        let mut scene = Scene::new().await;
        scene.host = Host::below(&disk.path, "gw-1", scene.bus.address());
        scene
            .host
            .configure_for(&scene.url(), "[firmware]\nmark_good = false\n");
        scene.host.environment.push((WATCHDOG.0, WATCHDOG.1.to_owned()));
        let rauc = Scripted::start(&scene.bus, RAUC).await;
        let permit = Arc::new(Notify::new());
        rauc.answer(ASKED, Answer::Hold(Arc::clone(&permit), Box::new(slots())));
        Self {
            scene,
            rauc,
            permit,
            _disk: disk,
        }
    }

    /// What manage number `nth` (from 1) says of firmware.
    async fn firmware_actions(&self, nth: usize) -> bool {
        self.scene.service.managed("gw-1", nth).await;
        let said = self.scene.service.said_by("gw-1");
        let manage = said.iter().filter(|said| said.is_manage()).nth(nth - 1).unwrap();
        manage.json["d"]["supports"]["firmwareActions"].as_bool().unwrap()
    }

    /// Why there is no firmware here, as `iotdm-agent status` says it.
    async fn not_supported(&self) -> serde_json::Value {
        self.scene.host.status().await["agent"]["firmware"]["not_supported"].clone()
    }
}

pub(crate) fn slots() -> Answer {
    let slot = |name: &str, state: &str| {
        let members = [("class", "rootfs"), ("state", state), ("device", "/dev/nonexistent")];
        let members = members.map(|(key, value)| (key.to_owned(), value.to_owned()));
        (name.to_owned(), members.to_vec())
    };
    Answer::Slots(vec![slot("rootfs.0", "booted"), slot("rootfs.1", "inactive")])
}

#[tokio::test]
async fn a_rauc_that_takes_its_time_is_waited_for_and_the_first_manage_already_takes_firmware() {
    let host = Updatable::new().await;
    let agent = host.scene.host.start();
    within("the question", host.rauc.called(ASKED, 1)).await;
    // Four seconds and more: longer than the bus may take to greet.
    let fed = agent.notes.count("WATCHDOG=1");
    agent.notes.times("WATCHDOG=1", fed + 5).await;
    assert_eq!(host.scene.service.manages("gw-1"), 0, "RAUC has not said anything yet");
    host.permit.notify_one();
    assert!(host.firmware_actions(1).await);
    agent.managed().await;
    assert_eq!(host.not_supported().await, serde_json::Value::Null);
}

#[tokio::test]
async fn a_rauc_that_never_answers_keeps_no_device_from_being_managed_and_takes_firmware_when_it_does() {
    let host = Updatable::new().await;
    let began = Instant::now();
    let agent = host.scene.host.start();
    assert!(!host.firmware_actions(1).await);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    agent.managed().await;
    let reason = "RAUC does not tell its slots: rauc GetSlotStatus: no reply in time";
    assert_eq!(host.not_supported().await, reason);
    let service = &host.scene.service;
    service
        .request("gw-1", "mgmt/initiate/firmware/download", "early")
        .await;
    assert_eq!(service.answer("early", 1).await, (501, reason.to_owned()));
    host.scene.still_answers("else").await;
    assert_eq!(host.rauc.count(ASKED), 1);

    // RAUC wakes up. The answer to the first question comes too late for anybody; the agent asks again by itself.
    host.rauc.answer(ASKED, slots());
    host.permit.notify_one();
    let again = tokio::time::timeout(ASKED_AGAIN, host.rauc.answered(ASKED, 2)).await;
    assert!(again.is_ok(), "RAUC was not asked again: {:?}", host.rauc.calls());
    assert!(host.firmware_actions(2).await);
    host.scene
        .host
        .status_with("firmware", |status| {
            status["agent"]["firmware"]["not_supported"].is_null()
        })
        .await;
    // No image is described: that it says so means that it would take one.
    service.request("gw-1", "mgmt/initiate/firmware/download", "late").await;
    assert_eq!(service.answer("late", 1).await.0, 400);
}
