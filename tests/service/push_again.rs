//! `iotdm firmware push` to a device that has the image already, and to one that says afterwards that it runs another.

use iotdm::protocol::Request;
use serde_json::{Value, json};

use crate::place::{Gateway, Place};
use crate::push::{Depot, arguments};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;

const URI: &str = "https://fw.example.com/2";

/// A service, and a device that takes firmware and runs 1.0.
async fn site() -> (Mosquitto, Place, crate::place::Serve, Gateway) {
    let broker = Mosquitto::start(&Setup::default()).await;
    let place = Place::new(broker.port);
    let serve = place.serve().await;
    let mut gateway = Gateway::connect(broker.port).await;
    gateway.manage_firmware("m1", "1.0").await;
    place.knows(&["gw-1"]).await;
    (broker, place, serve, gateway)
}

/// Pushes to the end while the device does its part: the exit code, and the one object that is printed.
async fn push(place: &Place, more: &[String], device: impl Future<Output = ()>) -> (i32, Value) {
    let mut more = more.to_vec();
    more.push("--json".to_owned());
    let command = arguments(&["edge/gw-1"], &more);
    let ((code, out, errors), ()) = within("the push", async { tokio::join!(place.run(&command), device) }).await;
    let rows: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{errors}"));
    (code, rows[0].clone())
}

/// Fetches it.
async fn downloads(gateway: &mut Gateway) -> Value {
    let told = gateway.download_begins().await;
    gateway.notify(json!({"state": 1})).await;
    gateway.notify(json!({"state": 2})).await;
    gateway.is_cancelled().await;
    told
}

/// Begins the update, which then fails; the image stays.
async fn fails_to_update(gateway: &mut Gateway) {
    gateway.update_begins().await;
    gateway.notify(json!({"updateStatus": 1})).await;
    gateway.logs_failure("update", 2, "no room in the slot").await;
    gateway.notify(json!({"updateStatus": 2})).await;
    gateway.is_cancelled().await;
}

/// Updates, and runs this version then.
async fn updates(gateway: &mut Gateway, version: &str) {
    gateway.update_begins().await;
    gateway.notify(json!({"updateStatus": 1})).await;
    gateway.manage_firmware("m2", version).await;
    gateway.notify(json!({"state": 0, "updateStatus": 0})).await;
    gateway.is_cancelled().await;
}

/// Answers the observation, says that it has an image, and refuses what it is asked for with 400.
async fn refuses(gateway: &mut Gateway, reason: &str, wanted: Request) {
    assert_eq!(
        gateway.answer(200, "").await,
        Request::Observe(vec!["mgmt.firmware".into()])
    );
    gateway.notify(json!({"state": 2})).await;
    assert_eq!(gateway.answer(400, reason).await, wanted);
    gateway.is_cancelled().await;
}

#[tokio::test]
async fn a_bundle_that_the_device_has_already_is_not_fetched_again_although_its_address_is_new() {
    let (_broker, place, _serve, mut gateway) = site().await;
    let depot = Depot::new();
    let gateway = &mut gateway;
    let (code, end) = push(&place, &depot.arguments(), async {
        downloads(gateway).await;
        fails_to_update(gateway).await;
    })
    .await;
    assert_eq!(
        (code, &end["reason"]),
        (1, &json!("no room in the slot (out of memory, updateStatus 2)"))
    );

    let (code, end) = push(&place, &depot.arguments(), updates(gateway, "2.0")).await;
    assert_eq!((code, &end["result"]), (0, &json!("done")), "{end}");
    assert_eq!(end["downloadRequest"], Value::Null);
    assert!(end["updateRequest"].is_string());
}

#[tokio::test]
async fn a_device_that_has_lost_the_image_is_asked_to_download_it_after_all() {
    let (_broker, place, _serve, mut gateway) = site().await;
    let depot = Depot::new();
    let gateway = &mut gateway;
    let (code, _) = push(&place, &depot.arguments(), async {
        downloads(gateway).await;
        fails_to_update(gateway).await;
    })
    .await;
    assert_eq!(code, 1);

    let (code, end) = push(&place, &depot.arguments(), async {
        refuses(gateway, "no image is downloaded", Request::FirmwareUpdate).await;
        downloads(gateway).await;
        updates(gateway, "2.0").await;
    })
    .await;
    assert_eq!((code, &end["result"]), (0, &json!("done")), "{end}");
}

#[tokio::test]
async fn another_bundle_is_downloaded_although_one_lies_there() {
    let (_broker, place, _serve, mut gateway) = site().await;
    let gateway = &mut gateway;
    let uri = |uri: &str| ["--uri".to_owned(), uri.to_owned()].to_vec();
    let (code, _) = push(&place, &uri(URI), async {
        downloads(gateway).await;
        fails_to_update(gateway).await;
    })
    .await;
    assert_eq!(code, 1);
    let other = "https://fw.example.com/3";
    let (code, _) = push(&place, &uri(other), async {
        assert_eq!(downloads(gateway).await["uri"], other);
        updates(gateway, "3.0").await;
    })
    .await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn a_download_that_came_to_its_end_unobserved_is_found_when_the_device_says_so() {
    let (_broker, place, _serve, mut gateway) = site().await;
    let gateway = &mut gateway;
    let uri = ["--uri".to_owned(), URI.to_owned()];
    let (code, end) = push(&place, &uri, async {
        assert!(matches!(gateway.answer(204, "").await, Request::Update(_)));
        refuses(gateway, "the image is downloaded already", Request::FirmwareDownload).await;
        updates(gateway, "2.0").await;
    })
    .await;
    assert_eq!((code, &end["result"]), (0, &json!("done")), "{end}");
}

#[tokio::test]
async fn a_device_that_says_it_runs_another_version_than_was_told_has_failed() {
    let (_broker, place, _serve, mut gateway) = site().await;
    let gateway = &mut gateway;
    let told = ["--uri", URI, "--version", "2.0"].map(str::to_owned);
    let (code, end) = push(&place, &told, async {
        downloads(gateway).await;
        updates(gateway, "2.1").await;
    })
    .await;
    assert_eq!(code, 1, "{end}");
    assert_eq!((&end["result"], &end["fwVersion"]), (&json!("failed"), &json!("2.1")));
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.contains("it runs 2.1, not 2.0"), "{reason}");
}
