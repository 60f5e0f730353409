//! systemd's manager, scripted: what is asked, and what is made of the answer.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use iotdm::host::systemd::{ServiceInfo, StartFailed, Systemd, UnitInfo};
use tokio::sync::Notify;

use super::bus::{Answer, JOB, PrivateBus, Scripted, systemd1};
use super::{connect, impatient, soon};

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

const TARGET: &str = "factory-reset.target";

/// A systemd that knows one target, which pulls in two services; one of them fails.
async fn with_target(private: &PrivateBus) -> Scripted {
    let service = systemd1(private).await;
    let names = |names: &[&str]| Answer::Names(names.iter().map(|name| (*name).to_owned()).collect());
    service
        .answer("Requires", names(&["wipe.service"]))
        .answer("Wants", names(&["a.service", "wipe.service"]))
        .answer(
            "ListUnitsFiltered",
            Answer::Units(vec!["wipe.service".to_owned(), "b.service".to_owned()]),
        );
    service
}

#[tokio::test]
async fn what_a_unit_pulls_in_is_told_by_name() {
    let private = PrivateBus::start();
    let _service = with_target(&private).await;
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    assert_eq!(
        systemd.pulled_in_by(TARGET).await.unwrap(),
        ["a.service", "wipe.service"]
    );
}

#[tokio::test]
async fn a_start_ends_with_its_own_job() {
    let private = PrivateBus::start();
    let service = with_target(&private).await;
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    for (result, expected) in [
        ("done", Ok(())),
        (
            "dependency",
            Err("its job ended with \"dependency\" because wipe.service failed"),
        ),
    ] {
        let permit = Arc::new(Notify::new());
        let path = Box::new(Answer::Path(JOB.to_owned()));
        service.answer("StartUnit", Answer::Hold(permit.clone(), path));
        let before = service.count("StartUnit");
        let start = tokio::spawn({
            let systemd = systemd.clone();
            async move { systemd.start(TARGET, Duration::from_secs(20)).await }
        });
        soon(service.called("StartUnit", before + 1)).await;
        permit.notify_one();
        soon(service.answered("StartUnit", before + 1)).await;
        service.job_removed("/org/freedesktop/systemd1/job/6", "failed").await;
        service.job_removed(JOB, result).await;
        let ended = soon(start).await.unwrap();
        assert_eq!(
            ended.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }
    assert!(
        service
            .calls()
            .contains(&format!("StartUnit({TARGET}, replace-irreversibly)"))
    );
}

#[tokio::test]
async fn a_job_that_a_unit_has_is_followed_to_its_end_and_nothing_is_started() {
    let private = PrivateBus::start();
    let service = with_target(&private).await;
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    assert_eq!(systemd.follow(TARGET, Duration::from_secs(20)).await, Ok(false));
    service.answer("Job", Answer::Job(7, JOB.to_owned()));
    for (result, expected) in [
        ("done", Ok(true)),
        (
            "dependency",
            Err("its job ended with \"dependency\" because wipe.service failed"),
        ),
    ] {
        let before = service.count("Job");
        let follow = tokio::spawn({
            let systemd = systemd.clone();
            async move { systemd.follow(TARGET, Duration::from_secs(20)).await }
        });
        soon(service.answered("Job", before + 1)).await;
        service.job_removed("/org/freedesktop/systemd1/job/6", "failed").await;
        service.job_removed(JOB, result).await;
        let ended = soon(follow).await.unwrap();
        assert_eq!(
            ended.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }
    let ended = systemd.follow(TARGET, Duration::from_millis(50)).await;
    assert!(matches!(ended, Err(StartFailed::Unknown(_))), "{ended:?}");
    service.answer("Job", Answer::Error("org.freedesktop.DBus.Error.AccessDenied", "no"));
    let ended = systemd.follow(TARGET, Duration::from_secs(20)).await;
    assert!(matches!(ended, Err(StartFailed::Unknown(_))), "{ended:?}");
    assert_eq!(service.count("StartUnit"), 0);
}

#[tokio::test]
async fn a_job_that_does_not_end_is_not_waited_for_for_ever() {
    let private = PrivateBus::start();
    let _service = with_target(&private).await;
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    let ended = systemd.start(TARGET, Duration::from_millis(50)).await;
    assert!(matches!(ended, Err(StartFailed::Unknown(_))), "{ended:?}");
}

#[tokio::test]
async fn a_start_that_is_refused_says_what_to_do() {
    let private = PrivateBus::start();
    let service = with_target(&private).await;
    let systemd = Systemd::new(&connect(&private).await).await.unwrap();
    for (name, text, expected) in [
        (
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            "Interactive authentication required.",
            "polkit does not let the agent start factory-reset.target (Interactive authentication required.): \
             iotdm-agent check says which rule is needed",
        ),
        (
            "org.freedesktop.systemd1.NoSuchUnit",
            "Unit factory-reset.target not found.",
            "factory-reset.target cannot be loaded: Unit factory-reset.target not found.",
        ),
        (
            "org.freedesktop.systemd1.UnitMasked",
            "masked",
            "factory-reset.target is masked: systemctl unmask factory-reset.target",
        ),
        (
            "org.freedesktop.systemd1.TransactionIsDestructive",
            "Transaction is destructive",
            "the host is going down already",
        ),
        (
            "org.freedesktop.DBus.Error.Failed",
            "disk on fire",
            "systemd1 StartUnit: disk on fire (org.freedesktop.DBus.Error.Failed)",
        ),
    ] {
        service.answer("StartUnit", Answer::Error(name, text));
        let refused = systemd.start(TARGET, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    let systemd = Systemd::new(&impatient(&private).await).await.unwrap();
    service.answer("StartUnit", Answer::Silence);
    let refused = systemd.start(TARGET, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(refused, StartFailed::Unknown(_)), "{refused:?}");
}
