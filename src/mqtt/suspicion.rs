//! Why did the peer close the connection? MQTT 3.1.1 does not say, so this looks at what was unanswered, and at what
//! happened the times before.
//!
//! The platform's front end closes the connection of a device on a forbidden topic (CON-11), and every broker closes
//! the older connection when a second client comes with the same id (CON-12).

use super::trouble::Trouble;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A packet is suspected only this long after it was sent.
const RIGHT_AFTER: Duration = Duration::from_secs(5);

/// So many sessions in a row that ended early make another client with the same id likely.
const FLAPS: u32 = 3;

/// So many closed connections in a row right after the same packet, and it is not sent again.
const STRIKES: u32 = 3;

/// What was sent on the present connection and not answered, in order. A broker works in order, too, so the first is
/// the one that it did not like. After a reconnect the MQTT crate sends old publishes again before it asks for
/// subscriptions.
#[derive(Debug, Default)]
pub(super) struct Unanswered(VecDeque<(Sent, Instant)>);

/// What asks for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Subscribe,
    Publish,
}

impl Unanswered {
    pub(super) fn sent(&mut self, what: Sent) {
        self.0.push_back((what, Instant::now()));
    }

    pub(super) fn answered(&mut self, what: Sent) {
        if let Some(at) = self.0.iter().position(|(sent, _)| *sent == what) {
            self.0.remove(at);
        }
    }

    /// The packet that the broker may have disliked so much that it hung up.
    fn suspect(&self) -> Option<Sent> {
        self.0
            .front()
            .filter(|(_, at)| at.elapsed() <= RIGHT_AFTER)
            .map(|(sent, _)| *sent)
    }
}

/// What is to be done beside waiting and trying again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Measure {
    None,
    /// Give up the publish with this number.
    RefusePublish(u64),
    /// Do not ask for this optional subscription any more.
    SkipSubscription(String),
    /// Connect once with a clean session, so that the broker forgets what it cannot get rid of.
    CleanSession,
}

/// What happened on earlier connections.
#[derive(Debug, Default)]
pub(super) struct History {
    flaps: u32,
    poison: u32,
    strikes: Option<(Suspect, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Suspect {
    Subscription(String),
    Publish(u64),
}

/// The facts of a session that the peer closed.
pub(super) struct Closed<'a> {
    pub(super) client_id: &'a str,
    pub(super) problem: String,
    pub(super) unanswered: &'a Unanswered,
    /// The subscription being asked for.
    pub(super) subscription: Option<&'a str>,
    /// The oldest publish not acknowledged.
    pub(super) publish: Option<(u64, &'a str)>,
    pub(super) stable: bool,
}

impl History {
    /// A session that the peer closed.
    pub(super) fn closed(&mut self, facts: Closed<'_>) -> (Trouble, Measure) {
        self.poison = 0;
        if facts.stable {
            self.flaps = 0;
            self.strikes = None;
        }
        if let Some(filter) = facts
            .subscription
            .filter(|_| facts.unanswered.suspect() == Some(Sent::Subscribe))
        {
            let measure = if self.strike(Suspect::Subscription(filter.to_owned())) {
                Measure::SkipSubscription(filter.to_owned())
            } else {
                Measure::None
            };
            return (
                Trouble::ClosedAfterSubscribe {
                    filter: filter.to_owned(),
                },
                measure,
            );
        }
        if let Some((order, topic)) = facts
            .publish
            .filter(|_| facts.unanswered.suspect() == Some(Sent::Publish))
        {
            let measure = if self.strike(Suspect::Publish(order)) {
                Measure::RefusePublish(order)
            } else {
                Measure::None
            };
            return (
                Trouble::ClosedAfterPublish {
                    topic: topic.to_owned(),
                },
                measure,
            );
        }
        self.strikes = None;
        if !facts.stable {
            self.flaps += 1;
        }
        if self.flaps >= FLAPS {
            let trouble = Trouble::DuplicateClientId {
                client_id: facts.client_id.to_owned(),
                times: self.flaps,
            };
            return (trouble, Measure::None);
        }
        (Trouble::Closed { problem: facts.problem }, Measure::None)
    }

    /// Something came in that cannot be received: too large, or not MQTT. The broker sends it again and again.
    pub(super) fn poisoned(&mut self, stable: bool) -> Measure {
        self.flaps = 0;
        self.strikes = None;
        self.poison = if stable { 1 } else { self.poison + 1 };
        if self.poison >= 2 {
            Measure::CleanSession
        } else {
            Measure::None
        }
    }

    /// A session that ended for a known reason of ours.
    pub(super) fn ended_otherwise(&mut self) {
        *self = Self::default();
    }

    /// No session came about: then nobody else took it from us, either. A broker that restarts looks like that.
    pub(super) fn not_connected(&mut self) {
        self.flaps = 0;
    }

    /// The broker forgot its queue.
    pub(super) fn cleaned(&mut self) {
        self.poison = 0;
    }

    fn strike(&mut self, suspect: Suspect) -> bool {
        let strikes = match &self.strikes {
            Some((earlier, strikes)) if *earlier == suspect => strikes + 1,
            _ => 1,
        };
        self.strikes = Some((suspect, strikes));
        if strikes >= STRIKES {
            self.strikes = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(history: &mut History, unanswered: &Unanswered, stable: bool) -> (Trouble, Measure) {
        history.closed(Closed {
            client_id: "d:a:b:c",
            problem: "gone".into(),
            unanswered,
            subscription: Some("iotdm-1/#"),
            publish: Some((7, "iotdevice-1/mgmt/manage")),
            stable,
        })
    }

    #[tokio::test]
    async fn con_11_the_third_close_right_after_the_same_message_gives_it_up() {
        let mut history = History::default();
        let mut unanswered = Unanswered::default();
        unanswered.sent(Sent::Publish);
        for measure in [Measure::None, Measure::None, Measure::RefusePublish(7)] {
            let (trouble, seen) = closed(&mut history, &unanswered, false);
            assert_eq!(
                trouble,
                Trouble::ClosedAfterPublish {
                    topic: "iotdevice-1/mgmt/manage".into()
                }
            );
            assert_eq!(seen, measure);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn con_11_a_message_sent_long_ago_is_not_suspected() {
        let mut unanswered = Unanswered::default();
        unanswered.sent(Sent::Publish);
        tokio::time::advance(RIGHT_AFTER + Duration::from_millis(1)).await;
        let (trouble, _) = closed(&mut History::default(), &unanswered, false);
        assert_eq!(trouble, Trouble::Closed { problem: "gone".into() });
    }

    #[tokio::test]
    async fn con_11_an_answered_message_is_not_suspected() {
        let mut unanswered = Unanswered::default();
        unanswered.sent(Sent::Publish);
        unanswered.answered(Sent::Publish);
        let (trouble, _) = closed(&mut History::default(), &unanswered, false);
        assert_eq!(trouble, Trouble::Closed { problem: "gone".into() });
    }

    #[tokio::test]
    async fn con_11_what_was_sent_first_is_suspected() {
        let mut unanswered = Unanswered::default();
        unanswered.sent(Sent::Publish);
        unanswered.sent(Sent::Subscribe);
        let (trouble, _) = closed(&mut History::default(), &unanswered, false);
        assert_eq!(
            trouble,
            Trouble::ClosedAfterPublish {
                topic: "iotdevice-1/mgmt/manage".into()
            }
        );
        unanswered.answered(Sent::Publish);
        let (trouble, _) = closed(&mut History::default(), &unanswered, false);
        assert_eq!(
            trouble,
            Trouble::ClosedAfterSubscribe {
                filter: "iotdm-1/#".into()
            }
        );
    }

    #[test]
    fn con_12_three_short_sessions_in_a_row_mean_a_second_client() {
        let (mut history, unanswered) = (History::default(), Unanswered::default());
        assert!(matches!(
            closed(&mut history, &unanswered, false).0,
            Trouble::Closed { .. }
        ));
        assert!(matches!(
            closed(&mut history, &unanswered, false).0,
            Trouble::Closed { .. }
        ));
        assert!(matches!(
            closed(&mut history, &unanswered, false).0,
            Trouble::DuplicateClientId { times: 3, .. }
        ));
        assert!(
            matches!(closed(&mut history, &unanswered, true).0, Trouble::Closed { .. }),
            "a stable one clears it"
        );
    }

    #[test]
    fn con_12_a_broker_that_is_away_in_between_is_no_second_client() {
        let (mut history, unanswered) = (History::default(), Unanswered::default());
        for _ in 0..10 {
            assert!(matches!(
                closed(&mut history, &unanswered, false).0,
                Trouble::Closed { .. }
            ));
            history.not_connected();
        }
    }

    #[test]
    fn poison_twice_in_a_row_asks_for_a_clean_session_and_a_stable_session_in_between_forgives() {
        let mut history = History::default();
        assert_eq!(history.poisoned(false), Measure::None);
        assert_eq!(history.poisoned(true), Measure::None);
        assert_eq!(history.poisoned(false), Measure::CleanSession);
        history.cleaned();
        assert_eq!(history.poisoned(false), Measure::None);
    }
}
