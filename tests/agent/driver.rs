//! The shell around the brain, without a host and without a broker: it keeps the "disk", and what was done.

use std::collections::BTreeMap;
use std::time::Duration;

use iotdm::agent::effect::{Health, Image, Mark, Marker, Purpose, Reply, Topic};
use iotdm::agent::event::Message;
use iotdm::agent::reset::record::Phase;
use iotdm::agent::*;
use iotdm::protocol::model::DeviceInfo;
use iotdm::protocol::{Address, ToDevice};
use serde_json::Value;

pub(crate) const FULL: &str = "state disk full: make room in /var/lib/iotdm-agent";

pub(crate) struct Driver {
    pub(crate) agent: Agent,
    pub(crate) now: Now,
    pub(crate) disk_full: bool,
    /// What a restart would find.
    pub(crate) disk: Vec<u8>,
    pub(crate) outbox: BTreeMap<OweId, Vec<u8>>,
    pub(crate) published: Vec<(PublishId, String, Value)>,
    pub(crate) acked: Vec<AckId>,
    pub(crate) reboots: Vec<OpId>,
    pub(crate) replies: Vec<(CommandId, Reply)>,
    pub(crate) said: Vec<(Topic, String)>,
    pub(crate) released: usize,
    pub(crate) surveys: Vec<(OpId, Purpose)>,
    pub(crate) downloads: Vec<(OpId, Image)>,
    /// Installations and rejoins, in order.
    pub(crate) installs: Vec<OpId>,
    pub(crate) rejoins: usize,
    pub(crate) marks: Vec<(OpId, Vec<(Mark, String)>)>,
    /// What a reboot waits for is marked at once.
    pub(crate) marks_at_once: bool,
    pub(crate) watch: Option<(OpId, Health)>,
    pub(crate) marker: Option<Marker>,
    pub(crate) discarded: usize,
    pub(crate) reset_surveys: Vec<OpId>,
    pub(crate) resets: Vec<OpId>,
    /// Jobs that are followed, and for how long.
    pub(crate) follows: Vec<(OpId, Duration)>,
    pub(crate) report_reads: Vec<OpId>,
    pub(crate) reports_discarded: usize,
    pub(crate) withdrawn: usize,
    pub(crate) commits: usize,
    pub(crate) batches_taken: Vec<u64>,
    last_ack: u64,
    starts: u8,
}

pub(crate) fn settings(boot: &str) -> Settings {
    Settings {
        identity: "d:acme:edge:gw-1".into(),
        service: "mqtts://service.example.com:8883".into(),
        address: Address::Session,
        lifetime: 24 * 3600,
        metadata: None,
        device_info: DeviceInfo {
            fw_version: Some("1.0".into()),
            ..DeviceInfo::default()
        },
        configured_info: DeviceInfo::default(),
        location: None,
        tracking: None,
        diagnostics: None,
        reboot_enabled: true,
        reset_enabled: true,
        firmware: firmware::Settings {
            supported: Ok(()),
            mark_good: true,
            ..firmware::Settings::default()
        },
        boot_id: boot.into(),
    }
}

impl Driver {
    /// An agent that has just started for the first time, up for 20 minutes, not connected.
    pub(crate) fn new() -> Self {
        Self::with(settings("boot-1"))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut driver = Driver {
            agent: Agent::new(settings, Durable::default(), Vec::new(), [0; 16]),
            now: Now {
                boottime: Duration::from_secs(1200),
                wall: Some(1_714_557_600),
            },
            disk_full: false,
            disk: b"{}".to_vec(),
            outbox: BTreeMap::new(),
            published: Vec::new(),
            acked: Vec::new(),
            reboots: Vec::new(),
            replies: Vec::new(),
            said: Vec::new(),
            released: 0,
            surveys: Vec::new(),
            downloads: Vec::new(),
            installs: Vec::new(),
            rejoins: 0,
            marks: Vec::new(),
            marks_at_once: true,
            watch: None,
            marker: None,
            discarded: 0,
            reset_surveys: Vec::new(),
            resets: Vec::new(),
            follows: Vec::new(),
            report_reads: Vec::new(),
            reports_discarded: 0,
            withdrawn: 0,
            commits: 0,
            batches_taken: Vec::new(),
            last_ack: 0,
            starts: 0,
        };
        driver.event(Event::Started);
        driver
    }

    /// Connected, subscribed, and managed.
    pub(crate) fn managed() -> Self {
        let mut driver = Self::new();
        driver.connect(false);
        driver.answer_manage(200);
        driver.published.clear();
        driver
    }

    pub(crate) fn connect(&mut self, session_present: bool) {
        self.event(Event::Connected { session_present });
        self.event(Event::Subscribed);
    }

    pub(crate) fn event(&mut self, event: Event) {
        let mut step = self.agent.handle(self.now, &event, Disk::Works);
        if step.commit.is_some() && self.disk_full {
            step = self.agent.handle(self.now, &event, Disk::Refuses(FULL));
            assert!(step.commit.is_none(), "a step for a disk that refuses writes nothing");
        }
        for (id, record) in &step.owe {
            self.outbox.insert(*id, record.clone());
        }
        if let Some(durable) = &step.commit {
            self.disk = durable.to_json();
            self.commits += 1;
        }
        self.agent.adopt(&step, &event);
        let mut waits = None;
        for after in step.after {
            match after {
                After::Ack(ack) => self.acked.push(ack),
                After::Reboot(op) => {
                    assert!(
                        self.on_disk().reboot().is_some(),
                        "logind is asked only when that is on the disk"
                    );
                    self.reboots.push(op);
                }
                After::Effect(Effect::Publish { id, topic, payload }) => {
                    let payload = serde_json::from_slice(&payload).unwrap();
                    self.published.push((id, topic, payload));
                }
                After::Effect(Effect::Settle(id)) => drop(self.outbox.remove(&id)),
                After::Effect(Effect::ReleaseDelayLock) => self.released += 1,
                After::Effect(Effect::Reply(command, reply)) => self.replies.push((command, reply)),
                After::Effect(Effect::Say(say)) => self.said.push((say.topic, say.text)),
                After::Effect(Effect::Survey(op, purpose)) => self.surveys.push((op, purpose)),
                After::Effect(Effect::Watch(watch)) => self.watch = watch,
                After::Effect(Effect::Marker(marker)) => self.marker = marker,
                After::Effect(Effect::Discard) => self.discarded += 1,
                After::Effect(Effect::SurveyReset(op)) => self.reset_surveys.push(op),
                After::Effect(Effect::FollowReset { op, limit }) => self.follows.push((op, limit)),
                After::Effect(Effect::ReadResetReport(op)) => self.report_reads.push(op),
                After::Effect(Effect::DiscardResetReport) => self.reports_discarded += 1,
                After::Effect(Effect::WithdrawReset) => self.withdrawn += 1,
                After::Effect(Effect::JournalTaken(batch)) => self.batches_taken.push(batch),
                After::Reset(op) => {
                    let disk = self.on_disk();
                    let starting = disk.reset().is_some_and(|reset| reset.phase == Phase::Starting);
                    assert!(starting, "systemd is asked only when that is on the disk");
                    self.resets.push(op);
                }
                After::Download(op, image) => {
                    assert_eq!(
                        self.on_disk().firmware.state,
                        1,
                        "fetched only when that is on the disk"
                    );
                    self.downloads.push((op, image));
                }
                After::Install { op, .. } => {
                    assert!(
                        self.on_disk().update().is_some(),
                        "installed only when that is on the disk"
                    );
                    self.installs.push(op);
                }
                After::Rejoin(op) => {
                    self.rejoins += 1;
                    self.installs.push(op);
                }
                After::Mark(op, marks) => {
                    waits = self.on_disk().reboot().is_some().then_some(op);
                    self.marks.push((op, marks));
                }
            }
        }
        if let Some(op) = waits.filter(|_| self.marks_at_once) {
            self.event(Event::Marked { op, result: Ok(()) });
        }
    }

    /// What a restart would read.
    pub(crate) fn on_disk(&self) -> Durable {
        Durable::from_json(&self.disk).unwrap()
    }

    /// A message of the service; returns what it is to be acknowledged with.
    pub(crate) fn receive(&mut self, topic: &str, payload: &str) -> AckId {
        self.deliver(topic, payload.as_bytes(), false, false)
    }

    pub(crate) fn deliver(&mut self, topic: &str, payload: &[u8], retained: bool, dup: bool) -> AckId {
        self.last_ack += 1;
        let ack = AckId(self.last_ack);
        let payload = payload.to_vec();
        self.event(Event::Message(Message {
            topic: topic.into(),
            payload,
            retained,
            dup,
            ack,
        }));
        ack
    }

    pub(crate) fn ask_reboot(&mut self, req_id: &str) -> AckId {
        let topic = ToDevice::Reboot.topic(&Address::Session);
        self.receive(&topic, &format!(r#"{{"reqId":"{req_id}"}}"#))
    }

    pub(crate) fn reboot_ends(&mut self, outcome: RebootOutcome) {
        let op = *self.reboots.last().unwrap();
        self.event(Event::RebootEnded { op, outcome });
    }

    pub(crate) fn ask_reset(&mut self, req_id: &str) -> AckId {
        let topic = ToDevice::FactoryReset.topic(&Address::Session);
        self.receive(&topic, &format!(r#"{{"reqId":"{req_id}"}}"#))
    }

    /// The look at the host is done.
    pub(crate) fn reset_surveyed(&mut self, found: Result<ResetReady, ResetRefused>) {
        let op = *self.reset_surveys.last().unwrap();
        self.event(Event::ResetSurveyed { op, found });
    }

    pub(crate) fn reset_ends(&mut self, outcome: ResetOutcome) {
        let op = *self.resets.last().unwrap();
        self.event(Event::ResetEnded { op, outcome });
    }

    pub(crate) fn follow_ends(&mut self, outcome: ResetOutcome) {
        let (op, _) = *self.follows.last().unwrap();
        self.event(Event::ResetEnded { op, outcome });
    }

    pub(crate) fn report_is(&mut self, report: Result<Option<ResetReport>, String>) {
        let op = *self.report_reads.last().unwrap();
        self.event(Event::ResetReported { op, report });
    }

    /// The broker acknowledges everything that was published so far.
    pub(crate) fn broker_has_all(&mut self) {
        let ids: Vec<_> = self.published.iter().map(|(id, ..)| *id).collect();
        for id in ids {
            self.event(Event::Published(id));
        }
    }

    /// The service answers the last manage.
    pub(crate) fn answer_manage(&mut self, rc: u16) {
        let req_id = self.on("mgmt/manage").last().unwrap()["reqId"]
            .as_str()
            .unwrap()
            .to_owned();
        self.receive("iotdm-1/response", &format!(r#"{{"rc":{rc},"reqId":"{req_id}"}}"#));
    }

    /// A message on a topic with this end, with a request id.
    pub(crate) fn write(&mut self, req_id: &str, fields: &str) {
        self.request("device/update", req_id, &format!(r#","d":{{"fields":[{fields}]}}"#));
    }

    /// The service answers the last location that it was told.
    pub(crate) fn answer_location(&mut self, rc: u16) {
        let req_id = self.on("update/location").last().unwrap()["reqId"]
            .as_str()
            .unwrap()
            .to_owned();
        self.receive("iotdm-1/response", &format!(r#"{{"rc":{rc},"reqId":"{req_id}"}}"#));
    }

    /// Time passes; deadlines come when they are due.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now.boottime + duration;
        for _ in 0..10_000 {
            match self.agent.next_deadline() {
                Some(at) if at <= end => {
                    self.set_boottime(at.max(self.now.boottime));
                    self.event(Event::Deadline);
                }
                _ => {
                    self.set_boottime(end);
                    return;
                }
            }
        }
        panic!("a deadline that is over comes again and again");
    }

    fn set_boottime(&mut self, to: Duration) {
        let passed = to.saturating_sub(self.now.boottime).as_secs();
        self.now = Now {
            boottime: to,
            wall: self.now.wall.map(|wall| wall + passed as i64),
        };
    }

    /// The process dies and starts again in the same boot.
    pub(crate) fn restart(&mut self) {
        self.start_again(self.agent.settings().clone());
    }

    /// The host reboots.
    pub(crate) fn host_reboots(&mut self, boot: &str) {
        self.now.boottime = Duration::from_secs(20);
        self.start_again(Settings {
            boot_id: boot.into(),
            ..self.agent.settings().clone()
        });
    }

    /// The same, with other settings.
    pub(crate) fn starts_with(&mut self, settings: Settings) {
        self.start_again(settings);
    }

    fn start_again(&mut self, settings: Settings) {
        self.starts += 1;
        let owed = self.outbox.clone().into_iter().collect();
        let durable = Durable::from_json(&self.disk).unwrap();
        self.agent = Agent::new(settings, durable, owed, [self.starts; 16]);
        self.published.clear();
        self.watch = None;
        self.event(Event::Started);
    }

    /// The payloads published on topics with this end.
    pub(crate) fn on(&self, tail: &str) -> Vec<&Value> {
        self.published
            .iter()
            .filter(|(_, topic, _)| topic.ends_with(tail))
            .map(|(.., payload)| payload)
            .collect()
    }

    /// The ends of all topics published on, in order.
    pub(crate) fn order(&self) -> Vec<&str> {
        self.published
            .iter()
            .map(|(_, topic, _)| topic.rsplit('/').next().unwrap())
            .collect()
    }

    /// The return codes answered to a request, in order.
    pub(crate) fn answers(&self, req_id: &str) -> Vec<u64> {
        let ours = |payload: &&Value| payload["reqId"] == req_id;
        self.on("response")
            .into_iter()
            .filter(ours)
            .map(|payload| payload["rc"].as_u64().unwrap())
            .collect()
    }

    /// The reason of the last answer to a request.
    pub(crate) fn reason(&self, req_id: &str) -> String {
        let ours = |payload: &&Value| payload["reqId"] == req_id;
        let last = self.on("response").into_iter().rfind(ours).unwrap();
        last["message"].as_str().unwrap_or_default().to_owned()
    }
}
