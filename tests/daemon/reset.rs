//! A factory reset from the request to the next boot, and every way in which nothing is reset. systemd is scripted: a
//! host of its own is really reset in `tests/gateway`.

use crate::agent::Agent;
use crate::bus::{Answer, JOB, Scripted, block_lock, systemd1};
use crate::scene::Scene;
use crate::service::story;
use crate::support::mosquitto::Setup;
use crate::support::within;

const ON: &str = "[factory_reset]\nenabled = true\n";
const OWN: &str = "iotdm-agent-factory-reset.service";
const START: &str = "StartUnit(factory-reset.target, replace-irreversibly)";

struct Reset {
    scene: Scene,
    systemd1: Scripted,
}

impl Reset {
    /// A host whose target pulls in this unit.
    async fn with(unit: &str) -> Self {
        let scene = Scene::with(&Setup::default(), ON).await;
        let systemd1 = systemd1(&scene.bus).await;
        systemd1.answer("Wants", Answer::Names(vec![unit.to_owned()]));
        Self { scene, systemd1 }
    }

    /// One on which the package's own wipe hangs on the target, with a plan.
    async fn own() -> Self {
        let reset = Self::with(OWN).await;
        reset.plan("mount /data\nwipe /data/app\n");
        reset
    }

    fn plan(&self, text: &str) {
        let folder = self.scene.host.path("etc/factory-reset.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("50-app.conf"), text).unwrap();
    }

    async fn ask(&self, req_id: &str) {
        let operation = "mgmt/initiate/device/factory_reset";
        self.scene.service.request("gw-1", operation, req_id).await;
    }

    /// The answer, and that systemd was asked to start the unit so many times.
    async fn answered(&self, req_id: &str, rc: u64, words: &str, started: usize) {
        let (code, message) = self.scene.service.answer(req_id, 1).await;
        assert_eq!(code, rc, "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(self.systemd1.count("StartUnit"), started);
    }

    /// Asks, and goes along until systemd says that the unit is started.
    async fn start(&self, req_id: &str) {
        self.ask(req_id).await;
        assert_eq!(self.scene.service.answer(req_id, 1).await.0, 202);
        within("the start", self.systemd1.answered("StartUnit", 1)).await;
        self.systemd1.job_removed(JOB, "done").await;
    }

    /// What the program has left after the wipe.
    fn report(&self, asked_in: &str, failed: &[&str]) {
        let report = serde_json::json!({
            "id": "ffffffffffffffffffffffffffffffff", "asked_in": asked_in, "seconds": 1.5, "files": 7, "bytes": 4096,
            "wiped": ["/data/app"], "failed": failed, "boots": 1, "more": true,
        });
        std::fs::write(self.scene.host.state().join("factory-reset.report"), report.to_string()).unwrap();
    }

    /// The host goes down with its agent, and both are back.
    async fn boots(&self, agent: Agent) -> Agent {
        agent.kill().await;
        self.scene.host.boot();
        let agent = self.scene.host.start();
        agent.notes.line("READY=1").await;
        agent
    }

    /// The request "one", which was accepted, has a second answer with these words, and the device is managed again.
    async fn is_refused(&self, words: &str) {
        let (code, message) = self.scene.service.answer("one", 2).await;
        assert_eq!(code, 500);
        assert!(message.contains(words), "{message}");
        self.scene.service.managed("gw-1", 2).await;
        assert_eq!(
            self.story(),
            ["manage", "response 202", "response 500", "log", "manage"]
        );
    }

    fn story(&self) -> Vec<String> {
        story(&self.scene.service.said_by("gw-1"))
    }
}

#[tokio::test]
async fn rst_01_env_07_a_reset_is_answered_started_once_and_complete_in_the_next_boot() {
    let reset = Reset::with("site-reset.service").await;
    let agent = reset.scene.agent().await;
    reset.start("one").await;
    assert_eq!(reset.systemd1.calls().iter().filter(|call| *call == START).count(), 1);
    // The same request again, before the host is down; a manage now would look like its end.
    reset.ask("one").await;
    assert_eq!(reset.scene.service.answer("one", 2).await.0, 202);
    let output = reset.scene.host.run(&["manage"]).await;
    let (code, text) = crate::agent::failure(&output);
    assert!(code == 1 && text.contains("reset"), "{text}");

    let _agent = reset.boots(agent).await;
    reset.scene.service.managed("gw-1", 2).await;
    assert_eq!(
        reset.story(),
        ["manage", "response 202", "response 202", "log", "manage"]
    );
    reset.ask("one").await;
    assert_eq!(reset.scene.service.answer("one", 3).await.0, 202);
    assert_eq!(reset.systemd1.count("StartUnit"), 1);
}

#[tokio::test]
async fn rst_01_a_unit_that_resets_nothing_is_answered_501_with_what_to_do() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    let load = |state: &str| Answer::Text(state.to_owned());
    reset.systemd1.answer("LoadState", load("not-found"));
    reset.ask("missing").await;
    reset
        .answered("missing", 501, "factory-reset.target does not exist", 0)
        .await;
    reset.systemd1.answer("LoadState", load("masked"));
    reset.ask("masked").await;
    reset
        .answered("masked", 501, "systemctl unmask factory-reset.target", 0)
        .await;
    reset.systemd1.answer("LoadState", load("loaded"));
    reset.systemd1.answer("Wants", Answer::Names(Vec::new()));
    reset.ask("hollow").await;
    reset
        .answered("hollow", 501, "systemctl enable iotdm-agent-factory-reset.service", 0)
        .await;
    reset.systemd1.answer("Wants", Answer::Names(vec![OWN.to_owned()]));
    reset.systemd1.answer("UnitFileState", load("disabled"));
    reset.ask("off").await;
    reset
        .answered("off", 501, "iotdm-agent-format.service is not enabled", 0)
        .await;
    reset.systemd1.answer("UnitFileState", load("enabled"));
    reset.plan("mount /data\nwipe /data/../etc\n");
    reset.ask("plan").await;
    reset.answered("plan", 501, "50-app.conf:2", 0).await;
    let elsewhere = ["STATE_DIRECTORY=/somewhere", "IOTDM_BOOT_ID=1"].map(str::to_owned);
    reset.systemd1.answer("Environment", Answer::Names(elsewhere.to_vec()));
    reset.plan("mount /data\nwipe /data/app\n");
    reset.ask("state").await;
    reset
        .answered("state", 501, "knows /somewhere as the state folder", 0)
        .await;
    let here = format!("STATE_DIRECTORY={}", reset.scene.host.state().display());
    reset
        .systemd1
        .answer("Environment", Answer::Names(vec![elsewhere[0].clone(), here]));
    // What was refused is done when it is asked again and can be.
    reset.plan("mount /data\nwipe /data/app\n");
    reset.ask("good").await;
    assert_eq!(reset.scene.service.answer("good", 1).await.0, 202);
}

#[tokio::test]
async fn rst_01_a_name_of_a_unit_that_is_not_there_or_is_masked_resets_nothing() {
    let reset = Reset::with("site-reset.service").await;
    let _agent = reset.scene.agent().await;
    // each unit in the order in which it is looked at
    let load = |states: &[&str]| {
        let mut answers = states.iter().rev().map(|state| Answer::Text((*state).to_owned()));
        let last = answers.next().unwrap();
        answers.fold(last, |rest, first| Answer::Then(Box::new(first), Box::new(rest)))
    };
    reset.systemd1.answer("LoadState", load(&["loaded", "not-found"]));
    reset.ask("dangling").await;
    reset
        .answered("dangling", 501, "site-reset.service does not exist", 0)
        .await;
    reset.systemd1.answer("LoadState", load(&["loaded", "masked"]));
    reset.ask("masked").await;
    reset
        .answered("masked", 501, "systemctl unmask site-reset.service", 0)
        .await;

    reset.plan("mount /data\nwipe /data/app\n");
    reset.systemd1.answer("Wants", Answer::Names(vec![OWN.to_owned()]));
    reset.systemd1.answer("LoadState", load(&["loaded", "masked"]));
    reset.ask("request").await;
    reset
        .answered("request", 501, &format!("systemctl unmask {OWN}"), 0)
        .await;
    for (nth, unit) in ["-reboot", "-format", "-wipe"].iter().enumerate() {
        let loaded = vec!["loaded"; 3 + nth];
        reset
            .systemd1
            .answer("LoadState", load(&[loaded, vec!["masked"]].concat()));
        reset.ask(unit).await;
        reset.answered(unit, 501, &format!("{unit}.service is masked"), 0).await;
    }
    // one of two is there
    let both = ["aaa.service", "site-reset.service"].map(str::to_owned);
    reset.systemd1.answer("Wants", Answer::Names(both.to_vec()));
    reset
        .systemd1
        .answer("LoadState", load(&["loaded", "not-found", "loaded"]));
    reset.start("one").await;
}

#[tokio::test]
async fn rst_01_an_installation_that_somebody_else_began_is_not_interrupted() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    let rauc = Scripted::start(&reset.scene.bus, "de.pengutronix.rauc").await;
    let error = "org.gtk.GDBus.UnmappedGError.Quark._g_2dio_2derror_2dquark.Code30";
    rauc.answer(
        "GetSlotStatus",
        Answer::Error(error, "Already processing a different method"),
    );
    reset.ask("busy").await;
    reset.answered("busy", 500, "RAUC is writing a slot", 0).await;
    // it verifies a bundle, and answers nobody
    rauc.answer("GetSlotStatus", Answer::Silence);
    reset.ask("silent").await;
    reset
        .answered("silent", 500, "RAUC may be installing, as it does not answer", 0)
        .await;
    // it installs nothing
    rauc.answer("GetSlotStatus", Answer::Error(error, "Failed to load system config"));
    reset.start("broken").await;
}

#[tokio::test]
async fn rst_01_somebody_who_blocks_a_shutdown_blocks_a_reset() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    let lock = block_lock("firmware writer", "writing the modem");
    reset.scene.login1.answer("ListInhibitors", Answer::Locks(vec![lock]));
    reset.ask("one").await;
    reset
        .answered("one", 500, "firmware writer (writing the modem", 0)
        .await;
}

#[tokio::test]
async fn rst_01_a_refusal_after_the_202_is_a_second_answer_and_then_the_device_is_managed_again() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    reset.systemd1.answer(
        "StartUnit",
        Answer::Error(
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            "Interactive authentication required.",
        ),
    );
    reset.ask("one").await;
    reset
        .is_refused("polkit does not let the agent start factory-reset.target")
        .await;
}

#[tokio::test]
async fn rst_01_a_unit_that_fails_is_named() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    reset
        .systemd1
        .answer("ListUnitsFiltered", Answer::Units(vec![OWN.to_owned()]))
        .answer("StatusText", Answer::Text("refused: /data is not mounted".to_owned()));
    reset.ask("one").await;
    assert_eq!(reset.scene.service.answer("one", 1).await.0, 202);
    within("the start", reset.systemd1.answered("StartUnit", 1)).await;
    let wish = reset.scene.host.state().join("factory-reset");
    std::fs::write(&wish, "asked_in=0\n").unwrap();
    reset.systemd1.job_removed(JOB, "dependency").await;
    let (code, message) = reset.scene.service.answer("one", 2).await;
    assert_eq!(code, 500);
    assert!(
        message.contains(&format!("because {OWN} failed: refused: /data is not mounted")),
        "{message}"
    );
    reset.scene.service.managed("gw-1", 2).await;
    assert!(!wish.exists(), "no later boot wipes what is told to be untouched");
}

#[tokio::test]
async fn rst_01_a_reboot_that_is_refused_after_the_202_is_told_with_its_reason() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    let then = |first: Answer, second: Answer| Answer::Then(Box::new(first), Box::new(second));
    // it has not begun yet at the first look
    let rest = then(Answer::Bytes(vec![1]), Answer::Bytes(vec![2]));
    reset
        .systemd1
        .answer("InvocationID", then(Answer::Bytes(vec![1]), rest))
        .answer("ActiveState", Answer::Text("failed".to_owned()))
        .answer(
            "StatusText",
            Answer::Text("the reboot is refused: blocked by apt".to_owned()),
        );
    reset.start("one").await;
    reset
        .is_refused("reboot.service failed: the reboot is refused: blocked by apt")
        .await;
}

#[tokio::test]
async fn rst_01_a_wish_that_cannot_be_taken_back_is_told_with_what_to_do() {
    let reset = Reset::own().await;
    let _agent = reset.scene.agent().await;
    reset
        .systemd1
        .answer("ListUnitsFiltered", Answer::Units(vec![OWN.to_owned()]));
    reset.ask("one").await;
    assert_eq!(reset.scene.service.answer("one", 1).await.0, 202);
    within("the start", reset.systemd1.answered("StartUnit", 1)).await;
    // what nobody removes as a file
    let wish = reset.scene.host.state().join("factory-reset");
    std::fs::create_dir_all(wish.join("in the way")).unwrap();
    reset.systemd1.job_removed(JOB, "failed").await;
    let (code, message) = reset.scene.service.answer("one", 2).await;
    assert_eq!(code, 500);
    let told = format!("the next boot may carry it out: remove {}", wish.display());
    assert!(
        message.contains("did not happen") && message.contains(&told),
        "{message}"
    );
    let warns = async || {
        let check = reset.scene.host.run(&["check"]).await;
        String::from_utf8_lossy(&check.stdout).contains("the next boot carries out a factory reset")
    };
    assert!(warns().await);
    std::fs::remove_dir_all(&wish).unwrap();
    assert!(!warns().await);
}

#[tokio::test]
async fn rst_02_what_was_wiped_is_told_as_a_log_before_the_device_is_managed_again() {
    let reset = Reset::own().await;
    let agent = reset.scene.agent().await;
    let boot = reset.scene.host.boot_id();
    reset.start("one").await;
    agent.kill().await;
    reset.report(&boot, &[]);
    // the program has died before it could remove it
    let wish = reset.scene.host.state().join("factory-reset");
    std::fs::write(&wish, format!("asked_in={boot}\nboot=0\n")).unwrap();
    reset.scene.host.boot();
    let _agent = reset.scene.host.start();
    reset.scene.service.managed("gw-1", 2).await;
    assert_eq!(reset.story(), ["manage", "response 202", "log", "manage"]);
    assert!(!wish.exists(), "a later boot would wipe once more");
    let log = &reset.scene.service.said_by("gw-1")[2].json["d"];
    assert_eq!(log["severity"], 0);
    assert!(
        log["message"]
            .as_str()
            .unwrap()
            .contains("wiped 7 files, 4.0 KiB, in 1.5 s: /data/app"),
        "{log}"
    );
    assert!(!reset.scene.host.state().join("factory-reset.report").exists());
}

#[tokio::test]
async fn rst_02_a_boot_without_a_wipe_and_one_whose_wipe_failed_are_told_as_500() {
    for (failed, words) in [
        (None, "did not happen"),
        (
            Some("/data/app/x: Read-only file system (os error 30)"),
            "Read-only file system",
        ),
    ] {
        let reset = Reset::own().await;
        let agent = reset.scene.agent().await;
        let boot = reset.scene.host.boot_id();
        reset.start("one").await;
        agent.kill().await;
        if let Some(failed) = failed {
            reset.report(&boot, &[failed]);
        }
        reset.scene.host.boot();
        let _agent = reset.scene.host.start();
        reset.is_refused(words).await;
        let log = &reset.scene.service.said_by("gw-1")[3].json["d"];
        assert_eq!(log["severity"], 2, "{log}");
    }
}

#[tokio::test]
async fn rst_02_a_reset_that_somebody_on_the_host_began_is_told_once() {
    let reset = Reset::own().await;
    reset.report("00000000000000000000000000000000", &[]);
    let agent = reset.scene.agent().await;
    reset
        .scene
        .service
        .until("the log", |said| story(said).contains(&"log".to_owned()))
        .await;
    // as if the agent had died before it could remove the report
    agent.kill().await;
    reset.report("00000000000000000000000000000000", &[]);
    let agent = reset.scene.host.start();
    reset.scene.service.managed("gw-1", 2).await;
    agent.managed().await;
    let told = reset.story().iter().filter(|what| *what == "log").count();
    assert_eq!(told, 1);
    assert!(!reset.scene.host.state().join("factory-reset.report").exists());
}
