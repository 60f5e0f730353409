//! One installation: begin it, follow it, and say how it ended, or that this is not known.
//!
//! The end is RAUC's `Completed` and nothing else. A RAUC that dies sends none, so its name on the bus is watched; both
//! subscriptions are there before RAUC is asked. `InstallBundle` itself makes the new slot the one that is booted next.
//! Nothing here can stop an installation: dropping the future only stops listening, and [`Rauc::rejoin`] listens again.

use std::collections::HashMap;
use std::path::Path;

use zbus::message::Sequence;
use zbus::names::UniqueName;
use zbus::{Message, Variant};

use super::super::bus::{BusError, Cause};
use super::signals::{Heard, Signals, Step, step};
use super::{BUNDLE_LIMIT, Rauc, instance, is_busy, path_text, said};

/// Steps within steps are told down to this depth: 1 is the whole work, 3 is the writing of an image.
const DEPTH: i32 = 3;

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Of the whole work, 0 to 100, never less than before. RAUC 1.8 stands at 90 while it writes an image.
    pub percentage: u8,
    /// What RAUC does, in its words, such as `Copying image to rootfs.1`.
    pub message: String,
}

/// How an installation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallEnd {
    /// RAUC says that it succeeded. The new slot is booted next.
    Done,
    /// It never began; no slot was touched. The text says why.
    Refused(String),
    /// It failed; the text is RAUC's `LastError`. Whether a slot was touched, only the slots tell.
    Failed(String),
    /// RAUC left the bus in the middle. The slot that it wrote is to be taken for broken.
    Died,
    /// Nobody saw how it ended, or whether it began. The text says why. The slots tell what is there.
    Unknown(String),
}

impl Rauc {
    /// Installs the bundle at this path, which RAUC must be able to read where it runs (no private `/tmp`), into the other
    /// slot, and makes that slot the next to boot. `transaction` is remembered with the slot where RAUC can (1.10).
    ///
    /// Takes as long as RAUC takes; nothing here ends it. The bundle must not be open for writing anywhere.
    pub async fn install(
        &self,
        bundle: &Path,
        transaction: Option<&str>,
        progress: impl FnMut(Progress) + Send,
    ) -> InstallEnd {
        let path = match path_text(bundle) {
            Ok(path) => path,
            Err(text) => return InstallEnd::Refused(text),
        };
        let signals = match Signals::subscribe(&self.bus).await {
            Ok(signals) => signals,
            Err(error) => return InstallEnd::Refused(error.to_string()),
        };
        let reply = match self.begin(path, transaction).await {
            Ok(reply) => reply,
            Err(error) => return not_begun(&error),
        };
        let Some(instance) = reply.header().sender().map(UniqueName::to_owned) else {
            return InstallEnd::Unknown("the bus did not say who began the installation".to_owned());
        };
        // An end that was told before the reply is that of an installation before this one.
        let after = Some(reply.recv_position());
        self.follow(signals, &instance, after, Reporter::new(progress)).await
    }

    /// Follows an installation that is under way already, after a restart of the agent. Whose it is, RAUC does not say.
    ///
    /// [`InstallEnd::Unknown`] when RAUC installs nothing: then it ended before, and the slots tell how.
    pub async fn rejoin(&self, progress: impl FnMut(Progress) + Send) -> InstallEnd {
        const NOTHING: &str = "RAUC is not installing anything";
        let mut reporter = Reporter::new(progress);
        let mut signals = match Signals::subscribe(&self.bus).await {
            Ok(signals) => signals,
            Err(error) => return InstallEnd::Unknown(error.to_string()),
        };
        // A RAUC that is not there is not started for this: it would know nothing.
        let instance = match instance(&self.bus).await {
            Ok(Some(instance)) => instance,
            Ok(None) => return InstallEnd::Unknown("RAUC is not running".to_owned()),
            Err(error) => return InstallEnd::Unknown(error.to_string()),
        };
        // The one question that is answered at once by a RAUC that installs, and truly.
        match self.call("rauc GetPrimary", "GetPrimary", &(), BUNDLE_LIMIT).await {
            Err(error) if is_busy(&error) => {
                if let Ok(value) = self.property("rauc Progress", "Progress").await
                    && let Some(step) = step(value)
                {
                    reporter.report(step);
                }
                self.follow(signals, &instance, None, reporter).await
            }
            Err(error) if said(&error).is_none() => InstallEnd::Unknown(error.to_string()),
            // It may have ended between the subscription and the question.
            Ok(_) | Err(_) => loop {
                match signals.queued(&instance) {
                    Some(Heard::Completed { result, .. }) => return self.end(result, None).await,
                    Some(Heard::Changed { .. }) => {}
                    Some(Heard::Gone | Heard::Lost) | None => return InstallEnd::Unknown(NOTHING.to_owned()),
                }
            },
        }
    }

    async fn begin(&self, path: &str, transaction: Option<&str>) -> Result<Message, BusError> {
        const CALL: &str = "rauc InstallBundle";
        // RAUC 1.8 has neither; there is no other sign of the version.
        let transaction = transaction.filter(|_| self.inspect_bundle);
        let with: HashMap<&str, Variant<'_>> = transaction
            .map(|id| ("transaction-id", Variant::from(id)))
            .into_iter()
            .collect();
        let begun = self.call(CALL, "InstallBundle", &(path, with), BUNDLE_LIMIT).await;
        match begun {
            // RAUC 1.9. It has refused before it did anything.
            Err(error)
                if transaction.is_some() && said(&error).is_some_and(|text| text.contains("Unsupported key")) =>
            {
                let without: HashMap<&str, Variant<'_>> = HashMap::new();
                self.call(CALL, "InstallBundle", &(path, without), BUNDLE_LIMIT).await
            }
            begun => begun,
        }
    }

    async fn follow(
        &self,
        mut signals: Signals,
        instance: &UniqueName<'_>,
        after: Option<Sequence>,
        mut reporter: Reporter<impl FnMut(Progress) + Send>,
    ) -> InstallEnd {
        let mut reason = None;
        loop {
            match signals.next(instance).await {
                Heard::Completed { result, at } if after.is_none_or(|after| at > after) => {
                    return self.end(result, reason).await;
                }
                Heard::Completed { .. } => {}
                Heard::Changed { step, last_error } => {
                    reason = last_error.or(reason);
                    if let Some(step) = step {
                        reporter.report(step);
                    }
                }
                Heard::Gone => return InstallEnd::Died,
                Heard::Lost => {
                    return InstallEnd::Unknown(
                        "the connection to the system bus broke while RAUC was installing".to_owned(),
                    );
                }
            }
        }
    }

    /// What `Completed` means. `reason`: the last `LastError` that was heard, should RAUC not tell it any more.
    async fn end(&self, result: i32, reason: Option<String>) -> InstallEnd {
        if result == 0 {
            return InstallEnd::Done;
        }
        let told = self.text("rauc LastError", "LastError").await.ok();
        let texts = [told, reason];
        let text = texts.into_iter().flatten().find(|text| !text.trim().is_empty());
        InstallEnd::Failed(text.unwrap_or_else(|| format!("RAUC failed with {result} and does not say why")))
    }
}

fn not_begun(error: &BusError) -> InstallEnd {
    match (&error.cause, said(error)) {
        (Cause::NoReply | Cause::Lost(_) | Cause::Unexpected(_), _) => InstallEnd::Unknown(error.to_string()),
        _ if is_busy(error) => InstallEnd::Refused("RAUC is busy with another installation".to_owned()),
        (_, Some(words)) => InstallEnd::Refused(words.to_owned()),
        (Cause::Refused { .. } | Cause::Absent(_), None) => InstallEnd::Refused(error.to_string()),
    }
}

/// Hands on what is news: nothing twice, nothing backwards, no end of a step that failed, which jumps to its end.
struct Reporter<F> {
    progress: F,
    last: Option<Progress>,
}

impl<F: FnMut(Progress)> Reporter<F> {
    fn new(progress: F) -> Self {
        Self { progress, last: None }
    }

    fn report(&mut self, step: Step) {
        let (reached, message) = match &self.last {
            Some(last) => (last.percentage, last.message.as_str()),
            None => (0, ""),
        };
        let Ok(percentage) = u8::try_from(step.percentage) else {
            return;
        };
        let news = percentage > reached || (percentage == reached && step.message != message);
        if !news || percentage > 100 || step.depth > DEPTH || step.message.ends_with(" failed.") {
            return;
        }
        let progress = Progress {
            percentage,
            message: step.message,
        };
        self.last = Some(progress.clone());
        (self.progress)(progress);
    }
}
