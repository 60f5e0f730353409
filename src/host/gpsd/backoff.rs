//! How long to wait before the next connection: pure arithmetic, no clock and no sleeping.

use std::time::Duration;

/// The pauses between connections. The defaults are for a device in the field; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause is at most this.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            longest: Duration::from_secs(5 * 60),
        }
    }
}

impl Backoff {
    /// The pause after this many failures in a row before this one; `random` is uniform in `0.0..1.0`. Between half and
    /// all of `first` doubled with every failure, at most `longest`.
    pub(super) fn pause(&self, failures: u32, random: f64) -> Duration {
        let doubled = 1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(doubled).min(self.longest);
        longest / 2 + (longest / 2).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// The next number of a series, uniform in `0.0..1.0` (SplitMix64). Not for secrets.
pub(super) fn jitter(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    // 53 bits fill the mantissa exactly.
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gpsd_that_restarts_is_back_in_seconds_and_one_that_is_away_is_asked_every_few_minutes() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(0, 0.0), Duration::from_secs(1));
        assert_eq!(backoff.pause(0, 1.0), Duration::from_secs(2));
        assert_eq!(backoff.pause(3, 1.0), Duration::from_secs(16));
        assert_eq!(backoff.pause(1000, 0.0), Duration::from_secs(150));
        assert_eq!(backoff.pause(1000, 1.0), Duration::from_secs(300));
    }

    proptest! {
        #[test]
        fn a_pause_is_never_nothing_never_over_the_limit_and_never_shrinks(failures in 0u32..100, seed: u64) {
            let (backoff, mut state) = (Backoff::default(), seed);
            let random = jitter(&mut state);
            prop_assert!((0.0..1.0).contains(&random));
            let pause = backoff.pause(failures, random);
            prop_assert!(pause >= backoff.first / 2 && pause <= backoff.longest, "{pause:?}");
            prop_assert!(pause <= backoff.pause(failures + 1, random));
            prop_assert_ne!(random, jitter(&mut state));
        }
    }
}
