//! Where connections come in: TCP, and TLS over it. A connection that does not get through its handshake keeps nobody
//! else waiting, there are never more than [`MAX_CONNECTIONS`], and none stays on which nothing moves.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::BundleError;

/// The most connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long nothing may move on a connection. On a slow link the system may hold some hundred kilobytes for a while.
const IDLE: Duration = Duration::from_secs(300);
/// The pause after the system refused a connection, which it does when too many files are open.
const PAUSE: Duration = Duration::from_millis(200);

/// The files of a server's identity, PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate, with what leads from it to the authority that devices trust.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

impl Tls {
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, BundleError> {
        let wrong = |path: &Path, problem: String| BundleError::Tls {
            path: path.to_owned(),
            problem,
        };
        let no_certificate = |error| wrong(&self.cert_file, format!("it holds no certificate: {error}"));
        let chain = CertificateDer::pem_file_iter(&self.cert_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(no_certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key_file)
            .map_err(|error| wrong(&self.key_file, format!("it holds no private key: {error}")))?;
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| wrong(&self.cert_file, format!("it cannot be used with its key: {error}")))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Gives the HTTP server connections that are ready to be spoken on.
#[derive(Debug)]
pub(super) struct Door {
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
    address: SocketAddr,
}

impl Door {
    pub(super) fn open(listener: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (through, ready) = mpsc::channel(16);
        tokio::spawn(take_in(listener, tls, through));
        Ok(Door { ready, address })
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task that takes connections in never ends by itself.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn take_in(listener: TcpListener, tls: Option<TlsAcceptor>, through: mpsc::Sender<(Connection, SocketAddr)>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            },
            () = through.closed() => return,
        };
        let (tls, through) = (tls.clone(), through.clone());
        tokio::spawn(async move {
            // Whoever does not get through is gone; the device's own log says why.
            if let Ok(Ok(stream)) = timeout(HANDSHAKE, shake_hands(stream, tls)).await {
                let connection = Connection {
                    stream,
                    idle: Box::pin(sleep(IDLE)),
                    _permit: permit,
                };
                let _ = through.send((connection, peer)).await;
            }
        });
    }
}

async fn shake_hands(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Duplex>> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls.accept(stream).await?),
    })
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// One connection and its place among [`MAX_CONNECTIONS`].
pub(super) struct Connection {
    stream: Box<dyn Duplex>,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Puts the end off when something moved, and is an error when nothing did for too long.
    fn watch<T>(&mut self, moved: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
        } else if self.idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        moved
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(moved, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(moved, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(moved, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(moved, cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_closed_and_any_other_is_not() {
        let (stream, mut peer) = duplex(16);
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let mut connection = Connection {
            stream: Box::new(stream),
            idle: Box::pin(sleep(IDLE)),
            _permit: permit,
        };
        let begun = Instant::now();
        for _ in 0..3 {
            sleep(IDLE - Duration::from_secs(1)).await;
            peer.write_all(b"x").await.unwrap();
            assert_eq!(connection.read_u8().await.unwrap(), b'x');
        }
        assert!(begun.elapsed() > 2 * IDLE);
        let quiet = Instant::now();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!((error.kind(), quiet.elapsed() >= IDLE), (io::ErrorKind::TimedOut, true));
        let error = connection.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "nobody reads what is written");
    }
}
