//! The task: catches up with earlier boots, follows this one, hands over batches, starts journalctl again.
//!
//! Within one boot entries are ordered by their numbers, whatever the clock did. Over boots journalctl orders by the clock
//! where journald began a new sequence, which it does after each power cut: a boot whose clock is behind would be left out.
//! So the boot that the agent runs in is followed by its id and from its beginning, and only what was logged before it is
//! caught up with in journalctl's order.

mod position;

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::batch::Collected;
use super::call::{self, At, Mark, Running};
use super::cursor::{self, Parts};
use super::lines::{Line, Lines};
use super::outlet::{Closed, Outlet};
use super::{Batch, Entry, Gap, Options, entry};

/// How often progress is shown.
const BEAT: Duration = Duration::from_secs(5);
/// How often catching up is tried before what is missing is told, and this boot followed.
const TRIES: u32 = 5;
/// A child that lived as long as this was well.
const WELL: Duration = Duration::from_secs(60);

/// Follows the journal until nobody takes batches any more.
pub(super) async fn run(
    options: Options,
    after: Option<String>,
    teller: mpsc::Sender<Batch>,
    taken: mpsc::Receiver<()>,
    troubles: watch::Sender<Option<String>>,
    alive: impl Fn() + Send + Sync,
) {
    let mut follower = Follower {
        options: &options,
        alive: &alive,
        outlet: Outlet::new(teller, taken),
        collected: Collected::after(after),
        lines: Lines::default(),
        troubles,
        caught_up: false,
        first_after: None,
        kept: None,
        stalled_at: None,
        gone: None,
    };
    let Closed = follower.run().await;
}

struct Follower<'a, Alive> {
    options: &'a Options,
    alive: &'a Alive,
    outlet: Outlet,
    collected: Collected,
    lines: Lines,
    troubles: watch::Sender<Option<String>>,
    /// What was logged before this boot has been read, or given up.
    caught_up: bool,
    /// The first entry that the journal had after what was read, when it was found that entries in between are gone.
    first_after: Option<String>,
    /// When the position was moved last without an entry that counts.
    kept: Option<Instant>,
    /// Where the last child stood when it gave nothing any more.
    stalled_at: Option<Option<String>>,
    /// What was told to be gone: the position, and the first entry after it.
    gone: Option<(String, Option<String>)>,
}

/// What ended the reading of a child.
enum End {
    Closed,
    /// Its output is over.
    Over,
    /// It does not give this entry, which the journal has.
    Stalled(Mark),
    /// It was to catch up, and gives nothing, not even its end.
    Silent,
    /// It cannot be read.
    Broken(String),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        End::Closed
    }
}

impl<Alive: Fn() + Send + Sync> Follower<'_, Alive> {
    async fn run(&mut self) -> Closed {
        // In a row; and those without progress in which only what was logged before this boot could not be read.
        let (mut failures, mut alone) = (0, 0);
        loop {
            let began = Instant::now();
            let stood = self.collected.seen().map(str::to_owned);
            let trouble = match self.child().await {
                Ok(Ok(())) => continue,
                Ok(Err(trouble)) => trouble,
                Err(closed) => return closed,
            };
            self.tell(Some(&trouble));
            failures = if began.elapsed() >= WELL { 1 } else { failures + 1 };
            if self.is_behind_this_boot() && self.this_boot_can_be_read().await {
                let moved = self.collected.seen() != stood.as_deref();
                alone = if moved { 1 } else { alone + 1 };
                if alone >= TRIES {
                    self.give_up(format!("the journal of earlier boots cannot be read: {trouble}"));
                }
            }
            if let Err(closed) = self.pause(failures).await {
                return closed;
            }
        }
    }

    fn tell(&self, trouble: Option<&str>) {
        self.troubles.send_if_modified(|told| {
            let changed = told.as_deref() != trouble;
            if changed {
                match trouble {
                    Some(trouble) => tracing::warn!("the journal is not read: {trouble}"),
                    None => tracing::info!("the journal is read again"),
                }
                *told = trouble.map(str::to_owned);
            }
            changed
        });
    }

    /// One child, from its start to its end.
    async fn child(&mut self) -> Result<Result<(), String>, Closed> {
        (self.alive)();
        let mut running = match self.start().await {
            Ok(running) => running,
            Err(trouble) => return Ok(Err(trouble)),
        };
        self.lines = Lines::default();
        let Err(end) = self.read(&mut running).await;
        let ended = match end {
            End::Closed => return Err(Closed),
            End::Over => running.ended().await,
            End::Broken(error) => Err(error),
            End::Silent => Err(format!(
                "journalctl has given nothing for {:?}, nor ended",
                self.options.patience
            )),
            End::Stalled(mark) => {
                drop(running);
                self.stalled(mark);
                Err("journalctl does not give what the journal has".to_owned())
            }
        };
        Ok(match ended {
            Ok(()) if !self.caught_up => {
                self.caught_up = true;
                Ok(())
            }
            Ok(()) => Err("journalctl ended".to_owned()),
            Err(error) => Err(error),
        })
    }

    async fn start(&mut self) -> Result<Running, String> {
        let of_this_boot = |cursor: &str| Parts::of(cursor).is_none_or(|parts| parts.boot == self.options.boot_id);
        if self.caught_up && !self.collected.seen().is_some_and(of_this_boot) {
            return call::follow(self.options, None);
        }
        let mark = self.position().await?;
        if self.is_behind_this_boot() {
            let machines = self.machines(mark).await?;
            if let Some(from) = self.collected.seen() {
                return call::catch_up(self.options, from, &machines);
            }
        }
        self.caught_up = true;
        call::follow(self.options, self.collected.seen())
    }

    /// A child that gives nothing is started again. When the next one gives nothing either it is the journal: what is
    /// there is left out.
    fn stalled(&mut self, mark: Mark) {
        let seen = self.collected.seen().map(str::to_owned);
        if self.stalled_at.as_ref() != Some(&seen) {
            self.stalled_at = Some(seen);
            return;
        }
        let numbers = Parts::of(&mark.cursor).zip(seen.as_deref().and_then(Parts::of));
        self.collected.missing(Gap {
            reason: "journalctl cannot get past a place in the journal".to_owned(),
            at_most: numbers.and_then(|(mark, seen)| Some(mark.between(&seen)? + 1)),
        });
        self.collected.move_to(mark.cursor);
        self.stalled_at = None;
    }

    /// Reads until it ends; hands over batches meanwhile.
    async fn read(&mut self, running: &mut Running) -> Result<std::convert::Infallible, End> {
        let mut beat = tokio::time::interval(BEAT);
        let mut look = Instant::now() + self.options.look / 30;
        // What the journal has and the child should have given by then.
        let mut owed: Option<(Instant, Mark)> = None;
        // Since when it could have given something.
        let mut silent = Instant::now();
        loop {
            let full = self.drain();
            self.outlet.hand_over(&mut self.collected, self.options)?;
            if full && !self.collected.is_full(self.options) {
                continue;
            }
            let idle = self.caught_up && !self.outlet.waits() && !self.collected.is_due();
            tokio::select! {
                // What is there is read before it counts as missing.
                biased;
                _ = beat.tick() => (self.alive)(),
                ready = self.outlet.ready(&self.collected) => {
                    if ready?.is_some_and(|waited| waited >= self.options.patience) {
                        self.look_back().await;
                    }
                }
                Some(damage) = running.damage.recv() => {
                    if damage.concerns(self.collected.seen()) {
                        self.collected.missing(Gap { reason: damage.said, at_most: None });
                    }
                }
                read = running.stdout.read(self.lines.space()), if !full => match read {
                    Ok(0) => return Err(End::Over),
                    Ok(count) => {
                        self.lines.filled(count);
                        (owed, silent) = (None, Instant::now());
                        self.tell(None);
                    }
                    Err(error) => return Err(End::Broken(error.to_string())),
                },
                () = sleep_until(owed.as_ref().map_or(look, |(until, _)| *until)), if idle => {
                    if let Some((_, mark)) = owed {
                        return Err(End::Stalled(mark));
                    }
                    look = Instant::now() + self.options.look;
                    owed = self.look().await.map(|mark| (Instant::now() + self.options.patience, mark));
                }
                () = sleep_until(silent + self.options.patience), if !self.caught_up && !full => return Err(End::Silent),
            }
            if full {
                silent = Instant::now();
            }
        }
    }

    /// Takes the lines that are there; whether there is no room for more.
    fn drain(&mut self) -> bool {
        while !self.collected.is_full(self.options) {
            let entry = match self.lines.next() {
                None => return false,
                Some(Line::Whole(line)) => entry::parse(line, 0),
                Some(Line::Short(line, cut)) => entry::parse(&line, cut),
                Some(Line::TooLong) => None,
            };
            match entry {
                None => self.collected.missing(Gap {
                    reason: "journalctl printed what is no entry".to_owned(),
                    at_most: Some(1),
                }),
                Some(entry) if !self.caught_up && entry.boot_id == self.options.boot_id => {
                    // comes again when this boot is followed
                }
                Some(entry) => {
                    self.over_the_hole(&entry);
                    self.collected.take(entry, self.options);
                }
            }
        }
        true
    }

    /// Tells what is gone between what was read last and this entry, if it is known that something is.
    fn over_the_hole(&mut self, entry: &Entry) {
        let before = |next: &String| {
            let parts = Parts::of(&entry.cursor).zip(Parts::of(next));
            parts.and_then(|(entry, next)| next.is_after(&entry)).unwrap_or(false)
        };
        // Files that are gone may be read on for as long as the child has them open.
        if let Some(next) = self.first_after.take_if(|next| !before(next))
            && let Some(seen) = self.collected.seen().map(str::to_owned)
        {
            self.gone(&next, &seen);
        }
    }

    /// A batch was not taken for long: whether the journal has lost meanwhile what comes next.
    async fn look_back(&mut self) {
        (self.alive)();
        let Some(seen) = self.collected.seen() else {
            return;
        };
        if let Ok(At::Entry(mark)) = call::at(self.options, seen).await
            && !cursor::same(&mark.cursor, seen)
        {
            self.first_after = Some(mark.cursor);
        }
    }

    /// What the journal has and the child should have given by now. If there is nothing, the position may move on to
    /// where the journal stands: nothing up to there counts.
    async fn look(&mut self) -> Option<Mark> {
        (self.alive)();
        // In this order: what is logged in between is not passed over.
        let (end, last) = match (
            call::last(self.options, false).await,
            call::last(self.options, true).await,
        ) {
            (Ok(end), Ok(last)) => (end, last),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!("the journal could not be looked at: {error}");
                return None;
            }
        };
        let seen = self.collected.seen();
        if let Some(last) = last
            && !seen.is_some_and(|seen| cursor::is_read(&last.cursor, seen))
        {
            return Some(last);
        }
        self.tell(None);
        let due = self.kept.is_none_or(|kept| kept.elapsed() >= self.options.keep);
        if let Some(end) = end.filter(|end| due && seen.is_none_or(|seen| !cursor::is_read(&end.cursor, seen))) {
            self.kept = Some(Instant::now());
            self.collected.move_to(end.cursor);
        }
        None
    }

    /// Waits before the next child; hands over batches meanwhile.
    async fn pause(&mut self, failures: u32) -> Result<(), Closed> {
        let pause = self.options.pause * 2u32.pow(failures.saturating_sub(1).min(6));
        let until = Instant::now() + pause;
        let mut beat = tokio::time::interval(BEAT);
        loop {
            self.outlet.hand_over(&mut self.collected, self.options)?;
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                _ = beat.tick() => (self.alive)(),
                ready = self.outlet.ready(&self.collected) => drop(ready?),
            }
        }
    }
}
