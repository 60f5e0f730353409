//! What an operator writes of a device: read, and put into what is known.
//!
//! An attribute may be written whole, as the platform has it, or `metadata` and `deviceInfo` member by member, by dotted
//! names: then the device keeps the others as it has them, be they newer than what is known here.
//!
//! It changes rows and knows nothing of requests.

use serde_json::{Map, Value};

use super::attributes::{Attribute, Field, covers, stored};
use super::rows::DeviceRow;
use super::step::Now;
use crate::protocol::model::{DeviceInfo, FieldValue, Location, check_metadata};
use crate::protocol::{Malformed, timestamp};

/// Reads what an operator writes, and gives it as it is kept and sent. A member that is to go has no value (`null`).
///
/// # Errors
/// Names what cannot be written, or what is wrong with its value.
pub(super) fn read(row: &DeviceRow, values: Vec<FieldValue>, now: Now) -> Result<Vec<FieldValue>, Malformed> {
    if values.is_empty() {
        return Err(Malformed::new("body", "has nothing to write"));
    }
    for (at, value) in values.iter().enumerate() {
        if let Some(other) = values[..at].iter().find(|other| covers(&other.field, &value.field)) {
            let reason = format!("is given twice, as {} is given, too", other.field);
            return Err(Malformed::new(&value.field, reason));
        }
    }
    let one = |FieldValue { field, value }| {
        let value = one(row, &field, value, now)?;
        Ok(FieldValue { field, value })
    };
    values.into_iter().map(one).collect()
}

fn one(row: &DeviceRow, name: &str, value: Value, now: Now) -> Result<Value, Malformed> {
    let refused = |reason: &str| Err(Malformed::new(name, reason));
    let Some(Field { attribute, path }) = Field::parse(name) else {
        return refused("cannot be written");
    };
    Ok(match (attribute, path.as_slice()) {
        (Attribute::Metadata, []) => metadata(name, value)?.into(),
        (Attribute::Metadata, [_]) => value,
        (Attribute::Metadata, _) => return refused("is too deep: metadata is written whole, or a member of it"),
        (Attribute::DeviceInfo, []) => device_info(row, value)?.into(),
        (Attribute::DeviceInfo, [member]) => {
            let alone = Map::from_iter([((*member).to_owned(), value)]);
            device_info(row, alone.into())?.remove(*member).unwrap_or_default()
        }
        (Attribute::Location, []) => stored(&location(name, value)?, now).into(),
        (Attribute::Firmware, []) => return refused("is written by firmware actions alone"),
        _ => return refused("cannot be written"),
    })
}

fn metadata(name: &str, value: Value) -> Result<Map<String, Value>, Malformed> {
    match value {
        Value::Object(metadata) => Ok(metadata),
        _ => Err(Malformed::new(name, "must be an object")),
    }
}

/// A member that nobody knows is a slip of the pen, unless the device itself has told it.
fn device_info(row: &DeviceRow, value: Value) -> Result<Map<String, Value>, Malformed> {
    let name = Attribute::DeviceInfo.as_str();
    let info = DeviceInfo::parse(name, value)?;
    if let Some(unknown) = info.extra.keys().find(|member| !row.device_info.contains_key(*member)) {
        let known = DeviceInfo::MEMBERS.join(", ");
        return Err(Malformed::new(
            format!("{name}.{unknown}"),
            format!("is unknown; there are {known}"),
        ));
    }
    Ok(info.to_object())
}

fn location(name: &str, value: Value) -> Result<Location, Malformed> {
    /// What this service adds when it is asked for a location, so that an answer can be written back.
    const OURS: [&str; 3] = ["updatedDateTime", "writtenBy", "reqId"];
    let location = Location::parse(name, value)?;
    match location.extra.keys().find(|member| !OURS.contains(&member.as_str())) {
        None => Ok(location),
        Some(unknown) => {
            let known = "latitude, longitude, elevation, accuracy, measuredDateTime";
            Err(Malformed::new(
                format!("{name}.{unknown}"),
                format!("is unknown; there are {known}"),
            ))
        }
    }
}

/// What an operator wrote becomes what is known.
///
/// # Errors
/// Says what is too large now, or too deep; the row is half changed then.
pub(super) fn put(row: &mut DeviceRow, values: &[FieldValue], now: Now) -> Result<(), Malformed> {
    for FieldValue { field, value } in values {
        let Some(Field { attribute, path }) = Field::parse(field) else {
            continue;
        };
        match attribute {
            Attribute::Metadata => put_into(&mut row.metadata, &path, value),
            Attribute::DeviceInfo => put_into(&mut row.device_info, &path, value),
            Attribute::Location => {
                let mut object = value.as_object().cloned().unwrap_or_default();
                let at = timestamp::format_ms(now.unix_ms);
                object.extend(at.map(|at| ("updatedDateTime".to_owned(), at.into())));
                row.location = Some(object);
                row.location_written = true;
            }
            Attribute::Firmware => {}
        }
    }
    check_metadata(Attribute::Metadata.as_str(), &row.metadata)?;
    check_metadata(Attribute::DeviceInfo.as_str(), &row.device_info)
}

fn put_into(whole: &mut Map<String, Value>, path: &[&str], value: &Value) {
    match (path, value) {
        ([], Value::Object(object)) => *whole = object.clone(),
        ([member], Value::Null) => drop(whole.shift_remove(*member)),
        ([member], value) => drop(whole.insert((*member).to_owned(), value.clone())),
        _ => {}
    }
}
