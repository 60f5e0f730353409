//! What the process concludes from silence: nothing, as long as it cannot hear.

#![allow(clippy::unwrap_used)]
use tokio::sync::mpsc;

use super::super::brain::{AckToken, Incoming, Rows};
use super::*;

/// A service with one device whose lifetime ended in 1970.
fn keeper(folder: &tempfile::TempDir) -> Keeper {
    let (registry, _) = Registry::open(&folder.path().join("registry.sqlite")).unwrap();
    let mut brain = Service::restore([0; 32], Rows::default());
    let manage = Incoming {
        topic: "iotdevice-1/type/edge/id/gw-1/mgmt/manage".into(),
        payload: br#"{"d":{"lifetime":3600}}"#.to_vec(),
        retained: false,
        ack: AckToken(1),
    };
    brain.handle(super::super::brain::Now { unix_ms: 0 }, Event::Message(manage));
    let settings = Settings::parse("[service]\norg = \"acme\"\n[broker]\nurl = \"mqtt://localhost\"\n").unwrap();
    let (_, events) = mpsc::channel(1);
    let address = settings.listen;
    Keeper::new(Shared::new(brain, registry), events, &settings, address)
}

fn disconnected() -> mqtt::Event {
    mqtt::Event::Disconnected {
        trouble: Trouble::Reload,
        retry_in: Duration::ZERO,
    }
}

#[tokio::test]
async fn nothing_is_concluded_from_silence_while_the_service_cannot_hear() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder);
    assert_eq!(keeper.next_wake(), None, "not connected yet");
    let connected = mqtt::Event::Connected { session_present: true };
    assert_eq!(keeper.note(&connected), None, "nothing is published before SUBACK");
    assert_eq!(keeper.next_wake(), None);
    assert_eq!(
        keeper.note(&mqtt::Event::Subscribed),
        Some(Event::Connected { session_present: true })
    );
    let wake = keeper.next_wake().unwrap();
    assert!(
        wake > Instant::now() + GRACE - Duration::from_secs(1),
        "what waited at the broker comes first"
    );
    keeper.note(&disconnected());
    assert_eq!(keeper.next_wake(), None);
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_agents_have_the_time_that_they_take_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder);
    let grace = |keeper: &Keeper| keeper.next_wake().unwrap() - Instant::now();
    keeper.note(&mqtt::Event::Subscribed);
    assert_eq!(grace(&keeper), GRACE, "the service was restarted");
    keeper.note(&disconnected());
    tokio::time::advance(OUTAGE / 2).await;
    keeper.note(&disconnected());
    tokio::time::advance(OUTAGE / 2).await;
    keeper.note(&mqtt::Event::Subscribed);
    assert_eq!(grace(&keeper), LONG_GRACE, "it counts from the first disconnection");
    keeper.note(&disconnected());
    tokio::time::advance(Duration::from_secs(30)).await;
    keeper.note(&mqtt::Event::Subscribed);
    assert_eq!(
        grace(&keeper),
        LONG_GRACE - Duration::from_secs(30),
        "a short interruption does not make it shorter"
    );
    tokio::time::advance(LONG_GRACE).await;
    keeper.note(&disconnected());
    keeper.note(&mqtt::Event::Subscribed);
    assert_eq!(grace(&keeper), GRACE);
}
