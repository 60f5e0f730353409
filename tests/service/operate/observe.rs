//! `iotdm observe`: what is printed, and how it ends.

use iotdm::protocol::{ReqId, Request, ToDevice, ToService};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};

use super::{Live, end};
use crate::support::within;

/// A running command that goes on until it is ended.
pub(super) struct Observing {
    command: Child,
    out: Lines<BufReader<ChildStdout>>,
    says: Lines<BufReader<ChildStderr>>,
}

impl Observing {
    fn begin(live: &Live, arguments: &[&str]) -> Self {
        Self::run(live, &[&["observe", "edge/gw-1"], arguments].concat())
    }

    pub(super) fn run(live: &Live, arguments: &[&str]) -> Self {
        let mut command = live.place.command(arguments).spawn().unwrap();
        let out = BufReader::new(command.stdout.take().unwrap()).lines();
        let says = BufReader::new(command.stderr.take().unwrap()).lines();
        Observing { command, out, says }
    }

    pub(super) async fn line(&mut self) -> String {
        within("a line of observe", self.out.next_line())
            .await
            .unwrap()
            .unwrap()
    }

    /// What it says beside the values, up to this.
    pub(super) async fn said(&mut self, part: &str) -> String {
        loop {
            let line = within(part, self.says.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended without saying {part:?}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(super) async fn ends(&mut self, signal: Option<Signal>) -> i32 {
        if let Some(signal) = signal {
            let pid = Pid::from_raw(i32::try_from(self.command.id().unwrap()).unwrap());
            kill(pid, signal).unwrap();
        }
        within("the end of observe", self.command.wait())
            .await
            .unwrap()
            .code()
            .unwrap()
    }
}

/// The device agrees to be observed, and tells these values.
async fn agrees(live: &mut Live, asked: &[&str], values: Value) -> ReqId {
    let wanted = Request::Observe(asked.iter().map(|field| (*field).to_owned()).collect());
    let req_id = live.gateway.asked_for(&wanted).await;
    let answer = json!({"rc": 200, "reqId": req_id.as_str(), "d": {"fields": values}});
    live.gateway
        .publish_acknowledged(ToService::Response, answer.to_string().into_bytes())
        .await;
    req_id
}

/// The device is told to stop.
async fn is_told_to_stop(live: &mut Live, fields: &[&str]) {
    loop {
        let (kind, payload) = live.gateway.receive().await;
        if kind == ToDevice::Response {
            continue;
        }
        let wanted = Request::Cancel(fields.iter().map(|field| (*field).to_owned()).collect());
        assert_eq!(Request::parse(&kind, &payload).unwrap(), (wanted, None));
        return;
    }
}

#[tokio::test]
async fn observe_prints_what_the_device_tells_until_ctrl_c_and_then_the_device_is_told_to_stop() {
    for (signal, json) in [(Signal::SIGINT, false), (Signal::SIGTERM, true)] {
        let mut live = Live::new().await;
        let more: &[&str] = if json { &["--json"] } else { &[] };
        let mut observing = Observing::begin(&live, &[&["metadata.site", "location"], more].concat());
        let told = json!([{"field": "metadata.site", "value": "south"}]);
        agrees(&mut live, &["metadata.site", "location"], told).await;
        let first = observing.line().await;
        live.notify("metadata.site", json!("north\u{1b}[31m"), "n1").await;
        live.notify("location", json!({"latitude": 1, "longitude": 2}), "n2")
            .await;
        // Again, as MQTT may deliver it: no second line.
        live.notify("metadata.site", json!("north\u{1b}[31m"), "n1").await;
        live.notify("location.accuracy", json!(3), "n3").await;
        // What an operator writes the device does not notify; its serial number nobody wants to know.
        let command = live.set(&["metadata={\"site\":1}", "serialNumber=S"]);
        live.gateway.answer(204, "").await;
        assert_eq!(end(command).await.0, 0);
        let mut lines = vec![first];
        for _ in 0..4 {
            lines.push(observing.line().await);
        }
        if json {
            let values: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            let told: Vec<&Value> = values.iter().map(|line| &line["value"]).collect();
            let place = json!({"latitude": 1, "longitude": 2});
            let (north, taken) = (json!("north\u{1b}[31m"), json!({"site": 1}));
            assert_eq!(told, [&json!("south"), &north, &place, &json!(3), &taken]);
            assert!(
                values
                    .iter()
                    .all(|line| line["time"].is_string() && line["field"].is_string())
            );
        } else {
            let told: Vec<&str> = lines
                .iter()
                .map(|line| line.split_once("Z").unwrap().1.trim_start())
                .collect();
            let place = "location = {\"latitude\":1,\"longitude\":2}";
            assert_eq!(
                told,
                [
                    "metadata.site = south",
                    "metadata.site = north [31m",
                    place,
                    "location.accuracy = 3",
                    "metadata = {\"site\":1}"
                ]
            );
        }
        assert_eq!(
            live.shown().await["mgmt"]["observed"],
            json!(["location", "metadata.site"])
        );
        assert_eq!(observing.ends(Some(signal)).await, 0);
        is_told_to_stop(&mut live, &["metadata.site", "location"]).await;
        assert!(live.shown().await["mgmt"].get("observed").is_none());
    }
}

#[tokio::test]
async fn what_a_device_keeps_is_said_by_set_and_not_shown_by_observe() {
    let mut live = Live::new().await;
    let mut observing = Observing::begin(&live, &["deviceInfo"]);
    agrees(&mut live, &["deviceInfo"], json!([])).await;
    observing.said("it agreed").await;
    for (written, kept, said, shown) in [
        (
            &["fwVersion=9"][..],
            "deviceInfo.fwVersion",
            "deviceInfo.fwVersion: edge/gw-1 keeps what it has: it knows better\n",
            None,
        ),
        (
            &["fwVersion=9", "description=gate"][..],
            "deviceInfo.fwVersion",
            "deviceInfo.fwVersion, deviceInfo.description: edge/gw-1 has taken it over, but keeps its own \
             deviceInfo.fwVersion: it knows better\n",
            Some("deviceInfo.description = gate"),
        ),
    ] {
        let command = live.set(written);
        live.gateway.answer(204, &format!("kept by the device: {kept}")).await;
        let (code, out, _) = end(command).await;
        assert_eq!((code, out.as_str()), (1, said));
        if let Some(shown) = shown {
            let line = observing.line().await;
            assert!(line.ends_with(shown), "{line}");
        }
    }
    assert_ne!(live.shown().await["deviceInfo"]["fwVersion"], "9");
    assert_eq!(observing.ends(Some(Signal::SIGINT)).await, 0);
}

#[tokio::test]
async fn a_device_that_does_not_know_the_field_refuses_and_observe_ends_with_its_reason() {
    let mut live = Live::new().await;
    let mut observing = Observing::begin(&live, &["deviceInfo.colour"]);
    let reason = "this device has no attribute deviceInfo.colour";
    assert_eq!(
        live.gateway.answer(404, reason).await,
        Request::Observe(vec!["deviceInfo.colour".into()])
    );
    observing.said(&format!("the device refused: 404: {reason}")).await;
    assert_eq!(observing.ends(None).await, 1);
}

#[tokio::test]
async fn an_observation_ends_by_itself_when_its_time_is_over_or_the_management_ends() {
    let mut live = Live::new().await;
    let mut observing = Observing::begin(&live, &["location", "--timeout", "1s"]);
    observing.said("is asked to tell").await;
    // The service concludes nothing in its first seconds; until then it goes on.
    agrees(&mut live, &["location"], json!([])).await;
    observing.said("the time of the observation is over").await;
    assert_eq!(observing.ends(None).await, 0);
    is_told_to_stop(&mut live, &["location"]).await;

    let mut observing = Observing::begin(&live, &["location"]);
    agrees(&mut live, &["location"], json!([])).await;
    observing.said("it agreed").await;
    live.gateway
        .publish(ToService::Unmanage, b"{\"reqId\": \"u\"}".to_vec());
    observing.said("ended: the device was unmanaged").await;
    assert_eq!(observing.ends(None).await, 1);
}

#[tokio::test]
async fn a_silent_device_is_asked_about_and_observe_goes_on_when_the_service_is_back() {
    let mut live = Live::new().await;
    let mut observing = Observing::begin(&live, &["location"]);
    observing.said("has not answered yet. Is it connected?").await;
    live.serve.kill().await;
    observing
        .said("the service ended the stream of what devices say; still waiting")
        .await;
    live.serve = live.place.serve().await;
    observing.said("the service is back").await;
    agrees(&mut live, &["location"], json!([])).await;
    observing.said("it agreed").await;
    live.notify("location", json!({"latitude": 1, "longitude": 2}), "n")
        .await;
    assert!(
        observing
            .line()
            .await
            .ends_with("location = {\"latitude\":1,\"longitude\":2}")
    );
    live.serve.kill().await;
    observing.said("still waiting").await;
    assert_eq!(observing.ends(Some(Signal::SIGINT)).await, 1);
    observing.said("the observation goes on at the device").await;
}
