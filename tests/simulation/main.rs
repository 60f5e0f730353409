//! The agent's brain against the service's brain, over a network that loses sessions, duplicates and delays within what
//! MQTT 3.1.1 allows at QoS 1, on a host that crashes at every point of a step. Everything in a run comes from its seed.
//!
//! `SIMULATION_SEEDS` says how many seeds are run (2,000 without it). A seed that breaks a promise is run again with
//! everything that happens in it, and says how to do that alone:
//! `SIMULATION_SEED=n cargo test --release --test simulation -- one_seed --nocapture`.
//!
//! The promises are in `truth`; `counts` says what a run must have seen to be worth anything.

#![allow(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a run that fails is told as it goes; a test has no callers"
)]

mod agent;
mod broker;
mod campaign;
mod client;
mod counts;
mod death;
mod device;
mod disk;
mod faults;
mod host;
mod journal;
mod logind;
mod model;
mod random;
mod service;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use counts::Counts;
use world::World;

/// How many seeds a plain `cargo test` runs.
const SEEDS: u64 = 2000;
/// So many show every row of the outcome table.
const ROWS: u64 = 20_000;
/// So many are taken at a time.
const CHUNK: u64 = 50;

#[allow(
    clippy::disallowed_methods,
    reason = "how many seeds, and which one, is for whoever runs it"
)]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
    )
}

fn run(seed: u64, trace: bool) -> World {
    let mut world = World::new(seed, trace);
    world.run();
    world
}

#[test]
fn every_seed_keeps_every_promise() {
    let seeds = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let total = Mutex::new(Counts::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counts = Counts::new();
                loop {
                    let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if first >= seeds || failed.load(Ordering::Relaxed) != u64::MAX {
                        break;
                    }
                    for seed in first..seeds.min(first + CHUNK) {
                        match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
                            Ok(world) => counts.merge(&world.counts),
                            Err(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
                        }
                    }
                }
                total.lock().expect("nobody panics with it").merge(&counts);
            });
        }
    });
    let failed = failed.into_inner();
    if failed != u64::MAX {
        println!("seed {failed} again, with everything that happens:");
        let again = catch_unwind(AssertUnwindSafe(|| run(failed, true)));
        assert!(
            again.is_err(),
            "seed {failed} failed and then did not: it is not the same run each time"
        );
        panic!(
            "a promise was broken; replay it with\n\
             SIMULATION_SEED={failed} cargo test --release --test simulation -- one_seed --nocapture"
        );
    }
    println!("{seeds} seeds in {:.1} s", begun.elapsed().as_secs_f64());
    let total = total.into_inner().expect("nobody panics with it");
    for (text, count) in total.all() {
        println!("{count:>10} {text}");
    }
    if seeds >= SEEDS {
        for (text, count) in total.all() {
            let rare = text.starts_with(counts::ROW) && seeds < ROWS;
            assert!(
                count > 0 || rare,
                "no {text} in {seeds} seeds: the simulation has gone blind"
            );
        }
    }
}

#[test]
fn one_seed_is_the_same_run_each_time() {
    let replay = number("SIMULATION_SEED");
    let seed = replay.unwrap_or(1);
    let one = run(seed, replay.is_some());
    let two = run(seed, false);
    assert_eq!((&one.random, one.now, &one.counts), (&two.random, two.now, &two.counts));
    let other = run(seed + 1, false);
    assert_ne!(one.random, other.random, "another seed is another run");
}
