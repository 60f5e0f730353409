//! The journal's reader and the brain behind it against journalctl alone, in turns: 100,000 entries of which 50,000 are errors,
//! made by systemd-journal-remote, are read, folded and turned into records of the outbox. They come from 40 units, in some
//! 700 kinds each, some with a secret; the rate is the highest that can be configured. By hand: `cargo bench --bench journal`.
//! Fails when it is slower than half of journalctl's speed.
//!
//! Each run is a process of its own. The reader has a journalctl as its child; both run at once where there are two
//! processors, so its own processor time is printed, too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use iotdm::agent::diagnostics;
use iotdm::agent::{Agent, Disk, Durable, Effect, Event, Now, Settings, firmware};
use iotdm::daemon::offer;
use iotdm::host::journal::{Batch, Journal, Options};
use iotdm::protocol::Address;
use iotdm::protocol::model::DeviceInfo;

#[path = "../tests/support/journal.rs"]
mod journal;

use journal::{BOOT, Record};

const ROUNDS: usize = 7;
const ENTRIES: u64 = 100_000;
/// What the reader asks for, too.
const FIELDS: &str = "MESSAGE,MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID,UNIT,COREDUMP_UNIT";

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => compare(),
        ["read", directory] => read(Path::new(directory)),
        _ => panic!("no arguments are expected: {arguments:?}"),
    }
}

fn compare() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let records: Vec<_> = (0..ENTRIES)
        .map(|nth| {
            let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
            let kind = format!("{}{}", letter(nth / 2), letter(nth / 52));
            let secret = if nth % 14 == 0 { " password=hunter2" } else { "" };
            let (address, wait) = (nth % 250, nth % 5000);
            let text = format!("connection {kind} to 10.0.0.{address} lost: no answer within {wait} ms{secret}");
            let record = Record::new(nth, if nth % 2 == 0 { 3 } else { 6 }, text);
            record.with("_SYSTEMD_UNIT", format!("unit-{}.service", nth / 100 % 40))
        })
        .collect();
    journal::write(&folder.path().join("a.journal"), &records);

    let (mut ours, mut theirs, mut peak, mut busy) = (Vec::new(), Vec::new(), 0, 0);
    for round in 0..ROUNDS {
        for turn in [round % 2, (round + 1) % 2] {
            let took = match turn {
                0 => {
                    let (took, [memory, ticks]) = our_time(folder.path());
                    (peak, busy) = (peak.max(memory), busy + ticks);
                    took
                }
                _ => their_time(folder.path()),
            };
            [&mut ours, &mut theirs][turn].push(took);
        }
    }
    let pace = |times: &mut Vec<Duration>| {
        times.sort();
        let median = times[times.len() / 2].as_secs_f64();
        let speed = (ENTRIES / 2) as f64 / median;
        println!("  median {median:.2} s, {speed:.0} errors/s, all: {times:.2?}");
        speed
    };
    println!("{ENTRIES} entries, every other one an error, {ROUNDS} times each, in turns");
    println!("the reader and the brain:");
    let our = pace(&mut ours);
    println!("journalctl -p err -o json to /dev/null:");
    let their = pace(&mut theirs);
    let ratio = our / their;
    println!("ratio {ratio:.2}; peak resident memory of the reader {peak} kB");
    println!(
        "processor time of the reader and the brain: {} ms each time",
        10 * busy / ROUNDS as u64
    );
    assert!(ratio >= 0.5, "slower than half of journalctl's speed");
}

/// The time; and the peak of the resident memory in kB, and the processor time in hundredths of a second.
fn our_time(directory: &Path) -> (Duration, [u64; 2]) {
    let began = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("read")
        .arg(directory)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let took = began.elapsed();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (memory, ticks) = text.trim().split_once(' ').unwrap();
    (took, [memory.parse().unwrap(), ticks.parse().unwrap()])
}

fn their_time(directory: &Path) -> Duration {
    let began = Instant::now();
    let status = Command::new("journalctl")
        .args(["--quiet", "--merge", "--all", "-p", "err", "-o", "json", "--directory"])
        .arg(directory)
        .arg(format!("--output-fields={FIELDS}"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    began.elapsed()
}

/// The brain, and a disk that takes everything.
struct Brain {
    agent: Agent,
    batches: u64,
    owed: usize,
}

impl Brain {
    fn new() -> Self {
        let settings = Settings {
            identity: "g:acme:edge:gw-1".to_owned(),
            service: "mqtts://broker.example.com:8883".to_owned(),
            address: Address::Session,
            lifetime: 24 * 3600,
            metadata: None,
            device_info: DeviceInfo::default(),
            configured_info: DeviceInfo::default(),
            location: None,
            tracking: None,
            diagnostics: Some(diagnostics::Settings {
                max_per_minute: 600,
                ..diagnostics::Settings::default()
            }),
            reboot_enabled: true,
            reset_enabled: true,
            firmware: firmware::Settings::default(),
            boot_id: BOOT.into(),
        };
        let mut brain = Brain {
            agent: Agent::new(settings, Durable::default(), Vec::new(), [7; 16]),
            batches: 0,
            owed: 0,
        };
        brain.handle(&Event::Started);
        brain
    }

    fn take(&mut self, batch: Batch) {
        self.batches += 1;
        self.handle(&offer(self.batches, batch));
    }

    fn handle(&mut self, event: &Event) {
        let now = Now {
            boottime: Duration::from_secs(1000 + self.batches),
            wall: Some(1_793_600_000),
        };
        let step = self.agent.handle(now, event, Disk::Works);
        self.owed += step.owe.len();
        self.agent.adopt(&step, event);
        let taken = |after: &iotdm::agent::After| matches!(after, iotdm::agent::After::Effect(Effect::JournalTaken(_)));
        let read = matches!(event, Event::Journal { .. });
        assert!(!read || step.after.iter().any(taken), "the batch was not taken");
    }
}

fn read(directory: &Path) {
    // As the agent's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = Options {
            directory: Some(directory.to_owned()),
            // How long the last batch, which is not full, waits for more is no part of the speed.
            pace: Duration::from_millis(10),
            ..Options::new(BOOT)
        };
        let mut journal = Journal::start(options, None, || {});
        let mut brain = Brain::new();
        let mut count = 0;
        while count < ENTRIES / 2 {
            let batch = journal.next().await;
            count += batch.entries.len() as u64;
            brain.take(batch);
            journal.taken();
        }
        assert!(brain.owed > 500, "few were turned into records: {}", brain.owed);
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    // proc_pid_stat(5): the fields behind the name; user and system time are the 14th and the 15th of all.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    println!("{} {ticks}", peak.trim().trim_end_matches(" kB"));
}
