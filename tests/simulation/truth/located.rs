//! Where the device is, as it tells the service: one location at a time, as often as it may be, and never back.

use iotdm::protocol::{Report, ToService};

use super::words::place;
use crate::broker::Message;
use crate::counts::Thing;
use crate::world::World;

/// How long the answer to a location may take, in milliseconds.
const ANSWER_LIMIT: u64 = 60_000;

/// A location that the agent has told.
#[derive(Debug)]
struct Told {
    publish: u64,
    req_id: String,
    at: u64,
    /// When its answer counts as lost, unless the connection is.
    until: u64,
    run: u64,
    measured: bool,
    answered: bool,
    /// Something has happened since that is a reason to tell it again at once.
    excused: bool,
    /// It was itself told for such a reason: whoever measures does not count it.
    extra: bool,
}

/// The record of it.
#[derive(Debug, Default)]
pub struct Located {
    told: Option<Told>,
    /// The agent has forgotten what it has told.
    forgotten: bool,
    /// What was told last was measured while the disk refused to forget the one that the service had written: a crash
    /// brings that one back, until there is a fix again.
    pub unsaved: bool,
}

impl Located {
    /// The next location may come at once.
    pub fn excuse(&mut self) {
        if let Some(told) = &mut self.told {
            told.excused = true;
        }
    }

    /// The device is taken out of management: the agent forgets what it has told.
    pub fn forget(&mut self) {
        self.told = None;
        self.forgotten = true;
    }

    /// Another run of the agent has told nothing.
    pub fn died(&mut self) {
        self.forgotten = false;
    }

    /// The service has answered a request of the agent's.
    pub fn answered(&mut self, req_id: &str) {
        if let Some(told) = &mut self.told
            && told.req_id == req_id
        {
            told.answered = true;
        }
    }
}

impl World {
    /// Whether the device is where the service has said.
    pub fn place_is_the_services(&self) -> bool {
        self.place_source() == "service"
    }

    /// Who says where it is.
    pub fn place_source(&self) -> &'static str {
        let process = self.device.process.as_ref();
        let status = process.and_then(|process| process.agent.status().location);
        status.map_or("none", |status| status.source)
    }

    /// Whether the device is where it was measured to be, and there is a fix at this moment.
    pub fn is_measured(&self) -> bool {
        let now = self.device.now(self.now).boottime;
        let process = self.device.process.as_ref();
        let here = process.map(|process| process.agent.whereabouts(now));
        here.is_some_and(|here| here.source == "measured" && here.fix_is_alive == Some(true))
    }

    /// The agent's session has given a publish back.
    pub fn location_not_published(&mut self, id: u64) {
        if let Some(told) = &mut self.truth.located.told
            && told.publish == id
        {
            // What is told in its place is no report of the receiver's.
            told.excused = true;
            told.answered = true;
        }
    }

    /// The answer may take its time anew.
    pub fn location_subscribed(&mut self) {
        let until = self.now + ANSWER_LIMIT;
        if let Some(told) = &mut self.truth.located.told {
            told.until = until;
        }
    }

    /// The connection is gone: what was not answered in time before is not waited for.
    pub fn location_disconnected(&mut self) {
        let now = self.now;
        if let Some(told) = &mut self.truth.located.told {
            told.answered |= now >= told.until;
        }
    }

    /// The agent hands a location to its session.
    pub fn check_location(&mut self, publish: u64, message: &Message) {
        if !matches!(ToService::parse(&message.topic), Ok((_, ToService::Location))) {
            return;
        }
        let (report, req_id) = Report::parse(ToService::Location, &message.payload).expect("the agent's own location");
        let Report::Location(location) = report else {
            panic!("a location is a location")
        };
        let source = self.place_source();
        assert_ne!(source, "service", "UPD-04: what the service has written is told back");
        let said = place(&location.to_object());
        let object = self.present("location");
        assert_eq!(Some(said), object.as_object().map(place), "told, and not where it is");
        let (now, run) = (self.now, self.agent_run());
        let measured = source == "measured";
        self.counts.add(match measured {
            true => Thing::LocatedMeasured,
            false => Thing::LocatedFixed,
        });
        self.truth.located.unsaved = measured && self.device.disk.durable.written.location.is_some();
        let mut extra = std::mem::take(&mut self.truth.located.forgotten);
        if let Some(told) = self.truth.located.told.as_ref().filter(|told| told.run == run) {
            assert!(told.answered || now >= told.until, "two locations are not answered");
            let tracking = self.device.settings.tracking;
            let between = tracking.map_or(0, |tracking| tracking.min_interval.as_millis() as u64);
            // So is what sets the service right, each time that it is told again.
            extra |= told.excused || told.extra && !told.answered;
            let counts = measured && told.measured && !told.excused && !told.extra;
            assert!(
                !counts || now - told.at >= between,
                "locations follow each other too fast"
            );
        }
        self.truth.located.told = Some(Told {
            publish,
            req_id: req_id.expect("it wants an answer").as_str().to_owned(),
            at: now,
            until: now + ANSWER_LIMIT,
            run,
            measured,
            answered: false,
            excused: false,
            extra,
        });
    }
}
