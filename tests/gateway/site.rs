//! A whole site: a broker with TLS, a login and rights for each device, the service, and one gateway that is managed.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::Gateway;
use crate::support::mosquitto::{Mosquitto, ServerTls, Setup};
use crate::support::pki::{Authority, Validity};

/// The device's name at the service.
pub(crate) const DEVICE: &str = "edge-gateway/gw-0001";
/// The beginning of the topics on which the service speaks to it.
const TO_DEVICE: &str = "iotdm-1/type/edge-gateway/id/gw-0001";

pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    broker: Mosquitto,
    /// Certificate and key of the host's end of the link, which the guest knows as `broker.test`.
    pub(crate) certificate: (PathBuf, PathBuf),
    authority: Authority,
    api: String,
    folder: tempfile::TempDir,
    serve: Option<Child>,
    _runtime: tokio::runtime::Runtime,
}

impl Site {
    /// Boots a Debian of this suite, installs the package, gives it an identity, and waits until it is managed.
    pub(crate) fn managed(suite: &str) -> Self {
        Self::of(Gateway::boot(suite))
    }

    /// A site with this gateway, which has the package: gives it an identity, and waits until it is managed.
    pub(crate) fn of(gateway: Gateway) -> Self {
        let host = gateway.host_address().to_string();
        let authority = Authority::new("the site's authority");
        let server = authority.server(&["localhost", "broker.test"], Validity::Now);
        let guest_port = crate::support::free_port();
        let (cert, key) = (server.cert_file.clone(), server.key_file.clone());
        let certificate = (cert.clone(), key.clone());
        let more = format!(
            "listener {guest_port} {host}\ncertfile {}\nkeyfile {}\n",
            cert.display(),
            key.display()
        );
        let acl =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/mosquitto.acl")).unwrap();
        let user = |name: &str| (name.to_owned(), format!("secret of {name}"));
        let setup = Setup {
            persistence: true,
            users: vec![user("gw-0001"), user("gw-0002"), user("iotdm")],
            acl: Some(acl),
            tls: Some(ServerTls {
                cert_file: cert,
                key_file: key,
                client_ca: None,
                version: None,
            }),
            more,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let broker = runtime.block_on(Mosquitto::start(&setup));
        let folder = tempfile::tempdir().unwrap();
        let api = format!("127.0.0.1:{}", crate::support::free_port());
        let mut site = Site {
            gateway,
            broker,
            certificate,
            authority,
            api,
            folder,
            serve: None,
            _runtime: runtime,
        };
        site.write_settings();
        site.start_service();
        site.configure(guest_port);
        site.gateway
            .wait("the gateway is managed", || site.row()["mgmt"].is_object());
        site
    }

    fn write_settings(&self) {
        let token = self.path("token");
        std::fs::write(&token, "secret of iotdm").unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let settings = format!(
            "[service]\norg = \"acme\"\n[broker]\nurl = \"mqtts://localhost:{}\"\nusername = \"iotdm\"\n\
             token_file = \"{}\"\nca_file = \"{}\"\n[api]\nlisten = \"{}\"\n[state]\ndirectory = \"{}\"\n",
            self.broker.port,
            token.display(),
            self.authority.ca_file.display(),
            self.api,
            self.path("service").display(),
        );
        std::fs::write(self.path("serve.toml"), settings).unwrap();
    }

    fn configure(&self, port: u16) {
        let ca = std::fs::read_to_string(&self.authority.ca_file).unwrap();
        let put = |path: &str, content: &str| {
            self.gateway
                .sh(&format!("install -m 640 -g iotdm-agent /dev/null {path}"));
            self.gateway.write(path, content);
        };
        put("/etc/iotdm-agent/token", "secret of gw-0001\n");
        put("/etc/iotdm-agent/ca.pem", &ca);
        put(
            "/etc/iotdm-agent/conf.d/50-site.toml",
            &format!(
                "[device]\norg = \"acme\"\ntype = \"edge-gateway\"\nid = \"gw-0001\"\n\
                 [service]\nurl = \"mqtts://broker.test:{port}\"\nusername = \"gw-0001\"\n\
                 token_file = \"/etc/iotdm-agent/token\"\nca_file = \"/etc/iotdm-agent/ca.pem\"\n"
            ),
        );
        self.gateway.sh("systemctl reload iotdm-agent");
    }

    /// Starts the service and waits until it hears: what a gateway says before that is lost with this broker, and the
    /// gateway says it again after a minute only.
    pub(crate) fn start_service(&mut self) {
        let ready = |site: &Self| {
            let log = std::fs::read_to_string(site.path("serve.log")).unwrap_or_default();
            log.matches(" ready: ").count()
        };
        let before = ready(self);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("serve.log"))
            .unwrap();
        let serve = Command::new(env!("CARGO_BIN_EXE_iotdm"))
            .args(["serve", "--config"])
            .arg(self.path("serve.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.serve = Some(serve);
        self.gateway.wait("the service is ready", || ready(self) > before);
    }

    /// SIGKILL, as the out-of-memory killer does it.
    pub(crate) fn kill_service(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            serve.kill().unwrap();
            serve.wait().unwrap();
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iotdm"));
        command
            .args(arguments)
            .env("IOTDM_API", format!("http://{}", self.api))
            .env("IOTDM_KEY_FILE", self.path("service/api-key"))
            .stdin(Stdio::null());
        command
    }

    /// Runs one of the operator's commands.
    pub(crate) fn iotdm(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Begins one of the operator's commands; its output is collected in the end.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Asks for a reboot, waits for its end, and gives whether it succeeded and the request's last row.
    pub(crate) fn reboot(&self) -> (bool, Value) {
        // a unit that does not stop is waited for, twice 90 s; and an emulated machine has little of the processor
        let limit = 3 * self.gateway.at_least(Duration::from_secs(120));
        let limit = format!("{}s", limit.as_secs());
        let output = self.iotdm(&["reboot", DEVICE, "--wait", "--timeout", &limit, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let row = serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.success(), row)
    }

    /// What `iotdm ls` says about the gateway.
    pub(crate) fn row(&self) -> Value {
        let output = self.iotdm(&["ls", "--json"]);
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.into_iter()
            .find(|row| row["deviceId"] == "gw-0001")
            .unwrap_or_default()
    }

    /// Publishes to the gateway as the service's user, behind the service's back.
    pub(crate) fn publish(&self, tail: &str, payload: &str) {
        let status = self.mosquitto_pub("iotdm", &format!("{TO_DEVICE}/{tail}"), payload);
        assert!(status.success());
    }

    /// Publishes as any user of the broker, at QoS 1.
    pub(crate) fn mosquitto_pub(&self, user: &str, topic: &str, payload: &str) -> std::process::ExitStatus {
        let mut client = self.mosquitto_client("mosquitto_pub", user);
        client.args(["-t", topic, "-m", payload]).status().unwrap()
    }

    /// One of mosquitto's clients as this user, at QoS 1.
    pub(crate) fn mosquitto_client(&self, program: &str, user: &str) -> Command {
        let mut client = Command::new(program);
        client
            .args(["-h", "localhost", "-p", &self.broker.port.to_string(), "-q", "1"])
            .args(["-u", user, "-P", &format!("secret of {user}"), "--cafile"])
            .arg(&self.authority.ca_file)
            .stdin(Stdio::null());
        client
    }

    /// Whether the broker has sent the gateway something on a topic that ends so.
    pub(crate) fn broker_has_sent(&self, tail: &str) -> bool {
        let sent = |line: &String| line.contains("Sending PUBLISH to g:acme:") && line.contains(&format!("{tail}'"));
        self.broker.log().iter().any(sent)
    }

    /// Whether the broker had an answer of the gateway before the gateway has connected for the last time.
    pub(crate) fn answered_before_it_came_back(&self) -> bool {
        let log = self.broker.log();
        let of_it = |line: &String| line.contains("g:acme:edge-gateway:gw-0001");
        let answer = |line: &String| of_it(line) && line.contains("Received PUBLISH") && line.contains("/response'");
        let connected = |line: &String| of_it(line) && line.contains("New client connected");
        match (log.iter().position(answer), log.iter().rposition(connected)) {
            (Some(answer), Some(connected)) => answer < connected,
            _ => false,
        }
    }

    /// The log of the service so far.
    pub(crate) fn service_log(&self) -> String {
        std::fs::read_to_string(self.path("serve.log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill_service();
        if std::thread::panicking() {
            let log = self.service_log();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            let broker = self.broker.log();
            crate::harness::show("the service's log", tail.into_iter().rev());
            crate::harness::show(
                "the broker's log",
                broker.iter().rev().take(30).rev().map(String::as_str),
            );
        }
    }
}
