//! `iotdm firmware push` to a gateway with two slots, what the gateway says of it, and how it is made to stand still at a
//! known place: while RAUC writes, and on trial.

use std::process::{Child, Output};
use std::time::Duration;

use serde_json::Value;

use crate::bundle::Bundle;
use crate::harness::{Gateway, package};
use crate::site::{DEVICE, Site};

/// `[firmware.trial]` for a slot that does not prove itself.
pub(crate) const QUICK: &str = "[firmware.trial]\ntimeout = \"2m\"\n";

/// How long a whole step may take on a busy machine: a slot written, a trial.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Writes some of the slot, waits for as long as /data/hold is there, and writes all of it.
const WRITER: &str = "#!/bin/sh -e
dd if=\"$RAUC_IMAGE_NAME\" of=\"$RAUC_SLOT_DEVICE\" bs=1M count=20 conv=fsync
touch /data/writing
while [ -e /data/hold ]; do sleep 0.1; done
rm /data/writing
dd if=\"$RAUC_IMAGE_NAME\" of=\"$RAUC_SLOT_DEVICE\" bs=1M conv=fsync
";

/// A unit that is activating for as long as /data/hold-trial is there.
const HELD: &str = "cat >/etc/systemd/system/held.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'while [ -e /data/hold-trial ]; do sleep 0.1; done'
[Install]
WantedBy=multi-user.target
END
systemctl enable held.service
";

/// A new root with the agent in it.
pub(crate) fn image(suite: &str, version: &str) -> Bundle {
    Bundle::new(suite, version).deb(&package())
}

/// The same; it stands still when the site says so: while it is written ([`Site::hold_writing`]), and on trial
/// ([`Site::hold_trial`]) if `[firmware.trial] units` names `held.service`.
pub(crate) fn slow_image(suite: &str, version: &str) -> Bundle {
    image(suite, version).script(HELD).hook(WRITER)
}

/// A site whose gateway has two slots; `config` is its `[firmware]`.
pub(crate) fn site(suite: &str, config: &str) -> Site {
    site_of(Gateway::boot_slots(suite), config)
}

/// The same with this gateway.
pub(crate) fn site_of(gateway: Gateway, config: &str) -> Site {
    let path = "/etc/iotdm-agent/conf.d/60-firmware.toml";
    gateway.sh(&format!("install -m 640 -g iotdm-agent /dev/null {path}"));
    let text = format!("[firmware]\nca_file = \"/etc/iotdm-agent/ca.pem\"\n{config}");
    gateway.write(path, &text);
    Site::of(gateway)
}

/// A push that is under way.
pub(crate) struct Push {
    command: Child,
    _bundle: Option<tempfile::TempPath>,
}

impl Push {
    /// Waits for its end, which must be success.
    pub(crate) fn ends_well(self) {
        let output = self.command.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
    }

    /// Waits for its end, which must be failure with these words.
    pub(crate) fn ends_badly(self, reason: &str) {
        let output = self.command.wait_with_output().unwrap();
        let told = words(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(reason), "'{reason}' is missing in:\n{told}");
    }
}

fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

impl Site {
    /// Begins `iotdm firmware push` with this bundle.
    pub(crate) fn push(&self, bundle: Bundle, version: &str) -> Push {
        let file = bundle.build();
        self.gateway
            .wait("the service knows that the gateway takes firmware", || {
                self.row()["mgmt"]["supports"]["firmwareActions"] == true
            });
        let port = crate::support::free_port();
        let listen = format!("{}:{port}", self.gateway.host_address());
        let public = format!("broker.test:{port}");
        let (cert, key) = &self.certificate;
        let (path, cert, key) = (file.to_string_lossy(), cert.to_string_lossy(), key.to_string_lossy());
        let mut arguments = vec!["firmware", "push", DEVICE, "--file", &path, "--version", version];
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
        arguments.extend(["--timeout", "15m"]);
        Push {
            command: self.begin(&arguments),
            _bundle: Some(file),
        }
    }

    /// The same with what lies on a server already.
    pub(crate) fn push_from(&self, uri: &str, verifier: &str) -> Push {
        let arguments = [
            "firmware",
            "push",
            DEVICE,
            "--uri",
            uri,
            "--verifier",
            verifier,
            "--timeout",
            "5m",
        ];
        Push {
            command: self.begin(&arguments),
            _bundle: None,
        }
    }

    /// A whole push, which must succeed.
    pub(crate) fn push_well(&self, bundle: Bundle, version: &str) {
        self.push(bundle, version).ends_well();
    }

    /// A whole push, which must fail with these words.
    pub(crate) fn push_badly(&self, bundle: Bundle, version: &str, reason: &str) {
        self.push(bundle, version).ends_badly(reason);
    }

    /// What the agent says of its firmware.
    pub(crate) fn firmware(&self) -> Value {
        self.status()["agent"]["firmware"].clone()
    }

    /// What the agent says of itself; nothing while it does not answer.
    pub(crate) fn status(&self) -> Value {
        let output = self.gateway.exec(&["iotdm-agent", "status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until the agent says that the update waits for something with these words in it.
    pub(crate) fn wait_waiting_for(&self, words: &str) {
        self.gateway.wait_long(
            self.gateway.at_least(LONG),
            &format!("the update waits for '{words}'"),
            || {
                let status = self.firmware();
                status["waiting_for"]
                    .as_str()
                    .is_some_and(|reason| reason.contains(words))
            },
        );
    }

    /// The version that runs, by the host itself.
    pub(crate) fn runs(&self) -> String {
        self.gateway.sh(". /etc/os-release; echo $IMAGE_VERSION")
    }

    /// Slot and version.
    pub(crate) fn booted(&self) -> (String, String) {
        (self.gateway.slot(), self.runs())
    }

    /// What the boot loader thinks of a slot: OK and TRY.
    pub(crate) fn boot_loader(&self, slot: &str) -> (String, String) {
        let value = |name: &str| self.gateway.bootloader(&format!("{slot}_{name}"));
        (value("OK"), value("TRY"))
    }

    /// From now on the writing of a slow image stands still.
    pub(crate) fn hold_writing(&self) {
        self.gateway.sh("rm -f /data/writing; touch /data/hold");
    }

    /// Waits until it does.
    pub(crate) fn wait_writing(&self) {
        self.gateway
            .wait_long(self.gateway.at_least(LONG), "some of the slot is written", || {
                self.gateway.exec(&["test", "-e", "/data/writing"]).status.success()
            });
    }

    pub(crate) fn let_write(&self) {
        self.gateway.sh("rm -f /data/hold");
    }

    /// From now on a trial does not come to an end by itself. The slot that runs gets the unit, too: it is healthy.
    pub(crate) fn hold_trial(&self) {
        self.gateway
            .sh(&format!("{HELD}systemctl start held.service; touch /data/hold-trial"));
    }

    /// Waits until slot `slot` is on trial. A machine that is down does not even tell its journal.
    pub(crate) fn wait_trial(&self, slot: &str) {
        let limit = self.gateway.at_least(LONG);
        self.gateway.wait_long(limit, &format!("{slot} is on trial"), || {
            let firmware = self.firmware();
            firmware["slot"] == slot && firmware["phase"] == "firmware on trial"
        });
    }

    pub(crate) fn let_try(&self) {
        self.gateway.sh("rm -f /data/hold-trial");
    }

    /// SIGKILL to the agent, which systemd then starts again.
    pub(crate) fn kill_agent(&self) {
        self.end_agent("systemctl kill -s KILL iotdm-agent");
    }

    /// Ends the agent with this command, and waits until the next one answers.
    pub(crate) fn end_agent(&self, command: &str) {
        let pid = || self.gateway.sh("systemctl show -P MainPID iotdm-agent");
        let before = pid();
        assert_ne!(before, "0", "the agent runs");
        self.gateway.sh(command);
        self.gateway.wait("the agent is back", || {
            let now = pid();
            now != before && now != "0" && self.firmware()["state"].is_u64()
        });
    }

    /// How many locks the agent holds on a shutdown.
    pub(crate) fn locks(&self) -> usize {
        let list = self.gateway.sh("systemd-inhibit --list --no-legend");
        list.lines().filter(|line| line.contains("installing firmware")).count()
    }
}
