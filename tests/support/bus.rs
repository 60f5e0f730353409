//! A private dbus-daemon that stands for the system bus, and scripted services on it.
//!
//! The bus is real. A service on it is a script: for each method an [`Answer`], so that every refusal that a real
//! logind gives on some Debian can be given here at will.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tokio::sync::{Notify, watch};
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, Variant};

/// A dbus-daemon of one's own; it ends when this is dropped.
pub struct PrivateBus {
    daemon: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl PrivateBus {
    /// Starts it and returns when it listens.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Other users come to a system bus, too.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let config = folder.path().join("bus.conf");
        let socket = folder.path().join("bus");
        let text = format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#,
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--print-address=1", "--config-file"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed (Debian package dbus-daemon)");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        assert!(
            address.starts_with("unix:path="),
            "dbus-daemon did not start: {address:?}"
        );
        Self {
            daemon,
            address: address.trim().to_owned(),
            _folder: folder,
        }
    }

    /// Returns once somebody owns `name`.
    pub async fn appears(&self, name: &str) {
        let connection = zbus::connection::Builder::address(self.address())
            .build()
            .await
            .unwrap();
        let bus = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
        let mut changes = bus.receive_name_owner_changed().await.unwrap();
        while !bus.name_has_owner(name.try_into().unwrap()).await.unwrap() {
            changes.next().await.unwrap();
        }
    }

    /// Returns once nobody owns `name`.
    pub async fn disappears(&self, name: &str) {
        let connection = zbus::connection::Builder::address(self.address())
            .build()
            .await
            .unwrap();
        let bus = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
        let mut changes = bus.receive_name_owner_changed().await.unwrap();
        while bus.name_has_owner(name.try_into().unwrap()).await.unwrap() {
            changes.next().await.unwrap();
        }
    }

    /// Returns when nobody but `service` is left on the bus and it has seen everything that the others had sent it.
    pub async fn alone(&self, service: &str) {
        let connection = zbus::connection::Builder::address(self.address())
            .build()
            .await
            .unwrap();
        let bus = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
        let mut changes = bus.receive_name_owner_changed().await.unwrap();
        let others =
            |names: &[zbus::names::OwnedBusName]| names.iter().filter(|name| name.starts_with(':')).count() > 2;
        while others(&bus.list_names().await.unwrap()) {
            changes.next().await.unwrap();
        }
        let path = "/org/freedesktop/login1";
        let ping = connection.call_method(Some(service), path, Some("org.freedesktop.DBus.Peer"), "Ping", &());
        // It need not know the call, only answer it.
        drop(ping.await);
    }

    /// SIGSTOP: it takes connections, and says nothing.
    pub fn freeze(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.daemon.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    }

    /// What belongs into `DBUS_SYSTEM_BUS_ADDRESS`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What a scripted service says to a call.
#[derive(Clone)]
pub enum Answer {
    /// An empty reply.
    Done,
    Text(String),
    Number(u64),
    Truth(bool),
    Path(String),
    /// For `ListInhibitors`: what, who, why, mode, uid, pid.
    Locks(Vec<(String, String, String, String, u32, u32)>),
    /// A descriptor; the service keeps the other end in [`Scripted::locks`].
    Lock,
    /// For `GetSlotStatus`: slot name and its string members.
    Slots(Vec<(String, Vec<(String, String)>)>),
    /// For `Mark`: two texts.
    Pair(String, String),
    /// For `InspectBundle`: what is in the manifest's section `update`, wrapped as RAUC wraps it.
    Manifest(Vec<(String, String)>),
    /// For `ListUnitsFiltered`: the units' names.
    Units(Vec<String>),
    /// A property that is a list.
    Names(Vec<String>),
    /// A property of bytes.
    Bytes(Vec<u8>),
    /// A unit's `Job`: the number, and the path.
    Job(u32, String),
    /// A D-Bus error: name and text.
    Error(&'static str, &'static str),
    /// No reply at all.
    Silence,
    /// The connection of the service breaks.
    Vanish,
    /// The first once, then the second.
    Then(Box<Answer>, Box<Answer>),
    /// The answer, but not before the permit comes. Until then the service answers nobody.
    Hold(Arc<Notify>, Box<Answer>),
}

/// One service on the bus. Methods without an answer get `UnknownMethod`, as in a real one.
pub struct Scripted {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    calls: watch::Receiver<Vec<String>>,
    answered: watch::Receiver<Vec<String>>,
    locks: Arc<Mutex<Vec<UnixStream>>>,
    connection: Connection,
}

impl Scripted {
    /// Owns `name` on the bus and answers from now on. Properties are answered under their own name.
    pub async fn start(bus: &PrivateBus, name: &str) -> Self {
        let connection = zbus::connection::Builder::address(bus.address()).build().await.unwrap();
        let mut stream = MessageStream::from(&connection);
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let (calls_in, calls) = watch::channel(Vec::new());
        let (answered_in, answered) = watch::channel(Vec::new());
        let locks: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
        let service = Self {
            answers: Arc::clone(&answers),
            calls,
            answered,
            locks: Arc::clone(&locks),
            connection: connection.clone(),
        };
        connection.request_name(name).await.unwrap();
        let owned = connection.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                if message.message_type() != Type::MethodCall {
                    continue;
                }
                let asked = asked(&message);
                calls_in.send_modify(|calls| calls.push(asked.clone()));
                let member = asked.split(['(', ' ']).next().unwrap().to_owned();
                let mut answer = next_answer(&mut answers.lock().unwrap(), &member);
                if let Some(Answer::Hold(permit, held)) = answer {
                    permit.notified().await;
                    answer = Some(*held);
                }
                if let Some(Answer::Vanish) = answer {
                    owned.close().await.unwrap();
                    return;
                }
                reply(&owned, &message, answer, &locks).await;
                answered_in.send_modify(|calls| calls.push(asked));
            }
        });
        service
    }

    /// From now on `member` (a method or a property) is answered so.
    pub fn answer(&self, member: &str, answer: Answer) -> &Self {
        self.answers.lock().unwrap().insert(member.to_owned(), answer);
        self
    }

    /// The calls so far, oldest first: `Reboot(false)`, `Inhibit(shutdown, who, why, delay)`, `SystemState`.
    pub fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// How many calls so far begin with `member`.
    pub fn count(&self, member: &str) -> usize {
        count(&self.calls.borrow(), member)
    }

    /// Returns when so many calls that begin with `member` have come in.
    pub async fn called(&self, member: &str, times: usize) {
        let mut calls = self.calls.clone();
        calls.wait_for(|calls| count(calls, member) >= times).await.unwrap();
    }

    /// Returns when so many calls that begin with `member` were answered.
    pub async fn answered(&self, member: &str, times: usize) {
        let mut calls = self.answered.clone();
        calls.wait_for(|calls| count(calls, member) >= times).await.unwrap();
    }

    /// The service's ends of the descriptors it gave away; reading one ends when the holder lets go.
    pub fn locks(&self) -> Vec<UnixStream> {
        std::mem::take(&mut self.locks.lock().unwrap())
    }

    /// Sends a signal to everybody.
    pub async fn emit<B: serde::Serialize + zbus::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) {
        let to: Option<&str> = None;
        self.connection
            .emit_signal(to, path, interface, member, body)
            .await
            .unwrap();
    }

    /// Leaves the bus, as a process that dies.
    pub async fn leave(&self) {
        self.connection.clone().close().await.unwrap();
    }

    /// Sends systemd's `JobRemoved` for this job.
    pub async fn job_removed(&self, job: &str, result: &str) {
        let manager = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
        let job = OwnedObjectPath::try_from(job).unwrap();
        self.emit(
            manager.0,
            manager.1,
            "JobRemoved",
            &(7u32, job, "factory-reset.target", result),
        )
        .await;
    }

    /// Sends logind's `PrepareForShutdown`.
    pub async fn prepare_for_shutdown(&self, start: bool) {
        let to: Option<&str> = None;
        self.connection
            .emit_signal(
                to,
                "/org/freedesktop/login1",
                "org.freedesktop.login1.Manager",
                "PrepareForShutdown",
                &start,
            )
            .await
            .unwrap();
    }
}

/// A scripted logind that has nothing against a reboot.
pub async fn login1(bus: &PrivateBus) -> Scripted {
    let service = Scripted::start(bus, "org.freedesktop.login1").await;
    service
        .answer("ListInhibitors", Answer::Locks(Vec::new()))
        .answer("CanReboot", Answer::Text("yes".to_owned()))
        .answer("Inhibit", Answer::Lock)
        .answer("RebootWithFlags", Answer::Done)
        .answer("PreparingForShutdown", Answer::Truth(false))
        .answer("InhibitDelayMaxUSec", Answer::Number(5_000_000));
    service
}

/// The job that [`systemd1`] answers `StartUnit` with.
pub const JOB: &str = "/org/freedesktop/systemd1/job/7";

/// A scripted systemd with one unit, which is loaded, pulls in nothing, and may be started.
pub async fn systemd1(bus: &PrivateBus) -> Scripted {
    let service = Scripted::start(bus, "org.freedesktop.systemd1").await;
    let path = "/org/freedesktop/systemd1/unit/factory_2dreset_2etarget";
    service
        .answer("LoadUnit", Answer::Path(path.to_owned()))
        .answer("LoadState", Answer::Text("loaded".to_owned()))
        .answer("ActiveState", Answer::Text("inactive".to_owned()))
        .answer("UnitFileState", Answer::Text("enabled".to_owned()))
        .answer("Type", Answer::Text("oneshot".to_owned()))
        .answer("RemainAfterExit", Answer::Truth(false))
        .answer("Requires", Answer::Names(Vec::new()))
        .answer("BindsTo", Answer::Names(Vec::new()))
        .answer("Wants", Answer::Names(Vec::new()))
        .answer("Environment", Answer::Names(Vec::new()))
        .answer("StatusText", Answer::Text(String::new()))
        .answer("InvocationID", Answer::Bytes(vec![1]))
        .answer("ListUnitsFiltered", Answer::Units(Vec::new()))
        .answer("Job", Answer::Job(0, "/".to_owned()))
        .answer("Subscribe", Answer::Done)
        .answer("StartUnit", Answer::Path(JOB.to_owned()));
    service
}

/// A block lock on shutdown held by user 4711.
pub fn block_lock(who: &str, why: &str) -> (String, String, String, String, u32, u32) {
    (
        "shutdown:sleep".to_owned(),
        who.to_owned(),
        why.to_owned(),
        "block".to_owned(),
        4711,
        321,
    )
}

fn count(calls: &[String], member: &str) -> usize {
    calls.iter().filter(|call| call.starts_with(member)).count()
}

fn next_answer(answers: &mut HashMap<String, Answer>, member: &str) -> Option<Answer> {
    let answer = answers.get(member)?.clone();
    let Answer::Then(first, rest) = answer else {
        return Some(answer);
    };
    answers.insert(member.to_owned(), *rest);
    Some(*first)
}

fn asked(message: &Message) -> String {
    let member = message.header().member().unwrap().to_string();
    let body = message.body();
    match body.signature().to_string().as_str() {
        "" => member,
        "(ss)" if member == "Get" => body.deserialize::<(&str, &str)>().unwrap().1.to_owned(),
        "(ss)" => {
            let (a, b): (&str, &str) = body.deserialize().unwrap();
            format!("{member}({a}, {b})")
        }
        "(sa{sv})" => {
            let (a, options): (&str, HashMap<&str, Variant<'_>>) = body.deserialize().unwrap();
            format!("{member}({a}, {options:?})")
        }
        "s" => format!("{member}({})", body.deserialize::<&str>().unwrap()),
        "as" => format!("{member}({})", body.deserialize::<Vec<&str>>().unwrap().join(", ")),
        "b" => format!("{member}({})", body.deserialize::<bool>().unwrap()),
        "t" => format!("{member}({})", body.deserialize::<u64>().unwrap()),
        "(ssss)" => {
            let (a, b, c, d): (&str, &str, &str, &str) = body.deserialize().unwrap();
            format!("{member}({a}, {b}, {c}, {d})")
        }
        other => format!("{member} with {other}"),
    }
}

async fn reply(connection: &Connection, call: &Message, answer: Option<Answer>, locks: &Mutex<Vec<UnixStream>>) {
    let header = call.header();
    let property = header
        .interface()
        .is_some_and(|i| i == "org.freedesktop.DBus.Properties");
    let variant = |value: Variant<'static>| value;
    let sent = match answer {
        None => {
            connection
                .reply_error(&header, "org.freedesktop.DBus.Error.UnknownMethod", &"Unknown method")
                .await
        }
        Some(Answer::Error(name, text)) => connection.reply_error(&header, name, &text).await,
        Some(Answer::Silence | Answer::Vanish) => Ok(()),
        Some(Answer::Then(..) | Answer::Hold(..)) => panic!("one inside the other is not foreseen"),
        Some(Answer::Done) => connection.reply(&header, &()).await,
        Some(Answer::Text(text)) if property => connection.reply(&header, &variant(Variant::new(text))).await,
        Some(Answer::Text(text)) => connection.reply(&header, &text).await,
        Some(Answer::Number(n)) if property => connection.reply(&header, &variant(Variant::new(n))).await,
        Some(Answer::Number(n)) => connection.reply(&header, &n).await,
        Some(Answer::Names(names)) => connection.reply(&header, &variant(Variant::new(names))).await,
        Some(Answer::Bytes(bytes)) => connection.reply(&header, &variant(Variant::new(bytes))).await,
        Some(Answer::Job(id, path)) => {
            let job = (id, OwnedObjectPath::try_from(path).unwrap());
            connection.reply(&header, &variant(Variant::new(job))).await
        }
        Some(Answer::Truth(b)) if property => connection.reply(&header, &variant(Variant::new(b))).await,
        Some(Answer::Truth(b)) => connection.reply(&header, &b).await,
        Some(Answer::Path(path)) => {
            connection
                .reply(&header, &OwnedObjectPath::try_from(path).unwrap())
                .await
        }
        Some(Answer::Locks(list)) => connection.reply(&header, &list).await,
        Some(Answer::Lock) => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            locks.lock().unwrap().push(ours);
            connection
                .reply(&header, &zbus::Fd::from(std::os::fd::OwnedFd::from(theirs)))
                .await
        }
        Some(Answer::Pair(a, b)) => connection.reply(&header, &(a, b)).await,
        Some(Answer::Manifest(members)) => {
            let section: HashMap<String, Variant<'_>> =
                members.into_iter().map(|(k, v)| (k, Variant::new(v))).collect();
            let section = Variant::Variant(Box::new(Variant::from(section)));
            connection.reply(&header, &HashMap::from([("update", section)])).await
        }
        Some(Answer::Units(names)) => {
            let none = OwnedObjectPath::try_from("/").unwrap();
            let units: Vec<_> = names
                .iter()
                .map(|name| {
                    let words = (name.as_str(), "", "loaded", "failed", "failed", "");
                    (
                        words.0,
                        words.1,
                        words.2,
                        words.3,
                        words.4,
                        words.5,
                        none.clone(),
                        0u32,
                        "",
                        none.clone(),
                    )
                })
                .collect();
            connection.reply(&header, &units).await
        }
        Some(Answer::Slots(slots)) => {
            let slots: Vec<(String, HashMap<String, Variant<'_>>)> = slots
                .into_iter()
                .map(|(name, members)| (name, members.into_iter().map(|(k, v)| (k, Variant::new(v))).collect()))
                .collect();
            connection.reply(&header, &slots).await
        }
    };
    // A caller that gave up waiting is not the service's concern.
    drop(sent);
}
