//! `iotdm logs` and `iotdm errors`: what is printed, what follows, and how it ends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iotdm::protocol::ToService;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Live;
use super::observe::Observing;

impl Live {
    async fn log(&mut self, message: &str, severity: u8, req_id: &str) {
        let d = json!({"message": message, "severity": severity, "timestamp": "2024-05-01T10:00:00.250Z"});
        self.report(ToService::AddLog, d, req_id).await;
    }

    /// What a command says that succeeds.
    async fn says(&self, arguments: &[&str]) -> String {
        let (code, out, errors) = self.place.run(arguments).await;
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
        out
    }
}

#[tokio::test]
async fn dia_05_logs_are_shown_oldest_first_with_their_severity_in_words_and_harmless() {
    let mut live = Live::new().await;
    assert_eq!(
        live.says(&["logs", "edge/gw-1"]).await,
        "there are no logs of edge/gw-1\n"
    );
    live.log("it began", 0, "1").await;
    live.log("it is slow", 1, "2").await;
    let data = json!({"unit": "modbus.service", "pid": 7, "cursor": "s=1;i=1", "priority": 3, "count": 5});
    let d = json!({"message": "it\u{1b}[2J failed\nbadly", "severity": 2, "timestamp": "2024-05-01T10:00:00Z",
        "data": STANDARD.encode(data.to_string())});
    live.report(ToService::AddLog, d, "3").await;
    let began = "2024-05-01T10:00:00Z  information  it began\n";
    let slow = "2024-05-01T10:00:00Z  warning      it is slow\n";
    let failed = "2024-05-01T10:00:00Z  error        it [2J failed badly  (modbus.service, 5 times)\n";
    for (arguments, said) in [
        (&["logs", "edge/gw-1"][..], format!("{began}{slow}{failed}")),
        (&["logs", "edge/gw-1", "--severity", "1"], format!("{slow}{failed}")),
        (&["logs", "edge/gw-1", "--severity", "error"], failed.to_owned()),
        (&["logs", "edge/gw-1", "-n", "1"], failed.to_owned()),
        (
            &["logs", "edge/gw-1", "-n", "2", "--severity", "warning"],
            format!("{slow}{failed}"),
        ),
    ] {
        assert_eq!(live.says(arguments).await, said, "{arguments:?}");
    }
    let out = live.says(&["logs", "edge/gw-1", "--json"]).await;
    let logs: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&Value> = logs.iter().map(|log| &log["message"]).collect();
    assert_eq!(texts, ["it began", "it is slow", "it\u{1b}[2J failed\nbadly"]);
    assert_eq!(
        (&logs[2]["severity"], &logs[2]["data"]),
        (&json!(2), &json!(STANDARD.encode(data.to_string())))
    );
    live.gateway
        .publish(ToService::ClearLogs, b"{\"reqId\": \"c\"}".to_vec());
    live.gateway.answer_to("c", None).await;
    assert_eq!(
        live.says(&["logs", "edge/gw-1", "--severity", "2"]).await,
        "there are no logs of edge/gw-1 that are error or worse\n"
    );
    assert_eq!(live.says(&["logs", "edge/gw-1", "--json"]).await, "");
}

#[tokio::test]
async fn dia_05_logs_follow_until_ctrl_c_and_miss_none_over_a_restart_of_the_service() {
    let mut live = Live::new().await;
    for n in 0..15 {
        live.log(&format!("before {n}"), 2, &format!("b{n}")).await;
    }
    let mut following = Observing::run(&live, &["logs", "edge/gw-1", "--follow", "--severity", "1"]);
    for n in 5..15 {
        let line = following.line().await;
        assert!(line.ends_with(&format!("error        before {n}")), "{line}");
    }
    following.said("showing what comes").await;
    live.log("nothing much", 0, "1").await;
    live.log("it failed", 2, "2").await;
    assert!(following.line().await.ends_with("error        it failed"));
    // Delivered again: no second line. What comes after a clear is new.
    live.log("it failed", 2, "2").await;
    live.gateway
        .publish(ToService::ClearLogs, b"{\"reqId\": \"c\"}".to_vec());
    live.gateway.answer_to("c", None).await;
    live.log("after the clear", 1, "3").await;
    assert!(following.line().await.ends_with("warning      after the clear"));

    live.serve.kill().await;
    following.said("the service ended the stream").await;
    // The broker keeps it for the service.
    let d = json!({"d": {"message": "while it was away", "severity": 2}, "reqId": "4"});
    live.gateway
        .publish_acknowledged(ToService::AddLog, d.to_string().into_bytes())
        .await;
    live.serve = live.place.serve().await;
    assert!(following.line().await.ends_with("while it was away"));
    following.said("the service is back").await;
    live.log("and on", 2, "5").await;
    assert!(following.line().await.ends_with("and on"));
    assert_eq!(following.ends(Some(Signal::SIGINT)).await, 0);

    let mut following = Observing::run(&live, &["logs", "edge/gw-1", "-f", "--json", "-n", "1"]);
    let line: Value = serde_json::from_str(&following.line().await).unwrap();
    assert_eq!(line["message"], "and on");
    live.log("in JSON", 0, "6").await;
    let line: Value = serde_json::from_str(&following.line().await).unwrap();
    assert_eq!((&line["message"], &line["severity"]), (&json!("in JSON"), &json!(0)));
    assert_eq!(following.ends(Some(Signal::SIGTERM)).await, 0);
}

#[tokio::test]
async fn dia_05_errors_are_shown_newest_first_with_their_time_and_none_in_words() {
    let mut live = Live::new().await;
    let none = live.says(&["errors", "edge/gw-1"]).await;
    assert_eq!(none, "none: edge/gw-1 has told of no error, or has cleared them\n");
    assert_eq!(live.says(&["errors", "edge/gw-1", "--json"]).await, "[]\n");
    for (code, req_id) in [(9001, "1"), (42, "2")] {
        live.report(ToService::AddErrorCode, json!({"errorCode": code}), req_id)
            .await;
    }
    let out = live.says(&["errors", "edge/gw-1"]).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "CODE  ADDED");
    for (line, code) in lines[1..].iter().zip(["42    20", "9001  20"]) {
        assert!(line.starts_with(code) && line.ends_with(" s ago"), "{out}");
    }
    assert_eq!(lines.len(), 3);
    let out = live.says(&["errors", "edge/gw-1", "--json"]).await;
    let codes: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&codes[0]["errorCode"], &codes[1]["errorCode"]),
        (&json!(42), &json!(9001))
    );
    assert!(codes[0]["timestamp"].is_string());
}
