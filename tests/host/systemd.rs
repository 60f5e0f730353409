//! systemd's manager, scripted: what is asked, and what is made of the answer.
#![allow(clippy::unwrap_used)]

use iotdm::host::systemd::{ServiceInfo, Systemd, UnitInfo};

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
        .answer("Type", Answer::Text("notify".to_owned()))
        .answer("RemainAfterExit", Answer::Truth(false))
        .answer("SystemState", Answer::Text("degraded".to_owned()));
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    let unit = systemd.unit("modbus.service").await.unwrap();
    let expected = UnitInfo {
        load_state: "loaded".to_owned(),
        active_state: "failed".to_owned(),
        unit_file_state: "enabled".to_owned(),
        service: Some(ServiceInfo {
            service_type: "notify".to_owned(),
            remain_after_exit: false,
        }),
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

#[tokio::test]
async fn a_oneshot_can_stay_active_only_when_it_remains_after_exit() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, "org.freedesktop.systemd1").await;
    service
        .answer("LoadUnit", Answer::Path("/org/freedesktop/systemd1/unit/x".to_owned()))
        .answer("LoadState", Answer::Text("loaded".to_owned()))
        .answer("ActiveState", Answer::Text("inactive".to_owned()))
        .answer("UnitFileState", Answer::Text("static".to_owned()));
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    for (kind, remains, stays) in [
        ("oneshot", false, false),
        ("oneshot", true, true),
        ("simple", false, true),
        ("notify", false, true),
    ] {
        service
            .answer("Type", Answer::Text(kind.to_owned()))
            .answer("RemainAfterExit", Answer::Truth(remains));
        let info = systemd.unit("x.service").await.unwrap().service.unwrap();
        assert_eq!((info.service_type.as_str(), info.remain_after_exit), (kind, remains));
        assert_eq!(info.can_stay_active(), stays, "{kind} {remains}");
    }
}

#[tokio::test]
async fn only_a_service_that_is_loaded_is_asked_for_what_only_services_have() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, "org.freedesktop.systemd1").await;
    service
        .answer("LoadUnit", Answer::Path("/org/freedesktop/systemd1/unit/x".to_owned()))
        .answer("LoadState", Answer::Text("loaded".to_owned()))
        .answer("ActiveState", Answer::Text("active".to_owned()))
        .answer("UnitFileState", Answer::Text(String::new()));
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    assert_eq!(systemd.unit("x.target").await.unwrap().service, None);
    service.answer("LoadState", Answer::Text("not-found".to_owned()));
    assert_eq!(systemd.unit("x.service").await.unwrap().service, None);
    assert_eq!(service.count("Type"), 0);
}

#[tokio::test]
async fn failed_units_are_told_by_name() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, "org.freedesktop.systemd1").await;
    service.answer("ListUnitsFiltered", Answer::Units(vec![]));
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    assert_eq!(systemd.failed_units().await.unwrap(), [""; 0]);
    let units = ["modbus.service", "data.mount"].map(str::to_owned).to_vec();
    service.answer("ListUnitsFiltered", Answer::Units(units));
    assert_eq!(systemd.failed_units().await.unwrap(), ["data.mount", "modbus.service"]);
    assert_eq!(service.calls()[0], "ListUnitsFiltered(failed)");
    service.answer(
        "ListUnitsFiltered",
        Answer::Error("org.freedesktop.DBus.Error.AccessDenied", "no"),
    );
    assert!(systemd.failed_units().await.is_err());
}
