//! How far each device is: bars on a terminal, lines elsewhere, nothing but the end for JSON.

use std::cell::RefCell;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::output::{self, Output, plain};
use crate::protocol::{Device, timestamp};
use crate::service::outside;

/// How far a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its turn has not come.
    Waiting,
    /// The service has the request.
    Requested,
    /// In percent, where this process serves the file.
    Downloading(Option<u64>),
    Downloaded,
    /// The update is requested.
    UpdateRequested,
    Installing,
    /// It is back with this version.
    OnTrial(String),
    /// With what it runs, when it has said so.
    Done(Option<String>),
    Failed(String),
}

impl Phase {
    pub(super) fn in_words(&self) -> String {
        match self {
            Phase::Waiting => "waiting for its turn".into(),
            Phase::Requested => "requested".into(),
            Phase::Downloading(None) => "downloading".into(),
            Phase::Downloading(Some(percent)) => format!("downloading {percent} %"),
            Phase::Downloaded => "downloaded".into(),
            Phase::UpdateRequested => "downloaded, the update is requested".into(),
            Phase::Installing => "installing".into(),
            Phase::OnTrial(version) => format!("on trial, it runs {version}"),
            Phase::Done(Some(version)) => format!("done, it runs {version}"),
            Phase::Done(None) => "done".into(),
            Phase::Failed(reason) => format!("failed: {reason}"),
        }
    }

    /// Where the bar stands, of 100; the download is what takes time that can be measured.
    fn percent(&self) -> u64 {
        match self {
            Phase::Waiting | Phase::Requested | Phase::Downloading(None) | Phase::Failed(_) => 0,
            Phase::Downloading(Some(percent)) => *percent,
            _ => 100,
        }
    }

    /// True when a line that said the other one is not up to date any more. Every tenth of a download is enough.
    fn differs(&self, other: &Phase) -> bool {
        match (self, other) {
            (Phase::Downloading(Some(a)), Phase::Downloading(Some(b))) => a / 10 != b / 10,
            (a, b) => a != b,
        }
    }
}

/// What is shown of all devices.
pub(super) struct Progress<'a> {
    output: RefCell<&'a mut Output>,
    devices: &'a [Device],
    states: RefCell<Vec<State>>,
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
}

/// What is known of one device.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The last request that was made for it.
    pub(super) request: Option<String>,
    told: Phase,
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: &'a mut Output, devices: &'a [Device]) -> Self {
        let state = State {
            phase: Phase::Waiting,
            request: None,
            told: Phase::Waiting,
        };
        let bars = (!output.is_json() && std::io::stdout().is_terminal()).then(|| bars(devices));
        Progress {
            output: RefCell::new(output),
            devices,
            states: RefCell::new(vec![state; devices.len()]),
            bars,
        }
    }

    /// The device at this place is so far. Whether that can be printed does not matter to the device.
    pub(super) fn set(&self, index: usize, phase: Phase) {
        let mut states = self.states.borrow_mut();
        let (Some(state), Some(device)) = (states.get_mut(index), self.devices.get(index)) else {
            return;
        };
        state.phase = phase;
        let text = plain(&state.phase.in_words());
        if let Some((_, bars)) = &self.bars {
            if let Some(bar) = bars.get(index) {
                bar.set_position(state.phase.percent());
                bar.set_message(text);
            }
            return;
        }
        if state.phase.differs(&state.told) {
            state.told = state.phase.clone();
            let mut output = self.output.borrow_mut();
            if !output.is_json() {
                let at = timestamp::format_ms(outside::now().unix_ms).unwrap_or_default();
                let _ = output.line(&format!("{at:<24}  {device}  {text}"));
            }
        }
    }

    /// A request was made for it.
    pub(super) fn requested(&self, index: usize, id: &str) {
        if let Some(state) = self.states.borrow_mut().get_mut(index) {
            state.request = Some(id.to_owned());
        }
    }

    pub(super) fn state(&self, index: usize) -> Option<State> {
        self.states.borrow().get(index).cloned()
    }

    /// Something that is about no device, on standard error.
    pub(super) fn note(&self, text: &str) {
        match &self.bars {
            Some((all, _)) => all.suspend(|| output::error(text)),
            None => output::error(text),
        }
    }

    /// Nothing moves any more; what is printed next comes below.
    pub(super) fn stop(&self) {
        for bar in self.bars.iter().flat_map(|(_, bars)| bars) {
            bar.abandon();
        }
    }
}

fn bars(devices: &[Device]) -> (MultiProgress, Vec<ProgressBar>) {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    let style = ProgressStyle::with_template("{prefix}  [{bar:20}]  {wide_msg}")
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "));
    let width = devices.iter().map(|device| device.to_string().len()).max().unwrap_or(0);
    let bars = devices.iter().map(|device| {
        let bar = all.add(ProgressBar::new(100).with_style(style.clone()));
        bar.set_prefix(format!("{:<width$}", device.to_string()));
        bar.set_message(Phase::Waiting.in_words());
        bar
    });
    let bars = bars.collect();
    (all, bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_told_in_tenths_and_everything_else_when_it_changes() {
        let at = |percent| Phase::Downloading(Some(percent));
        assert!(!at(11).differs(&at(19)) && at(20).differs(&at(19)));
        assert!(Phase::Installing.differs(&Phase::Downloaded));
        assert!(!Phase::Installing.differs(&Phase::Installing));
        assert!(Phase::OnTrial("2".into()).differs(&Phase::OnTrial("1".into())));
    }
}
