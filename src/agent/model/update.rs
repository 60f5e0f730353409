//! `device/update`: the service writes attributes, all of a request or none (protocol: "update device attributes").
//!
//! The service sends an attribute whole, and so also what it only knows from the device. That is left as it is without
//! a complaint; the answer names it when the service has it wrong, and one manage (or one location) sets it right.

use serde_json::{Map, Value};

use super::{
    Member, NAMED, Written, belongs_to_host, configured_info, configured_location, cut, device_info, metadata, names,
    receiver, report, split, too_many,
};
use crate::agent::Disk;
use crate::agent::durable::{Change, Durable};
use crate::agent::effect::{Level, Topic};
use crate::agent::firmware::{self, record::Firmware};
use crate::agent::inbox::{Asked, respond};
use crate::agent::work::Work;
use crate::agent::{lifecycle, observation};
use crate::protocol::model::{DeviceInfo, FieldValue, Location, check_metadata, kept_message};
use crate::protocol::{Malformed, Rc, timestamp};

/// The longest member of `deviceInfo` that is taken, in characters; the configuration has the same limit.
const INFO_CHARACTERS: usize = 256;

/// Why nothing of a request is done.
struct Refusal {
    rc: Rc,
    reason: String,
    names: Vec<String>,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        refusal(Rc::BAD_REQUEST, malformed.to_string())
    }
}

fn refusal(rc: Rc, reason: impl Into<String>) -> Refusal {
    Refusal {
        rc,
        reason: reason.into(),
        names: Vec::new(),
    }
}

/// What a request comes to.
struct Plan {
    written: Written,
    firmware: Option<Firmware>,
    /// Members of `deviceInfo` that the service has wrong.
    wrong: Vec<String>,
    /// It wrote a location, and the host knows better.
    measured: bool,
    /// It wrote a location, and that counts.
    placed: bool,
}

/// Attributes get these values, all of them or none.
pub(in crate::agent) fn update(work: &mut Work<'_>, fields: &[FieldValue], asked: Asked) {
    match plan(work, fields) {
        Ok(plan) => {
            let kept = kept_message(&plan.kept());
            carry_out(work, plan);
            respond(work, asked, Rc::CHANGED, &kept, None);
        }
        Err(Refusal { rc, reason, names }) => {
            let text = format!("an update of attributes was refused: {reason}");
            work.say(Level::Warning, Topic::MessageRefused, text);
            let names = names.into_iter().map(Value::from).collect::<Vec<_>>();
            respond(work, asked, rc, &reason, Some(names).filter(|names| !names.is_empty()));
        }
    }
}

/// Every field is looked at before anything is done.
fn plan(work: &Work<'_>, fields: &[FieldValue]) -> Result<Plan, Refusal> {
    if let Some(reason) = too_many(fields.len()) {
        return Err(refusal(Rc::BAD_REQUEST, reason));
    }
    let writable = |name: &str| match split(name) {
        None => false,
        Some((_, None)) => true,
        Some(("metadata", Some(member))) => !member.is_empty(),
        Some(("deviceInfo", Some(member))) => DeviceInfo::MEMBERS.contains(&member),
        Some(_) => super::read(work, name).is_some(),
    };
    let unknown = fields.iter().map(|field| field.field.as_str());
    let unknown: Vec<_> = unknown.filter(|name| !writable(name)).take(NAMED).map(cut).collect();
    if !unknown.is_empty() {
        let reason = format!("this device has no attribute {} that can be updated", names(&unknown));
        return Err(Refusal {
            names: unknown,
            ..refusal(Rc::NOT_FOUND, reason)
        });
    }
    if fields.is_empty() {
        return Err(refusal(
            Rc::BAD_REQUEST,
            "d.fields: is empty; name at least one attribute",
        ));
    }
    let mut plan = Plan {
        written: work.d.written.clone(),
        firmware: None,
        wrong: Vec::new(),
        measured: false,
        placed: false,
    };
    for (at, field) in fields.iter().enumerate() {
        let twice = |other: &FieldValue| overlap(&other.field, &field.field);
        if fields[..at].iter().any(twice) {
            let reason = format!("{}: is given twice", names(std::slice::from_ref(&field.field)));
            return Err(refusal(Rc::BAD_REQUEST, reason));
        }
        plan.write(work, field)?;
    }
    if plan.firmware.is_some() {
        firmware::may_describe(work).map_err(|(rc, reason)| refusal(rc, reason))?;
    }
    match work.disk {
        Disk::Refuses(reason) if plan.changes(work) => Err(refusal(Rc::INTERNAL, reason)),
        _ => Ok(plan),
    }
}

/// Whether two names are about the same: one of them twice, or an attribute and a member of it.
fn overlap(one: &str, other: &str) -> bool {
    match (split(one), split(other)) {
        (Some((a, x)), Some((b, y))) => a == b && (x == y || x.is_none() || y.is_none()),
        _ => one == other,
    }
}

impl Plan {
    fn write(&mut self, work: &Work<'_>, field: &FieldValue) -> Result<(), Refusal> {
        let value = field.value.clone();
        match split(&field.field) {
            Some(("metadata", None)) => match value {
                Value::Object(metadata) => self.write_metadata(work, metadata),
                other => {
                    let reason = format!(
                        "metadata: is {}; it must be an object",
                        crate::protocol::json::kind(&other)
                    );
                    Err(refusal(Rc::BAD_REQUEST, reason))
                }
            },
            Some(("metadata", Some(member))) if member.contains('.') => {
                let reason = "metadata: only a member of it can be written alone, not a member of that";
                Err(refusal(Rc::BAD_REQUEST, reason))
            }
            Some(("metadata", Some(member))) => {
                let mut whole = metadata(&work.settings, &self.durable()).unwrap_or_default();
                whole.insert(member.to_owned(), value);
                self.write_metadata(work, whole)
            }
            Some(("deviceInfo", None)) => {
                let info = DeviceInfo::parse("deviceInfo", value)?;
                self.write_info(work, info)
            }
            Some(("deviceInfo", Some(member))) => {
                let one = Map::from_iter([(member.to_owned(), value)]);
                let mut one = DeviceInfo::parse("deviceInfo", one.into())?;
                let mut whole = device_info(&work.settings, &self.durable());
                if let (Some(to), Some(from)) = (whole.member(member), one.member(member)) {
                    *to = from.take();
                }
                self.write_info(work, whole)
            }
            Some(("location", None)) => self.write_location(work, value),
            Some(("mgmt.firmware", None)) => {
                self.firmware = Some(firmware::described(value)?);
                Ok(())
            }
            _ => {
                let name = names(std::slice::from_ref(&field.field));
                let reason = format!("{name}: cannot be written alone, only the whole attribute");
                Err(refusal(Rc::BAD_REQUEST, reason))
            }
        }
    }

    /// The durable memory, as far as the model hangs on it.
    fn durable(&self) -> Durable {
        Durable {
            written: self.written.clone(),
            ..Durable::default()
        }
    }

    /// `null` is no value: the member goes.
    fn write_metadata(&mut self, work: &Work<'_>, mut metadata: Map<String, Value>) -> Result<(), Refusal> {
        metadata.retain(|_, value| !value.is_null());
        check_metadata("metadata", &metadata)?;
        let nothing = Map::new();
        let configured = work.settings.metadata.as_ref().unwrap_or(&nothing);
        let gone = configured.iter().filter(|(name, _)| !metadata.contains_key(*name));
        let gone = gone.map(|(name, over)| (name.clone(), Member::new(None, Some(over))));
        let new = metadata
            .iter()
            .filter(|(name, value)| configured.get(*name) != Some(value));
        let new = new.map(|(name, value)| (name.clone(), Member::new(Some(value.clone()), configured.get(name))));
        let before = std::mem::take(&mut self.written.metadata);
        let kept = |(name, member): (String, Member)| {
            let member = member.or_same(before.get(&name));
            (name, member)
        };
        self.written.metadata = gone.chain(new).map(kept).collect();
        Ok(())
    }

    fn write_info(&mut self, work: &Work<'_>, mut said: DeviceInfo) -> Result<(), Refusal> {
        let mut now = device_info(&work.settings, &self.durable());
        let mut without = device_info(&work.settings, &Durable::default());
        for name in DeviceInfo::MEMBERS {
            let take = |info: &mut DeviceInfo| info.member(name).and_then(Option::take).filter(|text| !text.is_empty());
            let (said, now, without) = (take(&mut said), take(&mut now), take(&mut without));
            if said.as_ref().is_some_and(|text| text.chars().count() > INFO_CHARACTERS) {
                let reason = format!("deviceInfo.{name}: is longer than {INFO_CHARACTERS} characters");
                return Err(refusal(Rc::BAD_REQUEST, reason));
            }
            if belongs_to_host(&work.settings, name) {
                if said != now {
                    self.wrong.push(format!("deviceInfo.{name}"));
                }
            } else if said == without {
                self.written.device_info.remove(name);
            } else {
                let over = configured_info(&work.settings, name);
                let member = Member::new(said.map(Value::from), over.as_ref());
                let member = member.or_same(self.written.device_info.get(name));
                self.written.device_info.insert(name.to_owned(), member);
            }
        }
        Ok(())
    }

    fn write_location(&mut self, work: &Work<'_>, value: Value) -> Result<(), Refusal> {
        let mut location = Location::parse("location", value)?;
        let measured = location.measured_date_time.as_deref().and_then(timestamp::parse);
        location.measured_date_time = measured.and_then(timestamp::format_ms);
        location.extra = Map::new();
        if work.v.located.measured().is_some() && receiver::is_alive(work) {
            self.measured = true;
            return Ok(());
        }
        self.placed = true;
        let (said, over) = (Value::from(location.to_object()), configured_location(&work.settings));
        let differs = over.as_ref() != Some(&said);
        let member = Member::new(Some(said), over.as_ref()).or_same(self.written.location.as_ref());
        self.written.location = differs.then_some(member);
        Ok(())
    }

    /// What the service has written and that stays as it is.
    fn kept(&self) -> Vec<String> {
        let location = self.measured.then(|| "location".to_owned());
        self.wrong.iter().cloned().chain(location).collect()
    }

    fn changes(&self, work: &Work<'_>) -> bool {
        self.written != work.d.written || self.firmware.is_some()
    }
}

fn carry_out(work: &mut Work<'_>, plan: Plan) {
    let before = lifecycle::content(&work.settings, &work.d);
    let old = work.d.written.clone();
    if plan.written != old {
        let text = format!("the service has written {}", names(&changed(&old, &plan.written)));
        work.say(Level::Info, Topic::Attributes, text);
    }
    observation::by_service(work, |work| {
        if plan.written != old {
            work.change(Change::Written(plan.written));
        }
        if plan.placed {
            report::placed(work);
        }
    });
    if let Some(described) = plan.firmware {
        firmware::describe(work, described);
    }
    if lifecycle::content(&work.settings, &work.d) != before {
        lifecycle::outdated(work);
    }
    if !plan.wrong.is_empty() {
        let text = format!(
            "{} belongs to this host and stays as it is; the service is told",
            names(&plan.wrong)
        );
        work.say(Level::Info, Topic::Attributes, text);
        lifecycle::set_right(work);
    }
    if plan.measured {
        let text = "the location is measured here and stays as it is; the service is told";
        work.say(Level::Info, Topic::Attributes, text);
        report::set_right(work);
    }
}

/// The names of what is written otherwise now.
fn changed(old: &Written, new: &Written) -> Vec<String> {
    let (old, new) = (old.by_name(), new.by_name());
    let differs = |name: &&String| old.get(*name) != new.get(*name);
    let mut names: Vec<_> = new.keys().filter(differs).cloned().collect();
    names.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned());
    names
}
