//! A network that is away, and names that nobody knows: in a network namespace without anything.

use serde_json::{Value, json};

use crate::child::{end, start};

/// A network of its own, in which not even loopback is up; and its own mounts.
fn unshared(setup: &str) -> Vec<String> {
    let flags = if nix::unistd::geteuid().is_root() {
        "-nm"
    } else {
        "-rnm"
    };
    ["unshare", flags, "sh", "-c", &format!("{setup} exec \"$@\""), "sh"]
        .map(str::to_owned)
        .to_vec()
}

async fn in_a_network_of_its_own(setup: &str, task: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task.clone();
    task["file"] = json!(folder.path().join("bundle"));
    let wrapper = unshared(setup);
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    end(start(&wrapper, &task)).await
}

#[tokio::test]
async fn a_network_that_is_away_spends_no_trouble_and_the_download_goes_on_when_it_is_back() {
    let ended = in_a_network_of_its_own("", &json!({"network": "comes back"})).await;
    assert_eq!(ended, json!({"size": 1000}));
}

#[tokio::test]
async fn fwd_04_a_network_that_stays_away_is_given_up_in_the_end() {
    let ended = in_a_network_of_its_own("", &json!({"uri": "http://127.0.0.1:9/x"})).await;
    assert_eq!(ended["kind"], "ConnectionLost");
    assert!(
        ended["text"].as_str().unwrap().contains("there is no network"),
        "{ended}"
    );
}

#[tokio::test]
async fn fwd_04_a_name_server_that_cannot_be_reached_is_no_unknown_host() {
    // Only DNS is asked, and there is nobody to be reached.
    let setup = "echo 'hosts: files dns' >/run/nss.$$ && mount --bind /run/nss.$$ /etc/nsswitch.conf && \
                 echo 'nameserver 192.0.2.1' >/run/dns.$$ && mount --bind /run/dns.$$ /etc/resolv.conf;";
    let ended = in_a_network_of_its_own(
        &format!("mount -t tmpfs own /run && {setup}"),
        &json!({"uri": "http://fw.example.com/x"}),
    )
    .await;
    assert_eq!(ended["kind"], "ConnectionLost");
    assert!(
        ended["text"].as_str().unwrap().contains("cannot be resolved"),
        "{ended}"
    );
}

#[tokio::test]
async fn fwd_04_an_unknown_host_is_an_invalid_uri_at_once() {
    // The hosts file is all there is, and it does not know the name.
    let setup = "mount -t tmpfs own /run && echo 'hosts: files' >/run/nss && mount --bind /run/nss /etc/nsswitch.conf;";
    let ended = in_a_network_of_its_own(setup, &json!({"uri": "http://fw.example.com/x"})).await;
    assert_eq!(ended["kind"], "InvalidUri");
    assert!(
        ended["text"]
            .as_str()
            .unwrap()
            .contains("there is no host fw.example.com"),
        "{ended}"
    );
}
