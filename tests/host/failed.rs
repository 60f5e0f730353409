//! Failed units, told by a scripted systemd's signals.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use iotdm::host::systemd::FailedUnits;
use tokio::sync::Notify;
use zbus::{OwnedObjectPath, Variant};

use super::bus::{Answer, PrivateBus, Scripted, systemd1};
use super::soon;

const UNIT: &str = "modbus.service";
const PATH: &str = "/org/freedesktop/systemd1/unit/modbus_2eservice";
const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn systemd(private: &PrivateBus) -> Scripted {
    let service = systemd1(private).await;
    service.answer("LoadUnit", Answer::Path(PATH.to_owned()));
    service
}

fn watch(private: &PrivateBus) -> FailedUnits {
    FailedUnits::start(Some(private.address().to_owned()), names(&[UNIT]))
}

/// What systemd sends when a unit goes from one state to another.
async fn changed(service: &Scripted, state: &str) {
    service.answer("ActiveState", Answer::Text(state.to_owned()));
    let properties = HashMap::from([("ActiveState", Variant::new(state.to_owned()))]);
    let body = ("org.freedesktop.systemd1.Unit", properties, Vec::<String>::new());
    service
        .emit(PATH, "org.freedesktop.DBus.Properties", "PropertiesChanged", &body)
        .await;
}

#[tokio::test]
async fn a_unit_that_fails_and_recovers_is_told_by_its_signals_and_nobody_is_asked_in_between() {
    let private = PrivateBus::start();
    let service = systemd(&private).await;
    let mut units = watch(&private);
    assert_eq!(
        soon(units.next()).await,
        names(&[]),
        "at first it is told that there is none"
    );
    changed(&service, "failed").await;
    assert_eq!(soon(units.next()).await, names(&[UNIT]));
    let asked = service.count("ActiveState");
    let silence = tokio::time::timeout(Duration::from_millis(500), units.next()).await;
    assert!(silence.is_err(), "nothing has changed");
    assert_eq!(service.count("ActiveState"), asked, "it is not asked without a signal");
    changed(&service, "active").await;
    assert_eq!(soon(units.next()).await, names(&[]));
}

#[tokio::test]
async fn after_a_reload_and_a_new_systemd_everything_is_asked_anew() {
    let private = PrivateBus::start();
    let service = systemd(&private).await;
    let mut units = watch(&private);
    assert_eq!(soon(units.next()).await, names(&[]));
    service.answer("ActiveState", Answer::Text("failed".to_owned()));
    service.emit(MANAGER.0, MANAGER.1, "Reloading", &false).await;
    assert_eq!(soon(units.next()).await, names(&[UNIT]));
    service.leave().await;
    let again = systemd(&private).await;
    assert_eq!(soon(units.next()).await, names(&[]));
    again.called("Subscribe", 1).await;
    changed(&again, "failed").await;
    assert_eq!(soon(units.next()).await, names(&[UNIT]));
}

#[tokio::test]
async fn a_failed_unit_that_is_unloaded_is_failed_no_more_and_other_units_that_are_unloaded_are_nobodys_concern() {
    let private = PrivateBus::start();
    let service = systemd(&private).await;
    service.answer("ActiveState", Answer::Text("failed".to_owned()));
    let mut units = watch(&private);
    assert_eq!(soon(units.next()).await, names(&[UNIT]));
    let asked = service.count("ActiveState");
    let removed = |name: &str| (name.to_owned(), OwnedObjectPath::try_from(PATH).unwrap());
    service
        .emit(MANAGER.0, MANAGER.1, "UnitRemoved", &removed("other.service"))
        .await;
    service.answer("ActiveState", Answer::Text("inactive".to_owned()));
    service.emit(MANAGER.0, MANAGER.1, "UnitRemoved", &removed(UNIT)).await;
    assert_eq!(soon(units.next()).await, names(&[]));
    assert_eq!(service.count("ActiveState"), asked + 1);
    // Asking loads it again, and it is unloaded again: no circle.
    service.emit(MANAGER.0, MANAGER.1, "UnitRemoved", &removed(UNIT)).await;
    changed(&service, "failed").await;
    assert_eq!(soon(units.next()).await, names(&[UNIT]));
    assert_eq!(service.count("ActiveState"), asked + 2);
}

#[tokio::test]
async fn a_reload_that_unloads_thousands_of_units_holds_no_reply_back() {
    let private = PrivateBus::start();
    let service = systemd(&private).await;
    let mut units = watch(&private);
    assert_eq!(soon(units.next()).await, names(&[]));
    let reloaded = Arc::new(Notify::new());
    let held = Answer::Hold(Arc::clone(&reloaded), Box::new(Answer::Done));
    service.answer("Subscribe", Answer::Then(Box::new(held), Box::new(Answer::Done)));
    service.answer("ActiveState", Answer::Text("failed".to_owned()));
    service.emit(MANAGER.0, MANAGER.1, "Reloading", &true).await;
    service.called("Subscribe", 2).await;
    for number in 0..2000 {
        let path = OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/u{number}")).unwrap();
        let unit = (format!("u{number}.service"), path);
        service.emit(MANAGER.0, MANAGER.1, "UnitRemoved", &unit).await;
    }
    let unit = (UNIT.to_owned(), OwnedObjectPath::try_from(PATH).unwrap());
    service.emit(MANAGER.0, MANAGER.1, "UnitRemoved", &unit).await;
    service.emit(MANAGER.0, MANAGER.1, "Reloading", &false).await;
    reloaded.notify_one();
    let told = tokio::time::timeout(Duration::from_secs(5), units.next()).await;
    assert_eq!(told.expect("it is not told after a time-out"), names(&[UNIT]));
}

#[tokio::test]
async fn a_systemd_that_does_not_answer_at_first_is_asked_again_and_a_name_that_is_none_is_left_out() {
    let private = PrivateBus::start();
    let mut units = watch(&private);
    let early = tokio::time::timeout(Duration::from_millis(200), units.next()).await;
    assert!(early.is_err(), "nobody knows yet");
    let service = systemd(&private).await;
    service.answer(
        "Subscribe",
        Answer::Error(
            "org.freedesktop.systemd1.AlreadySubscribed",
            "Client is already subscribed.",
        ),
    );
    service.answer("ActiveState", Answer::Text("failed".to_owned()));
    assert_eq!(soon(units.next()).await, names(&[UNIT]));
    service.answer(
        "LoadUnit",
        Answer::Error("org.freedesktop.DBus.Error.InvalidArgs", "Unit name is not valid."),
    );
    service.emit(MANAGER.0, MANAGER.1, "Reloading", &false).await;
    assert_eq!(soon(units.next()).await, names(&[]));
}
