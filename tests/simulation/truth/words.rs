//! What the device model is by everybody's words, apart from how the agent remembers them.

use std::collections::BTreeMap;

use iotdm::agent::Settings;
use iotdm::agent::model::Written;
use iotdm::protocol::model::{DeviceInfo, FieldValue};
use serde_json::{Map, Value};

use crate::model::member;

/// Latitude, longitude, elevation, accuracy.
pub type Place = [Option<f64>; 4];

pub fn place(object: &Map<String, Value>) -> Place {
    ["latitude", "longitude", "elevation", "accuracy"].map(|name| object.get(name).and_then(Value::as_f64))
}

/// The model as far as anybody can write it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    pub metadata: Map<String, Value>,
    pub info: BTreeMap<&'static str, String>,
    pub place: Option<Place>,
}

/// Members of `deviceInfo` that are not the host's.
fn writable(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let host = &settings.device_info;
    DeviceInfo::MEMBERS.into_iter().filter(move |name| match *name {
        "serialNumber" | "fwVersion" | "hwVersion" => false,
        "manufacturer" => host.manufacturer.is_none(),
        "model" => host.model.is_none(),
        _ => true,
    })
}

impl Said {
    pub fn by_configuration(settings: &Settings) -> Self {
        let info = |name| Some((name, member(&settings.configured_info, name)?));
        Said {
            metadata: settings.metadata.clone().unwrap_or_default(),
            info: writable(settings).filter_map(info).collect(),
            place: settings.location.as_ref().map(|fixed| place(&fixed.to_object())),
        }
    }

    /// What is so with this memory.
    pub fn present(settings: &Settings, written: &Written) -> Self {
        let mut said = Said::by_configuration(settings);
        for (name, word) in &written.metadata {
            match &word.value {
                Some(value) => drop(said.metadata.insert(name.clone(), value.clone())),
                None => drop(said.metadata.shift_remove(name)),
            }
        }
        for name in writable(settings) {
            let Some(word) = written.device_info.get(name) else {
                continue;
            };
            said.info.remove(name);
            let text = word.value.as_ref().and_then(Value::as_str);
            said.info.extend(text.map(|text| (name, text.to_owned())));
        }
        let written = written.location.as_ref().and_then(|word| word.value.as_ref());
        if let Some(written) = written.and_then(Value::as_object) {
            said.place = Some(place(written));
        }
        said
    }

    /// What is edited in the configuration is said anew; what stands there as before is not.
    pub fn edited(&mut self, before: &Said, now: &Said) {
        for name in before.metadata.keys().chain(now.metadata.keys()) {
            let value = now.metadata.get(name);
            if value != before.metadata.get(name) {
                self.metadata.shift_remove(name);
                self.metadata.extend(value.map(|value| (name.clone(), value.clone())));
            }
        }
        for name in before.info.keys().chain(now.info.keys()) {
            let text = now.info.get(name);
            if text != before.info.get(name) {
                self.info.remove(name);
                self.info.extend(text.map(|text| (*name, text.clone())));
            }
        }
        if now.place != before.place {
            self.place = now.place;
        }
    }

    /// The service writes. `measured`: where the device is, is a fact.
    pub fn written(&mut self, settings: &Settings, fields: &[FieldValue], measured: bool) {
        for FieldValue { field, value } in fields {
            let object = value.as_object().cloned().unwrap_or_default();
            match field.as_str() {
                "metadata" => {
                    self.metadata = object;
                    self.metadata.retain(|_, value| !value.is_null());
                }
                "deviceInfo" => {
                    let info = DeviceInfo::parse(field, value.clone()).expect("the service has checked it");
                    let said = |name| Some((name, member(&info, name)?));
                    self.info = writable(settings).filter_map(said).collect();
                }
                "location" if !measured => self.place = Some(place(&object)),
                _ => {}
            }
        }
    }
}

/// `deviceInfo` whole, with the host's members.
pub fn device_info(settings: &Settings, said: &Said) -> Map<String, Value> {
    let mut info = settings.device_info.clone();
    let mut configured = settings.configured_info.clone();
    for name in DeviceInfo::MEMBERS {
        let word = configured.member(name).and_then(Option::take);
        if let (Some(word), Some(to)) = (word, info.member(name)) {
            *to = Some(word);
        }
    }
    for name in writable(settings) {
        if let Some(to) = info.member(name) {
            *to = said.info.get(name).cloned();
        }
    }
    info.to_object()
}
