//! Everything that there is in one run, and the order in which things happen. All of it comes from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use iotdm::agent::effect::{Mark, Purpose};
use iotdm::agent::{InstallEnd, OpId, RebootOutcome, ResetOutcome, Survey, Verdict};

use crate::broker::{Broker, Packet, Who};
use crate::client::{Client, Told};
use crate::counts::Counts;
use crate::device::Device;
use crate::faults::{Fault, Plan};
use crate::model::Doing;
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
    HostIsSurveyed {
        run: u64,
        op: OpId,
        purpose: Purpose,
    },
    Surveyed {
        run: u64,
        op: OpId,
        found: Box<Result<Survey, String>>,
    },
    Fetched {
        run: u64,
        op: OpId,
        uri: String,
        kind: u64,
    },
    RaucIsAsked {
        run: u64,
        op: OpId,
        uri: String,
        transaction: String,
    },
    SlotIsWritten {
        number: u64,
    },
    SlotIsActivated {
        number: u64,
    },
    RaucDies {
        number: u64,
        gently: bool,
    },
    InstallEnds {
        run: u64,
        op: OpId,
        end: InstallEnd,
    },
    MarkIsMade {
        boot: u32,
        run: u64,
        op: OpId,
        marks: Vec<(Mark, String)>,
        index: usize,
    },
    Marked {
        run: u64,
        op: OpId,
        result: Result<(), String>,
    },
    ResetIsSurveyed {
        run: u64,
        op: OpId,
    },
    /// The agent's task has asked systemd.
    SystemdIsAsked {
        run: u64,
        op: OpId,
    },
    SystemdAnswers {
        run: u64,
        op: OpId,
        outcome: ResetOutcome,
    },
    WishIsLeft {
        boot: u32,
        by_agent: bool,
    },
    ResetGoes {
        boot: u32,
    },
    WipeIsCut {
        boot: u32,
    },
    WipeEnds {
        boot: u32,
    },
    ReportIsRead {
        run: u64,
        op: OpId,
    },
    HealthChanges {
        boot: u32,
        verdict: Verdict,
    },
    HealthIsTold {
        run: u64,
        op: OpId,
    },
    FallBackActs {
        boot: u32,
    },
    ImageCrashes {
        boot: u32,
    },
    IntegratorMarks {
        boot: u32,
    },
    Journal(crate::journal::Doing),
    Model(Doing),
    ReceiverLooks,
    WindowTurns,
    TechnicianLooks,
    OperatorPushes,
    LastPush {
        image: Option<usize>,
    },
    PlainReboot {
        slot: Option<usize>,
        times: u32,
    },
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
    /// Since when.
    pub quiet_since: u64,
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
const SETTLE: u64 = 120 * 60 * 1000;

/// How long before the end nothing new begins.
const LAST_WORDS: u64 = 60 * 1000;

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        World {
            now: 0,
            device: Device::new(&mut random, &plan),
            operator: Operator::new(),
            random,
            plan,
            quiet: false,
            quiet_since: 0,
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
            let begins = matches!(
                entry.happening,
                Happening::AgentDeadline { .. } | Happening::WindowTurns | Happening::ReceiverLooks
            );
            let too_late = end - self.now.min(end) < LAST_WORDS && begins;
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
            Happening::HostIsSurveyed { run, op, purpose } => self.host_is_surveyed(run, op, purpose),
            Happening::Surveyed { run, op, found } => self.surveyed(run, op, *found),
            Happening::Fetched { run, op, uri, kind } => self.fetched(run, op, uri, kind),
            Happening::RaucIsAsked {
                run,
                op,
                uri,
                transaction,
            } => self.rauc_is_asked(run, op, &uri, transaction),
            Happening::SlotIsWritten { number } => self.slot_is_written(number),
            Happening::SlotIsActivated { number } => self.slot_is_activated(number),
            Happening::RaucDies { number, gently } => self.rauc_dies(number, gently),
            Happening::InstallEnds { run, op, end } => self.install_ended(run, op, end),
            Happening::MarkIsMade {
                boot,
                run,
                op,
                marks,
                index,
            } => self.mark_is_made(boot, run, op, marks, index),
            Happening::Marked { run, op, result } => self.marked(run, op, result),
            Happening::ResetIsSurveyed { run, op } => self.reset_is_surveyed(run, op),
            Happening::SystemdIsAsked { run, op } => self.systemd_is_asked(run, op),
            Happening::SystemdAnswers { run, op, outcome } => self.systemd_answers(run, op, outcome),
            Happening::WishIsLeft { boot, by_agent } => self.wish_is_left(boot, by_agent),
            Happening::ResetGoes { boot } => self.reset_goes(boot),
            Happening::WipeIsCut { boot } => self.wipe_is_cut(boot),
            Happening::WipeEnds { boot } => self.wipe_ends(boot),
            Happening::ReportIsRead { run, op } => self.report_is_read(run, op),
            Happening::HealthChanges { boot, verdict } => self.health_changes(boot, verdict),
            Happening::HealthIsTold { run, op } => self.health_is_told(run, op),
            Happening::FallBackActs { boot } => self.fall_back_acts(boot),
            Happening::ImageCrashes { boot } => self.image_crashes(boot),
            Happening::IntegratorMarks { boot } => self.integrator_marks(boot),
            Happening::Journal(doing) => self.journal_does(doing),
            Happening::Model(doing) => self.model_changes(doing),
            Happening::ReceiverLooks => self.receiver_looks(),
            Happening::WindowTurns => self.window_turns(),
            Happening::TechnicianLooks => self.technician_looks(),
            Happening::OperatorPushes => self.operator_pushes(),
            Happening::LastPush { image } => self.last_push(image),
            Happening::PlainReboot { slot, times } => self.plain_reboot(slot, times),
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
