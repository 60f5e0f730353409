//! A real gpsd.

use iotdm::host::gpsd::{Gpsd, Mode, Trouble};

use crate::gnss::{Receiver, Sky};
use crate::support::free_port;
use crate::{fix, gpsd, options, trouble};

/// 2026-11-23T12:00:00Z
const NOON: i64 = 1_795_435_200;

const MUNICH: Sky = Sky::Fix {
    latitude: 48.137_15,
    longitude: 11.576_12,
    altitude: 520.0,
};
const CAPE: Sky = Sky::Fix {
    latitude: -33.906_5,
    longitude: -18.423_2,
    altitude: -2.5,
};

async fn receiver(sky: Sky) -> Receiver {
    Receiver::start("127.0.0.1:0", sky, NOON).await
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-6
}

#[tokio::test]
async fn loc_01_loc_02_a_fix_of_a_real_gpsd_is_heard_with_all_that_it_tells() {
    let receiver = receiver(MUNICH).await;
    let server = gpsd::Gpsd::start(free_port(), &[receiver.url()]).await;
    let mut client = Gpsd::start(options(&server.address()));
    let found = fix(&mut client, "a complete fix", |fix| {
        fix.accuracy.is_some() && fix.altitude.is_some()
    })
    .await;
    assert!(
        close(found.latitude, 48.137_15) && close(found.longitude, 11.576_12),
        "{found:?}"
    );
    assert_eq!((found.altitude, found.mode), (Some(520.0), Mode::ThreeD));
    assert!(found.accuracy.is_some_and(|metres| metres > 1.0 && metres < 100.0));
    assert!((NOON..NOON + 3600).contains(&found.time.unwrap()));
    assert!(!found.heard.is_zero());

    receiver.see(CAPE);
    let found = fix(&mut client, "the other end of the world", |fix| fix.latitude < 0.0).await;
    assert!(
        close(found.latitude, -33.906_5) && close(found.longitude, -18.423_2),
        "{found:?}"
    );
    assert_eq!(found.altitude, Some(-2.5));
}

#[tokio::test]
async fn loc_02_a_fix_in_two_dimensions_has_no_altitude() {
    let receiver = receiver(Sky::Flat {
        latitude: 0.5,
        longitude: 179.999_9,
    })
    .await;
    let server = gpsd::Gpsd::start(free_port(), &[receiver.url()]).await;
    let mut client = Gpsd::start(options(&server.address()));
    let found = fix(&mut client, "a flat fix", |fix| fix.accuracy.is_some()).await;
    assert_eq!((found.altitude, found.mode), (None, Mode::TwoD));
    assert!(close(found.longitude, 179.999_9), "{found:?}");
}

#[tokio::test]
async fn a_fix_that_is_lost_is_told_once_and_so_is_its_return() {
    let receiver = receiver(Sky::NoFix).await;
    let server = gpsd::Gpsd::start(free_port(), &[receiver.url()]).await;
    let mut client = Gpsd::start(options(&server.address()));
    trouble(&mut client, "no fix", |trouble| *trouble == Trouble::NoFix).await;
    receiver.see(MUNICH);
    fix(&mut client, "a fix", |_| true).await;
    receiver.see(Sky::NoFix);
    trouble(&mut client, "no fix again", |trouble| *trouble == Trouble::NoFix).await;
    receiver.see(CAPE);
    let found = fix(&mut client, "a fix again", |_| true).await;
    assert!(found.latitude < 0.0, "not the one from before: {found:?}");
}

#[tokio::test]
async fn a_receiver_that_falls_silent_has_no_fix_though_gpsd_still_knows_its_last_one() {
    let receiver = receiver(MUNICH).await;
    let server = gpsd::Gpsd::start(free_port(), &[receiver.url()]).await;
    let mut client = Gpsd::start(options(&server.address()));
    fix(&mut client, "a fix", |_| true).await;
    receiver.see(Sky::Silent);
    let told = trouble(&mut client, "silence", |_| true).await;
    assert_eq!(
        told.to_string(),
        format!(
            "the receiver says nothing ({}): look at its cable and its speed",
            receiver.url()
        )
    );
    receiver.see(MUNICH);
    fix(&mut client, "a fix again", |_| true).await;
}

#[tokio::test]
async fn a_receiver_that_is_unplugged_is_missed() {
    let receiver = receiver(MUNICH).await;
    let server = gpsd::Gpsd::start(free_port(), &[receiver.url()]).await;
    let mut client = Gpsd::start(options(&server.address()));
    fix(&mut client, "a fix", |_| true).await;
    receiver.unplug().await;
    // gpsd 3.22 does not always notice that a source has ended; then it only says nothing any more.
    let missed = |trouble: &Trouble| matches!(trouble, Trouble::NoReceiver | Trouble::Silent { .. });
    let told = trouble(&mut client, "that it says nothing or is not there", |_| true).await;
    assert!(missed(&told), "{told}");
}

#[tokio::test]
async fn a_gpsd_without_a_receiver_says_so() {
    let server = gpsd::Gpsd::start(free_port(), &[]).await;
    let mut client = Gpsd::start(options(&server.address()));
    let told = trouble(&mut client, "something", |_| true).await;
    assert_eq!(told, Trouble::NoReceiver);
    assert!(told.to_string().contains("/etc/default/gpsd"), "{told}");
}

#[tokio::test]
async fn a_gpsd_that_dies_and_returns_is_found_again() {
    let receiver = receiver(MUNICH).await;
    let port = free_port();
    let server = gpsd::Gpsd::start(port, &[receiver.url()]).await;
    let mut client = Gpsd::start(options(&server.address()));
    fix(&mut client, "a fix", |_| true).await;
    server.kill();
    let gone = |trouble: &Trouble| matches!(trouble, Trouble::Unreachable { .. });
    let told = trouble(&mut client, "that gpsd is gone", gone).await;
    assert!(told.to_string().contains("gpsd.socket"), "{told}");
    let _server = gpsd::Gpsd::start(port, &[receiver.url()]).await;
    fix(&mut client, "a fix again", |_| true).await;
}
