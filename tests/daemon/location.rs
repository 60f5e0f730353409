//! Where the host is, from a real gpsd to the service.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gnss::{Receiver, Sky};
use crate::gpsd::Gpsd;
use crate::scene::Scene;
use crate::support::free_port;
use crate::support::mosquitto::Setup;

/// 2026-11-23 10:00:00 UTC.
const TIME: i64 = 1_795_428_000;

/// The locations that the service was told, in order.
fn told(scene: &Scene) -> Vec<Value> {
    let said = scene.service.said_by("gw-1");
    let told = said.iter().filter(|said| said.topic.ends_with("/update/location"));
    told.map(|said| said.json["d"].clone()).collect()
}

async fn until_told(scene: &Scene, times: usize) -> Value {
    let what = format!("location {times}");
    scene
        .service
        .until(&what, |said| {
            let told = said.iter().filter(|said| said.topic.ends_with("/update/location"));
            told.count() >= times
        })
        .await;
    told(scene)[times - 1].clone()
}

/// `iotdm-agent location`, as soon as these words are in it.
async fn shown(scene: &Scene, words: &str) -> String {
    let asked = async {
        loop {
            let text = scene.host.told(&["location"]).await;
            if text.contains(words) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), asked)
        .await
        .unwrap_or_else(|_| panic!("'{words}' is not shown"))
}

#[tokio::test]
async fn loc_01_loc_02_a_fix_reaches_the_service_once_and_a_lost_one_is_shown_as_lost() {
    let here = Sky::Fix {
        latitude: 48.137_154,
        longitude: 11.576_124,
        altitude: 519.0,
    };
    let receiver = Receiver::start("127.0.0.1:0", here, TIME).await;
    let gpsd = Gpsd::start(free_port(), &[receiver.url()]).await;
    let location = format!(
        "[location]\nsource = \"gpsd\"\ngpsd = \"{}\"\nmin_interval = \"10s\"\ndecimals = 3\n",
        gpsd.address()
    );
    let scene = Scene::with(&Setup::default(), &location).await;
    let agent = scene.agent().await;
    let first = until_told(&scene, 1).await;
    assert_eq!(
        (&first["latitude"], &first["longitude"]),
        (&json!(48.137), &json!(11.576))
    );
    assert!(
        first["measuredDateTime"]
            .as_str()
            .unwrap()
            .starts_with("2026-11-23T10:"),
        "{first}"
    );
    assert_eq!(first.get("updatedDateTime"), None);
    let text = shown(&scene, "last reported").await;
    for words in [
        "here, as measured: 48.137, 11.576",
        "newest fix: 48.13715",
        "not more is told",
    ] {
        assert!(text.contains(words), "'{words}' is missing:\n{text}");
    }
    receiver.see(Sky::NoFix);
    let text = shown(&scene, "no fix:").await;
    assert!(text.contains("here, as last measured"), "{text}");
    assert_eq!(told(&scene).len(), 1);

    // The configuration takes the receiver's place.
    let fixed = "[location]\nsource = \"fixed\"\n[location.fixed]\nlatitude = -33.5\nlongitude = 151\n";
    scene.host.configure_for(&scene.url(), fixed);
    agent.reload().await;
    assert_eq!(
        until_told(&scene, 2).await,
        json!({"latitude": -33.5, "longitude": 151.0})
    );
    shown(&scene, "here, as the configuration says: -33.5, 151").await;
}

#[tokio::test]
async fn a_gpsd_that_is_not_there_is_no_reason_not_to_be_managed_and_is_named() {
    let location = format!("[location]\nsource = \"gpsd\"\ngpsd = \"127.0.0.1:{}\"\n", free_port());
    let scene = Scene::with(&Setup::default(), &location).await;
    let _agent = scene.agent().await;
    let text = shown(&scene, "no fix:").await;
    assert!(
        text.contains("nobody knows where this host is") && text.contains("gpsd"),
        "{text}"
    );
    assert_eq!(told(&scene), [] as [Value; 0]);
}
