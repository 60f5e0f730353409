//! The installation: the image is checked once more, and RAUC writes it.

use std::path::Path;

use super::{Teller, connect, fetch};
use crate::agent::InstallEnd;
use crate::host::download::Download;
use crate::host::rauc::{self, Progress};
use crate::protocol::firmware::UpdateStatus;

pub(super) fn damaged(message: String) -> InstallEnd {
    refused(UpdateStatus::VerificationFailed, message, false)
}

fn refused(status: UpdateStatus, message: String, again: bool) -> InstallEnd {
    InstallEnd::Refused { status, message, again }
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
        return refused(fetch::status(failure.kind), failure.text, false);
    }
    if let Err((status, message)) = fetch::look(bundle).await {
        return refused(status, message, false);
    }
    let rauc = match connect().await {
        Ok(rauc) => rauc,
        Err(reason) => return refused(UpdateStatus::UnsupportedImage, reason, true),
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
        rauc::InstallEnd::Refused(text) => refused(UpdateStatus::UnsupportedImage, text, true),
        // 1.8 notices it while it writes, 1.13 before.
        rauc::InstallEnd::Failed(text) if text.contains("No space left") || text.contains("too small") => {
            failed(UpdateStatus::OutOfMemory, text, true)
        }
        rauc::InstallEnd::Failed(text) => failed(UpdateStatus::UnsupportedImage, text, false),
        rauc::InstallEnd::Died => InstallEnd::Unclear("RAUC died in the middle of the installation".into()),
        rauc::InstallEnd::Unknown(text) => InstallEnd::Unclear(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use UpdateStatus::{OutOfMemory, UnsupportedImage, VerificationFailed};

    #[test]
    fn fwu_04_each_end_of_an_installation_has_its_code_and_only_another_image_helps_where_rauc_failed() {
        let text = || "rauc's words".to_owned();
        assert_eq!(told(rauc::InstallEnd::Done), InstallEnd::Done);
        assert_eq!(
            told(rauc::InstallEnd::Refused(text())),
            refused(UnsupportedImage, text(), true)
        );
        assert_eq!(
            told(rauc::InstallEnd::Failed(text())),
            failed(UnsupportedImage, text(), false)
        );
        for room in [
            "write failed: No space left on device",
            "slot is too small for the image",
        ] {
            assert_eq!(
                told(rauc::InstallEnd::Failed(room.to_owned())),
                failed(OutOfMemory, room.to_owned(), true)
            );
        }
        assert!(matches!(told(rauc::InstallEnd::Died), InstallEnd::Unclear(_)));
        assert_eq!(told(rauc::InstallEnd::Unknown(text())), InstallEnd::Unclear(text()));
        assert_eq!(damaged(text()), refused(VerificationFailed, text(), false));
    }
}
