//! The virtual gateway itself: what every other test here builds on.

use crate::harness::{Gateway, SUITES};

#[test]
fn a_gateway_reboots_through_logind_and_keeps_its_journal() {
    for suite in SUITES {
        let gateway = Gateway::boot_bare(suite);
        gateway.sh("logger -t trial before the reboot");
        gateway.reboot();
        let boots = gateway.boot_ids();
        assert_eq!(boots.len(), 2);
        assert_ne!(boots[0], boots[1]);
        let entries = gateway.journal(&["-t", "trial"]);
        assert_eq!(entries.len(), 1, "{suite}: {entries:?}");
        assert_eq!(entries[0]["_BOOT_ID"].as_str().unwrap(), boots[0].replace('-', ""));
    }
}

#[test]
fn a_power_cut_ends_a_boot_and_starts_the_next() {
    let gateway = Gateway::boot_bare("bookworm");
    gateway.sh("sleep 1000 >/dev/null 2>&1 & touch /root/kept; sync");
    gateway.kill();
    gateway.wait_boot(2);
    gateway.sh("test -e /root/kept");
    assert!(
        !gateway.exec(&["pgrep", "-x", "sleep"]).status.success(),
        "nothing survives a power cut"
    );
}

#[test]
fn a_cut_link_is_silent_and_a_mended_one_works() {
    let gateway = Gateway::boot_bare("bookworm");
    let listener = std::net::TcpListener::bind((gateway.host_address(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("timeout 1 bash -c ': </dev/tcp/broker.test/{port}'");
    let code = |gateway: &Gateway| gateway.exec(&["sh", "-c", &connect]).status.code();
    assert_eq!(code(&gateway), Some(0));
    gateway.cut();
    assert_eq!(
        code(&gateway),
        Some(124),
        "a connection attempt must hang, not be refused"
    );
    gateway.mend();
    assert_eq!(code(&gateway), Some(0));
}

#[test]
fn commands_in_a_guest_cannot_reach_the_clock_of_the_host() {
    let gateway = Gateway::boot_bare("bookworm");
    let effective = gateway.sh("sed -n 's/^CapEff:\\t//p' /proc/self/status");
    let effective = u64::from_str_radix(&effective, 16).unwrap();
    const SYS_MODULE: u32 = 16;
    const SYS_TIME: u32 = 25;
    assert_eq!(effective >> SYS_TIME & 1, 0, "CAP_SYS_TIME");
    assert_eq!(effective >> SYS_MODULE & 1, 0, "CAP_SYS_MODULE");
    assert_ne!(effective, 0, "it is root all the same");
}

#[test]
fn gateways_have_machine_ids_and_networks_of_their_own() {
    let (one, two) = (Gateway::boot_bare("bookworm"), Gateway::boot_bare("trixie"));
    assert_ne!(one.sh("cat /etc/machine-id"), two.sh("cat /etc/machine-id"));
    assert_ne!(one.host_address(), two.host_address());
}
