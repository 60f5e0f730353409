//! What the package does to a Debian: fresh install, upgrade, remove, purge; and who may do what afterwards.

use crate::harness::{Gateway, SUITES, next_package};

#[test]
fn a_fresh_install_is_enabled_and_up_without_an_identity() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        assert_eq!(gateway.sh("systemctl is-enabled iotdm-agent"), "enabled");
        assert_eq!(gateway.sh("systemctl is-active iotdm-agent"), "active");
        assert_eq!(
            gateway.sh("ps -o user= -p $(systemctl show -P MainPID iotdm-agent)"),
            "iotdm-a+",
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
    gateway.sh("dpkg --remove iotdm-agent 2>&1");
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

/// Polkit's answers, asked as the service's user: exactly the four actions, and only for the agent's own unit where
/// polkit can tell (Debian 13).
#[test]
fn polkit_lets_the_agent_reboot_and_hold_a_shutdown_back_and_nothing_else() {
    for suite in SUITES {
        let gateway = Gateway::boot(suite);
        let ask = |unit: &str, action: &str| {
            let pid = gateway.sh(&format!("systemctl show -P MainPID {unit}"));
            let command = format!("pkcheck --action-id {action} --process {pid}");
            gateway.exec(&["sh", "-c", &command]).status.code()
        };
        const YES: Option<i32> = Some(0);
        for action in [
            "reboot",
            "reboot-multiple-sessions",
            "inhibit-block-shutdown",
            "inhibit-delay-shutdown",
        ] {
            let action = format!("org.freedesktop.login1.{action}");
            assert_eq!(ask("iotdm-agent", &action), YES, "{suite}: {action}");
        }
        for action in [
            "org.freedesktop.login1.reboot-ignore-inhibit",
            "org.freedesktop.login1.power-off",
            "org.freedesktop.login1.halt",
            "org.freedesktop.login1.suspend",
            "org.freedesktop.systemd1.manage-units",
            "org.freedesktop.systemd1.manage-unit-files",
            "org.freedesktop.timedate1.set-time",
            "org.freedesktop.hostname1.set-hostname",
        ] {
            assert_ne!(ask("iotdm-agent", action), YES, "{suite}: {action}");
        }
        // another unit of the same user: known by its unit only where polkit can tell
        gateway.sh("systemd-run --unit=other -p User=iotdm-agent sleep infinity 2>&1");
        let expected = suite == "bookworm";
        assert_eq!(
            ask("other", "org.freedesktop.login1.reboot") == YES,
            expected,
            "{suite}: another unit"
        );
        // and another user never
        gateway.sh("systemd-run --unit=stranger -p User=nobody sleep infinity 2>&1");
        assert_ne!(
            ask("stranger", "org.freedesktop.login1.reboot"),
            YES,
            "{suite}: another user"
        );
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
