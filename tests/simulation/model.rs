//! The device model as people and the host change it: an operator writes and observes, somebody edits the configuration,
//! an image brings another version, a receiver finds out where the device is, or does not any more.
//!
//! What must come of it is in `truth/model`.

use std::time::Duration;

use iotdm::agent::location::{self, Fix};
use iotdm::agent::{Event, Settings};
use iotdm::protocol::model::{DeviceInfo, FieldValue, Location};
use iotdm::service::brain::{Action, Event as Asked, NewRequest, Write};
use serde_json::{Map, Value, json};

use crate::broker::Who;
use crate::counts::Thing;
use crate::device::{DEVICE, START};
use crate::faults::Plan;
use crate::random::Random;
use crate::world::{Happening, World, note};

/// How often the receiver is asked while things go wrong, and afterwards, in milliseconds.
const LOOKS_EVERY: [u64; 2] = [60_000, 600_000];

/// Fields that an operator observes.
const FIELDS: [&str; 7] = [
    "metadata",
    "metadata.a",
    "metadata.z",
    "deviceInfo",
    "deviceInfo.fwVersion",
    "deviceInfo.description",
    "location",
];

/// Something that somebody does with the model.
#[derive(Debug, Clone, Copy)]
pub enum Doing {
    /// The operator writes attributes.
    Write,
    /// A write comes again.
    Again,
    /// The operator observes fields.
    Observe,
    /// The operator has seen enough.
    Cancel,
    /// Somebody edits the configuration; the agent reads it anew, or is killed and started with it.
    Edit { restart: bool },
}

/// Where the device is, in degrees.
#[derive(Debug, Default)]
pub struct Whereabouts(f64, f64);

fn draw_place(random: &mut Random) -> Location {
    Location {
        latitude: random.below(9) as f64,
        longitude: random.below(9) as f64 / 8.0,
        elevation: random.one_in(2).then(|| random.below(100) as f64),
        accuracy: random.one_in(3).then_some(20.0),
        measured_date_time: None,
        extra: Map::new(),
    }
}

/// Few values: what is written is now and then what was there before, or what the configuration says.
fn draw_value(random: &mut Random) -> Value {
    random.below(4).into()
}

fn draw_text(random: &mut Random) -> String {
    format!("text {}", random.below(4))
}

/// What the configuration and the host say of the model when a run begins.
pub fn first_settings(settings: &mut Settings, random: &mut Random, plan: &Plan) {
    if !plan.model {
        return;
    }
    settings.metadata = Some(Map::from_iter([("z".to_owned(), 9.into())]));
    settings.device_info.serial_number = Some("SN-1".to_owned());
    settings.device_info.manufacturer = random.one_in(2).then(|| "the host's".to_owned());
    for _ in 0..random.below(4) {
        edit(settings, random, plan);
    }
}

/// Somebody changes one thing in the configuration.
fn edit(settings: &mut Settings, random: &mut Random, plan: &Plan) {
    match random.below(7) {
        0..=2 => {
            let name = random.pick(&["a", "b", "c", "z"]).to_owned();
            let metadata = settings.metadata.get_or_insert_default();
            match random.one_in(3) {
                true => drop(metadata.shift_remove(&name)),
                false => drop(metadata.insert(name, draw_value(random))),
            }
        }
        3 | 4 => {
            let name = random.pick(&["description", "deviceClass", "manufacturer"]);
            let text = (!random.one_in(3)).then(|| draw_text(random));
            *settings.configured_info.member(name).expect("there is one") = text;
        }
        5 if plan.receiver => {
            settings.tracking = match settings.tracking {
                Some(_) => None,
                None => Some(location::Settings {
                    min_interval: Duration::from_secs(random.pick(&[30, 60, 240])),
                    max_interval: Duration::from_secs(random.pick(&[1800, 86_400])),
                    decimals: random.pick(&[5, 2]),
                    interval: Duration::from_secs(300),
                    ..location::Settings::default()
                }),
            };
        }
        _ => settings.location = (!random.one_in(3)).then(|| draw_place(random)),
    }
}

impl World {
    /// Plans what is done with the model while things go wrong.
    pub fn plan_model(&mut self, start: u64, length: u64) {
        if !self.plan.model {
            return;
        }
        for _ in 0..self.random.between(4, 16) {
            let random = &mut self.random;
            let doing = match random.below(12) {
                0..=4 => Doing::Write,
                5 => Doing::Again,
                6 | 7 => Doing::Observe,
                8 => Doing::Cancel,
                _ => Doing::Edit {
                    restart: random.one_in(4),
                },
            };
            let at = start + random.below(length);
            self.at(at, Happening::Model(doing));
        }
        if self.plan.receiver {
            self.at(start, Happening::ReceiverLooks);
        }
    }

    /// Somebody does something with the model.
    pub fn model_changes(&mut self, doing: Doing) {
        note!(self, "-- {doing:?}");
        match doing {
            Doing::Write => self.operator_writes(),
            Doing::Again => self.write_comes_again(),
            Doing::Observe => self.operator_observes(),
            Doing::Cancel => self.operator_has_seen_enough(),
            Doing::Edit { restart } => self.somebody_edits(restart),
        }
    }

    /// What the image that runs says of itself.
    pub fn read_facts(&mut self) {
        if !self.plan.model {
            return;
        }
        let host = &self.device.host;
        let count = host.rauc.slots.get(host.booted).map(|slot| slot.count);
        let version = Some(format!("{}.{}", host.booted, count.unwrap_or_default()));
        let before = self.device.settings.device_info.fw_version.clone();
        if before.is_some() && before != version {
            self.counts.add(Thing::FactsChanged);
        }
        self.device.settings.device_info.fw_version = version;
    }

    fn somebody_edits(&mut self, restart: bool) {
        // One at a time: one that nobody has read is no word.
        if !self.configuration_is_read() {
            return;
        }
        self.counts.add(Thing::Edited);
        if restart {
            self.agent_is_killed();
        }
        let mut settings = self.device.settings.clone();
        edit(&mut settings, &mut self.random, &self.plan);
        self.truth.located.excuse();
        self.agent_is_configured(|present| *present = settings);
    }

    fn operator_writes(&mut self) {
        let Some(row) = self.operator.device() else { return };
        let (mut metadata, mut info) = (row.metadata.clone(), row.device_info.clone());
        let random = &mut self.random;
        let kinds = random.pick(&[1, 1, 1, 2, 2, 4, 4, 3, 7]);
        let mut values = Vec::new();
        let mut write = |field: &str, value: Map<String, Value>| {
            values.push(FieldValue {
                field: field.to_owned(),
                value: value.into(),
            });
        };
        if kinds & 1 != 0 {
            if random.one_in(4) {
                metadata.clear();
            }
            let name = random.pick(&["a", "b", "c", "z"]).to_owned();
            match random.one_in(4) {
                true => drop(metadata.shift_remove(&name)),
                false => drop(metadata.insert(name, draw_value(random))),
            }
            write("metadata", metadata);
        }
        if kinds & 2 != 0 {
            let names = [
                "description",
                "deviceClass",
                "descriptiveLocation",
                "model",
                "manufacturer",
                "fwVersion",
            ];
            let name = random.pick(&names).to_owned();
            match random.one_in(4) {
                true => drop(info.shift_remove(&name)),
                false => drop(info.insert(name, draw_text(random).into())),
            }
            write("deviceInfo", info);
        }
        if kinds & 4 != 0 {
            write("location", draw_place(random).to_object());
        }
        let timeout = random.pick(&[None, Some(5), Some(600)]);
        self.counts.add(Thing::Wrote);
        self.service_handles(Asked::Write(Write {
            device: DEVICE.parse().expect("a name"),
            values,
            timeout,
        }));
    }

    fn write_comes_again(&mut self) {
        if let Some(message) = self.draw_write()
            && self.clients[Who::Agent as usize].alive
        {
            let dup = self.random.one_in(2);
            self.deliver_again(message, dup);
        }
    }

    fn operator_observes(&mut self) {
        let first = self.random.below(FIELDS.len() as u64) as usize;
        let count = self.random.between(1, 3) as usize;
        let fields = FIELDS.iter().cycle().skip(first).take(count);
        let parameters = fields.map(|field| json!({"name": "field", "value": field})).collect();
        let timeout = self.random.pick(&[300, 3600, 86_400]);
        self.counts.add(Thing::OperatorObserves);
        self.service_handles(Asked::Create(NewRequest {
            action: Action::Observe.as_str().to_owned(),
            parameters,
            devices: vec![DEVICE.parse().expect("a name")],
            timeout: Some(timeout),
            overrides: false,
        }));
    }

    fn operator_has_seen_enough(&mut self) {
        let last = self.operator.youngest(|action| action == Action::Observe);
        let open = last.filter(|(_, row)| !row.is_complete());
        if let Some(id) = open.map(|(request, _)| request.id.clone()) {
            self.counts.add(Thing::ObserveEnded);
            self.service_handles(Asked::Cancel { id });
        }
    }

    /// The receiver has found out where the device is, or not.
    pub fn receiver_looks(&mut self) {
        let every = LOOKS_EVERY[usize::from(self.quiet)];
        self.at(self.now + every, Happening::ReceiverLooks);
        if self.device.settings.tracking.is_none() || self.device.process.is_none() {
            return;
        }
        let random = &mut self.random;
        if random.one_in(8) {
            self.counts.add(Thing::FixLost);
            return self.agent_handles(Event::NoFix("no satellites".to_owned()), None);
        }
        let place = &mut self.device.whereabouts;
        let step = random.pick(&[0.0, 0.0, 0.000_05, 0.002, 0.01, 3.0]);
        place.0 = (place.0 + step) % 80.0;
        place.1 = (place.1 + step) % 170.0;
        let fix = Fix {
            latitude: place.0,
            longitude: place.1,
            elevation: random.one_in(2).then_some(500.0),
            accuracy: random.one_in(2).then_some(5.0),
            measured: Some(i64::try_from(START + self.now / 1000).expect("not that long")),
        };
        self.counts.add(Thing::Fix);
        self.agent_handles(Event::Fix(fix), None);
    }
}

/// A member of `deviceInfo`.
pub fn member(info: &DeviceInfo, name: &str) -> Option<String> {
    info.clone().member(name)?.take().filter(|text| !text.is_empty())
}
