//! What the service is told about where this host is: when, how exactly, and why not more (protocol: "update location").
//!
//! The first fix is told. Then one that has moved further than the configured distance and further than the fixes' own
//! errors, so that a receiver that stands still and jitters tells nothing; not more often than `min_interval`. While
//! there is a fix, the service hears of it at least every `max_interval`. A location is not a message that must arrive:
//! none is queued, and what was not answered is followed by the newest. It knows no source: fixes come in from outside.
//!
//! No I/O, no clock, no randomness. `distance` measures, `why` has the words.

pub mod distance;
#[cfg(test)]
mod tests;
mod why;

use std::time::Duration;

pub use why::Why;

use crate::protocol::model::Location as Wire;
use crate::protocol::timestamp;
use distance::{metres, rounded, rounding_error};

/// What a look may take, from the connection to the source to the fix.
const LOOK: Duration = Duration::from_secs(30);
/// After a report that came to nothing the service gets this much time, if `min_interval` is shorter.
const RETRY: Duration = Duration::from_secs(60);
/// In metres a second: what travels faster carries no gateway (an airliner has 250).
const FASTEST: f64 = 350.0;
/// In metres: the errors of fixes that tell none.
const SLACK: f64 = 1000.0;

/// When the service is told, and how exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// From one report to the next, at least.
    pub min_interval: Duration,
    /// From one report to the next, at most, while there is a fix.
    pub max_interval: Duration,
    /// Metres: a host that has not moved further is not reported.
    pub min_distance: f64,
    /// Of the coordinates, 0 to 9. Five are a metre, three a village.
    pub decimals: u8,
    /// How often the source looks for a fix.
    pub interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Settings {
            min_interval: minute,
            max_interval: 24 * 60 * minute,
            min_distance: 50.0,
            decimals: 5,
            interval: minute,
        }
    }
}

impl Settings {
    /// How old a fix may be. There is a new one every `interval`; one that fails to come is no loss of the fix, two in
    /// a row are.
    pub fn lifetime(&self) -> Duration {
        self.interval.saturating_mul(2).saturating_add(LOOK)
    }
}

/// Where the host is, as its source has it (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Decimal degrees, -90 to 90.
    pub latitude: f64,
    /// Decimal degrees, -180 to 180.
    pub longitude: f64,
    /// Metres; `None` when unknown.
    pub elevation: Option<f64>,
    /// The horizontal error in metres; `None` when unknown, never 0 for that.
    pub accuracy: Option<f64>,
    /// When it was measured, in seconds since 1970, if that is known.
    pub measured: Option<i64>,
}

impl Fix {
    fn place(&self) -> (f64, f64) {
        (self.latitude, self.longitude)
    }

    fn error(&self) -> f64 {
        self.accuracy.unwrap_or(0.0)
    }

    fn is_possible(&self) -> bool {
        let numbers = [self.elevation, self.accuracy];
        self.latitude.abs() <= 90.0
            && self.longitude.abs() <= 180.0
            && numbers.iter().flatten().all(|number| number.is_finite())
            && self.error() >= 0.0
    }

    /// As the service is told: the coordinates rounded, the accuracy with the error that this makes.
    pub(super) fn to_wire(self, decimals: u8) -> Wire {
        let tenths_up = |metres: f64| (metres * 10.0).ceil() / 10.0;
        Wire {
            latitude: rounded(self.latitude, decimals),
            longitude: rounded(self.longitude, decimals),
            elevation: self.elevation.map(|metres| rounded(metres, 1)),
            accuracy: self.accuracy.map(|metres| tenths_up(metres + rounding_error(decimals))),
            measured_date_time: self.measured.and_then(timestamp::format),
            extra: serde_json::Map::new(),
        }
    }
}

/// What the service said to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Taken,
    /// It does not want it, and would not want the same again: 4xx, but 409.
    Refused,
    /// It could not take it, or nobody knows: 409, 5xx, no answer, the connection broke.
    Lost,
}

/// A fix, and the time since boot at which it came.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    fix: Fix,
    at: Duration,
}

impl Held {
    /// Whether nothing travels so fast; the errors of both are granted to it. Says how far it is.
    fn leap_to(&self, to: &Held) -> Option<f64> {
        let distance = metres(self.fix.place(), to.fix.place());
        let seconds = to.at.saturating_sub(self.at).as_secs_f64();
        let possible = FASTEST * seconds + self.fix.error() + to.fix.error() + SLACK;
        (distance > possible).then_some(distance)
    }
}

/// What the service was told.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    fix: Fix,
    wire: Wire,
    at: Duration,
}

/// Nothing is told now: why, and when that changes without another fix.
struct Wait {
    why: Why,
    until: Option<Duration>,
}

/// What is known about where the host is, and what the service knows of it. Lost when the process ends: the first fix
/// after a start is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Location {
    /// The newest fix that is believed.
    held: Option<Held>,
    /// Since when there is none any more.
    lost: Option<Duration>,
    /// A newer one that is too far away to be believed at once.
    leapt: Option<Held>,
    /// When the last report went out, and whether it came to nothing.
    sent: Option<(Duration, bool)>,
    in_flight: Option<Told>,
    told: Option<Told>,
}

/// What `iotdm-agent location` shows.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The newest fix that is believed, exact, and how old it is.
    pub fix: Option<(Fix, Duration)>,
    /// What the service took last, and how long ago it was sent.
    pub told: Option<(Wire, Duration)>,
    /// Why nothing more is told; `None` when the fix will be told as soon as the service can be.
    pub why: Option<Why>,
}

impl Location {
    /// A fix. One that is out of range is ignored.
    pub fn fix(&mut self, now: Duration, fix: Fix) {
        if !fix.is_possible() {
            return;
        }
        let new = Held { fix, at: now };
        let leaps = |from: Option<Held>| from.is_some_and(|from| from.leap_to(&new).is_some());
        self.lost = None;
        if leaps(self.held) && (self.leapt.is_none() || leaps(self.leapt)) {
            self.leapt = Some(new);
        } else {
            self.leapt = None;
            self.held = Some(new);
        }
    }

    /// The source has no fix any more.
    pub fn lost(&mut self, now: Duration) {
        self.leapt = None;
        if self.lost.is_none() && self.held.is_some() {
            self.lost = Some(now);
        }
    }

    /// What is to be told now, if anything; from then on it is in flight. To be asked after every event, but only while
    /// the service can be told.
    pub fn due(&mut self, settings: &Settings, now: Duration) -> Option<Wire> {
        let held = self.ready(settings, now).ok()?;
        let wire = held.fix.to_wire(settings.decimals);
        self.sent = Some((now, false));
        self.in_flight = Some(Told {
            fix: held.fix,
            wire: wire.clone(),
            at: now,
        });
        Some(wire)
    }

    /// What became of the report in flight.
    pub fn answered(&mut self, answer: Answer) {
        let Some(told) = self.in_flight.take() else { return };
        match answer {
            Answer::Taken | Answer::Refused => self.told = Some(told),
            Answer::Lost => self.sent = self.sent.map(|(at, _)| (at, true)),
        }
    }

    /// Whether there is a fix now: it was not lost, and its lifetime is not over.
    pub fn is_alive(&self, settings: &Settings, now: Duration) -> bool {
        let fresh = |held: Held| now.saturating_sub(held.at) <= settings.lifetime();
        self.lost.is_none() && self.held.is_some_and(fresh)
    }

    /// The newest fix that is believed.
    pub fn newest(&self) -> Option<Fix> {
        self.held.map(|held| held.fix)
    }

    /// Whether a report waits for its answer.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The service knows nothing any more: the next fix is the first one again.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// When [`Location::due`] may have something without another event; not before `now`.
    pub fn deadline(&self, settings: &Settings, now: Duration) -> Option<Duration> {
        match self.ready(settings, now) {
            Ok(_) => Some(now),
            Err(wait) => wait.until,
        }
    }

    /// For the local command.
    pub fn view(&self, settings: &Settings, now: Duration) -> View {
        View {
            fix: self.held.map(|held| (held.fix, now.saturating_sub(held.at))),
            told: (self.told.as_ref()).map(|told| (told.wire.clone(), now.saturating_sub(told.at))),
            why: self.ready(settings, now).err().map(|wait| wait.why),
        }
    }

    /// The fix that is to be told now.
    fn ready(&self, settings: &Settings, now: Duration) -> Result<Held, Wait> {
        let never = |why| Err(Wait { why, until: None });
        let Some(held) = self.held else {
            return never(Why::NoFixYet);
        };
        if let Some(lost) = self.lost {
            let ago = now.saturating_sub(lost);
            return never(Why::Lost { ago });
        }
        if let Some(metres) = self.leapt.and_then(|leapt| held.leap_to(&leapt)) {
            return never(Why::Leap { metres });
        }
        let (age, limit) = (now.saturating_sub(held.at), settings.lifetime());
        if age > limit {
            return never(Why::TooOld { age, limit });
        }
        if self.in_flight.is_some() {
            return never(Why::InFlight);
        }
        // What comes later than the fix lives comes only with another one.
        let alive = |until: Duration| (until <= held.at.saturating_add(limit)).then_some(until);
        let gate = self.gate(settings);
        if let Some(told) = &self.told
            && let Some(why) = unmoved(told, &held.fix, settings)
        {
            let refresh = told.at.saturating_add(settings.max_interval);
            if now < refresh {
                let until = alive(refresh.max(gate));
                return Err(Wait { why, until });
            }
        }
        if now < gate {
            let why = Why::TooSoon { left: gate - now };
            let until = alive(gate);
            return Err(Wait { why, until });
        }
        Ok(held)
    }

    /// Before this nothing is told.
    fn gate(&self, settings: &Settings) -> Duration {
        let Some((sent, to_nothing)) = self.sent else {
            return Duration::ZERO;
        };
        let pause = match to_nothing {
            true => settings.min_interval.max(RETRY),
            false => settings.min_interval,
        };
        sent.saturating_add(pause)
    }
}

/// Why a fix tells the service nothing new, if it does not.
///
/// The two errors add up: a receiver that stands still may be off by its accuracy to the one side and then to the other.
/// A fix that was told when it was poor is corrected as soon as there is a better one, so the better error counts twice.
fn unmoved(told: &Told, fix: &Fix, settings: &Settings) -> Option<Why> {
    let metres = metres(told.fix.place(), fix.place());
    let errors = fix.error() + fix.error().min(told.fix.error());
    let needed = settings.min_distance.max(errors);
    let wire = fix.to_wire(settings.decimals);
    if metres <= needed {
        Some(Why::Near { metres, needed })
    } else if (wire.latitude, wire.longitude) == (told.wire.latitude, told.wire.longitude) {
        Some(Why::SameCell)
    } else {
        None
    }
}
