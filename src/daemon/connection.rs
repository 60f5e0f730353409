//! How the connection to the service stands, for people.

use serde::Serialize;
use std::time::{Duration, Instant};

use crate::mqtt::Trouble;

/// Where the connection is.
#[derive(Debug, Clone)]
pub(super) enum Connection {
    /// No session: the agent is not configured.
    None,
    /// On the way, for the first time or after a change of the configuration.
    Connecting,
    /// The broker let us in; the subscription is not confirmed yet.
    Connected,
    /// All is well, since then.
    Subscribed(Instant),
    /// It does not work, and why.
    Trouble { trouble: Trouble, retry_at: Instant },
}

/// The same for `status --json`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct View {
    state: &'static str,
    /// Seconds in that state, when subscribed.
    #[serde(skip_serializing_if = "Option::is_none")]
    for_seconds: Option<u64>,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// Seconds until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_in_seconds: Option<u64>,
}

impl Connection {
    pub(super) fn trouble(trouble: Trouble, retry_in: Duration) -> Self {
        Connection::Trouble {
            trouble,
            retry_at: Instant::now() + retry_in,
        }
    }

    pub(super) fn view(&self) -> View {
        let (state, for_seconds, trouble, retry) = match self {
            Connection::None => ("not configured", None, None, None),
            Connection::Connecting => ("connecting", None, None, None),
            Connection::Connected => ("subscribing", None, None, None),
            Connection::Subscribed(since) => ("connected", Some(since.elapsed().as_secs()), None, None),
            Connection::Trouble { trouble, retry_at } => {
                let wait = retry_at.saturating_duration_since(Instant::now()).as_secs();
                ("disconnected", None, Some(trouble.to_string()), Some(wait))
            }
        };
        View {
            state,
            for_seconds,
            trouble,
            next_attempt_in_seconds: retry,
        }
    }
}
