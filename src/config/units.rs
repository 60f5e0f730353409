//! Durations, sizes, times of day, addresses and unit names as people write them. Pure; every error says what would be
//! right and quotes no secret.

use std::net::IpAddr;
use std::time::Duration;

use super::settings::{Proxy, Url, Window};

/// Reads `60s`, `30m`, `24h`, `7d` or `0`: one number, one unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const RIGHT: &str = "is no duration: write a number and one of the units s, m, h, d, such as \"60s\" or \"24h\"";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim_start() {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(format!("{text:?} {RIGHT}")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} {RIGHT}"))?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is too long"))
}

/// Writes a duration the way [`duration`] reads it.
pub(super) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (size, unit) in [(86_400, 'd'), (3_600, 'h'), (60, 'm')] {
        if seconds > 0 && seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

/// Reads `500KiB`, `64MiB` or `2GiB` as bytes: one number, one unit.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const RIGHT: &str = "is no size: write a number and one of the units KiB, MiB, GiB, such as \"64MiB\" or \"2GiB\"";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let bytes: u64 = match unit.trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("{text:?} {RIGHT}")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} {RIGHT}"))?;
    match number.checked_mul(bytes) {
        Some(0) => Err("must be at least 1KiB".to_owned()),
        Some(size) => Ok(size),
        None => Err(format!("{text:?} is too large")),
    }
}

/// Reads `02:00-04:00`: two times of day, from and to.
pub(super) fn window(text: &str) -> Result<Window, String> {
    const RIGHT: &str =
        "is no window: write two times of day from 00:00 to 23:59, such as \"02:00-04:00\" or \"23:30-01:00\"";
    let number = |digits: &str, below: u16| -> Option<u16> {
        let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|number| two && *number < below)
    };
    let minute = |time: &str| {
        let (hours, minutes) = time.trim().split_once(':')?;
        Some(number(hours, 24)? * 60 + number(minutes, 60)?)
    };
    let read = text
        .split_once('-')
        .and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    match read {
        None => Err(format!("{text:?} {RIGHT}")),
        Some((from, to)) if from == to => Err(format!("{text:?} is empty: it closes when it opens")),
        Some((from, to)) => Ok(Window { from, to }),
    }
}

/// Reads the name of a systemd unit with its suffix, as systemd.unit(5) has it. A template needs its instance.
pub(super) fn unit_name(text: &str) -> Result<String, String> {
    const SUFFIXES: &str = "service socket target mount timer path device swap automount slice scope";
    const RIGHT: &str = "is no unit: write its whole name, such as \"modbus.service\"";
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    let (name, suffix) = text.rsplit_once('.').unwrap_or_default();
    if name.ends_with('@') {
        return Err(format!("{text:?} is a template: name one of its instances"));
    }
    let known = SUFFIXES.split(' ').any(|known| known == suffix);
    match known && !name.is_empty() && !name.starts_with('@') && text.len() <= 255 && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} {RIGHT}")),
    }
}

/// Reads one of syslog(3)'s priorities by the name that journalctl(1) uses; 0 is the worst.
pub(super) fn priority(text: &str) -> Result<u8, String> {
    const NAMES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let named = (0..).zip(NAMES).find(|(_, name)| *name == text);
    named
        .map(|(priority, _)| priority)
        .ok_or_else(|| format!("must be one of {}", NAMES.map(|name| format!("{name:?}")).join(", ")))
}

/// Reads a MESSAGE_ID: 32 hexadecimal digits, perhaps with the dashes of a UUID. Lower case, without dashes.
pub(super) fn message_id(text: &str) -> Result<String, String> {
    let digits = text.replace('-', "").to_ascii_lowercase();
    match digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => Ok(digits),
        false => Err(format!(
            "{text:?} is no MESSAGE_ID: write its 32 hexadecimal digits, as journalctl -o verbose shows them"
        )),
    }
}

/// Reads a regular expression, 500 bytes at most, that does not match everything.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    match regex_lite::Regex::new(text) {
        _ if text.len() > 500 => Err("is longer than 500 bytes".to_owned()),
        Ok(pattern) if pattern.is_match("") => Err(format!("{text:?} matches the empty text, and so everything")),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{text:?} is no regular expression: {error}")),
    }
}

/// Reads the name or address of a host, without a port. Lower case, IPv6 without brackets, as they are compared.
pub(super) fn host(text: &str) -> Result<String, String> {
    const RIGHT: &str =
        "write the host alone, such as \"updates.example.com\" or \"192.0.2.7\": no https://, no port, no *";
    let host = match text.parse::<IpAddr>() {
        Ok(_) => text.to_owned(),
        Err(_) => match host_and_port(text, "") {
            Ok((host, None)) => host,
            _ => return Err(RIGHT.to_owned()),
        },
    };
    Ok(match host.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    })
}

/// Reads `mqtts://host[:port]` or `mqtt://host[:port]`. Ports unless given: 8883 and 1883.
pub(super) fn url(text: &str) -> Result<Url, String> {
    const RIGHT: &str = "write mqtts://HOST:PORT (TLS) or mqtt://HOST:PORT (in the clear)";
    let (tls, rest) = match text.split_once("://") {
        Some(("mqtts", rest)) => (true, rest),
        Some(("mqtt", rest)) => (false, rest),
        Some(("ws" | "wss", _)) => return Err(format!("WebSockets are not supported: {RIGHT}")),
        Some(("tcp" | "ssl" | "tls" | "http" | "https", _)) | None => return Err(RIGHT.to_owned()),
        Some(_) => return Err(format!("unknown scheme: {RIGHT}")),
    };
    let (host, port) = host_and_port(rest, "username and token_file")?;
    Ok(Url {
        tls,
        host,
        port: port.unwrap_or(if tls { 8883 } else { 1883 }),
    })
}

/// Reads `http://host:port`.
pub(super) fn proxy(text: &str) -> Result<Proxy, String> {
    const RIGHT: &str = "write http://HOST:PORT; the proxy must allow CONNECT to the port";
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(RIGHT.to_owned());
    };
    match host_and_port(rest, "a proxy that asks for no login")? {
        (host, Some(port)) => Ok(Proxy { host, port }),
        (_, None) => Err(format!("the port is missing: {RIGHT}")),
    }
}

/// Reads `HOST:PORT`, IPv6 in brackets.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    if text.ends_with('/') {
        return Err("nothing may follow the port".to_owned());
    }
    match host_and_port(text, "")? {
        (_, Some(_)) => Ok(text.to_owned()),
        (_, None) => Err("the port is missing: write HOST:PORT".to_owned()),
    }
}

fn host_and_port(text: &str, login_goes_to: &str) -> Result<(String, Option<u16>), String> {
    if text.contains('@') {
        return Err(format!("a login does not belong here: use {login_goes_to}"));
    }
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?', '#']) {
        return Err("nothing may follow the port".to_owned());
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("[{host}] is no IPv6 address"))?;
            (host, rest)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || host.len() > 253 || !host.chars().all(legal) {
                return Err("the host name is missing or holds characters that no host name has".to_owned());
            }
            (host, port)
        }
    };
    let port = match port {
        "" => None,
        port => match port.strip_prefix(':').and_then(|digits| digits.parse::<u16>().ok()) {
            Some(port) if port > 0 => Some(port),
            _ => return Err("after the host comes a colon and a port from 1 to 65535; IPv6 in [brackets]".to_owned()),
        },
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_duration_is_one_number_and_one_unit() {
        for (text, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("60s", 60),
            ("30m", 1800),
            ("24h", 86_400),
            ("7d", 604_800),
            ("5 m", 300),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "60",
            "s",
            "-1s",
            "1.5h",
            "1h30m",
            "60 sec",
            "24H",
            "١s",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_read() {
        for text in ["0s", "59s", "90s", "30m", "24h", "25h", "7d"] {
            assert_eq!(duration(&show(duration(text).unwrap())), duration(text));
        }
    }

    #[test]
    fn con_02_any_host_and_any_port_can_be_named() {
        for (text, tls, host, port) in [
            (
                "mqtts://acme.messaging.iot.example.com:443",
                true,
                "acme.messaging.iot.example.com",
                443,
            ),
            ("mqtts://broker", true, "broker", 8883),
            ("mqtt://broker/", false, "broker", 1883),
            ("mqtt://127.0.0.1:28830", false, "127.0.0.1", 28830),
            ("mqtts://[2001:db8::1]:443", true, "2001:db8::1", 443),
            ("mqtts://[::1]", true, "::1", 8883),
        ] {
            assert_eq!(
                url(text),
                Ok(Url {
                    tls,
                    host: host.to_owned(),
                    port
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for text in [
            "",
            "broker",
            "broker:1883",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://broker:",
            "mqtt://broker:0",
            "mqtt://broker:65536",
            "mqtt://broker:1883/topic",
            "mqtt://broker?x",
            "https://broker",
            "wss://broker",
            "mqtts://2001:db8::1",
            "mqtts://[nope]:1",
            "mqtt://bro ker",
            "MQTT://broker",
            "mqtts://[::1]x",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
        for text in [
            "proxy:3128",
            "http://proxy",
            "https://proxy:3128",
            "http://:3128",
            "socks5://proxy:1",
        ] {
            assert!(proxy(text).is_err(), "{text}");
        }
        assert_eq!(
            proxy("http://proxy.example.com:3128"),
            Ok(Proxy {
                host: "proxy.example.com".to_owned(),
                port: 3128
            })
        );
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for told in [
            url("mqtts://me:s3cret@broker:8883").unwrap_err(),
            proxy("http://me:s3cret@proxy:3128").unwrap_err(),
        ] {
            assert!(told.contains("login") && !told.contains("s3cret"), "{told}");
        }
    }
}
