//! The REST face over a real socket: shapes, status codes, authentication, the stream.

use std::sync::Once;

use iotdm::protocol::{Address, Device, ToService};
use iotdm::service::brain::{AckToken, Event, Incoming, PublishId, Service};
use iotdm::service::key::Key;
use iotdm::service::registry::Registry;
use iotdm::service::rest::router;
use iotdm::service::shell::{Shared, WATCH_BACKLOG};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::scene::{device, gw};
use crate::support::within;

pub struct Face {
    pub shell: Shared,
    key: Key,
    url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

pub fn http() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().unwrap();
    });
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap()
}

impl Face {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (registry, rows) = Registry::open(&folder.path().join("registry.sqlite")).unwrap();
        let shell = Shared::new(Service::restore([3; 32], rows), registry);
        let key = Key::load_or_make(&folder.path().join("key"), "acme").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v0002", listener.local_addr().unwrap());
        let router = router(shell.clone(), &key, "acme");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Face {
            shell,
            key,
            url,
            http: http(),
            _folder: folder,
        }
    }

    /// A device publishes this.
    pub fn say(&self, device: &Device, kind: ToService, payload: Value) {
        let message = Incoming {
            topic: kind.topic(&Address::Device(device.clone())),
            payload: payload.to_string().into_bytes(),
            retained: false,
            ack: AckToken(0),
        };
        self.shell.lock().steps([Event::Message(message)]).unwrap();
    }

    pub fn manage(&self, device: &Device) {
        let d = json!({"lifetime": 7200, "supports": {"deviceActions": true},
            "deviceInfo": {"fwVersion": "1.2"}, "metadata": {"site": "north"}});
        self.say(device, ToService::Manage, json!({"d": d, "reqId": "m"}));
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&str>) -> (StatusCode, Value) {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .basic_auth(&self.key.user, Some(&self.key.token));
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let response = within(path, request.send()).await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
        };
        (status, value)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(&body.to_string())).await
    }

    async fn reboot(&self, device: &Device) -> String {
        let (status, answer) = self.post("/mgmt/requests", &reboot_of(device)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        answer["reqId"].as_str().unwrap().to_owned()
    }
}

fn reboot_of(device: &Device) -> Value {
    json!({"action": "device/reboot",
        "devices": [{"typeId": device.type_id(), "deviceId": device.device_id()}]})
}

pub fn message(answer: &Value) -> &str {
    answer["message"]
        .as_str()
        .unwrap_or_else(|| panic!("no message: {answer}"))
}

#[tokio::test]
async fn without_the_key_there_is_no_answer_but_401() {
    let face = Face::start().await;
    let url = format!("{}/bulk/devices", face.url);
    let (user, token) = (face.key.user.as_str(), face.key.token.as_str());
    let attempts = [
        face.http.get(&url),
        face.http.get(&url).basic_auth(user, Some("wrong")),
        face.http.get(&url).basic_auth("wrong", Some(token)),
        face.http.get(&url).basic_auth(user, None::<&str>),
        face.http.get(&url).bearer_auth(token),
        face.http.get(&url).header("Authorization", "Basic %%%"),
        face.http.get(format!("{}/nothing", face.url)),
    ];
    for attempt in attempts {
        let response = attempt.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["WWW-Authenticate"], "Basic realm=\"iotdm\"");
        assert!(response.json::<Value>().await.unwrap()["message"].is_string());
    }
    assert_eq!(face.get("/bulk/devices").await.0, StatusCode::OK);
}

#[tokio::test]
async fn svc_01_a_request_is_answered_202_with_its_id_and_what_is_wrong_by_its_kind() {
    let face = Face::start().await;
    face.manage(&gw());
    let unmanaged = device("edge/plain");
    face.say(
        &unmanaged,
        ToService::Location,
        json!({"d": {"latitude": 1, "longitude": 2}}),
    );
    face.reboot(&gw()).await;
    let with = |name: &str, value: Value| {
        let mut body = reboot_of(&gw());
        body[name] = value;
        body.to_string()
    };
    let many: Vec<Value> = (0..5001)
        .map(|n| json!({"typeId": "edge", "deviceId": format!("gateway-with-a-long-name-{n:010}")}))
        .collect();
    let cases = [
        ("", "nonsense".to_owned(), 400, "not JSON"),
        ("", "[]".into(), 400, "body"),
        ("", "{}".into(), 400, "action"),
        ("", with("action", 7.into()), 400, "action"),
        ("", with("action", "device/dance".into()), 400, "device/dance"),
        ("", with("devices", Value::Null), 400, "devices"),
        ("", with("devices", json!([])), 400, "devices"),
        (
            "",
            with("devices", json!([{"typeId": "edge"}])),
            400,
            "devices[0].deviceId",
        ),
        (
            "",
            with("devices", json!([{"typeId": "a b", "deviceId": "c"}])),
            400,
            "devices[0]",
        ),
        ("", with("devices", json!(many)), 400, "5000"),
        ("", with("timeout", json!(-1)), 400, "timeout"),
        ("", with("timeout", json!(0)), 400, "timeout"),
        ("", with("parameters", json!({})), 400, "parameters"),
        ("?timeout=soon", with("action", "device/reboot".into()), 400, "timeout"),
        ("?timeout=60", with("timeout", json!(60)), 400, "timeout"),
        ("", reboot_of(&unmanaged).to_string(), 403, "edge/plain is not managed"),
        ("", reboot_of(&device("edge/unknown")).to_string(), 404, "edge/unknown"),
        ("", with("action", "firmware/update".into()), 403, "no firmware actions"),
        ("", with("action", "bundle/action".into()), 501, "not built yet"),
        ("?override=maybe", reboot_of(&gw()).to_string(), 400, "override"),
    ];
    for (query, body, status, named) in cases {
        let (got, answer) = face
            .call(Method::POST, &format!("/mgmt/requests{query}"), Some(&body))
            .await;
        let body: String = body.chars().take(200).collect();
        assert_eq!(got.as_u16(), status, "{query} {body}: {answer}");
        assert!(message(&answer).contains(named), "{named}: {answer}");
    }
    assert_eq!(face.get("/mgmt/requests").await.1["meta"]["total_rows"], 1);
}

#[tokio::test]
async fn svc_01_the_timeout_comes_from_the_body_or_the_query() {
    let face = Face::start().await;
    face.manage(&gw());
    let mut body = reboot_of(&gw());
    for (query, seconds) in [("?timeout=90", 90), ("", 3600)] {
        let (_, answer) = face.post(&format!("/mgmt/requests{query}"), &body).await;
        let id = answer["reqId"].as_str().unwrap();
        assert_eq!(face.get(&format!("/mgmt/requests/{id}")).await.1["timeout"], seconds);
    }
    body["timeout"] = 120.into();
    let (_, answer) = face.post("/mgmt/requests", &body).await;
    let id = answer["reqId"].as_str().unwrap();
    assert_eq!(face.get(&format!("/mgmt/requests/{id}")).await.1["timeout"], 120);
}

#[tokio::test]
async fn svc_02_device_status_rows_have_the_platforms_members_and_the_times_of_each_step() {
    let face = Face::start().await;
    face.manage(&gw());
    face.shell
        .lock()
        .steps([Event::Connected { session_present: true }])
        .unwrap();
    let id = face.reboot(&gw()).await;
    let path = format!("/mgmt/requests/{id}/deviceStatus/edge/gw-1");
    let (_, row) = face.get(&path).await;
    assert_eq!(
        (&row["typeId"], &row["deviceId"], &row["status"], &row["complete"]),
        (&json!("edge"), &json!("gw-1"), &json!(1), &json!(false))
    );
    assert!(row["requested"].is_string() && row["sent"].is_null() && row["accepted"].is_null());
    // The first publish of this run is the answer to the manage.
    face.shell.lock().steps([Event::Published(PublishId(2))]).unwrap();
    let (_, row) = face.get(&path).await;
    assert!(row["sent"].is_string(), "{row}");
    face.say(&gw(), ToService::Response, json!({"rc": 202, "reqId": row["reqId"]}));
    let (_, row) = face.get(&path).await;
    assert!(row["accepted"].is_string() && row["completed"].is_null(), "{row}");
    face.say(&gw(), ToService::Manage, json!({"reqId": "m2"}));
    let (_, row) = face.get(&path).await;
    assert_eq!(
        (&row["status"], &row["complete"], &row["rc"]),
        (&json!(0), &json!(true), &json!(202))
    );
    assert!(row["completed"].is_string());
    let (_, list) = face.get(&format!("/mgmt/requests/{id}/deviceStatus")).await;
    assert_eq!(list["results"], json!([row]));
    let (_, request) = face.get(&format!("/mgmt/requests/{id}")).await;
    assert_eq!(
        (&request["id"], &request["action"], &request["complete"]),
        (&json!(id), &json!("device/reboot"), &json!(true))
    );
    for missing in [
        "/mgmt/requests/none".to_owned(),
        "/mgmt/requests/none/deviceStatus".into(),
        "/mgmt/requests/none/deviceStatus/edge/gw-1".into(),
        format!("/mgmt/requests/{id}/deviceStatus/edge/other"),
        format!("/mgmt/requests/{id}/deviceStatus/a%20b/c"),
    ] {
        let (status, answer) = face.get(&missing).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{missing}");
        message(&answer);
    }
}

#[tokio::test]
async fn fws_03_svc_02_a_firmware_row_has_its_step_and_what_was_notified_in_words_and_a_busy_device_is_409() {
    let face = Face::start().await;
    let supports = json!({"supports": {"firmwareActions": true}});
    face.say(&gw(), ToService::Manage, json!({"d": supports, "reqId": "m"}));
    let mut body = reboot_of(&gw());
    body["action"] = "firmware/download".into();
    body["parameters"] = json!([{"name": "uri", "value": "https://fw.example.com/2"}]);
    let (status, answer) = face.post("/mgmt/requests", &body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let id = answer["reqId"].as_str().unwrap().to_owned();
    let (_, request) = face.get(&format!("/mgmt/requests/{id}")).await;
    assert_eq!(
        (&request["timeout"], &request["parameters"]),
        (&json!(86_400), &body["parameters"])
    );
    let path = format!("/mgmt/requests/{id}/deviceStatus/edge/gw-1");
    for (rc, step) in [(204, "update"), (200, "observe"), (202, "initiate")] {
        let (_, row) = face.get(&path).await;
        assert_eq!((&row["step"], &row["state"]), (&json!(step), &Value::Null));
        face.say(&gw(), ToService::Response, json!({"rc": rc, "reqId": row["reqId"]}));
    }
    let value = json!({"state": 1, "updateStatus": 0});
    let d = json!({"fields": [{"field": "mgmt.firmware", "value": value}]});
    face.say(&gw(), ToService::Notify, json!({"d": d}));
    let (_, row) = face.get(&path).await;
    assert_eq!(
        (&row["step"], &row["state"], &row["updateStatus"], &row["complete"]),
        (
            &json!("working"),
            &json!("downloading"),
            &json!("success"),
            &json!(false)
        )
    );
    let (_, mgmt) = face.get("/device/types/edge/devices/gw-1/mgmt").await;
    assert_eq!(
        (&mgmt["firmware"]["uri"], &mgmt["firmware"]["state"]),
        (&json!("https://fw.example.com/2"), &json!(1))
    );
    let (status, answer) = face.post("/mgmt/requests", &body).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(message(&answer).contains(&id), "{answer}");
    let (status, _) = face.post("/mgmt/requests?override=true", &body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (_, row) = face.get(&path).await;
    assert_eq!((&row["status"], &row["complete"]), (&json!(2), &json!(true)));
}

#[tokio::test]
async fn svc_04_cancel_delete_and_lists_with_bookmarks() {
    let face = Face::start().await;
    let devices: Vec<Device> = (0..5).map(|n| device(&format!("edge/gw-{n}"))).collect();
    for device in &devices {
        face.manage(device);
    }
    let mut ids = Vec::new();
    for device in &devices {
        ids.push(face.reboot(device).await);
    }
    let (status, request) = face
        .post(&format!("/mgmt/requests/{}/cancel", ids[1]), &json!({}))
        .await;
    assert_eq!((status, &request["complete"]), (StatusCode::OK, &json!(true)));
    let (status, _) = face
        .call(Method::DELETE, &format!("/mgmt/requests/{}", ids[2]), None)
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = face
        .call(Method::DELETE, &format!("/mgmt/requests/{}", ids[2]), None)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let mut listed = Vec::new();
    let mut path = "/mgmt/requests?_limit=3".to_owned();
    loop {
        let (_, page) = face.get(&path).await;
        assert_eq!(page["meta"]["total_rows"], 4);
        let results = page["results"].as_array().unwrap();
        listed.extend(results.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        match page["bookmark"].as_str() {
            Some(bookmark) => path = format!("/mgmt/requests?_limit=3&_bookmark={bookmark}"),
            None => break,
        }
    }
    ids.remove(2);
    assert_eq!(listed, ids);

    let (_, page) = face.get("/bulk/devices?_limit=5").await;
    assert!(page["bookmark"].is_null(), "a full last page has no next one");
    let (_, page) = face.get("/bulk/devices?_limit=2&_bookmark=edge/gw-1").await;
    let names: Vec<&Value> = page["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["deviceId"])
        .collect();
    assert_eq!(names, ["gw-2", "gw-3"]);
    for bad in ["?_limit=0", "?_limit=x", "?_limit=1001", "?_bookmark=x"] {
        let (status, answer) = face.get(&format!("/bulk/devices{bad}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(message(&answer).starts_with('_'));
    }
}

#[tokio::test]
async fn a_device_is_shown_with_what_it_said_of_itself_and_mgmt_only_while_managed() {
    let face = Face::start().await;
    face.manage(&gw());
    let device = "/device/types/edge/devices/gw-1";
    let (_, shown) = face.get(device).await;
    assert_eq!(
        (&shown["clientId"], &shown["deviceInfo"], &shown["metadata"]),
        (
            &json!("g:acme:edge:gw-1"),
            &json!({"fwVersion": "1.2"}),
            &json!({"site": "north"})
        )
    );
    assert_eq!(shown["refs"]["mgmt"], format!("/api/v0002{device}/mgmt"));
    let (_, mgmt) = face.get(&format!("{device}/mgmt")).await;
    assert_eq!(
        (&mgmt["dormant"], &mgmt["supports"]),
        (&json!(false), &json!({"deviceActions": true, "firmwareActions": false}))
    );
    assert!(mgmt["dormantDateTime"].is_string() && mgmt["lastActivityDateTime"].is_string());
    assert_eq!(shown["mgmt"], mgmt);
    assert_eq!(face.get(&format!("{device}/location")).await.0, StatusCode::NOT_FOUND);
    face.say(
        &gw(),
        ToService::Location,
        json!({"d": {"latitude": 0.5, "longitude": 7}}),
    );
    let (_, location) = face.get(&format!("{device}/location")).await;
    assert_eq!(
        (&location["latitude"], &location["longitude"]),
        (&json!(0.5), &json!(7.0))
    );
    face.say(&gw(), ToService::Unmanage, json!({"reqId": "u"}));
    let (status, answer) = face.get(&format!("{device}/mgmt")).await;
    assert_eq!(
        (status, message(&answer)),
        (StatusCode::NOT_FOUND, "edge/gw-1 is not managed")
    );
    assert!(face.get(device).await.1["mgmt"].is_null());
    for missing in ["/device/types/edge/devices/other", "/device/types/a%2Fb/devices/c"] {
        for tail in ["", "/mgmt", "/location", "/diag/logs", "/diag/errorCodes"] {
            let (status, answer) = face.get(&format!("{missing}{tail}")).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{missing}{tail}");
            message(&answer);
        }
    }
}

#[tokio::test]
async fn a_device_is_forgotten_unless_something_is_asked_of_it() {
    let face = Face::start().await;
    let path = "/device/types/edge/devices/gw-1";
    let (status, answer) = face.call(Method::DELETE, path, None).await;
    assert_eq!(status, 404, "{answer}");
    face.manage(&gw());
    let id = face.reboot(&gw()).await;
    let (status, answer) = face.call(Method::DELETE, path, None).await;
    assert_eq!(status, 409);
    assert!(message(&answer).contains(&id), "{answer}");
    face.post(&format!("/mgmt/requests/{id}/cancel"), &json!({})).await;
    assert_eq!(face.call(Method::DELETE, path, None).await.0, 204);
    assert_eq!(face.get(path).await.0, 404);
    assert_eq!(face.get("/bulk/devices").await.1["results"], json!([]));
    let (status, rows) = face.get(&format!("/mgmt/requests/{id}/deviceStatus")).await;
    assert_eq!(
        (status, rows["results"].as_array().map(Vec::len)),
        (StatusCode::OK, Some(1))
    );
    face.manage(&gw());
    assert_eq!(face.get(path).await.0, 200);
}

#[tokio::test]
async fn what_does_not_exist_is_answered_in_json() {
    let face = Face::start().await;
    assert_eq!(face.get("/nothing").await.0, StatusCode::NOT_FOUND);
    let (status, answer) = face.call(Method::PUT, "/mgmt/requests", None).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    message(&answer);
    let large = "x".repeat(2 * 1024 * 1024);
    let request = face
        .http
        .post(format!("{}/mgmt/requests", face.url))
        .basic_auth(&face.key.user, Some(&face.key.token))
        .body(large);
    // The server may answer before it has read everything, and then close.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        message(&response.json().await.unwrap());
    }
    assert_eq!(face.get("/bulk/devices").await.0, StatusCode::OK, "and it still serves");
}

async fn lines(response: &mut reqwest::Response, buffer: &mut String) -> Option<Vec<Value>> {
    let chunk = within("a line of the stream", response.chunk()).await.unwrap()?;
    buffer.push_str(std::str::from_utf8(&chunk).unwrap());
    let end = buffer.rfind('\n').map_or(0, |at| at + 1);
    let whole: String = buffer.drain(..end).collect();
    Some(whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn the_stream_has_a_line_for_everything_that_is_said() {
    let face = Face::start().await;
    let request = face.http.get(format!("{}/x/watch", face.url));
    let request = request.basic_auth(&face.key.user, Some(&face.key.token));
    let mut stream = within("the stream", request.send()).await.unwrap();
    face.manage(&gw());
    let mut buffer = String::new();
    let got = lines(&mut stream, &mut buffer).await.unwrap();
    let line = &got[0];
    assert_eq!(
        (
            &line["typeId"],
            &line["deviceId"],
            &line["operation"],
            &line["reqId"],
            &line["rc"]
        ),
        (
            &json!("edge"),
            &json!("gw-1"),
            &json!("manage"),
            &json!("m"),
            &json!(200)
        )
    );
    assert_eq!(line["text"], "is managed (for 2 h, firmware 1.2, takes device actions)");
}

#[tokio::test]
async fn a_client_of_the_stream_that_is_too_slow_is_told_so_and_dropped() {
    let face = Face::start().await;
    let request = face.http.get(format!("{}/x/watch", face.url));
    let request = request.basic_auth(&face.key.user, Some(&face.key.token));
    let mut stream = within("the stream", request.send()).await.unwrap();
    // No await: the server's task cannot send anything in between.
    for _ in 0..WATCH_BACKLOG + 10 {
        face.manage(&gw());
    }
    let mut buffer = String::new();
    let mut last = Value::Null;
    while let Some(mut got) = lines(&mut stream, &mut buffer).await {
        last = got.pop().unwrap_or(last);
    }
    assert_eq!(last["operation"], "dropped", "{last}");
    assert_eq!(face.shell.lock().watcher_count(), 0);
}
