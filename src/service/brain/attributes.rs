//! The device model as the registry keeps it: which attributes there are, what a value must be, how what a device tells
//! of one is merged into what is known (device model reference). What an operator writes is in `written`.
//!
//! It changes rows and knows nothing of requests.

use serde_json::{Map, Value};

use super::firmware;
use super::rows::DeviceRow;
use super::step::Now;
use crate::protocol::firmware::Firmware;
use crate::protocol::model::{DeviceInfo, Location, MAX_METADATA_DEPTH, check_metadata};
use crate::protocol::{Malformed, timestamp};

/// The longest name of a field, in bytes.
const MAX_FIELD: usize = 256;

/// An attribute that can be observed. All but the last can be written, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Location,
    Metadata,
    DeviceInfo,
    Firmware,
}

impl Attribute {
    const ALL: [Attribute; 4] = [
        Attribute::Location,
        Attribute::Metadata,
        Attribute::DeviceInfo,
        Attribute::Firmware,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Attribute::Location => "location",
            Attribute::Metadata => "metadata",
            Attribute::DeviceInfo => "deviceInfo",
            Attribute::Firmware => firmware::FIELD,
        }
    }
}

/// An attribute, or a member of one, by its dotted name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) attribute: Attribute,
    /// The names that lead to the member; empty for the whole.
    pub(super) path: Vec<&'a str>,
}

impl<'a> Field<'a> {
    /// `None` when the model has no such attribute. Whether it has such a member is the device's to say.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        Attribute::ALL.into_iter().find_map(|attribute| {
            let path: Vec<&str> = match name.strip_prefix(attribute.as_str())? {
                "" => Vec::new(),
                rest => rest.strip_prefix('.')?.split('.').collect(),
            };
            (!path.contains(&"")).then_some(Field { attribute, path })
        })
    }

    /// Checks a name before anything is made of it: each of its members is a level of an object.
    ///
    /// # Errors
    /// It is too long, or leads deeper than an attribute may be.
    pub(super) fn check_name(name: &str) -> Result<(), Malformed> {
        if name.len() > MAX_FIELD {
            let begin: String = name.chars().take(32).collect();
            let reason = format!("has {} bytes; at most {MAX_FIELD}", name.len());
            return Err(Malformed::new(format!("{begin}..."), reason));
        }
        let levels = Field::parse(name).map_or(0, |field| field.path.len());
        if levels > MAX_METADATA_DEPTH {
            let reason = format!("names a member {levels} levels down; at most {MAX_METADATA_DEPTH}");
            return Err(Malformed::new(name, reason));
        }
        Ok(())
    }

    /// The whole attribute with nothing in it but this value at the place of the member.
    fn around(&self, value: Value) -> Value {
        self.path.iter().rev().fold(value, |value, name| {
            Value::Object(Map::from_iter([((*name).to_owned(), value)]))
        })
    }
}

/// True when who observes the one is told of the other: it is the same, a member of it, or holds it.
pub(super) fn covers(observed: &str, field: &str) -> bool {
    let within = |whole: &str, part: &str| {
        let rest = part.strip_prefix(whole);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(observed, field) || within(field, observed)
}

/// Merges what a device tells of a field. A part of an object leaves the rest as it is. `changed` collects what is said
/// of the firmware.
///
/// # Errors
/// The value is none of this attribute, or too large or too deep; the row may be half changed then.
pub(super) fn merge(
    row: &mut DeviceRow,
    field: &Field<'_>,
    value: Value,
    changed: &mut Map<String, Value>,
    now: Now,
) -> Result<(), Malformed> {
    let name = field.attribute.as_str();
    match field.attribute {
        Attribute::Metadata => {
            put(&mut row.metadata, name, &field.path, value)?;
            check_metadata(name, &row.metadata)
        }
        Attribute::DeviceInfo => {
            put(&mut row.device_info, name, &field.path, value)?;
            row.device_info = DeviceInfo::parse(name, row.device_info.clone().into())?.to_object();
            check_metadata(name, &row.device_info)
        }
        Attribute::Location => {
            place_part(row, field.around(value), now)?;
            Ok(())
        }
        Attribute::Firmware => {
            let said = Firmware::parse(name, field.around(value))?.to_object();
            changed.extend(said.clone());
            if let Some(managed) = &mut row.managed {
                managed.firmware.extend(said);
                check_metadata(name, &managed.firmware)?;
            }
            Ok(())
        }
    }
}

/// What a device told when it began to be observed: an attribute that it tells whole is what it says it is.
///
/// # Errors
/// As of [`merge`].
pub(super) fn replace(row: &mut DeviceRow, field: &Field<'_>, value: Value, now: Now) -> Result<(), Malformed> {
    if field.path.is_empty() {
        match field.attribute {
            Attribute::Metadata => row.metadata.clear(),
            Attribute::DeviceInfo => row.device_info.clear(),
            Attribute::Location | Attribute::Firmware => {}
        }
    }
    merge(row, field, value, &mut Map::new(), now)
}

/// Puts a value where the path leads to; objects on the way are made. Without a path an object's members are put. `null`
/// is what has gone.
fn put(object: &mut Map<String, Value>, name: &str, path: &[&str], value: Value) -> Result<(), Malformed> {
    let dotted = path.join(".");
    match path {
        [] => match value {
            Value::Object(members) => {
                object.extend(members);
                object.retain(|_, value| !value.is_null());
            }
            _ => return Err(Malformed::new(name, "must be an object")),
        },
        _ if value.is_null() && !leads_on(object, path) => {}
        // A name may have dots itself.
        [_, _, ..] if object.contains_key(&dotted) => put(object, name, &[&dotted], value)?,
        [member] if value.is_null() => drop(object.shift_remove(*member)),
        [member] => {
            object.insert((*member).to_owned(), value);
        }
        [member, rest @ ..] => {
            let inner = object.entry(*member).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else {
                return Err(Malformed::new(
                    format!("{name}.{member}"),
                    "is known, and has no members",
                ));
            };
            put(inner, &format!("{name}.{member}"), rest, value)?;
        }
    }
    Ok(())
}

/// Whether there is something at the beginning of the path.
fn leads_on(object: &Map<String, Value>, path: &[&str]) -> bool {
    object.contains_key(&path.join(".")) || path.first().is_some_and(|first| object.contains_key(*first))
}

/// What became of a location that a device told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// That is where it is.
    Here,
    /// It was measured before the one that is known: the newest counts, in whatever order they come.
    Older,
    /// It repeats what an operator wrote.
    Echo,
    /// Nothing, or a part of a location and nothing to put it into.
    Part,
}

/// A device tells where it is, whole: what it leaves out is gone.
pub(super) fn place(row: &mut DeviceRow, location: &Location, now: Now) -> Placed {
    if let Some(known) = &row.location {
        let measured = location.measured_date_time.as_deref().and_then(timestamp::parse);
        let time = |name: &str| known.get(name).and_then(Value::as_str).and_then(timestamp::parse);
        let same = |name: &str, number: Option<f64>| known.get(name).and_then(Value::as_f64) == number;
        let echo = same("latitude", Some(location.latitude))
            && same("longitude", Some(location.longitude))
            && same("elevation", location.elevation)
            && same("accuracy", location.accuracy)
            && measured.is_none_or(|measured| Some(measured) == time("measuredDateTime"));
        if row.location_written && echo {
            return Placed::Echo;
        }
        // What an operator wrote was measured by nobody: a device that knows better tells an earlier measurement.
        let known_time = |name: &str| if row.location_written { None } else { time(name) };
        // Measured after it was received is a wrong clock, and must not hold for ever.
        let known = known_time("measuredDateTime");
        let known = known.map(|at| time("updatedDateTime").map_or(at, |received| at.min(received)));
        if measured.zip(known).is_some_and(|(measured, known)| measured < known) {
            return Placed::Older;
        }
    }
    row.location = Some(stored(location, now));
    row.location_written = false;
    Placed::Here
}

/// The same from a value that may be a part: with latitude and longitude it is a location of its own, else it changes
/// what is known.
fn place_part(row: &mut DeviceRow, value: Value, now: Now) -> Result<Placed, Malformed> {
    let name = Attribute::Location.as_str();
    let Value::Object(told) = value else {
        return Err(Malformed::new(name, "must be an object"));
    };
    if told.is_empty() {
        return Ok(Placed::Part);
    }
    if told.contains_key("latitude") && told.contains_key("longitude") {
        return Ok(place(row, &Location::parse(name, told.into())?, now));
    }
    let mut whole = match &row.location {
        Some(known) => known.clone(),
        None => Map::from_iter([("latitude".into(), 0.into()), ("longitude".into(), 0.into())]),
    };
    whole.shift_remove("measuredDateTime");
    whole.extend(told);
    let location = Location::parse(name, whole.into())?;
    if row.location.is_none() {
        return Ok(Placed::Part);
    }
    Ok(place(row, &location, now))
}

/// A location as it is kept: an optional member that was left out is gone, the times are the service's where the
/// device gave none.
pub(super) fn stored(location: &Location, now: Now) -> Map<String, Value> {
    let mut known = location.clone();
    known.extra = Map::new();
    let received = timestamp::format_ms(now.unix_ms);
    if known.measured_date_time.is_none() {
        known.measured_date_time = received.clone();
    }
    let mut object = known.to_object();
    object.extend(received.map(|received| ("updatedDateTime".to_owned(), received.into())));
    object
}
