//! Attributes that an operator writes (REST API v0002: PUT of a device or its location).
//!
//! A managed device is asked first, by `device/update` with a request id, and what is written counts when it has answered
//! 204: until then it is not so. One that is not managed cannot be asked; there the registry alone is written, and the
//! device's next manage tells what it says itself.

use super::Service;
use super::message::say;
use super::requests::{check_timeout, refusal};
use super::rows::{Action, Change, RequestStep, StatusRow};
use super::step::{Now, Refusal, RefusalKind, Reply, Step, Write};
use super::written;
use crate::protocol::model::{FieldValue, kept_in};
use crate::protocol::{Device, MAX_PAYLOAD, Malformed, Rc, Request, Response};

/// The parameters of a request for these values, in the shape of the API.
fn to_parameters(values: &[FieldValue]) -> Vec<serde_json::Value> {
    let parameter = |FieldValue { field, value }: &FieldValue| serde_json::json!({"name": field, "value": value});
    values.iter().map(parameter).collect()
}

/// The values of such parameters. What was checked when the request was made reads well again.
pub(super) fn values(parameters: &[serde_json::Value]) -> Vec<FieldValue> {
    let value = |parameter: &serde_json::Value| {
        Some(FieldValue {
            field: parameter["name"].as_str()?.to_owned(),
            value: parameter["value"].clone(),
        })
    };
    parameters.iter().filter_map(value).collect()
}

/// `metadata, location`
pub(super) fn names(values: &[FieldValue]) -> String {
    let names: Vec<&str> = values.iter().map(|value| value.field.as_str()).collect();
    names.join(", ")
}

/// The attributes that a device says it could not change: strings, or as objects when it takes this for an observe.
pub(super) fn refused_fields(response: &Response) -> String {
    let named = response
        .d
        .clone()
        .map(|d| crate::protocol::model::parse_field_names("d", d));
    let named = named.and_then(Result::ok).unwrap_or_default();
    named.into_iter().take(8).collect::<Vec<_>>().join(", ")
}

impl Service {
    /// Writes the attributes of a device that is not managed, or asks a managed one to take them over.
    pub(super) fn write(&mut self, now: Now, write: Write, step: &mut Step) -> Result<Reply, Refusal> {
        let invalid = |malformed: Malformed| refusal(RefusalKind::Invalid, malformed.to_string());
        let device = write.device;
        let Some(row) = self.tables.device(&device).cloned() else {
            let message = format!("{device} is not registered: it has never been heard of here");
            return Err(refusal(RefusalKind::NotFound, message));
        };
        check_timeout(write.timeout)?;
        let values = written::read(&row, write.values, now).map_err(invalid)?;
        let mut changed = row.clone();
        written::put(&mut changed, &values, now).map_err(invalid)?;
        let changed = Box::new(changed);
        if row.managed.is_none() {
            self.change(step, Change::PutDevice(changed.clone()));
            let text = format!("is not managed: {} is written here and not told to it", names(&values));
            say(now, step, Some(device), "update", text);
            return Ok(Reply::Written { id: None, row: changed });
        }
        let bytes = Request::Update(values.clone())
            .to_payload(Some(&self.ids.next_req_id()))
            .len();
        if bytes > MAX_PAYLOAD {
            let reason = format!(
                "{} take {bytes} bytes together, and a message has at most {MAX_PAYLOAD}",
                names(&values)
            );
            return Err(refusal(RefusalKind::Invalid, reason));
        }
        self.check_unwritten(&device)?;
        self.make_room(1, step)?;
        let id = self.enqueue(
            now,
            Action::Update,
            to_parameters(&values),
            vec![device],
            write.timeout,
            step,
        );
        Ok(Reply::Written {
            id: Some(id),
            row: changed,
        })
    }

    /// One update at a time: it may be the whole of an attribute, and would undo what another is about to do.
    fn check_unwritten(&self, device: &Device) -> Result<(), Refusal> {
        let open = self.tables.open_of(device);
        let request = open
            .iter()
            .filter_map(|row| self.tables.request_by_number(row.request))
            .find(|request| request.action == Action::Update);
        let Some(request) = request else { return Ok(()) };
        let message = format!(
            "an earlier update of {device} is in progress (request {}); wait for its end, or cancel it",
            request.id
        );
        Err(refusal(RefusalKind::Conflict, message))
    }

    /// The device has taken over what was written. What has grown too large together with what it told meanwhile is
    /// left to its next manage.
    pub(super) fn on_written(&mut self, now: Now, device: &Device, values: &[FieldValue], step: &mut Step) {
        if let Some(mut device) = self.tables.device(device).cloned()
            && written::put(&mut device, values, now).is_ok()
        {
            self.change(step, Change::PutDevice(Box::new(device)));
        }
    }

    /// What of an update the device has taken over: not what it says that it keeps. There its own word counts, the last
    /// one that is known, until it tells again.
    pub(super) fn taken_of(&self, row: &StatusRow, response: &Response) -> Vec<FieldValue> {
        let kept = kept_in(response.message.as_deref().unwrap_or_default());
        let mut values = self.values_of(row);
        values.retain(|value| !kept.contains(&value.field.as_str()));
        let known = self.tables.device(&row.device).map(|device| &device.device_info);
        for value in values.iter_mut().filter(|value| value.field == "deviceInfo") {
            let serde_json::Value::Object(info) = &mut value.value else {
                continue;
            };
            for member in kept.iter().filter_map(|name| name.strip_prefix("deviceInfo.")) {
                match known.and_then(|known| known.get(member)) {
                    Some(known) => info.insert(member.to_owned(), known.clone()),
                    None => info.remove(member),
                };
            }
        }
        values
    }

    /// What an update writes; nothing for other requests.
    pub(super) fn values_of(&self, row: &StatusRow) -> Vec<FieldValue> {
        let request = self.tables.request_by_number(row.request);
        let request = request.filter(|request| request.action == Action::Update);
        request.map_or_else(Vec::new, |request| values(&request.parameters))
    }

    /// True while the device may still say that it has taken over what was written, though nobody waits any more: it gets
    /// a request again that it has refused when its acknowledgement was lost, and may have room on its disk then.
    pub(super) fn is_unwritten(&self, row: &StatusRow) -> bool {
        row.step == RequestStep::Update && row.rc != Some(Rc::CHANGED.0) && self.action(row) == Some(Action::Update)
    }
}
