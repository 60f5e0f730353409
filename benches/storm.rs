//! A storm: 10,000 errors in a second for a minute. What it costs the agent beyond its reader, how much memory it takes, and
//! how many messages the service gets of it. The agent's binary, a real mosquitto, the real journalctl on a journal that
//! systemd-journal-remote writes. By hand: `cargo bench --bench storm`. Fails above a quarter of a processor, 12 MiB, or the
//! configured rate.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[allow(dead_code, unreachable_pub)]
#[path = "../tests/daemon/agent.rs"]
mod agent;
#[path = "../tests/support/journal.rs"]
mod journal;
#[allow(dead_code, unreachable_pub)]
#[path = "../tests/daemon/service.rs"]
mod service;
#[path = "../tests/support/mod.rs"]
mod support;

use agent::Host;
use journal::{BEGIN, Record};
use serde_json::json;
use service::Service;
use support::mosquitto::{Mosquitto, Setup};

const SECONDS: u64 = 60;
const PER_TICK: u64 = 1000;
const TICK: Duration = Duration::from_millis(100);
/// What the configuration allows in a minute unless it says otherwise.
const RATE: usize = 30;
const ERRORS: u64 = SECONDS * 10 * PER_TICK;
const UNITS: u64 = 7;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let broker = Mosquitto::start(&Setup::default()).await;
    let service = Service::start(broker.port).await;
    let mut host = Host::new("gw-1", "unix:path=/nonexistent");
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "[diagnostics]\n");
    let folder = host.path("journal");
    std::fs::create_dir(&folder).unwrap();
    host.environment
        .push(("IOTDM_JOURNAL_DIRECTORY", folder.display().to_string()));
    let agent = host.start();
    agent.managed().await;

    let before = ticks(agent.pid());
    let (boot, file) = (host.boot_id(), folder.join("system.journal"));
    let storm = tokio::task::spawn_blocking(move || storm(&boot, &file));
    let began = Instant::now();
    let took = storm.await.unwrap();
    // A reader that lags would look cheap.
    let mut status = json!(null);
    for _ in 0..600 {
        status = serde_json::from_str(&host.told(&["diag", "status", "--json"]).await).unwrap();
        if status["entries_taken"] == ERRORS {
            break;
        }
        tokio::time::sleep(TICK).await;
    }
    assert_eq!(status["entries_taken"], ERRORS, "not everything was read: {status}");
    let lag = began.elapsed().as_secs_f64();
    let percent = (ticks(agent.pid()) - before) as f64 / took.as_secs_f64();
    let memory = peak(agent.pid());
    let said = service.said();
    let logs = said.iter().filter(|said| said.tail() == "add/diag/log");
    // The bucket is full at the beginning. A summary a minute for each unit, and one for all.
    let allowed = (RATE as f64 * (1.0 + lag / 60.0)).ceil() as usize + 2 * (UNITS as usize + 1);
    let logs = logs.count();
    println!(
        "{ERRORS} errors in {:.1} s, all read {lag:.1} s after the first",
        took.as_secs_f64()
    );
    println!("the agent without its reader: {percent:.1} % of one processor, {memory} kB of memory at its peak");
    println!("log entries at the service: {logs}; {allowed} are allowed ({RATE} in a minute, and summaries)");
    assert!(percent < 25.0 && memory < 12 * 1024 && logs <= allowed, "too much");
}

/// Writes the journal at its pace: how long that took.
fn storm(boot: &str, file: &std::path::Path) -> Duration {
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote")
        .arg("--output")
        .args([file, std::path::Path::new("-")])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote is a Debian package of that name");
    let mut stdin = remote.stdin.take().unwrap();
    let began = Instant::now();
    for tick in 0..SECONDS * 10 {
        let records = (tick * PER_TICK..(tick + 1) * PER_TICK).map(|nth| {
            let kind = char::from(b'a' + (nth % 20) as u8);
            let text = format!(
                "slave {} does not answer: error {kind} after {} ms",
                nth % 250,
                nth % 5000
            );
            Record::of(boot, BEGIN, nth, 3, text).with("_SYSTEMD_UNIT", format!("unit-{}.service", nth % UNITS))
        });
        let text: Vec<u8> = records.flat_map(|record| record.export()).collect();
        stdin.write_all(&text).unwrap();
        std::thread::sleep((began + TICK * (tick as u32 + 1)).saturating_duration_since(Instant::now()));
    }
    drop(stdin);
    assert!(remote.wait().unwrap().success());
    began.elapsed()
}

/// The processor time of a process without its children, in hundredths of a second (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The peak of the resident memory of a process, in kB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}
