//! Why a connection ended: the crate's error, what `wire` saw, and what was unanswered, made into one `Trouble`.

use super::connection::Connection;
use super::driver::{Driver, End};
use super::options::{Options, authority};
use super::session::MAX_INCOMING;
use super::suspicion::{Closed, Measure};
use super::tls;
use super::trouble::Trouble;
use super::wire::Ended;
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};

impl Driver {
    /// Whether the session lasted long enough to forget earlier failures.
    pub(super) fn stable(&self, connection: &Connection) -> bool {
        connection
            .since
            .is_some_and(|since| since.elapsed() >= self.options.stable_after)
    }

    /// Why there is no connection any more, from what the crate says and what was observed.
    pub(super) fn explain(&mut self, connection: &Connection, error: &ConnectionError) -> End {
        let stable = self.stable(connection);
        tracing::debug!(%error, "the MQTT crate ended the connection");
        let observed = connection.observer.look();
        if connection.since.is_none() {
            self.history.not_connected();
            let trouble = match (&observed.not_connected, error) {
                (Some(trouble), _) => trouble.clone(),
                (None, ConnectionError::ConnectionRefused(code)) => refused(*code, &self.options),
                (None, error) => no_connack(observed.ended.as_ref(), observed.heard, error, &self.options),
            };
            return End::Lost {
                trouble,
                measure: Measure::None,
                stable,
            };
        }
        if let ConnectionError::MqttState(StateError::Deserialization(PacketError::PayloadSizeLimitExceeded(bytes))) =
            error
        {
            let measure = self.history.poisoned(stable);
            return End::Lost {
                trouble: Trouble::Oversized {
                    bytes: *bytes,
                    limit: MAX_INCOMING,
                },
                measure,
                stable,
            };
        }
        let (trouble, measure) = match &observed.ended {
            Some(Ended::Silent(after)) => {
                self.history.ended_otherwise();
                (Trouble::PeerSilent { after: *after }, Measure::None)
            }
            Some(Ended::Tls(error)) => {
                self.history.ended_otherwise();
                (tls::trouble(error, &self.options), Measure::None)
            }
            Some(Ended::ByNetwork(problem)) => {
                self.history.ended_otherwise();
                let problem = problem.clone();
                (Trouble::NetworkLost { problem }, Measure::None)
            }
            Some(Ended::ByPeer(problem)) => self.history.closed(Closed {
                client_id: &self.options.client_id,
                problem: problem.clone(),
                unanswered: &connection.unanswered,
                subscription: self.subscriptions.asking(),
                publish: self.outbound.oldest(),
                stable,
            }),
            None => {
                let measure = self.history.poisoned(stable);
                (
                    Trouble::Protocol {
                        problem: error.to_string(),
                    },
                    measure,
                )
            }
        };
        End::Lost {
            trouble,
            measure,
            stable,
        }
    }
}

fn refused(code: ConnectReturnCode, options: &Options) -> Trouble {
    let client_id = options.client_id.clone();
    match code {
        ConnectReturnCode::RefusedProtocolVersion => Trouble::ProtocolVersionRefused,
        ConnectReturnCode::BadClientId => Trouble::ClientIdRefused { client_id },
        ConnectReturnCode::BadUserNamePassword => Trouble::CredentialsRefused,
        ConnectReturnCode::NotAuthorized => Trouble::NotAuthorised {
            client_id,
            username: options.username.clone(),
        },
        ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => Trouble::BrokerUnavailable,
    }
}

fn no_connack(ended: Option<&Ended>, heard: bool, error: &ConnectionError, options: &Options) -> Trouble {
    let address = authority(&options.broker.host, options.broker.port);
    match ended {
        Some(Ended::Tls(error)) => tls::trouble(error, options),
        Some(Ended::Silent(after)) => Trouble::NoConnack { address, after: *after },
        Some(Ended::ByPeer(_)) if !heard => Trouble::ClosedWithoutConnack {
            address,
            tls: options.broker.tls.is_some(),
        },
        Some(Ended::ByNetwork(problem)) => Trouble::Unreachable {
            address,
            problem: problem.clone(),
        },
        _ => Trouble::Protocol {
            problem: error.to_string(),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::backoff::Pace;
    use super::super::options::Broker;
    use super::super::suspicion::Sent;
    use super::super::wire::Observer;
    use super::*;
    use std::sync::Arc;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    fn driver() -> Driver {
        let broker = Broker {
            host: "broker".into(),
            port: 1883,
            tls: None,
            proxy: None,
        };
        let (_, commands) = mpsc::unbounded_channel();
        let (events, _) = mpsc::channel(1);
        Driver::new(Options::new(broker, "d:a:b:c"), 0, commands, events, Arc::default()).0
    }

    /// What is told of a connection that ended so, `accepted` by a CONNACK or not.
    fn told(driver: &mut Driver, ended: Ended, accepted: bool) -> Trouble {
        let observer = Observer::default();
        observer.look().ended = Some(ended);
        let mut connection = Connection::new(observer);
        connection.since = accepted.then(Instant::now);
        connection.unanswered.sent(Sent::Publish);
        let error = ConnectionError::Io(std::io::ErrorKind::Other.into());
        match driver.explain(&connection, &error) {
            End::Lost { trouble, measure, .. } => {
                assert_eq!(measure, Measure::None);
                trouble
            }
            _ => unreachable!("a lost connection"),
        }
    }

    fn by_peer() -> Ended {
        Ended::ByPeer("connection reset".into())
    }

    fn by_network() -> Ended {
        Ended::ByNetwork("connection timed out".into())
    }

    #[tokio::test]
    async fn con_12_a_bad_link_is_no_second_client_however_often_it_breaks() {
        let mut driver = driver();
        for _ in 0..10 {
            let trouble = told(&mut driver, by_network(), true);
            assert!(matches!(trouble, Trouble::NetworkLost { .. }), "{trouble:?}");
            assert_eq!(trouble.pace(), Pace::Ordinary);
        }
        assert!(matches!(told(&mut driver, by_peer(), true), Trouble::Closed { .. }));
    }

    #[tokio::test]
    async fn con_12_sessions_that_the_peer_ends_count_until_the_network_breaks() {
        let mut driver = driver();
        for ended in [by_peer(), by_peer(), by_network(), by_peer(), by_peer()] {
            let trouble = told(&mut driver, ended, true);
            assert_eq!(trouble.pace(), Pace::Ordinary, "{trouble:?}");
        }
        let trouble = told(&mut driver, by_peer(), true);
        assert!(
            matches!(trouble, Trouble::DuplicateClientId { times: 3, .. }),
            "{trouble:?}"
        );
    }

    #[tokio::test]
    async fn a_network_that_breaks_before_connack_is_not_blamed_on_the_host_name() {
        let trouble = told(&mut driver(), by_network(), false);
        let said = trouble.to_string();
        assert!(
            said.contains("connection timed out") && said.contains("network"),
            "{said}"
        );
    }
}
