//! logind: refusals as Debian 12 (systemd 252) and 13 (systemd 257) give them, each by its error name and text.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures_util::StreamExt;
use iotdm::host::bus::{Bus, Cause};
use iotdm::host::logind::{CanReboot, Logind, RebootRefused, WHO};

use tokio::io::AsyncReadExt;

use super::bus::{Answer, PrivateBus, Scripted, block_lock, login1};
use super::{connect, impatient, soon};

const IAR: Answer = Answer::Error(
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "Interactive authentication required.",
);
const DENIED: Answer = Answer::Error("org.freedesktop.DBus.Error.AccessDenied", "Permission denied");
const DENIED_BY_LOCK: Answer = Answer::Error(
    "org.freedesktop.DBus.Error.AccessDenied",
    "Access denied due to active block inhibitor",
);
const ESTALE: Answer = Answer::Error("System.Error.ESTALE", "Stale file handle");

/// A private bus with a willing logind on it, and our view of it.
async fn rig() -> (PrivateBus, Scripted, Logind) {
    let private = PrivateBus::start();
    let service = login1(&private).await;
    let logind = Logind::new(&connect(&private).await).await.unwrap();
    (private, service, logind)
}

fn blocked_by(outcome: Result<(), RebootRefused>, who: &str) {
    match outcome {
        Err(RebootRefused::Blocked(list)) => {
            assert_eq!(list.iter().map(|lock| lock.who.as_str()).collect::<Vec<_>>(), [who]);
        }
        other => panic!("expected to be blocked by {who}, got {other:?}"),
    }
}

fn not_permitted(outcome: Result<(), RebootRefused>, hint: &str) {
    match outcome {
        Err(RebootRefused::NotPermitted(text)) => assert!(text.contains(hint), "{text:?} does not name {hint:?}"),
        other => panic!("expected not permitted, got {other:?}"),
    }
}

#[tokio::test]
async fn a_willing_logind_reboots_without_interaction_and_without_skipping_inhibitors() {
    let (_bus, service, logind) = rig().await;
    logind.preflight().await.unwrap();
    let lock = logind.take_delay_lock("telling the service").await.unwrap();
    logind.reboot().await.unwrap();
    assert_eq!(
        service.calls(),
        [
            "ListInhibitors".to_owned(),
            "CanReboot".to_owned(),
            format!("Inhibit(shutdown, {WHO}, telling the service, delay)"),
            "RebootWithFlags(0)".to_owned(),
        ]
    );
    drop(lock);
}

#[tokio::test]
async fn dropping_a_lock_lets_logind_go_on() {
    let (_bus, service, logind) = rig().await;
    let lock = logind.take_block_lock("writing a slot").await.unwrap();
    assert_eq!(
        service.calls(),
        [format!("Inhibit(shutdown, {WHO}, writing a slot, block)")]
    );
    let end = service.locks().remove(0);
    end.set_nonblocking(true).unwrap();
    let mut end = tokio::net::UnixStream::from_std(end).unwrap();
    assert_eq!(
        end.try_read(&mut [0]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "still held"
    );
    drop(lock);
    assert_eq!(soon(end.read(&mut [0])).await.unwrap(), 0, "let go");
}

#[tokio::test]
async fn a_child_process_does_not_inherit_a_lock() {
    let (_bus, _service, logind) = rig().await;
    let lock = logind.take_delay_lock("telling the service").await.unwrap();
    let flags = nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
}

#[tokio::test]
async fn an_old_logind_without_flags_is_asked_the_old_way() {
    let (_bus, service, logind) = rig().await;
    service
        .answer(
            "RebootWithFlags",
            Answer::Error("org.freedesktop.DBus.Error.UnknownMethod", "Unknown method"),
        )
        .answer("Reboot", Answer::Done);
    logind.reboot().await.unwrap();
    assert_eq!(service.calls(), ["RebootWithFlags(0)", "Reboot(false)"]);
}

#[tokio::test]
async fn preflight_names_the_holder_of_a_block_lock_and_does_not_ask_for_permission() {
    let (_bus, service, logind) = rig().await;
    service.answer("ListInhibitors", Answer::Locks(vec![block_lock("apt", "upgrading")]));
    let outcome = logind.preflight().await;
    assert_eq!(
        outcome.clone().unwrap_err().to_string(),
        "blocked by apt (upgrading; uid 4711, pid 321)"
    );
    blocked_by(outcome, "apt");
    assert_eq!(service.calls(), ["ListInhibitors"]);
}

#[tokio::test]
async fn only_block_locks_of_others_on_shutdown_count() {
    let (_bus, service, logind) = rig().await;
    let uid = nix::unistd::getuid().as_raw();
    let pid = std::process::id();
    let lock = |what: &str, who: &str, mode: &str, uid, pid| {
        (
            what.to_owned(),
            who.to_owned(),
            "why".to_owned(),
            mode.to_owned(),
            uid,
            pid,
        )
    };
    service.answer(
        "ListInhibitors",
        Answer::Locks(vec![
            lock("shutdown", "delays only", "delay", 1, 1),
            lock("sleep:handle-lid-switch", "another matter", "block", 1, 1),
            lock("shutdown-ish", "no such thing", "block", 1, 1),
            lock("shutdown", "this process", "block", uid, pid),
            lock("shutdown", WHO, "block", uid, pid + 1),
            lock("shutdown", WHO, "block", uid + 1, pid + 1),
            lock("shutdown", "same user", "block", uid, pid + 1),
            lock("idle:shutdown", "weak", "block-weak", 1, 1),
        ]),
    );
    let blockers = logind.shutdown_blockers().await.unwrap();
    let who: Vec<_> = blockers
        .iter()
        .map(|lock| (lock.who.as_str(), lock.mode.as_str()))
        .collect();
    assert_eq!(who, [(WHO, "block"), ("same user", "block"), ("weak", "block-weak")]);
}

#[tokio::test]
async fn can_reboot_is_read_as_logind_means_it() {
    let (_bus, service, logind) = rig().await;
    for (word, meaning) in [
        ("yes", CanReboot::Yes),
        ("no", CanReboot::No),
        ("challenge", CanReboot::Challenge),
        ("na", CanReboot::Na),
    ] {
        service.answer("CanReboot", Answer::Text(word.to_owned()));
        assert_eq!(logind.can_reboot().await, Ok(meaning));
    }
    service.answer("CanReboot", Answer::Text("maybe".to_owned()));
    assert!(matches!(logind.can_reboot().await, Err(RebootRefused::Failed(text)) if text.contains("maybe")));
}

#[tokio::test]
async fn preflight_names_polkit_when_permission_is_missing() {
    let (_bus, service, logind) = rig().await;
    for word in ["no", "challenge"] {
        service.answer("CanReboot", Answer::Text(word.to_owned()));
        not_permitted(logind.preflight().await, "/usr/share/polkit-1/rules.d/");
        not_permitted(logind.preflight().await, "org.freedesktop.login1.reboot");
    }
    service.answer("CanReboot", Answer::Text("na".to_owned()));
    assert_eq!(logind.preflight().await, Err(RebootRefused::NotSupported));
    service.answer("CanReboot", DENIED);
    not_permitted(logind.preflight().await, "polkitd");
}

#[tokio::test]
async fn deb12_and_13_a_lock_taken_after_preflight_is_named_whatever_the_error() {
    let (_bus, service, logind) = rig().await;
    for refusal in [IAR, ESTALE, DENIED_BY_LOCK] {
        service.answer("ListInhibitors", Answer::Locks(Vec::new()));
        logind.preflight().await.unwrap();
        service
            .answer("ListInhibitors", Answer::Locks(vec![block_lock("installer", "busy")]))
            .answer("RebootWithFlags", refusal);
        blocked_by(logind.reboot().await, "installer");
    }
}

#[tokio::test]
async fn a_missing_rule_is_told_apart_from_a_lock() {
    let (_bus, service, logind) = rig().await;
    service.answer("RebootWithFlags", IAR);
    not_permitted(logind.reboot().await, "/usr/share/polkit-1/rules.d/");
    service.answer("RebootWithFlags", DENIED);
    not_permitted(logind.reboot().await, "polkitd");
    service.answer(
        "RebootWithFlags",
        Answer::Error("org.freedesktop.systemd1.UnitMasked", "Unit polkit.service is masked."),
    );
    not_permitted(logind.reboot().await, "unmask");
}

#[tokio::test]
async fn deb12_a_stale_file_handle_is_never_reported_as_a_disk_error() {
    let (_bus, service, logind) = rig().await;
    service.answer("RebootWithFlags", ESTALE);
    match logind.reboot().await {
        Err(RebootRefused::Failed(text)) => assert!(text.contains("block lock") && !text.contains("file"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn deb13_our_own_block_lock_is_told_as_our_own() {
    let (_bus, service, logind) = rig().await;
    let mut own = block_lock(WHO, "writing a slot");
    own.4 = nix::unistd::getuid().as_raw();
    service
        .answer("ListInhibitors", Answer::Locks(vec![own]))
        .answer("RebootWithFlags", DENIED_BY_LOCK);
    assert!(matches!(logind.reboot().await, Err(RebootRefused::Failed(text)) if text.contains("our own")));
}

#[tokio::test]
async fn a_second_reboot_is_in_progress_and_other_answers_keep_loginds_words() {
    let (_bus, service, logind) = rig().await;
    service.answer(
        "RebootWithFlags",
        Answer::Error(
            "org.freedesktop.login1.OperationInProgress",
            "There's already a shutdown or sleep operation in progress",
        ),
    );
    assert_eq!(logind.reboot().await, Err(RebootRefused::InProgress));
    service.answer(
        "RebootWithFlags",
        Answer::Error("org.freedesktop.DBus.Error.NotSupported", "no"),
    );
    assert_eq!(logind.reboot().await, Err(RebootRefused::NotSupported));
    service.answer(
        "RebootWithFlags",
        Answer::Error("System.Error.EIO", "Input/output error"),
    );
    assert!(matches!(logind.reboot().await, Err(RebootRefused::Failed(text)) if text.contains("Input/output error")));
    service.answer(
        "Inhibit",
        Answer::Error(
            "org.freedesktop.login1.OperationInProgress",
            "The operation inhibition has been requested for is already running",
        ),
    );
    assert_eq!(
        logind.take_delay_lock("x").await.unwrap_err(),
        RebootRefused::InProgress
    );
    service.answer("Inhibit", IAR);
    assert!(matches!(
        logind.take_block_lock("x").await,
        Err(RebootRefused::NotPermitted(_))
    ));
}

#[tokio::test]
async fn a_reboot_without_an_answer_is_unknown_unless_logind_is_seen_going_down() {
    let (bus, service, _) = rig().await;
    let logind = Logind::new(&impatient(&bus).await).await.unwrap();
    service.answer("RebootWithFlags", Answer::Silence);
    assert!(matches!(soon(logind.reboot()).await, Err(RebootRefused::Unknown(error)) if error.cause == Cause::NoReply));
    service.answer("PreparingForShutdown", Answer::Truth(true));
    assert_eq!(soon(logind.reboot()).await, Err(RebootRefused::InProgress));
}

#[tokio::test]
async fn a_logind_that_dies_over_a_reboot_leaves_it_unknown() {
    let (_bus, service, logind) = rig().await;
    service.answer("RebootWithFlags", Answer::Vanish);
    assert!(matches!(soon(logind.reboot()).await, Err(RebootRefused::Unknown(_))));
}

#[tokio::test]
async fn a_host_without_logind_is_told_at_once() {
    let private = PrivateBus::start();
    let logind = Logind::new(&connect(&private).await).await.unwrap();
    let error = soon(logind.shutdown_blockers()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Absent(_)), "{error:?}");
    assert!(matches!(soon(logind.reboot()).await, Err(RebootRefused::Failed(_))));
}

#[tokio::test]
async fn a_lost_bus_is_noticed_and_a_new_connection_works() {
    let (private, _service, _) = rig().await;
    let bus = connect(&private).await;
    let logind = Logind::new(&bus).await.unwrap();
    drop(private);
    soon(bus.lost()).await;
    let error = soon(logind.preparing_for_shutdown()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Lost(_)), "{error:?}");

    let (_private, _service, logind) = rig().await;
    assert_eq!(logind.preparing_for_shutdown().await, Ok(false));
}

#[tokio::test]
async fn no_bus_at_all_is_an_error_that_names_dbus() {
    let error = Bus::at("unix:path=/nonexistent/bus", Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("dbus.service"), "{error}");
}

#[tokio::test]
async fn properties_are_read_anew_every_time() {
    let (_bus, service, logind) = rig().await;
    assert_eq!(logind.inhibit_delay_max().await, Ok(Duration::from_secs(5)));
    service
        .answer("InhibitDelayMaxUSec", Answer::Number(30_000_000))
        .answer("PreparingForShutdown", Answer::Truth(true));
    assert_eq!(logind.inhibit_delay_max().await, Ok(Duration::from_secs(30)));
    assert_eq!(logind.preparing_for_shutdown().await, Ok(true));
}

#[tokio::test]
async fn prepare_for_shutdown_arrives_both_ways_and_the_stream_ends_with_the_bus() {
    let (private, service, logind) = rig().await;
    let mut signals = logind.prepare_for_shutdown().await.unwrap();
    service.prepare_for_shutdown(true).await;
    assert_eq!(soon(signals.next()).await, Some(true));
    service.prepare_for_shutdown(false).await;
    assert_eq!(soon(signals.next()).await, Some(false));
    drop(private);
    assert_eq!(soon(signals.next()).await, None);
}
