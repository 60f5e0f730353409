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

/// The packaged unit with another program in it, deed by deed. Outside, root can do each of them.
#[test]
fn a_process_in_the_agents_sandbox_cannot_do_harm() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        gateway.sh("touch /root/secret; chmod 600 /root/secret");
        let works = "touch /var/lib/iotdm-agent/mine /run/iotdm-agent/mine && cat /etc/iotdm-agent/config.toml";
        let (succeeded, told) = gateway.as_agent(works);
        assert!(succeeded, "{suite}: its own folders are open to it: {told}");
        // what is done, what undoes it
        for (deed, undo) in [
            ("touch /usr/bin/trial", "rm /usr/bin/trial"),
            ("touch /etc/trial", "rm /etc/trial"),
            ("echo >>/etc/iotdm-agent/config.toml", ""),
            ("cat /root/secret", ""),
            ("mkdir /root/trial", "rmdir /root/trial"),
            ("mkdir /home/trial", "rmdir /home/trial"),
            ("unshare --user true", ""),
            ("unshare --mount true", ""),
            (
                "mount -t tmpfs none /var/lib/iotdm-agent",
                "umount /var/lib/iotdm-agent",
            ),
            (
                "touch /var/tmp/trial && chmod u+s /var/tmp/trial",
                "rm -f /var/tmp/trial",
            ),
            ("kill -0 1", ""),
            ("ls /proc/1/", ""),
            ("test $(nice -n -5 nice) = -5", ""),
            ("chroot / true", ""),
            ("hostname trial", ""),
            ("setpriv --reuid=0 true", ""),
        ] {
            let (succeeded, told) = gateway.as_agent(deed);
            assert!(!succeeded, "{suite}: the sandbox lets through '{deed}': {told}");
            gateway.sh(deed);
            gateway.sh(undo);
        }
    }
}
