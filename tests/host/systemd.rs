//! systemd's manager, scripted: what is asked, and what is made of the answer.
#![allow(clippy::unwrap_used)]

use iotdm::host::systemd::{Systemd, UnitInfo};

use super::bus::{Answer, PrivateBus, Scripted};
use super::connect;

#[tokio::test]
async fn a_units_states_and_the_machines_are_systemds_words() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, "org.freedesktop.systemd1").await;
    service
        .answer(
            "LoadUnit",
            Answer::Path("/org/freedesktop/systemd1/unit/modbus_2eservice".to_owned()),
        )
        .answer("LoadState", Answer::Text("loaded".to_owned()))
        .answer("ActiveState", Answer::Text("failed".to_owned()))
        .answer("UnitFileState", Answer::Text("enabled".to_owned()))
        .answer("SystemState", Answer::Text("degraded".to_owned()));
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    let unit = systemd.unit("modbus.service").await.unwrap();
    let expected = UnitInfo {
        load_state: "loaded".to_owned(),
        active_state: "failed".to_owned(),
        unit_file_state: "enabled".to_owned(),
    };
    assert_eq!(unit, expected);
    assert_eq!(systemd.system_state().await.unwrap(), "degraded");
    assert_eq!(service.calls()[0], "LoadUnit(modbus.service)");

    service.answer("ActiveState", Answer::Text("active".to_owned()));
    assert_eq!(
        systemd.unit("modbus.service").await.unwrap().active_state,
        "active",
        "nothing is cached"
    );

    service.answer(
        "LoadUnit",
        Answer::Error("org.freedesktop.DBus.Error.InvalidArgs", "Unit name x is not valid."),
    );
    let error = systemd.unit("x").await.unwrap_err();
    assert!(error.to_string().contains("Unit name x is not valid."), "{error}");
}
