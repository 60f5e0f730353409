//! What goes over the wire between a site's gateway and its service, as the broker sees it; and requests behind the
//! service's back.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::site::Site;

static COUNTER: AtomicU32 = AtomicU32::new(1);

/// Hears what the gateway says, from its beginning on.
pub(crate) struct Wire {
    listener: Child,
    log: PathBuf,
}

impl Site {
    pub(crate) fn wire(&self) -> Wire {
        let log = self.path(&format!("wire-{}", COUNTER.fetch_add(1, Ordering::Relaxed)));
        let listen = || {
            let mut client = self.mosquitto_client("mosquitto_sub", "iotdm");
            client.args(["-i", "wire", "-c", "-t", "iotdevice-1/#", "-F", "%t %p"]);
            client
        };
        // The broker keeps what comes between this one, which ends when it has subscribed, and the next.
        assert!(listen().arg("-E").status().unwrap().success());
        let file = File::create(&log).unwrap();
        let listener = listen().stdout(Stdio::from(file)).spawn().unwrap();
        Wire { listener, log }
    }
}

impl Wire {
    /// What was heard so far: the end of the topic and the message.
    fn heard(&self) -> Vec<(String, Value)> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let lines = text.lines().filter_map(|line| {
            let (topic, payload) = line.split_once(' ')?;
            let kind = topic.rsplit('/').next()?.to_owned();
            // the last line may be half of one
            Some((kind, serde_json::from_str(payload).ok()?))
        });
        lines.collect()
    }

    /// Each `updateStatus` that the service was told of, but for 1, "in progress": how downloads and updates ended. One
    /// that was told twice under the same request id counts once.
    pub(crate) fn ends(&self) -> Vec<u64> {
        let mut seen = Vec::new();
        let mut ends = Vec::new();
        for (kind, message) in self.heard() {
            if kind != "notify" || seen.contains(&message["reqId"]) {
                continue;
            }
            seen.push(message["reqId"].clone());
            let status = message["d"]["fields"][0]["value"]["updateStatus"].as_u64();
            ends.extend(status.filter(|status| *status != 1));
        }
        ends
    }

    /// The codes that the gateway has answered a request with, in order.
    pub(crate) fn answers(&self, req_id: &str) -> Vec<u64> {
        let heard = self.heard().into_iter();
        heard
            .filter(|(kind, message)| kind == "response" && message["reqId"] == req_id)
            .filter_map(|(_, message)| message["rc"].as_u64())
            .collect()
    }

    /// The reasons that went with those codes.
    pub(crate) fn reasons(&self, req_id: &str) -> Vec<String> {
        let heard = self.heard().into_iter();
        heard
            .filter(|(kind, message)| kind == "response" && message["reqId"] == req_id)
            .map(|(_, message)| message["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The messages of the log entries that the gateway has sent. One that was told twice under the same request id counts
    /// once.
    pub(crate) fn logs(&self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut logs = Vec::new();
        for (kind, message) in self.heard() {
            // What comes out of the journal names its entry, and says so of a unit that the test has made fail.
            if kind != "log" || from_journal(&message["d"]) || seen.contains(&message["reqId"]) {
                continue;
            }
            logs.extend(message["d"]["message"].as_str().map(str::to_owned));
            seen.push(message["reqId"].clone());
        }
        logs
    }

    /// Asks the gateway for something, and waits for its answer: the code and the reason.
    pub(crate) fn ask(&self, site: &Site, operation: &str, d: Value) -> (u64, String) {
        let id = format!("wire-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut request = json!({"reqId": id});
        if !d.is_null() {
            request["d"] = d;
        }
        site.publish(operation, &request.to_string());
        let mut answer = None;
        site.gateway.wait(&format!("{operation} is answered"), || {
            let heard = self.heard();
            let found = heard
                .iter()
                .find(|(kind, message)| kind == "response" && message["reqId"] == *id);
            answer = found.map(|(_, message)| message.clone());
            answer.is_some()
        });
        let answer = answer.unwrap_or_default();
        let message = answer["message"].as_str().unwrap_or_default();
        (answer["rc"].as_u64().unwrap(), message.to_owned())
    }
}

/// Whether a log is of an entry of the journal.
fn from_journal(log: &Value) -> bool {
    let data = STANDARD.decode(log["data"].as_str().unwrap_or_default());
    let data = serde_json::from_slice::<Value>(&data.unwrap_or_default());
    data.is_ok_and(|data| data["cursor"].is_string())
}

impl Drop for Wire {
    fn drop(&mut self) {
        // It may have ended with the broker.
        let _ = self.listener.kill();
        let _ = self.listener.wait();
    }
}
