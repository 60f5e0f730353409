//! The byte stream under MQTT, watched: it ends itself when the peer says nothing for too long, and remembers how it
//! ended, so that the reason can be told.
//!
//! The MQTT crate supervises its own pings only, knows nothing of bytes that trickle in, and notices a dead peer after
//! two keep-alives at best. Here every received byte counts, and the limit holds while a write is stuck, too.

use super::trouble::Trouble;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Anything MQTT can run over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// How a stream ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// The peer closed it or reset it.
    ByPeer(String),
    /// The system gave it up, for a reason that is not the peer's doing: no answer to what was sent, no route.
    ByNetwork(String),
    /// The TLS layer ended it: an alert of the peer, or nonsense.
    Tls(rustls::Error),
    /// The peer said nothing for this long.
    Silent(Duration),
}

/// What is known of one connection beside what the MQTT crate says.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Why there is no stream.
    pub(super) not_connected: Option<Trouble>,
    /// How the stream ended.
    pub(super) ended: Option<Ended>,
    /// Whether the peer ever said anything.
    pub(super) heard: bool,
}

/// Shared between the stream (which the MQTT crate owns) and the session's task.
#[derive(Clone, Debug, Default)]
pub(super) struct Observer(Arc<Mutex<Observed>>);

impl Observer {
    pub(super) fn look(&self) -> MutexGuard<'_, Observed> {
        // Nothing panics while it is held; and if it did, the facts would still be facts.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watched stream.
pub(super) struct Wire {
    inner: Box<dyn Stream>,
    observer: Observer,
    /// The limit of silence once the peer has spoken.
    silence: Duration,
    limit: Duration,
    last_heard: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Wire {
    /// `first`: how long the peer may take for its first byte; `silence`: how long between two bytes after that.
    pub(super) fn new(inner: Box<dyn Stream>, observer: Observer, first: Duration, silence: Duration) -> Self {
        let now = Instant::now();
        Self {
            inner,
            observer,
            silence,
            limit: first,
            last_heard: now,
            timer: Box::pin(tokio::time::sleep_until(now + first)),
        }
    }

    /// Ready when the peer has been silent for too long; otherwise makes sure that the task is woken then.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let deadline = self.last_heard + self.limit;
            if deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                self.observer.look().ended.get_or_insert(Ended::Silent(self.limit));
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            // The timer is put off only when it fires, not for every packet.
            self.timer.as_mut().reset(deadline);
        }
    }

    fn failed(&self, error: io::Error) -> io::Error {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .cloned();
        let ended = match tls {
            Some(tls) => Ended::Tls(tls),
            None if hung_up(error.kind()) => Ended::ByPeer(error.to_string()),
            None => Ended::ByNetwork(error.to_string()),
        };
        self.observer.look().ended.get_or_insert(ended);
        error
    }

    /// A write failed because the peer has hung up. Under TLS 1.3 its reason, an alert about our certificate, may be
    /// waiting unread: look for it before the write error is taken for the reason.
    fn look_for_alert(&mut self, cx: &mut Context<'_>) {
        let mut scratch = [0; 256];
        for _ in 0..64 {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(Err(error)) if tls_error(&error).is_some() => {
                    self.failed(error);
                    return;
                }
                _ => return,
            }
        }
    }

    fn or_silence<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match result {
            Poll::Pending => self.poll_silence(cx).map(Err),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(error))),
            Poll::Ready(Ok(value)) => Poll::Ready(Ok(value)),
        }
    }
}

/// Whether the peer ended the connection, as far as TCP tells. Everything else says nothing of what it wants.
pub(super) fn hung_up(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(kind, K::UnexpectedEof | K::ConnectionReset | K::BrokenPipe)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut *self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = result {
            if buf.filled().len() > before {
                self.last_heard = Instant::now();
                self.limit = self.silence;
                self.observer.look().heard = true;
            } else if buf.remaining() > 0 {
                self.observer
                    .look()
                    .ended
                    .get_or_insert(Ended::ByPeer("the peer hung up".to_owned()));
            }
        }
        self.or_silence(result, cx)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.inner).poll_write(cx, buf);
        if let Poll::Ready(Err(_)) = result {
            self.look_for_alert(cx);
        }
        self.or_silence(result, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut *self.inner).poll_flush(cx);
        if let Poll::Ready(Err(_)) = result {
            self.look_for_alert(cx);
        }
        self.or_silence(result, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair(first: u64, silence: u64) -> (Wire, Observer, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(16);
        let observer = Observer::default();
        let wire = Wire::new(
            Box::new(near),
            observer.clone(),
            Duration::from_secs(first),
            Duration::from_secs(silence),
        );
        (wire, observer, far)
    }

    #[tokio::test(start_paused = true)]
    async fn con_06_a_silent_peer_ends_a_read_at_the_limit_and_every_byte_counts() {
        let (mut wire, observer, mut far) = pair(30, 90);
        let began = Instant::now();
        let reader = tokio::spawn(async move {
            let mut byte = [0];
            loop {
                if wire.read_exact(&mut byte).await.is_err() {
                    return Instant::now();
                }
            }
        });
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(29)).await;
            far.write_all(b"x").await.unwrap();
        }
        let ended = reader.await.unwrap();
        assert_eq!((ended - began).as_secs(), 3 * 29 + 90);
        assert!(matches!(observer.look().ended, Some(Ended::Silent(after)) if after.as_secs() == 90));
    }

    #[tokio::test(start_paused = true)]
    async fn con_06_a_limit_that_became_shorter_is_kept() {
        let (mut wire, _, mut far) = pair(300, 3);
        far.write_all(b"x").await.unwrap();
        let began = Instant::now();
        let mut two = [0; 2];
        wire.read_exact(&mut two).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn con_06_a_stuck_write_ends_at_the_limit() {
        let (mut wire, observer, _far) = pair(30, 90);
        let began = Instant::now();
        wire.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 30);
        assert!(!observer.look().heard);
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_is_remembered() {
        let (mut wire, observer, far) = pair(30, 90);
        drop(far);
        assert_eq!(wire.read(&mut [0; 4]).await.unwrap(), 0);
        assert!(matches!(observer.look().ended, Some(Ended::ByPeer(_))));
    }

    /// A stream that the system has ended with this error.
    struct Broken(Errno);

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.0.into()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.0.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.0.into()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn con_12_only_a_reset_or_a_closed_pipe_is_the_peers_doing() {
        use Errno as E;
        let limit = Duration::from_secs(9);
        for (errno, by_peer) in [
            (E::ECONNRESET, true),
            (E::EPIPE, true),
            (E::ETIMEDOUT, false),
            (E::ENETUNREACH, false),
            (E::EHOSTUNREACH, false),
            (E::ENETDOWN, false),
            (E::ECONNABORTED, false),
        ] {
            for reads in [true, false] {
                let observer = Observer::default();
                let mut wire = Wire::new(Box::new(Broken(errno)), observer.clone(), limit, limit);
                if reads {
                    wire.read(&mut [0; 4]).await.unwrap_err();
                } else {
                    wire.write(b"PINGREQ").await.unwrap_err();
                }
                let seen = observer.look().ended.clone().unwrap();
                assert_eq!(matches!(seen, Ended::ByPeer(_)), by_peer, "{errno}: {seen:?}");
                assert_eq!(matches!(seen, Ended::ByNetwork(_)), !by_peer, "{errno}: {seen:?}");
            }
        }
    }

    /// A peer that has refused our certificate and hung up before we wrote.
    struct Refusing;

    impl AsyncRead for Refusing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn con_05_an_alert_behind_a_failed_write_is_the_reason() {
        let observer = Observer::default();
        let limit = Duration::from_secs(9);
        let mut wire = Wire::new(Box::new(Refusing), observer.clone(), limit, limit);
        assert_eq!(
            wire.write(b"CONNECT").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert!(matches!(observer.look().ended, Some(Ended::Tls(_))));
    }
}
