//! The question before something that cannot be undone: the device's id, typed by a person.
//!
//! It asks on standard error and reads standard input, and only where that is a terminal: what a script feeds in is no
//! person who has read the question.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use super::output;
use crate::protocol::Device;

/// Why nothing is asked of the device.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody is there to be asked: wrong usage.
    #[error(
        "a factory reset wants the device's id to be typed, and standard input is no terminal; \
         add --yes if {0} is to be reset without that"
    )]
    NobodyThere(Device),
    /// Something else was typed.
    #[error("{typed:?} is not {:?}: nothing is asked of {device}", device.device_id())]
    Different { device: Device, typed: String },
    /// The end of the input, before anything was typed.
    #[error("nothing was typed: nothing is asked of {0}")]
    Nothing(Device),
    /// The terminal failed.
    #[error("what was typed cannot be read ({error}): nothing is asked of {device}")]
    Terminal { device: Device, error: io::Error },
}

impl Refused {
    /// Says it, and gives the exit code.
    pub(super) fn tell(&self) -> ExitCode {
        output::error(&self.to_string());
        match self {
            Refused::NobodyThere(_) => ExitCode::from(2),
            Refused::Different { .. } | Refused::Nothing(_) | Refused::Terminal { .. } => ExitCode::FAILURE,
        }
    }
}

/// Has the device's id typed, unless `yes`.
///
/// # Errors
/// It was not typed, or nobody is there who could.
pub(super) fn reset(device: &Device, yes: bool) -> Result<(), Refused> {
    if yes {
        return Ok(());
    }
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Refused::NobodyThere(device.clone()));
    }
    output::ask(&format!(
        "A factory reset wipes what is to be wiped on {device}, and nothing brings it back.\n\
         Type the device's id ({}) to go on: ",
        device.device_id()
    ));
    let mut typed = String::new();
    match input.read_line(&mut typed) {
        Ok(_) => {
            if !typed.ends_with('\n') {
                // The end of the input leaves the cursor behind the question.
                output::ask("\n");
            }
            check(device, &typed)
        }
        Err(error) => Err(Refused::Terminal {
            device: device.clone(),
            error,
        }),
    }
}

fn check(device: &Device, typed: &str) -> Result<(), Refused> {
    let device = device.clone();
    match typed.trim() {
        "" => Err(Refused::Nothing(device)),
        id if id == device.device_id() => Ok(()),
        other => Err(Refused::Different {
            typed: other.to_owned(),
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
            assert!(check(&device, typed).is_ok(), "{typed:?}");
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
            assert!(check(&device, typed).is_err(), "{typed:?}");
        }
        let said = check(&device, "gw-2\n").unwrap_err().to_string();
        assert_eq!(said, "\"gw-2\" is not \"gw-1\": nothing is asked of edge/gw-1");
    }
}
