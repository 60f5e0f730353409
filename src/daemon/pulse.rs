//! systemd's watchdog, fed only when every task has shown that it makes progress.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// A task that shows its progress at least every 10 s, or every 40 s while journalctl hangs, is late after this.
const LATE: Duration = Duration::from_secs(60);

/// The tasks that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Session,
    Local,
    Shutdown,
    Journal,
}

impl Task {
    const ALL: [Task; 4] = [Task::Session, Task::Local, Task::Shutdown, Task::Journal];
}

/// When each of them last made progress. A task that does not run (no session without a configuration) is not watched.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse {
    last: Arc<Mutex<[Option<Instant>; Task::ALL.len()]>>,
}

impl Pulse {
    /// This task makes progress.
    pub(super) fn beat(&self, task: Task) {
        self.set(task, Some(Instant::now()));
    }

    /// This task has ended on purpose.
    pub(super) fn rest(&self, task: Task) {
        self.set(task, None);
    }

    fn set(&self, task: Task, at: Option<Instant>) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last[task as usize] = at;
    }

    /// The first task that has made no progress for too long.
    fn late(&self, now: Instant) -> Option<Task> {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Task::ALL
            .into_iter()
            .find(|task| last[*task as usize].is_some_and(|at| now.duration_since(at) > LATE))
    }

    /// Feeds the watchdog, unless a task is late; then systemd will restart the agent.
    pub(super) fn feed(&self) {
        match self.late(Instant::now()) {
            None => notify(&[NotifyState::Watchdog]),
            Some(task) => {
                tracing::error!("the {task:?} task has stopped making progress; leaving it to systemd's watchdog")
            }
        }
    }
}

/// Tells systemd; where there is none, nobody.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_task_is_enough_and_one_that_rests_is_not_late() {
        let pulse = Pulse::default();
        for task in Task::ALL {
            pulse.beat(task);
        }
        let now = Instant::now();
        assert_eq!(pulse.late(now), None);
        let later = now + LATE + Duration::from_secs(1);
        assert_eq!(pulse.late(later), Some(Task::Session));
        pulse.rest(Task::Session);
        assert_eq!(pulse.late(later), Some(Task::Local));
        pulse.rest(Task::Local);
        pulse.rest(Task::Shutdown);
        pulse.rest(Task::Journal);
        assert_eq!(pulse.late(later), None);
    }
}
