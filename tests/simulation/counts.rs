//! How often each interesting thing happened. A run in which one of them never did has gone blind.

macro_rules! things {
    ($($name:ident: $text:literal,)*) => {
        /// Something that a run must have seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Thing { $($name),* }

        const TEXTS: &[&str] = &[$($text),*];
    };
}

things! {
    Reboot: "reboots that the service asked for",
    LateReboot: "reboots that came after the agent had given them up",
    PowerCut: "power cuts",
    OwnReboot: "reboots that nobody asked the agent for",
    DidNotHappen: "reboots that did not happen",
    Refused: "reboots that logind refused",
    Unknown: "reboots of which nobody knew whether logind had got them",
    InProgress: "reboots asked of logind while one was in progress",
    CalledOff: "reboots that logind called off",
    NotExecuted: "requests that were too old to be executed after a restart",
    LoopBreaker: "reboots refused because the device had rebooted too often",
    Joined: "requests that shared a reboot",
    Redelivered: "requests that came again",
    RedeliveredAfterBoot: "requests that came again in a later boot",
    NoReqId: "reboots without a request id",
    DupNotExecuted: "reboots without a request id, delivered again and not executed",
    KilledBeforeOwe: "agents killed before anything was written",
    KilledBeforeCommit: "agents killed between owe and commit",
    KilledBeforeAdopt: "agents killed between commit and adopt",
    KilledBetweenEffects: "agents killed between two effects",
    CutBeforeOwe: "power cut before anything was written",
    CutBeforeCommit: "power cut between owe and commit",
    CutBeforeAdopt: "power cut between commit and adopt",
    CutBetweenEffects: "power cut between two effects",
    OutboxCut: "outbox records lost in a power cut",
    AgentKilled: "agents killed between two steps",
    ServiceKilled: "services killed",
    ServiceKilledInStep: "services killed in the middle of a step",
    LinkCut: "connections cut",
    LinkSilent: "connections that went silent",
    HalfClosed: "connections that one side had given up",
    BrokerRestart: "broker restarts",
    SessionLost: "sessions lost",
    MessageLost: "messages lost with a session",
    Resent: "publishes sent again with DUP",
    NotPublished: "publishes given back",
    StaleAck: "acknowledgements for an earlier connection",
    DiskRefused: "writes that the disk refused",
    RefusalForgotten: "refusals that died with the process",
    Success: "requests that ended in success",
    Failure: "requests that ended in failure",
    TimedOut: "requests that timed out",
    Unmanaged: "devices taken out of management",
    Renewed: "manages by a device that was managed",
}

impl Thing {
    pub const COUNT: usize = TEXTS.len();
}

/// Counts of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts([u64; Thing::COUNT]);

impl Counts {
    pub fn new() -> Self {
        Counts([0; Thing::COUNT])
    }

    pub fn add(&mut self, thing: Thing) {
        self.0[thing as usize] += 1;
    }

    pub fn merge(&mut self, other: &Counts) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// Every count with what it is of.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TEXTS.iter().copied().zip(self.0)
    }
}
