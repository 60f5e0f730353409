//! Where reading goes on, and what is gone there: what follows from where the journal and the position stand.

use super::Follower;
use crate::host::journal::Gap;
use crate::host::journal::call::{self, At, Mark};
use crate::host::journal::cursor::{self, Parts};

impl<Alive: Fn() + Send + Sync> Follower<'_, Alive> {
    /// Whether there may be something to be caught up with. A position of this boot is one to go on from, now or later;
    /// so is one whose boot nobody knows.
    pub(super) fn is_behind_this_boot(&self) -> bool {
        let of_another = |cursor: &str| Parts::of(cursor).is_some_and(|parts| parts.boot != self.options.boot_id);
        !self.caught_up && self.collected.seen().is_some_and(of_another)
    }

    /// Whether it is only what was logged before this boot that cannot be read.
    pub(super) async fn this_boot_can_be_read(&self) -> bool {
        (self.alive)();
        call::last(self.options, false).await.is_ok()
    }

    /// Nothing more of what was logged before this boot.
    pub(super) fn give_up(&mut self, reason: String) {
        self.collected.missing(Gap { reason, at_most: None });
        self.collected.forget_position();
        self.caught_up = true;
    }

    /// Sees whether the journal still has the entry at the position, and tells what is missing if not.
    pub(super) async fn position(&mut self) -> Result<Option<Mark>, String> {
        let Some(seen) = self.collected.seen().map(str::to_owned) else {
            return Ok(None);
        };
        match call::at(self.options, &seen).await? {
            At::Entry(mark) => {
                if !cursor::same(&mark.cursor, &seen) && self.is_news(&seen, Some(&mark.cursor)) {
                    self.gone(&mark.cursor, &seen);
                }
                return Ok(Some(mark));
            }
            At::Nothing => {
                let reason = "the journal has nothing left of what was read last, nor anything after it".to_owned();
                if self.is_behind_this_boot() {
                    self.give_up(reason);
                } else if self.is_news(&seen, None) {
                    // What the journal has of this boot was logged before: it was read, and does not come again.
                    self.collected.missing(Gap { reason, at_most: None });
                }
            }
            At::NoCursor => {
                let last = call::last(self.options, false).await?;
                let shown: String = seen.chars().take(40).flat_map(char::escape_default).collect();
                self.give_up(format!(
                    "the saved position in the journal is none ({shown}); it is read from now on"
                ));
                if let Some(mark) = last {
                    self.collected.move_to(mark.cursor);
                }
            }
        }
        Ok(None)
    }

    /// Whether it was not told yet that the position is gone and this is what comes next: each child begins there again.
    fn is_news(&mut self, seen: &str, next: Option<&str>) -> bool {
        let gone = Some((seen.to_owned(), next.map(str::to_owned)));
        let news = self.gone != gone;
        self.gone = gone;
        news
    }

    /// The journal's first entry after the one at `seen` is the one at `next`, and `seen` is gone.
    pub(super) fn gone(&mut self, next: &str, seen: &str) {
        let at_most = Parts::of(next)
            .zip(Parts::of(seen))
            .and_then(|(next, seen)| next.between(&seen));
        if at_most != Some(0) {
            let reason = "the journal does not reach back to what was read last".to_owned();
            self.collected.missing(Gap { reason, at_most });
        }
    }

    /// The ids of the machine that the position is of and that this boot is of: the same, unless somebody set a new one.
    pub(super) async fn machines(&self, mark: Option<Mark>) -> Result<Vec<String>, String> {
        let now = call::last(self.options, false).await?;
        let both = [mark, now].into_iter().flatten().filter_map(|mark| mark.machine);
        let mut ids: Vec<_> = both.collect();
        ids.dedup();
        Ok(ids)
    }
}
