//! What agents in the field really send, defects included: it is understood where that is possible, refused with its
//! reason where it is not, and never harmful.

use iotdm::protocol::{Rc, Report, Response, ToService};

fn response(payload: &str) -> Result<Response, String> {
    Response::parse(payload.as_bytes()).map_err(|malformed| malformed.to_string())
}

fn manage(payload: &str) -> iotdm::protocol::manage::Manage {
    match Report::parse(ToService::Manage, payload.as_bytes()).unwrap().0 {
        Report::Manage(manage) => *manage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn svc_05_a_return_code_in_a_string_is_one() {
    for payload in [
        r#"{"rc":"200","reqId":"7f1c"}"#,
        r#"{"rc":" 200 ","reqId":"7f1c"}"#,
        r#"{"rc":200.0,"reqId":"7f1c"}"#,
    ] {
        assert_eq!(response(payload).unwrap().rc, Rc::OK, "{payload}");
    }
}

#[test]
fn svc_05_a_request_id_without_quotes_is_no_json_and_answers_nothing() {
    for payload in [
        r#"{"rc":202,"reqId":f38faafc-53de-47a8-a940-e697552c3194}"#,
        r#"{"rc":202,"reqId":12345}"#,
        r#"{"rc":202,"reqId":null}"#,
        r#"{"rc":202}"#,
    ] {
        assert!(response(payload).is_err(), "{payload}");
        let malformed = Response::parse(payload.as_bytes()).unwrap_err();
        assert_eq!(malformed.req_id, None);
    }
}

#[test]
fn svc_05_supports_with_numbers_for_booleans() {
    let read = manage(r#"{"d":{"supports":{"deviceActions":1,"firmwareActions":0}},"reqId":"a"}"#);
    let supports = read.supports.unwrap();
    assert_eq!((supports.device_actions, supports.firmware_actions), (true, false));
    let two = br#"{"d":{"supports":{"deviceActions":2}},"reqId":"a"}"#;
    let malformed = Report::parse(ToService::Manage, two).unwrap_err();
    assert_eq!(malformed.field, "d.supports.deviceActions");
}

#[test]
fn svc_05_a_device_info_that_is_empty_and_members_that_are_null() {
    let read = manage(r#"{"d":{"deviceInfo":{},"metadata":{},"lifetime":3600},"reqId":"a"}"#);
    assert!(read.device_info.unwrap().to_object().is_empty());
    let read = manage(r#"{"d":{"deviceInfo":{"fwVersion":"1","model":null},"metadata":null},"reqId":"a"}"#);
    assert_eq!(read.device_info.unwrap().to_object().len(), 1);
    assert_eq!(read.metadata, None);
}

#[test]
fn svc_05_log_data_that_is_not_base64_is_taken_as_the_text_that_it_is() {
    let payload = br#"{"d":{"message":"m","severity":"1","data":"plain text!"},"reqId":"a"}"#;
    let (read, _) = Report::parse(ToService::AddLog, payload).unwrap();
    assert!(matches!(read, Report::AddLog(entry) if entry.data.as_deref() == Some(b"plain text!")));
}

#[test]
fn fws_04_a_notify_without_a_request_id_and_with_a_state_in_a_string() {
    let payload = br#"{"d":{"fields":[{"field":"mgmt.firmware","value":{"state":"1"}}]}}"#;
    let (read, req_id) = Report::parse(ToService::Notify, payload).unwrap();
    assert_eq!(req_id, None);
    let Report::Notify(fields) = read else {
        panic!("{read:?}")
    };
    let firmware = iotdm::protocol::firmware::Firmware::parse("value", fields[0].value.clone()).unwrap();
    assert_eq!(
        firmware.state,
        Some(iotdm::protocol::firmware::FirmwareState::Downloading)
    );
}

#[test]
fn svc_05_a_topic_without_its_beginning_is_foreign() {
    for topic in [
        "response",
        "mgmt/unmanage",
        "/iotdevice-1/response",
        "iotdevice-1//response",
    ] {
        assert!(ToService::parse(topic).is_err(), "{topic}");
    }
}
