//! What the service observes of a device, and what the device tells of it (protocol: "observe", "cancel", "notify").
//!
//! A field is observed as long as somebody wants it: a firmware action, an operator, or several of them. The device is
//! told to stop only when nobody does any more.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Service;
use super::attributes::{self, Field};
use super::firmware;
use super::message::Answer;
use super::reports::{BEFORE, first_time};
use super::rows::{Action, Change, DeviceRow, RequestStep, StatusRow};
use super::step::{Effect, Now, Step};
use crate::protocol::firmware::Firmware;
use crate::protocol::json::Members;
use crate::protocol::model::FieldValue;
use crate::protocol::{Address, Device, Malformed, Rc, ReqId, Request, Response};

/// The most fields of one observation.
const MAX_FIELDS: usize = 32;

/// Reads `parameters` of an observation: a list of `{"name": "field", "value": "location"}`.
///
/// # Errors
/// Names the parameter that is wrong.
pub(super) fn fields(parameters: &[Value]) -> Result<Vec<String>, Malformed> {
    if parameters.is_empty() || parameters.len() > MAX_FIELDS {
        let reason = format!(
            "has {} entries; an observation is of 1 to {MAX_FIELDS} fields",
            parameters.len()
        );
        return Err(Malformed::new("parameters", reason));
    }
    let mut fields = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let mut members = Members::of(format!("parameters[{index}]"), parameter.clone())?;
        if members.string("name")?.as_deref() != Some("field") {
            return Err(Malformed::new(members.path("name"), "must be \"field\""));
        }
        let field = members.string("value")?.unwrap_or_default();
        Field::check_name(&field).map_err(|malformed| Malformed::new(members.path("value"), malformed.to_string()))?;
        if Field::parse(&field).is_none() {
            let reason = "is no attribute that can be observed; there are location, metadata, deviceInfo, mgmt.firmware \
                          and their members, such as deviceInfo.fwVersion";
            return Err(Malformed::new(members.path("value"), reason));
        }
        if fields.contains(&field) {
            return Err(Malformed::new(members.path("value"), format!("{field} is given twice")));
        }
        fields.push(field);
    }
    Ok(fields)
}

impl Service {
    /// The fields that a request observes at some time; none for most actions.
    pub(super) fn fields_of(&self, row: &StatusRow) -> Vec<String> {
        match self.tables.request_by_number(row.request) {
            Some(request) if request.action.is_firmware() => vec![firmware::FIELD.to_owned()],
            Some(request) if request.action == Action::Observe => fields(&request.parameters).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Those of its fields that no other request wants, or is about to want.
    pub(super) fn fields_only_of(&self, row: &StatusRow) -> Vec<String> {
        let mut fields = self.fields_of(row);
        for other in self.tables.open_of(&row.device) {
            let wants = matches!(
                other.step,
                RequestStep::Observe | RequestStep::Initiate | RequestStep::Working
            );
            if other.request != row.request && wants {
                let wanted = self.fields_of(&other);
                fields.retain(|field| !wanted.contains(field));
            }
        }
        fields
    }

    /// Notes anew which fields of a device are observed: those of the requests that it has agreed to be observed for.
    pub(super) fn note_observed(&mut self, device: &Device, step: &mut Step) {
        let Some(mut row) = self.tables.device(device).cloned() else {
            return;
        };
        let Some(managed) = &mut row.managed else { return };
        let agreed = self.tables.open_of(device).into_iter().filter(|row| {
            matches!(
                row.step,
                RequestStep::Initiate | RequestStep::Working | RequestStep::Cancel
            )
        });
        let observed: BTreeSet<String> = agreed.flat_map(|row| self.fields_of(&row)).collect();
        if managed.observed != observed {
            managed.observed = observed;
            self.change(step, Change::PutDevice(Box::new(row)));
        }
    }

    /// Nobody waits for an answer to this. If it gets lost, the next notify is answered 404.
    pub(super) fn stop_observing(&mut self, device: &Device, fields: Vec<String>, step: &mut Step) {
        let cancel = Request::Cancel(fields);
        step.effects.push(Effect::Publish {
            id: self.next_publish_id(),
            topic: cancel.kind().topic(&Address::Device(device.clone())),
            payload: cancel.to_payload(None),
        });
    }

    /// The device notifies changes from now on, and may have said what holds at present. What cannot be read is as good
    /// as nothing: many agents say nothing. Returns what it told.
    pub(super) fn on_observed(
        &mut self,
        now: Now,
        row: &StatusRow,
        response: &Response,
        step: &mut Step,
    ) -> Vec<FieldValue> {
        let asked = self.fields_of(row);
        let told = response.d.clone().map(|d| FieldValue::parse_all("d", d));
        let told = told.and_then(Result::ok).unwrap_or_default();
        let mut known = self.tables.device(&row.device).cloned();
        let mut values = Vec::new();
        for told in told.into_iter().filter(|told| asked.contains(&told.field)) {
            let (Some(device), Some(field)) = (&mut known, Field::parse(&told.field)) else {
                continue;
            };
            let mut changed = device.clone();
            if attributes::replace(&mut changed, &field, told.value.clone(), now).is_ok() {
                *device = changed;
                values.push(told);
            }
        }
        if let Some(device) = known.filter(|_| !values.is_empty()) {
            self.change(step, Change::PutDevice(Box::new(device)));
        }
        values
    }

    /// Merges what changed into what is known. Nothing is taken when one field is wrong.
    pub(super) fn notify(
        &mut self,
        now: Now,
        mut row: DeviceRow,
        fields: Vec<FieldValue>,
        req_id: Option<&ReqId>,
        step: &mut Step,
    ) -> Answer {
        let Some(managed) = &row.managed else {
            return Answer::refused(Rc::NOT_FOUND, "the device is not managed");
        };
        let observed = managed.observed.clone();
        let mut changed = Map::new();
        for told in &fields {
            if let Err(malformed) = Field::check_name(&told.field) {
                return Answer::refused(Rc::BAD_REQUEST, malformed.to_string());
            }
            let covered = observed.iter().any(|field| attributes::covers(field, &told.field));
            let field = Field::parse(&told.field).filter(|_| covered);
            let Some(field) = field else {
                return Answer::refused(Rc::NOT_FOUND, format!("{} is not observed", told.field));
            };
            if let Err(malformed) = attributes::merge(&mut row, &field, told.value.clone(), &mut changed, now) {
                return Answer::refused(Rc::BAD_REQUEST, malformed.to_string());
            }
        }
        let changed = match Firmware::parse(firmware::FIELD, Value::Object(changed)) {
            Ok(changed) => changed,
            Err(malformed) => return Answer::refused(Rc::BAD_REQUEST, malformed.to_string()),
        };
        // MQTT may deliver it twice, the second time after the 202 of an action that came later.
        if !first_time(&mut row, req_id) {
            return Answer::nothing_new(BEFORE);
        }
        let device = row.device.clone();
        self.change(step, Change::PutDevice(Box::new(row)));
        self.on_notified(now, &device, &changed, step);
        Answer {
            values: fields,
            ..Answer::ok()
        }
    }
}
