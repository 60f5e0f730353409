//! The registry: what goes in comes out again, whatever is cut whenever; diagnostics are bounded.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::protocol::{ReqId, ToService};
use iotdm::service::brain::{Change, ErrorCodeRow, Event, LogRow, NewRequest, RequestStep, Rows, Service, Status};
use iotdm::service::registry::{MAX_ERROR_CODES, MAX_LOG_AGE_MS, MAX_LOG_BYTES, Registry, RegistryError};
use proptest::prelude::*;
use serde_json::json;

use crate::random::{Act, acts, perform};
use crate::scene::{START_MS, Scene, device, firmware, gw};

fn open(folder: &tempfile::TempDir) -> (Registry, Rows) {
    Registry::open(&folder.path().join("registry.sqlite")).unwrap()
}

fn log(message: String, received_ms: i64, req_id: Option<&str>) -> Change {
    Change::AddLog(LogRow {
        device: gw(),
        received_ms,
        timestamp: "2024-05-01T10:00:00Z".into(),
        severity: 2,
        message,
        data: Some(vec![0, 255]),
        req_id: req_id.and_then(ReqId::new),
    })
}

#[test]
fn a_brain_restored_from_the_registry_equals_the_brain_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, rows) = open(&folder);
    assert_eq!(rows, Rows::default());
    let mut scene = Scene::new();
    scene.manage(&gw(), "m1");
    scene.say(
        &device("edge/other"),
        ToService::Manage,
        json!({"d": {"metadata": {"a": [1, 0.1, 1e300, "\u{0}\u{1F600}", null]}, "supports": {"bundle-v1": true}}}),
    );
    scene.say(
        &gw(),
        ToService::Location,
        json!({"d": {"latitude": 0.1, "longitude": -179.123456789}}),
    );
    let (first, sent) = scene.reboot(&[gw()]);
    scene.handle(Event::Published(sent[0].0));
    scene.reboot(&[gw()]);
    scene.handle(Event::Delete { id: first });
    scene.manage_firmware(&device("edge/fw"), "f");
    let described = json!([{"name": "uri", "value": "https://fw.example.com/2"}]);
    assert!(
        scene
            .create(firmware("download", &[device("edge/fw")], described))
            .0
            .is_ok()
    );
    let mut steps = BTreeSet::new();
    for rc in [204, 200, 202, 0, 200] {
        let rows = scene.service.rows().statuses;
        let row = rows.iter().find(|row| row.device == device("edge/fw")).unwrap();
        steps.insert(row.step);
        match rc {
            0 => {
                let value = json!({"state": 0, "updateStatus": 3});
                let d = json!({"fields": [{"field": "mgmt.firmware", "value": value}]});
                scene.say(&row.device, ToService::Notify, json!({"d": d}));
                let data = json!({"firmware": "download", "updateStatus": 3, "reqId": row.initiated.as_ref().unwrap().as_str()});
                let data = STANDARD.encode(data.to_string());
                let d = json!({"message": "the network is gone", "severity": 2, "data": data});
                scene.say(&row.device, ToService::AddLog, json!({"d": d}));
                assert!(scene.service.rows().statuses.iter().any(|row| row.reason.is_some()));
            }
            rc => drop(scene.respond(&row.device, &row.req_id, rc, "")),
        }
        registry.commit(&std::mem::take(&mut scene.changes)).unwrap();
        assert_eq!(open(&folder).1, scene.service.rows(), "at {:?}", row.step);
    }
    assert_eq!(steps.len(), RequestStep::ALL.len());
    let changes = std::mem::take(&mut scene.changes);
    registry.commit(&changes).unwrap();
    drop(registry);
    assert_eq!(open(&folder).1, scene.service.rows());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn after_any_events_and_a_crash_between_any_two_transactions_the_registry_has_what_was_committed(
        acts in acts(60),
        crashes in prop::collection::vec(any::<bool>(), 60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut registry, rows) = open(&folder);
        let mut scene = Scene::restored(rows);
        let mut committed = scene.service.rows();
        let mut starts = 100;
        for (act, crash) in acts.iter().zip(crashes) {
            scene.changes.clear();
            perform(&mut scene, act);
            if crash && !matches!(act, Act::Wait(_)) {
                // The process dies after the decision and before the commit: nothing of it was done or answered.
                drop(registry);
                let (reopened, rows) = open(&folder);
                registry = reopened;
                prop_assert_eq!(&rows, &committed);
                // Every start has a fresh seed: ids of an earlier run do not come again.
                starts += 1;
                scene = Scene::unconnected(rows, scene.now_ms, starts);
                let step = scene.handle(Event::Connected { session_present: true });
                prop_assert!(step.changes.is_empty());
            } else {
                registry.commit(&scene.changes).unwrap();
                committed = scene.service.rows();
            }
        }
        drop(registry);
        let (_, rows) = open(&folder);
        prop_assert_eq!(&rows, &committed);
        let restored = Service::restore([1; 32], rows);
        prop_assert_eq!(restored.next_deadline(), scene.service.next_deadline());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_notify_or_manage_is_answered_200_for_can_be_read_again(
        attribute in prop::sample::select(vec!["metadata", "deviceInfo", "mgmt.firmware", "location"]),
        segments in prop_oneof![0..12usize, 100..140usize],
        levels in prop_oneof![0..12usize, 100..124usize],
        bytes in prop_oneof![0..20usize, 60_000..70_000usize],
        lists in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut registry, rows) = open(&folder);
        let mut scene = Scene::restored(rows);
        let supports = json!({"deviceActions": true});
        scene.say(&gw(), ToService::Manage, json!({"d": {"supports": supports}, "reqId": "m"}));
        let fields = ["metadata", "deviceInfo", "mgmt.firmware", "location"];
        let (_, sent) = scene.create(NewRequest {
            action: "device/observe".into(),
            devices: vec![gw()],
            parameters: fields.iter().map(|field| json!({"name": "field", "value": field})).collect(),
            ..NewRequest::default()
        });
        let req_id = ReqId::new(sent[0].2["reqId"].as_str().unwrap()).unwrap();
        scene.respond(&gw(), &req_id, 200, "");
        let value = (0..levels).fold(json!("x".repeat(bytes)), |value, _| match lists {
            true => json!([value]),
            false => json!({"a": value}),
        });
        let field = format!("{attribute}{}", ".a".repeat(segments));
        for (req_id, kind, d) in [
            ("1", ToService::Notify, json!({"fields": [{"field": field, "value": value}]})),
            ("2", ToService::Manage, json!({"metadata": {"a": value}})),
            ("3", ToService::Manage, json!({"deviceInfo": {"a": value}})),
        ] {
            let before = scene.service.rows();
            let said = scene.say(&gw(), kind, json!({"d": d, "reqId": req_id}));
            if said.rc().0 != 200 {
                prop_assert_eq!(scene.service.rows(), before);
            }
        }
        registry.commit(&scene.changes).unwrap();
        drop(registry);
        prop_assert_eq!(open(&folder).1, scene.service.rows());
    }
}

#[test]
fn with_a_device_go_its_logs_and_error_codes_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, rows) = open(&folder);
    let mut scene = Scene::restored(rows);
    let other = device("edge/gw-2");
    for device in [&gw(), &other] {
        scene.manage(device, "m");
        scene.say(device, ToService::AddLog, json!({"d": {"message": "x", "severity": 2}}));
        scene.say(device, ToService::AddErrorCode, json!({"d": {"errorCode": 7}}));
    }
    scene.handle(Event::Forget { device: gw() });
    registry.commit(&scene.changes).unwrap();
    assert_eq!(open(&folder).1, scene.service.rows());
    assert_eq!(scene.service.device_count(), 1);
    for (device, kept) in [(gw(), 0), (other, 1)] {
        assert_eq!(registry.logs_after(&device, 0, START_MS).unwrap().len(), kept);
        assert_eq!(registry.error_codes(&device).unwrap().len(), kept);
    }
}

#[test]
fn a_commit_writes_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, _) = open(&folder);
    let mut scene = Scene::new();
    scene.manage(&gw(), "m");
    scene.manage(&device("edge/other"), "m");
    scene.reboot(&[gw(), device("edge/other")]);
    let mut changes = scene.changes.clone();
    // A request is inserted once; the second time SQLite refuses it.
    let again = changes.iter().find(|change| matches!(change, Change::PutRequest(_)));
    changes.push(again.unwrap().clone());
    assert!(registry.commit(&changes).is_err());
    drop(registry);
    assert_eq!(open(&folder).1, Rows::default());
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.sqlite");
    drop(open(&folder));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 5).unwrap();
    drop(connection);
    let error = Registry::open(&path).unwrap_err();
    assert!(matches!(error, RegistryError::Newer { found: 5, .. }));
    assert!(error.to_string().contains("newer iotdm"), "{error}");
}

#[test]
fn a_registry_of_0_1_is_read_and_its_reboots_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("registry.sqlite")).unwrap();
    connection
        .execute_batch(include_str!("registry-0.1.sql"))
        .expect("the dump is whole");
    drop(connection);
    let (_, rows) = open(&folder);
    let steps: Vec<_> = rows.statuses.iter().map(|row| (row.status, row.step)).collect();
    assert_eq!(
        steps,
        [
            (Status::Success, RequestStep::Working),
            (Status::InProgress, RequestStep::Working),
            (Status::InProgress, RequestStep::Initiate),
        ]
    );
    let mut scene = Scene::restored(rows);
    let ids: Vec<String> = scene.service.requests_after(0).map(|row| row.id.clone()).collect();
    scene.manage(&gw(), "after");
    assert_eq!(
        scene.stands(&ids[1], &gw()),
        (Status::Success, true),
        "it had answered 202"
    );
    assert_eq!(scene.stands(&ids[2], &gw()), (Status::InProgress, false));
}

#[test]
fn a_registry_of_schema_2_is_read_and_its_download_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("registry.sqlite")).unwrap();
    connection
        .execute_batch(include_str!("registry-schema-2.sql"))
        .expect("the dump is whole");
    drop(connection);
    let (mut registry, rows) = open(&folder);
    assert_eq!((rows.devices.len(), rows.statuses.len()), (2, 4));
    assert!(rows.devices.iter().all(|row| !row.location_written));
    let download = rows.statuses.last().unwrap();
    assert_eq!(
        (download.initiated.as_ref(), &download.reason),
        (Some(&download.req_id), &None)
    );
    let mut scene = Scene::restored(rows);
    let other = device("edge/gw-2");
    let id = scene.service.requests_after(3).next().unwrap().id.clone();
    let done = json!({"fields": [{"field": "mgmt.firmware", "value": {"state": 2}}]});
    assert_eq!(
        scene
            .say(&other, ToService::Notify, json!({"d": done, "reqId": "n"}))
            .rc(),
        (200, None)
    );
    assert_eq!(scene.status(&id, &other).step, RequestStep::Cancel);
    let location = scene.service.device(&other).unwrap().location.clone().unwrap();
    assert_eq!(location["latitude"], 1.5);
    registry.commit(&scene.changes).unwrap();
    drop(registry);
    assert_eq!(open(&folder).1, scene.service.rows());
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.sqlite");
    std::fs::write(
        &path,
        "this is a text of some length that is no database at all".repeat(100),
    )
    .unwrap();
    assert!(matches!(Registry::open(&path), Err(RegistryError::Sqlite(_))));
}

#[test]
fn dia_05_logs_are_newest_first_and_pruned_at_500_kb() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, _) = open(&folder);
    let text = "x".repeat(50_000);
    for n in 0..30 {
        registry
            .commit(&[log(format!("{n} {text}"), START_MS + n, None)])
            .unwrap();
    }
    registry.commit(&[log("small".into(), START_MS + 30, None)]).unwrap();
    let logs = registry.logs(&gw(), START_MS).unwrap();
    assert_eq!(logs[0].message, "small");
    assert_eq!(logs[0].data.as_deref(), Some(&[0, 255][..]));
    assert!(logs[1].message.starts_with("29 ") && logs[2].message.starts_with("28 "));
    let bytes: usize = logs.iter().map(|log| log.message.len()).sum();
    let limit = usize::try_from(MAX_LOG_BYTES).unwrap();
    assert!(bytes <= limit && bytes > limit - 110_000, "{bytes}");
    assert!(registry.logs(&device("edge/other"), START_MS).unwrap().is_empty());
    registry.commit(&[Change::ClearLogs(gw())]).unwrap();
    assert!(registry.logs(&gw(), START_MS).unwrap().is_empty());
}

#[test]
fn dia_05_a_log_is_read_and_deleted_by_its_number_which_is_never_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, _) = open(&folder);
    for (n, text) in ["a", "b", "c"].into_iter().enumerate() {
        let at = START_MS + i64::try_from(n).unwrap();
        registry.commit(&[log(text.into(), at, None)]).unwrap();
    }
    let logs = registry.logs(&gw(), START_MS).unwrap();
    let (c, b, a) = (logs[0].clone(), logs[1].clone(), logs[2].clone());
    assert_eq!(registry.log(&gw(), b.id, START_MS).unwrap(), Some(b.clone()));
    assert_eq!(registry.log(&device("edge/other"), b.id, START_MS).unwrap(), None);
    assert_eq!(
        registry.log(&gw(), b.id, START_MS + MAX_LOG_AGE_MS + 2).unwrap(),
        None,
        "too old"
    );
    assert_eq!(
        registry.logs_after(&gw(), a.id, START_MS).unwrap(),
        [c.clone(), b.clone()]
    );
    assert_eq!(registry.logs_after(&gw(), c.id, START_MS).unwrap(), []);
    let delete = |device, id| Change::DeleteLog(device, id);
    registry
        .commit(&[delete(gw(), b.id), delete(device("edge/other"), a.id)])
        .unwrap();
    assert_eq!(registry.logs(&gw(), START_MS).unwrap(), [c.clone(), a]);
    registry.commit(&[Change::ClearLogs(gw())]).unwrap();
    drop(registry);
    let (mut registry, _) = open(&folder);
    registry.commit(&[log("d".into(), START_MS, None)]).unwrap();
    assert_eq!(registry.logs_after(&gw(), c.id, START_MS).unwrap().len(), 1);
}

#[test]
fn dia_05_logs_are_gone_after_7_days() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, _) = open(&folder);
    registry.commit(&[log("old".into(), START_MS, None)]).unwrap();
    let later = START_MS + MAX_LOG_AGE_MS + 1;
    assert_eq!(registry.logs(&gw(), later - 1).unwrap().len(), 1);
    assert!(registry.logs(&gw(), later).unwrap().is_empty(), "not shown");
    assert_eq!(registry.prune(later - 1).unwrap(), 0);
    assert_eq!(registry.prune(later).unwrap(), 1);
}

#[test]
fn what_the_broker_delivers_twice_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, _) = open(&folder);
    let code = |code, req_id: Option<&str>| {
        Change::AddErrorCode(ErrorCodeRow {
            device: gw(),
            received_ms: START_MS,
            code,
            req_id: req_id.and_then(ReqId::new),
        })
    };
    for _ in 0..2 {
        registry
            .commit(&[log("a".into(), START_MS, Some("1")), code(42, Some("2")), code(7, None)])
            .unwrap();
    }
    registry.commit(&[log("b".into(), START_MS, Some("1"))]).unwrap();
    let logs = registry.logs(&gw(), START_MS).unwrap();
    assert_eq!(logs.len(), 2, "an SDK that always gives the same id loses nothing");
    let codes: Vec<i64> = registry
        .error_codes(&gw())
        .unwrap()
        .iter()
        .map(|row| row.code)
        .collect();
    assert_eq!(codes, [7, 7, 42], "without an id nobody can tell");
}

#[test]
fn error_codes_are_bounded_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, _) = open(&folder);
    let codes = (0..MAX_ERROR_CODES + 5).map(|code| {
        Change::AddErrorCode(ErrorCodeRow {
            device: gw(),
            received_ms: START_MS,
            code,
            req_id: None,
        })
    });
    registry.commit(&codes.collect::<Vec<_>>()).unwrap();
    let kept = registry.error_codes(&gw()).unwrap();
    assert_eq!(kept.len(), usize::try_from(MAX_ERROR_CODES).unwrap());
    assert_eq!((kept[0].code, kept[kept.len() - 1].code), (MAX_ERROR_CODES + 4, 5));
    registry.commit(&[Change::ClearErrorCodes(gw())]).unwrap();
    assert!(registry.error_codes(&gw()).unwrap().is_empty());
}
