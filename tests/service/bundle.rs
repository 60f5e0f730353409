//! The file server of `iotdm firmware push` over a real socket: what is served to whom, ranges, counting, TLS.

use std::io::Write;

use iotdm::service::bundle::{Bundle, Server, Tls};
use reqwest::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Certificate, Client, Method, StatusCode};

use crate::rest::http;
use crate::support::pki::{Authority, Validity};
use crate::support::within;

/// A bundle of this many bytes, each of which says where it is.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 251 + at) as u8).collect()
}

fn bundle(size: usize) -> (tempfile::NamedTempFile, Bundle) {
    let mut file = tempfile::Builder::new().suffix(".raucb").tempfile().unwrap();
    file.write_all(&content(size)).unwrap();
    let bundle = Bundle::open(file.path()).unwrap();
    (file, bundle)
}

async fn serve(size: usize, devices: usize) -> (tempfile::NamedTempFile, Server) {
    let (file, bundle) = bundle(size);
    let server = Server::start(bundle, devices, "127.0.0.1:0".parse().unwrap(), None).await;
    (file, server.unwrap())
}

async fn fetch(
    http: &Client,
    method: Method,
    url: &str,
    headers: &[(reqwest::header::HeaderName, &str)],
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = http.request(method, url);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response = within(url, request.send()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, within(url, response.bytes()).await.unwrap().to_vec())
}

fn text(headers: &HeaderMap, name: reqwest::header::HeaderName) -> &str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn a_device_fetches_the_whole_bundle_or_a_part_of_it_and_can_resume() {
    let size = 700_001;
    let (_file, server) = serve(size, 1).await;
    let (http, whole) = (http(), content(size));
    let url = format!("http://{}{}", server.address, server.offers()[0].path);
    let (status, headers, body) = fetch(&http, Method::HEAD, &url, &[]).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    let etag = text(&headers, ETAG).to_owned();
    assert_eq!(etag, format!("\"{}\"", server.bundle().sha256));
    assert_eq!(
        (text(&headers, ACCEPT_RANGES), text(&headers, CONTENT_LENGTH)),
        ("bytes", "700001")
    );
    assert_eq!(server.offers()[0].percent(), 0, "nothing was fetched");

    let (status, headers, body) = fetch(&http, Method::GET, &url, &[(RANGE, "bytes=0-349999")]).await;
    assert_eq!(
        (status, text(&headers, CONTENT_RANGE)),
        (StatusCode::PARTIAL_CONTENT, "bytes 0-349999/700001")
    );
    assert_eq!(body, whole[..350_000]);
    assert_eq!(server.offers()[0].percent(), 49);
    let rest = [(RANGE, "bytes=350000-"), (IF_RANGE, etag.as_str())];
    let (status, headers, body) = fetch(&http, Method::GET, &url, &rest).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        (text(&headers, CONTENT_LENGTH), text(&headers, ETAG)),
        ("350001", etag.as_str())
    );
    assert_eq!(body, whole[350_000..]);
    assert_eq!(server.offers()[0].percent(), 100);

    let other = [(RANGE, "bytes=350000-"), (IF_RANGE, "\"another\"")];
    let (status, _, body) = fetch(&http, Method::GET, &url, &other).await;
    assert_eq!((status, body == whole), (StatusCode::OK, true), "it was another bundle");
    let (status, headers, _) = fetch(&http, Method::GET, &url, &[(RANGE, "bytes=700001-")]).await;
    assert_eq!(
        (status, text(&headers, CONTENT_RANGE)),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */700001")
    );
}

#[tokio::test]
async fn every_device_has_a_path_of_its_own_that_is_counted_alone_and_there_is_nothing_else() {
    let (_file, server) = serve(1000, 2).await;
    let http = http();
    let base = format!("http://{}", server.address);
    let [first, second] = server.offers() else { panic!() };
    assert_ne!(first.path, second.path);
    assert_eq!(first.path.split('/').nth(1).unwrap().len(), 32);
    fetch(&http, Method::GET, &format!("{base}{}", second.path), &[]).await;
    assert_eq!((first.percent(), second.percent()), (0, 100));
    let secret = first.path.split('/').nth(1).unwrap();
    for path in [
        "/".to_owned(),
        format!("/{secret}"),
        format!("/{secret}/"),
        format!("/{secret}/other"),
        format!("/{}/{}", "0".repeat(32), server.bundle().name),
        format!("/{secret}/../../etc/passwd"),
    ] {
        let (status, _, body) = fetch(&http, Method::GET, &format!("{base}{path}"), &[]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 0), "{path}");
    }
    let (status, ..) = fetch(&http, Method::POST, &format!("{base}{}", first.path), &[]).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn devices_get_what_was_in_the_file_when_it_was_read_whatever_is_put_in_its_place() {
    let (file, server) = serve(1000, 1).await;
    let replaced = tempfile::NamedTempFile::new_in(file.path().parent().unwrap()).unwrap();
    std::fs::write(replaced.path(), "something else").unwrap();
    std::fs::rename(replaced.path(), file.path()).unwrap();
    let url = format!("http://{}{}", server.address, server.offers()[0].path);
    assert_eq!(fetch(&http(), Method::GET, &url, &[]).await.2, content(1000));
}

#[tokio::test]
async fn over_tls_a_connection_that_does_not_shake_hands_keeps_nobody_waiting() {
    let authority = Authority::new("bundle authority");
    let pair = authority.server(&["127.0.0.1"], Validity::Now);
    let http = http();
    let (_file, bundle) = bundle(1000);
    let tls = Tls {
        cert_file: pair.cert_file.clone(),
        key_file: pair.key_file,
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(bundle.clone(), 1, address, Some(&tls)).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let ca = Certificate::from_pem(&std::fs::read(&authority.ca_file).unwrap()).unwrap();
    let trusting = Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let url = format!("https://{}{}", server.address, server.offers()[0].path);
    assert_eq!(fetch(&trusting, Method::GET, &url, &[]).await.2, content(1000));
    assert!(
        http.get(&url).send().await.is_err(),
        "who does not trust the authority gets nothing"
    );
    drop(silent);

    let wrong = Tls {
        cert_file: pair.cert_file.clone(),
        key_file: pair.cert_file,
    };
    let error = Server::start(bundle.clone(), 1, address, Some(&wrong))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no private key"), "{error}");
    let taken = Server::start(bundle, 1, server.address, None).await.unwrap_err();
    assert!(taken.to_string().contains("choose another --listen"), "{taken}");
}
