//! Does the broker let this device in? Asked by `check` itself only when no agent runs.

use std::time::Duration;

use super::{Finding, Severity};
use crate::config::Settings;
use crate::daemon::settings;
use crate::mqtt::{Event, start};

/// How long the way to the broker and its answer may take.
const LIMIT: Duration = Duration::from_secs(45);

/// Connects as the device, subscribes to nothing, acknowledges nothing, and takes leave again: what waits for the
/// device in the broker goes on waiting.
pub async fn broker(settings: &Settings) -> Finding {
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
                Event::Connected { .. } => {
                    let text = format!("{}:{} lets {} in", url.host, url.port, settings::client_id(settings));
                    return finding(Severity::Ok, text);
                }
                Event::Disconnected { trouble, .. } => return finding(Severity::Error, trouble.to_string()),
                _ => {}
            }
        }
        finding(Severity::Error, "the session ended without an answer".into())
    };
    let found = tokio::time::timeout(LIMIT, wait).await;
    drop(events);
    session.stop().await;
    found.unwrap_or_else(|_| {
        finding(
            Severity::Error,
            format!("{}:{} did not answer within {} s", url.host, url.port, LIMIT.as_secs()),
        )
    })
}
