//! One line of gpsd's as a value: pure, and nothing that comes makes it fail.
//!
//! Every member is optional; one of the wrong type, or no finite number, counts as absent. A class that is not known
//! here is a class all the same. Facts: gpsd_json(5), of gpsd 3.22 to 3.27.

use serde_json::{Map, Value};

/// What gpsd said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// Its greeting.
    Version {
        /// Such as `3.22`; empty when it says none.
        release: String,
        /// Of the protocol; 3 since 2009.
        major: Option<i64>,
    },
    /// The receivers it knows, by their paths.
    Devices(Vec<String>),
    /// Time, position, velocity.
    Tpv(Tpv),
    /// It did not do something, and why.
    Error(String),
    /// Its answer to `?WATCH`.
    Watch,
    /// Any other class, such as `SKY`, `TOFF` or one of the future. `DEVICE` (one came or went) changes nothing: the next
    /// look asks for all of them. Neither does `POLL`, which is not asked for.
    Other,
    /// No JSON object with a class.
    Garbage,
}

/// What is used of a `TPV`, as it came: finite, and nothing else is promised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Tpv {
    /// 0 unknown, 1 no fix, 2 two dimensions, 3 three.
    pub(super) mode: Option<i64>,
    /// `lat`, degrees.
    pub(super) latitude: Option<f64>,
    /// `lon`, degrees.
    pub(super) longitude: Option<f64>,
    /// `altMSL`, metres above the sea; since 3.20.
    pub(super) above_sea: Option<f64>,
    /// `altHAE`, metres above the ellipsoid; since 3.20.
    pub(super) above_ellipsoid: Option<f64>,
    /// `alt`, metres above one of them; the only one before 3.20, not to be used since.
    pub(super) altitude: Option<f64>,
    /// `eph`, metres: the estimated error of the horizontal position.
    pub(super) eph: Option<f64>,
    /// `epx`, metres: of the longitude.
    pub(super) epx: Option<f64>,
    /// `epy`, metres: of the latitude.
    pub(super) epy: Option<f64>,
    /// `time`, seconds since 1970.
    pub(super) time: Option<i64>,
}

impl Message {
    /// Reads a line, without its end.
    pub(super) fn parse(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let object = serde_json::from_str(&text).or_else(|_| serde_json::from_str(&without_infinities(&text)));
        let Ok(Value::Object(object)) = object else {
            return Message::Garbage;
        };
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match object.get("class").and_then(Value::as_str) {
            None => Message::Garbage,
            Some("VERSION") => Message::Version {
                release: text("release"),
                major: object.get("proto_major").and_then(Value::as_i64),
            },
            Some("DEVICES") => {
                let devices = object.get("devices").and_then(Value::as_array);
                let path = |device: &Value| device.get("path").and_then(Value::as_str).unwrap_or("?").to_owned();
                Message::Devices(devices.into_iter().flatten().map(path).collect())
            }
            Some("TPV") => Message::Tpv(Tpv::read(&object)),
            Some("ERROR") => Message::Error(text("message")),
            Some("WATCH") => Message::Watch,
            Some(_) => Message::Other,
        }
    }
}

impl Tpv {
    fn read(object: &Map<String, Value>) -> Self {
        let number = |name: &str| object.get(name)?.as_f64().filter(|value| value.is_finite());
        Tpv {
            mode: object.get("mode").and_then(Value::as_i64),
            latitude: number("lat"),
            longitude: number("lon"),
            above_sea: number("altMSL"),
            above_ellipsoid: number("altHAE"),
            altitude: number("alt"),
            eph: number("eph"),
            epx: number("epx"),
            epy: number("epy"),
            time: object.get("time").and_then(Value::as_str).and_then(seconds),
        }
    }
}

fn seconds(text: &str) -> Option<i64> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(at.unix_timestamp())
}

/// The same with `null` for every number that is none (`nan`, `-inf`, `1e999`), so that one of those does not cost the
/// members around it.
fn without_infinities(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let mut mended = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(c) = rest.chars().next() {
        if !quoted && is_word(c) {
            let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
            let infinite = word.parse::<f64>().is_ok_and(|number| !number.is_finite());
            mended.push_str(if infinite { "null" } else { word });
            rest = after;
            continue;
        }
        // What is escaped in a string ends nothing.
        let escape = quoted && c == '\\';
        quoted ^= c == '"';
        let taken: usize = rest.chars().take(1 + usize::from(escape)).map(char::len_utf8).sum();
        mended.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    mended
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tpv(line: &str) -> Tpv {
        match Message::parse(line.as_bytes()) {
            Message::Tpv(tpv) => tpv,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_gpsd_3_22_says_is_read() {
        assert_eq!(
            Message::parse(br#"{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}"#),
            Message::Version {
                release: "3.22".into(),
                major: Some(3)
            }
        );
        assert_eq!(
            Message::parse(br#"{"class":"DEVICES","devices":[{"class":"DEVICE","path":"/dev/ttyACM0","flags":1},{}]}"#),
            Message::Devices(vec!["/dev/ttyACM0".into(), "?".into()])
        );
        assert_eq!(
            Message::parse(br#"{"class":"DEVICES","devices":[]}"#),
            Message::Devices(Vec::new())
        );
        assert_eq!(Message::parse(br#"{"class":"WATCH","enable":true}"#), Message::Watch);
        assert_eq!(
            Message::parse(br#"{"class":"ERROR","message":"Unrecognized request '?FOO;\n'"}"#),
            Message::Error("Unrecognized request '?FOO;\n'".into())
        );
        let fix = tpv(
            r#"{"class":"TPV","device":"/dev/ttyACM0","mode":3,"time":"2026-11-23T08:46:12.060Z","ept":0.005,
            "lat":48.138153333,"lon":11.575901667,"altHAE":566.9,"altMSL":520.0,"alt":520.0,"epx":3.1,"epy":4.2,"eph":17.1}"#,
        );
        let expected = Tpv {
            mode: Some(3),
            latitude: Some(48.138_153_333),
            longitude: Some(11.575_901_667),
            above_sea: Some(520.0),
            above_ellipsoid: Some(566.9),
            altitude: Some(520.0),
            eph: Some(17.1),
            epx: Some(3.1),
            epy: Some(4.2),
            time: Some(1_795_423_572),
        };
        assert_eq!(fix, expected);
    }

    #[test]
    fn classes_that_are_not_known_and_members_that_are_not_there_are_no_errors() {
        for class in [
            "DEVICE",
            "SKY",
            "POLL",
            "GST",
            "ATT",
            "TOFF",
            "PPS",
            "OSC",
            "RAW",
            "tomorrow's",
        ] {
            let line = format!(r#"{{"class":"{class}","more":[{{"a":null}}]}}"#);
            assert_eq!(Message::parse(line.as_bytes()), Message::Other, "{class}");
        }
        assert_eq!(tpv(r#"{"class":"TPV"}"#), Tpv::default());
        let empty = Message::Version {
            release: String::new(),
            major: None,
        };
        assert_eq!(Message::parse(br#"{"class":"VERSION"}"#), empty);
        assert_eq!(Message::parse(br#"{"class":"DEVICES"}"#), Message::Devices(Vec::new()));
    }

    #[test]
    fn a_member_of_the_wrong_type_or_no_finite_number_counts_as_absent_and_costs_no_other() {
        let fix = tpv(
            r#"{"class":"TPV","mode":3,"device":"/dev/\"nan\", -inf","lat":48.5,"lon":nan,"eph":-NaN,"epx":inf,"epy":1e999,"altMSL":-Infinity,"alt":7}"#,
        );
        let expected = Tpv {
            mode: Some(3),
            latitude: Some(48.5),
            altitude: Some(7.0),
            ..Tpv::default()
        };
        assert_eq!(fix, expected);
        let wrong = tpv(r#"{"class":"TPV","mode":"3","lat":"48.5","lon":[1],"eph":null,"time":1795423572,"alt":{}}"#);
        assert_eq!(wrong, Tpv::default());
        for time in ["", "now", "2026-11-23", "2026-11-23T08:46:12", "2026-13-01T00:00:00Z"] {
            assert_eq!(
                tpv(&format!(r#"{{"class":"TPV","time":"{time}"}}"#)).time,
                None,
                "{time}"
            );
        }
    }

    #[test]
    fn what_is_no_object_with_a_class_is_garbage() {
        let deep = "[".repeat(60_000);
        for line in [
            "$GPGGA,084612.06,4808.2892,N,01134.5541,E,1,08,0.9,520.0,M,46.9,M,,*5A",
            "[{\"class\":\"TPV\"}]",
            "{\"class\":3}",
            "{\"mode\":3}",
            "{\"class\":\"TPV\",\"lat\":abc}",
            "{\"class\":\"TPV\",\"lat\":48.1",
            "HTTP/1.1 400 Bad Request",
            "null",
            "\"",
            "\\",
            "",
            &deep,
        ] {
            assert_eq!(Message::parse(line.as_bytes()), Message::Garbage, "{:.40}", line);
        }
        assert_eq!(Message::parse(b"\xff\xfe{}\x00"), Message::Garbage);
        // a name that is no UTF-8 does not cost the position
        assert_eq!(
            Message::parse(b"{\"class\":\"TPV\",\"device\":\"\xff\",\"mode\":2}"),
            Message::Tpv(Tpv {
                mode: Some(2),
                ..Tpv::default()
            })
        );
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_the_reader_fail(line: Vec<u8>) {
            Message::parse(&line);
        }

        #[test]
        fn a_line_that_is_cut_is_garbage(cut in 1usize..120) {
            let line = r#"{"class":"TPV","device":"/dev/ttyACM0","mode":3,"lat":48.138153333,"lon":11.575901667,"altMSL":520.0,"eph":17.1,"x":1}"#;
            prop_assert_eq!(Message::parse(&line.as_bytes()[..cut.min(line.len() - 1)]), Message::Garbage);
        }

        #[test]
        fn mending_changes_nothing_that_is_json(text in "[ -~ä]{0,40}", number: f64) {
            let json = serde_json::json!({"text": text, "number": number, "list": [true, null, -1.5e-7]}).to_string();
            prop_assert_eq!(without_infinities(&json), json);
        }
    }
}
