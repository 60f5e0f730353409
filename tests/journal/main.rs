//! The journal's reader against real journals: files of any content that systemd-journal-remote makes, a real journald
//! that rotates, and Debian's journalctl, which is stopped and killed.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod damaged;
mod entries;
#[path = "../support/journal.rs"]
mod journal;
mod live;
mod positions;
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use iotdm::host::journal::{Batch, Entry, Gap, Journal, Options};
use journal::BOOT;
use support::within;

/// As in the field, and faster.
fn options(directory: &Path) -> Options {
    Options {
        directory: Some(directory.to_owned()),
        pace: Duration::from_millis(20),
        look: Duration::from_millis(300),
        keep: Duration::from_millis(300),
        patience: Duration::from_secs(10),
        pause: Duration::from_millis(20),
        ..Options::new(BOOT)
    }
}

/// For tests in which a journalctl stands still, and this much of the time.
const SHORT: Duration = Duration::from_millis(500);

fn start(options: Options, after: Option<String>) -> Journal {
    Journal::start(options, after, || {})
}

/// What was read from batches that were all taken.
#[derive(Debug, Default)]
struct Read {
    entries: Vec<Entry>,
    gaps: Vec<Gap>,
    cursor: Option<String>,
}

impl Read {
    fn add(&mut self, batch: Batch) {
        self.entries.extend(batch.entries);
        self.gaps.extend(batch.gap);
        self.cursor = Some(batch.cursor);
    }

    fn messages(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.message.as_str()).collect()
    }
}

/// Takes batches until enough is read.
async fn read_until(journal: &mut Journal, what: &str, enough: impl Fn(&Read) -> bool) -> Read {
    let mut read = Read::default();
    let work = async {
        while !enough(&read) {
            read.add(journal.next().await);
            journal.taken();
        }
    };
    within(what, work).await;
    read
}

/// Takes batches until there is an entry with this message.
async fn read_to(journal: &mut Journal, last: &str) -> Read {
    let has = |read: &Read| read.entries.iter().any(|entry| entry.message == last);
    read_until(journal, last, has).await
}

/// `prefix0`, `prefix1`, ...
fn numbered(prefix: &str, count: u64) -> Vec<String> {
    (0..count).map(|nth| format!("{prefix}{nth}")).collect()
}
