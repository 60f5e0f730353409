//! Any value of each kind of message.

use iotdm::protocol::diagnostics::{LogEntry, Severity};
use iotdm::protocol::manage::{Manage, Supports};
use iotdm::protocol::model::{DeviceInfo, FieldValue, Location};
use iotdm::protocol::{Rc, Report, ReqId, Request, Response, timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any text: control characters, quotes, emoji.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.]{1,12}", ".{0,20}", "\\PC{0,20}"]
}

pub fn req_id() -> impl Strategy<Value = ReqId> {
    prop_oneof!["[0-9a-f-]{36}", ".{1,30}"].prop_filter_map("not empty", ReqId::new)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        number().prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |number| number.is_finite())
}

/// Any JSON value but null, which counts as absent.
pub fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        let maybe = prop_oneof![3 => inner, 1 => Just(Value::Null)];
        prop_oneof![
            vec(maybe.clone(), 0..4).prop_map(Value::from),
            vec((text(), maybe), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    vec((text(), value()), 0..4).prop_map(|members| members.into_iter().collect())
}

/// Members that are not the protocol's.
fn extra() -> impl Strategy<Value = Map<String, Value>> {
    vec(("[a-z]{1,8}", value()), 0..3).prop_map(|members| {
        members
            .into_iter()
            .map(|(name, value)| (format!("x-{name}"), value))
            .collect()
    })
}

fn field_value() -> impl Strategy<Value = FieldValue> {
    (text(), value()).prop_map(|(field, value)| FieldValue { field, value })
}

fn time() -> impl Strategy<Value = String> {
    (0..4_000_000_000_000i64).prop_filter_map("in the calendar", timestamp::format_ms)
}

fn device_info() -> impl Strategy<Value = DeviceInfo> {
    let member = || option::of(text().prop_filter("empty ones are left out", |text| !text.is_empty()));
    let first = (member(), member(), member(), member());
    let second = (member(), member(), member(), member());
    (first, second, extra()).prop_map(|((a, b, c, d), (e, f, g, h), extra)| DeviceInfo {
        serial_number: a,
        manufacturer: b,
        model: c,
        device_class: d,
        description: e,
        fw_version: f,
        hw_version: g,
        descriptive_location: h,
        extra,
    })
}

fn manage() -> impl Strategy<Value = Manage> {
    let lifetime = option::of(prop_oneof![Just(0), 3600..10_000_000u64]);
    let bundles = vec(("[a-z]{1,8}", any::<bool>()), 0..3).prop_map(|bundles| {
        let unique: std::collections::BTreeMap<_, _> = bundles.into_iter().collect();
        unique.into_iter().collect::<Vec<_>>()
    });
    let supports =
        (any::<bool>(), any::<bool>(), bundles).prop_map(|(device_actions, firmware_actions, bundles)| Supports {
            device_actions,
            firmware_actions,
            bundles,
        });
    let info = option::of(device_info()).prop_map(|info| info.filter(|info| !info.to_object().is_empty()));
    (option::of(object()), lifetime, option::of(supports), info, extra()).prop_map(
        |(metadata, lifetime, supports, device_info, extra)| Manage {
            metadata,
            lifetime,
            supports,
            device_info,
            extra,
        },
    )
}

fn location() -> impl Strategy<Value = Location> {
    let distance = option::of(0.0..1e6f64);
    let height = option::of(-1e4..1e5f64);
    (
        -90.0..=90.0f64,
        -180.0..=180.0f64,
        height,
        distance,
        option::of(time()),
        extra(),
    )
        .prop_map(
            |(latitude, longitude, elevation, accuracy, measured_date_time, extra)| Location {
                latitude,
                longitude,
                elevation,
                accuracy,
                measured_date_time,
                extra,
            },
        )
}

fn log_entry() -> impl Strategy<Value = LogEntry> {
    let severity = prop::sample::select(vec![Severity::Information, Severity::Warning, Severity::Error]);
    let data = option::of(vec(any::<u8>(), 0..40));
    (text(), severity, option::of(time()), data, extra()).prop_map(|(message, severity, timestamp, data, extra)| {
        LogEntry {
            message,
            severity,
            timestamp,
            data,
            extra,
        }
    })
}

pub fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        3 => manage().prop_map(|manage| Report::Manage(Box::new(manage))),
        1 => Just(Report::Unmanage),
        2 => location().prop_map(Report::Location),
        1 => any::<i64>().prop_map(Report::AddErrorCode),
        1 => Just(Report::ClearErrorCodes),
        2 => log_entry().prop_map(Report::AddLog),
        1 => Just(Report::ClearLogs),
        2 => vec(field_value(), 0..4).prop_map(Report::Notify),
    ]
}

pub fn request() -> impl Strategy<Value = Request> {
    let custom = ("[a-z.-]{1,12}", "[a-z]{1,8}", vec(field_value(), 0..3));
    prop_oneof![
        vec(field_value(), 0..4).prop_map(Request::Update),
        vec(text(), 0..4).prop_map(Request::Observe),
        vec(text(), 0..4).prop_map(Request::Cancel),
        Just(Request::Reboot),
        Just(Request::FactoryReset),
        Just(Request::FirmwareDownload),
        Just(Request::FirmwareUpdate),
        custom.prop_map(|(bundle, action, parameters)| Request::Custom {
            bundle,
            action,
            parameters,
        }),
    ]
}

pub fn response() -> impl Strategy<Value = Response> {
    (100..1000u16, option::of(text()), option::of(value()), req_id(), extra()).prop_map(
        |(rc, message, d, req_id, extra)| Response {
            rc: Rc(rc),
            message,
            d,
            req_id,
            extra,
        },
    )
}
