//! What comes of an event, in words.

use std::collections::BTreeSet;

use iotdm::agent::effect::{Mark, Reply};
use iotdm::agent::{After, Agent, Disk, Effect, Event, Now, Status, Step};
use serde_json::Value;

use super::events::ACK;
use crate::driver::FULL;

/// What comes of it, in one line.
pub(super) fn cell(agent: &Agent, now: Now, event: &Event, disk_full: bool) -> String {
    let mut agent = agent.clone();
    let mut step = agent.handle(now, event, Disk::Works);
    if disk_full && step.commit.is_some() {
        step = agent.handle(now, event, Disk::Refuses(FULL));
    }
    let mut done: Vec<_> = step.after.iter().filter_map(word).collect();
    if matches!(event, Event::Message(_)) && !step.after.contains(&After::Ack(ACK)) {
        done.push("not acknowledged yet".into());
    }
    done.extend(changed(&agent, &step));
    let before = standing(&agent.status());
    agent.adopt(&step, event);
    let now = standing(&agent.status());
    if before != now {
        done.push(format!("then {now}"));
    }
    match done.is_empty() {
        true => "-".to_owned(),
        false => done.join("; "),
    }
}

fn word(after: &After) -> Option<String> {
    let marked = |marks: &[(Mark, String)]| {
        let words: Vec<_> = marks.iter().map(|(mark, slot)| format!("{mark:?} {slot}")).collect();
        format!("mark {}", words.join(", "))
    };
    Some(match after {
        After::Effect(Effect::Publish { topic, payload, .. }) => published(topic, payload),
        After::Effect(Effect::Reply(_, Reply::Begun(text))) => format!("begun {text:?}"),
        After::Effect(Effect::Reply(_, Reply::Failed(text))) => format!("refused {text:?}"),
        After::Effect(Effect::Reply(_, reply)) => format!("{reply:?}").to_lowercase(),
        After::Effect(Effect::Survey(_, purpose)) => format!("look at the host for {purpose:?}"),
        After::Effect(Effect::SurveyReset(_)) => "look at the host for a reset".into(),
        After::Effect(Effect::FollowReset { .. }) => "follow the reset's unit".into(),
        After::Effect(Effect::Watch(Some(_))) => "watch the health".into(),
        After::Effect(Effect::Watch(None)) => "watch the health no more".into(),
        After::Effect(Effect::Marker(Some(marker))) => format!("marker of {}", marker.slot),
        After::Effect(Effect::Marker(None)) => "no marker".into(),
        After::Effect(Effect::Discard) => "discard the image".into(),
        After::Effect(Effect::ReleaseDelayLock) => "let go of the delay lock".into(),
        After::Reboot(_) => "ask logind for a reboot".into(),
        After::Reset(_) => "ask systemd for the reset".into(),
        After::Download(_, image) => format!("fetch {}", image.uri),
        After::Install { image, .. } => format!("install {}", image.uri),
        After::Rejoin(_) => "wait for RAUC".into(),
        After::Mark(_, marks) => marked(marks),
        After::Ack(_) | After::Effect(_) => return None,
    })
}

fn published(topic: &str, payload: &[u8]) -> String {
    let payload: Value = serde_json::from_slice(payload).unwrap();
    let name = topic.rsplit('/').next().unwrap();
    let value = &payload["d"]["fields"][0]["value"];
    match name {
        "response" => {
            let message = payload["message"]
                .as_str()
                .map(|text| format!(" {text:?}"))
                .unwrap_or_default();
            let value = match value.is_null() {
                true => String::new(),
                false => format!(" state {}, updateStatus {}", value["state"], value["updateStatus"]),
            };
            format!(
                "answer {} {}{message}{value}",
                payload["reqId"].as_str().unwrap(),
                payload["rc"]
            )
        }
        "notify" => format!("notify {value}"),
        "log" => format!("log {}", payload["d"]["message"]),
        _ => name.to_owned(),
    }
}

/// Which members of the durable memory the step changes.
fn changed(agent: &Agent, step: &Step) -> Option<String> {
    let commit = step.commit.as_ref()?;
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let (before, now) = (read(agent.durable().to_json()), read(commit.to_json()));
    let members: BTreeSet<_> = [&before, &now]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(|object| object.keys())
        .collect();
    let changed: Vec<_> = members
        .into_iter()
        .filter(|name| before.get(name) != now.get(name))
        .map(String::as_str)
        .collect();
    Some(format!("write {}", changed.join(" ")))
}

pub(super) fn standing(status: &Status) -> String {
    let firmware = &status.firmware;
    let mut text = format!("{}/{}", firmware.state, firmware.update_status);
    if status.busy != "none" {
        text += &format!(" {}", status.busy);
    }
    if let Some(what) = &firmware.waiting_for {
        text += &format!(", waits for: {what}");
    }
    text
}
