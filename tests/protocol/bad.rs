//! Anything may come in. Nothing of it is harmful, and what has a readable request id can be answered.

use iotdm::protocol::{Malformed, Report, ReqId, Request, Response, ToDevice, ToService};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::values;

/// Reads a payload in every way there is; returns what each way made of its request id.
fn read_all(payload: &[u8]) -> Vec<Result<Option<ReqId>, Malformed>> {
    let custom = ToDevice::Custom {
        bundle: "b".into(),
        action: "a".into(),
    };
    let requests = ToDevice::FIXED
        .into_iter()
        .chain([custom])
        .map(|kind| Request::parse(&kind, payload).map(|(_, req_id)| req_id));
    let reports = ToService::ALL
        .into_iter()
        .map(|kind| Report::parse(kind, payload).map(|(_, req_id)| req_id));
    let response = Response::parse(payload).map(|response| Some(response.req_id));
    requests.chain(reports).chain([response]).collect()
}

/// A valid message of any kind.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (values::report(), values::req_id()).prop_map(|(report, req_id)| report.to_payload(Some(&req_id))),
        (values::request(), values::req_id()).prop_map(|(request, req_id)| request.to_payload(Some(&req_id))),
        values::response().prop_map(|response| response.to_payload()),
    ]
}

/// What a broken sender, or somebody with bad intentions, does to a message.
#[derive(Debug, Clone)]
enum Damage {
    Cut(usize),
    Byte(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Twice(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    let token = prop::sample::select(vec![
        "{", "}", "[", "]", "\"", "\\", ",", ":", "null", "\\u0000", "1e999", "-",
    ]);
    prop_oneof![
        at().prop_map(Damage::Cut),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at(), token).prop_map(|(at, token)| Damage::Insert(at, token.into())),
        (at(), 1..20usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (at(), 1..20usize).prop_map(|(at, count)| Damage::Twice(at, count)),
    ]
}

fn apply(payload: &mut Vec<u8>, damage: &Damage) {
    let place = |at: usize, payload: &[u8]| at % payload.len().max(1);
    match damage {
        Damage::Cut(at) => payload.truncate(place(*at, payload)),
        Damage::Byte(at, byte) => {
            let at = place(*at, payload);
            if let Some(old) = payload.get_mut(at) {
                *old = *byte;
            }
        }
        Damage::Insert(at, bytes) => {
            let at = place(*at, payload);
            payload.splice(at..at, bytes.iter().copied());
        }
        Damage::Remove(at, count) => {
            let at = place(*at, payload);
            let end = (at + count).min(payload.len());
            payload.drain(at..end);
        }
        Damage::Twice(at, count) => {
            let at = place(*at, payload);
            let end = (at + count).min(payload.len());
            let again = payload[at..end].to_vec();
            payload.splice(at..at, again);
        }
    }
}

proptest! {
    #[test]
    fn env_04_no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&payload);
    }

    #[test]
    fn env_04_no_json_makes_it_panic(value in values::value()) {
        read_all(value.to_string().as_bytes());
    }

    #[test]
    fn env_04_no_damaged_message_makes_it_panic(
        mut payload in message(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        for damage in &damages {
            apply(&mut payload, damage);
        }
        read_all(&payload);
    }

    #[test]
    fn env_04_whatever_is_wrong_elsewhere_the_request_id_is_carried(
        req_id in values::req_id(),
        d in values::value(),
        rc in values::value(),
        message in values::value(),
        first in any::<bool>(),
    ) {
        let id = ("reqId".to_owned(), json!(req_id.as_str()));
        let rest = [("d".to_owned(), d), ("rc".to_owned(), rc), ("message".to_owned(), message)];
        let mut members: Vec<(String, Value)> = rest.into();
        members.insert(if first { 0 } else { members.len() }, id);
        let members: Map<String, Value> = members.into_iter().collect();
        for read in read_all(Value::Object(members).to_string().as_bytes()) {
            // A response on a topic for requests, or the other way round, is the caller's mistake; it carries the id too.
            let carried = read.unwrap_or_else(|malformed| malformed.req_id);
            prop_assert_eq!(carried.as_ref(), Some(&req_id));
        }
    }

    #[test]
    fn env_04_a_message_that_is_cut_off_after_its_request_id_carries_it(
        req_id in values::req_id(),
        d in values::value(),
        cut in any::<usize>(),
    ) {
        let head = format!(r#"{{"reqId":{},"#, json!(req_id.as_str()));
        let whole = format!(r#"{head}"d":{d}}}"#);
        let room = whole.len() - head.len();
        let cut = &whole.as_bytes()[..head.len() + cut % room];
        for read in read_all(cut) {
            let malformed = read.unwrap_err();
            prop_assert_eq!(malformed.field.as_str(), "payload");
            prop_assert_eq!(malformed.req_id.as_ref(), Some(&req_id));
        }
    }

    #[test]
    fn env_04_the_field_that_is_wrong_is_named(wrong in values::value().prop_filter("wrong", |value| !value.is_object())) {
        let payload = json!({"reqId": "a", "d": wrong}).to_string();
        for kind in [ToService::Manage, ToService::Location, ToService::AddLog, ToService::Notify, ToService::AddErrorCode] {
            let malformed = Report::parse(kind, payload.as_bytes()).unwrap_err();
            prop_assert_eq!(malformed.field.as_str(), "d");
        }
        for kind in [ToDevice::Update, ToDevice::Observe] {
            let malformed = Request::parse(&kind, payload.as_bytes()).unwrap_err();
            prop_assert_eq!(malformed.field.as_str(), "d");
        }
    }
}

#[test]
fn env_04_a_topic_for_the_other_direction_is_refused() {
    for topic in ["iotdm-1/response", "iotdm-1/type/a/id/b/observe"] {
        assert!(ToService::parse(topic).is_err());
    }
    for topic in ["iotdevice-1/notify", "iotdevice-1/type/a/id/b/mgmt/manage"] {
        assert!(ToDevice::parse(topic).is_err());
    }
}
