//! Does the broker let this device in? Tried only where no other session of this device can be.

use std::time::Duration;

use super::{Finding, Severity};
use crate::config::Settings;
use crate::daemon::settings;
use crate::mqtt::{Event, start};

/// How long the way to the broker and its answer may take.
const LIMIT: Duration = Duration::from_secs(45);

/// The broker sends what waits as soon as the device is there, and there is no way in that leaves the queue alone: a
/// clean session would drop it, and another client id is not the device (MQTT 3.1.1, 4.4 and 3.3.1.1).
const REPETITION: &str = "what waited for the device at the broker still does, marked as a repetition: \
    a reboot request without reqId among it is not carried out";

/// Connects as the device, subscribes to nothing, acknowledges nothing, and takes leave again: what waits for the
/// device in the broker goes on waiting. `cancelled` ends it early, and there is no connection left when this returns.
pub(super) async fn broker(settings: &Settings, cancelled: impl Future) -> Finding {
    let finding = |severity, text: String| Finding::new("service", "broker", severity, text);
    let options = match settings::probe(settings) {
        Ok(options) => options,
        Err(error) => return finding(Severity::Error, error.to_string()),
    };
    let url = &settings.service.url;
    let (session, mut events) = start(options, 0);
    let wait = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected { session_present } => {
                    let text = format!("{}:{} lets {} in", url.host, url.port, settings::client_id(settings));
                    let found = finding(Severity::Ok, text);
                    return if session_present { found.hint(REPETITION) } else { found };
                }
                Event::Disconnected { trouble, .. } => return finding(Severity::Error, trouble.to_string()),
                _ => {}
            }
        }
        finding(Severity::Error, "the session ended without an answer".into())
    };
    let found = tokio::select! {
        found = wait => found,
        _ = cancelled => {
            let text = "not tried to the end: the agent connects itself just now";
            finding(Severity::Warning, text.into()).hint("ask again in a minute")
        }
        () = tokio::time::sleep(LIMIT) => {
            let text = format!("{}:{} did not answer within {} s", url.host, url.port, LIMIT.as_secs());
            finding(Severity::Error, text)
        }
    };
    drop(events);
    session.stop().await;
    found
}
