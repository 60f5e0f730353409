//! The sandbox, proved twice: what the kernel says of the running process, and what a process cannot do that runs under
//! exactly the packaged unit's directives. Each deed is also done outside, where it works: so the proof can fail.

use crate::harness::{Gateway, SUITES};

#[test]
fn the_unit_is_exposed_no_more_than_1_3() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        let analyze = "systemd-analyze security --no-pager --threshold=13";
        gateway.sh(&format!(
            "{analyze} --offline=yes /usr/lib/systemd/system/iotdm-agent.service"
        ));
        gateway.sh(&format!("{analyze} iotdm-agent.service"));
    }
}

#[test]
fn the_running_agent_has_no_capability_and_cannot_gain_any() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        let status = gateway.sh("cat /proc/$(systemctl show -P MainPID iotdm-agent)/status");
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(u64::from_str_radix(field(set), 16), Ok(0), "{suite}: {set}");
        }
        assert_eq!(field("NoNewPrivs"), "1", "{suite}: no setuid program helps it");
        assert_eq!(field("Seccomp"), "2", "{suite}: its system calls are filtered");
        let user = gateway.sh("id -u iotdm-agent");
        assert_eq!(field("Uid"), [user.as_str(); 4].join("\t"), "{suite}");
    }
}

/// Not even root could write there in the mounts that the running process has.
#[test]
fn the_running_agent_sees_usr_and_etc_read_only() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        let pid = gateway.sh("systemctl show -P MainPID iotdm-agent");
        for folder in ["/usr", "/usr/bin", "/etc", "/etc/iotdm-agent", "/boot", "/var/log"] {
            let deed = format!("touch {folder}/trial && rm {folder}/trial");
            gateway.sh(&deed);
            let inside = gateway.exec(&["nsenter", "-t", &pid, "-m", "sh", "-c", &deed]);
            let told = String::from_utf8_lossy(&inside.stderr);
            assert!(told.contains("Read-only file system"), "{suite}: {folder}: {told}");
        }
        for folder in ["/var/lib/iotdm-agent", "/run/iotdm-agent"] {
            gateway.sh(&format!(
                "nsenter -t {pid} -m sh -c 'touch {folder}/trial && rm {folder}/trial'"
            ));
        }
    }
}

/// The packaged unit with another program in it: the same directives, deed by deed.
#[test]
fn a_process_in_the_agents_sandbox_cannot_do_harm() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        gateway.sh("touch /root/secret; chmod 600 /root/secret; cp /bin/true /var/tmp/harmless");
        gateway.sh(
            "sed -e 's/^Type=.*/Type=oneshot/' -e '/^ExecReload=/d; /^Restart/d; /^WatchdogSec=/d' \
             -e 's|^ExecStart=.*|ExecStart=/bin/sh -c \"eval \\\\\"$$DEED\\\\\"\"\\nEnvironmentFile=/etc/deed|' \
             -e 's/=iotdm-agent$/=iotdm-agent-probe/; s/^User=.*/User=iotdm-agent/' \
             /usr/lib/systemd/system/iotdm-agent.service >/run/systemd/system/probe.service; systemctl daemon-reload",
        );
        let inside = |deed: &str| {
            gateway.write("/etc/deed", &format!("DEED='{deed}'\n"));
            gateway.exec(&["systemctl", "start", "probe.service"]).status.success()
        };
        assert!(
            inside("touch /var/lib/iotdm-agent-probe/mine"),
            "{suite}: the probe itself works"
        );
        assert!(
            inside("test -r /etc/iotdm-agent/config.toml"),
            "{suite}: it reads its configuration"
        );
        for deed in [
            "touch /usr/bin/trial",
            "touch /etc/trial",
            "echo >>/etc/iotdm-agent/config.toml",
            "cat /root/secret",
            "mkdir /root/trial || mkdir /home/trial",
            "unshare --user true",
            "unshare --mount true",
            "mount -t tmpfs none /var/lib/iotdm-agent-probe",
            "chmod u+s /var/lib/iotdm-agent-probe/mine || chmod u+s /tmp",
            "kill -0 1",
            "ls /proc/1/",
            "nice -n -5 true",
            "chroot / true",
            "hostname trial",
            "setpriv --reuid=0 true",
        ] {
            gateway.exec(&["sh", "-c", "rm -rf /usr/bin/trial /etc/trial /root/trial"]);
            assert!(!inside(deed), "{suite}: the sandbox lets through: {deed}");
        }
    }
}
