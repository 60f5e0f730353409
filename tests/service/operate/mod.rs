//! `iotdm show`, `set`, `observe`, `logs` and `errors` with a real service, a real mosquitto and a scripted device.

mod logs;
mod observe;

use iotdm::protocol::model::FieldValue;
use iotdm::protocol::{Rc, Request, ToService};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::place::{Gateway, Place, Serve, ended};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;

/// A broker, a service, and a device with everything that can be known of one.
struct Live {
    _broker: Mosquitto,
    place: Place,
    serve: Serve,
    gateway: Gateway,
}

fn update(fields: &[(&str, Value)]) -> Request {
    let field = |(field, value): &(&str, Value)| FieldValue {
        field: (*field).to_owned(),
        value: value.clone(),
    };
    Request::Update(fields.iter().map(field).collect())
}

impl Live {
    async fn new() -> Self {
        let broker = Mosquitto::start(&Setup::default()).await;
        let place = Place::new(broker.port);
        let serve = place.serve().await;
        let mut gateway = Gateway::connect(broker.port).await;
        let d = json!({
            "lifetime": 86400, "supports": {"deviceActions": true, "firmwareActions": true},
            "deviceInfo": {"fwVersion": "1.2", "serialNumber": "S-1", "rack": "7"},
            "metadata": {"site": "south", "ports": [1, 2],
                "note": "a text that is so long that it does not fit into one line of eighty characters, with\nnewlines"},
        });
        let manage = json!({"d": d, "reqId": "m1"}).to_string().into_bytes();
        gateway.publish(ToService::Manage, manage);
        assert_eq!(gateway.answer_to("m1", None).await.rc, Rc::OK);
        Live {
            _broker: broker,
            place,
            serve,
            gateway,
        }
    }

    async fn report(&mut self, kind: ToService, d: Value, req_id: &str) {
        let payload = json!({"d": d, "reqId": req_id}).to_string().into_bytes();
        self.gateway.publish(kind, payload);
        assert_eq!(self.gateway.answer_to(req_id, None).await.rc, Rc::OK);
    }

    async fn notify(&mut self, field: &str, value: Value, req_id: &str) {
        let d = json!({"fields": [{"field": field, "value": value}]});
        self.report(ToService::Notify, d, req_id).await;
    }

    fn set(&self, arguments: &[&str]) -> Child {
        let arguments = [&["set", "edge/gw-1"], arguments].concat();
        self.place.command(&arguments).spawn().unwrap()
    }

    /// The device is asked to take this over, and answers; what the command said and how it ended.
    async fn answered(&mut self, arguments: &[&str], asked: &Request, rc: u16, message: &str) -> (i32, String, String) {
        let command = self.set(arguments);
        assert_eq!(self.gateway.answer(rc, message).await, *asked);
        end(command).await
    }

    async fn shown(&self) -> Value {
        let (_, out, _) = self.place.run(&["show", "edge/gw-1", "--json"]).await;
        serde_json::from_str(&out).unwrap()
    }
}

async fn end(command: Child) -> (i32, String, String) {
    ended(within("the command", command.wait_with_output()).await.unwrap())
}

fn rest() -> Vec<(&'static str, Value)> {
    let note = "a text that is so long that it does not fit into one line of eighty characters, with\nnewlines";
    vec![
        ("site", json!("south")),
        ("ports", json!([1, 2])),
        ("note", json!(note)),
    ]
}

/// The device's metadata with these members changed.
fn metadata(changes: &[(&str, Value)]) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in rest().into_iter().chain(changes.iter().cloned()) {
        object.insert(name.to_owned(), value);
    }
    object.into()
}

#[tokio::test]
async fn show_tells_everything_that_is_known_of_a_device_on_80_columns() {
    let mut live = Live::new().await;
    let place = json!({"latitude": 52.52, "longitude": -13.405, "elevation": 0, "accuracy": 4.5,
        "measuredDateTime": "2024-05-01T10:00:00Z"});
    live.report(ToService::Location, place, "l").await;
    live.report(ToService::AddErrorCode, json!({"errorCode": 7}), "e1")
        .await;
    live.report(ToService::AddErrorCode, json!({"errorCode": 42}), "e2")
        .await;
    let (code, out, errors) = live.place.run(&["show", "edge/gw-1"]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "edge/gw-1 last heard 20",
        "s ago managed since 20",
        "; dormant at 20",
        "in 23 h, unless it sends a manage before takes reboot, factory reset, firmware download and update",
        "error codes 2, the newest 42 of 20",
        "location place latitude 52.52, longitude -13.405, elevation 0 m, within 4.5 m measured 2024-05-01T10:00:00Z, ",
        "days ago told 20",
        "device info serialNumber S-1 fwVersion 1.2 rack 7 metadata site south ports [1,2] note a text that",
        "characters, with newlines",
    ] {
        assert!(words.contains(said), "{said:?} is not in:\n{out}");
    }
    assert!(!out.contains("firmware to be installed"), "{out}");
    let shown = live.shown().await;
    assert_eq!(
        (
            &shown["location"]["latitude"],
            &shown["errorCodes"][0]["errorCode"],
            &shown["metadata"]["site"]
        ),
        (&json!(52.52), &json!(42), &json!("south"))
    );
    assert_eq!(shown["mgmt"]["supports"]["firmwareActions"], true);
}

#[tokio::test]
async fn show_says_what_is_not_known_and_not_so() {
    let mut live = Live::new().await;
    live.gateway
        .publish(ToService::Unmanage, b"{\"reqId\": \"u\"}".to_vec());
    live.gateway.answer_to("u", None).await;
    let (code, out, _) = live.place.run(&["show", "edge/gw-1"]).await;
    assert_eq!(code, 0);
    for said in [
        "no: nothing is asked of it before its next manage",
        "it has not said where it is",
        "error codes  none",
    ] {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
    assert_eq!(live.shown().await["mgmt"], Value::Null);
    let (code, _, errors) = live.place.run(&["show", "edge/unknown"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("edge/unknown is not registered"), "{errors}");
}

#[tokio::test]
async fn what_is_set_is_asked_of_the_device_and_is_so_when_it_has_taken_it_over() {
    let mut live = Live::new().await;
    let info = json!({"serialNumber": "S-1", "fwVersion": "1.2", "description": "at the gate", "rack": "7"});
    let arguments = [
        "metadata.site=north",
        "metadata.slot.n=5",
        "description=at the gate",
        "--location",
        "-33.8,151.2,0",
    ];
    let command = live.set(&arguments);
    let asked = update(&[
        ("metadata.site", json!("north")),
        ("metadata.slot", json!({"n": 5})),
        ("deviceInfo.description", json!("at the gate")),
    ]);
    assert_eq!(live.gateway.answer(204, "").await, asked);
    let Request::Update(fields) = live.gateway.answer(204, "").await else {
        panic!("an update was expected")
    };
    assert_eq!(fields[0].field, "location");
    assert_eq!(
        (&fields[0].value["latitude"], &fields[0].value["elevation"]),
        (&json!(-33.8), &json!(0.0))
    );
    let (code, out, errors) = end(command).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "metadata.site, metadata.slot, deviceInfo.description: edge/gw-1 has taken it over"
    );
    assert_eq!(lines[1], "location: edge/gw-1 has taken it over");
    let shown = live.shown().await;
    let wanted = metadata(&[("site", json!("north")), ("slot", json!({"n": 5}))]);
    assert_eq!((&shown["metadata"], &shown["deviceInfo"]), (&wanted, &info));
    let (_, out, _) = live.place.run(&["show", "edge/gw-1"]).await;
    assert!(out.contains("written by an operator  20"), "{out}");
}

#[tokio::test]
async fn set_sends_only_what_is_named_so_that_a_newer_configuration_of_the_device_stays() {
    let mut live = Live::new().await;
    // The device's configuration has a newer note meanwhile, of which the service has not heard yet.
    let command = live.set(&["metadata.site=north", "description=at the gate"]);
    let asked = update(&[
        ("metadata.site", json!("north")),
        ("deviceInfo.description", json!("at the gate")),
    ]);
    assert_eq!(live.gateway.answer(204, "").await, asked);
    let (code, out, errors) = end(command).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert_eq!(
        out,
        "metadata.site, deviceInfo.description: edge/gw-1 has taken it over\n"
    );
    // What is known already is sent all the same: the device may have it otherwise.
    let command = live.set(&["metadata.site=north", "metadata.note="]);
    let asked = update(&[("metadata.site", json!("north")), ("metadata.note", Value::Null)]);
    assert_eq!(live.gateway.answer(204, "").await, asked);
    assert_eq!(end(command).await.0, 0);
    let shown = live.shown().await;
    assert_eq!(shown["metadata"], json!({"site": "north", "ports": [1, 2]}));
}

#[tokio::test]
async fn a_device_that_takes_no_member_alone_is_sent_the_whole_as_the_service_has_it_by_then() {
    let mut live = Live::new().await;
    let command = live.set(&["metadata.site=north"]);
    let (asked, req_id) = live.gateway.request().await;
    assert_eq!(asked, update(&[("metadata.site", json!("north"))]));
    let d = json!({"lifetime": 86400, "metadata": {"site": "south", "new": 1}});
    live.report(ToService::Manage, d, "m2").await;
    live.gateway.respond(&req_id, 404, "").await;
    let whole = json!({"site": "north", "new": 1});
    assert_eq!(
        live.gateway.answer(204, "").await,
        update(&[("metadata", whole.clone())])
    );
    let (code, out, errors) = end(command).await;
    assert_eq!((code, out.as_str()), (0, "metadata: edge/gw-1 has taken it over\n"));
    assert!(errors.contains("takes no member alone"), "{errors}");
    assert_eq!(live.shown().await["metadata"], whole);
}

#[tokio::test]
async fn a_device_that_refuses_says_why_and_nothing_changes() {
    let mut live = Live::new().await;
    let asked = update(&[("metadata.site", json!("north"))]);
    for (rc, message, said) in [
        (
            400,
            "d.fields[0].value: too deep",
            "the device refused: 400: d.fields[0].value: too deep",
        ),
        (409, "an update runs", "the device refused: 409: an update runs"),
        (
            501,
            "metadata is not built",
            "the device refused: 501, it cannot change this: metadata is not built",
        ),
    ] {
        let arguments = ["metadata.site=north", "--location", "1,2"];
        let (code, out, errors) = live.answered(&arguments, &asked, rc, message).await;
        assert_eq!(code, 1);
        assert_eq!(out.trim_end(), format!("metadata.site: {said}"));
        assert!(errors.contains("location was not written either"), "{errors}");
    }
    let command = live.set(&["metadata.site=north"]);
    assert_eq!(live.gateway.answer(404, "").await, asked);
    let whole = update(&[("metadata", metadata(&[("site", json!("north"))]))]);
    assert_eq!(live.gateway.answer(404, "").await, whole);
    assert_eq!(
        end(command).await.1,
        "metadata: the device refused: 404: the device answered 404 to device/update\n"
    );
    let arguments = ["metadata.site=north", "--json"];
    let (code, out, _) = live.answered(&arguments, &asked, 500, "the disk is full").await;
    assert_eq!(code, 1);
    let row: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&row["status"], &row["rc"], &row["message"]),
        (&json!(2), &json!(500), &json!("the disk is full"))
    );
    assert!(row["id"].is_string());
    assert_eq!(live.shown().await["metadata"], metadata(&[]));
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_asked_about_and_one_that_is_not_managed_is_not_asked() {
    let mut live = Live::new().await;
    let (code, out, _) = end(live.set(&["model=x", "--timeout", "1s"])).await;
    assert_eq!(code, 1);
    assert!(
        out.starts_with(
            "deviceInfo.model: timed out: the device did not answer in time; if it comes back it may still"
        ),
        "{out}"
    );
    assert!(
        out.contains("Is edge/gw-1 connected (last heard ") && out.trim_end().ends_with("before)?"),
        "{out}"
    );
    // It is believed when it answers later.
    live.gateway.answer(204, "").await;
    live.serve.logged("has taken over after all").await;
    assert_eq!(live.shown().await["deviceInfo"]["model"], "x");

    live.gateway
        .publish(ToService::Unmanage, b"{\"reqId\": \"u\"}".to_vec());
    live.gateway.answer_to("u", None).await;
    let (code, out, _) = end(live.set(&["metadata.site="])).await;
    assert_eq!(code, 0);
    assert!(
        out.starts_with("metadata.site: stored here only. edge/gw-1 is not managed"),
        "{out}"
    );
    let shown = live.shown().await;
    assert!(shown["metadata"].get("site").is_none(), "{shown}");
    assert_eq!(shown["metadata"]["ports"], json!([1, 2]));
}

#[tokio::test]
async fn svc_03_serve_is_killed_while_an_update_is_on_its_way_and_it_comes_to_its_end() {
    let mut live = Live::new().await;
    let command = live.set(&["metadata={}"]);
    let (asked, req_id) = live.gateway.request().await;
    assert_eq!(asked, update(&[("metadata", json!({}))]));
    live.serve = live.place.killed(live.serve).await;
    live.gateway.respond(&req_id, 204, "").await;
    let (code, out, errors) = end(command).await;
    assert_eq!(code, 0, "{out}{errors}");
    assert_eq!(out, "metadata: edge/gw-1 has taken it over\n");
    assert_eq!(live.shown().await["metadata"], json!({}));
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_refused_and_nothing_is_written() {
    let live = Live::new().await;
    for usage in [
        &["show"][..],
        &["show", "gw-1"],
        &["set", "edge/gw-1"],
        &["set", "edge/gw-1", "metadata.site"],
        &["set", "edge/gw-1", "site=north"],
        &["set", "edge/gw-1", "location.latitude=1"],
        &["set", "edge/gw-1", "--location", "91,0"],
        &["set", "edge/gw-1", "--location", "north"],
        &["set", "edge/gw-1", "model=x", "--timeout", "0s"],
        &["set", "model=x"],
        &["observe", "edge/gw-1"],
        &["observe", "location"],
        &["logs"],
        &["logs", "edge/gw-1", "--severity", "3"],
        &["logs", "edge/gw-1", "-n", "0"],
        &["errors", "gw-1"],
    ] {
        let (code, out, errors) = live.place.run(usage).await;
        assert_eq!((code, out.as_str()), (2, ""), "{usage:?}: {errors}");
    }
    let (_, _, errors) = live.place.run(&["set", "edge/gw-1", "site=north"]).await;
    assert!(
        errors.contains("write metadata.NAME, or one of serialNumber, "),
        "{errors}"
    );
    for (arguments, said) in [
        (&["set", "edge/other", "model=x"][..], "edge/other is not registered"),
        (
            &["set", "edge/gw-1", "metadata.site.street=x"],
            "metadata.site is \"south\" and has no members; nothing was written",
        ),
        (
            &["observe", "edge/gw-1", "colour"],
            "is no attribute that can be observed; there are location, ",
        ),
        (&["observe", "edge/other", "location"], "edge/other is not registered"),
        (&["logs", "edge/other"], "edge/other is not registered"),
        (&["logs", "edge/other", "--follow"], "edge/other is not registered"),
        (&["errors", "edge/other"], "edge/other is not registered"),
    ] {
        let (code, out, errors) = live.place.run(arguments).await;
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}");
        assert!(errors.contains(said), "{errors}");
    }
    assert_eq!(live.shown().await["metadata"], metadata(&[]));
}
