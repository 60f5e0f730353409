//! The rows in memory, with the indexes that the brain looks things up by. Decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::CANCEL_PATIENCE_MS;
use super::rows::{Change, DeviceRow, RequestRow, RequestStep, Rows, StatusRow};
use crate::protocol::{Device, ReqId};

/// Something whose time has come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The lifetime of a device has passed.
    Dormant(Device),
    /// The timeout of a request has passed.
    Timeout(i64),
    /// A device has not answered the cancel of an observation.
    Unanswered(i64, Device),
}

/// A status row's key: the request's number and the device.
pub(super) type Key = (i64, Device);

/// All rows and the indexes over them.
#[derive(Debug, Default)]
pub(super) struct Tables {
    devices: BTreeMap<Device, DeviceRow>,
    requests: BTreeMap<i64, RequestRow>,
    numbers: HashMap<String, i64>,
    statuses: BTreeMap<Key, StatusRow>,
    req_ids: HashMap<ReqId, Key>,
    /// By the request id that a firmware action was initiated with.
    initiated: HashMap<ReqId, Key>,
    /// Which requests are in progress with a device.
    open: BTreeMap<Device, BTreeSet<i64>>,
    /// With how many devices a request is in progress; none is left out.
    open_devices: BTreeMap<i64, usize>,
    /// In progress and without a PUBACK.
    unsent: BTreeSet<Key>,
    due: BTreeSet<(i64, Due)>,
}

impl Tables {
    pub(super) fn restore(rows: Rows) -> Self {
        let mut tables = Tables::default();
        rows.devices.into_iter().for_each(|row| tables.put_device(row));
        rows.requests.into_iter().for_each(|row| tables.put_request(row));
        rows.statuses.into_iter().for_each(|row| tables.put_status(row));
        tables
    }

    pub(super) fn rows(&self) -> Rows {
        Rows {
            devices: self.devices.values().cloned().collect(),
            requests: self.requests.values().cloned().collect(),
            statuses: self.statuses.values().cloned().collect(),
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::PutDevice(row) => self.put_device((**row).clone()),
            Change::PutRequest(row) => self.put_request(row.clone()),
            Change::DeleteDevice(device) => self.delete_device(device),
            Change::DeleteRequest(number) => self.delete_request(*number),
            Change::PutStatus(row) => self.put_status(row.clone()),
            // Only the registry keeps these.
            Change::AddLog(_)
            | Change::ClearLogs(_)
            | Change::DeleteLog(..)
            | Change::AddErrorCode(_)
            | Change::ClearErrorCodes(_) => {}
        }
    }

    fn put_device(&mut self, row: DeviceRow) {
        if let Some(due) = self.devices.get(&row.device).and_then(dormant) {
            self.due.remove(&due);
        }
        self.due.extend(dormant(&row));
        self.devices.insert(row.device.clone(), row);
    }

    fn delete_device(&mut self, device: &Device) {
        if let Some(due) = self.devices.remove(device).as_ref().and_then(dormant) {
            self.due.remove(&due);
        }
    }

    fn put_request(&mut self, row: RequestRow) {
        self.numbers.insert(row.id.clone(), row.number);
        self.requests.insert(row.number, row);
    }

    fn delete_request(&mut self, number: i64) {
        let devices: Vec<Device> = self
            .statuses_after(number, None)
            .map(|row| row.device.clone())
            .collect();
        for device in devices {
            self.remove_status(&(number, device));
        }
        if let Some(row) = self.requests.remove(&number) {
            self.numbers.remove(&row.id);
        }
    }

    fn put_status(&mut self, row: StatusRow) {
        let key = (row.request, row.device.clone());
        self.remove_status(&key);
        if !row.is_complete() {
            self.open.entry(row.device.clone()).or_default().insert(row.request);
            let open = self.open_devices.entry(row.request).or_default();
            *open += 1;
            if *open == 1
                && let Some(request) = self.requests.get(&row.request)
            {
                self.due.insert((request.deadline_ms, Due::Timeout(row.request)));
            }
            if row.sent_ms.is_none() {
                self.unsent.insert(key.clone());
            }
            self.due.extend(unanswered(&row));
        }
        self.req_ids.insert(row.req_id.clone(), key.clone());
        if let Some(req_id) = &row.initiated {
            self.initiated.insert(req_id.clone(), key.clone());
        }
        self.statuses.insert(key, row);
    }

    fn remove_status(&mut self, key: &Key) {
        let Some(row) = self.statuses.remove(key) else { return };
        self.req_ids.remove(&row.req_id);
        if let Some(req_id) = &row.initiated {
            self.initiated.remove(req_id);
        }
        self.unsent.remove(key);
        if row.is_complete() {
            return;
        }
        if let Some(due) = unanswered(&row) {
            self.due.remove(&due);
        }
        if let Some(open) = self.open.get_mut(&row.device) {
            open.remove(&row.request);
            if open.is_empty() {
                self.open.remove(&row.device);
            }
        }
        if let Some(open) = self.open_devices.get_mut(&row.request) {
            *open -= 1;
            if *open == 0 {
                self.open_devices.remove(&row.request);
                if let Some(request) = self.requests.get(&row.request) {
                    self.due.remove(&(request.deadline_ms, Due::Timeout(row.request)));
                }
            }
        }
    }

    pub(super) fn device(&self, device: &Device) -> Option<&DeviceRow> {
        self.devices.get(device)
    }

    pub(super) fn device_count(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn devices_after(&self, after: Option<&Device>) -> impl Iterator<Item = &DeviceRow> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.devices
            .range::<Device, _>((from, Bound::Unbounded))
            .map(|(_, row)| row)
    }

    pub(super) fn request(&self, id: &str) -> Option<&RequestRow> {
        self.requests.get(self.numbers.get(id)?)
    }

    pub(super) fn request_by_number(&self, number: i64) -> Option<&RequestRow> {
        self.requests.get(&number)
    }

    pub(super) fn request_count(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn requests_after(&self, after: i64) -> impl Iterator<Item = &RequestRow> {
        self.requests
            .range((Bound::Excluded(after), Bound::Unbounded))
            .map(|(_, row)| row)
    }

    /// The number of the next request: one more than the largest that is kept.
    pub(super) fn next_number(&self) -> i64 {
        self.requests.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    pub(super) fn is_complete(&self, number: i64) -> bool {
        !self.open_devices.contains_key(&number)
    }

    pub(super) fn status(&self, number: i64, device: &Device) -> Option<&StatusRow> {
        self.statuses.get(&(number, device.clone()))
    }

    pub(super) fn status_by_req_id(&self, req_id: &ReqId) -> Option<&StatusRow> {
        self.statuses.get(self.req_ids.get(req_id)?)
    }

    pub(super) fn status_by_initiated(&self, req_id: &ReqId) -> Option<&StatusRow> {
        self.statuses.get(self.initiated.get(req_id)?)
    }

    pub(super) fn status_total(&self) -> usize {
        self.statuses.len()
    }

    pub(super) fn status_count(&self, number: i64) -> usize {
        self.statuses_after(number, None).count()
    }

    pub(super) fn statuses_after(&self, number: i64, after: Option<&Device>) -> impl Iterator<Item = &StatusRow> {
        let after = after.cloned();
        self.statuses
            .range(match &after {
                Some(device) => (Bound::Excluded((number, device.clone())), Bound::Unbounded),
                None => (Bound::Included((number, least())), Bound::Unbounded),
            })
            .take_while(move |((request, _), _)| *request == number)
            .map(|(_, row)| row)
    }

    /// What is in progress with a device, oldest first.
    pub(super) fn open_of(&self, device: &Device) -> Vec<StatusRow> {
        let numbers = self.open.get(device).into_iter().flatten();
        numbers
            .filter_map(|number| self.status(*number, device))
            .cloned()
            .collect()
    }

    /// What is in progress with a request.
    pub(super) fn open_with(&self, number: i64) -> Vec<StatusRow> {
        self.statuses_after(number, None)
            .filter(|row| !row.is_complete())
            .cloned()
            .collect()
    }

    /// What waits to be published, oldest first.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &Key> {
        self.unsent.iter()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The first thing whose time has come. The caller changes the row, and with it this is gone.
    pub(super) fn due_by(&self, now_ms: i64) -> Option<Due> {
        let (at, due) = self.due.first()?;
        (*at <= now_ms).then(|| due.clone())
    }
}

/// When the lifetime of a device ends.
fn dormant(row: &DeviceRow) -> Option<(i64, Due)> {
    let at = row.managed.as_ref()?.dormant_ms?;
    Some((at, Due::Dormant(row.device.clone())))
}

/// When the patience with a cancel ends.
fn unanswered(row: &StatusRow) -> Option<(i64, Due)> {
    let at = row.step_ms.saturating_add(CANCEL_PATIENCE_MS);
    (row.step == RequestStep::Cancel).then(|| (at, Due::Unanswered(row.request, row.device.clone())))
}

/// The first device in the order of type and id: '-' is the smallest character that a name may hold.
fn least() -> Device {
    Device::new("-", "-").expect("'-' is a name")
}
