//! What the service has written into the device model, as it is remembered.
//!
//! Only what differs from the configuration is kept, member by member, each with what the configuration said at that
//! time: when that changes, the configuration's word is the later one and wins again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A member that the service has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What it wrote; `None`: that there is no such member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// What the configuration said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Value>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Member {
    /// Written while the configuration says `over`.
    pub(super) fn new(value: Option<Value>, over: Option<&Value>) -> Self {
        Member {
            value,
            over: over.cloned(),
            extra: Map::new(),
        }
    }

    /// The one that was there before, with what a newer version has added to it, if it says the same.
    pub(super) fn or_same(self, before: Option<&Member>) -> Self {
        let same = before.filter(|before| (&before.value, &before.over) == (&self.value, &self.over));
        same.cloned().unwrap_or(self)
    }

    /// Whether it is still the last word, now that the configuration says this.
    pub(super) fn holds(&self, configured: Option<&Value>) -> bool {
        self.over.as_ref() == configured
    }
}

/// All that the service has written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Written {
    /// `metadata`, by the names of its members.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Member>,
    /// `deviceInfo`, by the names of its members.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub device_info: BTreeMap<String, Member>,
    /// `location`, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Member>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Written {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Written::default()
    }

    /// For people: names of attributes, and what was written there; `null` where it was taken away.
    pub(in crate::agent) fn by_name(&self) -> Map<String, Value> {
        let of = |member: &Member| member.value.clone().unwrap_or_default();
        let metadata = self.metadata.iter();
        let metadata = metadata.map(|(name, member)| (format!("metadata.{name}"), of(member)));
        let info = self.device_info.iter();
        let info = info.map(|(name, member)| (format!("deviceInfo.{name}"), of(member)));
        let location = self.location.iter();
        let location = location.map(|member| ("location".to_owned(), of(member)));
        info.chain(location).chain(metadata).collect()
    }
}
