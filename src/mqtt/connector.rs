//! From a host name to a byte stream: resolve, TCP (each address with its own limit), proxy, TLS.
//!
//! All of it is done here and not in the MQTT crate, so that a dead IPv6 address does not eat the time of the living
//! IPv4 one, and so that every failure is known by its kind.

use super::options::{Limits, Options, Proxy, authority};
use super::tls;
use super::trouble::Trouble;
use super::wire::Stream;
use base64::Engine;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest header of a proxy's answer that is read, in bytes.
const MAX_PROXY_ANSWER: usize = 8 * 1024;

/// Makes the stream that MQTT runs over.
pub(super) async fn connect(options: &Options, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, Trouble> {
    let broker = &options.broker;
    let stream = match &broker.proxy {
        None => tcp(&broker.host, broker.port, &options.limits).await?,
        Some(proxy) => through_proxy(proxy, &broker.host, broker.port, &options.limits).await?,
    };
    let Some(config) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(broker.host.clone()).map_err(|_| Trouble::WrongHostName {
        host: broker.host.clone(),
    })?;
    let handshake = tokio_rustls::TlsConnector::from(config).connect(name, stream);
    match timeout(options.limits.handshake, handshake).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(tls::handshake_trouble(&error, options)),
        Err(_) => Err(Trouble::Tls {
            host: broker.host.clone(),
            problem: format!("no answer within {} s", options.limits.handshake.as_secs()),
        }),
    }
}

async fn tcp(host: &str, port: u16, limits: &Limits) -> Result<TcpStream, Trouble> {
    let not_resolved = |problem: String| Trouble::NameNotResolved {
        host: host.to_owned(),
        problem,
    };
    let addresses = match timeout(limits.resolve, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(not_resolved(error.to_string())),
        Err(_) => return Err(not_resolved("no answer from the name server".to_owned())),
    };
    connect_any(addresses, host, port, limits.per_address).await
}

/// Tries one address after the other, each with the same limit.
async fn connect_any(
    addresses: impl Iterator<Item = SocketAddr>,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, Trouble> {
    let mut trouble = Trouble::NameNotResolved {
        host: host.to_owned(),
        problem: "it has no address".to_owned(),
    };
    for address in addresses {
        tracing::debug!(%address, "connecting");
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small packets, answered one by one: Nagle would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY cannot be set");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => trouble = tcp_trouble(host, port, &error),
            Err(_) => {
                trouble = Trouble::NoAnswer {
                    address: authority(host, port),
                }
            }
        }
    }
    Err(trouble)
}

fn tcp_trouble(host: &str, port: u16, error: &io::Error) -> Trouble {
    let address = authority(host, port);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Trouble::Refused { address },
        io::ErrorKind::TimedOut => Trouble::NoAnswer { address },
        _ => Trouble::Unreachable {
            address,
            problem: error.to_string(),
        },
    }
}

async fn through_proxy(proxy: &Proxy, host: &str, port: u16, limits: &Limits) -> Result<TcpStream, Trouble> {
    let target = authority(host, port);
    let trouble = |problem: String| Trouble::Proxy {
        proxy: proxy.to_string(),
        address: target.clone(),
        problem,
    };
    let mut stream = tcp(&proxy.host, proxy.port, limits)
        .await
        .map_err(|inner| trouble(proxy_away(inner)))?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some((user, password)) = &proxy.login {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream).await
    };
    let answer = within(limits.handshake, asked)
        .await
        .map_err(|error| trouble(error.to_string()))?;
    let status = answer.lines().next().unwrap_or_default().trim();
    match status.split(' ').nth(1) {
        Some(code) if status.starts_with("HTTP/1.") && code.len() == 3 && code.starts_with('2') => Ok(stream),
        Some("407") => Err(Trouble::ProxyLogin {
            proxy: proxy.to_string(),
            sent: proxy.login.is_some(),
        }),
        _ => Err(trouble(format!("it answered {status:?}"))),
    }
}

/// Why there is no connection to the proxy, without what would have to be done for a broker.
fn proxy_away(trouble: Trouble) -> String {
    match trouble {
        Trouble::Refused { .. } => "it refuses connections".to_owned(),
        Trouble::NoAnswer { .. } => "no answer from it".to_owned(),
        Trouble::NameNotResolved { problem, .. } => format!("its name does not resolve ({problem})"),
        Trouble::Unreachable { problem, .. } => format!("it cannot be reached ({problem})"),
        other => other.to_string(),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads up to the empty line, byte by byte: what follows belongs to the broker.
async fn read_answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_PROXY_ANSWER {
            return Err(io::Error::other("its answer is too long to be HTTP"));
        }
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Err(io::Error::other("it hung up without an answer"));
        }
        answer.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::net::{TcpListener, TcpSocket};

    /// An address that swallows SYNs, as a firewall does: a listener whose queue is full. Kept open by what is returned.
    async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        (address, listener, waiting)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_does_not_keep_the_next_one_from_being_tried() {
        let (dead, _listener, _waiting) = black_hole().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [dead, alive.local_addr().unwrap()];
        let began = Instant::now();
        let stream = connect_any(addresses.into_iter(), "b", 1883, Duration::from_millis(300))
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        assert!(stream.nodelay().unwrap());
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn no_answer_from_any_address_is_told_with_the_host_and_the_port() {
        let (dead, _listener, _waiting) = black_hole().await;
        let trouble = connect_any([dead].into_iter(), "b", 1883, Duration::from_millis(100))
            .await
            .unwrap_err();
        assert_eq!(
            trouble,
            Trouble::NoAnswer {
                address: "b:1883".into()
            }
        );
    }
}
