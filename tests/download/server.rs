//! An HTTP server that does as it is told: each request is answered by what a script makes of it, with the fault that
//! the script asks for. One answer for each connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::pki::Pair;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counts from 0.
    pub number: usize,
    pub target: String,
    headers: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The first byte of `Range: bytes=N-`.
    pub fn from(&self) -> Option<usize> {
        let range = self.header("range")?;
        Some(range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().unwrap())
    }
}

/// What the server does.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The bytes that go over the line, head included; as they are.
    pub bytes: Vec<u8>,
    /// Keeps the connection open and says nothing more.
    pub hang: bool,
}

impl Reply {
    /// `status` and `headers` as they stand in the answer; nothing is added to them.
    pub fn new(status: &str, headers: &[(&str, String)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
        Self { bytes, hang: false }
    }

    pub fn status(status: &str) -> Self {
        Self::new(status, &[("Content-Length", "0".to_owned())], b"")
    }

    pub fn redirect(location: &str) -> Self {
        Self::new(
            "302 Found",
            &[("Location", location.to_owned()), ("Content-Length", "0".to_owned())],
            b"",
        )
    }

    /// Says nothing at all.
    pub fn silence() -> Self {
        Self {
            bytes: Vec::new(),
            hang: true,
        }
    }

    fn head(&self) -> usize {
        self.bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4
    }

    /// The length of its body.
    pub fn body(&self) -> usize {
        self.bytes.len() - self.head()
    }

    /// Only the first bytes of its body get out; then the connection ends.
    pub fn cut(mut self, body: usize) -> Self {
        self.bytes.truncate(self.head() + body);
        self
    }

    /// Only the first bytes of its body get out; then nothing happens any more.
    pub fn stall(self, body: usize) -> Self {
        Self {
            hang: true,
            ..self.cut(body)
        }
    }
}

/// A file that a proper server would have.
#[derive(Debug, Clone)]
pub struct Shelf {
    pub content: Vec<u8>,
    pub etag: Option<String>,
}

impl Shelf {
    /// Bytes that are nowhere the same, with a strong validator.
    pub fn new(size: usize) -> Self {
        Self::seeded(size, 1)
    }

    pub fn seeded(size: usize, seed: u8) -> Self {
        let mut content = Vec::with_capacity(size + 8);
        let mut state = u64::from(seed) | 1 << 40;
        while content.len() < size {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            content.extend(state.to_le_bytes());
        }
        content.truncate(size);
        Self {
            content,
            etag: Some(format!("\"{seed}-{size}\"")),
        }
    }

    pub fn without_etag(mut self) -> Self {
        self.etag = None;
        self
    }

    pub fn sha256(&self) -> String {
        Sha256::digest(&self.content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The proper answer.
    pub fn reply(&self, request: &Request) -> Reply {
        let mut headers = vec![("Accept-Ranges", "bytes".to_owned())];
        headers.extend(self.etag.clone().map(|etag| ("ETag", etag)));
        let size = self.content.len();
        let matches = request
            .header("if-range")
            .is_none_or(|etag| Some(etag) == self.etag.as_deref());
        match request.from() {
            Some(from) if matches && from >= size => {
                headers.extend([
                    ("Content-Range", format!("bytes */{size}")),
                    ("Content-Length", "0".to_owned()),
                ]);
                Reply::new("416 Range Not Satisfiable", &headers, b"")
            }
            Some(from) if matches => {
                headers.extend([
                    ("Content-Range", format!("bytes {from}-{}/{size}", size - 1)),
                    ("Content-Length", (size - from).to_string()),
                ]);
                Reply::new("206 Partial Content", &headers, &self.content[from..])
            }
            _ => self.whole(headers),
        }
    }

    /// The whole file, whatever was asked for.
    pub fn whole(&self, mut headers: Vec<(&str, String)>) -> Reply {
        headers.push(("Content-Length", self.content.len().to_string()));
        Reply::new("200 OK", &headers, &self.content)
    }
}

/// A free port of this host.
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

type Script = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A running server; it ends with this value.
pub struct Server {
    pub port: u16,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<Request>>>,
    open: watch::Receiver<usize>,
    stalls: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

/// Its certificate, and whose certificates it demands.
pub struct Secure {
    pub pair: Pair,
    pub client_ca: Option<std::path::PathBuf>,
}

impl Server {
    /// Plain http.
    pub async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(ANY.into(), None, Arc::new(script)).await
    }

    pub async fn secure(secure: Secure, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::secure_at(ANY.into(), secure, script).await
    }

    /// At an address that others than this host can reach.
    pub async fn secure_at(
        address: SocketAddr,
        secure: Secure,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(address, Some(acceptor(&secure)), Arc::new(script)).await
    }

    async fn listen(address: SocketAddr, tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (count, open) = watch::channel(0);
        let (stalled, stalls) = watch::channel(0);
        let (count, stalled) = (Arc::new(count), Arc::new(stalled));
        let seen = Arc::clone(&requests);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, script, seen) = (tls.clone(), Arc::clone(&script), Arc::clone(&seen));
                let (count, stalled) = (Arc::clone(&count), Arc::clone(&stalled));
                connections.spawn(async move {
                    count.send_modify(|open| *open += 1);
                    match tls {
                        None => serve(stream, &script, &seen, &stalled).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &script, &seen, &stalled).await;
                            }
                        }
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self {
            port,
            scheme,
            requests,
            open,
            stalls,
            task,
        }
    }

    pub fn uri(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until it has stalled this many times, with everything sent that comes before.
    pub async fn has_stalled(&mut self, times: usize) {
        self.stalls.wait_for(|stalls| *stalls >= times).await.unwrap();
    }

    /// Waits until nobody is connected any more.
    pub async fn is_left_alone(&mut self) {
        self.open.wait_for(|open| *open == 0).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Script,
    seen: &Mutex<Vec<Request>>,
    stalled: &watch::Sender<usize>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let reply = {
        let mut seen = seen.lock().unwrap();
        let request = Request {
            number: seen.len(),
            target: line.split(' ').nth(1).unwrap().to_owned(),
            headers: headers.to_owned(),
        };
        seen.push(request.clone());
        script(&request)
    };
    for piece in reply.bytes.chunks(64 * 1024) {
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    if reply.hang {
        stalled.send_modify(|stalls| *stalls += 1);
        // Until the client goes.
        let _ = stream.read_u8().await;
    }
    let _ = stream.shutdown().await;
}

fn acceptor(secure: &Secure) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(&secure.pair.cert_file)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_file(&secure.pair.key_file).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match &secure.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()))
}
