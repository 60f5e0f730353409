//! Firmware over the air: pushed by the service, written by RAUC, on trial, and one truthful outcome.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::harness::{Gateway, SUITES, package};
use crate::site::Site;

/// A site whose gateway has two slots, and a server for its bundles.
struct Fleet {
    site: Site,
    folder: tempfile::TempDir,
    server: Child,
    url: String,
    requests: u32,
}

impl Fleet {
    fn new(suite: &str, config: &str) -> Self {
        let gateway = Gateway::boot_slots(suite);
        let folder = tempfile::tempdir().unwrap();
        let port = crate::support::free_port();
        let host = gateway.host_address().to_string();
        let server = Command::new("python3")
            .args(["-m", "http.server", &port.to_string(), "--bind", &host, "--directory"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        gateway.sh(&format!(
            "install -m 640 -g iotdm-agent /dev/null /etc/iotdm-agent/conf.d/60-firmware.toml; \
             printf '%s' '{config}' >/etc/iotdm-agent/conf.d/60-firmware.toml"
        ));
        let site = Site::of(gateway);
        Fleet {
            site,
            folder,
            server,
            url: format!("http://{host}:{port}"),
            requests: 0,
        }
    }

    fn serve(&self, bundle: &Path, name: &str) -> String {
        std::fs::copy(bundle, self.folder.path().join(name)).unwrap();
        format!("{}/{name}", self.url)
    }

    fn request(&mut self, tail: &str, d: Option<Value>) {
        self.requests += 1;
        let mut payload = json!({"reqId": format!("fw-{}", self.requests)});
        if let Some(d) = d {
            payload["d"] = d;
        }
        self.site.publish(tail, &payload.to_string());
    }

    fn status(&self) -> Value {
        let output = self.site.gateway.exec(&["iotdm-agent", "status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()["agent"].clone()
    }

    fn firmware(&self) -> (u64, u64) {
        let firmware = self.status()["firmware"].clone();
        let number = |name: &str| firmware[name].as_u64().unwrap_or(99);
        (number("state"), number("update_status"))
    }

    fn download(&mut self, uri: &str, version: &str) {
        let value = json!({"version": version, "uri": uri, "name": "", "verifier": "", "state": 0, "updateStatus": 0});
        self.request("device/update", Some(json!({"fields": [{"field": "mgmt.firmware", "value": value}]})));
        self.request("observe", Some(json!({"fields": [{"field": "mgmt.firmware"}]})));
        self.request("mgmt/initiate/firmware/download", None);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const CONFIG: &str = "[firmware]\nallow_http = true\n[firmware.trial]\ntimeout = \"2m\"\n";

#[test]
fn fwu_03_an_update_runs_from_the_other_slot_and_is_marked_good() {
    for suite in SUITES {
        let mut fleet = Fleet::new(suite, CONFIG);
        assert_eq!(fleet.status()["firmware"]["not_supported"], Value::Null, "{suite}");
        let bundle = Bundle::new(suite, "2").deb(&package()).build();
        let uri = fleet.serve(&bundle, "2.raucb");
        fleet.download(&uri, "2");
        fleet.site.gateway.wait("the image is downloaded", || fleet.firmware() == (2, 0));
        fleet.request("mgmt/initiate/firmware/update", None);
        fleet.site.gateway.wait_boot(2);
        fleet.site.gateway.wait("the update has ended", || fleet.firmware() == (0, 0));
        assert_eq!(fleet.site.gateway.slot(), "B", "{suite}");
        assert_eq!(fleet.site.gateway.bootloader("B_OK"), "1", "{suite}");
        assert_eq!(fleet.site.gateway.bootloader("B_TRY"), "0", "{suite}");
        fleet.site.gateway.wait("the service knows what runs", || {
            fleet.site.row()["deviceInfo"]["fwVersion"] == "2" || fleet.site.row()["fwVersion"] == "2"
        });
    }
}
