//! The download: fetched, hashed, and looked at by RAUC before the service is told that it is there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{RESERVE, Teller, connect};
use crate::agent::DownloadEnd;
use crate::agent::effect::Image;
use crate::config;
use crate::host::clock;
use crate::host::download::{Download, FailureKind, Limits, Patience, Tls, Verifier};
use crate::host::rauc::InspectError;
use crate::protocol::firmware::UpdateStatus;

/// How often RAUC is asked to look at a bundle before that is given up, and the pause in between.
const LOOKS: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// What may be fetched from where.
pub(super) fn limits(settings: &config::Firmware) -> Limits {
    Limits {
        max_size: settings.max_size,
        reserve: RESERVE,
        allow_http: settings.allow_http,
        allow_hosts: settings.allow_hosts.clone(),
        bytes_per_second: settings.max_rate,
    }
}

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
        limits: limits(settings),
        tls: Tls {
            ca_file: settings.ca_file.clone(),
            cert_file: certificate.map(|certificate| certificate.cert_file.clone()),
            key_file: certificate.map(|certificate| certificate.key_file.clone()),
        },
        proxy: settings.proxy.as_ref().map(ToString::to_string),
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
        return failed(status(failure.kind), failure.text);
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

/// The description of the image is one that nothing can be fetched by.
pub(super) fn unverifiable(message: String) -> DownloadEnd {
    failed(UpdateStatus::VerificationFailed, message)
}

fn failed(status: UpdateStatus, message: String) -> DownloadEnd {
    DownloadEnd::Failed { status, message }
}

pub(super) fn status(kind: FailureKind) -> UpdateStatus {
    match kind {
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
            Err(error) => {
                last = refusal(error)?;
                continue;
            }
        };
        match rauc.compatible().await {
            Ok(compatible) => return fits(&said.compatible, &compatible),
            Err(error) => last = error.to_string(),
        }
    }
    Err(no_look(&last))
}

/// What RAUC says against the image; or, as `Ok`, why it could not look, and is to be asked again.
fn refusal(error: InspectError) -> Result<String, (UpdateStatus, String)> {
    match error {
        InspectError::Signature(text) => {
            let text = format!("RAUC does not accept the signature: {text}");
            Err((UpdateStatus::VerificationFailed, text))
        }
        InspectError::NotABundle(text) => {
            let text = format!("this is no RAUC bundle: {text}");
            Err((UpdateStatus::UnsupportedImage, text))
        }
        InspectError::Busy | InspectError::Failed(_) => Ok(error.to_string()),
    }
}

/// Whether an image that is made for one kind of hardware is for this device.
fn fits(made_for: &str, device: &str) -> Result<(), (UpdateStatus, String)> {
    if made_for == device {
        return Ok(());
    }
    let text = format!("the image is made for {made_for:?}, and this device is {device:?}");
    Err((UpdateStatus::UnsupportedImage, text))
}

fn no_look(last: &str) -> (UpdateStatus, String) {
    let text = format!("RAUC could not look at the image: {last}");
    (UpdateStatus::UnsupportedImage, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::daemon::settings::tests::settings;
    use crate::host::bus::{BusError, Cause};

    fn failure(end: DownloadEnd) -> (UpdateStatus, String) {
        match end {
            DownloadEnd::Failed { status, message } => (status, message),
            DownloadEnd::Done => panic!("it did not fail"),
        }
    }

    #[test]
    fn fwd_04_each_way_in_which_a_download_fails_has_its_code() {
        assert_eq!(status(FailureKind::NoSpace), UpdateStatus::OutOfMemory);
        assert_eq!(status(FailureKind::ConnectionLost), UpdateStatus::ConnectionLost);
        assert_eq!(
            status(FailureKind::VerificationFailed),
            UpdateStatus::VerificationFailed
        );
        assert_eq!(status(FailureKind::InvalidUri), UpdateStatus::InvalidUri);
    }

    #[tokio::test]
    async fn fwd_04_a_folder_that_cannot_be_made_is_out_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("firmware"), "").unwrap();
        let image = Image {
            uri: "https://fw.example.com/fw".to_owned(),
            verifier: None,
        };
        let download = download(&settings().firmware, &image, super::super::file(folder.path())).unwrap();
        let (happenings, _receiver) = tokio::sync::mpsc::channel(1);
        let (status, message) = failure(fetch(&download, &Teller(happenings)).await);
        assert_eq!(status, UpdateStatus::OutOfMemory, "{message}");
    }

    #[tokio::test]
    async fn fwd_04_a_file_that_was_handed_over_and_is_gone_is_an_unsupported_image() {
        let folder = tempfile::tempdir().unwrap();
        let end = take_over(&folder.path().join("from"), &folder.path().join("to")).await;
        let (status, message) = failure(end);
        assert_eq!(status, UpdateStatus::UnsupportedImage, "{message}");
    }

    #[test]
    fn fwd_05_a_verifier_that_cannot_be_checked_is_a_failed_verification() {
        let image = Image {
            uri: "https://fw.example.com/fw".to_owned(),
            verifier: Some("crc32:1234".to_owned()),
        };
        let refused = download(&settings().firmware, &image, PathBuf::from("/fw")).unwrap_err();
        let (status, message) = failure(unverifiable(refused.clone()));
        assert_eq!((status, message), (UpdateStatus::VerificationFailed, refused));
    }

    #[test]
    fn fwu_04_what_rauc_says_against_an_image_has_its_code() {
        let (status, message) = refusal(InspectError::Signature("expired".into())).unwrap_err();
        assert_eq!(status, UpdateStatus::VerificationFailed);
        assert_eq!(message, "RAUC does not accept the signature: expired");
        let (status, message) = refusal(InspectError::NotABundle("too short".into())).unwrap_err();
        assert_eq!(status, UpdateStatus::UnsupportedImage);
        assert_eq!(message, "this is no RAUC bundle: too short");

        assert_eq!(fits("gateway", "gateway"), Ok(()));
        let (status, message) = fits("other", "gateway").unwrap_err();
        assert_eq!(status, UpdateStatus::UnsupportedImage);
        assert!(message.contains("made for \"other\""), "{message}");
    }

    #[test]
    fn a_rauc_that_cannot_look_is_asked_again_and_in_the_end_the_image_is_unsupported() {
        let failed = BusError {
            call: "rauc InspectBundle",
            cause: Cause::NoReply,
        };
        assert!(refusal(InspectError::Busy).is_ok());
        let last = refusal(InspectError::Failed(failed)).unwrap();
        let (status, message) = no_look(&last);
        assert_eq!(status, UpdateStatus::UnsupportedImage);
        assert!(message.contains("rauc InspectBundle"), "{message}");
    }
}
