//! The device model over the wire: what the service writes, a SIGKILL and a reload in between.

use serde_json::json;

use crate::scene::Scene;

const UPDATE: &str = "iotdm-1/type/edge/id/gw-1/device/update";
const OBSERVE: &str = "iotdm-1/type/edge/id/gw-1/observe";

fn configuration(scene: &Scene, site: &str) -> String {
    let more =
        format!("[manage]\nmetadata = {{ site = \"{site}\", rack = 4 }}\n[manage.device_info]\ndescription = \"d\"");
    scene.host.configuration(&scene.url(), "", &more)
}

#[tokio::test]
async fn upd_02_what_the_service_writes_survives_a_sigkill_and_is_told_until_the_configuration_says_something_new() {
    let scene = Scene::new().await;
    scene.host.configure(&configuration(&scene, "south"));
    let agent = scene.agent().await;
    let fields = json!([
        {"field": "metadata", "value": {"site": "north", "rack": 4}},
        {"field": "deviceInfo", "value": {"description": "by the gate", "fwVersion": "9.9"}},
        {"field": "location", "value": {"latitude": 48.5, "longitude": 11.5}},
    ]);
    let update = json!({"reqId": "u1", "d": {"fields": fields}}).to_string();
    scene.service.publish(UPDATE, &update).await;
    assert_eq!(scene.service.answer("u1", 1).await.0, 204);
    agent.kill().await;

    let agent = scene.agent().await;
    let told = scene.host.told(&["status"]).await;
    assert!(
        told.contains("service wrote: deviceInfo.description = \"by the gate\""),
        "{told}"
    );
    let manages = scene.service.manages("gw-1");
    let said = scene.service.said_by("gw-1");
    let manage = &said.iter().rfind(|said| said.is_manage()).unwrap().json["d"];
    assert_eq!(manage["metadata"], json!({"site": "north", "rack": 4}));
    assert_eq!(manage["deviceInfo"]["description"], "by the gate");
    assert_ne!(manage["deviceInfo"]["fwVersion"], "9.9", "that is the host's own");
    let observe = json!({"reqId": "o1", "d": {"fields": [{"field": "location"}, {"field": "metadata.site"}]}});
    scene.service.publish(OBSERVE, observe.to_string()).await;
    assert_eq!(scene.service.answer("o1", 1).await.0, 200);

    scene.host.configure(&configuration(&scene, "west"));
    agent.reload().await;
    scene.service.managed("gw-1", manages + 1).await;
    scene
        .service
        .until("the notify", |said| said.iter().any(|said| said.tail() == "notify"))
        .await;
    agent.log.line("it replaces what the service had written").await;
    let said = scene.service.said_by("gw-1");
    let manage = &said.iter().rfind(|said| said.is_manage()).unwrap().json["d"];
    assert_eq!(manage["metadata"], json!({"site": "west", "rack": 4}));
    assert_eq!(manage["deviceInfo"]["description"], "by the gate");
    let notify = said.iter().find(|said| said.tail() == "notify").unwrap();
    assert_eq!(
        notify.json["d"]["fields"],
        json!([{"field": "metadata.site", "value": "west"}])
    );
    assert!(
        !said.iter().any(|said| said.tail() == "device/update/location"),
        "the service's own word is not told back"
    );
    // The same request again does not bring its words back.
    scene.service.publish(UPDATE, &update).await;
    assert_eq!(scene.service.answer("u1", 2).await.0, 204);
    let written = scene.host.status().await["agent"]["written"].clone();
    assert_eq!(written.get("metadata.site"), None, "{written}");
}
