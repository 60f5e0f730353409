//! The device model: the attributes that can be read, written, observed (device model reference).

use serde_json::{Map, Value};

use super::json::{Malformed, Members};
use super::timestamp;

/// The largest metadata that is taken, in bytes of JSON; the service takes no more of other attributes either. The
/// platform documents no limit of its own.
pub const MAX_METADATA: usize = 64 * 1024;
/// The deepest metadata that is taken, in levels, and likewise.
pub const MAX_METADATA_DEPTH: usize = 8;

/// `deviceInfo`: what a device says about itself. Members that are not known are left out, never null or empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceInfo {
    /// `serialNumber`
    pub serial_number: Option<String>,
    /// `manufacturer`
    pub manufacturer: Option<String>,
    /// `model`
    pub model: Option<String>,
    /// `deviceClass`
    pub device_class: Option<String>,
    /// `description`
    pub description: Option<String>,
    /// `fwVersion`: the firmware that runs.
    pub fw_version: Option<String>,
    /// `hwVersion`
    pub hw_version: Option<String>,
    /// `descriptiveLocation`
    pub descriptive_location: Option<String>,
    /// Members that this version does not know.
    pub extra: Map<String, Value>,
}

impl DeviceInfo {
    /// The members' names on the wire, in their order.
    pub const MEMBERS: [&str; 8] = [
        "serialNumber",
        "manufacturer",
        "model",
        "deviceClass",
        "description",
        "fwVersion",
        "hwVersion",
        "descriptiveLocation",
    ];

    /// The value of a member by its name on the wire.
    pub fn member(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "serialNumber" => &mut self.serial_number,
            "manufacturer" => &mut self.manufacturer,
            "model" => &mut self.model,
            "deviceClass" => &mut self.device_class,
            "description" => &mut self.description,
            "fwVersion" => &mut self.fw_version,
            "hwVersion" => &mut self.hw_version,
            "descriptiveLocation" => &mut self.descriptive_location,
            _ => return None,
        })
    }

    /// As on the wire; empty when nothing is known.
    pub fn to_object(&self) -> Map<String, Value> {
        let mut copy = self.clone();
        let mut object = Map::new();
        for name in Self::MEMBERS {
            if let Some(Some(value)) = copy.member(name)
                && !value.is_empty()
            {
                object.insert(name.into(), std::mem::take(value).into());
            }
        }
        object.extend(copy.extra);
        object
    }

    /// Reads the object at this path.
    ///
    /// # Errors
    /// When it is no object, or a known member is no string.
    pub fn parse(path: &str, value: Value) -> Result<Self, Malformed> {
        let mut members = Members::of(path, value)?;
        let mut info = DeviceInfo::default();
        for name in Self::MEMBERS {
            let value = members.string(name)?;
            if let Some(member) = info.member(name) {
                *member = value;
            }
        }
        info.extra = members.rest();
        Ok(info)
    }
}

/// A position (WGS 84).
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// Decimal degrees, -90 to 90.
    pub latitude: f64,
    /// Decimal degrees, -180 to 180.
    pub longitude: f64,
    /// Metres; left out when unknown. 0 is a legal elevation.
    pub elevation: Option<f64>,
    /// Metres; left out when unknown.
    pub accuracy: Option<f64>,
    /// When it was measured, RFC 3339 with a zone.
    pub measured_date_time: Option<String>,
    /// Members that this version does not know, and `updatedDateTime`, which only the service writes.
    pub extra: Map<String, Value>,
}

impl Location {
    /// As on the wire.
    pub fn to_object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("longitude".into(), self.longitude.into());
        object.insert("latitude".into(), self.latitude.into());
        if let Some(elevation) = self.elevation {
            object.insert("elevation".into(), elevation.into());
        }
        if let Some(accuracy) = self.accuracy {
            object.insert("accuracy".into(), accuracy.into());
        }
        if let Some(measured) = &self.measured_date_time {
            object.insert("measuredDateTime".into(), measured.as_str().into());
        }
        object.extend(self.extra.clone());
        object
    }

    /// Reads the object at this path.
    ///
    /// # Errors
    /// Latitude or longitude missing or out of range, a member of the wrong type, a time without a zone.
    pub fn parse(path: &str, value: Value) -> Result<Self, Malformed> {
        let mut members = Members::of(path, value)?;
        let mut degrees = |name: &str, limit: f64| {
            let value = members
                .number(name)?
                .ok_or_else(|| Malformed::new(members.path(name), "is missing"))?;
            if value.abs() > limit {
                let reason = format!("is {value}; it must be between -{limit} and {limit} degrees");
                return Err(Malformed::new(members.path(name), reason));
            }
            Ok(value)
        };
        let latitude = degrees("latitude", 90.0)?;
        let longitude = degrees("longitude", 180.0)?;
        let elevation = members.number("elevation")?;
        let accuracy = members.number("accuracy")?;
        if accuracy.is_some_and(|metres| metres < 0.0) {
            return Err(Malformed::new(
                members.path("accuracy"),
                "is negative; it is a distance in metres",
            ));
        }
        let measured_date_time = members.string("measuredDateTime")?.filter(|text| !text.is_empty());
        if let Some(text) = &measured_date_time
            && timestamp::parse(text).is_none()
        {
            let reason = "is no time with a zone, such as 2024-05-01T10:00:00Z";
            return Err(Malformed::new(members.path("measuredDateTime"), reason));
        }
        Ok(Location {
            latitude,
            longitude,
            elevation,
            accuracy,
            measured_date_time,
            extra: members.rest(),
        })
    }
}

/// Checks metadata, or another attribute that may hold anything, against [`MAX_METADATA`] and [`MAX_METADATA_DEPTH`].
///
/// # Errors
/// Says which limit is passed.
pub fn check_metadata(path: &str, metadata: &Map<String, Value>) -> Result<(), Malformed> {
    let depth = 1 + metadata.values().map(super::json::depth).max().unwrap_or(0);
    if depth > MAX_METADATA_DEPTH {
        return Err(Malformed::new(
            path,
            format!("is nested {depth} levels deep; at most {MAX_METADATA_DEPTH}"),
        ));
    }
    let bytes = serde_json::to_string(metadata).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_METADATA {
        return Err(Malformed::new(
            path,
            format!("has {bytes} bytes; at most {MAX_METADATA}"),
        ));
    }
    Ok(())
}

const KEPT: &str = "kept by the device: ";

/// What the message of a 204 says of attributes that were written and that the device knows better; empty when it has
/// taken over all. It is this project's own: the protocol has no field for it.
pub fn kept_message(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("{KEPT}{}", names.join(", ")),
    }
}

/// The attributes that such a message names; none of any other message.
pub fn kept_in(message: &str) -> Vec<&str> {
    let names = message.strip_prefix(KEPT).map(|names| names.split(", "));
    names.into_iter().flatten().collect()
}

/// A field and its value, as updates and notifies carry them: `{"field": "mgmt.firmware", "value": {...}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldValue {
    /// The attribute's dotted name.
    pub field: String,
    /// Its value, whole or (in a notify) only what changed of it; `null` when there is none any more.
    pub value: Value,
}

impl FieldValue {
    /// As on the wire.
    pub fn to_value(&self) -> Value {
        serde_json::json!({"field": self.field, "value": self.value})
    }

    /// Reads `d` with fields and values: `{"fields": [{"field", "value"}...]}`, or the historic single
    /// `{"field", "value"}`.
    ///
    /// # Errors
    /// No fields, or one without a name or value.
    pub fn parse_all(path: &str, d: Value) -> Result<Vec<Self>, Malformed> {
        let mut members = Members::of(path, d)?;
        let Some(items) = members.array("fields")? else {
            return Ok(vec![Self::parse_one(members)?]);
        };
        let one = |(index, item)| Self::parse_one(Members::of(format!("{path}.fields[{index}]"), item)?);
        items.into_iter().enumerate().map(one).collect()
    }

    fn parse_one(mut members: Members) -> Result<Self, Malformed> {
        let field = members
            .string("field")?
            .ok_or_else(|| Malformed::new(members.path("field"), "is missing"))?;
        let value = members.given("value")?;
        Ok(FieldValue { field, value })
    }
}

/// Reads `d` with names of fields: objects `{"field": name}` or bare strings, under `fields` or the historic `data`.
///
/// # Errors
/// No list, or an entry that names no field.
pub fn parse_field_names(path: &str, d: Value) -> Result<Vec<String>, Malformed> {
    let mut members = Members::of(path, d)?;
    let (list, items) = match members.array("fields")? {
        Some(items) => ("fields", items),
        None => match members.array("data")? {
            Some(items) => ("data", items),
            None => return Err(Malformed::new(members.path("fields"), "is missing")),
        },
    };
    let name = |(index, item): (usize, Value)| match item {
        Value::String(name) => Ok(name),
        other => {
            let mut members = Members::of(format!("{path}.{list}[{index}]"), other)?;
            members
                .string("field")?
                .ok_or_else(|| Malformed::new(members.path("field"), "is missing"))
        }
    };
    items.into_iter().enumerate().map(name).collect()
}

/// Names of fields as observe and cancel send them: `{"fields": [{"field": name}...]}`.
pub fn field_names_to_value(fields: &[String]) -> Value {
    let fields: Vec<Value> = fields.iter().map(|field| serde_json::json!({"field": field})).collect();
    serde_json::json!({"fields": fields})
}
