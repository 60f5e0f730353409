//! What the package does to a Debian: fresh install, upgrade, remove, purge; and who may do what afterwards.

use crate::harness::{Gateway, SUITES, next_package};

#[test]
fn a_fresh_install_is_enabled_and_up_without_an_identity() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        assert_eq!(gateway.sh("systemctl is-enabled iotdm-agent"), "enabled");
        assert_eq!(gateway.sh("systemctl is-active iotdm-agent"), "active");
        assert_eq!(
            gateway.sh("stat -c %U /proc/$(systemctl show -P MainPID iotdm-agent)"),
            "iotdm-agent",
            "{suite}"
        );
        assert_eq!(property(&gateway, "NRestarts"), "0");
        assert_ne!(property(&gateway, "StatusText"), "", "it says what it is waiting for");
    }
}

#[test]
fn the_configuration_is_for_root_and_the_service_only() {
    let gateway = Gateway::boot("bookworm");
    let stat = |path: &str| gateway.sh(&format!("stat -c '%U:%G %a' {path}"));
    assert_eq!(stat("/etc/iotdm-agent"), "root:iotdm-agent 750");
    assert_eq!(stat("/etc/iotdm-agent/config.toml"), "root:iotdm-agent 640");
    assert_eq!(stat("/etc/iotdm-agent/conf.d"), "root:iotdm-agent 750");
    assert_eq!(stat("/var/lib/iotdm-agent"), "iotdm-agent:iotdm-agent 700");
    assert_eq!(stat("/run/iotdm-agent"), "iotdm-agent:iotdm-agent 750");
}

#[test]
fn the_socket_answers_root_and_the_group_and_nobody_else() {
    let gateway = Gateway::boot("bookworm");
    assert_eq!(
        gateway.sh("stat -c '%U:%G %a %F' /run/iotdm-agent/control.sock"),
        "iotdm-agent:iotdm-agent 660 socket"
    );
    gateway.sh("iotdm-agent status");
    gateway.sh(
        "useradd -r -G iotdm-agent member && setpriv --reuid=member --regid=nogroup --init-groups iotdm-agent status",
    );
    gateway.sh("useradd -r stranger");
    let stranger = [
        "setpriv",
        "--reuid=stranger",
        "--regid=nogroup",
        "--clear-groups",
        "iotdm-agent",
        "status",
    ];
    assert!(!gateway.exec(&stranger).status.success());
}

#[test]
fn an_upgrade_restarts_the_agent_and_keeps_the_technicians_configuration() {
    let gateway = Gateway::boot("bookworm");
    let before = property(&gateway, "MainPID");
    gateway.sh("echo '# mine' >>/etc/iotdm-agent/config.toml; echo secret >/etc/iotdm-agent/token");
    gateway.install(&next_package());
    assert_ne!(property(&gateway, "MainPID"), before);
    assert_eq!(gateway.sh("systemctl is-active iotdm-agent"), "active");
    assert_eq!(
        gateway.sh("tail -n 1 /etc/iotdm-agent/config.toml; cat /etc/iotdm-agent/token"),
        "# mine\nsecret"
    );
    assert_eq!(
        gateway.sh("stat -c '%U:%G %a' /etc/iotdm-agent/config.toml"),
        "root:iotdm-agent 640"
    );
}

#[test]
fn a_removed_agent_is_stopped_and_can_be_installed_again() {
    let gateway = Gateway::boot("bookworm");
    gateway.sh("echo kept >/var/lib/iotdm-agent/kept");
    gateway.sh("echo asked_in=0123456789abcdef0123456789abcdef >/var/lib/iotdm-agent/factory-reset");
    gateway.sh("dpkg --remove iotdm-agent 2>&1");
    // or the next installation would wipe
    gateway.sh("test ! -e /var/lib/iotdm-agent/factory-reset");
    assert!(
        !gateway
            .exec(&["systemctl", "is-active", "iotdm-agent"])
            .status
            .success()
    );
    assert!(!gateway.exec(&["pgrep", "-f", "/usr/bin/iotdm-agent"]).status.success());
    gateway.install(&crate::harness::package());
    assert_eq!(gateway.sh("systemctl is-active iotdm-agent"), "active");
    assert_eq!(gateway.sh("cat /var/lib/iotdm-agent/kept"), "kept");
}

#[test]
fn a_purge_leaves_nothing() {
    for suite in SUITES {
        let gateway = Gateway::boot_bare(suite);
        let files = "find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/run/*' -not -path '/data/*' \
                     -not -path '/var/log/*' -not -path '/root/*' -not -path '/var/lib/dpkg/*' -not -path '/tmp/*' \
                     -not -path '/var/tmp/*' -not -path '/var/cache/*' | sort";
        let accounts = "getent passwd; getent group";
        let before = (gateway.sh(files), gateway.sh(accounts));
        gateway.install(&crate::harness::package());
        gateway.sh("echo secret >/etc/iotdm-agent/token; echo '[device]' >/etc/iotdm-agent/conf.d/10-site.toml");
        gateway.sh("dpkg --purge iotdm-agent 2>&1");
        let after = (gateway.sh(files), gateway.sh(accounts));
        assert_eq!(difference(&before.0, &after.0), Vec::<&str>::new(), "{suite}: files");
        assert_eq!(difference(&before.1, &after.1), Vec::<&str>::new(), "{suite}: accounts");
        assert!(!gateway.exec(&["test", "-e", "/run/iotdm-agent"]).status.success());
        assert!(!gateway.exec(&["systemctl", "cat", "iotdm-agent"]).status.success());
    }
}

/// Asked in the agent's own unit and sandbox, as polkit on Debian 13 looks at both.
#[test]
fn polkit_lets_the_agent_reboot_reset_and_hold_a_shutdown_back_and_nothing_else() {
    const LOGIND: &str = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager";
    const SYSTEMD: &str =
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        let may = |line: &str| gateway.as_agent(line).0;
        assert_eq!(
            gateway.as_agent(&format!("{LOGIND} CanReboot")).1,
            "s \"yes\"",
            "{suite}"
        );
        assert!(may("systemd-inhibit --what=shutdown --mode=block true"), "{suite}");
        assert!(may("systemd-inhibit --what=shutdown --mode=delay true"), "{suite}");

        for refused in ["CanPowerOff", "CanHalt"] {
            assert_eq!(
                gateway.as_agent(&format!("{LOGIND} {refused}")).1,
                "s \"challenge\"",
                "{suite}: {refused}"
            );
        }
        assert!(
            !may("systemd-inhibit --what=handle-power-key --mode=block true"),
            "{suite}"
        );
        // by itself the target does nothing
        assert!(
            may(&format!(
                "{SYSTEMD} StartUnit ss factory-reset.target replace-irreversibly"
            )),
            "{suite}"
        );
        for refused in [
            "StopUnit ss factory-reset.target",
            "RestartUnit ss factory-reset.target",
            "StartUnit ss poweroff.target",
            "StopUnit ss polkit.service",
        ] {
            assert!(!may(&format!("{SYSTEMD} {refused} replace")), "{suite}: {refused}");
        }
        assert!(!may(&format!("{SYSTEMD} Reload")), "{suite}");
        assert!(!may("hostnamectl hostname trial"), "{suite}");

        // what somebody blocks stays blocked
        gateway.sh("systemd-run --unit=holder systemd-inhibit --what=shutdown --mode=block sleep infinity 2>&1");
        gateway.wait("the lock is held", || {
            gateway.sh("systemd-inhibit --list").contains("sleep infinity")
        });
        assert_eq!(
            gateway.as_agent(&format!("{LOGIND} CanReboot")).1,
            "s \"challenge\"",
            "{suite}: blocked"
        );
        gateway.sh("systemctl stop holder");

        // the same user in another unit: polkit can tell them apart on Debian 13
        let other = |user: &str| {
            gateway.sh(&format!(
                "systemd-run --quiet --wait --pipe -p User={user} {LOGIND} CanReboot"
            ))
        };
        assert_eq!(
            other("iotdm-agent") == "s \"yes\"",
            suite == "bookworm",
            "{suite}: another unit"
        );
        assert_eq!(other("nobody"), "s \"challenge\"", "{suite}: another user");
    }
}

fn property(gateway: &Gateway, name: &str) -> String {
    gateway.sh(&format!("systemctl show -P {name} iotdm-agent"))
}

/// Lines that only one of the two texts has.
fn difference<'a>(before: &'a str, after: &'a str) -> Vec<&'a str> {
    let lines = |text: &'a str| text.lines().collect::<std::collections::BTreeSet<_>>();
    lines(before).symmetric_difference(&lines(after)).copied().collect()
}
