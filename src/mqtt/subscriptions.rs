//! The subscriptions of one connection, one SUBSCRIBE after another, required ones first.
//!
//! They are asked for after every CONNACK, also when the broker still has the session: that is harmless, and it heals a
//! broker that lost some. One at a time, so that a connection which is closed instead names its filter.

use super::options::Subscription;
use futures_util::future::{BoxFuture, FutureExt};
use rumqttc::{AsyncClient, QoS, SubscribeReasonCode};

/// The broker's answer to a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Refused,
    /// The session was reset before the answer.
    Lost,
}

/// Progress through the subscriptions of the present connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    todo: Vec<Subscription>,
    at: usize,
    /// What was asked and not answered. It survives the connection, because the MQTT crate asks it again when the
    /// session does; asking once more each time would pile them up.
    asked: Option<(String, BoxFuture<'static, Answer>)>,
    told: bool,
}

/// What follows from an answer, or from having nothing left to ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progressed {
    /// All required ones stand; told once for a connection.
    RequiredStand,
    /// A required one is refused.
    RequiredRefused(String),
    /// An optional one is refused.
    OptionalRefused(String),
}

impl Subscriptions {
    /// A new connection begins.
    pub(super) fn begin(&mut self, subscriptions: &[Subscription], skip: &[String]) {
        self.todo = subscriptions
            .iter()
            .filter(|it| it.required || !skip.contains(&it.filter))
            .cloned()
            .collect();
        self.todo.sort_by_key(|it| !it.required);
        self.at = 0;
        self.told = false;
    }

    /// The filter that is being asked for.
    pub(super) fn asking(&self) -> Option<&str> {
        self.todo.get(self.at).map(|it| it.filter.as_str())
    }

    /// Whether all required ones stand.
    pub(super) fn stand(&self) -> bool {
        self.told
    }

    /// Asks for the next one, if none is being asked for.
    pub(super) fn ask(&mut self, client: &AsyncClient) -> Option<Progressed> {
        let next = self.todo.get(self.at);
        if !self.told && next.is_none_or(|it| !it.required) {
            self.told = true;
            return Some(Progressed::RequiredStand);
        }
        let filter = &next?.filter;
        if self.asked.as_ref().is_some_and(|(asked, _)| asked == filter) {
            return None;
        }
        let answer = match client.try_subscribe_tracked(filter.as_str(), QoS::AtLeastOnce) {
            Ok(notice) => async move {
                match notice.wait_async().await {
                    Ok(suback) if suback.return_codes.contains(&SubscribeReasonCode::Failure) => Answer::Refused,
                    Ok(_) => Answer::Granted,
                    Err(_) => Answer::Lost,
                }
            }
            .boxed(),
            Err(error) => {
                // An invalid filter; configuration should have refused it.
                tracing::error!(%filter, %error, "the MQTT crate does not take a subscription");
                std::future::ready(Answer::Refused).boxed()
            }
        };
        self.asked = Some((filter.clone(), answer));
        None
    }

    /// The answer to what was asked. Cancel safe. Pending for ever when nothing is asked.
    pub(super) async fn answer(&mut self) -> Answer {
        match &mut self.asked {
            Some((_, answer)) => answer.await,
            None => std::future::pending().await,
        }
    }

    /// Whether [`answer`](Self::answer) has anything to wait for.
    pub(super) fn waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes an answer.
    pub(super) fn answered(&mut self, answer: Answer) -> Option<Progressed> {
        let (filter, _) = self.asked.take()?;
        let current = self.todo.get(self.at)?;
        if current.filter != filter || answer == Answer::Lost {
            // Asked on an earlier connection, for other options: ask again.
            return None;
        }
        self.at += 1;
        match (answer, current.required) {
            (Answer::Refused, true) => Some(Progressed::RequiredRefused(filter)),
            (Answer::Refused, false) => Some(Progressed::OptionalRefused(filter)),
            _ => None,
        }
    }
}
