//! Firmware over the air: pushed by the operator, fetched over https, written by RAUC, on trial, and one truthful outcome.
//! Debian 12's RAUC 1.8 and Debian 13's 1.13.

use std::process::Output;

use serde_json::Value;

use crate::bundle::Bundle;
use crate::harness::{Gateway, SUITES, package};
use crate::site::{DEVICE, Site};

/// A new root with the agent in it.
fn image(suite: &str, version: &str) -> Bundle {
    Bundle::new(suite, version).deb(&package())
}

/// A site whose gateway has two slots; `config` is its `[firmware]`.
fn site(suite: &str, config: &str) -> Site {
    let gateway = Gateway::boot_slots(suite);
    let path = "/etc/iotdm-agent/conf.d/60-firmware.toml";
    gateway.sh(&format!("install -m 640 -g iotdm-agent /dev/null {path}"));
    let text = format!("[firmware]\nca_file = \"/etc/iotdm-agent/ca.pem\"\n{config}");
    gateway.write(path, &text);
    Site::of(gateway)
}

impl Site {
    /// `iotdm firmware push` with this bundle and these options more.
    fn push(&self, bundle: Bundle, version: &str, options: &[&str]) -> Output {
        let file = bundle.build();
        let port = crate::support::free_port();
        let listen = format!("{}:{port}", self.gateway.host_address());
        let public = format!("broker.test:{port}");
        let (cert, key) = &self.certificate;
        let (file, cert, key) = (file.to_string_lossy(), cert.to_string_lossy(), key.to_string_lossy());
        let mut arguments = vec!["firmware", "push", DEVICE, "--file", &file, "--version", version];
        arguments.extend([
            "--listen",
            &listen,
            "--public-host",
            &public,
            "--cert",
            &cert,
            "--key",
            &key,
        ]);
        arguments.extend(["--timeout", "4m"]);
        arguments.extend(options);
        self.iotdm(&arguments)
    }

    /// The same, which must succeed.
    fn push_well(&self, bundle: Bundle, version: &str) {
        let output = self.push(bundle, version, &[]);
        assert!(output.status.success(), "{}", words(&output));
    }

    /// The same, which must fail with these words.
    fn push_badly(&self, bundle: Bundle, version: &str, reason: &str) {
        let output = self.push(bundle, version, &[]);
        let told = words(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(reason), "'{reason}' is missing in:\n{told}");
    }

    fn firmware(&self) -> Value {
        let output = self.gateway.exec(&["iotdm-agent", "status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()["agent"]["firmware"].clone()
    }

    /// The version that runs, by the host itself.
    fn runs(&self) -> String {
        self.gateway.sh(". /etc/os-release; echo $IMAGE_VERSION")
    }

    /// What the boot loader thinks of a slot: OK and TRY.
    fn boot_loader(&self, slot: &str) -> (String, String) {
        let value = |name: &str| self.gateway.bootloader(&format!("{slot}_{name}"));
        (value("OK"), value("TRY"))
    }
}

fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

const QUICK: &str = "[firmware.trial]\ntimeout = \"2m\"\n";

#[test]
fn fwu_03_an_update_runs_from_the_other_slot_is_marked_good_and_the_next_goes_back_again() {
    for suite in SUITES {
        let site = site(suite, "");
        assert_eq!(site.firmware()["not_supported"], Value::Null, "{suite}");
        // else so many reboots in a row would be taken for a loop
        site.gateway.uptime(700);
        site.push_well(image(suite, "2"), "2");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("B", "2"),
            "{suite}"
        );
        assert_eq!(site.boot_loader("B"), ("1".into(), "0".into()), "{suite}: read back");
        let row = site.row();
        assert_eq!(row["deviceInfo"]["fwVersion"], "2", "{suite}: {row}");
        assert!(
            !site
                .gateway
                .exec(&["test", "-e", "/var/lib/iotdm-agent/trial"])
                .status
                .success()
        );
        let left = site.gateway.sh("ls /var/lib/iotdm-agent/firmware");
        assert_eq!(left, "", "{suite}: the image is not kept");
        // Ordinary boots stay where they are: GRUB's scheme would go back after one that nobody marked.
        for _ in 0..4 {
            let (ok, row) = site.reboot();
            assert!(ok, "{suite}: {row}");
            assert_eq!(site.gateway.slot(), "B", "{suite}");
            site.gateway
                .wait("it is marked", || site.boot_loader("B") == ("1".into(), "0".into()));
        }
        site.push_well(image(suite, "3"), "3");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "3"),
            "{suite}"
        );
    }
}

#[test]
fn fwu_05_a_slot_that_does_not_start_is_told_from_the_old_one_which_stays() {
    for suite in SUITES {
        let site = site(suite, "");
        site.gateway.uptime(700);
        site.push_badly(Bundle::small(suite, "2"), "2", "did not start");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "1"),
            "{suite}"
        );
        site.gateway.wait("the slots are marked", || {
            site.boot_loader("A") == ("1".into(), "0".into()) && site.boot_loader("B").0 == "0"
        });
        for _ in 0..4 {
            let (ok, row) = site.reboot();
            assert!(ok, "{suite}: {row}");
            assert_eq!(site.gateway.slot(), "A", "{suite}: after a fall-back, too");
        }
    }
}

#[test]
fn a_unit_that_fails_in_the_new_slot_leads_back_with_the_reason() {
    for suite in SUITES {
        let site = site(suite, QUICK);
        let unit = "printf '[Service]\\nExecStart=/bin/false\\n[Install]\\nWantedBy=multi-user.target\\n' \
                    >/etc/systemd/system/modbus.service; systemctl enable modbus.service";
        site.push_badly(image(suite, "2").script(unit), "2", "modbus.service has failed");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "1"),
            "{suite}"
        );
        let row = site.row();
        assert_eq!(row["deviceInfo"]["fwVersion"], "1", "{suite}: {row}");
    }
}

#[test]
fn fwu_04_what_is_not_for_this_gateway_is_refused_before_anything_is_written() {
    for suite in SUITES {
        let site = site(suite, "max_size = \"64MiB\"\n");
        let small = || Bundle::small(suite, "2");
        for (bundle, reason) in [
            (small().with(&["--unsigned"]), "no RAUC bundle"),
            (small().with(&["--key", "foreign"]), "signature"),
            (
                small().with(&["--compatible", "other-gateway"]),
                "made for \"other-gateway\"",
            ),
        ] {
            site.push_badly(bundle, "2", reason);
            assert_eq!(site.gateway.bootloader("ORDER"), "A B", "{suite}");
        }
        assert_eq!(site.gateway.boot_ids().len(), 1, "{suite}: and nothing rebooted");
    }
}

#[test]
fn a_slot_without_a_working_agent_is_left_by_the_fall_back_outside_of_it() {
    for suite in SUITES {
        let site = site(suite, QUICK);
        // so that seven minutes need not be waited for
        site.gateway.uptime(500);
        let broken = image(suite, "2").script("rm /usr/bin/iotdm-agent");
        site.push_badly(broken, "2", "was not found good");
        assert_eq!(
            (site.gateway.slot().as_str(), site.runs().as_str()),
            ("A", "1"),
            "{suite}"
        );
        site.gateway.wait("the slots are marked", || {
            site.boot_loader("A") == ("1".into(), "0".into()) && site.boot_loader("B").0 == "0"
        });
    }
}
