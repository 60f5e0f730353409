//! Writing and observing over the REST face: shapes and status codes.

use iotdm::protocol::ToService;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::rest::{Face, message};
use crate::scene::gw;

const DEVICE: &str = "/device/types/edge/devices/gw-1";

impl Face {
    async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::PUT, path, Some(&body.to_string())).await
    }

    /// How the device stands with a request.
    async fn row(&self, id: &Value) -> Value {
        let path = format!("/mgmt/requests/{}/deviceStatus/edge/gw-1", id.as_str().unwrap());
        self.get(&path).await.1
    }

    /// The device answers this request.
    async fn answer(&self, id: &Value, rc: u16) {
        let row = self.row(id).await;
        self.say(&gw(), ToService::Response, json!({"rc": rc, "reqId": row["reqId"]}));
    }
}

#[tokio::test]
async fn a_put_of_a_managed_device_answers_what_it_will_be_and_the_request_that_asks_it() {
    let face = Face::start().await;
    face.manage(&gw());
    let body = json!({"deviceInfo": {"fwVersion": "1.2", "description": "at the gate"}, "metadata": null});
    let (status, shown) = face.put(DEVICE, &body).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!((&shown["typeId"], &shown["deviceId"]), (&json!("edge"), &json!("gw-1")));
    assert_eq!(shown["deviceInfo"]["description"], "at the gate");
    assert_eq!(shown["metadata"], json!({"site": "north"}), "null leaves it as it is");
    let (_, now) = face.get(DEVICE).await;
    assert!(
        now["deviceInfo"].get("description").is_none(),
        "the device has not taken it yet"
    );
    assert!(now.get("reqId").is_none());
    let (_, request) = face
        .get(&format!("/mgmt/requests/{}", shown["reqId"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&request["action"], &request["timeout"]),
        (&json!("device/update"), &json!(60))
    );
    let (status, busy) = face.put(DEVICE, &json!({"metadata": {}})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(message(&busy).contains("an earlier update"), "{busy}");
    face.answer(&shown["reqId"], 204).await;
    let row = face.row(&shown["reqId"]).await;
    assert_eq!(
        (&row["status"], &row["complete"], &row["rc"]),
        (&json!(0), &json!(true), &json!(204))
    );
    let (_, now) = face.get(DEVICE).await;
    assert_eq!(
        now["deviceInfo"],
        json!({"fwVersion": "1.2", "description": "at the gate"})
    );
    // What was read can be written back.
    let (status, again) = face.put(DEVICE, &now).await;
    assert_eq!(status, StatusCode::OK, "{again}");
}

#[tokio::test]
async fn a_put_of_members_by_dotted_names_asks_the_device_for_them_alone() {
    let face = Face::start().await;
    face.manage(&gw());
    let body = json!({"metadata.rack": 7, "metadata.site": null, "deviceInfo.description": "at the gate"});
    let (status, shown) = face.put(DEVICE, &body).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["metadata"], json!({"rack": 7}), "null takes it away");
    let (_, request) = face
        .get(&format!("/mgmt/requests/{}", shown["reqId"].as_str().unwrap()))
        .await;
    let names: Vec<&Value> = request["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["metadata.rack", "metadata.site", "deviceInfo.description"]);
    face.answer(&shown["reqId"], 204).await;
    let (_, now) = face.get(DEVICE).await;
    assert_eq!(
        (&now["metadata"], &now["deviceInfo"]),
        (
            &json!({"rack": 7}),
            &json!({"fwVersion": "1.2", "description": "at the gate"})
        )
    );
}

#[tokio::test]
async fn a_put_of_a_location_answers_it_with_its_times_and_says_who_wrote_it() {
    let face = Face::start().await;
    face.manage(&gw());
    let path = format!("{DEVICE}/location");
    assert_eq!(face.get(&path).await.0, StatusCode::NOT_FOUND);
    let body = json!({"latitude": 52.52, "longitude": 13.405, "elevation": 34});
    let (status, shown) = face.put(&format!("{path}?timeout=600"), &body).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!((&shown["latitude"], &shown["elevation"]), (&json!(52.52), &json!(34.0)));
    assert!(shown["measuredDateTime"].is_string() && shown["updatedDateTime"].is_string());
    let (_, request) = face
        .get(&format!("/mgmt/requests/{}", shown["reqId"].as_str().unwrap()))
        .await;
    assert_eq!(request["timeout"], 600);
    assert_eq!(
        face.get(&path).await.0,
        StatusCode::NOT_FOUND,
        "not before the device takes it"
    );
    face.answer(&shown["reqId"], 204).await;
    let (status, stored) = face.get(&path).await;
    assert_eq!((status, &stored["writtenBy"]), (StatusCode::OK, &json!("operator")));
    let (status, shown) = face.put(&path, &stored).await;
    assert_eq!(status, StatusCode::OK, "what was read can be written back: {shown}");
    face.answer(&shown["reqId"], 501).await;
    let d = json!({"latitude": 1, "longitude": 2});
    face.say(&gw(), ToService::Location, json!({"d": d, "reqId": "l"}));
    let (_, stored) = face.get(&path).await;
    assert!(stored.get("writtenBy").is_none(), "{stored}");
}

#[tokio::test]
async fn a_put_of_a_device_that_is_not_managed_is_stored_and_has_no_request() {
    let face = Face::start().await;
    let d = json!({"latitude": 1, "longitude": 2});
    face.say(&gw(), ToService::Location, json!({"d": d, "reqId": "l"}));
    let (status, shown) = face.put(DEVICE, &json!({"metadata": {"site": "east"}})).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert!(shown.get("reqId").is_none());
    assert_eq!(face.get(DEVICE).await.1["metadata"], json!({"site": "east"}));
}

#[tokio::test]
async fn a_put_that_makes_no_sense_says_what_is_wrong() {
    let face = Face::start().await;
    face.manage(&gw());
    let location = format!("{DEVICE}/location");
    let large = format!("{{\"metadata\": {{\"a\": \"{}\"}}}}", "x".repeat(131_072));
    for (path, body, status, said) in [
        (DEVICE, "", 400, "not valid JSON"),
        (DEVICE, "[]", 400, "a message is a JSON object"),
        (DEVICE, "{}", 400, "nothing to write"),
        (
            DEVICE,
            "{\"metadata\": {\"a\": 1, \"a\": 2}}",
            400,
            "metadata.a: is given twice",
        ),
        (DEVICE, &large, 400, "at most 131072"),
        (DEVICE, "{\"metadata\": 5}", 400, "metadata: must be an object"),
        (DEVICE, "{\"metdata\": {}}", 400, "metdata: cannot be written here"),
        (
            DEVICE,
            "{\"location.latitude\": 1}",
            400,
            "location.latitude: cannot be written here",
        ),
        (DEVICE, "{\"metadata.a.b\": 1}", 400, "metadata.a.b: is too deep"),
        (
            DEVICE,
            "{\"status\": {\"alert\": true}}",
            400,
            "status: cannot be written here",
        ),
        (
            DEVICE,
            "{\"deviceInfo\": {\"colour\": \"red\"}}",
            400,
            "deviceInfo.colour: is unknown",
        ),
        (&location, "{\"latitude\": 1}", 400, "location.longitude: is missing"),
        (&location, "null", 400, "is null"),
        (
            "/device/types/edge/devices/other",
            "{\"metadata\": {}}",
            404,
            "never been heard of",
        ),
        (
            "/device/types/edge/devices/a+b",
            "{\"metadata\": {}}",
            404,
            "no such device",
        ),
        (
            &format!("{DEVICE}?timeout=soon"),
            "{\"metadata\": {}}",
            400,
            "must be seconds",
        ),
        (
            &format!("{DEVICE}?timeout=0"),
            "{\"metadata\": {}}",
            400,
            "must be 1 to",
        ),
    ] {
        let (got, answer) = face.call(Method::PUT, path, Some(body)).await;
        assert_eq!(got.as_u16(), status, "{path} {answer}");
        assert!(message(&answer).contains(said), "{answer}");
    }
    let (status, answer) = face
        .post("/mgmt/requests", &json!({"action": "device/update", "devices": []}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&answer).contains("PUT"), "{answer}");
}

#[tokio::test]
async fn an_observation_is_a_request_and_mgmt_says_what_is_observed() {
    let face = Face::start().await;
    face.manage(&gw());
    let body = json!({"action": "device/observe", "devices": [{"typeId": "edge", "deviceId": "gw-1"}],
        "parameters": [{"name": "field", "value": "location"}]});
    let (status, answer) = face.post("/mgmt/requests", &body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let id = &answer["reqId"];
    assert_eq!(face.row(id).await["step"], "observe");
    face.answer(id, 200).await;
    let row = face.row(id).await;
    assert_eq!((&row["step"], &row["complete"]), (&json!("working"), &json!(false)));
    let mgmt = format!("{DEVICE}/mgmt");
    assert_eq!(face.get(&mgmt).await.1["observed"], json!(["location"]));
    let path = format!("/mgmt/requests/{}/cancel", id.as_str().unwrap());
    assert_eq!(face.post(&path, &json!({})).await.0, StatusCode::OK);
    let row = face.row(id).await;
    assert_eq!(
        (&row["status"], &row["message"]),
        (&json!(0), &json!("ended by the operator"))
    );
    assert!(face.get(&mgmt).await.1.get("observed").is_none());
}
