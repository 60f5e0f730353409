//! Whatever happens in whatever order: the last word counts, on the device and at the service.

use std::collections::BTreeMap;

use iotdm::agent::handled::Key;
use iotdm::agent::{Event, Settings};
use iotdm::protocol::ReqId;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::driver::{Driver, settings};

#[derive(Debug, Clone)]
enum Op {
    /// The service writes all of it.
    Whole(BTreeMap<String, u8>),
    /// The service writes or removes one member.
    Member(String, Option<u8>),
    /// The configuration is read anew.
    Configured(BTreeMap<String, u8>),
    /// The process dies and comes back with another configuration.
    Restart(BTreeMap<String, u8>),
    /// The last write of the service is delivered again.
    Again,
    /// The service hears what was said, and answers.
    Hears,
}

fn members() -> impl Strategy<Value = BTreeMap<String, u8>> {
    prop::collection::btree_map(name(), 0..3u8, 0..3)
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => members().prop_map(Op::Whole),
        3 => (name(), prop::option::of(0..3u8)).prop_map(|(name, value)| Op::Member(name, value)),
        2 => members().prop_map(Op::Configured),
        1 => members().prop_map(Op::Restart),
        2 => Just(Op::Again),
        3 => Just(Op::Hears),
    ]
}

/// One member is always there: without any, manage leaves what the service has.
fn object(members: &BTreeMap<String, u8>) -> Map<String, Value> {
    let members = members.iter().map(|(name, value)| (name.clone(), (*value).into()));
    members.chain([("z".to_owned(), 9.into())]).collect()
}

fn configured(members: &BTreeMap<String, u8>) -> Settings {
    Settings {
        metadata: Some(object(members)),
        ..settings("boot-1")
    }
}

struct World {
    driver: Driver,
    configuration: BTreeMap<String, u8>,
    /// Who said last what each member is.
    last_word: BTreeMap<String, u8>,
    /// What the service believes.
    registry: Map<String, Value>,
    /// The last update, which the broker may deliver again.
    last: Option<(String, String, Op)>,
    /// The process has died since, with what it had not written down.
    died: bool,
    requests: usize,
}

impl World {
    fn new() -> Self {
        let mut driver = Driver::with(configured(&BTreeMap::new()));
        driver.connect(false);
        driver.answer_manage(200);
        driver.request("observe", "o", r#","d":{"fields":[{"field":"metadata"}]}"#);
        driver.broker_has_all();
        driver.published.clear();
        World {
            driver,
            configuration: BTreeMap::new(),
            last_word: BTreeMap::new(),
            registry: object(&BTreeMap::new()),
            last: None,
            died: false,
            requests: 0,
        }
    }

    fn update(&mut self, op: &Op) {
        let (field, value) = match op {
            Op::Whole(members) => ("metadata".to_owned(), object(members).into()),
            Op::Member(name, value) => (format!("metadata.{name}"), json!(value)),
            _ => return,
        };
        self.said(op);
        self.requests += 1;
        let req_id = format!("u{}", self.requests);
        let field = json!({"field": field, "value": value}).to_string();
        self.driver.write(&req_id, &field);
        self.driver.broker_has_all();
        assert_eq!(self.driver.answers(&req_id), [204]);
        self.last = Some((req_id, field, op.clone()));
        self.died = false;
    }

    /// The service has the last word.
    fn said(&mut self, op: &Op) {
        match op {
            Op::Whole(members) => self.last_word = members.clone(),
            Op::Member(name, value) => {
                self.last_word.remove(name);
                self.last_word.extend(value.map(|value| (name.clone(), value)));
            }
            _ => {}
        }
    }

    /// The broker delivers at once after a connect what it has no acknowledgement for. What changed nothing may be
    /// forgotten by then, and is a word of now.
    fn again(&mut self) {
        let Some((req_id, field, op)) = self.last.clone() else {
            return;
        };
        let key = Key::new("update", &ReqId::new(req_id.clone()).unwrap());
        if self.died && !self.driver.on_disk().others.iter().any(|other| other.key == key) {
            self.said(&op);
        }
        self.driver.write(&req_id, &field);
        self.driver.broker_has_all();
        self.died = false;
    }

    /// What is edited in the configuration is said anew; what stands there as before is not.
    fn edited(&mut self, members: &BTreeMap<String, u8>) {
        for name in ["a", "b", "c"] {
            let now = members.get(name);
            if now != self.configuration.get(name) {
                self.last_word.remove(name);
                self.last_word.extend(now.map(|value| (name.to_owned(), *value)));
            }
        }
        self.configuration = members.clone();
    }

    fn happens(&mut self, op: &Op) {
        match op {
            Op::Whole(members) => {
                self.registry = object(members);
                self.update(op);
            }
            Op::Member(name, value) => {
                self.registry.shift_remove(name);
                self.registry.extend(value.map(|value| (name.clone(), value.into())));
                self.update(op);
            }
            Op::Configured(members) => {
                self.edited(members);
                self.driver.event(Event::Configured(Box::new(configured(members))));
            }
            Op::Restart(members) => {
                self.edited(members);
                self.driver.starts_with(configured(members));
                self.driver.connect(false);
                self.died = true;
            }
            Op::Again => self.again(),
            Op::Hears => {
                self.hears();
                self.last.take_if(|_| self.died);
            }
        }
    }

    fn hears(&mut self) {
        while !self.driver.published.is_empty() {
            for (id, topic, said) in std::mem::take(&mut self.driver.published) {
                self.driver.event(Event::Published(id));
                let d = &said["d"];
                if topic.ends_with("manage") {
                    if let Some(metadata) = d["metadata"].as_object() {
                        self.registry = metadata.clone();
                    }
                } else if topic.ends_with("notify") {
                    for (name, value) in d["fields"][0]["value"].as_object().unwrap() {
                        match value {
                            Value::Null => drop(self.registry.shift_remove(name)),
                            value => drop(self.registry.insert(name.clone(), value.clone())),
                        }
                    }
                } else {
                    continue;
                }
                let answer = json!({"rc": 200, "reqId": said["reqId"]}).to_string();
                self.driver.receive("iotdm-1/response", &answer);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn upd_02_the_last_word_counts_on_the_device_and_comes_to_count_at_the_service(ops in prop::collection::vec(op(), 1..25)) {
        let mut world = World::new();
        for op in &ops {
            world.happens(op);
            let device = crate::model::read(&world.driver, "metadata");
            prop_assert_eq!(device, Value::from(object(&world.last_word)), "after {:?}", op);
        }
        world.hears();
        prop_assert_eq!(Value::from(world.registry), Value::from(object(&world.last_word)));
        let committed = world.driver.commits;
        world.driver.restart();
        prop_assert_eq!(world.driver.commits, committed, "a start with the same configuration has nothing to say");
    }
}
