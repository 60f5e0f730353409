//! `iotdm show`: everything that the service knows of a device, on 80 columns.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::super::brain::{state_in_words, update_status_in_words};
use super::super::outside;
use super::client::{CallError, Client};
use super::output::{Output, age, plain, seconds};
use crate::protocol::firmware::Firmware;
use crate::protocol::model::DeviceInfo;
use crate::protocol::{Device, timestamp};

/// How wide a line may be, in characters.
const WIDTH: usize = 80;
/// How wide a name may be before its value begins on a line of its own.
const NAMES: usize = 28;

pub(super) async fn show(client: &Client, output: &mut Output, device: &Device) -> Result<ExitCode, CallError> {
    let mut shown = client.device(device, "").await?;
    // What there is none of is not found; a platform has no mgmt in the device itself.
    let part = async |tail: &str| match client.device(device, tail).await {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        answer => answer,
    };
    shown["mgmt"] = part("/mgmt").await?;
    shown["location"] = part("/location").await?;
    shown["errorCodes"] = part("/diag/errorCodes").await?;
    if output.is_json() {
        output.value(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(&device.to_string())?;
    for line in lines(&shown, outside::now().unix_ms) {
        output.line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is shown below the device's name.
fn lines(shown: &Value, now_ms: i64) -> Vec<String> {
    let mut lines = Vec::new();
    let time = |value: &Value| moment(value, now_ms);
    let mgmt = &shown["mgmt"];
    let mut top = vec![(
        "last heard".to_owned(),
        time(&shown["lastSeen"]).unwrap_or("never".into()),
    )];
    if mgmt.is_object() {
        top.push(("managed".into(), managed(mgmt, now_ms)));
        top.push(("takes".into(), takes(&mgmt["supports"])));
    } else {
        let text = "no: nothing is asked of it before its next manage";
        top.push(("managed".into(), text.into()));
    }
    top.extend(time(&shown["registration"]["date"]).map(|text| ("first heard".into(), text)));
    top.push(("error codes".into(), error_codes(&shown["errorCodes"], now_ms)));
    if let Some(observed) = mgmt["observed"].as_array() {
        let fields: Vec<&str> = observed.iter().filter_map(Value::as_str).collect();
        top.push(("observed".into(), fields.join(", ")));
    }
    section(&mut lines, "", &top);
    section(&mut lines, "location", &location(&shown["location"], now_ms));
    section(&mut lines, "device info", &device_info(&shown["deviceInfo"]));
    section(&mut lines, "metadata", &members(&shown["metadata"]));
    section(&mut lines, "firmware to be installed", &firmware(&mgmt["firmware"]));
    lines
}

type Row = (String, String);

/// A heading and rows below it; the values begin in one column, and go on there when they are long.
fn section(lines: &mut Vec<String>, heading: &str, rows: &[Row]) {
    let indent = if heading.is_empty() { 2 } else { 4 };
    if !heading.is_empty() {
        if rows.is_empty() {
            return;
        }
        lines.push(format!("  {heading}"));
    }
    let name = |row: &Row| plain(&row.0);
    let widths = rows.iter().map(|row| name(row).chars().count());
    let width = widths.filter(|width| *width <= NAMES).max().unwrap_or(0);
    for row in rows {
        let name = name(row);
        let column = indent + width + 2;
        let values = wrap(&plain(&row.1), WIDTH - column);
        let long = name.chars().count() > width;
        if long {
            lines.extend(
                wrap(&name, WIDTH - indent)
                    .into_iter()
                    .map(|part| format!("{:indent$}{part}", "")),
            );
        }
        for (n, value) in values.iter().enumerate() {
            let name = if n == 0 && !long { name.as_str() } else { "" };
            let line = format!("{:indent$}{name:<width$}  {value}", "");
            lines.push(line.trim_end().to_owned());
        }
    }
}

/// A text in lines of at most this many characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let space = rest[..=width].iter().rposition(|c| *c == ' ').filter(|at| *at > 0);
        let end = space.unwrap_or(width);
        lines.push(rest[..end].iter().collect());
        rest.drain(..end + usize::from(space.is_some()));
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// `2024-05-01T10:00:00Z, 5 min ago`
pub(super) fn moment(value: &Value, now_ms: i64) -> Option<String> {
    let text = value.as_str()?;
    let at = match timestamp::parse(text) {
        Some(at) if at > now_ms => format!(", in {}", age(at - now_ms)),
        Some(at) => format!(", {} ago", age(now_ms - at)),
        None => String::new(),
    };
    Some(format!("{}{at}", seconds(text)))
}

fn managed(mgmt: &Value, now_ms: i64) -> String {
    let since = moment(&mgmt["managedSince"], now_ms).map_or("yes".to_owned(), |since| format!("since {since}"));
    match moment(&mgmt["dormantDateTime"], now_ms) {
        Some(at) => format!("{since}; dormant at {at}, unless it sends a manage before"),
        None => format!("{since}; never dormant"),
    }
}

fn takes(supports: &Value) -> String {
    let mut takes = Vec::new();
    for (name, words) in [
        ("deviceActions", "reboot, factory reset"),
        ("firmwareActions", "firmware download and update"),
    ] {
        if supports[name] == true {
            takes.push(words.to_owned());
        }
    }
    let bundles = supports.as_object().into_iter().flatten();
    let bundles =
        bundles.filter(|(name, yes)| !matches!(name.as_str(), "deviceActions" | "firmwareActions") && **yes == true);
    takes.extend(bundles.map(|(name, _)| name.clone()));
    match takes.as_slice() {
        [] => "no actions".into(),
        takes => takes.join(", "),
    }
}

fn error_codes(codes: &Value, now_ms: i64) -> String {
    let codes = codes.as_array().map(Vec::as_slice).unwrap_or_default();
    match codes {
        [] => "none".into(),
        [newest, ..] => {
            let at = moment(&newest["timestamp"], now_ms).map_or(String::new(), |at| format!(" of {at}"));
            format!("{}, the newest {}{at}", codes.len(), newest["errorCode"])
        }
    }
}

fn location(location: &Value, now_ms: i64) -> Vec<Row> {
    if !location.is_object() {
        return vec![("place".into(), "it has not said where it is".into())];
    }
    let mut place = format!("latitude {}, longitude {}", location["latitude"], location["longitude"]);
    if let Some(metres) = location["elevation"].as_f64() {
        place.push_str(&format!(", elevation {metres} m"));
    }
    if let Some(metres) = location["accuracy"].as_f64() {
        place.push_str(&format!(", within {metres} m"));
    }
    let mut rows = vec![("place".into(), place)];
    let told = moment(&location["updatedDateTime"], now_ms);
    if location["writtenBy"] == "operator" {
        rows.extend(told.map(|told| ("written by an operator".into(), told)));
    } else {
        rows.extend(moment(&location["measuredDateTime"], now_ms).map(|at| ("measured".into(), at)));
        rows.extend(told.map(|told| ("told".into(), told)));
    }
    rows
}

/// Known members in their order, then what else the device says.
fn device_info(info: &Value) -> Vec<Row> {
    let mut all = members(info);
    let order = |name: &str| {
        let at = DeviceInfo::MEMBERS.iter().position(|member| *member == name);
        at.unwrap_or(DeviceInfo::MEMBERS.len())
    };
    all.sort_by_key(|(name, _)| order(name));
    all
}

fn members(object: &Value) -> Vec<Row> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// A text as it is, anything else as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn firmware(firmware: &Value) -> Vec<Row> {
    let Ok(known) = Firmware::parse("mgmt.firmware", firmware.clone()) else {
        return Vec::new();
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let rows = [
        ("version", filled(known.version)),
        ("name", filled(known.name)),
        ("uri", filled(known.uri)),
        ("verifier", filled(known.verifier)),
        ("state", known.state.map(|state| state_in_words(state).to_owned())),
        (
            "update status",
            known
                .update_status
                .map(|status| update_status_in_words(status).to_owned()),
        ),
    ];
    let rows = rows
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text?)));
    rows.chain(members(&Value::Object(known.extra as Map<String, Value>)))
        .collect()
}
