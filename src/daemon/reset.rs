//! The factory reset on the host: what the brain asks for. Not built yet: a look says that the host cannot be reset.

use super::run::Daemon;
use crate::agent::{Event, OpId, ResetOutcome, ResetRefused};
use crate::protocol::Rc;

const NOT_BUILT: &str = "factory reset is not supported by this version of the agent";

impl Daemon {
    /// Whether the host can be reset.
    pub(super) fn survey_reset(&mut self, op: OpId) {
        let found = Err(ResetRefused {
            rc: Rc::NOT_IMPLEMENTED,
            message: NOT_BUILT.into(),
        });
        self.events.push_back(Event::ResetSurveyed { op, found });
    }

    /// What the last reset has left.
    pub(super) fn read_reset_report(&mut self, op: OpId) {
        self.events.push_back(Event::ResetReported { op, report: Ok(None) });
    }

    /// What the last reset has left is told.
    pub(super) async fn discard_reset_report(&mut self) {}

    /// What was left for the next boot is taken back.
    pub(super) async fn withdraw_reset(&mut self) {}

    /// Has systemd start the unit.
    pub(super) fn start_reset(&mut self, op: OpId) {
        let outcome = ResetOutcome::Refused(NOT_BUILT.into());
        self.events.push_back(Event::ResetEnded { op, outcome });
    }
}
