//! How long to wait before the next connection: pure arithmetic, no clock and no sleeping.
//!
//! Two paces. `Ordinary` is exponential backoff with full jitter, for a network or a broker that is away. `Slow` is for
//! what only a person can repair (a refused token, a second agent with the same client id): never under five minutes,
//! growing to an hour, because retrying those hammers the service (conformance rows CON-09, CON-12).

use std::time::Duration;

/// How soon a failed connection may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The fault may go away by itself.
    Ordinary,
    /// Somebody has to repair something; a reload tries at once.
    Slow,
}

/// The times of both paces. The defaults are those of a device in the field; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first ordinary wait.
    pub first: Duration,
    /// Upper bound of every ordinary wait.
    pub max: Duration,
    /// Lower bound of the first slow wait.
    pub slow_first: Duration,
    /// Upper bound of every slow wait.
    pub slow_max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            max: Duration::from_secs(5 * 60),
            slow_first: Duration::from_secs(5 * 60),
            slow_max: Duration::from_secs(60 * 60),
        }
    }
}

impl Backoff {
    /// The wait before the next attempt. `failures` counts the failures of this pace before this one (0 for the first);
    /// `random` is uniform in `0.0..1.0`.
    ///
    /// Ordinary: uniform between nothing and `first * 2^failures`, at most `max`. Slow: uniform over the upper half of
    /// `2 * slow_first * 2^failures`, at most `slow_max`, so that it is never under `slow_first` (as long as
    /// `slow_max >= 2 * slow_first`).
    pub fn delay(&self, pace: Pace, failures: u32, random: f64) -> Duration {
        let random = random.clamp(0.0, 1.0);
        match pace {
            Pace::Ordinary => doubled(self.first, failures).min(self.max).mul_f64(random),
            Pace::Slow => {
                let half = doubled(self.slow_first, failures).min(self.slow_max / 2);
                half + half.mul_f64(random)
            }
        }
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(times.min(31)).unwrap_or(u32::MAX))
}

/// A small generator for jitter (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform in `0.0..1.0`.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // 53 bits fill the mantissa exactly.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_retry_comes_within_a_second() {
        assert!(Backoff::default().delay(Pace::Ordinary, 0, 0.999) <= Duration::from_secs(1));
    }

    #[test]
    fn con_09_a_refused_credential_is_not_tried_again_within_five_minutes() {
        assert_eq!(Backoff::default().delay(Pace::Slow, 0, 0.0), 5 * MINUTE);
        assert_eq!(Backoff::default().delay(Pace::Slow, 1, 0.0), 10 * MINUTE);
        assert_eq!(Backoff::default().delay(Pace::Slow, 50, 0.0), 30 * MINUTE);
        assert_eq!(Backoff::default().delay(Pace::Slow, 50, 1.0), 60 * MINUTE);
    }

    proptest! {
        #[test]
        fn con_10_an_ordinary_wait_stays_under_its_exponential_bound(failures in 0u32..10_000, random in 0.0f64..1.0) {
            let backoff = Backoff::default();
            let bound = backoff.first.as_secs_f64() * 2f64.powi(failures.min(30) as i32);
            let delay = backoff.delay(Pace::Ordinary, failures, random).as_secs_f64();
            prop_assert!(delay <= bound.min(backoff.max.as_secs_f64()) + 1e-6);
        }

        #[test]
        fn con_10_the_jitter_is_full(failures in 0u32..64) {
            let backoff = Backoff::default();
            prop_assert_eq!(backoff.delay(Pace::Ordinary, failures, 0.0), Duration::ZERO);
            let most = backoff.delay(Pace::Ordinary, failures, 1.0);
            prop_assert_eq!(most, backoff.first.saturating_mul(1 << failures.min(30)).min(backoff.max));
        }

        #[test]
        fn con_09_a_slow_wait_stays_between_its_bounds(failures in 0u32..10_000, random in 0.0f64..1.0) {
            let backoff = Backoff::default();
            let delay = backoff.delay(Pace::Slow, failures, random);
            prop_assert!(delay >= backoff.slow_first && delay <= backoff.slow_max, "{delay:?}");
        }

        #[test]
        fn waits_never_shrink_when_failures_grow(failures in 0u32..64, random in 0.0f64..1.0) {
            let backoff = Backoff::default();
            for pace in [Pace::Ordinary, Pace::Slow] {
                prop_assert!(backoff.delay(pace, failures, random) <= backoff.delay(pace, failures + 1, random));
            }
        }

        #[test]
        fn jitter_is_a_number_from_nought_to_one(seed: u64) {
            let mut jitter = Jitter::new(seed);
            for _ in 0..100 {
                let number = jitter.next();
                prop_assert!((0.0..1.0).contains(&number));
            }
        }
    }

    #[test]
    fn two_seeds_give_two_series() {
        let (mut one, mut two) = (Jitter::new(1), Jitter::new(2));
        assert_ne!(
            (0..4).map(|_| one.next().to_bits()).collect::<Vec<_>>(),
            (0..4).map(|_| two.next().to_bits()).collect::<Vec<_>>()
        );
    }
}
