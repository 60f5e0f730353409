//! What can happen to the machine.

use iotdm::agent::event::Message;
use iotdm::agent::{AckId, CommandId, DownloadEnd, Event, InstallEnd, OpId, RebootOutcome, Settings, Survey, Verdict};
use iotdm::protocol::Rc;
use iotdm::protocol::firmware::UpdateStatus;
use serde_json::{Value, json};

use crate::driver::Driver;

pub(super) const ACK: AckId = AckId(9999);
pub(super) const COMMAND: CommandId = CommandId(9999);
const STALE: OpId = OpId(u64::MAX);

pub(super) fn without_rauc(driver: &Driver) -> Settings {
    let mut settings = driver.agent.settings().clone();
    settings.firmware.supported = Err("this host has no RAUC".into());
    settings.firmware.mark_good = false;
    settings
}

pub(super) fn configured(settings: Settings) -> Event {
    Event::Configured(Box::new(settings))
}

/// A message of the service.
fn message(tail: &str, payload: &Value) -> Message {
    Message {
        topic: format!("iotdm-1/{tail}"),
        payload: payload.to_string().into_bytes(),
        retained: false,
        dup: false,
        ack: ACK,
    }
}

fn request(tail: &str, req_id: &str, d: &Value) -> Event {
    Event::Message(message(tail, &json!({"reqId": req_id, "d": d})))
}

pub(super) fn describe(version: &str) -> Event {
    let value = json!({"version": version, "name": "rootfs", "uri": format!("https://fw/{version}.raucb"),
        "verifier": "", "state": 0, "updateStatus": 0, "updatedDateTime": ""});
    let fields = json!({"fields": [{"field": "mgmt.firmware", "value": value}]});
    request("device/update", "u9", &fields)
}

const UPDATE: &str = "mgmt/initiate/firmware/update";

pub(super) fn initiate(what: &str, req_id: &str) -> Event {
    Event::Message(message(&format!("mgmt/initiate/{what}"), &json!({"reqId": req_id})))
}

pub(super) type Named = (&'static str, Event);

/// What the service says.
pub(super) fn said() -> Vec<Named> {
    let firmware = json!({"fields": [{"field": "mgmt.firmware"}]});
    let anonymous = message(UPDATE, &json!({}));
    let dup = Message {
        dup: true,
        ..anonymous.clone()
    };
    let retained = Message {
        retained: true,
        ..message(UPDATE, &json!({"reqId": "p9"}))
    };
    vec![
        ("the same image is described", describe("2.0")),
        ("another image is described", describe("3.0")),
        ("observe", request("observe", "o9", &firmware)),
        ("cancel", request("cancel", "c9", &firmware)),
        ("a download is asked for", initiate("firmware/download", "d9")),
        (D1, initiate("firmware/download", "d1")),
        ("an update is asked for", initiate("firmware/update", "p9")),
        (P1, initiate("firmware/update", "p1")),
        ("an update is asked for without reqId", Event::Message(anonymous)),
        ("the same, delivered again", Event::Message(dup)),
        ("an update, retained by the broker", Event::Message(retained)),
        ("a reboot is asked for", initiate("device/reboot", "r9")),
        ("a factory reset is asked for", initiate("device/factory_reset", "f9")),
    ]
}

pub(super) const D1: &str = "the first download request again";
pub(super) const P1: &str = "the first update request again";

/// What somebody on the device says, and what the connection and the configuration do.
pub(super) fn beside(driver: &Driver) -> Vec<Named> {
    vec![
        ("install FILE", Event::InstallFile(COMMAND, "fw-4.raucb".into())),
        ("confirm", Event::ConfirmTrial(COMMAND)),
        ("rollback", Event::RollBack(COMMAND)),
        ("unmanage", Event::Unmanage(COMMAND)),
        ("the connection is lost", Event::Disconnected),
        ("the configuration is read", configured(driver.agent.settings().clone())),
        (
            "the configuration switches firmware off",
            configured(without_rauc(driver)),
        ),
    ]
}

/// The operations that the host has been asked for last.
pub(super) struct Ops {
    survey: OpId,
    download: OpId,
    install: OpId,
    mark: OpId,
    watch: OpId,
    reboot: OpId,
}

impl Ops {
    pub(super) fn of(driver: &Driver) -> Self {
        Ops {
            survey: driver.surveys.last().map_or(STALE, |(op, _)| *op),
            download: driver.downloads.last().map_or(STALE, |(op, _)| *op),
            install: driver.installs.last().copied().unwrap_or(STALE),
            mark: driver.marks.last().map_or(STALE, |(op, _)| *op),
            watch: driver.watch.as_ref().map_or(STALE, |(op, _)| *op),
            reboot: driver.reboots.last().copied().unwrap_or(STALE),
        }
    }

    pub(super) fn stale() -> Self {
        let [survey, download, install, mark, watch, reboot] = [STALE; 6];
        Ops {
            survey,
            download,
            install,
            mark,
            watch,
            reboot,
        }
    }

    pub(super) fn surveyed(&self, found: Result<Survey, String>) -> Event {
        Event::Surveyed { op: self.survey, found }
    }

    /// What the host says of an operation.
    pub(super) fn ends(&self, found: &Survey) -> Vec<Named> {
        let full = Survey {
            problems: vec!["no room".into()],
            ..found.clone()
        };
        let gone = || "the bus is gone".to_owned();
        let downloaded = |end| Event::Downloaded { op: self.download, end };
        let lost = DownloadEnd::Failed {
            status: UpdateStatus::ConnectionLost,
            message: "the server closed the connection".into(),
        };
        let installed = |end| Event::Installed { op: self.install, end };
        let refused = |again| InstallEnd::Refused {
            status: UpdateStatus::UnsupportedImage,
            message: "another board".into(),
            again,
        };
        let failed = |again| InstallEnd::Failed {
            status: UpdateStatus::UnsupportedImage,
            message: "another board".into(),
            again,
        };
        let marked = |result| Event::Marked { op: self.mark, result };
        let health = |verdict| Event::Health {
            op: self.watch,
            verdict,
        };
        let rebooted = |outcome| Event::RebootEnded {
            op: self.reboot,
            outcome,
        };
        let blocked = RebootOutcome::Refused {
            rc: Rc::INTERNAL,
            message: "blocked by apt".into(),
        };
        vec![
            ("the host was looked at", self.surveyed(Ok(found.clone()))),
            ("the host was looked at, and has no room", self.surveyed(Ok(full))),
            ("the host could not be looked at", self.surveyed(Err(gone()))),
            ("the download is done", downloaded(DownloadEnd::Done)),
            ("the download has failed", downloaded(lost)),
            ("RAUC has written", installed(InstallEnd::Done)),
            ("RAUC refuses", installed(refused(false))),
            ("RAUC refuses for now", installed(refused(true))),
            ("RAUC has failed", installed(failed(false))),
            ("RAUC has failed for now", installed(failed(true))),
            ("RAUC has gone", installed(InstallEnd::Unclear("RAUC died".into()))),
            ("the slots are marked", marked(Ok(()))),
            ("the slots cannot be marked", marked(Err(gone()))),
            ("this boot is healthy", health(Verdict::Good)),
            (
                "this boot is not healthy",
                health(Verdict::Bad("modbus.service has failed".into())),
            ),
            ("logind accepts the reboot", rebooted(RebootOutcome::Accepted)),
            ("logind refuses the reboot", rebooted(blocked)),
        ]
    }
}

/// What the host says of itself.
pub(super) fn host() -> Vec<Named> {
    vec![
        ("the reboot is called off", Event::PreparingForShutdown(false)),
        ("the window opens", Event::Window(true)),
        ("a lock on shutdown comes or goes", Event::InhibitorsChanged),
        ("a deadline", Event::Deadline),
    ]
}
