//! A factory reset is carried out at most once for a request, and has one truthful outcome: 202 and nothing after it when
//! everything was wiped, 500 when it was not.

use std::collections::{BTreeMap, BTreeSet};

use iotdm::agent::reset::record::{Phase, Reset as Record};
use iotdm::agent::{Durable, Step};

use crate::counts::Thing;
use crate::host::reset::{Report, Wish, mark};
use crate::world::{World, note};

/// So long the broker has to take the 202, in milliseconds.
const ANSWER_LIMIT: u64 = 5000;

/// The record of it.
#[derive(Debug, Default)]
pub struct Reset {
    /// Every wipe that came to its end.
    wipes: Vec<Report>,
    /// The reset that systemd was last asked for.
    asked: Option<(String, u64)>,
    /// The boots whose reports the service does not know yet.
    untold: BTreeSet<u32>,
    /// How often a report was written down as told.
    told: BTreeMap<u32, u32>,
}

fn is_same(one: &Record, other: &Record) -> bool {
    (&one.boot_id, one.asked_ms) == (&other.boot_id, other.asked_ms)
}

/// The requests that it answers, with the answers on the disk.
fn requests(reset: &Record, durable: &Durable) -> Vec<(String, u16, String)> {
    let ours = durable
        .handled
        .iter()
        .filter(|handled| reset.requests.contains(&handled.key));
    let answer = |handled: &iotdm::agent::handled::Handled| {
        let answer = handled.answer.clone().expect("what is accepted has an answer");
        (handled.req_id.clone(), answer.rc.0, answer.message.unwrap_or_default())
    };
    ours.map(answer).collect()
}

impl World {
    fn this_boot(&self) -> String {
        format!("boot-{}", self.device.boot)
    }

    /// Whether everything was wiped for a reset that was asked for in this boot.
    fn is_wiped(&self, boot_id: &str) -> bool {
        let mut wipes = self.truth.reset.wipes.iter().rev();
        let last = wipes.find(|wipe| format!("boot-{}", wipe.asked_in) == boot_id);
        last.is_some_and(|wipe| wipe.complete)
    }

    /// Whether a request that was accepted in this boot has reset the host.
    pub fn has_reset(&self, accepted_in: u32) -> bool {
        match self.device.host.reset.ours {
            true => self.is_wiped(&format!("boot-{accepted_in}")),
            false => accepted_in < self.device.boot,
        }
    }

    /// The disk has taken a new memory in the place of an old one.
    pub fn reset_committed(&mut self, before: &Durable, after: &Durable) {
        let (old, new) = (before.reset(), after.reset());
        if let Some(old) = old
            && new.is_none_or(|new| !is_same(old, new))
        {
            self.reset_ended(old, after);
        }
        let Some(new) = new else { return };
        if old.is_none_or(|old| !is_same(old, new)) {
            assert_eq!(new.boot_id, self.this_boot(), "it begins in this boot");
            assert!(
                new.phase == Phase::Accepted || new.requests.is_empty(),
                "it begins before anybody is told"
            );
            self.counts.add(match new.requests.is_empty() {
                true => Thing::ResetNoReqId,
                false => Thing::ResetBegan,
            });
        }
        if new.requests.len() > 1 {
            self.counts.add(Thing::ResetJoined);
        }
        for (req_id, rc, _) in requests(new, after) {
            assert_eq!(rc, 202, "{req_id} is under way");
        }
    }

    fn reset_ended(&mut self, reset: &Record, after: &Durable) {
        let here = reset.boot_id == self.this_boot();
        let wiped = self.is_wiped(&reset.boot_id);
        note!(self, "the reset ends");
        for (req_id, rc, text) in requests(reset, after) {
            match rc {
                202 if reset.reports => {
                    self.counts.add(Thing::ResetDone);
                    assert!(wiped, "{req_id}: 202, and not everything was wiped");
                }
                202 => {
                    self.counts.add(Thing::ResetWithoutReport);
                    assert!(!here && reset.phase == Phase::Starting, "{req_id}: 202, and no reboot");
                }
                _ if text.contains("not known") => self.counts.add(Thing::ReportUnreadable),
                _ => {
                    assert!(!wiped, "{req_id}: {rc}, and everything was wiped: {text}");
                    assert!(
                        !here
                            || !self
                                .truth
                                .reset
                                .wipes
                                .iter()
                                .any(|wipe| wipe.asked_in == self.device.boot),
                        "{req_id}: wiped without a boot"
                    );
                    self.counts.add(match text.contains("not complete") {
                        true => Thing::ResetIncomplete,
                        false if text.contains("not executed") => Thing::ResetNotExecuted,
                        false => Thing::ResetDidNotHappen,
                    });
                }
            }
            let wish = self.device.host.reset.wish.filter(|wish| wish.by_agent);
            assert!(
                rc == 202 || wish.is_none(),
                "{req_id} is told {rc}, and the next boot will wipe"
            );
        }
    }

    /// The agent goes on to ask systemd.
    pub fn check_reset(&mut self) {
        let durable = self.device.disk.durable.clone();
        let reset = durable.reset().expect("systemd is asked, and that is not on the disk");
        assert_eq!(
            (reset.phase, &reset.boot_id),
            (Phase::Starting, &self.this_boot()),
            "systemd is asked, and that is not on the disk"
        );
        assert!(
            self.device.host.rauc.installing.is_none(),
            "systemd is asked while RAUC installs"
        );
        // What came while it was starting is answered, and waited for by nobody.
        let this = (reset.boot_id.clone(), reset.asked_ms);
        let again = self.truth.reset.asked.replace(this.clone()) == Some(this);
        let waited = self.device.uptime(self.now) - reset.asked_ms;
        for (req_id, ..) in requests(reset, &durable) {
            let request = &self.truth.requests[&req_id];
            // What was delivered before a crash, and not recorded, is delivered all the same.
            assert!(
                again || request.at_broker == Some(202) || waited >= ANSWER_LIMIT || request.answered.is_none(),
                "{req_id}: the host is reset, and the broker does not have the 202"
            );
            assert!(
                request.answered.is_none_or(|rc| rc == 202),
                "{req_id} was refused, and resets the host"
            );
        }
    }

    /// A wipe has come to its end.
    pub fn wiped(&mut self, wish: Wish, report: Report) {
        let durable = self.device.disk.durable.clone();
        let boot_id = format!("boot-{}", wish.asked_in);
        let reset = durable
            .reset()
            .filter(|reset| reset.boot_id == boot_id && wish.by_agent);
        for (req_id, ..) in reset.map(|reset| requests(reset, &durable)).unwrap_or_default() {
            let request = self.truth.requests.get_mut(&req_id).expect("it was delivered");
            request.wished = Some(request.wished.unwrap_or(wish.asked_in));
            assert_eq!(request.wished, Some(wish.asked_in), "{req_id} has reset the host twice");
            assert!(
                request.answered.is_none_or(|rc| rc == 202),
                "{req_id} was refused, and the host is wiped"
            );
        }
        assert!(
            reset.is_some() || !wish.by_agent,
            "given up, and the host is wiped all the same"
        );
        if let Some(unread) = self.device.host.reset.report {
            // Nobody has seen it: the wipe was cut after it, or begun anew before the agent was up.
            self.truth.reset.untold.remove(&unread.boot);
        }
        self.truth.reset.wipes.push(report);
        self.truth.reset.untold.insert(report.boot);
    }

    /// A step is on the disk as a whole.
    pub fn reports_written(&mut self, step: &Step) {
        for wipe in &self.truth.reset.wipes {
            let mark = mark(wipe.boot);
            let tells = |record: &[u8]| String::from_utf8_lossy(record).contains(&mark);
            if step.owe.iter().any(|(_, record)| tells(record)) {
                let told = self.truth.reset.told.entry(wipe.boot).or_default();
                *told += 1;
                assert_eq!(*told, 1, "the same report is told twice");
            }
        }
    }

    /// The service has a log entry.
    pub fn report_received(&mut self, text: &str) {
        self.truth.reset.untold.retain(|boot| !text.contains(&mark(*boot)));
    }

    /// The agent has the report removed.
    pub fn check_discard(&mut self) {
        let told = self.device.disk.durable.reset_told.clone();
        let report = self.device.host.reset.report;
        assert!(
            report.is_none_or(|report| told == Some(format!("boot-{}", report.boot))),
            "the report goes, and the disk does not have that it was told"
        );
    }

    /// Long after the last fault.
    pub fn check_reset_settled(&self) {
        let host = &self.device.host.reset;
        assert!(host.wish.is_none(), "the next boot would wipe: {host:?}");
        assert!(host.report.is_none(), "a report is left: {host:?}");
        let untold = &self.truth.reset.untold;
        assert!(untold.is_empty(), "the service does not know of {untold:?}");
    }
}
