//! The installation: the image is checked once more, and RAUC writes it.

use std::path::Path;

use super::{Teller, connect, fetch};
use crate::agent::InstallEnd;
use crate::host::download::{Download, FailureKind};
use crate::host::rauc::{self, Progress};
use crate::protocol::firmware::UpdateStatus;

pub(super) fn refused(message: String) -> InstallEnd {
    failed(UpdateStatus::VerificationFailed, message, false)
}

fn failed(status: UpdateStatus, message: String, again: bool) -> InstallEnd {
    InstallEnd::Failed { status, message, again }
}

/// `download` is how the image came; what was handed over on the device came without one.
pub(super) async fn install(
    download: Option<&Download>,
    bundle: &Path,
    transaction: &str,
    teller: &Teller,
) -> InstallEnd {
    teller.progress("checking the downloaded firmware".into());
    // The file is there, so nothing is fetched; a file that was damaged since is.
    if let Some(download) = download
        && let Err(failure) = download.run(|_| ()).await
    {
        let status = match failure.kind {
            FailureKind::NoSpace => UpdateStatus::OutOfMemory,
            FailureKind::ConnectionLost => UpdateStatus::ConnectionLost,
            FailureKind::VerificationFailed => UpdateStatus::VerificationFailed,
            FailureKind::InvalidUri => UpdateStatus::InvalidUri,
        };
        return failed(status, failure.text, false);
    }
    if let Err((status, message)) = fetch::look(bundle).await {
        return failed(status, message, false);
    }
    let rauc = match connect().await {
        Ok(rauc) => rauc,
        Err(reason) => return failed(UpdateStatus::UnsupportedImage, reason, true),
    };
    let end = rauc
        .install(bundle, Some(transaction), |progress| tell(teller, &progress))
        .await;
    told(end)
}

pub(super) async fn rejoin(teller: &Teller) -> InstallEnd {
    match connect().await {
        Ok(rauc) => told(rauc.rejoin(|progress| tell(teller, &progress)).await),
        Err(reason) => InstallEnd::Unclear(reason),
    }
}

fn tell(teller: &Teller, progress: &Progress) {
    teller.progress(format!(
        "installing firmware, {} %: {}",
        progress.percentage, progress.message
    ));
}

fn told(end: rauc::InstallEnd) -> InstallEnd {
    match end {
        rauc::InstallEnd::Done => InstallEnd::Done,
        // Nothing was touched; the same image may fit another time.
        rauc::InstallEnd::Refused(text) => failed(UpdateStatus::UnsupportedImage, text, true),
        // 1.8 notices it while it writes, 1.13 before.
        rauc::InstallEnd::Failed(text) if text.contains("No space left") || text.contains("too small") => {
            failed(UpdateStatus::OutOfMemory, text, true)
        }
        rauc::InstallEnd::Failed(text) => failed(UpdateStatus::UnsupportedImage, text, false),
        rauc::InstallEnd::Died => InstallEnd::Unclear("RAUC died in the middle of the installation".into()),
        rauc::InstallEnd::Unknown(text) => InstallEnd::Unclear(text),
    }
}
