//! An hour on the road: a real gpsd, and the policy of what the service is told.

use std::time::Duration;

use iotdm::agent::location::{Answer, Fix, Location, Settings};
use iotdm::host::gpsd::{Gpsd, Options, Trouble};

use crate::gnss::{Receiver, Sky};
use crate::support::free_port;
use crate::{fix, gpsd, options, trouble};

/// 2026-11-23T12:00:00Z
const NOON: i64 = 1_795_435_200;
/// Of latitude, for 1200 metres: a minute at 72 km/h.
const MINUTE_OF_ROAD: f64 = 1200.0 / 111_195.0;

/// What there is of the sky at the beginning of a minute.
fn sky(minute: u32) -> Sky {
    let on_the_road = |minutes: u32, jitter: f64| Sky::Fix {
        latitude: 48.0 + f64::from(minutes) * MINUTE_OF_ROAD + jitter,
        longitude: 11.5 - jitter,
        altitude: 500.0,
    };
    match minute {
        0..=20 => on_the_road(minute, 0.0),
        // It stands still, and the fixes dance about by up to 9 metres.
        21..=30 => on_the_road(20, f64::from(minute % 5) * 2e-5 - 4e-5),
        31..=34 => on_the_road(minute - 10, 0.0),
        // a tunnel
        35..=44 => Sky::NoFix,
        // two leaps to nonsense: one to where there is no gateway, one to where there is no earth
        50 => Sky::Fix {
            latitude: 0.0,
            longitude: 0.0,
            altitude: 0.0,
        },
        52 => Sky::Fix {
            latitude: 91.5,
            longitude: 11.5,
            altitude: 500.0,
        },
        _ => on_the_road(minute - 10, 0.0),
    }
}

/// The reports of the hour: one for each of the 61 looks, but for
/// * 10 while it stands still (minutes 21 to 30; it arrived in minute 20),
/// * 10 in the tunnel (35 to 44),
/// * 1 that is not believed, because the next fix does not confirm it (50),
/// * 1 without a position that can be one (52).
const REPORTS: usize = 61 - 10 - 10 - 1 - 1;

/// Whether this is the fix that the sky gives, as exact as NMEA is.
fn is_there(fix: &iotdm::host::gpsd::Fix, sky: &Sky) -> bool {
    let Sky::Fix {
        latitude, longitude, ..
    } = sky
    else {
        return false;
    };
    (fix.latitude - latitude).abs() < 1e-6 && (fix.longitude - longitude).abs() < 1e-6
}

#[tokio::test]
async fn an_hour_on_the_road_makes_39_reports_and_no_more() {
    let receiver = Receiver::start("127.0.0.1:0", sky(0), NOON).await;
    let server = gpsd::Gpsd::start(free_port(), &[receiver.url()]).await;
    let mut client = Gpsd::start(Options {
        settle: Duration::from_millis(60),
        ..options(&server.address())
    });
    let (settings, mut location, mut reported) = (Settings::default(), Location::default(), Vec::new());
    let mut before = Sky::Silent;
    for minute in 0..=60 {
        // No two minutes in a row are at quite the same place, so a fix tells which one it is of.
        let (sky, now) = (sky(minute), Duration::from_secs(60 * u64::from(minute)));
        receiver.see_at(sky, NOON + 60 * i64::from(minute));
        let what = format!("minute {minute}: {sky:?}");
        let lost = match sky {
            Sky::NoFix => Some(Trouble::NoFix),
            Sky::Fix { latitude, .. } if latitude > 90.0 => Some(Trouble::Unusable),
            _ => None,
        };
        match lost {
            // A trouble is told when it begins.
            Some(_) if before == sky => {}
            Some(expected) => {
                trouble(&mut client, &what, |trouble| *trouble == expected).await;
                location.lost(now);
            }
            None => {
                let found = fix(&mut client, &what, |fix| fix.accuracy.is_some() && is_there(fix, &sky)).await;
                location.fix(
                    now,
                    Fix {
                        latitude: found.latitude,
                        longitude: found.longitude,
                        elevation: found.altitude,
                        accuracy: found.accuracy,
                        measured: found.time,
                    },
                );
            }
        }
        if location.due(&settings, now).is_some() {
            location.answered(Answer::Taken);
            reported.push(minute);
        }
        before = sky;
    }
    let expected: Vec<u32> = (0..=20)
        .chain(31..=34)
        .chain(45..=49)
        .chain([51])
        .chain(53..=60)
        .collect();
    assert_eq!(reported, expected);
    assert_eq!(reported.len(), REPORTS);
    assert_eq!(REPORTS, 39);
}
