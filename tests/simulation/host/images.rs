//! Images: what is in them shows only when they run. And how they get onto the data partition.

use iotdm::agent::effect;
use iotdm::agent::{DownloadEnd, Event, OpId};
use iotdm::protocol::firmware::UpdateStatus;

use crate::counts::Thing;
use crate::random::Random;
use crate::world::{Happening, World, note};

/// How an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Good,
    /// The kernel panics, and the boot loader falls back at once.
    DoesNotBoot,
    /// It boots, and its agent does not start.
    NoAgent,
    /// Its agent begins the trial, and then dies for good.
    AgentDies,
    /// One of its units fails.
    UnitFails,
    /// Its agent does not reach the service.
    NoNetwork,
    /// It crashes while it is on trial.
    Crashes,
    /// Half of an image.
    Torn,
}

/// An image, or what is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    pub content: Content,
    /// Its agent is a newer one, which writes members that the older one does not know.
    pub newer: bool,
}

impl Image {
    pub fn good() -> Self {
        Image {
            content: Content::Good,
            newer: false,
        }
    }

    pub fn draw(random: &mut Random) -> Self {
        Image {
            content: random.pick(&[
                Content::Good,
                Content::Good,
                Content::Good,
                Content::DoesNotBoot,
                Content::NoAgent,
                Content::AgentDies,
                Content::UnitFails,
                Content::NoNetwork,
                Content::Crashes,
            ]),
            newer: random.one_in(2),
        }
    }

    /// Its agent has marked it good: it lives on, though the disk that refused the trial may let it be tried again.
    pub fn has_lived(&mut self) {
        if self.content == Content::AgentDies {
            self.content = Content::Good;
        }
    }

    /// Whether the kernel finds an init.
    pub fn starts(self) -> bool {
        !matches!(self.content, Content::DoesNotBoot | Content::Torn)
    }
}

/// The address of an image.
pub fn address(number: usize) -> String {
    format!("https://fw/{number}.raucb")
}

impl World {
    /// The image at this address.
    pub fn image_at(&self, uri: &str) -> Image {
        let number: String = uri.chars().filter(char::is_ascii_digit).collect();
        self.device.host.images[number.parse::<usize>().expect("an address of ours")]
    }

    /// The agent begins to fetch, or goes on.
    pub fn download_begins(&mut self, op: OpId, image: effect::Image) {
        let run = self.agent_run();
        let takes = if self.quiet { 30_000 } else { 600_000 };
        let at = self.now + self.random.skewed(500, takes);
        let kind = match self.random.below(16) {
            _ if self.quiet || self.plan.server_is_good => 0,
            kind => kind,
        };
        self.at(
            at,
            Happening::Fetched {
                run,
                op,
                uri: image.uri,
                kind,
            },
        );
    }

    pub fn fetched(&mut self, run: u64, op: OpId, uri: String, kind: u64) {
        if !self.is_run(run) {
            return;
        }
        let (status, thing) = match kind {
            2 => (UpdateStatus::OutOfMemory, Thing::NoSpace),
            3 => (UpdateStatus::ConnectionLost, Thing::DownloadLost),
            4 => (UpdateStatus::VerificationFailed, Thing::WrongVerifier),
            5 => (UpdateStatus::UnsupportedImage, Thing::WrongImage),
            6 => (UpdateStatus::InvalidUri, Thing::InvalidUri),
            _ if self.device.disk.is_full() => (UpdateStatus::OutOfMemory, Thing::NoSpace),
            _ => {
                self.counts.add(Thing::Downloaded);
                note!(self, "{uri} is on the data partition");
                self.device.host.file = Some(uri);
                return self.agent_handles(
                    Event::Downloaded {
                        op,
                        end: DownloadEnd::Done,
                    },
                    None,
                );
            }
        };
        self.counts.add(thing);
        if self.device.host.file.as_ref() == Some(&uri) {
            self.device.host.file = None;
        }
        let message = format!("the download ended with {}", status as u8);
        let end = DownloadEnd::Failed { status, message };
        self.agent_handles(Event::Downloaded { op, end }, None);
    }
}
