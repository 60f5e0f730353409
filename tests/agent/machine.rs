//! The whole machine of firmware as one table: every state it can be in, everything that can happen there, and what comes
//! of it. The table is `machine/table.txt`; what is new in it is to be judged by the protocol before it goes there.
//!
//! A line is an event and what the brain does about it: what it answers, what it tells the service, what it has the host do,
//! which members of the durable memory change, and what it is then. `-`: nothing at all.

mod events;
mod states;
mod words;

use iotdm::agent::effect::Purpose;
use iotdm::agent::{Disk, Event, Survey};

use crate::driver::Driver;
use events::{COMMAND, D1, Named, Ops, P1, beside, describe, host, initiate, said};
use states::states;
use words::{cell, standing};

/// The table's lines of one state.
fn lines(driver: &Driver, found: &Survey) -> Vec<(String, String)> {
    let ops = Ops::of(driver);
    // A request that was not made yet cannot come again.
    let made = |(name, _): &Named| match *name {
        D1 | P1 => asked(driver, if *name == D1 { "d1" } else { "p1" }),
        _ => true,
    };
    let cells = |named: Vec<Named>, disk_full| {
        let cell = move |(name, event)| (String::from(name), cell(&driver.agent, driver.now, &event, disk_full));
        named.into_iter().filter(made).map(cell).collect::<Vec<_>>()
    };
    let mut lines = cells(said(), false);
    lines.extend(cells(beside(driver), false));
    lines.extend(cells(ops.ends(found), false));
    lines.extend(cells(host(), false));

    // Whatever of an earlier run comes to its end: no line for each, as long as nothing comes of it.
    let mut stale = cells(Ops::stale().ends(found), false);
    stale.retain(|(_, cell)| cell != "-");
    let nothing = if stale.is_empty() {
        "-".into()
    } else {
        format!("{stale:?}")
    };
    lines.push(("an end of an earlier run".into(), nothing));

    let mut lost = driver.agent.clone();
    let step = lost.handle(driver.now, &Event::Disconnected, Disk::Works);
    lost.adopt(&step, &Event::Disconnected);
    let looked_at = cell(&lost, driver.now, &ops.surveyed(Ok(found.clone())), false);
    lines.push(("the connection was lost, and the host was looked at".into(), looked_at));

    let on_full_disk = vec![
        ("disk full: another image is described", describe("3.0")),
        (
            "disk full: a download is asked for",
            initiate("firmware/download", "d9"),
        ),
        ("disk full: an update is asked for", initiate("firmware/update", "p9")),
        (
            "disk full: install FILE",
            Event::InstallFile(COMMAND, "fw-4.raucb".into()),
        ),
        ("disk full: the host was looked at", ops.surveyed(Ok(found.clone()))),
    ];
    lines.extend(cells(on_full_disk, true));
    lines
}

/// Whether this request is being looked at, or remembered.
fn asked(driver: &Driver, req_id: &str) -> bool {
    let looking = match driver.surveys.last() {
        Some((_, Purpose::Download)) => req_id == "d1",
        Some((_, Purpose::Install)) => req_id == "p1",
        _ => false,
    };
    let mut handled = driver.on_disk().handled.into_iter();
    looking || handled.any(|handled| handled.req_id == req_id)
}

fn table() -> String {
    let mut table = String::new();
    for (name, state, found) in states() {
        let driver = state();
        table += &format!("## {name} ({})\n", standing(&driver.agent.status()));
        for (event, cell) in lines(&driver, &found()) {
            table += &format!("{event}: {cell}\n");
        }
        table.push('\n');
    }
    table
}

#[test]
fn every_event_in_every_state_of_firmware_does_what_the_table_says() {
    let expected = include_str!("machine/table.txt");
    let table = table();
    if table == expected {
        return;
    }
    let is = concat!(env!("CARGO_TARGET_TMPDIR"), "/machine.txt");
    std::fs::write(is, &table).unwrap();
    let differ = table.lines().zip(expected.lines()).find(|(is, was)| is != was);
    panic!("the table is another one; it is now in {is}; the first line that differs: {differ:#?}");
}
