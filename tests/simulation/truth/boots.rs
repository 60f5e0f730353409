//! How boots end: by a reboot or a reset that was asked for, once for each request, and not too often in a row.

use crate::counts::Thing;
use crate::logind::How;
use crate::world::World;

/// A boot shorter than this is a short one, in milliseconds.
const SHORT_BOOT: u64 = 10 * 60 * 1000;

impl World {
    /// Whether the host goes down soon after it came up. A boot that was long enough is where counting begins anew.
    pub fn boot_is_short(&mut self) -> bool {
        let short = self.device.uptime(self.now) < SHORT_BOOT;
        if !short {
            self.truth.short_boots = 0;
        }
        short
    }

    /// The host is down in good order.
    pub fn host_rebooted(&mut self) {
        let short = self.boot_is_short();
        let reset = &self.device.host.reset;
        if reset.going && reset.by_agent && self.device.disk.durable.reset().is_some() && short {
            self.counts.add(Thing::ResetBoot);
            self.one_short_boot_more();
        }
        let Some(going) = &self.device.logind.going else { return };
        if !going.by_agent {
            return self.counts.add(Thing::OwnReboot);
        }
        if going.how == How::Late {
            return self.counts.add(Thing::LateReboot);
        }
        let for_update = going.for_update;
        self.counts.add(Thing::Reboot);
        assert!(
            self.truth.managed_at <= going.since,
            "a manage after logind had accepted"
        );
        assert!(self.device.disk.durable.reboot().is_some(), "given up, and it happened");
        for req_id in self.requests_of_reboot() {
            let request = self.truth.requests.get_mut(&req_id).expect("it was delivered");
            request.reboots += 1;
            assert_eq!(request.reboots, 1, "{req_id} has rebooted the host twice");
            assert!(
                request.answered.is_none_or(|rc| rc == 202),
                "{req_id} was refused, and reboots the host"
            );
        }
        // One that an update needs is no sign of a loop, whoever asks for it besides.
        if short && !for_update {
            self.one_short_boot_more();
        }
    }

    fn one_short_boot_more(&mut self) {
        self.truth.short_boots += 1;
        assert!(
            self.truth.short_boots <= 3,
            "a fourth reboot in a row within 10 minutes"
        );
    }
}
