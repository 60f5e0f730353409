//! Log lines: to the journal with stable MESSAGE_IDs where there is one, to stderr otherwise.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::agent::Say;
use crate::agent::effect::{Level, Topic};

/// The broker was reached.
pub(super) const CONNECTED: &str = "e5097b415e4d4b7592cd24c87356b8c5";
/// The broker is not reached.
pub(super) const DISCONNECTED: &str = "00222cb3cc9f468fbc82137d719a2d6c";
/// The disk refused, or works again.
pub(super) const DISK: &str = "dc4c7d22e6894549b69663fcf9ef14a7";
/// The configuration was read.
pub(super) const CONFIGURATION: &str = "30e303b3798f4681a2612e347dc5398c";

/// Sets it up; to be called once.
pub fn start(journal: bool) {
    let journald = journal.then(tracing_journald::layer).and_then(Result::ok);
    // Without a prefix MESSAGE_ID is the journal's own field.
    let journald = journald.map(|layer| {
        layer
            .with_field_prefix(None)
            .with_syslog_identifier("iotdm-agent".into())
    });
    let stderr = journald.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(false)
    });
    tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(journald)
        .with(stderr)
        .init();
}

fn message_id(topic: Topic) -> &'static str {
    match topic {
        Topic::Manage => "94998df815d44df9b987c49845266650",
        Topic::Unmanage => "24ecfe2e56704768b8992f19d29e144e",
        Topic::RebootAsked => "b195ccc1380844429d66e4cd256d476d",
        Topic::RebootAccepted => "cb0a5f424098480fbc1d72c5644b329b",
        Topic::RebootRefused => "99657a3469e7491392530e89676a5aa7",
        Topic::RebootDone => "aa02ba2328384d0cbb5e445398494fe5",
        Topic::RebootDidNotHappen => "26bf2bc50135422fb7be243be813d2e4",
        Topic::ResetAsked => "062ee5786b8b46b2b9fb4328dcac658a",
        Topic::ResetAccepted => "f4d84d5ba67f4ddd9663227b1fb05da7",
        Topic::ResetRefused => "031afed92e9f412693191443e10b041d",
        Topic::ResetDone => "ba408765d62b4daf825271b80aea44c8",
        Topic::ResetDidNotHappen => "978ec59530ac4486907ea43f3dcf4d01",
        Topic::Attributes => "28978aa901ae4620b0955d3ff36a76e1",
        Topic::Download => "7e0b6e1d6c8a4f0f9f0c5f2f1c4a9b37",
        Topic::Update => "c1a4f2d86f5b4a3db8a07f1d2a6e9c54",
        Topic::MessageRefused => "6d6141eb46934f2b99d75ab49ba4150c",
        Topic::Dropped => "f8a78369a5e147a0bc300e90c43533ec",
    }
}

/// Writes a line of the brain's. What came over the wire may be in it: control characters are taken out.
pub(super) fn say(say: &Say) {
    let text: String = say.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let id = message_id(say.topic);
    match say.level {
        Level::Error => tracing::error!(MESSAGE_ID = id, "{text}"),
        Level::Warning => tracing::warn!(MESSAGE_ID = id, "{text}"),
        Level::Info => tracing::info!(MESSAGE_ID = id, "{text}"),
    }
}
