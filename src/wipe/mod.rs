//! The factory reset of the host: what is wiped, what stays, and what came of it.
//!
//! The plan ([`Plan`]) is what the integrator wrote; [`request`] leaves the wish for it, [`carry_out`] fulfils it early in
//! the next boot and leaves a [`report`]. Everything that could be deleted is reached through folder descriptors, below a
//! file system that the plan declares and that is neither the root's nor a slot's; what must survive is known by device
//! and inode, so that no bind mount and no link hides it. When in doubt, nothing is wiped and the report says why.
//! It knows nothing of the agent, the protocol and the configuration: the paths that must survive are given to it.
//! Facts: `openat2(2)`, `unlink(2)`, `syncfs(2)`; RAUC's `system.conf`; systemd.special(7) (`factory-reset.target`).

mod devices;
mod fstab;
mod ground;
mod mkfs;
mod mounts;
mod names;
mod plan;
mod preview;
pub mod report;
mod run;
mod slots;
mod state_folder;
mod tree;
mod wish;

pub use devices::number_by_name as device_number;
pub use plan::Plan;
pub use preview::{Going, Kind, Preview, Staying};
pub use report::Report;
pub use run::{Outcome, WipeError, carry_out, format, is_asked, request, withdraw};

/// Where the plan is; the program looks for it beside the configuration.
pub const PLAN_FOLDER: &str = "/etc/iotdm-agent/factory-reset.d";
/// The unit that hangs on `factory-reset.target` and leaves the wish.
pub const REQUEST_UNIT: &str = "iotdm-agent-factory-reset.service";
/// The unit that reboots the host when the wish is there.
pub const REBOOT_UNIT: &str = "iotdm-agent-factory-reset-reboot.service";
/// The unit that wipes, early in the next boot.
pub const WIPE_UNIT: &str = "iotdm-agent-wipe.service";
/// The unit that makes devices anew, before they are mounted.
pub const FORMAT_UNIT: &str = "iotdm-agent-format.service";
/// All of them.
pub const UNITS: [&str; 4] = [REQUEST_UNIT, REBOOT_UNIT, FORMAT_UNIT, WIPE_UNIT];
/// The file in the state folder that is there from the request to the end of the wipe.
pub const WISH: &str = "factory-reset";
