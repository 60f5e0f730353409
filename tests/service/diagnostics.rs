//! Logs and error codes over the REST face: read, added, deleted, refused; delivered twice.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::protocol::ToService;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::rest::{Face, message};
use crate::scene::{device, gw};

const LOGS: &str = "/device/types/edge/devices/gw-1/diag/logs";
const CODES: &str = "/device/types/edge/devices/gw-1/diag/errorCodes";

impl Face {
    async fn logs(&self) -> Vec<Value> {
        self.get(LOGS).await.1.as_array().unwrap().clone()
    }

    fn log(&self, message: &str, data: Option<&Value>, req_id: &str) {
        let mut d = json!({"message": message, "severity": 2, "timestamp": "2024-05-01T10:00:00Z"});
        if let Some(data) = data {
            d["data"] = STANDARD.encode(data.to_string()).into();
        }
        self.say(&gw(), ToService::AddLog, json!({"d": d, "reqId": req_id}));
    }
}

#[tokio::test]
async fn dia_05_logs_and_error_codes_are_read_newest_first_and_gone_when_cleared() {
    let face = Face::start().await;
    for (n, text) in ["first", "second"].into_iter().enumerate() {
        let d = json!({"message": text, "severity": n, "timestamp": "2024-05-01T10:00:00Z", "data": "aGk="});
        face.say(&gw(), ToService::AddLog, json!({"d": d, "reqId": text}));
        face.say(
            &gw(),
            ToService::AddErrorCode,
            json!({"d": {"errorCode": n}, "reqId": text}),
        );
    }
    let (_, logs) = face.get(LOGS).await;
    assert_eq!(
        (&logs[0]["message"], &logs[1]["message"]),
        (&json!("second"), &json!("first"))
    );
    let mut first = logs[1].clone();
    assert!(first.as_object_mut().unwrap().remove("id").unwrap().is_string());
    assert_eq!(
        first,
        json!({"typeId": "edge", "deviceId": "gw-1", "message": "first", "severity": 0, "data": "aGk=",
            "timestamp": "2024-05-01T10:00:00Z"})
    );
    let (_, codes) = face.get(CODES).await;
    assert_eq!((&codes[0]["errorCode"], &codes[1]["errorCode"]), (&json!(1), &json!(0)));
    assert!(codes[0]["timestamp"].is_string());
    face.say(&gw(), ToService::ClearLogs, json!({"reqId": "c"}));
    face.say(&gw(), ToService::ClearErrorCodes, json!({"reqId": "c"}));
    for path in [LOGS, CODES] {
        assert_eq!(face.get(path).await.1, json!([]));
    }
}

#[tokio::test]
async fn dia_05_an_operator_adds_and_deletes_logs_one_by_one_or_all() {
    let face = Face::start().await;
    face.log("of the device", None, "1");
    let body = json!({"message": "of the operator", "severity": 1, "timestamp": "2024-05-01T10:00:00.125+02:00",
        "data": "aGk=", "id": "7", "typeId": "edge", "deviceId": "gw-1"});
    assert_eq!(face.post(LOGS, &body).await, (StatusCode::CREATED, Value::Null));
    assert_eq!(face.post(LOGS, &json!({"message": "now"})).await.0, StatusCode::CREATED);
    let logs = face.logs().await;
    let texts: Vec<&str> = logs.iter().map(|log| log["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["now", "of the operator", "of the device"], "newest first");
    assert_eq!(
        (&logs[0]["severity"], &logs[0]["timestamp"].is_string()),
        (&json!(0), &true)
    );
    assert_eq!(
        (&logs[1]["severity"], &logs[1]["timestamp"], &logs[1]["data"]),
        (&json!(1), &json!("2024-05-01T10:00:00.125+02:00"), &json!("aGk="))
    );
    let one = |n: usize| format!("{LOGS}/{}", logs[n]["id"].as_str().unwrap());
    assert_eq!(face.get(&one(1)).await, (StatusCode::OK, logs[1].clone()));
    let newer = face
        .get(&format!("{LOGS}?after={}", logs[2]["id"].as_str().unwrap()))
        .await;
    assert_eq!(newer.1, json!([logs[0], logs[1]]));

    let deleted = face.call(Method::DELETE, &one(1), None).await;
    assert_eq!(deleted, (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(face.logs().await, [logs[0].clone(), logs[2].clone()]);
    for path in [
        one(1),
        format!("{LOGS}/x"),
        format!("{LOGS}/99"),
        LOGS.replace("gw-1", "gw-2") + "/1",
    ] {
        for method in [Method::GET, Method::DELETE] {
            let (status, answer) = face.call(method, &path, None).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            message(&answer);
        }
    }
    assert_eq!(
        face.call(Method::DELETE, LOGS, None).await,
        (StatusCode::NO_CONTENT, Value::Null)
    );
    assert_eq!(face.logs().await, Vec::<Value>::new());
}

#[tokio::test]
async fn dia_05_the_log_of_another_device_is_not_found_and_not_deleted() {
    let face = Face::start().await;
    face.log("mine", None, "1");
    face.manage(&device("edge/gw-2"));
    let id = face.logs().await[0]["id"].as_str().unwrap().to_owned();
    let other = format!("{}/{id}", LOGS.replace("gw-1", "gw-2"));
    assert_eq!(face.get(&other).await.0, StatusCode::NOT_FOUND);
    assert_eq!(face.call(Method::DELETE, &other, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(face.logs().await.len(), 1);
}

#[tokio::test]
async fn dia_05_an_operator_adds_and_clears_error_codes() {
    let face = Face::start().await;
    face.manage(&gw());
    let body = json!({"errorCode": -5, "timestamp": "2024-05-01T10:00:00.5Z"});
    assert_eq!(face.post(CODES, &body).await, (StatusCode::CREATED, Value::Null));
    assert_eq!(face.post(CODES, &json!({"errorCode": 42})).await.0, StatusCode::CREATED);
    let (_, codes) = face.get(CODES).await;
    assert_eq!(codes[0]["errorCode"], 42);
    assert!(codes[0]["timestamp"].is_string());
    assert_eq!(
        codes[1],
        json!({"errorCode": -5, "timestamp": "2024-05-01T10:00:00.500Z"})
    );
    assert_eq!(face.call(Method::DELETE, CODES, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(face.get(CODES).await.1, json!([]));
}

#[tokio::test]
async fn dia_05_severity_3_and_what_else_makes_no_sense_is_refused_as_the_platform_does() {
    let face = Face::start().await;
    face.manage(&gw());
    for (path, body, said) in [
        (
            LOGS,
            json!({"message": "x", "severity": 3}),
            "severity: is 3; it must be 0, 1 or 2",
        ),
        (LOGS, json!({"message": "x", "severity": -1}), "severity: is -1"),
        (LOGS, json!({"message": "x", "severity": "2.5"}), "severity: "),
        (LOGS, json!({"severity": 1}), "message: is missing"),
        (
            LOGS,
            json!({"message": "x", "timestamp": "2024-05-01T10:00:00.1234Z"}),
            "timestamp: is finer than milliseconds",
        ),
        (
            LOGS,
            json!({"message": "x", "timestamp": "yesterday"}),
            "timestamp: is no time",
        ),
        (
            LOGS,
            json!({"message": "x", "severtiy": 1}),
            "severtiy: is unknown; there are message, ",
        ),
        (CODES, json!({}), "errorCode: is missing"),
        (CODES, json!({"errorCode": 1.5}), "errorCode: "),
        (CODES, json!({"errorCode": 1, "code": 2}), "code: is unknown"),
        (
            CODES,
            json!({"errorCode": 1, "timestamp": "2024-05-01T10:00:00.000000+02:00"}),
            "timestamp: is finer than milliseconds",
        ),
        (
            CODES,
            json!({"errorCode": 1, "timestamp": "2024-05-01"}),
            "timestamp: is no time",
        ),
    ] {
        let (status, answer) = face.post(path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(message(&answer).starts_with(&format!("CUDRS0007E: {said}")), "{answer}");
        assert_eq!(answer["exception"]["id"], "CUDRS0007E");
        assert_eq!(answer["violations"].as_array().unwrap().len(), 1);
    }
    for (method, path, body, status) in [
        (Method::POST, LOGS.to_owned(), Some("nonsense"), 400),
        (Method::POST, CODES.to_owned(), Some("[]"), 400),
        (Method::GET, format!("{LOGS}?after=x"), None, 400),
        (
            Method::POST,
            LOGS.replace("gw-1", "other"),
            Some("{\"message\": \"x\"}"),
            404,
        ),
        (
            Method::POST,
            CODES.replace("gw-1", "other"),
            Some("{\"errorCode\": 1}"),
            404,
        ),
        (Method::DELETE, LOGS.replace("gw-1", "other"), None, 404),
        (Method::DELETE, CODES.replace("gw-1", "other"), None, 404),
        (Method::DELETE, CODES.replace("gw-1", "a+b"), None, 404),
    ] {
        let (got, answer) = face.call(method, &path, body).await;
        assert_eq!(got.as_u16(), status, "{path}: {answer}");
        message(&answer);
    }
    assert_eq!((face.logs().await.len(), face.get(CODES).await.1), (0, json!([])));
}

#[tokio::test]
async fn dia_05_what_a_device_delivers_again_is_stored_once() {
    let face = Face::start().await;
    let entry = json!({"unit": "modbus.service", "cursor": "s=1;i=2", "count": 1});
    // The broker delivers it again.
    face.log("it failed", None, "1");
    face.log("it failed", None, "1");
    // The answer got lost, and the agent sends it again under another id.
    face.log("another failed", Some(&entry), "2");
    face.log("another failed", Some(&entry), "3");
    // These are others: the next of its kind, how often it was, the same text from elsewhere in the journal, and what
    // does not say which one it is.
    let next = json!({"unit": "modbus.service", "cursor": "s=1;i=3", "count": 1});
    face.log("another failed", Some(&next), "4");
    face.log("another failed (5 more like this)", Some(&entry), "5");
    for req_id in ["6", "7"] {
        face.log("constant data", Some(&json!({"version": 1})), req_id);
        face.log("no data", None, &format!("{req_id}0"));
    }
    for _ in 0..2 {
        face.say(
            &gw(),
            ToService::AddErrorCode,
            json!({"d": {"errorCode": 42}, "reqId": "8"}),
        );
    }
    let mut texts: Vec<String> = Vec::new();
    for log in face.logs().await.iter().rev() {
        texts.push(log["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        texts,
        [
            "it failed",
            "another failed",
            "another failed",
            "another failed (5 more like this)",
            "constant data",
            "no data",
            "constant data",
            "no data",
        ]
    );
    assert_eq!(face.get(CODES).await.1.as_array().unwrap().len(), 1);
}
