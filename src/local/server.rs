//! The daemon's end of the socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use super::{MAX_LINE, Reply, Request};

/// So many commands may be served at a time; more are turned away.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a file that is handed over may stand still.
const STALL: Duration = Duration::from_secs(60);

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

/// Where a file goes that a command hands over.
pub struct Inbox {
    /// The file; its folder is made.
    pub file: PathBuf,
    /// Whether there is room for so many bytes; if not, why.
    pub room: Box<dyn Fn(u64) -> Result<(), String> + Send>,
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
/// about every 10 s for as long as it accepts. A file that a client hands over is written to `inbox`, in full, before
/// the call is told of; one at a time.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(
    path: &Path,
    inbox: Inbox,
    calls: mpsc::Sender<Call>,
    alive: impl Fn() + Send + 'static,
) -> io::Result<Server> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    let task = tokio::spawn(accept(
        listener,
        Arc::clone(&clients),
        Arc::new(Mutex::new(inbox)),
        calls,
        alive,
    ));
    Ok(Server {
        path: path.to_owned(),
        task,
        clients,
    })
}

async fn accept(
    listener: UnixListener,
    clients: Arc<Semaphore>,
    inbox: Arc<Mutex<Inbox>>,
    calls: mpsc::Sender<Call>,
    alive: impl Fn() + Send,
) {
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
                let (calls, inbox) = (calls.clone(), Arc::clone(&inbox));
                tokio::spawn(async move {
                    // A client that left is no concern of ours.
                    let _ = serve(stream, &inbox, calls).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn serve(stream: UnixStream, inbox: &Mutex<Inbox>, calls: mpsc::Sender<Call>) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    let mut start = (&mut reading).take(MAX_LINE as u64);
    let read = tokio::time::timeout(PATIENCE, start.read_until(b'\n', &mut line));
    read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let reply = match serde_json::from_slice(&line) {
        Ok(Request::FirmwareInstall { name, size }) => match inbox.try_lock() {
            // Held until the daemon has looked at the file, so that no other one takes its place.
            Ok(inbox) => match (inbox.room)(size) {
                Err(reason) => Reply::Failed(reason),
                Ok(()) => match take(&mut reading, size, &inbox.file).await {
                    Ok(()) => hand_on(Request::FirmwareInstall { name, size }, calls, &inbox.file).await,
                    Err(error) => Reply::Failed(format!("the file could not be taken over: {error}")),
                },
            },
            Err(_) => Reply::Failed("another file is being handed over just now".into()),
        },
        Ok(request) => pass(request, calls).await,
        Err(error) => Reply::Failed(format!("not understood: {error}")),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

async fn pass(request: Request, calls: mpsc::Sender<Call>) -> Reply {
    let stopping = || Reply::Failed("the agent is stopping".into());
    ask(request, calls).await.unwrap_or_else(stopping)
}

/// The file is whole. When the daemon does not want it, it goes: it would be in the way of the next download.
async fn hand_on(request: Request, calls: mpsc::Sender<Call>, file: &Path) -> Reply {
    let answer = ask(request, calls).await;
    if let Some(Reply::Failed(_)) = answer {
        let _ = tokio::fs::remove_file(file).await;
    }
    answer.unwrap_or_else(|| Reply::Failed("the agent is stopping".into()))
}

/// `None` when the daemon stops.
async fn ask(request: Request, calls: mpsc::Sender<Call>) -> Option<Reply> {
    let (reply, answer) = oneshot::channel();
    calls.send(Call { request, reply }).await.ok()?;
    answer.await.ok()
}

/// Writes what follows to the inbox, so that it survives a power cut; what is not whole is removed.
async fn take(reading: &mut (impl AsyncRead + Unpin), size: u64, inbox: &Path) -> io::Result<()> {
    if let Some(folder) = inbox.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let taken = copy(reading, size, inbox).await;
    if taken.is_err() {
        // What cannot be removed is overwritten the next time.
        let _ = tokio::fs::remove_file(inbox).await;
    }
    taken
}

async fn copy(reading: &mut (impl AsyncRead + Unpin), size: u64, inbox: &Path) -> io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(inbox)
        .await?;
    let mut left = size;
    let mut buffer = vec![0; 256 * 1024];
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = tokio::time::timeout(STALL, reading.read(&mut buffer[..want]));
        let got = read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&buffer[..got]).await?;
        left -= got as u64;
    }
    file.sync_all().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::local::{ClientError, ask};

    fn inbox(folder: &tempfile::TempDir) -> Inbox {
        let room = |size| match size <= 4 << 20 {
            true => Ok(()),
            false => Err("no room".to_owned()),
        };
        Inbox {
            file: folder.path().join("inbox/file"),
            room: Box::new(room),
        }
    }

    async fn serving() -> (tempfile::TempDir, PathBuf, Server, mpsc::Receiver<Call>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (calls, receiver) = mpsc::channel(4);
        let server = listen(&path, inbox(&folder), calls, || ()).unwrap();
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
        let (folder, path, server, _calls) = serving().await;
        std::mem::forget(server);
        let (calls, _receiver) = mpsc::channel(4);
        assert!(listen(&path, inbox(&folder), calls, || ()).is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_handed_over_arrives_whole_or_not_at_all() {
        let (folder, path, _server, mut calls) = serving().await;
        let inbox = folder.path().join("inbox/file");
        let given = folder.path().join("given");
        std::fs::write(&given, vec![7; 3 << 20]).unwrap();
        let answering = tokio::spawn(async move {
            let call = calls.recv().await.unwrap();
            call.reply.send(Reply::Done(serde_json::Value::Null)).unwrap();
            let call = calls.recv().await.unwrap();
            call.reply
                .send(Reply::Failed("a download is under way".into()))
                .unwrap();
            calls
        });
        let request = |size| Request::FirmwareInstall {
            name: "given".into(),
            size,
        };
        let file = tokio::fs::File::open(&given).await.unwrap();
        let reply = crate::local::hand_over(&path, request(3 << 20), file).await.unwrap();
        assert_eq!(reply, Reply::Done(serde_json::Value::Null));
        assert_eq!(std::fs::read(&inbox).unwrap(), std::fs::read(&given).unwrap());
        // One that is not wanted does not stay.
        let file = tokio::fs::File::open(&given).await.unwrap();
        let reply = crate::local::hand_over(&path, request(3 << 20), file).await.unwrap();
        assert_eq!(reply, Reply::Failed("a download is under way".into()));
        assert!(!inbox.exists());
        let _calls = answering.await.unwrap();
        let file = tokio::fs::File::open(&given).await.unwrap();
        let reply = crate::local::hand_over(&path, request(5 << 20), file).await.unwrap();
        assert_eq!(reply, Reply::Failed("no room".into()));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let mut line = serde_json::to_vec(&request(100)).unwrap();
        line.extend(b"\nshort");
        stream.write_all(&line).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("could not be taken over"), "{answer}");
        assert!(!inbox.exists());
    }
}
