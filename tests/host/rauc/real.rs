//! The real `rauc service`: install, rejoin, mark, and its death in the middle.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use iotdm::host::bus::Cause;
use iotdm::host::rauc::{InspectError, InstallEnd, Mark, MarkError, Progress, Rauc, Slot, is_busy};

use tokio::sync::watch;

use crate::bus::PrivateBus;
use crate::rauc_host::{COMPATIBLE, NAME, RaucHost, Recipe, Signer, Special};
use crate::{connect, soon};

/// A host with RAUC, somebody whom it trusts, and our view of it.
pub(super) struct Rig {
    pub(super) private: PrivateBus,
    pub(super) signer: Signer,
    pub(super) host: RaucHost,
    pub(super) rauc: Rauc,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::with(Special::default()).await
    }

    pub(super) async fn with(special: Special<'_>) -> Self {
        let private = PrivateBus::start();
        let signer = Signer::new("release");
        let host = RaucHost::start(private.address(), &signer.ca_file(), special);
        soon(private.appears(NAME)).await;
        let rauc = view(&private).await;
        Self {
            private,
            signer,
            host,
            rauc,
        }
    }

    /// A good bundle of this version; its image is the version, many times.
    pub(super) fn bundle(&self, version: &str) -> PathBuf {
        self.bundle_by(&self.signer, version, COMPATIBLE)
    }

    pub(super) fn bundle_by(&self, signer: &Signer, version: &str, compatible: &str) -> PathBuf {
        let image = self.host.path("image");
        std::fs::write(&image, contents(version)).unwrap();
        let to = self.host.path(&format!("{version}.raucb"));
        let recipe = Recipe {
            compatible,
            version,
            format: "plain",
            image: &image,
        };
        signer.bundle(&recipe, &to);
        std::fs::remove_file(image).unwrap();
        to
    }

    /// Kills RAUC; it is gone when this returns.
    pub(super) async fn kill(&mut self) {
        self.host.kill();
        soon(self.private.disappears(NAME)).await;
    }

    /// Starts it again.
    pub(super) async fn run(&mut self) {
        self.host.run();
        soon(self.private.appears(NAME)).await;
    }

    pub(super) async fn slot(&self, name: &str) -> Slot {
        let slots = self.rauc.slots().await.unwrap();
        slots.into_iter().find(|slot| slot.name == name).unwrap()
    }
}

/// What a restarted agent has: a new connection.
pub(super) async fn view(private: &PrivateBus) -> Rauc {
    let rauc = Rauc::new(&connect(private).await).await.unwrap();
    rauc.expect("there is a RAUC")
}

fn contents(version: &str) -> Vec<u8> {
    version.bytes().cycle().take(256 * 1024).collect()
}

/// Keeps what is told.
#[derive(Clone, Default)]
pub(super) struct Told(watch::Sender<Vec<Progress>>);

impl Told {
    pub(super) fn keep(&self) -> impl FnMut(Progress) + Send + use<> {
        let told = self.0.clone();
        move |progress| told.send_modify(|told| told.push(progress))
    }

    pub(super) fn all(&self) -> Vec<Progress> {
        self.0.borrow().clone()
    }

    /// Returns when something was told.
    pub(super) async fn something(&self) {
        self.0.subscribe().wait_for(|told| !told.is_empty()).await.unwrap();
    }
}

pub(super) fn untold(_: Progress) {}

#[tokio::test]
async fn a_good_bundle_is_in_the_other_slot_afterwards_and_that_one_is_booted_next() {
    let rig = Rig::new().await;
    assert_eq!(rig.rauc.compatible().await.unwrap(), COMPATIBLE);
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.0"));
    let before = rig.slot("rootfs.1").await;
    assert_eq!(
        (before.status, before.bundle_version, before.installed_count),
        (None, None, None)
    );

    let bundle = rig.bundle("2.0");
    let inspected = soon(rig.rauc.inspect(&bundle)).await.unwrap();
    assert_eq!(
        (inspected.compatible.as_str(), inspected.version.as_deref()),
        (COMPATIBLE, Some("2.0"))
    );
    let told = Told::default();
    let end = soon(rig.rauc.install(&bundle, Some("transaction-1"), told.keep())).await;
    assert_eq!(end, InstallEnd::Done, "{}", rig.host.log());

    assert_eq!(rig.host.slot("B"), contents("2.0"));
    assert_eq!(rig.host.slot("A"), b"", "the running system is not touched");
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.1"));
    let slot = rig.slot("rootfs.1").await;
    assert_eq!(slot.class, "rootfs");
    assert_eq!(
        (slot.bootname.as_deref(), slot.booted, slot.boot_good),
        (Some("B"), false, Some(true))
    );
    assert_eq!(
        (slot.status.as_deref(), slot.bundle_version.as_deref()),
        (Some("ok"), Some("2.0"))
    );
    assert_eq!((slot.installed_count, slot.parent), (Some(1), None));
    // RAUC 1.8 knows no transactions.
    assert!(slot.installed_transaction.is_none_or(|id| id == "transaction-1"));
    assert!(slot.installed_timestamp.is_some_and(|time| time.ends_with('Z')));
    assert!(rig.slot("rootfs.0").await.booted);

    let told = told.all();
    assert!(
        told.iter().any(|step| step.message == "Copying image to rootfs.1"),
        "{told:?}"
    );
    assert!(told.is_sorted_by_key(|step| step.percentage), "{told:?}");
    assert_eq!(told.last().unwrap().percentage, 100);
}

#[tokio::test]
async fn while_one_installation_runs_everything_else_is_refused_as_busy_and_the_first_still_ends_well() {
    let rig = Rig::new().await;
    let (first, second) = (rig.bundle("2.0"), rig.bundle("3.0"));
    let hold = rig.host.hold("set-primary");
    let rauc = rig.rauc.clone();
    let installation = tokio::spawn(async move { rauc.install(&first, None, untold).await });
    let held = soon(hold.reached()).await;

    let other = view(&rig.private).await;
    match soon(other.install(&second, None, untold)).await {
        InstallEnd::Refused(text) => assert!(text.contains("busy"), "{text}"),
        end => panic!("{end:?}"),
    }
    assert_eq!(soon(other.inspect(&second)).await, Err(InspectError::Busy));
    assert_eq!(soon(other.mark(Mark::Good, "booted")).await, Err(MarkError::Busy));
    assert!(is_busy(&soon(other.slots()).await.unwrap_err()));
    assert!(is_busy(&soon(other.primary()).await.unwrap_err()));

    drop(held);
    assert_eq!(soon(installation).await.unwrap(), InstallEnd::Done);
    assert_eq!(rig.slot("rootfs.1").await.bundle_version.as_deref(), Some("2.0"));
}

#[tokio::test]
async fn a_rauc_that_is_killed_in_the_middle_is_noticed_and_the_slots_tell_that_the_write_was_cut_short() {
    let mut rig = Rig::new().await;
    let (old, new) = (rig.bundle("2.0"), rig.bundle("3.0"));
    assert_eq!(soon(rig.rauc.install(&old, None, untold)).await, InstallEnd::Done);
    soon(rig.rauc.mark(Mark::Active, "booted")).await.unwrap();
    let hold = rig.host.hold("set-primary");
    let rauc = rig.rauc.clone();
    let installation = tokio::spawn(async move { rauc.install(&new, None, untold).await });
    let _held = soon(hold.reached()).await;
    rig.kill().await;
    assert_eq!(soon(installation).await.unwrap(), InstallEnd::Died);

    // The image was written and the record, too; the boot loader was told "bad" before, and not yet "good".
    rig.run().await;
    let slot = rig.slot("rootfs.1").await;
    assert_eq!(
        (slot.status.as_deref(), slot.bundle_version.as_deref(), slot.boot_good),
        (Some("ok"), Some("3.0"), Some(false))
    );
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.0"));
    assert!(
        matches!(soon(rig.rauc.rejoin(untold)).await, InstallEnd::Unknown(text) if text.contains("not installing"))
    );
}

/// RAUC runs it when everything else is done.
#[tokio::test]
async fn a_post_install_handler_that_fails_leaves_a_slot_that_is_written_and_boots_next() {
    let rig = Rig::with(Special {
        post_install: Some("exit 3"),
        ..Special::default()
    })
    .await;
    let bundle = rig.bundle("2.0");
    match soon(rig.rauc.install(&bundle, None, untold)).await {
        InstallEnd::Failed(text) => assert!(text.contains("Post-install handler error"), "{text}"),
        end => panic!("{end:?}"),
    }
    let slot = rig.slot("rootfs.1").await;
    assert_eq!(
        (slot.status.as_deref(), slot.bundle_version.as_deref(), slot.boot_good),
        (Some("ok"), Some("2.0"), Some(true))
    );
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.1"));

    // What the brain does about it.
    soon(rig.rauc.mark(Mark::Active, "rootfs.0")).await.unwrap();
    soon(rig.rauc.mark(Mark::Bad, "rootfs.1")).await.unwrap();
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.0"));
    assert_eq!(rig.slot("rootfs.1").await.boot_good, Some(false));
}

#[tokio::test]
async fn deb12_a_slot_whose_installation_was_cut_short_keeps_its_old_record() {
    let mut rig = Rig::new().await;
    let (old, new) = (rig.bundle("2.0"), rig.bundle("3.0"));
    assert_eq!(soon(rig.rauc.install(&old, None, untold)).await, InstallEnd::Done);
    let hold = rig.host.hold("set-state");
    let rauc = rig.rauc.clone();
    let installation = tokio::spawn(async move { rauc.install(&new, None, untold).await });
    let _held = soon(hold.reached()).await;
    rig.kill().await;
    assert_eq!(soon(installation).await.unwrap(), InstallEnd::Died);
    rig.run().await;
    let slot = rig.slot("rootfs.1").await;
    assert_eq!(
        (slot.status.as_deref(), slot.bundle_version.as_deref()),
        (Some("ok"), Some("2.0"))
    );
    assert_eq!(slot.installed_count, Some(1));
}

#[tokio::test]
async fn after_a_restart_of_the_agent_a_running_installation_is_followed_to_its_end() {
    let rig = Rig::new().await;
    let bundle = rig.bundle("2.0");
    let hold = rig.host.hold("set-primary");
    let rauc = rig.rauc.clone();
    let agent = tokio::spawn(async move { rauc.install(&bundle, None, untold).await });
    let held = soon(hold.reached()).await;
    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());

    let rauc = view(&rig.private).await;
    let told = Told::default();
    let keep = told.keep();
    let restarted = tokio::spawn(async move { rauc.rejoin(keep).await });
    soon(told.something()).await;
    drop(held);
    assert_eq!(soon(restarted).await.unwrap(), InstallEnd::Done);
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.1"));
    assert!(told.all()[0].percentage >= 90, "{:?}", told.all());
}

#[tokio::test]
async fn nothing_to_rejoin_is_unknown_and_no_rauc_is_started_for_it() {
    let mut rig = Rig::new().await;
    assert!(
        matches!(soon(rig.rauc.rejoin(untold)).await, InstallEnd::Unknown(text) if text.contains("not installing"))
    );
    rig.kill().await;
    assert!(matches!(soon(rig.rauc.rejoin(untold)).await, InstallEnd::Unknown(text) if text.contains("not running")));
}

#[tokio::test]
async fn a_slot_is_marked_good_bad_and_active_and_read_back() {
    let rig = Rig::new().await;
    for (mark, slot, name, good) in [
        (Mark::Bad, "other", "rootfs.1", false),
        (Mark::Good, "rootfs.1", "rootfs.1", true),
        (Mark::Bad, "booted", "rootfs.0", false),
        (Mark::Good, "booted", "rootfs.0", true),
    ] {
        soon(rig.rauc.mark(mark, slot)).await.unwrap();
        assert_eq!(rig.slot(name).await.boot_good, Some(good), "{mark} {slot}");
    }
    soon(rig.rauc.mark(Mark::Active, "other")).await.unwrap();
    assert_eq!(rig.host.boot("primary"), "B");
    assert_eq!(rig.rauc.primary().await.unwrap().as_deref(), Some("rootfs.1"));
}

#[tokio::test]
async fn a_mark_that_the_boot_loader_does_not_keep_is_an_error_that_names_the_slot() {
    let rig = Rig::new().await;
    rig.host.set_boot("deaf", "");
    rig.host.set_boot("state.A", "bad");
    for (mark, slot, name) in [
        (Mark::Good, "booted", "rootfs.0"),
        (Mark::Bad, "other", "rootfs.1"),
        (Mark::Active, "other", "rootfs.1"),
    ] {
        let error = soon(rig.rauc.mark(mark, slot)).await.unwrap_err();
        let expected = MarkError::NotKept {
            slot: name.to_owned(),
            mark,
        };
        assert_eq!(error, expected);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_slot_that_does_not_exist_is_refused_in_raucs_words() {
    let rig = Rig::new().await;
    match soon(rig.rauc.mark(Mark::Good, "rootfs.7")).await {
        Err(MarkError::Refused(text)) => assert!(text.contains("rootfs.7"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_boot_loader_without_a_valid_next_slot_is_an_error_in_raucs_words() {
    let rig = Rig::new().await;
    rig.host.set_boot("primary", "C");
    let error = soon(rig.rauc.primary()).await.unwrap_err();
    assert!(error.to_string().contains("'C' does not match"), "{error}");
}

#[tokio::test]
async fn a_host_without_rauc_has_none_and_one_that_loses_it_says_so() {
    let private = PrivateBus::start();
    assert!(Rauc::new(&connect(&private).await).await.unwrap().is_none());

    let mut rig = Rig::new().await;
    rig.kill().await;
    let gone = soon(rig.rauc.slots()).await.unwrap_err();
    assert!(matches!(gone.cause, Cause::Absent(_)), "{gone:?}");
    let bundle = rig.bundle("2.0");
    assert!(matches!(
        soon(rig.rauc.install(&bundle, None, untold)).await,
        InstallEnd::Refused(_)
    ));
    assert!(matches!(
        soon(rig.rauc.inspect(&bundle)).await,
        Err(InspectError::Failed(_))
    ));
    assert!(matches!(
        soon(rig.rauc.mark(Mark::Good, "booted")).await,
        Err(MarkError::Refused(_))
    ));
}
