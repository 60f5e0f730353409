//! Hosts that cannot be updated say so beforehand.

use serde_json::Value;

use crate::push::site;
use crate::site::Site;
use crate::wire::Wire;

fn is_offered(site: &Site) -> Value {
    site.row()["mgmt"]["supports"]["firmwareActions"].clone()
}

fn assert_refused(site: &Site, wire: &Wire, reason: &str) {
    site.gateway
        .wait("firmware actions are not offered", || is_offered(site) == false);
    for operation in ["download", "update"] {
        let (rc, message) = wire.ask(site, &format!("mgmt/initiate/firmware/{operation}"), Value::Null);
        assert_eq!(rc, 501, "{operation}: {message}");
        assert!(message.contains(reason), "{operation}: {message}");
    }
}

#[test]
fn fwd_02_what_an_update_would_lose_is_named_by_its_path_and_no_firmware_is_taken() {
    let site = site("bookworm", "");
    let wire = site.wire();
    let check = || {
        let output = site.gateway.exec(&["iotdm-agent", "check"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(is_offered(&site), true);

    let path = "/etc/iotdm-agent/conf.d/70-token.toml";
    site.gateway
        .sh("install -m 640 -g iotdm-agent /etc/iotdm-agent/token /srv/token");
    site.gateway
        .sh(&format!("install -m 640 -g iotdm-agent /dev/null {path}"));
    site.gateway.write(path, "[service]\ntoken_file = \"/srv/token\"\n");
    site.gateway.sh("systemctl reload iotdm-agent");
    assert_refused(&site, &wire, "token (/srv/token)");
    assert!(check().contains("/srv/token"), "{}", check());

    site.gateway.sh(&format!("rm {path}; systemctl reload iotdm-agent"));
    site.gateway
        .wait("firmware actions are offered", || is_offered(&site) == true);

    site.gateway
        .sh("systemctl stop iotdm-agent; umount /var/lib/iotdm-agent; systemctl start iotdm-agent");
    assert_refused(&site, &wire, "state (/var/lib/iotdm-agent)");
    assert!(check().contains("/var/lib/iotdm-agent"), "{}", check());
}

#[test]
fn fwd_02_a_host_without_rauc_offers_no_firmware_actions_and_answers_501() {
    let site = Site::managed("trixie");
    assert_refused(&site, &site.wire(), "this host has no RAUC");
}

/// GRUB gives a slot one try, whoever may update it: without the mark the second boot would be the other slot's.
#[test]
fn where_updates_are_switched_off_the_running_slot_is_marked_good_all_the_same() {
    let site = site("trixie", "enabled = false\n");
    assert_refused(&site, &site.wire(), "switched off");
    let booted = site.booted();
    for _ in 0..3 {
        site.gateway.wait("the running slot is marked good", || {
            site.boot_loader("A") == ("1".into(), "0".into())
        });
        site.gateway.reboot();
        assert_eq!(site.booted(), booted);
    }
}
