//! One of every trouble: each says what is to be done.

use super::*;

const HOST: &str = "broker.example.com";
const ADDRESS: &str = "broker.example.com:8883";
const PROXY: &str = "proxy:3128";
const PROBLEM: &str = "something is odd";
const CLIENT: &str = "d:a:b:c";
const TOPIC: &str = "iotdevice-1/x";

/// One of each, and both where one has two texts.
fn all() -> Vec<Trouble> {
    use Trouble as T;
    let (path, after) = (|| PathBuf::from("/etc/x"), Duration::from_secs(90));
    vec![
        T::Reload,
        T::TokenFile {
            path: path(),
            problem: PROBLEM.into(),
        },
        T::TokenExposed {
            path: path(),
            mode: 0o644,
        },
        T::TlsFile {
            what: "CA file",
            path: path(),
            problem: PROBLEM.into(),
        },
        T::NoAuthorities,
        T::NameNotResolved {
            host: HOST.into(),
            problem: PROBLEM.into(),
        },
        T::Refused {
            address: ADDRESS.into(),
        },
        T::NoAnswer {
            address: ADDRESS.into(),
        },
        T::Unreachable {
            address: ADDRESS.into(),
            problem: PROBLEM.into(),
        },
        T::Proxy {
            proxy: PROXY.into(),
            address: ADDRESS.into(),
            problem: PROBLEM.into(),
        },
        T::ProxyLogin {
            proxy: PROXY.into(),
            sent: false,
        },
        T::ProxyLogin {
            proxy: PROXY.into(),
            sent: true,
        },
        T::UnknownAuthority {
            host: HOST.into(),
            own_ca: true,
        },
        T::UnknownAuthority {
            host: HOST.into(),
            own_ca: false,
        },
        T::CertificateExpired { host: HOST.into() },
        T::CertificateNotYetValid { host: HOST.into() },
        T::ClockNotSet { host: HOST.into() },
        T::WrongHostName { host: HOST.into() },
        T::CertificateInvalid {
            host: HOST.into(),
            problem: PROBLEM.into(),
        },
        T::ClientCertificateRequired { host: HOST.into() },
        T::ClientCertificateRefused {
            host: HOST.into(),
            problem: PROBLEM.into(),
        },
        T::NotTls {
            address: ADDRESS.into(),
        },
        T::Tls {
            host: HOST.into(),
            problem: PROBLEM.into(),
        },
        T::ProtocolVersionRefused,
        T::ClientIdRefused {
            client_id: CLIENT.into(),
        },
        T::BrokerUnavailable,
        T::CredentialsRefused,
        T::NotAuthorised {
            client_id: CLIENT.into(),
            username: Some("gw-1".into()),
        },
        T::NotAuthorised {
            client_id: CLIENT.into(),
            username: None,
        },
        T::ClosedWithoutConnack {
            address: ADDRESS.into(),
            tls: true,
        },
        T::ClosedWithoutConnack {
            address: ADDRESS.into(),
            tls: false,
        },
        T::NoConnack {
            address: ADDRESS.into(),
            after,
        },
        T::SubscriptionRefused { filter: TOPIC.into() },
        T::ClosedAfterSubscribe { filter: TOPIC.into() },
        T::ClosedAfterPublish { topic: TOPIC.into() },
        T::PeerSilent { after },
        T::NetworkLost {
            problem: PROBLEM.into(),
        },
        T::Closed {
            problem: PROBLEM.into(),
        },
        T::DuplicateClientId {
            client_id: CLIENT.into(),
            times: 3,
        },
        T::Oversized {
            bytes: 2_000_000,
            limit: 1_000_000,
        },
        T::Protocol {
            problem: PROBLEM.into(),
        },
    ]
}

/// What an instruction begins with.
const VERBS: [&str; 12] = [
    "allow",
    "check",
    "find",
    "if this comes again",
    "install",
    "let",
    "put",
    "renew",
    "run",
    "set",
    "use",
    "wait",
];

#[test]
fn every_trouble_says_what_to_do() {
    let all = all();
    let kinds: std::collections::HashSet<_> = all.iter().map(std::mem::discriminant).collect();
    let told = include_str!("../trouble.rs").matches("\n    #[error(").count();
    assert_eq!(kinds.len(), told, "the table has one of each");
    for trouble in all {
        let text = trouble.to_string();
        let instructs = |clause: &str| VERBS.iter().any(|verb| clause.starts_with(verb));
        // A reload is no fault.
        let has_to = trouble != Trouble::Reload;
        assert_eq!(text.split("; ").skip(1).any(instructs), has_to, "{trouble:?}: {text}");
        assert!(!text.contains('\n') && !text.ends_with('.'), "one line: {text}");
    }
}

#[test]
fn connack_5_names_the_user_name_that_was_sent() {
    let text = |username: Option<&str>| {
        let trouble = Trouble::NotAuthorised {
            client_id: "g:acme:edge:gw-1".to_owned(),
            username: username.map(str::to_owned),
        };
        trouble.to_string()
    };
    let sent = text(Some("use-token-auth"));
    assert!(sent.contains("\"use-token-auth\"") && sent.contains("check"), "{sent}");
    assert!(text(None).contains("without a user name"));
}
