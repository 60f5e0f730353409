//! The host room against a real dbus-daemon: scripted services for what a healthy host never says, real ones where
//! they run without a machine of their own.

#[path = "../support/bus.rs"]
mod bus;
mod logind;
mod rauc;
#[path = "../support/rauc.rs"]
mod rauc_host;
mod systemd;

use std::time::Duration;

use iotdm::host::bus::Bus;

/// A connection of the kind the agent has, with a short limit for calls.
async fn connect(private: &bus::PrivateBus) -> Bus {
    Bus::at(private.address(), Duration::from_millis(500))
        .await
        .expect("the private bus accepts us")
}

/// Waits for an event, but not for ever.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event)
        .await
        .expect("it happened in time")
}
