//! The host's journal: what is logged on it at a priority that counts, entry by entry, each once.
//!
//! The entries come from a child, `journalctl --follow`, as lines of JSON. The journal itself is the store: a [`Batch`] is
//! handed over, and only when it was [taken](Journal::taken) comes the next one. Until then the child waits at its pipe,
//! and what is in memory here is bounded whatever is logged.
//!
//! Whoever takes batches keeps the [cursor](Batch::cursor) of the last one and begins after it the next time: each entry
//! comes once, and what the journal does not have any more is told as a [`Gap`]. Nothing here decides what an entry is
//! worth, and nothing is written.
//!
//! `lines` and `shorten` cut what comes into lines of bounded length, `entry` reads one, `cursor` compares positions,
//! `call` knows journalctl and `damage` what it complains of, `batch` collects, `outlet` hands over, `task` follows and
//! `task/position` says where reading goes on. Facts: journalctl(1), systemd.journal-fields(7), systemd's
//! JOURNAL_EXPORT_FORMATS; what was tried stands in `docs/decisions/0014-the-journal-client.md`.

mod batch;
mod call;
mod cursor;
mod damage;
mod entry;
mod lines;
mod outlet;
mod shorten;
mod task;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use call::readable;

/// What is followed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The id of this boot, 32 hex digits. Entries of this boot are followed; those of earlier ones are caught up with.
    pub boot_id: String,
    /// The least urgent priority that counts, 0 (`emerg`) to 7 (`debug`).
    pub priority: u8,
    /// MESSAGE_IDs that count whatever their priority, 32 hex digits each.
    pub message_ids: Vec<String>,
    /// MESSAGE_IDs of entries that are handed over, too, whatever their priority; they are [marked](Entry::watched).
    pub watched_ids: Vec<String>,
    /// Only entries of these units, or about them. Empty: of all.
    pub units: Vec<String>,
    /// No entries of these units: the agent's own above all, or an error in sending would feed itself.
    pub exclude_units: Vec<String>,
    /// The program.
    pub journalctl: PathBuf,
    /// Where the journal's files are, when it is not where journald puts them.
    pub directory: Option<PathBuf>,
    /// The most entries of a batch.
    pub most_entries: usize,
    /// The most bytes of a batch's texts (one entry may pass it).
    pub most_bytes: usize,
    /// A batch that is not full goes out no earlier than this after the one before it.
    pub pace: Duration,
    /// How often it is looked whether the child still gives what the journal has, while it is silent; the first time
    /// after a thirtieth of this.
    pub look: Duration,
    /// How often the position moves on while nothing counts.
    pub keep: Duration,
    /// How long the child may take for what the journal has, before it is started anew; and how long a batch may wait
    /// to be taken before it is looked whether the journal lost something meanwhile.
    pub patience: Duration,
    /// Before the child is started again: this at first, doubled with every failure in a row, at most 64 times this.
    pub pause: Duration,
}

impl Options {
    /// Follows errors (priority 0 to 3) of every unit; the rest as for a device in the field.
    pub fn new(boot_id: impl Into<String>) -> Self {
        Self {
            boot_id: boot_id.into(),
            priority: 3,
            message_ids: Vec::new(),
            watched_ids: Vec::new(),
            units: Vec::new(),
            exclude_units: Vec::new(),
            journalctl: PathBuf::from("/usr/bin/journalctl"),
            directory: None,
            most_entries: 1000,
            most_bytes: 1024 * 1024,
            pace: Duration::from_secs(1),
            look: Duration::from_secs(5 * 60),
            keep: Duration::from_secs(60 * 60),
            patience: Duration::from_secs(30),
            pause: Duration::from_secs(1),
        }
    }
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names it for good: the same entry has the same one, however often it is read.
    pub cursor: String,
    /// The boot that it was logged in, 32 hex digits.
    pub boot_id: String,
    /// Microseconds since 1970 by the host's clock of that moment, which may have been wrong.
    pub realtime_us: u64,
    /// 0 (`emerg`) to 7 (`debug`); 6 where none is given, as syslog has it.
    pub priority: u8,
    /// The unit that logged it.
    pub unit: Option<String>,
    /// What the program calls itself (SYSLOG_IDENTIFIER).
    pub identifier: Option<String>,
    /// The process that logged it.
    pub pid: Option<u32>,
    /// 32 hex digits.
    pub message_id: Option<String>,
    /// The text, empty where there is none: at most 4096 bytes of it, cut at a character's boundary. What is no UTF-8
    /// is replaced.
    pub message: String,
    /// How many bytes of the text are missing in `message`.
    pub cut: u64,
    /// The unit that it is about where that is not the one that logged it: whose process dumped core or was killed, or
    /// which systemd speaks of.
    pub about: Option<String>,
    /// It is here for its MESSAGE_ID alone, one of [`Options::watched_ids`].
    pub watched: bool,
}

/// Entries that are not there any more, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why, for people.
    pub reason: String,
    /// No more entries than this are missing, of any priority; `None` when nobody knows.
    pub at_most: Option<u64>,
}

/// What was read since the batch before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In the journal's order; none when there is only a gap to tell, or a position to keep.
    pub entries: Vec<Entry>,
    /// Where to go on after: everything up to here is in this batch or in one before it, or does not count.
    pub cursor: String,
    /// What is missing before the entries, or among them.
    pub gap: Option<Gap>,
}

/// A task that follows the journal; it ends, and the child with it, when this is dropped.
#[derive(Debug)]
pub struct Journal {
    batches: mpsc::Receiver<Batch>,
    taken: mpsc::Sender<()>,
    trouble: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Journal {
    /// Begins at once and never gives up: after the entry at the cursor `after`, else with the first of this boot.
    ///
    /// `alive` is called at least every 10 s as long as the task makes progress; that nothing is logged, and that a batch
    /// waits to be taken, is progress.
    pub fn start(options: Options, after: Option<String>, alive: impl Fn() + Send + Sync + 'static) -> Self {
        let (teller, batches) = mpsc::channel(1);
        let (taken, acks) = mpsc::channel(1);
        let (troubles, trouble) = watch::channel(None);
        let task = tokio::spawn(task::run(options, after, teller, acks, troubles, alive));
        Self {
            batches,
            taken,
            trouble,
            task,
        }
    }

    /// Waits for the next batch. There is none before the last one was [taken](Self::taken). May be dropped and called
    /// again.
    pub async fn next(&mut self) -> Batch {
        match self.batches.recv().await {
            Some(batch) => batch,
            // The task never ends by itself; if it did, there would be nothing to tell any more.
            None => std::future::pending().await,
        }
    }

    /// The batch that [`next`](Self::next) gave is kept: go on. Once for each batch.
    pub fn taken(&self) {
        let _ = self.taken.try_send(());
    }

    /// Why nothing can be read at the moment, in words for the technician.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.task.abort();
    }
}
