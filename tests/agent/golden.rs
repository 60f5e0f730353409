//! What released versions wrote, byte by byte: it is read for ever. A new version adds files here and changes none.

use iotdm::agent::durable::{Durable, RebootPhase, Wish};
use iotdm::agent::{Agent, Event, OweId};

use crate::driver::{Driver, settings};

#[test]
fn the_state_of_0_1_is_read_whole_and_written_back_as_it_was() {
    let golden = include_str!("golden/state-0.1.json").trim_end();
    let durable = Durable::from_json(golden.as_bytes()).unwrap();
    assert_eq!(durable.wish, Wish::Managed);
    let reboot = durable.reboot().unwrap();
    assert_eq!((reboot.phase, reboot.requests.len()), (RebootPhase::Accepted, 1));
    assert_eq!((durable.handled.len(), durable.short_boots), (2, 2));
    assert!(
        durable.extra.is_empty() && reboot.extra.is_empty(),
        "all of it is understood"
    );
    assert_eq!(String::from_utf8(durable.to_json()).unwrap(), golden);
}

#[test]
fn the_outbox_of_0_1_is_sent() {
    let lines = include_str!("golden/outbox-0.1.jsonl").lines();
    let owed = lines
        .enumerate()
        .map(|(n, line)| (OweId(n as u64), line.as_bytes().to_vec()))
        .collect();
    let mut driver = Driver::new();
    driver.agent = Agent::new(settings("boot-1"), Durable::default(), owed, [0; 16]);
    driver.event(Event::Started);
    driver.connect(false);
    assert_eq!(driver.answers("o1"), [501]);
    assert_eq!(driver.answers("r9"), [500]);
    assert_eq!(driver.on("log")[0]["d"]["message"], "the reboot did not happen");
    assert_eq!(
        driver.agent.status().owed,
        3,
        "what a newer version wrote stays on the disk"
    );
}
