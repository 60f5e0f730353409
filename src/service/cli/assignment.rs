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

/// The body of a PUT: by dotted names the members of `metadata` and `deviceInfo` that are named, and no other, so that the
/// device keeps those as it has them. A part of an object in metadata takes the rest of that object with it, as the device
/// is shown. Written whole is what is assigned whole, and what has a name with dots in it.
///
/// # Errors
/// Names what is on the way and is no object, or what is to go and is not there.
pub(super) fn members(assignments: &[Assignment], shown: &Value) -> Result<Value, String> {
    let all = whole(assignments, shown)?;
    let mut body = Map::new();
    for Assignment { path, value } in assignments {
        let attribute = path[0].as_str();
        let object = &all[attribute];
        let is_whole = |other: &Assignment| match other.path.as_slice() {
            [] => false,
            [whole] => whole == attribute,
            [whole, rest @ ..] => {
                whole == attribute && rest.len() > 1 && shown[attribute].get(rest.join(".")).is_some()
            }
        };
        if assignments.iter().any(is_whole) {
            body.insert(attribute.to_owned(), object.clone());
            continue;
        }
        let Some(member) = path.get(1) else { continue };
        let known = object.get(member);
        if known.is_none() && value.is_none() && path.len() > 2 {
            return Err(format!(
                "there is no {attribute}.{member} that something could be taken away from"
            ));
        }
        body.insert(format!("{attribute}.{member}"), known.cloned().unwrap_or_default());
    }
    Ok(body.into())
}

/// The same with each attribute whole, as the device is shown, with what is to be changed.
///
/// # Errors
/// Names what is on the way and is no object.
pub(super) fn whole(assignments: &[Assignment], shown: &Value) -> Result<Value, String> {
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

    fn parsed(texts: &[&str]) -> Vec<Assignment> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_is_named_is_sent() {
        let shown =
            json!({"metadata": {"site": "south", "n": 1, "slot": {"n": 1, "m": 2}}, "deviceInfo": {"model": "x"}});
        for (texts, body) in [
            (&["metadata.site=north"][..], json!({"metadata.site": "north"})),
            (
                &["description=at the gate", "deviceInfo.model="],
                json!({"deviceInfo.description": "at the gate", "deviceInfo.model": null}),
            ),
            (
                &[
                    "metadata.n=",
                    "metadata.a.b=true",
                    "metadata.a.c=x",
                    "metadata.slot.n=5",
                ],
                json!({"metadata.n": null, "metadata.a": {"b": true, "c": "x"}, "metadata.slot": {"n": 5, "m": 2}}),
            ),
            (&["metadata.slot.n="], json!({"metadata.slot": {"m": 2}})),
            (&["metadata.gone="], json!({"metadata.gone": null})),
            (&["metadata.n=2", "metadata.n=3"], json!({"metadata.n": 3})),
            (&["metadata="], json!({"metadata": {}})),
            (&["metadata.n=2", "metadata={\"a\":1}"], json!({"metadata": {"a": 1}})),
            (
                &["metadata={\"a\":1}", "metadata.n=2", "model=y"],
                json!({"metadata": {"a": 1, "n": 2}, "deviceInfo.model": "y"}),
            ),
        ] {
            assert_eq!(members(&parsed(texts), &shown), Ok(body), "{texts:?}");
        }
        let said = members(&parsed(&["metadata.x.y=null"]), &shown).unwrap_err();
        assert!(said.starts_with("there is no metadata.x"), "{said}");
        let dotted = json!({"metadata": {"a.b": 1, "a": {"c": 2}}});
        assert_eq!(
            members(&parsed(&["metadata.a.b=2", "metadata.a.c="]), &dotted),
            Ok(json!({"metadata": {"a.b": 2, "a": {}}})),
            "a device cannot tell the name from a path"
        );
        assert_eq!(
            members(&parsed(&["metadata.a.b="]), &dotted),
            Ok(json!({"metadata": {"a": {"c": 2}}}))
        );
    }

    #[test]
    fn of_the_whole_what_is_not_named_is_as_it_is_shown() {
        let shown = json!({"metadata": {"site": "south", "n": 1}, "deviceInfo": {"fwVersion": "1", "model": "x"}});
        let whole = |texts: &[&str]| whole(&parsed(texts), &shown);
        assert_eq!(
            whole(&["metadata.site=north"]),
            Ok(json!({"metadata": {"site": "north", "n": 1}}))
        );
        assert_eq!(
            whole(&["description=at the gate", "deviceInfo.model="]),
            Ok(json!({"deviceInfo": {"fwVersion": "1", "description": "at the gate"}}))
        );
        let error = whole(&["metadata.site.street=x"]).unwrap_err();
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
