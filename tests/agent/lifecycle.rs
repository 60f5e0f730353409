use std::time::Duration;

use iotdm::agent::effect::{Reply, Topic};
use iotdm::agent::{CommandId, Event, RebootOutcome, Settings};
use iotdm::protocol::Rc;
use iotdm::protocol::model::DeviceInfo;
use serde_json::Value;

use crate::driver::{Driver, FULL, settings};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn mng_01_manage_is_the_first_publish_after_the_subscription() {
    let mut driver = Driver::new();
    driver.event(Event::Connected { session_present: false });
    driver.pass(HOUR);
    assert!(driver.published.is_empty(), "nothing before SUBACK");
    driver.event(Event::Subscribed);
    assert_eq!(driver.order(), ["manage"]);
    assert_eq!(driver.published[0].1, "iotdevice-1/mgmt/manage");
}

#[test]
fn mng_02_manage_holds_only_documented_members_with_the_right_types_and_nothing_empty() {
    let mut driver = Driver::with(Settings {
        metadata: Some(serde_json::from_str(r#"{"site":"north"}"#).unwrap()),
        device_info: DeviceInfo {
            model: Some(String::new()),
            serial_number: Some("s".into()),
            ..DeviceInfo::default()
        },
        ..settings("boot-1")
    });
    driver.connect(false);
    let manage = driver.on("manage")[0];
    let expected = serde_json::json!({
        "metadata": {"site": "north"},
        "lifetime": 86400,
        "supports": {"deviceActions": true, "firmwareActions": true},
        "deviceInfo": {"serialNumber": "s"},
    });
    assert_eq!(manage["d"], expected);
    let mut bare = Driver::with(Settings {
        device_info: DeviceInfo::default(),
        ..settings("boot-1")
    });
    bare.connect(false);
    assert!(
        bare.on("manage")[0]["d"].get("deviceInfo").is_none(),
        "an empty deviceInfo is left out"
    );
}

#[test]
fn mng_03_lifetime_0_is_sent_and_never_renewed() {
    let mut driver = Driver::with(Settings {
        lifetime: 0,
        ..settings("boot-1")
    });
    driver.connect(false);
    assert_eq!(driver.on("manage")[0]["d"]["lifetime"], 0);
    driver.answer_manage(200);
    driver.pass(HOUR * 24 * 365);
    assert_eq!(driver.on("manage").len(), 1);
}

#[test]
fn mng_04_renewal_comes_around_half_the_lifetime_with_the_full_lifetime() {
    let mut driver = Driver::managed();
    driver.pass(Duration::from_secs(86_400 * 4 / 10 - 1));
    assert!(driver.on("manage").is_empty());
    for renewals in 1..=10 {
        while driver.on("manage").len() < renewals {
            driver.pass(MINUTE / 2);
        }
        assert_eq!(driver.on("manage").last().unwrap()["d"]["lifetime"], 86_400);
        let elapsed = driver.now.boottime - Duration::from_secs(1200);
        assert!(
            elapsed <= HOUR * 12 * renewals as u32 + MINUTE,
            "renewal {renewals} after {elapsed:?}"
        );
        driver.answer_manage(200);
    }
}

#[test]
fn mng_05_supports_tells_what_is_built_and_switched_on() {
    for (enabled, reboot, reset) in [(true, true, false), (true, false, true), (false, false, false)] {
        let mut settings = settings("boot-1");
        settings.reboot_enabled = reboot;
        settings.reset_enabled = reset;
        settings.firmware.supported = if enabled { Err("no RAUC".into()) } else { Ok(()) };
        let mut driver = Driver::with(settings);
        driver.connect(false);
        let supports = &driver.on("manage")[0]["d"]["supports"];
        assert_eq!(supports["deviceActions"], enabled);
        assert_eq!(supports["firmwareActions"], !enabled);
    }
}

#[test]
fn mng_06_conflict_is_retried_soon_refusals_are_not_and_not_registered_slowly() {
    let attempts = |rc, wait| {
        let mut driver = Driver::new();
        driver.connect(false);
        driver.answer_manage(rc);
        driver.pass(wait);
        driver.on("manage").len()
    };
    assert_eq!(attempts(409, Duration::from_secs(9)), 2);
    assert_eq!(attempts(400, HOUR * 100), 1);
    assert_eq!(attempts(403, HOUR * 100), 1);
    assert_eq!(attempts(404, HOUR - MINUTE), 1);
    assert_eq!(attempts(404, HOUR + Duration::from_secs(30)), 2);
    assert!((2..=3).contains(&attempts(500, Duration::from_secs(30))));
}

#[test]
fn mng_06_a_refused_manage_first_or_renewal_is_tried_again_at_the_next_connect() {
    for rc in [400, 403] {
        for renewal in [false, true] {
            let mut driver = if renewal { Driver::managed() } else { Driver::new() };
            if !renewal {
                driver.connect(false);
            }
            while driver.on("manage").is_empty() {
                driver.pass(MINUTE / 2);
            }
            driver.answer_manage(rc);
            assert!(!driver.agent.status().managed, "{rc}, renewal: {renewal}");
            driver.pass(HOUR * 100);
            assert_eq!(driver.on("manage").len(), 1, "{rc}, renewal: {renewal}: not in a loop");

            driver.event(Event::Disconnected);
            driver.connect(true);
            assert_eq!(driver.on("manage").len(), 2, "{rc}, renewal: {renewal}");
            driver.answer_manage(200);
            assert!(driver.agent.status().managed);
            assert_eq!(driver.agent.status().manage_refused, None);
            driver.pass(HOUR * 12);
            assert!(
                driver.on("manage").len() > 2,
                "{rc}, renewal: {renewal}: renewed as ever"
            );
        }
    }
}

#[test]
fn mng_06_a_refused_manage_is_tried_again_when_the_configuration_is_read_anew() {
    let mut driver = Driver::new();
    driver.connect(false);
    driver.answer_manage(400);
    driver.event(Event::Configured(Box::new(settings("boot-1"))));
    assert_eq!(driver.on("manage").len(), 2);
}

#[test]
fn mng_08_no_answer_is_retried_with_a_new_request_id_and_growing_pauses() {
    let mut driver = Driver::new();
    driver.connect(false);
    driver.pass(HOUR * 4);
    let ids: std::collections::BTreeSet<_> = driver
        .on("manage")
        .into_iter()
        .map(|manage| manage["reqId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), driver.on("manage").len());
    assert!((15..=40).contains(&ids.len()), "{} attempts in 4 hours", ids.len());
    driver.answer_manage(200);
    assert!(
        driver.agent.status().managed,
        "an answer counts also when it comes late"
    );
    let attempts = driver.on("manage").len();
    driver.pass(HOUR);
    assert_eq!(driver.on("manage").len(), attempts);
}

#[test]
fn mng_08_time_without_a_connection_does_not_count_against_the_service() {
    let mut driver = Driver::new();
    driver.connect(false);
    driver.event(Event::Disconnected);
    driver.pass(HOUR);
    driver.connect(true);
    driver.pass(Duration::from_secs(59));
    assert_eq!(driver.on("manage").len(), 1, "the session still delivers it");
    driver.pass(MINUTE);
    assert_eq!(driver.on("manage").len(), 2);
}

#[test]
fn mng_09_one_manage_per_start_and_none_on_a_reconnect_that_kept_the_session() {
    let mut driver = Driver::managed();
    for _ in 0..5 {
        driver.event(Event::Disconnected);
        driver.connect(true);
    }
    assert!(driver.on("manage").is_empty());
    driver.event(Event::Disconnected);
    driver.connect(false);
    assert_eq!(driver.on("manage").len(), 1, "the subscription was lost");
}

#[test]
fn mng_10_changed_facts_are_told_with_a_new_manage() {
    let mut driver = Driver::managed();
    driver.event(Event::Configured(Box::new(settings("boot-1"))));
    assert!(driver.on("manage").is_empty(), "nothing changed");
    let info = DeviceInfo {
        fw_version: Some("2.0".into()),
        ..DeviceInfo::default()
    };
    driver.event(Event::Configured(Box::new(Settings {
        device_info: info,
        ..settings("boot-1")
    })));
    assert_eq!(driver.on("manage")[0]["d"]["deviceInfo"]["fwVersion"], "2.0");
}

#[test]
fn mng_10_facts_that_change_while_a_manage_is_on_its_way_are_told_after_it() {
    let mut driver = Driver::new();
    driver.connect(false);
    driver.event(Event::Configured(Box::new(Settings {
        lifetime: 3600,
        ..settings("boot-1")
    })));
    assert_eq!(driver.on("manage").len(), 1);
    driver.answer_manage(200);
    assert_eq!(driver.on("manage").last().unwrap()["d"]["lifetime"], 3600);
}

#[test]
fn unm_01_unmanage_happens_only_on_command_and_is_remembered() {
    let mut driver = Driver::managed();
    driver.event(Event::Disconnected);
    driver.restart();
    driver.connect(true);
    assert!(
        driver.on("unmanage").is_empty(),
        "neither at a stop nor at a disconnect"
    );
    driver.answer_manage(200);

    driver.event(Event::Unmanage(CommandId(1)));
    let req_id = driver.on("unmanage")[0]["reqId"].as_str().unwrap().to_owned();
    driver.receive("iotdm-1/response", &format!(r#"{{"rc":200,"reqId":"{req_id}"}}"#));
    assert_eq!(driver.replies, [(CommandId(1), Reply::Answered(Rc::OK, None))]);

    driver.restart();
    driver.connect(false);
    driver.pass(HOUR * 48);
    assert!(driver.published.is_empty(), "an unmanaged device says nothing");
    driver.ask_reboot("r1");
    assert_eq!(driver.answers("r1"), [400]);
    assert!(driver.reboots.is_empty());

    driver.event(Event::Manage(CommandId(2)));
    assert_eq!(driver.on("manage").len(), 1);
    driver.answer_manage(200);
    driver.restart();
    driver.connect(true);
    assert_eq!(driver.on("manage").len(), 1, "managed again for good");
}

#[test]
fn unm_01_unmanage_without_a_connection_is_said_later() {
    let mut driver = Driver::managed();
    driver.event(Event::Disconnected);
    driver.event(Event::Unmanage(CommandId(1)));
    assert_eq!(driver.replies, [(CommandId(1), Reply::Later)]);
    driver.restart();
    driver.connect(true);
    assert_eq!(driver.order(), ["unmanage"]);
}

#[test]
fn env_08_an_unmanage_that_is_not_answered_is_told_as_one_and_asked_again() {
    let mut driver = Driver::managed();
    driver.event(Event::Unmanage(CommandId(1)));
    driver.said.clear();
    driver.pass(MINUTE);
    let [(topic, text)] = &driver.said[..] else {
        panic!("{:?}", driver.said)
    };
    assert_eq!(*topic, Topic::Unmanage);
    assert!(
        text.starts_with("the service did not answer unmanage within 60 s"),
        "{text}"
    );
    assert!(matches!(driver.replies[..], [(CommandId(1), Reply::Failed(_))]));
    driver.pass(HOUR);
    let asked = driver.on("unmanage");
    assert!((5..=20).contains(&asked.len()), "{} attempts in an hour", asked.len());
    let ids: std::collections::BTreeSet<_> = asked.iter().map(|unmanage| unmanage["reqId"].as_str()).collect();
    assert_eq!(ids.len(), asked.len(), "each with a request id of its own");
    let last = asked.last().unwrap()["reqId"].as_str().unwrap().to_owned();
    driver.receive("iotdm-1/response", &format!(r#"{{"rc":200,"reqId":"{last}"}}"#));
    let attempts = driver.published.len();
    driver.pass(HOUR * 48);
    assert_eq!(driver.published.len(), attempts);
}

#[test]
fn a_command_that_waits_for_a_service_when_another_takes_its_place_is_said_later() {
    for (command, kind) in [
        (Event::Manage(CommandId(1)), "manage"),
        (Event::Unmanage(CommandId(1)), "unmanage"),
    ] {
        let mut driver = Driver::managed();
        driver.event(command);
        driver.event(Event::Configured(Box::new(Settings {
            service: "mqtts://other.example.com:8883".into(),
            ..settings("boot-1")
        })));
        assert_eq!(driver.replies, [(CommandId(1), Reply::Later)]);
        driver.published.clear();
        driver.event(Event::Disconnected);
        driver.connect(false);
        assert_eq!(driver.order(), [kind]);
        assert_eq!(driver.replies.len(), 1, "answered once");
    }
}

#[test]
fn commands_that_the_disk_refuses_fail_and_change_nothing() {
    let mut driver = Driver::managed();
    driver.disk_full = true;
    driver.event(Event::Unmanage(CommandId(1)));
    assert_eq!(driver.replies, [(CommandId(1), Reply::Failed(FULL.into()))]);
    assert!(driver.published.is_empty());
    assert!(driver.agent.status().managed);
}

#[test]
fn a_command_that_waits_for_the_service_when_the_connection_is_lost_is_said_later() {
    let mut driver = Driver::managed();
    driver.event(Event::Manage(CommandId(1)));
    assert!(driver.replies.is_empty());
    driver.event(Event::Disconnected);
    assert_eq!(driver.replies, [(CommandId(1), Reply::Later)]);
    driver.connect(true);
    driver.answer_manage(200);
    assert_eq!(driver.replies.len(), 1, "answered once");
}

/// An agent that finds a word that it does not know where it knows only "managed" and its like; a reboot was carried out.
fn wishes_something_unknown() -> Driver {
    let mut driver = Driver::managed();
    driver.ask_reboot("r1");
    driver.reboot_ends(RebootOutcome::Accepted);
    driver.broker_has_all();
    driver.host_reboots("boot-2");
    driver.connect(true);
    driver.answer_manage(200);
    let mut newer: Value = serde_json::from_slice(&driver.disk).unwrap();
    newer["wish"] = "paused".into();
    driver.disk = newer.to_string().into_bytes();
    driver.restart();
    driver
}

#[test]
fn rule_10_a_wish_of_a_newer_version_is_kept_and_nothing_is_said_or_done_twice() {
    let mut driver = wishes_something_unknown();
    driver.connect(false);
    driver.pass(HOUR * 48);
    assert!(driver.on("manage").is_empty() && driver.on("unmanage").is_empty());
    let reboots = driver.reboots.len();
    driver.ask_reboot("r1");
    driver.ask_reboot("r2");
    assert_eq!(driver.reboots.len(), reboots, "neither again nor anew");
    assert_eq!(driver.answers("r2"), [400]);
    let kept: Value = serde_json::from_slice(&driver.disk).unwrap();
    assert_eq!(kept["wish"], "paused");
    assert_eq!(serde_json::to_value(driver.agent.status()).unwrap()["wish"], "paused");
}

#[test]
fn rule_10_a_person_can_end_a_wish_of_a_newer_version_both_ways() {
    let mut driver = wishes_something_unknown();
    driver.connect(true);
    driver.event(Event::Manage(CommandId(1)));
    assert_eq!(driver.order(), ["manage"]);

    let mut driver = wishes_something_unknown();
    driver.connect(true);
    driver.event(Event::Unmanage(CommandId(1)));
    assert_eq!(driver.order(), ["unmanage"]);
}
