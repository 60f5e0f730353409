//! What `[firmware]` and `[firmware.trial]` mean.
//!
//! Whether the units of a trial exist, and whether RAUC does, is the host's to say: `iotdm-agent check` asks it.

use std::time::Duration;

use super::Check;
use crate::config::fragment::{Located, Value};
use crate::config::settings::{Firmware, FirmwareReboot, Trial};
use crate::config::units;

/// More than any slot of today's gateways holds.
const MAX_SIZE_DEFAULT: u64 = 2 << 30;
/// A trial must outlive the boot that it judges, and end before somebody drives out.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_secs(120)..=Duration::from_secs(24 * 3600);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// No list of hosts or units of one gateway is longer.
const LIST: usize = 64;

impl Check<'_> {
    pub(super) fn firmware(&mut self) -> Firmware {
        let reboot = self.text("firmware.reboot", |text| match text {
            "now" => Ok(FirmwareReboot::Now),
            "window" => Ok(FirmwareReboot::Window),
            "manual" => Ok(FirmwareReboot::Manual),
            _ => Err("must be \"now\", \"window\" or \"manual\"".to_owned()),
        });
        if reboot == Some(FirmwareReboot::Window) && !self.inputs.contains_key("firmware.window") {
            self.wrong(
                "firmware.reboot",
                "needs firmware.window as well",
                "add a line such as window = \"02:00-04:00\"",
            );
        }
        Firmware {
            enabled: self.truth("firmware.enabled").unwrap_or(true),
            mark_good: self.truth("firmware.mark_good").unwrap_or(true),
            max_size: self.text("firmware.max_size", units::size).unwrap_or(MAX_SIZE_DEFAULT),
            allow_hosts: self.list("firmware.allow_hosts", units::host),
            allow_http: self.truth("firmware.allow_http").unwrap_or(false),
            ca_file: self.file("firmware.ca_file", false),
            certificate: self.certificate(["firmware.cert_file", "firmware.key_file"]),
            proxy: self.text("firmware.proxy", units::proxy),
            max_rate: self.text("firmware.max_rate", units::size),
            reboot: reboot.unwrap_or(FirmwareReboot::Now),
            window: self.text("firmware.window", units::window),
            trial: self.trial(),
        }
    }

    fn trial(&mut self) -> Trial {
        let timeout = self.text("firmware.trial.timeout", |text| {
            let timeout = units::duration(text)?;
            match TIMEOUT.contains(&timeout) {
                true => Ok(timeout),
                false => Err(format!("{} is out of range: 2m to 24h", units::show(timeout))),
            }
        });
        Trial {
            timeout: timeout.unwrap_or(TIMEOUT_DEFAULT),
            units: self.list("firmware.trial.units", units::unit_name),
            require_service: self.truth("firmware.trial.require_service").unwrap_or(true),
        }
    }

    /// The strings of a list as `read` understands each; what it says otherwise is told where that string stands.
    pub(super) fn list(&mut self, key: &str, read: impl Fn(&str) -> Result<String, String>) -> Vec<String> {
        let Some(Located {
            value: Value::List(items),
            place,
        }) = self.inputs.get(key)
        else {
            return Vec::new();
        };
        if items.len() > LIST {
            let told = format!("has {} entries: at most {LIST} are allowed", items.len());
            self.problems.push(place.problem(key, told, None));
        }
        let mut list = Vec::new();
        for (text, place) in items {
            match read(text) {
                Ok(item) => list.push(item),
                Err(told) => self.problems.push(place.problem(key, told, None)),
            }
        }
        list
    }
}
