//! An hour on the road, through the whole brain in simulated time: how often the service is told where the host is.

use std::time::Duration;

use iotdm::agent::location::{Fix, Settings as Tracking};
use iotdm::agent::{Event, Settings};

use crate::driver::{Driver, settings};
use crate::location::told;
use crate::model::managed;

const METRE: f64 = 1.0 / 111_195.0;
/// In metres: a minute at 72 km/h.
const MINUTE_OF_ROAD: f64 = 1200.0;

/// What the receiver says in this minute: so many metres along the road and aside of it; `None`: no fix.
fn sky(minute: u32) -> Option<(f64, f64)> {
    let road = |minutes: u32| f64::from(minutes) * MINUTE_OF_ROAD;
    match minute {
        0..=20 => Some((road(minute), 0.0)),
        // It stands still, and the fixes dance about by up to 9 metres.
        21..=30 => Some((road(20), f64::from(minute % 5) * 4.0 - 8.0)),
        31..=34 => Some((road(minute - 10), 0.0)),
        // a tunnel
        35..=44 => None,
        // a leap to where there is no gateway
        50 => Some((-5_000_000.0, 0.0)),
        45..=51 => Some((road(minute - 10), 0.0)),
        // a position that is none
        52 => None,
        // A jam: 30 metres a minute.
        _ => Some((road(41) + 30.0 * f64::from(minute - 51), 0.0)),
    }
}

/// The reports of the hour, by the minute:
/// * 21 on the road (0 to 20), none while it stands still (21 to 30),
/// * 4 on the road (31 to 34), none in the tunnel (35 to 44), 5 on the road (45 to 49),
/// * none for the leap (50), because the next fix does not confirm it, and 1 for that next fix (51),
/// * none without a position (52),
/// * 4 in the jam: 50 metres are passed in every second minute (53, 55, 57, 59).
fn expected() -> Vec<u32> {
    let jam = [53, 55, 57, 59];
    let road = (0..=20).chain(31..=34).chain(45..=49).chain([51]);
    road.chain(jam).collect()
}

fn see(driver: &mut Driver, minute: u32) {
    let before = minute.checked_sub(1).map(sky);
    match sky(minute) {
        Some((along, aside)) => driver.event(Event::Fix(Fix {
            latitude: 48.0 + along * METRE,
            longitude: 11.5 + aside * METRE,
            elevation: None,
            accuracy: Some(5.0),
            measured: None,
        })),
        // A trouble is told when it begins.
        None if before != Some(None) => driver.event(Event::NoFix("no satellites".into())),
        None => {}
    }
}

#[test]
fn an_hour_on_the_road_makes_35_reports_and_no_more() {
    let mut driver = managed(Settings {
        tracking: Some(Tracking::default()),
        ..settings("boot-1")
    });
    let mut reported = Vec::new();
    let mut answered = 0;
    for minute in 0..=60 {
        see(&mut driver, minute);
        // What a deadline before the next look may bring belongs to this minute.
        for _ in 0..2 {
            if told(&driver).len() > answered {
                answered += 1;
                driver.answer_location(200);
                reported.push(minute);
            }
            driver.pass(Duration::from_millis(29_999));
        }
        driver.pass(Duration::from_millis(2));
    }
    assert_eq!(reported, expected());
    assert_eq!((told(&driver).len(), expected().len()), (35, 35));
    driver.pass(Duration::from_secs(3600));
    assert_eq!(told(&driver).len(), 35, "without a fix it tells no more");
}
