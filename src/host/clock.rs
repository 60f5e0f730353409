//! The one door for time that is not a plain interval: the wall clock, the time since boot, the boot id.
//!
//! No other file reads the wall clock. Intervals inside one run of the process use `Instant`; what must survive a
//! restart of the process within one boot uses [`boottime`]; a reboot is told by [`boot_id`] and by nothing else.
//! Facts: `clock_gettime(2)`, `random(4)` (`/proc/sys/kernel/random/boot_id`), `sd_id128_get_boot(3)`.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// No host can honestly show an earlier time: 2026-11-01T00:00:00Z, shortly before this program was written.
/// A gateway without a battery-backed clock starts in 1970 or at its image's build date until NTP answers.
pub(super) const EARLIEST: i64 = 1_793_491_200;

/// Where the kernel shows the boot id, unless the sandbox hides it.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The time since the kernel started, suspend included (`CLOCK_BOOTTIME`).
pub fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

/// The wall clock in seconds since 1970, or `None` while it shows a time that cannot be true ("clock not set").
#[allow(clippy::disallowed_methods)] // the one place that may
pub fn wall() -> Option<i64> {
    plausible(SystemTime::now())
}

/// The minute of the day by the host's time zone, 0 to 1439; `None` while the clock is not set.
#[allow(clippy::disallowed_methods)] // the one place that may
pub fn minute_of_day() -> Option<u16> {
    wall()?;
    let now = jiff::Zoned::now();
    u16::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).ok()
}

fn plausible(now: SystemTime) -> Option<i64> {
    let seconds = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    (seconds >= EARLIEST).then_some(seconds)
}

/// The kernel's boot id as 32 lower-case hex digits.
///
/// `given` is what the unit passes on (`IOTDM_BOOT_ID`, from systemd's `%b`): under `ProcSubset=pid` the kernel's own
/// file is hidden. A value that is no 128-bit id is ignored and the kernel is asked.
///
/// # Errors
/// When neither source has one; without a boot id no reboot can be proven.
pub fn boot_id(given: Option<&str>) -> Result<String, BootIdMissing> {
    boot_id_from(given, Path::new(BOOT_ID_FILE))
}

fn boot_id_from(given: Option<&str>, file: &Path) -> Result<String, BootIdMissing> {
    if let Some(id) = given.and_then(normalise_id) {
        return Ok(id);
    }
    let text = std::fs::read_to_string(file).map_err(|error| BootIdMissing {
        reason: error.to_string(),
    })?;
    normalise_id(&text).ok_or_else(|| BootIdMissing {
        reason: "it holds no 128-bit id".to_owned(),
    })
}

fn normalise_id(text: &str) -> Option<String> {
    let id: String = text
        .trim()
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let zero = id.bytes().all(|b| b == b'0');
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !zero).then_some(id)
}

/// The kernel's boot id is nowhere to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the boot id is unknown: IOTDM_BOOT_ID is not set (the unit sets it from %b) and {BOOT_ID_FILE} cannot be read: {reason}"
)]
pub struct BootIdMissing {
    reason: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_not_believed() {
        assert_eq!(plausible(UNIX_EPOCH), None);
        assert_eq!(plausible(UNIX_EPOCH - Duration::from_secs(5)), None);
        assert_eq!(plausible(UNIX_EPOCH + Duration::from_secs(EARLIEST as u64 - 1)), None);
        assert_eq!(
            plausible(UNIX_EPOCH + Duration::from_secs(EARLIEST as u64)),
            Some(EARLIEST)
        );
    }

    #[test]
    fn the_boot_id_of_the_unit_wins_and_both_spellings_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("boot_id");
        std::fs::write(&file, "0F0E0D0C-0B0A-0908-0706-050403020100\n").unwrap();
        let kernel = "0f0e0d0c0b0a09080706050403020100";
        assert_eq!(boot_id_from(None, &file).unwrap(), kernel);
        assert_eq!(
            boot_id_from(Some("11111111222233334444555555555555"), &file).unwrap(),
            "11111111222233334444555555555555"
        );
        for junk in [
            "",
            "%b",
            "1234",
            "00000000000000000000000000000000",
            "zz0e0d0c0b0a09080706050403020100",
        ] {
            assert_eq!(boot_id_from(Some(junk), &file).unwrap(), kernel, "given {junk:?}");
        }
    }

    #[test]
    fn a_host_without_a_boot_id_says_what_to_set() {
        let error = boot_id_from(None, Path::new("/nonexistent/boot_id")).unwrap_err();
        assert!(error.to_string().contains("IOTDM_BOOT_ID"), "{error}");
    }

    #[test]
    fn the_time_since_boot_does_not_go_back() {
        let first = boottime();
        assert!(first > Duration::ZERO);
        assert!(boottime() >= first);
    }
}
