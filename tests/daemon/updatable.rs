//! `iotdm-agent check` about firmware updates: what the host has, what it lacks, and what would be lost.

use serde_json::Value;

use crate::agent::Host;
use crate::bus::{Answer, PrivateBus, Scripted, login1};

/// The findings of the section, as `id severity: text`.
async fn firmware(host: &Host) -> Vec<String> {
    let output = host.run(&["check", "--json"]).await;
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |finding: &Value, member: &str| finding[member].as_str().unwrap_or_default().to_owned();
    let all = findings.as_array().unwrap().iter();
    all.filter(|finding| finding["section"] == "firmware" || finding["id"] == "outlives-a-slot")
        .map(|finding| {
            format!(
                "{} {}: {}",
                text(finding, "id"),
                text(finding, "severity"),
                text(finding, "text")
            )
        })
        .collect()
}

fn has(findings: &[String], words: &str) {
    assert!(
        findings.iter().any(|finding| finding.contains(words)),
        "no '{words}' in {findings:#?}"
    );
}

async fn running(bus: &PrivateBus, more: &str) -> (Host, crate::agent::Agent) {
    let host = Host::new("gw-1", bus.address());
    host.configure_for(&format!("mqtt://127.0.0.1:{}", crate::support::free_port()), more);
    let agent = host.start();
    agent.notes.line("STATUS=not connected").await;
    (host, agent)
}

#[tokio::test]
async fn a_host_without_rauc_is_told_once_that_it_cannot_be_updated_and_nothing_else_is_asked_of_it() {
    let bus = PrivateBus::start();
    let _login1 = login1(&bus).await;
    let (host, _agent) = running(&bus, "[firmware.trial]\nunits = [\"modbus.service\"]\n").await;
    let findings = firmware(&host).await;
    assert_eq!(findings.len(), 2, "{findings:#?}");
    has(&findings, "rauc note: there is no RAUC on this host");
    has(&findings, "outlives-a-slot");
}

#[tokio::test]
async fn what_an_update_would_lose_or_could_not_come_back_from_is_named() {
    let bus = PrivateBus::start();
    let _login1 = login1(&bus).await;
    let rauc = Scripted::start(&bus, "de.pengutronix.rauc").await;
    let slot = |name: &str, state: &str| {
        let members = [("state", state), ("device", "/dev/nonexistent"), ("boot-status", "bad")];
        let members = members.map(|(key, value)| (key.to_owned(), value.to_owned()));
        (name.to_owned(), members.to_vec())
    };
    rauc.answer(
        "GetSlotStatus",
        Answer::Slots(vec![slot("rootfs.0", "booted"), slot("rootfs.1", "inactive")]),
    );
    let systemd = Scripted::start(&bus, "org.freedesktop.systemd1").await;
    systemd
        .answer(
            "LoadUnit",
            Answer::Path("/org/freedesktop/systemd1/unit/any".to_owned()),
        )
        .answer("LoadState", Answer::Text("not-found".to_owned()))
        .answer("ActiveState", Answer::Text("inactive".to_owned()))
        .answer("UnitFileState", Answer::Text(String::new()));
    let more = "[firmware]\nmax_size = \"900000GiB\"\n[firmware.trial]\nunits = [\"modbus.service\"]\n";
    let (host, _agent) = running(&bus, more).await;
    let findings = firmware(&host).await;
    has(
        &findings,
        "rauc ok: RAUC has the slots rootfs.0, rootfs.1; rootfs.0 is booted",
    );
    has(
        &findings,
        "fallback-timer warning: iotdm-agent-fallback.timer is not-found",
    );
    has(&findings, "firmware-room warning: ");
    has(&findings, "and a bundle may have up to 921600000 MiB");
    has(&findings, "trial-units error: modbus.service is not-found");
    has(&findings, "fallback-folder note: ");
    has(&findings, "rauc-policy ");
    has(&findings, "slot-good warning: rootfs.0 is not marked good yet");
    std::fs::write(host.state().join("trial"), "slot=rootfs.0\ndeadline=2100\n").unwrap();
    has(&firmware(&host).await, "slot-good note: rootfs.0 is on trial");

    systemd
        .answer("LoadState", Answer::Text("loaded".to_owned()))
        .answer("ActiveState", Answer::Text("active".to_owned()))
        .answer("UnitFileState", Answer::Text("enabled".to_owned()))
        .answer("Type", Answer::Text("oneshot".to_owned()))
        .answer("RemainAfterExit", Answer::Truth(false));
    let findings = firmware(&host).await;
    has(
        &findings,
        "trial-units error: modbus.service ends when its work is done",
    );
    systemd.answer("RemainAfterExit", Answer::Truth(true));
    let findings = firmware(&host).await;
    has(&findings, "fallback-timer ok: ");
    has(&findings, "trial-units ok: modbus.service is active");
}

#[tokio::test]
async fn a_rauc_that_does_not_answer_is_a_warning_in_its_own_words() {
    let bus = PrivateBus::start();
    let _login1 = login1(&bus).await;
    let rauc = Scripted::start(&bus, "de.pengutronix.rauc").await;
    rauc.answer(
        "GetSlotStatus",
        Answer::Error("org.gtk.GDBus.UnmappedGError.Quark", "Did not find booted slot"),
    );
    let (host, _agent) = running(&bus, "").await;
    has(&firmware(&host).await, "rauc warning: RAUC does not tell its slots");
    has(&firmware(&host).await, "Did not find booted slot");
}

#[tokio::test]
async fn where_updates_are_switched_off_only_that_is_told() {
    let bus = PrivateBus::start();
    let _login1 = login1(&bus).await;
    let rauc = Scripted::start(&bus, "de.pengutronix.rauc").await;
    let members = vec![("state".to_owned(), "booted".to_owned())];
    rauc.answer("GetSlotStatus", Answer::Slots(vec![("rootfs.0".to_owned(), members)]));
    let (host, _agent) = running(&bus, "[firmware]\nenabled = false\n").await;
    let findings = firmware(&host).await;
    has(
        &findings,
        "firmware note: firmware updates are switched off ([firmware] enabled = false)",
    );
    assert!(
        !findings.iter().any(|finding| finding.starts_with("fallback")),
        "{findings:#?}"
    );
}
