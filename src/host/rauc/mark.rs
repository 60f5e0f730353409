//! Marks a slot, and believes it only when RAUC reads it back from the boot loader.
//!
//! Facts: RAUC's `Mark`; rauc#1140, where RAUC said that a slot was good and the boot loader's environment was as before.

use std::fmt;

use super::super::bus::{BusError, Cause};
use super::{QUESTION_LIMIT, Rauc, is_busy, read, said};

/// What is said of a slot to the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It may be booted, and from now on without a count of tries.
    Good,
    /// It must not be booted any more.
    Bad,
    /// It is booted next, and is good.
    Active,
}

/// Why a slot is not marked, or may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// RAUC is installing. Nothing was marked; ask again afterwards.
    #[error("RAUC is busy with an installation")]
    Busy,
    /// Nothing was marked. RAUC's words, or that it is not there.
    #[error("RAUC did not mark the slot: {0}")]
    Refused(String),
    /// RAUC says that it marked the slot, and the boot loader says otherwise.
    #[error(
        "RAUC says that it marked slot {slot} {mark}, but read back from the boot loader it is not: look at the boot \
             loader's environment (is it writable?)"
    )]
    NotKept {
        /// The slot's name.
        slot: String,
        /// What it should be.
        mark: Mark,
    },
    /// No answer, or the mark could not be read back: it may be there or not.
    #[error("it is not known whether the slot is marked: {0}")]
    Unknown(BusError),
}

impl Mark {
    /// RAUC's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Active => "active",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rauc {
    /// Marks a slot: a name such as `rootfs.1`, `booted`, or `other`, which is the other one of the booted slot's class.
    /// Takes at most a minute and a half.
    ///
    /// # Errors
    /// See [`MarkError`]. `Ok` only when the mark was read back.
    pub async fn mark(&self, mark: Mark, slot: &str) -> Result<(), MarkError> {
        const CALL: &str = "rauc Mark";
        let marked = self
            .call(CALL, "Mark", &(mark.as_str(), slot), QUESTION_LIMIT)
            .await
            .and_then(|reply| read::<(String, String)>(CALL, &reply));
        let (slot, _message) = match marked {
            Ok(marked) => marked,
            Err(error) => return Err(not_marked(error)),
        };
        let kept = match mark {
            Mark::Good => self.boots(&slot).await.map(|good| good == Some(true)),
            Mark::Bad => self.boots(&slot).await.map(|good| good == Some(false)),
            Mark::Active => self.primary().await.map(|primary| primary.as_ref() == Some(&slot)),
        };
        match kept {
            Ok(true) => Ok(()),
            Ok(false) => Err(MarkError::NotKept { slot, mark }),
            Err(error) => Err(MarkError::Unknown(error)),
        }
    }

    async fn boots(&self, name: &str) -> Result<Option<bool>, BusError> {
        let slots = self.slots().await?;
        Ok(slots
            .iter()
            .find(|slot| slot.name == name)
            .and_then(|slot| slot.boot_good))
    }
}

fn not_marked(error: BusError) -> MarkError {
    match (&error.cause, said(&error)) {
        (Cause::NoReply | Cause::Lost(_) | Cause::Unexpected(_), _) => MarkError::Unknown(error),
        _ if is_busy(&error) => MarkError::Busy,
        (_, Some(words)) => MarkError::Refused(words.to_owned()),
        (Cause::Refused { .. } | Cause::Absent(_), None) => MarkError::Refused(error.to_string()),
    }
}
