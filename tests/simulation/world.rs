//! Everything that there is in one run, and the order in which things happen. All of it comes from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use iotdm::agent::{OpId, RebootOutcome};

use crate::agent::Device;
use crate::broker::{Broker, Packet, Who};
use crate::client::{Client, Told};
use crate::counts::Counts;
use crate::faults::{Fault, Plan};
use crate::random::Random;
use crate::service::Operator;
use crate::truth::Truth;

/// Says what happens, when a seed is replayed.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace {
            let (s, ms) = ($world.now / 1000, $world.now % 1000);
            println!("{s:>7}.{ms:03}  {}", format!($($text)*));
        }
    };
}
pub(crate) use note;

/// Something that is going to happen.
#[derive(Debug)]
pub enum Happening {
    Arrives {
        who: Who,
        number: u64,
        to_broker: bool,
        packet: Packet,
    },
    BrokerNotices {
        who: Who,
        number: u64,
    },
    ClientNotices {
        who: Who,
        number: u64,
    },
    Connects {
        who: Who,
        run: u64,
    },
    BrokerIsUp,
    Told {
        who: Who,
        run: u64,
        told: Told,
    },
    AgentStarts {
        boot: u32,
    },
    AgentDeadline {
        number: u64,
    },
    /// The agent's task has asked logind.
    LogindIsAsked {
        run: u64,
        op: OpId,
    },
    LogindAnswers {
        run: u64,
        op: OpId,
        outcome: RebootOutcome,
    },
    LogindCallsOff {
        boot: u32,
    },
    /// logind waits no longer for delay locks.
    LogindGoes {
        boot: u32,
    },
    AgentIsStopped {
        boot: u32,
    },
    HostIsDown {
        boot: u32,
    },
    HostIsUp,
    ServiceStarts,
    ServiceDeadline {
        number: u64,
    },
    Fault(Fault),
    FaultsEnd,
}

/// One run.
pub struct World {
    /// Milliseconds since the run began.
    pub now: u64,
    pub random: Random,
    pub plan: Plan,
    /// No more faults: everything has to settle.
    pub quiet: bool,
    /// The network lets nobody connect.
    pub parted: bool,
    pub broker: Broker,
    pub clients: [Client; 2],
    pub device: Device,
    pub operator: Operator,
    pub truth: Truth,
    pub counts: Counts,
    /// Print what happens.
    pub trace: bool,
    queue: BinaryHeap<Reverse<Entry>>,
    pub entries: u64,
    pub messages: u64,
}

struct Entry {
    at: u64,
    /// What was planned first happens first.
    order: u64,
    happening: Happening,
}

/// How long everything has to settle after the last fault.
const SETTLE: u64 = 100 * 60 * 1000;

/// How long before the end nothing new begins.
const LAST_WORDS: u64 = 60 * 1000;

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        World {
            now: 0,
            device: Device::new(&mut random),
            operator: Operator::new(),
            random,
            plan,
            quiet: false,
            parted: false,
            broker: Broker::default(),
            clients: Default::default(),
            truth: Truth::default(),
            counts: Counts::new(),
            trace,
            queue: BinaryHeap::new(),
            entries: 0,
            messages: 0,
        }
    }

    /// Plans something.
    pub fn at(&mut self, at: u64, happening: Happening) {
        self.entries += 1;
        self.queue.push(Reverse(Entry {
            at: at.max(self.now),
            order: self.entries,
            happening,
        }));
    }

    /// Lives through the whole run. Panics when a promise is broken.
    pub fn run(&mut self) {
        self.service_starts();
        self.agent_starts();
        self.plan_faults();
        let mut end = u64::MAX;
        while let Some(Reverse(entry)) = self.queue.pop() {
            if entry.at > end {
                break;
            }
            self.now = entry.at;
            if let Happening::FaultsEnd = entry.happening {
                end = self.now + SETTLE;
            }
            // A renewal that begins now would not be over at the end.
            let too_late =
                end - self.now.min(end) < LAST_WORDS && matches!(entry.happening, Happening::AgentDeadline { .. });
            if !too_late {
                self.happens(entry.happening);
            }
        }
        self.check_settled();
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives {
                who,
                number,
                to_broker,
                packet,
            } => self.arrives(who, number, to_broker, packet),
            Happening::BrokerNotices { who, number } => self.broker_notices(who, number),
            Happening::ClientNotices { who, number } => self.client_notices(who, number),
            Happening::Connects { who, run } => self.client_connects(who, run),
            Happening::Told { who, run, told } => self.told(who, run, told),
            Happening::BrokerIsUp => self.broker.down = false,
            Happening::AgentStarts { boot } if boot == self.device.boot && self.device.up => self.agent_starts(),
            Happening::AgentStarts { .. } => {}
            Happening::AgentDeadline { number } => self.agent_deadline(number),
            Happening::LogindIsAsked { run, op } => self.logind_is_asked(run, op),
            Happening::LogindAnswers { run, op, outcome } => self.logind_answers(run, op, outcome),
            Happening::LogindCallsOff { boot } => self.logind_calls_off(boot),
            Happening::LogindGoes { boot } => self.logind_goes(boot),
            Happening::AgentIsStopped { boot } => self.agent_is_stopped(boot),
            Happening::HostIsDown { boot } => self.host_is_down(boot),
            Happening::HostIsUp => self.host_is_up(),
            Happening::ServiceStarts => self.service_starts(),
            Happening::ServiceDeadline { number } => self.service_deadline(number),
            Happening::Fault(fault) => self.fault(fault),
            Happening::FaultsEnd => self.faults_end(),
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
