//! What the RAUC of Debian 12 never says: newer versions, and moments that cannot be had on demand.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use iotdm::host::bus::Cause;
use iotdm::host::rauc::{InspectError, InstallEnd, Mark, MarkError, Rauc};
use zbus::Variant;

use super::real::{Told, untold, view};
use crate::bus::{Answer, PrivateBus, Scripted};
use crate::rauc_host::NAME;
use crate::soon;

const INSTALLER: &str = "de.pengutronix.rauc.Installer";
const QUARK: &str = "org.gtk.GDBus.UnmappedGError.Quark._g_2dio_2derror_2dquark.Code30";
const BUNDLE: &str = "/data/bundle.raucb";

fn error(text: &'static str) -> Answer {
    Answer::Error(QUARK, text)
}

fn member(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// RAUC 1.9 and later.
async fn newer() -> (PrivateBus, Scripted, Rauc) {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, NAME).await;
    let methods =
        "<node><interface name=\"de.pengutronix.rauc.Installer\"><method name=\"InspectBundle\"/></interface></node>";
    service
        .answer("Introspect", Answer::Text(methods.to_owned()))
        .answer("InstallBundle", Answer::Done)
        .answer("LastError", Answer::Text(String::new()));
    let rauc = view(&private).await;
    (private, service, rauc)
}

async fn completed(service: &Scripted, result: i32) {
    service.emit("/", INSTALLER, "Completed", &result).await;
}

async fn changed(service: &Scripted, property: &str, value: Variant<'_>) {
    let body = (INSTALLER, HashMap::from([(property, value)]), Vec::<&str>::new());
    service
        .emit("/", "org.freedesktop.DBus.Properties", "PropertiesChanged", &body)
        .await;
}

async fn step(service: &Scripted, percentage: i32, message: &str, depth: i32) {
    changed(
        service,
        "Progress",
        Variant::new((percentage, message.to_owned(), depth)),
    )
    .await;
}

/// Begins an installation; it has begun when this returns.
async fn begin(service: &Scripted, rauc: &Rauc, told: &Told) -> tokio::task::JoinHandle<InstallEnd> {
    let (rauc, keep, before) = (rauc.clone(), told.keep(), service.count("InstallBundle"));
    let task = tokio::spawn(async move { rauc.install(Path::new(BUNDLE), Some("t-1"), keep).await });
    soon(service.answered("InstallBundle", before + 1)).await;
    task
}

#[tokio::test]
async fn from_1_9_on_a_bundle_is_inspected_and_its_version_may_be_missing() {
    let (_private, service, rauc) = newer().await;
    let manifest = vec![member("compatible", "gateway"), member("version", "2.0")];
    service.answer("InspectBundle", Answer::Manifest(manifest));
    let bundle = soon(rauc.inspect(Path::new(BUNDLE))).await.unwrap();
    assert_eq!(
        (bundle.compatible.as_str(), bundle.version.as_deref()),
        ("gateway", Some("2.0"))
    );
    assert!(
        service.calls().contains(&format!("InspectBundle({BUNDLE}, {{}})")),
        "{:?}",
        service.calls()
    );
    service.answer("InspectBundle", Answer::Manifest(vec![member("compatible", "gateway")]));
    assert_eq!(soon(rauc.inspect(Path::new(BUNDLE))).await.unwrap().version, None);
    service.answer("InspectBundle", Answer::Manifest(vec![]));
    assert!(matches!(
        soon(rauc.inspect(Path::new(BUNDLE))).await,
        Err(InspectError::Failed(_))
    ));
}

#[tokio::test]
async fn from_1_9_on_a_refused_bundle_is_told_in_raucs_words() {
    let (_private, service, rauc) = newer().await;
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    std::fs::write(&page, "<html>404 not found</html>").unwrap();
    let words = "signature verification failed: Verify error: certificate is not yet valid";
    service.answer("InspectBundle", error(words));
    let refused = soon(rauc.inspect(Path::new(BUNDLE))).await;
    assert_eq!(refused, Err(InspectError::Signature(words.to_owned())));
    let words = "Invalid bundle format: Signature size (17452291278328975937) exceeds bundle size";
    service.answer("InspectBundle", error(words));
    match soon(rauc.inspect(&page)).await {
        Err(InspectError::NotABundle(text)) => assert!(text.contains(words), "{text}"),
        other => panic!("{other:?}"),
    }
    service.answer("InspectBundle", error("already processing a different method"));
    assert_eq!(soon(rauc.inspect(Path::new(BUNDLE))).await, Err(InspectError::Busy));
    let words = "No keyring file or directory provided";
    service.answer("InspectBundle", error(words));
    match soon(rauc.inspect(Path::new(BUNDLE))).await {
        Err(InspectError::Failed(error)) => assert!(error.to_string().contains(words), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_transaction_is_sent_where_rauc_may_know_it_and_left_out_where_it_does_not() {
    let (_private, service, rauc) = newer().await;
    let told = Told::default();
    let task = begin(&service, &rauc, &told).await;
    completed(&service, 0).await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Done);
    let calls = service.calls();
    let call = calls.iter().find(|call| call.starts_with("InstallBundle")).unwrap();
    assert!(call.contains("transaction-id") && call.contains("t-1"), "{call}");

    // RAUC 1.9
    service.answer(
        "InstallBundle",
        Answer::Then(
            Box::new(error("Unsupported key: transaction-id")),
            Box::new(Answer::Done),
        ),
    );
    let task = begin(&service, &rauc, &told).await;
    soon(service.answered("InstallBundle", 3)).await;
    completed(&service, 0).await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Done);
    assert_eq!(
        service.calls().last().unwrap(),
        &format!("InstallBundle({BUNDLE}, {{}})")
    );
}

#[tokio::test]
async fn progress_never_goes_backwards_and_a_step_that_failed_is_none() {
    let (_private, service, rauc) = newer().await;
    let told = Told::default();
    let task = begin(&service, &rauc, &told).await;
    for (percentage, message, depth) in [
        (0, "Installing", 1),
        (46, "Copying image to rootfs.1", 3),
        (46, "Copying image to rootfs.1", 3),
        (40, "Copying image to rootfs.1", 3),
        (40, "Updating slots", 2),
        (47, "Copying image to rootfs.1", 3),
        (48, "Something small", 4),
        (-1, "Nonsense", 1),
        (101, "Nonsense", 1),
        (99, "Copying image to rootfs.1 failed.", 3),
        (100, "Installing failed.", 1),
    ] {
        step(&service, percentage, message, depth).await;
    }
    service.answer("LastError", Answer::Text("Installation error: no".to_owned()));
    completed(&service, 1).await;
    assert_eq!(
        soon(task).await.unwrap(),
        InstallEnd::Failed("Installation error: no".to_owned())
    );
    let told: Vec<_> = told
        .all()
        .into_iter()
        .map(|step| (step.percentage, step.message))
        .collect();
    let copying = "Copying image to rootfs.1".to_owned();
    assert_eq!(
        told,
        [(0, "Installing".to_owned()), (46, copying.clone()), (47, copying)]
    );
}

#[tokio::test]
async fn a_reason_that_rauc_has_forgotten_is_the_one_that_was_heard_and_none_is_said_to_be_none() {
    let (_private, service, rauc) = newer().await;
    let told = Told::default();
    let task = begin(&service, &rauc, &told).await;
    changed(&service, "LastError", Variant::from("slot busy")).await;
    completed(&service, 1).await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Failed("slot busy".to_owned()));
    let task = begin(&service, &rauc, &told).await;
    completed(&service, 1).await;
    assert!(matches!(soon(task).await.unwrap(), InstallEnd::Failed(text) if text.contains("does not say why")));
}

#[tokio::test]
async fn only_the_end_that_the_installing_rauc_tells_counts() {
    let (private, service, rauc) = newer().await;
    let stranger = Scripted::start(&private, "org.example.Stranger").await;
    let told = Told::default();
    // The end of somebody else's installation, told before ours begins.
    let permit = std::sync::Arc::new(tokio::sync::Notify::new());
    service.answer(
        "InstallBundle",
        Answer::Hold(std::sync::Arc::clone(&permit), Box::new(Answer::Done)),
    );
    let (other, keep) = (rauc.clone(), told.keep());
    let task = tokio::spawn(async move { other.install(Path::new(BUNDLE), None, keep).await });
    soon(service.called("InstallBundle", 1)).await;
    completed(&service, 1).await;
    permit.notify_one();
    soon(service.answered("InstallBundle", 1)).await;
    // One that anybody may send.
    completed(&stranger, 1).await;
    stranger.leave().await;
    step(&service, 50, "Copying image to rootfs.1", 3).await;
    completed(&service, 0).await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Done);
    assert_eq!(told.all().len(), 1);
}

#[tokio::test]
async fn an_operation_that_goes_idle_ends_nothing() {
    let (_private, service, rauc) = newer().await;
    let told = Told::default();
    let task = begin(&service, &rauc, &told).await;
    changed(&service, "Operation", Variant::from("idle")).await;
    step(&service, 50, "Copying image to rootfs.1", 3).await;
    completed(&service, 0).await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Done);
    assert_eq!(told.all().len(), 1);
}

#[tokio::test]
async fn a_rauc_that_leaves_the_bus_has_died_even_when_another_takes_its_place() {
    let (private, service, rauc) = newer().await;
    let task = begin(&service, &rauc, &Told::default()).await;
    service.leave().await;
    let successor = Scripted::start(&private, NAME).await;
    completed(&successor, 0).await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Died);
}

#[tokio::test]
async fn an_end_that_was_told_by_a_rauc_that_then_left_counts() {
    let (_private, service, rauc) = newer().await;
    let task = begin(&service, &rauc, &Told::default()).await;
    completed(&service, 0).await;
    service.leave().await;
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Done);
}

#[tokio::test]
async fn whether_it_began_is_unknown_without_an_answer_and_how_it_ended_without_a_bus() {
    let (private, service, rauc) = newer().await;
    let told = Told::default();
    let task = begin(&service, &rauc, &told).await;
    step(&service, 20, "Checking bundle", 2).await;
    soon(told.something()).await;
    drop(private);
    assert!(matches!(soon(task).await.unwrap(), InstallEnd::Unknown(text) if text.contains("bus broke")));
    soon(rauc.lost()).await;

    let (_private, service, rauc) = newer().await;
    service.answer("InstallBundle", Answer::Vanish);
    let end = soon(rauc.install(Path::new(BUNDLE), None, untold)).await;
    assert!(matches!(end, InstallEnd::Unknown(_)), "{end:?}");
}

#[tokio::test]
async fn an_installation_that_ends_while_it_is_being_rejoined_is_not_missed() {
    let (_private, service, rauc) = newer().await;
    let permit = std::sync::Arc::new(tokio::sync::Notify::new());
    let idle = Box::new(Answer::Text("rootfs.1".to_owned()));
    service.answer("GetPrimary", Answer::Hold(std::sync::Arc::clone(&permit), idle));
    let other = rauc.clone();
    let task = tokio::spawn(async move { other.rejoin(untold).await });
    soon(service.called("GetPrimary", 1)).await;
    completed(&service, 0).await;
    permit.notify_one();
    assert_eq!(soon(task).await.unwrap(), InstallEnd::Done);
}

#[tokio::test]
async fn no_bootable_slot_is_an_answer_and_a_broken_boot_loader_tool_is_an_error() {
    let (_private, service, rauc) = newer().await;
    for words in [
        "Failed getting primary slot: grub backend: No bootable slot found in ORDER 'A B'\n",
        "Failed getting primary slot: uboot backend: Unable to find primary boot slot\n",
        "Failed getting primary slot: efi backend: Did not find primary boot entry!\n",
    ] {
        service.answer("GetPrimary", error(words));
        assert_eq!(soon(rauc.primary()).await, Ok(None), "{words}");
    }
    service.answer(
        "GetPrimary",
        error("Failed getting primary slot: grub backend: grub-editenv failed with exit code: 1\n"),
    );
    assert!(soon(rauc.primary()).await.is_err());
}

#[tokio::test]
async fn a_mark_that_cannot_be_read_back_may_be_there_or_not() {
    let (_private, service, rauc) = newer().await;
    service
        .answer(
            "Mark",
            Answer::Pair("rootfs.0".to_owned(), "marked slot rootfs.0 as good".to_owned()),
        )
        .answer("GetSlotStatus", error("already processing a different method"));
    let outcome = soon(rauc.mark(Mark::Good, "booted")).await;
    assert!(matches!(outcome, Err(MarkError::Unknown(_))), "{outcome:?}");
    assert_eq!(service.count("Mark(good, booted)"), 1);
    let slot = vec![member("boot-status", "bad"), member("status", "pending")];
    service.answer("GetSlotStatus", Answer::Slots(vec![("rootfs.0".to_owned(), slot)]));
    let outcome = soon(rauc.mark(Mark::Good, "booted")).await;
    assert!(matches!(outcome, Err(MarkError::NotKept { .. })), "{outcome:?}");
    service.answer("Mark", Answer::Vanish);
    assert!(matches!(
        soon(rauc.mark(Mark::Good, "booted")).await,
        Err(MarkError::Unknown(_))
    ));
}

#[tokio::test]
async fn what_newer_versions_record_of_a_slot_is_read() {
    let (_private, service, rauc) = newer().await;
    let members = vec![
        member("class", "appfs"),
        member("parent", "rootfs.1"),
        member("status", "pending"),
        member("installed.transaction", "t-1"),
        member("installed.timestamp", "2026-11-23T05:03:43Z"),
    ];
    service.answer("GetSlotStatus", Answer::Slots(vec![("appfs.1".to_owned(), members)]));
    let slot = soon(rauc.slots()).await.unwrap().remove(0);
    assert_eq!(slot.parent.as_deref(), Some("rootfs.1"));
    assert_eq!(slot.status.as_deref(), Some("pending"));
    assert_eq!(slot.installed_transaction.as_deref(), Some("t-1"));
    assert_eq!((slot.bootname, slot.boot_good), (None, None));
}

#[tokio::test]
async fn a_rauc_that_is_there_and_does_not_answer_is_an_error_and_not_absence() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, NAME).await;
    service.answer("Introspect", error("no"));
    let answer = Rauc::new(&crate::connect(&private).await).await;
    assert!(matches!(answer.unwrap_err().cause, Cause::Refused { .. }));
}

#[tokio::test]
async fn a_bus_that_does_not_let_us_is_named_everywhere() {
    let (_private, service, rauc) = newer().await;
    const POLICY: &str = "Rejected send message, 1 matched rules";
    for member in ["InstallBundle", "InspectBundle", "Mark", "GetPrimary"] {
        service.answer(member, Answer::Error("org.freedesktop.DBus.Error.AccessDenied", POLICY));
    }
    let bundle = Path::new(BUNDLE);
    match soon(rauc.install(bundle, None, untold)).await {
        InstallEnd::Refused(text) => assert!(text.contains("AccessDenied") && text.contains(POLICY), "{text}"),
        end => panic!("{end:?}"),
    }
    let refused = soon(rauc.inspect(bundle)).await;
    assert!(
        matches!(&refused, Err(InspectError::Failed(error)) if error.name().is_some()),
        "{refused:?}"
    );
    let refused = soon(rauc.mark(Mark::Good, "booted")).await;
    assert!(
        matches!(&refused, Err(MarkError::Refused(text)) if text.contains("AccessDenied")),
        "{refused:?}"
    );
    let end = soon(rauc.rejoin(untold)).await;
    assert!(
        matches!(&end, InstallEnd::Unknown(text) if text.contains("AccessDenied")),
        "{end:?}"
    );
}
