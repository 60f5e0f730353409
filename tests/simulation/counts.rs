//! How often each interesting thing happened. A run in which one of them never did has gone blind.

macro_rules! things {
    ($($name:ident: $text:literal,)*) => {
        /// Something that a run must have seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Thing { $($name),* }

        const TEXTS: &[&str] = &[$($text),*];
    };
}

/// How the rows of the outcome table begin; some are rare.
pub const ROW: &str = "outcome: ";

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
    ResetBegan: "factory resets that the service asked for",
    ResetNoReqId: "factory resets without a request id",
    ResetDone: "factory resets that wiped everything",
    ResetWithoutReport: "factory resets of which a new boot is the only proof",
    ResetIncomplete: "factory resets that could not wipe everything",
    ResetDidNotHappen: "factory resets that did not happen",
    ResetNotExecuted: "factory resets that were too old to be begun after a restart",
    ResetImpossible: "hosts that could not be reset",
    ResetRefused: "factory resets that systemd refused",
    ResetUnknown: "factory resets of which nobody knew whether systemd had got them",
    ResetAskedAgain: "factory resets asked of systemd while one was in progress",
    ResetJoined: "factory resets that more than one request asked for",
    ResetLate: "factory resets that came after the agent had given them up",
    ResetByHand: "factory resets that nobody asked the agent for",
    WishLost: "factory resets that went down before they were on the disk",
    WishWithdrawn: "factory resets that were taken back before the next boot",
    WipeCut: "power cuts in the middle of a wipe",
    WipeNeverRan: "wipes that did not run",
    ReportRefused: "reports that could not be read",
    ReportUnreadable: "factory resets whose report was never read",
    ResetBoot: "short boots that a factory reset ended",
    BatchTaken: "batches of the journal that the agent took",
    BatchRefused: "batches of the journal that a full disk refused",
    BatchCutShort: "batches of the journal in whose middle the agent died",
    Folded: "logs that told of several entries of a kind",
    HeldBack: "logs that told of entries held back",
    LogTwice: "logs that the service got twice",
    UnitFailed: "units that failed",
    CodeAdded: "error codes that the service got",
    CodesCleared: "times the service cleared the error codes",
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
    TakenBack: "devices put back into management before the service had answered",
    Renewed: "manages by a device that was managed",
    Downloaded: "downloads that brought the image",
    NoSpace: "downloads for which there was no room",
    DownloadLost: "downloads that were cut off",
    WrongVerifier: "downloads with a wrong digest",
    WrongImage: "downloads of something else",
    InvalidUri: "downloads from nowhere",
    HeldAck: "requests that waited for a look at the host when the connection went",
    UpdateBegan: "updates",
    UpdateSucceeded: "updates that ended in success",
    UpdateFailed: "updates that ended in failure",
    DoesNotLeave: "updates that ended in a slot that the host does not leave",
    Installed: "slots written and activated",
    InstalledAlone: "slots written while no agent waited",
    InstallRefused: "bundles that RAUC refused",
    InstallFailed: "installations that failed in the middle",
    HandlerFailed: "installations that failed when the boot loader had been told",
    InstallCut: "installations that ended with the boot",
    RaucDied: "deaths of RAUC in the middle of an installation",
    Rejoined: "installations that another run of the agent waited for",
    SurveyFailed: "looks at the host that failed",
    MarkFailed: "marks that did not stick",
    MarkUnknown: "marks of which nobody knew",
    MarkerRefused: "markers that the disk refused",
    HealthChanged: "changes of a boot's health",
    Panic: "boots of a slot that does not start",
    Rescue: "boots of another system",
    TrialCrashed: "crashes on trial",
    OuterFallBack: "trials ended outside the agent",
    ForcedReboot: "reboots forced by hand while RAUC installed",
    HandReboot: "reboots by hand into a slot that was written",
    NewerState: "states of a newer agent that an older one read",
    Notified: "notifies",
    NotifiedModel: "notified attributes that are not firmware",
    Wrote: "attributes that the operator wrote",
    WroteThrough: "writes that the device took over in time",
    WroteAgain: "writes that came again",
    WroteAlone: "writes of a device that was not managed",
    WriteRefused: "writes that the device refused",
    WriteUnheard: "runs in which the answer to a write was lost",
    Conflict: "operators who were told to wait",
    Edited: "changes of the configuration of the model",
    WordReplaced: "words of the service that the configuration replaced",
    FactsChanged: "hosts with other facts after a start",
    Fix: "fixes",
    FixLost: "looks at the receiver without a fix",
    LocatedMeasured: "locations told as they were measured",
    LocatedFixed: "locations told as they are configured",
    OperatorObserves: "observations that the operator asked for",
    ObserveEnded: "observations that the operator ended",
    ModelSettled: "runs at whose end the service had the model as it was",
    PlaceSettled: "runs at whose end the service had the location as it was",
    ObservedSettled: "fields that were observed at the end of a run",
    CalledOffByOperator: "firmware actions that the operator called off",
    FirmwareDone: "firmware actions that ended in success",
    FirmwareFailed: "firmware actions that ended in failure",
    LocalCommand: "firmware commands on the device",
    LastImage: "good images that arrived when everything worked",
    PlainReboot: "plain reboots that stayed on their slot",
    RowStillInstalling: "outcome: RAUC writes still",
    RowWritten: "outcome: written, and not recorded",
    RowNotRebooted: "outcome: not rebooted yet",
    RowInterrupted: "outcome: interrupted in the same boot",
    RowNotActivated: "outcome: written, and the boot loader was not told",
    RowRaucFailed: "outcome: RAUC failed, and the slot is as it was",
    RowRaucFailedLate: "outcome: RAUC failed, and the slot may boot next",
    RowFailedAndBooted: "outcome: RAUC failed, and the new slot runs",
    RowFailedAndRebooted: "outcome: RAUC failed, and the old slot runs again",
    RowNotWritten: "outcome: not written, and the other slot runs",
    RowInterruptedByBoot: "outcome: interrupted by a boot",
    RowWrittenNotBooted: "outcome: written, not recorded, and the old slot runs",
    RowUnrecordedOuter: "outcome: written, not recorded, and left outside the agent",
    RowTrialUnrecorded: "outcome: the new slot runs, and its installation was not recorded",
    RowTrialBegins: "outcome: the new slot runs",
    RowNotStarted: "outcome: the new slot did not start",
    RowNotStartedOuter: "outcome: the new slot was left outside the agent before its trial was recorded",
    RowTrialGoesOn: "outcome: the trial goes on in its boot",
    RowTrialAgain: "outcome: the trial goes on in another boot",
    RowTrialGivenUp: "outcome: the trial was cut short too often",
    RowTrialCutShort: "outcome: the trial was cut short, and the old slot runs",
    RowTrialOuter: "outcome: the trial was ended outside the agent",
    RowLeave: "outcome: the new slot is still to be left",
    RowCallOff: "outcome: called off before it was booted",
    RowRolledBack: "outcome: rolled back",
    RowDoesNotLeave: "outcome: the host does not leave the new slot",
    RowConfused: "outcome: RAUC has changed its mind about the slot that runs",
    RowRescue: "outcome: neither slot runs",
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
