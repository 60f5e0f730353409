//! A download against `curl -s URL | tee FILE | sha256sum` and `sync FILE`, in turns, over loopback; and the memory
//! that it takes. By hand: `cargo bench --bench download`. Needs curl, and 3 GiB of disk below the target folder.
//!
//! Fails when it is slower than 0.9 of the pipe, or its memory grows with the size.
//!
//! Each run is a process of its own; the server is another one, which sends the same block again and again.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use iotdm::host::download::{Download, Limits};

const MIB: u64 = 1024 * 1024;
const ROUNDS: usize = 7;
const SIZE: u64 = 512 * MIB;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => compare(),
        ["serve"] => serve(),
        ["fetch", uri, file] => fetch(uri, file),
        _ => panic!("no arguments are expected: {arguments:?}"),
    }
}

fn compare() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut server = itself(&["serve"]);
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let uri = |size: u64| format!("http://127.0.0.1:{}/{size}", port.trim());

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in [round % 2, (round + 1) % 2] {
            let file = folder.path().join("bundle");
            let took = match turn {
                0 => our_time(&uri(SIZE), &file).0,
                _ => their_time(&uri(SIZE), &file),
            };
            [&mut ours, &mut theirs][turn].push(took);
            assert_eq!(std::fs::metadata(&file).unwrap().len(), SIZE);
            std::fs::remove_file(&file).unwrap();
            let _ = std::fs::remove_file(folder.path().join("bundle.part.json"));
        }
    }
    let pace = |times: &mut Vec<Duration>| {
        times.sort();
        let median = times[times.len() / 2].as_secs_f64();
        let speed = (SIZE / MIB) as f64 / median;
        println!("  median {median:.2} s, {speed:.0} MiB/s, all: {times:.2?}");
        speed
    };
    println!("{} MiB, {ROUNDS} times each, in turns", SIZE / MIB);
    println!("the agent:");
    let our = pace(&mut ours);
    println!("curl | tee | sha256sum; sync:");
    let their = pace(&mut theirs);
    let ratio = our / their;
    println!("ratio {ratio:.2}");

    let peaks = [64 * MIB, 2048 * MIB].map(|size| {
        let file = folder.path().join("bundle");
        let (took, peak) = our_time(&uri(size), &file);
        println!("{} MiB: {took:.2?}, peak resident memory {peak} kB", size / MIB);
        std::fs::remove_file(&file).unwrap();
        peak
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(ratio >= 0.9, "slower than 0.9 of the pipe's speed");
    assert!(peaks[1] < peaks[0] + 2048, "memory grows with the size: {peaks:?} kB");
}

fn itself(arguments: &[&str]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The time, and the peak of the resident memory in kB.
fn our_time(uri: &str, file: &Path) -> (Duration, u64) {
    let began = Instant::now();
    let output = itself(&["fetch", uri, file.to_str().unwrap()])
        .wait_with_output()
        .unwrap();
    let took = began.elapsed();
    assert!(output.status.success());
    (took, String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

fn their_time(uri: &str, file: &Path) -> Duration {
    let began = Instant::now();
    let status = Command::new("sh")
        .args(["-c", "curl -s \"$1\" | tee \"$2\" | sha256sum; sync \"$2\"", "sh", uri])
        .arg(file)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    began.elapsed()
}

fn fetch(uri: &str, file: &str) {
    // As the agent's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .unwrap();
    let mut download = Download::new(uri, file);
    download.limits = Limits {
        allow_http: true,
        ..Limits::default()
    };
    runtime.block_on(download.run(|_| {})).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{}", peak.trim().trim_end_matches(" kB"));
}

fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    for stream in listener.incoming() {
        std::thread::spawn(move || answer(stream.unwrap()));
    }
}

/// Sends as many bytes as the path says.
fn answer(mut stream: TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let size: u64 = head.split(' ').nth(1)?.strip_prefix('/')?.parse().ok()?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: \"{size}\"\r\n\r\n"
    )
    .ok()?;
    let block: Vec<u8> = (0..MIB).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        stream.write_all(&block[..most]).ok()?;
        left -= most as u64;
    }
    Some(())
}
