//! Every shape that the protocol has had over the years is understood, and the current one is sent (device management
//! requests and device model references, 2015 to 2018).

use iotdm::protocol::diagnostics::{LogEntry, Severity};
use iotdm::protocol::manage::Manage;
use iotdm::protocol::model::{DeviceInfo, FieldValue, Location};
use iotdm::protocol::{Malformed, Report, Request, ToDevice, ToService};
use serde_json::{Value, json};

fn request(kind: &ToDevice, d: &Value) -> Request {
    let payload = json!({"reqId": "a", "d": d}).to_string();
    Request::parse(kind, payload.as_bytes()).unwrap().0
}

fn report(kind: ToService, d: &Value) -> Result<Report, Malformed> {
    let payload = json!({"reqId": "a", "d": d}).to_string();
    Report::parse(kind, payload.as_bytes()).map(|(report, _)| report)
}

fn sent(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap()
}

fn manage(d: &Value) -> Result<Manage, Malformed> {
    match report(ToService::Manage, d)? {
        Report::Manage(manage) => Ok(*manage),
        other => panic!("{other:?}"),
    }
}

fn location(d: &Value) -> Result<Location, Malformed> {
    match report(ToService::Location, d)? {
        Report::Location(location) => Ok(location),
        other => panic!("{other:?}"),
    }
}

fn log(d: &Value) -> Result<LogEntry, Malformed> {
    match report(ToService::AddLog, d)? {
        Report::AddLog(entry) => Ok(entry),
        other => panic!("{other:?}"),
    }
}

fn wrong_field<T: std::fmt::Debug>(read: Result<T, Malformed>) -> String {
    read.unwrap_err().field
}

const FIELDS: [&str; 2] = ["mgmt.firmware", "location"];

#[test]
fn obs_02_observe_with_strings_with_objects_and_with_both() {
    let both = Request::Observe(FIELDS.map(String::from).to_vec());
    for d in [
        json!({"fields": ["mgmt.firmware", "location"]}),
        json!({"fields": [{"field": "mgmt.firmware"}, {"field": "location"}]}),
        json!({"fields": ["mgmt.firmware", {"field": "location"}]}),
    ] {
        assert_eq!(request(&ToDevice::Observe, &d), both);
    }
    assert_eq!(
        sent(&both.to_payload(None)),
        json!({"d": {"fields": [{"field": "mgmt.firmware"}, {"field": "location"}]}})
    );
    for d in [
        json!({}),
        json!({"fields": "mgmt.firmware"}),
        json!({"fields": [7]}),
        json!({"fields": [{}]}),
    ] {
        let payload = json!({"reqId": "a", "d": d}).to_string();
        let malformed = Request::parse(&ToDevice::Observe, payload.as_bytes()).unwrap_err();
        assert!(malformed.field.starts_with("d.fields"), "{malformed}");
    }
}

#[test]
fn obs_05_cancel_in_its_three_shapes_and_in_none() {
    let both = Request::Cancel(FIELDS.map(String::from).to_vec());
    for d in [
        json!({"fields": ["mgmt.firmware", "location"]}),
        json!({"data": [{"field": "mgmt.firmware"}, {"field": "location"}]}),
        json!({"fields": [{"field": "mgmt.firmware"}, {"field": "location"}]}),
    ] {
        assert_eq!(request(&ToDevice::Cancel, &d), both);
    }
    assert_eq!(
        sent(&both.to_payload(None)),
        json!({"d": {"fields": [{"field": "mgmt.firmware"}, {"field": "location"}]}})
    );
    for d in [json!(null), json!({}), json!({"fields": 7}), json!("everything")] {
        assert_eq!(
            request(&ToDevice::Cancel, &d),
            Request::Cancel(Vec::new()),
            "stops all: {d}"
        );
    }
}

#[test]
fn obs_06_notify_with_a_single_field_and_with_fields() {
    let one = Report::Notify(vec![FieldValue {
        field: "mgmt.firmware".into(),
        value: json!({"state": 1}),
    }]);
    for d in [
        json!({"field": "mgmt.firmware", "value": {"state": 1}}),
        json!({"fields": [{"field": "mgmt.firmware", "value": {"state": 1}}]}),
    ] {
        assert_eq!(report(ToService::Notify, &d), Ok(one.clone()));
    }
    assert_eq!(
        sent(&one.to_payload(None)),
        json!({"d": {"fields": [{"field": "mgmt.firmware", "value": {"state": 1}}]}})
    );
    let scalar = report(
        ToService::Notify,
        &json!({"fields": [{"field": "mgmt.firmware.state", "value": 2}]}),
    );
    assert!(matches!(scalar, Ok(Report::Notify(fields)) if fields[0].value == 2));
    let without_value = json!({"fields": [{"field": "location", "value": {}}, {"field": "mgmt.firmware"}]});
    assert_eq!(
        wrong_field(report(ToService::Notify, &without_value)),
        "d.fields[1].value"
    );
    let typo = json!({"fields": [{"fields": "mgmt.firmware", "value": 1}]});
    assert_eq!(wrong_field(report(ToService::Notify, &typo)), "d.fields[0].field");
}

#[test]
fn upd_05_update_with_a_single_field_and_with_fields() {
    let one = Request::Update(vec![FieldValue {
        field: "metadata".into(),
        value: json!({"site": "north"}),
    }]);
    for d in [
        json!({"field": "metadata", "value": {"site": "north"}}),
        json!({"fields": [{"field": "metadata", "value": {"site": "north"}}]}),
    ] {
        assert_eq!(request(&ToDevice::Update, &d), one);
    }
    assert_eq!(
        sent(&one.to_payload(None)),
        json!({"d": {"fields": [{"field": "metadata", "value": {"site": "north"}}]}})
    );
}

#[test]
fn loc_01_latitude_and_longitude_are_there_are_numbers_and_in_range() {
    for (latitude, longitude) in [(0.0, 0.0), (90.0, 180.0), (-90.0, -180.0)] {
        assert!(location(&json!({"latitude": latitude, "longitude": longitude})).is_ok());
    }
    assert!(
        location(&json!({"latitude": 5, "longitude": 6})).is_ok(),
        "integers are numbers"
    );
    for (d, field) in [
        (json!({"longitude": 1.0}), "d.latitude"),
        (json!({"latitude": 1.0}), "d.longitude"),
        (json!({"latitude": 90.001, "longitude": 1.0}), "d.latitude"),
        (json!({"latitude": 1.0, "longitude": -180.001}), "d.longitude"),
        (json!({"latitude": "1.0", "longitude": 1.0}), "d.latitude"),
        (json!({"latitude": null, "longitude": 1.0}), "d.latitude"),
        (json!({"latitude": 1.0, "longitude": [1.0]}), "d.longitude"),
    ] {
        assert_eq!(wrong_field(location(&d)), field, "{d}");
    }
}

#[test]
fn loc_02_what_is_unknown_is_left_out_and_zero_is_an_elevation() {
    let mut known = Location {
        latitude: 1.5,
        longitude: 2.5,
        elevation: None,
        accuracy: None,
        measured_date_time: None,
        extra: serde_json::Map::new(),
    };
    let bare = Report::Location(known.clone()).to_payload(None);
    assert_eq!(sent(&bare), json!({"d": {"longitude": 2.5, "latitude": 1.5}}));
    known.elevation = Some(0.0);
    let low = Report::Location(known.clone()).to_payload(None);
    assert_eq!(sent(&low)["d"]["elevation"], 0.0);
    let nulls = json!({"latitude": 1.5, "longitude": 2.5, "elevation": 0, "accuracy": null, "measuredDateTime": ""});
    assert_eq!(location(&nulls), Ok(known), "null and empty are absent");
}

#[test]
fn loc_03_times_have_a_zone() {
    let at = |time: &str| location(&json!({"latitude": 1.0, "longitude": 2.0, "measuredDateTime": time}));
    for time in [
        "2024-05-01T10:00:00Z",
        "2024-05-01T12:00:00+02:00",
        "2024-05-01T10:00:00.123456Z",
    ] {
        assert_eq!(at(time).unwrap().measured_date_time.as_deref(), Some(time));
    }
    for time in ["2024-05-01T10:00:00", "2024-05-01", "yesterday"] {
        assert_eq!(wrong_field(at(time)), "d.measuredDateTime");
    }
}

#[test]
fn dia_01_an_error_code_is_an_integer() {
    let code = |value: Value| report(ToService::AddErrorCode, &json!({"errorCode": value}));
    assert_eq!(code(json!(-42)), Ok(Report::AddErrorCode(-42)));
    assert_eq!(code(json!("42")), Ok(Report::AddErrorCode(42)), "as a string, too");
    for bad in [json!(1.5), json!(true), json!([1, 2]), json!(null), json!("x")] {
        assert_eq!(wrong_field(code(bad)), "d.errorCode");
    }
}

#[test]
fn dia_02_a_log_entry_has_base64_data_a_severity_and_a_time_with_a_zone() {
    let entry = LogEntry {
        message: "the disk is full".into(),
        severity: Severity::Warning,
        timestamp: Some("2024-05-01T10:00:00Z".into()),
        data: Some(b"\x00\xffdata".to_vec()),
        extra: serde_json::Map::new(),
    };
    let payload = Report::AddLog(entry.clone()).to_payload(None);
    let d = json!({
        "message": "the disk is full",
        "timestamp": "2024-05-01T10:00:00Z",
        "data": "AP9kYXRh",
        "severity": 1,
    });
    assert_eq!(sent(&payload), json!({"d": d}));
    assert_eq!(log(&d), Ok(entry));
    for (member, bad) in [
        ("severity", json!(3)),
        ("severity", json!(-1)),
        ("severity", json!("high")),
        ("timestamp", json!("2024-05-01T10:00:00")),
        ("message", json!(null)),
        ("message", json!(7)),
        ("data", json!({})),
    ] {
        let mut wrong = d.clone();
        wrong[member] = bad;
        assert_eq!(wrong_field(log(&wrong)), format!("d.{member}"));
    }
}

#[test]
fn dia_03_what_clears_says_nothing_but_its_request_id() {
    let req_id = iotdm::protocol::ReqId::new("a").unwrap();
    for report in [Report::ClearLogs, Report::ClearErrorCodes, Report::Unmanage] {
        assert_eq!(report.to_payload(Some(&req_id)), br#"{"reqId":"a"}"#);
    }
}

#[test]
fn mng_02_manage_leaves_out_what_is_empty() {
    let nothing = Manage {
        device_info: Some(DeviceInfo {
            model: Some(String::new()),
            ..DeviceInfo::default()
        }),
        ..Manage::default()
    };
    assert_eq!(Report::Manage(Box::new(nothing)).to_payload(None), b"{}");
    assert_eq!(
        manage(&json!(null)),
        Ok(Manage::default()),
        "and everything may be left out"
    );
}

#[test]
fn mng_12_a_lifetime_is_0_or_at_least_an_hour() {
    for (lifetime, read) in [
        (json!(0), Some(0)),
        (json!(3600), Some(3600)),
        (json!("86400"), Some(86_400)),
        (json!(7200.0), Some(7200)),
        (json!(null), None),
    ] {
        assert_eq!(manage(&json!({"lifetime": lifetime})).unwrap().lifetime, read);
    }
    for bad in [
        json!(1),
        json!(3599),
        json!(-3600),
        json!(3600.5),
        json!("long"),
        json!(true),
    ] {
        assert_eq!(wrong_field(manage(&json!({"lifetime": bad}))), "d.lifetime", "{bad}");
    }
}
