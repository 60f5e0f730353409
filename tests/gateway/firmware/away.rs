//! The service is away while the update goes on, and comes back at its end.

use std::time::Duration;

use crate::push::{image, site, slow_image};
use crate::site::Site;

/// Seconds that the gateway has been up when the new slot starts: a trial of two minutes is soon over.
const UP: u32 = 75;
const TRIAL: &str = "[firmware.trial]\ntimeout = \"2m\"\n";

/// A slot is written, its trial comes to an end, and there are two reboots.
const UPDATE_AND_BACK: Duration = Duration::from_secs(360);

fn wait_boot(site: &Site, number: usize) {
    site.gateway
        .wait_long(UPDATE_AND_BACK, &format!("boot {number} begins"), || {
            site.gateway.boot_ids().len() >= number
        });
    site.gateway.wait_boot(number);
}

#[test]
fn an_update_after_which_the_service_is_not_reached_is_taken_back_and_told_once() {
    let site = site("bookworm", TRIAL);
    let wire = site.wire();
    site.hold_writing();
    let push = site.push(slow_image("bookworm", "2"), "2");
    site.wait_writing();
    site.gateway.uptime(UP);
    site.gateway.cut();
    site.let_write();
    wait_boot(&site, 3);
    assert_eq!(site.booted(), ("A".into(), "1".into()));
    assert_eq!(site.gateway.logged("did not prove itself: service not reached"), 1);
    site.gateway.mend();
    push.ends_badly("service not reached");
    assert_eq!(wire.ends(), [5], "one end is told");
    assert_eq!(site.row()["deviceInfo"]["fwVersion"], "1");
    assert_eq!(site.gateway.boot_ids().len(), 3);
}

#[test]
fn where_the_service_need_not_be_reached_the_update_stays_and_is_told_once_when_the_service_is_back() {
    let mut site = site("trixie", "[firmware.trial]\nrequire_service = false\n");
    let wire = site.wire();
    site.hold_writing();
    let push = site.push(slow_image("trixie", "2"), "2");
    site.wait_writing();
    site.kill_service();
    site.let_write();
    site.gateway
        .wait_long(UPDATE_AND_BACK, "the slot has proven itself", || {
            site.gateway.logged("has proven itself") > 0
        });
    assert_eq!(site.booted(), ("B".into(), "2".into()));
    site.start_service();
    push.ends_well();
    assert_eq!(wire.ends(), [0], "one end is told");
    assert_eq!(site.row()["deviceInfo"]["fwVersion"], "2");
    assert_eq!(site.gateway.boot_ids().len(), 2);
}

#[test]
fn an_image_whose_network_is_broken_comes_back_to_the_old_slot_and_says_so() {
    let site = site("trixie", TRIAL);
    site.gateway.uptime(UP);
    let deaf = image("trixie", "2").script("echo 'hosts: dns' >/etc/nsswitch.conf");
    let push = site.push(deaf, "2");
    push.ends_badly("service not reached");
    assert_eq!(site.booted(), ("A".into(), "1".into()));
    assert_eq!(site.gateway.logged("did not prove itself: service not reached"), 1);
    assert_eq!(site.gateway.boot_ids().len(), 3);
}
