//! The parts of a live test: `iotdm serve` as a process, its commands, and a device that does as the test says.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::mqtt::{self, Broker, Options, PublishId, Session, Subscription};
use iotdm::protocol::{Address, Device, Rc, ReqId, Request, Response, ToDevice, ToService, topic};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::scene::gw;
use crate::support::{free_port, within};

const IOTDM: &str = env!("CARGO_BIN_EXE_iotdm");

/// A service's settings and state, whether its process runs or not.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub api: String,
}

/// A running `iotdm serve`.
pub struct Serve {
    pub child: Child,
    pub log: watch::Receiver<Vec<String>>,
}

impl Place {
    pub fn new(broker_port: u16) -> Self {
        Self::with_token(broker_port, None)
    }

    /// With a password for the user `iotdm`.
    pub fn with_token(broker_port: u16, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let login = match token {
            None => String::new(),
            Some(token) => {
                let path = folder.path().join("token");
                std::fs::write(&path, token).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
                format!("username = \"iotdm\"\ntoken_file = \"{}\"\n", path.display())
            }
        };
        let port = free_port();
        let settings = format!(
            "[service]\norg = \"acme\"\n[broker]\nurl = \"mqtt://127.0.0.1:{broker_port}\"\n{login}\
             [api]\nlisten = \"127.0.0.1:{port}\"\n[state]\ndirectory = \"{}\"\n",
            folder.path().join("state").display()
        );
        std::fs::write(folder.path().join("serve.toml"), settings).unwrap();
        Place {
            folder,
            api: format!("http://127.0.0.1:{port}"),
        }
    }

    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("serve.toml")
    }

    pub fn launch(&self) -> Serve {
        let mut child = Command::new(IOTDM)
            .args(["serve", "--verbose", "--config"])
            .arg(self.settings())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (log_in, log) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log_in.send_modify(|log: &mut Vec<String>| log.push(line));
            }
        });
        Serve { child, log }
    }

    /// Starts the service and waits until it is ready.
    pub async fn serve(&self) -> Serve {
        let serve = self.launch();
        serve.logged("ready: ").await;
        serve
    }

    /// SIGKILL, and the next start.
    pub async fn killed(&self, serve: Serve) -> Serve {
        serve.kill().await;
        self.serve().await
    }

    /// Waits until the service knows these devices of the type `edge` as managed.
    pub async fn knows(&self, ids: &[&str]) {
        within("the service to know its devices", async {
            loop {
                let (_, out, _) = self.run(&["ls"]).await;
                let managed = |id: &&str| {
                    out.lines()
                        .any(|line| line.contains(*id) && !line.contains("not managed"))
                };
                if ids.iter().all(managed) {
                    return;
                }
            }
        })
        .await;
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(IOTDM);
        command
            .args(arguments)
            .env("IOTDM_API", &self.api)
            .env("IOTDM_KEY_FILE", self.folder.path().join("state/api-key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    pub async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        ended(within("the command", self.command(arguments).output()).await.unwrap())
    }

    /// The same with a terminal as standard input, at which this is typed.
    pub async fn run_at_terminal(&self, arguments: &[&str], typed: &str) -> (i32, String, String) {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let command = self.command(arguments).stdin(terminal.slave).spawn().unwrap();
        std::fs::File::from(terminal.master.try_clone().unwrap())
            .write_all(typed.as_bytes())
            .unwrap();
        let output = within("the command", command.wait_with_output()).await.unwrap();
        // Until then somebody sits at it.
        drop(terminal.master);
        ended(output)
    }
}

pub fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

impl Serve {
    pub async fn logged(&self, part: &str) -> String {
        let mut log = self.log.clone();
        let found = within(part, log.wait_for(|lines| lines.iter().any(|line| line.contains(part)))).await;
        let found = found.unwrap_or_else(|_| panic!("it ended without saying {part:?}: {:?}", self.log.borrow()));
        found.iter().find(|line| line.contains(part)).unwrap().clone()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A device as a script: it answers what the test says.
pub struct Gateway {
    session: Session,
    events: mpsc::Receiver<mqtt::Event>,
    pub device: Device,
    next: u64,
    /// The requests that it has answered, and how: the same again gets the same again.
    answered: Vec<(ReqId, u16)>,
}

impl Gateway {
    pub async fn connect(broker_port: u16) -> Self {
        Self::connect_as(broker_port, gw()).await
    }

    pub async fn connect_as(broker_port: u16, device: Device) -> Self {
        let broker = Broker {
            host: "127.0.0.1".into(),
            port: broker_port,
            tls: None,
            proxy: None,
        };
        let mut options = Options::new(broker, format!("g:acme:edge:{}", device.device_id()));
        options.subscriptions = vec![Subscription {
            filter: topic::agent_filter(&Address::Device(device.clone())),
            required: true,
        }];
        let (session, events) = mqtt::start(options, 1);
        let mut gateway = Gateway {
            session,
            events,
            device,
            next: 0,
            answered: Vec::new(),
        };
        within("the device's subscription", async {
            while !matches!(gateway.events.recv().await.unwrap(), mqtt::Event::Subscribed) {}
        })
        .await;
        gateway
    }

    pub fn publish(&mut self, kind: ToService, payload: Vec<u8>) -> PublishId {
        self.next += 1;
        let id = PublishId(self.next);
        let topic = kind.topic(&Address::Device(self.device.clone()));
        self.session.publish(id, topic, payload).unwrap();
        id
    }

    /// Publishes and waits until the broker has it.
    pub async fn publish_acknowledged(&mut self, kind: ToService, payload: Vec<u8>) {
        let id = self.publish(kind, payload);
        within("the broker's PUBACK", async {
            while !matches!(self.events.recv().await.unwrap(), mqtt::Event::Published(done) if done == id) {}
        })
        .await;
    }

    /// The next message of the service.
    pub async fn receive(&mut self) -> (ToDevice, Vec<u8>) {
        let events = &mut self.events;
        let message = within("a message of the service", async {
            loop {
                if let mqtt::Event::Message(message) = events.recv().await.unwrap() {
                    return message;
                }
            }
        })
        .await;
        self.session.ack(message.ack);
        let (_, kind) = ToDevice::parse(&message.topic).unwrap();
        (kind, message.payload)
    }

    pub fn manage_payload(req_id: &str) -> Vec<u8> {
        let d = json!({"lifetime": 86400, "supports": {"deviceActions": true}, "deviceInfo": {"fwVersion": "1.2"}});
        json!({"d": d, "reqId": req_id}).to_string().into_bytes()
    }

    /// Becomes managed, and returns the answer. No request may come meanwhile.
    pub async fn manage(&mut self, req_id: &str) -> Response {
        self.publish(ToService::Manage, Self::manage_payload(req_id));
        self.answer_to(req_id, None).await
    }

    /// The answer to this request of ours. Answers to earlier ones may come twice; a request must be the given one.
    pub async fn answer_to(&mut self, req_id: &str, reboot: Option<&ReqId>) -> Response {
        loop {
            let (kind, payload) = self.receive().await;
            if kind != ToDevice::Response {
                assert_eq!(Request::parse(&kind, &payload).unwrap().1.as_ref(), reboot);
                continue;
            }
            let response = Response::parse(&payload).unwrap();
            if response.req_id.as_str() == req_id {
                return response;
            }
        }
    }

    /// The next request, which must be a reboot.
    pub async fn reboot_request(&mut self) -> ReqId {
        self.asked_for(&Request::Reboot).await
    }

    /// The next request, which must be this one.
    pub async fn asked_for(&mut self, wanted: &Request) -> ReqId {
        loop {
            let (kind, payload) = self.receive().await;
            if kind == ToDevice::Response {
                continue;
            }
            let (request, req_id) = Request::parse(&kind, &payload).unwrap();
            assert_eq!(request, *wanted);
            return req_id.unwrap();
        }
    }

    pub async fn respond(&mut self, req_id: &ReqId, rc: u16, message: &str) {
        let response = Response::new(req_id.clone(), Rc(rc)).message(message);
        self.publish_acknowledged(ToService::Response, response.to_payload())
            .await;
    }

    /// Becomes managed with this firmware, and takes firmware actions.
    pub async fn manage_firmware(&mut self, req_id: &str, version: &str) {
        let supports = json!({"deviceActions": true, "firmwareActions": true});
        let d = json!({"lifetime": 86400, "supports": supports, "deviceInfo": {"fwVersion": version}});
        let payload = json!({"d": d, "reqId": req_id}).to_string();
        self.publish_acknowledged(ToService::Manage, payload.into_bytes()).await;
    }

    /// The next request that it has not answered yet.
    pub async fn request(&mut self) -> (Request, ReqId) {
        loop {
            let (kind, payload) = self.receive().await;
            if kind == ToDevice::Response {
                continue;
            }
            let (request, req_id) = Request::parse(&kind, &payload).unwrap();
            let req_id = req_id.unwrap();
            match self.answered.iter().find(|(answered, _)| *answered == req_id) {
                None => return (request, req_id),
                Some((_, rc)) => {
                    let response = Response::new(req_id, Rc(*rc));
                    self.publish(ToService::Response, response.to_payload());
                }
            }
        }
    }

    /// The next message, which must be a cancel; returns its id.
    pub async fn receive_cancel(&mut self) -> Option<ReqId> {
        loop {
            let (kind, payload) = self.receive().await;
            if kind != ToDevice::Response {
                let (request, req_id) = Request::parse(&kind, &payload).unwrap();
                assert_eq!(request, Request::Cancel(vec!["mgmt.firmware".into()]));
                return req_id;
            }
        }
    }

    /// The next request, answered like this.
    pub async fn answer(&mut self, rc: u16, message: &str) -> Request {
        let (request, req_id) = self.request().await;
        self.respond(&req_id, rc, message).await;
        self.answered.push((req_id, rc));
        request
    }

    /// Tells a change of `mgmt.firmware`.
    pub async fn notify(&mut self, value: Value) {
        let fields = json!([{"field": "mgmt.firmware", "value": value}]);
        let payload = json!({"d": {"fields": fields}}).to_string();
        self.publish_acknowledged(ToService::Notify, payload.into_bytes()).await;
    }

    /// Logs why the firmware action that it has accepted fails, as our agent does.
    pub async fn logs_failure(&mut self, action: &str, status: u8, reason: &str) {
        let (initiated, rc) = self.answered.last().unwrap();
        assert_eq!(*rc, 202);
        let data = json!({"firmware": action, "updateStatus": status, "reqId": initiated.as_str()});
        self.logs_error(reason, &data).await;
    }

    /// Logs an error.
    pub async fn logs_error(&mut self, message: &str, data: &Value) {
        let data = STANDARD.encode(data.to_string());
        let payload = json!({"d": {"message": message, "severity": 2, "data": data}}).to_string();
        self.publish_acknowledged(ToService::AddLog, payload.into_bytes()).await;
    }

    /// Is described a firmware, and asked for its download; returns what it was told.
    pub async fn download_begins(&mut self) -> Value {
        let Request::Update(mut fields) = self.answer(204, "").await else {
            panic!("the first step is the description")
        };
        assert_eq!(
            self.answer(200, "").await,
            Request::Observe(vec!["mgmt.firmware".into()])
        );
        assert_eq!(self.answer(202, "").await, Request::FirmwareDownload);
        fields.remove(0).value
    }

    /// Is asked for the update.
    pub async fn update_begins(&mut self) {
        assert_eq!(
            self.answer(200, "").await,
            Request::Observe(vec!["mgmt.firmware".into()])
        );
        assert_eq!(self.answer(202, "").await, Request::FirmwareUpdate);
    }

    /// Is not observed any more.
    pub async fn is_cancelled(&mut self) {
        assert_eq!(
            self.answer(200, "").await,
            Request::Cancel(vec!["mgmt.firmware".into()])
        );
    }
}
