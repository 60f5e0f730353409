//! The host room against a real dbus-daemon: scripted services for what a healthy host never says, real ones where
//! they run without a machine of their own.

#[path = "../support/bus.rs"]
mod bus;
mod failed;
mod logind;
mod rauc;
#[path = "../support/rauc.rs"]
mod rauc_host;
mod systemd;

use std::time::Duration;

use iotdm::host::bus::Bus;

/// A connection of the kind the agent has.
async fn connect(private: &bus::PrivateBus) -> Bus {
    limited(private, Duration::from_secs(15)).await
}

/// The same for tests in which somebody does not answer.
async fn impatient(private: &bus::PrivateBus) -> Bus {
    limited(private, Duration::from_secs(2)).await
}

async fn limited(private: &bus::PrivateBus, limit: Duration) -> Bus {
    Bus::at(private.address(), limit)
        .await
        .expect("the private bus accepts us")
}

/// Waits for an event, but not for ever.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event)
        .await
        .expect("it happened in time")
}
