//! systemd, read-only: what state is a unit in, what state is the machine in.
//!
//! Nothing here starts, stops or changes a unit. Reading needs no permission on Debian.
//! Facts: `org.freedesktop.systemd1(5)`; `LoadUnit` of a unit that does not exist succeeds, its `LoadState` is then
//! `not-found`.

use zbus::OwnedObjectPath;
use zbus::proxy::CacheProperties;

use super::bus::{Bus, BusError};

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_file_state(&self) -> zbus::Result<String>;
}

/// What systemd says about one unit, in systemd's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitInfo {
    /// `loaded`, `not-found`, `masked`, `error`, `bad-setting`, ...
    pub load_state: String,
    /// `active`, `inactive`, `activating`, `deactivating`, `reloading`, `failed`, ...
    pub active_state: String,
    /// `enabled`, `disabled`, `static`, `masked`, ...; empty when there is no unit file.
    pub unit_file_state: String,
}

/// systemd's manager on one bus connection.
#[derive(Debug, Clone)]
pub struct Systemd {
    bus: Bus,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Speaks to systemd over `bus`. Nothing is asked yet.
    ///
    /// # Errors
    /// When the bus is gone.
    pub async fn new(bus: &Bus) -> Result<Self, BusError> {
        let manager = ManagerProxy::builder(bus.connection())
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(|error| BusError::new("systemd1", &error))?;
        Ok(Self {
            bus: bus.clone(),
            manager,
        })
    }

    /// The states of the unit `name` (`modbus.service`). A unit that does not exist is no error: its load state is
    /// `not-found`.
    ///
    /// # Errors
    /// When the name is no unit name, or systemd does not answer.
    pub async fn unit(&self, name: &str) -> Result<UnitInfo, BusError> {
        const CALL: &str = "systemd1 LoadUnit";
        let told = |error| BusError::new(CALL, &error);
        let path = self.manager.load_unit(name).await.map_err(told)?;
        let unit = UnitProxy::builder(self.bus.connection())
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(told)?;
        Ok(UnitInfo {
            load_state: unit.load_state().await.map_err(told)?,
            active_state: unit.active_state().await.map_err(told)?,
            unit_file_state: unit.unit_file_state().await.map_err(told)?,
        })
    }

    /// The machine's state: `running`, `degraded` (a unit failed), `starting`, `stopping`, `maintenance`, ...
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn system_state(&self) -> Result<String, BusError> {
        self.manager
            .system_state()
            .await
            .map_err(|error| BusError::new("systemd1 SystemState", &error))
    }
}
