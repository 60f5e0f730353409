//! The device: what is on its disk, what runs on it, and its settings.

use std::time::Duration;

use iotdm::agent::firmware::{self, WhenToReboot};
use iotdm::agent::{Event, Now, Settings};
use iotdm::protocol::Address;
use iotdm::protocol::model::DeviceInfo;

use crate::agent::Process;
use crate::disk::Disk;
use crate::faults::Plan;
use crate::host::Host;
use crate::logind::Logind;
use crate::model::{Whereabouts, first_settings};
use crate::random::Random;
use crate::world::{Happening, World};

pub const DEVICE: &str = "edge/gw-1";
/// Unix time at which the runs begin, in seconds.
pub const START: u64 = 1_714_557_600;

/// The host and what runs on it.
pub struct Device {
    pub up: bool,
    /// Counts boots; the boot id is made of it.
    pub boot: u32,
    /// When this boot's kernel started; the first one's was before the run began.
    boot_at: i64,
    /// Whether the wall clock is set.
    clock: bool,
    /// systemd is taking the host down: nothing is restarted.
    pub stopping: bool,
    pub disk: Disk,
    pub logind: Logind,
    pub host: Host,
    /// The time of day at which an update may reboot.
    pub window: bool,
    pub process: Option<Process>,
    pub journal: crate::journal::Journal,
    pub settings: Settings,
    /// Where it really is.
    pub whereabouts: Whereabouts,
}

impl Device {
    pub fn new(random: &mut Random, plan: &Plan) -> Self {
        let uptime = random.pick(&[20, 120, 500, 1200, 100_000]) * 1000;
        let mut device = Device {
            up: true,
            boot: 1,
            boot_at: -uptime,
            clock: true,
            stopping: false,
            disk: Disk::new(),
            logind: Logind::default(),
            host: Host::new(random),
            window: false,
            process: None,
            journal: crate::journal::Journal::default(),
            settings: Settings {
                identity: format!("g:acme:{}", DEVICE.replace('/', ":")),
                service: "mqtts://service.example.com:8883".to_owned(),
                address: Address::Device(DEVICE.parse().expect("a name")),
                lifetime: random.pick(&[0, 3600, 7200, 86_400]),
                metadata: None,
                device_info: DeviceInfo::default(),
                configured_info: DeviceInfo::default(),
                location: None,
                tracking: None,
                diagnostics: crate::journal::settings(random, plan),
                reboot_enabled: true,
                reset_enabled: true,
                firmware: firmware_settings(random, plan),
                boot_id: "boot-1".into(),
            },
            whereabouts: Whereabouts::default(),
        };
        first_settings(&mut device.settings, random, plan);
        device
    }

    /// Milliseconds since this boot's kernel started.
    pub fn uptime(&self, now: u64) -> u64 {
        now.saturating_add_signed(-self.boot_at)
    }

    pub fn now(&self, now: u64) -> Now {
        Now {
            boottime: Duration::from_millis(self.uptime(now)),
            wall: self
                .clock
                .then(|| i64::try_from(START + now / 1000).expect("not that long")),
        }
    }

    /// Whether this boot runs.
    pub fn is_up_in(&self, boot: u32) -> bool {
        self.up && self.boot == boot
    }

    /// Whether the agent marks ordinary boots good.
    pub fn marks_good(&self) -> bool {
        self.settings.firmware.mark_good
    }

    pub fn firmware(&self) -> &firmware::Settings {
        &self.settings.firmware
    }

    /// The next boot begins.
    pub fn boots(&mut self, now: u64, clock: bool) {
        self.up = true;
        self.stopping = false;
        self.boot += 1;
        self.boot_at = i64::try_from(now).expect("not that long");
        self.clock = clock;
        self.logind = Logind::default();
        self.settings.boot_id = format!("boot-{}", self.boot);
    }
}

fn firmware_settings(random: &mut Random, plan: &Plan) -> firmware::Settings {
    if !plan.firmware {
        return firmware::Settings::default();
    }
    firmware::Settings {
        supported: Ok(()),
        mark_good: !(plan.stubborn || random.one_in(8)),
        allow_http: false,
        reboot: random.pick(&[
            WhenToReboot::Now,
            WhenToReboot::Now,
            WhenToReboot::Now,
            WhenToReboot::Window,
            WhenToReboot::Manual,
        ]),
        trial: Duration::from_secs(random.pick(&[150, 600, 1800])),
        units: vec!["app.service".to_owned()],
        require_service: random.one_in(2),
    }
}

impl World {
    /// The time of day at which an update may reboot begins or ends.
    pub fn window_turns(&mut self) {
        self.device.window = !self.device.window;
        let window = self.device.window;
        self.agent_handles(Event::Window(window), None);
        self.agent_handles(Event::InhibitorsChanged, None);
        self.at(self.now + 10 * 60_000, Happening::WindowTurns);
    }
}
