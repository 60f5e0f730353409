//! An update ends in exactly one outcome, and it is the truth about the host.

use iotdm::agent::durable::Wish;
use iotdm::agent::effect::Mark;
use iotdm::agent::firmware::outcome::{Outcome, Slots, decide};
use iotdm::agent::firmware::record::{Phase, Update};
use iotdm::agent::{Durable, Survey, Verdict};

use crate::counts::Thing;
use crate::host::{Content, RESCUE, SLOTS};
use crate::world::{World, note};

/// The reason of a slot that the boot loader was not told of.
const NOT_TOLD: &str = "RAUC was interrupted before the boot loader was told";
/// The reason of one that it was told of.
const FELL_BACK: &str = "did not start: the boot loader fell back";

/// How something ended that the service had asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Success,
    Failure,
}

/// The record of it.
#[derive(Debug, Default)]
pub struct Firmware {
    /// The request that the download on the disk is of.
    download: Option<String>,
    /// When something began on the device that is not in the service's books.
    pub meddled: Option<u64>,
    /// The address of the image that proved itself last.
    pub runs: Option<String>,
    /// How requests ended, by their ids; an update that is called off by a crash of nobody's making is not in here.
    ends: std::collections::BTreeMap<String, End>,
}

fn state(durable: &Durable) -> (u8, u8) {
    (durable.firmware.state, durable.firmware.update_status)
}

/// The request that this update answers; its transaction is made of the request's id.
fn request_of(durable: &Durable, update: &Update) -> Option<String> {
    let mut handled = durable.handled.iter();
    let found = handled.find(|handled| handled.key.hash.starts_with(&update.transaction));
    found.map(|handled| handled.req_id.clone())
}

impl World {
    /// The disk has taken a new memory in the place of an old one. `described`: by a description of the service.
    pub fn firmware_committed(&mut self, before: &Durable, after: &Durable, described: bool) {
        match (before.update(), after.update()) {
            (None, Some(update)) => self.update_began(after, update),
            (Some(_), Some(update)) => assert_eq!(
                before.update().map(|before| &before.transaction),
                Some(&update.transaction),
                "one update follows another"
            ),
            (Some(update), None) => self.update_ended(update, after, described),
            (None, None) => self.download_went_on(before, after, described),
        }
        assert!(
            after.observed.len() <= 8,
            "more is observed than there is: {:?}",
            after.observed
        );
        assert!(after.handled.len() <= 128, "more requests are remembered than can be");
        if after.firmware.state == 2 {
            let uri = after.firmware.uri.clone();
            assert!(
                uri.is_some() && self.device.host.file == uri,
                "the image is said to be there, and is not"
            );
        }
    }

    fn update_began(&mut self, after: &Durable, update: &Update) {
        self.counts.add(Thing::UpdateBegan);
        let request = request_of(after, update);
        self.somebody_meddles(request.as_deref());
        assert_eq!(state(after), (2, 1), "an update is in progress");
        let host = &self.device.host;
        assert_eq!(update.phase, Phase::Installing);
        assert_eq!(update.from_slot, SLOTS[host.booted]);
    }

    fn update_ended(&mut self, update: &Update, after: &Durable, described: bool) {
        if described {
            // On a full disk its end stayed in memory until this description came.
            return;
        }
        let host = &self.device.host;
        let to = host.slot(&update.to_slot);
        let request = request_of(after, update);
        note!(self, "the update ends: {:?}", state(after));
        let end = match state(after) {
            (0, 0) => End::Success,
            (0 | 2, 2..) => End::Failure,
            other => panic!("an update ends as {other:?}"),
        };
        let running = host.rauc.installing.as_ref();
        assert!(
            running.is_none_or(|installation| installation.transaction != update.transaction),
            "the update is over, and RAUC writes its slot"
        );
        match end {
            End::Success => {
                self.counts.add(Thing::UpdateSucceeded);
                assert_eq!(host.booted, to, "success, and the old slot runs");
                assert_eq!(update.failure, None, "success, and RAUC has failed");
                assert_ne!(
                    update.boot_id,
                    format!("boot-{}", self.device.boot),
                    "success without a reboot"
                );
                let slot = &host.rauc.slots[to];
                assert_eq!(
                    slot.transaction.as_ref(),
                    Some(&update.transaction),
                    "the slot has another image"
                );
                assert!(host.boot_loader.is_good(to), "success, and the slot is not marked good");
                self.truth.firmware.runs = after.firmware.uri.clone();
            }
            End::Failure => {
                self.counts.add(Thing::UpdateFailed);
                let stays = update.phase == Phase::RollingBack && host.booted == to;
                if stays {
                    self.counts.add(Thing::DoesNotLeave);
                }
                let new = host.rauc.slots[to].transaction.as_ref() == Some(&update.transaction);
                assert!(stays || host.booted != to || !new, "failure, and the new slot runs");
                let here = update.boot_id == format!("boot-{}", self.device.boot);
                assert!(
                    !here || !new || host.boot_loader.next() != to,
                    "failure before its boot, and the new slot boots next"
                );
            }
        }
        if let Some(request) = request {
            let before = self.truth.firmware.ends.insert(request, end);
            assert_eq!(before, None, "an update has two ends");
        }
    }

    fn download_went_on(&mut self, before: &Durable, after: &Durable, described: bool) {
        let (was, is) = (state(before), state(after));
        if described {
            // Whoever asked for the one before does not get to know of it in this way.
            self.truth.firmware.download = None;
            if is.0 == 1 {
                self.somebody_meddles(None);
            }
            return;
        }
        // The request that was answered 202 together with this; one without an id is remembered nowhere.
        let known = |key| before.handled.iter().any(|handled| handled.key == key);
        let mut new = after
            .handled
            .iter()
            .filter(|handled| handled.key.op == "firmware_download" && !known(handled.key.clone()));
        let accepted = new.find(|handled| handled.answer.as_ref().is_some_and(|answer| answer.rc.0 == 202));
        let request = accepted.map(|handled| handled.req_id.clone());
        // On a full disk the end of the one before stayed in memory until this one came.
        if was == is && request.is_none() {
            return;
        }
        match (was, is) {
            ((0, _) | (1, 0), (1, 0)) => {
                self.somebody_meddles(request.as_deref());
                self.truth.firmware.download = request;
            }
            ((1, 0), (2, 0) | (0, 2..=6)) => {
                let end = if is.0 == 2 { End::Success } else { End::Failure };
                if let Some(request) = self.truth.firmware.download.take() {
                    self.truth.firmware.ends.insert(request, end);
                }
            }
            _ => panic!("the firmware goes from {was:?} to {is:?} without a request"),
        }
    }

    /// A request without an id, or from elsewhere, or somebody on the device: what is notified of it the service takes
    /// for the end of its own.
    fn somebody_meddles(&mut self, req_id: Option<&str>) {
        if req_id.is_none_or(|req_id| req_id.starts_with("raw-")) {
            self.truth.firmware.meddled = Some(self.now);
        }
    }

    /// How the request with this id ended on the device.
    pub fn end_of(&self, req_id: &str) -> Option<End> {
        self.truth.firmware.ends.get(req_id).copied()
    }

    /// RAUC is to be asked: that is on the disk, and the outer fall-back knows.
    pub fn check_install(&mut self, uri: &str, transaction: &str) {
        let update = self.device.disk.durable.update().expect("an update is on the disk");
        assert_eq!(
            (update.phase, update.transaction.as_str()),
            (Phase::Installing, transaction)
        );
        let marker = self.device.host.marker.as_ref();
        assert_eq!(
            marker.map(|marker| &marker.slot),
            Some(&update.to_slot),
            "a slot is written that the fall-back outside the agent knows nothing of"
        );
        self.check_file(uri);
    }

    /// The image is there.
    pub fn check_file(&self, uri: &str) {
        assert_eq!(self.device.host.file.as_deref(), Some(uri), "the image is gone");
    }

    /// The agent goes on to mark slots.
    pub fn check_marks(&mut self, marks: &[(Mark, String)]) {
        let update = self.device.disk.durable.update();
        let Some(update) = update.filter(|update| update.phase == Phase::Trial) else {
            return;
        };
        let confirms = !marks.iter().any(|(mark, _)| *mark == Mark::Bad);
        if !confirms || self.agent_is_unsaved() || self.truth.confirmed_in == Some(self.device.boot) {
            return;
        }
        assert_eq!(SLOTS[self.device.host.booted], update.to_slot);
        let (verdict, since) = self.truth.told_health.as_ref().expect("the health is known");
        assert!(
            *verdict == Verdict::Good && *since + 10_000 <= self.now,
            "marked good, and not healthy for long: {verdict:?}"
        );
        let firmware = self.device.firmware();
        assert!(
            !firmware.require_service
                || !update.service_reached
                || update.service_answered
                || self.device.disk.durable.wish == Wish::Unmanaged,
            "marked good, and the service is not reached"
        );
    }

    /// The agent hears how healthy the boot is.
    pub fn health_was_told(&mut self, verdict: &Verdict) {
        match &self.truth.told_health {
            Some((known, _)) if known == verdict => {}
            _ => self.truth.told_health = Some((verdict.clone(), self.now)),
        }
    }

    /// The agent says something on the device. Of an update that failed it says the same to the service.
    pub fn check_said(&self, text: &str) {
        let rauc = &self.device.host.rauc;
        let next = text.contains("is written and boots next");
        if rauc.names_next && (next || text.contains(FELL_BACK)) {
            assert!(rauc.activated, "the boot loader was never told: {text}");
        }
        if text.contains("was written, but") {
            assert!(rauc.whole, "the slot is torn: {text}");
        }
        if text.contains(NOT_TOLD) {
            assert!(!rauc.activated, "the boot loader was told: {text}");
        }
    }

    /// Which row of the outcome table this is.
    pub fn count_outcome(&mut self, survey: &Survey) {
        let boot_id = format!("boot-{}", self.device.boot);
        let Some(update) = self.device.disk.durable.update() else {
            return;
        };
        let outcome = decide(update, &boot_id, survey);
        let here = update.boot_id == boot_id;
        let in_new = survey.booted.as_ref() == Some(&update.to_slot);
        let note = survey.fallback.is_some();
        let given_up = update.phase == Phase::Installing && update.failure.is_some();
        let thing = match (update.phase, outcome) {
            _ if self.device.host.booted == RESCUE => Thing::RowRescue,
            (Phase::Installing, Outcome::StillInstalling) => Thing::RowStillInstalling,
            (Phase::Installing, Outcome::Leave) => Thing::RowFailedAndBooted,
            (
                _,
                Outcome::Failed {
                    slots: Slots::TakeBack, ..
                },
            ) if given_up => Thing::RowRaucFailedLate,
            (_, Outcome::Failed { .. }) if given_up && here => Thing::RowRaucFailed,
            (_, Outcome::Failed { .. }) if given_up => Thing::RowFailedAndRebooted,
            (Phase::Installing, Outcome::Failed { reason, .. }) if here && reason.contains(NOT_TOLD) => {
                Thing::RowNotActivated
            }
            (Phase::Installing, Outcome::NotRebooted) => Thing::RowWritten,
            (Phase::Installed, Outcome::NotRebooted) => Thing::RowNotRebooted,
            (Phase::Installing, Outcome::Trial) => Thing::RowTrialUnrecorded,
            (Phase::Installed, Outcome::Trial) => Thing::RowTrialBegins,
            (Phase::Trial, Outcome::Trial) if update.trial_boot.as_ref() == Some(&boot_id) => Thing::RowTrialGoesOn,
            (Phase::Trial, Outcome::Trial) => Thing::RowTrialAgain,
            (Phase::Trial, Outcome::Leave) => Thing::RowTrialGivenUp,
            (Phase::RollingBack, Outcome::Leave) => Thing::RowLeave,
            (_, Outcome::Failed { .. }) if here && in_new => Thing::RowConfused,
            (Phase::RollingBack, Outcome::Failed { .. }) if here => Thing::RowCallOff,
            (Phase::Installing, Outcome::Failed { again: true, .. }) if in_new => Thing::RowNotWritten,
            (Phase::Installing, Outcome::Failed { again: true, .. }) if here => Thing::RowInterrupted,
            (Phase::Installing, Outcome::Failed { again: true, .. }) => Thing::RowInterruptedByBoot,
            (Phase::Installing, Outcome::Failed { .. }) if note => Thing::RowUnrecordedOuter,
            (Phase::Installing, Outcome::Failed { .. }) => Thing::RowWrittenNotBooted,
            (Phase::Installed, Outcome::Failed { .. }) if note => Thing::RowNotStartedOuter,
            (Phase::Installed, Outcome::Failed { .. }) => Thing::RowNotStarted,
            (Phase::Trial, Outcome::Failed { .. }) if note => Thing::RowTrialOuter,
            (Phase::Trial, Outcome::Failed { .. }) => Thing::RowTrialCutShort,
            (Phase::RollingBack, Outcome::Failed { .. }) if in_new => Thing::RowDoesNotLeave,
            (Phase::RollingBack, Outcome::Failed { .. }) => Thing::RowRolledBack,
            (phase, outcome) => panic!("{phase:?} cannot end in {outcome:?}"),
        };
        self.counts.add(thing);
    }

    /// Long after the last fault: what runs goes on running.
    pub fn check_firmware_settled(&self) {
        let host = &self.device.host;
        let durable = &self.device.disk.durable;
        assert_ne!(durable.firmware.state, 1, "still downloading in the end");
        assert!(host.rauc.installing.is_none(), "still installing in the end");
        assert!(host.marker.is_none(), "the marker of a trial is left in the end");
        for observed in &durable.observed {
            assert_eq!(observed.changes, 0, "the service was not told: {observed:?}");
        }
        if self.plan.firmware {
            assert_ne!(host.booted, RESCUE);
        }
        // An image that was marked good from outside may be none.
        if self.plan.firmware && host.image().content != Content::UnitFails {
            assert!(
                host.boot_loader.is_good(host.booted) && host.boot_loader.next() == host.booted,
                "what runs does not go on running: {host:?}"
            );
        }
    }
}
