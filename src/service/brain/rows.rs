//! What the service knows, row by row, as the registry keeps it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::protocol::firmware::{FirmwareState, UpdateStatus};
use crate::protocol::{Device, ReqId};

/// A device that the service has heard of.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceRow {
    /// Its name.
    pub device: Device,
    /// When the service first heard of it, Unix milliseconds.
    pub registered_ms: i64,
    /// When the service last heard of it, Unix milliseconds.
    pub last_seen_ms: i64,
    /// `deviceInfo` as it last told it, or took it over from here.
    pub device_info: Map<String, Value>,
    /// `metadata` as it last told it, or took it over from here.
    pub metadata: Map<String, Value>,
    /// `location`, with `measuredDateTime` and `updatedDateTime`.
    pub location: Option<Map<String, Value>>,
    /// An operator wrote the location: when the device repeats it, that is no measurement.
    pub location_written: bool,
    /// `mgmt`; `None` while the device is unmanaged.
    pub managed: Option<Managed>,
    /// The request ids of its last manages, locations and notifies, newest last: one that the broker delivers again is answered
    /// again, but proves nothing about a reboot, and says nothing of a firmware action that began meanwhile.
    pub manages: Vec<ReqId>,
}

impl DeviceRow {
    /// How many of a device's last manages, locations and notifies are remembered.
    pub const MANAGES: usize = 32;

    /// A device that has just been heard of.
    pub fn new(device: Device, now_ms: i64) -> Self {
        DeviceRow {
            device,
            registered_ms: now_ms,
            last_seen_ms: now_ms,
            device_info: Map::new(),
            metadata: Map::new(),
            location: None,
            location_written: false,
            managed: None,
            manages: Vec::new(),
        }
    }
}

/// The management of a device, gone when it is unmanaged or dormant.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    /// Since when without a break, Unix milliseconds.
    pub since_ms: i64,
    /// When the last manage came, Unix milliseconds.
    pub manage_ms: i64,
    /// When it becomes dormant unless another manage comes, Unix milliseconds; `None`: never.
    pub dormant_ms: Option<i64>,
    /// Takes reboot and factory reset.
    pub device_actions: bool,
    /// Takes firmware download and update.
    pub firmware_actions: bool,
    /// Device management extension packages by their id, with a boolean.
    pub bundles: Map<String, Value>,
    /// `mgmt.firmware` as notified.
    pub firmware: Map<String, Value>,
    /// The fields that the service observes.
    pub observed: BTreeSet<String>,
}

/// An action that this service can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// `device/reboot`
    Reboot,
    /// `device/factoryReset`
    FactoryReset,
    /// `firmware/download`
    FirmwareDownload,
    /// `firmware/update`
    FirmwareUpdate,
    /// `device/update`: attributes get values (not in the platform, where this goes on unseen)
    Update,
    /// `device/observe`: what changes is notified until somebody ends it (not in the platform)
    Observe,
}

impl Action {
    /// Every one.
    pub const ALL: [Action; 6] = [
        Action::Reboot,
        Action::FactoryReset,
        Action::FirmwareDownload,
        Action::FirmwareUpdate,
        Action::Update,
        Action::Observe,
    ];

    /// True for reboot and factory reset: these are ended by a manage.
    pub fn ends_with_manage(self) -> bool {
        matches!(self, Action::Reboot | Action::FactoryReset)
    }

    /// True for download and update: these are ended by notifies, and a device does one at a time.
    pub fn is_firmware(self) -> bool {
        matches!(self, Action::FirmwareDownload | Action::FirmwareUpdate)
    }

    /// Its name in the REST API.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Reboot => "device/reboot",
            Action::FactoryReset => "device/factoryReset",
            Action::FirmwareDownload => "firmware/download",
            Action::FirmwareUpdate => "firmware/update",
            Action::Update => "device/update",
            Action::Observe => "device/observe",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// A request for an action on one or more devices.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRow {
    /// Counts up from 1; the order of the list.
    pub number: i64,
    /// A UUID.
    pub id: String,
    /// What is asked for.
    pub action: Action,
    /// As the operator gave them.
    pub parameters: Vec<Value>,
    /// When it was asked for, Unix milliseconds.
    pub created_ms: i64,
    /// When what is in progress times out, Unix milliseconds.
    pub deadline_ms: i64,
}

/// How a device stands with a request; the numbers are the REST API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Done.
    Success = 0,
    /// Waiting for the device.
    InProgress = 1,
    /// Refused, called off, or it did not happen.
    Failure = 2,
    /// Nothing final came in time.
    TimedOut = 3,
}

impl Status {
    /// The status of a number.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Success, Self::InProgress, Self::Failure, Self::TimedOut]
            .into_iter()
            .find(|status| *status as i64 == number)
    }
}

/// What a device was last asked for a request, and is waited for: the steps of a firmware action (firmware actions
/// reference). Reboot and factory reset begin with [`RequestStep::Initiate`] and end after [`RequestStep::Working`]; an
/// update of attributes is [`RequestStep::Update`] alone; an observation begins with [`RequestStep::Observe`], and lasts
/// as long as [`RequestStep::Working`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestStep {
    /// `device/update` with attributes, or with the description of the firmware; 204 leads on. Left out when there is none.
    Update,
    /// `observe` of `mgmt.firmware`, or of what an operator wants to know; 200 leads on.
    Observe,
    /// The action itself; 202 leads on.
    Initiate,
    /// Nothing is asked: a notify, or for reboot and reset a manage, says how it ended. An observation ends when nobody
    /// wants it any more.
    Working,
    /// `cancel` of the observation. What it is answered changes nothing any more.
    Cancel,
}

impl RequestStep {
    /// Every one, in their order.
    pub const ALL: [RequestStep; 5] = [
        RequestStep::Update,
        RequestStep::Observe,
        RequestStep::Initiate,
        RequestStep::Working,
        RequestStep::Cancel,
    ];

    /// Its name in the REST face.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestStep::Update => "update",
            RequestStep::Observe => "observe",
            RequestStep::Initiate => "initiate",
            RequestStep::Working => "working",
            RequestStep::Cancel => "cancel",
        }
    }

    /// The step of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// How one device stands with one request. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    /// The request's number.
    pub request: i64,
    /// The device.
    pub device: Device,
    /// What it was last asked.
    pub step: RequestStep,
    /// Since when.
    pub step_ms: i64,
    /// The request id on the wire, this device's and this step's own; kept when the message is published again.
    pub req_id: ReqId,
    /// Where it stands.
    pub status: Status,
    /// How it ends when the cancel of the observation is answered: the device has said what there is to say.
    pub outcome: Option<Status>,
    /// The last return code of the device.
    pub rc: Option<u16>,
    /// Why it stands so, in words.
    pub message: Option<String>,
    /// When it was asked for.
    pub requested_ms: i64,
    /// When the broker took the present step's message over (PUBACK); until then it is published again after a lost
    /// session.
    pub sent_ms: Option<i64>,
    /// When the device answered 202.
    pub accepted_ms: Option<i64>,
    /// When it ended, in whatever way.
    pub completed_ms: Option<i64>,
    /// When anything here last changed.
    pub updated_ms: i64,
    /// `mgmt.firmware.state` as notified while the device worked on this.
    pub state: Option<FirmwareState>,
    /// `mgmt.firmware.updateStatus` as notified while the device worked on this.
    pub update_status: Option<UpdateStatus>,
    /// The request id of a firmware action's [`RequestStep::Initiate`]: the device's log names it.
    pub initiated: Option<ReqId>,
    /// Why a firmware action failed, as the device logged it, before or after it notified so.
    pub reason: Option<String>,
}

impl StatusRow {
    /// True when the device has nothing more to say to it.
    pub fn is_complete(&self) -> bool {
        self.status != Status::InProgress
    }
}

/// A diagnostic log entry. Only the registry keeps it; it bounds how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Whose.
    pub device: Device,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
    /// RFC 3339, the device's or else the time of receipt.
    pub timestamp: String,
    /// 0 information, 1 warning, 2 error.
    pub severity: u8,
    /// The text.
    pub message: String,
    /// Anything else.
    pub data: Option<Vec<u8>>,
    /// The device's request id: what the broker delivers twice is kept once.
    pub req_id: Option<ReqId>,
}

/// An error code. Only the registry keeps it; it bounds how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCodeRow {
    /// Whose.
    pub device: Device,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
    /// The code.
    pub code: i64,
    /// The device's request id: what the broker delivers twice is kept once.
    pub req_id: Option<ReqId>,
}

/// Something to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Insert or replace.
    PutDevice(Box<DeviceRow>),
    /// The device, its logs and its error codes.
    DeleteDevice(Device),
    /// Insert; a request itself never changes.
    PutRequest(RequestRow),
    /// The request with this number, and how its devices stand with it.
    DeleteRequest(i64),
    /// Insert or replace.
    PutStatus(StatusRow),
    /// One more.
    AddLog(LogRow),
    /// All of a device.
    ClearLogs(Device),
    /// The log of a device with this number.
    DeleteLog(Device, i64),
    /// One more.
    AddErrorCode(ErrorCodeRow),
    /// All of a device.
    ClearErrorCodes(Device),
}

/// All rows that the brain works on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Every device.
    pub devices: Vec<DeviceRow>,
    /// Every request.
    pub requests: Vec<RequestRow>,
    /// How every device stands with every request.
    pub statuses: Vec<StatusRow>,
}
