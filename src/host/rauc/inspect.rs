//! What a bundle is, before anything is written: RAUC verifies its signature and reads its manifest.
//!
//! From 1.9 on RAUC says why it refuses. 1.8 says "rauc info error" for every reason, also for "busy"; but like every
//! version it announces each step and how it ended in its property `Progress`, and that tells a signature that was not
//! accepted from a file that is no bundle.
//! RAUC does this in its one loop: a plain bundle is read whole meanwhile, and RAUC answers nobody.

use std::collections::HashMap;
use std::path::Path;

use zbus::names::UniqueName;
use zbus::{OwnedVariant, Variant};

use super::super::bus::{BusError, Cause};
use super::signals::{Heard, Signals, Step};
use super::{BUNDLE_LIMIT, QUESTION_LIMIT, Rauc, bundle_file, instance, is_busy, path_text, read, said};

/// What 1.8 says to everything.
const SAYS_NOTHING: &str = "rauc info error";

/// What a bundle's signed manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What it is made for; must be the same as [`Rauc::compatible`].
    pub compatible: String,
    /// Absent when its maker gave none.
    pub version: Option<String>,
}

/// Why RAUC does not vouch for a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The file is no bundle, or none that this RAUC takes.
    #[error("this is no bundle that RAUC takes: {0}")]
    NotABundle(String),
    /// RAUC does not accept the signature: signed by a key that it does not know, changed since, expired, or the host's
    /// clock is wrong.
    #[error("RAUC does not accept the bundle's signature: {0}")]
    Signature(String),
    /// RAUC is installing; ask again afterwards.
    #[error("RAUC is busy with an installation")]
    Busy,
    /// RAUC could not look: it is gone, too slow, cannot open the file, or has no keyring. Says nothing about the bundle.
    #[error("{0}")]
    Failed(BusError),
}

impl Rauc {
    /// Has RAUC verify the bundle at this path and read its manifest. Writes nothing; from a user's file RAUC takes the
    /// ownership. Takes at most 15 minutes; a plain bundle is read whole, a verity bundle is not.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub async fn inspect(&self, bundle: &Path) -> Result<Bundle, InspectError> {
        let path = path_text(bundle).map_err(InspectError::NotABundle)?;
        let mut signals = Signals::subscribe(&self.bus).await.map_err(InspectError::Failed)?;
        let answer = if self.inspect_bundle {
            self.inspect_bundle(path).await
        } else {
            self.info(path).await
        };
        let error = match answer {
            Ok(bundle) => return Ok(bundle),
            Err(error) => error,
        };
        let Some(text) = said(&error) else {
            return Err(InspectError::Failed(error));
        };
        if is_busy(&error) || (text == SAYS_NOTHING && self.installs().await) {
            return Err(InspectError::Busy);
        }
        let steps = match instance(&self.bus).await {
            Ok(Some(instance)) => steps(&mut signals, &instance),
            Ok(None) | Err(_) => Vec::new(),
        };
        let path = bundle.to_owned();
        let why_not = tokio::task::spawn_blocking(move || bundle_file::why_not(&path)).await;
        let why_not = why_not.ok().and_then(Result::ok).flatten();
        Err(verdict(error, &steps, why_not))
    }

    /// From RAUC 1.9 on.
    async fn inspect_bundle(&self, path: &str) -> Result<Bundle, BusError> {
        const CALL: &str = "rauc InspectBundle";
        let options: HashMap<&str, Variant<'_>> = HashMap::new();
        let reply = self.call(CALL, "InspectBundle", &(path, options), BUNDLE_LIMIT).await?;
        let told: HashMap<String, OwnedVariant> = read(CALL, &reply)?;
        let member = |key: &str| told.get("update").and_then(|update| member(update, key));
        let compatible = member("compatible").ok_or_else(|| BusError {
            call: CALL,
            cause: Cause::Unexpected("the manifest names nothing that it is compatible with".to_owned()),
        })?;
        Ok(Bundle {
            compatible,
            version: member("version"),
        })
    }

    /// Up to RAUC 1.8.
    async fn info(&self, path: &str) -> Result<Bundle, BusError> {
        const CALL: &str = "rauc Info";
        let reply = self.call(CALL, "Info", &path, BUNDLE_LIMIT).await?;
        let (compatible, version): (String, String) = read(CALL, &reply)?;
        Ok(Bundle {
            compatible,
            version: Some(version).filter(|version| !version.is_empty()),
        })
    }

    /// Whether RAUC is installing, whoever asked it to: then it answers nothing but that it is busy.
    pub async fn installs(&self) -> bool {
        let answer = self.call("rauc GetPrimary", "GetPrimary", &(), QUESTION_LIMIT).await;
        answer.is_err_and(|error| is_busy(&error))
    }
}

/// Text out of the manifest's section, which RAUC wraps into one variant more than it needs.
fn member(section: &Variant<'_>, key: &str) -> Option<String> {
    match section {
        Variant::Variant(inner) => member(inner, key),
        Variant::Dict(dict) => {
            let value: &Variant<'_> = dict.get(&key).ok()??;
            text(value)
        }
        _ => None,
    }
}

fn text(value: &Variant<'_>) -> Option<String> {
    match value {
        Variant::Variant(inner) => text(inner),
        Variant::Str(text) => Some(text.to_string()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// The steps that RAUC has announced so far. Those of an installation are a level deeper.
fn steps(signals: &mut Signals, instance: &UniqueName<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(heard) = signals.queued(instance) {
        match heard {
            Heard::Changed { step, .. } => steps.extend(step),
            Heard::Completed { .. } => {}
            Heard::Gone | Heard::Lost => break,
        }
    }
    steps
}

/// What a refusal means. `why_not`: what the file itself tells.
fn verdict(error: BusError, steps: &[Step], why_not: Option<&str>) -> InspectError {
    const REASON: &str = "RAUC 1.8 gives the reason only in its journal (journalctl -u rauc)";
    let ended = |message: &str, depth| steps.iter().any(|step| step.message == message && step.depth == depth);
    let words = said(&error).unwrap_or_default();
    let speechless = words == SAYS_NOTHING;
    let in_words = |otherwise: &str| match speechless {
        true => format!("{otherwise}; {REASON}"),
        false => words.to_owned(),
    };
    if let Some(why_not) = why_not {
        return InspectError::NotABundle(match speechless {
            true => why_not.to_owned(),
            false => format!("{why_not} ({words})"),
        });
    }
    if ended("Verifying signature failed.", 2) || words.contains("signature verification failed") {
        return InspectError::Signature(in_words(
            "not by a key that RAUC trusts, or changed since it was signed",
        ));
    }
    // The signature is good, so the bundle is as its maker signed it. To unpack a plain bundle's manifest takes a program
    // that RAUC's package does not depend on, and room; an installation needs neither.
    let verified = ended("Verifying signature done.", 2);
    if verified && (ended("Checking bundle failed.", 1) || ended("Checking manifest contents failed.", 1)) {
        return InspectError::NotABundle(in_words("its signature is good, but RAUC does not take what it signs"));
    }
    let hint = match verified {
        true => "its signature is good, but RAUC cannot unpack it: is squashfs-tools installed, and room in /tmp?",
        false => "can RAUC open the file, and has it a keyring?",
    };
    let BusError {
        call,
        cause: Cause::Refused { name, text },
    } = error
    else {
        return InspectError::Failed(error);
    };
    let text = match speechless {
        true => format!("{}: {hint} {REASON}", text.trim_end()),
        false => text,
    };
    InspectError::Failed(BusError {
        call,
        cause: Cause::Refused { name, text },
    })
}
