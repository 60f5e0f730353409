//! The program with the real RAUC of this Debian, whose boot loader is a script that writes down what it is told.

use std::process::{Child, Stdio};

use super::*;
use crate::bus::PrivateBus;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_real_rauc_is_understood_and_told_what_the_boot_loader_needs() {
    let host = Host::without_rauc(OVER);
    let private = PrivateBus::start();
    let backend = host.path("backend");
    // After a boot that nobody marked, GRUB's slot has no try left: its state is bad, and there is no primary.
    let script = format!(
        "#!/bin/sh\ncase $1 in get-primary) echo B ;; get-state) echo bad ;; \
         set-*) echo \"$*\" >>{} ;; esac\n",
        host.path("told").display()
    );
    std::fs::write(&backend, script).unwrap();
    std::fs::set_permissions(&backend, std::fs::Permissions::from_mode(0o755)).unwrap();
    let device = |name: &str| {
        std::fs::write(host.path(name), "").unwrap();
        host.path(name).display().to_string()
    };
    std::fs::write(
        host.path("system.conf"),
        format!(
            "[system]\ncompatible=test\nbootloader=custom\nstatusfile={}\n[handlers]\nbootloader-custom-backend={}\n\
             [slot.data.0]\ndevice={}\n[slot.rootfs.0]\ndevice={}\nbootname=A\n[slot.rootfs.1]\ndevice={}\nbootname=B\n",
            host.path("status").display(),
            backend.display(),
            device("data"),
            device("a"),
            device("b"),
        ),
    )
    .unwrap();
    let _service = Running(
        Command::new("rauc")
            .args(["service", "--override-boot-slot=B", "--conf"])
            .arg(host.path("system.conf"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", private.address())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rauc is installed (Debian package rauc)"),
    );
    private.appears("de.pengutronix.rauc").await;
    host.tool(
        "rauc",
        &format!(
            "export DBUS_SYSTEM_BUS_ADDRESS={}\nexec /usr/bin/rauc \"$@\"",
            private.address()
        ),
    );

    host.mark("slot=rootfs.0\ndeadline=1\n");
    assert_eq!(host.tick(), "");
    assert_eq!(
        host.calls().len(),
        1,
        "the other slot is booted: RAUC was asked and nothing done"
    );

    host.mark(OVER);
    assert!(host.tick().ends_with("booting the other slot\n"));
    let told = std::fs::read_to_string(host.path("told")).unwrap();
    assert_eq!(told, "set-primary A\nset-state B bad\n");
    assert_eq!(host.calls().last().unwrap(), "systemctl reboot");
}
