//! The daemon's end of the socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{MAX_LINE, Reply, Request};

/// So many commands may be served at a time; more are turned away.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end waits for clients to read their answers.
const LEAVE: Duration = Duration::from_millis(500);

/// A command that waits for its reply.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; nobody minds when the client has left.
    pub reply: oneshot::Sender<Reply>,
}

/// The socket, for as long as this lives.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    clients: Arc<Semaphore>,
}

impl Server {
    /// Accepts nobody any more, and lets those who wait read their answer, for half a second at most.
    pub async fn close(self) {
        self.task.abort();
        let all = self.clients.acquire_many(MAX_CLIENTS as u32);
        // Who has not asked yet gets no answer.
        let _ = tokio::time::timeout(LEAVE, all).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Left behind, it would only be replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the socket (mode 0660) and serves it; a socket that an earlier run left behind is replaced. `alive` is called
/// about every 10 s for as long as it accepts.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path, calls: mpsc::Sender<Call>, alive: impl Fn() + Send + 'static) -> io::Result<Server> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    let task = tokio::spawn(accept(listener, Arc::clone(&clients), calls, alive));
    Ok(Server {
        path: path.to_owned(),
        task,
        clients,
    })
}

async fn accept(listener: UnixListener, clients: Arc<Semaphore>, calls: mpsc::Sender<Call>, alive: impl Fn() + Send) {
    let mut pulse = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = pulse.tick() => alive(),
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors: the pulse comes before the next attempt.
                    pulse.tick().await;
                    continue;
                };
                let Ok(permit) = Arc::clone(&clients).try_acquire_owned() else { continue };
                let calls = calls.clone();
                tokio::spawn(async move {
                    // A client that left is no concern of ours.
                    let _ = serve(stream, calls).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = Vec::new();
    let mut reading = BufReader::new(reading).take(MAX_LINE as u64);
    let read = tokio::time::timeout(PATIENCE, reading.read_until(b'\n', &mut line));
    read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            match calls.send(Call { request, reply }).await {
                Ok(()) => answer
                    .await
                    .unwrap_or_else(|_| Reply::Failed("the agent is stopping".into())),
                Err(_) => Reply::Failed("the agent is stopping".into()),
            }
        }
        Err(error) => Reply::Failed(format!("not understood: {error}")),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::local::{ClientError, ask};

    async fn serving() -> (tempfile::TempDir, PathBuf, Server, mpsc::Receiver<Call>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (calls, receiver) = mpsc::channel(4);
        let server = listen(&path, calls, || ()).unwrap();
        (folder, path, server, receiver)
    }

    #[tokio::test]
    async fn a_command_is_answered_over_a_socket_that_others_may_not_use() {
        let (_folder, path, server, mut calls) = serving().await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let answering = tokio::spawn(async move {
            let call = calls.recv().await.unwrap();
            assert_eq!(call.request, Request::Status);
            call.reply
                .send(Reply::Done(serde_json::json!({"managed": true})))
                .unwrap();
        });
        let reply = ask(&path, Request::Status).await.unwrap();
        assert_eq!(reply, Reply::Done(serde_json::json!({"managed": true})));
        answering.await.unwrap();
        drop(server);
        assert!(matches!(
            ask(&path, Request::Status).await,
            Err(ClientError::NotRunning(_))
        ));
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_a_line_without_end_is_cut() {
        let (_folder, path, _server, _calls) = serving().await;
        for line in [
            b"nonsense\n".to_vec(),
            b"\"reboot\"\n".to_vec(),
            vec![b'x'; MAX_LINE + 10],
        ] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            // The server may answer and leave before it has read everything.
            let _ = stream.write_all(&line).await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(answer.is_empty() || answer.contains("not understood"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced() {
        let (_folder, path, server, _calls) = serving().await;
        std::mem::forget(server);
        let (calls, _receiver) = mpsc::channel(4);
        assert!(listen(&path, calls, || ()).is_ok());
    }
}
