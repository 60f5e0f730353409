//! The shell around the agent's brain, which may die at every point of a step.

use std::collections::BTreeSet;

use iotdm::agent::event::Message;
use iotdm::agent::firmware::WhenToReboot;
use iotdm::agent::{
    AckId, After, Agent, CommandId, Disk as Says, Effect, Event, Now, OpId, PublishId, RebootOutcome, Settings, Step,
};

use crate::broker::{Cut, Who};
use crate::client::Told;
use crate::counts::Thing;
use crate::death::{Point, is_critical};
use crate::faults::Fault;
use crate::world::{Happening, World, note};

const FULL: &str = "state disk full";

/// A run of the agent.
pub struct Process {
    pub agent: Agent,
    pub run: u64,
    /// Which of the planned deadlines counts.
    deadline: u64,
    acknowledged: BTreeSet<AckId>,
    /// The health that it watches.
    pub watch: Option<OpId>,
    /// Publishes without an end.
    publishes: BTreeSet<PublishId>,
    /// Local commands without a reply.
    commands: BTreeSet<CommandId>,
}

/// How a write went.
enum Written {
    Whole,
    Refused,
    Died,
}

/// Whether another image is described, by the service or by somebody on the device.
fn is_description(event: &Event) -> bool {
    match event {
        Event::Message(message) => {
            let about_firmware = || String::from_utf8_lossy(&message.payload).contains("mgmt.firmware");
            message.topic.ends_with("device/update") && about_firmware()
        }
        Event::InstallFile(..) => true,
        _ => false,
    }
}

impl World {
    /// systemd starts the agent.
    pub fn agent_starts(&mut self) {
        if self.device.process.is_some() || !self.device.up || self.device.stopping {
            return;
        }
        if !self.has_agent() {
            return note!(self, "the agent of this image does not start");
        }
        self.read_facts();
        let newer = self.device.host.image().newer;
        let (durable, owed, from_newer) = self.device.disk.read(self.now, newer);
        if from_newer {
            self.counts.add(Thing::NewerState);
        }
        note!(self, "the agent starts in boot {}", self.device.boot);
        let agent = Agent::new(self.device.settings.clone(), durable, owed, self.random.bytes());
        let disk = &self.device.disk;
        self.truth.owed.retain(|id, req_id| disk.holds_with(*id, req_id));
        self.client_starts(Who::Agent);
        self.device.process = Some(Process {
            agent,
            run: self.clients[Who::Agent as usize].run,
            deadline: 0,
            acknowledged: BTreeSet::new(),
            watch: None,
            publishes: BTreeSet::new(),
            commands: BTreeSet::new(),
        });
        self.agent_handles(Event::Started, None);
        let run = self.clients[Who::Agent as usize].run;
        self.journal_is_opened(run);
        if self.device.firmware().reboot == WhenToReboot::Window {
            let window = self.device.window;
            self.agent_handles(Event::Window(window), None);
        }
    }

    /// The run of the agent that is carrying out a step.
    pub fn agent_run(&self) -> u64 {
        self.device.process.as_ref().expect("it carries out a step").run
    }

    pub fn is_run(&self, run: u64) -> bool {
        self.device.process.as_ref().is_some_and(|process| process.run == run)
    }

    pub fn agent_is_told(&mut self, told: Told) {
        match told {
            Told::Connected { session_present } => self.agent_handles(Event::Connected { session_present }, None),
            Told::Subscribed { .. } => {
                self.location_subscribed();
                self.agent_handles(Event::Subscribed, None);
            }
            Told::Disconnected => {
                self.nothing_is_held();
                self.location_disconnected();
                self.agent_handles(Event::Disconnected, None);
            }
            Told::Published(id) => self.agent_publish_ended(Event::Published(PublishId(id)), id),
            Told::NotPublished(id) => {
                self.location_not_published(id);
                self.agent_publish_ended(Event::NotPublished(PublishId(id)), id);
            }
            Told::Message { message, dup, token } => {
                self.request_arrives(&message);
                self.model_arrives(&message);
                let event = Event::Message(Message {
                    topic: message.topic.to_string(),
                    payload: message.payload.to_vec(),
                    retained: false,
                    dup,
                    ack: AckId(token),
                });
                self.observe_arrives(&message, dup);
                self.agent_handles(event, Some(message.number));
            }
        }
    }

    fn agent_publish_ended(&mut self, event: Event, id: u64) {
        if let Some(process) = &mut self.device.process {
            assert!(process.publishes.remove(&PublishId(id)), "every publish has one end");
        }
        self.agent_handles(event, None);
    }

    pub fn agent_is_commanded(&mut self, event: impl FnOnce(CommandId) -> Event) {
        self.entries += 1;
        let command = CommandId(self.entries);
        let Some(process) = &mut self.device.process else {
            return;
        };
        process.commands.insert(command);
        self.agent_handles(event(command), None);
    }

    pub fn agent_is_configured(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.device.settings);
        let settings = Box::new(self.device.settings.clone());
        self.agent_handles(Event::Configured(settings), None);
    }

    pub fn agent_deadline(&mut self, number: u64) {
        if self
            .device
            .process
            .as_ref()
            .is_some_and(|process| process.deadline == number)
        {
            self.agent_handles(Event::Deadline, None);
        }
    }

    /// One step, whole or not. `message`: the number of the broker's message that is handled.
    pub fn agent_handles(&mut self, event: Event, message: Option<u64>) {
        let Some(process) = &self.device.process else { return };
        let run = process.run;
        let now = self.device.now(self.now);
        let mut step = process.agent.handle(now, &event, Says::Works);
        let mut refused = false;
        let write = self.write_of(&event);
        self.describe(&event, &step);
        self.count_steps();
        let critical = is_critical(&event, &step);
        if self.dies(Point::Owe, critical) {
            return;
        }
        let before = self.device.disk.durable.clone();
        match self.write(&step, &event, critical) {
            Written::Died => return,
            Written::Refused if step.commit.is_some() => {
                let Some(process) = &self.device.process else { return };
                step = process.agent.handle(now, &event, Says::Refuses(FULL));
                assert!(step.commit.is_none(), "a step for a disk that refuses writes nothing");
                note!(self, "  the disk refuses");
                refused = true;
                if let Written::Died = self.write(&step, &event, critical) {
                    return;
                }
            }
            Written::Whole | Written::Refused => {}
        }
        if let Some(durable) = &step.commit {
            self.committed(durable, message);
            self.reset_committed(&before, durable);
            self.firmware_committed(&before, durable, is_description(&event));
            self.written(&step);
        }
        self.model_committed(&before, &step, &event, write, refused);
        if !self.has_agent() {
            return self.agent_is_killed();
        }
        if self.dies(Point::Adopt, critical) {
            return;
        }
        if let Some(process) = &mut self.device.process {
            process.agent.adopt(&step, &event);
        }
        self.check_acknowledged(&event, &step);
        for after in step.after {
            if self.dies(Point::Effect, critical) {
                return;
            }
            self.carry_out(after);
        }
        if self.device.process.as_ref().is_some_and(|process| process.run == run) {
            self.plan_deadline(now, &event);
        }
    }

    fn write(&mut self, step: &Step, event: &Event, critical: bool) -> Written {
        for (id, record) in &step.owe {
            if !(self.device.disk).append(self.now, *id, record, step.commit.is_some()) {
                return self.take_back(step);
            }
            self.owed(*id, event, record);
        }
        if self.dies(Point::Commit, critical) {
            return Written::Died;
        }
        if let Some(durable) = &step.commit
            && !self.device.disk.commit(durable)
        {
            return self.take_back(step);
        }
        Written::Whole
    }

    /// Of a step that commits, all is written or nothing.
    fn take_back(&mut self, step: &Step) -> Written {
        self.counts.add(Thing::DiskRefused);
        for (id, _) in step.owe.iter().filter(|_| step.commit.is_some()) {
            self.truth.owed.remove(id);
            if self.device.disk.holds(*id) {
                self.device.disk.remove(self.now, *id);
            }
        }
        Written::Refused
    }

    fn carry_out(&mut self, after: After) {
        let Some(process) = &mut self.device.process else {
            return;
        };
        match after {
            After::Ack(ack) => {
                assert!(process.acknowledged.insert(ack), "a message is acknowledged twice");
                self.request_is_taken(ack);
                self.acknowledge(Who::Agent, ack.0);
            }
            After::Reboot(op) => {
                let run = process.run;
                self.check_reboot();
                let at = self.now + self.random.skewed(1, 20_000);
                self.at(at, Happening::LogindIsAsked { run, op });
            }
            After::Effect(Effect::Publish { id, topic, payload }) => {
                process.publishes.insert(id);
                let waiting = process.publishes.len();
                assert!(waiting <= 10, "{waiting} publishes wait for their acknowledgement");
                let message = self.message(&topic, &payload);
                note!(self, "  says {} {topic} {}", id.0, String::from_utf8_lossy(&payload));
                self.check_published(&message);
                self.diagnostic_published(&message);
                self.check_location(id.0, &message);
                self.publish(Who::Agent, id.0, message);
            }
            After::Effect(Effect::Settle(id)) => {
                self.check_settle(id);
                self.device.disk.remove(self.now, id);
            }
            After::Effect(Effect::ReleaseDelayLock) => self.delay_lock_goes(true),
            After::Effect(Effect::Reply(command, _)) => {
                assert!(process.commands.remove(&command), "a command has one reply");
            }
            After::Effect(Effect::Say(say)) => {
                note!(self, "  log: {}", say.text);
                self.check_said(&say.text);
            }
            After::Effect(Effect::Survey(op, purpose)) => self.survey_begins(op, purpose),
            After::Effect(Effect::Watch(watch)) => self.watch_begins(watch),
            After::Effect(Effect::Marker(marker)) => self.marker_is_written(marker),
            After::Effect(Effect::Discard) => self.device.host.file = None,
            After::Effect(Effect::SurveyReset(op)) => self.reset_survey_begins(op),
            After::Effect(Effect::FollowReset { op, limit }) => self.reset_is_followed(op, limit),
            After::Effect(Effect::ReadResetReport(op)) => self.report_is_wanted(op),
            After::Effect(Effect::DiscardResetReport) => self.report_is_discarded(),
            After::Effect(Effect::WithdrawReset) => self.wish_is_withdrawn(),
            After::Effect(Effect::JournalTaken(batch)) => self.device.journal.taken = batch,
            After::Reset(op) => self.reset_begins(op),
            After::Download(op, image) => self.download_begins(op, image),
            After::Install { op, image, transaction } => self.install_begins(op, image, transaction),
            After::Rejoin(op) => self.rejoin_begins(op),
            After::Mark(op, marks) => self.marks_begin(op, marks),
        }
    }

    fn plan_deadline(&mut self, now: Now, event: &Event) {
        let Some(process) = &mut self.device.process else {
            return;
        };
        self.entries += 1;
        let number = self.entries;
        process.deadline = number;
        if let Some(at) = process.agent.next_deadline() {
            let wait = at.saturating_sub(now.boottime);
            let served = matches!(event, Event::Deadline) && wait.is_zero();
            assert!(!served, "the deadline that was just served comes again");
            let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).expect("not that long");
            self.at(self.now + ms, Happening::AgentDeadline { number });
        }
    }

    fn describe(&mut self, event: &Event, step: &Step) {
        if self.trace {
            let what = match event {
                Event::Message(message) => {
                    let dup = if message.dup { ", DUP" } else { "" };
                    format!("{}{dup} {}", message.topic, String::from_utf8_lossy(&message.payload))
                }
                Event::Configured(_) => "configured".to_owned(),
                other => format!("{other:?}"),
            };
            let commit = if step.commit.is_some() { ", commits" } else { "" };
            note!(self, "agent: {what} (owes {}{commit})", step.owe.len());
        }
    }

    /// The task that asked logind brings its answer.
    pub fn logind_answers(&mut self, run: u64, op: OpId, outcome: RebootOutcome) {
        if self.device.process.as_ref().is_some_and(|process| process.run == run) {
            if outcome == RebootOutcome::Accepted {
                self.truth.accepted_in = Some(self.device.boot);
            }
            if let Some(going) = &mut self.device.logind.going {
                going.lock_is_the_daemons = true;
                going.agent_knows = outcome == RebootOutcome::Accepted;
            }
            if !self.quiet && self.random.one_in(self.plan.cut_then) {
                let at = self.now + self.random.below(2 * self.plan.slowest_packet);
                let fault = Fault::Cut(Who::Agent, Cut::ClientFirst);
                self.at(at, Happening::Fault(fault));
            }
            self.agent_handles(Event::RebootEnded { op, outcome }, None);
        }
    }
}
