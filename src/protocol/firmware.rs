//! `mgmt.firmware`: the firmware to be installed, and how far that is (firmware actions reference).

use serde_json::{Map, Value};

use super::json::{Malformed, Members};

/// `mgmt.firmware.state`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirmwareState {
    /// 0
    #[default]
    Idle = 0,
    /// 1
    Downloading = 1,
    /// 2: ready to install.
    Downloaded = 2,
}

/// `mgmt.firmware.updateStatus`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpdateStatus {
    /// 0; also "nothing happened yet".
    #[default]
    Success = 0,
    /// 1
    InProgress = 1,
    /// 2
    OutOfMemory = 2,
    /// 3
    ConnectionLost = 3,
    /// 4
    VerificationFailed = 4,
    /// 5
    UnsupportedImage = 5,
    /// 6
    InvalidUri = 6,
}

impl FirmwareState {
    const ALL: [Self; 3] = [Self::Idle, Self::Downloading, Self::Downloaded];
}

impl UpdateStatus {
    const ALL: [Self; 7] = [
        Self::Success,
        Self::InProgress,
        Self::OutOfMemory,
        Self::ConnectionLost,
        Self::VerificationFailed,
        Self::UnsupportedImage,
        Self::InvalidUri,
    ];
}

/// `mgmt.firmware`, whole or only the members that changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firmware {
    /// The version to be installed (the running one is `deviceInfo.fwVersion`).
    pub version: Option<String>,
    /// A name for the image.
    pub name: Option<String>,
    /// Where to fetch it.
    pub uri: Option<String>,
    /// Digest or the like to check it with; the protocol gives it no syntax.
    pub verifier: Option<String>,
    /// Where the download stands.
    pub state: Option<FirmwareState>,
    /// How the update went.
    pub update_status: Option<UpdateStatus>,
    /// When the service last changed it; the service sends an empty string at first.
    pub updated_date_time: Option<String>,
    /// Members that this version does not know.
    pub extra: Map<String, Value>,
}

impl Firmware {
    /// As on the wire; members that are `None` are left out.
    pub fn to_object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |name: &str, value: Option<Value>| value.and_then(|value| object.insert(name.to_owned(), value));
        put("version", self.version.clone().map(Value::from));
        put("name", self.name.clone().map(Value::from));
        put("uri", self.uri.clone().map(Value::from));
        put("verifier", self.verifier.clone().map(Value::from));
        put("state", self.state.map(|state| (state as u8).into()));
        put("updateStatus", self.update_status.map(|status| (status as u8).into()));
        put("updatedDateTime", self.updated_date_time.clone().map(Value::from));
        object.extend(self.extra.clone());
        object
    }

    /// Reads the object at this path; `state` and `updateStatus` may be numbers or strings that hold one.
    ///
    /// # Errors
    /// A member of the wrong type, or a number that the protocol does not have.
    pub fn parse(path: &str, value: Value) -> Result<Self, Malformed> {
        let mut members = Members::of(path, value)?;
        let version = members.string("version")?;
        let name = members.string("name")?;
        let uri = members.string("uri")?;
        let verifier = members.string("verifier")?;
        let state = match members.integer("state")? {
            None => None,
            Some(number) => Some(
                FirmwareState::ALL
                    .into_iter()
                    .find(|state| *state as i64 == number)
                    .ok_or_else(|| {
                        Malformed::new(members.path("state"), format!("is {number}; it must be 0, 1 or 2"))
                    })?,
            ),
        };
        let update_status = match members.integer("updateStatus")? {
            None => None,
            Some(number) => Some(
                UpdateStatus::ALL
                    .into_iter()
                    .find(|status| *status as i64 == number)
                    .ok_or_else(|| {
                        Malformed::new(members.path("updateStatus"), format!("is {number}; it must be 0 to 6"))
                    })?,
            ),
        };
        let updated_date_time = members.string("updatedDateTime")?;
        let extra = members.rest();
        Ok(Firmware {
            version,
            name,
            uri,
            verifier,
            state,
            update_status,
            updated_date_time,
            extra,
        })
    }
}
