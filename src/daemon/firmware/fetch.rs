//! The download: fetched, hashed, and looked at by RAUC before the service is told that it is there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{RESERVE, Teller, connect};
use crate::agent::DownloadEnd;
use crate::agent::effect::Image;
use crate::config;
use crate::host::clock;
use crate::host::download::{Download, Failure, FailureKind, Limits, Patience, Tls, Verifier};
use crate::host::rauc::InspectError;
use crate::protocol::firmware::UpdateStatus;

/// How often RAUC is asked to look at a bundle before that is given up, and the pause in between.
const LOOKS: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// What is to be fetched, in the terms of the host.
///
/// # Errors
/// The verifier is none that can be checked.
pub(super) fn download(settings: &config::Firmware, image: &Image, file: PathBuf) -> Result<Download, String> {
    let certificate = settings.certificate.as_ref();
    Ok(Download {
        uri: image.uri.clone(),
        file,
        verifier: Verifier::parse(image.verifier.as_deref().unwrap_or_default())?,
        limits: Limits {
            max_size: settings.max_size,
            reserve: RESERVE,
            allow_http: settings.allow_http,
            allow_hosts: settings.allow_hosts.clone(),
            bytes_per_second: settings.max_rate,
        },
        tls: Tls {
            ca_file: settings.ca_file.clone(),
            cert_file: certificate.map(|certificate| certificate.cert_file.clone()),
            key_file: certificate.map(|certificate| certificate.key_file.clone()),
        },
        proxy: settings
            .proxy
            .as_ref()
            .map(|proxy| format!("http://{}:{}", proxy.host, proxy.port)),
        patience: Patience::default(),
        clock_is_set: || clock::wall().is_some(),
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
    })
}

/// Fetches, or goes on; a file that is there already is hashed again and not fetched.
pub(super) async fn fetch(download: &Download, teller: &Teller) -> DownloadEnd {
    if let Some(folder) = download.file.parent()
        && let Err(error) = tokio::fs::create_dir_all(folder).await
    {
        return failed(UpdateStatus::OutOfMemory, format!("{}: {error}", folder.display()));
    }
    let mut shown = None;
    let tell = |progress: crate::host::download::Progress| {
        let percent = progress
            .total
            .filter(|total| *total > 0)
            .map(|total| progress.received.saturating_mul(100) / total);
        let step = (percent, progress.received / (16 << 20));
        if shown != Some(step) {
            shown = Some(step);
            teller.progress(match percent {
                Some(percent) => format!("downloading firmware, {percent} %"),
                None => format!("downloading firmware, {} MiB", progress.received >> 20),
            });
        }
    };
    if let Err(failure) = download.run(tell).await {
        return failed(status(&failure), failure.text);
    }
    teller.progress("downloaded; RAUC checks the signature".into());
    looked(&download.file).await
}

/// Takes what somebody on the device has handed over.
pub(super) async fn take_over(from: &Path, to: &Path) -> DownloadEnd {
    match tokio::fs::rename(from, to).await {
        Ok(()) => {}
        // A restart came between this and the end.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && to.exists() => {}
        Err(error) => {
            let text = format!("the file that was handed over is not there: {error}");
            return failed(UpdateStatus::UnsupportedImage, text);
        }
    }
    looked(to).await
}

async fn looked(bundle: &Path) -> DownloadEnd {
    match look(bundle).await {
        Ok(()) => DownloadEnd::Done,
        Err((status, message)) => {
            // It is whole, and still nothing that could ever be installed here.
            if let Err(error) = Download::discard(bundle).await {
                tracing::warn!("the refused image could not be removed: {error}");
            }
            failed(status, message)
        }
    }
}

fn failed(status: UpdateStatus, message: String) -> DownloadEnd {
    DownloadEnd::Failed { status, message }
}

fn status(failure: &Failure) -> UpdateStatus {
    match failure.kind {
        FailureKind::NoSpace => UpdateStatus::OutOfMemory,
        FailureKind::ConnectionLost => UpdateStatus::ConnectionLost,
        FailureKind::VerificationFailed => UpdateStatus::VerificationFailed,
        FailureKind::InvalidUri => UpdateStatus::InvalidUri,
    }
}

/// RAUC's word on the image: a signature that it knows, and made for this hardware.
pub(super) async fn look(bundle: &Path) -> Result<(), (UpdateStatus, String)> {
    let mut last = String::new();
    for attempt in 0..LOOKS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let rauc = match connect().await {
            Ok(rauc) => rauc,
            Err(reason) => {
                last = reason;
                continue;
            }
        };
        let said = match rauc.inspect(bundle).await {
            Ok(bundle) => bundle,
            Err(InspectError::Signature(text)) => {
                let text = format!("RAUC does not accept the signature: {text}");
                return Err((UpdateStatus::VerificationFailed, text));
            }
            Err(InspectError::NotABundle(text)) => {
                return Err((
                    UpdateStatus::UnsupportedImage,
                    format!("this is no RAUC bundle: {text}"),
                ));
            }
            Err(error @ (InspectError::Busy | InspectError::Failed(_))) => {
                last = error.to_string();
                continue;
            }
        };
        return match rauc.compatible().await {
            Ok(compatible) if compatible == said.compatible => Ok(()),
            Ok(compatible) => {
                let text = format!(
                    "the image is made for {:?}, and this device is {compatible:?}",
                    said.compatible
                );
                Err((UpdateStatus::UnsupportedImage, text))
            }
            Err(error) => {
                last = error.to_string();
                continue;
            }
        };
    }
    let text = format!("RAUC could not look at the image: {last}");
    Err((UpdateStatus::UnsupportedImage, text))
}
