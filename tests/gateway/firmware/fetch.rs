//! Downloads that go wrong on a whole gateway: each has its reason, and the slots are not touched. What servers and
//! networks can do is tested with the download itself.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::push::site;
use crate::server::{Reply, Shelf};
use crate::site::Site;

/// Leaves so many MiB free on the data partition.
fn leave_free(site: &Site, mebibytes: u32) {
    site.gateway.sh(&format!(
        "rm -f /data/fill; free=$(df --output=avail -m /data | tail -n 1); fallocate -l $((free - {mebibytes}))M /data/fill"
    ));
}

#[test]
fn fwd_04_a_download_that_fails_says_why_and_touches_no_slot() {
    let site = site("trixie", "");
    let wire = site.wire();
    let shelf = Shelf::new(24 << 20);
    let (port, digest) = (crate::support::free_port(), shelf.sha256());
    let _server = site.files(port, move |request| match request.target.as_str() {
        "/bundle" => shelf.reply(request),
        _ => Reply::status("404 Not Found"),
    });
    let uri = |path: &str| format!("https://broker.test:{port}{path}");
    let (good, wrong) = (format!("sha256:{digest}"), format!("sha256:{}", "0".repeat(64)));
    site.push_from(&uri("/gone"), &good).ends_badly("404");
    site.push_from(&uri("/bundle"), &wrong)
        .ends_badly("verification failed");
    site.push_from(&uri("/bundle"), &good).ends_badly("no RAUC bundle");
    leave_free(&site, 50);
    site.push_from(&uri("/bundle"), &good).ends_badly("make room");
    leave_free(&site, 80);
    site.push_from(&uri("/bundle"), &good)
        .ends_badly("no room for the firmware");

    // somebody else fills the disk meanwhile: half a minute before it is whole
    let path = "/etc/iotdm-agent/conf.d/60-firmware.toml";
    site.gateway.sh(&format!(
        "echo 'max_rate = \"800KiB\"' >>{path}; systemctl restart iotdm-agent"
    ));
    leave_free(&site, 200);
    let push = site.push_from(&uri("/bundle"), &good);
    site.gateway.wait("some of it is there", || {
        let size = site
            .gateway
            .sh("cat /var/lib/iotdm-agent/firmware/* 2>/dev/null | wc -c");
        size.parse::<u32>().is_ok_and(|size| size > 1 << 20)
    });
    leave_free(&site, 3);
    push.ends_badly("make room");
    site.gateway.sh("rm /data/fill");
    // where nothing at all may be taken it is not begun: that is the answer, and no end
    assert_eq!(wire.ends(), [6, 4, 5, 2, 2]);
    assert_eq!(
        site.gateway.sh("ls /var/lib/iotdm-agent/firmware"),
        "",
        "nothing is left of it"
    );
    assert_eq!(site.firmware()["state"], 0);
    assert_eq!((site.gateway.slot(), site.gateway.boot_ids().len()), ("A".into(), 1));
}

#[test]
fn fwd_06_fwd_09_fwd_10_a_download_outlives_its_server_and_what_is_asked_meanwhile() {
    let site = site("bookworm", "");
    let wire = site.wire();
    let file = Bundle::small("bookworm", "2").build();
    let shelf = Shelf {
        content: std::fs::read(&file).unwrap(),
        etag: Some("\"one\"".to_owned()),
    };
    let port = crate::support::free_port();
    let describe = |name: &str| {
        let value = json!({
            "version": "2", "name": name, "uri": format!("https://broker.test:{port}/bundle"),
            "verifier": format!("sha256:{}", shelf.sha256()), "state": 0, "updateStatus": 0, "updatedDateTime": "",
        });
        json!({"fields": [{"field": "mgmt.firmware", "value": value}]})
    };
    let half = shelf.clone();
    let server = site.files(port, move |request| half.reply(request).stall(half.content.len() / 2));
    assert_eq!(wire.ask(&site, "device/update", describe("one")).0, 204);
    let download = "mgmt/initiate/firmware/download";
    assert_eq!(wire.ask(&site, download, Value::Null).0, 202);
    site.gateway
        .wait("half of it is sent", || !server.requests().is_empty());

    let (rc, message) = wire.ask(&site, "device/update", describe("two"));
    assert_eq!(rc, 409, "{message}");
    let fields = json!({"fields": [{"field": "mgmt.firmware"}]});
    assert_eq!(wire.ask(&site, "cancel", fields).0, 200);
    let (rc, message) = wire.ask(&site, download, Value::Null);
    assert_eq!(rc, 400, "{message}");
    assert_eq!(site.firmware()["state"], 1, "it goes on all the same");

    drop(server);
    let whole = shelf.clone();
    let server = site.files(port, move |request| whole.reply(request));
    site.gateway.wait("it is downloaded", || site.firmware()["state"] == 2);
    let from: Vec<_> = server.requests().iter().map(|request| request.from()).collect();
    assert_eq!(from, [Some(shelf.content.len() / 2)], "only the rest was fetched");
}
