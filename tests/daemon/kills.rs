//! SIGKILL of the agent at every point between the request and the reboot. Whatever is cut: a request makes the host
//! go down once at most, and the last answer to it is true.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::agent::Host;
use crate::bus::{Answer, PrivateBus, Scripted, login1};
use crate::reboot::call_off;
use crate::service::Service;
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::within;

/// Where the agent is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    /// The broker has the request.
    Requested,
    /// logind has the call, and has not answered it.
    In(&'static str),
    /// logind has answered it.
    After(&'static str),
    /// logind has the call to reboot and will do it, but its answer is lost.
    Unheard,
    /// The service has the 202.
    Answered,
    /// The agent knows that the broker has the 202, and has let go of its lock.
    Released,
}

const POINTS: [Point; 12] = [
    Point::Requested,
    Point::In("ListInhibitors"),
    Point::After("ListInhibitors"),
    Point::In("CanReboot"),
    Point::After("CanReboot"),
    Point::In("Inhibit"),
    Point::After("Inhibit"),
    Point::In("RebootWithFlags"),
    Point::Unheard,
    Point::After("RebootWithFlags"),
    Point::Answered,
    Point::Released,
];

/// What becomes of the host afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    /// The agent is restarted, and the host goes down if logind was asked to.
    GoesOn,
    /// The agent is restarted, and the shutdown is called off.
    CalledOff,
    /// The host is already down when the agent would come back.
    Down,
}

struct Scenario<'a> {
    service: &'a Service,
    bus: PrivateBus,
    login1: Scripted,
    host: Host,
    req_id: String,
    /// How many reboots logind has accepted in earlier boots.
    accepted: usize,
    /// Calls to reboot that came before this boot, or did not reach logind.
    before: usize,
}

impl Scenario<'_> {
    /// logind accepts the first call, and tells every other that it is on it.
    fn accepts(&self) {
        self.login1.answer(
            "RebootWithFlags",
            Answer::Then(Box::new(Answer::Done), Box::new(in_progress())),
        );
    }

    fn has_accepted(&self) -> bool {
        self.login1.count("RebootWithFlags") > self.before
    }

    /// Runs the agent up to the point, and kills it there.
    async fn run_to(&mut self, point: Point) {
        let agent = self.host.start();
        agent.managed().await;
        self.accepts();
        let hold = |member: &str| {
            let answer = match member {
                "ListInhibitors" => Answer::Locks(Vec::new()),
                "CanReboot" => Answer::Text("yes".to_owned()),
                "Inhibit" => Answer::Lock,
                _ => Answer::Done,
            };
            let permit = Arc::new(Notify::new());
            self.login1
                .answer(member, Answer::Hold(permit.clone(), Box::new(answer.clone())));
            (permit, answer)
        };
        let request = self.service.reboot(&self.host.id, &self.req_id);
        match point {
            Point::Requested => {
                request.await;
                agent.kill().await;
            }
            Point::In(member) => {
                let (permit, answer) = hold(member);
                request.await;
                within("the call", self.login1.called(member, 1)).await;
                agent.kill().await;
                self.login1.answer(member, answer);
                permit.notify_one();
                within("the service to go on", self.login1.answered(member, 1)).await;
                self.accepts();
                self.before = self.login1.count("RebootWithFlags");
            }
            Point::Unheard => {
                let (permit, _) = hold("RebootWithFlags");
                request.await;
                within("the call", self.login1.called("RebootWithFlags", 1)).await;
                agent.kill().await;
                self.login1.answer("RebootWithFlags", in_progress());
                permit.notify_one();
                within("the service to go on", self.login1.answered("RebootWithFlags", 1)).await;
            }
            Point::After(member) => {
                request.await;
                within("the answer", self.login1.answered(member, 1)).await;
                agent.kill().await;
            }
            Point::Answered => {
                request.await;
                self.service.answer(&self.req_id, 1).await;
                agent.kill().await;
            }
            Point::Released => {
                request.await;
                self.service.answer(&self.req_id, 1).await;
                let delivered = |status: &serde_json::Value| status["agent"]["answers_owed"] == 0;
                self.host.status_with("the acknowledgement", delivered).await;
                agent.kill().await;
            }
        }
    }

    fn answers(&self) -> Vec<u64> {
        let answers = self.service.answers(&self.req_id);
        answers.into_iter().map(|(rc, _)| rc).collect()
    }

    /// The host goes down and comes up, until the service knows how the request ended.
    async fn reboots(&mut self) {
        for _ in 0..2 {
            // The dead agent's last call may still be on its way.
            within("the bus", self.bus.alone("org.freedesktop.login1")).await;
            self.accepted += usize::from(self.has_accepted());
            self.before = self.login1.count("RebootWithFlags");
            self.host.boot();
            self.accepts();
            let earlier = self.service.said_by(&self.host.id).len();
            let agent = self.host.start();
            self.service
                .until("a manage after the answer, or another reboot", |said| {
                    let said: Vec<_> = said.iter().filter(|said| said.device() == self.host.id).collect();
                    let new = &said[earlier..];
                    let answered = said.iter().rposition(|said| said.tail() == "response");
                    let managed = said.iter().rposition(|said| said.is_manage());
                    let over = new.iter().any(|said| said.is_manage()) && answered.is_some() && managed > answered;
                    over || (self.has_accepted() && new.iter().any(|said| said.tail() == "response"))
                })
                .await;
            if !self.has_accepted() {
                self.redelivered().await;
                return;
            }
            // The request had not reached the agent before: this was the boot in which it did.
            agent.kill().await;
        }
        panic!("the host reboots again and again");
    }

    /// The same request once more: answered as before, and nothing done.
    async fn redelivered(&self) {
        let calls = self.login1.count("RebootWithFlags");
        let answers = self.answers();
        self.service.reboot(&self.host.id, &self.req_id).await;
        let (again, _) = self.service.answer(&self.req_id, answers.len() + 1).await;
        assert_eq!(Some(&again), answers.last());
        assert_eq!(self.login1.count("RebootWithFlags"), calls);
    }

    async fn play(mut self, point: Point, then: Then) {
        self.run_to(point).await;
        if then != Then::Down {
            let agent = self.host.start();
            agent.notes.line("READY=1").await;
            assert_eq!(self.service.answer(&self.req_id, 1).await.0, 202);
            // Silence until the host is down, or it is clear that it does not go down.
            let busy = |status: &serde_json::Value| status["agent"]["busy"] == "reboot accepted";
            self.host.status_with("the silence", busy).await;
            assert_eq!(self.service.manages(&self.host.id), 1, "a manage during the reboot");
            assert!(self.has_accepted());
            if then == Then::CalledOff {
                call_off(&self.login1, self.service, &self.req_id, self.answers().len() + 1).await;
                self.service.managed(&self.host.id, 2).await;
                self.redelivered().await;
                assert_eq!(self.answers().last(), Some(&500));
                return;
            }
            agent.kill().await;
        }
        self.reboots().await;
        assert_eq!(self.answers().last(), Some(&202));
        assert!(self.accepted <= 1, "{} reboots for one request", self.accepted);
    }
}

fn in_progress() -> Answer {
    Answer::Error(
        "org.freedesktop.login1.OperationInProgress",
        "The operation is already in progress",
    )
}

async fn everywhere(then: Then) {
    let broker = Mosquitto::start(&Setup::default()).await;
    let service = Service::start(broker.port).await;
    let scenarios = POINTS.into_iter().enumerate().map(|(number, point)| {
        let (service, port) = (&service, broker.port);
        async move {
            let bus = PrivateBus::start();
            let login1 = login1(&bus).await;
            let host = Host::new(&format!("gw-{number}"), bus.address());
            host.configure_for(&format!("mqtt://127.0.0.1:{}", port), "");
            let scenario = Scenario {
                service,
                bus,
                login1,
                host,
                req_id: format!("{point:?} {then:?}"),
                accepted: 0,
                before: 0,
            };
            scenario.play(point, then).await;
        }
    });
    futures_util::future::join_all(scenarios).await;
}

#[tokio::test]
async fn reb_04_reb_05_killed_anywhere_and_restarted_it_reboots_once_and_says_so() {
    everywhere(Then::GoesOn).await;
}

#[tokio::test]
async fn reb_05_reb_06_killed_anywhere_and_called_off_it_says_that_it_did_not_happen() {
    everywhere(Then::CalledOff).await;
}

#[tokio::test]
async fn reb_02_reb_04_killed_anywhere_and_down_with_the_host_it_says_that_it_happened() {
    everywhere(Then::Down).await;
}
