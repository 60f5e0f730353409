//! What no gpsd should say: nothing of it is taken for a fix, and none of it keeps a fix from being heard.

use iotdm::host::gpsd::{Gpsd, Mode, Trouble};

use crate::scripted::{FIX, Scripted, VERSION};
use crate::{fix, options, trouble};

/// A client of a gpsd that says these bytes at each look.
async fn client_of(bytes: &'static [&'static [u8]]) -> (Scripted, Gpsd) {
    let server = Scripted::start(move |mut client| async move {
        client.say(&[VERSION]).await;
        while client.look().await {
            for part in bytes {
                client.send(part).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let client = Gpsd::start(options(&server.address));
    (server, client)
}

#[tokio::test]
async fn garbage_and_half_lines_are_skipped_and_the_fix_between_them_is_heard() {
    let (_server, mut client) = client_of(&[
        b"\x00\xff\xfe garbage\n",
        b"$GPGGA,120000.00,4806.0,N,01130.0,E,1,08,0.9,520.0,M,46.9,M,,*5A\r\n",
        b"{\"class\":\"TPV\",\"mode\":3,\"lat\":1.0,\"lon\":\r\n",
        b"[1,2,3]\n{}\nnull\n\r\n\"\n{\"class\":17}\n",
        b"{\"class\":\"SKY\",\"satellites\":[{\"PRN\":1,\"used\":true}]}\r\n",
        b"{\"class\":\"TPV\",\"device\":\"/dev/tty",
        b"ACM0\",\"mode\":3,\"lat\":48.1,\"lon\":11.5",
        b",\"altMSL\":520.0,\"eph\":17.1}",
        b"\r",
        b"\n",
    ])
    .await;
    let found = fix(&mut client, "the fix in three pieces", |_| true).await;
    assert_eq!((found.latitude, found.altitude, found.time), (48.1, Some(520.0), None));
}

#[tokio::test]
async fn a_line_of_ten_mebibytes_is_skipped_and_the_fix_behind_it_is_heard() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        let long = "x".repeat(10 * 1024 * 1024);
        while client.look().await {
            client
                .say(&[&format!("{{\"class\":\"TPV\",\"mode\":3,\"device\":\"{long}\"}}"), FIX])
                .await;
        }
    })
    .await;
    let mut client = Gpsd::start(options(&server.address));
    let found = fix(&mut client, "the fix behind the long line", |_| true).await;
    assert_eq!(found.latitude, 48.1);
    assert_eq!(server.connections(1).await.len(), 1, "the connection was kept");
}

#[tokio::test]
async fn one_that_never_stops_talking_is_cut_off() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        let much = [b'x'; 64 * 1024];
        while client.send(&much).await {}
    })
    .await;
    let mut client = Gpsd::start(options(&server.address));
    let told = trouble(&mut client, "that it talks too much", |_| true).await;
    assert!(told.to_string().contains("does not stop talking"), "{told}");
}

#[tokio::test]
async fn loc_01_numbers_that_are_none_are_absent_and_the_position_counts() {
    let (_server, mut client) = client_of(&[
        b"{\"class\":\"TPV\",\"mode\":3,\"lat\":48.1,\"lon\":11.5,\"altMSL\":nan,\"eph\":NaN,\"epx\":inf,\"epy\":1e999}\r\n",
    ])
    .await;
    let found = fix(&mut client, "the position", |_| true).await;
    assert_eq!((found.latitude, found.longitude), (48.1, 11.5));
    assert_eq!((found.altitude, found.accuracy), (None, None));
    assert_eq!(found.mode, Mode::ThreeD);
}

#[tokio::test]
async fn loc_01_a_latitude_of_91_or_none_at_all_is_no_fix() {
    for line in [
        &b"{\"class\":\"TPV\",\"mode\":3,\"lat\":91.0,\"lon\":11.5}\r\n"[..],
        b"{\"class\":\"TPV\",\"mode\":3,\"lat\":48.1,\"lon\":180.1}\r\n",
        b"{\"class\":\"TPV\",\"mode\":3,\"lat\":nan,\"lon\":11.5}\r\n",
        b"{\"class\":\"TPV\",\"mode\":2,\"lon\":11.5}\r\n",
        b"{\"class\":\"TPV\",\"mode\":3,\"lat\":\"48.1\",\"lon\":\"11.5\"}\r\n",
    ] {
        let (_server, mut client) = client_of(vec![line].leak()).await;
        let told = trouble(&mut client, "that the position is unusable", |_| true).await;
        assert_eq!(told, Trouble::Unusable, "{}", line.escape_ascii());
    }
}

#[tokio::test]
async fn loc_03_a_time_in_1970_or_a_lost_count_of_weeks_is_left_out() {
    for time in ["1970-01-01T00:00:00.000Z", "2007-04-09T12:00:00.000Z", "yesterday", ""] {
        let line = format!("{{\"class\":\"TPV\",\"mode\":3,\"time\":\"{time}\",\"lat\":48.1,\"lon\":11.5}}\r\n");
        let (_server, mut client) = client_of(vec![line.leak().as_bytes()].leak()).await;
        let found = fix(&mut client, "the position", |_| true).await;
        assert_eq!(found.time, None, "{time}");
    }
}

#[tokio::test]
async fn what_newer_versions_say_is_understood_and_the_rest_of_it_ignored() {
    let server = Scripted::start(|mut client| async move {
        client
            .say(&[r#"{"class":"VERSION","release":"9.0","rev":"9.0","proto_major":9,"proto_minor":0,"new":[{}]}"#])
            .await;
        client
            .at_each_look(&[
                r#"{"class":"NEWS","device":"/dev/ttyACM0"}"#,
                r#"{"class":"TPV","device":"/dev/ttyACM0","status":2,"mode":3,"time":"2026-11-23T12:00:00.000Z","leapseconds":18,"lat":48.1,"lon":11.5,"altHAE":566.9,"altMSL":520.0,"ecefx":4186000.1,"jam":3,"eph":2.5,"datum":"WGS84","new":{"a":[null]}}"#,
            ])
            .await;
    })
    .await;
    let mut client = Gpsd::start(options(&server.address));
    let found = fix(&mut client, "a fix", |_| true).await;
    assert_eq!((found.altitude, found.accuracy), (Some(520.0), Some(2.5)));
    assert_eq!(found.time, Some(1_795_435_200));
}

#[tokio::test]
async fn what_gpsd_refuses_is_told_in_its_words() {
    let server = Scripted::start(|mut client| async move {
        client.say(&[VERSION]).await;
        while client.asked().await.is_some() {
            client
                .say(&[r#"{"class":"ERROR","message":"Can't open /dev/ttyACM0\r\n"}"#])
                .await;
        }
    })
    .await;
    let mut client = Gpsd::start(options(&server.address));
    let told = trouble(&mut client, "the refusal", |_| true).await;
    assert_eq!(told.to_string(), "gpsd says: Can't open /dev/ttyACM0");
}
