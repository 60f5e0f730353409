//! How long a download is tried and how much data it may cost: pure arithmetic, no clock and no sleeping.
//!
//! Three kinds of time. While bytes arrive at a walking pace or better, nothing is spent. While this host's network is
//! away (no route, no name server, the clock not set), only that allowance is spent. Everything else (silence, refused
//! connections, 5xx, pauses between tries) is trouble. Both allowances are small until the server has answered once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of patience. The defaults are for a device in the field; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A server that has never answered is given up after this time of trouble.
    pub first_answer: Duration,
    /// Resolving the name, TCP and TLS together, in one try.
    pub connect: Duration,
    /// A connection that says nothing for this long is given up.
    pub silence: Duration,
    /// Once the server has answered: this much trouble in all.
    pub trouble: Duration,
    /// Until the server has answered: the network may be away this long in all.
    pub away_at_first: Duration,
    /// Once the server has answered: the network may be away this long in all.
    pub away: Duration,
    /// Bytes that arrive at this pace, in bytes a second, make good for the time that they took.
    pub pace: u64,
    /// The first pause between two tries is at most this.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            first_answer: Duration::from_secs(45),
            connect: Duration::from_secs(20),
            silence: minutes(1),
            trouble: minutes(6 * 60),
            away_at_first: minutes(30),
            away: minutes(7 * 24 * 60),
            pace: 4096,
            first_pause: Duration::from_secs(1),
            longest_pause: minutes(5),
        }
    }
}

impl Patience {
    /// The pause after this many failures in a row (at least one); `random` is uniform in `0.0..1.0`. Between half and
    /// all of `first_pause` doubled with every failure, at most `longest_pause`.
    pub(super) fn pause(&self, failures: u32, random: f64) -> Duration {
        let doubled = 1u32.checked_shl(failures.saturating_sub(1).min(31)).unwrap_or(u32::MAX);
        let longest = self.first_pause.saturating_mul(doubled).min(self.longest_pause);
        longest / 2 + (longest / 2).mul_f64(random.clamp(0.0, 1.0))
    }

    /// What is left before a download with these expenses is given up for trouble.
    pub(super) fn trouble_left(&self, spent: &Spent) -> Duration {
        let limit = if spent.answered {
            self.trouble
        } else {
            self.first_answer
        };
        limit.saturating_sub(spent.trouble())
    }

    /// What is left before it is given up because the network stays away.
    pub(super) fn away_left(&self, spent: &Spent) -> Duration {
        let limit = if spent.answered { self.away } else { self.away_at_first };
        limit.saturating_sub(Duration::from_millis(spent.away_ms))
    }
}

/// What was spent on a download so far, over all runs of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Spent {
    /// Whether the server has ever answered.
    pub(super) answered: bool,
    /// Bytes of the file received, those that had to be thrown away included.
    pub(super) bytes: u64,
    trouble_ms: u64,
    away_ms: u64,
}

impl Spent {
    pub(super) fn trouble(&self) -> Duration {
        Duration::from_millis(self.trouble_ms)
    }

    /// Counts time with a server that does not do what it should; `bytes` arrived in it.
    pub(super) fn add_trouble(&mut self, time: Duration, bytes: u64, patience: &Patience) {
        let made_good = Duration::from_millis(bytes.saturating_mul(1000) / patience.pace.max(1));
        self.trouble_ms = self.trouble_ms.saturating_add(millis(time.saturating_sub(made_good)));
    }

    /// Counts time without a network.
    pub(super) fn add_away(&mut self, time: Duration) {
        self.away_ms = self.away_ms.saturating_add(millis(time));
    }

    /// Whether a try that has to bring `missing` bytes would stay within twice the size.
    pub(super) fn can_afford(&self, missing: u64, size: u64) -> bool {
        self.bytes.saturating_add(missing) <= size.saturating_mul(2)
    }
}

/// Rounded up: what takes less than a millisecond is not free, or it could go on for ever.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The `nth` number of a series, uniform in `0.0..1.0` (SplitMix64), so that a fleet does not come back all at once.
/// Not for secrets.
pub(super) fn jitter(seed: u64, nth: u32) -> f64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(u64::from(nth) + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    // 53 bits fill the mantissa exactly.
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_server_that_has_never_answered_gets_45_seconds_and_one_that_has_6_hours() {
        let patience = Patience::default();
        let mut spent = Spent::default();
        assert_eq!(patience.trouble_left(&spent), 45 * SECOND);
        spent.add_trouble(44 * SECOND, 0, &patience);
        assert_eq!(patience.trouble_left(&spent), SECOND);
        spent.answered = true;
        assert_eq!(patience.trouble_left(&spent), 6 * 3600 * SECOND - 44 * SECOND);
        spent.add_trouble(6 * 3600 * SECOND, 0, &patience);
        assert_eq!(patience.trouble_left(&spent), Duration::ZERO);
    }

    #[test]
    fn a_network_that_is_away_spends_no_trouble_and_has_an_end_too() {
        let patience = Patience::default();
        let mut spent = Spent::default();
        spent.add_away(29 * 60 * SECOND);
        assert_eq!(patience.away_left(&spent), 60 * SECOND);
        assert_eq!(patience.trouble_left(&spent), 45 * SECOND);
        spent.answered = true;
        spent.add_away(7 * 24 * 3600 * SECOND);
        assert_eq!(patience.away_left(&spent), Duration::ZERO);
        assert_eq!(patience.trouble_left(&spent), 6 * 3600 * SECOND);
    }

    #[test]
    fn a_slow_but_steady_download_spends_nothing_and_a_trickle_does() {
        let patience = Patience::default();
        let mut spent = Spent::default();
        for _ in 0..1000 {
            spent.add_trouble(60 * SECOND, 60 * 4096, &patience);
        }
        assert_eq!(spent.trouble(), Duration::ZERO);
        for _ in 0..1000 {
            spent.add_trouble(30 * SECOND, 1, &patience);
        }
        assert_eq!(spent.trouble(), 30_000 * SECOND);
    }

    #[test]
    fn a_try_that_cannot_stay_within_twice_the_size_is_not_begun() {
        let spent = Spent {
            bytes: 120,
            ..Spent::default()
        };
        assert!(spent.can_afford(80, 100));
        assert!(!spent.can_afford(81, 100));
        assert!(spent.can_afford(u64::MAX / 2, u64::MAX));
    }

    proptest! {
        #[test]
        fn pauses_double_within_their_bounds(failures in 1u32..10_000, random in 0.0f64..1.0) {
            let patience = Patience::default();
            let pause = patience.pause(failures, random).as_secs_f64();
            let bound = 2f64.powi((failures - 1).min(31) as i32).min(300.0);
            prop_assert!(pause >= bound / 2.0 - 1e-6 && pause <= bound + 1e-6, "{pause} of {bound}");
        }

        #[test]
        fn jitter_is_a_number_from_nought_to_one_and_differs(seed: u64, nth in 0u32..1000) {
            prop_assert!((0.0..1.0).contains(&jitter(seed, nth)));
            prop_assert!(jitter(seed, nth) != jitter(seed, nth + 1));
        }
    }
}
