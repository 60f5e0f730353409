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
        ConnectReturnCode::NotAuthorized => Trouble::NotAuthorised { client_id },
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
        _ => Trouble::Protocol {
            problem: error.to_string(),
        },
    }
}
