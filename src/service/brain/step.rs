//! What goes into the brain and what comes out of it.

use serde_json::Value;

use super::rows::{Change, DeviceRow};
use crate::protocol::Device;
use crate::protocol::diagnostics::LogEntry;
use crate::protocol::model::FieldValue;

/// The time at which an event is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds since the Unix epoch, by the service's wall clock.
    pub unix_ms: i64,
}

/// Names a message that the shell has received and not acknowledged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AckToken(pub u64);

/// Names a message that the brain publishes; unique in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishId(pub u64);

/// What happens to the service.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The session to the broker is up and subscribed.
    Connected {
        /// The broker still had our session. If not, every request without a PUBACK is published again.
        session_present: bool,
    },
    /// The session is down. What was handed to it stays with it.
    Disconnected,
    /// A device said something.
    Message(Incoming),
    /// The broker has acknowledged this message (PUBACK).
    Published(PublishId),
    /// This message was lost with the session before its PUBACK.
    NotPublished(PublishId),
    /// The broker ends the connection whenever this message is published: it must not be published again.
    PublishRefused(PublishId),
    /// [`super::Service::next_deadline`] has passed. The shell may hold it back while the service cannot hear its
    /// devices: silence proves nothing then.
    Deadline,
    /// An operator asks for an action. Answered by [`Effect::Reply`].
    Create(NewRequest),
    /// An operator writes attributes of a device. Answered by [`Effect::Reply`].
    Write(Write),
    /// An operator changes what is kept of a device's diagnostics. Answered by [`Effect::Reply`].
    Diagnose(Diagnose),
    /// An operator has a device forgotten. Answered by [`Effect::Reply`].
    Forget {
        /// The device.
        device: Device,
    },
    /// An operator calls off what is in progress. Answered by [`Effect::Reply`].
    Cancel {
        /// The request.
        id: String,
    },
    /// An operator clears a request. Answered by [`Effect::Reply`].
    Delete {
        /// The request.
        id: String,
    },
}

/// A message as it came from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Its topic; the only place where the sender's identity is taken from.
    pub topic: String,
    /// Its payload, which may be anything.
    pub payload: Vec<u8>,
    /// The broker had it retained: it is old, and nothing follows from it.
    pub retained: bool,
    /// To acknowledge it with.
    pub ack: AckToken,
}

/// An operator's request for an action on devices.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewRequest {
    /// `device/reboot`, `device/factoryReset`, ...
    pub action: String,
    /// As given: for a firmware action `{"name": "uri", "value": "..."}` and the like, for an observation
    /// `{"name": "field", "value": "location"}`. Reboot and reset have none, and ignore what is here.
    pub parameters: Vec<Value>,
    /// The devices, 1 to [`super::MAX_REQUEST_DEVICES`].
    pub devices: Vec<Device>,
    /// Seconds, 1 to [`super::MAX_TIMEOUT`]; when not given, by the action: [`super::DEFAULT_TIMEOUT`],
    /// [`super::DEFAULT_RESET_TIMEOUT`] or [`super::DEFAULT_FIRMWARE_TIMEOUT`].
    pub timeout: Option<u64>,
    /// `override`: calls off everything that is in progress with these devices first.
    pub overrides: bool,
}

/// Attributes of a device that an operator writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The device.
    pub device: Device,
    /// `deviceInfo`, `metadata` or `location`, each whole; or members of the first two by dotted names, where `null` takes
    /// one away.
    pub values: Vec<FieldValue>,
    /// How long the device may take, seconds, 1 to [`super::MAX_TIMEOUT`]; [`super::DEFAULT_UPDATE_TIMEOUT`] when not given.
    pub timeout: Option<u64>,
}

/// What an operator changes in the logs and error codes that are kept of a device. The device is not told: the protocol
/// has no message for that.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnose {
    /// The device.
    pub device: Device,
    /// What is changed.
    pub change: Diagnosis,
}

/// See [`Diagnose`].
#[derive(Debug, Clone, PartialEq)]
pub enum Diagnosis {
    /// One more log.
    AddLog(LogEntry),
    /// The log with this number goes.
    DeleteLog(i64),
    /// All logs go.
    ClearLogs,
    /// One more error code, of this time in Unix milliseconds; of now, when none is given.
    AddErrorCode(i64, Option<i64>),
    /// All error codes go.
    ClearErrorCodes,
}

/// What an operator's call led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The request is registered under this id.
    Created {
        /// The request's id.
        id: String,
    },
    /// The values are written, or the device is asked to take them over.
    Written {
        /// The request to the device; `None` for one that is not managed and thus not asked.
        id: Option<String>,
        /// The device as it is, or will be when it has taken them over.
        row: Box<DeviceRow>,
    },
    /// The logs and error codes are as they were to be.
    Diagnosed,
    /// Nothing is known of the device any more.
    Forgotten,
    /// What was in progress is called off.
    Cancelled,
    /// The request is cleared.
    Deleted,
}

/// Why an operator's call was refused, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason as the REST face tells it apart.
    pub kind: RefusalKind,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// 400: the call itself is wrong.
    Invalid,
    /// 403: a device does not take this action.
    NotSupported,
    /// 404: no such device or request.
    NotFound,
    /// 409: a device has a firmware action, or an update of its attributes, in progress.
    Conflict,
    /// 501: the service cannot do this yet.
    NotBuilt,
    /// 503: too much is in progress.
    Busy,
}

/// What is to be done, after the changes of the step are committed, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish with QoS 1, not retained.
    Publish {
        /// Comes back as [`Event::Published`] or [`Event::NotPublished`].
        id: PublishId,
        /// Where to.
        topic: String,
        /// What.
        payload: Vec<u8>,
    },
    /// Acknowledge this message to the broker.
    Ack(AckToken),
    /// The answer to the operator's call that this step handles; exactly one for each call.
    Reply(Result<Reply, Refusal>),
    /// Tell whoever watches.
    Say(WatchLine),
}

/// One line for whoever watches: who said what, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchLine {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Whom it is about.
    pub device: Option<Device>,
    /// The operation: `manage`, `response`, `reboot`, ...; `ignored` for what led to nothing.
    pub operation: &'static str,
    /// What happened, in words, without control characters.
    pub text: String,
    /// The request id on the wire, if there is one.
    pub req_id: Option<String>,
    /// The return code that was received or sent, if there is one.
    pub rc: Option<u16>,
    /// What a device told of observed fields, in a notify that counts or when it began to be observed, and what it took
    /// over from an operator: it does not notify that.
    pub values: Vec<FieldValue>,
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// To be written in one transaction, before anything else.
    pub changes: Vec<Change>,
    /// To be done afterwards, in this order.
    pub effects: Vec<Effect>,
}
