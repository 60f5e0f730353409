//! Firmware as an operator brings it to the device: described, downloaded, updated, called off, overridden, in an order
//! that is not always the right one. When everything works again, one good image has to arrive.

use iotdm::agent::Event;
use iotdm::service::brain::{Action, Event as Asked, NewRequest, RequestRow, Status, StatusRow};
use serde_json::{Value, json};

use crate::counts::Thing;
use crate::device::DEVICE;
use crate::host::{Image, address};
use crate::world::{Happening, World, note};

/// How often the last image is tried, in milliseconds.
const PUSH_EVERY: u64 = 2 * 60_000;
/// After this it must have arrived, in milliseconds after the last fault.
const PUSH_LIMIT: u64 = 85 * 60_000;
/// The pause between the plain reboots at the end.
const PLAIN_PAUSE: u64 = 4 * 60_000;

impl World {
    /// Plans what the operator does with firmware while things go wrong.
    pub fn plan_campaign(&mut self, start: u64, length: u64) {
        if !self.plan.firmware {
            return;
        }
        let mut at = start + self.random.skewed(100, 60_000);
        while at < start + length {
            self.at(at, Happening::OperatorPushes);
            at += self.random.skewed(5000, 400_000);
        }
    }

    /// When everything works.
    pub fn plan_last_push(&mut self) {
        if !self.plan.firmware {
            return;
        }
        if self.plan.last_push {
            self.at(self.now + 50 * 60_000, Happening::LastPush { image: None });
        } else if self.plan.plain_reboots {
            self.at(self.now + 75 * 60_000, Happening::PlainReboot { slot: None, times: 4 });
        }
    }

    /// Somebody at the device, with a stick in the hand or without.
    fn somebody_commands(&mut self) {
        self.counts.add(Thing::LocalCommand);
        match self.random.below(4) {
            0 => {
                self.truth.confirmed_in = Some(self.device.boot);
                self.agent_is_commanded(Event::ConfirmTrial);
            }
            1 => self.agent_is_commanded(Event::RollBack),
            _ => {
                let image = self.draw_image();
                self.describe_image(image);
                let name = format!("file-{}", self.device.host.images.len() - 1);
                self.agent_is_commanded(|command| Event::InstallFile(command, name));
            }
        }
    }

    /// The operator asks for one thing or the other.
    pub fn operator_pushes(&mut self) {
        if self.random.one_in(12) {
            return self.somebody_commands();
        }
        let ready = self
            .last_firmware()
            .is_some_and(|(request, row)| request.action == Action::FirmwareDownload && row.status == Status::Success);
        let open = self.last_firmware().filter(|(_, row)| !row.is_complete());
        let open = open.map(|(request, _)| request.id.clone());
        let overrides = self.random.one_in(25);
        if let Some(id) = open {
            if self.random.one_in(25) {
                self.counts.add(Thing::CalledOffByOperator);
                return self.service_handles(Asked::Cancel { id });
            }
            if !overrides {
                return;
            }
        }
        match self.random.below(8) {
            0 => self.ask_firmware("firmware/download", Vec::new(), overrides),
            1 => self.ask_firmware("firmware/update", Vec::new(), overrides),
            2 if ready => {
                let parameters = self.new_image();
                self.ask_firmware("firmware/update", parameters, overrides);
            }
            _ if ready => self.ask_firmware("firmware/update", Vec::new(), overrides),
            _ => {
                let parameters = self.new_image();
                self.ask_firmware("firmware/download", parameters, overrides);
            }
        }
    }

    fn draw_image(&mut self) -> Image {
        match self.plan.images_are_good {
            true => Image::good(),
            false => Image::draw(&mut self.random),
        }
    }

    fn new_image(&mut self) -> Vec<Value> {
        let image = self.draw_image();
        self.describe_image(image)
    }

    /// The parameters of a request about this image.
    fn describe_image(&mut self, image: Image) -> Vec<Value> {
        let images = &mut self.device.host.images;
        images.push(image);
        let number = images.len() - 1;
        note!(self, "image {number} is {image:?}");
        vec![
            json!({"name": "uri", "value": address(number)}),
            json!({"name": "version", "value": number.to_string()}),
        ]
    }

    fn ask_firmware(&mut self, action: &str, parameters: Vec<Value>, overrides: bool) {
        let timeout = match self.quiet {
            true => 1800,
            false => self.random.pick(&[300, 1800, 5400]),
        };
        note!(self, "the operator asks for {action}, override: {overrides}");
        self.service_handles(Asked::Create(NewRequest {
            action: action.to_owned(),
            parameters,
            devices: vec![DEVICE.parse().expect("a name")],
            timeout: Some(timeout),
            overrides,
        }));
    }

    /// The youngest firmware action, and how the device stands with it.
    fn last_firmware(&self) -> Option<(&RequestRow, &StatusRow)> {
        self.operator.youngest(Action::is_firmware)
    }

    /// A good image has to arrive: it is downloaded and updated, again and again until it runs.
    pub fn last_push(&mut self, image: Option<usize>) {
        assert!(
            self.now < self.quiet_since + PUSH_LIMIT,
            "nothing is wrong any more, and a good image does not arrive"
        );
        if image.is_some_and(|image| self.truth.firmware.runs == Some(address(image))) {
            self.counts.add(Thing::LastImage);
            let times = if self.plan.plain_reboots { 4 } else { 0 };
            return self.at(self.now, Happening::PlainReboot { slot: None, times });
        }
        let last = self.last_firmware().filter(|_| image.is_some());
        let (open, ready) = last.map_or((false, false), |(request, row)| {
            let downloaded = request.action == Action::FirmwareDownload && row.status == Status::Success;
            (!row.is_complete(), downloaded)
        });
        let mut image = image;
        if ready {
            self.ask_firmware("firmware/update", Vec::new(), false);
        } else if !open {
            let parameters = self.describe_image(Image::good());
            image = Some(self.device.host.images.len() - 1);
            self.ask_firmware("firmware/download", parameters, true);
        }
        self.at(self.now + PUSH_EVERY, Happening::LastPush { image });
    }

    /// Four plain reboots stay on their slot.
    pub fn plain_reboot(&mut self, slot: Option<usize>, times: u32) {
        let booted = self.device.host.booted;
        if let Some(slot) = slot {
            assert_eq!(booted, slot, "a plain reboot has led to another slot");
            self.counts.add(Thing::PlainReboot);
        }
        if times == 0 {
            return;
        }
        assert!(
            self.device.up && self.device.logind.going.is_none(),
            "the host is quiet"
        );
        self.logind_accepts(crate::logind::How::InTime, false);
        let times = times - 1;
        self.at(
            self.now + PLAIN_PAUSE,
            Happening::PlainReboot {
                slot: Some(booted),
                times,
            },
        );
    }
}
