//! What the host's journal says, as the brain is told (systemd.journal-fields(7), journalctl(1) `--output=json`).
//!
//! The fields are what the reader gives; nothing is decided here but whose entry it is.

/// A process has dumped core (`SD_MESSAGE_COREDUMP` in sd-messages.h); `about` is `COREDUMP_UNIT`.
pub const CORE_DUMP: &str = "fc2e22bc6ee647b6b90729ab34a250b1";
/// The kernel has killed a process of a unit for want of memory (`SD_MESSAGE_UNIT_OUT_OF_MEMORY`); `about` is `UNIT`.
pub const OUT_OF_MEMORY: &str = "fe6faa94e7774663a0da52717891d8ef";

/// The unit that PID 1 runs in: its own messages are about other units, and only it can log from there.
const INIT: &str = "init.scope";

/// The longest name of a unit is 255 bytes (systemd.unit(5)); an identifier may be anything.
const NAME: usize = 255;

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// `__CURSOR`: where it stands. The stable id by which the service recognises an entry that it was told twice.
    pub cursor: String,
    /// `_BOOT_ID`, 32 hexadecimal digits.
    pub boot_id: String,
    /// `__REALTIME_TIMESTAMP`, microseconds since 1970.
    pub realtime_us: u64,
    /// `PRIORITY`, 0 (emerg) to 7 (debug).
    pub priority: u8,
    /// `_SYSTEMD_UNIT`
    pub unit: Option<String>,
    /// `SYSLOG_IDENTIFIER`
    pub identifier: Option<String>,
    /// `_PID`
    pub pid: Option<u32>,
    /// What kind of message it is (sd-messages.h(3)), 32 hexadecimal digits.
    pub message_id: Option<String>,
    /// `MESSAGE`, as text.
    pub message: String,
    /// How many bytes of it are missing at its end.
    pub cut: u64,
    /// The unit that it says it is about: whose process dumped core or was killed, or whose start failed.
    pub about: Option<String>,
    /// It was read for the rules about error codes only: it is told in no log.
    pub watched: bool,
}

/// Why entries are missing from what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// In words.
    pub reason: String,
    /// So many are missing at most, of any priority, if that is known.
    pub at_most: Option<u64>,
}

impl Entry {
    /// Whose entry it is: the unit that it is about, its own, or what it calls itself.
    pub(super) fn name(&self) -> &str {
        let name = self.about().or(self.unit.as_deref()).or(self.identifier.as_deref());
        let name = name.unwrap_or("unknown");
        &name[..name.floor_char_boundary(NAME)]
    }

    /// The unit that it is about, where that is to be believed: systemd says so.
    pub(super) fn about(&self) -> Option<&str> {
        let of_systemd = self.unit.as_deref() == Some(INIT) || self.is_end_of_a_process();
        self.about.as_deref().filter(|_| of_systemd)
    }

    /// Whether it tells of a core dump or a kill for want of memory.
    pub(super) fn is_end_of_a_process(&self) -> bool {
        self.message_id
            .as_deref()
            .is_some_and(|id| id == CORE_DUMP || id == OUT_OF_MEMORY)
    }
}
