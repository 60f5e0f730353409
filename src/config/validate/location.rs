//! `[location]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Check;
use crate::config::fragment::{Located, Value};
use crate::config::settings::{Location, LocationSource};
use crate::config::units;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MIN_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(10)..=DAY;
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
const GPSD: &str = "127.0.0.1:2947";

impl Check<'_> {
    pub(super) fn location(&mut self) -> Location {
        let min_interval = self.interval("location.min_interval", MIN_INTERVAL);
        let min_interval = min_interval.unwrap_or(Duration::from_secs(60));
        let max_interval = self.interval("location.max_interval", min_interval..=LONGEST);
        let distance = self.number("location.min_distance", 0.0..=100_000.0, "metres");
        let decimals = self.number("location.decimals", 0.0..=9.0, "decimal places");
        if decimals.is_some_and(|decimals| decimals.fract() != 0.0) {
            self.wrong("location.decimals", "must be a whole number", "5 is about a metre");
        }
        Location {
            source: self.location_source(),
            min_interval,
            max_interval: max_interval.unwrap_or(DAY.max(min_interval)),
            min_distance: distance.unwrap_or(50.0),
            // 0 to 9, and whole
            decimals: decimals.map_or(5, |decimals| decimals as u8),
        }
    }

    fn location_source(&mut self) -> LocationSource {
        let gpsd = self.text("location.gpsd", units::endpoint);
        let latitude = self.number("location.fixed.latitude", -90.0..=90.0, "degrees");
        let longitude = self.number("location.fixed.longitude", -180.0..=180.0, "degrees");
        let source = self.text("location.source", |text| match text {
            "off" | "gpsd" | "fixed" => Ok(text.to_owned()),
            _ => Err("must be \"gpsd\", \"fixed\" or \"off\"".to_owned()),
        });
        match (source.as_deref(), latitude, longitude) {
            (Some("gpsd"), ..) => LocationSource::Gpsd(gpsd.unwrap_or_else(|| GPSD.to_owned())),
            (Some("fixed"), Some(latitude), Some(longitude)) => LocationSource::Fixed { latitude, longitude },
            (Some("fixed"), ..) => {
                let hint = "add [location.fixed] with latitude and longitude, in decimal degrees";
                self.wrong("location.source", "needs to know where", hint);
                LocationSource::Off
            }
            _ => LocationSource::Off,
        }
    }

    fn interval(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.text(key, |text| {
            let interval = units::duration(text)?;
            let (least, most) = (units::show(*range.start()), units::show(*range.end()));
            match range.contains(&interval) {
                true => Ok(interval),
                false => Err(format!("{} is out of range: {least} to {most}", units::show(interval))),
            }
        })
    }

    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<f64>, unit: &str) -> Option<f64> {
        let Some(Located {
            value: Value::Number(number),
            ..
        }) = self.inputs.get(key)
        else {
            return None;
        };
        let number = *number;
        if !range.contains(&number) {
            let told = format!("{number} is out of range: {} to {} {unit}", range.start(), range.end());
            self.wrong(key, told, "see docs/configuration.md");
            return None;
        }
        Some(number)
    }
}
