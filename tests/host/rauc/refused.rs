//! The real `rauc service` and bundles that it does not take: what is told apart beforehand, and what an installation says.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use iotdm::host::rauc::{InspectError, InstallEnd};

use super::real::{Rig, Told, untold};
use crate::rauc_host::{COMPATIBLE, Signer, Special};
use crate::soon;

fn not_a_bundle(outcome: Result<impl std::fmt::Debug, InspectError>, hint: &str) {
    match outcome {
        Err(InspectError::NotABundle(text)) => assert!(text.contains(hint), "{text:?} does not say {hint:?}"),
        other => panic!("expected no bundle, got {other:?}"),
    }
}

fn failed(end: InstallEnd, words: &str) {
    match end {
        InstallEnd::Failed(text) => assert!(text.contains(words), "{text:?} does not say {words:?}"),
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// The other slot is as it was: nothing recorded, still bootable, and not the next.
async fn untouched(rig: &Rig) {
    let slot = rig.slot("rootfs.1").await;
    assert_eq!((slot.bundle_version, slot.boot_good), (None, Some(true)));
    assert_eq!(rig.host.slot("B"), b"");
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.0"));
}

fn squashfs(rig: &Rig) -> PathBuf {
    let (folder, file) = (rig.host.path("content"), rig.host.path("unsigned"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("manifest.raucm"), "[update]\ncompatible=x\n").unwrap();
    let made = Command::new("mksquashfs")
        .arg(folder)
        .arg(&file)
        .arg("-quiet")
        .output()
        .unwrap();
    assert!(made.status.success());
    file
}

#[tokio::test]
async fn a_bundle_signed_by_a_stranger_is_a_matter_of_the_signature() {
    let rig = Rig::new().await;
    let bundle = rig.bundle_by(&Signer::new("stranger"), "6.6", COMPATIBLE);
    let refused = soon(rig.rauc.inspect(&bundle)).await;
    assert!(matches!(refused, Err(InspectError::Signature(_))), "{refused:?}");
    let told = Told::default();
    let end = soon(rig.rauc.install(&bundle, None, told.keep())).await;
    failed(end, "signature verification failed");
    assert!(told.all().iter().all(|step| step.percentage < 100), "{:?}", told.all());
    untouched(&rig).await;
}

#[tokio::test]
async fn a_bundle_that_was_changed_after_it_was_signed_is_a_matter_of_the_signature() {
    let rig = Rig::new().await;
    let bundle = rig.bundle("2.0");
    let file = std::fs::File::options().write(true).open(&bundle).unwrap();
    file.write_all_at(b"changed", 1000).unwrap();
    drop(file);
    let refused = soon(rig.rauc.inspect(&bundle)).await;
    assert!(matches!(refused, Err(InspectError::Signature(_))), "{refused:?}");
    failed(soon(rig.rauc.install(&bundle, None, untold)).await, "verification fail");
    untouched(&rig).await;
}

#[tokio::test]
async fn an_unsigned_a_truncated_and_a_wholly_different_file_are_no_bundles() {
    let rig = Rig::new().await;
    let unsigned = squashfs(&rig);
    let cut = rig.bundle("2.0");
    let length = std::fs::metadata(&cut).unwrap().len();
    std::fs::File::options()
        .write(true)
        .open(&cut)
        .unwrap()
        .set_len(length - 100)
        .unwrap();
    let page = rig.host.path("page");
    std::fs::write(&page, "<html>404 not found</html>").unwrap();
    let empty = rig.host.path("empty");
    std::fs::write(&empty, "").unwrap();
    for file in [&unsigned, &cut, &page] {
        not_a_bundle(soon(rig.rauc.inspect(file)).await, "signature");
        failed(
            soon(rig.rauc.install(file, None, untold)).await,
            "Invalid bundle format",
        );
    }
    not_a_bundle(soon(rig.rauc.inspect(&empty)).await, "short");
    failed(
        soon(rig.rauc.install(&empty, None, untold)).await,
        "Invalid bundle format",
    );
    untouched(&rig).await;
}

#[tokio::test]
async fn a_bundle_for_another_device_is_inspected_and_not_installed() {
    let rig = Rig::new().await;
    let bundle = rig.bundle_by(&rig.signer, "2.0", "another-device");
    let inspected = soon(rig.rauc.inspect(&bundle)).await.unwrap();
    assert_eq!(inspected.compatible, "another-device");
    failed(
        soon(rig.rauc.install(&bundle, None, untold)).await,
        "Compatible mismatch",
    );
    untouched(&rig).await;
}

#[tokio::test]
async fn a_bundle_that_the_configuration_rules_out_is_none_that_rauc_takes_though_its_signature_is_good() {
    let rig = Rig::with(Special {
        system: "bundle-formats=verity",
        ..Special::default()
    })
    .await;
    let bundle = rig.bundle("2.0");
    match soon(rig.rauc.inspect(&bundle)).await {
        // In RAUC's words where it has some.
        Err(InspectError::NotABundle(text)) => {
            assert!(
                text.contains("signature is good") || text.contains("'plain' not allowed"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    let end = soon(rig.rauc.install(&bundle, None, untold)).await;
    failed(end, "'plain' not allowed");
}

#[tokio::test]
async fn a_host_without_unsquashfs_cannot_inspect_a_plain_bundle_and_the_bundle_is_not_blamed() {
    let rig = Rig::with(Special {
        programs: Some(&["cat"]),
        ..Special::default()
    })
    .await;
    let refused = soon(rig.rauc.inspect(&rig.bundle("2.0"))).await.unwrap_err();
    assert!(matches!(refused, InspectError::Failed(_)), "{refused:?}");
    assert!(refused.to_string().contains("squash"), "{refused}");
}

#[tokio::test]
async fn a_file_that_rauc_cannot_open_says_nothing_about_a_bundle() {
    let rig = Rig::new().await;
    let missing = Path::new("/nonexistent/bundle");
    let refused = soon(rig.rauc.inspect(missing)).await.unwrap_err();
    assert!(matches!(refused, InspectError::Failed(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("can RAUC open the file") || text.contains("No such file"),
        "{text}"
    );
    failed(soon(rig.rauc.install(missing, None, untold)).await, "No such file");
    let relative = soon(rig.rauc.install(Path::new("bundle"), None, untold)).await;
    assert!(matches!(relative, InstallEnd::Refused(text) if text.contains("absolute")));
}

#[tokio::test]
async fn a_bundle_that_somebody_still_writes_to_says_nothing_about_a_bundle() {
    let rig = Rig::new().await;
    let bundle = rig.bundle("2.0");
    let writer = std::fs::File::options().write(true).open(&bundle).unwrap();
    let refused = soon(rig.rauc.inspect(&bundle)).await;
    assert!(matches!(refused, Err(InspectError::Failed(_))), "{refused:?}");
    failed(soon(rig.rauc.install(&bundle, None, untold)).await, "exclusive");
    drop(writer);
    soon(rig.rauc.inspect(&bundle)).await.unwrap();
}

#[tokio::test]
async fn a_bundle_larger_than_the_slot_fails_in_raucs_words_and_leaves_the_slot_unbootable() {
    let rig = Rig::with(Special {
        small_slots: Some(64),
        ..Special::default()
    })
    .await;
    let bundle = rig.bundle("2.0");
    soon(rig.rauc.inspect(&bundle)).await.unwrap();
    failed(soon(rig.rauc.install(&bundle, None, untold)).await, "No space left");
    let slot = rig.slot("rootfs.1").await;
    assert_eq!(slot.boot_good, Some(false));
    assert_ne!(slot.status.as_deref(), Some("ok"));
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.0"));
}
