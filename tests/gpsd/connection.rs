//! The connection: what is asked, how often, and what becomes of one that is no use.

use std::time::{Duration, Instant};

use iotdm::host::gpsd::{Backoff, Gpsd, Options, Report, Trouble};
use tokio::sync::mpsc;

use crate::scripted::{FIX, OFF, ON, Scripted, VERSION};
use crate::support::{free_port, within};
use crate::{fix, options, trouble};

#[tokio::test]
async fn a_look_is_one_request_for_reports_and_one_for_silence_and_none_comes_before_its_time() {
    let (asked, mut requests) = mpsc::unbounded_channel();
    let server = Scripted::start(move |mut client| {
        let asked = asked.clone();
        async move {
            client.say(&[VERSION]).await;
            while let Some(request) = client.asked().await {
                let reports = request == ON;
                asked.send((request, Instant::now())).unwrap();
                // more than it is asked for, as a receiver does
                let _ = !reports || client.say(&[crate::scripted::DEVICES, FIX, FIX, FIX]).await;
            }
        }
    })
    .await;
    let interval = Duration::from_millis(100);
    let _client = Gpsd::start(Options {
        interval,
        settle: Duration::from_secs(10),
        patience: Duration::from_secs(10),
        ..options(&server.address)
    });
    let mut looks = Vec::new();
    while looks.len() < 4 {
        let (on, at) = within("a look", requests.recv()).await.unwrap();
        let (off, end) = within("its end", requests.recv()).await.unwrap();
        assert_eq!((on.as_str(), off.as_str()), (ON, OFF));
        assert!(end - at < Duration::from_secs(5), "a complete fix ends it");
        looks.push(at);
    }
    // Each arrives a little later than it was sent, but over all of them that evens out.
    assert!(
        looks[3] - looks[0] >= 3 * interval - Duration::from_millis(20),
        "{looks:?}"
    );
    assert_eq!(server.connections(1).await.len(), 1);
}

#[tokio::test]
async fn while_there_is_no_fix_it_is_looked_more_often_than_in_a_long_interval() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        for _ in 0..3 {
            client.look().await;
            client.say(&[r#"{"class":"TPV","mode":1}"#]).await;
        }
        client.at_each_look(&[FIX]).await;
    })
    .await;
    let mut client = Gpsd::start(Options {
        interval: Duration::from_secs(3600),
        ..options(&server.address)
    });
    trouble(&mut client, "no fix", |trouble| *trouble == Trouble::NoFix).await;
    fix(&mut client, "a fix within the hour", |_| true).await;
}

#[tokio::test]
async fn silence_is_told_once_and_its_end_is_noticed() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        for _ in 0..5 {
            client.look().await;
        }
        client.at_each_look(&[FIX]).await;
    })
    .await;
    let mut client = Gpsd::start(Options {
        patience: Duration::from_millis(300),
        ..options(&server.address)
    });
    let first = within("silence", client.next()).await;
    assert!(matches!(first, Report::Trouble(Trouble::Silent { .. })), "{first:?}");
    let second = within("a fix", client.next()).await;
    assert!(matches!(second, Report::Fix(_)), "told again: {second:?}");
    assert_eq!(server.connections(1).await.len(), 1);
}

#[tokio::test]
async fn a_gpsd_that_does_not_answer_any_more_is_connected_anew() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        if client.number > 0 {
            client.at_each_look(&[FIX]).await;
        }
        client.hang().await;
    })
    .await;
    let mut client = Gpsd::start(Options {
        patience: Duration::from_millis(300),
        ..options(&server.address)
    });
    let told = trouble(&mut client, "no answer", |_| true).await;
    assert!(
        matches!(&told, Trouble::Lost { reason, .. } if reason.contains("no answer")),
        "{told}"
    );
    fix(&mut client, "a fix", |_| true).await;
}

#[tokio::test]
async fn what_does_not_greet_like_gpsd_is_not_asked_anything() {
    let (asked, mut requests) = mpsc::unbounded_channel();
    let server = Scripted::start(move |mut client| {
        let asked = asked.clone();
        async move {
            client.say(&["SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"]).await;
            asked.send(client.asked().await).unwrap();
        }
    })
    .await;
    let mut client = Gpsd::start(Options {
        patience: Duration::from_millis(300),
        ..options(&server.address)
    });
    let told = trouble(&mut client, "that it is no gpsd", |_| true).await;
    assert_eq!(
        told.to_string(),
        format!(
            "what listens at {} is no gpsd: it does not greet with its version",
            server.address
        )
    );
    assert_eq!(
        within("the end of the connection", requests.recv()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_connection_that_dies_in_the_middle_of_a_line_leaves_nothing_for_the_next() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        client.look().await;
        match client.number {
            0 => {
                client.send(br#"{"class":"TPV","mode":3,"lat":1.0,"lon":1.0,"#).await;
            }
            _ => {
                client.send(b"\"altMSL\":1.0,\"eph\":1.0}\r\n").await;
                client.say(&[FIX]).await;
                client.hang().await;
            }
        }
    })
    .await;
    let mut client = Gpsd::start(options(&server.address));
    let told = trouble(&mut client, "the broken connection", |_| true).await;
    assert!(matches!(told, Trouble::Lost { .. }), "{told}");
    let found = fix(&mut client, "a fix", |_| true).await;
    assert_eq!(found.latitude, 48.1);
}

#[tokio::test]
async fn one_that_hangs_up_at_once_is_asked_less_and_less_often_and_told_once() {
    let server = Scripted::start(|_| async {}).await;
    let backoff = Backoff {
        first: Duration::from_millis(16),
        longest: Duration::from_millis(128),
    };
    let mut client = Gpsd::start(Options {
        backoff,
        ..options(&server.address)
    });
    let first = within("the end", client.next()).await;
    assert!(matches!(first, Report::Trouble(Trouble::Lost { .. })), "{first:?}");
    let times = server.connections(7).await;
    // at least half of 16, 32, 64, 128, 128, 128
    let least = Duration::from_millis(8 + 16 + 32 + 64 + 64 + 64);
    assert!(times[6] - times[0] >= least, "{times:?}");
    let more = tokio::time::timeout(Duration::ZERO, client.next()).await;
    assert!(more.is_err(), "told again: {more:?}");
}

#[tokio::test]
async fn one_that_dies_after_each_first_look_is_asked_less_and_less_often_too() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        client.look().await;
        client.say(&[FIX]).await;
        client.asked().await;
    })
    .await;
    let backoff = Backoff {
        first: Duration::from_millis(40),
        longest: Duration::from_secs(10),
    };
    let _client = Gpsd::start(Options {
        backoff,
        interval: Duration::from_secs(60),
        ..options(&server.address)
    });
    let times = server.connections(7).await;
    // at least half of 40, 80, 160, ...
    let least = Duration::from_millis(20 + 40 + 80 + 160 + 320 + 640);
    assert!(times[6] - times[0] >= least, "{times:?}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_what_to_look_at() {
    let address = format!("127.0.0.1:{}", free_port());
    let mut client = Gpsd::start(options(&address));
    let told = trouble(&mut client, "that nobody is there", |_| true).await.to_string();
    assert!(
        told.contains(&address) && told.contains("refused") && told.contains("gpsd.socket"),
        "{told}"
    );
    let mut nowhere = Gpsd::start(options("nowhere.invalid:2947"));
    let told = trouble(&mut nowhere, "that there is no such host", |_| true).await;
    assert!(matches!(told, Trouble::Unreachable { .. }), "{told}");
    let mut nonsense = Gpsd::start(options("no address"));
    let told = trouble(&mut nonsense, "that it is no address", |_| true).await;
    assert!(matches!(told, Trouble::Unreachable { .. }), "{told}");
}

#[tokio::test]
async fn the_connection_ends_with_its_owner() {
    let (gone, mut ends) = mpsc::unbounded_channel();
    let server = Scripted::start(move |mut client| {
        let gone = gone.clone();
        async move {
            client.say(&[VERSION]).await;
            client.at_each_look(&[FIX]).await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let mut client = Gpsd::start(options(&server.address));
    fix(&mut client, "a fix", |_| true).await;
    drop(client);
    within("the end of the connection", ends.recv()).await.unwrap();
}
