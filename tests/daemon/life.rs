//! What systemd sees: ready, status, watchdog, reload, stop, exit codes; and the state folder.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::agent::{Host, TOKEN, failure};
use crate::bus::PrivateBus;
use crate::scene::{RESET, Scene, managed, next_publish, with_fake_broker};
use crate::support::{free_port, within};

/// What systemd gives the agent for its end: `TimeoutStopSec=` of the unit. The agent's own limit is 5 s.
const STOP: Duration = Duration::from_secs(10);

#[tokio::test]
async fn ready_and_answering_before_the_broker_or_the_bus_is_there() {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    let port = free_port();
    host.configure_for(&format!("mqtt://127.0.0.1:{port}"), "");
    let mut agent = host.start();
    agent.notes.line("READY=1").await;
    let status = agent.notes.line("STATUS=not connected: ").await;
    assert!(
        status.contains(&format!("127.0.0.1:{port} refuses connections")),
        "{status}"
    );
    let status = host.status().await;
    assert_eq!(status["connection"]["state"], "disconnected");
    assert!(agent.runs());
}

#[tokio::test]
async fn the_status_line_says_what_is_going_on_from_start_to_stop() {
    let scene = Scene::new().await;
    scene.service.answer_with(None);
    let agent = scene.host.start();
    agent
        .notes
        .line("STATUS=connected, waiting for the service to answer manage")
        .await;
    scene.service.answer_with(Some(403));
    assert_eq!(failure(&scene.host.run(&["manage"]).await).0, 1);
    agent
        .notes
        .line("STATUS=connected, and manage was refused: rc 403")
        .await;
    scene.service.answer_with(Some(200));
    scene.host.told(&["manage"]).await;
    agent.managed().await;
    let notes = agent.notes.clone();
    assert_eq!(agent.stop().await, 0);
    notes.line("STOPPING=1").await;
}

#[tokio::test]
async fn the_watchdog_is_fed_and_not_when_nobody_asks_for_it() {
    let mut scene = Scene::new().await;
    let agent = scene.agent().await;
    assert_eq!(agent.stop().await, 0);
    scene.host.environment.push(("WATCHDOG_USEC", "300000".to_owned()));
    let agent = scene.agent().await;
    agent.notes.times("WATCHDOG=1", 4).await;
}

#[tokio::test]
async fn sigterm_ends_it_with_0_before_systemd_would_while_the_broker_hangs() {
    let (broker, host) = with_fake_broker().await;
    let agent = host.start();
    let mut peer = managed(&broker).await;
    agent.managed().await;
    let manage = host.start_command(&["manage"]);
    let (topic, ..) = next_publish(&mut peer).await;
    assert!(topic.ends_with("mgmt/manage"));
    // From here on the broker says nothing more.
    let began = Instant::now();
    assert_eq!(agent.stop().await, 0);
    assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
    let (code, text) = failure(&within("the command", manage).await.unwrap());
    assert_eq!(code, 1);
    assert!(text.contains("the agent is stopping"), "{text}");
}

#[tokio::test]
async fn what_the_broker_acknowledges_while_the_agent_stops_is_not_sent_again() {
    let (broker, host) = with_fake_broker().await;
    let agent = host.start();
    let mut peer = managed(&broker).await;
    peer.publish(RESET, br#"{"reqId": "one"}"#, 2).await;
    let (_, response, id) = next_publish(&mut peer).await;
    assert_eq!(response["reqId"], "one");
    let notes = agent.notes.clone();
    let stopping = tokio::spawn(agent.stop());
    notes.line("STOPPING=1").await;
    peer.puback(id).await;
    assert_eq!(within("the end", stopping).await.unwrap(), 0);
    let agent = host.start();
    let mut peer = broker.subscribed(true).await;
    let (topic, ..) = next_publish(&mut peer).await;
    assert!(topic.ends_with("mgmt/manage"), "{topic}");
    agent.log.line("connected to the service").await;
    assert_eq!(host.status().await["agent"]["owed"], 0);
}

#[tokio::test]
async fn without_a_folder_for_the_socket_the_agent_does_its_work_and_says_what_is_missing() {
    let scene = Scene::new().await;
    std::fs::remove_dir(scene.host.path("run")).unwrap();
    let agent = scene.agent().await;
    let line = agent.log.line("local commands cannot be served").await;
    assert!(line.contains(scene.host.socket().to_str().unwrap()), "{line}");
    scene.still_answers("one").await;
}

#[tokio::test]
async fn sigterm_ends_it_with_0_before_systemd_would_while_the_bus_hangs() {
    let bus = PrivateBus::start();
    bus.freeze();
    let host = Host::new("gw-1", bus.address());
    host.configure_for(&format!("mqtt://127.0.0.1:{}", free_port()), "");
    let agent = host.start();
    agent.notes.line("READY=1").await;
    let began = Instant::now();
    assert_eq!(agent.stop().await, 0);
    assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_bus_that_hangs_does_not_keep_the_device_from_being_managed() {
    let scene = Scene::new().await;
    scene.bus.freeze();
    let began = Instant::now();
    let agent = scene.host.start();
    scene.service.managed("gw-1", 1).await;
    // the agent waits 2 s for the bus; without that it would wait for ever
    assert!(began.elapsed().as_secs_f32() < 15.0, "{:?}", began.elapsed());
    agent.managed().await;
}

#[tokio::test]
async fn reloading_a_wrong_configuration_keeps_the_old_one_and_says_so() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    let good = scene.host.configuration(&scene.url(), "", "");
    scene.host.configure(&good.replace("username", "usrename"));
    agent.reload().await;
    let line = agent
        .log
        .line("the new configuration is refused, the old one stays in force")
        .await;
    assert!(line.contains("ERROR"), "{line}");
    agent.log.line("usrename").await;
    let status = scene.host.status().await;
    let trouble = status["configuration_trouble"].as_str().unwrap();
    for word in ["config.toml", "usrename", "username"] {
        assert!(trouble.contains(word), "{trouble}");
    }
    assert!(scene.host.told(&["status"]).await.contains("usrename"));
    scene.still_answers("old").await;
    assert_eq!(
        scene.broker.log_count("New client connected"),
        2,
        "the connection was left alone"
    );

    scene
        .host
        .configure(&format!("{good}\n[manage]\nmetadata = {{ site = \"north\" }}\n"));
    agent.reload().await;
    scene.service.managed("gw-1", 2).await;
    assert_eq!(
        scene.service.said_by("gw-1").last().unwrap().json["d"]["metadata"]["site"],
        "north"
    );
    assert_eq!(
        scene.host.status().await["configuration_trouble"],
        serde_json::Value::Null
    );
}

#[tokio::test]
async fn a_wrong_configuration_at_the_start_ends_it_with_78_and_file_line_and_key() {
    let host = Host::new("gw-1", "unix:path=/nonexistent/bus");
    host.configure("[device]\norg = \"acme\"\ntyp = \"edge\"\n");
    let mut agent = host.start();
    assert_eq!(agent.end().await, 78);
    agent.log.line("the configuration is refused").await;
    agent.log.line("config.toml:3:1").await;
    agent.notes.line("STATUS=the configuration is refused").await;
    assert_eq!(agent.notes.count("READY=1"), 0);
}

#[tokio::test]
async fn without_an_identity_it_stays_up_says_what_to_set_and_takes_it_on_reload() {
    let scene = Scene::new().await;
    scene.host.configure("[device]\norg = \"acme\"\n");
    let mut agent = scene.host.start();
    agent.notes.line("READY=1").await;
    let line = agent.notes.line("STATUS=not configured").await;
    for key in ["device.type", "device.id", "service.url"] {
        assert!(line.contains(key), "{line}");
    }
    let status = scene.host.status().await;
    assert_eq!(
        (&status["configured"], status["missing"].as_array().unwrap().len()),
        (&false.into(), 3)
    );
    let (code, text) = failure(&scene.host.run(&["manage"]).await);
    assert!(code == 1 && text.contains("not configured: set device.type"), "{text}");

    scene.host.configure_for(&scene.url(), "");
    agent.reload().await;
    agent.managed().await;
    scene.still_answers("one").await;

    // And back: the device is not to be reached any more.
    scene.host.configure("[device]\norg = \"acme\"\n");
    agent.reload().await;
    within("its leave", scene.broker.log_line("g:acme:edge:gw-1 disconnected")).await;
    assert!(agent.runs());
    scene.host.configure_for(&scene.url(), "");
    agent.reload().await;
    scene.still_answers("two").await;
}

#[tokio::test]
async fn con_10_an_answer_in_flight_when_the_identity_is_taken_away_is_sent_when_it_comes_back() {
    let (broker, host) = with_fake_broker().await;
    let agent = host.start();
    let mut peer = managed(&broker).await;
    peer.publish(RESET, br#"{"reqId": "one"}"#, 2).await;
    let (_, response, _) = next_publish(&mut peer).await;
    assert_eq!(response["reqId"], "one");
    // No PUBACK.
    host.configure("");
    agent.reload().await;
    host.configure_for(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    agent.reload().await;
    let mut peer = broker.subscribed(false).await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (topic, _, id) = next_publish(&mut peer).await;
        peer.puback(id).await;
        kinds.push(topic.rsplit('/').next().unwrap().to_owned());
    }
    assert_eq!(kinds, ["response", "manage"]);
    let status = host
        .status_with("nothing owed", |status| status["agent"]["owed"] == 0)
        .await;
    assert_eq!(status["agent"]["answers_owed"], 0);
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_folder_refuses_and_names_the_first() {
    let scene = Scene::new().await;
    let mut first = scene.agent().await;
    let mut second = scene.host.start();
    assert_eq!(second.end().await, 1);
    let line = second.log.line("is in use by").await;
    assert!(line.contains(&format!("process {}", first.pid())), "{line}");
    assert!(line.contains("stop that one first"), "{line}");
    assert!(first.runs());
    scene.host.told(&["status"]).await;
    assert_eq!(scene.broker.log_count("already connected"), 0);
}

#[tokio::test]
async fn a_damaged_copy_of_the_state_is_told_and_the_older_one_used() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    // Written twice: what the older copy knows is enough.
    scene.host.told(&["unmanage"]).await;
    assert_eq!(agent.stop().await, 0);
    let newest = ["state.a", "state.b"]
        .map(|name| scene.host.state().join(name))
        .into_iter()
        .filter(|path| path.exists())
        .max_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap())
        .unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let agent = scene.host.start();
    let line = agent.log.line("damaged").await;
    assert!(line.contains(newest.to_str().unwrap()), "{line}");
    agent.log.line("used instead").await;
    agent.notes.line("READY=1").await;
    // The older copy knows that the device is to leave, and so it says it again.
    let leaving = |status: &serde_json::Value| status["agent"]["wish"] == "unmanaged";
    scene.host.status_with("unmanaged again", leaving).await;
}

#[tokio::test]
async fn nothing_that_is_kept_or_shown_holds_the_token_and_others_cannot_read_it() {
    let scene = Scene::new().await;
    let agent = scene.agent().await;
    scene.reboot("one").await;
    scene.service.answer("one", 1).await;
    // Commands and log lines are looked through wherever a test uses them.
    for arguments in [["status", "--json"], ["check", "--json"]] {
        scene.host.run(&arguments).await;
    }
    assert_eq!(agent.stop().await, 0);
    let mut folders = vec![scene.host.state()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
            let content = std::fs::read(&path).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains(TOKEN), "{}", path.display());
        }
    }
    assert!(files >= 2, "nothing was looked at");
}

#[tokio::test]
async fn a_signal_right_at_the_start_is_not_lost() {
    let scene = Scene::new().await;
    let agent = scene.host.start();
    agent.notes.line("READY=1").await;
    agent.signal(Signal::SIGHUP);
    agent.signal(Signal::SIGTERM);
    let mut agent = agent;
    assert_eq!(agent.end().await, 0);
}
