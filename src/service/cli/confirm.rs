//! The question before something that cannot be undone: the device's id, typed by a person.
//!
//! It asks on standard error and reads standard input, and only where that is a terminal: what a script feeds in is no
//! person who has read the question.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use super::output;
use crate::protocol::Device;

/// What cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// A factory reset.
    Reset,
    /// The service forgets a device.
    Forget,
}

impl Deed {
    /// What it comes to.
    fn warning(self, device: &Device) -> String {
        match self {
            Deed::Reset => {
                format!("A factory reset wipes what is to be wiped on {device}, and nothing brings it back.")
            }
            Deed::Forget => {
                format!(
                    "Everything that the service knows of {device} goes, its logs, too, and nothing brings it back."
                )
            }
        }
    }

    /// That nobody can be asked.
    fn unasked(self, device: &Device) -> String {
        let (what, done) = match self {
            Deed::Reset => ("a factory reset", "reset"),
            Deed::Forget => ("this", "forgotten"),
        };
        format!(
            "{what} wants the device's id to be typed, and standard input is no terminal; \
             add --yes if {device} is to be {done} without that"
        )
    }

    /// That it is not done.
    fn undone(self, device: &Device) -> String {
        match self {
            Deed::Reset => format!("nothing is asked of {device}"),
            Deed::Forget => format!("{device} is not forgotten"),
        }
    }
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody is there to be asked: wrong usage.
    #[error("{}", .0.unasked(.1))]
    NobodyThere(Deed, Device),
    /// Something else was typed.
    #[error("{typed:?} is not {:?}: {}", device.device_id(), deed.undone(device))]
    Different { deed: Deed, device: Device, typed: String },
    /// The end of the input, before anything was typed.
    #[error("nothing was typed: {}", .0.undone(.1))]
    Nothing(Deed, Device),
    /// The terminal failed.
    #[error("what was typed cannot be read ({error}): {}", deed.undone(device))]
    Terminal {
        deed: Deed,
        device: Device,
        error: io::Error,
    },
}

impl Refused {
    /// Says it, and gives the exit code.
    pub(super) fn tell(&self) -> ExitCode {
        output::error(&self.to_string());
        match self {
            Refused::NobodyThere(..) => ExitCode::from(2),
            Refused::Different { .. } | Refused::Nothing(..) | Refused::Terminal { .. } => ExitCode::FAILURE,
        }
    }
}

/// Has the device's id typed, unless `yes`.
///
/// # Errors
/// It was not typed, or nobody is there who could.
pub(super) fn typed(deed: Deed, device: &Device, yes: bool) -> Result<(), Refused> {
    if yes {
        return Ok(());
    }
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Refused::NobodyThere(deed, device.clone()));
    }
    output::ask(&format!(
        "{}\nType the device's id ({}) to go on: ",
        deed.warning(device),
        device.device_id()
    ));
    let mut typed = String::new();
    match input.read_line(&mut typed) {
        Ok(_) => {
            if !typed.ends_with('\n') {
                // The end of the input leaves the cursor behind the question.
                output::ask("\n");
            }
            check(deed, device, &typed)
        }
        Err(error) => Err(Refused::Terminal {
            deed,
            device: device.clone(),
            error,
        }),
    }
}

fn check(deed: Deed, device: &Device, typed: &str) -> Result<(), Refused> {
    let device = device.clone();
    match typed.trim() {
        "" => Err(Refused::Nothing(deed, device)),
        id if id == device.device_id() => Ok(()),
        other => Err(Refused::Different {
            typed: other.to_owned(),
            deed,
            device,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_very_id_lets_it_go_on() {
        let device: Device = "edge/gw-1".parse().unwrap();
        for typed in ["gw-1\n", "gw-1", "  gw-1 \r\n"] {
            assert!(check(Deed::Reset, &device, typed).is_ok(), "{typed:?}");
        }
        for typed in [
            "",
            "\n",
            "y\n",
            "yes\n",
            "GW-1\n",
            "gw-2\n",
            "gw-1 gw-1\n",
            "edge/gw-1\n",
        ] {
            assert!(check(Deed::Reset, &device, typed).is_err(), "{typed:?}");
        }
        let said = check(Deed::Reset, &device, "gw-2\n").unwrap_err().to_string();
        assert_eq!(said, "\"gw-2\" is not \"gw-1\": nothing is asked of edge/gw-1");
    }
}
