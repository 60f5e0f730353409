//! Answers devices that fetch the bundle: GET and HEAD on their own paths, nothing else.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::outside;
use super::door::{Door, Tls};
use super::range::{Wanted, wanted};
use super::{Bundle, BundleError, CHUNK};

/// A path that one device fetches the bundle from.
#[derive(Debug, Clone)]
pub struct Offer {
    /// `/<32 hexadecimal digits>/<name>`
    pub path: String,
    size: u64,
    reached: Arc<AtomicU64>,
}

impl Offer {
    /// How far the device has fetched, in percent of the file.
    pub fn percent(&self) -> u64 {
        self.reached.load(Ordering::Relaxed) * 100 / self.size
    }
}

/// A running server. Dropping it ends it, and with it every transfer.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    bundle: Bundle,
    offers: Vec<Offer>,
    task: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Served {
    bundle: Bundle,
    etag: String,
    /// How far the device with this secret has come.
    reached: HashMap<String, Arc<AtomicU64>>,
}

impl Server {
    /// Offers the bundle on this many paths, over TLS or in the clear.
    ///
    /// # Errors
    /// The certificate, its key or the address cannot be used.
    pub async fn start(
        bundle: Bundle,
        count: usize,
        address: SocketAddr,
        tls: Option<&Tls>,
    ) -> Result<Self, BundleError> {
        let tls = tls.map(Tls::acceptor).transpose()?;
        let unheard = |error| BundleError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let door = Door::open(listener, tls).map_err(unheard)?;
        let (mut offers, mut reached) = (Vec::new(), HashMap::new());
        for _ in 0..count {
            let mut secret = outside::secret();
            secret.truncate(32);
            let offer = Offer {
                path: format!("/{secret}/{}", bundle.name),
                size: bundle.size,
                reached: Arc::default(),
            };
            reached.insert(secret, Arc::clone(&offer.reached));
            offers.push(offer);
        }
        let served = Arc::new(Served {
            etag: format!("\"{}\"", bundle.sha256),
            bundle: bundle.clone(),
            reached,
        });
        let router = Router::new().route("/{secret}/{name}", get(fetch)).with_state(served);
        let task = tokio::spawn(axum::serve(door, router).into_future());
        Ok(Server {
            address,
            bundle,
            offers,
            task,
        })
    }

    /// What is offered.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The paths, one for each device.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// GET and HEAD; the body of a HEAD is never asked for what it has.
async fn fetch(
    State(served): State<Arc<Served>>,
    Path((secret, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let bundle = &served.bundle;
    let Some(reached) = served.reached.get(&secret).filter(|_| name == bundle.name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (status, part) = match wanted(text(RANGE), text(IF_RANGE), &served.etag, bundle.size) {
        Wanted::All => (StatusCode::OK, 0..bundle.size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => {
            let range = format!("bytes */{}", bundle.size);
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, range)]).into_response();
        }
    };
    let mut response = (
        status,
        [
            (ACCEPT_RANGES, "bytes".to_owned()),
            (ETAG, served.etag.clone()),
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (CONTENT_LENGTH, (part.end - part.start).to_string()),
        ],
    )
        .into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{}", part.start, part.end - 1, bundle.size);
        if let Ok(range) = range.parse() {
            response.headers_mut().insert(CONTENT_RANGE, range);
        }
    }
    let body = stream::try_unfold((bundle.clone(), part, Arc::clone(reached)), next);
    *response.body_mut() = Body::from_stream(body);
    response
}

type Rest = (Bundle, Range<u64>, Arc<AtomicU64>);

/// The next bytes of the part, noted as fetched when they are handed on.
async fn next((bundle, part, reached): Rest) -> io::Result<Option<(Bytes, Rest)>> {
    if part.is_empty() {
        return Ok(None);
    }
    let file = Arc::clone(&bundle.file);
    let (at, left) = (part.start, part.end - part.start);
    let read = tokio::task::spawn_blocking(move || {
        let mut chunk = vec![0; usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))];
        file.read_exact_at(&mut chunk, at).map(|()| chunk)
    });
    let chunk = read.await.map_err(io::Error::other)??;
    let end = at + chunk.len() as u64;
    reached.fetch_max(end, Ordering::Relaxed);
    Ok(Some((chunk.into(), (bundle, end..part.end, reached))))
}
