//! The wire: topics, messages, return codes and the device model of the Device Management Protocol.
//!
//! No I/O, no clock, no state. The agent and the service both use it, so every message is here in both directions:
//! what is sent has the current shape, what is read may have any historic one. Reading never panics; what is not
//! known is kept, and what is wrong is named by its path (`d.fields[0].field`).
//!
//! Facts: the Device Management Protocol reference of the IBM Watson IoT Platform (device management requests,
//! device model), and what its SDKs really send.

pub mod diagnostics;
pub mod firmware;
pub mod json;
pub mod manage;
pub mod model;
pub mod names;
pub mod rc;
pub mod report;
pub mod request;
pub mod response;
pub mod timestamp;
pub mod topic;

pub use json::Malformed;
pub use names::{Device, ReqId};
pub use rc::Rc;
pub use report::Report;
pub use request::Request;
pub use response::Response;
pub use topic::{Address, ToDevice, ToService};

/// The largest payload that the platform accepts, in bytes (MQTT messaging reference, "message payload").
pub const MAX_PAYLOAD: usize = 131_072;
