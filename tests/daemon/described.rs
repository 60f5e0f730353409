//! What a described image is refused for before anything of it is fetched.

use serde_json::json;

use crate::agent::Host;
use crate::bus::Scripted;
use crate::scene::Scene;
use crate::slow_rauc::slots;
use crate::small_disk::SmallDisk;
use crate::support::free_port;

const DOWNLOAD: &str = "mgmt/initiate/firmware/download";

async fn describe(scene: &Scene, uri: &str, req_id: &str) {
    let value = json!({"version": "2", "uri": uri, "state": 0, "updateStatus": 0});
    let d = json!({"fields": [{"field": "mgmt.firmware", "value": value}]});
    let update = json!({"reqId": req_id, "d": d}).to_string();
    scene
        .service
        .publish("iotdm-1/type/edge/id/gw-1/device/update", update)
        .await;
    assert_eq!(scene.service.answer(req_id, 1).await.0, 204);
}

#[tokio::test]
async fn fwd_02_a_host_that_the_configuration_does_not_allow_is_500_with_the_reason_and_nothing_is_fetched() {
    let disk = SmallDisk::mount("100m");
    let mut scene = Scene::new().await;
    scene.host = Host::below(&disk.path, "gw-1", scene.bus.address());
    let firmware = "[firmware]\nmark_good = false\nallow_hosts = [\"localhost\"]\n";
    scene.host.configure_for(&scene.url(), firmware);
    let rauc = Scripted::start(&scene.bus, "de.pengutronix.rauc").await;
    rauc.answer("GetSlotStatus", slots());
    let agent = scene.host.start();
    agent.managed().await;

    let service = &scene.service;
    describe(&scene, "https://elsewhere.example/2.raucb?key=secret", "u1").await;
    service.request("gw-1", DOWNLOAD, "d1").await;
    let reason = "firmware may not be fetched from elsewhere.example: it is not in firmware.allow_hosts on the device";
    assert_eq!(service.answer("d1", 1).await, (500, reason.to_owned()));
    assert_eq!(scene.host.status().await["agent"]["firmware"]["state"], 0);

    describe(&scene, &format!("https://localhost:{}/2.raucb", free_port()), "u2").await;
    service.request("gw-1", DOWNLOAD, "d2").await;
    assert_eq!(service.answer("d2", 1).await, (202, String::new()));
}
