//! `NAME=VALUE` as it is typed for `iotdm set`, and what it makes of a device.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::protocol::model::DeviceInfo;

/// A member of `metadata` or `deviceInfo`, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment {
    /// Dotted, from the attribute on.
    path: Vec<String>,
    /// `None` takes the member away.
    value: Option<Value>,
}

/// Why a text is no assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAssigned {
    #[error("write NAME=VALUE, for example metadata.site=north")]
    NoSign,
    #[error("a location is written with --location LAT,LON[,ALT]")]
    Location,
    #[error("{0:?} cannot be written; write metadata.NAME, or one of {members}", members = DeviceInfo::MEMBERS.join(", "))]
    Name(String),
    #[error("metadata as a whole is a JSON object, for example metadata='{{\"site\": \"north\"}}'")]
    Whole,
}

impl FromStr for Assignment {
    type Err = NotAssigned;

    fn from_str(text: &str) -> Result<Self, NotAssigned> {
        let (name, value) = text.split_once('=').ok_or(NotAssigned::NoSign)?;
        let mut path: Vec<String> = name.split('.').map(str::to_owned).collect();
        if path.len() == 1 && DeviceInfo::MEMBERS.contains(&name) {
            path.insert(0, "deviceInfo".to_owned());
        }
        if path.iter().any(String::is_empty) {
            return Err(NotAssigned::Name(name.to_owned()));
        }
        let value = match (path[0].as_str(), path.len()) {
            ("deviceInfo", 2) if DeviceInfo::MEMBERS.contains(&path[1].as_str()) => {
                (!value.is_empty()).then(|| Value::from(value))
            }
            ("metadata", 1) => match metadata(value) {
                None => Some(Value::Object(Map::new())),
                Some(Value::Object(members)) => Some(members.into()),
                Some(_) => return Err(NotAssigned::Whole),
            },
            ("metadata", _) => metadata(value),
            ("location", _) => return Err(NotAssigned::Location),
            _ => return Err(NotAssigned::Name(name.to_owned())),
        };
        Ok(Assignment { path, value })
    }
}

/// JSON where it is JSON, else a text; nothing and null take a member away.
fn metadata(text: &str) -> Option<Value> {
    let value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => Value::from(text),
    };
    (!text.is_empty() && !value.is_null()).then_some(value)
}

/// The body of a PUT: of what is written the whole attribute, as the device is shown, with what is to be changed.
///
/// # Errors
/// Names what is on the way and is no object.
pub(super) fn apply(assignments: &[Assignment], shown: &Value) -> Result<Value, String> {
    let mut body = json!({});
    for Assignment { path, value } in assignments {
        let attribute = path[0].as_str();
        if body.get(attribute).is_none() {
            let known = shown[attribute].as_object().cloned().unwrap_or_default();
            body[attribute] = known.into();
        }
        if let Value::Object(body) = &mut body {
            put(body, "", path, value.as_ref())?;
        }
    }
    Ok(body)
}

/// Puts a value where the path leads to, or takes away what is there. Objects on the way are made for a value.
fn put(object: &mut Map<String, Value>, above: &str, path: &[String], value: Option<&Value>) -> Result<(), String> {
    // A name may have dots itself.
    let dotted = path.join(".");
    match (path, value) {
        ([], _) => {}
        ([_, _, ..], _) if object.contains_key(&dotted) => put(object, above, &[dotted], value)?,
        ([name], Some(value)) => drop(object.insert(name.clone(), value.clone())),
        ([name], None) => drop(object.shift_remove(name)),
        ([name, ..], None) if !object.contains_key(name) => {}
        ([name, rest @ ..], _) => {
            let inner = object.entry(name.clone()).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else {
                return Err(format!("{above}{name} is {inner} and has no members"));
            };
            put(inner, &format!("{above}{name}."), rest, value)?;
        }
    }
    Ok(())
}

/// `LAT,LON[,ALT]` in degrees and metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) elevation: Option<f64>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let numbers: Option<Vec<f64>> = text.split(',').map(number).collect();
        let place = match numbers.as_deref() {
            Some([latitude, longitude]) => (*latitude, *longitude, None),
            Some([latitude, longitude, elevation]) => (*latitude, *longitude, Some(*elevation)),
            _ => return Err("write LAT,LON or LAT,LON,ALT in degrees and metres, for example 52.52,13.405,34".into()),
        };
        let (latitude, longitude, elevation) = place;
        for (name, degrees, limit) in [("latitude", latitude, 90.0), ("longitude", longitude, 180.0)] {
            if degrees.abs() > limit {
                return Err(format!(
                    "the {name} {degrees} is not between -{limit} and {limit} degrees; latitude comes first"
                ));
            }
        }
        Ok(Place {
            latitude,
            longitude,
            elevation,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn applied(texts: &[&str], shown: &Value) -> Result<Value, String> {
        let assignments: Vec<Assignment> = texts.iter().map(|text| text.parse().unwrap()).collect();
        apply(&assignments, shown)
    }

    #[test]
    fn what_is_not_named_stays_and_only_attributes_that_are_written_are_sent() {
        let shown = json!({"metadata": {"site": "south", "n": 1}, "deviceInfo": {"fwVersion": "1", "model": "x"}});
        assert_eq!(
            applied(&["metadata.site=north"], &shown),
            Ok(json!({"metadata": {"site": "north", "n": 1}}))
        );
        assert_eq!(
            applied(&["description=at the gate", "deviceInfo.model="], &shown),
            Ok(json!({"deviceInfo": {"fwVersion": "1", "description": "at the gate"}}))
        );
        assert_eq!(
            applied(&["metadata.n=", "metadata.a.b=true", "metadata.a.c=x"], &shown),
            Ok(json!({"metadata": {"site": "south", "a": {"b": true, "c": "x"}}}))
        );
        assert_eq!(
            applied(&["metadata.x.y=null"], &shown),
            Ok(json!({"metadata": shown["metadata"]}))
        );
        assert_eq!(applied(&["metadata="], &shown), Ok(json!({"metadata": {}})));
        assert_eq!(
            applied(&["metadata={\"a\":1}"], &json!({})),
            Ok(json!({"metadata": {"a": 1}}))
        );
        let dotted = json!({"metadata": {"a.b": 1, "a": {"c": 2}}});
        assert_eq!(
            applied(&["metadata.a.b=2", "metadata.a.c="], &dotted),
            Ok(json!({"metadata": {"a.b": 2, "a": {}}}))
        );
        let error = applied(&["metadata.site.street=x"], &shown).unwrap_err();
        assert_eq!(error, "metadata.site is \"south\" and has no members");
    }

    #[test]
    fn a_value_of_metadata_is_json_where_it_is_json_and_of_device_info_always_a_text() {
        for (text, value) in [
            ("metadata.a=5", json!(5)),
            ("metadata.a=\"5\"", json!("5")),
            ("metadata.a=007", json!("007")),
            ("metadata.a=[1, 2]", json!([1, 2])),
            ("metadata.a=a=b", json!("a=b")),
            ("metadata.a=\"\"", json!("")),
            ("hwVersion=5", json!("5")),
            ("descriptiveLocation=null", json!("null")),
        ] {
            assert_eq!(text.parse::<Assignment>().unwrap().value, Some(value), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_with_what_can() {
        for (text, said) in [
            ("metadata.site", "NAME=VALUE"),
            ("site=north", "metadata.NAME, or one of serialNumber"),
            ("deviceInfo={}", "metadata.NAME"),
            ("deviceInfo.colour=red", "metadata.NAME"),
            ("metadata..a=1", "metadata.NAME"),
            ("=1", "metadata.NAME"),
            ("mgmt.firmware.state=0", "metadata.NAME"),
            ("location.latitude=1", "--location"),
            ("metadata=5", "JSON object"),
        ] {
            let error = text.parse::<Assignment>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_is_latitude_longitude_and_perhaps_elevation_within_their_ranges() {
        let place: Place = "-33.8, 151.2,0".parse().unwrap();
        assert_eq!(
            (place.latitude, place.longitude, place.elevation),
            (-33.8, 151.2, Some(0.0))
        );
        for text in [
            "",
            "1",
            "1,2,3,4",
            "91,0",
            "0,180.1",
            "NaN,0",
            "1,inf",
            "north,0",
            "52,5,13,4",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        assert!("120,10".parse::<Place>().unwrap_err().contains("latitude comes first"));
    }
}
