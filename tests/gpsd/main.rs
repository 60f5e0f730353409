//! gpsd's client against a real gpsd, which reads from a receiver that the test moves about; and against a scripted one
//! for what a healthy gpsd never says.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod bad;
mod connection;
#[path = "../support/gnss.rs"]
mod gnss;
#[path = "../support/gpsd.rs"]
mod gpsd;
mod hour;
mod real;
mod scripted;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use iotdm::host::gpsd::{Backoff, Fix, Gpsd, Options, Report, Trouble};
use support::within;

/// As in the field, a hundred times as fast.
fn options(address: &str) -> Options {
    Options {
        interval: Duration::from_millis(20),
        searching: Duration::from_millis(20),
        patience: Duration::from_millis(1500),
        settle: Duration::from_millis(150),
        backoff: Backoff {
            first: Duration::from_millis(20),
            longest: Duration::from_millis(200),
        },
        ..Options::new(address, Duration::ZERO)
    }
}

/// Waits for a fix that fits, whatever is said before.
async fn fix(gpsd: &mut Gpsd, what: &str, fits: impl Fn(&Fix) -> bool) -> Fix {
    let wait = async {
        loop {
            if let Report::Fix(fix) = gpsd.next().await
                && fits(&fix)
            {
                return fix;
            }
        }
    };
    within(what, wait).await
}

/// Waits for a trouble that fits, whatever is said before.
async fn trouble(gpsd: &mut Gpsd, what: &str, fits: impl Fn(&Trouble) -> bool) -> Trouble {
    let wait = async {
        loop {
            if let Report::Trouble(trouble) = gpsd.next().await
                && fits(&trouble)
            {
                return trouble;
            }
        }
    };
    within(what, wait).await
}
