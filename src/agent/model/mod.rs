//! The device model: what can be read, observed and written, and whose word counts (device model reference).
//!
//! | attribute | written by the service | else |
//! |---|---|---|
//! | `metadata` | any member | the configuration |
//! | `deviceInfo.deviceClass`, `description`, `descriptiveLocation` | yes | the configuration |
//! | `deviceInfo.manufacturer`, `model` | where the host does not know them | the configuration, then the host |
//! | `deviceInfo.serialNumber`, `fwVersion`, `hwVersion` | never: they are facts | the configuration, then the host |
//! | `location` | while the host has no fix | the configuration |
//! | `mgmt.firmware` | see `firmware` | |
//!
//! What the service writes counts until the configuration says something else than it did then. `update` is
//! `device/update`, `receiver` takes what the host measures, `report` tells the service where the device is, `written` is what is remembered. Changes are told by
//! `observation`.

mod receiver;
mod report;
mod update;
mod written;

use serde_json::{Map, Value};

pub use receiver::{Receiver, Whereabouts};
pub(super) use receiver::{fix, no_fix, not_asked, whereabouts};
pub use report::{Located, LocationStatus};
pub(super) use report::{answered, deadline, due, forget, not_published, publish_refused, send, status, subscribed};
pub(super) use update::update;
pub use written::{Member, Written};

use super::Settings;
use super::durable::{Change, Durable};
use super::effect::{Level, Topic};
use super::firmware::record::Firmware;
use super::work::Work;
use crate::protocol::model::{DeviceInfo, check_metadata};

/// `location` has these members, whether or not they are known.
const LOCATION: [&str; 5] = ["longitude", "latitude", "elevation", "accuracy", "measuredDateTime"];

/// What manage says as `metadata`; `None` leaves what the service has.
pub(super) fn metadata(settings: &Settings, durable: &Durable) -> Option<Map<String, Value>> {
    let written = &durable.written.metadata;
    if written.is_empty() {
        return settings.metadata.clone();
    }
    let mut metadata = settings.metadata.clone().unwrap_or_default();
    for (name, member) in written {
        match &member.value {
            Some(value) => drop(metadata.insert(name.clone(), value.clone())),
            None => drop(metadata.shift_remove(name)),
        }
    }
    Some(metadata)
}

/// What manage says as `deviceInfo`.
pub(super) fn device_info(settings: &Settings, durable: &Durable) -> DeviceInfo {
    let mut info = settings.device_info.clone();
    let mut configured = settings.configured_info.clone();
    for name in DeviceInfo::MEMBERS {
        let written = durable.written.device_info.get(name);
        let written = written.filter(|_| !belongs_to_host(settings, name));
        let configured = configured.member(name).and_then(Option::take);
        let Some(member) = info.member(name) else { continue };
        if let Some(written) = written {
            *member = written.value.as_ref().and_then(Value::as_str).map(str::to_owned);
        } else if configured.is_some() {
            *member = configured;
        }
    }
    info
}

/// Whether the service cannot write this member of `deviceInfo`.
fn belongs_to_host(settings: &Settings, name: &str) -> bool {
    match name {
        "serialNumber" | "fwVersion" | "hwVersion" => true,
        "manufacturer" => settings.device_info.manufacturer.is_some(),
        "model" => settings.device_info.model.is_some(),
        _ => false,
    }
}

/// What the configuration says of a member of `deviceInfo`.
fn configured_info(settings: &Settings, name: &str) -> Option<Value> {
    let mut configured = settings.configured_info.clone();
    configured.member(name)?.take().map(Value::from)
}

/// What the configuration says of `location`.
fn configured_location(settings: &Settings) -> Option<Value> {
    settings.location.as_ref().map(|fixed| fixed.to_object().into())
}

/// Where the device is, as far as anybody has said.
fn location(work: &Work<'_>) -> Option<Map<String, Value>> {
    if let Some(measured) = work.v.located.measured() {
        return Some(measured.to_object());
    }
    let written = work.d.written.location.as_ref();
    match written.and_then(|member| member.value.as_ref()?.as_object()) {
        Some(written) => Some(written.clone()),
        None => work.settings.location.as_ref().map(|fixed| fixed.to_object()),
    }
}

/// The value of an attribute or of one of its members: `null` where there is none at present, `None` when there is no
/// attribute of this name.
pub(super) fn read(work: &Work<'_>, field: &str) -> Option<Value> {
    let (attribute, member) = split(field)?;
    let known = |names: &[&str], object: Map<String, Value>| match member {
        None => Some(object.into()),
        Some(member) if names.contains(&member) => Some(object.get(member).cloned().unwrap_or_default()),
        Some(_) => None,
    };
    match attribute {
        "location" => known(&LOCATION, location(work).unwrap_or_default()),
        "deviceInfo" => known(&DeviceInfo::MEMBERS, device_info(&work.settings, &work.d).to_object()),
        "metadata" => {
            let metadata = metadata(&work.settings, &work.d).unwrap_or_default();
            match member {
                None => Some(metadata.into()),
                Some(path) => at(&metadata, path).cloned(),
            }
        }
        _ => read_firmware(&work.d.firmware, field),
    }
}

/// As [`read`], to compare with what the service was told before: `None` also while nobody knows where the device is,
/// `null` also for a member of `metadata` that has gone.
pub(super) fn known(work: &Work<'_>, field: &str) -> Option<Value> {
    match split(field)? {
        ("location", _) => location(work).and_then(|_| read(work, field)),
        ("metadata", _) => Some(read(work, field).unwrap_or_default()),
        _ => read(work, field),
    }
}

/// The value of `mgmt.firmware` or of one of its members.
pub(super) fn read_firmware(firmware: &Firmware, field: &str) -> Option<Value> {
    match split(field)? {
        ("mgmt.firmware", None) => Some(firmware.value()),
        ("mgmt.firmware", Some(member)) => firmware.value().get(member).cloned(),
        _ => None,
    }
}

/// The attribute that a dotted name is about, and the member of it.
fn split(field: &str) -> Option<(&str, Option<&str>)> {
    ["location", "metadata", "deviceInfo", "mgmt.firmware"]
        .into_iter()
        .find_map(|attribute| match field.strip_prefix(attribute)? {
            "" => Some((attribute, None)),
            rest => rest.strip_prefix('.').map(|member| (attribute, Some(member))),
        })
}

/// A member of free-form data by its dotted path; a name that has dots itself comes first.
fn at<'a>(object: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    object.get(path).or_else(|| {
        let (name, rest) = path.split_once('.')?;
        at(object.get(name)?.as_object()?, rest)
    })
}

/// The configuration was read, at the start or anew: where it says something else than it did when the service wrote, its
/// word counts again.
pub(super) fn configured(work: &mut Work<'_>) {
    receiver::configured(work);
    report::configured(work);
    let mut written = work.d.written.clone();
    let mut over = Vec::new();
    let settings = &work.settings;
    written.metadata.retain(|name, member| {
        let configured = settings.metadata.as_ref().and_then(|metadata| metadata.get(name));
        let holds = member.holds(configured);
        if !holds {
            over.push(format!("metadata.{name}"));
        }
        holds
    });
    written.device_info.retain(|name, member| {
        let configured = configured_info(settings, name);
        // What a newer version knows of is left to it.
        let unknown = !DeviceInfo::MEMBERS.contains(&name.as_str());
        let holds = unknown || member.holds(configured.as_ref()) && !belongs_to_host(settings, name);
        if !holds {
            over.push(format!("deviceInfo.{name}"));
        }
        holds
    });
    let configured = configured_location(settings);
    if written
        .location
        .take_if(|member| !member.holds(configured.as_ref()))
        .is_some()
    {
        over.push("location".to_owned());
    }
    let with = |written: &Written| Durable {
        written: written.clone(),
        ..Durable::default()
    };
    if let Some(metadata) = metadata(settings, &with(&written)).filter(|_| !written.metadata.is_empty())
        && check_metadata("metadata", &metadata).is_err()
    {
        // Each is within its limits; together they are not.
        over.extend(written.metadata.keys().map(|name| format!("metadata.{name}")));
        written.metadata.clear();
    }
    if over.is_empty() {
        return;
    }
    if written.location != work.d.written.location {
        report::dropped(work);
    }
    work.change(Change::Written(written));
    let text = format!(
        "the configuration or the host says something new about {}: it replaces what the service had written",
        names(&over)
    );
    work.say(Level::Warning, Topic::Attributes, text);
}

/// So many fields of one request are taken; twice as many as can be observed.
const MAX_FIELDS: usize = 64;
/// So many names of what is wrong with a request are told, each so long in characters.
pub(super) const NAMED: usize = 32;
const NAME_CHARACTERS: usize = 100;

/// Why a request is refused before anything of it is looked at.
pub(super) fn too_many(fields: usize) -> Option<String> {
    (fields > MAX_FIELDS).then(|| format!("d.fields: names {fields} fields; one request may have at most {MAX_FIELDS}"))
}

/// A name of the service's, to be told to it.
pub(super) fn cut(name: &str) -> String {
    name.chars().take(NAME_CHARACTERS).collect()
}

/// Names for a log line: not too many, and none too long.
pub(super) fn names(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let short = |name: &String| name.chars().take(60).collect::<String>();
    let mut text = names.iter().take(SHOWN).map(short).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
