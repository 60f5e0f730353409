//! Why there is no fix, in words for the technician.

/// The longest text of gpsd's that is repeated.
const LONGEST: usize = 200;

/// Why there is no fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection comes about.
    #[error("gpsd cannot be reached at {address}: {reason}; see whether gpsd.socket is running")]
    Unreachable {
        /// Host and port.
        address: String,
        /// In the system's words.
        reason: String,
    },
    /// A connection comes about, and behind it is something else.
    #[error("what listens at {address} is no gpsd: {reason}")]
    NotGpsd {
        /// Host and port.
        address: String,
        /// What it did.
        reason: String,
    },
    /// The connection is gone.
    #[error("the connection to gpsd at {address} broke: {reason}")]
    Lost {
        /// Host and port.
        address: String,
        /// In the system's words.
        reason: String,
    },
    /// gpsd has nothing to read from.
    #[error(
        "gpsd knows no receiver: is one plugged in? One that is not found by itself is named in DEVICES of /etc/default/gpsd"
    )]
    NoReceiver,
    /// The receiver sends nothing that gpsd understands.
    #[error("the receiver says nothing ({receivers}): look at its cable and its speed")]
    Silent {
        /// Their paths.
        receivers: String,
    },
    /// The receiver works and does not know where it is.
    #[error("the receiver has no fix: does its antenna see the sky?")]
    NoFix,
    /// The receiver claims to have a fix.
    #[error("the receiver says that it has a fix, but gives no position that can be one")]
    Unusable,
    /// gpsd said why.
    #[error("gpsd says: {text}")]
    Refused {
        /// In gpsd's words.
        text: String,
    },
}

impl Trouble {
    pub(super) fn silent(receivers: &[String]) -> Self {
        let receivers = match receivers {
            [] => "gpsd names none".to_owned(),
            paths => plain(&paths.join(", ")),
        };
        Trouble::Silent { receivers }
    }

    pub(super) fn refused(text: &str) -> Self {
        Trouble::Refused { text: plain(text) }
    }

    /// Whether it is told already when the other one is.
    pub(super) fn is_like(&self, other: &Trouble) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether somebody has to do something about it; the others go away by themselves.
    pub(super) fn needs_somebody(&self) -> bool {
        !matches!(self, Trouble::NoFix)
    }
}

/// What others say, fit for a line in the log.
fn plain(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = clean.take(LONGEST).collect();
    short.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gpsd_says_is_repeated_in_one_short_line() {
        let text = Trouble::refused(&format!("Can't\r\nopen {}", "x".repeat(9000))).to_string();
        assert!(text.starts_with("gpsd says: Can't  open xxx"), "{text}");
        assert!(text.len() < 250 && !text.contains('\n'), "{text}");
        assert_eq!(
            Trouble::silent(&["/dev/gps0".to_owned(), "/dev/gps1".to_owned()]).to_string(),
            "the receiver says nothing (/dev/gps0, /dev/gps1): look at its cable and its speed"
        );
    }
}
