//! What goes wrong on a gateway is known at the service: the journal's errors and a failed unit, through the whole sandbox.

use serde_json::Value;

use crate::harness::SUITES;
use crate::site::{DEVICE, Site};

/// Fails with a secret in its last words, until /run/mended is there.
const MODBUS: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'test -e /run/mended || { echo \"<3>no answer from slave 7, password=hunter2\"; kill -SEGV $$$$; }'
";

const RULES: &str = "[[diagnostics.error_code]]
code = 42
unit = \"modbus.service\"
[[diagnostics.error_code]]
code = 43
message = \"no answer from slave [0-9]+\"
lasts = \"1h\"
[[diagnostics.error_code]]
code = 44
unit = \"looping.service\"
message_id = \"d9b373ed55a64feb8242e02dbe79a49c\"
";

/// Never failed: it is started again each time.
const LOOPING: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/false
Restart=always
RestartSec=20
";

impl Site {
    fn logs(&self) -> String {
        let output = self.iotdm(&["logs", DEVICE]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn codes(&self) -> Vec<i64> {
        let output = self.iotdm(&["errors", DEVICE, "--json"]);
        let codes: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let codes = codes.as_array().cloned().unwrap_or_default();
        let mut codes: Vec<_> = codes.iter().filter_map(|code| code["errorCode"].as_i64()).collect();
        codes.sort_unstable();
        codes
    }
}

#[test]
fn dia_01_dia_02_dia_03_a_crashing_unit_is_in_the_logs_and_the_errors_until_it_recovers() {
    for suite in SUITES {
        let site = Site::managed(suite);
        let gateway = &site.gateway;
        gateway.write("/etc/systemd/system/modbus.service", MODBUS);
        gateway.sh("install -m 640 -g iotdm-agent /dev/null /etc/iotdm-agent/conf.d/60-codes.toml");
        gateway.write("/etc/iotdm-agent/conf.d/60-codes.toml", RULES);
        gateway.sh("systemctl daemon-reload; systemctl reload iotdm-agent");

        let _ = gateway.exec(&["systemctl", "start", "modbus.service"]);
        gateway.wait("the codes are told", || site.codes() == [42, 43]);
        gateway.wait("the log is told", || site.logs().contains("no answer from slave 7"));
        let logs = site.logs();
        assert!(logs.contains("modbus.service"), "{suite}: {logs}");
        assert!(!logs.contains("hunter2"), "{suite}: {logs}");

        // A restart, a kill and a reboot tell nothing twice and forget nothing.
        gateway.sh("systemctl kill -s KILL iotdm-agent");
        gateway.wait("the agent runs again", || {
            gateway.sh("systemctl is-active iotdm-agent; true") == "active"
        });
        gateway.sh("echo '<3>after the kill' | systemd-cat -t trial --level-prefix=yes");
        gateway.wait("what comes after it is told", || site.logs().contains("after the kill"));
        assert_eq!(
            site.logs().matches("no answer from slave 7").count(),
            1,
            "{suite}: {}",
            site.logs()
        );
        assert_eq!(site.codes(), [42, 43], "{suite}");

        // The agent's own errors do not come this way: they would feed themselves.
        let broken = "/etc/iotdm-agent/conf.d/99-broken.toml";
        gateway.sh(&format!("install -m 640 -g iotdm-agent /dev/null {broken}"));
        gateway.write(broken, "[broken");
        gateway.sh("systemctl reload iotdm-agent || true");
        gateway.wait("the agent has an error of its own", || {
            let errors = gateway.journal(&["_SYSTEMD_UNIT=iotdm-agent.service", "--priority=err"]);
            errors
                .iter()
                .any(|error| error["MESSAGE"].to_string().contains("99-broken"))
        });
        gateway.sh(&format!("rm {broken}; systemctl reload iotdm-agent"));
        gateway.sh("echo '<3>after the reload' | systemd-cat -t trial --level-prefix=yes");
        gateway.wait("what comes after it is told", || {
            site.logs().contains("after the reload")
        });
        assert!(!site.logs().contains("99-broken"), "{suite}: {}", site.logs());

        // It recovers: one code goes, the other still lasts.
        gateway.sh("touch /run/mended; systemctl start modbus.service");
        gateway.wait("the code is gone", || site.codes() == [43]);

        // Somebody on the gateway has something to say, too.
        gateway.sh("iotdm-agent diag add-error 7; iotdm-agent diag add-log --severity 1 'door open'");
        gateway.wait("a script is heard", || {
            site.codes() == [7, 43] && site.logs().contains("door open")
        });
        gateway.sh("iotdm-agent diag clear-errors");
        gateway.wait("what was added by hand is gone", || site.codes() == [43]);
        gateway.sh("iotdm-agent diag clear-logs");
        gateway.wait("the logs are gone", || !site.logs().contains("door open"));

        // A unit that is started again and again is known by what systemd says each time.
        gateway.write("/etc/systemd/system/looping.service", LOOPING);
        gateway.sh("systemctl daemon-reload; systemctl start --no-block looping.service");
        gateway.wait("its code is told", || site.codes() == [43, 44]);
        assert_eq!(
            gateway.sh("systemctl is-failed looping.service || true"),
            "activating",
            "{suite}"
        );

        let status: Value = serde_json::from_str(&gateway.sh("iotdm-agent diag status --json")).unwrap();
        assert_eq!(status["reading"], true, "{suite}: {status}");
        assert!(status.get("trouble").is_none(), "{suite}: {status}");
        let check = gateway.sh("iotdm-agent check || true");
        assert!(check.contains("the journal can be read"), "{suite}: {check}");
    }
}
