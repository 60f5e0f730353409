//! The HTTP client of one try: which roots, which proxy, who resolves names. HTTP/1.1, no compression, no redirects of
//! its own, nothing kept for later.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy};
use rustls::{ClientConfig, RootCertStore};

use super::Download;
use super::tls::{self, TlsFiles};
use super::trouble::{NotResolved, Trouble};
use super::uri::Address;

/// What servers see in their logs.
const NAME: &str = concat!("iotdm-agent/", env!("CARGO_PKG_VERSION"));

/// A client for one try. Reads the files of TLS on a thread that may block.
pub(super) async fn client(download: &Download, address: &Address) -> Result<Client, Trouble> {
    let (files, plain) = (download.tls.clone(), address.is_plain());
    let config = tokio::task::spawn_blocking(move || match tls::client_config(&files) {
        // A plain address needs none of it; what it redirects to will be trusted by nobody then.
        Err(TlsFiles::NoAuthorities) if plain => nobody(),
        other => other,
    });
    let config = config.await.map_err(|_| super::disk::DiskTrouble::Stopping)??;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .http1_only()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(download.patience.connect)
        .dns_resolver(Resolver)
        .user_agent(NAME)
        .no_proxy();
    if let Some(proxy) = &download.proxy {
        let proxy = Proxy::all(proxy.as_str())
            .map_err(|_| Trouble::lost("the proxy's address is not valid; write http://HOST:PORT"))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| {
        let error = error.without_url();
        Trouble::lost(format!("HTTP cannot be set up: {error}"))
    })
}

fn nobody() -> Result<ClientConfig, TlsFiles> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// The system's name service, with an error that can be told by its kind.
#[derive(Debug)]
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            match tokio::net::lookup_host((host, 0)).await {
                Ok(found) => {
                    let found: Vec<SocketAddr> = found.collect();
                    let found: Addrs = Box::new(found.into_iter());
                    Ok(found)
                }
                Err(error) => Err(NotResolved::from_lookup(host, &error).into()),
            }
        })
    }
}
