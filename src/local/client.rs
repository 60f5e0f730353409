//! The command's end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{MAX_LINE, Reply, Request};

/// How long the agent may take to answer: a manage request waits for the service.
const LIMIT: Duration = Duration::from_secs(90);

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the agent is not running (nothing answers at {}): systemctl start iotdm-agent", .0.display())]
    NotRunning(PathBuf),
    /// This user may not ask.
    #[error("only root and the group iotdm-agent may ask the agent: try again with sudo")]
    NotAllowed,
    /// It took too long.
    #[error("the agent did not answer within {} s: see systemctl status iotdm-agent", LIMIT.as_secs())]
    Silent,
    /// Something else.
    #[error("the agent's answer could not be read: {0}")]
    Broken(String),
}

/// Asks the running agent, and hands it this file after the question; that takes as long as it takes.
///
/// # Errors
/// As [`ask`], or the file cannot be read.
pub async fn hand_over(socket: &Path, request: Request, mut file: tokio::fs::File) -> Result<Reply, ClientError> {
    let broken = |error: io::Error| ClientError::Broken(error.to_string());
    let mut stream = connect(socket).await?;
    let mut line = serde_json::to_vec(&request).map_err(|error| ClientError::Broken(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(broken)?;
    if let Err(error) = tokio::io::copy(&mut file, &mut stream).await {
        // The agent may have refused before it had read everything; then it said why.
        if error.kind() != io::ErrorKind::BrokenPipe && error.kind() != io::ErrorKind::ConnectionReset {
            return Err(broken(error));
        }
    }
    answer(stream).await
}

/// Asks the running agent.
///
/// # Errors
/// When it is not running, this user may not, or no answer comes within 90 s.
pub async fn ask(socket: &Path, request: Request) -> Result<Reply, ClientError> {
    let mut stream = connect(socket).await?;
    let mut line = serde_json::to_vec(&request).map_err(|error| ClientError::Broken(error.to_string()))?;
    line.push(b'\n');
    let sent = stream.write_all(&line).await;
    sent.map_err(|error| ClientError::Broken(error.to_string()))?;
    answer(stream).await
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed,
        _ => ClientError::Broken(error.to_string()),
    })
}

async fn answer(stream: UnixStream) -> Result<Reply, ClientError> {
    tokio::time::timeout(LIMIT, read(stream))
        .await
        .map_err(|_| ClientError::Silent)?
        .map_err(|error| ClientError::Broken(error.to_string()))
}

async fn read(stream: UnixStream) -> io::Result<Reply> {
    let mut answer = Vec::new();
    BufReader::new(stream)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut answer)
        .await?;
    Ok(serde_json::from_slice(&answer)?)
}
