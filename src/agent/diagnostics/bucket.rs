//! How many logs may be made of the journal: a bucket of tokens, for all units and for each.
//!
//! A token comes back one minute after it was taken, so that no minute ever has more logs than the bucket has tokens; a
//! bucket that fills up evenly would have twice as many in the first one. One unit gets half of them, so that one that
//! storms leaves room for the others. While the agent does not run no token comes back.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use super::hash::Hash;

/// After this a token is back.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The tokens that were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// In the order in which they come back: when, and the unit that has it.
    taken: VecDeque<(Duration, u64)>,
}

/// A token that was taken, on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// Milliseconds until it is back.
    pub left_ms: u64,
    /// Which unit has it.
    pub unit: u64,
}

fn share(limit: u32) -> usize {
    (limit as usize / 2).max(1)
}

impl Bucket {
    /// Takes a token, if there is one for this unit.
    pub(super) fn take(&mut self, now: Duration, unit: &str, limit: u32) -> bool {
        while self.taken.front().is_some_and(|(back, _)| *back <= now) {
            self.taken.pop_front();
        }
        // In a storm there is none: nothing else is looked at.
        if self.taken.len() >= limit as usize {
            return false;
        }
        let unit = Hash::of(unit);
        if self.taken.iter().filter(|(_, of)| *of == unit).count() >= share(limit) {
            return false;
        }
        self.taken.push_back((now.saturating_add(MINUTE), unit));
        true
    }

    /// When there will be a token for this unit, if nobody takes it before; zero when there is one now.
    pub(super) fn next(&self, unit: &str, limit: u32) -> Duration {
        let unit = Hash::of(unit);
        let nth = |at: Option<usize>, times: &mut dyn Iterator<Item = Duration>| {
            at.and_then(|at| times.nth(at)).unwrap_or(Duration::ZERO)
        };
        let all = self.taken.len().checked_sub(limit as usize);
        let ours = self.taken.iter().filter(|(_, of)| *of == unit);
        let over = ours.clone().count().checked_sub(share(limit));
        let all = nth(all, &mut self.taken.iter().map(|(back, _)| *back));
        all.max(nth(over, &mut ours.map(|(back, _)| *back)))
    }

    /// How many are taken.
    pub(super) fn taken(&self, now: Duration) -> usize {
        self.taken.iter().filter(|(back, _)| *back > now).count()
    }

    pub(super) fn to_record(&self, now: Duration) -> Vec<Taken> {
        let taken = self.taken.iter().filter(|(back, _)| *back > now);
        let record = |(back, unit): &(Duration, u64)| Taken {
            // rounded up: a restart must not bring it back before its minute is over
            left_ms: super::millis(back.saturating_sub(now) + Duration::from_nanos(999_999)),
            unit: *unit,
        };
        taken.map(record).collect()
    }

    pub(super) fn restore(record: &[Taken], now: Duration) -> Self {
        let back = |left_ms: u64| now.saturating_add(Duration::from_millis(left_ms).min(MINUTE));
        let mut taken: Vec<_> = record.iter().map(|token| (back(token.left_ms), token.unit)).collect();
        taken.sort_unstable();
        Bucket { taken: taken.into() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_unit_that_storms_leaves_half_of_the_tokens_to_the_others() {
        let mut bucket = Bucket::default();
        let mut take = |unit: &str, times: usize| (0..times).filter(|_| bucket.take(SECOND, unit, 30)).count();
        assert_eq!(take("a", 100), 15);
        assert_eq!(take("b", 10), 10);
        assert_eq!(take("c", 100), 5);
        assert_eq!(bucket.next("a", 30), SECOND + MINUTE);
        assert_eq!(bucket.taken(SECOND), 30);
        assert!(!bucket.take(MINUTE, "d", 30));
        assert!(bucket.take(SECOND + MINUTE, "d", 30));
    }

    #[test]
    fn with_one_token_a_minute_everybody_may_have_it() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(SECOND, "a", 1));
        assert!(!bucket.take(SECOND, "b", 1));
        assert_eq!(bucket.next("b", 1), SECOND + MINUTE);
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_its_tokens_for_all_and_for_each_also_over_restarts(
            limit in 1u32..40,
            steps in prop::collection::vec((0u64..9000, 0u8..4, prop::bool::weighted(0.1)), 1..300),
        ) {
            let (mut bucket, mut now) = (Bucket::default(), Duration::ZERO);
            let mut left: Vec<(Duration, u8)> = Vec::new();
            for (wait, unit, restart) in steps {
                now += Duration::from_millis(wait);
                let name = unit.to_string();
                if restart {
                    bucket = Bucket::restore(&bucket.to_record(now), now);
                }
                let next = bucket.next(&name, limit);
                let taken = bucket.take(now, &name, limit);
                prop_assert_eq!(taken, next <= now, "next says when there is one");
                if taken {
                    left.push((now, unit));
                }
                let minute = left.iter().filter(|(at, _)| *at + MINUTE > now);
                prop_assert!(minute.clone().count() <= limit as usize);
                prop_assert!(minute.filter(|(_, of)| *of == unit).count() <= share(limit));
            }
        }
    }
}
