//! Acknowledgements leave in the order in which the messages came (MQTT-4.6.0-2), whatever order the owner is done in.
//!
//! A token belongs to one connection: after a reconnect the broker numbers anew, and an old packet id would confirm a
//! message that nobody has handled.

use std::collections::VecDeque;

/// Names one received message on one connection. Give it back to [`Session::ack`](super::Session::ack) once the message
/// has been handled. A token that is never given back holds up all later acknowledgements of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckToken {
    connection: u64,
    number: u64,
}

/// The messages of the present connection that are not acknowledged yet, oldest first. `A` is what is sent.
pub(super) struct AckQueue<A> {
    connection: u64,
    next: u64,
    waiting: VecDeque<(u64, A, bool)>,
}

impl<A> AckQueue<A> {
    pub(super) const fn new() -> Self {
        Self {
            connection: 0,
            next: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Forgets everything: a new connection begins.
    pub(super) fn begin(&mut self) {
        self.connection += 1;
        self.waiting.clear();
    }

    /// Notes a received message. `None` is one that needs no acknowledgement (QoS 0).
    pub(super) fn received(&mut self, ack: Option<A>) -> AckToken {
        self.next += 1;
        if let Some(ack) = ack {
            self.waiting.push_back((self.next, ack, false));
        }
        AckToken {
            connection: self.connection,
            number: self.next,
        }
    }

    /// The owner is done with a message. Returns false for a token of an earlier connection.
    pub(super) fn handled(&mut self, token: AckToken) -> bool {
        if token.connection != self.connection {
            return false;
        }
        if let Ok(at) = self.waiting.binary_search_by_key(&token.number, |entry| entry.0) {
            self.waiting[at].2 = true;
        }
        true
    }

    /// The next acknowledgement that may leave, without taking it.
    pub(super) fn ready(&self) -> Option<&A> {
        self.waiting.front().filter(|entry| entry.2).map(|entry| &entry.1)
    }

    /// Takes what [`ready`](Self::ready) showed: it was sent.
    pub(super) fn sent(&mut self) {
        self.waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(queue: &mut AckQueue<usize>) -> Vec<usize> {
        let mut sent = Vec::new();
        while let Some(ack) = queue.ready() {
            sent.push(*ack);
            queue.sent();
        }
        sent
    }

    proptest! {
        #[test]
        fn acknowledgements_leave_in_arrival_order_whatever_order_they_are_given_in(
            order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let mut queue = AckQueue::new();
            queue.begin();
            let tokens: Vec<_> = (0..20).map(|n| queue.received(Some(n))).collect();
            let mut sent = Vec::new();
            for n in order {
                queue.handled(tokens[n]);
                sent.extend(drain(&mut queue));
            }
            prop_assert_eq!(sent, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_token_of_an_earlier_connection_acknowledges_nothing() {
        let mut queue = AckQueue::new();
        queue.begin();
        let old = queue.received(Some(1));
        queue.begin();
        let new = queue.received(Some(2));
        assert!(!queue.handled(old));
        assert!(drain(&mut queue).is_empty());
        assert!(queue.handled(new));
        assert_eq!(drain(&mut queue), [2]);
    }

    #[test]
    fn a_message_that_needs_no_acknowledgement_holds_nobody_up() {
        let mut queue = AckQueue::new();
        queue.begin();
        let none = queue.received(None);
        let one = queue.received(Some(1));
        assert!(queue.handled(one));
        assert_eq!(drain(&mut queue), [1]);
        assert!(queue.handled(none));
        assert!(queue.handled(one), "twice is harmless");
        assert!(drain(&mut queue).is_empty());
    }
}
