//! RAUC: absent, slow, scripted, and the real service of this Debian with a central status file.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use iotdm::host::bus::{Bus, Cause};
use iotdm::host::rauc::{Slot, booted_version, slots};

use crate::bus::{Answer, PrivateBus, Scripted};
use crate::rauc_host::NAME;
use crate::{connect, soon};

/// A child process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_real_rauc_tells_its_slots_and_the_version_of_the_booted_one() {
    let private = PrivateBus::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let device = |name: &str| {
        std::fs::write(path(name), "").unwrap();
        path(name)
    };
    let (first, second) = (device("slot0"), device("slot1"));
    std::fs::write(
        path("system.conf"),
        format!(
            "[system]\ncompatible=test\nbootloader=noop\nstatusfile={}\n\
             [slot.rootfs.0]\ndevice={}\nbootname=A\n[slot.rootfs.1]\ndevice={}\nbootname=B\n",
            path("status").display(),
            first.display(),
            second.display()
        ),
    )
    .unwrap();
    let status =
        "[slot.rootfs.0]\nbundle.version=1.0\nstatus=ok\n[slot.rootfs.1]\nbundle.version=2026.11-1\nstatus=ok\n";
    std::fs::write(path("status"), status).unwrap();
    let _service = Running(
        Command::new("rauc")
            .args(["service", "--override-boot-slot=B", "--conf"])
            .arg(path("system.conf"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", private.address())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rauc is installed (Debian package rauc)"),
    );
    soon(private.appears(NAME)).await;

    let found = slots(&connect(&private).await).await.unwrap();
    let slot = |name: &str, bootname: &str, device: &Path, booted, version: &str| Slot {
        name: name.to_owned(),
        class: "rootfs".to_owned(),
        device: Some(device.to_path_buf()),
        bootname: Some(bootname.to_owned()),
        booted,
        // The boot loader "noop" cannot say, and then RAUC says this.
        boot_good: Some(false),
        bundle_version: Some(version.to_owned()),
        status: Some("ok".to_owned()),
        ..Slot::default()
    };
    assert_eq!(
        found,
        [
            slot("rootfs.0", "A", &first, false, "1.0"),
            slot("rootfs.1", "B", &second, true, "2026.11-1")
        ]
    );
    assert_eq!(booted_version(&found).as_deref(), Some("2026.11-1"));
}

#[tokio::test]
async fn a_host_without_rauc_has_no_slots_and_says_so_at_once() {
    let private = PrivateBus::start();
    let bus = connect(&private).await;
    let started = Instant::now();
    assert_eq!(slots(&bus).await.unwrap(), []);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(booted_version(&[]), None);
}

#[tokio::test]
async fn a_rauc_that_does_not_answer_does_not_hold_the_start_up_for_as_long_as_a_call_may_take() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, NAME).await;
    service.answer("GetSlotStatus", Answer::Silence);
    let bus = Bus::at(private.address(), Duration::from_secs(60)).await.unwrap();
    let started = Instant::now();
    assert_eq!(slots(&bus).await.unwrap_err().cause, Cause::NoReply);
    assert!(started.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn a_rauc_that_is_not_configured_is_an_error_in_its_own_words() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, NAME).await;
    service.answer(
        "GetSlotStatus",
        Answer::Error("org.gtk.GDBus.UnmappedGError.Quark", "Bootname not found"),
    );
    let error = slots(&connect(&private).await).await.unwrap_err();
    assert!(error.to_string().contains("Bootname not found"), "{error}");
}

#[tokio::test]
async fn a_slot_after_a_factory_flash_has_no_bundle_version() {
    let private = PrivateBus::start();
    let service = Scripted::start(&private, NAME).await;
    let member = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let members = vec![
        member("state", "booted"),
        member("device", "/dev/vda2"),
        member("bundle.version", ""),
    ];
    service.answer("GetSlotStatus", Answer::Slots(vec![("rootfs.0".to_owned(), members)]));
    let found = slots(&connect(&private).await).await.unwrap();
    assert_eq!(found[0].device, Some(PathBuf::from("/dev/vda2")));
    assert!(found[0].booted);
    assert_eq!(booted_version(&found), None);
}
