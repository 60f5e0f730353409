//! systemd: what state is a unit in, what does it pull in, what state is the machine in; and the start of a unit.
//!
//! Reading needs no permission on Debian; only `start` changes anything, and only where polkit allows it.
//! Facts: `org.freedesktop.systemd1(5)`; `LoadUnit` of a unit that does not exist succeeds, its `LoadState` is then
//! `not-found`.

mod failed;
mod start;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zbus::proxy::CacheProperties;
use zbus::{ObjectPath, OwnedObjectPath};

pub use failed::FailedUnits;
pub use start::{FailedUnit, Invocation, StartFailed};

use super::bus::{Bus, BusError};

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_filtered(&self, states: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;
}

/// Name, description, load, active and sub state, followed unit, path, job id, job type, job path.
type ListedUnit = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "Type")]
    fn service_type(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn remain_after_exit(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn environment(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn status_text(&self) -> zbus::Result<String>;
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
    #[zbus(property(emits_changed_signal = "false"), name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn requires(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn binds_to(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn wants(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn after(&self) -> zbus::Result<Vec<String>>;
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
    /// What only a loaded service has.
    pub service: Option<ServiceInfo>,
}

/// What systemd says about one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceInfo {
    /// `simple`, `exec`, `forking`, `oneshot`, `dbus`, `notify`, `notify-reload` or `idle`.
    pub service_type: String,
    /// `RemainAfterExit=`: it stays `active` when its process has ended well.
    pub remain_after_exit: bool,
}

/// The name of the unit that mounts something on an absolute path of plain names (systemd.unit(5), "String Escaping for
/// Inclusion in Unit Names").
pub fn mount_unit(path: &Path) -> String {
    let mut name = String::new();
    for byte in path.as_os_str().as_bytes().iter().skip(1) {
        match *byte {
            b'/' => name.push('-'),
            b'.' if name.is_empty() => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(char::from(byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    match name.as_str() {
        "" => "-.mount".to_owned(),
        name => format!("{name}.mount"),
    }
}

impl ServiceInfo {
    /// Whether it can ever be seen `active`: a oneshot goes from `activating` to `inactive`, unless it remains.
    pub fn can_stay_active(&self) -> bool {
        self.service_type != "oneshot" || self.remain_after_exit
    }
}

const LOAD: &str = "systemd1 LoadUnit";

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
        let told = |error| BusError::new(LOAD, &error);
        let unit = self.load(name).await.map_err(told)?;
        let load_state = unit.load_state().await.map_err(told)?;
        let service = if load_state == "loaded" && name.ends_with(".service") {
            Some(self.service(unit.inner().path().to_owned()).await?)
        } else {
            None
        };
        Ok(UnitInfo {
            load_state,
            active_state: unit.active_state().await.map_err(told)?,
            unit_file_state: unit.unit_file_state().await.map_err(told)?,
            service,
        })
    }

    /// The names of the units that start together with the unit `name` (`Requires=`, `BindsTo=`, `Wants=`), each once,
    /// in the order of their names.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn pulled_in_by(&self, name: &str) -> Result<Vec<String>, BusError> {
        let told = |error| BusError::new(LOAD, &error);
        let unit = self.load(name).await.map_err(told)?;
        let mut names = unit.requires().await.map_err(told)?;
        names.extend(unit.binds_to().await.map_err(told)?);
        names.extend(unit.wants().await.map_err(told)?);
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The names of the units that come before the unit `name` when both are started (`After=`, and `Before=` of others).
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub async fn after(&self, name: &str) -> Result<Vec<String>, BusError> {
        let told = |error| BusError::new(LOAD, &error);
        self.load(name).await.map_err(told)?.after().await.map_err(told)
    }

    async fn load(&self, name: &str) -> zbus::Result<UnitProxy<'static>> {
        let path = self.manager.load_unit(name).await?;
        UnitProxy::builder(self.bus.connection())
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    /// The environment that the service `name` is given by its unit files (`Environment=`): each `NAME=VALUE`, of a name
    /// that stands there twice the last one.
    ///
    /// # Errors
    /// As [`Systemd::unit`], and when it is no service.
    pub async fn environment(&self, name: &str) -> Result<Vec<String>, BusError> {
        let told = |error| BusError::new("systemd1 Environment", &error);
        self.service_named(name)
            .await
            .map_err(told)?
            .environment()
            .await
            .map_err(told)
    }

    async fn service_named(&self, name: &str) -> zbus::Result<ServiceProxy<'static>> {
        let path = self.manager.load_unit(name).await?;
        self.service_at(path.into_inner()).await
    }

    async fn service_at(&self, path: ObjectPath<'static>) -> zbus::Result<ServiceProxy<'static>> {
        ServiceProxy::builder(self.bus.connection())
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    async fn service(&self, path: ObjectPath<'static>) -> Result<ServiceInfo, BusError> {
        let told = |error| BusError::new("systemd1 Service", &error);
        let service = self.service_at(path).await.map_err(told)?;
        Ok(ServiceInfo {
            service_type: service.service_type().await.map_err(told)?,
            remain_after_exit: service.remain_after_exit().await.map_err(told)?,
        })
    }

    /// The names of all units that are `failed`, in the order of their names; units that were never loaded are not among
    /// them.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn failed_units(&self) -> Result<Vec<String>, BusError> {
        let units = self.manager.list_units_filtered(&["failed"]).await;
        let units = units.map_err(|error| BusError::new("systemd1 ListUnitsFiltered", &error))?;
        let mut names: Vec<String> = units.into_iter().map(|unit| unit.0).collect();
        names.sort();
        Ok(names)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_named_as_systemd_names_it() {
        for (path, unit) in [
            ("/", "-.mount"),
            ("/data", "data.mount"),
            ("/srv/my-app", "srv-my\\x2dapp.mount"),
            ("/.hidden/.x", "\\x2ehidden-.x.mount"),
            ("/a b/\u{e4}", "a\\x20b-\\xc3\\xa4.mount"),
        ] {
            assert_eq!(mount_unit(Path::new(path)), unit);
        }
    }
}
